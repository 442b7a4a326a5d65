//! Names, labels and annotations of what is ours in a cluster.
//!
//! A session's names are made of its id, a role's of the hash of its rules: whoever reads a name knows what the
//! object must hold, and an object that holds something else is not ours.

use nullius_model::{Binding, Namespace, PolicyRule, RoleName, SessionId};
use sha2::{Digest, Sha256};

/// Namespace of the agent itself.
pub const SYSTEM_NAMESPACE: &str = "nullius-system";
/// Namespace of the sessions' ServiceAccounts and markers, and of nothing else.
pub const SESSIONS_NAMESPACE: &str = "nullius-sessions";

/// ServiceAccount that writes ClusterRoles below the ceiling.
pub const ROLE_WRITER: &str = "nullius-role-writer";
/// ServiceAccount of `agent control`: makes session accounts and binds what the binder list names.
pub const PROVISIONER: &str = "nullius-provisioner";
/// ServiceAccount of `agent proxy`; it has no rights at all.
pub const AGENT_PROXY: &str = "nullius-agent-proxy";
/// A subject, never an account: it stands for the ceiling alone, so that admission can ask what the ceiling allows.
pub(crate) const CEILING: &str = "nullius-ceiling";

/// ClusterRoleBinding that binds role-writer to the ceiling.
pub const CEILING_BINDING: &str = "nullius:ceiling";
/// ClusterRole whose `bind` list is all that the provisioner may bind.
pub const BINDER: &str = "nullius:binder";
/// Prefix of the ClusterRoles that role-writer keeps.
pub const ROLE_PREFIX: &str = "nullius:role:";
pub(crate) const BINDING_PREFIX: &str = "nullius:session:";
pub(crate) const ACCOUNT_PREFIX: &str = "session-";
pub(crate) const MARKER_TYPE: &str = "nullius.dev/session-marker";

/// Secret that holds the join token until it is redeemed.
pub const JOIN_SECRET: &str = "nullius-join";
/// Secret in which `agent control` keeps the newest key set that it has verified.
pub const TRUST_SECRET: &str = "nullius-trust";

/// The Lease by which replicas of `agent control` agree on who leads.
pub const CONTROL_LEASE: &str = "nullius-agent-control";
/// What is tried, as a dry run, to see policies refuse; nothing of this name ever exists.
pub(crate) const GUARD_PROBE: &str = "nullius-guard-probe";
/// The admission policies of the join manifest.
pub(crate) const POLICIES: [&str; 5] = [
    "nullius-sessions-closed",
    "nullius-system-closed",
    "nullius-roles",
    "nullius-bindings",
    "nullius-role-writer",
];

/// ServiceAccount of `agent admission`: it reads what policies ask for, and makes no credential.
pub const ADMISSION: &str = "nullius-admission";
/// Deployment, Service and Lease of `agent admission`.
pub const AGENT_ADMISSION: &str = "nullius-agent-admission";
/// Name of both webhook configurations.
pub const ADMISSION_WEBHOOKS: &str = "nullius-admission";
/// Name of the webhook configuration by which exceptions from Pod Security count. It stands by itself: a version of the agent that knows
/// nothing of them leaves it alone, and then pods are refused that nobody would measure.
pub const POD_SECURITY_WEBHOOK: &str = "nullius-admission-pod-security";
/// The ClusterRole by which administrators let exceptions count from policies of the API server.
pub const EXCEPTED_POLICIES: &str = "nullius:excepted-policies";
/// ServiceAccount that makes what namespace baselines say, and the Lease by which replicas agree on who does.
pub const BASELINE: &str = "nullius-baseline";
/// The ClusterRole by which administrators let baselines bind roles.
pub const BASELINE_ROLES: &str = "nullius:baseline-roles";
/// Secret of the webhook's authority.
pub const ADMISSION_SECRET: &str = "nullius-admission-ca";
/// ConfigMap that says which policies of the webhook are in force.
pub const ADMISSION_STATUS: &str = "nullius-admission-status";
/// Label of ConfigMaps in [`SYSTEM_NAMESPACE`] whose policies the webhook enforces.
pub const ADMISSION_POLICIES_LABEL: &str = "nullius.dev/admission-policies";

/// ServiceAccount of `agent identity`: it alone reads the Secret of the cluster's authority for workloads.
pub const IDENTITY: &str = "nullius-identity";
/// Deployment, Service and Lease of `agent identity`.
pub const AGENT_IDENTITY: &str = "nullius-agent-identity";
/// Secret of the cluster's authority for workloads.
pub const IDENTITY_SECRET: &str = "nullius-identity-ca";
/// Port on which `agent identity` hears nodes.
pub const IDENTITY_PORT: u16 = 8447;
/// Label of namespaces and pods that says whether pods have an identity.
pub const IDENTITY_LABEL: &str = "nullius.dev/identity";
/// They have.
pub const IDENTITY_ENABLED: &str = "enabled";
/// They have not.
pub const IDENTITY_DISABLED: &str = "disabled";

/// Label of namespaces and pods that says whether pods are in the mesh.
pub const MESH_LABEL: &str = "nullius.dev/mesh";
/// The annotation by which a namespace in the mesh leaves pods of ServiceAccounts out of it.
pub const MESH_EXEMPT: &str = "nullius.dev/mesh-exempt";
/// They are, and their node leads their calls.
pub const MESH_NODE: &str = "node";
/// They are, and a proxy beside their containers leads their calls. Of a pod it says which of the two it is, where its namespace says
/// nothing else.
pub const MESH_SIDECAR: &str = "sidecar";
/// They are not; of a pod in a namespace that says they are, it counts nothing.
pub const MESH_DISABLED: &str = "disabled";

