//! Who else has rights in the cluster gets at neither session objects nor the agent itself.

use nullius_kube::{OwnAccount, account_name};
use nullius_model::SessionId;

use crate::plane::{Plane, plan, plane, pods_reader, refused};

const SESSIONS: &str = "nullius-sessions";
const SYSTEM: &str = "nullius-system";

/// A pod that Pod Security has nothing against.
fn pod_as(namespace: &str, account: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: x, namespace: {namespace}}}
spec:
  serviceAccountName: {account}
  securityContext: {{runAsNonRoot: true, runAsUser: 1, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: x
    image: x
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

/// A standing session with its account's name.
async fn standing(
    plane: &Plane,
    namespace: &str,
) -> (nullius_kube::Sessions, nullius_kube::StandingSession, String) {
    let plan = plan([pods_reader(Some(namespace))]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    sessions.ensure(&plan, &mut standing).await.unwrap();
    let account = account_name(&plan.session);
    (sessions, standing, account)
}

#[tokio::test]
async fn edit_in_the_whole_cluster_gets_no_token_of_a_session_and_runs_nothing_as_one() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let (sessions, mut session, account) = standing(&plane, namespace.name()).await;
    let editor = plane.somebody(&namespace, "edit");
    let run = |args: &[&str]| editor.kubectl.run(args).unwrap();

    let token = ["-n", SESSIONS, "create", "token", &account];
    refused(&run(&token), "nullius-sessions-closed");
    let create = ["create", "-f", "-"];
    let pod = editor.kubectl.run_with_input(&create, &pod_as(SESSIONS, &account)).unwrap();
    refused(&pod, "nullius-sessions-closed");
    let secret = ["-n", SESSIONS, "create", "secret", "generic", "x"];
    refused(&run(&secret), "nullius-sessions-closed");
    refused(
        &run(&["-n", SESSIONS, "create", "serviceaccount", "session-x"]),
        "nullius-sessions-closed",
    );
    refused(
        &run(&["-n", SESSIONS, "delete", "serviceaccount", &account]),
        "nullius-sessions-closed",
    );
    refused(&run(&["-n", SESSIONS, "delete", "secret", &account]), "nullius-sessions-closed");
    refused(
        &run(&["-n", SESSIONS, "label", "serviceaccount", &account, "a=b"]),
        "nullius-sessions-closed",
    );
    sessions.flush(&mut session).await.unwrap();
}

#[tokio::test]
async fn an_administrator_of_the_cluster_removes_a_session_but_does_not_become_one() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let (sessions, mut session, account) = standing(&plane, namespace.name()).await;
    refused(
        &plane.admin.run(&["-n", SESSIONS, "create", "token", &account]).unwrap(),
        "nullius-sessions-closed",
    );
    refused(
        &plane.admin.run(&["-n", SESSIONS, "create", "serviceaccount", "session-x"]).unwrap(),
        "nullius-sessions-closed",
    );
    plane.admin.ok(&["-n", SESSIONS, "delete", "serviceaccount", &account]).unwrap();
    let flushed = sessions.flush(&mut session).await.unwrap();
    assert!(flushed.foreign.is_empty(), "{:?}", flushed.foreign);
}

#[tokio::test]
async fn the_agents_own_accounts_are_nobody_elses() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    for role in ["edit", "admin"] {
        let person = plane.somebody(&namespace, role);
        let run = |args: &[&str]| person.kubectl.run(args).unwrap();
        for account in ["nullius-provisioner", "nullius-role-writer", "nullius-agent-proxy"] {
            refused(&run(&["-n", SYSTEM, "create", "token", account]), "nullius-system-closed");
        }
        let pod = pod_as(SYSTEM, "nullius-provisioner");
        let pod = person.kubectl.run_with_input(&["create", "-f", "-"], &pod).unwrap();
        refused(&pod, "nullius-system-closed");
        let deployment = ["-n", SYSTEM, "create", "deployment", "x", "--image=x"];
        refused(&run(&deployment), "nullius-system-closed");
        refused(
            &run(&["-n", SYSTEM, "delete", "secret", "nullius-trust"]),
            "nullius-system-closed",
        );
    }
}

#[tokio::test]
async fn whoever_deletes_roles_by_the_collection_deletes_none_of_ours() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let role = format!("test-sweeper-{}", namespace.name());
    let verbs = "--verb=list,delete,deletecollection";
    plane.admin.ok(&["create", "clusterrole", &role, verbs, "--resource=clusterroles"]).unwrap();
    let sweeper = plane.somebody(&namespace, &role);
    let all = "/apis/rbac.authorization.k8s.io/v1/clusterroles\
        ?labelSelector=app.kubernetes.io%2Fpart-of%3Dnullius&dryRun=All";
    let swept = sweeper.kubectl.run(&["delete", "--raw", all]).unwrap();
    plane.admin.ok(&["delete", "clusterrole", &role]).unwrap();
    refused(&swept, "nullius-roles");
}

