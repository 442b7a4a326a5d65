//! The body of a request that is allowed but for it: held, asked about by the schemas of the API, and only then sent on.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use nullius_model::Reason as Decision;
use nullius_policy::decide_body;

use super::{Allowed, Registration, Requests};
use crate::{
    access_log::{Attempt, Why},
    bodies::RequestBody,
    held::{HeldBody, NotHeld},
    judge::Told,
};

/// Bytes of a body that are looked into in no time.
const AT_ONCE: usize = 16 * 1024;

impl Requests {
    /// The body as it goes on, once what schemas ask about it was asked.
    pub(super) async fn look_into(
        &self,
        body: Incoming,
        allowed: Allowed,
        registration: &Arc<Registration>,
        attempt: &mut Attempt,
    ) -> Result<(RequestBody, Allowed), (StatusCode, Why)> {
        let moved = Arc::clone(&attempt.moved);
        let permit = match allowed {
            Allowed::Request(permit) if permit.body().is_some() => permit,
            other => return Ok((RequestBody::new(body, moved, Arc::clone(registration)), other)),
        };
        let (wants, decides) =
            permit.body().map_or((0, true), |checks| (checks.wants(), checks.decides()));
        let (held, not_held) = tokio::select! {
            biased;
            () = registration.token().cancelled() => {
                let why = registration.why().unwrap_or(Why::Requests);
                attempt.denied(why);
                return Err((StatusCode::FORBIDDEN, why));
            }
            held = self.inbound.shared().room.hold(body, wants) => held,
        };
        if let Some(not_held) = not_held.filter(|_| decides) {
            let (status, why, detail) = match not_held {
                NotHeld::Crowded => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    Why::Overloaded,
                    "too many bodies are looked into at once",
                ),
                NotHeld::Slow => (
                    StatusCode::REQUEST_TIMEOUT,
                    Why::Decided(Decision::BadBody),
                    "its body did not come in time",
                ),
                NotHeld::Broke => (
                    StatusCode::BAD_REQUEST,
                    Why::Decided(Decision::BadBody),
                    "its body was cut short",
                ),
            };
            // What was told is why it would be allowed.
            attempt.told = None;
            match why {
                Why::Overloaded => attempt.failed(why, Some(detail.to_owned())),
                why => {
                    attempt.denied(why);
                    attempt.say(Some(detail.to_owned()));
                }
            }
            return Err((status, why));
        }
        // A long one would keep others from their turn.
        let turn = match held.bytes.len() > AT_ONCE {
            true => Some(self.inbound.shared().room.turn().await),
            false => None,
        };
        // Of what has not come nobody says what would be decided.
        let is_known = not_held.is_none();
        let before = attempt.told.as_mut().filter(|_| is_known).and_then(|it| it.shadow.take());
        let judge = |held: HeldBody| (decide_body(permit, held.held(), before), held);
        let ((outcome, shadow), held) = match turn {
            Some(turn) => {
                let judged = tokio::task::spawn_blocking(move || (judge(held), turn)).await;
                let (judged, _) = judged.map_err(|_| {
                    attempt.told = None;
                    attempt.denied(Why::STALE);
                    (StatusCode::SERVICE_UNAVAILABLE, Why::STALE)
                })?;
                judged
            }
            None => judge(held),
        };
        if let Some(told) = attempt.told.as_mut().filter(|_| is_known) {
            told.shadow = shadow;
        }
        match outcome {
            Ok(permit) => {
                let body = RequestBody::held(held, moved, Arc::clone(registration));
                Ok((body, Allowed::Request(permit)))
            }
            Err(denial) => {
                let status = StatusCode::from_u16(denial.http_status());
                let why = Why::Decided(denial.reason());
                attempt.say(Some(denial.explanation().sentence.clone()));
                attempt.told = Some(Told {
                    explanation: denial.explanation().clone(),
                    permission: denial.permission().cloned(),
                    shadow: attempt.told.take().and_then(|told| told.shadow),
                    is_recorded: true,
                });
                attempt.denied(why);
                Err((status.unwrap_or(StatusCode::BAD_REQUEST), why))
            }
        }
    }
}
