//! The operators on values: arithmetic that errs on overflow and never mixes number types, order, membership, selection.

use std::cmp::Ordering;

use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    map::Map,
    value::Value,
};

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    Equals,
    NotEquals,
    In,
}

impl Operator {
    pub(crate) fn named(function: &str) -> Option<Operator> {
        Some(match function {
            "_+_" => Operator::Add,
            "_-_" => Operator::Subtract,
            "_*_" => Operator::Multiply,
            "_/_" => Operator::Divide,
            "_%_" => Operator::Modulo,
            "_<_" => Operator::Less,
            "_<=_" => Operator::LessEquals,
            "_>_" => Operator::Greater,
            "_>=_" => Operator::GreaterEquals,
            "_==_" => Operator::Equals,
            "_!=_" => Operator::NotEquals,
            "@in" => Operator::In,
            _ => return None,
        })
    }

    pub(crate) fn apply<'a>(
        self,
        machine: &mut Machine<'a>,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Fallible<Value<'a>> {
        if let Some(name) = self.missing(left) {
            return Err(no_trait(left, name));
        }
        match self {
            Operator::Add => add(machine, left, right),
            Operator::Subtract => subtract(left, right),
            Operator::Multiply => multiply(left, right),
            Operator::Divide => divide(left, right),
            Operator::Modulo => modulo(left, right),
            Operator::Less => order(left, right, Ordering::is_lt),
            Operator::LessEquals => order(left, right, Ordering::is_le),
            Operator::Greater => order(left, right, Ordering::is_gt),
            Operator::GreaterEquals => order(left, right, Ordering::is_ge),
            Operator::Equals => {
                left.equality(right, machine)?.map(Value::Bool).ok_or_else(EvalError::no_overload)
            }
            Operator::NotEquals => Ok(Value::Bool(!left.equals(right, machine)?)),
            Operator::In => contains(machine, left, right),
        }
    }
    /// The operator's name, when values of the left operand's type never have it.
    fn missing(self, left: &Value<'_>) -> Option<&'static str> {
        let number = matches!(left, Value::Int(_) | Value::Uint(_) | Value::Double(_));
        let time = matches!(left, Value::Timestamp(_) | Value::Duration(_));
        let text = matches!(left, Value::String(_) | Value::Bytes(_));
        let (has, name) = match self {
            Operator::Add => (number || time || text || matches!(left, Value::List(_)), "_+_"),
            Operator::Subtract => (number || time, "_-_"),
            Operator::Multiply => (number, "_*_"),
            Operator::Divide => (number, "_/_"),
            Operator::Modulo => (matches!(left, Value::Int(_) | Value::Uint(_)), "_%_"),
            Operator::Less => (is_ordered(left), "_<_"),
            Operator::LessEquals => (is_ordered(left), "_<=_"),
            Operator::Greater => (is_ordered(left), "_>_"),
            Operator::GreaterEquals => (is_ordered(left), "_>=_"),
            Operator::Equals | Operator::NotEquals | Operator::In => (true, ""),
        };
        (!has).then_some(name)
    }
}

/// What a value says of a function that its type never has: texts and times are asked by themselves, and name none.
pub(crate) fn no_trait(value: &Value<'_>, name: &str) -> EvalError {
    match value {
        Value::String(_) | Value::Timestamp(_) | Value::Duration(_) => EvalError::no_overload(),
        _ => EvalError::no_overload_for(name),
    }
}

fn is_ordered(value: &Value<'_>) -> bool {
    value.is_comparable(value)
}

fn integer_overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

fn unsigned_overflow() -> EvalError {
    EvalError::failed("unsigned integer overflow")
}

fn duration_overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

fn timestamp_overflow() -> EvalError {
    EvalError::failed("timestamp overflow")
}

fn add<'a>(machine: &mut Machine<'a>, left: &Value<'a>, right: &Value<'a>) -> Fallible<Value<'a>> {
    match (left, right) {
        (Value::Int(one), Value::Int(two)) => {
            one.checked_add(*two).map(Value::Int).ok_or_else(integer_overflow)
        }
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_add(*two).map(Value::Uint).ok_or_else(unsigned_overflow)
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one + two)),
        (Value::String(one), Value::String(two)) => {
            machine.reserve(one.len() + two.len())?;
            let mut joined = String::with_capacity(one.len() + two.len());
            joined.push_str(one);
            joined.push_str(two);
            Ok(Value::string(joined))
        }
        (Value::Bytes(one), Value::Bytes(two)) => {
            machine.reserve(one.len() + two.len())?;
            Ok(Value::bytes([&**one, &**two].concat()))
        }
        (Value::List(one), Value::List(two)) => {
            if one.is_empty() {
                return Ok(right.clone());
            }
            if two.is_empty() {
                return Ok(left.clone());
            }
            machine.reserve_items(one.len() + two.len())?;
            Ok(Value::list(one.iter().chain(two.iter()).collect()))
        }
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_add(*two).map(Value::Duration).ok_or_else(duration_overflow)
        }
        (Value::Timestamp(time), Value::Duration(span))
        | (Value::Duration(span), Value::Timestamp(time)) => {
            time.checked_add(*span).map(Value::Timestamp).ok_or_else(timestamp_overflow)
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn subtract<'a>(left: &Value<'a>, right: &Value<'a>) -> Fallible<Value<'a>> {
    match (left, right) {
        (Value::Int(one), Value::Int(two)) => {
            one.checked_sub(*two).map(Value::Int).ok_or_else(integer_overflow)
        }
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_sub(*two).map(Value::Uint).ok_or_else(unsigned_overflow)
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one - two)),
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_sub(*two).map(Value::Duration).ok_or_else(duration_overflow)
        }
        (Value::Timestamp(time), Value::Duration(span)) => {
            let back = span.checked_neg().ok_or_else(duration_overflow)?;
            time.checked_add(back).map(Value::Timestamp).ok_or_else(timestamp_overflow)
        }
        (Value::Timestamp(one), Value::Timestamp(two)) => {
            one.checked_sub(*two).map(Value::Duration).ok_or_else(duration_overflow)
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn multiply<'a>(left: &Value<'a>, right: &Value<'a>) -> Fallible<Value<'a>> {
    match (left, right) {
        (Value::Int(one), Value::Int(two)) => {
            one.checked_mul(*two).map(Value::Int).ok_or_else(integer_overflow)
        }
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_mul(*two).map(Value::Uint).ok_or_else(unsigned_overflow)
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one * two)),
        _ => Err(EvalError::no_overload()),
    }
}

