//! What is known of a cluster from files: namespaces, parameters, roles and bindings, definitions of kinds.
//!
//! An evaluation asks a [`State`] for facts. What the state does not hold is no fact: it is told as lacking, unless the
//! state says that it holds every object of a kind ([`HOLDS`]).

mod autoscaling;
mod definitions;
mod known;
mod request;
pub(crate) mod rules;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nullius_model::{API_VERSION, Timestamp};
use nullius_policy::admission_policy::{
    Decision, Detail, Evaluation, ExpressionWarning, Facts, Fault, Kind, Need, ParamQuery, Pick,
    PolicySet, PolicyTrace, ROUNDS, Request, Resource, Selector, evaluate_excepting,
};
use nullius_policy::exception::{Exception, KIND as EXCEPTION};
use serde_json::Value as Json;

pub(crate) use known::Known;
pub use request::{NotSendable, Person, request_of};
pub(crate) use request::{creation, user};

use definitions::Definitions;
use rules::Rules;

/// The kind of the document in which a state says what it holds completely.
pub const HOLDS: &str = "RecordedState";

/// A recorded state.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By kind, then by namespace and name.
    objects: BTreeMap<Kind, BTreeMap<(String, String), Json>>,
    /// Kinds of which every object is here.
    complete: BTreeSet<Kind>,
    /// Parts of kinds of which every object is here.
    held: Vec<Held>,
    definitions: Definitions,
    rules: Rules,
    exceptions: Vec<Exception>,
    /// When exceptions are asked; without it there are none.
    now: Option<Timestamp>,
}

/// A part of a kind of which every object is here.
#[derive(Debug, Clone)]
struct Held {
    kind: Kind,
    /// In this namespace; none means in all.
    namespace: Option<String>,
    /// Of this name; none means of all.
    name: Option<String>,
    /// With these labels; none means with all.
    selector: Option<Selector>,
}

/// An object that cannot be part of a state, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(pub String);

/// Facts that a state does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state does not say {}", .0.iter().map(|lack| lack.what.as_str()).collect::<Vec<_>>().join("; "))]
pub struct Lacking(pub Vec<Lack>);

/// A fact that a state does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The fact.
    pub what: String,
    /// What to add.
    pub next: String,
}

/// What becomes of facts that the state does not hold.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// They are lacking: nothing is decided.
    Lacks,
    /// They may stand in what was not read yet: what the state does not hold is lacking, also where it says that it holds all.
    Later,
    /// Parameters are taken for absent, and told.
    Assumed {
        /// The parameters.
        absent: Vec<Lack>,
    },
}

impl Unknown {
    /// Whether nothing more will be known.
    fn is_final(&self) -> bool {
        match self {
            Self::Lacks | Self::Assumed { .. } => true,
            Self::Later => false,
        }
    }
}

/// Namespaces by name; `None` for one that is not there.
type Namespaces = BTreeMap<String, Option<Arc<Json>>>;

/// Where the objects of a kind are, and whether they have namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The resource.
    pub resource: Resource,
    /// Whether its objects have namespaces.
    pub is_namespaced: bool,
}

