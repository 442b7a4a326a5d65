//! Whoever signs for this node: two functions, so that this crate knows no agent.

use std::{future::Future, sync::Arc};

use futures::future::BoxFuture;
use nullius_model::Timestamp;
use nullius_pki::{Csr, workload::X509Svid};
use secrecy::SecretString;

use crate::entry::Entry;

/// Signs X.509-SVIDs for keys of this node, and JWT-SVIDs.
#[derive(Clone)]
pub struct Issuer {
    x509: Arc<SignX509>,
    jwt: Arc<SignJwt>,
}

type SignX509 = dyn Fn(Box<str>, Arc<Entry>, Csr) -> BoxFuture<'static, Result<X509Svid, IssueError>>
    + Send
    + Sync;
type SignJwt = dyn Fn(Box<str>, Arc<Entry>, Vec<String>) -> BoxFuture<'static, Result<JwtIssued, IssueError>>
    + Send
    + Sync;

/// A JWT-SVID that was signed.
#[derive(Clone)]
pub struct JwtIssued {
    /// The compact form.
    pub token: SecretString,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// It will not be signed as things are.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// Nobody could be asked, or the answer cannot be used.
    #[error("no SVID was issued: {0}")]
    Unavailable(String),
}

impl Issuer {
    /// With what signs: both functions get an entry with its id. The first has a request of which the public key counts, the second
    /// whom the token is for.
    pub fn new<X, J>(
        x509: impl Fn(Box<str>, Arc<Entry>, Csr) -> X + Send + Sync + 'static,
        jwt: impl Fn(Box<str>, Arc<Entry>, Vec<String>) -> J + Send + Sync + 'static,
    ) -> Self
    where
        X: Future<Output = Result<X509Svid, IssueError>> + Send + 'static,
        J: Future<Output = Result<JwtIssued, IssueError>> + Send + 'static,
    {
        Self {
            x509: Arc::new(move |id, entry, csr| Box::pin(x509(id, entry, csr))),
            jwt: Arc::new(move |id, entry, audience| Box::pin(jwt(id, entry, audience))),
        }
    }

    pub(crate) async fn x509(
        &self,
        id: Box<str>,
        entry: Arc<Entry>,
        csr: Csr,
    ) -> Result<X509Svid, IssueError> {
        (self.x509)(id, entry, csr).await
    }

    pub(crate) async fn jwt(
        &self,
        id: Box<str>,
        entry: Arc<Entry>,
        audience: Vec<String>,
    ) -> Result<JwtIssued, IssueError> {
        (self.jwt)(id, entry, audience).await
    }
}
