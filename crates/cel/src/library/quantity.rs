//! The quantity library: Kubernetes' quantities of resources, with the API machinery's two forms: numbers of 64 bits with
//! a decimal scale, and decimals of any size, which are never integers.

use std::{cmp::Ordering, sync::Arc};

use num_bigint::BigInt;

use super::{Library, int, text};
use crate::{
    error::{EvalError, Fallible},
    types::Type,
    value::Value,
};

const QUANTITY: Type = Type::Opaque("kubernetes.Quantity");
/// A small number has at most so many digits.
const SMALL_DIGITS: i32 = 18;
/// Nothing is finer than a billionth.
const NANO: i32 = -9;
/// An exponent beyond this is refused: numbers of that length cannot be worked with.
const MAX_EXPONENT: i32 = 4096;

const WRONG_FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const WRONG_SUFFIX: &str = "unable to parse quantity's suffix";

/// An amount of a resource.
#[derive(Clone, Debug)]
pub struct Quantity {
    amount: Amount,
    origin: Origin,
}

/// Where an amount comes from. The API server holds one that was computed in another form, which no other equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Read,
    Computed,
}

#[derive(Clone, Debug)]
enum Amount {
    /// `value × 10^scale`.
    Small { value: i64, scale: i32 },
    /// `value × 10^scale`, of any size.
    Decimal { value: BigInt, scale: i32 },
}

/// What a suffix means.
enum Suffix {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    library.global("quantity", "string_to_quantity", [Type::String], QUANTITY, |_, args| {
        let quantity = Quantity::parse(text(args, 0)?).map_err(EvalError::failed)?;
        Ok(Value::Quantity(Arc::new(quantity)))
    });
    library.global("isQuantity", "is_quantity_string", [Type::String], Type::Bool, |_, args| {
        Ok(Value::Bool(Quantity::parse(text(args, 0)?).is_ok()))
    });
    library.global("sign", "quantity_sign", [QUANTITY], Type::Int, |_, args| {
        Ok(Value::Int(quantity(args, 0)?.sign() as i64))
    });
    let pair = [QUANTITY, QUANTITY];
    library.member(
        "isGreaterThan",
        "quantity_is_greater_than",
        pair.clone(),
        Type::Bool,
        |_, args| Ok(Value::Bool(quantity(args, 0)?.compare(quantity(args, 1)?).is_gt())),
    );
    library.member("isLessThan", "quantity_is_less_than", pair.clone(), Type::Bool, |_, args| {
        Ok(Value::Bool(quantity(args, 0)?.compare(quantity(args, 1)?).is_lt()))
    });
    library.member("compareTo", "quantity_compare_to", pair.clone(), Type::Int, |_, args| {
        Ok(Value::Int(quantity(args, 0)?.compare(quantity(args, 1)?) as i64))
    });
    library.member(
        "asApproximateFloat",
        "quantity_get_float",
        [QUANTITY],
        Type::Double,
        |_, args| Ok(Value::Double(quantity(args, 0)?.approximate())),
    );
    library.member("asInteger", "quantity_get_int", [QUANTITY], Type::Int, |_, args| {
        quantity(args, 0)?
            .integer()
            .map(Value::Int)
            .ok_or_else(|| EvalError::failed("cannot convert value to integer"))
    });
    library.member("isInteger", "quantity_is_integer", [QUANTITY], Type::Bool, |_, args| {
        Ok(Value::Bool(quantity(args, 0)?.integer().is_some()))
    });
    library.member("add", "quantity_add", pair.clone(), QUANTITY, |_, args| {
        Ok(made(quantity(args, 0)?.plus(quantity(args, 1)?)))
    });
    library.member("add", "quantity_add_int", [QUANTITY, Type::Int], QUANTITY, |_, args| {
        Ok(made(quantity(args, 0)?.plus(&Quantity::of(int(args, 1)?))))
    });
    library.member("sub", "quantity_sub", pair, QUANTITY, |_, args| {
        Ok(made(quantity(args, 0)?.minus(quantity(args, 1)?)))
    });
    library.member("sub", "quantity_sub_int", [QUANTITY, Type::Int], QUANTITY, |_, args| {
        Ok(made(quantity(args, 0)?.minus(&Quantity::of(int(args, 1)?))))
    });
}

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Quantity(Arc::new(Quantity { origin: Origin::Computed, ..quantity }))
}

