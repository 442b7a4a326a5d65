//! Connections: judged by who calls, from where, and to which port.
//!
//! Each tier is asked by itself: there the most exact destination comes first, then the most exact source, and the first that fits
//! decides. A deny of any tier is final; what is left needs an allow of at least one.

use std::{net::IpAddr, sync::Arc};

use nullius_model::{IntentionAction, IntentionMode, PermissionId, Reason, SpiffeId, Timestamp};

use crate::{
    api::{Api, Undeclared},
    destination::Workload,
    intention::{Audit, Reach, Rule, Tier, Verb},
    path::Reads,
    permission::Permission,
    set::{Bucket, RuleSet},
};

/// A connection to a workload.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// What the caller's certificate has proven; none where it has shown none.
    pub source: Option<&'a SpiffeId>,
    /// Where it comes from.
    pub address: IpAddr,
    /// The port of the destination.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1 or HTTP/2, so that requests can be read.
    Http,
    /// Anything else.
    Tcp,
}

/// Which intentions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// Those that decide.
    Enforced,
    /// Those as well that are only watched.
    Shadow,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What decided, or would have been the nearest to.
#[derive(Debug, Clone)]
pub struct By {
    /// The rule of one source.
    pub rule: Arc<Rule>,
    /// Which of its permissions.
    pub permission: Option<usize>,
}

impl By {
    pub(crate) fn rule(rule: &Arc<Rule>) -> Self {
        Self { rule: Arc::clone(rule), permission: None }
    }

    /// The stable id under which a use is counted.
    pub fn id(&self) -> &PermissionId {
        let permission = self.permission.and_then(|index| self.rule.permissions().get(index));
        permission.map_or(&self.rule.id, |permission| &permission.id)
    }
}

/// What came of a connection or a request.
#[derive(Debug, Clone)]
#[must_use]
pub struct Verdict {
    /// Whether it may be.
    pub ruling: Ruling,
    /// Why.
    pub reason: Reason,
    /// What decided; where nothing did, the nearest that would have allowed it.
    pub by: Option<By>,
    /// When an allowed connection must be judged again.
    pub ends_at: Option<Timestamp>,
    /// Why a condition has no value.
    pub failure: Option<String>,
    /// By which schema of the API it is none that is declared.
    pub undeclared: Option<Box<Undeclared>>,
}

impl Verdict {
    pub(crate) fn new(ruling: Ruling, reason: Reason, by: Option<By>) -> Self {
        Self { ruling, reason, by, ends_at: None, failure: None, undeclared: None }
    }

    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        self.ruling == Ruling::Allow
    }

    /// What was allowed is none of what a schema declares.
    pub(crate) fn refuse(&mut self, undeclared: Undeclared) {
        (self.ruling, self.reason, self.ends_at) = (Ruling::Deny, undeclared.reason, None);
        self.undeclared = Some(Box::new(undeclared));
    }

    /// Whether the intention wants each allowed call recorded.
    pub fn is_recorded(&self) -> bool {
        let wants = |by: &By| by.rule.origins.audit == Audit::All;
        !self.is_allowed() || self.by.as_ref().is_some_and(wants)
    }
}

/// What is known of a connection for as long as it lives.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) source: Option<SpiffeId>,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) destination: Arc<Workload>,
}

/// An accepted or refused connection: a verdict, or the rules of its source that requests are judged by.
#[derive(Debug, Clone)]
#[must_use]
pub struct Accept {
    pub(crate) facts: Facts,
    pub(crate) enforced: Standing,
    /// None where no intention is only watched.
    pub(crate) shadow: Option<Standing>,
    /// Schemas that its requests must be declared by, or would have to be.
    pub(crate) apis: Arc<[Arc<Api>]>,
}

/// How a connection stands in one view.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Decided(Verdict),
    /// What is left for requests to decide, from the highest tier.
    Open(Vec<Layer>),
}

/// How a connection stands, for who asks.
#[derive(Debug, Clone, Copy)]
pub enum Stand<'a> {
    /// It is decided.
    Decided(&'a Verdict),
    /// Requests decide.
    Requests,
}

/// What one tier leaves: lists of permissions, and perhaps an allow of the same exactness.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) lists: Vec<Arc<Rule>>,
    pub(crate) allowed: Option<Arc<Rule>>,
}

