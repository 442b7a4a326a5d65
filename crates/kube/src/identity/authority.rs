//! The Secret of the cluster's authority for workloads, which only the account of `agent identity` may read.

use secrecy::{ExposeSecret as _, SecretSlice};

use crate::{
    IDENTITY_SECRET,
    rotation::{Fields, Rotation, RotationStore, Slot},
};

/// One authority: the keys, and once the hub has certified them what it signed.
#[derive(Debug, Clone)]
pub struct IdentityGeneration {
    /// The key that signs X.509-SVIDs, PKCS#8.
    pub key: SecretSlice<u8>,
    /// The key that signs JWT-SVIDs, PKCS#8.
    pub jwt_key: SecretSlice<u8>,
    /// Whether somebody asked for it, so that what was issued before is issued anew.
    pub is_forced: bool,
    /// SVIDs that were issued before are to be renewed at once: seconds of Unix time.
    pub reissue_before: Option<i64>,
    /// What makes it an authority.
    pub certified: Option<Certified>,
}

/// What the hub signed, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// By the workload root, PEM.
    pub certificate_pem: String,
    /// By itself: what bundles hold, PEM.
    pub anchor_pem: String,
    /// The workload root, PEM.
    pub root_pem: String,
}

/// The authorities of a cluster.
pub type IdentityRecord = Rotation<IdentityGeneration>;
/// Reads and writes them.
pub type IdentityStore = RotationStore<IdentityGeneration>;

impl Slot for IdentityGeneration {
    const SECRET: &'static str = IDENTITY_SECRET;

    fn read(fields: &Fields<'_>) -> Result<Option<Self>, &'static str> {
        let Some(key) = fields.bytes("key") else { return Ok(None) };
        let jwt_key = fields.bytes("jwt-key").ok_or("a key for tokens")?;
        let number = |name| fields.text(name).map(|text| text.parse::<i64>()).transpose();
        let certified = match fields.text("crt") {
            None => None,
            Some(certificate_pem) => Some(Certified {
                certificate_pem,
                anchor_pem: fields.text("anchor").ok_or("an anchor")?,
                root_pem: fields.text("root").ok_or("a root")?,
            }),
        };
        Ok(Some(Self {
            key: SecretSlice::from(key.to_vec()),
            jwt_key: SecretSlice::from(jwt_key.to_vec()),
            is_forced: fields.bytes("forced").is_some(),
            reissue_before: number("reissue-before").map_err(|_| "a time")?,
            certified,
        }))
    }

    fn write(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![
            ("key", self.key.expose_secret().to_vec()),
            ("jwt-key", self.jwt_key.expose_secret().to_vec()),
        ];
        if self.is_forced {
            fields.push(("forced", b"yes".to_vec()));
        }
        if let Some(before) = self.reissue_before {
            fields.push(("reissue-before", before.to_string().into_bytes()));
        }
        if let Some(Certified { certificate_pem, anchor_pem, root_pem }) = &self.certified {
            let parts = [("crt", certificate_pem), ("anchor", anchor_pem), ("root", root_pem)];
            fields.extend(parts.map(|(name, pem)| (name, pem.clone().into_bytes())));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use k8s_openapi::api::core::v1::Secret;

    use super::*;
    use crate::rotation::{data_of, parse};

    #[test]
    fn authorities_survive_their_secret_and_half_of_one_is_refused() {
        let certified = Certified {
            certificate_pem: "signed".to_owned(),
            anchor_pem: "itself".to_owned(),
            root_pem: "root".to_owned(),
        };
        let generation = |certified, is_forced| IdentityGeneration {
            key: SecretSlice::from(vec![1]),
            jwt_key: SecretSlice::from(vec![2]),
            is_forced,
            reissue_before: is_forced.then_some(7),
            certified,
        };
        let record = IdentityRecord {
            current: Some(generation(Some(certified.clone()), true)),
            next: Some(generation(None, false)),
            ..IdentityRecord::default()
        };
        let secret = Secret { data: Some(data_of(&record)), ..Secret::default() };
        let read = parse::<IdentityGeneration>(secret.clone()).unwrap();
        let (current, next) = (read.current.unwrap(), read.next.unwrap());
        assert_eq!((current.certified, current.reissue_before), (Some(certified), Some(7)));
        assert!(current.is_forced && !next.is_forced && read.previous.is_none());
        assert_eq!((next.certified, next.jwt_key.expose_secret()), (None, [2].as_slice()));
        for half in ["current.jwt-key", "current.anchor", "current.root"] {
            let mut secret = secret.clone();
            secret.data.as_mut().unwrap().remove(half);
            assert!(parse::<IdentityGeneration>(secret).is_err(), "{half}");
        }
    }
}
