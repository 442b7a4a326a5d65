//! The math extension of the specification: extremes, rounding, signs, bits.

use std::cmp::Ordering;

use super::{Library, Run};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    types::Type,
    value::Value,
};

/// Declares the extension.
pub(crate) fn declare(library: &mut Library) {
    declare_extreme(library, "math.@max", MAX_IDS, |machine, args| {
        extreme(machine, args, Ordering::Greater, "math.@max(list) argument must not be empty")
    });
    declare_extreme(library, "math.@min", MIN_IDS, |machine, args| {
        extreme(machine, args, Ordering::Less, "math.@min(list) argument must not be empty")
    });
    let rounding: [(&str, &str, Run); 4] = [
        ("math.ceil", "math_ceil_double", |_, args| Ok(Value::Double(double(args)?.ceil()))),
        ("math.floor", "math_floor_double", |_, args| Ok(Value::Double(double(args)?.floor()))),
        ("math.round", "math_round_double", |_, args| Ok(Value::Double(double(args)?.round()))),
        ("math.trunc", "math_trunc_double", |_, args| Ok(Value::Double(double(args)?.trunc()))),
    ];
    for (name, id, run) in rounding {
        library.global(name, id, [Type::Double], Type::Double, run);
    }
    let kinds: [(&str, &str, Run); 3] = [
        ("math.isInf", "math_isInf_double", |_, args| Ok(Value::Bool(double(args)?.is_infinite()))),
        ("math.isNaN", "math_isNaN_double", |_, args| Ok(Value::Bool(double(args)?.is_nan()))),
        ("math.isFinite", "math_isFinite_double", |_, args| {
            Ok(Value::Bool(double(args)?.is_finite()))
        }),
    ];
    for (name, id, run) in kinds {
        library.global(name, id, [Type::Double], Type::Bool, run);
    }
    for (id, of) in [
        ("math_abs_double", Type::Double),
        ("math_abs_int", Type::Int),
        ("math_abs_uint", Type::Uint),
    ] {
        library.global("math.abs", id, [of.clone()], of, absolute);
    }
    for (id, of) in [
        ("math_sign_double", Type::Double),
        ("math_sign_int", Type::Int),
        ("math_sign_uint", Type::Uint),
    ] {
        library.global("math.sign", id, [of.clone()], of, sign);
    }
    for (id, of) in [
        ("math_sqrt_double", Type::Double),
        ("math_sqrt_int", Type::Int),
        ("math_sqrt_uint", Type::Uint),
    ] {
        library.global("math.sqrt", id, [of], Type::Double, square_root);
    }
    declare_bits(library);
}

fn declare_bits(library: &mut Library) {
    let both: [(&str, [&str; 2], Run); 3] = [
        ("math.bitAnd", ["math_bitAnd_int_int", "math_bitAnd_uint_uint"], |_, args| {
            bits(args, |one, two| one & two)
        }),
        ("math.bitOr", ["math_bitOr_int_int", "math_bitOr_uint_uint"], |_, args| {
            bits(args, |one, two| one | two)
        }),
        ("math.bitXor", ["math_bitXor_int_int", "math_bitXor_uint_uint"], |_, args| {
            bits(args, |one, two| one ^ two)
        }),
    ];
    for (name, [of_int, of_uint], run) in both {
        library.global(name, of_int, [Type::Int, Type::Int], Type::Int, run);
        library.global(name, of_uint, [Type::Uint, Type::Uint], Type::Uint, run);
    }
    library.global("math.bitNot", "math_bitNot_int_int", [Type::Int], Type::Int, bit_not);
    library.global("math.bitNot", "math_bitNot_uint_uint", [Type::Uint], Type::Uint, bit_not);
    let shifts: [(&str, [&str; 2], Run); 2] = [
        (
            "math.bitShiftLeft",
            ["math_bitShiftLeft_int_int", "math_bitShiftLeft_uint_int"],
            |_, args| shift(args, "math.bitShiftLeft()", |bits, by| bits.checked_shl(by)),
        ),
        (
            "math.bitShiftRight",
            ["math_bitShiftRight_int_int", "math_bitShiftRight_uint_int"],
            |_, args| shift(args, "math.bitShiftRight()", |bits, by| bits.checked_shr(by)),
        ),
    ];
    for (name, [of_int, of_uint], run) in shifts {
        library.global(name, of_int, [Type::Int, Type::Int], Type::Int, run);
        library.global(name, of_uint, [Type::Uint, Type::Int], Type::Uint, run);
    }
}

