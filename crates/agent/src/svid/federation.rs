//! Bundles of other trust domains, as the hub ordered them last.
//!
//! They stand in the Secret beside the authorities, so that every replica tells its nodes of them, also while the hub is away. None of
//! them is ever that of the own trust domain, whatever the hub says, and none counts beyond the end that the hub gave it: who keeps the hub
//! away does not keep keys believed.

use std::{collections::BTreeMap, sync::Arc};

use nullius_kube::identity::IdentityRecord;
use nullius_model::{Timestamp, TrustBeside, TrustDomain};
use nullius_pki::{token_hash, workload::TrustBundle};

use super::turn::ORDER_AGE;

/// Trust domains beside the own: a node is told of 64.
const DOMAINS: usize = 63;
/// Bytes of all of them: a Secret holds 1 MiB.
const BYTES: usize = 256 * 1024;
/// Characters of an issuer.
const ISSUER: usize = 512;
/// Characters of a bundle's digest, as the hub is told of it.
const DIGEST: usize = 32;

/// What stands there.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The `iss` of tokens.
    pub(crate) issuer: Option<String>,
    /// Of other trust domains.
    pub(crate) bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
    /// Their texts' digests.
    pub(crate) digests: BTreeMap<TrustDomain, String>,
    /// When the next of them ends.
    pub(crate) next_end: Option<Timestamp>,
}

/// What the hub ordered, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Federated {
    pub(crate) revision: u64,
    pub(crate) issued_at: Timestamp,
    pub(crate) beside: TrustBeside,
}

/// The record with what was ordered; none where it stands there already, is older than what was taken, or was heard long ago.
pub(crate) fn federated(
    record: &IdentityRecord,
    order: &Federated,
    now: Timestamp,
) -> Option<IdentityRecord> {
    let text = fitting(order.beside.clone()).to_text();
    if now.as_second() - order.issued_at.as_second() > ORDER_AGE
        || order.revision <= record.ordered
        || text == record.beside
    {
        return None;
    }
    let mut kept = record.clone();
    (kept.beside, kept.ordered) = (text, order.revision);
    Some(kept)
}

/// As much of it as finds room; what is not named any more goes in any case.
fn fitting(mut beside: TrustBeside) -> TrustBeside {
    while beside.bundles.len() > DOMAINS || beside.to_text().len() > BYTES {
        let Some((domain, _)) = beside.bundles.pop_last() else { break };
        tracing::warn!(%domain, "leave out the bundle of another trust domain: there are too many, or they are too long");
    }
    if beside.to_text().len() > BYTES {
        tracing::warn!("leave out what the hub says beside bundles: it is too long");
        beside = TrustBeside { issuer: beside.issuer, ..TrustBeside::default() };
    }
    beside
}

/// What stands in a record of other trust domains and counts now; what cannot be read is left out.
pub(crate) fn read(record: &IdentityRecord, own: &TrustDomain, now: Timestamp) -> Beside {
    if record.beside.is_empty() {
        return Beside::default();
    }
    let Ok(all) = serde_json::from_str::<TrustBeside>(&record.beside) else {
        tracing::warn!(
            "leave out all bundles of other trust domains: the Secret has none that can be read"
        );
        return Beside::default();
    };
    let mut beside = Beside { issuer: all.issuer.filter(|it| is_issuer(it)), ..Beside::default() };
    let others = all.bundles.into_iter().filter(|(domain, _)| domain != own).take(DOMAINS);
    for (domain, text) in others {
        let end = all.ends.get(&domain).copied();
        if end.is_some_and(|end| end <= now) {
            continue;
        }
        let bundle = match TrustBundle::read(domain.clone(), text.as_bytes()) {
            Ok(bundle) => bundle,
            Err(error) => {
                tracing::warn!(%domain, %error, "leave out the bundle of another trust domain");
                continue;
            }
        };
        beside.next_end = beside.next_end.into_iter().chain(end).min();
        beside.digests.insert(domain.clone(), digest_of(&text));
        beside.bundles.insert(domain, Arc::new(bundle));
    }
    beside
}

/// What the hub is told of a bundle that is kept.
fn digest_of(text: &str) -> String {
    let mut digest = token_hash(text);
    digest.truncate(DIGEST);
    digest
}

