//! Decisions carry what their judgements say, and permits fit exactly one thing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

mod admission_policy;
mod pod_security;

use std::collections::BTreeSet;

use nullius_access::{Caller, HubAction, HubProcess, HubTask, HubVerb, ReadScope, Snapshot};
use nullius_model::{
    AnyObject, ClusterName, ClusterSelector, Factor, GrantSpec, GrantSubject, HubRole, Identity,
    Kind, Object, ObjectMeta, PolicyRule, Principal, Proof, Reason, RoleSpec, SessionId, Timestamp,
    UserSpec,
};
use nullius_policy::{
    Denial, KubeDecision, Obligation, StepUp, decide_hub, decide_hub_process, decide_kube,
    decide_review,
};
use nullius_rbac::{Attributes, RequestInfo, ResourceAttributes};
use proptest::{prelude::*, sample::select};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn object<S, T>(name: &str, spec: S) -> Object<S, T> {
    Object { metadata: ObjectMeta::named(name.parse().unwrap()), spec, status: None }
}

fn user(name: &str) -> AnyObject {
    object(name, UserSpec::default()).into()
}

/// `ada` reads pods of `dev`, `root` is admin, `eve` has nothing.
fn fleet() -> Snapshot {
    let to = |name: &str| BTreeSet::from([GrantSubject::User(name.parse().unwrap())]);
    let reads = PolicyRule {
        verbs: vec!["get".into(), "list".into()],
        api_groups: vec![String::new()],
        resources: vec!["pods".into()],
        ..PolicyRule::default()
    };
    let names = BTreeSet::from(["dev".parse().unwrap()]);
    let view = GrantSpec {
        subjects: to("ada"),
        role: Some("reader".parse().unwrap()),
        clusters: Some(ClusterSelector { names, ..ClusterSelector::default() }),
        expires: Some("2026-03-01T13:00:00Z".parse().unwrap()),
        ..GrantSpec::default()
    };
    let admin =
        GrantSpec { subjects: to("root"), hub_role: Some(HubRole::Admin), ..GrantSpec::default() };
    let objects: [AnyObject; 7] = [
        user("ada"),
        user("eve"),
        user("root"),
        AnyObject::Cluster(object("dev", Default::default())),
        AnyObject::Role(object("reader", RoleSpec { rules: vec![reads], description: None })),
        AnyObject::Grant(object("ada-dev", view)),
        AnyObject::Grant(object("root-admin", admin)),
    ];
    Snapshot::compile(&objects, 1)
}

fn identity(user: &str) -> Identity {
    Identity {
        user: user.parse().unwrap(),
        groups: BTreeSet::new(),
        session: SessionId::from_bits(1),
        proof: Proof { factors: BTreeSet::from([Factor::Totp]), factor_at: now() },
        signed_in_at: now(),
        expires_at: "2026-03-01T20:00:00Z".parse().unwrap(),
    }
}

fn dev() -> ClusterName {
    "dev".parse().unwrap()
}

fn decide(user: &str, method: &str, target: &str) -> KubeDecision {
    let request = RequestInfo::parse(method, target).unwrap();
    decide_kube(&fleet(), &Caller::new(&identity(user)), &dev(), &request, now())
}

fn refused(decision: KubeDecision) -> Denial {
    decision.into_result().unwrap_err()
}

#[test]
fn a_permit_is_for_exactly_one_request() {
    let target = "/api/v1/namespaces/shop/pods?limit=500";
    let decision = decide("ada", "GET", target);
    assert!(decision.is_allowed());
    assert!(decision.obligations.contains(&Obligation::Record));
    let permission = decision.permission.clone();
    let permit = decision.into_result().unwrap();
    assert_eq!(permit.permission(), permission.as_ref());
    assert_eq!(permit.path_and_query(), target);
    assert_eq!(permit.ends_at(), "2026-03-01T13:00:00Z".parse().unwrap());
    assert_eq!(permit.decided_at(), now());
    assert!(permit.is_for(&dev(), "GET", target));
    let prod: ClusterName = "prod".parse().unwrap();
    assert!(!permit.is_for(&prod, "GET", target));
    assert!(!permit.is_for(&dev(), "HEAD", target));
    assert!(!permit.is_for(&dev(), "GET", "/api/v1/namespaces/shop/pods?limit=501"));
    assert!(!permit.is_for(&dev(), "GET", "/api/v1/namespaces/shop/pods"));
}

