//! Kubernetes' cost of expressions: what evaluation counts (here), and what can be told before (`estimate`).
//! Names, selections, indexes and calls cost 1, literals and `has` nothing, walks over text a tenth of its length.

mod bounds;
mod estimate;
mod functions;

use std::fmt;

pub use bounds::Estimate;
pub(crate) use estimate::estimate;

use crate::{ast::FoldKind, library::authz, value::Value};

/// Making a list.
pub(crate) const LIST: u64 = 10;
/// Making a map.
pub(crate) const MAP: u64 = 30;
/// Making an object.
pub(crate) const STRUCT: u64 = 40;
/// Going over text, per character.
const WALK: f64 = 0.1;
/// Matching, per character of the pattern.
const PATTERN: f64 = 0.25;
/// An authorization check: two fit into one expression.
const CHECK: u64 = 350_000;

/// What a call costs, by its arguments and its result.
#[derive(Clone, Copy)]
pub(crate) struct CallCost(pub(crate) fn(&[Value<'_>], Option<&Value<'_>>) -> u64);

impl fmt::Debug for CallCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallCost")
    }
}

/// A call that costs as little as one can.
pub(crate) const FIXED_ONE: CallCost = CallCost(|_, _| 1);

/// What a macro costs beside the expressions in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoldCost {
    /// Each time that the loop asks whether to go on.
    pub(crate) condition: u64,
    /// Each item that is taken.
    pub(crate) step: u64,
    /// The result.
    pub(crate) result: u64,
}

/// What the expansion of a macro costs beside the expressions in it.
pub(crate) fn fold_cost(kind: FoldKind) -> FoldCost {
    let (condition, step, result) = match kind {
        FoldKind::All => (2, 1, 1),
        FoldKind::Exists => (3, 1, 1),
        FoldKind::ExistsOne => (0, 2, 2),
        FoldKind::Map | FoldKind::TransformList => (0, LIST + 2, 1),
        FoldKind::Filter => (0, LIST + 3, 1),
        FoldKind::TransformMap => (0, 3, 1),
        FoldKind::TransformMapEntry => (0, 2, 1),
        FoldKind::SortBy => (0, LIST + 2, 3),
    };
    FoldCost { condition, step, result }
}

/// Sorting by keys whose type is known.
pub(crate) fn sort_by_key() -> CallCost {
    CallCost(|args, _| args.get(1).map_or(1, self_compare))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below the precision of a double, and never negative"
)]
fn walked(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn size(args: &[Value<'_>], at: usize) -> u64 {
    args.get(at).map_or(1, Value::cost_size)
}

fn walk_first(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(size(args, 0), WALK)
}

fn walk_first_twice(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(size(args, 0), 2.0 * WALK)
}

fn walk_lesser(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(size(args, 0).min(size(args, 1)), WALK)
}

fn walk_both(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(size(args, 0) + size(args, 1), WALK)
}

fn match_pattern(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(1 + size(args, 0), WALK) * walked(size(args, 1), PATTERN)
}

fn equality(args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    match args.first() {
        Some(
            Value::Quantity(_)
            | Value::Ip(_)
            | Value::Cidr(_)
            | Value::Format(_)
            | Value::Url(_)
            | Value::Semver(_)
            | Value::Authz(_),
        ) => 1,
        _ => walk_lesser(args, result),
    }
}

fn contains_text(args: &[Value<'_>], _: Option<&Value<'_>>) -> u64 {
    walked(size(args, 0), WALK) * walked(size(args, 1), WALK)
}

/// A value walked as a tree of data; one that is too large to be walked costs more than any budget.
fn walked_whole(value: &Value<'_>) -> u64 {
    if value.is_made() && !value.is_within(crate::machine::VALUE_LIMIT) {
        return u64::MAX;
    }
    traversal(value)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below the precision of a double, and never negative"
)]
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * WALK) as u64,
        Value::Bytes(octets) => (octets.len() as f64 * WALK) as u64,
        Value::List(list) => list.iter().map(|item| traversal(&item)).sum(),
        Value::Map(map) => {
            map.entries().iter().map(|(key, value)| traversal(key) + traversal(value)).sum()
        }
        _ => 1,
    }
}

/// A list made of so many steps.
fn allocating(steps: u64, factor: f64) -> u64 {
    floored(steps, factor) + LIST + 1
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are far below the precision of a double, and never negative"
)]
fn floored(size: u64, factor: f64) -> u64 {
    (size as f64 * factor) as u64
}

