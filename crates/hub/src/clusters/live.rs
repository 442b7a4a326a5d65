//! Long requests that run (watch, logs -f, exec, port-forward): kept with what they asked for, so that they can be
//! judged again when grants, groups, locks or the time change, and cut when the answer is no longer yes.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use nullius_access::{Caller, Snapshot};
use nullius_model::{ClusterName, PermissionId, SessionId, Timestamp};
use nullius_policy::decide_kube;
use nullius_rbac::RequestInfo;

use crate::{limits::lock, sessions::LiveSessions};

/// One long request.
#[derive(Debug, Clone)]
pub(crate) struct LiveRequest {
    pub(crate) session: SessionId,
    pub(crate) cluster: ClusterName,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) request: RequestInfo,
    /// When the permit ends.
    pub(crate) ends_at: Timestamp,
}

/// A request that must be cut: whose, where, under which permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    pub(crate) session: SessionId,
    pub(crate) cluster: ClusterName,
    pub(crate) permission: Option<PermissionId>,
}

/// All long requests.
#[derive(Debug, Default)]
pub(crate) struct LiveRequests {
    next: AtomicU64,
    requests: Mutex<HashMap<u64, LiveRequest>>,
}

impl LiveRequests {
    /// Keeps a request until [`Self::leave`].
    pub(crate) fn enter(&self, request: LiveRequest) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.requests).insert(id, request);
        id
    }

    /// The request has ended.
    pub(crate) fn leave(&self, id: u64) {
        lock(&self.requests).remove(&id);
    }

    /// When the next permit ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        lock(&self.requests).values().map(|request| request.ends_at).min()
    }

    /// Judges every request again as if it came now.
    pub(crate) fn condemned(
        &self,
        sessions: &LiveSessions,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Vec<Condemned> {
        let running: Vec<LiveRequest> = lock(&self.requests).values().cloned().collect();
        let mut condemned = Vec::new();
        for request in running {
            let still = sessions.find(&request.session).is_some_and(|session| {
                let identity = session.identity(snapshot);
                let caller = Caller::new(&identity);
                let decision =
                    decide_kube(snapshot, &caller, &request.cluster, &request.request, now);
                // Allowed by another permission counts as well: the request as such is still right.
                session.is_live(now) && decision.is_allowed()
            });
            if !still {
                let LiveRequest { session, cluster, permission, .. } = request;
                condemned.push(Condemned { session, cluster, permission });
            }
        }
        condemned
    }
}
