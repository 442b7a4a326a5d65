//! Objects: values of named types with fields. The environment declares what a name means; `Object{…}` of mutations
//! has types that follow the path of their fields and check nothing, as in the API server.

use std::{collections::BTreeMap, sync::Arc};

use crate::{error::Fallible, library::go, machine::Machine, types::Type, value::Value};

/// The type of an operation of a JSON patch.
const PATCH: &str = "JSONPatch";

/// What an expression constructed by `Name{field: value}`.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// The name of its type.
    pub type_name: Arc<str>,
    /// The fields that were given, in order.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    /// The value of a field that was given.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }

    /// Checks that every object under `Object.a{b: …}` is of type `Object.a.b`: what a mutation applies.
    ///
    /// # Errors
    ///
    /// Names the first object whose type does not follow its path.
    pub fn check_paths(&self) -> Result<(), String> {
        check_nested(&self.type_name, &Value::Object(Arc::new(self.clone())))
    }

    /// An object of parts that the checker knew nothing of: in a patch all but the value is text.
    pub(crate) fn checked(
        type_name: Arc<str>,
        mut fields: Vec<(Arc<str>, Value<'a>)>,
    ) -> Result<Object<'a>, String> {
        if &*type_name == PATCH {
            for (name, value) in fields.iter_mut().filter(|(name, _)| &**name != "value") {
                *value = go::text(value).ok_or_else(|| {
                    let of = go::native_type_of(value);
                    format!("unexpected type {of} for JSONPatchType '{name}' field")
                })?;
            }
        }
        Ok(Object { type_name, fields })
    }

    /// Whether it is an operation of a JSON patch.
    pub(crate) fn is_patch(&self) -> bool {
        &*self.type_name == PATCH
    }

    pub(crate) fn equals(&self, other: &Object<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        if self.type_name != other.type_name || self.fields.len() != other.fields.len() {
            return Ok(false);
        }
        for (name, value) in &self.fields {
            machine.compare_one()?;
            let Some(found) = other.field(name) else { return Ok(false) };
            if !found.equals(value, machine)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The named types with fields that an environment declares.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    declared: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Type>>,
    mutation: bool,
}

impl Objects {
    /// Declares a type and the types of its fields.
    pub fn declare<N: Into<Arc<str>>>(
        &mut self,
        name: &str,
        fields: impl IntoIterator<Item = (N, Type)>,
    ) {
        let fields = fields.into_iter().map(|(name, of)| (name.into(), of)).collect();
        self.declared.insert(Arc::from(name), fields);
    }

    /// Adds `Object…` and `JSONPatch`, which mutations construct.
    pub fn declare_mutation(&mut self) {
        self.mutation = true;
        self.declare(
            PATCH,
            [
                ("op", Type::String),
                ("path", Type::String),
                ("from", Type::String),
                ("value", Type::Dyn),
            ],
        );
    }

    /// Whether a name is a type.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.declared.contains_key(name) || self.is_construction(name)
    }

    /// The type of a field; `None` when the type or the field is unknown.
    #[must_use]
    pub fn field(&self, of: &str, field: &str) -> Option<Type> {
        if self.is_construction(of) {
            return Some(Type::Dyn);
        }
        self.declared.get(of)?.get(field).cloned()
    }

    fn is_construction(&self, name: &str) -> bool {
        self.mutation && (name == "Object" || name.starts_with("Object."))
    }
}

fn check_nested(path: &str, value: &Value<'_>) -> Result<(), String> {
    match value {
        Value::Object(object) => {
            if *object.type_name != *path {
                return Err(format!(
                    "unexpected type name \"{}\", expected \"{path}\", which matches field name path from root Object type",
                    object.type_name
                ));
            }
            object
                .fields
                .iter()
                .try_for_each(|(name, field)| check_nested(&format!("{path}.{name}"), field))
        }
        Value::List(list) => list.iter().try_for_each(|item| check_nested(path, &item)),
        Value::Map(map) => map.entries().iter().try_for_each(|(_, item)| check_nested(path, item)),
        Value::Optional(Some(item)) => check_nested(path, item),
        _ => Ok(()),
    }
}