/// The ids of an extreme's overloads: of one, of two alike, of two unlike, of lists.
struct ExtremeIds {
    one: [&'static str; 3],
    alike: [&'static str; 3],
    unlike: [&'static str; 6],
    lists: [&'static str; 3],
}

const MAX_IDS: ExtremeIds = ExtremeIds {
    one: ["math_@max_double", "math_@max_int", "math_@max_uint"],
    alike: ["math_@max_double_double", "math_@max_int_int", "math_@max_uint_uint"],
    unlike: [
        "math_@max_int_uint",
        "math_@max_int_double",
        "math_@max_double_int",
        "math_@max_double_uint",
        "math_@max_uint_int",
        "math_@max_uint_double",
    ],
    lists: ["math_@max_list_double", "math_@max_list_int", "math_@max_list_uint"],
};

const MIN_IDS: ExtremeIds = ExtremeIds {
    one: ["math_@min_double", "math_@min_int", "math_@min_uint"],
    alike: ["math_@min_double_double", "math_@min_int_int", "math_@min_uint_uint"],
    unlike: [
        "math_@min_int_uint",
        "math_@min_int_double",
        "math_@min_double_int",
        "math_@min_double_uint",
        "math_@min_uint_int",
        "math_@min_uint_double",
    ],
    lists: ["math_@min_list_double", "math_@min_list_int", "math_@min_list_uint"],
};

fn declare_extreme(library: &mut Library, name: &'static str, ids: ExtremeIds, run: Run) {
    use Type::{Double, Int, Uint};
    let numbers = [Double, Int, Uint];
    for ((one, alike), of) in ids.one.into_iter().zip(ids.alike).zip(numbers.clone()) {
        library.global(name, one, [of.clone()], of.clone(), run);
        library.global(name, alike, [of.clone(), of.clone()], of, run);
    }
    let unlike =
        [[Int, Uint], [Int, Double], [Double, Int], [Double, Uint], [Uint, Int], [Uint, Double]];
    for (id, of) in ids.unlike.into_iter().zip(unlike) {
        library.global(name, id, of, Type::Dyn, run);
    }
    for (id, of) in ids.lists.into_iter().zip(numbers) {
        library.global(name, id, [Type::list(of.clone())], of, run);
    }
}

fn extreme<'a>(
    _: &mut Machine<'a>,
    args: &[Value<'a>],
    wanted: Ordering,
    empty: &str,
) -> Fallible<Value<'a>> {
    let candidates: Vec<Value<'a>> = match args {
        [Value::List(list)] => list.iter().collect(),
        other => other.to_vec(),
    };
    let mut best: Option<Value<'a>> = None;
    for candidate in candidates {
        if !matches!(candidate, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
            return Err(EvalError::no_overload());
        }
        let better = best.as_ref().is_none_or(|best| candidate.compare(best) == Some(wanted));
        if better {
            best = Some(candidate);
        }
    }
    best.ok_or_else(|| EvalError::failed(empty))
}

fn double(args: &[Value<'_>]) -> Fallible<f64> {
    match args.first() {
        Some(Value::Double(number)) => Ok(*number),
        _ => Err(EvalError::no_overload()),
    }
}

fn absolute<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Double(number)) => Ok(Value::Double(number.abs())),
        Some(Value::Int(number)) => number
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(|| EvalError::failed("integer overflow")),
        Some(Value::Uint(number)) => Ok(Value::Uint(*number)),
        _ => Err(EvalError::no_overload()),
    }
}

fn sign<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Double(number)) if number.is_nan() || *number == 0.0 => {
            Ok(Value::Double(*number))
        }
        Some(Value::Double(number)) => Ok(Value::Double(number.signum())),
        Some(Value::Int(number)) => Ok(Value::Int(number.signum())),
        Some(Value::Uint(number)) => Ok(Value::Uint(u64::from(*number != 0))),
        _ => Err(EvalError::no_overload()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the root is a double")]
fn square_root<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let number = match args.first() {
        Some(Value::Double(number)) => *number,
        Some(Value::Int(number)) => *number as f64,
        Some(Value::Uint(number)) => *number as f64,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Double(number.sqrt()))
}

fn bits<'a>(args: &[Value<'a>], combine: fn(u64, u64) -> u64) -> Fallible<Value<'a>> {
    match args {
        [Value::Int(one), Value::Int(two)] => {
            Ok(Value::Int(combine(one.cast_unsigned(), two.cast_unsigned()).cast_signed()))
        }
        [Value::Uint(one), Value::Uint(two)] => Ok(Value::Uint(combine(*one, *two))),
        _ => Err(EvalError::no_overload()),
    }
}

fn bit_not<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    match args.first() {
        Some(Value::Int(number)) => Ok(Value::Int(!number)),
        Some(Value::Uint(number)) => Ok(Value::Uint(!number)),
        _ => Err(EvalError::no_overload()),
    }
}

fn shift<'a>(
    args: &[Value<'a>],
    name: &str,
    by: fn(u64, u32) -> Option<u64>,
) -> Fallible<Value<'a>> {
    let [value, Value::Int(places)] = args else { return Err(EvalError::no_overload()) };
    let places = u64::try_from(*places)
        .map_err(|_| EvalError::Failed(format!("{name} negative offset: {places}")))?;
    let places = u32::try_from(places).unwrap_or(u32::MAX);
    match value {
        Value::Int(number) => {
            Ok(Value::Int(by(number.cast_unsigned(), places).unwrap_or(0).cast_signed()))
        }
        Value::Uint(number) => Ok(Value::Uint(by(*number, places).unwrap_or(0))),
        _ => Err(EvalError::no_overload()),
    }
}
