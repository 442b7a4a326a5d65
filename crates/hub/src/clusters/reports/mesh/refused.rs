//! Which refusals destinations have told of: who was refused tells of the same, and it stands in the audit once. Where the destination's word is
//! not there, that of the source is: no flood at a destination hides who else was refused there.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use nullius_model::{ClusterName, MeshSide};
use tokio::time::Instant;

use super::party::Ends;
use crate::lock::lock;

/// How long a destination's word stands for those of sources.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many are remembered; beyond that both words stand in the audit.
const MOST: usize = 20_000;

/// Those of the last minutes, of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<HashMap<(ClusterName, Refusal), Instant>>);

/// Who was refused where: the ID of who called, who was called, and the port.
type Refusal = (String, String, u16);

impl Refused {
    /// A destination's denial stands in the audit.
    pub(super) fn remember(&self, cluster: &ClusterName, ends: &Ends, port: u16) {
        let Some(refusal) = refusal(ends, port).filter(|_| ends.side == MeshSide::Destination)
        else {
            return;
        };
        let now = Instant::now();
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            all.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        }
        if all.len() < MOST {
            all.insert((cluster.clone(), refusal), now);
        }
    }

    /// Whether it does.
    pub(super) fn knows(&self, cluster: &ClusterName, ends: &Ends, port: u16) -> bool {
        let Some(refusal) = refusal(ends, port) else { return false };
        let told = lock(&self.0).get(&(cluster.clone(), refusal)).copied();
        told.is_some_and(|at| at.elapsed() < REMEMBERED)
    }
}

fn refusal(ends: &Ends, port: u16) -> Option<Refusal> {
    let id = &ends.source.spiffe_id;
    (!id.is_empty()).then(|| (id.clone(), ends.destination.label(), port))
}
