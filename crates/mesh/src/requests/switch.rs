//! Requests that ask for another protocol: a WebSocket may be, and lasts as long as its request would be allowed.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Registration;
use crate::{
    access_log::{Attempt, End, Why},
    copy::{Broke, PlainCopy},
};

/// Whether a request asks for another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    No,
    WebSocket,
    Other,
}

pub(super) fn asks_to_switch(headers: &HeaderMap) -> Switch {
    let mut values = headers.get_all(header::UPGRADE).iter();
    match (values.next(), values.next()) {
        (None, _) => Switch::No,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket") => Switch::WebSocket,
        (Some(_), _) => Switch::Other,
    }
}

pub(super) fn say_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Moves the bytes of a WebSocket for as long as its request would be allowed.
pub(super) async fn switch(
    caller: OnUpgrade,
    application: OnUpgrade,
    mut attempt: Attempt,
    registration: Arc<Registration>,
) -> Result<(), Broke> {
    let (caller, application) = match tokio::join!(caller, application) {
        (Ok(caller), Ok(application)) => (caller, application),
        (Err(_), _) => return Err(Broke::Mesh),
        (_, Err(_)) => return Err(Broke::Local),
    };
    let (mut caller, mut application) = (TokioIo::new(caller), TokioIo::new(application));
    let ended = {
        let moved = &attempt.moved;
        let (out, into) = (&moved.to_source, &moved.to_destination);
        let copy = PlainCopy::new(&mut application, &mut caller, out, into);
        tokio::select! {
            biased;
            () = registration.token().cancelled() => None,
            ended = copy => Some(ended),
        }
    };
    let Some(ended) = ended else {
        attempt.cut(registration.why().unwrap_or(Why::Requests));
        return Err(Broke::Mesh);
    };
    attempt.ended(match ended {
        Ok(()) => End::Closed,
        Err(Broke::Local) => End::LocalBroke,
        Err(Broke::Mesh) => End::MeshBroke,
    });
    ended
}
