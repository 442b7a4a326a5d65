//! What calls of extensions and of Kubernetes' libraries may cost, by function: the API server's own table.

use super::{
    CHECK, Estimate, LIST, PATTERN, STRUCT, WALK,
    estimate::{CallEstimate, Estimator, Weighed},
};
use crate::types::Type;

/// The largest pattern of a named format.
const LONGEST_FORMAT: f64 = 128.0;
/// The most that comparing two formats looks at.
const FORMAT_SIZE: u64 = 64;

/// The cost of a call beside its arguments; `None` when the language's own table has it.
pub(super) fn estimate(sizes: &Estimator<'_>, call: &Weighed<'_>) -> Option<CallEstimate> {
    extension(sizes, call).or_else(|| kubernetes(sizes, call))
}

fn allocating(size: Estimate, factor: f64) -> CallEstimate {
    CallEstimate::sized(size.scaled(factor).plus(Estimate::fixed(LIST + 1)), size)
}

fn extension(sizes: &Estimator<'_>, call: &Weighed<'_>) -> Option<CallEstimate> {
    let target = call.target.map(|target| sizes.size_or_unknown(target));
    let whole = |at: usize| {
        call.args
            .get(at)
            .and_then(|argument| sizes.literal_int(*argument))
            .map(|number| u64::try_from(number).unwrap_or_default())
    };
    Some(match (call.overload, target) {
        ("list_slice", Some(target)) => {
            let start = whole(0).unwrap_or(0);
            let end = whole(1).unwrap_or(target.max);
            allocating(Estimate::fixed(end.wrapping_sub(start)), 1.0)
        }
        ("lists_range", None) => allocating(Estimate::fixed(whole(0).unwrap_or(u64::MAX)), 1.0),
        ("list_reverse" | "list_flatten", Some(target)) => allocating(target, 1.0),
        ("list_flatten_int", Some(target)) => {
            #[expect(clippy::cast_precision_loss, reason = "a factor")]
            let depth = whole(0).unwrap_or(u64::MAX) as f64;
            allocating(target, depth)
        }
        ("list_distinct", Some(target)) => allocating(target.times(target), 2.0),
        ("list_string_sort" | "list_bytes_sort", Some(target)) => {
            allocating(target.times(target), 2.0 + WALK)
        }
        (overload, Some(target))
            if overload.starts_with("list_") && overload.ends_with("_sort") =>
        {
            allocating(target.times(target), 2.0)
        }
        ("list_sets_contains_list" | "list_sets_intersects_list", None) => {
            CallEstimate::of(both(sizes, call)?.scaled(1.0).plus(Estimate::ONE))
        }
        ("list_sets_equivalent_list", None) => {
            CallEstimate::of(both(sizes, call)?.scaled(2.0).plus(Estimate::ONE))
        }
        _ => return None,
    })
}

fn both(sizes: &Estimator<'_>, call: &Weighed<'_>) -> Option<Estimate> {
    let [one, two] = call.args else { return None };
    Some(sizes.size_or_unknown(*one).times(sizes.size_or_unknown(*two)))
}

fn kubernetes(sizes: &Estimator<'_>, call: &Weighed<'_>) -> Option<CallEstimate> {
    let one = || CallEstimate::of(Estimate::ONE);
    let first = call.args.first().map(|argument| sizes.size_or_unknown(*argument));
    let target = call.target.map(|target| sizes.size_or_unknown(target));
    Some(match call.function {
        "check" => CallEstimate::of(Estimate::fixed(CHECK)),
        "serviceAccount"
        | "path"
        | "group"
        | "resource"
        | "subresource"
        | "namespace"
        | "name"
        | "allowed"
        | "reason"
        | "error"
        | "errored"
        | "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => one(),
        "fieldSelector" | "labelSelector" => CallEstimate::of(selector(first?)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            CallEstimate::of(over_items(sizes, call, target?))
        }
        "url" | "jsonpatch.escapeKey" => {
            let size = first?;
            CallEstimate::sized(size.scaled(WALK), size)
        }
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let size = target?;
            CallEstimate::sized(size.scaled(WALK), size)
        }
        "replace" => replaced(sizes, call, target?)?,
        "split" => {
            let size = target?;
            let limit = call.args.get(1).and_then(|limit| sizes.literal_int(*limit));
            let max = limit.map_or(size.max, i64::cast_unsigned);
            CallEstimate::sized(size.scaled(2.0 * WALK), Estimate { min: 0, max })
        }
        "join" => {
            let size = joined(sizes, call, target?);
            CallEstimate::sized(size.scaled(WALK), size)
        }
        "find" | "findAll" => {
            let size = target?;
            let walk = size.plus(Estimate::ONE).scaled(WALK);
            let cost = walk.times(first?.scaled(PATTERN));
            CallEstimate::sized(cost, Estimate { min: 0, max: size.max })
        }
        "ip" if call.overload == "cidr_ip" => one(),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            CallEstimate::of(first?.scaled(WALK))
        }
        "ip.isCanonical" => CallEstimate::of(first?.scaled(2.0 * WALK)),
        "containsIP" => {
            let mut cost = ADDRESS.plus(ADDRESS).scaled(WALK);
            if call.overload == "cidr_contains_ip_string" {
                cost = cost.plus(first?.scaled(WALK));
            }
            CallEstimate::of(cost)
        }
        "containsCIDR" => {
            let compare = ADDRESS.plus(ADDRESS).scaled(WALK);
            let mut cost = compare.plus(ADDRESS.scaled(WALK)).plus(Estimate::ONE);
            if call.overload == "cidr_contains_cidr_string" {
                cost = cost.plus(first?.scaled(WALK));
            }
            CallEstimate::of(cost)
        }
        "validate" => CallEstimate::of(first?.scaled(WALK).scaled(LONGEST_FORMAT * PATTERN)),
        "_==_" => equality(sizes, call)?,
        _ => return None,
    })
}

