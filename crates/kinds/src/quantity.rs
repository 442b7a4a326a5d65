//! Amounts of resources in the form in which Kubernetes writes them: `1000m` is `1`, `1024Mi` is `1Gi`.

use std::cmp::Ordering;

use num_bigint::BigInt;

/// Nothing is finer than a billionth.
const NANO: i32 = -9;
/// An exponent beyond this is refused: numbers of that length cannot be worked with.
const MAX_EXPONENT: i32 = 4096;
/// The API machinery counts with 64 bits up to so many digits.
const SMALL_DIGITS: i32 = 18;

/// An amount, `value × 10^scale`.
#[derive(Debug, Clone)]
pub(crate) struct Quantity {
    value: BigInt,
    scale: i32,
    form: Form,
    /// As it was written, where the API machinery keeps it so.
    kept: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Decimal,
    Exponent,
    Binary,
}

impl Quantity {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let significant = unsigned.trim_start_matches('0');
        let (whole, rest) = significant.split_at(digits(significant));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() && !unsigned.contains('0') {
            return None;
        }
        let (base, exponent, form) = suffix(rest)?;
        let whole = if whole.is_empty() { "0" } else { whole };
        let shifted = format!("{whole}{fraction}");
        let negative = text.starts_with('-');
        let value: BigInt = shifted.parse().ok()?;
        let length = i32::try_from(shifted.len()).ok()?;
        let behind = i32::try_from(fraction.len()).ok()?;
        let scale = if base == 10 { exponent } else { 0 } - behind;
        let fits = match form {
            Form::Binary => behind == 0 && 15 - length - exponent * 3 / 10 > 0,
            Form::Decimal | Form::Exponent => length <= SMALL_DIGITS && scale >= NANO,
        };
        let signed = |value: BigInt| if negative { -value } else { value };
        let shift = u32::try_from(exponent).unwrap_or_default();
        let multiplied = if base == 2 { &value << shift } else { value.clone() };
        if fits && i64::try_from(&multiplied).is_ok() {
            let is_canonical = match form {
                Form::Binary => (&value & BigInt::from(7)) != BigInt::ZERO,
                Form::Decimal | Form::Exponent => {
                    scale % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0')
                }
            };
            let kept = is_canonical.then(|| text.to_owned());
            return Some(Self { value: signed(multiplied), scale, form, kept });
        }
        let (mut value, mut scale) = (multiplied, scale);
        if scale < NANO {
            (value, scale) = rounded(value, scale, NANO);
        }
        let mut form = form;
        if form == Form::Binary {
            let most = BigInt::from(i64::MAX);
            if compare((&value, scale), (&most, 0)).is_gt() {
                (value, scale) = (most, 0);
            }
            if value != BigInt::ZERO && compare((&value, scale), (&BigInt::from(1), 0)).is_lt() {
                form = Form::Decimal;
            }
        }
        Some(Self { value: signed(value), scale, form, kept: None })
    }

    /// Rounded away from zero to thousandths, as the API server does with resources.
    pub(crate) fn to_milli(&self) -> Self {
        if self.scale >= -3 {
            return self.clone();
        }
        let (value, scale) = rounded(self.value.clone(), self.scale, -3);
        Self { value, scale, form: self.form, kept: None }
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        let scale = self.scale.min(other.scale);
        let value =
            widened(&self.value, self.scale, scale) + widened(&other.value, other.scale, scale);
        // Nothing takes the form of what it is added to.
        let form = if self.value == BigInt::ZERO { other.form } else { self.form };
        Self { value, scale, form, kept: None }
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        compare((&self.value, self.scale), (&other.value, other.scale))
    }

    /// As Kubernetes writes it.
    pub(crate) fn written(&self) -> String {
        if let Some(kept) = &self.kept {
            return kept.clone();
        }
        if self.value == BigInt::ZERO {
            return "0".to_owned();
        }
        if self.form == Form::Binary
            && let Some(whole) = self.whole()
            && whole.magnitude() >= BigInt::from(1024).magnitude()
        {
            let (value, times) = without_factor(whole, 1024);
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(times as usize);
            return format!("{value}{}", suffix.copied().unwrap_or_default());
        }
        let (mut value, times) = without_factor(self.value.clone(), 10);
        let mut exponent = self.scale + i32::try_from(times).unwrap_or_default();
        while exponent % 3 != 0 {
            value *= 10;
            exponent -= 1;
        }
        let suffix = match (self.form, exponent) {
            (_, 0) => String::new(),
            (Form::Exponent, exponent) => format!("e{exponent}"),
            (Form::Decimal | Form::Binary, exponent) => decimal_suffix(exponent).to_owned(),
        };
        format!("{value}{suffix}")
    }

    /// The value, if it has no fraction.
    fn whole(&self) -> Option<BigInt> {
        if self.scale >= 0 {
            return Some(widened(&self.value, self.scale, 0));
        }
        let divisor = power(self.scale.unsigned_abs());
        let whole = &self.value / &divisor;
        (&whole * &divisor == self.value).then_some(whole)
    }
}

fn suffix(text: &str) -> Option<(u32, i32, Form)> {
    let decimal = |exponent| Some((10, exponent, Form::Decimal));
    let binary = |exponent| Some((2, exponent, Form::Binary));
    match text {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent.abs() <= MAX_EXPONENT).then_some((10, exponent, Form::Exponent))
        }
    }
}

/// Empty beyond what has a name, as in the API machinery.
fn decimal_suffix(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

fn power(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

fn widened(value: &BigInt, from: i32, to: i32) -> BigInt {
    value * power(from.saturating_sub(to).unsigned_abs())
}

/// Away from zero: whoever asks for a little gets a little.
fn rounded(value: BigInt, from: i32, to: i32) -> (BigInt, i32) {
    let divisor = power(to.saturating_sub(from).unsigned_abs());
    let quotient = &value / &divisor;
    if &quotient * &divisor == value {
        return (quotient, to);
    }
    let away = if value < BigInt::ZERO { quotient - 1 } else { quotient + 1 };
    (away, to)
}

fn compare(one: (&BigInt, i32), two: (&BigInt, i32)) -> Ordering {
    let scale = one.1.min(two.1);
    widened(one.0, one.1, scale).cmp(&widened(two.0, two.1, scale))
}

fn without_factor(mut value: BigInt, factor: u32) -> (BigInt, u32) {
    let mut times = 0;
    while value != BigInt::ZERO && (&value % factor) == BigInt::ZERO {
        value /= factor;
        times += 1;
    }
    (value, times)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn amounts_are_written_as_kubernetes_does() {
        for (text, written) in [
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("100m", "100m"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1500Mi", "1500Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("12E", "12E"),
            ("0", "0"),
            ("0Mi", "0"),
            ("1048576", "1048576"),
            ("1000", "1k"),
            ("+1", "+1"),
            ("-0.5", "-500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("100Ei", "9223372036854775807"),
            ("1023Ki", "1023Ki"),
            ("1E", "1E"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().written(), written, "{text}");
        }
        for wrong in ["", "a", "1x", "1 Gi", "--1", ".", "1e", "1e99999", "Mi"] {
            assert!(Quantity::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(Quantity::parse("100u").unwrap().to_milli().written(), "1m");
        assert_eq!(Quantity::parse("1100u").unwrap().to_milli().written(), "2m");
    }
}
