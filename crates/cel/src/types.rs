//! The types of CEL as the checker sees them: gradual (`dyn`), with type parameters, and opaque and object types
//! by name. `Display` is the form of the checker's messages; [`Type::declared_name`] the one of "must evaluate to".

use std::{fmt, sync::Arc};

/// A type of the checker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Anything: checked when it is evaluated.
    Dyn,
    /// What a broken part has, so that one mistake is told once.
    Error,
    /// The type of `null`.
    Null,
    /// Truth.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without a sign.
    Uint,
    /// IEEE 754 of 64 bits.
    Double,
    /// Unicode text.
    String,
    /// Octets.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A span of time.
    Duration,
    /// The type of a type.
    Type(Arc<Type>),
    /// A list of one element type.
    List(Arc<Type>),
    /// A map of one key and one value type.
    Map(Arc<Type>, Arc<Type>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A named type without fields: `net.IP`, `kubernetes.Quantity`.
    Opaque(&'static str),
    /// A named type with fields that the environment's [`Objects`](crate::object::Objects) know.
    Object(Arc<str>),
    /// A type parameter of an overload.
    Param(&'static str),
    /// A free variable that the checker made.
    Var(u32),
}

impl Type {
    /// `list(element)`.
    #[must_use]
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// `map(key, value)`.
    #[must_use]
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    /// `optional_type(value)`.
    #[must_use]
    pub fn optional(value: Type) -> Type {
        Type::Optional(Arc::new(value))
    }

    /// `type(of)`.
    #[must_use]
    pub fn type_of(of: Type) -> Type {
        Type::Type(Arc::new(of))
    }

    /// The name that `type(x)` yields for a value of this type, as it stands in the language.
    #[must_use]
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Dyn | Type::Param(_) | Type::Var(_) => "dyn",
            Type::Error => "*error*",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::Type(_) => "type",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Optional(_) => "optional_type",
            Type::Opaque(name) => name,
            Type::Object(name) => name,
        }
    }

    /// The long form of "must evaluate to bool but got …".
    #[must_use]
    pub fn declared_name(&self) -> String {
        match self {
            Type::List(element) => format!("list({})", element.declared_name()),
            Type::Map(key, value) => {
                format!("map({}, {})", key.declared_name(), value.declared_name())
            }
            Type::Optional(value) => format!("optional_type({})", value.declared_name()),
            Type::Type(of) => format!("type({})", of.declared_name()),
            other => other.runtime_name().to_owned(),
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    fn is_free(&self) -> bool {
        matches!(self, Type::Var(_) | Type::Param(_))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Type(of) => write!(f, "type({of})"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(value) => write!(f, "optional_type({value})"),
            Type::Param(name) => f.write_str(name),
            Type::Var(number) => write!(f, "_var{number}"),
            other => f.write_str(other.runtime_name()),
        }
    }
}

/// What the free variables of one expression stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Substitution {
    bound: Vec<Option<Type>>,
    /// What to put back when an assignment fails.
    trail: Vec<(usize, Option<Type>)>,
}

impl Substitution {
    /// A variable that stands for nothing yet.
    pub(crate) fn fresh(&mut self) -> Type {
        let number = self.bound.len();
        self.bound.push(None);
        Type::Var(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn bound(&self, number: u32) -> Option<&Type> {
        self.bound.get(number as usize).and_then(Option::as_ref)
    }

    fn bind(&mut self, number: u32, to: Type) {
        let at = number as usize;
        if let Some(slot) = self.bound.get_mut(at) {
            self.trail.push((at, slot.replace(to)));
        }
    }

    /// The type with every bound variable replaced; unbound ones become `dyn` with `Unbound::Dyn`.
    pub(crate) fn resolve(&self, of: &Type, unbound: Unbound) -> Type {
        match of {
            Type::Var(number) => match (self.bound(*number), unbound) {
                (Some(to), _) => self.resolve(&to.clone(), unbound),
                (None, Unbound::Dyn) => Type::Dyn,
                (None, Unbound::Keep) => of.clone(),
            },
            Type::List(element) => Type::list(self.resolve(element, unbound)),
            Type::Map(key, value) => {
                Type::map(self.resolve(key, unbound), self.resolve(value, unbound))
            }
            Type::Optional(value) => Type::optional(self.resolve(value, unbound)),
            Type::Type(of) => Type::type_of(self.resolve(of, unbound)),
            other => other.clone(),
        }
    }

    /// Whether values of `from` may stand where `to` is wanted; learns what variables stand for when they may.
    pub(crate) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// [`Substitution::assign`] for each pair, learning all or nothing.
    pub(crate) fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        if from.len() != to.len() {
            return false;
        }
        self.trail.clear();
        let fits = from.iter().zip(to).all(|(from, to)| self.fits(from, to));
        if !fits {
            while let Some((at, before)) = self.trail.pop() {
                self.bound[at] = before;
            }
        }
        fits
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Var(number) = to {
            let (valid, known) = self.stands_for(from, *number, to);
            if valid || known {
                return valid;
            }
        }
        if let Type::Var(number) = from {
            return self.stands_for(to, *number, from).0;
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::List(from), Type::List(to)) | (Type::Optional(from), Type::Optional(to)) => {
                self.fits(from, to)
            }
            (Type::Map(from_key, from_value), Type::Map(to_key, to_value)) => {
                self.fits(from_key, to_key) && self.fits(from_value, to_value)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (from, to) => from == to,
        }
    }

    /// Whether the variable may stand for `other`, and whether it stood for something before.
    fn stands_for(&mut self, other: &Type, number: u32, variable: &Type) -> (bool, bool) {
        if other == variable {
            return (true, true);
        }
        let Some(known) = self.bound(number).cloned() else {
            if self.occurs(number, other) {
                return (false, false);
            }
            self.bind(number, other.clone());
            return (true, false);
        };
        if *other == known {
            return (true, true);
        }
        if !self.fits(other, &known) {
            return (false, true);
        }
        let general = if self.is_less_specific(other, &known) { other.clone() } else { known };
        if general != *variable && !self.occurs(number, &general) {
            self.bind(number, general);
        }
        (true, true)
    }

    fn occurs(&self, number: u32, within: &Type) -> bool {
        match within {
            Type::Var(other) if *other == number => true,
            Type::Var(other) => {
                self.bound(*other).is_some_and(|bound| self.occurs(number, &bound.clone()))
            }
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => {
                self.occurs(number, inner)
            }
            Type::Map(key, value) => self.occurs(number, key) || self.occurs(number, value),
            _ => false,
        }
    }

    /// Whether `one` says as much as `two` or less.
    pub(crate) fn is_less_specific(&self, one: &Type, two: &Type) -> bool {
        if one.is_dyn() || one.is_free() {
            return true;
        }
        if two.is_dyn() || two.is_free() {
            return false;
        }
        match (one, two) {
            (Type::List(one), Type::List(two)) | (Type::Optional(one), Type::Optional(two)) => {
                self.is_less_specific(one, two)
            }
            (Type::Map(key, value), Type::Map(other_key, other_value)) => {
                self.is_less_specific(key, other_key) && self.is_less_specific(value, other_value)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (one, two) => one == two,
        }
    }
}

/// What becomes of a variable that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unbound {
    Keep,
    Dyn,
}

/// Whether `null` may stand where the type is wanted.
fn is_nullable(of: &Type) -> bool {
    matches!(
        of,
        Type::Null
            | Type::Optional(_)
            | Type::Opaque(_)
            | Type::Object(_)
            | Type::Timestamp
            | Type::Duration
    )
}