#[tokio::test]
async fn impersonating_the_agent_is_not_being_it() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let editor = plane.somebody(&namespace, "edit");
    let account =
        |account: OwnAccount| format!("--as=system:serviceaccount:{SYSTEM}:{}", account.name());
    let provisioner = account(OwnAccount::Provisioner);
    let writer = account(OwnAccount::RoleWriter);
    let run = |args: &[&str]| editor.kubectl.run(args).unwrap();
    refused(
        &run(&["-n", SESSIONS, "create", "serviceaccount", "session-x", &provisioner]),
        "nullius-sessions-closed",
    );
    refused(
        &run(&["-n", SYSTEM, "create", "token", "nullius-role-writer", &provisioner]),
        "nullius-system-closed",
    );
    let role =
        ["create", "clusterrole", "nullius:role:x-0", "--verb=get", "--resource=pods", &writer];
    refused(&run(&role), "ValidatingAdmissionPolicy 'nullius-r");
}

#[tokio::test]
async fn the_provisioner_makes_markers_and_bound_tokens_and_no_others() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let (sessions, mut session, account) = standing(&plane, namespace.name()).await;
    let provisioner = plane.as_own(OwnAccount::Provisioner);
    let run = |args: &[&str]| provisioner.run(args).unwrap();
    let secret = |kind: &str, extra: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata: {{name: session-x, namespace: {SESSIONS}, annotations: {{kubernetes.io/service-account.name: {account}}}}}\n{extra}"
        );
        provisioner.run_with_input(&["create", "--dry-run=server", "-f", "-"], &text).unwrap()
    };
    refused(&secret("kubernetes.io/service-account-token", ""), "nullius-sessions-closed");
    refused(&secret("Opaque", ""), "nullius-sessions-closed");
    refused(&secret("nullius.dev/session-marker", "stringData: {a: b}"), "nullius-sessions-closed");
    assert_eq!(secret("nullius.dev/session-marker", "").code, 0);
    refused(&run(&["-n", SESSIONS, "create", "token", &account]), "nullius-sessions-closed");
    refused(&run(&["-n", SESSIONS, "create", "serviceaccount", "mine"]), "nullius-sessions-closed");
    refused(&run(&["-n", SYSTEM, "get", "secrets"]), "forbidden");
    refused(&run(&["-n", namespace.name(), "get", "secrets"]), "forbidden");
    sessions.flush(&mut session).await.unwrap();
}

#[tokio::test]
async fn nobody_adds_rights_to_a_session() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let (sessions, mut session, account) = standing(&plane, namespace.name()).await;
    let owner = plane.somebody(&namespace, "admin");
    let subject = format!("--serviceaccount={SESSIONS}:{account}");
    let bind = |who: &str| {
        let args =
            ["-n", namespace.name(), "create", "rolebinding", "more", "--clusterrole=view", who];
        owner.kubectl.run(&args).unwrap()
    };
    refused(&bind(&subject), "nullius-bindings");
    refused(&bind("--group=system:serviceaccounts:nullius-sessions"), "nullius-bindings");
    refused(
        &bind(&format!("--user=system:serviceaccount:{SESSIONS}:{account}")),
        "nullius-bindings",
    );
    sessions.flush(&mut session).await.unwrap();
}

#[tokio::test]
async fn a_namespace_with_sessions_in_it_can_be_deleted() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let (sessions, mut session, _) = standing(&plane, namespace.name()).await;
    plane.admin.ok(&["delete", "namespace", namespace.name(), "--timeout=180s"]).unwrap();
    let flushed = sessions.flush(&mut session).await.unwrap();
    assert!(flushed.foreign.is_empty());
}

#[tokio::test]
async fn an_account_that_was_there_before_us_is_refused_and_left_alone() {
    let Some(plane) = plane().await else { return };
    let session = SessionId::from_bits(nullius_pki::random_bits());
    let account = account_name(&session);
    // Only who takes the guard away can do this; the agent then refuses by itself.
    plane
        .admin
        .ok(&["delete", "validatingadmissionpolicybinding", "nullius-sessions-closed"])
        .unwrap();
    let created =
        nullius_testkit::wait_until(std::time::Duration::from_secs(120), "the guard's end", || {
            let output =
                plane.admin.run(&["-n", SESSIONS, "create", "serviceaccount", &account]).ok()?;
            (output.code == 0).then_some(())
        });
    created.unwrap();
    let label = format!("nullius.dev/session={session}");
    let labels = [
        "-n",
        SESSIONS,
        "label",
        "serviceaccount",
        &account,
        &label,
        "app.kubernetes.io/managed-by=nullius",
    ];
    plane.admin.ok(&labels).unwrap();
    let uid = ["-n", SESSIONS, "get", "serviceaccount", &account, "-o", "jsonpath={.metadata.uid}"];
    let before = plane.admin.ok(&uid).unwrap();

    let sessions = plane.sessions().await;
    let mut plan = plan([pods_reader(Some("default"))]);
    plan.session = session.clone();
    let mut standing = sessions.begin(&session);
    let error = sessions.ensure(&plan, &mut standing).await.unwrap_err();
    assert!(matches!(error, nullius_kube::KubeError::Foreign { .. }), "{error}");
    sessions.flush(&mut standing).await.unwrap();
    let survey = sessions.survey().await.unwrap();
    assert!(!survey.sessions.contains_key(&session));
    assert!(survey.foreign.iter().any(|(object, _)| object.to_string().ends_with(&account)));
    assert_eq!(plane.admin.ok(&uid).unwrap(), before, "it was touched");

    plane.admin.ok(&["-n", SESSIONS, "delete", "serviceaccount", &account]).unwrap();
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    plane.wait_for_guards().await;
}
