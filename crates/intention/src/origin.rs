//! Where intentions come from and what they may refer to.

use std::collections::BTreeSet;

use nullius_model::TrustDomain;

/// The namespace whose intentions are for the whole cluster.
pub const SYSTEM_NAMESPACE: &str = "nullius-system";

/// Who gave an intention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// An object of the cluster; its namespace says for what it counts.
    Cluster,
    /// A signed bundle of the hub.
    Fleet,
}

/// The cluster in which intentions are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its own trust domain.
    pub trust_domain: TrustDomain,
    /// Other trust domains whose bundles it has; none where nobody says, and then every one counts as known.
    pub federated: Option<BTreeSet<TrustDomain>>,
    /// Issuers whose tokens it can verify; none where nobody says, and then every one counts as known.
    pub issuers: Option<BTreeSet<String>>,
}

impl Home {
    /// A cluster of which only its trust domain is known.
    pub fn of(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, federated: None, issuers: None }
    }

    pub(crate) fn knows_domain(&self, domain: &str) -> bool {
        self.trust_domain.as_str() == domain
            || self.federated.as_ref().is_none_or(|all| all.iter().any(|it| it.as_str() == domain))
    }

    pub(crate) fn knows_issuer(&self, issuer: &str) -> bool {
        self.issuers.as_ref().is_none_or(|all| all.contains(issuer))
    }
}
