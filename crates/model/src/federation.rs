//! Whom the workloads of clusters may believe beside those of their own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, SpiffeId, TrustDomain};

/// Clusters whose workloads may believe each other; with `federatesWith` those of a trust domain of somebody else, and then not each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederationSpec {
    /// The clusters: two at least, or one that federates with somebody else.
    pub clusters: BTreeSet<ClusterName>,
    /// A trust domain of none of the hub's clusters, whose bundle each of these is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federates_with: Option<ForeignTrust>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A trust domain of somebody else, and where its owner publishes its bundle (SPIFFE Federation, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForeignTrust {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// An `https` address.
    #[serde(rename = "bundleEndpointURL")]
    pub bundle_endpoint_url: String,
    /// How the server there proves itself.
    pub bundle_endpoint_profile: BundleEndpointProfile,
    /// The bundle until one was fetched, SPIFFE's JSON; `https_spiffe` needs it to believe the server the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain_bundle: Option<String>,
}

/// How a bundle endpoint proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum BundleEndpointProfile {
    /// By a certificate for the name in the URL.
    #[serde(rename = "https_web")]
    Web {
        /// Authorities in PEM that stand behind it; without, those that browsers believe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authorities: Option<String>,
    },
    /// By an SVID of the trust domain.
    #[serde(rename = "https_spiffe")]
    Spiffe {
        /// Whom the SVID must name.
        #[serde(rename = "endpointSPIFFEID")]
        endpoint_spiffe_id: SpiffeId,
    },
}
