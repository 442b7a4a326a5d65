//! Registrations as they come from `agent identity`, and as it writes them: messages on the one side, what is registered on the other.
//!
//! Reading is strict, and refuses the whole where one thing is wrong: a node that took a part would hold other identities than were meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nullius_model::{ParseSpiffeError, Timestamp, TrustDomain, Ttl};
use nullius_pki::workload::{BundleError, TrustBundle};
use nullius_proto::node_v1;
use rustls_pki_types::DnsName;

use crate::{
    entry::{Entry, Registered},
    selector::{ParseSelectorError, Selector},
};

/// The most entries of one node.
pub const ENTRIES_MAX: usize = 8_192;
/// The most bundles that a node is told.
pub const BUNDLES_MAX: usize = 64;
/// The longest message of registrations, in bytes.
pub const REGISTRATIONS_MAX: usize = 16 * 1024 * 1024;
/// Selectors, names, audiences or trust domains of one entry.
const LIST_MAX: usize = 64;
/// The longest id, hint or name, in bytes.
const TEXT_MAX: usize = 512;
const DAY: u32 = 86_400;
const HOUR: u32 = 3_600;

/// What a node is told: what is registered, and whose each entry is.
#[derive(Debug, Clone)]
pub struct Told {
    /// What is registered.
    pub registered: Registered,
    /// Pods by the ids of their entries; an entry need not have one.
    pub pods: BTreeMap<Box<str>, PodName>,
}

/// A pod, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its ServiceAccount.
    pub service_account: Box<str>,
}