/// An address in octets.
const ADDRESS: Estimate = Estimate { min: 4, max: 16 };

#[expect(clippy::cast_precision_loss, reason = "a factor")]
fn selector(length: Estimate) -> Estimate {
    let requirements = length.scaled(0.5).scaled((LIST + STRUCT) as f64);
    Estimate::fixed(LIST).plus(length.scaled(WALK)).plus(requirements)
}

/// A function that looks at every item once.
fn over_items(sizes: &Estimator<'_>, call: &Weighed<'_>, size: Estimate) -> Estimate {
    let of = call.target.map_or(&Type::Dyn, |target| sizes.type_of(target));
    match of {
        Type::List(element) => {
            let each = match element.as_ref() {
                Type::String | Type::Bytes => Estimate::ONE.plus(Estimate::UNKNOWN.scaled(WALK)),
                _ => Estimate::ONE,
            };
            size.times(each)
        }
        Type::Map(..) | Type::Optional(_) => size,
        _ if call.function == "includes" => size,
        _ => size.scaled(WALK),
    }
}

fn replaced(sizes: &Estimator<'_>, call: &Weighed<'_>, size: Estimate) -> Option<CallEstimate> {
    let [old, new, ..] = call.args else { return None };
    let (old, new) = (sizes.size_or_unknown(*old), sizes.size_or_unknown(*new));
    let mut count = Estimate::ZERO;
    let mut kept = Estimate::ZERO;
    if old.min == 0 {
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if new.max <= old.min {
        kept.max = size.max;
    } else {
        count.max = divided(size.max, old.min);
    }
    if old.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if old.max <= new.min {
        kept.min = size.min;
    } else {
        count.min = divided(size.min, old.max);
    }
    let result = count.times(new).plus(kept);
    Some(CallEstimate::sized(size.scaled(2.0 * WALK), result))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are divided as the API server divides them, in doubles"
)]
fn divided(size: u64, by: u64) -> u64 {
    (size as f64 / by as f64).ceil() as u64
}

fn joined(sizes: &Estimator<'_>, call: &Weighed<'_>, list: Estimate) -> Estimate {
    let typed = call.target.is_some_and(|target| matches!(sizes.type_of(target), Type::List(_)));
    let items = if typed { list.times(Estimate::UNKNOWN) } else { Estimate::ZERO };
    let Some(separator) = call.args.first() else { return items };
    let gaps = Estimate { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
    items.plus(sizes.size_or_unknown(*separator).times(gaps))
}

fn equality(sizes: &Estimator<'_>, call: &Weighed<'_>) -> Option<CallEstimate> {
    let [one, two] = call.args else { return None };
    let (one, two) = (sizes.type_of(*one), sizes.type_of(*two));
    if one != two {
        return None;
    }
    match one {
        Type::Opaque("kubernetes.NamedFormat") => {
            Some(CallEstimate::of(Estimate { min: 1, max: FORMAT_SIZE }.scaled(WALK)))
        }
        Type::Opaque("kubernetes.URL") => {
            let size = call.args.get(1).map_or(1, |two| sizes.computed(*two));
            Some(CallEstimate::of(Estimate { min: 1, max: size }.scaled(WALK)))
        }
        Type::Opaque(_) => Some(CallEstimate::of(Estimate::ONE)),
        _ => None,
    }
}
