//! What expressions of policies may name: the variables, the types of `request` and `namespaceObject`, and the types of
//! a policy's own variables as they are found.

use nullius_cel::{CompileError, Env, Type, Version, authz, object::Objects};

use super::programs::{Programs, Scope, Shared};

pub(super) const VARIABLES: &str = "kubernetes.variables";

/// The environments of one policy, which grow with its variables.
#[derive(Debug)]
pub(super) struct Environment {
    version: Version,
    params: Params,
    /// Whether there are variables at all: without, a policy that validates cannot name them.
    composed: bool,
    variables: Vec<(String, Type)>,
    typed: Option<Typed>,
}

/// What objects and parameters are, where expressions are checked against one kind.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) object: Type,
    pub(super) params: Type,
    pub(super) objects: Objects,
}

/// Whether a policy takes parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Params {
    Some,
    None,
}

/// What an expression may name beside the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// The authorizer, but no variables: match conditions.
    Conditions,
    /// Authorizer and variables.
    Rules,
    /// Variables, no authorizer: message expressions.
    Messages,
    /// Authorizer, variables, and what mutations construct.
    Mutations,
}

impl Environment {
    /// For a policy with or without parameters.
    pub(super) fn new(version: Version, params: Params) -> Self {
        Self { version, params, composed: false, variables: Vec::new(), typed: None }
    }

    /// The same for objects of one kind: it warns, and decides nothing.
    pub(super) fn of_kind(version: Version, params: Params, typed: Typed) -> Self {
        Self { composed: true, typed: Some(typed), ..Self::new(version, params) }
    }

    /// What is wrong with an expression, as the API server tells it, and what it yields.
    pub(super) fn check(&self, source: &str) -> Result<Type, String> {
        let checked = self.env(Reach::Rules).compile(source);
        checked.map(|program| program.result_type().clone()).map_err(listed)
    }

    /// Makes `variables` known, though there is none in it yet.
    pub(super) fn compose(&mut self) {
        self.composed = true;
    }

    /// Makes a variable known to the expressions after it.
    pub(super) fn add_variable(&mut self, name: &str, of: Option<&Type>) {
        let of = of.map_or(Type::Dyn, as_field);
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), of));
    }

    /// Checks an expression; the error is the API server's text.
    pub(super) fn compile(
        &self,
        programs: &Programs,
        source: &str,
        reach: Reach,
        results: &[Type],
    ) -> Result<Shared, String> {
        let compile = || self.env(reach).compile(source).map_err(told);
        let shared = programs.of(self.scope(reach), source, compile)?;
        let found = shared.program.result_type();
        if results.is_empty() || results.contains(found) {
            return Ok(shared);
        }
        let names: Vec<String> = results.iter().map(Type::declared_name).collect();
        let found = found.declared_name();
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            more => format!("must evaluate to one of [{}] but got {found}", more.join(" ")),
        })
    }

    /// All that an expression of a policy depends on: objects of one kind are only checked, and of that nothing is kept.
    fn scope(&self, reach: Reach) -> Scope {
        let variables =
            if reach == Reach::Conditions { Vec::new() } else { self.variables.clone() };
        let Self { version, params, composed, .. } = *self;
        Scope { version, params, composed, reach, variables }
    }

    fn env(&self, reach: Reach) -> Env {
        let typed = self.typed.as_ref();
        let mut objects = typed.map(|typed| typed.objects.clone()).unwrap_or_default();
        let of_object = || typed.map_or(Type::Dyn, |typed| typed.object.clone());
        declare_request(&mut objects);
        declare_namespace(&mut objects);
        let has_variables = self.composed && reach != Reach::Conditions;
        if has_variables {
            objects.declare(VARIABLES, self.variables.iter().cloned());
        }
        let mut env = Env::kubernetes(self.version)
            .with_objects(objects)
            .with_variable("object", of_object())
            .with_variable("oldObject", of_object())
            .with_variable("request", object("kubernetes.AdmissionRequest"))
            .with_variable("namespaceObject", object("kubernetes.Namespace"));
        if has_variables {
            env = env.with_variable("variables", object(VARIABLES));
        }
        if self.params == Params::Some {
            let of_params = typed.map_or(Type::Dyn, |typed| typed.params.clone());
            env = env.with_variable("params", of_params);
        }
        if reach != Reach::Messages {
            env = env
                .with_variable("authorizer", authz::AUTHORIZER)
                .with_variable("authorizer.requestResource", authz::RESOURCE_CHECK);
        }
        if reach == Reach::Mutations { env.with_mutation() } else { env }
    }
}

fn told(errors: Vec<CompileError>) -> String {
    format!("compilation failed: {}", listed(errors))
}

fn listed(errors: Vec<CompileError>) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The type that a variable has as a field: objects and other named types become `dyn`, as in the API server.
fn as_field(of: &Type) -> Type {
    match of {
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => of.clone(),
        Type::List(item) => Type::list(as_field(item)),
        Type::Map(key, value) => Type::map(as_field(key), as_field(value)),
        _ => Type::Dyn,
    }
}

fn object(name: &str) -> Type {
    Type::Object(name.into())
}

fn texts() -> Type {
    Type::list(Type::String)
}

fn declare_request(objects: &mut Objects) {
    let kind = || object("kubernetes.GroupVersionKind");
    let resource = || object("kubernetes.GroupVersionResource");
    let words = |names: [&'static str; 3]| names.map(|name| (name, Type::String));
    objects.declare("kubernetes.GroupVersionKind", words(["group", "version", "kind"]));
    objects.declare("kubernetes.GroupVersionResource", words(["group", "version", "resource"]));
    objects.declare(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", texts()),
            ("extra", Type::map(Type::String, texts())),
        ],
    );
    objects.declare(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", Type::String),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", object("kubernetes.UserInfo")),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    );
}

fn declare_namespace(objects: &mut Objects) {
    let labels = || Type::map(Type::String, Type::String);
    objects.declare("kubernetes.NamespaceSpec", [("finalizers", texts())]);
    objects.declare(
        "kubernetes.NamespaceCondition",
        [
            ("status", Type::String),
            ("type", Type::String),
            ("lastTransitionTime", Type::Timestamp),
            ("message", Type::String),
            ("reason", Type::String),
        ],
    );
    objects.declare(
        "kubernetes.NamespaceStatus",
        [
            ("conditions", Type::list(object("kubernetes.NamespaceCondition"))),
            ("phase", Type::String),
        ],
    );
    objects.declare(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", texts()),
        ],
    );
    objects.declare(
        "kubernetes.Namespace",
        [
            ("metadata", object("kubernetes.NamespaceMetadata")),
            ("spec", object("kubernetes.NamespaceSpec")),
            ("status", object("kubernetes.NamespaceStatus")),
        ],
    );
}
