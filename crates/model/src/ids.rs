//! Names and ids, each a type of its own, parsed at the edge.
//!
//! Object names follow the DNS label rules of Kubernetes (RFC 1123), so that they can stand in paths,
//! certificates and Kubernetes object names without escaping.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A string that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct ParseNameError {
    /// What was parsed, for example `cluster name`.
    pub what: &'static str,
    /// The text as given, cut to 80 characters and escaped.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn refuse(what: &'static str, value: &str, rule: &'static str) -> ParseNameError {
    ParseNameError {
        what,
        value: value.chars().take(80).flat_map(char::escape_debug).collect(),
        rule,
    }
}

const LABEL_RULE: &str =
    "use 1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit";
const SUBDOMAIN_RULE: &str = "use 1 to 253 lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit";
const USER_RULE: &str =
    "use 1 to 128 letters, digits and `.-_@+`, not beginning with `system:` or a sign";
const HEX_RULE: &str = "use 32 lower-case hexadecimal digits";

fn is_label(value: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|c| inner(*c))
        && edge(bytes.first())
        && edge(bytes.last())
}

fn is_subdomain(value: &str) -> bool {
    value.len() <= 253 && value.split('.').all(|part| !part.is_empty() && is_label(part))
}

fn is_user(value: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b".-_@+".contains(&c);
    let bytes = value.as_bytes();
    bytes.len() <= 128
        && bytes.iter().all(|c| legal(*c))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_hex_id(value: &str) -> bool {
    value.len() == 32 && value.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;
            fn from_str(value: &str) -> Result<Self, ParseNameError> {
                if $check(value) { Ok(Self(value.into())) } else { Err(refuse($what, value, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;
            fn try_from(value: String) -> Result<Self, ParseNameError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(/** Name of a cluster behind the hub; a DNS label, since it stands in paths and certificates. */
    ClusterName, "cluster name", is_label, LABEL_RULE);
name_type!(/** Name of a Kubernetes namespace. */
    Namespace, "namespace", is_label, LABEL_RULE);
name_type!(/** Name of a `Role` object. */
    RoleName, "role name", is_label, LABEL_RULE);
name_type!(/** Name of a `Grant` object. */
    GrantName, "grant name", is_subdomain, SUBDOMAIN_RULE);
name_type!(/** Name of a person; never a Kubernetes `system:` name, never with commas, spaces or newlines. */
    UserName, "user name", is_user, USER_RULE);
name_type!(/** Name of a group of people; same rule as a user name, so `system:masters` cannot be one. */
    GroupName, "group name", is_user, USER_RULE);
name_type!(/** Name of any fleet object before its kind is known: the union of the rules above. */
    ObjectName, "object name", is_object, USER_RULE);
name_type!(/** One sign-in's live use, 128 random bits. */
    SessionId, "session id", is_hex_id, HEX_RULE);
name_type!(/** One running agent process, 128 random bits chosen at enrolment. */
    InstanceId, "instance id", is_hex_id, HEX_RULE);
name_type!(/** One command of the hub to an agent, 128 random bits. */
    CommandId, "command id", is_hex_id, HEX_RULE);
name_type!(/** Stable id of a permission: the first 128 bits of a hash over source object UID and rule content. */
    PermissionId, "permission id", is_hex_id, HEX_RULE);

name_type!(/** Stable id of a finding: the first 128 bits of a hash over cluster, object, policy and check. */
    FindingId, "finding id", is_hex_id, HEX_RULE);

fn is_object(value: &str) -> bool {
    is_user(value) || is_subdomain(value)
}

const AUDIT_RULE: &str = "use 1 to 64 letters, digits and `-`";

fn is_audit(value: &str) -> bool {
    (1..=64).contains(&value.len()) && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

name_type!(/** Audit-ID of one request as Kubernetes carries it (audit.k8s.io/v1 `auditID`), a UUID when we make it. */
    AuditId, "audit id", is_audit, AUDIT_RULE);

macro_rules! random_id {
    ($($name:ident),*) => {$(
        impl $name {
            /// The id for 128 bits that the caller drew at random.
            pub fn from_bits(bits: u128) -> Self {
                Self(format!("{bits:032x}").into())
            }
        }
    )*};
}
random_id!(SessionId, InstanceId, CommandId, PermissionId, FindingId);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn names_that_could_confuse_kubernetes_are_refused() {
        for bad in ["", "system:masters", "a,b", "a\nb", "a b", "-a", "é", &"a".repeat(129)] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        for bad in ["", "Prod", "a.b", "a/b", "..", "a-", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        assert_eq!("dev-1".parse::<ClusterName>().unwrap().as_str(), "dev-1");
        assert_eq!("ada@example.org".parse::<UserName>().unwrap().to_string(), "ada@example.org");
    }

    #[test]
    fn an_error_shows_the_text_escaped_and_cut() {
        let error = "a\u{1b}[31m".parse::<ClusterName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`a\\u{{1b}}[31m` is not a valid cluster name: {LABEL_RULE}")
        );
    }

    #[test]
    fn an_id_made_from_bits_parses_again() {
        let id = SessionId::from_bits(7);
        assert_eq!(id.as_str().parse::<SessionId>().unwrap(), id);
        assert!("7".parse::<SessionId>().is_err());
    }
}
