//! Objects at the hub: read, written, and compared without what the hub itself keeps.

use nullius_api::{List, route};
use nullius_model::{AnyObject, Kind, ObjectName};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::{Call, Hub, fill},
    failure::Failure,
};

/// Whether a write is only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// It is done.
    Real,
    /// The hub judges it and changes nothing.
    DryRun,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WriteQuery {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl Writing {
    fn query(self) -> WriteQuery {
        WriteQuery { dry_run: self == Self::DryRun }
    }
}

/// One object; nothing when there is none of that name.
pub(crate) async fn find(
    hub: &Hub,
    kind: Kind,
    name: &ObjectName,
) -> Result<Option<AnyObject>, Failure> {
    match fetch(hub, kind, name).await {
        Err(failure) if failure.is("not-found") => Ok(None),
        other => other.map(Some),
    }
}

/// One object that must be there.
pub(crate) async fn fetch(hub: &Hub, kind: Kind, name: &ObjectName) -> Result<AnyObject, Failure> {
    hub.read(&Call::get(format!("cannot read `{kind}/{name}`"), path(kind, name))).await
}

/// All objects of a kind, in the hub's order.
pub(crate) async fn fetch_all(hub: &Hub, kind: Kind) -> Result<Vec<AnyObject>, Failure> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let call = Call::get(
            format!("cannot read {}", kind.plural()),
            fill(route::OBJECTS, &[kind.plural()]),
        );
        let page: List<AnyObject> = hub.read(&call.query(&PageQuery { after })?).await?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Makes a new object.
pub(crate) async fn create(
    hub: &Hub,
    object: &AnyObject,
    writing: Writing,
) -> Result<AnyObject, Failure> {
    let kind = object.kind();
    let what = format!("cannot create `{kind}/{}`", object.name());
    let call = Call::post(what, fill(route::OBJECTS, &[kind.plural()]), object)?;
    hub.read(&call.query(&writing.query())?).await
}

/// Changes an object; `metadata.resourceVersion` makes it fail when somebody else was faster.
pub(crate) async fn update(
    hub: &Hub,
    object: &AnyObject,
    writing: Writing,
) -> Result<AnyObject, Failure> {
    let what = format!("cannot change `{}/{}`", object.kind(), object.name());
    let call = Call::put(what, path(object.kind(), object.name()), object)?;
    hub.read(&call.query(&writing.query())?).await
}

/// Deletes an object.
pub(crate) async fn delete(
    hub: &Hub,
    kind: Kind,
    name: &ObjectName,
    writing: Writing,
) -> Result<(), Failure> {
    let call = Call::delete(format!("cannot delete `{kind}/{name}`"), path(kind, name));
    hub.call(&call.query(&writing.query())?).await.map(|_| ())
}

/// The part of an object that people write.
pub(crate) fn written_part(object: &AnyObject) -> Result<Value, Failure> {
    let whole = crate::output::json_value(object)?;
    let metadata = object.metadata();
    let mut kept = json!({ "name": metadata.name });
    for (field, map) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        if !map.is_empty() {
            kept[field] = json!(map);
        }
    }
    Ok(json!({
        "apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": kept, "spec": whole["spec"],
    }))
}

fn path(kind: Kind, name: &ObjectName) -> String {
    fill(route::OBJECT, &[kind.plural(), name.as_str()])
}
