//! Which entries somebody wants to see: one filter for the pure match, for SQL and for the query string.

use std::str::FromStr;

use nullius_model::{AuditEvent, AuditId, AuditKind, AuditOutcome, Principal, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fact::NAMESPACE;

/// What to look for; an absent field matches all, present ones must all match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Filter {
    /// A person's name, also when it was only claimed and not proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuditKind>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuditOutcome>,
    /// A cluster's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A Kubernetes resource, `pods`, or with its subresource, `pods/exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// A Kubernetes verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// A hub object, `Grant/dev-shop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The first instant that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The first instant that no longer counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The Audit-ID of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<AuditId>,
    /// How many entries at most; see [`Filter::limit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What of an event is searched; the store keeps each as a column beside the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facets {
    /// [`time_key`] of the event's time.
    pub at: i64,
    /// The kind's word.
    pub kind: &'static str,
    /// The outcome's word.
    pub outcome: &'static str,
    /// The person, proven or claimed.
    pub user: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The cluster.
    pub cluster: Option<String>,
    /// The Kubernetes namespace, of a call between workloads that of who was called.
    pub namespace: Option<String>,
    /// The Kubernetes resource.
    pub resource: Option<String>,
    /// The Kubernetes subresource.
    pub subresource: Option<String>,
    /// The Kubernetes verb.
    pub verb: Option<String>,
    /// The hub object.
    pub target: Option<String>,
    /// The Audit-ID.
    pub audit_id: String,
}

/// An instant as whole nanoseconds since 1970, cut to what a 64-bit integer holds (years 1677 to 2262).
pub fn time_key(at: Timestamp) -> i64 {
    let nanoseconds = at.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

impl Facets {
    /// What of an event is searched.
    pub fn of(event: &AuditEvent) -> Self {
        let user = match &event.principal {
            Principal::Person { user } => Some(user.to_string()),
            Principal::Unproven { claimed } => Some(claimed.clone()),
            // The name of a cluster's user could be that of a person; whoever reads only their own must not see it.
            Principal::Agent { .. }
            | Principal::Kubernetes { .. }
            | Principal::Workload { .. }
            | Principal::Hub => None,
        };
        let kube = |field: fn(&nullius_model::KubeCall) -> &String| {
            event.kube.as_ref().map(field).filter(|text| !text.is_empty()).cloned()
        };
        Self {
            at: time_key(event.at),
            kind: event.kind.as_str(),
            outcome: event.outcome.as_str(),
            user,
            session: event.session.as_ref().map(ToString::to_string),
            cluster: event.cluster.as_ref().map(ToString::to_string),
            namespace: kube(|call| &call.namespace).or_else(|| {
                let of_mesh = event.kind == AuditKind::Mesh;
                event.facts.get(NAMESPACE).filter(|_| of_mesh).cloned()
            }),
            resource: kube(|call| &call.resource),
            subresource: kube(|call| &call.subresource),
            verb: kube(|call| &call.verb),
            target: event.target.clone(),
            audit_id: event.audit_id.to_string(),
        }
    }
}

impl Filter {
    /// The most that one page holds.
    pub const MAX_LIMIT: u32 = 1_000;
    /// What one page holds when nothing is said.
    pub const DEFAULT_LIMIT: u32 = 100;

    /// How many entries one page holds.
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(Self::DEFAULT_LIMIT).clamp(1, Self::MAX_LIMIT)
    }

    /// The resource and, where one is named, the subresource.
    pub fn resource_parts(&self) -> (Option<&str>, Option<&str>) {
        match self.resource.as_deref() {
            None => (None, None),
            Some(text) => match text.split_once('/') {
                Some((resource, subresource)) => (Some(resource), Some(subresource)),
                None => (Some(text), None),
            },
        }
    }

    /// Whether an event is wanted.
    pub fn matches(&self, event: &AuditEvent) -> bool {
        self.matches_facets(&Facets::of(event))
    }

    /// Whether an event with these facets is wanted.
    pub fn matches_facets(&self, facets: &Facets) -> bool {
        let same = |wanted: Option<&str>, found: Option<&str>| wanted.is_none() || wanted == found;
        let (resource, subresource) = self.resource_parts();
        same(self.user.as_deref(), facets.user.as_deref())
            && same(self.kind.map(AuditKind::as_str), Some(facets.kind))
            && same(self.outcome.map(AuditOutcome::as_str), Some(facets.outcome))
            && same(self.cluster.as_deref(), facets.cluster.as_deref())
            && same(self.session.as_deref(), facets.session.as_deref())
            && same(self.namespace.as_deref(), facets.namespace.as_deref())
            && same(resource, facets.resource.as_deref())
            && same(subresource, facets.subresource.as_deref())
            && same(self.verb.as_deref(), facets.verb.as_deref())
            && same(self.target.as_deref(), facets.target.as_deref())
            && same(self.audit_id.as_ref().map(AuditId::as_str), Some(&facets.audit_id))
            && self.since.is_none_or(|since| facets.at >= time_key(since))
            && self.until.is_none_or(|until| facets.at < time_key(until))
    }

    /// Reads a kind or outcome as it stands on the command line; the error lists what there is.
    pub fn parse_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, serde_json::Error> {
        serde_json::from_value(serde_json::Value::String(word.to_owned()))
    }
}

impl FromStr for Facets {
    type Err = serde_json::Error;
    /// Reads the facets of an event from its canonical JSON.
    fn from_str(body: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::of(&serde_json::from_str(body)?))
    }
}
