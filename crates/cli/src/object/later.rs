//! Kinds and fields that belong to planes which this version does not have: refused by name, never ignored.

use nullius_model::KindHome;

/// A field and the plane that it belongs to.
struct Later {
    kind: &'static str,
    /// Path without indices.
    path: &'static str,
    plane: &'static str,
}

const fn later(kind: &'static str, path: &'static str, plane: &'static str) -> Later {
    Later { kind, path, plane }
}

const FIELDS: &[Later] = &[
    later("Grant", "spec.condition", "conditions on grants (CEL)"),
    later("Grant", "spec.conditions", "conditions on grants (CEL)"),
    later("Grant", "spec.approval", "access requests and approvals"),
    later("Grant", "spec.approvers", "access requests and approvals"),
    later("Grant", "spec.factorAge", "grants that ask for a fresh factor"),
    later("Grant", "spec.device", "enrolled devices"),
    later("Grant", "spec.devices", "enrolled devices"),
    later("Grant", "spec.ticket", "conditions on grants (CEL)"),
    later("Grant", "spec.clusters.matchExpressions", "selection of clusters by expressions"),
    later("Grant", "spec.namespaceSelector", "selection of namespaces by labels"),
    later("Grant", "spec.recording", "recording of exec sessions"),
    later("Role", "spec.condition", "conditions on grants (CEL)"),
    later("Role", "spec.aggregationRule", "roles made of other roles"),
    later("Group", "spec.claims", "sign-in through an identity provider"),
    later("Group", "spec.identityProvider", "sign-in through an identity provider"),
    later("User", "spec.identityProvider", "sign-in through an identity provider"),
    later("User", "spec.externalId", "provisioning by SCIM"),
    later("User", "spec.passkeys", "passkeys"),
    later("User", "spec.devices", "enrolled devices"),
    later("Cluster", "spec.credentials", "the choice between service accounts and impersonation"),
    later("Cluster", "spec.impersonation", "the choice between service accounts and impersonation"),
    later("Cluster", "spec.breakGlass", "break-glass access"),
    later("Cluster", "spec.quota", "quotas of a cluster"),
    later("Cluster", "spec.auditPolicy", "audit policies"),
];

/// What a field belongs to, if it belongs to a plane that this version does not have.
pub(crate) fn plane_of_field(kind: &str, path: &str) -> Option<&'static str> {
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
    FIELDS.iter().find(|field| field.kind == kind && field.path == bare).map(|field| field.plane)
}

/// What a kind belongs to, if it belongs to a part of a plane that this version does not have.
pub(crate) fn plane_of_kind(kind: &str) -> Option<&'static str> {
    match KindHome::of(kind)? {
        KindHome::Later(plane) => Some(plane),
        // The hub does not keep those of the fleet yet.
        KindHome::Cluster if kind == "Intention" => Some("the mesh"),
        KindHome::Cluster | KindHome::Hub(_) | KindHome::File => None,
    }
}

/// What must not stand in an object at all, and what to do instead.
pub(crate) fn never(kind: &str, path: &str) -> Option<&'static str> {
    let secret =
        ["spec.password", "spec.passwordHash", "spec.totp", "spec.totpSecret", "spec.secret"];
    (kind == "User" && secret.contains(&path)).then_some(
        "secrets never stand in an object; give the person a link: `nullius user enrol NAME`",
    )
}
