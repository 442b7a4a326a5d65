//! Calls between workloads, merged: who called whom in a cluster's mesh, and what was decided of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{PermissionId, Timestamp};

/// What became of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshVerdict {
    /// They were allowed.
    Allowed,
    /// They were allowed, and intentions that are only watched would deny them.
    ShadowDenied,
    /// They were denied.
    Denied,
    /// They never came to a decision.
    Failed,
}

impl MeshVerdict {
    /// Every verdict.
    pub const ALL: &'static [Self] =
        &[Self::Allowed, Self::ShadowDenied, Self::Denied, Self::Failed];

    /// The verdict as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ShadowDenied => "shadow-denied",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for MeshVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose proxy saw a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshSide {
    /// That of who called.
    Source,
    /// That of who was called, which decides.
    Destination,
}

impl MeshSide {
    /// The side as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// What one end of calls is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum PartyKind {
    /// Pods of the cluster, as the workload that owns them.
    Workload,
    /// Who proved an ID, and is no pod of the cluster.
    Elsewhere,
    /// Addresses of nobody in the cluster, who proved nothing.
    Outside,
    /// Different ones, for whom there was no room apart.
    Others,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// One end of calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshParty {
    /// What it is.
    pub kind: PartyKind,
    /// Namespace of a workload, or of those that are not kept apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Kind of the top owner of a workload's pods, `Deployment`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_kind: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_name: String,
    /// The SPIFFE ID, where one was proven.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spiffe_id: String,
}

impl MeshParty {
    /// Those of a namespace of whom nothing is kept apart; of any, where it is empty.
    pub fn others(namespace: &str) -> Self {
        Self { kind: PartyKind::Others, namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Who it is in one word: `Deployment/shop/orders`, a SPIFFE ID, `(outside)`, `(other)`, `(other)/shop`, `(unknown)`.
    pub fn label(&self) -> String {
        match self.kind {
            PartyKind::Workload if !self.owner_name.is_empty() => {
                format!("{}/{}/{}", self.owner_kind, self.namespace, self.owner_name)
            }
            PartyKind::Workload | PartyKind::Elsewhere if !self.spiffe_id.is_empty() => {
                self.spiffe_id.clone()
            }
            PartyKind::Outside => "(outside)".to_owned(),
            PartyKind::Others if !self.namespace.is_empty() => {
                format!("(other)/{}", self.namespace)
            }
            PartyKind::Others => "(other)".to_owned(),
            PartyKind::Workload | PartyKind::Elsewhere | PartyKind::Unknown => {
                "(unknown)".to_owned()
            }
        }
    }
}

/// Whose room a call takes, by namespace and ID of who called and the namespace that was called: see [`CallKey::payer`].
pub fn payer(namespace: &str, id: &str, called: &str) -> String {
    if !namespace.is_empty() {
        return format!("from {namespace}");
    }
    if id.is_empty() {
        return format!("to {called}");
    }
    // Of another trust domain, as a rule: what follows its name is its own to write, however often.
    let end = id.match_indices('/').nth(2).map(|(at, _)| at);
    format!("from {}", end.map_or(id, |end| &id[..end]))
}

/// What intentions that are only watched would have decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshShadow {
    /// Why, as a closed word.
    pub reason: String,
    /// The rule that would decide.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Its permission, or the nearest that would have allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
}

/// What makes calls the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallKey {
    /// Who called.
    pub source: MeshParty,
    /// Who was called.
    pub destination: MeshParty,
    /// Whose proxy saw it: both may see the same call.
    pub side: MeshSide,
    /// `NAMESPACE/NAME` of the Service that was called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// The port of the destination.
    pub port: u16,
    /// `tcp`, or `http` where requests were read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// How it looks on the wire: `hbone`, `istio`, `tls`; `plain` proves nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wire: String,
    /// What became of it.
    pub verdict: MeshVerdict,
    /// Why, as the closed word of the access log.
    pub reason: String,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The permission that allowed it, or the nearest that would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
    /// What would have been decided by intentions that are only watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<MeshShadow>,
}

impl CallKey {
    /// Whose room it takes, of all that is kept of a cluster: that of who called, by namespace; where nobody knows who that was, that of the
    /// namespace that was called.
    pub fn payer(&self) -> String {
        let called = &self.destination.namespace;
        payer(&self.source.namespace, &self.source.spiffe_id, called)
    }

    /// The same at any port, by any Service: where one source calls too many of those at which nobody answers, or outside of the cluster.
    #[must_use]
    pub fn at_any_port(&self) -> Self {
        Self { port: 0, service: String::new(), ..self.clone() }
    }

    /// The same source, side, verdict and namespace with all else unknown: where one source calls too many different things.
    #[must_use]
    pub fn folded_of_source(&self) -> Self {
        let mut source = self.source.clone();
        if !source.owner_name.is_empty() {
            source.spiffe_id.clear();
        }
        Self { source, ..self.folded_in_namespaces() }
    }

    /// The same namespaces, side and verdict with all else unknown: where a namespace calls too many different things.
    #[must_use]
    pub fn folded_in_namespaces(&self) -> Self {
        Self {
            source: MeshParty::others(&self.source.namespace),
            destination: MeshParty::others(&self.destination.namespace),
            ..self.folded()
        }
    }

    /// The same side and verdict with all else unknown: where a cluster tells of too many different calls.
    #[must_use]
    pub fn folded(&self) -> Self {
        Self {
            source: MeshParty::others(""),
            destination: MeshParty::others(""),
            side: self.side,
            service: String::new(),
            port: 0,
            protocol: String::new(),
            wire: String::new(),
            verdict: self.verdict,
            reason: String::new(),
            rule: String::new(),
            permission: None,
            shadow: None,
        }
    }

    /// Whether it stands for calls that were not kept apart.
    pub fn is_folded(&self) -> bool {
        [&self.source, &self.destination].iter().any(|party| party.kind == PartyKind::Others)
    }
}

/// Calls, merged: exact counts, first and last, and one attempt that shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// What makes them the same.
    #[serde(flatten)]
    pub key: CallKey,
    /// Connections that began.
    pub connections: u64,
    /// Requests on them that were read.
    pub requests: u64,
    /// Bytes to who was called.
    pub bytes_to_destination: u64,
    /// Bytes to who called.
    pub bytes_to_source: u64,
    /// First time in the period.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
    /// One such attempt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sample: String,
}

impl Calls {
    /// Adds what the other counts of the same calls.
    pub fn add(&mut self, other: &Self) {
        let plus = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        plus(&mut self.connections, other.connections);
        plus(&mut self.requests, other.requests);
        plus(&mut self.bytes_to_destination, other.bytes_to_destination);
        plus(&mut self.bytes_to_source, other.bytes_to_source);
        self.first = self.first.min(other.first);
        if other.last >= self.last {
            self.last = other.last;
            self.sample.clone_from(&other.sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_room_a_call_takes_is_for_nobody_to_make_up() {
        assert_eq!(payer("shop", "spiffe://a.example/ns/shop/sa/web", "bank"), "from shop");
        assert_eq!(payer("", "", "bank"), "to bank");
        for id in ["/ns/a/sa/x", "/ns/b/sa/y", "/ns/b", "/x/sa/z/sa/", ""] {
            let id = format!("spiffe://partner.example{id}");
            assert_eq!(payer("", &id, "bank"), "from spiffe://partner.example");
        }
    }
}
