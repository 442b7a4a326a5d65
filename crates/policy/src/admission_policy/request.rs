//! What the API server is asked for: a request as admission sees it.

use std::fmt;

use serde_json::{Map, Value as Json, json};

/// A resource of a version of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// The group; empty for the core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// The plural, `pods`.
    pub resource: String,
}

/// A kind of a version of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The group; empty for the core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Pod`.
    pub kind: String,
}

impl Kind {
    /// A kind as objects name it: `apps/v1` and `Deployment`.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version.clone();
        }
        format!("{}/{}", self.group, self.version)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// An object is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// A stream is opened.
    Connect,
}

impl Operation {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }

    /// The operation of a word of the API.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete, Self::Connect]
            .into_iter()
            .find(|operation| operation.as_str() == word)
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub username: String,
    /// The unique id, where there is one.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: Map<String, Json>,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// To which resource.
    pub resource: Resource,
    /// Empty for the object itself.
    pub subresource: String,
    /// The kind of the object.
    pub kind: Kind,
    /// The name; empty where the server makes it.
    pub name: String,
    /// The namespace; of a namespace that is changed or deleted its own name.
    pub namespace: String,
    /// Who asks.
    pub user: User,
    /// Whether nothing is to be kept.
    pub dry_run: bool,
    /// The options of the operation, `CreateOptions` and others.
    pub options: Option<Json>,
    /// The object as it will be; none when it is deleted.
    pub object: Option<Json>,
    /// The object as it is; none when it is made.
    pub old_object: Option<Json>,
}

/// A document that is no request, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct NotARequest {
    /// The field, `request.operation`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Request {
    /// Reads an `AdmissionReview`, or an `AdmissionRequest` by itself.
    ///
    /// # Errors
    ///
    /// Names the field that is missing or wrong.
    pub fn of_review(review: &Json) -> Result<Self, NotARequest> {
        let (request, at) = match review.get("request") {
            Some(request) => (request, "request."),
            None => (review, ""),
        };
        let wrong = |field: &str, message: &str| NotARequest {
            field: format!("{at}{field}"),
            message: message.to_owned(),
        };
        let text = |of: &Json, field: &str| {
            of.get(field).and_then(Json::as_str).unwrap_or_default().to_owned()
        };
        let word = text(request, "operation");
        let operation = Operation::of_word(&word)
            .ok_or_else(|| wrong("operation", "say `CREATE`, `UPDATE`, `DELETE` or `CONNECT`"))?;
        let of = |field: &str| request.get(field).filter(|value| value.is_object());
        let resource = of("resource").ok_or_else(|| wrong("resource", "it is missing"))?;
        let kind = of("kind").ok_or_else(|| wrong("kind", "it is missing"))?;
        let resource = Resource {
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
        };
        if resource.resource.is_empty() || resource.version.is_empty() {
            return Err(wrong("resource", "it needs `version` and `resource`"));
        }
        let kind = Kind {
            group: text(kind, "group"),
            version: text(kind, "version"),
            kind: text(kind, "kind"),
        };
        if kind.kind.is_empty() || kind.version.is_empty() {
            return Err(wrong("kind", "it needs `version` and `kind`"));
        }
        let user = of("userInfo").cloned().unwrap_or_default();
        let groups = user.get("groups").and_then(Json::as_array).into_iter().flatten();
        let (object, old_object) = (of("object").cloned(), of("oldObject").cloned());
        match (operation, &object, &old_object) {
            (Operation::Create | Operation::Connect, None, _) | (Operation::Update, None, _) => {
                return Err(wrong("object", "it is missing"));
            }
            (Operation::Update | Operation::Delete, _, None) => {
                return Err(wrong("oldObject", "it is missing"));
            }
            _ => {}
        }
        Ok(Self {
            operation,
            resource,
            subresource: text(request, "subResource"),
            kind,
            name: text(request, "name"),
            namespace: text(request, "namespace"),
            user: User {
                username: text(&user, "username"),
                uid: text(&user, "uid"),
                groups: groups.filter_map(Json::as_str).map(str::to_owned).collect(),
                extra: user.get("extra").and_then(Json::as_object).cloned().unwrap_or_default(),
            },
            dry_run: request.get("dryRun").and_then(Json::as_bool).unwrap_or_default(),
            options: of("options").cloned(),
            object,
            old_object,
        })
    }

    /// Whether the request is for a namespace itself.
    pub(super) fn is_for_namespace(&self) -> bool {
        self.kind.group.is_empty() && self.kind.version == "v1" && self.kind.kind == "Namespace"
    }

    /// The `request` of expressions, for what a policy matched.
    pub(super) fn as_expressions_see_it(&self, resource: &Resource, kind: &Kind) -> Json {
        let kind_json = |kind: &Kind| json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let resource_json = |resource: &Resource| json!({ "group": resource.group, "version": resource.version, "resource": resource.resource });
        let mut user = Map::new();
        let mut request = json!({
            "uid": "",
            "kind": kind_json(kind),
            "resource": resource_json(resource),
            "requestKind": kind_json(&self.kind),
            "requestResource": resource_json(&self.resource),
            "operation": self.operation.as_str(),
            "object": null,
            "oldObject": null,
            "dryRun": self.dry_run,
            "options": self.options,
        });
        put(&mut user, "username", &self.user.username);
        put(&mut user, "uid", &self.user.uid);
        if !self.user.groups.is_empty() {
            user.insert("groups".to_owned(), json!(self.user.groups));
        }
        if !self.user.extra.is_empty() {
            user.insert("extra".to_owned(), Json::Object(self.user.extra.clone()));
        }
        if let Json::Object(fields) = &mut request {
            fields.insert("userInfo".to_owned(), Json::Object(user));
            put(fields, "subResource", &self.subresource);
            put(fields, "requestSubResource", &self.subresource);
            put(fields, "name", &self.name);
            put(fields, "namespace", &self.namespace);
        }
        request
    }

    /// The name by which refusals call the object.
    pub(super) fn called(&self) -> &str {
        if !self.name.is_empty() {
            return &self.name;
        }
        let Some(object) = &self.object else { return "Unknown" };
        let Some(metadata) = object.get("metadata") else { return "Unknown/errorGettingName" };
        let text =
            |field| metadata.get(field).and_then(Json::as_str).filter(|text| !text.is_empty());
        text("name").or_else(|| text("generateName")).unwrap_or("Unknown")
    }

    /// `pods`, `deployments.apps`.
    pub(super) fn group_resource(&self) -> String {
        let Resource { group, resource, .. } = &self.resource;
        if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") }
    }
}

/// Empty text is left out, as the API's encoder does.
fn put(fields: &mut Map<String, Json>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.to_owned(), Json::from(text));
    }
}
