//! Which pod is where and whose it is, also for some time after it is gone: what it did is told after that.
//!
//! Who had an address is said for the time at which something happened, and not for the one at which it is told: the next pod there has nothing to do
//! with it. All times are milliseconds of Unix time.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::IpAddr,
};

use nullius_kube::identity::{News, PodNews};

/// How long a pod that is gone is remembered, and how many of them; beyond that those are forgotten of whose namespace there are most.
const GONE: i64 = 600_000;
const GONE_MAX: usize = 10_000;
/// By how much clocks differ, and how late the API server tells.
const SLACK: i64 = 5_000;

type Uid = Box<str>;

/// All pods.
#[derive(Default)]
pub(super) struct Pods {
    pods: HashMap<Uid, Pod>,
    addresses: HashMap<IpAddr, BTreeSet<Uid>>,
    /// By namespace, the oldest first.
    gone: HashMap<Box<str>, VecDeque<(i64, Uid)>>,
    gone_count: usize,
    /// Before that there were pods of which nothing is known.
    known_from: i64,
    is_listed: bool,
}

/// A pod, as far as it matters who it is.
pub(super) struct Pod {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) account: Box<str>,
    /// Kind and name of the top owner.
    pub(super) owner: (Box<str>, Box<str>),
    node: Option<Box<str>>,
    addresses: Vec<IpAddr>,
    /// From when to when its addresses are known to be its own.
    since: i64,
    until: Option<i64>,
    is_gone: bool,
}

/// Who had an address.
pub(super) enum There<'a> {
    Pod(&'a Pod),
    /// No pod.
    Nobody,
    /// Perhaps one, and it is not known which.
    Unclear,
}

