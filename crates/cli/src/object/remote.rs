//! Objects at the hub: read, written, and compared without what the hub itself keeps.

use nullius_api::{
    DeletedObject, List, ObjectChange, RehearsalAnswer, RehearsalRequest, Rehearsed, route,
};
use nullius_model::{AnyObject, Kind, ObjectName};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    client::{Call, Hub, fill},
    failure::Failure,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
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
pub(crate) async fn create(hub: &Hub, object: &AnyObject) -> Result<AnyObject, Failure> {
    let kind = object.kind();
    let what = doing("create", kind, object.name());
    hub.read(&Call::post(what, fill(route::OBJECTS, &[kind.plural()]), object)?).await
}

/// Changes an object; `metadata.resourceVersion` makes it fail when somebody else was faster.
pub(crate) async fn update(hub: &Hub, object: &AnyObject) -> Result<AnyObject, Failure> {
    let what = doing("change", object.kind(), object.name());
    hub.read(&Call::put(what, path(object.kind(), object.name()), object)?).await
}

/// Deletes an object; gives what the hub warns of.
pub(crate) async fn delete(
    hub: &Hub,
    kind: Kind,
    name: &ObjectName,
) -> Result<Vec<String>, Failure> {
    let call = Call::delete(doing("delete", kind, name), path(kind, name));
    hub.read::<DeletedObject>(&call).await.map(|deleted| deleted.warnings)
}

/// What would come of a change.
pub(crate) struct Tried {
    /// The object as it would be, or as it was before it went.
    pub(crate) object: AnyObject,
    /// What the hub warns of.
    pub(crate) warnings: Vec<String>,
}

/// What would come of changes, each judged as if those before it had been made.
pub(crate) async fn rehearse(
    hub: &Hub,
    changes: Vec<ObjectChange>,
) -> Result<Vec<Result<Tried, Failure>>, Failure> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let whats: Vec<String> = changes
        .iter()
        .map(|change| match change {
            ObjectChange::Create { object } => doing("create", object.kind(), object.name()),
            ObjectChange::Update { object } => doing("change", object.kind(), object.name()),
            ObjectChange::Delete { kind, name } => doing("delete", *kind, name),
        })
        .collect();
    let request = RehearsalRequest { changes };
    let call = Call::post("cannot try the changes", route::REHEARSAL, &request)?;
    let answer: RehearsalAnswer = hub.read(&call).await?;
    let outcomes = whats.iter().zip(answer.outcomes).map(|(what, outcome)| match outcome {
        Rehearsed::Done { object, warnings } => Ok(Tried { object, warnings }),
        Rehearsed::Refused { error } => Err(Failure::refused(what, error)),
    });
    Ok(outcomes.collect())
}

/// The hub left something out of its answer.
pub(crate) fn too_few_outcomes() -> Failure {
    Failure::new("cannot try the changes")
        .why("the hub did not answer for each of them")
        .next("see whether hub and command line are of one version: `nullius version`")
}

fn doing(verb: &str, kind: Kind, name: &ObjectName) -> String {
    format!("cannot {verb} `{kind}/{name}`")
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
