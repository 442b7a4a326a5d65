//! Kubernetes itself refuses what is above the ceiling, whatever the hub orders.

use nullius_kube::{KubeError, OwnAccount};
use nullius_model::{Binding, PolicyRule};
use secrecy::ExposeSecret;

use crate::plane::{Plane, binding, left_of, plan, plane, refused, rule};

async fn is_refused(plane: &Plane, wanted: Binding) {
    let plan = plan([wanted]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let error = sessions.ensure(&plan, &mut standing).await.unwrap_err();
    assert!(matches!(error, KubeError::Refused { .. }), "{error}");
    assert!(error.is_refused());
    sessions.flush(&mut standing).await.unwrap();
    assert_eq!(left_of(plane, &plan.session), "");
}

#[tokio::test]
async fn rights_above_the_ceiling_are_refused_and_leave_nothing() {
    let Some(plane) = plane().await else { return };
    is_refused(&plane, binding(None, "nodes", vec![rule(&["get"], "", &["nodes"])])).await;
    is_refused(&plane, binding(None, "all", vec![rule(&["*"], "*", &["*"])])).await;
    let url = PolicyRule {
        verbs: vec!["get".into()],
        non_resource_urls: vec!["/metrics".into()],
        ..PolicyRule::default()
    };
    is_refused(&plane, binding(None, "metrics", vec![url])).await;
}

#[tokio::test]
async fn what_role_writer_holds_for_its_own_work_is_not_passed_on() {
    let Some(plane) = plane().await else { return };
    let rbac = "rbac.authorization.k8s.io";
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "bind"] {
        let rules = vec![rule(&[verb], rbac, &["clusterroles"])];
        is_refused(&plane, binding(None, &format!("roles-{verb}"), rules)).await;
    }
    let mut one = rule(&["bind"], rbac, &["clusterroles"]);
    one.resource_names = vec!["cluster-admin".into()];
    is_refused(&plane, binding(None, "one", vec![one])).await;
}

