//! Schemas of APIs (OpenAPI 3.1): which requests a workload knows at all.
//!
//! Whoever may call is for intentions to say; a request that they allow must also be one that the schema declares, in its path, method,
//! parameters and body. What cannot be told in bounded time is not declared.

mod body;
mod decimal;
mod document;
mod evaluate;
mod format;
mod parameters;
mod pattern;
mod routes;
mod schema;
mod value;
mod work;

use std::{fmt, sync::Arc};

use nullius_fields::{Faults, Fields, shown};
use nullius_model::{IntentionMode, Reason};
use serde_json::Value as Json;

use crate::{destination::Destination, request::Request};
use body::{Bodies, Duty};
use evaluate::Unfit;
use parameters::Parameter;
use routes::Routes;
use schema::Schemas;
pub(crate) use work::{Rest, Work};

/// Bytes of a body that is looked into, unless somebody says otherwise.
const BODY_MAX: u64 = 1024 * 1024;
/// What they may say.
const BODY_MOST: u64 = 8 * 1024 * 1024;

/// A document of OpenAPI, ready to be asked.
#[derive(Debug)]
pub struct ApiSchema {
    /// The path below which all others are; empty for none.
    base: Box<str>,
    routes: Routes,
    /// By their numbers in the routes.
    paths: Vec<Path>,
    operations: Vec<Operation>,
    schemas: Schemas,
}

#[derive(Debug)]
struct Path {
    /// Of its templates.
    names: Vec<Box<str>>,
    methods: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
struct Operation {
    /// `POST /orders/{id}`.
    label: Box<str>,
    parameters: Vec<Parameter>,
    /// None where no body is declared.
    body: Option<Bodies>,
}

/// What an intention says of the API of its destination.
#[derive(Debug)]
pub struct Api {
    /// `namespace/name` of the intention.
    intention: Box<str>,
    mode: IntentionMode,
    body_max: usize,
    schema: ApiSchema,
}

/// Why a request is none that a schema declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeclared {
    /// The word.
    pub reason: Reason,
    /// What is wrong with the request, in words that go on from `it`.
    pub told: String,
    /// The schema and its operation, `Intention shop/orders api, POST /orders/{id}`.
    pub rule: String,
}

/// A body as far as it has come.
#[derive(Debug, Clone, Copy)]
pub struct Held<'b> {
    /// What has come.
    pub bytes: &'b [u8],
    /// Whether it is all.
    pub is_whole: bool,
}

impl ApiSchema {
    /// Reads a document, for an intention in whose `spec.api.schema` it stands.
    pub(crate) fn read(document: &Json, faults: &Faults) -> Option<Self> {
        document::read(document, faults)
    }

    /// How many paths and operations it has.
    pub fn size(&self) -> (usize, usize) {
        (self.routes.len(), self.operations.len())
    }

    fn check(
        &self,
        request: &Request<'_>,
        work: &mut Work,
    ) -> Result<(&Operation, Duty), (Reason, String, String)> {
        let path = request.path();
        let undeclared = || {
            let told = format!("no path of the schema is {}", shown(path));
            (Reason::UndeclaredPath, told, String::new())
        };
        let below = path.strip_prefix(&*self.base).filter(|rest| rest.starts_with('/'));
        let (number, values) =
            below.and_then(|path| self.routes.find(path)).ok_or_else(undeclared)?;
        let item = self.paths.get(number).ok_or_else(undeclared)?;
        let written = self.routes.written(number);
        let method = item.methods.iter().find(|(method, _)| *method == request.method());
        let operation = method.and_then(|(_, number)| self.operations.get(*number));
        let Some(operation) = operation else {
            let known: Vec<&str> = item.methods.iter().map(|(method, _)| *method).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let told =
                format!("{} is no method of `{written}`, which has {known}", request.method());
            return Err((Reason::UndeclaredMethod, told, written.to_owned()));
        };
        let of_path: Vec<(&str, &str)> = item.names.iter().map(|it| &**it).zip(values).collect();
        let label = || operation.label.to_string();
        Parameter::check_all(&operation.parameters, &self.schemas, &of_path, request, work)
            .map_err(|told| (Reason::BadParameter, told, label()))?;
        let duty = match &operation.body {
            None => Ok(Duty::Empty("no body is declared".to_owned())),
            Some(bodies) => bodies.duty(request),
        };
        Ok((operation, duty.map_err(|told| (Reason::BadBody, told, label()))?))
    }
}