/// Every item of a list compared with every other.
fn self_compare(value: &Value<'_>) -> u64 {
    let Value::List(list) = value else { return 1 };
    let size = list.len() as u64;
    let text = matches!(list.get(0), Some(Value::String(_) | Value::Bytes(_)));
    allocating(size.saturating_mul(size), if text { 2.0 + WALK } else { 2.0 })
}

/// What an overload of an extension costs, before Kubernetes' own table is asked.
fn extension_cost(overload: &str) -> Option<CallCost> {
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => {
            CallCost(|_, result| allocating(result.map_or(1, Value::cost_size), 1.0))
        }
        "list_flatten" => CallCost(|args, _| allocating(size(args, 0), 1.0)),
        "list_flatten_int" => CallCost(|args, _| {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or_default(),
                _ => 1,
            };
            allocating(size(args, 0).saturating_mul(depth), 1.0)
        }),
        "list_distinct" => CallCost(|args, _| args.first().map_or(1, self_compare)),
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => {
            CallCost(|args, _| args.first().map_or(1, self_compare))
        }
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            CallCost(|args, _| 1_u64.saturating_add(size(args, 0).saturating_mul(size(args, 1))))
        }
        "list_sets_equivalent_list" => CallCost(|args, _| {
            let pairs = size(args, 0).saturating_mul(size(args, 1));
            1_u64.saturating_add(pairs.saturating_mul(2))
        }),
        _ => return None,
    })
}

/// What a function costs in Kubernetes, whatever its overload.
fn function_cost(function: &str, overload: &str) -> Option<CallCost> {
    Some(match function {
        "check" => CallCost(|_, _| CHECK),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
        | "allowed" | "reason" | "error" | "errored" => FIXED_ONE,
        "fieldSelector" | "labelSelector" => {
            CallCost(|args, _| authz::selector_cost(size(args, 1)))
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            CallCost(|args, _| args.first().map_or(0, walked_whole))
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => CallCost(walk_first),
        "replace" | "split" | "ip.isCanonical" => CallCost(walk_first_twice),
        "join" => CallCost(|_, result| walked(result.map_or(1, Value::cost_size), 2.0 * WALK)),
        "find" | "findAll" => CallCost(match_pattern),
        "ip" if overload == "cidr_ip" => FIXED_ONE,
        "ip" => CallCost(walk_first),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast" => FIXED_ONE,
        "containsIP" if overload == "cidr_contains_ip_string" => {
            CallCost(|args, _| walked(2 * size(args, 0), WALK) + walked(size(args, 1), WALK))
        }
        "containsIP" => CallCost(|args, _| walked(2 * size(args, 0), WALK)),
        "containsCIDR" if overload == "cidr_contains_cidr_string" => CallCost(|args, _| {
            walked(2 * size(args, 0), WALK)
                + walked(size(args, 0), WALK)
                + 1
                + walked(size(args, 1), WALK)
        }),
        "containsCIDR" => {
            CallCost(|args, _| walked(2 * size(args, 0), WALK) + walked(size(args, 0), WALK) + 1)
        }
        "validate" => CallCost(|args, _| match args.first() {
            Some(Value::Format(format)) => {
                walked(1 + size(args, 1), WALK) * walked(format.pattern_size, PATTERN)
            }
            _ => 1,
        }),
        "format.named" | "sign" | "asInteger" | "isInteger" | "asApproximateFloat"
        | "isGreaterThan" | "isLessThan" | "compareTo" | "add" | "sub" | "major" | "minor"
        | "patch" | "getScheme" | "getHostname" | "getHost" | "getPort" | "getEscapedPath"
        | "getQuery" => FIXED_ONE,
        _ => return None,
    })
}

/// What a call costs; `overload` is the one that the checker chose, when it could choose one.
pub(crate) fn call_cost(function: &str, overload: Option<&str>) -> CallCost {
    if let Some(cost) = overload.and_then(extension_cost) {
        return cost;
    }
    match function {
        "_==_" => return CallCost(equality),
        "_!=_" => return CallCost(walk_lesser),
        _ => {}
    }
    if let Some(cost) = function_cost(function, overload.unwrap_or_default()) {
        return cost;
    }
    match overload.unwrap_or_default() {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => CallCost(walk_first),
        "in_list" => CallCost(|args, _| size(args, 1)),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes" => CallCost(walk_lesser),
        "add_string" | "add_bytes" => CallCost(walk_both),
        // `matches(text, pattern)` has no cost of its own in the API server.
        "matches_string" => CallCost(match_pattern),
        "contains_string" => CallCost(contains_text),
        _ => FIXED_ONE,
    }
}
