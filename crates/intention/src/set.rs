//! All rules that are for one destination, found by who calls; and all intentions, found by destination.
//!
//! A look-up is by hash and by longest prefix, so that it costs the same with one intention as with ten thousand.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nullius_model::{IntentionMode, Namespace, SpiffeId, Timestamp};
use prefix_trie::PrefixMap;

use crate::{
    accept::View,
    api::Api,
    destination::Workload,
    intention::{Intention, Reach, Rule, Tier},
    labels::Selection,
    limits::Limit,
    source::Subject,
};

/// Rules for one source, from the highest tier and the most exact destination; in each of them a deny first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket(Vec<Arc<Rule>>);

impl Bucket {
    fn place(rule: &Rule) -> (Tier, Reach) {
        (rule.origins.tier, rule.origins.reach)
    }

    fn add(&mut self, rule: &Arc<Rule>) {
        let key = |rule: &Rule| {
            let origins = &rule.origins;
            (Self::place(rule), rule.verb.rank(), origins.name.clone(), rule.index)
        };
        let wanted = key(rule);
        let at = self.0.partition_point(|other| key(other) < wanted);
        self.0.insert(at, Arc::clone(rule));
    }

    /// Whether nothing is left.
    fn take_out(&mut self, rule: &Arc<Rule>) -> bool {
        self.0.retain(|other| !Arc::ptr_eq(other, rule));
        self.0.is_empty()
    }

    pub(crate) fn all(&self) -> &[Arc<Rule>] {
        &self.0
    }

    pub(crate) fn slot(&self, tier: Tier, reach: Reach) -> &[Arc<Rule>] {
        let wanted = (tier, reach);
        let start = self.0.partition_point(|rule| Self::place(rule) < wanted);
        let rest = &self.0[start..];
        &rest[..rest.partition_point(|rule| Self::place(rule) == wanted)]
    }
}

/// All rules that are for one destination.
#[derive(Debug, Clone)]
pub struct RuleSet {
    workload: Arc<Workload>,
    intentions: HashMap<Box<str>, Intention>,
    ids: HashMap<SpiffeId, Bucket>,
    scopes: HashMap<Box<str>, Bucket>,
    domains: HashMap<Box<str>, Bucket>,
    four: PrefixMap<Ipv4Net, Bucket>,
    six: PrefixMap<Ipv6Net, Bucket>,
    /// How many intentions are only watched.
    shadows: usize,
    /// Those that let pass what no rule decides.
    permissive: Vec<Intention>,
    /// Those that limit requests.
    limiting: Vec<Intention>,
    /// Those that have a schema of the API.
    declaring: Vec<Intention>,
}

impl RuleSet {
    /// A set without rules: it denies all.
    pub fn new(workload: Workload) -> Self {
        Self {
            workload: Arc::new(workload),
            intentions: HashMap::new(),
            ids: HashMap::new(),
            scopes: HashMap::new(),
            domains: HashMap::new(),
            four: PrefixMap::new(),
            six: PrefixMap::new(),
            shadows: 0,
            permissive: Vec::new(),
            limiting: Vec::new(),
            declaring: Vec::new(),
        }
    }

    /// Who is called.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// How many intentions are for it.
    pub fn len(&self) -> usize {
        self.intentions.len()
    }

    /// Whether no intention is for it.
    pub fn is_empty(&self) -> bool {
        self.intentions.is_empty()
    }

    /// Puts an intention in force, in place of the one of its name in its tier; one that is not for the workload is only taken out.
    pub fn put(&mut self, intention: &Intention) {
        let key = key(intention.tier(), intention.name());
        self.take(&key);
        let selection = intention.destination().selection(&self.workload);
        let intention = match selection {
            Selection::Not => return,
            Selection::Perhaps => &intention.in_doubt(),
            Selection::Selected => intention,
        };
        for rule in intention.rules() {
            self.bucket(rule.subject(), |bucket| bucket.add(rule));
        }
        self.shadows += usize::from(intention.mode() == IntentionMode::Shadow);
        // In doubt nothing is let pass.
        if intention.permissive_until().is_some() && selection == Selection::Selected {
            self.permissive.push(intention.clone());
        }
        if !intention.limits().is_empty() && intention.mode() == IntentionMode::Enforce {
            self.limiting.push(intention.clone());
        }
        if intention.api().is_some() {
            self.declaring.push(intention.clone());
        }
        self.intentions.insert(key, intention.clone());
    }

    /// Takes an intention out of force.
    pub fn remove(&mut self, tier: Tier, name: &str) {
        self.take(&key(tier, name));
    }

    fn take(&mut self, key: &str) {
        let Some(old) = self.intentions.remove(key) else { return };
        for rule in old.rules() {
            let mut is_empty = false;
            self.bucket(rule.subject(), |bucket| is_empty = bucket.take_out(rule));
            if is_empty {
                self.drop_bucket(rule.subject());
            }
        }
        self.shadows -= usize::from(old.mode() == IntentionMode::Shadow);
        self.limiting.retain(|other| !Arc::ptr_eq(&other.origins, &old.origins));
        self.declaring.retain(|other| !Arc::ptr_eq(&other.origins, &old.origins));
        self.permissive.retain(|other| !Arc::ptr_eq(&other.origins, &old.origins));
    }

