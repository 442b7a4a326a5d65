//! The body of a request that is allowed but for it: held, asked about by the schemas of the API, and only then sent on.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use hyper::body::Incoming;
use nullius_intention::Held;
use nullius_model::Reason as Decision;
use nullius_policy::{decide_body, decide_body_at_once};

use super::{Allowed, Registration, Requests};
use crate::{
    access_log::{Attempt, Why},
    bodies::RequestBody,
    held::{NotHeld, hold},
    judge::Told,
    limiter,
    room::{SMALL, Whose},
};

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(60);
/// The same where it goes on in any case: it may be a conversation, of which the other side has yet to begin.
const IN_SHADOW: Duration = Duration::from_secs(1);

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
        let (room, whose) = (&self.inbound.shared().room, self.whose());
        let patience = if decides { BODY } else { IN_SHADOW };
        let holding = hold(body, wants, patience, room, &whose);
        let (held, mut not_held) = self.unless_cut(holding, registration, attempt).await?;
        // A long one, or one that has much to be asked about, waits where it keeps nobody.
        let has_come = not_held.is_none();
        let before = attempt.told.as_mut().filter(|_| has_come).and_then(|it| it.shadow.take());
        let at_once = match not_held {
            None if held.bytes.len() <= SMALL || wants == 0 => {
                decide_body_at_once(permit, held.held(), before)
            }
            // Of what has not come nobody says what would be decided.
            Some(_) => Err(Box::new((permit, None))),
            None => Err(Box::new((permit, before))),
        };
        let mut turn = None;
        if at_once.is_err() && not_held.is_none() {
            turn = self.unless_cut(room.turn(&whose), registration, attempt).await?;
            not_held = turn.is_none().then_some(NotHeld::Crowded);
        }
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
        let is_known = not_held.is_none();
        let ((outcome, shadow), held) = match at_once {
            Ok(decided) => (decided, held),
            Err(waits) => {
                let (permit, before) = *waits;
                let before = match &mut attempt.told {
                    Some(told) if !is_known => {
                        told.shadow = told.shadow.take().or(before);
                        None
                    }
                    _ => before,
                };
                let judge = move || {
                    // What nobody has looked into is not whole, and that is all that is asked of it.
                    let nothing = Held { bytes: b"", is_whole: false };
                    let asked = if is_known { held.held() } else { nothing };
                    (decide_body(permit, asked, before), held, turn)
                };
                let judged = tokio::task::spawn_blocking(judge).await;
                let (decided, held, _) = judged.map_err(|_| {
                    attempt.told = None;
                    attempt.denied(Why::STALE);
                    (StatusCode::SERVICE_UNAVAILABLE, Why::STALE)
                })?;
                (decided, held)
            }
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

    /// Whose body it is that comes.
    fn whose(&self) -> Whose {
        let world = self.inbound.shared().world();
        let id = world.as_ref().map(|world| world.tls.id());
        let caller = match self.call.source() {
            Some(id) => id.to_string(),
            None => limiter::caller(self.call.address),
        };
        let namespace = id.and_then(|id| id.namespace()).unwrap_or_default();
        Whose { caller: caller.into(), namespace: namespace.into() }
    }

    /// Waits for something of a request, for as long as that may be.
    async fn unless_cut<T>(
        &self,
        waits: impl Future<Output = T>,
        registration: &Registration,
        attempt: &mut Attempt,
    ) -> Result<T, (StatusCode, Why)> {
        tokio::select! {
            biased;
            () = registration.token().cancelled() => {
                let why = registration.why().unwrap_or(Why::Requests);
                attempt.denied(why);
                Err((StatusCode::FORBIDDEN, why))
            }
            done = waits => Ok(done),
        }
    }
}