impl State {
    /// A state that takes exceptions too; they are asked at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now: Some(now), ..Self::default() }
    }

    /// When exceptions are asked.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        self.now
    }

    /// The exceptions that hold.
    #[must_use]
    pub fn exceptions(&self) -> Vec<&Exception> {
        let holds = |each: &&Exception| self.now.is_some_and(|now| each.holds_at(now));
        self.exceptions.iter().filter(holds).collect()
    }

    /// The exceptions that have ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(|each| self.now.is_some_and(|now| !each.holds_at(now)))
    }

    /// Takes an object.
    ///
    /// # Errors
    ///
    /// Says what is wrong with a role, a binding, a definition, an exception, or with what the state says of itself; and of
    /// an object of which the state says something else already.
    pub fn add(&mut self, object: &Json) -> Result<(), NotTaken> {
        let text = |field: &str| object.get(field).and_then(Json::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version == API_VERSION && kind == HOLDS {
            return self.declare(object);
        }
        if api_version == API_VERSION && kind == EXCEPTION {
            return self.except(object).map_err(|faults| {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                NotTaken(format!("{EXCEPTION}: {}", faults.join("; ")))
            });
        }
        let kind = Kind::new(api_version, kind);
        let key = key_of(object);
        if self.object(&kind, &key).is_some_and(|other| other != object && !key.1.is_empty()) {
            let called = called(&kind, &key);
            return Err(NotTaken(format!(
                "{called} stands twice, and differently; leave one of them"
            )));
        }
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("rbac.authorization.k8s.io", _) => self.rules.add(&kind.kind, object)?,
            ("apiextensions.k8s.io", "CustomResourceDefinition") => self.definitions.add(object)?,
            _ => {}
        }
        self.objects.entry(kind).or_default().insert(key, object.clone());
        Ok(())
    }

    /// An object by its namespace and name.
    pub(crate) fn object(&self, kind: &Kind, key: &(String, String)) -> Option<&Json> {
        self.objects.get(kind)?.get(key)
    }

    /// Takes an object that somebody proposes: no right and no word on the state itself comes of it.
    pub(crate) fn adopt(&mut self, kind: Kind, object: Json) -> Result<(), NotTaken> {
        if kind == definition() {
            self.definitions.add(&object)?;
        }
        self.objects.entry(kind).or_default().insert(key_of(&object), object);
        Ok(())
    }

    /// Whether any version of a kind of a group is defined here.
    pub(crate) fn defines(&self, group: &str, kind: &str) -> bool {
        self.definitions.knows_any(group, kind)
    }

    /// Where the objects of a kind are; `None` for a kind that is neither Kubernetes' own nor defined in the state.
    #[must_use]
    pub fn place(&self, kind: &Kind) -> Option<Place> {
        known::builtin(kind).or_else(|| self.definitions.place(kind))
    }

    /// Judges a request by policies and what the state holds.
    ///
    /// # Errors
    ///
    /// The facts that the evaluation asks for and the state lacks.
    pub fn judge(&self, set: &PolicySet, request: &Request) -> Result<Decision, Lacking> {
        let mut decision = self.decide(set, request, &mut Unknown::Lacks, Detail::Values)?;
        decision.trace.extend(self.passed_over(set, request));
        Ok(decision)
    }

    /// The policies that are not for a request at all, and why.
    pub(crate) fn passed_over(&self, set: &PolicySet, request: &Request) -> Vec<PolicyTrace> {
        set.passed_over(request, &self.known())
    }

    /// Judges a request; the trace names the policies that were looked at.
    pub(crate) fn decide(
        &self,
        set: &PolicySet,
        request: &Request,
        unknown: &mut Unknown,
        detail: Detail,
    ) -> Result<Decision, Lacking> {
        let known = Known { is_complete: unknown.is_final() && self.is_defined(), ..self.known() };
        let authorizer = self.rules.of(&request.user, &self.complete);
        let mut facts = Facts {
            namespaces: self.namespace(&request.namespace, unknown)?,
            params: BTreeMap::new(),
            authorizer: &authorizer,
            kinds: &known,
            interrupt: None,
            detail,
        };
        let exceptions = self.exceptions();
        let mut asked = BTreeSet::new();
        for _ in 0..ROUNDS {
            let needs = match evaluate_excepting(set, request, &facts, &exceptions) {
                Evaluation::Decided(decision) => return Ok(*decision),
                Evaluation::Needs(needs) => needs,
            };
            // A round that asks for nothing new would be followed by the same.
            if needs.iter().all(|need| asked.contains(need)) {
                break;
            }
            let answer = |need| self.answer(need, &mut facts, unknown).err();
            let lacks: Vec<Lack> = needs.iter().filter_map(answer).collect();
            if !lacks.is_empty() {
                return Err(Lacking(lacks));
            }
            asked.extend(needs);
        }
        let told = |need: &Need| Lack {
            what: need.to_string(),
            next: format!(
                "policies ask for facts more than {ROUNDS} times; ask for less in one policy"
            ),
        };
        Err(Lacking(asked.iter().map(told).collect()))
    }

    /// Takes an exception.
    pub(crate) fn except(&mut self, object: &Json) -> Result<(), Vec<Fault>> {
        let untimed = || Fault {
            field: String::new(),
            message: "exceptions end, and here it is not known what time it is".to_owned(),
        };
        let exception = Exception::read(object, self.now.ok_or_else(|| vec![untimed()])?)?;
        match self.exceptions.iter().find(|other| other.name() == exception.name()) {
            None => self.exceptions.push(exception),
            Some(other) if *other == exception => {}
            Some(_) => {
                let message = "it stands twice, and differently; leave one of them".to_owned();
                return Err(vec![Fault { field: "metadata.name".to_owned(), message }]);
            }
        }
        Ok(())
    }

    fn declare(&mut self, object: &Json) -> Result<(), NotTaken> {
        let wrong = |told: &str| NotTaken(format!("`{HOLDS}`: {told}"));
        let holds = object.get("holds").and_then(Json::as_array);
        let holds = holds.ok_or_else(|| wrong("it needs `holds`, a list of kinds"))?;
        for (index, entry) in holds.iter().enumerate() {
            let text = |field: &str| entry.get(field).and_then(Json::as_str);
            let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
                return Err(wrong(&format!("holds[{index}] needs `apiVersion` and `kind`")));
            };
            let known = ["apiVersion", "kind", "namespace", "name", "selector"];
            let fields = entry.as_object().into_iter().flatten().map(|(field, _)| field);
            if let Some(unknown) = fields.into_iter().find(|field| !known.contains(&field.as_str()))
            {
                return Err(wrong(&format!(
                    "holds[{index}].{unknown}: unknown field; known here are `{}`",
                    known.join("`, `")
                )));
            }
            let kind = Kind::new(api_version, kind);
            if known[2..].iter().all(|field| entry.get(field).is_none()) {
                self.complete.insert(kind);
                continue;
            }
            let selector = entry.get("selector").map(|selector| {
                let told = |told| wrong(&format!("holds[{index}].selector: {told}"));
                Selector::of(selector).map_err(told)
            });
            self.held.push(Held {
                kind,
                namespace: text("namespace").map(str::to_owned),
                name: text("name").map(str::to_owned),
                selector: selector.transpose()?,
            });
        }
        Ok(())
    }

    /// Whether every object that somebody may mean is here.
    fn holds(&self, kind: &Kind, namespace: &str, pick: &Pick) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let covers = |held: &&Held| {
            held.kind == *kind
                && is(&held.namespace, namespace)
                && match pick {
                    Pick::Named(name) => is(&held.name, name) && held.selector.is_none(),
                    Pick::Selected(selector) => {
                        let same = held.selector.as_ref().is_none_or(|held| held == selector);
                        held.name.is_none() && same
                    }
                }
        };
        self.complete.contains(kind) || self.held.iter().any(|held| covers(&held))
    }

    /// Whether a label selector selects an object; one that is none selects nothing.
    pub(crate) fn selects(selector: &Json, object: &Json) -> bool {
        Selector::of(selector).is_ok_and(|selector| selects(&selector, object))
    }

    /// What the API server says of policies' expressions when it checks them against Kubernetes' own kinds.
    #[must_use]
    pub fn type_warnings(&self, set: &PolicySet) -> Vec<ExpressionWarning> {
        set.type_warnings(&self.known())
    }

    /// The kinds of a cluster that defines these and no others beside Kubernetes' own.
    pub(crate) fn of_definitions<'a>(
        all: impl IntoIterator<Item = &'a Json>,
    ) -> (Self, Vec<NotTaken>) {
        let mut state = Self::default();
        let wrong = all.into_iter().filter_map(|object| state.definitions.add(object).err());
        let wrong = wrong.collect();
        state.complete.insert(definition());
        (state, wrong)
    }

    /// The parameters of a query that are here, whatever else there may be.
    pub(crate) fn found(&self, query: &ParamQuery) -> Vec<Json> {
        let objects = self.objects.get(&query.kind).into_iter().flatten();
        let objects = objects.map(|(_, object)| object);
        objects.filter(|object| picks(query, object)).cloned().collect()
    }

    /// The labels of a namespace; none where it does not exist.
    pub(crate) fn labels_of_namespace(&self, name: &str) -> Result<BTreeMap<String, String>, Lack> {
        let need = Need::Namespace(name.to_owned());
        let found = self.one(&Kind::new("v1", "Namespace"), "", name, &need, &Unknown::Lacks)?;
        let labels = found.as_ref().and_then(|found| found.pointer("/metadata/labels"));
        let labels = labels.and_then(Json::as_object).into_iter().flatten();
        Ok(labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect())
    }

    /// The pods of a namespace.
    pub(crate) fn pods_of(&self, namespace: &str) -> Result<Vec<&Json>, Lack> {
        let kind = Kind::new("v1", "Pod");
        if !self.complete.contains(&kind) {
            let what = format!("which pods stand in the namespace `{namespace}`");
            let next =
                format!("add them, and say that the state holds every `Pod`: {}", holds([kind]));
            return Err(Lack { what, next });
        }
        let pods = self.objects.get(&kind).into_iter().flatten();
        Ok(pods.filter(|((within, _), _)| within == namespace).map(|(_, pod)| pod).collect())
    }

    pub(crate) fn known(&self) -> Known<'_> {
        Known { definitions: &self.definitions, is_complete: self.is_defined() }
    }

    /// Whether the state holds every definition.
    fn is_defined(&self) -> bool {
        self.complete.contains(&definition())
    }

    /// What is known of a namespace before anybody asks. That one is absent refuses also what no policy asks it for, so it has to be
    /// told, or waited for where it may still come.
    fn namespace(&self, name: &str, unknown: &Unknown) -> Result<Namespaces, Lacking> {
        let kind = Kind::new("v1", "Namespace");
        let is_said = self.object(&kind, &(String::new(), name.to_owned())).is_some()
            || self.holds(&kind, "", &Pick::Named(name.to_owned()));
        if name.is_empty() || !is_said {
            return Ok(Namespaces::new());
        }
        let need = Need::Namespace(name.to_owned());
        let found =
            self.one(&kind, "", name, &need, unknown).map_err(|lack| Lacking(vec![lack]))?;
        Ok(Namespaces::from([(name.to_owned(), found.map(Arc::new))]))
    }

    fn answer(
        &self,
        need: &Need,
        facts: &mut Facts<'_>,
        unknown: &mut Unknown,
    ) -> Result<(), Lack> {
        match need {
            Need::Namespace(name) => {
                let kind = Kind::new("v1", "Namespace");
                let found = self.one(&kind, "", name, need, unknown)?;
                facts.namespaces.insert(name.clone(), found.map(Arc::new));
            }
            Need::Params(query) => {
                let found = match (self.params(query, need, unknown), unknown) {
                    (Err(lack), Unknown::Assumed { absent, .. }) => {
                        absent.push(lack);
                        Vec::new()
                    }
                    (found, _) => found?,
                };
                facts.params.insert(query.clone(), found);
            }
            Need::Kind(kind) => {
                let next = format!(
                    "add the `CustomResourceDefinition` of `{}` to the state; if the cluster does not have it, say that the \
                     state holds them all: {}",
                    kind.kind,
                    holds([definition()])
                );
                return Err(Lack { what: need.to_string(), next });
            }
            Need::Access(_) => {
                let next = format!(
                    "add the cluster's roles and bindings to the state, and say that they are all there: {}",
                    holds(rules::KINDS.map(|kind| Kind::new(rules::API_VERSION, kind)))
                );
                return Err(Lack { what: need.to_string(), next });
            }
            Need::Shape(kind) => {
                let next =
                    format!("add the `CustomResourceDefinition` of `{}` to the state", kind.kind);
                return Err(Lack { what: need.to_string(), next });
            }
            Need::Conversion(kind) => {
                let next = format!(
                    "write the object as `{}`: only an API server converts it",
                    kind.api_version()
                );
                return Err(Lack { what: need.to_string(), next });
            }
        }
        Ok(())
    }

    /// An object by its name; `None` when the state holds all of the kind and it is not among them.
    fn one(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        need: &Need,
        unknown: &Unknown,
    ) -> Result<Option<Json>, Lack> {
        let key = (namespace.to_owned(), name.to_owned());
        let found = self.objects.get(kind).and_then(|objects| objects.get(&key));
        let pick = Pick::Named(name.to_owned());
        if found.is_none() && !(unknown.is_final() && self.holds(kind, namespace, &pick)) {
            let next = format!(
                "add it to the state; if the cluster does not have it, say that the state holds every `{}`: {}",
                kind.kind,
                holds([kind.clone()])
            );
            return Err(Lack { what: need.to_string(), next });
        }
        Ok(found.cloned())
    }

    fn params(
        &self,
        query: &ParamQuery,
        need: &Need,
        unknown: &Unknown,
    ) -> Result<Vec<Json>, Lack> {
        let ParamQuery { kind, namespace, pick } = query;
        let namespace = namespace.as_deref().unwrap_or_default();
        match pick {
            Pick::Named(name) => {
                Ok(self.one(kind, namespace, name, need, unknown)?.into_iter().collect())
            }
            Pick::Selected(_) if !(unknown.is_final() && self.holds(kind, namespace, pick)) => {
                let next = format!(
                    "add them to the state, and say that it holds every `{}`: {}",
                    kind.kind,
                    holds([kind.clone()])
                );
                Err(Lack { what: need.to_string(), next })
            }
            Pick::Selected(_) => Ok(self.found(query)),
        }
    }
}

