//! Admission policies that narrow what RBAC cannot: who touches our objects, and what our own accounts may write.
//!
//! Five ValidatingAdmissionPolicies, all failing closed. Our accounts count as such only with a token's credential
//! id: who impersonates them has none. Whoever may delete the bindings of policies could remove these anyway and
//! is let through where an administrator has work to do; a session of ours never is.

use serde_json::{Value, json};

use super::rights::part_of;
use crate::names::{
    ACCOUNT_PREFIX, ADMISSION, ADMISSION_SECRET, ADMISSION_STATUS, AGENT_ADMISSION, AGENT_IDENTITY,
    AGENT_PROXY, AUDIT_SECRET, BASELINE, BINDER, BINDING_PREFIX, CEILING, CONTROL_LEASE,
    GUARD_PROBE, IDENTITY, IDENTITY_SECRET, JOIN_SECRET, MARKER_TYPE, NODE_NAMESPACE, PROVISIONER,
    ROLE_PREFIX, ROLE_WRITER, SESSIONS_NAMESPACE, SYSTEM_NAMESPACE, TRUST_MAP, TRUST_SECRET,
};

/// Whether the request is about a Lease.
const LEASES: &str =
    "request.resource.group == 'coordination.k8s.io' && variables.resource == 'leases'";

const POLICY_API: &str = "admissionregistration.k8s.io/v1";

pub(super) fn policies() -> Vec<Value> {
    [sessions_closed(), system_closed(), roles(), bindings(), role_writer()]
        .into_iter()
        .flat_map(|policy| {
            let binding = binding_of(&policy);
            [policy, binding]
        })
        .collect()
}

/// In `nullius-sessions` there are session accounts and markers of ours, and nothing that could run as them.
fn sessions_closed() -> Value {
    let who = "variables.ours && request.resource.group == '' && variables.resource in ['serviceaccounts', 'secrets'] \
        || variables.controller && (request.operation == 'DELETE' || !variables.sensitive \
            || variables.resource == 'serviceaccounts' && variables.subresource == '' && variables.name == 'default') \
        || (request.operation == 'DELETE' || !variables.sensitive) && variables.guardian";
    let shape = format!(
        "!variables.ours || request.operation == 'DELETE' \
        || variables.resource == 'serviceaccounts' && variables.subresource == '' \
            && variables.name.startsWith('{ACCOUNT_PREFIX}') && !has(object.secrets) && !has(object.imagePullSecrets) \
        || variables.resource == 'serviceaccounts' && variables.subresource == 'token' \
            && variables.name.startsWith('{ACCOUNT_PREFIX}') && has(object.spec.boundObjectRef) \
            && object.spec.boundObjectRef.kind == 'Secret' && object.spec.boundObjectRef.name == variables.name \
            && has(object.spec.expirationSeconds) && object.spec.expirationSeconds <= 3600 \
        || variables.resource == 'secrets' && variables.name.startsWith('{ACCOUNT_PREFIX}') \
            && object.type == '{MARKER_TYPE}' && !has(object.data) && !has(object.stringData)"
    );
    let mut variables = identity_variables();
    variables.extend(request_variables());
    variables.push(variable("ours", &is_account(PROVISIONER)));
    variables.push(variable(
        "sensitive",
        "request.resource.group == '' && variables.resource in ['serviceaccounts', 'secrets', 'pods']",
    ));
    policy(
        "nullius-sessions-closed",
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": SESSIONS_NAMESPACE } },
            "resourceRules": [everything("Namespaced", &["CREATE", "UPDATE", "DELETE", "CONNECT"])],
        }),
        &[],
        variables,
        &[
            (
                who,
                "only Nullius makes accounts, tokens and markers in this namespace, and nobody runs pods in it",
            ),
            (
                &shape,
                "an account here is a session's, its token is bound to its marker, and its marker is empty",
            ),
        ],
    )
}

