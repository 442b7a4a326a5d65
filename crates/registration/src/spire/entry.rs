//! Entries: what `spire-server entry show` prints, and `ClusterStaticEntry` objects.

use nullius_fields::{Fault, Faults, Fields, found};
use nullius_model::SpiffeId;
use serde_json::Value as Json;

use super::{
    DEFAULT_PATH, Done, Draft, More, fault, go, name_of, nodes::Nodes, selector::Selected,
    without_empty,
};
use crate::later;

/// The parent of nodes.
const SERVER: &str = "/spire/server";

/// An identity with its selectors.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SpiffeId,
    parent: SpiffeId,
    pub(super) selectors: Vec<Selector>,
    /// What the object is called; entries of the server have no name.
    name: Option<String>,
    names: Names,
    more: More,
}

#[derive(Debug)]
pub(super) struct Selector {
    path: String,
    pub(super) kind: String,
    pub(super) value: String,
}

/// How fields are called, with what they stand in.
#[derive(Debug, Clone, Copy)]
struct Names {
    within: &'static str,
    id: &'static str,
    parent: &'static str,
    federates_with: &'static str,
    dns_names: &'static str,
}

const OF_SERVER: Names = Names {
    within: "",
    id: "spiffe_id",
    parent: "parent_id",
    federates_with: "federates_with",
    dns_names: "dns_names",
};

const OF_OBJECT: Names = Names {
    within: "spec.",
    id: "spiffeID",
    parent: "parentID",
    federates_with: "federatesWith",
    dns_names: "dnsNames",
};

impl Entry {
    /// Reads an entry of the server.
    pub(super) fn read(json: &Json) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let value = without_empty(json);
        let entry = Fields::of(&value, "", &faults).and_then(|mut fields| {
            for aside in ["id", "created_at", "revision_number"] {
                let _ = fields.value(aside);
            }
            let x509_seconds = whole(&mut fields, "x509_svid_ttl");
            let jwt_seconds = whole(&mut fields, "jwt_svid_ttl");
            if whole(&mut fields, "expires_at").is_some_and(|at| at > 0) {
                fields.wrong("expires_at", "not carried over: identities here have no end");
            }
            refuse_power(&mut fields, "store_svid", "SVIDs that are stored somewhere");
            read(fields, OF_SERVER, None, (x509_seconds, jwt_seconds), &faults)
        });
        done(entry, faults)
    }

    /// Reads an object.
    pub(super) fn read_static(json: &Json) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let value = without_empty(json.get("spec").unwrap_or(&Json::Null));
        let entry = Fields::of(&value, "spec", &faults).and_then(|mut fields| {
            let _ = fields.value("className");
            let x509_seconds = duration(&mut fields, "x509SVIDTTL");
            let jwt_seconds = duration(&mut fields, "jwtSVIDTTL");
            let name = json.pointer("/metadata/name").and_then(Json::as_str).map(name_of);
            read(fields, OF_OBJECT, name, (x509_seconds, jwt_seconds), &faults)
        });
        done(entry, faults)
    }

    /// Whether it is an identity of nodes.
    pub(super) fn is_of_nodes(&self) -> bool {
        self.parent.path() == SERVER
    }

    fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        fault(&format!("{}{field}", self.names.within), message)
    }

    /// What is to be written for it.
    pub(super) fn draft(&self, nodes: &Nodes) -> Result<Draft, Done> {
        if self.is_of_nodes() {
            let told = "an identity of nodes, which prove themselves to the agent: nothing is written for it";
            return Err(Done::Needless(self.fault(self.names.id, told)));
        }
        let mut faults = Vec::new();
        if let Err(told) = nodes.check_domain(self.id.trust_domain()) {
            faults.push(self.fault(self.names.id, told));
        }
        if let Err(told) = nodes.check_parent(&self.parent) {
            faults.push(self.fault(self.names.parent, told));
        }
        let mut of = Selected::default();
        for selector in &self.selectors {
            if let Err(told) = of.add(&selector.kind, &selector.value) {
                faults.push(fault(&selector.path, told));
            }
        }
        let namespace = of.namespace.take().unwrap_or_default();
        if namespace.is_empty() {
            let told = "not carried over: no `k8s:ns` says of which namespace its pods are";
            faults.push(self.fault("selectors", told));
        }
        if !faults.is_empty() {
            return Err(Done::Refused(faults));
        }
        let path = self.id.path();
        let account = of.account.as_deref().map(|account| format!("/ns/{namespace}/sa/{account}"));
        // The account that the selector names is the pod's own.
        let below = account.and_then(|own| {
            let rest = path.strip_prefix(&own)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{DEFAULT_PATH}{rest}"))
        });
        let rest = path.strip_prefix(&format!("/ns/{namespace}/")).unwrap_or(path);
        let name = name_of(rest.strip_prefix("sa/").unwrap_or(rest));
        Ok(Draft {
            name: self.name.clone().unwrap_or(name),
            path: below.unwrap_or_else(|| path.to_owned()),
            namespace,
            of,
            more: self.more.clone(),
        })
    }
}

