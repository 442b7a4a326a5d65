//! Regular expressions in Go's dialect on Rust's engine: `\d`, `\w`, `\s` and `\b` are ASCII, `[` in a class is itself,
//! what Go does not know is refused. A compiled expression takes at most 1 MiB.

use regex::{Regex, RegexBuilder};

/// The most memory that a compiled expression may take, in bytes.
const SIZE_LIMIT: usize = 1024 * 1024;
/// Go's limit on counted repetition.
const MAX_REPEAT: u32 = 1000;

/// Compiles an expression of Go's dialect.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    compile_within(pattern, None)
}

/// Compiles an expression that is kept and may take so many bytes for each direction, and as many to remember.
pub(crate) fn compile_within(pattern: &str, most: Option<usize>) -> Result<Regex, String> {
    let translated = Translation::of(pattern)?;
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(most.unwrap_or(SIZE_LIMIT)).nest_limit(200);
    if let Some(most) = most {
        builder.dfa_size_limit(most);
    }
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_owned(),
        other => format!("error parsing regexp: {}", reason(&other.to_string(), pattern)),
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

/// The names that `[:name:]` knows.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];
/// Scripts whose names are as short as the abbreviations that Go does not know.
const SHORT_SCRIPTS: [&str; 9] =
    ["ahom", "cham", "kawi", "lisu", "miao", "modi", "newa", "thai", "toto"];
/// What no text has.
const NOTHING: &str = "[^\\x{0}-\\x{10FFFF}]";
/// No text has a character of these numbers.
const SURROGATES: std::ops::RangeInclusive<u32> = 0xD800..=0xDFFF;

/// How often, at most, what was read is repeated by counts within each other.
#[derive(Clone, Copy, Debug)]
struct Weight {
    /// Of all alternatives and items of the group that were read.
    group: u64,
    /// Of the last item; none where a group or an alternative begins.
    last: Option<u64>,
}

const ONCE: Weight = Weight { group: 1, last: None };

struct Translation<'p> {
    rest: &'p str,
    out: String,
    /// Where the repetition began that was the last thing: another may not follow.
    repeated: Option<&'p str>,
    /// The open groups and, last, what stands at the place that is read.
    weights: Vec<Weight>,
}

impl<'p> Translation<'p> {
    fn of(pattern: &'p str) -> Result<String, String> {
        let mut translation = Translation {
            rest: pattern,
            out: String::with_capacity(pattern.len() + 8),
            repeated: None,
            weights: vec![ONCE],
        };
        while let Some(next) = translation.rest.chars().next() {
            translation.step(next)?;
        }
        Ok(translation.out)
    }

