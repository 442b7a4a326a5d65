//! The form that every object has: `apiVersion`, `kind`, `metadata`, `spec`, `status`, as in Kubernetes.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ClusterSpec, ClusterStatus, FederationSpec, GrantSpec, GroupSpec, LockSpec, ObjectName,
    RoleSpec, Timestamp, UserSpec, UserStatus,
};

/// The one version of our objects.
pub const API_VERSION: &str = "nullius.dev/v1alpha1";

/// The kinds whose home is the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    User,
    Group,
    Cluster,
    Role,
    Grant,
    Lock,
    Federation,
}

/// A kind that the hub does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "kind `{0}` is unknown; the hub keeps User, Group, Cluster, Role, Grant, Lock and Federation"
)]
pub struct UnknownKind(String);

impl Kind {
    /// All kinds, in the order in which objects depend on each other.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Group,
        Self::Cluster,
        Self::Role,
        Self::Grant,
        Self::Lock,
        Self::Federation,
    ];

    /// The kind as it stands in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::Cluster => "Cluster",
            Self::Role => "Role",
            Self::Grant => "Grant",
            Self::Lock => "Lock",
            Self::Federation => "Federation",
        }
    }

    /// The plural as it stands in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Group => "groups",
            Self::Cluster => "clusters",
            Self::Role => "roles",
            Self::Grant => "grants",
            Self::Lock => "locks",
            Self::Federation => "federations",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;
    /// Reads the kind, its plural or its lower-case singular, as on the command line.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let lower = text.to_ascii_lowercase();
        let known = Self::ALL
            .into_iter()
            .find(|kind| lower == kind.plural() || lower == kind.as_str().to_ascii_lowercase());
        known.ok_or_else(|| {
            UnknownKind(text.chars().take(80).flat_map(char::escape_debug).collect())
        })
    }
}

/// What every object says of itself. The hub sets all but name, labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// Unique within the kind.
    pub name: ObjectName,
    /// Set at creation, never reused; a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Grows by one with each change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Changes with each write; sent back in an update, it makes the update fail when somebody else was faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// For selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and tools; never part of a decision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ObjectMeta {
    /// Metadata of a new object that has only a name.
    pub fn named(name: ObjectName) -> Self {
        Self {
            name,
            uid: None,
            generation: None,
            resource_version: None,
            creation_timestamp: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// An object of one kind, spec `S` and status `T`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S, T = ()> {
    /// Name, labels and what the hub keeps about it.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: S,
    /// What is; written by the hub alone.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub status: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

/// An object of any kind of the hub, as it stands in files and on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyObject {
    User(Object<UserSpec, UserStatus>),
    Group(Object<GroupSpec>),
    Cluster(Object<ClusterSpec, ClusterStatus>),
    Role(Object<RoleSpec>),
    Grant(Object<GrantSpec>),
    Lock(Object<LockSpec>),
    Federation(Object<FederationSpec>),
}

impl AnyObject {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::User(_) => Kind::User,
            Self::Group(_) => Kind::Group,
            Self::Cluster(_) => Kind::Cluster,
            Self::Role(_) => Kind::Role,
            Self::Grant(_) => Kind::Grant,
            Self::Lock(_) => Kind::Lock,
            Self::Federation(_) => Kind::Federation,
        }
    }

    /// The metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::User(object) => &object.metadata,
            Self::Group(object) => &object.metadata,
            Self::Cluster(object) => &object.metadata,
            Self::Role(object) => &object.metadata,
            Self::Grant(object) => &object.metadata,
            Self::Lock(object) => &object.metadata,
            Self::Federation(object) => &object.metadata,
        }
    }

    /// The metadata, to change.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::User(object) => &mut object.metadata,
            Self::Group(object) => &mut object.metadata,
            Self::Cluster(object) => &mut object.metadata,
            Self::Role(object) => &mut object.metadata,
            Self::Grant(object) => &mut object.metadata,
            Self::Lock(object) => &mut object.metadata,
            Self::Federation(object) => &mut object.metadata,
        }
    }

    /// The name.
    pub fn name(&self) -> &ObjectName {
        &self.metadata().name
    }

    /// Reads `metadata`, `spec` and `status` as an object of a kind; the error names the field.
    pub fn from_parts<'de, D>(kind: Kind, body: D) -> Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        Ok(match kind {
            Kind::User => Self::User(Object::deserialize(body)?),
            Kind::Group => Self::Group(Object::deserialize(body)?),
            Kind::Cluster => Self::Cluster(Object::deserialize(body)?),
            Kind::Role => Self::Role(Object::deserialize(body)?),
            Kind::Grant => Self::Grant(Object::deserialize(body)?),
            Kind::Lock => Self::Lock(Object::deserialize(body)?),
            Kind::Federation => Self::Federation(Object::deserialize(body)?),
        })
    }
}

impl Serialize for AnyObject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Tagged<'a, T> {
            api_version: &'static str,
            kind: &'static str,
            #[serde(flatten)]
            object: &'a T,
        }
        fn tagged<T: Serialize, S: serde::Serializer>(
            kind: Kind,
            object: &T,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            Tagged { api_version: API_VERSION, kind: kind.as_str(), object }.serialize(serializer)
        }
        match self {
            Self::User(object) => tagged(Kind::User, object, serializer),
            Self::Group(object) => tagged(Kind::Group, object, serializer),
            Self::Cluster(object) => tagged(Kind::Cluster, object, serializer),
            Self::Role(object) => tagged(Kind::Role, object, serializer),
            Self::Grant(object) => tagged(Kind::Grant, object, serializer),
            Self::Lock(object) => tagged(Kind::Lock, object, serializer),
            Self::Federation(object) => tagged(Kind::Federation, object, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut map = serde_json::Map::deserialize(deserializer)?;
        let mut text = |key: &str| match map.remove(key) {
            Some(serde_json::Value::String(text)) => Ok(text),
            Some(_) => Err(D::Error::custom(format!("`{key}` must be a string"))),
            None => Err(D::Error::custom(format!("`{key}` is missing"))),
        };
        let version = text("apiVersion")?;
        let kind: Kind = text("kind")?.parse().map_err(D::Error::custom)?;
        if version != API_VERSION {
            let shown: String = version.chars().take(80).flat_map(char::escape_debug).collect();
            return Err(D::Error::custom(format!(
                "apiVersion `{shown}` is unknown; use `{API_VERSION}`"
            )));
        }
        Self::from_parts(kind, serde_json::Value::Object(map)).map_err(D::Error::custom)
    }
}

/// A conversion between one kind's object and [`AnyObject`].
macro_rules! conversions {
    ($($kind:ident, $spec:ty, $status:ty;)*) => {$(
        impl From<Object<$spec, $status>> for AnyObject {
            fn from(object: Object<$spec, $status>) -> Self {
                Self::$kind(object)
            }
        }
    )*};
}
conversions! {
    User, UserSpec, UserStatus;
    Group, GroupSpec, ();
    Cluster, ClusterSpec, ClusterStatus;
    Role, RoleSpec, ();
    Grant, GrantSpec, ();
    Lock, LockSpec, ();
    Federation, FederationSpec, ();
}

/// Proof at compile time that every object type can be read from a wire that owns its data.
const _: fn() = || {
    fn owned<T: DeserializeOwned>() {}
    owned::<AnyObject>();
};
