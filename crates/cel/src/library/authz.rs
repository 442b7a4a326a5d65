//! The authorizer library: expressions ask whether somebody may do something. Nothing is fetched here: an answer that the
//! shell has not brought ends the evaluation with the question.

use std::{fmt, sync::Arc};

use super::{Library, format, text};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    types::Type,
    value::Value,
};

/// The type of `authorizer`.
pub const AUTHORIZER: Type = Type::Opaque("kubernetes.authorization.Authorizer");
/// The type of `authorizer.requestResource`.
pub const RESOURCE_CHECK: Type = Type::Opaque("kubernetes.authorization.ResourceCheck");
const PATH_CHECK: Type = Type::Opaque("kubernetes.authorization.PathCheck");
const GROUP_CHECK: Type = Type::Opaque("kubernetes.authorization.GroupCheck");
const DECISION: Type = Type::Opaque("kubernetes.authorization.Decision");

/// Who is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Who makes the request.
    Requester,
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A path of the API server.
    Path(String),
    /// A resource.
    Resource(ResourceTarget),
}

/// A resource that is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceTarget {
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Subresource, if any.
    pub subresource: String,
    /// Namespace, if any.
    pub namespace: String,
    /// Name, if any.
    pub name: String,
    /// Field selector, if any.
    pub field_selector: String,
    /// Label selector, if any.
    pub label_selector: String,
}

/// A question to the authorizer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessCheck {
    /// Who.
    pub subject: Subject,
    /// Does what.
    pub verb: String,
    /// To what.
    pub target: Target,
}

impl fmt::Display for AccessCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Requester => f.write_str("the requester")?,
            Subject::ServiceAccount { namespace, name } => {
                write!(f, "service account `{namespace}/{name}`")?;
            }
        }
        match &self.target {
            Target::Path(path) => write!(f, " `{}` on path `{path}`", self.verb),
            Target::Resource(target) => {
                write!(f, " `{}` on `{}.{}`", self.verb, target.resource, target.group)
            }
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow {
        /// Why.
        reason: String,
    },
    /// No, or no opinion.
    Deny {
        /// Why.
        reason: String,
    },
    /// It could not be told.
    Fail {
        /// Why not.
        error: String,
    },
}

/// Who knows answers: the caller, who brought them before.
pub trait Authorizer {
    /// The answer, when it is known.
    fn answer(&self, check: &AccessCheck) -> Option<Verdict>;
}

/// What expressions hold of the authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthzValue {
    /// `authorizer`, for somebody.
    Authorizer(Subject),
    /// `authorizer.path(…)`.
    Path(Subject, String),
    /// `authorizer.group(…)`.
    Group(Subject, String),
    /// `authorizer.group(…).resource(…)…`.
    Resource(Subject, ResourceTarget),
    /// `….check(…)`.
    Decision(Verdict),
}

impl AuthzValue {
    /// `authorizer`: who makes the request.
    #[must_use]
    pub fn authorizer<'a>() -> Value<'a> {
        Value::Authz(Arc::new(AuthzValue::Authorizer(Subject::Requester)))
    }