fn divide<'a>(left: &Value<'a>, right: &Value<'a>) -> Fallible<Value<'a>> {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::failed("division by zero"))
        }
        (Value::Int(one), Value::Int(two)) => {
            one.checked_div(*two).map(Value::Int).ok_or_else(integer_overflow)
        }
        (Value::Uint(one), Value::Uint(two)) => Ok(Value::Uint(one / two)),
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one / two)),
        _ => Err(EvalError::no_overload()),
    }
}

fn modulo<'a>(left: &Value<'a>, right: &Value<'a>) -> Fallible<Value<'a>> {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(EvalError::failed("modulus by zero"))
        }
        (Value::Int(one), Value::Int(two)) => {
            one.checked_rem(*two).map(Value::Int).ok_or_else(integer_overflow)
        }
        (Value::Uint(one), Value::Uint(two)) => Ok(Value::Uint(one % two)),
        _ => Err(EvalError::no_overload()),
    }
}

fn order<'a>(
    left: &Value<'a>,
    right: &Value<'a>,
    holds: fn(Ordering) -> bool,
) -> Fallible<Value<'a>> {
    match left.compare(right) {
        Some(ordering) => Ok(Value::Bool(holds(ordering))),
        // What is not a number is seen before the type of the other.
        None if left.is_comparable(right)
            || matches!(left, Value::Double(left) if left.is_nan()) =>
        {
            Err(EvalError::failed("NaN values cannot be ordered"))
        }
        None => Err(EvalError::no_overload()),
    }
}