#[test]
fn a_denial_is_a_kubernetes_status_that_says_what_to_do() {
    let denial = refused(decide("ada", "DELETE", "/api/v1/namespaces/shop/pods/web"));
    assert_eq!(denial.reason(), Reason::NoGrant);
    let status = denial.kube_status();
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    insta::assert_snapshot!(status.message, @"`ada` may not delete `pods` `web` in namespace `shop` of cluster `dev`; ask an admin (`root`) for a role that allows to delete `pods` `web`, and a grant of it in namespace `shop` of cluster `dev`");
    assert_eq!(refused(decide("eve", "GET", "/api")).http_status(), 404);
    assert_eq!(refused(decide("nobody", "GET", "/api")).http_status(), 401);
}

#[test]
fn a_review_says_yes_or_no_and_opens_nothing() {
    let ask = |verb| {
        let pods = ResourceAttributes { resource: "pods", ..ResourceAttributes::default() };
        let asked = Attributes::resource(verb, pods);
        decide_review(&fleet(), &Caller::new(&identity("ada")), &dev(), &asked, now()).is_allowed()
    };
    assert!(ask("list"));
    assert!(!ask("delete"));
}

#[test]
fn a_hub_permit_names_who_what_and_which() {
    let new = user("new");
    let action = HubAction::Create { object: &new };
    let root = identity("root");
    let permit = decide_hub(&fleet(), &Caller::new(&root), &action, now()).into_result().unwrap();
    assert_eq!(permit.by(), &Principal::Person { user: root.user.clone() });
    assert!(permit.is_for(HubVerb::Create, Kind::User, "new"));
    assert!(!permit.is_for(HubVerb::Update, Kind::User, "new"));
    assert!(!permit.is_for(HubVerb::Create, Kind::Group, "new"));
    assert!(!permit.is_for(HubVerb::Create, Kind::User, "other"));
    assert_eq!(permit.scope(), ReadScope::All);

    let mut stale = identity("root");
    stale.proof.factor_at = "2026-03-01T11:00:00Z".parse().unwrap();
    let decision = decide_hub(&fleet(), &Caller::new(&stale), &action, now());
    assert!(decision.obligations.contains(&Obligation::StepUp));
    let denial = decision.into_result().unwrap_err();
    assert_eq!((denial.reason(), denial.step_up()), (Reason::FactorTooOld, StepUp::Helps));

    let ada = identity("ada");
    let list = HubAction::List { kind: Kind::User };
    let permit = decide_hub(&fleet(), &Caller::new(&ada), &list, now()).into_result().unwrap();
    assert_eq!(permit.scope(), ReadScope::Own);
}

#[test]
fn the_hub_itself_may_only_what_its_task_needs() {
    let new = user("new");
    let create = HubAction::Create { object: &new };
    let delete = HubAction::Delete { object: &new };
    let allowed = |task, action: &HubAction<'_>| {
        decide_hub_process(&HubProcess::doing(task), action).is_allowed()
    };
    assert!(allowed(HubTask::FirstStart, &create));
    assert!(!allowed(HubTask::FirstStart, &delete));
    assert!(allowed(HubTask::Upkeep, &delete));
    assert!(!allowed(HubTask::Upkeep, &create));
    assert!(!allowed(HubTask::Upkeep, &HubAction::ReadAudit));
    let process = HubProcess::doing(HubTask::FirstStart);
    let permit = decide_hub_process(&process, &create).into_result().unwrap();
    assert_eq!(permit.by(), &Principal::Hub);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_permit_exists_exactly_where_the_judge_allows(
        user in select(vec!["ada", "eve", "root", "nobody"]),
        method in select(vec!["GET", "POST", "DELETE"]),
        target in select(vec!["/api/v1/pods", "/version", "/api/v1/namespaces/shop/pods/web/exec", "/metrics"]),
    ) {
        let request = RequestInfo::parse(method, target).unwrap();
        let identity = identity(user);
        let caller = Caller::new(&identity);
        let judged = nullius_access::judge_kube(&fleet(), &caller, &dev(), &request, now());
        let decision = decide_kube(&fleet(), &caller, &dev(), &request, now());
        prop_assert_eq!(judged.is_allowed(), decision.is_allowed());
        prop_assert_eq!(&judged.explanation, &decision.explanation);
        match decision.into_result() {
            Ok(permit) => prop_assert!(permit.is_for(&dev(), method, target)),
            Err(denial) => prop_assert_eq!(denial.explanation(), &judged.explanation),
        }
    }
}
