//! A Secret in which an authority is replaced in steps: what signs, what will, what did, each with its key.
//!
//! The Secret stands already, made by the join manifest without content. Whoever keeps a record writes the version that was read and
//! no other.

use std::{collections::BTreeMap, marker::PhantomData};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use serde_json::Value;

use crate::{ApiServer, ConnectError, Credential, KubeError, SYSTEM_NAMESPACE, Step};

/// Who asks for another authority writes something new under this annotation.
pub const ROTATE: &str = "nullius.dev/rotate";
const SINCE: &str = "since";
const SEQUENCE: &str = "sequence";
const ROTATED: &str = "rotated";
const ORDERED: &str = "ordered";
const BESIDE: &str = "beside";

/// One authority, as it stands in a Secret.
pub trait Slot: Sized {
    /// The Secret's name.
    const SECRET: &'static str;

    /// Reads it; nothing where the slot is empty.
    ///
    /// # Errors
    ///
    /// What is missing of it.
    fn read(fields: &Fields<'_>) -> Result<Option<Self>, &'static str>;

    /// Its fields.
    fn write(&self) -> Vec<(&'static str, Vec<u8>)>;
}

/// What stands of one slot.
pub struct Fields<'a> {
    data: &'a BTreeMap<String, ByteString>,
    slot: &'static str,
}

impl Fields<'_> {
    /// A field.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.data.get(&format!("{}.{name}", self.slot)).map(|bytes| bytes.0.as_slice())
    }

    /// A field that is text.
    pub fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.bytes(name)?.to_vec()).ok()
    }
}

/// Authorities: the one that signs, the one that will, the one that did.
#[derive(Debug, Clone)]
pub struct Rotation<S> {
    /// What signs now; none before the first start.
    pub current: Option<S>,
    /// What will sign, once everybody believes it.
    pub next: Option<S>,
    /// What signed before, until nobody uses it any more.
    pub previous: Option<S>,
    /// When this step began, in seconds of Unix time, by the clock of whoever wrote it.
    pub since: i64,
    /// Which step it is: grows with each, whatever clocks say.
    pub sequence: u64,
    /// Which wish for another authority was fulfilled last.
    pub rotated: String,
    /// The present wish.
    pub wish: String,
    /// The highest revision of an order of the hub that was taken; none is taken again.
    pub ordered: u64,
    /// What stands beside the authorities, for whoever follows the Secret; empty where nothing does.
    pub beside: String,
    pub(crate) version: Option<String>,
}

impl<S> Default for Rotation<S> {
    fn default() -> Self {
        Self {
            current: None,
            next: None,
            previous: None,
            since: 0,
            sequence: 0,
            rotated: String::new(),
            wish: String::new(),
            ordered: 0,
            beside: String::new(),
            version: None,
        }
    }
}

impl<S> Rotation<S> {
    /// The authorities that stand there, the one that signs first.
    pub fn generations(&self) -> impl Iterator<Item = &S> {
        [&self.current, &self.next, &self.previous].into_iter().flatten()
    }
}

/// Reads and writes it.
pub struct RotationStore<S> {
    secrets: Api<Secret>,
    slots: PhantomData<fn() -> S>,
}

impl<S> Clone for RotationStore<S> {
    fn clone(&self) -> Self {
        Self { secrets: self.secrets.clone(), slots: PhantomData }
    }
}

impl<S: Slot> RotationStore<S> {
    /// With the credential of whoever may.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        let secrets = Api::namespaced(server.client(credential)?, SYSTEM_NAMESPACE);
        Ok(Self { secrets, slots: PhantomData })
    }

    /// What is kept.
    pub async fn load(&self) -> Result<Rotation<S>, KubeError> {
        let secret = self.secrets.get(S::SECRET).await;
        parse(secret.map_err(KubeError::at(Step::ReadAuthority))?)
    }

    /// What is kept, as a watch saw it.
    pub fn read(object: &Value) -> Result<Rotation<S>, KubeError> {
        let secret: Result<Secret, _> = serde_json::from_value(object.clone());
        parse(secret.map_err(|_| lacks("a Secret"))?)
    }

    /// Keeps a record; false where somebody else wrote since it was read.
    pub async fn keep(&self, record: &Rotation<S>) -> Result<bool, KubeError> {
        let secret = self.secrets.get(S::SECRET).await;
        let mut secret = secret.map_err(KubeError::at(Step::ReadAuthority))?;
        if secret.metadata.resource_version != record.version {
            return Ok(false);
        }
        secret.data = Some(data_of(record));
        if !record.wish.is_empty() {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(ROTATE.to_owned(), record.wish.clone());
        }
        match self.secrets.replace(S::SECRET, &PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(KubeError::from_kube(Step::WriteAuthority, error)),
        }
    }
}

fn lacks(what: &'static str) -> KubeError {
    KubeError::Incomplete { step: Step::ReadAuthority, what }
}

pub(crate) fn parse<S: Slot>(mut secret: Secret) -> Result<Rotation<S>, KubeError> {
    let data = secret.data.take().unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let slot = |slot| S::read(&Fields { data: &data, slot }).map_err(lacks);
    let annotations = secret.metadata.annotations.unwrap_or_default();
    let since: i64 = text(SINCE).and_then(|number| number.parse().ok()).unwrap_or_default();
    Ok(Rotation {
        current: slot("current")?,
        next: slot("next")?,
        previous: slot("previous")?,
        since,
        // Before there was one, steps were numbered by their time.
        sequence: text(SEQUENCE)
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| u64::try_from(since).unwrap_or_default()),
        rotated: text(ROTATED).unwrap_or_default(),
        wish: annotations.get(ROTATE).cloned().unwrap_or_default(),
        ordered: text(ORDERED).and_then(|number| number.parse().ok()).unwrap_or_default(),
        beside: text(BESIDE).unwrap_or_default(),
        version: secret.metadata.resource_version,
    })
}

pub(crate) fn data_of<S: Slot>(record: &Rotation<S>) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::new();
    let slots =
        [("current", &record.current), ("next", &record.next), ("previous", &record.previous)];
    for (slot, generation) in slots {
        let fields = generation.iter().flat_map(Slot::write);
        data.extend(fields.map(|(name, bytes)| (format!("{slot}.{name}"), ByteString(bytes))));
    }
    data.insert(SINCE.to_owned(), ByteString(record.since.to_string().into_bytes()));
    data.insert(SEQUENCE.to_owned(), ByteString(record.sequence.to_string().into_bytes()));
    data.insert(ROTATED.to_owned(), ByteString(record.rotated.clone().into_bytes()));
    if record.ordered > 0 {
        data.insert(ORDERED.to_owned(), ByteString(record.ordered.to_string().into_bytes()));
    }
    if !record.beside.is_empty() {
        data.insert(BESIDE.to_owned(), ByteString(record.beside.clone().into_bytes()));
    }
    data
}