/// Whether it may stand in a token.
fn is_issuer(text: &str) -> bool {
    text.len() <= ISSUER
        && text.starts_with("https://")
        && text.bytes().all(|c| c.is_ascii_graphic() && c != b'"')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;
    use crate::svid::turn::tests::{at, domain};

    fn order(revision: u64, second: i64, bundles: &[(&str, &str)]) -> Federated {
        let bundles = bundles.iter().map(|(of, text)| (of.parse().unwrap(), (*text).to_owned()));
        let issuer = Some("https://hub.example/v1/trust/dev.example".to_owned());
        let beside = TrustBeside { issuer, bundles: bundles.collect(), ..TrustBeside::default() };
        Federated { revision, issued_at: at(second), beside }
    }

    #[test]
    fn what_is_ordered_of_other_trust_domains_stands_and_nothing_older_comes_back() {
        let empty = r#"{"keys":[],"spiffe_sequence":3}"#;
        let first = IdentityRecord::default();
        let told = federated(&first, &order(5, 0, &[("bank.example", empty)]), at(1)).unwrap();
        let known = read(&told, &domain(), at(1));
        assert_eq!(known.issuer.unwrap(), "https://hub.example/v1/trust/dev.example");
        let known = known.bundles;
        assert_eq!(known.len(), 1);
        assert_eq!(known[&"bank.example".parse().unwrap()].sequence(), Some(3));
        assert!(federated(&told, &order(6, 0, &[("bank.example", empty)]), at(1)).is_none());
        // Replayed, or heard by a replica that did not lead for a while.
        assert!(federated(&told, &order(5, 0, &[]), at(1)).is_none());
        assert!(federated(&told, &order(7, 0, &[]), at(ORDER_AGE + 1)).is_none());
        let gone = federated(&told, &order(7, 0, &[]), at(1)).unwrap();
        assert!(read(&gone, &domain(), at(1)).bundles.is_empty());
    }

    #[test]
    fn the_own_trust_domain_is_nobody_elses_and_what_cannot_be_read_is_left_out() {
        let empty = r#"{"keys":[]}"#;
        let hostile = [("dev.example", empty), ("bank.example", "{"), ("shop.example", empty)];
        let told = federated(&IdentityRecord::default(), &order(1, 0, &hostile), at(0)).unwrap();
        let known: Vec<_> =
            read(&told, &domain(), at(1)).bundles.into_keys().map(|it| it.to_string()).collect();
        assert_eq!(known, ["shop.example"]);
        let mut broken = IdentityRecord::default();
        for beside in ["x", r#"{"issuer":"http://a"}"#, r#"{"issuer":"https://a\" b"}"#] {
            beside.clone_into(&mut broken.beside);
            let known = read(&broken, &domain(), at(1));
            assert!(known.bundles.is_empty() && known.issuer.is_none(), "{beside}");
        }
        // What is too long is left out, and what is not named any more goes all the same.
        let long = "x".repeat(BYTES + 1);
        let mixed = [("a.example", empty), ("z.example", long.as_str())];
        let told = federated(&told, &order(2, 0, &mixed), at(0)).unwrap();
        let known: Vec<_> =
            read(&told, &domain(), at(1)).bundles.into_keys().map(|it| it.to_string()).collect();
        assert_eq!(known, ["a.example"]);
    }

    #[test]
    fn a_bundle_ends_though_the_hub_is_away_and_what_a_later_hub_says_is_no_obstacle() {
        let empty = r#"{"keys":[]}"#;
        let mut told = order(1, 0, &[("bank.example", empty), ("shop.example", empty)]);
        told.beside.ends.insert("bank.example".parse().unwrap(), at(100));
        told.beside.ends.insert("shop.example".parse().unwrap(), at(900));
        told.beside.more.insert("zones".to_owned(), serde_json::json!(["a"]));
        let record = federated(&IdentityRecord::default(), &told, at(0)).unwrap();
        assert_eq!(record.beside, told.beside.to_text(), "the hub compares it");
        let known = |second| {
            let beside = read(&record, &domain(), at(second));
            let domains: Vec<_> = beside.bundles.keys().map(|it| it.to_string()).collect();
            assert!(beside.digests.keys().eq(beside.bundles.keys()));
            (domains, beside.next_end)
        };
        let both = vec!["bank.example".to_owned(), "shop.example".to_owned()];
        assert_eq!(known(99), (both.clone(), Some(at(100))));
        assert_eq!(known(100), (both[1..].to_vec(), Some(at(900))));
        assert_eq!(known(900), (Vec::new(), None));
        // What is beside bundles does not fill the Secret.
        let mut long = order(2, 0, &[("bank.example", empty)]);
        long.beside.more.insert("zones".to_owned(), serde_json::json!("x".repeat(BYTES)));
        let record = federated(&record, &long, at(0)).unwrap();
        assert!(record.beside.len() < 1_000, "{}", record.beside.len());
        assert!(read(&record, &domain(), at(0)).issuer.is_some());
    }
}
