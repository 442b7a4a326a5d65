//! Where keys of an issuer are published, and one fetch of them.

use std::{fmt, sync::Arc};

use nullius_pki::{JWKS_MAX, JwksError};
use nullius_tunnel::{Fetch, Reach, ServerProof};

/// Where keys are published.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySource {
    /// An `https` address.
    pub url: Box<str>,
    /// Authorities in PEM that stand behind the server; without, those that browsers believe.
    pub authorities: Option<Arc<str>>,
    /// Where it may be.
    pub reach: Reach,
}

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing came.
    #[error(transparent)]
    Fetch(#[from] nullius_tunnel::FetchError),
    /// What came is no key set.
    #[error("what came cannot be used")]
    Keys(#[from] JwksError),
}

impl KeySource {
    /// Whether it can be fetched at all; the error says why not.
    pub fn check(&self) -> Result<(), FetchError> {
        Ok(self.fetching().check()?)
    }

    /// Fetches what is there.
    pub async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        Ok(self.fetching().get().await?)
    }

    fn fetching(&self) -> Fetch<'_> {
        let server = match &self.authorities {
            Some(pem) => ServerProof::Authorities(pem),
            None => ServerProof::Web,
        };
        let accept = "application/json, application/jwk-set+json";
        Fetch { url: &self.url, server, reach: self.reach, max: JWKS_MAX, accept }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("url", &self.url).field("reach", &self.reach).finish()
    }
}
