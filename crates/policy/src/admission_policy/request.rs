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
    pub fn of_review(mut review: Json) -> Result<Self, NotARequest> {
        let read = Self::without_objects(&review)?;
        let request = match review.get("request").is_some_and(Json::is_object) {
            true => review.get_mut("request"),
            false => Some(&mut review),
        };
        let Some(Json::Object(fields)) = request else { return Ok(read) };
        let mut part = |field: &str| fields.remove(field).filter(|value| !value.is_null());
        Ok(Self {
            options: part("options"),
            object: part("object"),
            old_object: part("oldObject"),
            ..read
        })
    }

    /// All of a review but the objects in it, which are checked.
    fn without_objects(review: &Json) -> Result<Self, NotARequest> {
        let root = Part::of(review, String::new())?;
        let request = match root.object("request")? {
            Some(request) => request,
            None if review.get("kind").is_some_and(Json::is_string) => {
                return Err(root.wrong("request", "it is missing"));
            }
            None => root,
        };
        let wrong = |field: &str, message: &str| request.wrong(field, message);
        let operation = Operation::of_word(&request.text("operation")?)
            .ok_or_else(|| wrong("operation", "say `CREATE`, `UPDATE`, `DELETE` or `CONNECT`"))?;
        let resource = request.object("resource")?;
        let resource = resource.ok_or_else(|| wrong("resource", "it is missing"))?.resource()?;
        if resource.resource.is_empty() || resource.version.is_empty() {
            return Err(wrong("resource", "it needs `version` and `resource`"));
        }
        let kind = request.object("kind")?.ok_or_else(|| wrong("kind", "it is missing"))?.kind()?;
        if kind.kind.is_empty() || kind.version.is_empty() {
            return Err(wrong("kind", "it needs `version` and `kind`"));
        }
        let (object, old_object) = (request.object("object")?, request.object("oldObject")?);
        match (operation, &object, &old_object) {
            (Operation::Create | Operation::Connect, None, _) | (Operation::Update, None, _) => {
                return Err(wrong("object", "it is missing"));
            }
            (Operation::Update | Operation::Delete, _, None) => {
                return Err(wrong("oldObject", "it is missing"));
            }
            // No API server sends one: whoever does wants policies to compare with what never was.
            (Operation::Create | Operation::Connect, _, Some(_)) => {
                return Err(wrong("oldObject", "there is none before a creation or a connection"));
            }
            _ => {}
        }
        for part in [&object, &old_object].into_iter().flatten() {
            part.check_kind(&kind)?;
        }
        // What policies are not shown must be what it claims to be all the same: a reader took it for something.
        request.text("uid")?;
        request.text("requestSubResource")?;
        request.object("requestResource")?.map(|part| part.resource()).transpose()?;
        request.object("requestKind")?.map(|part| part.kind()).transpose()?;
        request.object("options")?;
        Ok(Self {
            operation,
            resource,
            subresource: request.text("subResource")?,
            kind,
            name: request.text("name")?,
            namespace: request.text("namespace")?,
            user: match request.object("userInfo")? {
                Some(user) => user.user()?,
                None => User::default(),
            },
            dry_run: request.truth("dryRun")?,
            options: None,
            object: None,
            old_object: None,
        })
    }

    /// A field that no `AdmissionReview` has. Who writes one by hand has mistaken its name; a server may be newer than this.
    #[must_use]
    pub fn unknown_field(review: &Json) -> Option<NotARequest> {
        const REVIEW: [&str; 4] = ["apiVersion", "kind", "request", "response"];
        const REQUEST: [&str; 15] = [
            "uid",
            "kind",
            "resource",
            "subResource",
            "requestKind",
            "requestResource",
            "requestSubResource",
            "name",
            "namespace",
            "operation",
            "userInfo",
            "object",
            "oldObject",
            "dryRun",
            "options",
        ];
        const KIND: [&str; 3] = ["group", "version", "kind"];
        const RESOURCE: [&str; 3] = ["group", "version", "resource"];
        const USER: [&str; 4] = ["username", "uid", "groups", "extra"];
        let (request, at) = match review.get("request") {
            Some(request) => (request, "request."),
            None => (review, ""),
        };
        let root = (!at.is_empty()).then_some((review, String::new(), REVIEW.as_slice()));
        let below = [
            ("kind", KIND.as_slice()),
            ("requestKind", KIND.as_slice()),
            ("resource", RESOURCE.as_slice()),
            ("requestResource", RESOURCE.as_slice()),
            ("userInfo", USER.as_slice()),
        ];
        let below = below.into_iter().filter_map(|(field, known)| {
            Some((request.get(field)?, format!("{at}{field}."), known))
        });
        let request = (request, at.to_owned(), REQUEST.as_slice());
        root.into_iter().chain([request]).chain(below).find_map(|(of, at, known)| {
            let unknown = of.as_object()?.keys().find(|field| !known.contains(&field.as_str()))?;
            let message = format!("unknown field; known here are `{}`", known.join("`, `"));
            Some(NotARequest { field: format!("{at}{unknown}"), message })
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

/// An object within a review, read as what it claims to be; `null` is nothing.
struct Part<'a> {
    fields: &'a Map<String, Json>,
    /// `request.userInfo`.
    at: String,
}

impl<'a> Part<'a> {
    fn of(value: &'a Json, at: String) -> Result<Self, NotARequest> {
        match value {
            Json::Object(fields) => Ok(Self { fields, at }),
            _ => Err(NotARequest { field: at, message: "it must be an object".to_owned() }),
        }
    }

    fn path(&self, field: &str) -> String {
        if self.at.is_empty() { field.to_owned() } else { format!("{}.{field}", self.at) }
    }

    fn wrong(&self, field: &str, message: &str) -> NotARequest {
        NotARequest { field: self.path(field), message: message.to_owned() }
    }

    fn field(&self, field: &str) -> Option<&'a Json> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn object(&self, field: &str) -> Result<Option<Part<'a>>, NotARequest> {
        self.field(field).map(|value| Part::of(value, self.path(field))).transpose()
    }

    fn text(&self, field: &str) -> Result<String, NotARequest> {
        match self.field(field) {
            None => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.wrong(field, "it must be text")),
        }
    }

    fn truth(&self, field: &str) -> Result<bool, NotARequest> {
        match self.field(field) {
            None => Ok(false),
            Some(Json::Bool(truth)) => Ok(*truth),
            Some(_) => Err(self.wrong(field, "it must be `true` or `false`")),
        }
    }

    fn texts(&self, field: &str) -> Result<Vec<String>, NotARequest> {
        let wrong = || self.wrong(field, "it must be a list of texts");
        let Some(value) = self.field(field) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(wrong)?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    fn kind(&self) -> Result<Kind, NotARequest> {
        let (group, version) = (self.text("group")?, self.text("version")?);
        Ok(Kind { group, version, kind: self.text("kind")? })
    }

    fn resource(&self) -> Result<Resource, NotARequest> {
        let (group, version) = (self.text("group")?, self.text("version")?);
        Ok(Resource { group, version, resource: self.text("resource")? })
    }

    fn user(&self) -> Result<User, NotARequest> {
        let extra = self.object("extra")?;
        if let Some(extra) = &extra {
            extra.fields.keys().try_for_each(|key| extra.texts(key).map(drop))?;
        }
        Ok(User {
            username: self.text("username")?,
            uid: self.text("uid")?,
            groups: self.texts("groups")?,
            extra: extra.map(|extra| extra.fields.clone()).unwrap_or_default(),
        })
    }

    /// What an object says of its kind is what the request says.
    fn check_kind(&self, kind: &Kind) -> Result<(), NotARequest> {
        let told = [("kind", kind.kind.clone()), ("apiVersion", kind.api_version())];
        for (field, wanted) in told {
            let said = self.text(field)?;
            if !said.is_empty() && said != wanted {
                return Err(self
                    .wrong(field, &format!("it is `{said}`, and the request is for a `{kind}`")));
            }
        }
        Ok(())
    }
}

/// Empty text is left out, as the API's encoder does.
fn put(fields: &mut Map<String, Json>, name: &str, text: &str) {
    if !text.is_empty() {
        fields.insert(name.to_owned(), Json::from(text));
    }
}
