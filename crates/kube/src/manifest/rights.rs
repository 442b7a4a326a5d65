//! Namespaces, accounts and their RBAC rights: split so that no one account can both write a role and bind it.
//!
//! RBAC's escalation rules carry the ceiling. A ClusterRole can only be written by who holds all its rules:
//! role-writer holds the ceiling. A binding can only be written by who holds the role's rules or `bind` on it:
//! the provisioner holds `bind` on the names in `nullius:binder`, which role-writer keeps. To write that list
//! role-writer must hold `bind` itself; that it has it on all ClusterRoles, and what it may write on ClusterRoles
//! at all, is narrowed by admission (`guards`), since RBAC has no prefixes. Nobody holds `escalate`.

use nullius_model::{API_VERSION, Ceiling};
use serde_json::{Value, json};

use super::{Shape, audit};
use crate::names::{
    AGENT_PROXY, BASELINE, BINDER, CEILING, CEILING_BINDING, CONTROL_LEASE, JOIN_SECRET,
    PROVISIONER, ROLE_WRITER, SESSIONS_NAMESPACE, SYSTEM_NAMESPACE, TRUST_SECRET,
};

const RBAC: &str = "rbac.authorization.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";

pub(super) fn part_of() -> Value {
    json!({ "app.kubernetes.io/part-of": "nullius" })
}

/// Group and version of our own kinds.
pub(super) fn group_and_version() -> (&'static str, &'static str) {
    API_VERSION.split_once('/').unwrap_or((API_VERSION, ""))
}

pub(super) fn namespaces() -> Vec<Value> {
    let restricted = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    "app.kubernetes.io/part-of": "nullius",
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/audit": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
            },
        })
    };
    vec![restricted(SYSTEM_NAMESPACE), restricted(SESSIONS_NAMESPACE)]
}

pub(super) fn accounts(ceiling: &Ceiling, shape: &Shape) -> Vec<Value> {
    let mut objects: Vec<Value> = [ROLE_WRITER, PROVISIONER, AGENT_PROXY].map(account).into();
    objects.extend(role_writer(ceiling));
    objects.extend(provisioner(shape));
    objects.push(kept_secret());
    objects
}

pub(super) fn account(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "automountServiceAccountToken": false,
    })
}

fn role_writer(ceiling: &Ceiling) -> Vec<Value> {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "bind"];
    vec![
        cluster_role(
            "nullius:role-writer",
            json!([{ "apiGroups": [RBAC], "resources": ["clusterroles"], "verbs": verbs }]),
        ),
        cluster_role_binding("nullius:role-writer", "nullius:role-writer", &[ROLE_WRITER]),
        // To be refused by admission: how it is seen that the policy on role-writer is in force.
        role(
            "nullius:role-writer",
            SYSTEM_NAMESPACE,
            json!([{ "apiGroups": [COORDINATION], "resources": ["leases"], "verbs": ["create"] }]),
        ),
        role_binding("nullius:role-writer", SYSTEM_NAMESPACE, ROLE_WRITER),
        // The second subject is nobody's account: admission asks it what the ceiling alone allows.
        cluster_role_binding(CEILING_BINDING, ceiling.cluster_role(), &[ROLE_WRITER, CEILING]),
    ]
}

fn provisioner(shape: &Shape) -> Vec<Value> {
    let own_tokens: &[&str] = match shape {
        Shape::InCluster { .. } => &[ROLE_WRITER, BASELINE],
        // Without a kubelet the process renews the tokens of all its accounts by itself.
        Shape::Beside => &[ROLE_WRITER, PROVISIONER, AGENT_PROXY],
    };
    let bindings = json!([{
        "apiGroups": [RBAC],
        "resources": ["rolebindings", "clusterrolebindings"],
        "verbs": ["get", "list", "watch", "create", "delete"],
    }]);
    let sessions = json!([
        { "apiGroups": [""], "resources": ["serviceaccounts"],
          "verbs": ["get", "list", "watch", "create", "patch", "delete"] },
        { "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["secrets"],
          "verbs": ["get", "list", "watch", "create", "delete"] },
    ]);
    let system = json!([
        { "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": own_tokens,
          "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [TRUST_SECRET],
          "verbs": ["get", "update"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [JOIN_SECRET],
          "verbs": ["delete"] },
        { "apiGroups": [COORDINATION], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": [COORDINATION], "resources": ["leases"], "resourceNames": [CONTROL_LEASE],
          "verbs": ["get", "update"] },
    ]);
    let mut system = system;
    if let (Shape::InCluster { .. }, Some(rules)) = (shape, system.as_array_mut()) {
        rules.extend(audit::rights());
    }
    vec![
        cluster_role("nullius:provisioner", bindings),
        cluster_role_binding("nullius:provisioner", "nullius:provisioner", &[PROVISIONER]),
        // No rules here: role-writer keeps them, and applying again must not empty the list.
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRole",
            "metadata": { "name": BINDER, "labels": part_of() },
        }),
        cluster_role_binding(BINDER, BINDER, &[PROVISIONER]),
        cluster_role_binding(
            "nullius:issuer-discovery",
            "system:service-account-issuer-discovery",
            &[PROVISIONER],
        ),
        role("nullius:provisioner", SESSIONS_NAMESPACE, sessions),
        role_binding("nullius:provisioner", SESSIONS_NAMESPACE, PROVISIONER),
        role("nullius:provisioner", SYSTEM_NAMESPACE, system),
        role_binding("nullius:provisioner", SYSTEM_NAMESPACE, PROVISIONER),
    ]
}

/// The Secret of the newest key set, filled by `agent control`.
fn kept_secret() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": TRUST_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": part_of() },
        "type": "nullius.dev/trust",
    })
}

pub(super) fn cluster_role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": { "name": name, "labels": part_of() },
        "rules": rules,
    })
}

pub(super) fn cluster_role_binding(name: &str, role: &str, accounts: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name, "labels": part_of() },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
        "subjects": subjects(accounts),
    })
}

pub(super) fn role(name: &str, namespace: &str, rules: Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "Role",
        "metadata": { "name": name, "namespace": namespace, "labels": part_of() },
        "rules": rules,
    })
}

pub(super) fn role_binding(role: &str, namespace: &str, account: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "RoleBinding",
        "metadata": { "name": role, "namespace": namespace, "labels": part_of() },
        "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": role },
        "subjects": subjects(&[account]),
    })
}

fn subjects(accounts: &[&str]) -> Value {
    let subject = |name: &&str| json!({ "kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE });
    accounts.iter().map(subject).collect()
}