fn quantity<'v>(args: &'v [Value<'_>], at: usize) -> Fallible<&'v Quantity> {
    match args.get(at) {
        Some(Value::Quantity(quantity)) => Ok(quantity),
        _ => Err(EvalError::no_overload()),
    }
}

impl Quantity {
    fn of(value: i64) -> Quantity {
        Quantity::read(Amount::Small { value, scale: 0 })
    }

    /// Reads a quantity.
    ///
    /// # Errors
    ///
    /// Says which part cannot be read.
    pub fn parse(source: &str) -> Result<Quantity, &'static str> {
        if source.is_empty() {
            return Err(WRONG_FORM);
        }
        let (negative, unsigned) = match source.as_bytes().first() {
            Some(b'-') => (true, &source[1..]),
            Some(b'+') => (false, &source[1..]),
            _ => (false, source),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let significant = unsigned.trim_start_matches('0');
        let (whole, rest) = significant.split_at(digits(significant));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", rest),
        };
        let suffix = suffix_of(rest)?;
        if let Some(small) = small(whole, fraction, &suffix, negative) {
            return Ok(Quantity::read(small));
        }
        Ok(Quantity::read(decimal(whole, fraction, &suffix, negative)))
    }

    /// Whether it is a sum or difference.
    pub(crate) fn is_computed(&self) -> bool {
        self.origin == Origin::Computed
    }

    fn read(amount: Amount) -> Quantity {
        Quantity { amount, origin: Origin::Read }
    }

    fn parts(&self) -> (BigInt, i32) {
        match &self.amount {
            Amount::Small { value, scale } => (BigInt::from(*value), *scale),
            Amount::Decimal { value, scale } => (value.clone(), *scale),
        }
    }

    fn sign(&self) -> Ordering {
        match &self.amount {
            Amount::Small { value, .. } => value.cmp(&0),
            Amount::Decimal { value, .. } => value.cmp(&BigInt::ZERO),
        }
    }

    /// Which is more.
    #[must_use]
    pub fn compare(&self, other: &Quantity) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        if signs != Ordering::Equal {
            return signs;
        }
        let (one, two) = aligned(self.parts(), other.parts());
        one.0.cmp(&two.0)
    }

    fn integer(&self) -> Option<i64> {
        match &self.amount {
            Amount::Small { value, scale } if *scale >= 0 => scaled_up(*value, *scale),
            Amount::Small { .. } | Amount::Decimal { .. } => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an approximation is asked for")]
    fn approximate(&self) -> f64 {
        match &self.amount {
            Amount::Small { value, scale: 0 } => *value as f64,
            Amount::Small { value, scale } => power_of_ten(*value as f64, *scale),
            Amount::Decimal { value, scale } => {
                let value: f64 = value.to_string().parse().unwrap_or(f64::NAN);
                if *scale == 0 { value } else { power_of_ten(value, *scale) }
            }
        }
    }

    fn plus(&self, other: &Quantity) -> Quantity {
        let small = match (&self.amount, &other.amount) {
            (
                Amount::Small { value, scale },
                Amount::Small { value: other_value, scale: other_scale },
            ) => add_small((*value, *scale), (*other_value, *other_scale)),
            _ => None,
        };
        if let Some((value, scale)) = small {
            return Quantity::read(Amount::Small { value, scale });
        }
        let (one, two) = aligned(self.parts(), other.parts());
        Quantity::read(Amount::Decimal { value: one.0 + two.0, scale: one.1 })
    }

    fn minus(&self, other: &Quantity) -> Quantity {
        let negated = match &other.amount {
            // The least number is its own negative, as in the API machinery.
            Amount::Small { value, scale } => {
                Amount::Small { value: value.wrapping_neg(), scale: *scale }
            }
            Amount::Decimal { value, scale } => Amount::Decimal { value: -value, scale: *scale },
        };
        self.plus(&Quantity::read(negated))
    }
}

fn power_of_ten(value: f64, scale: i32) -> f64 {
    // As Go's `Pow10` makes it: of two powers that a table has, which is not the nearest double of every power.
    let table = |power: i32| format!("1e{power}").parse::<f64>().unwrap_or(f64::NAN);
    let power = match scale {
        0..=308 => table(scale / 32 * 32) * table(scale % 32),
        -323..0 => table(scale / 32 * 32) / table(-scale % 32),
        309.. => f64::INFINITY,
        _ => 0.0,
    };
    value * power
}

fn scaled_up(value: i64, scale: i32) -> Option<i64> {
    let scale = u32::try_from(scale).ok()?;
    if value == 0 {
        return Some(0);
    }
    value.checked_mul(10_i64.checked_pow(scale)?)
}

fn add_small(one: (i64, i32), two: (i64, i32)) -> Option<(i64, i32)> {
    if two.0 == 0 {
        return Some(one);
    }
    if one.0 == 0 {
        return Some(two);
    }
    let scale = one.1.min(two.1);
    let one = scaled_up(one.0, one.1 - scale)?;
    let two = scaled_up(two.0, two.1 - scale)?;
    Some((one.checked_add(two)?, scale))
}

/// Two numbers with one scale.
fn aligned(one: (BigInt, i32), two: (BigInt, i32)) -> ((BigInt, i32), (BigInt, i32)) {
    let scale = one.1.min(two.1);
    let widen = |(value, own): (BigInt, i32)| {
        let shift = u32::try_from(own - scale).unwrap_or(0);
        (value * BigInt::from(10).pow(shift), scale)
    };
    (widen(one), widen(two))
}

fn suffix_of(rest: &str) -> Result<Suffix, &'static str> {
    let letters = rest.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    let exponent = &rest[letters..];
    let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG_FORM);
    }
    if exponent.is_empty() {
        return Ok(match rest {
            "" => Suffix::Ten(0),
            "n" => Suffix::Ten(-9),
            "u" => Suffix::Ten(-6),
            "m" => Suffix::Ten(-3),
            "k" => Suffix::Ten(3),
            "M" => Suffix::Ten(6),
            "G" => Suffix::Ten(9),
            "T" => Suffix::Ten(12),
            "P" => Suffix::Ten(15),
            "E" => Suffix::Ten(18),
            "Ki" => Suffix::Two(10),
            "Mi" => Suffix::Two(20),
            "Gi" => Suffix::Two(30),
            "Ti" => Suffix::Two(40),
            "Pi" => Suffix::Two(50),
            "Ei" => Suffix::Two(60),
            _ => return Err(WRONG_SUFFIX),
        });
    }
    if !matches!(&rest[..letters], "e" | "E") {
        return Err(WRONG_SUFFIX);
    }
    exponent
        .parse::<i32>()
        .ok()
        .filter(|exponent| exponent.abs() <= MAX_EXPONENT)
        .map(Suffix::Ten)
        .ok_or(WRONG_SUFFIX)
}

