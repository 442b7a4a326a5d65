//! How objects of a kind are merged: which lists are lists of keyed entries or sets, what is replaced as a whole. Read
//! from the OpenAPI documents of an API server, by the rules of structured merge.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map as JsonMap, Value as Json};

use super::request::Kind;

/// The types of one or more OpenAPI documents.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    types: BTreeMap<String, Atom>,
    kinds: BTreeMap<Kind, String>,
}

/// What a value of a type may be; for an untyped one everything is set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Atom {
    /// A scalar.
    pub scalar: Option<Scalar>,
    /// A list.
    pub list: Option<ListShape>,
    /// A map.
    pub map: Option<MapShape>,
}

/// Which scalars a type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Numbers.
    Numeric,
    /// Text.
    Text,
    /// Truth.
    Boolean,
    /// Any of these.
    Untyped,
}

/// A list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListShape {
    /// The type of its items.
    pub items: TypeRef,
    /// How two lists are merged.
    pub merge: ListMerge,
}

/// How two lists are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMerge {
    /// One replaces the other.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Items are the same when these fields are.
    Keys(Vec<String>),
}

/// A map or an object.
#[derive(Debug, Clone, PartialEq)]
pub struct MapShape {
    /// Its fields, with their defaults.
    pub fields: BTreeMap<String, Field>,
    /// The type of other entries; `None` when there are no others.
    pub others: Option<TypeRef>,
    /// How two maps are merged.
    pub merge: MapMerge,
}

/// How two maps are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapMerge {
    /// One replaces the other.
    Atomic,
    /// Entry by entry.
    Granular,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its type.
    pub of: TypeRef,
    /// What a missing one means among the keys of a list.
    pub default: Option<Json>,
}

/// A type, by name or in place.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeRef {
    /// A type by name; the reference may say that it is merged otherwise.
    Named(String, Option<MapMerge>),
    /// A type in place.
    Inline(Box<Atom>),
    /// Any value, merged entry by entry where it is a map.
    Deduced,
    /// Any value, replaced as a whole.
    Untyped,
}

impl Schemas {
    /// Adds the types of an OpenAPI document of version 3.
    pub fn add_openapi(&mut self, document: &Json) {
        let schemas = document.pointer("/components/schemas").and_then(Json::as_object);
        for (name, schema) in schemas.into_iter().flatten() {
            if schema.get("$ref").is_some() {
                continue;
            }
            let atom = match name.as_str() {
                "io.k8s.apimachinery.pkg.api.resource.Quantity" => scalar(Scalar::Untyped),
                "io.k8s.apimachinery.pkg.runtime.RawExtension" => untyped(),
                _ => Reader { keeps_unknown: false }.atom(schema),
            };
            self.types.insert(name.clone(), atom);
            let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Json::as_array);
            for kind in kinds.into_iter().flatten() {
                let text = |field| kind.get(field).and_then(Json::as_str).unwrap_or_default();
                let kind = Kind {
                    group: text("group").to_owned(),
                    version: text("version").to_owned(),
                    kind: text("kind").to_owned(),
                };
                self.kinds.insert(kind, name.clone());
            }
        }
    }

    /// Adds the schema of a kind that a cluster defines itself.
    pub fn add_definition(&mut self, kind: &Kind, schema: &Json) {
        let mut atom = Reader { keeps_unknown: false }.atom(schema);
        if let Some(map) = &mut atom.map {
            let text = || TypeRef::Inline(Box::new(scalar(Scalar::Text)));
            map.fields.insert("apiVersion".to_owned(), Field { of: text(), default: None });
            map.fields.insert("kind".to_owned(), Field { of: text(), default: None });
            map.fields.insert("metadata".to_owned(), Field { of: metadata(), default: None });
        }
        self.add(&format!("{kind}"), atom, [kind.clone()]);
    }

    /// Adds a type and the kinds that have it.
    pub fn add(&mut self, name: &str, atom: Atom, kinds: impl IntoIterator<Item = Kind>) {
        self.types.insert(name.to_owned(), atom);
        self.kinds.extend(kinds.into_iter().map(|kind| (kind, name.to_owned())));
    }

    /// Whether the kind is known.
    #[must_use]
    pub fn knows(&self, kind: &Kind) -> bool {
        self.kinds.contains_key(kind)
    }

    /// The type of a kind.
    #[must_use]
    pub fn kind(&self, kind: &Kind) -> Option<TypeRef> {
        self.kinds.get(kind).map(|name| TypeRef::Named(name.clone(), None))
    }

    /// What a reference means; `None` for a name that no document has.
    pub(super) fn resolve<'s>(&'s self, of: &'s TypeRef) -> Option<Cow<'s, Atom>> {
        Some(match of {
            TypeRef::Inline(atom) => Cow::Borrowed(atom.as_ref()),
            TypeRef::Deduced => Cow::Owned(deduced()),
            TypeRef::Untyped => Cow::Owned(untyped()),
            TypeRef::Named(name, None) => Cow::Borrowed(self.types.get(name)?),
            TypeRef::Named(name, Some(merge)) => {
                let mut atom = self.types.get(name)?.clone();
                if let Some(map) = &mut atom.map {
                    map.merge = *merge;
                }
                Cow::Owned(atom)
            }
        })
    }
}

fn scalar(of: Scalar) -> Atom {
    Atom { scalar: Some(of), ..Atom::default() }
}