/// `item in set`, for a literal set, which is asked by hash.
pub(crate) fn is_member<'a>(
    machine: &mut Machine<'a>,
    item: &Value<'a>,
    set: &Value<'a>,
) -> Fallible<Value<'a>> {
    crate::map::check_hashable(item)?;
    contains(machine, item, set)
}

fn contains<'a>(
    machine: &mut Machine<'a>,
    item: &Value<'a>,
    container: &Value<'a>,
) -> Fallible<Value<'a>> {
    match container {
        Value::List(list) => Ok(Value::Bool(list.contains(item, machine)?)),
        Value::Map(map) => {
            if !matches!(map, Map::Json(_)) && !map.is_empty() {
                crate::map::check_hashable(item)?;
            }
            Ok(Value::Bool(map.get(item).is_some()))
        }
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn negate<'a>(value: &Value<'a>) -> Fallible<Value<'a>> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(integer_overflow),
        Value::Double(number) => Ok(Value::Double(-number)),
        // No checker lets it through; a value of any type gets this far.
        Value::Duration(span) => {
            span.checked_neg().map(Value::Duration).ok_or_else(duration_overflow)
        }
        Value::Bool(_) => Err(EvalError::no_overload()),
        other => Err(no_trait(other, "-_")),
    }
}

pub(crate) fn not<'a>(value: &Value<'a>) -> Fallible<Value<'a>> {
    match value {
        Value::Bool(truth) => Ok(Value::Bool(!truth)),
        _ => Err(EvalError::no_overload()),
    }
}

/// What asking a value without fields for one means: that it is absent, as in Kubernetes, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalars {
    HaveNothing,
    Refuse,
}

impl Scalars {
    fn ask<T>(self, nothing: T, error: impl FnOnce() -> EvalError) -> Fallible<T> {
        match self {
            Scalars::HaveNothing => Ok(nothing),
            Scalars::Refuse => Err(error()),
        }
    }
}

/// `operand.field`, through an optional operand to an optional value.
pub(crate) fn select<'a>(
    operand: &Value<'a>,
    field: &str,
    scalars: Scalars,
) -> Fallible<Value<'a>> {
    match operand {
        Value::Map(map) => map.field(field).ok_or_else(|| no_such_key(field)),
        Value::Object(object) => object.field(field).cloned().ok_or_else(|| no_such_key(field)),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => select_optional(value, field, scalars),
        Value::List(_) => Err(name_in_list()),
        _ => Err(no_such_key(field)),
    }
}

/// `operand.?field`.
pub(crate) fn select_optional<'a>(
    operand: &Value<'a>,
    field: &str,
    scalars: Scalars,
) -> Fallible<Value<'a>> {
    let found = match operand {
        Value::Map(map) => map.field(field),
        Value::Object(object) => object.field(field).cloned(),
        Value::Optional(Some(value)) => return select_optional(value, field, scalars),
        Value::List(_) => return Err(name_in_list()),
        Value::Optional(None) => None,
        _ => scalars.ask(None, || no_such_key(field))?,
    };
    Ok(Value::Optional(found.map(std::sync::Arc::new)))
}

/// `has(operand.field)`.
pub(crate) fn has(operand: &Value<'_>, field: &str, scalars: Scalars) -> Fallible<bool> {
    match operand {
        Value::Map(map) => Ok(match map {
            Map::Json(entries) => entries.contains_key(field),
            other => other.field(field).is_some(),
        }),
        Value::Object(object) => Ok(object.field(field).is_some()),
        Value::Optional(Some(value)) => has(value, field, scalars),
        Value::List(_) => Err(name_in_list()),
        Value::Optional(None) => Ok(false),
        _ => scalars.ask(false, || no_such_key(field)),
    }
}