    fn step(&mut self, next: char) -> Result<(), String> {
        match next {
            '*' | '+' | '?' => return self.repeat(next),
            '{' => {
                if let Some((least, most, length)) = count(self.rest) {
                    return self.repeat_counted(least, most, length);
                }
                self.item("\\{");
                self.skip(1);
            }
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => self.group()?,
            ')' => self.close(),
            '|' => {
                self.out.push('|');
                self.skip(1);
                if let Some(open) = self.weights.last_mut() {
                    open.last = None;
                }
            }
            other => {
                self.item(other.encode_utf8(&mut [0; 4]));
                self.skip(other.len_utf8());
            }
        }
        self.repeated = None;
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Takes a character, when it is the next one.
    fn next_is(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Something that a repetition may follow.
    fn item(&mut self, text: &str) {
        self.out.push_str(text);
        self.weigh(1);
    }

    fn weigh(&mut self, weight: u64) {
        if let Some(open) = self.weights.last_mut() {
            open.group = open.group.max(weight);
            open.last = Some(weight);
        }
    }

    fn repeat(&mut self, operator: char) -> Result<(), String> {
        let begin = self.rest;
        self.skip(1);
        self.out.push(operator);
        self.lazy(begin).map(|_| ())
    }

    /// What follows any repetition: `?` asks for little, another repetition is refused, as is one of nothing. Says
    /// what the item weighs that is repeated.
    fn lazy(&mut self, begin: &'p str) -> Result<u64, String> {
        if self.next_is('?') {
            self.out.push('?');
        }
        let read = |from: &'p str| &from[..from.len() - self.rest.len()];
        if let Some(before) = self.repeated {
            return Err(format!(
                "error parsing regexp: invalid nested repetition operator: `{}`",
                read(before)
            ));
        }
        let Some(last) = self.weights.last().and_then(|open| open.last) else {
            return Err(format!(
                "error parsing regexp: missing argument to repetition operator: `{}`",
                read(begin)
            ));
        };
        self.repeated = Some(begin);
        Ok(last)
    }

    fn repeat_counted(
        &mut self,
        least: u32,
        most: Option<u32>,
        length: usize,
    ) -> Result<(), String> {
        let begin = self.rest;
        let text = &begin[..length];
        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
            return Err(format!("error parsing regexp: invalid repeat count: `{text}`"));
        }
        self.skip(length);
        self.out.push_str(text);
        let last = self.lazy(begin)?;
        let times = u64::from(most.unwrap_or(least));
        let weight = match (most, times) {
            // What stands no time at all weighs nothing.
            (Some(0), _) => 1,
            (_, 0) => last,
            _ => last.saturating_mul(times),
        };
        if weight > u64::from(MAX_REPEAT) && times >= 2 {
            let text = &begin[..begin.len() - self.rest.len()];
            return Err(format!("error parsing regexp: invalid repeat count: `{text}`"));
        }
        self.weigh(weight);
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        let Some(inner) = self.rest.strip_prefix("(?") else {
            self.skip(1);
            self.open("(");
            return Ok(());
        };
        // Two groups may have one name in Go: it is checked, and nobody asks for it.
        if let Some(named) = inner.strip_prefix("P<").or_else(|| inner.strip_prefix('<')) {
            let name = named.split_once('>').map(|(name, _)| name).filter(|name| {
                !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
            });
            let Some(name) = name else {
                let end = named
                    .find('>')
                    .map_or(self.rest.len(), |end| self.rest.len() - named.len() + end + 1);
                let text = &self.rest[..end];
                return Err(format!("error parsing regexp: invalid named capture: `{text}`"));
            };
            self.rest = &named[name.len() + 1..];
            self.open("(");
            return Ok(());
        }
        self.flags(inner)
    }

    /// `(?i)`, `(?s-i:`: flags for what follows, or for a group.
    fn flags(&mut self, inner: &'p str) -> Result<(), String> {
        let (mut on, mut off) = (String::new(), None::<String>);
        for (at, flag) in inner.char_indices() {
            match flag {
                'i' | 'm' | 's' | 'U' => {
                    let flags = off.as_mut().unwrap_or(&mut on);
                    if !flags.contains(flag) {
                        flags.push(flag);
                    }
                }
                '-' if off.is_none() => off = Some(String::new()),
                ':' | ')' if off.as_ref().is_none_or(|off| !off.is_empty()) => {
                    let off = off.unwrap_or_default();
                    on.retain(|flag| !off.contains(flag));
                    let minus = if off.is_empty() { "" } else { "-" };
                    self.rest = &inner[at + 1..];
                    if flag == ':' {
                        self.open(&format!("(?{on}{minus}{off}:"));
                    } else if !on.is_empty() || !off.is_empty() {
                        self.out.push_str(&format!("(?{on}{minus}{off})"));
                    }
                    return Ok(());
                }
                _ => {
                    let text = &self.rest[..2 + at + flag.len_utf8()];
                    return Err(format!(
                        "error parsing regexp: invalid or unsupported Perl syntax: `{text}`"
                    ));
                }
            }
        }
        Err(format!("error parsing regexp: missing closing ): `{}`", self.rest))
    }

    fn open(&mut self, text: &str) {
        self.out.push_str(text);
        self.weights.push(ONCE);
    }

    /// A group that was never opened is told by the engine.
    fn close(&mut self) {
        self.skip(1);
        self.out.push(')');
        let weight = self.weights.pop().map_or(1, |group| group.group);
        if self.weights.is_empty() {
            self.weights.push(ONCE);
        }
        self.weigh(weight);
    }

    fn escape(&mut self) -> Result<(), String> {
        let text = match self.rest.as_bytes().get(1) {
            Some(b'A') => "\\A",
            Some(b'z') => "\\z",
            Some(b'b') => "(?-u:\\b)",
            Some(b'B') => "(?-u:\\B)",
            Some(b'Q') => {
                self.skip(2);
                self.quoted();
                return Ok(());
            }
            Some(b'p' | b'P') => {
                let property = self.property()?;
                self.item(&property);
                return Ok(());
            }
            Some(letter) => match perl_class(*letter) {
                Some(class) => class,
                None => {
                    let character = self.character()?;
                    self.item(&single(character));
                    return Ok(());
                }
            },
            None => return Err(trailing_backslash()),
        };
        self.skip(2);
        self.item(text);
        Ok(())
    }

    /// `\Q…\E`: the text itself.
    fn quoted(&mut self) {
        let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
        self.rest = rest;
        for character in text.chars() {
            self.item(&single(u32::from(character)));
        }
    }

    /// The character that an escape stands for: `\x41`, `\101`, `\n`, `\.`.
    fn character(&mut self) -> Result<u32, String> {
        let begin = self.rest;
        self.skip(1);
        let next = self.rest.chars().next().ok_or_else(trailing_backslash)?;
        self.skip(next.len_utf8());
        let found = match next {
            'a' => Some(0x07),
            'f' => Some(0x0C),
            'n' => Some(0x0A),
            'r' => Some(0x0D),
            't' => Some(0x09),
            'v' => Some(0x0B),
            'x' => self.hexadecimal(),
            '0'..='7' => {
                let more =
                    self.rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let digits = &begin[1..2 + more];
                self.skip(more);
                if next == '0' || more > 0 { u32::from_str_radix(digits, 8).ok() } else { None }
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(u32::from(other)),
            _ => None,
        };
        found.ok_or_else(|| {
            let text = &begin[..begin.len() - self.rest.len()];
            format!("error parsing regexp: invalid escape sequence: `{text}`")
        })
    }

    /// `\x41`, `\x{1F600}` after their `x`.
    fn hexadecimal(&mut self) -> Option<u32> {
        let (digits, length) = match self.rest.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}')?;
                (&inner[..end], end + 2)
            }
            None => (self.rest.get(..2)?, 2),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.skip(length);
        let digits = digits.trim_start_matches('0');
        let value = if digits.is_empty() { Some(0) } else { u32::from_str_radix(digits, 16).ok() };
        value.filter(|value| *value <= u32::from(char::MAX))
    }

