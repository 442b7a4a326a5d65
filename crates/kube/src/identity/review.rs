//! Whose a token is: the API server says it, which also knows whether its pod still is there.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, api::PostParams};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// What the API server says of a token that it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reviewed {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// For whom the token is, of those that were asked about.
    pub audiences: Vec<String>,
    /// The pod that the token is bound to.
    pub pod_name: Option<String>,
    /// Its UID.
    pub pod_uid: Option<String>,
    /// The node of that pod; API servers before 1.30 do not say.
    pub node_name: Option<String>,
    /// Its UID.
    pub node_uid: Option<String>,
}

/// Asks the API server.
#[derive(Clone)]
pub struct Reviewer {
    reviews: Api<TokenReview>,
}

impl Reviewer {
    /// With the credential of `agent identity`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { reviews: Api::all(server.client(credential)?) })
    }

    /// Whose a token for an audience is; nothing where the API server does not know it.
    pub async fn review(
        &self,
        token: &SecretString,
        audience: &str,
    ) -> Result<Option<Reviewed>, KubeError> {
        let spec = TokenReviewSpec {
            token: token.expose_secret().to_owned(),
            audiences: Some(vec![audience.to_owned()]),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(KubeError::at(Step::ReviewToken))?.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
        let one = |name: &str| match extra.get(name).map(Vec::as_slice) {
            Some([value]) => Some(value.clone()),
            Some(_) | None => None,
        };
        Ok(Some(Reviewed {
            username: user.username.unwrap_or_default(),
            audiences: status.audiences.unwrap_or_default(),
            pod_name: one(POD_NAME),
            pod_uid: one(POD_UID),
            node_name: one(NODE_NAME),
            node_uid: one(NODE_UID),
        }))
    }
}