impl Accept {
    /// How it stands.
    pub fn stand(&self) -> Stand<'_> {
        match &self.enforced {
            // Whoever may call sends what the schema declares.
            Standing::Decided(verdict) if verdict.is_allowed() && !self.apis.is_empty() => {
                Stand::Requests
            }
            standing => standing.stand(),
        }
    }

    /// How it would stand if intentions that are only watched decided; none where there is none.
    pub fn shadow(&self) -> Option<Stand<'_>> {
        self.shadow.as_ref().map(Standing::stand)
    }

    /// Who calls, as far as that is proven.
    pub fn source(&self) -> Option<&SpiffeId> {
        self.facts.source.as_ref()
    }

    /// Where it comes from.
    pub fn address(&self) -> IpAddr {
        self.facts.address
    }

    /// Who is called.
    pub fn destination(&self) -> &Workload {
        &self.facts.destination
    }

    /// The port that is called.
    pub fn port(&self) -> u16 {
        self.facts.port
    }

    /// Schemas that requests are judged by too, in words.
    pub fn schemas(&self) -> Vec<String> {
        self.apis.iter().map(|api| api.to_string()).collect()
    }

    /// The rules that requests are judged by, from the highest tier.
    pub fn residual(&self) -> Vec<&Arc<Rule>> {
        match &self.enforced {
            Standing::Decided(_) => Vec::new(),
            Standing::Open(layers) => layers.iter().flat_map(|layer| &layer.lists).collect(),
        }
    }

    /// Whether any rule that is left looks at paths, those that are only watched too.
    pub fn reads(&self) -> Reads {
        let mut left = self.left();
        match !self.apis.is_empty() || left.any(|permission| permission.reads() == Reads::Paths) {
            true => Reads::Paths,
            false => Reads::NoPaths,
        }
    }

    /// Whether any rule that is left looks at tokens, those that are only watched too.
    pub fn reads_tokens(&self) -> bool {
        self.left().any(Permission::reads_tokens)
    }

    fn left(&self) -> impl Iterator<Item = &Permission> {
        let standings = [Some(&self.enforced), self.shadow.as_ref()];
        let layers = standings.into_iter().flatten().flat_map(|standing| match standing {
            Standing::Decided(_) => [].iter(),
            Standing::Open(layers) => layers.iter(),
        });
        layers.flat_map(|layer| &layer.lists).flat_map(|rule| rule.permissions())
    }
}

impl Standing {
    fn stand(&self) -> Stand<'_> {
        match self {
            Self::Decided(verdict) => Stand::Decided(verdict),
            Self::Open(_) => Stand::Requests,
        }
    }
}

/// What one tier makes of a connection.
enum Outcome {
    Denied(Arc<Rule>),
    Unknown(Arc<Rule>),
    Left(Layer),
}

impl RuleSet {
    /// Judges a connection.
    pub fn accept(&self, connection: &Connection<'_>, now: Timestamp) -> Accept {
        let connection = Connection { address: connection.address.to_canonical(), ..*connection };
        let named = Named::of(self, &connection);
        let view = |view| self.standing(&named, &connection, now, view);
        let mut enforced = view(View::Enforced);
        let mut apis = self.apis(connection.port);
        if connection.protocol == Protocol::Tcp {
            // What nobody reads is not declared.
            let decides = apis.iter().any(|api| api.mode() == IntentionMode::Enforce);
            if let Standing::Decided(verdict) = &mut enforced
                && verdict.is_allowed()
                && decides
            {
                *verdict = Verdict::new(Ruling::Deny, Reason::NotHttp, verdict.by.take());
            }
            apis = Arc::default();
        }
        Accept {
            enforced,
            shadow: self.has_shadows().then(|| view(View::Shadow)),
            apis,
            facts: Facts {
                source: connection.source.cloned(),
                address: connection.address,
                port: connection.port,
                destination: Arc::clone(self.workload()),
            },
        }
    }

    fn standing(
        &self,
        named: &Named<'_>,
        connection: &Connection<'_>,
        now: Timestamp,
        view: View,
    ) -> Standing {
        let decided = |ruling, reason, by| Standing::Decided(Verdict::new(ruling, reason, by));
        let mut layers = Vec::new();
        let mut last_allow = None;
        for tier in Tier::ALL {
            match named.ask(tier, connection.port, view) {
                None => {}
                Some(Outcome::Denied(rule)) => {
                    return decided(Ruling::Deny, Reason::IntentionRefused, Some(By::rule(&rule)));
                }
                Some(Outcome::Unknown(rule)) => {
                    return decided(Ruling::Deny, Reason::UnknownReference, Some(By::rule(&rule)));
                }
                Some(Outcome::Left(Layer { lists, allowed: Some(allowed) }))
                    if lists.is_empty() =>
                {
                    last_allow = Some(allowed);
                }
                Some(Outcome::Left(layer)) => {
                    // An allow without permissions above a list is settled: only lists are left to requests.
                    last_allow = None;
                    layers.push(layer);
                }
            }
        }
        if let Some(first) = layers.iter().find_map(|layer| layer.lists.first()) {
            if connection.protocol == Protocol::Tcp {
                return decided(Ruling::Deny, Reason::NotHttp, Some(By::rule(first)));
            }
            // An allow of a tier below a list stays what allowed it, once the list allows.
            layers.extend(last_allow.map(|rule| Layer { lists: Vec::new(), allowed: Some(rule) }));
            return Standing::Open(layers);
        }
        if let Some(rule) = last_allow {
            return decided(Ruling::Allow, Reason::IntentionMatched, Some(By::rule(&rule)));
        }
        if let Some(until) = self.permissive_until(connection.port, now, view) {
            let mut verdict = Verdict::new(Ruling::Allow, Reason::Permissive, None);
            verdict.ends_at = Some(until);
            return Standing::Decided(verdict);
        }
        let reason = match connection.source {
            Some(_) => Reason::NoIntention,
            None => Reason::Unauthenticated,
        };
        decided(Ruling::Deny, reason, named.nearest().map(By::rule))
    }
}

