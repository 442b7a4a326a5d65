//! An intention that was read: a destination, and a rule for each of its sources.

use std::{fmt, sync::Arc};

use nullius_model::{IntentionMode, PermissionId, Timestamp};

use crate::{
    api::Api, declared::DeclaredIssuer, destination::Destination, limits::Limit,
    permission::Permission, source::Subject,
};

/// Whose intentions they are; the first is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The hub's, for all clusters.
    Fleet,
    /// The cluster's own.
    Cluster,
    /// A namespace's own.
    Namespace,
}

impl Tier {
    /// Every one, from the highest.
    pub const ALL: [Self; 3] = [Self::Fleet, Self::Cluster, Self::Namespace];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How exactly an intention names its destination; the first is the most exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Workloads, by service account or labels.
    Workload,
    /// All of a namespace.
    Namespace,
    /// All of the cluster.
    Any,
}

impl Reach {
    /// Every one, from the most exact.
    pub const ALL: [Self; 3] = [Self::Workload, Self::Namespace, Self::Any];

    fn exactness(self) -> u8 {
        match self {
            Self::Workload => 3,
            Self::Namespace => 2,
            Self::Any => 1,
        }
    }
}

/// What all rules of an intention share.
#[derive(Debug)]
pub(crate) struct Origins {
    /// `namespace/name`.
    pub(crate) name: Box<str>,
    pub(crate) tier: Tier,
    pub(crate) destination: Destination,
    pub(crate) reach: Reach,
    pub(crate) mode: IntentionMode,
    pub(crate) audit: Audit,
    pub(crate) permissive: Option<Permissive>,
}

/// What is recorded beside denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Nothing: allows are counted.
    Denials,
    /// Each call that is allowed.
    All,
}

/// Until when what no rule decides is let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permissive {
    pub(crate) until: Timestamp,
    /// None stands for those of the destination.
    pub(crate) ports: Vec<u16>,
}

impl Origins {
    /// Whether it is for a port of its destination.
    pub(crate) fn covers(&self, port: u16) -> bool {
        self.destination.covers(port)
    }

    /// Until when it lets pass what no rule decides.
    pub(crate) fn permissive_until(&self, port: u16) -> Option<Timestamp> {
        let permissive = self.permissive.as_ref()?;
        let is_for =
            self.covers(port) && (permissive.ports.is_empty() || permissive.ports.contains(&port));
        is_for.then_some(permissive.until)
    }
}

/// An intention that was read and found right.
#[derive(Debug, Clone)]
pub struct Intention {
    pub(crate) origins: Arc<Origins>,
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) issuers: Arc<[DeclaredIssuer]>,
    pub(crate) limits: Arc<[Limit]>,
    pub(crate) api: Option<Arc<Api>>,
}

impl Intention {
    /// `namespace/name`.
    pub fn name(&self) -> &str {
        &self.origins.name
    }

    /// Whose it is.
    pub fn tier(&self) -> Tier {
        self.origins.tier
    }

    /// Which workloads it is for.
    pub fn destination(&self) -> &Destination {
        &self.origins.destination
    }

    /// Whether it decides.
    pub fn mode(&self) -> IntentionMode {
        self.origins.mode
    }

    /// A rule for each source, in the order in which they stand.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Issuers of tokens that it declares, for the whole cluster.
    pub fn issuers(&self) -> &[DeclaredIssuer] {
        &self.issuers
    }

    /// How many requests each caller may send.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// As it stands where it is not known whether it is for a workload: it denies and limits there, and allows nothing.
    pub(crate) fn in_doubt(&self) -> Self {
        let verb = |rule: &Rule| match rule.verb {
            Verb::Deny => Some(Verb::Deny),
            Verb::Unknown | Verb::Permissions(_) => Some(Verb::Unknown),
            Verb::Allow => None,
        };
        let rules = self.rules.iter().filter_map(|rule| {
            Some(Arc::new(Rule {
                origins: Arc::clone(&rule.origins),
                index: rule.index,
                id: rule.id.clone(),
                subject: rule.subject.clone(),
                verb: verb(rule)?,
            }))
        });
        Self { rules: rules.collect(), ..self.clone() }
    }

    /// The schema of its destination's API.
    pub fn api(&self) -> Option<&Arc<Api>> {
        self.api.as_ref()
    }

    /// When it no longer lets pass what no rule decides, where it does so at all.
    pub fn permissive_until(&self) -> Option<Timestamp> {
        self.origins.permissive.as_ref().map(|permissive| permissive.until)
    }
}

/// What an intention says of one source.
#[derive(Debug)]
pub struct Rule {
    pub(crate) origins: Arc<Origins>,
    pub(crate) index: usize,
    pub(crate) id: PermissionId,
    pub(crate) subject: Subject,
    pub(crate) verb: Verb,
}

/// What a rule makes of a call. In this order rules for the same source are asked: a deny before all others.
#[derive(Debug)]
pub(crate) enum Verb {
    Deny,
    /// It names what nobody knows, so that nobody can tell.
    Unknown,
    /// Requests decide.
    Permissions(Vec<Permission>),
    Allow,
}

impl Verb {
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Deny => 0,
            Self::Unknown => 1,
            Self::Permissions(_) => 2,
            Self::Allow => 3,
        }
    }
}

impl Rule {
    /// The intention, `namespace/name`.
    pub fn intention(&self) -> &str {
        &self.origins.name
    }

    /// Whose intention it is.
    pub fn tier(&self) -> Tier {
        self.origins.tier
    }

    /// Which of its sources.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whom it is for.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its stable id.
    pub fn id(&self) -> &PermissionId {
        &self.id
    }

    /// Its permissions; none where it decides by itself.
    pub fn permissions(&self) -> &[Permission] {
        match &self.verb {
            Verb::Permissions(permissions) => permissions,
            Verb::Deny | Verb::Unknown | Verb::Allow => &[],
        }
    }

    /// Consul's number: 9 where destination and source are workloads, 1 where both are all.
    pub fn precedence(&self) -> u8 {
        (self.origins.reach.exactness() - 1) * 3 + self.subject.exactness()
    }

    /// Whether it is only watched.
    pub fn mode(&self) -> IntentionMode {
        self.origins.mode
    }
}
