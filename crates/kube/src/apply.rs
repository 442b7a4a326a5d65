//! The administrator: whoever's kubeconfig applies the join manifest, once, and is then dropped.

use std::path::Path;

use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::Value;

use crate::{
    ApiServer, ConnectError, JoinManifest, KubeError, MintedToken, OwnAccount, OwnTokens,
    dynamic::{self, Place},
};

const FIELD_MANAGER: &str = "nullius-join";

/// The join manifest could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused an object.
    #[error(
        "`{object}` of the join manifest was not applied: the user of the kubeconfig must be an administrator of the cluster"
    )]
    Object {
        object: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not say who it is.
    #[error("the API server of the kubeconfig does not answer its user")]
    Silent(#[source] Box<kube::Error>),
    /// The first token of an own account was not given.
    #[error("the agent's own account got no token")]
    Token(#[source] KubeError),
}

/// The user of a kubeconfig.
pub struct Administrator {
    client: Client,
}

impl Administrator {
    /// Reads a kubeconfig (`None`: its current context): the API server, and its user.
    pub async fn from_kubeconfig(
        path: &Path,
        context: Option<&str>,
    ) -> Result<(ApiServer, Self), ConnectError> {
        let (server, client) = ApiServer::from_kubeconfig(path, context).await?;
        Ok((server, Self { client }))
    }

    /// Asks for the API server's version: whether it is there, and takes this user.
    pub async fn greet(&self) -> Result<(), ApplyError> {
        let version = self.client.apiserver_version().await;
        version.map(|_| ()).map_err(|error| ApplyError::Silent(Box::new(error)))
    }

    /// Applies all objects of the manifest, in order; applying again changes nothing.
    pub async fn apply(&self, manifest: &JoinManifest) -> Result<(), ApplyError> {
        for object in manifest.objects() {
            self.apply_object(object).await?;
        }
        Ok(())
    }

    /// The first token of an own account; from then on the account renews it by itself.
    pub async fn first_token(
        &self,
        account: OwnAccount,
        seconds: i64,
    ) -> Result<MintedToken, ApplyError> {
        let tokens = OwnTokens::with_client(self.client.clone());
        tokens.mint(account, None, seconds).await.map_err(ApplyError::Token)
    }

    async fn apply_object(&self, object: Value) -> Result<(), ApplyError> {
        let (api, Place { kind, name, .. }) = dynamic::place(&self.client, &object);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let wrong = |source| ApplyError::Object {
            object: format!("{kind}/{name}"),
            source: Box::new(source),
        };
        match api.patch(name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => Ok(()),
            // A binding's role cannot be changed: another ceiling is another binding.
            Err(kube::Error::Api(status))
                if status.is_invalid() && status.message.contains("roleRef") =>
            {
                api.delete(name, &DeleteParams::default()).await.map_err(wrong)?;
                api.patch(name, &parameters, &Patch::Apply(&object)).await.map_err(wrong)?;
                Ok(())
            }
            Err(source) => Err(wrong(source)),
        }
    }
}