/// The rules that name the caller, in each of the ways in which it can be named.
struct Named<'a> {
    id: Option<&'a Bucket>,
    namespace: Option<&'a Bucket>,
    domain: Option<&'a Bucket>,
    /// From the longest block.
    blocks: Vec<&'a Bucket>,
}

impl<'a> Named<'a> {
    fn of(set: &'a RuleSet, connection: &Connection<'_>) -> Self {
        let source = connection.source;
        Self {
            id: source.and_then(|id| set.of_id(id)),
            namespace: source.and_then(SpiffeId::namespace_scope).and_then(|it| set.of_scope(it)),
            domain: source.and_then(|id| set.of_domain(id.trust_domain())),
            blocks: set.of_address(connection.address),
        }
    }

    fn ask(&self, tier: Tier, port: u16, view: View) -> Option<Outcome> {
        for reach in Reach::ALL {
            for bucket in [self.id, self.namespace].into_iter().flatten() {
                let mut found = Found::default();
                found.take(bucket.slot(tier, reach), port, view);
                if let Some(outcome) = found.into_outcome() {
                    return Some(outcome);
                }
            }
            // Whole trust domains and blocks of addresses are as exact as each other.
            let mut found = Found::default();
            if let Some(bucket) = self.domain {
                found.take(bucket.slot(tier, reach), port, view);
            }
            for bucket in &self.blocks {
                // What can only deny never hides what a wider block denies.
                if found.take(bucket.slot(tier, reach), port, view) == Taken::MayAllow {
                    break;
                }
            }
            if let Some(outcome) = found.into_outcome() {
                return Some(outcome);
            }
        }
        None
    }

    /// A rule for the caller that would allow it at another port or if it decided.
    fn nearest(&self) -> Option<&'a Arc<Rule>> {
        let blocks = self.blocks.iter().copied();
        let all = [self.id, self.namespace, self.domain].into_iter().flatten().chain(blocks);
        all.flat_map(Bucket::all).find(|rule| !matches!(rule.verb, Verb::Deny | Verb::Unknown))
    }
}

/// Rules of one exactness, as they come together: a deny of any of them is one.
#[derive(Default)]
struct Found<'a> {
    denied: Option<&'a Arc<Rule>>,
    unknown: Option<&'a Arc<Rule>>,
    lists: Vec<Arc<Rule>>,
    allowed: Option<&'a Arc<Rule>>,
}

/// Whether anything was taken that may allow something, or denies all.
#[derive(PartialEq, Eq)]
enum Taken {
    MayAllow,
    NothingThatAllows,
    AllDenied,
}

impl<'a> Found<'a> {
    fn take(&mut self, rules: &'a [Arc<Rule>], port: u16, view: View) -> Taken {
        let mut taken = Taken::NothingThatAllows;
        for rule in rules {
            let counts = view == View::Shadow || rule.origins.mode == IntentionMode::Enforce;
            if !counts || !rule.origins.covers(port) {
                continue;
            }
            match &rule.verb {
                Verb::Deny => {
                    self.denied = Some(rule);
                    return Taken::AllDenied;
                }
                Verb::Unknown => {
                    self.unknown = self.unknown.or(Some(rule));
                }
                Verb::Permissions(permissions) => {
                    if permissions.iter().any(|it| it.action == IntentionAction::Allow) {
                        taken = Taken::MayAllow;
                    }
                    self.lists.push(Arc::clone(rule));
                }
                Verb::Allow => {
                    // They are in order: after an allow come allows.
                    self.allowed = self.allowed.or(Some(rule));
                    return Taken::MayAllow;
                }
            }
        }
        taken
    }

    fn into_outcome(self) -> Option<Outcome> {
        match self {
            Self { denied: Some(rule), .. } => Some(Outcome::Denied(Arc::clone(rule))),
            Self { unknown: Some(rule), .. } => Some(Outcome::Unknown(Arc::clone(rule))),
            Self { lists, allowed: None, .. } if lists.is_empty() => None,
            Self { lists, allowed, .. } => {
                Some(Outcome::Left(Layer { lists, allowed: allowed.map(Arc::clone) }))
            }
        }
    }
}