/// `operand[index]`, through an optional operand to an optional value.
pub(crate) fn index<'a>(
    operand: &Value<'a>,
    index: &Value<'a>,
    scalars: Scalars,
) -> Fallible<Value<'a>> {
    check_index(index)?;
    match operand {
        Value::Map(map) => map.get(index).ok_or_else(|| no_such_key_of(index)),
        Value::List(list) => {
            let place = place(index)?;
            usize::try_from(place)
                .ok()
                .and_then(|place| list.get(place))
                .ok_or_else(|| EvalError::failed(format!("index out of bounds: {place}")))
        }
        Value::Object(object) => match index {
            Value::String(name) => object.field(name).cloned().ok_or_else(|| no_such_key(name)),
            _ => Err(EvalError::no_overload()),
        },
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => index_optional(value, index, scalars),
        _ => Err(no_such_key_of(index)),
    }
}

/// `operand[?index]`.
pub(crate) fn index_optional<'a>(
    operand: &Value<'a>,
    index: &Value<'a>,
    scalars: Scalars,
) -> Fallible<Value<'a>> {
    check_index(index)?;
    let found = match operand {
        Value::Map(map) => map.get(index),
        Value::List(list) => usize::try_from(place(index)?).ok().and_then(|place| list.get(place)),
        Value::Object(object) => match index {
            Value::String(name) => object.field(name).cloned(),
            _ => return Err(EvalError::no_overload()),
        },
        Value::Optional(Some(value)) => return index_optional(value, index, scalars),
        Value::Optional(None) => None,
        _ => scalars.ask(None, || no_such_key_of(index))?,
    };
    Ok(Value::Optional(found.map(std::sync::Arc::new)))
}

/// Whether a value can name a part of another, whatever that is; the names of types are Go's.
fn check_index(index: &Value<'_>) -> Fallible<()> {
    let of = match index {
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_) => {
            return Ok(());
        }
        Value::Null => "<nil>",
        Value::Map(_) => "map[string]interface {}",
        Value::List(_) => "[]interface {}",
        other => other.type_name(),
    };
    Err(EvalError::Failed(format!("invalid qualifier type: {of}")))
}

/// The place that an index names: whole numbers of any type.
#[expect(clippy::cast_possible_truncation, reason = "only whole doubles in range are cast")]
fn place(index: &Value<'_>) -> Fallible<i64> {
    match index {
        Value::Int(place) => Ok(*place),
        Value::Uint(place) => i64::try_from(*place)
            .map_err(|_| EvalError::failed(format!("index out of bounds: {place}"))),
        Value::Double(place) if place.fract() == 0.0 && place.abs() < 9e15 => Ok(*place as i64),
        Value::Double(place) => Err(EvalError::failed(format!(
            "unsupported index value {} in list",
            super::convert::format_double(*place)
        ))),
        other => Err(EvalError::failed(format!(
            "unsupported index type '{}' in list",
            other.type_name()
        ))),
    }
}

fn name_in_list() -> EvalError {
    EvalError::failed("unsupported index type 'string' in list")
}

pub(crate) fn no_such_key(key: &str) -> EvalError {
    EvalError::Failed(format!("no such key: {key}"))
}

fn no_such_key_of(key: &Value<'_>) -> EvalError {
    match key {
        Value::String(text) => no_such_key(text),
        Value::Int(number) => EvalError::Failed(format!("no such key: {number}")),
        Value::Uint(number) => EvalError::Failed(format!("no such key: {number}")),
        Value::Double(number) => {
            EvalError::Failed(format!("no such key: {}", super::convert::format_double(*number)))
        }
        Value::Bool(truth) => EvalError::Failed(format!("no such key: {truth}")),
        other => EvalError::Failed(format!("no such key: {}", other.type_name())),
    }
}