    /// `\pL`, `\p{Lu}`, `\p{^Greek}`: general categories and scripts by their long names, no other property.
    fn property(&mut self) -> Result<String, String> {
        let begin = self.rest;
        let invalid =
            |text: &str| format!("error parsing regexp: invalid character class range: `{text}`");
        let inner = &begin[2..];
        let (name, length) = match inner.strip_prefix('{') {
            Some(braced) => {
                let end = braced.find('}').ok_or_else(|| invalid(begin))?;
                (&braced[..end], end + 2)
            }
            None => {
                let first = inner.chars().next().ok_or_else(|| invalid(begin))?;
                (&inner[..first.len_utf8()], first.len_utf8())
            }
        };
        let text = &begin[..2 + length];
        let (negated, plain) = match name.strip_prefix('^') {
            Some(plain) => (true, plain),
            None => (false, name),
        };
        let negated = negated != begin.starts_with("\\P");
        let class = unicode_class(plain).ok_or_else(|| invalid(text))?;
        self.skip(2 + length);
        Ok(match (class, negated) {
            (None, false) => NOTHING.to_owned(),
            (None, true) => "[\\x{0}-\\x{10FFFF}]".to_owned(),
            (Some(of), false) => format!("\\p{{{of}}}"),
            (Some(of), true) => format!("\\P{{{of}}}"),
        })
    }

    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest;
        self.skip(1);
        let mut class = String::from(if self.next_is('^') { "[^" } else { "[" });
        let opening = class.len();
        let mut first = true;
        loop {
            let Some(next) = self.rest.chars().next() else {
                return Err(format!("error parsing regexp: missing closing ]: `{whole}`"));
            };
            if next == ']' && !first {
                break;
            }
            first = false;
            if let Some(named) = self.posix()? {
                class.push_str(&named);
            } else if self.rest.starts_with("\\p") || self.rest.starts_with("\\P") {
                let property = self.property()?;
                class.push_str(&property);
            } else if let Some(perl) = self.perl() {
                class.push_str(perl);
            } else {
                self.range(whole, &mut class)?;
            }
        }
        self.skip(1);
        // What holds surrogates alone holds nothing.
        if class.len() == opening {
            class.push_str(NOTHING);
        }
        class.push(']');
        self.item(&class);
        Ok(())
    }

    /// `[:alpha:]`; a bracket and colon without their end are themselves.
    fn posix(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.rest.strip_prefix("[:").and_then(|inner| inner.find(":]")) else {
            return Ok(None);
        };
        let text = &self.rest[..end + 4];
        let name = &self.rest[2..2 + end];
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("error parsing regexp: invalid character class range: `{text}`"));
        }
        self.skip(text.len());
        Ok(Some(text.to_owned()))
    }

    /// `\d` and its like.
    fn perl(&mut self) -> Option<&'static str> {
        let letter = self.rest.strip_prefix('\\')?.as_bytes().first()?;
        let class = perl_class(*letter)?;
        self.skip(2);
        Some(class)
    }

    /// `a`, `a-z`.
    fn range(&mut self, whole: &str, class: &mut String) -> Result<(), String> {
        let begin = self.rest;
        let from = self.class_character(whole)?;
        let mut to = from;
        if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.skip(1);
            to = self.class_character(whole)?;
            if to < from {
                let text = &begin[..begin.len() - self.rest.len()];
                return Err(format!(
                    "error parsing regexp: invalid character class range: `{text}`"
                ));
            }
        }
        let from = if SURROGATES.contains(&from) { SURROGATES.end() + 1 } else { from };
        let to = if SURROGATES.contains(&to) { SURROGATES.start() - 1 } else { to };
        if from <= to {
            class.push_str(&format!("\\x{{{from:X}}}-\\x{{{to:X}}}"));
        }
        Ok(())
    }

    fn class_character(&mut self, whole: &str) -> Result<u32, String> {
        if self.rest.starts_with('\\') {
            return self.character();
        }
        let Some(next) = self.rest.chars().next() else {
            return Err(format!("error parsing regexp: missing closing ]: `{whole}`"));
        };
        self.skip(next.len_utf8());
        Ok(u32::from(next))
    }
}