    /// `authorizer.requestResource`: the requester on the resource of the request.
    #[must_use]
    pub fn request_resource<'a>(target: ResourceTarget) -> Value<'a> {
        Value::Authz(Arc::new(AuthzValue::Resource(Subject::Requester, target)))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            AuthzValue::Authorizer(_) => "kubernetes.authorization.Authorizer",
            AuthzValue::Path(..) => "kubernetes.authorization.PathCheck",
            AuthzValue::Group(..) => "kubernetes.authorization.GroupCheck",
            AuthzValue::Resource(..) => "kubernetes.authorization.ResourceCheck",
            AuthzValue::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    use Type::String;
    library.member("path", "authorizer_path", [AUTHORIZER, String], PATH_CHECK, |_, args| {
        let AuthzValue::Authorizer(subject) = authz(args)? else { return no_overload() };
        let path = text(args, 1)?.trim();
        if path.is_empty() {
            return Err(EvalError::failed("path must not be empty"));
        }
        Ok(made(AuthzValue::Path(subject.clone(), path.to_owned())))
    });
    library.member("group", "authorizer_group", [AUTHORIZER, String], GROUP_CHECK, |_, args| {
        let AuthzValue::Authorizer(subject) = authz(args)? else { return no_overload() };
        Ok(made(AuthzValue::Group(subject.clone(), text(args, 1)?.to_owned())))
    });
    library.member(
        "serviceAccount",
        "authorizer_serviceaccount",
        [AUTHORIZER, String, String],
        AUTHORIZER,
        service_account,
    );
    library.member(
        "resource",
        "groupcheck_resource",
        [GROUP_CHECK, String],
        RESOURCE_CHECK,
        |_, args| {
            let AuthzValue::Group(subject, group) = authz(args)? else { return no_overload() };
            let resource = text(args, 1)?.trim();
            if resource.is_empty() {
                return Err(EvalError::failed("resource must not be empty"));
            }
            let target = ResourceTarget {
                group: group.clone(),
                resource: resource.to_owned(),
                ..ResourceTarget::default()
            };
            Ok(made(AuthzValue::Resource(subject.clone(), target)))
        },
    );
    narrow(library, "subresource", "resourcecheck_subresource", |_, args| {
        narrowed(args, |target, part| target.subresource = part)
    });
    narrow(library, "namespace", "resourcecheck_namespace", |_, args| {
        narrowed(args, |target, part| target.namespace = part)
    });
    narrow(library, "name", "resourcecheck_name", |_, args| {
        narrowed(args, |target, part| target.name = part)
    });
    library.member("check", "pathcheck_check", [PATH_CHECK, String], DECISION, check);
    library.member("check", "resourcecheck_check", [RESOURCE_CHECK, String], DECISION, check);
    library.member("errored", "decision_errored", [DECISION], Type::Bool, |_, args| {
        Ok(Value::Bool(matches!(decision(args)?, Verdict::Fail { .. })))
    });
    library.member("error", "decision_error", [DECISION], String, |_, args| {
        Ok(Value::string(match decision(args)? {
            Verdict::Fail { error } => error.as_str(),
            Verdict::Allow { .. } | Verdict::Deny { .. } => "",
        }))
    });
    library.member("allowed", "decision_allowed", [DECISION], Type::Bool, |_, args| {
        Ok(Value::Bool(matches!(decision(args)?, Verdict::Allow { .. })))
    });
    library.member("reason", "decision_reason", [DECISION], String, |_, args| {
        Ok(Value::string(match decision(args)? {
            Verdict::Allow { reason } | Verdict::Deny { reason } => reason.as_str(),
            Verdict::Fail { .. } => "",
        }))
    });
}

/// Declares the selectors, of Kubernetes 1.31.
pub(crate) fn declare_selectors(library: &mut Library) {
    narrow(library, "fieldSelector", "authorizer_fieldselector", |_, args| {
        narrowed(args, |target, part| target.field_selector = part)
    });
    narrow(library, "labelSelector", "authorizer_labelselector", |_, args| {
        narrowed(args, |target, part| target.label_selector = part)
    });
}

/// What reading a selector of so many characters costs.
pub(crate) fn selector_cost(size: u64) -> u64 {
    let parse = size.div_ceil(10);
    let requirements = size.div_ceil(2).saturating_mul(crate::cost::LIST + crate::cost::STRUCT);
    crate::cost::LIST.saturating_add(parse).saturating_add(requirements)
}

fn no_overload<'a>() -> Fallible<Value<'a>> {
    Err(EvalError::no_overload())
}

fn made<'a>(value: AuthzValue) -> Value<'a> {
    Value::Authz(Arc::new(value))
}

fn authz<'v>(args: &'v [Value<'_>]) -> Fallible<&'v AuthzValue> {
    match args.first() {
        Some(Value::Authz(value)) => Ok(value),
        _ => Err(EvalError::no_overload()),
    }
}

fn decision<'v>(args: &'v [Value<'_>]) -> Fallible<&'v Verdict> {
    match authz(args)? {
        AuthzValue::Decision(verdict) => Ok(verdict),
        _ => Err(EvalError::no_overload()),
    }
}

fn narrow(library: &mut Library, name: &'static str, id: &'static str, run: super::Run) {
    library.member(name, id, [RESOURCE_CHECK, Type::String], RESOURCE_CHECK, run);
}

fn narrowed<'a>(args: &[Value<'a>], set: fn(&mut ResourceTarget, String)) -> Fallible<Value<'a>> {
    let AuthzValue::Resource(subject, target) = authz(args)? else { return no_overload() };
    let mut target = target.clone();
    set(&mut target, text(args, 1)?.to_owned());
    Ok(made(AuthzValue::Resource(subject.clone(), target)))
}

fn service_account<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let AuthzValue::Authorizer(_) = authz(args)? else { return no_overload() };
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !format::is_subdomain(name) {
        return Err(EvalError::failed("Invalid service account name"));
    }
    if !format::is_label(namespace) {
        return Err(EvalError::failed("Invalid service account namespace"));
    }
    Ok(made(AuthzValue::Authorizer(Subject::ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })))
}

fn check<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let verb = text(args, 1)?.to_owned();
    let question = match authz(args)? {
        AuthzValue::Path(subject, path) => {
            AccessCheck { subject: subject.clone(), verb, target: Target::Path(path.clone()) }
        }
        AuthzValue::Resource(subject, target) => {
            AccessCheck { subject: subject.clone(), verb, target: Target::Resource(target.clone()) }
        }
        _ => return no_overload(),
    };
    let answer = machine.authorizer.and_then(|authorizer| authorizer.answer(&question));
    match answer {
        Some(verdict) => Ok(made(AuthzValue::Decision(verdict))),
        None => Err(EvalError::Needs(Box::new(question))),
    }
}
