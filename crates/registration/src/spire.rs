//! Registrations of SPIRE as `WorkloadIdentity` objects that give no more.
//!
//! Read are entries as `spire-server entry show -output json` prints them and the objects of spire-controller-manager. What has no exact
//! counterpart is refused by name; an identity that every enrolled pod has anyway needs no object, and that is said instead.

mod class;
mod entry;
mod go;
mod nodes;
mod selector;

use std::collections::BTreeSet;

use nullius_fields::Fault;
use nullius_model::{API_VERSION, TrustDomain};
use serde_json::{Map, Value as Json, json};

use crate::object::{JWT_TTL, WorkloadIdentity, X509_TTL};
use class::{Class, Namespaces};
use entry::Entry;
use nodes::Nodes;
use selector::Selected;

/// How SPIRE is set up.
#[derive(Debug, Clone, Default)]
pub struct Spire {
    /// The trust domain that becomes the cluster's own; none where there is but one.
    pub trust_domain: Option<TrustDomain>,
    /// The parents of entries that stand for all nodes of the cluster, beside those whose own entries say so.
    pub parents: BTreeSet<String>,
    /// Namespaces that spire-controller-manager passes over.
    pub ignored: BTreeSet<String>,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// What was carried over.
    pub identities: Vec<ImportedIdentity>,
    /// What was not, and why.
    pub refused: Vec<Remark>,
    /// What needs no object.
    pub notes: Vec<Remark>,
}

/// A `WorkloadIdentity` to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: Json,
}

/// Something to be told of one of the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which of the objects.
    pub object: usize,
    /// The field, and what is to be told.
    pub fault: Fault,
}

/// The path of the default identity.
const DEFAULT_PATH: &str = "/ns/{namespace}/sa/{serviceAccount}";

/// An identity that is to be written.
#[derive(Debug, Clone, Default)]
struct Draft {
    namespace: String,
    /// What it may be called.
    name: String,
    /// The path of its ID, with places.
    path: String,
    of: Selected,
    more: More,
}

/// What an identity says beside whose it is.
#[derive(Debug, Clone, Default)]
struct More {
    x509_seconds: Option<u64>,
    jwt_seconds: Option<u64>,
    dns_names: Vec<String>,
    hint: Option<String>,
    federates_with: Vec<String>,
}

/// Carries registrations over; objects of other kinds are passed over.
pub fn import_spire(objects: &[Json], spire: &Spire) -> Imported {
    let mut imported = Imported::default();
    let mut entries = Vec::new();
    let mut classes = Vec::new();
    let mut namespaces = Namespaces::default();
    for (object, json) in objects.iter().enumerate() {
        let done = match kind(json) {
            Kind::Entry => Entry::read(json).map(|entry| entries.push((object, entry))),
            Kind::Static => Entry::read_static(json).map(|entry| entries.push((object, entry))),
            Kind::Class => Class::read(json).map(|class| classes.push((object, class))),
            Kind::Namespace => {
                namespaces.add(json);
                Ok(())
            }
            Kind::Other => Ok(()),
            Kind::Wrong(field, message) => Err(vec![fault(field, message)]),
        };
        imported.refuse(object, done.err().unwrap_or_default());
    }
    let nodes = Nodes::of(entries.iter().map(|(_, entry)| entry), spire);
    for (object, entry) in &entries {
        let done = entry.draft(&nodes).map(|draft| vec![draft]);
        imported.write(*object, done, "its pods");
    }
    for (object, class) in &classes {
        let done = class.drafts(&namespaces, &nodes, spire);
        imported.write(*object, done, "pods");
    }
    imported
}

/// What an object is here.
enum Kind {
    Entry,
    Static,
    Class,
    Namespace,
    Other,
    /// A field, and why it is not carried over.
    Wrong(&'static str, &'static str),
}

fn kind(json: &Json) -> Kind {
    let text = |field: &str| json.get(field).and_then(Json::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "Namespace") => Kind::Namespace,
        (group, kind) if group.starts_with("spire.spiffe.io/") => match kind {
            "ClusterSPIFFEID" => Kind::Class,
            "ClusterStaticEntry" => Kind::Static,
            "ClusterFederatedTrustDomain" => Kind::Wrong(
                "kind",
                "not carried over: bundles of other trust domains are no registrations",
            ),
            _ => Kind::Other,
        },
        ("", "") if json.get("spiffe_id").is_some() => Kind::Entry,
        ("", "") => Kind::Wrong(
            "",
            "this is neither an entry as `spire-server entry show -output json` prints it nor an object of Kubernetes",
        ),
        _ => Kind::Other,
    }
}

fn fault(field: &str, message: impl Into<String>) -> Fault {
    Fault { field: field.to_owned(), message: message.into() }
}

impl Imported {
    fn refuse(&mut self, object: usize, faults: Vec<Fault>) {
        self.refused.extend(faults.into_iter().map(|fault| Remark { object, fault }));
    }

