//! What a cluster remembers of its hub: the newest key set that was verified, so that a restarted agent still
//! refuses an older one.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};

use crate::{
    ApiServer, ConnectError, Credential, JOIN_SECRET, KubeError, SYSTEM_NAMESPACE, Step,
    TRUST_SECRET,
};

const REVISION: &str = "revision";
const KEY_SET: &str = "key-set";
const HUB: &str = "hub";

/// The kept key set and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustRecord {
    /// The hub fleet that the cluster has joined; absent before the first join.
    pub hub_id: Option<String>,
    /// Revision of the kept key set; zero before there is one.
    pub revision: u64,
    /// The key set as the offline key signed it.
    pub key_set: Option<String>,
}

/// The record in Secret [`TRUST_SECRET`].
#[derive(Clone)]
pub struct TrustStore {
    secrets: Api<Secret>,
}

impl TrustStore {
    /// With the provisioner's credential.
    pub fn new(server: &ApiServer, provisioner: Credential) -> Result<Self, ConnectError> {
        Ok(Self::with_client(server.client(provisioner)?))
    }

    pub(crate) fn with_client(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, SYSTEM_NAMESPACE) }
    }

    /// What is kept.
    pub async fn load(&self) -> Result<TrustRecord, KubeError> {
        let secret =
            self.secrets.get(TRUST_SECRET).await.map_err(KubeError::at(Step::ReadTrust))?;
        parse(&secret)
    }

    /// Keeps `record` unless a newer key set of the same hub is kept already.
    pub async fn keep(&self, record: &TrustRecord) -> Result<(), KubeError> {
        loop {
            let mut secret =
                self.secrets.get(TRUST_SECRET).await.map_err(KubeError::at(Step::ReadTrust))?;
            let kept = parse(&secret)?;
            if kept.hub_id == record.hub_id && kept.revision >= record.revision {
                return Ok(());
            }
            secret.data = Some(data_of(record));
            match self.secrets.replace(TRUST_SECRET, &PostParams::default(), &secret).await {
                Ok(_) => return Ok(()),
                // Another replica wrote meanwhile: look again, it may be newer.
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(KubeError::from_kube(Step::WriteTrust, error)),
            }
        }
    }

    /// Removes the redeemed join token; that it is gone already is fine.
    pub async fn forget_join_token(&self) -> Result<(), KubeError> {
        match self.secrets.delete(JOIN_SECRET, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(KubeError::from_kube(Step::DeleteJoinSecret, error)),
        }
    }
}

fn parse(secret: &Secret) -> Result<TrustRecord, KubeError> {
    let Some(data) = secret.data.as_ref().filter(|data| !data.is_empty()) else {
        return Ok(TrustRecord::default());
    };
    let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let revision = text(REVISION)
        .and_then(|number| number.parse().ok())
        .ok_or(KubeError::Incomplete { step: Step::ReadTrust, what: "a revision" })?;
    Ok(TrustRecord { hub_id: text(HUB), revision, key_set: text(KEY_SET) })
}

fn data_of(record: &TrustRecord) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, text: &str| {
        data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    put(REVISION, &record.revision.to_string());
    if let Some(hub) = &record.hub_id {
        put(HUB, hub);
    }
    if let Some(key_set) = &record.key_set {
        put(KEY_SET, key_set);
    }
    data
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_record_survives_its_secret_and_a_damaged_one_is_refused() {
        let record =
            TrustRecord { hub_id: Some("h".into()), revision: 7, key_set: Some("a.b.c".into()) };
        let mut secret = Secret { data: Some(data_of(&record)), ..Secret::default() };
        assert_eq!(parse(&secret).unwrap(), record);
        assert_eq!(parse(&Secret::default()).unwrap(), TrustRecord::default());
        secret.data.as_mut().unwrap().remove(REVISION);
        assert!(parse(&secret).is_err());
    }
}
