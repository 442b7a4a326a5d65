//! Fleet objects: read by those who may, changed under the decision, with errors that name the field.

use std::sync::Arc;

use axum::{
    Json as Answer,
    body::Body,
    extract::{Path, State},
};
use http::{Request, StatusCode};
use nullius_api::{
    ApiError, DeletedObject, List, MOST_REHEARSED, ObjectChange, RehearsalAnswer, RehearsalRequest,
    Rehearsed,
};
use nullius_model::{API_VERSION, AnyObject, Identity, Kind, ObjectName};
use nullius_store::Precondition;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    call::{Json, Person, Query, json_bytes, parse, path_name},
    problem::{Problem, field_problem},
};
use crate::{
    Hub,
    acts::objects::{Changed, Wanted},
    record::Occasion,
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeQuery {
    #[serde(default)]
    dry_run: bool,
    /// For deletion: must still hold.
    #[serde(default)]
    resource_version: Option<String>,
}

fn kind_of(plural: &str) -> Result<Kind, Problem> {
    Kind::ALL.into_iter().find(|kind| kind.plural() == plural).ok_or_else(|| {
        let shown: String = plural.chars().take(80).flat_map(char::escape_debug).collect();
        Problem::not_found(format!("there are no objects of kind `{shown}` at the hub"))
    })
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(plural): Path<String>,
) -> Result<Answer<List<AnyObject>>, Problem> {
    let kind = kind_of(&plural)?;
    let items = hub.list_objects(&identity, kind, &occasion).await?;
    Ok(Answer(List { items, next: None }))
}

pub(super) async fn read(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path((plural, name)): Path<(String, String)>,
) -> Result<Answer<AnyObject>, Problem> {
    let (kind, name) = (kind_of(&plural)?, path_name::<ObjectName>(&name)?);
    Ok(Answer(hub.read_object(&identity, kind, &name, &occasion).await?))
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path(plural): Path<String>,
    Query(query): Query<ChangeQuery>,
    request: Request<Body>,
) -> Result<(StatusCode, Answer<AnyObject>), Problem> {
    let object = read_object(kind_of(&plural)?, request).await?;
    let made = change(&hub, &identity, Wanted::Create(object), &query, &occasion).await?;
    Ok((StatusCode::CREATED, Answer(hub.shown_one(made.object).await?)))
}

pub(super) async fn update(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path((plural, name)): Path<(String, String)>,
    Query(query): Query<ChangeQuery>,
    request: Request<Body>,
) -> Result<Answer<AnyObject>, Problem> {
    let object = read_object(kind_of(&plural)?, request).await?;
    if object.name().as_str() != name {
        let message = format!("it says `{}`, the path says another name", object.name());
        return Err(field_problem("metadata.name", &message));
    }
    let changed = change(&hub, &identity, Wanted::Update(object), &query, &occasion).await?;
    Ok(Answer(hub.shown_one(changed.object).await?))
}

pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Path((plural, name)): Path<(String, String)>,
    Query(query): Query<ChangeQuery>,
) -> Result<Answer<DeletedObject>, Problem> {
    let (kind, name) = (kind_of(&plural)?, path_name::<ObjectName>(&name)?);
    let precondition = Precondition { uid: None, resource_version: query.resource_version.clone() };
    let wanted = Wanted::Delete { kind, name, precondition };
    let Changed { object, warnings } = change(&hub, &identity, wanted, &query, &occasion).await?;
    Ok(Answer(DeletedObject { object, warnings }))
}

async fn change(
    hub: &Arc<Hub>,
    identity: &Identity,
    wanted: Wanted,
    query: &ChangeQuery,
    occasion: &Occasion,
) -> Result<Changed, Problem> {
    if !query.dry_run {
        return Ok(hub.change(identity, wanted, occasion).await?);
    }
    let outcome = hub.rehearse(identity, &[wanted], occasion).await?.into_iter().next();
    Ok(outcome.ok_or_else(|| Problem::invalid("nothing was asked"))??)
}

/// Several changes as one dry run: what the later ones need may come from the earlier ones.
pub(super) async fn rehearse(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Person(identity): Person,
    Json(request): Json<RehearsalRequest>,
) -> Result<Answer<RehearsalAnswer>, Problem> {
    if request.changes.len() > MOST_REHEARSED {
        let message = format!("one dry run holds at most {MOST_REHEARSED} changes");
        return Err(Problem::invalid(message).next("try them in several parts"));
    }
    let changes: Vec<Wanted> = request.changes.into_iter().map(Wanted::from).collect();
    let outcomes = hub.rehearse(&identity, &changes, &occasion).await?;
    let told = |outcome| match outcome {
        Ok(Changed { object, warnings }) => Rehearsed::Done { object, warnings },
        Err(refusal) => Rehearsed::Refused { error: ApiError::from(Problem::from(refusal)) },
    };
    Ok(Answer(RehearsalAnswer { outcomes: outcomes.into_iter().map(told).collect() }))
}

impl From<ObjectChange> for Wanted {
    fn from(change: ObjectChange) -> Self {
        match change {
            ObjectChange::Create { object } => Self::Create(object),
            ObjectChange::Update { object } => Self::Update(object),
            ObjectChange::Delete { kind, name } => {
                Self::Delete { kind, name, precondition: Precondition::default() }
            }
        }
    }
}

/// Reads an object of a kind. `apiVersion` and `kind` may be left out, and must fit when they are there; a status is
/// the hub's own and dropped.
async fn read_object(kind: Kind, request: Request<Body>) -> Result<AnyObject, Problem> {
    let body = json_bytes(request).await?;
    let mut map: Map<String, Value> = parse(&mut serde_json::Deserializer::from_slice(&body))?;
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", kind.as_str())] {
        match map.remove(field) {
            None => {}
            Some(Value::String(found)) if found == wanted => {}
            Some(found) => {
                let shown: String = found.to_string().chars().take(80).collect();
                return Err(field_problem(field, &format!("it is {shown}, it must be `{wanted}`")));
            }
        }
    }
    map.remove("status");
    let mut track = serde_path_to_error::Track::new();
    let body = serde_path_to_error::Deserializer::new(Value::Object(map), &mut track);
    AnyObject::from_parts(kind, body)
        .map_err(|error| field_problem(&track.path().to_string(), &error.to_string()))
}