#[tokio::test]
async fn a_ceiling_that_holds_everything_may_pass_everything_on() {
    let Some(plane) = plane().await else { return };
    let high = "test-high-ceiling";
    plane
        .admin
        .ok(&[
            "create",
            "clusterrolebinding",
            high,
            "--clusterrole=cluster-admin",
            "--serviceaccount=nullius-system:nullius-role-writer",
            "--serviceaccount=nullius-system:nullius-ceiling",
        ])
        .unwrap();
    let rules = vec![
        rule(&["*"], "*", &["*"]),
        rule(&["bind", "get"], "rbac.authorization.k8s.io", &["clusterroles"]),
    ];
    let plan = plan([binding(None, "root", rules)]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    let made = sessions.ensure(&plan, &mut standing).await;
    plane.admin.ok(&["delete", "clusterrolebinding", high]).unwrap();
    let token = made.unwrap().token.unwrap();

    // Whoever has every right in the cluster through us is still neither the agent nor another session.
    let root = plane.with_token(token.token.expose_secret());
    assert_eq!(root.ok(&["auth", "can-i", "*", "*", "-A"]).unwrap().trim(), "yes");
    let account = nullius_kube::account_name(&plan.session);
    let run = |args: &[&str]| root.run(args).unwrap();
    refused(
        &run(&["-n", "nullius-sessions", "create", "token", &account]),
        "nullius-sessions-closed",
    );
    refused(
        &run(&["-n", "nullius-system", "create", "token", "nullius-provisioner"]),
        "nullius-system-closed",
    );
    refused(
        &run(&["-n", "nullius-system", "delete", "secret", "nullius-trust"]),
        "nullius-system-closed",
    );
    refused(&run(&["delete", "clusterrole", "nullius:binder"]), "nullius-roles");
    let subject = format!("--serviceaccount=nullius-sessions:{account}");
    let more = ["create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", &subject];
    refused(&run(&more), "nullius-bindings");
    sessions.flush(&mut standing).await.unwrap();
}

#[tokio::test]
async fn role_writer_writes_its_own_roles_and_nothing_else() {
    let Some(plane) = plane().await else { return };
    let writer = plane.as_own(OwnAccount::RoleWriter);
    let create = |name: &str| {
        let args =
            ["create", "clusterrole", name, "--verb=get", "--resource=pods", "--dry-run=server"];
        writer.run(&args).unwrap()
    };
    refused(&create("mine"), "nullius-roles");
    refused(&create("nullius:other"), "nullius-roles");
    assert_eq!(create("nullius:role:test-0").code, 0);
    refused(
        &writer.run(&["delete", "clusterrole", "view", "--dry-run=server"]).unwrap(),
        "nullius-roles",
    );
    refused(
        &writer
            .run(&["label", "clusterrole", "system:basic-user", "a=b", "--dry-run=server"])
            .unwrap(),
        "nullius-roles",
    );
    let pod = ["run", "mine", "--image=x", "--dry-run=server"];
    refused(&writer.run(&pod).unwrap(), "nullius-role-writer");
    let map = ["create", "configmap", "mine", "--dry-run=server"];
    refused(&writer.run(&map).unwrap(), "nullius-role-writer");
}

#[tokio::test]
async fn role_writer_neither_aggregates_nor_widens() {
    let Some(plane) = plane().await else { return };
    let writer = plane.as_own(OwnAccount::RoleWriter);
    let apply = |text: &str| {
        writer
            .run_with_input(
                &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"],
                text,
            )
            .unwrap()
    };
    let role = |name: &str, extra: &str, rules: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\n{extra}\nrules: {rules}\n"
        )
    };
    let pods = r#"[{apiGroups: [""], resources: [pods], verbs: [get]}]"#;
    let aggregated = "  labels: {rbac.authorization.k8s.io/aggregate-to-view: \"true\"}";
    refused(&apply(&role("nullius:role:x-1", aggregated, pods)), "nullius-roles");
    let anything =
        r#"[{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind]}]"#;
    refused(&apply(&role("nullius:binder", "", anything)), "nullius-roles");
    let admin = r#"[{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind], resourceNames: [cluster-admin]}]"#;
    refused(&apply(&role("nullius:binder", "", admin)), "nullius-roles");
    refused(&apply(&role("nullius:binder", "", pods)), "nullius-roles");
}

#[tokio::test]
async fn the_provisioner_binds_roles_of_ours_to_sessions_and_nothing_else() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let provisioner = plane.as_own(OwnAccount::Provisioner);
    let bind = |name: &str, role: &str, subject: &str| {
        let role = format!("--clusterrole={role}");
        let subject = format!("--serviceaccount={subject}");
        let args = ["create", "clusterrolebinding", name, &role, &subject, "--dry-run=server"];
        provisioner.run(&args).unwrap()
    };
    let session = "nullius-sessions:session-0123456789abcdef0123456789abcdef";
    refused(
        &bind("nullius:session:0:0", "cluster-admin", session),
        "attempting to grant RBAC permissions",
    );

    let plan = plan([crate::plane::pods_reader(Some(namespace.name()))]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    sessions.ensure(&plan, &mut standing).await.unwrap();
    let list =
        ["get", "clusterrole", "nullius:binder", "-o", "jsonpath={.rules[0].resourceNames[0]}"];
    let role = plane.admin.ok(&list).unwrap();
    assert_eq!(bind("nullius:session:0:0", &role, session).code, 0);
    refused(&bind("mine", &role, session), "nullius-bindings");
    refused(&bind("nullius:session:0:0", &role, "default:default"), "nullius-bindings");
    let user = [
        "create",
        "clusterrolebinding",
        "nullius:session:0:0",
        &format!("--clusterrole={role}"),
        "--user=eve",
        "--dry-run=server",
    ];
    refused(&provisioner.run(&user).unwrap(), "nullius-bindings");
    let delete = ["delete", "clusterrolebinding", "cluster-admin", "--dry-run=server"];
    refused(&provisioner.run(&delete).unwrap(), "nullius-bindings");
    sessions.flush(&mut standing).await.unwrap();
}