fn done(entry: Option<Entry>, faults: Faults) -> Result<Entry, Vec<Fault>> {
    match (entry, faults.into_vec()) {
        (Some(entry), faults) if faults.is_empty() => Ok(entry),
        (_, faults) => Err(faults),
    }
}

fn read(
    mut fields: Fields<'_>,
    names: Names,
    name: Option<String>,
    (x509_seconds, jwt_seconds): (Option<u64>, Option<u64>),
    faults: &Faults,
) -> Option<Entry> {
    let id = read_id(&mut fields, names.id);
    let parent = read_id(&mut fields, names.parent);
    let mut selectors = Vec::new();
    for item in fields.items("selectors") {
        let text = |field: &str| item.value.get(field).and_then(Json::as_str);
        let parts = match item.value.as_str() {
            Some(selector) => selector.split_once(':'),
            None => text("type").zip(text("value")),
        };
        match parts {
            Some((kind, value)) => {
                let (kind, value) = (kind.to_owned(), value.to_owned());
                selectors.push(Selector { path: item.path, kind, value });
            }
            None => faults.add(&item.path, "it is no selector, `TYPE:VALUE`"),
        }
    }
    if !fields.has("selectors") {
        fields.wrong("selectors", "it is missing: say whose it is");
    }
    refuse_power(&mut fields, "admin", "the API of SPIRE's server");
    refuse_power(&mut fields, "downstream", "servers below SPIRE's");
    let more = More {
        x509_seconds,
        jwt_seconds,
        dns_names: texts(&mut fields, names.dns_names),
        hint: fields.text("hint").map(str::to_owned),
        federates_with: domains(&mut fields, names.federates_with),
    };
    fields.finish();
    Some(Entry { id: id?, parent: parent?, selectors, name, names, more })
}

pub(super) fn texts(fields: &mut Fields<'_>, name: &'static str) -> Vec<String> {
    fields.texts(name).into_iter().map(|(_, text)| text.to_owned()).collect()
}

/// Trust domains, by name or as IDs.
pub(super) fn domains(fields: &mut Fields<'_>, name: &'static str) -> Vec<String> {
    let bare = |text: String| text.strip_prefix("spiffe://").map(str::to_owned).unwrap_or(text);
    texts(fields, name).into_iter().map(bare).collect()
}

/// What an identity does in SPIRE beside being one.
pub(super) fn refuse_power(fields: &mut Fields<'_>, name: &'static str, what: &str) {
    if fields.truth(name) == Some(true) {
        fields.wrong(name, format!("not carried over: it is for {what}"));
    }
}

pub(super) fn duration(fields: &mut Fields<'_>, name: &'static str) -> Option<u64> {
    let read = go::seconds(fields.text(name)?);
    read.map_err(|told| fields.wrong(name, told)).ok()
}

/// A number, which JSON of protobuf writes as text where it may be long.
fn whole(fields: &mut Fields<'_>, name: &'static str) -> Option<u64> {
    let value = fields.value(name)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    if number.is_none() {
        fields.wrong(name, format!("expected a number, found {}", found(value)));
    }
    number
}

fn read_id(fields: &mut Fields<'_>, name: &'static str) -> Option<SpiffeId> {
    let Some(value) = fields.value(name) else {
        fields.wrong(name, "it is missing");
        return None;
    };
    let part = |field: &str| value.get(field).and_then(Json::as_str).unwrap_or_default();
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => format!("spiffe://{}{}", part("trust_domain"), part("path")),
    };
    text.parse::<SpiffeId>().map_err(|error| fields.wrong(name, error.to_string())).ok()
}
