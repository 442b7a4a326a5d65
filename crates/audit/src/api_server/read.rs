//! From bytes to events. A list that is none is refused whole; an event that cannot be read is left out and counted.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use nullius_model::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Answered, Authorized, LIST_BYTES, LIST_EVENTS, Object};

const API_VERSION: &str = "audit.k8s.io/v1";
const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Characters of the longest text that is kept.
const TEXT: usize = 4_096;
/// Groups and annotations of one event that are kept.
const MANY: usize = 64;

/// A list as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Requests that have been answered.
    pub answered: Vec<Answered>,
    /// Events that could not be read.
    pub unreadable: usize,
}

/// Bytes that are no list of audit events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no list of audit events: {0}")]
pub struct NotAList(String);

/// Reads a list. Events of earlier stages are left out: each request is told when it was answered.
pub fn read_list(body: &[u8]) -> Result<Listed, NotAList> {
    if body.len() > LIST_BYTES {
        return Err(NotAList(format!("it is longer than {LIST_BYTES} bytes")));
    }
    let list: List<'_> =
        serde_json::from_slice(body).map_err(|error| NotAList(error.to_string()))?;
    if list.kind != "EventList" || list.api_version != API_VERSION {
        return Err(NotAList(format!("only an `EventList` of `{API_VERSION}` is taken")));
    }
    if list.items.len() > LIST_EVENTS {
        return Err(NotAList(format!("more than {LIST_EVENTS} events in one list")));
    }
    let mut read = Listed::default();
    for item in list.items {
        match serde_json::from_str::<Event>(item.get()).ok().map(answered) {
            Some(Ok(Some(answered))) => read.answered.push(answered),
            Some(Ok(None)) => {}
            Some(Err(NotRead)) | None => read.unreadable += 1,
        }
    }
    Ok(read)
}

/// Known fields are read once at most (a second one is an error); what is not known here is stepped over without recursion.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: String,
    api_version: String,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    #[serde(default, rename = "sourceIPs", deserialize_with = "nullable")]
    source_ips: Vec<String>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
    #[serde(default, deserialize_with = "once_each")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default, deserialize_with = "nullable")]
    groups: Vec<String>,
    #[serde(default, deserialize_with = "once_each")]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

struct NotRead;

fn answered(event: Event) -> Result<Option<Answered>, NotRead> {
    match event.stage.as_str() {
        "ResponseComplete" | "Panic" => {}
        "RequestReceived" | "ResponseStarted" => return Ok(None),
        _ => return Err(NotRead),
    }
    if event.audit_id.is_empty() || event.verb.is_empty() {
        return Err(NotRead);
    }
    let mut annotations = event.annotations;
    let authorized = match annotations.remove(DECISION).as_deref() {
        None => None,
        Some("allow") => Some(Authorized::Allow),
        // A word that nobody knows is no permission.
        Some(_) => Some(Authorized::Forbid),
    };
    let reason = annotations.remove(REASON).unwrap_or_default();
    let (path, dry_run) = path_of(&event.request_uri, event.object_ref.as_ref());
    let (code, message) = match event.response_status {
        Some(status) => (status.code, status.message),
        // A panic has an answer that nobody has seen.
        None => (0, String::new()),
    };
    let user = event.user;
    let (impersonated, impersonated_groups) =
        event.impersonated_user.map(|user| (cut(user.username), groups(user.groups))).unzip();
    let pod = user.extra.get(POD_NAME).and_then(|names| names.first());
    Ok(Some(Answered {
        audit_id: cut(event.audit_id),
        stage: event.stage,
        received: event.request_received_timestamp,
        at: event.stage_timestamp,
        pod: pod.cloned().map(cut),
        username: cut(user.username),
        groups: groups(user.groups),
        impersonated,
        impersonated_groups: impersonated_groups.unwrap_or_default(),
        source: event.source_ips.first().and_then(|address| address.parse::<IpAddr>().ok()),
        user_agent: cut(event.user_agent),
        verb: cut(event.verb),
        path,
        dry_run,
        object: event.object_ref.filter(|object| !object.resource.is_empty()).map(object_of),
        code,
        message: cut(message),
        authorized,
        reason: cut(reason),
        annotations: annotations
            .into_iter()
            .take(MANY)
            .map(|(key, text)| (cut(key), cut(text)))
            .collect(),
    }))
}

fn groups(all: Vec<String>) -> Vec<String> {
    all.into_iter().take(MANY).map(cut).collect()
}

fn object_of(object: ObjectRef) -> Object {
    Object {
        group: cut(object.api_group),
        version: cut(object.api_version),
        resource: cut(object.resource),
        subresource: cut(object.subresource),
        namespace: cut(object.namespace),
        name: cut(object.name),
    }
}

/// The path as far as it names what the API server knows, and whether the request was a dry run.
fn path_of(uri: &str, object: Option<&ObjectRef>) -> (String, bool) {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let dry_run = query.split('&').any(|pair| pair == "dryRun=All");
    let path = match object.filter(|object| object.subresource == "proxy") {
        Some(_) => match path.find("/proxy/") {
            Some(at) => &path[..at + "/proxy".len()],
            None => path,
        },
        None => path,
    };
    (cut(path.to_owned()), dry_run)
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT
        && let Some((at, _)) = text.char_indices().nth(TEXT)
    {
        text.truncate(at);
    }
    text
}

/// Go writes an empty list as `null` where it has none.
fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(from).map(Option::unwrap_or_default)
}

/// A map in which each key stands once.
fn once_each<'de, D, V>(from: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct OnceEach<V>(std::marker::PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for OnceEach<V> {
        type Value = BTreeMap<String, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, V>()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key stands twice"));
                }
            }
            Ok(map)
        }
    }
    from.deserialize_any(OnceEach(std::marker::PhantomData))
}
