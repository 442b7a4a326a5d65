//! Calls of this workload that live: judged again where somebody else is there, or who is there is proven no more, and not for what
//! changes of others.

use std::{sync::Arc, time::Instant};

use nullius_model::Timestamp;
use nullius_tls::WorkloadPeer;

use crate::{
    World,
    access_log::Why,
    live::Judge,
    route::{Hop, Over},
};

/// A call that lives, and by what it was judged last.
pub(super) struct Living<'c> {
    hop: &'c Hop,
    /// Who has proven to be there, and the generation of bundles by which that was; none where nobody had to.
    peer: Option<(&'c WorkloadPeer, u64)>,
    /// None before the first look, which judges.
    by: Option<Arc<World>>,
}

impl<'c> Living<'c> {
    /// To somebody of the mesh.
    pub(super) fn proven(hop: &'c Hop, peer: &'c WorkloadPeer, generation: u64) -> Self {
        Self { hop, peer: Some((peer, generation)), by: None }
    }

    /// To somebody outside of it.
    pub(super) fn plain(hop: &'c Hop) -> Self {
        Self { hop, peer: None, by: None }
    }

    /// Whether two worlds say the same about it.
    fn is_same(&self, one: &World, other: &World) -> bool {
        let at = self.hop.dial.ip();
        let is_same_place = Arc::ptr_eq(&one.directory, &other.directory);
        match self.peer {
            Some(_) => {
                one.generation == other.generation
                    && Arc::ptr_eq(&one.tls, &other.tls)
                    && (is_same_place || one.directory.expected(at) == other.directory.expected(at))
            }
            None => {
                let now = Instant::now();
                Arc::ptr_eq(&one.here, &other.here)
                    && (is_same_place || one.directory.who(at, now) == other.directory.who(at, now))
            }
        }
    }
}

impl Judge for Living<'_> {
    fn is_as_before(&mut self, world: &Arc<World>) -> bool {
        let is_as_before = self.by.as_ref().is_some_and(|by| self.is_same(by, world));
        if is_as_before {
            // What is of before is let go.
            self.by = Some(Arc::clone(world));
        }
        is_as_before
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self.by = Some(Arc::clone(world));
        let at = self.hop.dial.ip();
        let Some((peer, generation)) = self.peer else {
            return match Over::to(at, world) {
                Over::Plain => Ok(None),
                Over::Mesh(..) | Over::Gateway(..) => Err(Why::OtherPod),
                Over::Unclear => Err(Why::Unclear),
            };
        };
        if generation != world.generation && world.tls.still_proves(peer).is_err() {
            return Err(Why::NoLongerProven);
        }
        match world.directory.expected(at) {
            Some(there) if !there.contains(&peer.id) => Err(Why::OtherPod),
            Some(_) | None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
