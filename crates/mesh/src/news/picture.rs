//! What stands in the cluster as far as a node is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    INTENTIONS_MAX, ISSUERS_MAX, IntentionObject, IssuerNews, News, SERVICES_MAX, Service,
    ServiceName, Uid, WORKLOADS_MAX, Workload,
};
use crate::SharedMap;

/// Messages of which nothing is applied yet hold at most so many things that are put or gone.
const GATHERED_MAX: usize = 2 * (WORKLOADS_MAX + SERVICES_MAX + INTENTIONS_MAX);

/// What stands, as one stream has told it.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    stream: Box<str>,
    /// The last message that came.
    heard: u64,
    /// The last message that is applied; 0 while nothing is.
    applied: u64,
    workloads: SharedMap<Uid, Arc<Workload>>,
    /// Who says to have an address.
    addresses: SharedMap<IpAddr, Arc<BTreeSet<Uid>>>,
    services: SharedMap<ServiceName, Arc<Service>>,
    intentions: SharedMap<Uid, Arc<IntentionObject>>,
    issuers: BTreeMap<Box<str>, IssuerNews>,
    gathered: Vec<News>,
    gathered_items: usize,
}

/// What is other than before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// Pods.
    pub workloads: BTreeSet<Uid>,
    /// Services.
    pub services: BTreeSet<ServiceName>,
    /// Intentions.
    pub intentions: BTreeSet<Uid>,
    /// Issuers of tokens.
    pub issuers: BTreeSet<Box<str>>,
}

impl Changed {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
            && self.services.is_empty()
            && self.intentions.is_empty()
            && self.issuers.is_empty()
    }

    /// Adds what has changed after it.
    pub fn extend(&mut self, mut later: Self) {
        self.workloads.append(&mut later.workloads);
        self.services.append(&mut later.services);
        self.intentions.append(&mut later.intentions);
        self.issuers.append(&mut later.issuers);
    }
}

/// A message that does not go on from those before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// Of another stream.
    #[error("the message is of another stream than the one before")]
    Stream,
    /// One is missing, or came twice.
    #[error("message {expected} was due, and {found} came")]
    Sequence {
        /// The one that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// More than a node can hold.
    #[error("there are more than {most} {what}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many may be.
        most: usize,
    },
}

impl Picture {
    /// Takes a message; where it is complete, all that came since the last one is applied, and what changed is told.
    pub fn hear(&mut self, news: News) -> Result<Option<Changed>, PictureError> {
        if self.heard == 0 {
            self.stream = news.stream.clone();
        }
        if news.stream != self.stream {
            return Err(PictureError::Stream);
        }
        let expected = self.heard + 1;
        if news.sequence != expected {
            return Err(PictureError::Sequence { expected, found: news.sequence });
        }
        self.heard = expected;
        let is_complete = news.is_complete;
        self.gathered_items += items(&news);
        if self.gathered_items > GATHERED_MAX {
            return Err(PictureError::Many { what: "changes at once", most: GATHERED_MAX });
        }
        self.gathered.push(news);
        if !is_complete {
            return Ok(None);
        }
        let mut changed = Changed::default();
        self.gathered_items = 0;
        for news in std::mem::take(&mut self.gathered) {
            self.apply(news, &mut changed);
        }
        self.applied = self.heard;
        let counts = [
            ("pods", self.workloads.len(), WORKLOADS_MAX),
            ("Services", self.services.len(), SERVICES_MAX),
            ("intentions", self.intentions.len(), INTENTIONS_MAX),
            ("issuers", self.issuers.len(), ISSUERS_MAX),
        ];
        for (what, count, most) in counts {
            if count > most {
                return Err(PictureError::Many { what, most });
            }
        }
        Ok(Some(changed))
    }

    /// Whether all that stands was told.
    pub fn is_complete(&self) -> bool {
        self.applied > 0
    }

    /// The stream, as reports name it.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The last message that is applied.
    pub fn sequence(&self) -> u64 {
        self.applied
    }

    /// Pods by UID.
    pub fn workloads(&self) -> &SharedMap<Uid, Arc<Workload>> {
        &self.workloads
    }

