//! The issuer of a cluster's ServiceAccount tokens, with its keys, as the API server publishes them.

use kube::Client;
use serde::Deserialize;

use crate::{ApiServer, Credential, KubeError, Step};

/// What the hub needs to check the tokens of a cluster's agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerDocument {
    /// `iss` of the tokens.
    pub issuer: String,
    /// JWK Set (RFC 7517).
    pub jwks: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// Reads issuer and keys with the provisioner's credential.
pub async fn read_issuer(
    server: &ApiServer,
    provisioner: Credential,
) -> Result<IssuerDocument, KubeError> {
    read(&server.client(provisioner)?).await
}

async fn read(client: &Client) -> Result<IssuerDocument, KubeError> {
    let text = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError);
        client.request_text(request?).await
    };
    let discovery =
        text("/.well-known/openid-configuration").await.map_err(KubeError::at(Step::ReadIssuer))?;
    let discovery: Discovery = serde_json::from_str(&discovery)
        .map_err(|_| KubeError::Incomplete { step: Step::ReadIssuer, what: "an issuer" })?;
    let jwks = text("/openid/v1/jwks").await.map_err(KubeError::at(Step::ReadIssuer))?;
    Ok(IssuerDocument { issuer: discovery.issuer, jwks })
}

/// The API server's version, for example `v1.36.3`.
pub async fn kubernetes_version(
    server: &ApiServer,
    credential: Credential,
) -> Result<String, KubeError> {
    let client = server.client(credential)?;
    let version = client.apiserver_version().await.map_err(KubeError::at(Step::ReadVersion))?;
    Ok(version.git_version)
}