    fn bucket(&mut self, subject: &Subject, change: impl FnOnce(&mut Bucket)) {
        match subject {
            Subject::Workload(id) => change(self.ids.entry(id.clone()).or_default()),
            Subject::Namespace(scope) => change(self.scopes.entry(scope.clone()).or_default()),
            Subject::TrustDomain(domain) => {
                change(self.domains.entry(domain.as_str().into()).or_default());
            }
            Subject::Block(IpNet::V4(block)) => change(self.four.entry(*block).or_default()),
            Subject::Block(IpNet::V6(block)) => change(self.six.entry(*block).or_default()),
        }
    }

    fn drop_bucket(&mut self, subject: &Subject) {
        match subject {
            Subject::Workload(id) => drop(self.ids.remove(id)),
            Subject::Namespace(scope) => drop(self.scopes.remove(scope)),
            Subject::TrustDomain(domain) => drop(self.domains.remove(domain.as_str())),
            Subject::Block(IpNet::V4(block)) => drop(self.four.remove(block)),
            Subject::Block(IpNet::V6(block)) => drop(self.six.remove(block)),
        }
    }

    pub(crate) fn of_id(&self, id: &SpiffeId) -> Option<&Bucket> {
        self.ids.get(id)
    }

    pub(crate) fn of_scope(&self, scope: &str) -> Option<&Bucket> {
        self.scopes.get(scope)
    }

    pub(crate) fn of_domain(&self, domain: &str) -> Option<&Bucket> {
        self.domains.get(domain)
    }

    /// The blocks that an address is in, the longest first.
    pub(crate) fn of_address(&self, address: IpAddr) -> Vec<&Bucket> {
        let mut found: Vec<&Bucket> = match address {
            IpAddr::V4(address) => self.four.cover_values(&Ipv4Net::from(address)).collect(),
            IpAddr::V6(address) => self.six.cover_values(&Ipv6Net::from(address)).collect(),
        };
        found.reverse();
        found
    }

    /// Limits of requests to a port, of all intentions: each counts.
    pub fn limits(&self, port: u16) -> Vec<Limit> {
        let limiting = self.limiting.iter().filter(|it| it.origins.covers(port));
        limiting.flat_map(|it| it.limits().iter().cloned()).collect()
    }

    /// Schemas for a port, of all intentions: a request must be declared by each.
    pub(crate) fn apis(&self, port: u16) -> Arc<[Arc<Api>]> {
        let declaring = self.declaring.iter().filter(|it| it.origins.covers(port));
        declaring.filter_map(|it| it.api().cloned()).collect()
    }

    pub(crate) fn has_shadows(&self) -> bool {
        self.shadows > 0
    }

    /// Until when what no rule decides is let pass; the latest of all that say so.
    pub(crate) fn permissive_until(
        &self,
        port: u16,
        now: Timestamp,
        view: View,
    ) -> Option<Timestamp> {
        let counts = |it: &&Intention| view == View::Shadow || it.mode() == IntentionMode::Enforce;
        let ends = self.permissive.iter().filter(counts);
        ends.filter_map(|it| it.origins.permissive_until(port)).filter(|end| *end > now).max()
    }
}

fn key(tier: Tier, name: &str) -> Box<str> {
    format!("{tier}/{name}").into()
}

/// All intentions of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Intentions {
    /// By tier and name.
    all: BTreeMap<(Tier, Box<str>), Intention>,
    /// Those for workloads of one namespace.
    by_namespace: HashMap<Namespace, BTreeMap<(Tier, Box<str>), Intention>>,
    /// Those for all namespaces.
    wide: BTreeMap<(Tier, Box<str>), Intention>,
}

impl Intentions {
    /// Puts an intention in force, in place of the one of its name in its tier, which it gives back.
    pub fn put(&mut self, intention: Intention) -> Option<Intention> {
        let old = self.remove(intention.tier(), intention.name());
        let key = (intention.tier(), Box::<str>::from(intention.name()));
        let home = match &intention.destination().namespace {
            Some(namespace) => self.by_namespace.entry(namespace.clone()).or_default(),
            None => &mut self.wide,
        };
        home.insert(key.clone(), intention.clone());
        self.all.insert(key, intention);
        old
    }

    /// Takes an intention out of force, and gives it back.
    pub fn remove(&mut self, tier: Tier, name: &str) -> Option<Intention> {
        let key = (tier, Box::<str>::from(name));
        let old = self.all.remove(&key)?;
        match &old.destination().namespace {
            Some(namespace) => {
                if let Some(home) = self.by_namespace.get_mut(namespace) {
                    home.remove(&key);
                }
            }
            None => drop(self.wide.remove(&key)),
        }
        Some(old)
    }

    /// All, from the highest tier.
    pub fn iter(&self) -> impl Iterator<Item = &Intention> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is for one workload.
    pub fn rules_for(&self, workload: Workload) -> RuleSet {
        let near = self.by_namespace.get(&workload.namespace).into_iter().flatten();
        let mut set = RuleSet::new(workload);
        near.chain(&self.wide).for_each(|(_, intention)| set.put(intention));
        set
    }
}