impl Api {
    /// Reads what stands in `api`.
    pub(crate) fn read(
        fields: &mut Fields<'_>,
        intention: &str,
        mode: IntentionMode,
        destination: Option<&Destination>,
        faults: &Faults,
    ) -> Option<Arc<Self>> {
        let value = fields.value("api")?;
        if destination.is_some_and(|it| it.ports.is_empty()) {
            let told = "a schema is for certain ports: name them in `destination.ports`";
            fields.wrong("api", told);
        }
        let mut fields = Fields::of(value, &fields.at("api"), faults)?;
        let modes = [("enforce", IntentionMode::Enforce), ("shadow", IntentionMode::Shadow)];
        let own = fields.word("mode", &modes).unwrap_or_default();
        let mode = if own == IntentionMode::Shadow { own } else { mode };
        let body_max = fields.value("maxBodyBytes").map_or(Some(BODY_MAX), Json::as_u64);
        let body_max = body_max.filter(|bytes| (1..=BODY_MOST).contains(bytes));
        if body_max.is_none() {
            fields.wrong("maxBodyBytes", format!("it is no whole number from 1 to {BODY_MOST}"));
        }
        let document = fields.value("schema");
        if document.is_none() {
            fields.wrong("schema", "it is missing: put a document of OpenAPI 3.1 here");
        }
        fields.finish();
        let schema = ApiSchema::read(document?, faults)?;
        let body_max = usize::try_from(body_max?).ok()?;
        Some(Arc::new(Self { intention: intention.into(), mode, body_max, schema }))
    }

    /// Whether it decides.
    pub fn mode(&self) -> IntentionMode {
        self.mode
    }

    /// The document.
    pub fn schema(&self) -> &ApiSchema {
        &self.schema
    }

    fn undeclared(&self, reason: Reason, told: String, operation: &str) -> Undeclared {
        let rule = match operation {
            "" => format!("Intention {} api", self.intention),
            operation => format!("Intention {} api, {operation}", self.intention),
        };
        Undeclared { reason, told, rule }
    }

    /// Asks about a request without its body; what is left to ask about that.
    pub(crate) fn check(
        self: &Arc<Self>,
        request: &Request<'_>,
        work: &mut Work,
    ) -> Result<BodyCheck, Undeclared> {
        match self.schema.check(request, work) {
            Ok((operation, duty)) => {
                Ok(BodyCheck { api: Arc::clone(self), operation: operation.label.clone(), duty })
            }
            Err((reason, told, operation)) => Err(self.undeclared(reason, told, &operation)),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intention {} api", self.intention)?;
        match self.mode {
            IntentionMode::Enforce => Ok(()),
            IntentionMode::Shadow => f.write_str(", in shadow"),
        }
    }
}

/// What is to be asked about a body.
#[derive(Debug, Clone)]
pub(crate) struct BodyCheck {
    api: Arc<Api>,
    operation: Box<str>,
    duty: Duty,
}

impl BodyCheck {
    fn asks(&self) -> bool {
        self.duty != Duty::Pass
    }

    /// How many bytes it wants to see.
    fn wants(&self) -> usize {
        match self.duty {
            Duty::Pass | Duty::Empty(_) | Duty::Present => 0,
            Duty::Json { .. } => self.api.body_max,
        }
    }

