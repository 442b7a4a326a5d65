//! The values that expressions work on. What comes from JSON is borrowed, never copied; what an expression builds is
//! shared. Equality and order are CEL's: numbers compare by value across their types, unlike types are unequal.

use std::{cmp::Ordering, fmt, mem, net::IpAddr, sync::Arc};

use serde_json::Value as Json;

use crate::{
    error::Fallible,
    library::{
        authz::AuthzValue, cidr::Cidr, format::Format, quantity::Quantity, semver::Semver, url::Url,
    },
    list::List,
    machine::Machine,
    map::Map,
    object::Object,
    time::{Duration, Timestamp},
    types::Type,
};

/// A value; `'a` is the life of the JSON and of the program that it borrows from.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// Truth.
    Bool(bool),
    /// 64 bits with a sign.
    Int(i64),
    /// 64 bits without a sign.
    Uint(u64),
    /// IEEE 754 of 64 bits.
    Double(f64),
    /// Unicode text.
    String(Text<'a>),
    /// Octets.
    Bytes(Octets<'a>),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Duration),
    /// A type.
    Type(Arc<str>),
    /// A value that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// An IP address.
    Ip(IpAddr),
    /// An IP address with the length of a network prefix.
    Cidr(Cidr),
    /// A quantity of a resource.
    Quantity(Arc<Quantity>),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A URL.
    Url(Arc<Url>),
    /// A named format.
    Format(&'static Format),
    /// An authorizer, a check of it, or its decision.
    Authz(Arc<AuthzValue>),
    /// An object that an expression constructed.
    Object(Arc<Object<'a>>),
}

/// Text, borrowed or shared.
#[derive(Clone)]
pub enum Text<'a> {
    /// A part of the input or of the program.
    Borrowed(&'a str),
    /// Made by the expression.
    Owned(Arc<str>),
}

impl Text<'_> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Octets, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Octets<'a> {
    /// A part of the program.
    Borrowed(&'a [u8]),
    /// Made by the expression.
    Owned(Arc<[u8]>),
}

impl std::ops::Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Octets::Borrowed(octets) => octets,
            Octets::Owned(octets) => octets,
        }
    }
}

impl<'a> Value<'a> {
    /// The value of a JSON document, borrowed from it. Whole numbers are `int`, or `double` beyond its range.
    #[must_use]
    pub fn from_json(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(Text::Borrowed(text)),
            Json::Array(items) => Value::List(List::Json(items)),
            Json::Object(entries) => Value::Map(Map::Json(entries)),
        }
    }

    /// Text that an expression made.
    #[must_use]
    pub fn string(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Owned(text.into()))
    }

    /// Octets that an expression made.
    #[must_use]
    pub fn bytes(octets: impl Into<Arc<[u8]>>) -> Value<'a> {
        Value::Bytes(Octets::Owned(octets.into()))
    }

    /// A list that an expression made.
    #[must_use]
    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Owned(Arc::new(items)))
    }

    /// An optional value that is present.
    #[must_use]
    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A type by name.
    #[must_use]
    pub fn type_named(name: &str) -> Value<'a> {
        Value::Type(Arc::from(name))
    }

    /// A cheap copy that borrows from this value instead of counting references.
    #[must_use]
    pub(crate) fn borrow(&'a self) -> Value<'a> {
        match self {
            Value::String(text) => Value::String(Text::Borrowed(text.as_str())),
            Value::Bytes(octets) => Value::Bytes(Octets::Borrowed(octets)),
            Value::List(list) => Value::List(list.borrow()),
            Value::Map(map) => Value::Map(map.borrow()),
            other => other.clone(),
        }
    }

    /// The name of the value's type, as `type(x)` yields it.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Url(_) => "kubernetes.URL",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Authz(value) => value.type_name(),
            Value::Object(object) => &object.type_name,
        }
    }

    /// Whether the value may be an argument where the type is declared, as deep as a call looks.
    pub(crate) fn is_of(&self, declared: &Type) -> bool {
        match declared {
            Type::Dyn | Type::Param(_) | Type::Var(_) => true,
            Type::Error => false,
            Type::Null => matches!(self, Value::Null),
            Type::Bool => matches!(self, Value::Bool(_)),
            Type::Int => matches!(self, Value::Int(_)),
            Type::Uint => matches!(self, Value::Uint(_)),
            Type::Double => matches!(self, Value::Double(_)),
            Type::String => matches!(self, Value::String(_)),
            Type::Bytes => matches!(self, Value::Bytes(_)),
            Type::Timestamp => matches!(self, Value::Timestamp(_)),
            Type::Duration => matches!(self, Value::Duration(_)),
            Type::Type(_) => matches!(self, Value::Type(_)),
            Type::Optional(_) => matches!(self, Value::Optional(_)),
            Type::Map(..) => matches!(self, Value::Map(_)),
            Type::Opaque(name) => self.type_name() == *name,
            Type::Object(name) => self.type_name() == &**name,
            // The first element tells overloads of one function apart, as a call of cel-go does.
            Type::List(element) => match self {
                Value::List(list) => match list.get(0) {
                    Some(first) if !matches!(**element, Type::List(_) | Type::Map(..)) => {
                        first.is_of(element)
                    }
                    _ => true,
                },
                _ => false,
            },
        }
    }

    /// The size as cost counts it: characters, octets, elements, else 1.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Value::String(text) => characters(text),
            Value::Bytes(octets) => octets.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Cidr(cidr) => cidr.octets(),
            Value::Ip(IpAddr::V4(_)) => 4,
            Value::Ip(IpAddr::V6(_)) => 16,
            Value::Optional(Some(value)) => value.cost_size(),
            _ => 1,
        }
    }

    /// Whether the value is the zero of its type: what `optional.ofNonZeroValue` leaves out.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(truth) => !truth,
            Value::Int(number) => *number == 0,
            Value::Uint(number) => *number == 0,
            Value::Double(number) => *number == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(octets) => octets.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Timestamp(time) => time.is_zero(),
            Value::Duration(span) => span.nanoseconds() == 0,
            Value::Object(object) => object.fields.is_empty(),
            _ => false,
        }
    }

    /// Whether the two are equal: false for unlike types, by value across numbers.
    pub(crate) fn equals(&self, other: &Value<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        Ok(self.equality(other, machine)? == Some(true))
    }

    /// CEL's `==`; `None` where it errs: values of an extension are compared with their like and with `null` alone.
    pub(crate) fn equality(
        &self,
        other: &Value<'_>,
        machine: &mut Machine<'_>,
    ) -> Fallible<Option<bool>> {
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => self.is_same(other, machine).map(Some),
            _ => self.equality_of_value(other, machine),
        }
    }

    /// What the left value says of the right one: inside of an optional `null` is as unlike as anything.
    fn equality_of_value(
        &self,
        other: &Value<'_>,
        machine: &mut Machine<'_>,
    ) -> Fallible<Option<bool>> {
        match (self, other) {
            (Value::Optional(Some(one)), Value::Optional(Some(two))) => {
                one.equality_of_value(two, machine)
            }
            (Value::Quantity(_), Value::Quantity(two)) if two.is_computed() => Ok(None),
            (
                Value::Ip(_)
                | Value::Cidr(_)
                | Value::Quantity(_)
                | Value::Semver(_)
                | Value::Url(_)
                | Value::Format(_),
                other,
            ) if mem::discriminant(self) != mem::discriminant(other) => Ok(None),
            _ => self.is_same(other, machine).map(Some),
        }
    }

    fn is_same(&self, other: &Value<'_>, machine: &mut Machine<'_>) -> Fallible<bool> {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            (Value::Int(one), Value::Int(two)) => one == two,
            (Value::String(one), Value::String(two)) => one.as_str() == two.as_str(),
            (Value::Bytes(one), Value::Bytes(two)) => **one == **two,
            (Value::List(one), Value::List(two)) => one.equals(two, machine)?,
            (Value::Map(one), Value::Map(two)) => one.equals(two, machine)?,
            (Value::Timestamp(one), Value::Timestamp(two)) => one == two,
            (Value::Duration(one), Value::Duration(two)) => one == two,
            (Value::Type(one), Value::Type(two)) => one == two,
            (Value::Optional(one), Value::Optional(two)) => one.is_none() && two.is_none(),
            (Value::Ip(one), Value::Ip(two)) => one == two,
            (Value::Cidr(one), Value::Cidr(two)) => one == two,
            (Value::Quantity(one), Value::Quantity(two)) => one.compare(two) == Ordering::Equal,
            (Value::Semver(one), Value::Semver(two)) => one.compare(two) == Ordering::Equal,
            (Value::Url(one), Value::Url(two)) => one == two,
            (Value::Format(one), Value::Format(two)) => one.name == two.name,
            (Value::Authz(one), Value::Authz(two)) => one == two,
            (Value::Object(one), Value::Object(two)) => one.equals(two, machine)?,
            _ => compare_numbers(self, other) == Some(Ordering::Equal),
        })
    }

    /// Whether the value takes at most so many bytes when it is written out, each part as often as it stands in it: what shares its
    /// parts is small in memory and endless to whoever walks through it.
    #[must_use]
    pub fn is_within(&self, bytes: usize) -> bool {
        let mut left = bytes;
        self.take_from(&mut left)
    }

    fn take_from(&self, left: &mut usize) -> bool {
        let own = match self {
            Value::String(text) => text.len(),
            Value::Bytes(octets) => octets.len(),
            _ => 0,
        };
        let Some(rest) = left.checked_sub(size_of::<Value<'_>>() + own) else { return false };
        *left = rest;
        match self {
            Value::List(list) => list.iter().all(|item| item.take_from(left)),
            Value::Map(map) => map.all(|key, value| key.take_from(left) && value.take_from(left)),
            Value::Optional(Some(value)) => value.take_from(left),
            Value::Object(object) => object.fields.iter().all(|(_, field)| field.take_from(left)),
            _ => true,
        }
    }

    /// Whether an expression made it of parts, which it may share.
    pub(crate) fn is_made(&self) -> bool {
        match self {
            Value::List(list) => matches!(list, List::Owned(_)),
            Value::Map(map) => matches!(map, Map::Owned(_)),
            Value::Optional(Some(value)) => value.is_made(),
            Value::Object(_) => true,
            _ => false,
        }
    }

    /// CEL's order; `None` when the two cannot be ordered, or one is not a number.
    pub(crate) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(one), Value::Bool(two)) => Some(one.cmp(two)),
            (Value::Int(one), Value::Int(two)) => Some(one.cmp(two)),
            (Value::String(one), Value::String(two)) => Some(one.as_str().cmp(two.as_str())),
            (Value::Bytes(one), Value::Bytes(two)) => Some((**one).cmp(&**two)),
            (Value::Timestamp(one), Value::Timestamp(two)) => Some(one.cmp(two)),
            (Value::Duration(one), Value::Duration(two)) => Some(one.cmp(two)),
            _ => compare_numbers(self, other),
        }
    }

    /// Whether the two are of types that have an order, whatever it is.
    pub(crate) fn is_comparable(&self, other: &Value<'_>) -> bool {
        let number =
            |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
        match (self, other) {
            (Value::Bool(_), Value::Bool(_))
            | (Value::String(_), Value::String(_))
            | (Value::Bytes(_), Value::Bytes(_))
            | (Value::Timestamp(_), Value::Timestamp(_))
            | (Value::Duration(_), Value::Duration(_)) => true,
            (one, two) => number(one) && number(two),
        }
    }
}

/// The number of characters of a text.
pub(crate) fn characters(text: &str) -> u64 {
    if text.is_ascii() { text.len() as u64 } else { text.chars().count() as u64 }
}

fn compare_numbers(one: &Value<'_>, two: &Value<'_>) -> Option<Ordering> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => Some(one.cmp(two)),
        (Value::Uint(one), Value::Uint(two)) => Some(one.cmp(two)),
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Int(one), Value::Uint(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
        (Value::Uint(one), Value::Int(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
        (Value::Double(one), Value::Int(two)) => compare_double(*one, i128::from(*two)),
        (Value::Double(one), Value::Uint(two)) => compare_double(*one, i128::from(*two)),
        (Value::Int(one), Value::Double(two)) => {
            compare_double(*two, i128::from(*one)).map(Ordering::reverse)
        }
        (Value::Uint(one), Value::Double(two)) => {
            compare_double(*two, i128::from(*one)).map(Ordering::reverse)
        }
        _ => None,
    }
}

/// A double beside a whole number, by value: beyond the range the double is the greater or the less, within it the
/// whole number is compared as a double.
#[expect(clippy::cast_precision_loss, reason = "cel-go compares within the range as doubles")]
fn compare_double(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    double.partial_cmp(&(whole as f64))
}