/// The number in 64 bits, when the API machinery keeps it so.
fn small(whole: &str, fraction: &str, suffix: &Suffix, negative: bool) -> Option<Amount> {
    let length = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX);
    // A missing whole part is a written zero.
    let whole = if whole.is_empty() { "0" } else { whole };
    let (precision, scale, factor) = match suffix {
        Suffix::Ten(exponent) => (
            SMALL_DIGITS.saturating_sub(length(whole).saturating_add(length(fraction))),
            *exponent,
            1_i64,
        ),
        Suffix::Two(exponent) if fraction.is_empty() => {
            let digits = i32::try_from(exponent * 3 / 10).ok()?;
            (15_i32.saturating_sub(length(whole)) - digits - 1, 0, 1_i64.checked_shl(*exponent)?)
        }
        Suffix::Two(_) => return None,
    };
    let scale = scale.saturating_sub(length(fraction));
    if precision < 0 || scale < NANO {
        return None;
    }
    let value: i64 = format!("{whole}{fraction}").parse().ok()?;
    let value = value.checked_mul(factor)?;
    Some(Amount::Small { value: if negative { -value } else { value }, scale })
}

fn decimal(whole: &str, fraction: &str, suffix: &Suffix, negative: bool) -> Amount {
    let digits = format!("0{whole}{fraction}");
    let mut value: BigInt = digits.parse().unwrap_or_default();
    let mut scale = -i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    match suffix {
        Suffix::Ten(exponent) => scale = scale.saturating_add(*exponent),
        Suffix::Two(exponent) => value <<= *exponent,
    }
    // Every one is held in billionths.
    if scale > NANO && value != BigInt::ZERO {
        value *= BigInt::from(10).pow(scale.abs_diff(NANO));
        scale = NANO;
    }
    // What is finer than a billionth is rounded up: whoever asks for a little gets a little.
    if scale < NANO {
        let divisor = BigInt::from(10).pow(NANO.abs_diff(scale));
        let rounded = &value / &divisor;
        let exact = &rounded * &divisor == value;
        value = if exact { rounded } else { rounded + 1 };
        scale = NANO;
    }
    if matches!(suffix, Suffix::Two(_)) {
        let (amount, limit) = aligned((value.clone(), scale), (BigInt::from(i64::MAX), 0));
        if amount.0 > limit.0 {
            (value, scale) = (BigInt::from(i64::MAX), 0);
        }
    }
    Amount::Decimal { value: if negative { -value } else { value }, scale }
}
