//! Baseline since v1.0: no volume is a folder of the node.

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Spot};
use crate::pod_security::{
    go_text::{plural, quoted_list},
    level::Level,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("hostPathVolumes"),
    level: Level::Baseline,
    about: "no volume is a folder of the node",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: None }],
};

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let all = pod.volumes.iter().enumerate();
    let bad: Vec<_> = all.filter(|(_, volume)| volume.sources.contains(&"hostPath")).collect();
    let names: Vec<_> = bad.iter().map(|(_, volume)| volume.name).collect();
    (!bad.is_empty()).then(|| Forbidden {
        reason: "hostPath volumes",
        detail: format!(
            "{} {}",
            plural("volume", "volumes", names.len()),
            quoted_list(&names)
        ),
        spots: bad
            .iter()
            .map(|(index, _)| {
                let path = FieldPath::of(&["spec", "volumes"]).index(*index).field("hostPath");
                Spot::new(path, "use a volume that is not of the node, such as `emptyDir` or `persistentVolumeClaim`")
            })
            .collect(),
    })
}
