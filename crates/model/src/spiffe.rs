//! Identities of workloads as SPIFFE writes them: trust domains and IDs, in the one form that is compared byte for byte.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Namespace;

/// What every SPIFFE ID begins with.
const SCHEME: &str = "spiffe://";
/// The longest name of a trust domain, in bytes.
const TRUST_DOMAIN_MAX: usize = 255;
/// The longest ID that everybody must be able to read, in bytes.
const ID_MAX: usize = 2048;

/// The name of a trust domain: lower-case letters, digits, `.`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

/// The ID of a workload: a trust domain and a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId(Box<str>);

/// Text that is no trust domain, or no ID of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is no {what}: {rule}")]
pub struct ParseSpiffeError {
    /// `trust domain` or `SPIFFE ID`.
    pub what: &'static str,
    /// The text as given, cut to 80 characters and escaped.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn refuse(what: &'static str, value: &str, rule: &'static str) -> ParseSpiffeError {
    let value = value.chars().take(80).flat_map(char::escape_debug).collect();
    ParseSpiffeError { what, value, rule }
}

/// The rule of trust domains that a name breaks.
fn wrong_with_domain(name: &str) -> Option<&'static str> {
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
    match name {
        "" => Some("the trust domain is missing"),
        _ if name.len() > TRUST_DOMAIN_MAX => Some("use 255 bytes at most"),
        _ if name.bytes().any(|c| c.is_ascii_uppercase()) => {
            Some("a trust domain is written in lower case")
        }
        _ if !name.bytes().all(legal) => {
            Some("use lower-case letters, digits, `.`, `-` and `_`; no port, no user")
        }
        _ => None,
    }
}

/// The rule of paths that the path of an ID breaks.
fn wrong_with_path(path: &str) -> Option<&'static str> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    let Some(path) = path.strip_prefix('/') else {
        return Some("the path is missing: it names no workload");
    };
    for segment in path.split('/') {
        match segment {
            "" => return Some("a segment of the path is empty, or it ends with `/`"),
            "." | ".." => return Some("a path has no `.` and `..`"),
            _ if !segment.bytes().all(legal) => {
                return Some("segments of the path have letters, digits, `.`, `-` and `_` alone");
            }
            _ => {}
        }
    }
    None
}

impl TrustDomain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = ParseSpiffeError;

    fn from_str(name: &str) -> Result<Self, ParseSpiffeError> {
        match wrong_with_domain(name) {
            None => Ok(Self(name.into())),
            Some(rule) => Err(refuse("trust domain", name, rule)),
        }
    }
}

impl SpiffeId {
    /// The ID that a pod of a service account has by default.
    pub fn of_service_account(domain: &TrustDomain, namespace: &Namespace, account: &str) -> Self {
        Self(format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}").into())
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its trust domain.
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.get(SCHEME.len()..).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }

    /// What follows the trust domain, from its first `/` on.
    pub fn path(&self) -> &str {
        self.0.get(SCHEME.len() + self.trust_domain().len()..).unwrap_or_default()
    }

    /// The namespace of Kubernetes that it is of; IDs under `/ns/NAME/` are.
    pub fn namespace(&self) -> Option<&str> {
        self.path().strip_prefix("/ns/")?.split_once('/').map(|(namespace, _)| namespace)
    }

    /// What the IDs of its namespace begin with: `spiffe://DOMAIN/ns/NAME`.
    pub fn namespace_scope(&self) -> Option<&str> {
        let namespace = self.namespace()?;
        self.0.get(..SCHEME.len() + self.trust_domain().len() + "/ns/".len() + namespace.len())
    }

    /// The service account that it is of, where it has the default form.
    pub fn service_account(&self) -> Option<&str> {
        let (_, rest) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        rest.strip_prefix("sa/").filter(|account| !account.contains('/'))
    }
}

impl FromStr for SpiffeId {
    type Err = ParseSpiffeError;

    fn from_str(text: &str) -> Result<Self, ParseSpiffeError> {
        let wrong = |rule| Err(refuse("SPIFFE ID", text, rule));
        if text.len() > ID_MAX {
            return wrong("use 2048 bytes at most");
        }
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return wrong("it begins with `spiffe://`, in lower case");
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (domain, path) = rest.split_at(end);
        match wrong_with_domain(domain).or_else(|| wrong_with_path(path)) {
            None => Ok(Self(text.into())),
            Some(rule) => wrong(rule),
        }
    }
}

macro_rules! text_forms {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = ParseSpiffeError;
            fn try_from(text: String) -> Result<Self, ParseSpiffeError> {
                text.parse()
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
    )*};
}
text_forms!(TrustDomain, SpiffeId);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_id_is_taken_apart() {
        let id: SpiffeId = "spiffe://dev.example.org/ns/shop/sa/web".parse().unwrap();
        assert_eq!(id.trust_domain(), "dev.example.org");
        assert_eq!(id.path(), "/ns/shop/sa/web");
        assert_eq!((id.namespace(), id.service_account()), (Some("shop"), Some("web")));
        let domain = "dev.example.org".parse().unwrap();
        let made = SpiffeId::of_service_account(&domain, &"shop".parse().unwrap(), "web");
        assert_eq!(made, id);
        assert_eq!(id.namespace_scope(), Some("spiffe://dev.example.org/ns/shop"));
        let other: SpiffeId = "spiffe://d/ns/shop/job/nightly".parse().unwrap();
        assert_eq!((other.namespace(), other.service_account()), (Some("shop"), None));
        let free: SpiffeId = "spiffe://d/vm-7".parse().unwrap();
        assert_eq!((free.namespace(), free.service_account()), (None, None));
    }

    #[test]
    fn an_id_has_one_form() {
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://d",
            "spiffe://d/",
            "SPIFFE://d/a",
            "spiffe://D/a",
            "spiffe://d:80/a",
            "spiffe://u@d/a",
            "spiffe://d/a/",
            "spiffe://d//a",
            "spiffe://d/./a",
            "spiffe://d/a/..",
            "spiffe://d/%61",
            "spiffe://d/a?x=1",
            "spiffe://d/a#x",
            "spiffe://d/a b",
            "spiffe://d/a\0",
            "spiffe://d/ä",
            "https://d/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?}");
        }
        assert!(format!("spiffe://d/{}", "a".repeat(2048)).parse::<SpiffeId>().is_err());
        assert!("a".repeat(256).parse::<TrustDomain>().is_err());
        let told = "Dev.example.org".parse::<TrustDomain>().unwrap_err().to_string();
        assert!(told.ends_with("a trust domain is written in lower case"), "{told}");
    }
}