/// `{2}`, `{2,}`, `{2,3}`: least, most, and how long it is written; any other brace is itself.
fn count(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let number = |text: &str| -> Option<u32> {
        let fits = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'));
        // What has more digits than a number is beyond every limit.
        fits.then(|| text.parse().unwrap_or(u32::MAX))
    };
    let inner = text.strip_prefix('{')?;
    let end = inner.find('}')?;
    let (least, most) = match inner[..end].split_once(',') {
        None => {
            let exact = number(&inner[..end])?;
            (exact, Some(exact))
        }
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, end + 2))
}

fn trailing_backslash() -> String {
    "error parsing regexp: trailing backslash at end of expression: ``".to_owned()
}

/// One character as the engine reads it in any place.
fn single(character: u32) -> String {
    if SURROGATES.contains(&character) {
        return NOTHING.to_owned();
    }
    format!("\\x{{{character:X}}}")
}

fn perl_class(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'd' => "[0-9]",
        b'D' => "[^0-9]",
        b'w' => "[0-9A-Za-z_]",
        b'W' => "[^0-9A-Za-z_]",
        b's' => "[\\t\\n\\x0C\\r ]",
        b'S' => "[^\\t\\n\\x0C\\r ]",
        _ => return None,
    })
}

/// A category or script as the engine names it, `None` within where it has no characters; names are read without
/// regard to case, spaces, `_` and `-`.
fn unicode_class(name: &str) -> Option<Option<String>> {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if plain.is_empty()
        || !plain.bytes().all(|byte| byte.is_ascii_alphabetic())
        || plain.starts_with("is")
    {
        return None;
    }
    if matches!(plain.as_str(), "cs" | "surrogate") {
        return Some(None);
    }
    let known = |of: &str| Regex::new(&format!("\\p{{{of}}}")).is_ok();
    let category = format!("gc={plain}");
    if known(&category) {
        return Some(Some(category));
    }
    // Scripts have abbreviations of four letters elsewhere.
    let script = format!("sc={plain}");
    let long = plain.len() != 4 || SHORT_SCRIPTS.contains(&plain.as_str());
    (long && known(&script)).then_some(Some(script))
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
