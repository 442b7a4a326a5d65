//! Who calls: a workload, a namespace, a trust domain, a block of addresses.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use nullius_fields::{Fields, shown};
use nullius_model::{Namespace, SpiffeId, TrustDomain};

use crate::{
    destination::{is_subdomain, not_an_account},
    origin::Home,
};

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One workload.
    Workload(SpiffeId),
    /// All workloads of a namespace, as the beginning of their IDs.
    Namespace(Box<str>),
    /// All workloads of a trust domain.
    TrustDomain(TrustDomain),
    /// Whoever has an address of these.
    Block(IpNet),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "{id}"),
            Self::Namespace(scope) => write!(f, "{scope}/*"),
            Self::TrustDomain(domain) => write!(f, "spiffe://{domain}/*"),
            Self::Block(block) => write!(f, "{block}"),
        }
    }
}

impl Subject {
    /// Reads whom a source names.
    pub(crate) fn read(fields: &mut Fields<'_>, own: &Namespace, home: &Home) -> Option<Self> {
        let named: Vec<&str> =
            ["spiffeId", "any", "ipBlock"].into_iter().filter(|name| fields.has(name)).collect();
        let id = fields.text("spiffeId");
        let any = fields.truth("any");
        let block = fields.text("ipBlock");
        let account = fields.text("serviceAccount");
        let namespace = fields.text("namespace");
        let domain = fields.text("trustDomain");
        let by_parts = ["serviceAccount", "namespace", "trustDomain"]
            .into_iter()
            .find(|name| fields.has(name));
        match (named.as_slice(), by_parts) {
            ([], None) => {
                let told = "it names nobody: say `serviceAccount`, `namespace`, `trustDomain`, `spiffeId`, `ipBlock` or `any: true`";
                fields.wrong_here(told);
                return None;
            }
            ([first, second, ..], _) => {
                fields.wrong(
                    second,
                    format!("`{first}` names the source already: write two sources"),
                );
                return None;
            }
            ([first], Some(second)) => {
                fields.wrong(
                    second,
                    format!("`{first}` names the source already: write two sources"),
                );
                return None;
            }
            ([_], None) | ([], Some(_)) => {}
        }
        if let Some(id) = id {
            return taken(fields, "spiffeId", id.parse()).map(Self::Workload);
        }
        match any {
            Some(true) => return Some(Self::TrustDomain(home.trust_domain.clone())),
            Some(false) => {
                fields.wrong("any", "say `true`, or name the source in another way");
                return None;
            }
            None => {}
        }
        if let Some(block) = block {
            return read_block(fields, block).map(Self::Block);
        }
        let domain = match domain {
            Some(domain) => taken(fields, "trustDomain", domain.parse())?,
            None => home.trust_domain.clone(),
        };
        let named = match namespace {
            Some(namespace) => Some(taken(fields, "namespace", namespace.parse::<Namespace>())?),
            None => None,
        };
        let Some(account) = account else {
            return match named {
                Some(namespace) => Some(Self::Namespace(scope(&domain, &namespace))),
                // Where a field could not be read, that was told already.
                None => fields.has("trustDomain").then_some(Self::TrustDomain(domain)),
            };
        };
        if !is_subdomain(account) {
            fields.wrong("serviceAccount", not_an_account(account));
            return None;
        }
        let namespace = named.unwrap_or_else(|| own.clone());
        Some(Self::Workload(SpiffeId::of_service_account(&domain, &namespace, account)))
    }

    /// The trust domain that it names.
    pub(crate) fn trust_domain(&self) -> Option<&str> {
        match self {
            Self::Workload(id) => Some(id.trust_domain()),
            Self::Namespace(scope) => {
                let rest = scope.strip_prefix("spiffe://")?;
                rest.split_once('/').map(|(domain, _)| domain)
            }
            Self::TrustDomain(domain) => Some(domain.as_str()),
            Self::Block(_) => None,
        }
    }

    /// How exactly it names the caller, as a number of Consul's order.
    pub(crate) fn exactness(&self) -> u8 {
        match self {
            Self::Workload(_) => 3,
            Self::Namespace(_) => 2,
            Self::TrustDomain(_) | Self::Block(_) => 1,
        }
    }
}

fn scope(domain: &TrustDomain, namespace: &Namespace) -> Box<str> {
    format!("spiffe://{domain}/ns/{namespace}").into()
}

fn taken<T, E: fmt::Display>(fields: &Fields<'_>, name: &str, read: Result<T, E>) -> Option<T> {
    read.map_err(|error| fields.wrong(name, error.to_string())).ok()
}

fn read_block(fields: &Fields<'_>, text: &str) -> Option<IpNet> {
    let block = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(block), _) => block,
        (Err(_), Ok(address)) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            fields.wrong(
                "ipBlock",
                format!("{} has no length: write `{address}/{bits}`", shown(text)),
            );
            return None;
        }
        (Err(_), Err(_)) => {
            let told = "is no block of addresses: write `10.0.0.0/8` or `2001:db8::/32`";
            fields.wrong("ipBlock", format!("{} {told}", shown(text)));
            return None;
        }
    };
    if block.addr() != block.network() {
        let told = format!("{} has bits behind its length: write `{}`", shown(text), block.trunc());
        fields.wrong("ipBlock", told);
        return None;
    }
    if let IpNet::V6(six) = &block
        && six.network().to_ipv4_mapped().is_some()
    {
        fields.wrong("ipBlock", format!("{} maps IPv4: write it as IPv4", shown(text)));
        return None;
    }
    Some(block)
}
