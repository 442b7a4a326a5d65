//! Checkpoints: at a moment, the heads of all chains, linked to the checkpoint before and signed.
//!
//! A hash chain shows a change in its middle; a checkpoint kept elsewhere shows a chain that was cut or written anew.

use std::collections::BTreeMap;

use nullius_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ChainId, Digest, Epoch, Head, Writer, canonical_json};

const CHECKPOINT_DOMAIN: &[u8] = b"nullius.dev/audit/checkpoint/v1\0";

/// The heads of all writers at a moment. Older epochs are covered through the links between epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// [`SignedCheckpoint::hash`] of the checkpoint before; [`Digest::ZERO`] for the first.
    pub previous: Digest,
    /// The newest record of each writer.
    pub heads: BTreeMap<ChainId, Head>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    seq: u64,
    at: Timestamp,
    previous: Digest,
    heads: Vec<WireHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireHead {
    writer: Writer,
    epoch: Epoch,
    seq: u64,
    hash: Digest,
}

/// A checkpoint as it is stored: its canonical JSON byte for byte, and the signature over [`Self::signed_bytes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCheckpoint {
    /// The checkpoint as canonical JSON.
    pub body: String,
    /// The signature, hexadecimal in text.
    #[serde(with = "hex_bytes")]
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// The canonical JSON.
    pub fn to_body(&self) -> Result<String, serde_json::Error> {
        let heads = self.heads.iter().map(|(chain, head)| WireHead {
            writer: chain.writer.clone(),
            epoch: chain.epoch,
            seq: head.seq,
            hash: head.hash,
        });
        canonical_json(&Wire {
            seq: self.seq,
            at: self.at,
            previous: self.previous,
            heads: heads.collect(),
        })
    }
}

impl SignedCheckpoint {
    /// Signs a checkpoint with a closure that holds the key.
    pub fn sign<E>(
        checkpoint: &Checkpoint,
        signer: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E>
    where
        E: From<serde_json::Error>,
    {
        let body = checkpoint.to_body()?;
        let signature = signer(&signed_bytes(&body))?;
        Ok(Self { body, signature })
    }

    /// The bytes that the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(&self.body)
    }

    /// The hash that the next checkpoint names as `previous`; it covers the signature.
    pub fn hash(&self) -> Digest {
        Digest::over(CHECKPOINT_DOMAIN, &[self.body.as_bytes(), &self.signature])
    }

    /// Reads the checkpoint; says nothing about its signature.
    pub fn checkpoint(&self) -> Result<Checkpoint, serde_json::Error> {
        let wire: Wire = serde_json::from_str(&self.body)?;
        let heads = wire.heads.into_iter().map(|head| {
            let chain = ChainId { writer: head.writer, epoch: head.epoch };
            (chain, Head { seq: head.seq, hash: head.hash })
        });
        Ok(Checkpoint {
            seq: wire.seq,
            at: wire.at,
            previous: wire.previous,
            heads: heads.collect(),
        })
    }
}

fn signed_bytes(body: &str) -> Vec<u8> {
    [CHECKPOINT_DOMAIN, body.as_bytes()].concat()
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}
