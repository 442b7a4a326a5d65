//! Requests to the webhook: one path for each entry behind a part that strangers do not know.
//!
//! Whoever is no API server gets nothing to learn from. Room for reviews is bounded by their length; one that finds none in time is
//! denied, and so is one whose answer would come too late.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use nullius_admission::{
    Sidecar,
    webhook::{Answer, BODY_MAX, Engine, Entry, NotRead, Review, Step, answer, refuse},
};
use nullius_kube::{MESH_LABEL, MESH_SIDECAR};
use nullius_model::{Reason, Timestamp};
use nullius_policy::{Judged, pod_security::kept_level, withhold_admission};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    authority::Authority,
    baselines::Gate,
    facts::FactSource,
    listener::Caller,
    meters::{AdmissionMeters, EntryLabel, Outcome},
    policies::{Engines, Standing},
    record,
    timeout::use_by,
};
use crate::report::Reports;

/// Room for the bodies of reviews under way, in units: what is made of a body is several times as long.
const ROOM_UNIT: usize = 64 * 1024;
const ROOM_UNITS: usize = 24 * 1024 * 1024 / ROOM_UNIT;
/// So many reviews wait for room at most.
const MOST_WAITING: usize = 2_048;
/// The uid stands at the beginning of what an API server writes.
const BEGINNING: usize = 16 * 1024;
/// The beginning of a review for which there is no room comes this much later at most.
const BEGINNING_WITHIN: Duration = Duration::from_secs(3);

/// Policies are asked for so long on a thread that serves connections: most reviews take less time than handing them over does.
const BRIEF: Duration = Duration::from_millis(2);
/// And about so many bytes of a review.
const BRIEF_LENGTH: usize = ROOM_UNIT;
/// After a review that took longer so many of its entry are handed over at once: they hold no connection up.
const SLOW_FOR: usize = 32;

const CROWDED: &str = "too many reviews wait";
const TOO_LONG: &str = "the policies take too long";
/// How much later than it should an evaluation may end: what is left of the API server's time is several times as long.
const OVERDUE: Duration = Duration::from_millis(100);

/// Answers reviews.
pub(crate) struct Webhook {
    engines: Engines,
    facts: FactSource,
    gate: Gate,
    authority: Authority,
    reports: Reports,
    meters: AdmissionMeters,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Long evaluations at a time: more than there are processors only delay each other.
    evaluations: Arc<Semaphore>,
    /// By entry, of how many reviews more it is expected that they take long.
    slow: [AtomicUsize; Entry::ALL.len()],
    /// What pods get that are to have a proxy of their own.
    sidecar: Option<Arc<Sidecar>>,
}

/// Something panicked.
struct Defect;

/// What is asked about a review.
#[derive(Clone)]
enum Question {
    Policies,
    /// How the owner of this namespace wants its pods.
    PodSecurity(Arc<Value>),
    /// The proxy that a pod of this namespace may be to have.
    Inject(Arc<Value>, Arc<Sidecar>),
}

impl Question {
    /// As [`Review::brief_step`].
    fn ask(
        &self,
        review: &mut Review,
        engine: &Engine,
        is_late: &dyn Fn() -> bool,
        is_long: &dyn Fn() -> bool,
    ) -> Option<Step> {
        let now = Timestamp::now();
        match self {
            Self::Policies => review.brief_step(engine, now, is_late, is_long),
            Self::PodSecurity(namespace) => {
                review.measure(engine, namespace, now, is_late, is_long)
            }
            // Nothing in it takes long.
            Self::Inject(namespace, sidecar) => Some(review.inject(sidecar, namespace)),
        }
    }
}

