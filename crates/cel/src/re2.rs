//! Regular expressions in Go's dialect on Rust's engine: `\d`, `\w`, `\s` and `\b` are ASCII, `[` in a class is itself,
//! what Go does not know is refused. A compiled expression takes at most 1 MiB.

use regex::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 1024 * 1024;
/// Go's limit on counted repetition.
const MAX_REPEAT: u32 = 1000;

/// Compiles an expression of Go's dialect.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = Translation::of(pattern)?;
    RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).nest_limit(200).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => {
                "error parsing regexp: expression too large".to_owned()
            }
            other => format!("error parsing regexp: {}", reason(&other.to_string(), pattern)),
        }
    })
}

/// The last line of the engine's report: what is wrong, without its drawing.
fn reason(report: &str, pattern: &str) -> String {
    let last = report.lines().last().unwrap_or_default();
    let last = last.strip_prefix("error: ").unwrap_or(last);
    match last {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => format!("missing closing ]: `{pattern}`"),
        other => format!("{other}: `{pattern}`"),
    }
}

struct Translation<'p> {
    rest: std::iter::Peekable<std::str::Chars<'p>>,
    out: String,
    /// Whether the last thing was a repetition, which another may not follow.
    repeated: bool,
}

impl Translation<'_> {
    fn of(pattern: &str) -> Result<String, String> {
        let mut translation = Translation {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() + 8),
            repeated: false,
        };
        while let Some(next) = translation.rest.next() {
            translation.step(next)?;
        }
        Ok(translation.out)
    }

    fn step(&mut self, next: char) -> Result<(), String> {
        match next {
            '\\' => {
                self.repeated = false;
                self.escape()?;
            }
            '[' => {
                self.repeated = false;
                self.class()?;
            }
            '*' | '+' | '?' => self.repeat(next)?,
            '{' => self.count()?,
            '(' => {
                self.repeated = false;
                self.group()?;
            }
            other => {
                self.repeated = false;
                self.out.push(other);
            }
        }
        Ok(())
    }

    fn repeat(&mut self, operator: char) -> Result<(), String> {
        if self.repeated {
            return Err(format!(
                "error parsing regexp: invalid nested repetition operator: `{operator}`"
            ));
        }
        self.out.push(operator);
        self.lazy();
        Ok(())
    }

    fn lazy(&mut self) {
        if self.rest.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
        self.repeated = true;
    }

    /// `{2}`, `{2,}`, `{2,3}` repeat; any other brace is itself.
    fn count(&mut self) -> Result<(), String> {
        let ahead: String = self.rest.clone().take_while(|c| *c != '}').take(12).collect();
        let closed = self.rest.clone().nth(ahead.chars().count()) == Some('}');
        let (least, most) = ahead.split_once(',').unwrap_or((&ahead, &ahead));
        let number = |text: &str| -> Option<u32> {
            let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (Some(least), true) = (number(least), closed) else {
            self.out.push_str("\\{");
            self.repeated = false;
            return Ok(());
        };
        let most = if most.is_empty() { Some(least) } else { number(most) };
        let Some(most) = most else {
            self.out.push_str("\\{");
            self.repeated = false;
            return Ok(());
        };
        if least > MAX_REPEAT || most > MAX_REPEAT || least > most {
            return Err(format!("error parsing regexp: invalid repeat count: `{{{ahead}}}`"));
        }
        if self.repeated {
            return Err(format!(
                "error parsing regexp: invalid nested repetition operator: `{{{ahead}}}`"
            ));
        }
        self.out.push('{');
        self.out.push_str(&ahead);
        self.out.push('}');
        for _ in 0..=ahead.chars().count() {
            self.rest.next();
        }
        self.lazy();
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        if matches!(self.rest.peek(), Some('P' | '<')) {
            return Ok(());
        }
        while let Some(flag) = self.rest.next_if(|c| !matches!(c, ')' | ':')) {
            if !matches!(flag, 'i' | 'm' | 's' | 'U' | '-') {
                return Err(
                    "error parsing regexp: invalid or unsupported Perl syntax: `(?`".to_owned()
                );
            }
            self.out.push(flag);
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(next) = self.rest.next() else {
            return Err(
                "error parsing regexp: trailing backslash at end of expression: ``".to_owned()
            );
        };
        match next {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str("[\\t\\n\\x0C\\r ]"),
            'S' => self.out.push_str("[^\\t\\n\\x0C\\r ]"),
            'b' => self.out.push_str("(?-u:\\b)"),
            'B' => self.out.push_str("(?-u:\\B)"),
            'Q' => self.quoted(),
            other => self.common_escape(other)?,
        }
        Ok(())
    }

    /// `\Q…\E`: the text itself.
    fn quoted(&mut self) {
        while let Some(next) = self.rest.next() {
            if next == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
        }
    }

    fn common_escape(&mut self, next: char) -> Result<(), String> {
        match next {
            'p' | 'P' => self.property(next)?,
            'x' => self.hexadecimal()?,
            'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'A' | 'z' => {
                self.out.push('\\');
                self.out.push(next);
            }
            '0'..='7' => {
                let mut value = next.to_digit(8).unwrap_or_default();
                let octal = next == '0' || matches!(self.rest.peek(), Some('0'..='7'));
                if !octal {
                    return Err(format!(
                        "error parsing regexp: invalid escape sequence: `\\{next}`"
                    ));
                }
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|c| matches!(c, '0'..='7')) else { break };
                    value = value * 8 + digit.to_digit(8).unwrap_or_default();
                }
                self.out.push_str(&format!("\\x{{{value:X}}}"));
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => {
                if !matches!(other, '<' | '>') {
                    self.out.push('\\');
                }
                self.out.push(other);
            }
            other => {
                return Err(format!("error parsing regexp: invalid escape sequence: `\\{other}`"));
            }
        }
        Ok(())
    }

    /// `\pL`, `\p{Lu}`, `\p{^Greek}`: general categories and scripts, no other property.
    fn property(&mut self, letter: char) -> Result<(), String> {
        let name = match self.rest.next_if_eq(&'{') {
            Some(_) => self.braced(),
            None => self.rest.next().map(String::from),
        };
        let invalid = |name: &str| {
            format!("error parsing regexp: invalid character class range: `\\{letter}{{{name}}}`")
        };
        let name = name.ok_or_else(|| invalid(""))?;
        let (negated, plain) = match name.strip_prefix('^') {
            Some(plain) => (true, plain),
            None => (false, name.as_str()),
        };
        let is_name = |c: char| c.is_ascii_alphabetic() || c == '_';
        if plain.is_empty() || !plain.chars().all(is_name) {
            return Err(invalid(&name));
        }
        let is_category =
            plain.len() <= 2 && plain.starts_with(['C', 'L', 'M', 'N', 'P', 'S', 'Z']);
        let of = match plain {
            "Any" => "",
            _ if is_category => "gc=",
            _ => "sc=",
        };
        self.out.push_str(if (letter == 'P') == negated { "\\p{" } else { "\\P{" });
        self.out.push_str(of);
        self.out.push_str(plain);
        self.out.push('}');
        Ok(())
    }

    /// `\x41`, `\x{1F600}`.
    fn hexadecimal(&mut self) -> Result<(), String> {
        let digits = match self.rest.next_if_eq(&'{') {
            Some(_) => self.braced(),
            None => {
                Some(self.rest.by_ref().take(2).collect()).filter(|two: &String| two.len() == 2)
            }
        };
        let digits = digits.filter(|digits| {
            !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let value = digits.and_then(|digits| u32::from_str_radix(&digits, 16).ok());
        match value.filter(|value| *value <= u32::from(char::MAX)) {
            Some(value) => {
                self.out.push_str(&format!("\\x{{{value:X}}}"));
                Ok(())
            }
            None => Err("error parsing regexp: invalid escape sequence: `\\x`".to_owned()),
        }
    }

    /// What stands before the next brace that closes.
    fn braced(&mut self) -> Option<String> {
        let mut inner = String::new();
        loop {
            match self.rest.next()? {
                '}' => return Some(inner),
                other => inner.push(other),
            }
        }
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        while let Some(next) = self.rest.next() {
            match next {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                ']' => self.out.push_str("\\]"),
                '[' if self.rest.peek() == Some(&':') => self.named_class(),
                '[' | '&' | '~' => {
                    self.out.push('\\');
                    self.out.push(next);
                }
                '-' if first || matches!(self.rest.peek(), Some(']' | '-') | None) => {
                    self.out.push_str("\\-");
                }
                '\\' => self.class_escape()?,
                other => self.out.push(other),
            }
            first = false;
        }
        Err("error parsing regexp: missing closing ]".to_owned())
    }

    /// `[:alpha:]`, when it is one; else the bracket is itself.
    fn named_class(&mut self) {
        let ahead: String = self.rest.clone().take_while(|c| *c != ']').take(12).collect();
        if ahead.len() > 2 && ahead.ends_with(':') {
            self.out.push('[');
            self.out.push_str(&ahead);
            self.out.push(']');
            for _ in 0..=ahead.chars().count() {
                self.rest.next();
            }
        } else {
            self.out.push_str("\\[");
        }
    }

    fn class_escape(&mut self) -> Result<(), String> {
        let Some(next) = self.rest.next() else {
            return Err(
                "error parsing regexp: trailing backslash at end of expression: ``".to_owned()
            );
        };
        match next {
            'd' => self.out.push_str("0-9"),
            'w' => self.out.push_str("0-9A-Za-z_"),
            's' => self.out.push_str("\\t\\n\\x0C\\r "),
            'D' => self.out.push_str("[^0-9]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            'S' => self.out.push_str("[^\\t\\n\\x0C\\r ]"),
            'A' | 'z' => {
                return Err(format!("error parsing regexp: invalid escape sequence: `\\{next}`"));
            }
            other => self.common_escape(other)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn the_dialect_is_go_s() {
        let yes = [
            (r"^\d+$", "123"),
            (r"^\w+\b", "ab c"),
            (r"a{,3}", "a{,3}"),
            (r"x{", "x{"),
            (r"[[]", "["),
            (r"[a-z&&b]+$", "a&b"),
            (r"\Qa.b\E", "a.b"),
            (r"[[:alpha:]]+", "abc"),
            (r"\<", "<"),
            (r"^[^\D]+$", "12"),
            (r"(?i)HELLO", "hello"),
            (r"(?P<n>a)", "a"),
            (r"\x41\101", "AA"),
            (r"\B.", "ab"),
            (r"[-a]", "-"),
            (r"[]a]", "]"),
            (r"\pL", "é"),
            (r"^\p{L}$", "é"),
            (r"^\p{Lu}{2}$", "ÄB"),
            (r"^\p{Han}+$", "漢字"),
            (r"^\p{Old_Italic}$", "\u{10300}"),
            (r"^\p{Yi}$", "\u{A000}"),
            (r"^\p{^Greek}$", "a"),
            (r"^\P{Greek}$", "a"),
            (r"^\P{^Greek}$", "γ"),
            (r"^[\p{Greek}\P{^Han}a]+$", "γ漢a"),
            (r"^\p{Any}$", "€"),
            (r"^\x{1F600}$", "😀"),
            (r"^[\x{1F600}-\x{1F602}]\x{61}{2}$", "😁aa"),
            (r"^\x{00000041}$", "A"),
        ];
        for (pattern, text) in yes {
            assert!(compile(pattern).unwrap().is_match(text), "{pattern} on {text}");
        }
        let no = [
            (r"^\p{Lu}$", "a"),
            (r"^\p{^L}$", "a"),
            (r"^\P{L}$", "a"),
            (r"^\x{61}$", "x61"),
            (r"^\d+$", "\u{661}"),
            (r"^\w$", "é"),
            (r"^\s$", "\u{a0}"),
            (r"a.c", "a\nc"),
        ];
        for (pattern, text) in no {
            assert!(!compile(pattern).unwrap().is_match(text), "{pattern} on {text}");
        }
        for pattern in [
            "(",
            ")",
            "a**",
            "[a",
            r"\1",
            r"\C",
            "a{1001}",
            "(?x)a",
            r"\",
            "(?=a)",
            "*",
            "[b-a]",
            r"\p",
            r"\p{",
            r"\p{}",
            r"\p{^}",
            r"\p{L",
            r"\p{Nope}",
            r"\p{gc=L}",
            r"\p{Alphabetic}",
            r"\x",
            r"\x4",
            r"\x4g",
            r"\x{}",
            r"\x{110000}",
            r"\x{41",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile(r"(\pL{1000}){1000}").is_err());
    }
}
