//! Objects of any kind, written where they say they belong.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

/// Kind and name of an object, and its namespace where it is in one.
pub(crate) struct Place<'o> {
    pub(crate) kind: &'o str,
    pub(crate) name: &'o str,
    pub(crate) namespace: Option<&'o str>,
}

/// Where an object belongs, by what it says of itself.
pub(crate) fn place<'o>(client: &Client, object: &'o Value) -> (Api<DynamicObject>, Place<'o>) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (kind, name) =
        (text("/kind").unwrap_or_default(), text("/metadata/name").unwrap_or_default());
    let version = text("/apiVersion").unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let namespace = text("/metadata/namespace").filter(|namespace| !namespace.is_empty());
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, Place { kind, name, namespace })
}
