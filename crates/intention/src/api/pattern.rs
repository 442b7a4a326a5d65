//! Regular expressions as JSON Schema means them (ECMA-262), for an engine whose time grows with the text alone.
//!
//! What the two would read in different ways is translated, or refused: nothing is allowed by an expression that somebody else would
//! read in a narrower way.

use regex::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take, and its cache while it runs; in bytes.
const COMPILED_MAX: usize = 128 * 1024;
/// The longest expression.
const LENGTH_MAX: usize = 2_000;

/// White space and ends of lines (ECMA-262, WhiteSpace and LineTerminator): not all that Unicode calls so.
const SPACE: &str = r"\t\n\x0b\x0c\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// An expression that some part of a text must fit.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > LENGTH_MAX {
            return Err(format!("it is longer than {LENGTH_MAX} bytes"));
        }
        let built = RegexBuilder::new(&translate(source)?)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .nest_limit(50)
            .build();
        match built {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("it is larger than 128 KiB when it is compiled: write a shorter one".to_owned())
            }
            Err(error) => {
                let told = error.to_string();
                let last = told.lines().last().unwrap_or_default();
                Err(last.trim_start_matches("error: ").to_owned())
            }
        }
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// Where in an expression something stands.
#[derive(PartialEq, Eq)]
enum Inside {
    Nothing,
    Class,
}

fn translate(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.chars().peekable();
    let mut inside = Inside::Nothing;
    while let Some(c) = chars.next() {
        match (c, &inside) {
            ('\\', _) => escape(&mut chars, &inside, &mut out)?,
            ('[', Inside::Nothing) => {
                inside = Inside::Class;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                if chars.peek() == Some(&']') {
                    return Err("an empty class fits nothing, or all: say what".to_owned());
                }
            }
            (']', Inside::Class) => {
                inside = Inside::Nothing;
                out.push(']');
            }
            // These join classes in one engine, and stand for themselves in the other.
            ('[' | '&' | '~', Inside::Class) => out.extend(['\\', c]),
            ('-', Inside::Class) => {
                out.push('-');
                if chars.peek() == Some(&'-') {
                    return Err("`--` in a class is read in two ways: write `\\-`".to_owned());
                }
                if is_shorthand(&chars) {
                    return Err(RANGE.to_owned());
                }
            }
            ('.', Inside::Nothing) => out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            ('(', Inside::Nothing) if chars.peek() == Some(&'?') => {
                group(&mut chars, &mut out)?;
            }
            ('{', Inside::Nothing) if chars.peek() == Some(&',') => {
                return Err("`{,` is read in two ways: write `{0,`".to_owned());
            }
            (c, _) => out.push(c),
        }
    }
    Ok(out)
}

type Chars<'s> = std::iter::Peekable<std::str::Chars<'s>>;

const RANGE: &str = "a class like `\\w` ends no range: write `\\-` where the minus is meant";

