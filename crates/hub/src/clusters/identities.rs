//! Who has which workload identity in each cluster: the last X.509-SVID for each entry, as the replicas of its agent tell, until its end.
//!
//! Nothing of it is stored: after a restart the agents tell all of it again, because the hub says that it is another one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::SignedDuration;
use nullius_api::IssuedIdentity;
use nullius_model::{ClusterName, Namespace, Timestamp, TrustDomain};
use nullius_pki::random_bits;
use nullius_proto::agent_v1::IssuedSvid;

use crate::limits::Budgets;

/// Entries of one cluster; of more nothing is kept.
const MOST: usize = 20_000;
/// What one cluster may tell at once, and in a minute on average: all that its replicas know, after the hub began anew.
const REPORTS_AT_ONCE: u32 = 400;
const REPORTS_PER_MINUTE: u32 = 120;
/// Entries of one report.
const OF_REPORT: usize = 200;
/// An SVID lives no longer, and clocks differ by no more.
const LIFE: SignedDuration = SignedDuration::from_hours(24);
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);
/// Characters of names, of an entry's id, and of all of its selectors.
const NAME: usize = 253;
const ENTRY: usize = 512;
const SELECTORS: usize = 16;

/// Where an identity stands in lists.
type Place = (String, String, String);

/// All clusters'.
pub(crate) struct Identities {
    /// Which hub this is: another one after each start.
    id: String,
    all: Mutex<HashMap<ClusterName, OfCluster>>,
    paces: Budgets<ClusterName>,
}

struct OfCluster {
    /// The UID of its object: another one of its name is another cluster.
    uid: String,
    told_at: Timestamp,
    all: BTreeMap<Place, IssuedIdentity>,
}

/// Which of them somebody asks for.
#[derive(Debug, Default)]
pub(crate) struct Asked<'q> {
    /// Of these alone; of all where there are none.
    pub(crate) namespaces: Option<&'q [String]>,
    pub(crate) namespace: Option<&'q str>,
    pub(crate) pod: Option<&'q str>,
    pub(crate) node: Option<&'q str>,
    pub(crate) id: Option<&'q str>,
    pub(crate) after: Option<Place>,
    pub(crate) most: usize,
}

/// Some of them.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) items: Vec<IssuedIdentity>,
    pub(crate) next: Option<String>,
    pub(crate) told_at: Option<Timestamp>,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            id: format!("{:032x}", random_bits()),
            all: Mutex::default(),
            paces: Budgets::new(REPORTS_AT_ONCE, REPORTS_PER_MINUTE),
        }
    }
}

impl Identities {
    /// Which hub this is.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether a cluster may tell something now.
    pub(crate) fn may_tell(&self, cluster: &ClusterName, now: Timestamp) -> bool {
        self.paces.take(cluster, now).is_some()
    }

    /// Keeps what a replica of a cluster's agent told.
    pub(crate) fn keep(
        &self,
        cluster: &ClusterName,
        uid: &str,
        told: Vec<IssuedIdentity>,
        now: Timestamp,
    ) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || OfCluster { uid: uid.to_owned(), told_at: now, all: BTreeMap::new() };
        let of = all.entry(cluster.clone()).or_insert_with(begin);
        if of.uid != uid {
            *of = begin();
        }
        of.told_at = now;
        for mut one in told {
            let place = place_of(&one);
            match of.all.get(&place) {
                // Another replica may have issued a later one.
                Some(before) if before.issued_at > one.issued_at => continue,
                Some(before) if before.spiffe_id == one.spiffe_id => {
                    one.since = one.since.min(before.since);
                }
                Some(_) => {}
                None if of.all.len() >= MOST => {
                    of.all.retain(|_, it| it.not_after > now);
                    if of.all.len() >= MOST {
                        continue;
                    }
                }
                None => {}
            }
            of.all.insert(place, one);
        }
    }

    /// Those of the cluster of a UID that are valid.
    pub(crate) fn page(
        &self,
        cluster: &ClusterName,
        uid: &str,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Page {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = all.get_mut(cluster).filter(|it| it.uid == uid) else {
            return Page::default();
        };
        of.all.retain(|_, it| it.not_after > now);
        let is_after = |place: &Place| asked.after.as_ref().is_none_or(|after| place > after);
        let mut found = of.all.iter().filter(|(place, one)| is_after(place) && asked.has(one));
        let items: Vec<_> = found.by_ref().take(asked.most).map(|(_, one)| one.clone()).collect();
        let more = found.next().is_some();
        let next = items.last().filter(|_| more).map(|last| {
            let (namespace, pod, entry) = place_of(last);
            format!("{namespace}/{pod}/{entry}")
        });
        Page { items, next, told_at: Some(of.told_at) }
    }
}

