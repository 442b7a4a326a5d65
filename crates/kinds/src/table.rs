//! The field table: every kind that the API server serves, its types, and what is known of each field.
//!
//! The text is made by `cargo xtask generate`; it is read when the first kind is asked for.

mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;

use crate::{decode::nearest_name, rules::Rules};

/// All kinds of one Kubernetes version.
#[derive(Debug, Default)]
pub struct Table {
    version: &'static str,
    /// By apiVersion and name.
    kinds: BTreeMap<&'static str, BTreeMap<&'static str, Kind>>,
    gone: BTreeMap<&'static str, BTreeSet<&'static str>>,
    types: Vec<Type>,
}

/// A kind that can be sent to an API server.
#[derive(Debug)]
pub struct Kind {
    /// `apps/v1`.
    pub api_version: &'static str,
    /// `Deployment`.
    pub name: &'static str,
    /// Where it is sent: `deployments`, or `pods/eviction`.
    pub resource: &'static str,
    /// Whether its objects live in namespaces.
    pub scope: Scope,
    pub(crate) root: usize,
}

/// Where the objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the cluster as a whole.
    Cluster,
    /// In a namespace.
    Namespaced,
}

/// A structure with named fields.
#[derive(Debug)]
pub struct Type {
    /// Its name in Kubernetes' code, such as `core/v1.Container`.
    pub name: &'static str,
    /// How server-side apply merges it.
    pub merge: MapMerge,
    /// By name.
    pub(crate) fields: Vec<Field>,
    pub(crate) rules: Rules,
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// When it stands in JSON.
    pub written: Written,
    /// The only values that it may have; empty if any may.
    pub values: Vec<&'static str>,
    /// How server-side apply merges a list.
    pub list: ListMerge,
    /// How server-side apply merges a mapping.
    pub map: MapMerge,
    /// How a strategic merge patch treats it.
    pub patch: Patch,
    pub(crate) shape: ShapeId,
    /// Whether Go tells missing from empty.
    pub(crate) is_pointer: bool,
    pub(crate) default: Option<Value>,
    /// Whether more than a plain default changes it, which is code of [`crate::rules`].
    pub(crate) has_rule: bool,
}

/// When a field stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// If it is not empty; structures always.
    NotEmpty,
    /// If it is not empty; structures neither.
    NotZero,
    /// Always.
    Always,
}

/// How lists merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMerge {
    /// As one value.
    Atomic,
    /// As a set of values.
    Set,
    /// By the values of these fields of its items.
    Map(Vec<&'static str>),
}

/// How mappings and structures merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapMerge {
    /// Field by field.
    Granular,
    /// As one value.
    Atomic,
}

/// How a strategic merge patch treats a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// It takes the place of what stands.
    Replace,
    /// It is merged, the items of a list by this field, or as values.
    Merge {
        /// The field of its items.
        key: Option<&'static str>,
        /// Whether fields that are not named go.
        retain: Retain,
    },
}

/// What a strategic merge patch does with the fields that it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retain {
    /// They stay.
    All,
    /// Only those that are named stay.
    Keys,
}

/// What values of a field are.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'t> {
    /// A structure.
    Struct(&'t Type),
    /// A list of such values.
    List(Item<'t>),
    /// Such values by key.
    Map(Item<'t>),
    /// A single value, or JSON of any shape.
    Scalar(Scalar),
}

/// Which single values a field has, as server-side apply tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// True or false.
    Truth,
    /// Numbers.
    Number,
    /// Text.
    Text,
    /// Any of these: amounts, times, a number or text.
    Any,
    /// JSON of any shape.
    Raw,
}

/// What OpenAPI says of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `boolean`.
    Boolean,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `string`.
    Text,
    /// `string` of octets.
    Bytes,
    /// `string` of a point in time.
    Time,
    /// An `integer` or a `string`.
    IntOrString,
    /// An amount: a `number` or a `string`, which has no type of its own.
    Quantity,
    /// JSON of any shape.
    Raw,
}

/// What stands in a list or a mapping.
#[derive(Debug, Clone, Copy)]
pub struct Item<'t> {
    table: &'t Table,
    shape: &'t ShapeId,
}

/// A shape whose types are indices.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ShapeId {
    Bool,
    Integer {
        least: i128,
        most: i128,
    },
    Float,
    Text,
    Bytes,
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    Raw,
    /// JSON of any shape that goes through the version in memory.
    Json,
    /// A value of a shape, or a structure.
    Either(Box<[ShapeId; 2]>),
    Struct(usize),
    List(Box<ShapeId>),
    Map(Box<ShapeId>),
}

