//! Fields that belong to what this version does not have: refused by name, never ignored.

/// Paths without indices, and what they belong to.
const FIELDS: [(&str, &str); 17] = [
    ("spec.openapi", "checks of requests against the schema of an API"),
    ("spec.openApi", "checks of requests against the schema of an API"),
    ("spec.api", "checks of requests against the schema of an API"),
    ("spec.schema", "checks of requests against the schema of an API"),
    ("spec.limits", "limits of requests for each caller"),
    ("spec.rateLimit", "limits of requests for each caller"),
    ("spec.rateLimits", "limits of requests for each caller"),
    ("spec.sources.limits", "limits of requests for each caller"),
    ("spec.sources.rateLimit", "limits of requests for each caller"),
    ("spec.sources.permissions.limits", "limits of requests for each caller"),
    ("spec.sources.permissions.rateLimit", "limits of requests for each caller"),
    ("spec.sources.permissions.body", "checks of requests against the schema of an API"),
    ("spec.retries", "retries in the data plane"),
    ("spec.timeout", "timeouts in the data plane"),
    ("spec.egress", "calls that leave the cluster"),
    ("spec.destination.host", "calls that leave the cluster"),
    (
        "spec.destination.service",
        "destinations named by a Service: name `serviceAccount` or `labels`",
    ),
];

/// What a field belongs to.
pub(crate) fn plane(path: &str) -> Option<&'static str> {
    let mut bare = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => bare.push(c),
            _ => {}
        }
    }
    FIELDS.iter().find(|(field, _)| *field == bare).map(|(_, plane)| *plane)
}