    /// The pod that has an address; nobody where two say so.
    pub fn at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        let mut all = self.addresses.get(&address)?.iter();
        match (all.next(), all.next()) {
            (Some(one), None) => self.workloads.get(one),
            _ => None,
        }
    }

    /// Pods that say to have an address.
    pub fn all_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Workload>> {
        let all = self.addresses.get(&address).into_iter().flat_map(|all| all.iter());
        all.filter_map(|uid| self.workloads.get(uid))
    }

    /// Services by name.
    pub fn services(&self) -> &SharedMap<ServiceName, Arc<Service>> {
        &self.services
    }

    /// Intentions by UID.
    pub fn intentions(&self) -> &SharedMap<Uid, Arc<IntentionObject>> {
        &self.intentions
    }

    /// Issuers of tokens by name.
    pub fn issuers(&self) -> &BTreeMap<Box<str>, IssuerNews> {
        &self.issuers
    }

    /// Takes the keys of before of issuers of whom who tells has none, where they come from the same place.
    pub fn keep_keys(&mut self, before: &Self) {
        for (name, issuer) in &mut self.issuers {
            if let Some(known) = before.issuers.get(name)
                && issuer.jwks.is_empty()
                && issuer.source == known.source
                && !issuer.source.is_empty()
            {
                issuer.clone_from(known);
            }
        }
    }

    /// What is other than in a picture of before, as of another stream.
    pub fn changed_since(&self, before: &Self) -> Changed {
        Changed {
            workloads: differing(&before.workloads, &self.workloads),
            services: differing(&before.services, &self.services),
            intentions: differing(&before.intentions, &self.intentions),
            issuers: {
                let all = before.issuers.keys().chain(self.issuers.keys());
                let is_other = |it: &str| before.issuers.get(it) != self.issuers.get(it);
                all.filter(|it| is_other(it)).cloned().collect()
            },
        }
    }

    fn apply(&mut self, news: News, changed: &mut Changed) {
        for workload in news.put_workloads {
            let (uid, workload) = (workload.uid.clone(), Arc::new(workload));
            let before = self.workloads.insert(uid.clone(), Arc::clone(&workload));
            if before.as_ref() == Some(&workload) {
                continue;
            }
            self.let_go(before.as_deref());
            for address in &workload.addresses {
                let mut all = self.addresses.get(address).cloned().unwrap_or_default();
                Arc::make_mut(&mut all).insert(uid.clone());
                self.addresses.insert(*address, all);
            }
            changed.workloads.insert(uid);
        }
        for uid in news.gone_workloads {
            if let Some(before) = self.workloads.remove(&uid) {
                self.let_go(Some(&before));
                changed.workloads.insert(uid);
            }
        }
        for service in news.put_services {
            let (name, service) = (service.name.clone(), Arc::new(service));
            if self.services.insert(name.clone(), Arc::clone(&service)).as_ref() != Some(&service) {
                changed.services.insert(name);
            }
        }
        for name in news.gone_services {
            if self.services.remove(&name).is_some() {
                changed.services.insert(name);
            }
        }
        for intention in news.put_intentions {
            let (uid, intention) = (intention.uid.clone(), Arc::new(intention));
            let before = self.intentions.insert(uid.clone(), Arc::clone(&intention));
            if before.as_ref() != Some(&intention) {
                changed.intentions.insert(uid);
            }
        }
        for issuer in news.put_issuers {
            let name = issuer.issuer.clone();
            if self.issuers.insert(name.clone(), issuer.clone()).as_ref() != Some(&issuer) {
                changed.issuers.insert(name);
            }
        }
        for name in news.gone_issuers {
            if self.issuers.remove(&name).is_some() {
                changed.issuers.insert(name);
            }
        }
        for uid in news.gone_intentions {
            if self.intentions.remove(&uid).is_some() {
                changed.intentions.insert(uid);
            }
        }
    }

    fn let_go(&mut self, workload: Option<&Workload>) {
        let Some(workload) = workload else { return };
        for address in &workload.addresses {
            let Some(mut all) = self.addresses.get(address).cloned() else { continue };
            Arc::make_mut(&mut all).remove(&workload.uid);
            match all.is_empty() {
                true => self.addresses.remove(address),
                false => self.addresses.insert(*address, all),
            };
        }
    }
}

fn items(news: &News) -> usize {
    news.put_workloads.len()
        + news.gone_workloads.len()
        + news.put_services.len()
        + news.gone_services.len()
        + news.put_intentions.len()
        + news.gone_intentions.len()
        + news.put_issuers.len()
        + news.gone_issuers.len()
}

fn differing<K: Ord + Clone, V: PartialEq>(
    before: &SharedMap<K, V>,
    now: &SharedMap<K, V>,
) -> BTreeSet<K> {
    let all = before.keys().chain(now.keys());
    all.filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests;
