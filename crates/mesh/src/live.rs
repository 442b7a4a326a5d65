//! What was allowed goes on for as long as it is.

use std::{future::pending, sync::Arc, time::Duration};

use nullius_model::Timestamp;
use tokio::time::sleep;

use crate::{
    World,
    access_log::{End, Why},
    copy::Broke,
    world::View,
};

/// The longest that is slept at once.
const NAP: Duration = Duration::from_secs(3_600);

/// How something that was allowed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Closed,
    Broke(Broke),
    /// It is allowed no more.
    Cut(Why),
    /// The proxy ends.
    Shutdown,
}

impl Ended {
    /// What the access log calls it; for a cut the log wants to know why.
    pub(crate) fn end(self) -> Result<End, Why> {
        match self {
            Self::Closed => Ok(End::Closed),
            Self::Broke(Broke::Local) => Ok(End::LocalBroke),
            Self::Broke(Broke::Mesh) => Ok(End::MeshBroke),
            Self::Cut(why) => Err(why),
            Self::Shutdown => Ok(End::Shutdown),
        }
    }
}

/// Judges something that lives, again and again.
pub(crate) trait Judge {
    /// Whether what has changed makes no difference to it: then it is not judged.
    fn is_as_before(&mut self, world: &Arc<World>) -> bool;

    /// Whether it may go on, and until when; or why not.
    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why>;
}

/// One to whom everything may make a difference.
impl<J: FnMut(&World) -> Result<Option<Timestamp>, Why>> Judge for J {
    fn is_as_before(&mut self, _: &Arc<World>) -> bool {
        false
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self(world)
    }
}

/// Runs a copy until it ends, or until `judge` says no. It is asked whenever what decides has changed since `view` was looked at, and
/// at the end that it gave last.
pub(crate) async fn while_allowed(
    copy: impl Future<Output = Result<(), Broke>>,
    view: &mut View,
    mut ends_at: Option<Timestamp>,
    mut judge: impl Judge,
) -> Ended {
    tokio::pin!(copy);
    loop {
        let is_change = tokio::select! {
            biased;
            changed = view.changed() => {
                if changed.is_err() {
                    return Ended::Shutdown;
                }
                true
            }
            () = until(ends_at) => false,
            ended = &mut copy => {
                return match ended {
                    Ok(()) => Ended::Closed,
                    Err(broke) => Ended::Broke(broke),
                };
            }
        };
        let world = view.borrow_and_update().clone();
        let Some(world) = world else { return Ended::Cut(Why::STALE) };
        if is_change && judge.is_as_before(&world) {
            continue;
        }
        match judge.judge(&world) {
            Ok(end) => ends_at = end,
            Err(why) => return Ended::Cut(why),
        }
    }
}

/// The same, and no longer than so long.
pub(crate) async fn at_most(
    long: Duration,
    why: Why,
    goes_on: impl Future<Output = Ended>,
) -> Ended {
    tokio::time::timeout(long, goes_on).await.unwrap_or(Ended::Cut(why))
}

async fn until(end: Option<Timestamp>) {
    let Some(end) = end else { return pending().await };
    let left = end.duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or_default().min(NAP)).await;
}

#[cfg(test)]
pub(crate) mod tests;