/// Whether a class of characters comes next that has a name.
fn is_shorthand(chars: &Chars<'_>) -> bool {
    let mut ahead = chars.clone();
    ahead.next() == Some('\\')
        && matches!(ahead.next(), Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P'))
}

/// Whether what stands before in a class would begin a range.
fn begins_range(chars: &Chars<'_>) -> bool {
    let mut ahead = chars.clone();
    ahead.next() == Some('-') && ahead.next() != Some(']')
}

fn group(chars: &mut Chars<'_>, out: &mut String) -> Result<(), String> {
    chars.next();
    match (chars.next(), chars.peek()) {
        (Some(':'), _) => out.push_str("(?:"),
        (Some('<'), Some(c)) if c.is_ascii_alphabetic() => out.push_str("(?P<"),
        _ => {
            return Err("it looks ahead or behind, or sets a flag (`(?`): expressions whose time is bounded have no such".to_owned());
        }
    }
    Ok(())
}

fn escape(chars: &mut Chars<'_>, inside: &Inside, out: &mut String) -> Result<(), String> {
    let Some(c) = chars.next() else { return Err("it ends with `\\`".to_owned()) };
    let in_class = *inside == Inside::Class;
    if in_class && matches!(c, 'd' | 'D' | 'w' | 'W' | 's' | 'S') && begins_range(chars) {
        return Err(RANGE.to_owned());
    }
    match c {
        'd' => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
        'w' => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.extend(["[", SPACE, "]"]),
        'S' => out.extend(["[^", SPACE, "]"]),
        'b' if !in_class => out.push_str(r"(?-u:\b)"),
        'B' if !in_class => out.push_str(r"(?-u:\B)"),
        't' | 'n' | 'r' | 'f' | 'v' | 'x' | 'u' | 'p' | 'P' => out.extend(['\\', c]),
        '0' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str(r"\x00"),
        'c' => match chars.next() {
            Some(letter) if letter.is_ascii_alphabetic() => {
                out.push_str(&format!(r"\x{:02x}", letter as u32 % 32));
            }
            _ => return Err("`\\c` wants a letter".to_owned()),
        },
        c if c.is_ascii_alphanumeric() => {
            return Err(format!(
                "`\\{c}` is nothing that is known here; backward references are not"
            ));
        }
        // Behind `\` they are edges of words in the engine.
        '<' | '>' => out.push(c),
        c if c.is_ascii_punctuation() => out.extend(['\\', c]),
        c => out.push(c),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::time::Instant;

    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern).unwrap().fits(text)
    }

    #[test]
    fn an_expression_is_searched_for_and_means_what_ecma_says() {
        assert!(fits("b", "abc") && !fits("^b", "abc") && fits("^a.c$", "abc"));
        assert!(!fits("^a$", "a\n"), "the end is the end");
        assert!(fits(r"^\d+$", "12") && !fits(r"^\d+$", "१२"), "digits are those of ASCII");
        assert!(fits(r"^\w$", "a") && !fits(r"^\w$", "é") && fits(r"^[\w-]+$", "a-b"));
        assert!(!fits("^.$", "\u{2028}") && !fits("^.$", "\r") && fits("^.$", "é"));
        assert!(fits("^[[]$", "[") && fits("^[a&&b]+$", "a&b") && fits("^[a~~b]+$", "~"));
        assert!(fits(r"^\/a\/$", "/a/") && fits(r"^[^\D]$", "7") && fits(r"^\u0041$", "A"));
        assert!(fits(r"^\cC$", "\u{3}") && fits(r"\bfoo\b", "a foo b") && fits("^(?:a|b)$", "b"));
        assert!(fits(r"^(?<x>a)$", "a") && fits(r"^\p{Lu}$", "É"));
    }

    #[test]
    fn what_cannot_be_read_in_bounded_time_or_in_one_way_is_refused() {
        for pattern in [
            "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?i)a", r"(a)\1", r"\k<x>", r"\Z", r"\A", "[]",
            "[^]", "[a--b]", "a{,3}", "a(", "[z-a]", "\\", r"\07", "(?P<x>a)",
        ] {
            assert!(Pattern::compile(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::compile(&"a".repeat(2_001)).is_err());
        assert!(Pattern::compile("((a{1,99}){1,99}){1,99}").unwrap_err().contains("128 KiB"));
        assert!(Pattern::compile(&format!("{}a{}", "(".repeat(500), ")".repeat(500))).is_err());
    }

    #[test]
    fn no_text_makes_an_expression_slow() {
        let text = format!("{}!", "a".repeat(200_000));
        for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^([a-z]+)*[A-Z]$", "(.*)*x"] {
            let pattern = Pattern::compile(pattern).unwrap();
            let begun = Instant::now();
            assert!(!pattern.fits(&text));
            assert!(begun.elapsed().as_secs() < 5, "{pattern:?}");
        }
    }
}