/// In `nullius-system` and `nullius-node` nobody but the cluster itself runs, enters or speaks for the agent and the nodes' parts.
fn system_closed() -> Value {
    let ours = format!(
        "variables.ours && request.resource.group == '' && ( \
            variables.resource == 'serviceaccounts' && variables.subresource == 'token' \
                && variables.name in ['{ROLE_WRITER}', '{PROVISIONER}', '{AGENT_PROXY}', '{BASELINE}'] \
            || variables.resource == 'secrets' && variables.name in ['{TRUST_SECRET}', '{JOIN_SECRET}', '{AUDIT_SECRET}']) \
        || variables.ours && {LEASES} && variables.name == '{CONTROL_LEASE}'"
    );
    let baseline = format!("variables.baseline && {LEASES} && variables.name == '{BASELINE}'");
    let admission = format!(
        "variables.admission && ( \
            request.resource.group == '' && request.operation == 'UPDATE' && variables.subresource == '' \
                && (variables.resource == 'secrets' && variables.name == '{ADMISSION_SECRET}' \
                    || variables.resource == 'configmaps' && variables.name == '{ADMISSION_STATUS}') \
            || request.resource.group == 'nullius.dev' && variables.resource == 'policyexceptions' \
                && variables.subresource == 'status' && request.operation == 'UPDATE' \
            || {LEASES} && variables.name == '{AGENT_ADMISSION}')"
    );
    let identity = format!(
        "variables.identity && ( \
            request.resource.group == '' && request.operation == 'UPDATE' && variables.subresource == '' \
                && (variables.resource == 'secrets' && variables.name == '{IDENTITY_SECRET}' \
                        && request.namespace == '{SYSTEM_NAMESPACE}' \
                    || variables.resource == 'configmaps' && variables.name == '{TRUST_MAP}' \
                        && request.namespace == '{NODE_NAMESPACE}') \
            || request.resource.group == 'nullius.dev' && variables.resource in ['intentions', 'workloadidentities'] \
                && variables.subresource == 'status' && request.operation == 'UPDATE' \
            || {LEASES} && variables.name == '{AGENT_IDENTITY}')"
    );
    // Draining a node and telling of events need no trust. With a Lease of that name `nullius-role-writer` is proven
    // by itself: nobody looks at it.
    let harmless = format!(
        "variables.resource == 'events' \
        || variables.resource == 'pods' && variables.subresource == 'eviction' \
        || request.operation == 'CREATE' && {LEASES} && variables.name == '{GUARD_PROBE}'"
    );
    let who = format!(
        "variables.controller || 'system:nodes' in variables.groups || {harmless} || {ours} || {admission} \
        || {baseline} || {identity} || variables.guardian"
    );
    let mut variables = identity_variables();
    variables.extend(request_variables());
    variables.push(variable("ours", &is_account(PROVISIONER)));
    variables.push(variable("admission", &is_account(ADMISSION)));
    variables.push(variable("baseline", &is_account(BASELINE)));
    variables.push(variable("identity", &is_account(IDENTITY)));
    policy(
        "nullius-system-closed",
        json!({
            "namespaceSelector": { "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "In",
                "values": [SYSTEM_NAMESPACE, NODE_NAMESPACE],
            }] },
            "resourceRules": [everything("Namespaced", &["CREATE", "UPDATE", "DELETE", "CONNECT"])],
        }),
        &[],
        variables,
        &[(
            &who,
            "only administrators of the cluster change what runs here, and only the agent gets its tokens",
        )],
    )
}