/// When something happened, first and last.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Pods {
    pub(super) fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn hear(&mut self, news: News<PodNews>, now: i64) {
        match news {
            News::Put(pod) => self.put(pod, now, now),
            News::Gone(pod) => self.go(&pod.uid, now),
            News::All(all) => {
                self.is_listed = true;
                self.known_from = now;
                let stay: BTreeSet<Uid> = all.iter().map(|pod| pod.uid.clone()).collect();
                let gone: Vec<Uid> =
                    self.pods.keys().filter(|uid| !stay.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.go(uid, now));
                for pod in all {
                    // One that is new may have an address that another one has just left.
                    let created = pod.parts.created.saturating_mul(1_000);
                    let since = if created < now - GONE { created } else { now };
                    self.put(pod, since, now);
                }
            }
        }
        self.forget_gone(now);
    }

    /// A pod that is on a node, or was until a short while ago.
    pub(super) fn on_node(&self, uid: &str, node: &str) -> Option<&Pod> {
        self.pods.get(uid).filter(|pod| pod.node.as_deref() == Some(node))
    }

    /// Whether a pod of which nothing is known may have been there until a short while ago.
    pub(super) fn may_be_gone(&self, uid: &str, now: i64) -> bool {
        !self.pods.contains_key(uid) && now < self.known_from.saturating_add(GONE)
    }

    /// Who had an address.
    pub(super) fn at(&self, address: IpAddr, when: When) -> There<'_> {
        let known: Vec<&Pod> = self.of(address).collect();
        let mut had = known.iter().filter(|pod| pod.had(when));
        match (had.next(), had.next()) {
            (Some(pod), None) => There::Pod(pod),
            (None, _) if known.is_empty() && when.first >= self.known_from - SLACK => There::Nobody,
            _ => There::Unclear,
        }
    }

    /// The pod at an address that `is_it`: rather one that had it then than another.
    pub(super) fn proven(
        &self,
        address: IpAddr,
        when: When,
        is_it: impl Fn(&Pod) -> bool,
    ) -> Option<&Pod> {
        self.of(address).filter(|pod| is_it(pod)).max_by_key(|pod| (pod.had(when), pod.since))
    }

    fn of(&self, address: IpAddr) -> impl Iterator<Item = &Pod> {
        self.addresses.get(&address).into_iter().flatten().filter_map(|uid| self.pods.get(uid))
    }

    fn put(&mut self, news: PodNews, since: i64, now: i64) {
        let before = self.forget(&news.uid);
        let mut addresses = match news.is_on_host {
            true => Vec::new(),
            false => news.parts.addresses.clone(),
        };
        // What has ended has no address any more, and what it did with it is told yet.
        let (mut since, mut until) = (since, None);
        if let Some(before) = before {
            if addresses.is_empty() && news.is_ended {
                addresses = before.addresses;
                (since, until) = (before.since, before.until);
            } else if addresses == before.addresses {
                (since, until) = (before.since, before.until);
            }
        }
        let until = if news.is_ended { until.or(Some(now)) } else { None };
        for address in &addresses {
            self.addresses.entry(*address).or_default().insert(news.uid.clone());
        }
        let pod = Pod {
            owner: owner(&news),
            namespace: news.namespace,
            name: news.name,
            account: news.account,
            node: news.node,
            addresses,
            since,
            until,
            is_gone: false,
        };
        self.pods.insert(news.uid, pod);
    }

    fn go(&mut self, uid: &str, now: i64) {
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| !pod.is_gone) else { return };
        pod.is_gone = true;
        pod.until = pod.until.or(Some(now));
        self.gone.entry(pod.namespace.clone()).or_default().push_back((now, uid.into()));
        self.gone_count += 1;
    }

    fn forget_gone(&mut self, now: i64) {
        let mut old = Vec::new();
        for gone in self.gone.values_mut() {
            while gone.front().is_some_and(|(at, _)| now.saturating_sub(*at) > GONE) {
                old.extend(gone.pop_front().map(|(_, uid)| uid));
            }
        }
        self.gone_count -= old.len();
        while self.gone_count > GONE_MAX
            && let Some((_, uid)) = self
                .gone
                .values_mut()
                .max_by_key(|gone| gone.len())
                .and_then(|gone| gone.pop_front())
        {
            self.gone_count -= 1;
            // What it did may still be told, and was true.
            self.known_from = now;
            old.push(uid);
        }
        self.gone.retain(|_, gone| !gone.is_empty());
        for uid in old {
            if self.pods.get(&uid).is_some_and(|pod| pod.is_gone) {
                self.forget(&uid);
            }
        }
    }

    fn forget(&mut self, uid: &str) -> Option<Pod> {
        let pod = self.pods.remove(uid)?;
        for address in &pod.addresses {
            if let Some(there) = self.addresses.get_mut(address) {
                there.remove(uid);
                if there.is_empty() {
                    self.addresses.remove(address);
                }
            }
        }
        Some(pod)
    }
}

impl Pod {
    /// Whether its addresses were its own all the time.
    fn had(&self, when: When) -> bool {
        self.since.saturating_sub(SLACK) <= when.first
            && self.until.is_none_or(|until| when.last <= until.saturating_add(SLACK))
    }
}

/// The top owner. What makes ReplicaSets and Jobs is told by their names, as their makers give them: no account of ours may read all of
/// them for that.
fn owner(pod: &PodNews) -> (Box<str>, Box<str>) {
    let Some((kind, name)) = &pod.parts.owner else { return ("Pod".into(), pod.name.clone()) };
    let made = match &**kind {
        "ReplicaSet" => {
            let hash = pod.parts.labels.get("pod-template-hash");
            let base = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            base.map(|base| ("Deployment", base))
        }
        // Minutes of Unix time.
        "Job" => name
            .rsplit_once('-')
            .filter(|(_, at)| at.len() >= 8 && at.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|(base, _)| ("CronJob", base)),
        _ => None,
    };
    match made {
        Some((kind, name)) if !name.is_empty() => (kind.into(), name.into()),
        _ => (kind.clone(), name.clone()),
    }
}
