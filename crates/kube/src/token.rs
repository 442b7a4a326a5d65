//! TokenRequest: short tokens of sessions, bound to their marker, and of the agent's own accounts.

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use nullius_model::Timestamp;
use secrecy::SecretString;

use crate::{
    ApiServer, ConnectError, Credential, KubeError, OwnAccount, SESSIONS_NAMESPACE,
    SYSTEM_NAMESPACE, Step,
};

/// Life of a session's token; the least that Kubernetes gives.
pub const SESSION_TOKEN_SECONDS: i64 = 600;

/// A ServiceAccount token, never shown.
#[derive(Clone)]
pub struct MintedToken {
    /// The token.
    pub token: SecretString,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MintedToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Mints tokens of the agent's own accounts, as far as the provisioner's rights reach.
#[derive(Clone)]
pub struct OwnTokens {
    client: Client,
}

impl OwnTokens {
    /// With the provisioner's credential.
    pub fn new(server: &ApiServer, provisioner: Credential) -> Result<Self, ConnectError> {
        Ok(Self { client: server.client(provisioner)? })
    }

    pub(crate) fn with_client(client: Client) -> Self {
        Self { client }
    }

    /// A token of one own account; no audience means the API server's own.
    pub async fn mint(
        &self,
        account: OwnAccount,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<MintedToken, KubeError> {
        let spec = TokenRequestSpec {
            audiences: audience.map(|name| vec![name.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: None,
        };
        request_token(&self.client, SYSTEM_NAMESPACE, account.name(), spec).await
    }
}

/// A token of a session's account that lives no longer than its marker.
pub(crate) async fn mint_bound(
    client: &Client,
    account: &str,
    marker_uid: &str,
) -> Result<MintedToken, KubeError> {
    let spec = TokenRequestSpec {
        audiences: None,
        expiration_seconds: Some(SESSION_TOKEN_SECONDS),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Secret".into()),
            name: Some(account.to_owned()),
            uid: Some(marker_uid.to_owned()),
        }),
    };
    request_token(client, SESSIONS_NAMESPACE, account, spec).await
}

async fn request_token(
    client: &Client,
    namespace: &str,
    account: &str,
    spec: TokenRequestSpec,
) -> Result<MintedToken, KubeError> {
    let step = || Step::MintToken(account.to_owned());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let issued_at = Timestamp::now();
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(KubeError::at(step()))?;
    let status = answer.status.unwrap_or_default();
    match (status.token, status.expiration_timestamp) {
        (Some(token), Some(expires_at)) => Ok(MintedToken {
            token: SecretString::from(token),
            issued_at,
            expires_at: expires_at.0,
        }),
        _ => Err(KubeError::Incomplete { step: step(), what: "a token or its expiry" }),
    }
}
