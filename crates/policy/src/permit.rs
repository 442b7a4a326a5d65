//! Proofs that a decision allowed one thing; they cannot be made, copied or changed outside this crate.
//!
//! ```compile_fail
//! fn forge() -> nullius_policy::ReviewPermit {
//!     nullius_policy::ReviewPermit { _sealed: () }
//! }
//! ```

use std::net::IpAddr;

use nullius_access::{HubVerb, ReadScope};
use nullius_intention::BodyChecks;
use nullius_model::{
    ClusterName, Kind, PermissionId, Principal, SessionId, SpiffeId, Timestamp, UserName,
};
use nullius_rbac::{Method, RequestInfo};

/// One request to one cluster's API server is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct KubePermit {
    pub(crate) cluster: ClusterName,
    pub(crate) user: UserName,
    pub(crate) session: SessionId,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) request: RequestInfo,
    pub(crate) decided_at: Timestamp,
    pub(crate) ends_at: Timestamp,
}

impl KubePermit {
    /// The cluster that it is for.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The person.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The permission that allowed it; none for what everyone signed in may do.
    pub fn permission(&self) -> Option<&PermissionId> {
        self.permission.as_ref()
    }

    /// The request as it was read.
    pub fn request(&self) -> &RequestInfo {
        &self.request
    }

    /// The method to forward.
    pub fn method(&self) -> Method {
        self.request.method()
    }

    /// Path and query to forward, byte for byte; its digest goes into the request assertion.
    pub fn path_and_query(&self) -> &str {
        self.request.path_and_query()
    }

    /// When it was decided.
    pub fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// When what runs under it must end, or be decided again.
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// Whether it is for exactly this request.
    pub fn is_for(&self, cluster: &ClusterName, method: &str, path_and_query: &str) -> bool {
        self.cluster == *cluster
            && self.method().as_str() == method
            && self.path_and_query() == path_and_query
    }
}

/// One action on the hub's own objects is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct HubPermit {
    pub(crate) by: Principal,
    pub(crate) verb: HubVerb,
    pub(crate) kind: Option<Kind>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) scope: ReadScope,
    pub(crate) permission: Option<PermissionId>,
}

impl HubPermit {
    /// Who acts.
    pub fn by(&self) -> &Principal {
        &self.by
    }

    /// The verb.
    pub fn verb(&self) -> HubVerb {
        self.verb
    }

    /// The kind, for verbs on objects.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// The object, person or cluster that it acts on.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Which objects a permitted read shows.
    pub fn scope(&self) -> ReadScope {
        self.scope
    }

    /// The permission that allowed it; none for what everyone signed in may do, and for the hub itself.
    pub fn permission(&self) -> Option<&PermissionId> {
        self.permission.as_ref()
    }

    /// Whether it is for exactly this action on this object.
    pub fn is_for(&self, verb: HubVerb, kind: Kind, name: &str) -> bool {
        self.verb == verb && self.kind == Some(kind) && self.name.as_deref() == Some(name)
    }
}

/// The answer to somebody's question about themselves is yes; it opens nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct ReviewPermit {
    pub(crate) _sealed: (),
}

/// What somebody sends to an API server may enter the cluster, as policies left it.
#[derive(Debug, PartialEq, Eq)]
pub struct AdmissionPermit {
    pub(crate) _sealed: (),
}

/// One connection to a workload may be.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionPermit {
    pub(crate) source: Option<SpiffeId>,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) ends_at: Option<Timestamp>,
}

impl ConnectionPermit {
    /// Who calls, as far as that is proven.
    pub fn source(&self) -> Option<&SpiffeId> {
        self.source.as_ref()
    }

    /// The permission that allowed it; none for what is only let pass.
    pub fn permission(&self) -> Option<&PermissionId> {
        self.permission.as_ref()
    }

    /// When it must be decided again, where it is only let pass.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// Whether it is for exactly this connection.
    pub fn is_for(&self, source: Option<&SpiffeId>, address: IpAddr, port: u16) -> bool {
        self.source.as_ref() == source
            && self.address == address.to_canonical()
            && self.port == port
    }
}

/// One request to a workload may be.
#[derive(Debug)]
pub struct RequestPermit {
    pub(crate) method: Box<str>,
    pub(crate) target: Box<[u8]>,
    pub(crate) permission: Option<PermissionId>,
    /// What is still to be asked about its body; until then it is for no request.
    pub(crate) body: Option<Box<BodyChecks>>,
}

impl RequestPermit {
    /// The permission that allowed it.
    pub fn permission(&self) -> Option<&PermissionId> {
        self.permission.as_ref()
    }

    /// Whether it is for exactly this request, its target byte for byte. As long as its body was not decided it is for none.
    pub fn is_for(&self, method: &str, target: &[u8]) -> bool {
        self.body.is_none() && *self.method == *method && *self.target == *target
    }

    /// What is to be asked about the body before the request may go on: see [`crate::decide_body`].
    pub fn body(&self) -> Option<&BodyChecks> {
        self.body.as_deref()
    }
}