static BUILTIN: LazyLock<Table> =
    LazyLock::new(|| read::table(include_str!("table.txt")).unwrap_or_default());

impl Table {
    /// Kubernetes' own kinds.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The version of Kubernetes that it describes: `v1.36.3`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The kinds in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values().flat_map(BTreeMap::values)
    }

    /// A kind, if it is one of Kubernetes' own that is served.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.kinds.get(api_version)?.get(kind)
    }

    /// Whether Kubernetes knows the kind and does not serve it in this version any more.
    pub fn is_gone(&self, api_version: &str, kind: &str) -> bool {
        self.gone.get(api_version).is_some_and(|kinds| kinds.contains(kind))
    }

    /// Whether no API server takes a kind of this name: what it would be in is Kubernetes' own, and there is no such kind.
    /// Of a group of Kubernetes, clusters may define versions that it does not have, and kinds in them of other names.
    pub fn refuses(&self, api_version: &str, kind: &str) -> bool {
        let group = group_of(api_version);
        let is_named =
            || self.kinds().any(|own| own.name == kind && group_of(own.api_version) == group);
        self.kind(api_version, kind).is_none()
            && !self.is_gone(api_version, kind)
            && (group.is_empty() || self.kinds.contains_key(api_version) || is_named())
    }

    /// The kind that was probably meant: of this name elsewhere, or of a name that is like it, here first.
    pub fn meant(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let is_beta = |known: &&Kind| {
            known.api_version.contains("alpha") || known.api_version.contains("beta")
        };
        let elsewhere = self.kinds().filter(|known| known.name == kind);
        let here = || {
            let kinds = self.kinds.get(api_version)?;
            kinds.get(nearest_name(kinds.keys().copied(), kind)?)
        };
        let alike = || {
            let name = nearest_name(self.kinds().map(|known| known.name), kind)?;
            self.kinds().filter(|known| known.name == name).min_by_key(is_beta)
        };
        elsewhere.min_by_key(is_beta).or_else(here).or_else(alike)
    }

    /// The type of a kind.
    pub fn root(&self, kind: &Kind) -> Option<&Type> {
        self.types.get(kind.root)
    }

    /// The types in the order of their names.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// What values of a field are.
    pub fn shape<'t>(&'t self, field: &'t Field) -> Shape<'t> {
        self.shape_at(&field.shape)
    }

    /// What OpenAPI says of a field that holds a single value.
    pub fn format(&self, field: &Field) -> Option<Format> {
        field.shape.format()
    }

    pub(crate) fn shape_at<'t>(&'t self, shape: &'t ShapeId) -> Shape<'t> {
        match shape {
            ShapeId::Struct(index) => {
                self.types.get(*index).map_or(Shape::Scalar(Scalar::Raw), Shape::Struct)
            }
            ShapeId::List(shape) => Shape::List(Item { table: self, shape }),
            ShapeId::Map(shape) => Shape::Map(Item { table: self, shape }),
            ShapeId::Bool => Shape::Scalar(Scalar::Truth),
            ShapeId::Integer { .. } | ShapeId::Float => Shape::Scalar(Scalar::Number),
            ShapeId::Text | ShapeId::Bytes | ShapeId::Duration => Shape::Scalar(Scalar::Text),
            ShapeId::Quantity | ShapeId::Time | ShapeId::MicroTime | ShapeId::IntOrString => {
                Shape::Scalar(Scalar::Any)
            }
            ShapeId::Raw | ShapeId::Json | ShapeId::Either(_) => Shape::Scalar(Scalar::Raw),
        }
    }
}

impl<'t> Item<'t> {
    /// What it is.
    pub fn shape(self) -> Shape<'t> {
        self.table.shape_at(self.shape)
    }

    /// What OpenAPI says of it, if it is a single value.
    pub fn format(self) -> Option<Format> {
        self.shape.format()
    }
}

impl ShapeId {
    fn format(&self) -> Option<Format> {
        Some(match self {
            Self::Bool => Format::Boolean,
            Self::Integer { .. } => Format::Integer,
            Self::Float => Format::Number,
            Self::Text | Self::Duration => Format::Text,
            Self::Bytes => Format::Bytes,
            Self::Time | Self::MicroTime => Format::Time,
            Self::IntOrString => Format::IntOrString,
            Self::Quantity => Format::Quantity,
            Self::Raw | Self::Json | Self::Either(_) => Format::Raw,
            Self::Struct(_) | Self::List(_) | Self::Map(_) => return None,
        })
    }
}