fn untyped() -> Atom {
    let map = MapShape {
        fields: BTreeMap::new(),
        others: Some(TypeRef::Untyped),
        merge: MapMerge::Atomic,
    };
    let list = ListShape { items: TypeRef::Untyped, merge: ListMerge::Atomic };
    Atom { scalar: Some(Scalar::Untyped), list: Some(list), map: Some(map) }
}

fn deduced() -> Atom {
    let map = MapShape {
        fields: BTreeMap::new(),
        others: Some(TypeRef::Deduced),
        merge: MapMerge::Granular,
    };
    Atom { map: Some(map), ..untyped() }
}

/// The metadata of objects, as far as a configuration may change it.
fn metadata() -> TypeRef {
    let inline = |atom| TypeRef::Inline(Box::new(atom));
    let text = || inline(scalar(Scalar::Text));
    let texts = || {
        let map =
            MapShape { fields: BTreeMap::new(), others: Some(text()), merge: MapMerge::Granular };
        inline(Atom { map: Some(map), ..Atom::default() })
    };
    let finalizers = ListShape { items: text(), merge: ListMerge::Set };
    let owners =
        ListShape { items: TypeRef::Deduced, merge: ListMerge::Keys(vec!["uid".to_owned()]) };
    let list = |list| inline(Atom { list: Some(list), ..Atom::default() });
    let fields = [
        ("name", text()),
        ("generateName", text()),
        ("namespace", text()),
        ("labels", texts()),
        ("annotations", texts()),
        ("finalizers", list(finalizers)),
        ("ownerReferences", list(owners)),
    ];
    let fields =
        fields.into_iter().map(|(name, of)| (name.to_owned(), Field { of, default: None }));
    let map = MapShape {
        fields: fields.collect(),
        others: Some(TypeRef::Untyped),
        merge: MapMerge::Granular,
    };
    inline(Atom { map: Some(map), ..Atom::default() })
}

/// Reads one schema.
struct Reader {
    /// Whether it or one around it takes fields that it does not name.
    keeps_unknown: bool,
}

impl Reader {
    fn atom(&self, schema: &Json) -> Atom {
        let keeps_unknown = self.keeps_unknown
            || schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Json::Bool(true));
        let reader = Reader { keeps_unknown };
        match schema.get("type").and_then(Json::as_str) {
            Some("object") => Atom { map: Some(reader.map(schema)), ..Atom::default() },
            Some("array") => Atom { list: Some(reader.list(schema)), ..Atom::default() },
            Some("integer" | "number") => scalar(Scalar::Numeric),
            Some("boolean") => scalar(Scalar::Boolean),
            Some("string") => match schema.get("format").and_then(Json::as_str) {
                None | Some("" | "byte") => scalar(Scalar::Text),
                Some(_) => scalar(Scalar::Untyped),
            },
            Some(_) => scalar(Scalar::Untyped),
            None => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(reader.list(schema)),
                map: Some(reader.map(schema)),
            },
        }
    }

    fn reference(&self, schema: &Json) -> TypeRef {
        let name = |schema: &Json| {
            let text = schema.get("$ref")?.as_str()?;
            text.rsplit('/').next().map(str::to_owned)
        };
        let within = || match schema.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
            Some([one]) => name(one),
            _ => None,
        };
        match name(schema).or_else(within) {
            Some(name) => TypeRef::Named(name, map_merge(schema)),
            None => TypeRef::Inline(Box::new(self.atom(schema))),
        }
    }

    fn map(&self, schema: &Json) -> MapShape {
        let empty = JsonMap::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let fields = properties.iter().map(|(name, field)| {
            let default = field.get("default").cloned();
            (name.clone(), Field { of: self.reference(field), default })
        });
        let others = match schema.get("additionalProperties") {
            None if self.keeps_unknown || properties.is_empty() => Some(TypeRef::Deduced),
            None | Some(Json::Bool(false)) => None,
            Some(Json::Bool(true)) => Some(TypeRef::Deduced),
            Some(schema) => Some(self.reference(schema)),
        };
        let merge = map_merge(schema).unwrap_or(MapMerge::Granular);
        MapShape { fields: fields.collect(), others, merge }
    }

    fn list(&self, schema: &Json) -> ListShape {
        let items = schema.get("items").map_or(TypeRef::Untyped, |items| self.reference(items));
        let text = |field: &str| schema.get(field).and_then(Json::as_str);
        let merge = match (text("x-kubernetes-list-type"), text("x-kubernetes-patch-strategy")) {
            (Some("set"), _) => ListMerge::Set,
            (Some("map"), _) => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
                let keys = keys.into_iter().flatten().filter_map(Json::as_str);
                ListMerge::Keys(keys.map(str::to_owned).collect())
            }
            (None, Some("merge" | "merge,retainKeys")) => {
                match text("x-kubernetes-patch-merge-key") {
                    Some(key) => ListMerge::Keys(vec![key.to_owned()]),
                    None => ListMerge::Set,
                }
            }
            _ => ListMerge::Atomic,
        };
        ListShape { items, merge }
    }
}

fn map_merge(schema: &Json) -> Option<MapMerge> {
    match schema.get("x-kubernetes-map-type").and_then(Json::as_str) {
        Some("atomic") => Some(MapMerge::Atomic),
        Some(_) => Some(MapMerge::Granular),
        None => None,
    }
}