impl Asked<'_> {
    fn has(&self, one: &IssuedIdentity) -> bool {
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        let namespace = one.namespace.as_str();
        self.namespaces.is_none_or(|all| all.iter().any(|it| it == namespace))
            && is(self.namespace, namespace)
            && is(self.pod, &one.pod)
            && is(self.node, &one.node)
            && is(self.id, one.spiffe_id.as_str())
    }
}

fn place_of(one: &IssuedIdentity) -> Place {
    (one.namespace.to_string(), one.pod.clone(), one.entry.clone())
}

/// The place that an answer named to go on from.
pub(crate) fn read_place(text: &str) -> Option<Place> {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// What an agent told, as far as it can be of its own cluster's trust domain.
pub(crate) fn read(
    told: Vec<IssuedSvid>,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Vec<IssuedIdentity>, &'static str> {
    if told.len() > OF_REPORT {
        return Err("it names too many SVIDs");
    }
    told.into_iter().map(|one| read_one(one, domain, now)).collect()
}

fn read_one(
    told: IssuedSvid,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<IssuedIdentity, &'static str> {
    let spiffe_id: nullius_model::SpiffeId =
        told.spiffe_id.parse().map_err(|_| "an SVID names no SPIFFE ID")?;
    if spiffe_id.trust_domain() != domain.as_str() {
        return Err("an SVID is of another trust domain");
    }
    let namespace: Namespace = told.namespace.parse().map_err(|_| "an SVID is of no namespace")?;
    let texts = [&told.pod, &told.service_account, &told.node, &told.object];
    let is_name = |text: &str, most| {
        text.len() <= most && text.bytes().all(|c| c.is_ascii_graphic() && c != b'/')
    };
    let is_plain = |text: &str| text.len() <= ENTRY && text.bytes().all(|c| c.is_ascii_graphic());
    let is_serial = told.serial.len() <= 64 && told.serial.bytes().all(|c| c.is_ascii_hexdigit());
    let are_plain = texts.iter().all(|text| is_name(text, NAME))
        && is_plain(&told.entry)
        && told.selectors.len() <= SELECTORS
        && told.selectors.iter().all(|text| is_plain(text));
    if !are_plain || !is_serial {
        return Err("an SVID is of no pod, node or serial number");
    }
    let time = |second| Timestamp::from_second(second).map_err(|_| "an SVID is of no time");
    let (issued_at, not_after, since) =
        (time(told.issued_at)?, time(told.not_after)?, time(told.since)?);
    // What ends later than any SVID would stand here without end.
    if issued_at > now + CLOCKS || not_after > now + LIFE + CLOCKS || since > issued_at {
        return Err("an SVID lives longer than any");
    }
    Ok(IssuedIdentity {
        spiffe_id,
        namespace,
        pod: told.pod,
        service_account: told.service_account,
        node: told.node,
        by: (!told.object.is_empty()).then_some(told.object),
        selectors: told.selectors,
        entry: told.entry,
        serial: told.serial,
        issued_at,
        not_after,
        since,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn svid(namespace: &str, pod: &str, issued: i64) -> IssuedSvid {
        IssuedSvid {
            entry: format!("uid-of-{pod}"),
            spiffe_id: format!("spiffe://dev.example/ns/{namespace}/sa/default"),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            service_account: "default".to_owned(),
            node: "n1".to_owned(),
            object: String::new(),
            selectors: vec![format!("k8s:pod-uid:uid-of-{pod}")],
            serial: format!("{issued:x}"),
            issued_at: at(issued).as_second(),
            not_after: at(issued + 3_600).as_second(),
            since: at(issued).as_second(),
        }
    }

    fn one(told: IssuedSvid) -> Result<Vec<IssuedIdentity>, &'static str> {
        read(vec![told], &"dev.example".parse().unwrap(), at(0))
    }

    #[test]
    fn what_was_issued_last_is_shown_in_pages_until_its_end() {
        let all = Identities::default();
        let cluster: ClusterName = "dev".parse().unwrap();
        let keep = |told: IssuedSvid, now| {
            let told = read(vec![told], &"dev.example".parse().unwrap(), at(now)).unwrap();
            all.keep(&cluster, "1", told, at(now));
        };
        for (namespace, pod) in [("shop", "a"), ("shop", "b"), ("bank", "c")] {
            keep(svid(namespace, pod, 0), 0);
        }
        keep(svid("shop", "a", 600), 600);
        // What comes late is older.
        keep(svid("shop", "a", 300), 601);
        let page = |asked: Asked<'_>, now| all.page(&cluster, "1", &asked, at(now));
        let pods = |page: &Page| -> Vec<String> {
            page.items.iter().map(|it| format!("{}/{}", it.namespace, it.pod)).collect()
        };
        let first = page(Asked { most: 2, ..Asked::default() }, 700);
        assert_eq!(pods(&first), ["bank/c", "shop/a"]);
        assert_eq!((first.items[1].issued_at, first.items[1].since), (at(600), at(0)));
        let after = read_place(&first.next.unwrap());
        let rest = page(Asked { most: 2, after, ..Asked::default() }, 700);
        assert_eq!((pods(&rest), rest.next), (vec!["shop/b".to_owned()], None));
        // Who may see one namespace sees nothing of another.
        let shop = ["shop".to_owned()];
        let seen = Asked { namespaces: Some(&shop), most: 9, ..Asked::default() };
        assert_eq!(pods(&page(seen, 700)), ["shop/a", "shop/b"]);
        let none =
            Asked { namespaces: Some(&shop), namespace: Some("bank"), most: 9, ..Asked::default() };
        assert!(page(none, 700).items.is_empty());
        // Another cluster of the name has nothing of it.
        assert!(
            all.page(&cluster, "2", &Asked { most: 9, ..Asked::default() }, at(700))
                .items
                .is_empty()
        );
        assert_eq!(pods(&page(Asked { most: 9, ..Asked::default() }, 3_700)), ["shop/a"]);
        all.keep(&cluster, "2", Vec::new(), at(3_700));
        assert!(page(Asked { most: 9, ..Asked::default() }, 3_700).items.is_empty());
    }

    #[test]
    fn an_agent_tells_of_its_own_trust_domain_and_of_what_can_be() {
        one(svid("shop", "a", 0)).unwrap();
        let good = svid("shop", "a", 0);
        for lie in [
            IssuedSvid { spiffe_id: "spiffe://prod.example/ns/a/sa/b".to_owned(), ..good.clone() },
            IssuedSvid { spiffe_id: "x".to_owned(), ..good.clone() },
            IssuedSvid { namespace: "a/b".to_owned(), ..good.clone() },
            IssuedSvid { pod: "\u{1b}[2J".to_owned(), ..good.clone() },
            IssuedSvid { node: "n".repeat(NAME + 1), ..good.clone() },
            IssuedSvid { serial: "no".to_owned(), ..good.clone() },
            IssuedSvid { entry: "a b".to_owned(), ..good.clone() },
            IssuedSvid { selectors: vec![String::new(); SELECTORS + 1], ..good.clone() },
            IssuedSvid { not_after: i64::MAX, ..good.clone() },
            IssuedSvid { not_after: at(26 * 3_600).as_second(), ..good.clone() },
            IssuedSvid { issued_at: at(3_600).as_second(), ..good.clone() },
            IssuedSvid { since: at(3).as_second(), ..good.clone() },
        ] {
            assert!(one(lie.clone()).is_err(), "{lie:?}");
        }
        let domain: TrustDomain = "dev.example".parse().unwrap();
        read(vec![good; OF_REPORT + 1], &domain, at(0)).unwrap_err();
    }
}
