//! Bodies of requests that are looked into before they go on: held, in bounds for one, for all of a workload and for all of the process.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use nullius_intention::Held;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(60);
/// Bytes that are held of all bodies of a workload, by pieces.
const HELD_MAX: usize = 32 * 1024 * 1024;
const PIECE: usize = 1024;
/// Bytes that are held of all bodies of a process: a node stands for many workloads.
const ALL_MAX: usize = 96 * 1024 * 1024;

/// Of all workloads that this process stands for, by pieces.
static ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(ALL_MAX / PIECE)));
/// Long bodies that the process looks into at once: read, one can take a hundred times its bytes.
static AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(2)));

/// What all bodies of a workload that are held may take.
pub(crate) struct Room {
    pieces: Arc<Semaphore>,
    /// Of each workload one waits with those of others, so that nobody's many are before somebody's one.
    turn: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            pieces: Arc::new(Semaphore::new(HELD_MAX / PIECE)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

/// A long body may be looked into, as long as this is there.
pub(crate) struct Turn {
    _of_process: Option<OwnedSemaphorePermit>,
    _of_workload: Option<OwnedSemaphorePermit>,
}

/// Its part of the room, until it has gone on.
pub(crate) struct Place {
    of_workload: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

/// A body as far as it was wanted, and what follows.
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    pub(crate) rest: Option<Incoming>,
    /// Its part of the room, until it has gone on.
    pub(crate) place: Option<Place>,
}

/// Why a body was not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// Whoever sent it has broken off.
    Broke,
    /// It did not come in time.
    Slow,
    /// All that is held together takes the room.
    Crowded,
}

impl HeldBody {
    pub(crate) fn held(&self) -> Held<'_> {
        Held { bytes: &self.bytes, is_whole: self.rest.is_none() }
    }
}

impl Room {
    /// Takes a body until it has ended, or there is more of it than is wanted. What has come is given back in any case.
    pub(crate) async fn hold(
        &self,
        mut body: Incoming,
        wanted: usize,
    ) -> (HeldBody, Option<NotHeld>) {
        // Whoever says that it will be too much need not send it.
        if body.size_hint().lower() > wanted as u64 {
            return (HeldBody { bytes: Bytes::new(), rest: Some(body), place: None }, None);
        }
        let mut bytes = BytesMut::new();
        let mut place = None;
        let taken =
            tokio::time::timeout(BODY, self.take(&mut body, wanted, &mut bytes, &mut place));
        let (rest, why) = match taken.await {
            Ok(Ok(Ended::Whole)) => (None, None),
            Ok(Ok(Ended::More)) => (Some(body), None),
            Ok(Err(why)) => (Some(body), Some(why)),
            Err(_) => (Some(body), Some(NotHeld::Slow)),
        };
        (HeldBody { bytes: bytes.freeze(), rest, place }, why)
    }

    /// Waits until a long body may be looked into.
    pub(crate) async fn turn(&self) -> Turn {
        // Nobody closes them.
        let of_workload = Arc::clone(&self.turn).acquire_owned().await.ok();
        let of_process = Arc::clone(&AT_ONCE).acquire_owned().await.ok();
        Turn { _of_process: of_process, _of_workload: of_workload }
    }

    async fn take(
        &self,
        body: &mut Incoming,
        wanted: usize,
        bytes: &mut BytesMut,
        place: &mut Option<Place>,
    ) -> Result<Ended, NotHeld> {
        while bytes.len() <= wanted {
            let Some(frame) = body.frame().await else { return Ok(Ended::Whole) };
            let frame = frame.map_err(|_| NotHeld::Broke)?;
            // Trailers go nowhere: they were not judged.
            let Ok(data) = frame.into_data() else { return Ok(Ended::Whole) };
            // It is there already, and goes on in any case; what is over the room is so by one frame.
            let is_there = self.has_room(bytes.len() + data.len(), place);
            bytes.extend_from_slice(&data);
            if !is_there {
                return Err(NotHeld::Crowded);
            }
        }
        Ok(Ended::More)
    }

    fn has_room(&self, length: usize, place: &mut Option<Place>) -> bool {
        let has = place.as_ref().map_or(0, |it| it.of_workload.num_permits());
        let more = length.div_ceil(PIECE).saturating_sub(has);
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(taken) = Arc::clone(&self.pieces).try_acquire_many_owned(more) else { return false };
        let Ok(of_all) = Arc::clone(&ALL).try_acquire_many_owned(more) else { return false };
        match place {
            Some(place) => {
                place.of_workload.merge(taken);
                place.of_all.merge(of_all);
            }
            None => *place = Some(Place { of_workload: taken, of_all }),
        }
        true
    }
}

enum Ended {
    Whole,
    More,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn many_workloads_together_hold_no_more_than_the_process_may() {
        let rooms: Vec<Room> = (0..4).map(|_| Room::default()).collect();
        let fill = |room: &Room| {
            let mut place = None;
            room.has_room(HELD_MAX, &mut place).then(|| place.unwrap())
        };
        let mut held: Vec<Place> = rooms[..3].iter().map(|room| fill(room).unwrap()).collect();
        assert!(!rooms[0].has_room(1, &mut None), "of one workload");
        assert!(!rooms[3].has_room(1, &mut None), "of all");
        held.pop();
        assert!(fill(&rooms[3]).is_some());
    }
}