/// ClusterRoles with our names are written by role-writer alone, within the ceiling alone.
fn roles() -> Value {
    let who = format!(
        "variables.writer && (variables.name.startsWith('{ROLE_PREFIX}') \
            || variables.name == '{BINDER}' && request.operation != 'DELETE') \
        || !variables.writer && variables.guardian"
    );
    let plain = "!variables.writer || object == null || !has(object.aggregationRule) \
        && (variables.binder || !has(object.metadata.labels) \
            || object.metadata.labels.all(key, key == 'app.kubernetes.io/managed-by'))";
    let fixed = "!variables.writer || variables.binder || request.operation != 'UPDATE' \
        || variables.rules == (has(oldObject.rules) ? oldObject.rules : [])";
    let list = format!(
        "!variables.writer || !variables.binder || object == null || variables.rules.all(rule, \
            rule.verbs == ['bind'] && has(rule.apiGroups) && rule.apiGroups == ['rbac.authorization.k8s.io'] \
            && has(rule.resources) && rule.resources == ['clusterroles'] && !has(rule.nonResourceURLs) \
            && has(rule.resourceNames) && size(rule.resourceNames) > 0 \
            && rule.resourceNames.all(name, name.startsWith('{ROLE_PREFIX}')))"
    );
    // RBAC lets role-writer pass on its own rights on ClusterRoles; only what the ceiling has may be passed on.
    let ceiling = "!variables.writer || variables.binder || variables.onRoles.all(rule, rule.verbs.all(verb, \
        !(verb in ['bind', 'create', 'update', 'patch', 'delete', 'get', 'list', 'watch']) \
        || verb == 'bind' && variables.ceilingBinds \
        || verb in ['create', 'update', 'patch', 'delete'] && variables.ceilingMakes && variables.ceilingChanges \
        || verb in ['get', 'list', 'watch'] && variables.ceilingReads))";
    let ask = format!(
        "authorizer.serviceAccount('{SYSTEM_NAMESPACE}', '{CEILING}').group('rbac.authorization.k8s.io').resource('clusterroles')"
    );
    let may = |one: &str, two: &str| {
        format!("{ask}.check('{one}').allowed() && {ask}.check('{two}').allowed()")
    };
    let mut variables = identity_variables();
    variables.extend(request_variables());
    variables.extend([
        variable("writer", &is_account(ROLE_WRITER)),
        variable("binder", &format!("variables.name == '{BINDER}'")),
        variable("rules", "object != null && has(object.rules) ? object.rules : []"),
        variable(
            "onRoles",
            "variables.rules.filter(rule, has(rule.apiGroups) && 'rbac.authorization.k8s.io' in rule.apiGroups \
                && has(rule.resources) && 'clusterroles' in rule.resources)",
        ),
        variable("ceilingBinds", &format!("{ask}.check('bind').allowed()")),
        variable("ceilingMakes", &may("create", "delete")),
        variable("ceilingChanges", &may("update", "patch")),
        variable("ceilingReads", &may("list", "watch")),
    ]);
    // Deleting a collection names no object in the request.
    let ours_or_writer = format!(
        "has(request.name) && request.name.startsWith('nullius:') \
        || oldObject != null && oldObject.metadata.name.startsWith('nullius:') || {}",
        username_is(ROLE_WRITER)
    );
    policy(
        "nullius-roles",
        json!({ "resourceRules": [rbac(&["clusterroles"])] }),
        &[("ours-or-role-writer", &ours_or_writer)],
        variables,
        &[
            (
                &who,
                "ClusterRoles `nullius:*` belong to Nullius: its role-writer keeps `nullius:role:*` and `nullius:binder`, and no other",
            ),
            (plain, "a role of Nullius neither aggregates nor is aggregated"),
            (fixed, "a role of Nullius is named by its rules and never changes them"),
            (&list, "the binder list allows `bind` on `nullius:role:*` and nothing else"),
            (ceiling, "the ceiling of this cluster does not hold these rights on ClusterRoles"),
        ],
    )
}

/// Roles of ours are bound to session accounts by the provisioner; it binds nothing else, and nobody else does.
fn bindings() -> Value {
    let session_subject = format!(
        "s.kind == 'ServiceAccount' && has(s.namespace) && s.namespace == '{SESSIONS_NAMESPACE}' \
        || s.name.startsWith('system:serviceaccount:{SESSIONS_NAMESPACE}:') \
        || s.name == 'system:serviceaccounts:{SESSIONS_NAMESPACE}'"
    );
    let concerns = |object: &str| {
        format!(
            "{object} != null && ({object}.roleRef.name.startsWith('{ROLE_PREFIX}') \
            || {object}.metadata.name.startsWith('{BINDING_PREFIX}') \
            || has({object}.subjects) && {object}.subjects.exists(s, {session_subject}))"
        )
    };
    let who = "variables.ours || variables.guardian || request.operation == 'DELETE' && variables.controller";
    let shape = |object: &str| {
        format!(
            "{object}.roleRef.kind == 'ClusterRole' && {object}.roleRef.name.startsWith('{ROLE_PREFIX}') \
            && {object}.metadata.name.startsWith('{BINDING_PREFIX}') \
            && has({object}.subjects) && size({object}.subjects) == 1 && {object}.subjects.all(s, \
                s.kind == 'ServiceAccount' && has(s.namespace) && s.namespace == '{SESSIONS_NAMESPACE}' \
                && s.name.startsWith('{ACCOUNT_PREFIX}'))"
        )
    };
    let ours = format!(
        "!variables.ours || request.operation == 'CREATE' && {} || request.operation == 'DELETE' && {}",
        shape("object"),
        shape("oldObject")
    );
    let mut variables = identity_variables();
    variables.push(variable("ours", &is_account(PROVISIONER)));
    let matched = format!(
        "{} || {} || {}",
        username_is(PROVISIONER),
        concerns("object"),
        concerns("oldObject")
    );
    policy(
        "nullius-bindings",
        json!({ "resourceRules": [rbac(&["rolebindings", "clusterrolebindings"])] }),
        &[("concerns-sessions", &matched)],
        variables,
        &[
            (who, "only Nullius binds roles to its sessions' accounts"),
            (&ours, "Nullius binds its own roles to its sessions' accounts, and nothing else"),
        ],
    )
}

