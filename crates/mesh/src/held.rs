//! Bodies of requests that are looked into before they go on: held, in bounds for one, for a caller, for all of a workload and for all of
//! the process.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use nullius_intention::Held;

use crate::room::{Place, Room, Whose};

/// A body as far as it was wanted, and what follows.
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    pub(crate) rest: Option<Incoming>,
    /// With what it broke off.
    pub(crate) lost: Option<hyper::Error>,
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

/// Takes a body until it has ended, there is more of it than is wanted, or it takes too long. What has come is given back in any case.
pub(crate) async fn hold(
    mut body: Incoming,
    wanted: usize,
    patience: Duration,
    room: &Room,
    whose: &Whose,
) -> (HeldBody, Option<NotHeld>) {
    let hint = body.size_hint().lower();
    // Whoever says that it will be too much need not send it.
    if hint > wanted as u64 {
        let held = HeldBody { bytes: Bytes::new(), rest: Some(body), lost: None, place: None };
        return (held, None);
    }
    let mut taken = Taken { bytes: Vec::new(), place: None, lost: None };
    let ended = tokio::time::timeout(patience, taken.take(&mut body, wanted, room, whose)).await;
    let Taken { bytes, place, lost } = taken;
    let (rest, why) = match ended {
        Ok(Ok(Ended::Whole)) => (None, None),
        Ok(Ok(Ended::More)) => (Some(body), None),
        Ok(Err(why)) => (Some(body), Some(why)),
        Err(_) => (Some(body), Some(NotHeld::Slow)),
    };
    (HeldBody { bytes: bytes.into(), rest, lost, place }, why)
}

struct Taken {
    bytes: Vec<u8>,
    place: Option<Place>,
    lost: Option<hyper::Error>,
}

enum Ended {
    Whole,
    More,
}

impl Taken {
    async fn take(
        &mut self,
        body: &mut Incoming,
        wanted: usize,
        room: &Room,
        whose: &Whose,
    ) -> Result<Ended, NotHeld> {
        while self.bytes.len() <= wanted {
            let Some(frame) = body.frame().await else { return Ok(Ended::Whole) };
            let frame = frame.map_err(|error| {
                self.lost = Some(error);
                NotHeld::Broke
            })?;
            // Trailers go nowhere: they were not judged.
            let Ok(data) = frame.into_data() else { return Ok(Ended::Whole) };
            let length = self.bytes.len() + data.len();
            // What is announced is had at once, else it is doubled: that is what it takes, however much has come.
            let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
            let grown = self.bytes.capacity().saturating_mul(2).min(wanted.saturating_add(1));
            let capacity = match length <= self.bytes.capacity() {
                true => self.bytes.capacity(),
                false => length.max(grown).max(length.saturating_add(announced).min(wanted)),
            };
            // It is there already, and goes on in any case; what is over the room is so by one frame.
            let is_there = room.has_room(whose, capacity, &mut self.place);
            let capacity = if is_there { capacity } else { length };
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
            self.bytes.extend_from_slice(&data);
            if !is_there {
                return Err(NotHeld::Crowded);
            }
        }
        Ok(Ended::More)
    }
}
