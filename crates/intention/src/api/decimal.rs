//! Numbers by their decimal digits: what somebody wrote, and not what is nearest to it in binary.

use std::cmp::Ordering;

use serde_json::Number;

/// The most digits of a number.
const DIGITS_MAX: usize = 38;
/// Digits that each float of 64 bits keeps, whatever they are.
const FLOAT_DIGITS: usize = 15;

/// A number; each is written in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    /// Without a zero at the end.
    digits: u128,
    /// The power of ten by which they are multiplied.
    power: i32,
}

impl Decimal {
    pub(super) const ZERO: Self = Self { is_negative: false, digits: 0, power: 0 };

    /// Reads a number as JSON writes it; none where it has more digits than can be held.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, part].concat();
        let all = all.trim_start_matches('0');
        let digits = all.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self::ZERO);
        }
        if digits.len() > DIGITS_MAX {
            return None;
        }
        let power = power.checked_sub(i32::try_from(part.len()).ok()?)?;
        let power = power.checked_add(i32::try_from(all.len() - digits.len()).ok()?)?;
        Some(Self { is_negative, digits: digits.parse().ok()?, power })
    }

    /// What a document says; what it wrote is known as far as a float has kept it.
    pub(super) fn of(number: &Number) -> Option<Self> {
        match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => Self::of_float(float),
            None => Self::read(&number.to_string()),
        }
    }

    /// What a float stands for: the shortest number that is read as it, or where that has lost digits of a whole one, itself.
    fn of_float(float: f64) -> Option<Self> {
        let shortest = Self::read(&format!("{float:e}"))?;
        let count = shortest.digits.checked_ilog10().unwrap_or(0) as usize + 1;
        if count > FLOAT_DIGITS && float.fract() == 0.0 && float.abs() < 1e38 {
            return Self::read(&format!("{float:.0}"));
        }
        Some(shortest)
    }

    /// What programs take it for that keep numbers in floats. Whole numbers that others keep in 64 bits are themselves.
    pub(super) fn rounded(self) -> Self {
        if self.is_within(i128::from(i64::MIN), i128::from(u64::MAX)) {
            return self;
        }
        let float = self.to_float();
        float.and_then(Self::of_float).unwrap_or(self)
    }

    fn to_float(self) -> Option<f64> {
        let sign = if self.is_negative { "-" } else { "" };
        let float = format!("{sign}{}e{}", self.digits, self.power).parse::<f64>().ok()?;
        Some(float).filter(|it| it.is_finite())
    }

    /// Whether floats can hold something of it.
    pub(super) fn has_float(self) -> bool {
        self.to_float().is_some_and(|float| (float == 0.0) == self.is_zero())
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits == 0
    }

    pub(super) fn is_negative(self) -> bool {
        self.is_negative
    }

    /// Whether it has no part behind the point.
    pub(super) fn is_whole(self) -> bool {
        self.power >= 0
    }

    /// Whether it is whole, and not outside of a range.
    pub(super) fn is_within(self, least: i128, most: i128) -> bool {
        let Ok(power) = u32::try_from(self.power) else { return false };
        let tens = 10_u128.checked_pow(power);
        let size = tens.and_then(|tens| self.digits.checked_mul(tens));
        let Some(size) = size.and_then(|size| i128::try_from(size).ok()) else { return false };
        (least..=most).contains(&if self.is_negative { -size } else { size })
    }

    /// How many places apart the last digits of two stand.
    pub(super) fn apart(self, other: Self) -> usize {
        self.power.abs_diff(other.power) as usize
    }

    /// Whether it is a multiple of another one, whatever their signs.
    pub(super) fn is_multiple_of(self, other: Self) -> bool {
        if self.digits == 0 {
            return true;
        }
        let shift = self.power - other.power;
        if shift >= 0 {
            return multiply_by_tens(
                self.digits % other.digits,
                shift.unsigned_abs(),
                other.digits,
            ) == Some(0);
        }
        let tens = 10_u128.checked_pow(shift.unsigned_abs());
        let step = tens.and_then(|tens| other.digits.checked_mul(tens));
        step.is_some_and(|step| self.digits.is_multiple_of(step))
    }

    /// How its size stands to another one's.
    fn compare_size(self, other: Self) -> Ordering {
        let first = |it: Self| {
            it.digits.checked_ilog10().map(|places| i64::from(places) + i64::from(it.power))
        };
        match first(self).cmp(&first(other)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
        // Their first digits stand at the same place, so that neither gets longer than the other is.
        let least = self.power.min(other.power);
        let moved = |it: Self| it.digits * 10_u128.pow(it.power.abs_diff(least));
        moved(self).cmp(&moved(other))
    }

    /// The text of it, which no other has.
    pub(super) fn write(self, text: &mut String) {
        let sign = if self.is_negative { "-" } else { "" };
        text.push_str(&format!("{sign}{}e{}", self.digits, self.power));
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.compare_size(*other),
            (true, true) => other.compare_size(*self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `rest · 10^times`, of which the multiples of `modulus` are taken away; none where that is larger than can be counted.
fn multiply_by_tens(mut rest: u128, times: u32, modulus: u128) -> Option<u128> {
    for _ in 0..times {
        if rest == 0 {
            return Some(0);
        }
        rest = rest.checked_mul(10)? % modulus;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_all_of_their_digits() {
        for (less, more) in [
            ("100", "100.000000000000000001"),
            ("9223372036854775807", "9223372036854775808.0"),
            ("18446744073709551615", "18446744073709551616"),
            ("-1", "-0.99999999999999999999"),
            ("-1e300", "-1"),
            ("0", "1e-300"),
            ("-1e-300", "0"),
            ("9.9e9", "1e10"),
            ("99999999999999999999999999999999999998", "99999999999999999999999999999999999999"),
        ] {
            assert!(of(less) < of(more) && of(more) > of(less), "{less} {more}");
        }
        for (one, other) in
            [("1e19", "10000000000000000000"), ("0", "-0.0"), ("1.50", "15e-1"), ("1E+2", "100")]
        {
            assert_eq!(of(one), of(other));
            assert_eq!(of(one).cmp(&of(other)), Ordering::Equal);
        }
        assert_eq!(Decimal::read(&"7".repeat(39)), None);
        assert!(of("1e3").is_whole() && !of("1.5").is_whole() && of("7.0").is_whole());
    }

    #[test]
    fn floats_take_numbers_for_others() {
        for (text, taken) in [
            ("99.99999999999999999", "100"),
            ("0.1", "0.1"),
            ("9007199254740993", "9007199254740993"),
            ("9007199254740993.5", "9007199254740994"),
            ("18446744073709551616", "18446744073709551616"),
            ("18446744073709551617", "18446744073709551616"),
            ("1e23", "1e23"),
        ] {
            assert_eq!(of(text).rounded(), of(taken), "{text}");
        }
        assert!(!of("1e-400").has_float() && !of("1e400").has_float());
        assert!(of("0e999").has_float() && of("5e-324").has_float());
    }

    #[test]
    fn multiples_are_those_of_the_digits() {
        for (value, step, is) in [
            ("0.0075", "0.0001", true),
            ("0.00751", "0.0001", false),
            ("4.5", "1.5", true),
            ("35", "1.5", false),
            ("-7", "7", true),
            ("1e308", "0.123456789", false),
            ("12391239123", "1e-8", true),
            ("0", "3", true),
            ("1e300", "1e-300", true),
            ("1e-300", "1e300", false),
        ] {
            assert_eq!(of(value).is_multiple_of(of(step)), is, "{value} {step}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_and_floats_are_ordered_as_they_are(
            one: i64, other: i64, left in -1e18_f64..1e18, right in -1e-9_f64..1e-9,
        ) {
            prop_assert_eq!(of(&one.to_string()).cmp(&of(&other.to_string())), one.cmp(&other));
            let (left, right) = (left as f32, right as f32);
            // As they are written out a float of 32 bits has no more digits than are held.
            if let (Some(one), Some(other)) =
                (Decimal::read(&format!("{left}")), Decimal::read(&format!("{right}")))
            {
                prop_assert_eq!(one.cmp(&other), left.total_cmp(&right));
            }
        }
    }
}
