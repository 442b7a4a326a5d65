//! The Secret of the webhook's authority, which only the account of `agent admission` may read.

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::{
    ADMISSION_SECRET,
    rotation::{Fields, Rotation, RotationStore, Slot},
};

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

/// The webhook's authorities.
pub type AuthorityRecord = Rotation<Generation>;
/// Reads and writes them.
pub type AuthorityStore = RotationStore<Generation>;

impl Slot for Generation {
    const SECRET: &'static str = ADMISSION_SECRET;

    fn read(fields: &Fields<'_>) -> Result<Option<Self>, &'static str> {
        let Some(certificate_pem) = fields.text("crt") else { return Ok(None) };
        let key = fields.bytes("key").ok_or("a key")?;
        let path = fields.text("path").filter(|path| path.len() >= 32).ok_or("a path")?;
        let (key, path) = (SecretSlice::from(key.to_vec()), SecretString::from(path));
        Ok(Some(Self { certificate_pem, key, path }))
    }

    fn write(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("crt", self.certificate_pem.clone().into_bytes()),
            ("key", self.key.expose_secret().to_vec()),
            ("path", self.path.expose_secret().as_bytes().to_vec()),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use k8s_openapi::{ByteString, api::core::v1::Secret};

    use super::*;
    use crate::rotation::{data_of, parse};

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
        let parse = parse::<Generation>;
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