/// Namespace and name.
pub(crate) fn key_of(object: &Json) -> (String, String) {
    let metadata = |field: &str| {
        let value = object.pointer(&format!("/metadata/{field}")).and_then(Json::as_str);
        value.unwrap_or_default().to_owned()
    };
    (metadata("namespace"), metadata("name"))
}

/// An object in a sentence.
pub(crate) fn called(kind: &Kind, (namespace, name): &(String, String)) -> String {
    match namespace.as_str() {
        "" => format!("the {} `{name}`", kind.kind),
        namespace => format!("the {} `{name}` of the namespace `{namespace}`", kind.kind),
    }
}

/// The kind of definitions.
pub(crate) fn definition() -> Kind {
    Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition")
}

/// Whether a query of parameters is for an object of its kind.
#[must_use]
pub fn picks(query: &ParamQuery, object: &Json) -> bool {
    let text = |field: &str| {
        let value = object.get("metadata").and_then(|metadata| metadata.get(field));
        value.and_then(Json::as_str).unwrap_or_default()
    };
    text("namespace") == query.namespace.as_deref().unwrap_or_default()
        && match &query.pick {
            Pick::Named(wanted) => text("name") == wanted,
            Pick::Selected(selector) => selects(selector, object),
        }
}

fn selects(selector: &Selector, object: &Json) -> bool {
    let labels = object.pointer("/metadata/labels").and_then(Json::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    selector.matches(&labels.collect())
}

/// The document with which a state says that it holds every object of kinds.
fn holds(kinds: impl IntoIterator<Item = Kind>) -> String {
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|kind| format!("{{apiVersion: {}, kind: {}}}", kind.api_version(), kind.kind))
        .collect();
    format!("`{{apiVersion: {API_VERSION}, kind: {HOLDS}, holds: [{}]}}`", kinds.join(", "))
}