/// Namespace of what runs on each node.
pub const NODE_NAMESPACE: &str = "nullius-node";
/// ServiceAccount of what runs on each node, by which a node proves itself.
pub const NODE: &str = "nullius-node";
/// ConfigMap from which nodes learn whom to believe, and where to ask.
pub const TRUST_MAP: &str = "nullius-trust";
/// Key of the bundle in it.
pub const TRUST_BUNDLE_KEY: &str = "bundle.json";
/// Key of the trust domain.
pub const TRUST_DOMAIN_KEY: &str = "trust-domain";
/// Key of the address of `agent identity`.
pub const TRUST_ISSUER_KEY: &str = "issuer";

/// Service of `agent control` for the API server's audit webhook, and the ConfigMap with a policy for it.
pub const AGENT_AUDIT: &str = "nullius-agent-audit";
/// Secret of the authority by which the API server proves itself there, and of the file that the API server is given.
pub const AUDIT_SECRET: &str = "nullius-agent-audit";

/// Name of the CSI driver by which pods get the socket of the Workload API.
pub const CSI_DRIVER: &str = "csi.nullius.dev";
/// Port of health and readiness of `nullius node`, on its host.
pub const NODE_HEALTH_PORT: u16 = 8449;
/// Port of a host's loopback at which its kubelet asks `nullius node` for health.
pub(crate) const NODE_PROBES_PORT: u16 = 8450;

/// Port on which `agent control` hears the API server's audit webhook.
pub const AUDIT_PORT: u16 = 8446;
/// Port on which `agent admission` answers API servers.
pub const ADMISSION_PORT: u16 = 8445;
/// Port on which `agent control` serves credentials to `agent proxy`.
pub const CONTROL_PORT: u16 = 8444;
/// Port of health and readiness.
pub const HEALTH_PORT: u16 = 8081;

pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGED_BY: &str = "nullius";
pub(crate) const SESSION_LABEL: &str = "nullius.dev/session";

pub(crate) const USER_ANNOTATION: &str = "nullius.dev/user";
pub(crate) const GENERATION_ANNOTATION: &str = "nullius.dev/generation";
pub(crate) const EXPIRES_ANNOTATION: &str = "nullius.dev/expires-at";
pub(crate) const AWAITS_ANNOTATION: &str = "nullius.dev/awaits-namespaces";
pub(crate) const OBJECTS_ANNOTATION: &str = "nullius.dev/objects";
pub(crate) const MARKER_UID_ANNOTATION: &str = "nullius.dev/marker-uid";
pub(crate) const ACCOUNT_UID_ANNOTATION: &str = "nullius.dev/account-uid";
pub(crate) const ROLE_ANNOTATION: &str = "nullius.dev/role";

/// The agent's own accounts, for which tokens are minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnAccount {
    RoleWriter,
    Provisioner,
    AgentProxy,
    Baseline,
}

impl OwnAccount {
    /// The ServiceAccount's name in [`SYSTEM_NAMESPACE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::RoleWriter => ROLE_WRITER,
            Self::Provisioner => PROVISIONER,
            Self::AgentProxy => AGENT_PROXY,
            Self::Baseline => BASELINE,
        }
    }
}

/// Name of a session's ServiceAccount and of its marker Secret.
pub fn account_name(session: &SessionId) -> String {
    format!("{ACCOUNT_PREFIX}{session}")
}

/// Name of the ClusterRole that holds exactly these rules.
pub fn role_object_name(role: &RoleName, rules: &[PolicyRule]) -> String {
    format!("{ROLE_PREFIX}{role}-{}", rules_hash(rules))
}

/// Name of a session's binding of one role, cluster-wide or in one namespace.
pub(crate) fn binding_name(session: &SessionId, binding: &Binding) -> String {
    let role = role_object_name(&binding.role, &binding.rules);
    let scope = binding.namespace.as_ref().map_or("", Namespace::as_str);
    format!("{BINDING_PREFIX}{session}:{}", short_hash(format!("{scope}\n{role}").as_bytes()))
}

/// The hash part of a role's name.
pub(crate) fn rules_hash(rules: &[PolicyRule]) -> String {
    // Strings, lists and field names only: serialisation of these cannot fail, and an empty text names no role.
    let canonical = serde_json::to_vec(rules).unwrap_or_default();
    short_hash(&canonical)
}

fn short_hash(bytes: &[u8]) -> String {
    let mut digest = hex::encode(Sha256::digest(bytes));
    digest.truncate(20);
    digest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn rule(verb: &str) -> PolicyRule {
        PolicyRule { verbs: vec![verb.into()], ..PolicyRule::default() }
    }

    #[test]
    fn a_role_is_named_by_what_it_holds() {
        let role: RoleName = "view".parse().unwrap();
        let name = role_object_name(&role, &[rule("get")]);
        assert!(name.starts_with("nullius:role:view-"), "{name}");
        assert_eq!(name, role_object_name(&role, &[rule("get")]));
        assert_ne!(name, role_object_name(&role, &[rule("list")]));
    }

    #[test]
    fn bindings_of_one_role_in_two_places_have_two_names() {
        let session = SessionId::from_bits(1);
        let mut binding =
            Binding { namespace: None, role: "view".parse().unwrap(), rules: vec![rule("get")] };
        let cluster_wide = binding_name(&session, &binding);
        binding.namespace = Some("dev".parse().unwrap());
        assert_ne!(cluster_wide, binding_name(&session, &binding));
    }
}