/// Registrations that are refused.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// More than a node can have.
    #[error("there are {count} {what}, and at most {most} are taken")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// No trust domain.
    #[error("the trust domain is refused")]
    TrustDomain(#[source] ParseSpiffeError),
    /// A bundle that cannot be used.
    #[error("the bundle of `{domain}` is refused")]
    Bundle {
        /// Whose.
        domain: TrustDomain,
        /// Why.
        #[source]
        source: BundleError,
    },
    /// Two bundles of one trust domain.
    #[error("there are two bundles of `{0}`")]
    BundleTwice(TrustDomain),
    /// None of the own trust domain.
    #[error("there is no bundle of the own trust domain `{0}`")]
    NoOwnBundle(TrustDomain),
    /// An instant before the epoch.
    #[error("the instant before which SVIDs are renewed is no time")]
    Instant,
    /// An entry that cannot be used.
    #[error("the entry `{id}` is refused")]
    Entry {
        /// Which one, cut and escaped.
        id: String,
        /// Why.
        #[source]
        source: EntryError,
    },
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// An id that is none.
    #[error("an id has 1 to 512 printable characters of ASCII without spaces")]
    Id,
    /// It was there already.
    #[error("the id stands twice")]
    Twice,
    /// A SPIFFE ID or trust domain that is none.
    #[error(transparent)]
    Spiffe(#[from] ParseSpiffeError),
    /// An ID of somebody else's.
    #[error("the SPIFFE ID is not of the trust domain `{0}`")]
    OtherDomain(TrustDomain),
    /// A selector that is none.
    #[error(transparent)]
    Selector(#[from] ParseSelectorError),
    /// Nobody's.
    #[error("it has no selector")]
    NoSelector,
    /// Too many of something.
    #[error("it has more than 64 {0}")]
    Many(&'static str),
    /// Something that stands twice.
    #[error("one of its {0} stands twice")]
    Doubled(&'static str),
    /// A life that cannot be.
    #[error("`{name}` is {secs} s, and 1 to {most} s can be")]
    Ttl {
        /// Which.
        name: &'static str,
        /// What it says.
        secs: u32,
        /// The most.
        most: u32,
    },
    /// A DNS name that is none.
    #[error("`{0}` is no DNS name")]
    DnsName(String),
    /// A text that is empty or too long.
    #[error("{0} is empty or longer than 512 bytes")]
    Text(&'static str),
}

/// Reads what a node is told.
pub fn read_registrations(message: node_v1::Registrations) -> Result<Told, WireError> {
    let counts = [
        ("entries", message.entries.len(), ENTRIES_MAX),
        ("bundles", message.bundles.len(), BUNDLES_MAX),
    ];
    for (what, count, most) in counts {
        if count > most {
            return Err(WireError::Many { what, count, most });
        }
    }
    let trust_domain: TrustDomain = message.trust_domain.parse().map_err(WireError::TrustDomain)?;
    let mut bundles = BTreeMap::new();
    for bundle in message.bundles {
        let domain: TrustDomain = bundle.trust_domain.parse().map_err(WireError::TrustDomain)?;
        let read = TrustBundle::read(domain.clone(), &bundle.jwks);
        let read = read.map_err(|source| WireError::Bundle { domain: domain.clone(), source })?;
        if bundles.insert(domain.clone(), Arc::new(read)).is_some() {
            return Err(WireError::BundleTwice(domain));
        }
    }
    if !bundles.contains_key(&trust_domain) {
        return Err(WireError::NoOwnBundle(trust_domain));
    }
    let reissue_before = match message.reissue_before {
        0 => None,
        nanos if nanos < 0 => return Err(WireError::Instant),
        nanos => {
            let at = Timestamp::from_nanosecond(nanos.into());
            Some(at.map_err(|_| WireError::Instant)?)
        }
    };
    let (mut entries, mut pods) = (BTreeMap::new(), BTreeMap::new());
    for message in message.entries {
        let id: Box<str> = message.id.as_str().into();
        let refused = |source| WireError::Entry { id: shown(&id), source };
        let (entry, pod) = read_entry(message, &trust_domain).map_err(refused)?;
        if entries.insert(id.clone(), Arc::new(entry)).is_some() {
            return Err(refused(EntryError::Twice));
        }
        pods.extend(pod.map(|pod| (id, pod)));
    }
    Ok(Told { registered: Registered { trust_domain, entries, bundles, reissue_before }, pods })
}

/// Writes what a node is told.
pub fn write_registrations(told: &Told) -> node_v1::Registrations {
    let Registered { trust_domain, entries, bundles, reissue_before } = &told.registered;
    let bundles = bundles.iter().map(|(domain, bundle)| node_v1::Bundle {
        trust_domain: domain.to_string(),
        jwks: bundle.to_json().to_string().into_bytes(),
    });
    let entries = entries.iter().map(|(id, entry)| write_entry(id, entry, told.pods.get(id)));
    let nanos = reissue_before.map_or(0, Timestamp::as_nanosecond);
    node_v1::Registrations {
        trust_domain: trust_domain.to_string(),
        entries: entries.collect(),
        bundles: bundles.collect(),
        reissue_before: i64::try_from(nanos).unwrap_or(i64::MAX).max(0),
    }
}

/// Writes one entry.
pub fn write_entry(id: &str, entry: &Entry, pod: Option<&PodName>) -> node_v1::Entry {
    let texts = |all: &BTreeSet<String>| all.iter().cloned().collect();
    node_v1::Entry {
        id: id.to_owned(),
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: entry.selectors.iter().map(Selector::to_string).collect(),
        x509_ttl_seconds: entry.ttl.as_secs(),
        jwt_ttl_seconds: entry.jwt_ttl.as_secs(),
        dns_names: entry.dns_names.iter().map(|name| name.as_ref().to_owned()).collect(),
        hint: entry.hint.as_deref().unwrap_or_default().to_owned(),
        audiences: texts(&entry.audiences),
        federates_with: entry.federates_with.iter().map(TrustDomain::to_string).collect(),
        pod: pod.map(|pod| node_v1::Pod {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            service_account: pod.service_account.to_string(),
        }),
    }
}

/// Reads one entry of a trust domain.
fn read_entry(
    message: node_v1::Entry,
    domain: &TrustDomain,
) -> Result<(Entry, Option<PodName>), EntryError> {
    let node_v1::Entry {
        id,
        spiffe_id,
        selectors,
        x509_ttl_seconds,
        jwt_ttl_seconds,
        dns_names,
        hint,
        audiences,
        federates_with,
        pod,
    } = message;
    if id.is_empty() || id.len() > TEXT_MAX || !id.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(EntryError::Id);
    }
    let spiffe_id: nullius_model::SpiffeId = spiffe_id.parse()?;
    if spiffe_id.trust_domain() != domain.as_str() {
        return Err(EntryError::OtherDomain(domain.clone()));
    }
    let selectors: BTreeSet<Selector> =
        set("selectors", selectors, |text| Ok(text.parse::<Selector>()?))?;
    if selectors.is_empty() {
        return Err(EntryError::NoSelector);
    }
    let dns_names = set("DNS names", dns_names, |name| match DnsName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err(EntryError::DnsName(shown(&name))),
    })?;
    let dns_names = dns_names.into_iter().map(|name| {
        let refused = EntryError::DnsName(shown(&name));
        DnsName::try_from(name).map_err(|_| refused)
    });
    let audiences = set("audiences", audiences, |name| text("an audience", name))?;
    let federates_with = set("trust domains", federates_with, |name| Ok(name.parse()?))?;
    let hint = match hint.as_str() {
        "" => None,
        _ => Some(text("the hint", hint)?.into_boxed_str()),
    };
    let pod = match pod {
        None => None,
        Some(node_v1::Pod { namespace, name, service_account }) => Some(PodName {
            namespace: text("the pod's namespace", namespace)?.into(),
            name: text("the pod's name", name)?.into(),
            service_account: text("the pod's account", service_account)?.into(),
        }),
    };
    let entry = Entry {
        spiffe_id,
        selectors,
        ttl: ttl("x509_ttl_seconds", x509_ttl_seconds, DAY)?,
        jwt_ttl: ttl("jwt_ttl_seconds", jwt_ttl_seconds, HOUR)?,
        dns_names: dns_names.collect::<Result<_, _>>()?,
        hint,
        audiences,
        federates_with,
    };
    Ok((entry, pod))
}

/// A list without doubles.
fn set<T: Ord>(
    what: &'static str,
    list: Vec<String>,
    read: impl Fn(String) -> Result<T, EntryError>,
) -> Result<BTreeSet<T>, EntryError> {
    if list.len() > LIST_MAX {
        return Err(EntryError::Many(what));
    }
    let mut all = BTreeSet::new();
    for text in list {
        if !all.insert(read(text)?) {
            return Err(EntryError::Doubled(what));
        }
    }
    Ok(all)
}

fn text(what: &'static str, text: String) -> Result<String, EntryError> {
    if text.is_empty() || text.len() > TEXT_MAX { Err(EntryError::Text(what)) } else { Ok(text) }
}

fn ttl(name: &'static str, secs: u32, most: u32) -> Result<Ttl, EntryError> {
    match secs {
        0 => Err(EntryError::Ttl { name, secs, most }),
        _ if secs > most => Err(EntryError::Ttl { name, secs, most }),
        _ => Ok(Ttl::from_secs(secs)),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::error::Error as _;

    use super::*;

    type Change<M> = &'static dyn Fn(&mut M);

    const POD: &str = "0a1b2c3d-0000-4111-8222-333344445555";

    fn entry() -> node_v1::Entry {
        node_v1::Entry {
            id: POD.to_owned(),
            spiffe_id: "spiffe://shop.example/ns/shop/sa/front".to_owned(),
            selectors: vec!["unix:uid:7".to_owned(), format!("k8s:pod-uid:{POD}")],
            x509_ttl_seconds: 3_600,
            jwt_ttl_seconds: 300,
            dns_names: vec!["front.shop.svc".to_owned()],
            hint: "public".to_owned(),
            audiences: vec!["bank".to_owned()],
            federates_with: vec!["bank.example".to_owned()],
            pod: Some(node_v1::Pod {
                namespace: "shop".to_owned(),
                name: "front-1".to_owned(),
                service_account: "front".to_owned(),
            }),
        }
    }

    fn bundle(domain: &str) -> node_v1::Bundle {
        node_v1::Bundle { trust_domain: domain.to_owned(), jwks: br#"{"keys":[]}"#.to_vec() }
    }

    fn message() -> node_v1::Registrations {
        node_v1::Registrations {
            trust_domain: "shop.example".to_owned(),
            entries: vec![entry()],
            bundles: vec![bundle("bank.example"), bundle("shop.example")],
            reissue_before: 1_800_000_000_000_000_001,
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let told = read_registrations(message()).unwrap();
        assert_eq!(&*told.pods[POD].name, "front-1");
        assert_eq!(told.registered.entries[POD].selectors.len(), 2);
        let again = write_registrations(&told);
        assert_eq!(again, message());
        let never = node_v1::Registrations { reissue_before: 0, ..message() };
        assert_eq!(read_registrations(never).unwrap().registered.reissue_before, None);
    }

    #[test]
    fn registrations_with_one_wrong_thing_are_refused_whole() {
        let told = |change: &dyn Fn(&mut node_v1::Registrations)| {
            let mut message = message();
            change(&mut message);
            let error = read_registrations(message).unwrap_err();
            let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{error}{why}")
        };
        let wrong: [(Change<node_v1::Registrations>, &str); 8] = [
            (&|it| it.trust_domain = "Shop.example".to_owned(), "the trust domain is refused"),
            (&|it| it.trust_domain = "other.example".to_owned(), "no bundle of the own"),
            (&|it| it.bundles.push(bundle("bank.example")), "two bundles of `bank.example`"),
            (&|it| it.bundles[0].jwks = b"x".to_vec(), "the bundle of `bank.example` is refused"),
            (&|it| it.bundles = vec![bundle("a.example"); 65], "there are 65 bundles"),
            (&|it| it.reissue_before = -1, "is no time"),
            (&|it| it.entries.push(entry()), "the id stands twice"),
            (&|it| it.entries = vec![entry(); 8_193], "there are 8193 entries"),
        ];
        for (change, why) in wrong {
            let told = told(change);
            assert!(told.contains(why), "{told}");
        }
        let wrong: [(Change<node_v1::Entry>, &str); 18] = [
            (&|it| it.id = String::new(), "an id has"),
            (&|it| it.id = "a b".to_owned(), "an id has"),
            (&|it| it.id = "a\u{7f}".to_owned(), "an id has"),
            (&|it| it.spiffe_id = "spiffe://shop.example/a/../b".to_owned(), "no `.` and `..`"),
            (&|it| it.spiffe_id = "spiffe://bank.example/a".to_owned(), "is not of the trust"),
            (&|it| it.selectors = Vec::new(), "no selector"),
            (&|it| it.selectors[0] = "k8s:ns:shop".to_owned(), "no selector"),
            (&|it| it.selectors[0] = it.selectors[1].clone(), "selectors stands twice"),
            (&|it| it.selectors = vec!["unix:uid:7".to_owned(); 65], "more than 64 selectors"),
            (&|it| it.x509_ttl_seconds = 0, "`x509_ttl_seconds` is 0 s"),
            (&|it| it.x509_ttl_seconds = 86_401, "`x509_ttl_seconds` is 86401 s"),
            (&|it| it.jwt_ttl_seconds = 3_601, "`jwt_ttl_seconds` is 3601 s"),
            (&|it| it.dns_names[0] = "a b".to_owned(), "no DNS name"),
            (&|it| it.hint = "h".repeat(513), "the hint is empty or longer"),
            (&|it| it.audiences[0] = String::new(), "an audience is empty"),
            (&|it| it.audiences.push("bank".to_owned()), "audiences stands twice"),
            (&|it| it.federates_with[0] = "BANK".to_owned(), "lower case"),
            (&|it| it.pod = Some(node_v1::Pod::default()), "the pod's namespace is empty"),
        ];
        for (change, why) in wrong {
            let told = told(&|message| change(&mut message.entries[0]));
            assert!(told.contains(why), "{told}");
        }
    }
}
