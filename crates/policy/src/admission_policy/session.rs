//! What the evaluation of one request shares: the request, the facts, the parameters of bindings, match conditions.

use std::{borrow::Cow, cell::OnceCell, sync::Arc};

use nullius_cel::{Value, authz::ResourceTarget};
use serde_json::Value as Json;

use super::{
    decision::{Gathered, Refusal, Stop},
    expressions::{CONDITIONS_BUDGET, Inputs, OutOfBudget, Phase, Subjects, Variables},
    facts::{Equivalent, Existence, Facts, Need, ParamQuery},
    matching::{Candidate, Matched, namespace_not_found},
    policy::{Binding, FailurePolicy, Named, NotFound, Policy},
    request::{Kind, Request},
    trace::RunTrace,
};
use crate::exception::Exception;

/// The evaluation of one request.
pub(super) struct Session<'a> {
    pub(super) request: &'a Request,
    pub(super) facts: &'a Facts<'a>,
    pub(super) exceptions: &'a [&'a Exception],
    pub(super) equivalents: Vec<Equivalent>,
    pub(super) subjects: Subjects,
    /// The `request` of expressions where a policy matched the resource that was asked for, as nearly all do.
    own_request: OnceCell<Json>,
    namespace: OnceCell<ShownNamespace>,
}

/// The namespace of a request, as much of it as expressions see; made where one looks.
pub(super) struct ShownNamespace {
    whole: Arc<Json>,
    bare: OnceCell<Json>,
    narrowed: OnceCell<Json>,
}

impl ShownNamespace {
    /// As the API server remembers it: without its kind and who manages which field.
    pub(super) fn bare(&self) -> &Json {
        self.bare.get_or_init(|| bare(&self.whole))
    }

    /// Without what validations are not shown.
    pub(super) fn narrowed(&self) -> &Json {
        self.narrowed.get_or_init(|| narrowed(self.bare()))
    }
}

/// A parameter, or none for a policy that takes none.
pub(super) type Param<'a> = Option<Cow<'a, Json>>;

