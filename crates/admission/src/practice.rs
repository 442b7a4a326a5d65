//! Good practice as policies: what linters of Kubernetes agree on, each a `ValidatingAdmissionPolicy` with its binding that a
//! cluster would take as it is.

use nullius_policy::pod_security::all_checks;

use crate::policies::practice_name;

/// Each file of `policies/` with its text, by name.
pub const PRACTICE: [(&str, &str); 16] = [
    ("broad-binding.yaml", include_str!("../policies/broad-binding.yaml")),
    ("cluster-admin.yaml", include_str!("../policies/cluster-admin.yaml")),
    ("default-token.yaml", include_str!("../policies/default-token.yaml")),
    ("disruption-budget.yaml", include_str!("../policies/disruption-budget.yaml")),
    ("escalating-rights.yaml", include_str!("../policies/escalating-rights.yaml")),
    ("image-tag.yaml", include_str!("../policies/image-tag.yaml")),
    ("ingress-tls.yaml", include_str!("../policies/ingress-tls.yaml")),
    ("memory-limit.yaml", include_str!("../policies/memory-limit.yaml")),
    ("namespace-pod-security.yaml", include_str!("../policies/namespace-pod-security.yaml")),
    ("plain-secret.yaml", include_str!("../policies/plain-secret.yaml")),
    ("read-only-root.yaml", include_str!("../policies/read-only-root.yaml")),
    ("readiness-probe.yaml", include_str!("../policies/readiness-probe.yaml")),
    ("resource-requests.yaml", include_str!("../policies/resource-requests.yaml")),
    ("secret-rights.yaml", include_str!("../policies/secret-rights.yaml")),
    ("service-exposure.yaml", include_str!("../policies/service-exposure.yaml")),
    ("wildcard-rights.yaml", include_str!("../policies/wildcard-rights.yaml")),
];

/// The names of everything that comes with Nullius and may be left out of a scan: checks of the Pod Security Standards and
/// policies of good practice.
pub fn excludable() -> Vec<String> {
    let checks = all_checks().map(|check| check.id.as_str().to_owned());
    checks.chain(PRACTICE.iter().map(|(file, _)| practice_name(file))).collect()
}
