//! What an evaluation must know beside policies and request, and what it asks for when it does not.
//!
//! Nothing is fetched here and nothing unknown counts as absent: an evaluation that lacks a fact ends with the question.

use std::{collections::BTreeMap, fmt, sync::Arc};

use nullius_cel::authz::{AccessCheck, Authorizer, Verdict};
use serde_json::Value as Json;

use super::{
    policy::Pick,
    request::{Kind, Resource},
    shape::Schemas,
};

/// What is known. `None` means that the cluster does not have it.
#[derive(Clone)]
pub struct Facts<'a> {
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Option<Arc<Json>>>,
    /// Parameters by what was asked; empty when there are none.
    pub params: BTreeMap<ParamQuery, Vec<Json>>,
    /// What somebody may do.
    pub authorizer: &'a dyn Authorizer,
    /// Kinds and their forms.
    pub kinds: &'a dyn Kinds,
    /// Says when to stop: the shell looks at its clock.
    pub interrupt: Option<&'a dyn Fn() -> bool>,
    /// How much the trace says.
    pub detail: Detail,
}

/// How much a trace says of what expressions yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Which policies and bindings were for the request; nothing of their expressions.
    Policies,
    /// What is true or false, and text: what came of validations, messages and audit annotations.
    #[default]
    Outcomes,
    /// Every value, cut where it is long.
    Values,
}

/// Parameters that a binding refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamQuery {
    /// Their kind.
    pub kind: Kind,
    /// Their namespace; `None` for a kind without.
    pub namespace: Option<String>,
    /// Which ones.
    pub pick: Pick,
}

/// Where the parameters of bindings are, whatever is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParamSource {
    /// Their kind.
    pub kind: Kind,
    /// Their namespace; `None` for that of the request, or for a kind without.
    pub namespace: Option<String>,
    /// Which ones.
    pub pick: Pick,
}

impl ParamSource {
    /// Whether what a query asks for is here.
    #[must_use]
    pub fn holds(&self, query: &ParamQuery) -> bool {
        self.kind == query.kind
            && self.pick == query.pick
            && (self.namespace.is_none() || self.namespace == query.namespace)
    }
}

/// A fact that an evaluation lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A namespace.
    Namespace(String),
    /// Whether a kind exists, and whether it has namespaces.
    Kind(Kind),
    /// Parameters.
    Params(ParamQuery),
    /// Whether somebody may do something.
    Access(AccessCheck),
    /// How the fields of a kind are merged.
    Shape(Kind),
    /// The object of the request in another version.
    Conversion(Kind),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "the namespace `{name}`"),
            Self::Kind(kind) => write!(f, "whether the kind `{kind}` exists"),
            Self::Params(ParamQuery { kind, namespace, pick }) => {
                match pick {
                    Pick::Named(name) => write!(f, "the `{kind}` `{name}`")?,
                    Pick::Selected(selector) if selector.is_empty() => write!(f, "every `{kind}`")?,
                    Pick::Selected(selector) => write!(f, "every `{kind}` with `{selector}`")?,
                }
                match namespace {
                    Some(namespace) => write!(f, " in the namespace `{namespace}`"),
                    None => Ok(()),
                }
            }
            Self::Access(check) => write!(f, "whether {check} is allowed"),
            Self::Shape(kind) => write!(f, "how fields of `{kind}` are merged"),
            Self::Conversion(kind) => write!(f, "the object as `{kind}`"),
        }
    }
}

/// Whether a kind exists and has namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// It exists, each object in a namespace.
    Namespaced,
    /// It exists, for the whole cluster.
    Cluster,
    /// The cluster has no such kind.
    Absent,
    /// It is not known.
    Unknown,
}

/// Another version of a resource that is the same objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Equivalent {
    /// The resource.
    pub resource: Resource,
    /// The kind of its objects.
    pub kind: Kind,
}

/// What is known of kinds: a pure table that the shell fills.
pub trait Kinds {
    /// Whether a kind exists.
    fn existence(&self, kind: &Kind) -> Existence;

    /// Other versions and groups that serve the same objects, with this subresource.
    fn equivalents(&self, resource: &Resource, subresource: &str) -> Vec<Equivalent>;

    /// An object in another version; `None` when it is not known how.
    fn converted(&self, object: &Json, to: &Kind) -> Option<Json>;

    /// The schemas that have a kind; `None` when they are not known.
    fn schemas(&self, kind: &Kind) -> Option<&Schemas>;

    /// An object that a mutation made, as the API server decodes and defaults it.
    ///
    /// # Errors
    ///
    /// Says which field the kind does not have.
    fn normalized(&self, object: Json, kind: &Kind) -> Result<Json, String>;
}

/// Answers of an authorizer that were fetched before.
#[derive(Debug, Clone, Default)]
pub struct Answers(pub BTreeMap<AccessCheck, Verdict>);

impl Authorizer for Answers {
    fn answer(&self, check: &AccessCheck) -> Option<Verdict> {
        self.0.get(check).cloned()
    }
}
