//! The Secret of the webhook's authority, which only the account of `agent admission` may read.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde_json::Value;

use crate::{
    ADMISSION_SECRET, ApiServer, ConnectError, Credential, KubeError, SYSTEM_NAMESPACE, Step,
};

/// Who asks for another authority writes something new under this annotation.
const ROTATE: &str = "nullius.dev/rotate";
const SINCE: &str = "since";
const ROTATED: &str = "rotated";

/// One authority with the secret part of the webhook's path.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Its certificate in PEM.
    pub certificate_pem: String,
    /// Its key, PKCS#8.
    pub key: SecretSlice<u8>,
    /// The part of the webhook's path that strangers do not know.
    pub path: SecretString,
}

/// Authorities: the one that signs, the one that will, the one that did.
#[derive(Debug, Clone, Default)]
pub struct AuthorityRecord {
    /// What signs now; none before the first start.
    pub current: Option<Generation>,
    /// What will sign, once every API server believes it.
    pub next: Option<Generation>,
    /// What signed before, until nobody uses it any more.
    pub previous: Option<Generation>,
    /// When this step began, in seconds of Unix time.
    pub since: i64,
    /// Which wish for another authority was fulfilled last.
    pub rotated: String,
    /// The present wish.
    pub wish: String,
    version: Option<String>,
}

impl AuthorityRecord {
    /// The authorities that are believed, the one that signs first.
    pub fn generations(&self) -> impl Iterator<Item = &Generation> {
        [&self.current, &self.next, &self.previous].into_iter().flatten()
    }
}

/// Reads and writes it.
#[derive(Clone)]
pub struct AuthorityStore {
    secrets: Api<Secret>,
}

impl AuthorityStore {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { secrets: Api::namespaced(server.client(credential)?, SYSTEM_NAMESPACE) })
    }

    /// What is kept.
    pub async fn load(&self) -> Result<AuthorityRecord, KubeError> {
        let secret = self.secrets.get(ADMISSION_SECRET).await;
        parse(secret.map_err(KubeError::at(Step::ReadAuthority))?)
    }

    /// What is kept, as a watch saw it.
    pub fn read(object: &Value) -> Result<AuthorityRecord, KubeError> {
        let secret: Result<Secret, _> = serde_json::from_value(object.clone());
        parse(secret.map_err(|_| lacks("a Secret"))?)
    }

    /// Keeps a record; false where somebody else wrote since it was read.
    pub async fn keep(&self, record: &AuthorityRecord) -> Result<bool, KubeError> {
        let secret = self.secrets.get(ADMISSION_SECRET).await;
        let mut secret = secret.map_err(KubeError::at(Step::ReadAuthority))?;
        if secret.metadata.resource_version != record.version {
            return Ok(false);
        }
        secret.data = Some(data_of(record));
        match self.secrets.replace(ADMISSION_SECRET, &PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(KubeError::from_kube(Step::WriteAuthority, error)),
        }
    }
}

fn lacks(what: &'static str) -> KubeError {
    KubeError::Incomplete { step: Step::ReadAuthority, what }
}

fn parse(mut secret: Secret) -> Result<AuthorityRecord, KubeError> {
    let data = secret.data.take().unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let generation = |slot: &str| {
        let Some(certificate_pem) = text(&format!("{slot}.crt")) else { return Ok(None) };
        let key = data.get(&format!("{slot}.key")).ok_or_else(|| lacks("a key"))?;
        let path = text(&format!("{slot}.path")).filter(|path| path.len() >= 32);
        let path = SecretString::from(path.ok_or_else(|| lacks("a path"))?);
        let key = SecretSlice::from(key.0.clone());
        Ok::<_, KubeError>(Some(Generation { certificate_pem, key, path }))
    };
    let annotations = secret.metadata.annotations.unwrap_or_default();
    Ok(AuthorityRecord {
        current: generation("current")?,
        next: generation("next")?,
        previous: generation("previous")?,
        since: text(SINCE).and_then(|number| number.parse().ok()).unwrap_or_default(),
        rotated: text(ROTATED).unwrap_or_default(),
        wish: annotations.get(ROTATE).cloned().unwrap_or_default(),
        version: secret.metadata.resource_version,
    })
}

fn data_of(record: &AuthorityRecord) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::new();
    let slots =
        [("current", &record.current), ("next", &record.next), ("previous", &record.previous)];
    for (slot, generation) in slots {
        let Some(generation) = generation else { continue };
        let mut put = |what: &str, bytes: &[u8]| {
            data.insert(format!("{slot}.{what}"), ByteString(bytes.to_vec()));
        };
        put("crt", generation.certificate_pem.as_bytes());
        put("key", generation.key.expose_secret());
        put("path", generation.path.expose_secret().as_bytes());
    }
    data.insert(SINCE.to_owned(), ByteString(record.since.to_string().into_bytes()));
    data.insert(ROTATED.to_owned(), ByteString(record.rotated.clone().into_bytes()));
    data
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_record_survives_its_secret_and_half_an_authority_is_refused() {
        let generation = |mark: &str| Generation {
            certificate_pem: format!("pem {mark}"),
            key: SecretSlice::from(vec![1, 2, 3]),
            path: SecretString::from(mark.repeat(40)),
        };
        let record = AuthorityRecord {
            current: Some(generation("a")),
            previous: Some(generation("b")),
            since: 7,
            rotated: "once".to_owned(),
            ..AuthorityRecord::default()
        };
        let mut secret = Secret { data: Some(data_of(&record)), ..Secret::default() };
        let read = parse(secret.clone()).unwrap();
        assert_eq!(read.current.unwrap().certificate_pem, "pem a");
        assert_eq!(read.previous.unwrap().path.expose_secret(), "b".repeat(40));
        assert!(read.next.is_none());
        assert_eq!((read.since, read.rotated.as_str()), (7, "once"));
        assert!(parse(Secret::default()).unwrap().current.is_none());
        for half in ["current.key", "current.path"] {
            let mut secret = secret.clone();
            secret.data.as_mut().unwrap().remove(half);
            assert!(parse(secret).is_err(), "{half}");
        }
        secret
            .data
            .as_mut()
            .unwrap()
            .insert("current.path".to_owned(), ByteString(b"short".to_vec()));
        assert!(parse(secret).is_err());
    }
}