impl Webhook {
    pub(crate) fn new(
        engines: Engines,
        facts: FactSource,
        gate: Gate,
        authority: Authority,
        reports: Reports,
        meters: AdmissionMeters,
    ) -> Self {
        let room = Arc::new(Semaphore::new(ROOM_UNITS));
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            engines,
            facts,
            gate,
            authority,
            reports,
            meters,
            room,
            waiting: AtomicUsize::new(0),
            evaluations: Arc::new(Semaphore::new(2 * processors)),
            slow: Entry::ALL.map(|_| AtomicUsize::new(0)),
            sidecar: None,
        }
    }

    /// Puts this proxy into pods that are to have one.
    pub(crate) fn injecting(self, sidecar: Option<Sidecar>) -> Self {
        Self { sidecar: sidecar.map(Arc::new), ..self }
    }

    /// Whether policies are in force, and those that the cluster has now.
    pub(crate) fn is_ready(&self) -> Result<(), &'static str> {
        if self.engines.standing().is_some() {
            if self.engines.deaf().is_some() {
                return Err("the API server has not been heard for too long; the log says why");
            }
            let known = self.gate.is_complete();
            return known.map_err(|_| "it does not know the namespace baselines yet");
        }
        if self.engines.unreadable().is_empty() {
            return Err("it does not know everything yet that policies ask for");
        }
        Err("a file of policies cannot be read; the log says which")
    }

    pub(super) fn meters(&self) -> &AdmissionMeters {
        &self.meters
    }

    /// Answers a request, after the caller was told what it shows of whoever sent it.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let Some(entry) = self.entry(&request) else {
            caller.is_wrong();
            self.meters.reviews.add_one(Outcome::Stranger);
            return plain(StatusCode::NOT_FOUND, "");
        };
        caller.is_known();
        let use_by = began + use_by(request.uri().query());
        let answered = self.answer(entry, request, use_by).await;
        self.meters.seconds.observe(EntryLabel(entry), began.elapsed());
        match answered {
            Ok((answer, review)) => {
                self.note(entry, &answer.judged, review.as_ref());
                let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(NotRead { told, .. }) => {
                self.meters.reviews.add_one(Outcome::Withheld);
                plain(StatusCode::BAD_REQUEST, &told)
            }
        }
    }

    /// The entry, for whoever knows the path.
    fn entry(&self, request: &Request<Incoming>) -> Option<Entry> {
        let (part, word) = request.uri().path().strip_prefix('/')?.split_once('/')?;
        let known = self.authority.borrow().as_ref().is_some_and(|believed| believed.knows(part));
        let entry = Entry::of_word(word)?;
        (known && request.method() == Method::POST).then_some(entry)
    }

    async fn answer(
        &self,
        entry: Entry,
        request: Request<Incoming>,
        use_by: Instant,
    ) -> Result<(Answer, Option<Review>), NotRead> {
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = declared.and_then(|text| text.parse().ok()).unwrap_or(BODY_MAX).min(BODY_MAX);
        let body = request.into_body();
        let Some(_room) = self.room(length, use_by).await else {
            // The uid is all that is read: the denial must be told, or the policy's failure would be ours to choose.
            let beginning = read(body, BEGINNING, use_by + BEGINNING_WITHIN).await;
            return unread(entry, &beginning, CROWDED);
        };
        let body = read(body, BODY_MAX + 1, use_by).await;
        let review = match Review::read(entry, &body) {
            Ok(review) => review,
            Err(NotRead { uid: Some(uid), told }) => {
                let told = format!("the admission review cannot be read ({told})");
                return Ok((refuse(&uid, &told), None));
            }
            Err(not_read) => return Err(not_read),
        };
        let length = body.len();
        drop(body);
        let Some(standing) = self.engines.standing() else {
            let refused = refuse(review.uid(), "the policies are not known yet");
            return Ok((refused, Some(review)));
        };
        let question = match self.question(entry, &review, use_by).await {
            Ok(question) => question,
            Err(judged) => return Ok((answer(review.uid(), *judged), Some(review))),
        };
        Ok(self.judge(review, question, standing, use_by, length).await)
    }

    /// What is asked about a review; the answer where it is known without asking.
    async fn question(
        &self,
        entry: Entry,
        review: &Review,
        use_by: Instant,
    ) -> Result<Question, Box<Judged>> {
        let known = self.engines.namespace(&review.request().namespace);
        match entry {
            Entry::PodSecurity => {
                let known = known.filter(|known| kept_level(known).is_some());
                Ok(Question::PodSecurity(self.owner(known, review, use_by).await?))
            }
            Entry::InjectFail | Entry::InjectIgnore => {
                let Some(sidecar) = self.sidecar.clone() else {
                    return Err(Box::new(withhold_admission(
                        "no image of the proxy is known here: the cluster has no mesh",
                    )));
                };
                let known = known.filter(|known| is_in_mesh(known));
                Ok(Question::Inject(self.owner(known, review, use_by).await?, sidecar))
            }
            Entry::ValidateFail
            | Entry::ValidateIgnore
            | Entry::MutateFail
            | Entry::MutateIgnore => match self.gate.hold(review, use_by).await {
                Some(held) => Err(Box::new(held)),
                None => Ok(Question::Policies),
            },
        }
    }

    /// The namespace whose owner says by what a pod is measured. What was known a moment ago may be older than a level that was
    /// lowered, so that nothing passes unmeasured because of it.
    async fn owner(
        &self,
        known: Option<Arc<Value>>,
        review: &Review,
        use_by: Instant,
    ) -> Result<Arc<Value>, Box<Judged>> {
        let name = review.request().namespace.as_str();
        if let Some(known) = known {
            return Ok(known);
        }
        let why = match self.facts.fresh_namespace(name, use_by).await {
            Ok(Some(namespace)) => return Ok(Arc::new(namespace)),
            Ok(None) => format!("there is no namespace `{name}`"),
            Err(why) => format!("the namespace `{name}` cannot be told: {why}"),
        };
        Err(Box::new(withhold_admission(&why)))
    }

    async fn judge(
        &self,
        mut review: Review,
        question: Question,
        standing: Arc<Standing>,
        use_by: Instant,
        length: usize,
    ) -> (Answer, Option<Review>) {
        let uid = review.uid().to_owned();
        self.facts.foretell(&mut review);
        loop {
            let step = match self.brief_step(&mut review, &question, &standing, use_by, length) {
                Ok(Some(step)) => step,
                Ok(None) => {
                    let turn = Arc::clone(&self.evaluations).acquire_owned();
                    let Ok(Ok(turn)) = tokio::time::timeout_at(use_by, turn).await else {
                        return (refuse(&uid, CROWDED), Some(review));
                    };
                    let (asked, question) = (Arc::clone(&standing), question.clone());
                    let stepped = tokio::task::spawn_blocking(move || {
                        let is_late = || Instant::now() >= use_by;
                        let step = question.ask(&mut review, &asked.engine, &is_late, &|| false);
                        drop(turn);
                        (review, step)
                    });
                    // It looks at the clock itself; what does not, must not make the API server wait for its own time-out.
                    let stepped = match tokio::time::timeout_at(use_by + OVERDUE, stepped).await {
                        Ok(stepped) => stepped,
                        Err(_) => return (refuse(&uid, TOO_LONG), None),
                    };
                    let Ok((same, Some(step))) = stepped else {
                        return (defect(&uid), None);
                    };
                    review = same;
                    step
                }
                Err(Defect) => return (defect(&uid), None),
            };
            match step {
                Step::Decided(judged) => return (answer(&uid, *judged), Some(review)),
                Step::Fetch(needs) => {
                    self.facts.fetch(&mut review, &standing, needs, use_by).await;
                }
            }
        }
    }

    /// Asks the policies on this thread, which serves connections, as long as that takes no time; `None` where it would.
    fn brief_step(
        &self,
        review: &mut Review,
        question: &Question,
        standing: &Standing,
        use_by: Instant,
        length: usize,
    ) -> Result<Option<Step>, Defect> {
        let slow = &self.slow[review.entry().index()];
        // Only a hint: whoever reads an old number takes the other way, which is right too.
        let is_slow = slow
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok();
        if is_slow || length > BRIEF_LENGTH {
            return Ok(None);
        }
        let until = Instant::now() + BRIEF;
        let brief = || {
            let (is_late, is_long) = (|| Instant::now() >= use_by, || Instant::now() >= until);
            question.ask(review, &standing.engine, &is_late, &is_long)
        };
        let step = catch_unwind(AssertUnwindSafe(brief)).map_err(|_| Defect)?;
        if step.is_none() {
            slow.store(SLOW_FOR, Ordering::Relaxed);
        }
        Ok(step)
    }

    /// Room for a body, as soon as there is some; `None` where too many wait for it, or it does not come in time.
    async fn room(&self, length: usize, use_by: Instant) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(length.div_ceil(ROOM_UNIT).max(1)).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) {
            return Some(room);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let waited =
            tokio::time::timeout_at(use_by, Arc::clone(&self.room).acquire_many_owned(units)).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        waited.ok()?.ok()
    }

    fn note(&self, entry: Entry, judged: &Judged, review: Option<&Review>) {
        let explanation = &judged.decision.explanation;
        let outcome = match explanation.reason {
            Reason::PolicyPassed => Outcome::Allowed,
            Reason::PolicyRefused => Outcome::Denied,
            _ => Outcome::Withheld,
        };
        self.meters.reviews.add_one(outcome);
        match review {
            Some(review) => record::tell(&self.reports, review, judged, Timestamp::now()),
            None => {
                tracing::warn!(entry = entry.as_str(), why = %explanation, "refuse a review that cannot be read");
            }
        }
    }
}

