//! Fields that belong to what this version does not have: refused by name, never ignored.

use nullius_fields::Faults;

const FIELDS: [(&str, &str); 5] = [
    ("spec.signedImage", "identities for signed images alone"),
    ("spec.signatures", "identities for signed images alone"),
    ("spec.cloud", "tokens for clouds"),
    ("spec.spiffeId", "identities outside of the namespace, which the hub gives"),
    ("spec.namespaceSelector", "identities for other namespaces, which the hub gives"),
];

/// None yet, and these fields are refused by name.
pub(crate) fn faults() -> Faults {
    Faults::new(|path| FIELDS.iter().find(|(field, _)| *field == path).map(|(_, plane)| *plane))
}
