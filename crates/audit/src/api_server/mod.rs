//! What an API server tells by its audit webhook: a list of audit.k8s.io/v1 events, read in exactly one way, and what of each is worth
//! telling on.
//!
//! Metadata alone is taken: bodies of requests and answers are stepped over, whatever level they come with. The API server is believed;
//! what its callers could choose (the Audit-ID, names, paths, the client's name) is only ever text.

mod permission;
mod read;
mod words;

use std::net::IpAddr;

use nullius_model::Timestamp;
use sha2::{Digest as _, Sha256};

pub use permission::{rbac_permission, rbac_source};
pub use read::{Listed, NotAList, read_list};
pub use words::{Remark, Said, Weight};

/// The longest list that is read, in bytes: an API server that was told to cut its batches sends up to 10 MiB.
pub const LIST_BYTES: usize = 11 << 20;
/// The most events of one list.
pub const LIST_EVENTS: usize = 20_000;

/// A request that an API server has answered, as it tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The Audit-ID. Whoever calls an API server may choose it.
    pub audit_id: String,
    /// Where in the request's life it stands, `ResponseComplete` for all that is kept.
    pub stage: String,
    /// When the request came.
    pub received: Timestamp,
    /// When the stage was reached.
    pub at: Timestamp,
    /// Who, as the API server has proven it; empty where it could not.
    pub username: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Whom they acted as, where they impersonated somebody.
    pub impersonated: Option<String>,
    /// The groups that they acted with then.
    pub impersonated_groups: Vec<String>,
    /// The pod whose token it was.
    pub pod: Option<String>,
    /// From where, as the API server saw it or was told by proxies.
    pub source: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: String,
    /// The verb.
    pub verb: String,
    /// The path without what is asked for behind `?`, and without what is asked of an application behind `proxy`.
    pub path: String,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// The object, where the path names a resource.
    pub object: Option<Object>,
    /// Status code of the answer.
    pub code: u16,
    /// The message of an answer that is a status.
    pub message: String,
    /// What the authorizers said; none where they were not asked.
    pub authorized: Option<Authorized>,
    /// Why, in the authorizer's words.
    pub reason: String,
    /// Further annotations, by their keys.
    pub annotations: Vec<(String, String)>,
}

/// What the authorizers said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorized {
    /// The request may go on.
    Allow,
    /// It may not.
    Forbid,
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name, where the path or the answer has one.
    pub name: String,
}

impl Answered {
    /// Whether a decision fell, and which: what the authorizers said, that nobody was proven, or that nobody may be impersonated.
    pub fn decision(&self) -> Option<Authorized> {
        match (self.authorized, self.code) {
            (None, 401 | 403) => Some(Authorized::Forbid),
            (authorized, _) => authorized,
        }
    }

    /// Whether they may not act as whom they named: that is asked before anything about the request itself, which nobody then decides.
    pub fn is_refused_impersonation(&self) -> bool {
        self.authorized.is_none() && self.code == 403
    }

    /// The same for everybody who is told of the request, and for no other request: what a caller may choose is not all of it.
    pub fn mark(&self) -> u64 {
        let mut hash = Sha256::new();
        for time in [self.received, self.at] {
            hash.update(time.as_nanosecond().to_be_bytes());
        }
        let Self { audit_id, stage, username, verb, path, .. } = self;
        for part in [audit_id, stage, username, verb, path] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
    }

    /// What the API server itself said of the request, where that is worth an event.
    pub fn said(&self) -> Option<Said> {
        words::said(self)
    }
}

#[cfg(test)]
mod tests;
