//! Which pod is where and whose it is, also for some time after it is gone: what it did is told after that.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use nullius_kube::identity::{News, PodNews};
use tokio::time::Instant;

/// How long a pod that is gone is remembered, and how many of them.
const GONE: Duration = Duration::from_secs(600);
const GONE_MAX: usize = 10_000;

type Uid = Box<str>;

/// All pods.
#[derive(Default)]
pub(super) struct Pods {
    pods: HashMap<Uid, Pod>,
    addresses: HashMap<IpAddr, BTreeSet<Uid>>,
    gone: VecDeque<(Instant, Uid)>,
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
    is_ended: bool,
    gone_at: Option<Instant>,
}

impl Pods {
    pub(super) fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn hear(&mut self, news: News<PodNews>, now: Instant) {
        match news {
            News::Put(pod) => self.put(pod),
            News::Gone(pod) => self.go(&pod.uid, now),
            News::All(all) => {
                self.is_listed = true;
                let stay: BTreeSet<Uid> = all.iter().map(|pod| pod.uid.clone()).collect();
                let gone: Vec<Uid> =
                    self.pods.keys().filter(|uid| !stay.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.go(uid, now));
                all.into_iter().for_each(|pod| self.put(pod));
            }
        }
        while let Some((at, uid)) = self.gone.front()
            && (now.saturating_duration_since(*at) > GONE || self.gone.len() > GONE_MAX)
        {
            let uid = uid.clone();
            self.gone.pop_front();
            if self.pods.get(&uid).is_some_and(|pod| pod.gone_at.is_some()) {
                self.forget(&uid);
            }
        }
    }

    /// A pod that is on a node, or was until a short while ago.
    pub(super) fn on_node(&self, uid: &str, node: &str) -> Option<&Pod> {
        self.pods.get(uid).filter(|pod| pod.node.as_deref() == Some(node))
    }

    /// Whose address it is: of a pod that is there now, rather than of one that was.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Pod> {
        let there = self.addresses.get(&address)?.iter().filter_map(|uid| self.pods.get(uid));
        there.max_by_key(|pod| (pod.gone_at.is_none(), !pod.is_ended, pod.gone_at))
    }

    fn put(&mut self, news: PodNews) {
        // What has ended has no address any more, and what it did with it is told yet.
        let before = self.forget(&news.uid).map(|pod| pod.addresses).unwrap_or_default();
        let mut addresses = match news.is_on_host {
            true => Vec::new(),
            false => news.parts.addresses.clone(),
        };
        if addresses.is_empty() && news.is_ended {
            addresses = before;
        }
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
            is_ended: news.is_ended,
            gone_at: None,
        };
        self.pods.insert(news.uid, pod);
    }

    fn go(&mut self, uid: &str, now: Instant) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if pod.gone_at.is_none() {
            pod.gone_at = Some(now);
            self.gone.push_back((now, uid.into()));
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
