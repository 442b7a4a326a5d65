//! What a session has in a cluster: made as planned, changed, found again, and gone without a trace.

use std::time::Instant;

use nullius_kube::{Credential, MintedToken, ObjectRef};
use secrecy::ExposeSecret;

use crate::plane::{Plane, binding, left_of, plan, plane, pods_reader, rule};

fn can(plane: &Plane, token: &MintedToken, args: &[&str]) -> bool {
    let session = plane.with_token(token.token.expose_secret());
    session.run(&[&["auth", "can-i"], args].concat()).unwrap().stdout.trim() == "yes"
}

#[tokio::test]
async fn a_session_has_what_was_planned_and_nothing_else_and_leaves_no_trace() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let name = namespace.name();
    let everywhere = binding(None, "maps", vec![rule(&["list"], "", &["configmaps"])]);
    let plan = plan([pods_reader(Some(name)), everywhere]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let began = Instant::now();
    let token = sessions.ensure(&plan, &mut standing).await.unwrap().token.unwrap();
    eprintln!("cold: {:?}", began.elapsed());
    assert!(standing.is_complete());
    assert!(can(&plane, &token, &["list", "pods", "-n", name]));
    assert!(can(&plane, &token, &["list", "configmaps", "-A"]));
    assert!(!can(&plane, &token, &["create", "pods", "-n", name]));
    assert!(!can(&plane, &token, &["list", "pods", "-n", "default"]));
    assert!(!can(&plane, &token, &["list", "secrets", "-n", "nullius-sessions"]));
    let whoami = plane.with_token(token.token.expose_secret()).ok(&["auth", "whoami"]).unwrap();
    assert!(
        whoami
            .contains(&format!("system:serviceaccount:nullius-sessions:session-{}", plan.session))
    );

    let flushed = sessions.flush(&mut standing).await.unwrap();
    assert_eq!(flushed.removed.len(), 4, "{:?}", flushed.removed);
    assert_eq!(left_of(&plane, &plan.session), "");
    let again = sessions.flush(&mut standing).await.unwrap();
    assert!(again.removed.is_empty(), "what is gone is gone");
}

#[tokio::test]
async fn a_second_session_with_the_same_role_is_quick() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let sessions = plane.sessions().await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let plan = plan([pods_reader(Some(namespace.name()))]);
        let mut standing = sessions.begin(&plan.session);
        let began = Instant::now();
        sessions.ensure(&plan, &mut standing).await.unwrap();
        times.push(began.elapsed());
        sessions.flush(&mut standing).await.unwrap();
    }
    eprintln!("one after the other: {times:?}");
}