    fn check(
        &self,
        held: Held<'_>,
        read: &mut Option<Result<value::Body, String>>,
        work: &mut Work,
    ) -> Result<(), Undeclared> {
        let wrong = |reason, told| Err(self.api.undeclared(reason, told, &self.operation));
        let is_empty = held.bytes.is_empty() && held.is_whole;
        match &self.duty {
            Duty::Pass => Ok(()),
            Duty::Present if is_empty => wrong(Reason::BadBody, "its body is missing".to_owned()),
            Duty::Present => Ok(()),
            Duty::Empty(_) if is_empty => Ok(()),
            Duty::Empty(told) => wrong(Reason::BadBody, format!("it has a body, and {told}")),
            Duty::Json { .. } if !held.is_whole || held.bytes.len() > self.api.body_max => {
                let told = format!("its body is longer than {} bytes", self.api.body_max);
                wrong(Reason::BodyTooLarge, told)
            }
            Duty::Json { is_required: false, .. } if is_empty => Ok(()),
            Duty::Json { .. } if is_empty => {
                wrong(Reason::BadBody, "its body is missing".to_owned())
            }
            Duty::Json { schema, .. } => {
                let body = match read.get_or_insert_with(|| value::read(held.bytes)) {
                    Ok(body) => body,
                    Err(told) => {
                        return wrong(Reason::BadBody, format!("its body cannot be used: {told}"));
                    }
                };
                let schemas = &self.api.schema.schemas;
                // What two programs read as two numbers must be right as both.
                let readings = [Some(&body.value), body.rounded.as_ref()];
                readings.into_iter().flatten().try_for_each(|value| {
                    schemas.check(*schema, value, work).or_else(|unfit| match unfit {
                        Unfit::Wrong(told) => wrong(
                            Reason::BadBody,
                            format!("its body is not as the schema says: {told}"),
                        ),
                        Unfit::Costly => {
                            let told = "its body takes too many steps to check";
                            wrong(Reason::BadBody, told.to_owned())
                        }
                    })
                })
            }
        }
    }
}

/// What is to be asked about the body of a request before it may go on.
#[derive(Debug, Clone, Default)]
pub struct BodyChecks {
    pub(crate) enforced: Vec<BodyCheck>,
    pub(crate) shadow: Vec<BodyCheck>,
    /// What may be done beside what was done for the head.
    pub(crate) rest: Rest,
}

/// What came of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct BodyJudged {
    /// Why it may not be.
    pub enforced: Option<Undeclared>,
    /// Why it would not be, by schemas that are only watched.
    pub shadow: Option<Undeclared>,
}

impl BodyChecks {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        !self.enforced.iter().chain(&self.shadow).any(BodyCheck::asks)
    }

    /// Whether schemas that decide ask something.
    pub fn decides(&self) -> bool {
        self.enforced.iter().any(BodyCheck::asks)
    }

    /// How many bytes are to be seen, and whether more follow.
    pub fn wants(&self) -> usize {
        self.enforced.iter().chain(&self.shadow).map(BodyCheck::wants).max().unwrap_or(0)
    }

    /// Asks, where nobody waits for whoever asks: that may take a million steps.
    pub fn judge(&self, held: Held<'_>) -> BodyJudged {
        self.judge_by(held, &mut self.rest.all())
    }

    /// Asks, where that is done in no time; none where it is not.
    pub fn judge_at_once(&self, held: Held<'_>) -> Option<BodyJudged> {
        let mut work = self.rest.at_once();
        let judged = self.judge_by(held, &mut work);
        (!work.is_spent()).then_some(judged)
    }

    fn judge_by(&self, held: Held<'_>, work: &mut Work) -> BodyJudged {
        let mut read = None;
        let mut first = |checks: &[BodyCheck]| {
            checks.iter().find_map(|check| check.check(held, &mut read, work).err())
        };
        BodyJudged { enforced: first(&self.enforced), shadow: first(&self.shadow) }
    }
}

#[cfg(test)]
mod tests;
