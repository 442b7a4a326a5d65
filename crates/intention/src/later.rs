//! Fields that belong to what this version does not have: refused by name, never ignored.

use nullius_fields::Faults;

/// Paths without indices, and what they belong to.
const FIELDS: [(&str, &str); 10] = [
    ("spec.sources.limits", "limits of single sources, beside those in `spec.limits`"),
    ("spec.sources.rateLimit", "limits of single sources, beside those in `spec.limits`"),
    ("spec.sources.permissions.limits", "limits of single sources, beside those in `spec.limits`"),
    (
        "spec.sources.permissions.rateLimit",
        "limits of single sources, beside those in `spec.limits`",
    ),
    (
        "spec.sources.permissions.body",
        "bodies of single permissions, beside the schema in `spec.api`",
    ),
    ("spec.retries", "retries in the data plane"),
    ("spec.timeout", "timeouts in the data plane"),
    ("spec.egress", "calls that leave the cluster"),
    ("spec.destination.host", "calls that leave the cluster"),
    (
        "spec.destination.service",
        "destinations named by a Service: name `serviceAccount` or `labels`",
    ),
];

/// None yet, and these fields are refused by name.
pub(crate) fn faults() -> Faults {
    Faults::new(plane)
}

/// What a field belongs to.
fn plane(path: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(field, _)| *field == path).map(|(_, plane)| *plane)
}
