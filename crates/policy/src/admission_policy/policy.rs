//! Policies and bindings as they are evaluated: checked, compiled, with nothing left open.

use std::sync::Arc;

use nullius_cel::Program;

use super::{programs::Shared, request::Kind, selector::Selector};

/// What the API server does when a policy cannot be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailurePolicy {
    Fail,
    Ignore,
}

/// A policy with rules of its kind.
#[derive(Debug)]
pub(super) struct Policy<R> {
    pub(super) name: String,
    pub(super) failure: FailurePolicy,
    pub(super) param_kind: Option<Kind>,
    pub(super) constraints: Constraints,
    pub(super) conditions: Vec<Named>,
    pub(super) variables: Vec<Named>,
    /// Whether an expression may look at the namespace.
    pub(super) sees_namespaces: bool,
    pub(super) rules: R,
}

/// The rules of a policy that validates.
#[derive(Debug)]
pub(super) struct Validating {
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Named>,
}

/// The rules of a policy that mutates.
#[derive(Debug)]
pub(super) struct Mutating {
    pub(super) mutations: Vec<Mutation>,
    pub(super) reinvocation: Reinvocation,
}

/// The rules of a policy of either kind.
pub(super) trait Rules {
    /// Every expression of them.
    fn expressions(&self) -> impl Iterator<Item = &Expression>;
}

/// Whether an expression may look at the namespace, of those outside of the rules and of these.
pub(super) fn sees_namespaces(named: &[Named], rules: &impl Rules) -> bool {
    let named = named.iter().map(|named| &named.expression);
    named.chain(rules.expressions()).any(|each| each.names("namespaceObject"))
}

impl Rules for Validating {
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let told = self.validations.iter().filter_map(|each| each.message_expression.as_ref());
        let annotations = self.annotations.iter().map(|each| &each.expression);
        self.validations.iter().map(|each| &each.expression).chain(told).chain(annotations)
    }
}

impl Rules for Mutating {
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.mutations.iter().map(|each| &each.expression)
    }
}

/// Whether a policy that was applied is applied again when a later one changed the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reinvocation {
    Never,
    IfNeeded,
}

/// An expression under a name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) expression: Expression,
}

/// An expression, compiled.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) source: Arc<str>,
    pub(super) program: Arc<Program>,
}

impl Expression {
    /// What stands in `source`, of which the program is compiled without the space around it.
    pub(super) fn new(source: &str, shared: Shared) -> Self {
        let Shared { source: compiled, program } = shared;
        let source = if *compiled == *source { compiled } else { Arc::from(source) };
        Self { source, program }
    }

    /// Whether a word stands in it; in a text too, which is no harm.
    pub(super) fn names(&self, word: &str) -> bool {
        self.source.contains(word)
    }
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) form: PatchForm,
    pub(super) expression: Expression,
}

/// How a mutation says what changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchForm {
    JsonPatch,
    ApplyConfiguration,
}

/// Which requests something is about.
#[derive(Debug)]
pub(super) struct Constraints {
    pub(super) namespaces: Selector,
    pub(super) objects: Selector,
    pub(super) rules: Vec<Rule>,
    pub(super) excluded: Vec<Rule>,
    pub(super) versions: MatchPolicy,
}

/// Whether a rule for one version of a resource is for its other versions too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatchPolicy {
    Exact,
    Equivalent,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) operations: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) scope: RuleScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleScope {
    All,
    Cluster,
    Namespaced,
}

/// Where a policy holds, with which parameters.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) params: Option<ParamRef>,
    pub(super) constraints: Option<Constraints>,
    /// What comes of a failed validation; none for a binding of a policy that mutates.
    pub(super) actions: Vec<Action>,
}

/// What comes of a failed validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The request is refused.
    Deny,
    /// The person is warned.
    Warn,
    /// The audit is told.
    Audit,
}

impl Action {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) namespace: String,
    pub(super) pick: Pick,
    pub(super) not_found: NotFound,
}

/// Which parameters a binding takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pick {
    /// The one of a name.
    Named(String),
    /// All that a selector selects, each in a run of its own.
    Selected(Selector),
}

/// What is done where no parameter is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFound {
    Allow,
    Deny,
}