/// Whether the conditions of a policy let it go on.
pub(super) enum Conditions {
    Met,
    Unmet,
    /// They erred under `Fail`, as the API server words it.
    Failed(String),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        request: &'a Request,
        facts: &'a Facts<'a>,
        exceptions: &'a [&'a Exception],
    ) -> Self {
        let Request { resource, subresource, namespace, name, .. } = request;
        Self {
            request,
            facts,
            exceptions,
            equivalents: facts.kinds.equivalents(resource, subresource),
            subjects: Subjects::of(ResourceTarget {
                group: resource.group.clone(),
                resource: resource.resource.clone(),
                subresource: subresource.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                ..ResourceTarget::default()
            }),
            own_request: OnceCell::new(),
            namespace: OnceCell::new(),
        }
    }

    /// Stops whoever is out of time also where each policy takes next to none.
    pub(super) fn go_on(&self) -> Result<(), Refusal> {
        match self.facts.interrupt.is_some_and(|interrupt| interrupt()) {
            true => Err(Refusal::out_of_time()),
            false => Ok(()),
        }
    }

    pub(super) fn candidate<'c>(&'c self, object: Option<&'c Json>) -> Candidate<'c> {
        let Self { request, facts, .. } = self;
        Candidate { request, object, equivalents: &self.equivalents, facts }
    }

    /// The namespace that a policy's expressions see: none for what has no namespace, for namespaces, and for a policy that does
    /// not look. For that one it is enough that nobody says the namespace is not there.
    pub(super) fn namespace_for<R>(
        &self,
        policy: &Policy<R>,
    ) -> Result<Option<&ShownNamespace>, Stop> {
        let name = &self.request.namespace;
        if name.is_empty() || self.request.is_for_namespace() {
            return Ok(None);
        }
        match self.facts.namespaces.get(name) {
            Some(None) => Err(Stop::refused(Refusal::not_found(namespace_not_found(name)))),
            _ if !policy.sees_namespaces => Ok(None),
            None => Err(Stop::needs(Need::Namespace(name.clone()))),
            Some(Some(namespace)) => Ok(Some(self.namespace.get_or_init(|| {
                let (bare, narrowed) = Default::default();
                ShownNamespace { whole: Arc::clone(namespace), bare, narrowed }
            }))),
        }
    }

    /// An object as the kind that a policy matched.
    pub(super) fn as_kind<'o>(
        &self,
        object: Option<&'o Json>,
        kind: &Kind,
    ) -> Result<Option<Cow<'o, Json>>, Stop> {
        let Some(object) = object else { return Ok(None) };
        if *kind == self.request.kind {
            return Ok(Some(Cow::Borrowed(object)));
        }
        match self.facts.kinds.converted(object, kind) {
            Some(object) => Ok(Some(Cow::Owned(object))),
            None => Err(Stop::needs(Need::Conversion(kind.clone()))),
        }
    }

    /// Whether the kind of a policy's parameters exists; the error is the API server's.
    pub(super) fn param_kind<R>(&self, policy: &Policy<R>) -> Result<Result<(), String>, Stop> {
        let Some(kind) = &policy.param_kind else { return Ok(Ok(())) };
        match self.facts.kinds.existence(kind) {
            Existence::Namespaced | Existence::Cluster => Ok(Ok(())),
            Existence::Unknown => Err(Stop::needs(Need::Kind(kind.clone()))),
            Existence::Absent => Ok(Err(format!(
                "failed to find resource referenced by paramKind: '{}, Kind={}'",
                kind.api_version(),
                kind.kind
            ))),
        }
    }

    /// The parameters of a binding: a run for each. The error is the API server's.
    pub(super) fn params<R>(
        &self,
        policy: &Policy<R>,
        binding: &Binding,
    ) -> Result<Result<Vec<Param<'a>>, String>, Stop> {
        let (Some(kind), Some(reference)) = (&policy.param_kind, &binding.params) else {
            return Ok(Ok(vec![None]));
        };
        let given = reference.namespace.as_str();
        let namespace = match self.facts.kinds.existence(kind) {
            Existence::Namespaced if !given.is_empty() => Some(given.to_owned()),
            Existence::Namespaced if self.request.namespace.is_empty() => {
                let told = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Ok(Err(told.to_owned()));
            }
            Existence::Namespaced => Some(self.request.namespace.clone()),
            Existence::Cluster if !given.is_empty() => {
                let told =
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
                return Ok(Err(told.to_owned()));
            }
            Existence::Cluster => None,
            Existence::Absent | Existence::Unknown => {
                return Err(Stop::needs(Need::Kind(kind.clone())));
            }
        };
        let query = ParamQuery { kind: kind.clone(), namespace, pick: reference.pick.clone() };
        let Some(found) = self.facts.params.get(&query) else {
            return Err(Stop::needs(Need::Params(query)));
        };
        if found.is_empty() && reference.not_found == NotFound::Deny {
            let told = "no params found for policy binding with `Deny` parameterNotFoundAction";
            return Ok(Err(told.to_owned()));
        }
        Ok(Ok(found.iter().map(|param| Some(with_kind(param, kind))).collect()))
    }

    /// The `request` of expressions.
    pub(super) fn request_json(&self, matched: &Matched) -> Cow<'_, Json> {
        let Matched { resource, kind } = matched;
        let make = || self.request.as_expressions_see_it(resource, kind);
        if *resource == self.request.resource && *kind == self.request.kind {
            return Cow::Borrowed(self.own_request.get_or_init(make));
        }
        Cow::Owned(make())
    }

    /// Whether a policy's match conditions let it go on; `inputs` are those of its rules.
    pub(super) fn conditions<R>(
        &self,
        policy: &Policy<R>,
        matched: &Matched,
        inputs: Inputs<'_>,
        run: &mut RunTrace,
    ) -> Result<Conditions, Stop> {
        if policy.conditions.is_empty() {
            return Ok(Conditions::Met);
        }
        // Conditions see the resource that was asked for, and no namespace.
        let own = Matched { resource: self.request.resource.clone(), kind: matched.kind.clone() };
        let request = self.request_json(&own);
        let inputs = Inputs { request: &request, namespace: None, ..inputs };
        let variables = Variables::new(&[], inputs);
        let mut phase = Phase::new(&variables, CONDITIONS_BUDGET);
        let mut errors: Vec<String> = Vec::new();
        let mut unmet = false;
        let mut needs = Gathered::default();
        for Named { name, expression } in &policy.conditions {
            let evaluated = needs.part(phase.evaluate(|| name.clone(), expression))?;
            let Some(evaluated) = evaluated else { continue };
            let Ok(evaluated) = evaluated else {
                needs.end()?;
                return Ok(failed(policy, OutOfBudget::MESSAGE.to_owned()));
            };
            unmet |= matches!(evaluated.result, Ok(Value::Bool(false)));
            errors.extend(evaluated.result.err());
            run.conditions.extend(evaluated.trace);
        }
        needs.end()?;
        if unmet {
            return Ok(Conditions::Unmet);
        }
        Ok(match aggregated(errors) {
            Some(told) => failed(policy, told),
            None => Conditions::Met,
        })
    }
}

fn failed<R>(policy: &Policy<R>, told: String) -> Conditions {
    match policy.failure {
        FailurePolicy::Fail => Conditions::Failed(told),
        FailurePolicy::Ignore => Conditions::Unmet,
    }
}

/// Errors as the API server lists them, each once.
fn aggregated(errors: Vec<String>) -> Option<String> {
    let mut told: Vec<String> = Vec::new();
    for error in errors {
        if !told.contains(&error) {
            told.push(error);
        }
    }
    match told.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        more => Some(format!("[{}]", more.join(", "))),
    }
}

/// A parameter that says what it is.
fn with_kind<'p>(param: &'p Json, kind: &Kind) -> Cow<'p, Json> {
    if param.get("kind").is_some() {
        return Cow::Borrowed(param);
    }
    let mut param = param.clone();
    if let Json::Object(fields) = &mut param {
        fields.insert("apiVersion".to_owned(), Json::from(kind.api_version()));
        fields.insert("kind".to_owned(), Json::from(kind.kind.as_str()));
    }
    Cow::Owned(param)
}

/// A parameter's namespace and name, for traces and for telling runs apart.
pub(super) fn param_name(param: &Json) -> String {
    let text = |field: &str| {
        param.pointer(&format!("/metadata/{field}")).and_then(Json::as_str).unwrap_or_default()
    };
    match (text("namespace"), text("name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

fn narrowed(bare: &Json) -> Json {
    let mut shown = bare.clone();
    if let Some(Json::Object(metadata)) = shown.get_mut("metadata") {
        metadata.remove("ownerReferences");
    }
    shown
}

fn bare(namespace: &Json) -> Json {
    let mut shown = namespace.clone();
    if let Json::Object(fields) = &mut shown {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(Json::Object(metadata)) = fields.get_mut("metadata") {
            metadata.remove("managedFields");
        }
    }
    shown
}