/// role-writer holds the whole ceiling, so that it may write roles below it; it uses it for nothing else.
fn role_writer() -> Value {
    let only_roles = "request.resource.group == 'rbac.authorization.k8s.io' && request.resource.resource == 'clusterroles'";
    let genuine = is_genuine();
    policy(
        "nullius-role-writer",
        json!({ "resourceRules": [everything("*", &["CREATE", "UPDATE", "DELETE", "CONNECT"])] }),
        &[("role-writer", &username_is(ROLE_WRITER))],
        Vec::new(),
        &[
            (only_roles, "role-writer writes ClusterRoles and nothing else"),
            (&genuine, "role-writer signs in with its own token; nobody impersonates it"),
        ],
    )
}

pub(super) fn policy(
    name: &str,
    constraints: Value,
    conditions: &[(&str, &str)],
    variables: Vec<Value>,
    validations: &[(&str, &str)],
) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(name, expression)| json!({ "name": name, "expression": squeeze(expression) }))
        .collect();
    let validations: Vec<Value> = validations
        .iter()
        .map(|(expression, message)| {
            json!({ "expression": squeeze(expression), "message": message, "reason": "Forbidden" })
        })
        .collect();
    let mut spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": constraints,
        "validations": validations,
    });
    if !variables.is_empty() {
        spec["variables"] = variables.into();
    }
    if !conditions.is_empty() {
        spec["matchConditions"] = conditions.into();
    }
    json!({
        "apiVersion": POLICY_API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name, "labels": part_of() },
        "spec": spec,
    })
}

pub(super) fn binding_of(policy: &Value) -> Value {
    let name = &policy["metadata"]["name"];
    json!({
        "apiVersion": POLICY_API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name, "labels": part_of() },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    })
}

pub(super) fn everything(scope: &str, operations: &[&str]) -> Value {
    json!({
        "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"],
        "operations": operations, "scope": scope,
    })
}

fn rbac(resources: &[&str]) -> Value {
    json!({
        "apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["*"], "resources": resources,
        "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "*",
    })
}

pub(super) fn variable(name: &str, expression: &str) -> Value {
    json!({ "name": name, "expression": squeeze(expression) })
}

pub(super) fn request_variables() -> Vec<Value> {
    vec![
        variable("resource", "request.resource.resource"),
        variable("subresource", "has(request.subResource) ? request.subResource : ''"),
        variable("name", "has(request.name) ? request.name : ''"),
    ]
}

pub(super) fn identity_variables() -> Vec<Value> {
    vec![
        variable("groups", "has(request.userInfo.groups) ? request.userInfo.groups : []"),
        variable(
            "controller",
            &format!(
                "(request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver'] \
                || request.userInfo.username.startsWith('system:serviceaccount:kube-system:')) && {}",
                is_genuine()
            ),
        ),
        variable(
            "guardian",
            &format!(
                "!('system:serviceaccounts:{SESSIONS_NAMESPACE}' in variables.groups) \
                && !('system:serviceaccounts:{SYSTEM_NAMESPACE}' in variables.groups) \
                && authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicybindings').check('delete').allowed()"
            ),
        ),
    ]
}

pub(super) fn username_is(account: &str) -> String {
    format!("request.userInfo.username == 'system:serviceaccount:{SYSTEM_NAMESPACE}:{account}'")
}

/// One of our accounts, signed in with its own token.
pub(super) fn is_account(account: &str) -> String {
    format!("{} && {}", username_is(account), is_genuine())
}

/// A ServiceAccount with a token of its own, or no ServiceAccount at all. Impersonation carries no credential id, and
/// the one of a client certificate that names a ServiceAccount is not that of a token.
fn is_genuine() -> String {
    "(!request.userInfo.username.startsWith('system:serviceaccount:') \
        || has(request.userInfo.extra) && 'authentication.kubernetes.io/credential-id' in request.userInfo.extra \
            && request.userInfo.extra['authentication.kubernetes.io/credential-id'].exists(id, id.startsWith('JTI=')))"
        .to_owned()
}

/// One space where the source is indented.
fn squeeze(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}
