//! TokenRequest: short tokens of sessions, bound to their marker, and of the agent's own accounts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use nullius_model::{Timestamp, Ttl};
use secrecy::SecretString;
use serde::Deserialize;

use crate::{
    ApiServer, ConnectError, Credential, KubeError, OwnAccount, SESSIONS_NAMESPACE,
    SYSTEM_NAMESPACE, Step,
};

/// Life of a session's token; the least that Kubernetes gives.
pub const SESSION_TOKEN_SECONDS: i64 = 600;

/// A ServiceAccount token, never shown. Its times are by the clock of this machine.
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
        (Some(token), Some(told)) => {
            let life = life_of(&token);
            let expires_at = life.map_or(told.0, |life| life.after(issued_at));
            Ok(MintedToken { token: SecretString::from(token), issued_at, expires_at })
        }
        _ => Err(KubeError::Incomplete { step: step(), what: "a token or its expiry" }),
    }
}

/// How long a token lives by its own claims. The clock of the API server is another than ours, and where they are far
/// apart its times would make a new token look old: it would be renewed without end.
fn life_of(token: &str) -> Option<Ttl> {
    #[derive(Deserialize)]
    struct Claims {
        iat: i64,
        exp: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { iat, exp } = serde_json::from_slice(&payload).ok()?;
    let seconds = u32::try_from(exp.checked_sub(iat)?).ok()?;
    (seconds > 0).then(|| Ttl::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_it_says_itself() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let life = life_of(&token(r#"{"iss":"k","iat":1000,"exp":1600}"#));
        assert_eq!(life, Some(Ttl::from_secs(600)));
        for odd in [
            token(r#"{"iat":1600,"exp":1000}"#),
            token(r#"{"iat":1000,"exp":1000}"#),
            token(r#"{"exp":1600}"#),
            token(r#"{"iat":-9223372036854775808,"exp":9223372036854775807}"#),
            token("no json"),
            "opaque".to_owned(),
            "a.%.c".to_owned(),
        ] {
            assert_eq!(life_of(&odd), None, "{odd}");
        }
    }
}
