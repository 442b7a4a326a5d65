//! What is known of kinds: Kubernetes' own by its field table, others by the definitions of a state.

use std::{collections::BTreeMap, sync::LazyLock};

use nullius_kinds as kinds;
use nullius_policy::admission_policy::{
    Equivalent, Existence, Kind, Kinds, Resource,
    shape::{Atom, Field, ListMerge, ListShape, MapMerge, MapShape, Scalar, Schemas, TypeRef},
};
use serde_json::Value as Json;

use super::{Place, autoscaling, definitions::Definitions};

/// Kubernetes' own kinds and those of a state; its own come first, as in an API server.
pub(crate) struct Known<'a> {
    pub(super) definitions: &'a Definitions,
    /// Whether the state holds every definition: what it does not define does not exist.
    pub(super) is_complete: bool,
}

/// Kubernetes' own kinds that an API server serves, by resource.
static SERVED: LazyLock<BTreeMap<String, Vec<Equivalent>>> = LazyLock::new(|| {
    let mut all: BTreeMap<String, Vec<Equivalent>> = BTreeMap::new();
    for kind in kinds::Table::builtin().kinds().filter(|kind| is_on(kind)) {
        let resource = resource_of(kind);
        let of = all.entry(resource.resource.clone()).or_default();
        of.push(Equivalent { resource, kind: Kind::new(kind.api_version, kind.name) });
    }
    all
});

/// How Kubernetes' own kinds merge.
static SCHEMAS: LazyLock<Schemas> = LazyLock::new(builtin_schemas);

/// Where objects of one of Kubernetes' own kinds are.
pub(super) fn builtin(kind: &Kind) -> Option<Place> {
    let found = kinds::Table::builtin().kind(&kind.api_version(), &kind.kind)?;
    Some(Place {
        resource: resource_of(found),
        is_namespaced: found.scope == kinds::Scope::Namespaced,
    })
}

/// Kubernetes' own kinds that an API server serves under the name of a resource.
pub(super) fn served(resource: &str) -> impl Iterator<Item = &'static Equivalent> {
    SERVED.get(resource).into_iter().flatten()
}

/// Whether a version of a group is one of Kubernetes' own: no definition changes what is in it.
pub(super) fn serves(api_version: &str) -> bool {
    kinds::Table::builtin().kinds().any(|kind| kind.api_version == api_version)
}

fn resource_of(kind: &kinds::Kind) -> Resource {
    let Kind { group, version, .. } = Kind::new(kind.api_version, kind.name);
    let resource = kind.resource.split('/').next().unwrap_or_default().to_owned();
    Resource { group, version, resource }
}

impl Kinds for Known<'_> {
    fn existence(&self, kind: &Kind) -> Existence {
        match builtin(kind).or_else(|| self.definitions.place(kind)) {
            Some(Place { is_namespaced: true, .. }) => Existence::Namespaced,
            Some(Place { is_namespaced: false, .. }) => Existence::Cluster,
            None if self.is_complete => Existence::Absent,
            None => Existence::Unknown,
        }
    }

    fn equivalents(&self, resource: &Resource, subresource: &str) -> Vec<Equivalent> {
        let defined = self.definitions.equivalents(resource, subresource);
        // Of Kubernetes' own subresources only `status` stands in more than one version, and is of the kind itself.
        if !defined.is_empty() || !["", "status"].contains(&subresource) {
            return defined;
        }
        let same = served(&resource.resource);
        same.filter(|other| is_same(&other.resource, resource)).cloned().collect()
    }

    fn converted(&self, object: &Json, to: &Kind) -> Option<Json> {
        self.definitions.converted(object, to).or_else(|| autoscaling::converted(object, to))
    }

    fn schemas(&self, kind: &Kind) -> Option<&Schemas> {
        let own = Some(&*SCHEMAS).filter(|schemas| schemas.knows(kind));
        let defined = self.definitions.knows(kind).then(|| self.definitions.schemas());
        own.or(defined)
    }

    fn normalized(&self, object: Json, kind: &Kind) -> Result<Json, String> {
        if builtin(kind).is_none() && self.definitions.knows(kind) {
            return Ok(self.definitions.normalized(object, kind));
        }
        let told = |faults: Vec<kinds::Fault>| {
            let told = |fault: &kinds::Fault| match &fault.kind {
                kinds::FaultKind::Unknown { .. } => format!("unknown field \"{}\"", fault.path),
                _ => fault.to_string(),
            };
            let faults: Vec<String> = faults.iter().map(told).collect();
            format!("strict decoding error: {}", faults.join(", "))
        };
        match kinds::normalize(&object) {
            Ok(normalized) if normalized.dropped.is_empty() => Ok(normalized.object),
            Ok(normalized) => Err(told(normalized.dropped)),
            Err(faults) => Err(told(faults)),
        }
    }
}

