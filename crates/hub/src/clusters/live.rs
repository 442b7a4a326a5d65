//! Requests that run: kept with what they asked for, so that they can be judged again when grants, groups, locks or
//! the time change, and cut when the answer is no longer yes. Every request counts, since nobody can tell by its
//! path how long it will run.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use nullius_access::{Caller, Snapshot};
use nullius_model::{ClusterName, PermissionId, SessionId, Timestamp};
use nullius_policy::{Denial, decide_kube};
use nullius_rbac::RequestInfo;

use crate::{lock::lock, memory::sessions::LiveSessions};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct LiveRequest {
    pub(crate) session: SessionId,
    pub(crate) cluster: ClusterName,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) request: RequestInfo,
    /// When the permit ends.
    pub(crate) ends_at: Timestamp,
}

/// Why a request is no longer right.
#[derive(Debug)]
pub(crate) enum NoMore {
    /// Its session has ended.
    Ended,
    /// The decision is no by now.
    Denied(Denial),
}

impl LiveRequest {
    /// Judges the request again as if it came now. Allowed by another permission counts as well: the request as such
    /// is still right.
    pub(crate) fn judge_again(
        &self,
        sessions: &LiveSessions,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<(), NoMore> {
        let session = sessions.find(&self.session).filter(|session| session.is_live(now));
        let session = session.ok_or(NoMore::Ended)?;
        let identity = session.identity(snapshot);
        let caller = Caller::new(&identity);
        let decision = decide_kube(snapshot, &caller, &self.cluster, &self.request, now);
        decision.into_result().map(|_| ()).map_err(NoMore::Denied)
    }
}

/// A request that must be cut: whose, where, under which permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    pub(crate) session: SessionId,
    pub(crate) cluster: ClusterName,
    pub(crate) permission: Option<PermissionId>,
}

/// All requests that run.
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
            if request.judge_again(sessions, snapshot, now).is_err() {
                let LiveRequest { session, cluster, permission, .. } = request;
                condemned.push(Condemned { session, cluster, permission });
            }
        }
        condemned
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::collections::BTreeSet;

    use nullius_access::session::{ClientMark, SessionSettings, sign_in};
    use nullius_model::{
        AnyObject, ClusterSelector, ClusterSpec, GrantSpec, GrantSubject, LockSpec, LockTarget,
        Object, ObjectMeta, PolicyRule, Proof, RoleSpec, UserSpec,
    };

    use super::*;
    use crate::{Client, LiveSession};

    fn object<S, T>(name: &str, spec: S) -> Object<S, T> {
        let metadata = ObjectMeta { uid: Some(name.to_owned()), ..named(name) };
        Object { metadata, spec, status: None }
    }

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta::named(name.parse().unwrap())
    }

    fn objects() -> Vec<AnyObject> {
        let rule = PolicyRule {
            verbs: vec!["get".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods/log".into()],
            ..PolicyRule::default()
        };
        let grant = GrantSpec {
            subjects: [GrantSubject::User("ada".parse().unwrap())].into(),
            role: Some("reader".parse().unwrap()),
            clusters: Some(ClusterSelector {
                names: BTreeSet::from(["dev".parse().unwrap()]),
                ..ClusterSelector::default()
            }),
            ..GrantSpec::default()
        };
        vec![
            AnyObject::User(object("ada", UserSpec::default())),
            AnyObject::Cluster(object("dev", ClusterSpec::default())),
            AnyObject::Role(object("reader", RoleSpec { rules: vec![rule], description: None })),
            AnyObject::Grant(object("ada-dev", grant)),
        ]
    }

    fn log_of_ada(sessions: &LiveSessions, now: Timestamp) -> LiveRequest {
        let id = SessionId::from_bits(1);
        let proof = Proof { factors: BTreeSet::new(), factor_at: now };
        let settings = SessionSettings::default();
        let (state, _) = sign_in(proof, ClientMark("here".to_owned()), now, &settings);
        let ends_at = state.expires_at;
        let user = "ada".parse().unwrap();
        sessions.insert(LiveSession::new(id.clone(), user, Client::Terminal, state));
        let path = "/api/v1/namespaces/shop/pods/web/log?%66ollow=1";
        LiveRequest {
            session: id,
            cluster: "dev".parse().unwrap(),
            permission: None,
            request: RequestInfo::parse("GET", path).unwrap(),
            ends_at,
        }
    }

    #[test]
    fn a_request_is_condemned_by_a_lock_a_lost_grant_and_the_end_of_its_session() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let (sessions, live) = (LiveSessions::default(), LiveRequests::default());
        let request = log_of_ada(&sessions, now);
        let id = live.enter(request.clone());
        let condemned = |objects: &[AnyObject]| {
            let snapshot = Snapshot::compile(objects, 2);
            live.condemned(&sessions, &snapshot, now).len()
        };
        assert_eq!(condemned(&objects()), 0);

        let mut locked = objects();
        let target = LockTarget::User("ada".parse().unwrap());
        let lock = LockSpec { target, message: None, expires: None };
        locked.push(AnyObject::Lock(object("stop", lock)));
        assert_eq!(condemned(&locked), 1);
        let ungranted = &objects()[..3];
        assert_eq!(condemned(ungranted), 1);
        let snapshot = Snapshot::compile(ungranted, 2);
        let again = request.judge_again(&sessions, &snapshot, now);
        assert!(matches!(again, Err(NoMore::Denied(_))), "{again:?}");

        sessions.condemn(&request.session);
        let again = request.judge_again(&sessions, &Snapshot::compile(&objects(), 1), now);
        assert!(matches!(again, Err(NoMore::Ended)), "{again:?}");
        live.leave(id);
        assert_eq!(condemned(ungranted), 0);
    }
}
