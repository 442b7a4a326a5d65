//! The ConfigMap from which nodes learn whom to believe, and where to ask.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, api::PostParams};

use crate::{
    ApiServer, ConnectError, Credential, KubeError, NODE_NAMESPACE, Step, TRUST_BUNDLE_KEY,
    TRUST_DOMAIN_KEY, TRUST_ISSUER_KEY, TRUST_MAP,
};

/// What nodes learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustText {
    /// The SPIFFE bundle of the own trust domain.
    pub bundle: String,
    /// Its name.
    pub trust_domain: String,
    /// Address and port of `agent identity`.
    pub issuer: String,
}

/// Writes it.
#[derive(Clone)]
pub struct TrustMap {
    maps: Api<ConfigMap>,
}

impl TrustMap {
    /// With the credential of `agent identity`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { maps: Api::namespaced(server.client(credential)?, NODE_NAMESPACE) })
    }

    /// Writes it, whatever stands there: the ConfigMap is the agent's alone.
    pub async fn write(&self, text: &TrustText) -> Result<(), KubeError> {
        let data = [
            (TRUST_BUNDLE_KEY, &text.bundle),
            (TRUST_DOMAIN_KEY, &text.trust_domain),
            (TRUST_ISSUER_KEY, &text.issuer),
        ];
        let labels = [("app.kubernetes.io/part-of".to_owned(), "nullius".to_owned())];
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(TRUST_MAP.to_owned()),
                namespace: Some(NODE_NAMESPACE.to_owned()),
                labels: Some(BTreeMap::from(labels)),
                ..ObjectMeta::default()
            },
            data: Some(data.map(|(key, value)| (key.to_owned(), value.clone())).into()),
            ..ConfigMap::default()
        };
        let written = self.maps.replace(TRUST_MAP, &PostParams::default(), &map).await;
        written.map(|_| ()).map_err(KubeError::at(Step::WriteTrustMap))
    }
}
