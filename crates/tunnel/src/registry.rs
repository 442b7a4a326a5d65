//! Which connections lead to which cluster: the owner table `(cluster, instance) → epoch` of one hub replica.
//!
//! Look-ups read a snapshot without a lock; changes replace it. The highest epoch of an instance wins: its older
//! connections finish what runs and get nothing new, and one that comes later with an older epoch is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use nullius_model::{ClusterName, InstanceId};
use tokio::time::Instant;

use crate::{
    link::{AttachError, Link},
    wire::Class,
};

/// How long the epoch of an instance without connections is remembered: as long as its certificate can live.
const EPOCH_MEMORY: Duration = Duration::from_secs(2 * 3_600);

type Snapshot = HashMap<ClusterName, Arc<[Arc<Link>]>>;

#[derive(Default)]
pub(crate) struct Registry {
    snapshot: ArcSwap<Snapshot>,
    epochs: Mutex<HashMap<(ClusterName, InstanceId), Epoch>>,
}

struct Epoch {
    newest: u64,
    connections: usize,
    last_seen: Instant,
}

/// Which way a request can go.
pub(crate) enum Way {
    /// There.
    Link(Arc<Link>),
    /// The cluster has no agent here.
    NoAgent,
    /// It has agents, and all of them are busy or go away.
    Busy,
}

impl Registry {
    /// Takes a connection in, if its epoch is not older than what its instance came with before.
    pub(crate) fn add(&self, link: &Arc<Link>) -> Result<(), AttachError> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        epochs.retain(|_, epoch| epoch.connections > 0 || now - epoch.last_seen < EPOCH_MEMORY);
        let key = (link.cluster.clone(), link.instance.clone());
        let epoch = epochs.entry(key).or_insert(Epoch {
            newest: link.epoch,
            connections: 0,
            last_seen: now,
        });
        if link.epoch < epoch.newest {
            return Err(AttachError::StaleEpoch {
                instance: link.instance.clone(),
                epoch: link.epoch,
                newest: epoch.newest,
            });
        }
        epoch.newest = link.epoch;
        epoch.connections += 1;
        for older in self.links(&link.cluster).iter() {
            if older.instance == link.instance && older.epoch < link.epoch {
                older.retire();
            }
        }
        self.change(&link.cluster, |links| links.push(Arc::clone(link)));
        Ok(())
    }

    /// Takes a connection out that has ended.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoch) = epochs.get_mut(&(link.cluster.clone(), link.instance.clone())) {
            epoch.connections = epoch.connections.saturating_sub(1);
            epoch.last_seen = Instant::now();
        }
        self.change(&link.cluster, |links| links.retain(|other| !Arc::ptr_eq(other, link)));
    }

    /// The connections of a cluster.
    pub(crate) fn links(&self, cluster: &ClusterName) -> Arc<[Arc<Link>]> {
        self.snapshot.load().get(cluster).map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// All connections.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.snapshot.load().values().flat_map(|links| links.iter().cloned()).collect()
    }

    /// The least loaded connection of a class; of the other class where there is none.
    pub(crate) fn choose(&self, cluster: &ClusterName, class: Class) -> Way {
        let snapshot = self.snapshot.load();
        let Some(links) = snapshot.get(cluster) else { return Way::NoAgent };
        let ready = || links.iter().filter(|link| link.takes_requests());
        let least = ready()
            .filter(|link| link.class == class)
            .min_by_key(|link| link.active())
            .or_else(|| ready().min_by_key(|link| link.active()));
        match least {
            Some(link) => Way::Link(Arc::clone(link)),
            None => Way::Busy,
        }
    }

    /// Under the lock of the epochs, so that no change is lost.
    fn change(&self, cluster: &ClusterName, edit: impl FnOnce(&mut Vec<Arc<Link>>)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let mut links = snapshot.get(cluster).map_or_else(Vec::new, |links| links.to_vec());
        edit(&mut links);
        if links.is_empty() {
            snapshot.remove(cluster);
        } else {
            snapshot.insert(cluster.clone(), Arc::from(links));
        }
        self.snapshot.store(Arc::new(snapshot));
    }
}
