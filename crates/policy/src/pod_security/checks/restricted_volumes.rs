//! Restricted since v1.0: volumes are of the kinds that reach nothing but the cluster's own storage and objects.

use std::collections::BTreeSet;

use nullius_model::FieldPath;

use super::{Forbidden, Pod, Spot, host_path_volumes};
use crate::pod_security::{
    go_text::{plural, quoted_list},
    level::Level,
    pod::Volume,
    registry::{Check, CheckId, Revision},
};

pub(in crate::pod_security) static CHECK: Check = Check {
    id: CheckId("restrictedVolumes"),
    level: Level::Restricted,
    about: "volumes are of a kind that reaches neither the node nor storage past the cluster's control",
    revisions: &[Revision { since: 0, judge: v1_0, replaces: Some(host_path_volumes::CHECK.id) }],
};

const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The other kinds, in the order in which Kubernetes looks for them.
const KNOWN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn v1_0(pod: &Pod<'_>) -> Option<Forbidden> {
    let mut names = Vec::new();
    let mut kinds = BTreeSet::new();
    let mut spots = Vec::new();
    for (index, volume) in pod.volumes.iter().enumerate() {
        let Some(bad) = forbidden(volume) else { continue };
        names.push(volume.name);
        kinds.insert(bad.unwrap_or("unknown"));
        let at = FieldPath::of(&["spec", "volumes"]).index(index);
        let at = bad.map_or(at.clone(), |kind| at.field(kind));
        spots.push(Spot::new(at, format!("use one of `{}`", ALLOWED.join("`, `"))));
    }
    (!names.is_empty()).then(|| Forbidden {
        reason: "restricted volume types",
        detail: format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted_list(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted_list(&kinds)
        ),
        spots,
    })
}

/// The kind that is forbidden, if it has a name; a volume without any source becomes an emptyDir.
fn forbidden(volume: &Volume<'_>) -> Option<Option<&'static str>> {
    let has = |kind: &&str| volume.sources.contains(kind);
    if volume.sources.is_empty() || ALLOWED.iter().any(has) {
        return None;
    }
    Some(KNOWN.into_iter().find(has))
}
