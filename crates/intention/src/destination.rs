//! Workloads that are called.

use std::{collections::BTreeMap, fmt};

use nullius_fields::{Faults, Fields, found, shown};
use nullius_model::Namespace;
use serde_json::Value as Json;

use crate::{
    intention::{Reach, Tier},
    labels::{Labels, Selection},
    origin::SYSTEM_NAMESPACE,
};

/// A workload of this cluster, as decisions know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Namespace,
    /// The service account of its pods.
    pub service_account: String,
    /// The labels of its pods.
    pub labels: Labels,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

/// Which workloads an intention is for; all that it says must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) service_account: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ports: Vec<u16>,
}

impl Destination {
    /// The namespace that it is of; none where it may be of any.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// Whether it is for a port of its pods.
    pub fn covers(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    /// Reads it for an intention of a namespace and a tier.
    pub(crate) fn read(value: &Json, own: &Namespace, tier: Tier, faults: &Faults) -> Option<Self> {
        let before = faults.count();
        let mut fields = Fields::of(value, "spec.destination", faults)?;
        let service_account = fields.text("serviceAccount").map(str::to_owned);
        if let Some(account) = &service_account
            && !is_subdomain(account)
        {
            fields.wrong("serviceAccount", not_an_account(account));
        }
        let labels = labels(&mut fields, faults);
        let has_labels = fields.has("labels");
        let wide = Wide { any: fields.truth("any"), namespace: fields.text("namespace") };
        let is_workload = service_account.is_some() || has_labels;
        let namespace = match wide {
            Wide { any: Some(false), .. } => {
                fields.wrong("any", "say `true`, or leave it out");
                None
            }
            Wide { any: Some(true), namespace } => {
                if namespace.is_some() || is_workload {
                    fields.wrong("any", "it stands for all workloads: leave the other fields out");
                }
                only_above(&fields, "any", tier);
                None
            }
            Wide { any: None, namespace: Some(name) } => {
                let named = name.parse::<Namespace>();
                if let Err(error) = &named {
                    fields.wrong("namespace", error.to_string());
                }
                if name != own.as_str() || !is_workload {
                    only_above(&fields, "namespace", tier);
                }
                named.ok()
            }
            Wide { any: None, namespace: None } => {
                if !is_workload {
                    let told = match tier {
                        Tier::Namespace => {
                            "it names nothing: say `serviceAccount`, `labels` or both"
                        }
                        Tier::Cluster | Tier::Fleet => {
                            "it names nothing: say `serviceAccount`, `labels`, `namespace` or `any: true`"
                        }
                    };
                    faults.add("spec.destination", told);
                }
                Some(own.clone())
            }
        };
        let ports = ports(&mut fields, faults);
        fields.finish();
        (faults.count() == before).then_some(Self { namespace, service_account, labels, ports })
    }

    /// How exactly it names workloads.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self { service_account: None, labels, namespace, .. } if labels.is_empty() => {
                if namespace.is_some() {
                    Reach::Namespace
                } else {
                    Reach::Any
                }
            }
            _ => Reach::Workload,
        }
    }

    /// Whether it is for a workload, whatever the port.
    pub fn selection(&self, workload: &Workload) -> Selection {
        let is_there =
            self.namespace.as_ref().is_none_or(|namespace| *namespace == workload.namespace)
                && self.service_account.as_ref().is_none_or(|it| *it == workload.service_account);
        if !is_there {
            return Selection::Not;
        }
        let labels = self.labels.iter().map(|(key, value)| workload.labels.have(key, value));
        labels.min().unwrap_or(Selection::Selected)
    }

    /// Whether it is for a workload, or may be.
    pub fn selects(&self, workload: &Workload) -> bool {
        self.selection(workload) != Selection::Not
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.service_account) {
            (None, _) => f.write_str("any workload")?,
            (Some(namespace), Some(account)) => write!(f, "{namespace}/{account}")?,
            (Some(namespace), None) => write!(f, "{namespace}/*")?,
        }
        if !self.labels.is_empty() {
            let all: Vec<_> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            write!(f, " with {}", all.join(","))?;
        }
        Ok(())
    }
}

/// The fields that name more than a workload.
struct Wide<'a> {
    any: Option<bool>,
    namespace: Option<&'a str>,
}

fn only_above(fields: &Fields<'_>, name: &str, tier: Tier) {
    if tier == Tier::Namespace {
        let told = format!(
            "an intention is for workloads of its own namespace; only those in `{SYSTEM_NAMESPACE}` and bundles of the hub name more"
        );
        fields.wrong(name, told);
    }
}

fn labels(fields: &mut Fields<'_>, faults: &Faults) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(value) = fields.value("labels") else { return labels };
    let path = fields.at("labels");
    let Json::Object(map) = value else {
        faults.add(&path, format!("expected a mapping, found {}", found(value)));
        return labels;
    };
    if map.is_empty() {
        faults.add(&path, "it is empty and would be for all: name labels, or leave it out");
    }
    for (key, value) in map {
        match value.as_str() {
            Some(value) => {
                labels.insert(key.clone(), value.to_owned());
            }
            None => {
                let told = format!("expected text, found {}", found(value));
                faults.add(&format!("{path}[{}]", key.escape_debug()), told);
            }
        }
    }
    labels
}

/// Ports, each once and in order.
pub(crate) fn ports(fields: &mut Fields<'_>, faults: &Faults) -> Vec<u16> {
    let mut ports = Vec::new();
    for item in fields.items("ports") {
        match item.value.as_u64().map(u16::try_from) {
            Some(Ok(port)) if port > 0 => ports.push(port),
            Some(_) => {
                faults.add(&item.path, format!("{} is no port: 1 to 65535 are", item.value));
            }
            None => {
                let told = match item.value.is_string() {
                    true => {
                        "ports are numbers, those of the pod: a name of a Service's port means nothing there"
                    }
                    false => "a port is a whole number from 1 to 65535",
                };
                faults.add(
                    &item.path,
                    format!("expected a port, found {}; {told}", found(item.value)),
                );
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

pub(crate) fn not_an_account(name: &str) -> String {
    format!(
        "{} is no name of a service account: use lower-case letters, digits, `-` and `.`",
        shown(name)
    )
}

/// Whether a name is a DNS subdomain, as names of service accounts are.
pub(crate) fn is_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !part.is_empty()
            && part.bytes().all(legal)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}