/// Whether an API server serves the kind unless it is told otherwise: versions that are neither alpha nor beta.
fn is_on(kind: &kinds::Kind) -> bool {
    let version = kind.api_version.rsplit('/').next().unwrap_or_default();
    !version.contains("alpha") && !version.contains("beta") && !kind.resource.contains('/')
}

/// Whether two resources are the same objects. Events are served by two groups.
fn is_same(one: &Resource, two: &Resource) -> bool {
    let is_events = |resource: &Resource| {
        resource.resource == "events" && ["", "events.k8s.io"].contains(&resource.group.as_str())
    };
    one.resource == two.resource && (one.group == two.group || is_events(one) && is_events(two))
}

fn builtin_schemas() -> Schemas {
    let table = kinds::Table::builtin();
    let mut schemas = Schemas::default();
    let mut roots: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
    for kind in table.kinds() {
        if let Some(root) = table.root(kind) {
            roots.entry(root.name).or_default().push(Kind::new(kind.api_version, kind.name));
        }
    }
    for of in table.types() {
        let fields = of.fields().iter().map(|field| {
            let of = field_type(table, field);
            let default = field.default().cloned().or_else(|| zero(table, field));
            (field.name.to_owned(), Field { of, default })
        });
        let map = MapShape { fields: fields.collect(), others: None, merge: map_merge(of.merge) };
        let atom = Atom { map: Some(map), ..Atom::default() };
        schemas.add(of.name, atom, roots.remove(of.name).unwrap_or_default());
    }
    schemas
}

fn field_type(table: &kinds::Table, field: &kinds::Field) -> TypeRef {
    match table.shape(field) {
        kinds::Shape::Struct(of) => {
            let merge = (field.map == kinds::MapMerge::Atomic).then_some(MapMerge::Atomic);
            TypeRef::Named(of.name.to_owned(), merge)
        }
        kinds::Shape::List(item) => {
            let merge = match &field.list {
                kinds::ListMerge::Atomic => ListMerge::Atomic,
                kinds::ListMerge::Set => ListMerge::Set,
                kinds::ListMerge::Map(keys) => {
                    ListMerge::Keys(keys.iter().map(|key| (*key).to_owned()).collect())
                }
            };
            let list = ListShape { items: item_type(item), merge };
            TypeRef::Inline(Box::new(Atom { list: Some(list), ..Atom::default() }))
        }
        kinds::Shape::Map(item) => {
            let map = MapShape {
                fields: BTreeMap::new(),
                others: Some(item_type(item)),
                merge: map_merge(field.map),
            };
            TypeRef::Inline(Box::new(Atom { map: Some(map), ..Atom::default() }))
        }
        kinds::Shape::Scalar(scalar) => scalar_type(scalar),
    }
}

fn item_type(item: kinds::Item<'_>) -> TypeRef {
    match item.shape() {
        kinds::Shape::Struct(of) => TypeRef::Named(of.name.to_owned(), None),
        kinds::Shape::List(item) => {
            let list = ListShape { items: item_type(item), merge: ListMerge::Atomic };
            TypeRef::Inline(Box::new(Atom { list: Some(list), ..Atom::default() }))
        }
        kinds::Shape::Map(item) => {
            let map = MapShape {
                fields: BTreeMap::new(),
                others: Some(item_type(item)),
                merge: MapMerge::Granular,
            };
            TypeRef::Inline(Box::new(Atom { map: Some(map), ..Atom::default() }))
        }
        kinds::Shape::Scalar(scalar) => scalar_type(scalar),
    }
}

fn scalar_type(of: kinds::Scalar) -> TypeRef {
    let scalar = match of {
        kinds::Scalar::Truth => Scalar::Boolean,
        kinds::Scalar::Number => Scalar::Numeric,
        kinds::Scalar::Text => Scalar::Text,
        kinds::Scalar::Any => Scalar::Untyped,
        kinds::Scalar::Raw => return TypeRef::Untyped,
    };
    TypeRef::Inline(Box::new(Atom { scalar: Some(scalar), ..Atom::default() }))
}

/// What a missing field that is always written means: its API says that nothing is its default.
fn zero(table: &kinds::Table, field: &kinds::Field) -> Option<Json> {
    match table.shape(field) {
        kinds::Shape::Scalar(scalar) if field.written == kinds::Written::Always => match scalar {
            kinds::Scalar::Truth => Some(Json::from(false)),
            kinds::Scalar::Number => Some(Json::from(0)),
            kinds::Scalar::Text => Some(Json::from("")),
            kinds::Scalar::Any | kinds::Scalar::Raw => None,
        },
        _ => None,
    }
}

fn map_merge(merge: kinds::MapMerge) -> MapMerge {
    match merge {
        kinds::MapMerge::Granular => MapMerge::Granular,
        kinds::MapMerge::Atomic => MapMerge::Atomic,
    }
}