#[tokio::test]
async fn a_newer_plan_takes_away_and_gives() {
    let Some(plane) = plane().await else { return };
    let (one, two) = (plane.namespace(), plane.namespace());
    let mut plan = plan([pods_reader(Some(one.name()))]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let first = sessions.ensure(&plan, &mut standing).await.unwrap().token.unwrap();
    plan.generation = 2;
    plan.bindings = [pods_reader(Some(two.name()))].into();
    sessions.ensure(&plan, &mut standing).await.unwrap();
    assert_eq!(standing.generation, 2);
    assert!(can(&plane, &first, &["list", "pods", "-n", two.name()]));
    assert!(!can(&plane, &first, &["list", "pods", "-n", one.name()]));
    plan.generation = 3;
    plan.bindings.clear();
    assert!(sessions.ensure(&plan, &mut standing).await.unwrap().token.is_none());
    assert!(!can(&plane, &first, &["list", "pods", "-n", two.name()]));
    sessions.flush(&mut standing).await.unwrap();
    assert_eq!(left_of(&plane, &plan.session), "");
}

#[tokio::test]
async fn the_token_ends_with_its_marker() {
    let Some(plane) = plane().await else { return };
    let plan = plan([]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let token = sessions.ensure(&plan, &mut standing).await.unwrap().token.unwrap();
    sessions.flush(&mut standing).await.unwrap();
    // Nobody used the token before, so that the API server has not kept its answer.
    let session = plane.with_token(token.token.expose_secret());
    assert_ne!(session.run(&["auth", "whoami"]).unwrap().code, 0);
}

#[tokio::test]
async fn a_namespace_that_comes_later_is_awaited() {
    let Some(plane) = plane().await else { return };
    let later = format!("later-{:x}", nullius_pki::random_bits());
    let mut plan = plan([pods_reader(Some(&later)), pods_reader(Some("default"))]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let token = sessions.ensure(&plan, &mut standing).await.unwrap().token.unwrap();
    assert!(!standing.is_complete());
    assert_eq!(standing.awaits.len(), 1);
    assert!(can(&plane, &token, &["list", "pods", "-n", "default"]), "what can stand stands");
    plane.admin.ok(&["create", "namespace", &later]).unwrap();
    plan.generation = 2;
    sessions.ensure(&plan, &mut standing).await.unwrap();
    assert!(standing.is_complete());
    assert!(can(&plane, &token, &["list", "pods", "-n", &later]));
    sessions.flush(&mut standing).await.unwrap();
    plane.admin.ok(&["delete", "namespace", &later, "--wait=false"]).unwrap();
}

#[tokio::test]
async fn what_a_killed_agent_left_is_found_by_the_next_and_nobody_elses_is_touched() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let plan = plan([pods_reader(Some(namespace.name())), pods_reader(None)]);
    let before = plane.sessions().await;
    let mut standing = before.begin(&plan.session);
    before.ensure(&plan, &mut standing).await.unwrap();
    drop(before);
    // Somebody's own binding with our label and our manner of naming.
    let theirs = format!("nullius-session-{}", plan.session);
    let name = namespace.name();
    plane
        .admin
        .ok(&["-n", name, "create", "rolebinding", &theirs, "--clusterrole=view", "--user=eve"])
        .unwrap();
    let label = format!("nullius.dev/session={}", plan.session);
    plane.admin.ok(&["-n", name, "label", "rolebinding", &theirs, &label]).unwrap();

    let after = plane.sessions().await;
    let survey = after.survey().await.unwrap();
    let mut found = survey.sessions.get(&plan.session).unwrap().clone();
    assert_eq!(found, standing);
    assert!(survey.foreign.iter().any(|(object, _)| object.to_string().ends_with(&theirs)));
    let loaded = after.load(&plan.session).await.unwrap().unwrap();
    assert_eq!(loaded, standing);
    after.flush(&mut found).await.unwrap();
    assert_eq!(
        left_of(&plane, &plan.session).trim(),
        format!("rolebinding.rbac.authorization.k8s.io/{theirs}")
    );
}

#[tokio::test]
async fn a_session_half_made_is_made_whole_or_flushed_like_any_other() {
    let Some(plane) = plane().await else { return };
    let sessions = plane.sessions().await;
    let mut plan = plan([pods_reader(Some("default"))]);
    plan.session = plane.half_made().await;
    let mut standing = sessions.begin(&plan.session);
    let token = sessions.ensure(&plan, &mut standing).await.unwrap().token.unwrap();
    assert!(can(&plane, &token, &["list", "pods", "-n", "default"]));
    // The account's making was not answered: only the marker is known.
    let mut forgetful = standing.clone();
    forgetful.objects.retain(|object, _| matches!(object, ObjectRef::Secret { .. }));
    sessions.ensure(&plan, &mut forgetful).await.unwrap();
    assert_eq!(forgetful.objects, standing.objects);
    sessions.flush(&mut standing).await.unwrap();
    assert_eq!(left_of(&plane, &plan.session), "");

    let begun = plane.half_made().await;
    let mut found = sessions.load(&begun).await.unwrap().unwrap();
    assert!(!found.is_complete());
    sessions.flush(&mut found).await.unwrap();
    assert_eq!(left_of(&plane, &begun), "");
}

#[tokio::test]
async fn roles_that_nobody_uses_any_more_go() {
    let Some(plane) = plane().await else { return };
    let role = format!("unused-{:032x}", nullius_pki::random_bits());
    let plan = plan([binding(None, &role, vec![rule(&["get"], "", &["pods"])])]);
    let before = plane.sessions().await;
    let mut standing = before.begin(&plan.session);
    before.ensure(&plan, &mut standing).await.unwrap();
    let list = || plane.admin.ok(&["get", "clusterroles", "-o", "name"]).unwrap();
    assert!(list().contains(&role));
    // A new process has used nothing lately; the binding alone keeps the role.
    let after = plane.sessions().await;
    after.prune_roles(&after.survey().await.unwrap()).await.unwrap();
    assert!(list().contains(&role), "a bound role went");
    before.flush(&mut standing).await.unwrap();
    after.prune_roles(&after.survey().await.unwrap()).await.unwrap();
    assert!(!list().contains(&role));
    let binder = ["get", "clusterrole", "nullius:binder", "-o", "jsonpath={.rules}"];
    assert!(!plane.admin.ok(&binder).unwrap().contains(&role));
}

#[tokio::test]
async fn an_api_server_that_is_away_is_said_to_be_away() {
    let Some(plane) = plane().await else { return };
    let nowhere = nullius_kube::InCluster {
        host: "127.0.0.1".into(),
        port: 1,
        ca_file: plane.files.path().join("ca.pem"),
    };
    std::fs::write(&nowhere.ca_file, plane.api.roots_pem().unwrap()).unwrap();
    let server = nullius_kube::ApiServer::in_cluster(&nowhere).unwrap();
    let error = nullius_kube::kubernetes_version(&server, Credential::None).await.unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert!(!error.is_refused());
}