    /// Writes what came of an object: what the strict reader takes, under names of their own.
    fn write(&mut self, object: usize, done: Result<Vec<Draft>, Done>, whose: &str) {
        let drafts = match done {
            Ok(drafts) => drafts,
            Err(Done::Refused(faults)) => return self.refuse(object, faults),
            Err(Done::Needless(fault)) => return self.notes.push(Remark { object, fault }),
        };
        for draft in drafts {
            if draft.is_default() {
                let told = format!(
                    "this is the ID that {whose} have when they are enrolled: nothing is written for it"
                );
                self.notes.push(Remark { object, fault: fault("", told) });
                continue;
            }
            let spec = draft.spec();
            let identity = self.named(draft, spec);
            match WorkloadIdentity::read(&identity.to_json()) {
                Ok(_) => self.identities.push(identity),
                Err(faults) => {
                    let told =
                        |it: Fault| fault("", format!("no WorkloadIdentity can say it: {it}"));
                    self.refuse(object, faults.into_iter().map(told).collect());
                }
            }
        }
    }

    fn named(&self, draft: Draft, spec: Json) -> ImportedIdentity {
        let Draft { namespace, name: base, .. } = draft;
        let is_taken = |name: &str| {
            self.identities.iter().any(|it| it.namespace == namespace && it.name == name)
        };
        let numbered = (2..).map(|number: u32| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        let name = names.find(|name| !is_taken(name)).unwrap_or_default();
        ImportedIdentity { namespace, name, spec }
    }
}

/// Why nothing is written for an object.
#[derive(Debug)]
enum Done {
    Refused(Vec<Fault>),
    Needless(Fault),
}

impl From<Vec<Fault>> for Done {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Refused(faults)
    }
}

impl Draft {
    /// Whether it says what holds without any object.
    fn is_default(&self) -> bool {
        self.path == DEFAULT_PATH && self.more.is_nothing()
    }

    fn spec(&self) -> Json {
        let mut spec = Map::new();
        self.of.write(&mut spec);
        if self.path != DEFAULT_PATH {
            spec.insert("path".to_owned(), json!(self.path));
        }
        self.more.write(&mut spec);
        Json::Object(spec)
    }
}

impl More {
    fn lives(&self) -> (Option<u64>, Option<u64>) {
        let other_than = |seconds: Option<u64>, default: u32| {
            seconds.filter(|seconds| *seconds > 0 && *seconds != u64::from(default))
        };
        (
            other_than(self.x509_seconds, X509_TTL.as_secs()),
            other_than(self.jwt_seconds, JWT_TTL.as_secs()),
        )
    }

    fn is_nothing(&self) -> bool {
        self.lives() == (None, None)
            && self.dns_names.is_empty()
            && self.hint.is_none()
            && self.federates_with.is_empty()
    }

    fn write(&self, spec: &mut Map<String, Json>) {
        let (x509, jwt) = self.lives();
        let mut of_x509 = Map::new();
        if let Some(seconds) = x509 {
            of_x509.insert("ttl".to_owned(), json!(format!("{seconds}s")));
        }
        if !self.dns_names.is_empty() {
            of_x509.insert("dnsNames".to_owned(), json!(self.dns_names));
        }
        if !of_x509.is_empty() {
            spec.insert("x509".to_owned(), Json::Object(of_x509));
        }
        if let Some(seconds) = jwt {
            spec.insert("jwt".to_owned(), json!({ "ttl": format!("{seconds}s") }));
        }
        if let Some(hint) = &self.hint {
            spec.insert("hint".to_owned(), json!(hint));
        }
        if !self.federates_with.is_empty() {
            spec.insert("federatesWith".to_owned(), json!(self.federates_with));
        }
    }
}

impl ImportedIdentity {
    /// The object.
    pub fn to_json(&self) -> Json {
        json!({
            "apiVersion": API_VERSION,
            "kind": "WorkloadIdentity",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": self.spec,
        })
    }
}

/// A name for an object, made of text.
fn name_of(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().filter(|c| !"{}".contains(*c)).map(legal).take(200).collect();
    match name.trim_matches('-') {
        "" => "identity".to_owned(),
        name => name.to_owned(),
    }
}

/// What is empty is not there; a label may be empty.
fn without_empty(value: &Json) -> Json {
    let is_there = |value: &Json| match value {
        Json::Null => false,
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::Object(_) => true,
    };
    match value {
        Json::Object(map) => {
            let fields = map.iter().filter(|(_, value)| is_there(value));
            let bare = |(name, value): (&String, &Json)| match name.as_str() {
                "matchLabels" => (name.clone(), value.clone()),
                _ => (name.clone(), without_empty(value)),
            };
            Json::Object(fields.map(bare).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(without_empty).collect()),
        other => other.clone(),
    }
}
