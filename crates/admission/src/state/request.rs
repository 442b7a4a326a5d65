//! Requests made of objects in files: what an API server would put before its admission if somebody sent them.

use nullius_kinds::{Form, normalize};
use nullius_policy::admission_policy::{Kind, Operation, Request, User};
use serde_json::{Value as Json, json};

use super::{Place, State};

/// Who sends an object, and where it goes when it does not say.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// The name.
    pub username: &'a str,
    /// The groups.
    pub groups: &'a [String],
    /// The namespace of objects that say none.
    pub namespace: &'a str,
}

/// Objects of which no request can be made, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotSendable(pub String);

/// The request of somebody who makes, changes or deletes an object: by what it is to be and what it is.
///
/// # Errors
///
/// Says why no API server would take the object, or what the state must say of its kind.
pub fn request_of(
    state: &State,
    object: Option<&Json>,
    old: Option<&Json>,
    person: &Person<'_>,
) -> Result<Request, NotSendable> {
    let (operation, subject) = match (object, old) {
        (Some(object), None) => (Operation::Create, object),
        (Some(object), Some(_)) => (Operation::Update, object),
        (None, Some(old)) => (Operation::Delete, old),
        (None, None) => return Err(NotSendable("there is no object".to_owned())),
    };
    let text = |of: &Json, path: &str| {
        of.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned()
    };
    let kind = Kind::new(&text(subject, "/apiVersion"), &text(subject, "/kind"));
    let Some(Place { resource, is_namespaced }) = state.place(&kind) else {
        return Err(NotSendable(format!(
            "the kind `{kind}` is neither Kubernetes' own nor defined in the state; add its `CustomResourceDefinition`"
        )));
    };
    let name = text(subject, "/metadata/name");
    let given = text(subject, "/metadata/namespace");
    let namespace = namespace_of(&kind, is_namespaced, &name, given, person);
    let sent = |object: Option<&Json>| {
        object.map(|object| held(state, object, &kind, &namespace, is_namespaced)).transpose()
    };
    let (new, old) = (sent(object)?, sent(old)?);
    if old.as_ref().is_some_and(|old| text(old, "/metadata/name") != name) {
        return Err(NotSendable("the object and the old one have different names".to_owned()));
    }
    let was = old.as_ref().map(|old| text(old, "/metadata/namespace")).unwrap_or_default();
    if is_namespaced && was != namespace && old.is_some() {
        return Err(NotSendable(format!(
            "the object is in the namespace `{namespace}` and the old one in `{was}`: no update moves an object"
        )));
    }
    let options = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete | Operation::Connect => "DeleteOptions",
    };
    Ok(Request {
        operation,
        resource,
        subresource: String::new(),
        kind,
        name,
        namespace,
        user: user(person),
        dry_run: false,
        options: Some(json!({ "kind": options, "apiVersion": "meta.k8s.io/v1" })),
        object: new,
        old_object: old,
    })
}

/// The namespace of a request: a Namespace is in itself, and what names none is where its person works.
fn namespace_of(
    kind: &Kind,
    is_namespaced: bool,
    name: &str,
    given: String,
    person: &Person<'_>,
) -> String {
    match is_namespaced {
        false if *kind == Kind::new("v1", "Namespace") => name.to_owned(),
        false => String::new(),
        true if given.is_empty() => person.namespace.to_owned(),
        true => given,
    }
}

/// The request of somebody who makes an object that was read as an API server reads it; `None` for a kind of which
/// nothing is known.
pub(crate) fn creation(state: &State, object: Json, person: &Person<'_>) -> Option<Request> {
    let text =
        |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned();
    let kind = Kind::new(&text("/apiVersion"), &text("/kind"));
    let (name, given) = (text("/metadata/name"), text("/metadata/namespace"));
    let Place { resource, is_namespaced } = state.place(&kind)?;
    let namespace = namespace_of(&kind, is_namespaced, &name, given, person);
    let mut object = state.definitions.normalized(object, &kind);
    put_into(&mut object, &namespace, is_namespaced);
    Some(Request {
        operation: Operation::Create,
        resource,
        subresource: String::new(),
        kind,
        name,
        namespace,
        user: user(person),
        dry_run: false,
        options: Some(json!({ "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" })),
        object: Some(object),
        old_object: None,
    })
}

/// Somebody with the groups that the API server adds by itself.
pub(crate) fn user(person: &Person<'_>) -> User {
    let mut groups = person.groups.to_vec();
    let mut add = |group: String| {
        if !groups.contains(&group) {
            groups.push(group);
        }
    };
    if let Some(account) = person.username.strip_prefix("system:serviceaccount:")
        && let Some((namespace, _)) = account.split_once(':')
    {
        add("system:serviceaccounts".to_owned());
        add(format!("system:serviceaccounts:{namespace}"));
    }
    add(match person.username {
        "system:anonymous" => "system:unauthenticated".to_owned(),
        _ => "system:authenticated".to_owned(),
    });
    User { username: person.username.to_owned(), groups, ..User::default() }
}

/// Says in the object which namespace it goes to.
fn put_into(object: &mut Json, namespace: &str, is_namespaced: bool) {
    let metadata = object.get_mut("metadata").and_then(Json::as_object_mut);
    if let Some(metadata) = metadata.filter(|_| is_namespaced) {
        metadata.insert("namespace".to_owned(), Json::from(namespace));
    }
}

/// An object as an API server holds it before admission.
fn held(
    state: &State,
    object: &Json,
    kind: &Kind,
    namespace: &str,
    is_namespaced: bool,
) -> Result<Json, NotSendable> {
    let of = Kind::new(
        object.get("apiVersion").and_then(Json::as_str).unwrap_or_default(),
        object.get("kind").and_then(Json::as_str).unwrap_or_default(),
    );
    if of != *kind {
        return Err(NotSendable(format!("the objects are of two kinds, `{kind}` and `{of}`")));
    }
    let told = |faults: Vec<nullius_kinds::Fault>| {
        NotSendable(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let mut held = match normalize(object).map_err(told)? {
        normalized if normalized.form == Form::Builtin => {
            if !normalized.dropped.is_empty() {
                return Err(told(normalized.dropped));
            }
            normalized.object
        }
        _ => state.definitions.normalized(object.clone(), kind),
    };
    if held.pointer("/metadata/namespace").and_then(Json::as_str).is_none_or(str::is_empty) {
        put_into(&mut held, namespace, is_namespaced);
    }
    Ok(held)
}