impl Type {
    /// A field by its name in JSON.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// Its fields by name.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

impl Field {
    /// Whether a value is of the field's type; `null` always is.
    pub fn takes(&self, value: &Value) -> bool {
        let mut decoder = crate::decode::Decoder::new(Table::builtin());
        decoder.value_of(self, value);
        decoder.faults.iter().all(crate::Fault::is_dropped)
    }

    /// Whether its rule is that amounts are rounded, which needs nothing else to be known.
    pub(crate) fn is_rounded(&self) -> bool {
        self.has_rule && self.shape == ShapeId::Map(Box::new(ShapeId::Quantity))
    }

    /// What stands where it is missing, whatever else does.
    pub fn default(&self) -> Option<&Value> {
        self.default.as_ref()
    }
}

/// `apps` of `apps/v1`; empty for the core.
fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

    use super::*;

    #[test]
    fn the_table_can_be_read_and_its_rules_are_those_that_are_written() {
        let table = read::table(include_str!("table.txt")).unwrap();
        let flagged: BTreeSet<String> = table
            .types
            .iter()
            .flat_map(|of| of.fields.iter().map(move |field| (of, field)))
            .filter(|(_, field)| field.has_rule && !field.is_rounded())
            .map(|(of, field)| format!("{}.{}", of.name, field.name))
            .collect();
        let written: BTreeSet<String> = crate::rules::covered().collect();
        let missing: Vec<_> = flagged.difference(&written).collect();
        let needless: Vec<_> = written.difference(&flagged).collect();
        assert!(
            missing.is_empty() && needless.is_empty(),
            "missing {missing:#?}, needless {needless:#?}"
        );
    }

    #[test]
    fn containers_merge_by_name_and_selectors_as_one() {
        let table = Table::builtin();
        let pod = table.root(table.kind("v1", "Pod").unwrap()).unwrap();
        let Shape::Struct(spec) = table.shape(pod.field("spec").unwrap()) else { panic!("spec") };
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list, ListMerge::Map(vec!["name"]));
        assert_eq!(containers.patch, Patch::Merge { key: Some("name"), retain: Retain::All });
        let Shape::List(item) = table.shape(containers) else { panic!("containers") };
        let Shape::Struct(container) = item.shape() else { panic!("a container") };
        assert_eq!(container.name, "core/v1.Container");
        let ports = container.field("ports").unwrap();
        assert_eq!(ports.list, ListMerge::Map(vec!["containerPort", "protocol"]));
        assert_eq!(container.field("command").unwrap().list, ListMerge::Atomic);
        assert_eq!(spec.field("nodeSelector").unwrap().map, MapMerge::Atomic);
        let deployment = table.root(table.kind("apps/v1", "Deployment").unwrap()).unwrap();
        let Shape::Struct(spec) = table.shape(deployment.field("spec").unwrap()) else {
            panic!("spec")
        };
        let Shape::Struct(selector) = table.shape(spec.field("selector").unwrap()) else {
            panic!("selector")
        };
        assert_eq!(selector.merge, MapMerge::Atomic);
        assert!(
            table.is_gone("apps/v1beta1", "Deployment") && !table.is_gone("apps/v1", "Deployment")
        );
    }
    #[test]
    fn a_wrong_kind_of_a_group_of_kubernetes_is_refused_and_the_near_one_is_known() {
        let table = Table::builtin();
        let told = |api_version: &str, kind: &str| {
            let meant = table.meant(api_version, kind);
            let meant = meant.map(|meant| format!("{} {}", meant.api_version, meant.name));
            (table.refuses(api_version, kind), meant.unwrap_or_default())
        };
        assert_eq!(told("v1", "pod"), (true, "v1 Pod".to_owned()));
        assert_eq!(told("apps/v1", "Deploymnt"), (true, "apps/v1 Deployment".to_owned()));
        assert_eq!(told("v1", "Deployment"), (true, "apps/v1 Deployment".to_owned()));
        assert_eq!(told("v1", "Deploymnt"), (true, "apps/v1 Deployment".to_owned()));
        assert_eq!(told("apps", "Deployment"), (true, "apps/v1 Deployment".to_owned()));
        assert_eq!(told("apps/v1", "Cake"), (true, String::new()));
        let scaler = "HorizontalPodAutoscaler";
        assert!(told("autoscaling/v2beta2", scaler).0);
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("apps/v1beta1", "Deployment"),
            ("example.com/v1", "pod"),
            ("gateway.networking.k8s.io/v1", "Gateway"),
            ("apps/v9", "Cake"),
        ] {
            assert!(!table.refuses(api_version, kind), "{api_version} {kind}");
        }
    }
}