/// Whether a namespace says that its pods are in the mesh: then it was labelled before it was heard of last.
fn is_in_mesh(namespace: &Value) -> bool {
    let labels = namespace.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(MESH_LABEL)).and_then(Value::as_str) == Some(MESH_SIDECAR)
}

fn defect(uid: &str) -> Answer {
    tracing::error!(uid, "a review ended in a defect");
    refuse(uid, "the review ended in a defect")
}

/// The denial of a review of which only the beginning was read.
fn unread(entry: Entry, beginning: &[u8], why: &str) -> Result<(Answer, Option<Review>), NotRead> {
    let uid = match Review::read(entry, beginning) {
        Ok(review) => Some(review.uid().to_owned()),
        Err(not_read) => not_read.uid,
    };
    match uid {
        Some(uid) => Ok((refuse(&uid, why), None)),
        None => Err(NotRead { uid: None, told: why.to_owned() }),
    }
}

/// Reads a body until its end, its limit or its time.
async fn read(mut body: Incoming, most: usize, until: Instant) -> Bytes {
    let hint = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut all = BytesMut::with_capacity(hint.min(most));
    while all.len() < most {
        let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.frame()).await else { break };
        if let Ok(data) = frame.into_data() {
            let left = most - all.len();
            all.extend_from_slice(&data[..data.len().min(left)]);
        }
    }
    all.freeze()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}
