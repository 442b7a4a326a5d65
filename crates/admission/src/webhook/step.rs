//! One review, from its bytes to its answer, with a stop wherever a fact must be fetched.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nullius_model::Timestamp;
use nullius_policy::{
    Admission, Judged,
    admission_policy::{
        Answers, Detail, Facts, Need, NotARequest, ParamQuery, ROUNDS, Request, authz::Verdict,
    },
    decide_admission, decide_pod_security, pod_security, withhold_admission,
};
use serde_json::Value as Json;

use super::{
    Engine, Entry,
    json::{self, NotRead},
};

/// So many rounds may ask for somebody's rights alone. The cost of a check lets no run of a policy ask more often.
const ACCESS_ROUNDS: usize = 32;

const LATE: &str = "the policies took longer than the API server waits";

/// A review that is being answered.
#[derive(Debug)]
pub struct Review {
    uid: String,
    request: Request,
    entry: Entry,
    namespaces: BTreeMap<String, Option<Arc<Json>>>,
    params: BTreeMap<ParamQuery, Vec<Json>>,
    answers: Answers,
    rounds: usize,
    /// Rounds in which somebody's rights alone were asked for.
    access_rounds: usize,
    /// Why nothing can be decided any more.
    failed: Option<String>,
}

/// What comes of asking.
#[derive(Debug)]
pub enum Step {
    /// It is decided.
    Decided(Box<Judged>),
    /// Fetch these facts, tell them by [`Review::learn`], and ask again.
    Fetch(BTreeSet<Need>),
}

/// A fact that was fetched.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The namespace; `None` where the cluster does not have it.
    Namespace(Option<Arc<Json>>),
    /// Parameters; empty where there are none.
    Params(Vec<Json>),
    /// What the authorizer says.
    Access(Verdict),
}

impl Review {
    /// Reads the body of a request to an entry.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, with the uid under which the denial can be told where it has one.
    pub fn read(entry: Entry, body: &[u8]) -> Result<Self, NotRead> {
        let (review, uid) = json::read(body)?;
        let wrong = |told: String| NotRead { uid: Some(uid.clone()), told };
        let text = |field: &str| review.get(field).and_then(Json::as_str).unwrap_or_default();
        if text("apiVersion") != "admission.k8s.io/v1" || text("kind") != "AdmissionReview" {
            return Err(wrong("it is no `AdmissionReview` of `admission.k8s.io/v1`".to_owned()));
        }
        let request = Request::of_review(review)
            .map_err(|NotARequest { field, message }| wrong(format!("`{field}`: {message}")))?;
        Ok(Self {
            uid,
            request,
            entry,
            namespaces: BTreeMap::new(),
            params: BTreeMap::new(),
            answers: Answers::default(),
            rounds: 0,
            access_rounds: 0,
            failed: None,
        })
    }

    /// The uid that the answer must carry.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Which entry it came to.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Asks the policies with what is known. `is_late` says when an answer is no longer of use: then it is no, whatever a policy
    /// says of its own failure. Exceptions count that hold at `now`.
    pub fn step(&mut self, engine: &Engine, now: Timestamp, is_late: &dyn Fn() -> bool) -> Step {
        // Nothing but being late ends it, which is an answer.
        self.brief_step(engine, now, is_late, &|| false).unwrap_or_else(|| withheld(LATE))
    }

    /// Asks the policies as [`step`](Self::step) does, but gives up as soon as `is_long` says so: then nothing was decided, and the
    /// review can be asked again as if it had not been.
    pub fn brief_step(
        &mut self,
        engine: &Engine,
        now: Timestamp,
        is_late: &dyn Fn() -> bool,
        is_long: &dyn Fn() -> bool,
    ) -> Option<Step> {
        if let Some(why) = &self.failed {
            return Some(withheld(why));
        }
        if is_late() {
            return Some(withheld(LATE));
        }
        let given_up = Cell::new(false);
        let interrupt = || {
            if is_long() {
                given_up.set(true);
            }
            given_up.get() || is_late()
        };
        let kinds = engine.kinds.known();
        let facts = Facts {
            namespaces: std::mem::take(&mut self.namespaces),
            params: std::mem::take(&mut self.params),
            authorizer: &self.answers,
            kinds: &kinds,
            interrupt: Some(&interrupt),
            detail: Detail::Policies,
        };
        let set = engine.in_force.set(self.entry);
        let exceptions = engine.exceptions_at(now);
        let decided = decide_admission(set, &self.request, &facts, &exceptions);
        (self.namespaces, self.params) = (facts.namespaces, facts.params);
        if given_up.get() {
            return None;
        }
        Some(match decided {
            // What was interrupted is an error to a policy, and one that ignores errors would let it pass.
            _ if is_late() => withheld(LATE),
            Admission::Decided(judged) => Step::Decided(judged),
            Admission::Needs(needs) => match needs.iter().find(|need| !can_be_fetched(need)) {
                Some(need) => withheld(&format!("nobody can say {need}")),
                None => self.fetch(needs),
            },
        })
    }

    /// Measures a pod by what the owner of its namespace wants enforced, with the exceptions that hold at `now`; late and long are as
    /// for [`brief_step`](Self::brief_step).
    pub fn measure(
        &self,
        engine: &Engine,
        namespace: &Json,
        now: Timestamp,
        is_late: &dyn Fn() -> bool,
        is_long: &dyn Fn() -> bool,
    ) -> Option<Step> {
        let level = pod_security::kept_level(namespace);
        let exceptions = engine.exceptions_at(now);
        let is_over = || is_late() || is_long();
        let judged =
            decide_pod_security(&self.request, level, engine.newest, &exceptions, &is_over);
        match judged {
            _ if is_late() => Some(withheld(LATE)),
            judged => judged.map(|judged| Step::Decided(Box::new(judged))),
        }
    }

    /// Asks for facts, but not for ever.
    fn fetch(&mut self, needs: BTreeSet<Need>) -> Step {
        // Each question may depend on the answer to the one before, as in `a.allowed() && b.allowed()`.
        let (count, most) = match needs.iter().all(|need| matches!(need, Need::Access(_))) {
            true => (&mut self.access_rounds, ACCESS_ROUNDS),
            false => (&mut self.rounds, ROUNDS),
        };
        if *count == most {
            return withheld(&format!("policies ask for facts more than {most} times"));
        }
        *count += 1;
        Step::Fetch(needs)
    }

    /// Takes a fact; one that could not be fetched ends the review with a denial.
    pub fn learn(&mut self, need: Need, fact: Result<Fact, String>) {
        match (need, fact) {
            (Need::Namespace(name), Ok(Fact::Namespace(found))) => {
                self.namespaces.insert(name, found);
            }
            (Need::Params(query), Ok(Fact::Params(found))) => {
                self.params.insert(query, found);
            }
            (Need::Access(check), Ok(Fact::Access(verdict))) => {
                self.answers.0.insert(check, verdict);
            }
            (need, Ok(_)) => self.failed = Some(format!("{need} was answered with another fact")),
            (need, Err(why)) => self.failed = Some(format!("{need} cannot be told: {why}")),
        }
    }
}

fn can_be_fetched(need: &Need) -> bool {
    match need {
        Need::Namespace(_) | Need::Params(_) | Need::Access(_) => true,
        // The kinds of the cluster are known before anything is asked.
        Need::Kind(_) | Need::Shape(_) | Need::Conversion(_) => false,
    }
}

fn withheld(why: &str) -> Step {
    Step::Decided(Box::new(withhold_admission(why)))
}
