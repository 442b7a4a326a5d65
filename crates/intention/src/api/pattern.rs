//! Regular expressions as JSON Schema means them (ECMA-262), for an engine whose time grows with the text alone.
//!
//! What the two would read in different ways is translated, or refused: nothing is allowed by an expression that somebody else would
//! read in a narrower way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use regex_automata::{
    Input,
    hybrid::dfa,
    nfa::thompson::{self, NFA, WhichCaptures, pikevm::PikeVM},
    util::syntax,
};

use crate::weight::{ONE_MAX, weight};

/// What an expression remembers of texts while it runs.
const CACHE_MAX: usize = 64 * 1024;
/// What is kept of that between two texts, of all expressions of a process.
const CACHES_MAX: usize = 8 * 1024 * 1024;
/// The longest expression.
const LENGTH_MAX: usize = 2_000;
/// Bytes of a compiled expression that are looked at in one step, at worst.
const A_STEP: usize = 512;
/// Steps that it takes to find what was remembered of an expression, and to put it back.
const TO_BEGIN: usize = 16;

/// White space and ends of lines (ECMA-262, WhiteSpace and LineTerminator): not all that Unicode calls so.
const SPACE: &str = r"\t\n\x0b\x0c\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// Expressions that somebody holds, by their texts: documents have many in common.
static HELD: LazyLock<Mutex<HashMap<Box<str>, Weak<Pattern>>>> = LazyLock::new(Mutex::default);
static CACHES: LazyLock<Mutex<Caches>> = LazyLock::new(Mutex::default);

/// An expression that some part of a text must fit.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Which of all that were compiled.
    number: u64,
    nfa: NFA,
    /// Much faster, where the expression is small enough.
    lazy: Option<dfa::DFA>,
}

/// What expressions remember, of those that ran last.
#[derive(Default)]
struct Caches {
    turn: u64,
    bytes: usize,
    by_number: HashMap<u64, (u64, dfa::Cache)>,
    /// Numbers by when they ran.
    order: BTreeMap<u64, u64>,
}

impl Caches {
    fn take(&mut self, number: u64) -> Option<dfa::Cache> {
        let (turn, cache) = self.by_number.remove(&number)?;
        self.order.remove(&turn);
        self.bytes -= cache.memory_usage();
        Some(cache)
    }

    fn keep(&mut self, number: u64, cache: dfa::Cache) {
        // Where two ran at once, one is enough.
        self.take(number);
        self.turn += 1;
        self.bytes += cache.memory_usage();
        self.order.insert(self.turn, number);
        self.by_number.insert(number, (self.turn, cache));
        while self.bytes > CACHES_MAX
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.take(oldest);
        }
    }
}

impl Pattern {
    /// Compiles an expression, unless somebody holds the same already.
    pub(super) fn compile(source: &str) -> Result<Arc<Self>, String> {
        let held = || HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held().get(source).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let compiled = Arc::new(Self::new(source)?);
        let mut held = held();
        // What nobody holds any more goes when there is no room for one more anyway.
        if held.len() == held.capacity() {
            held.retain(|_, it| it.strong_count() > 0);
        }
        held.insert(source.into(), Arc::downgrade(&compiled));
        Ok(compiled)
    }

    fn new(source: &str) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if source.len() > LENGTH_MAX {
            return Err(format!("it is longer than {LENGTH_MAX} bytes"));
        }
        let config = thompson::Config::new()
            .nfa_size_limit(Some(ONE_MAX))
            .which_captures(WhichCaptures::None);
        let built = thompson::Compiler::new()
            .syntax(syntax::Config::new().nest_limit(50))
            .configure(config)
            .build(&translate(source)?);
        let nfa = built.map_err(|error| {
            if error.size_limit().is_some() {
                return "it is larger than 128 KiB when it is compiled: write a shorter one"
                    .to_owned();
            }
            let told = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            let last = told.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        })?;
        // The sum of an intention is told by weights: what is heavier than its own is not taken.
        if nfa.memory_usage() > weight(source) {
            return Err("it takes more memory than it looks: write it in another way".to_owned());
        }
        let config = dfa::Config::new()
            .cache_capacity(CACHE_MAX)
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10));
        let lazy = dfa::Builder::new().configure(config).build_from_nfa(nfa.clone()).ok();
        Ok(Self { number: NEXT.fetch_add(1, Ordering::Relaxed), nfa, lazy })
    }

    /// How much it can take at worst to look for it in a text. Where it begins is looked at for no text too.
    pub(super) fn steps(&self, text: &str) -> usize {
        TO_BEGIN + (1 + text.len()) * (1 + self.nfa.memory_usage() / A_STEP)
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        let input = Input::new(text).earliest(true);
        if let Some(lazy) = &self.lazy {
            let caches = || CACHES.lock().unwrap_or_else(PoisonError::into_inner);
            let known = caches().take(self.number);
            let mut cache = known.unwrap_or_else(|| lazy.create_cache());
            let found = lazy.try_search_fwd(&mut cache, &input);
            caches().keep(self.number, cache);
            if let Ok(found) = found {
                return found.is_some();
            }
        }
        // It has no states to remember, or gave up: slower, and bounded all the same.
        PikeVM::new_from_nfa(self.nfa.clone()).is_ok_and(|slow| {
            let mut cache = slow.create_cache();
            slow.is_match(&mut cache, input)
        })
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
    fn an_expression_takes_no_more_than_its_text_says_and_equal_ones_nothing() {
        let mut all: Vec<String> = [
            "",
            "a",
            "^[a-z]{3}$",
            r"^[\w.-]{1,253}$",
            "a|bb|ccc",
            "(a|b)*c+d?",
            "(?:(?:a{3}){4}b?){5,}",
            "é{7}",
            "[^a-z]{20}",
            "[^é-ü]{20}",
            r"\d\D\s\S\w\W",
            "^.{1,60}$",
            "[\u{e9}-\u{10000}x]{9}",
            r"[\u{e9}-\u{10000}]{9}",
            r"[\x41-\uffff\S]{5}",
            r"(?:\p{L}|\P{L})",
            r"^[ab]{1000}[cd]x1$",
            "(((a?)*)?)*",
            "a{0}b{0,}",
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        for class in [
            "L",
            "Lu",
            "Ll",
            "M",
            "N",
            "Nd",
            "P",
            "S",
            "Z",
            "C",
            "Greek",
            "Han",
            "Latin",
            "Alphabetic",
            "Uppercase",
            "White_Space",
            "Cased",
            "ID_Start",
            "XID_Continue",
            "Any",
            "Assigned",
            "Emoji",
            "Math",
        ] {
            all.extend([format!(r"\p{{{class}}}"), format!(r"[^\p{{{class}}}_]")]);
        }
        for source in all {
            let pattern = Pattern::compile(&source).unwrap();
            let (takes, said) = (pattern.nfa.memory_usage(), weight(&source));
            assert!(takes <= said, "{source}: {takes} {said}");
            assert!(Arc::ptr_eq(&pattern, &Pattern::compile(&source).unwrap()));
        }
    }

    #[test]
    fn what_expressions_remember_is_bounded_for_all_of_them_together() {
        let text = "ab".repeat(4_000);
        for number in 0..400 {
            assert!(!fits(&format!("[ab]{{12}}a[ab]{{10}}{number}$"), &text));
            let caches = CACHES.lock().unwrap_or_else(PoisonError::into_inner);
            let sum: usize = caches.by_number.values().map(|(_, it)| it.memory_usage()).sum();
            assert!(caches.bytes == sum && sum <= CACHES_MAX, "{sum} of {}", caches.bytes);
            assert_eq!(caches.by_number.len(), caches.order.len());
        }
    }

    #[test]
    fn the_longest_texts_take_as_long_as_their_steps_say() {
        // It has no literal to look for, and more states than are remembered.
        let pattern = Pattern::compile("[ab]*a[ab]{1500}[^ab]").unwrap();
        let text = "a".repeat(16 * 1024);
        let begun = Instant::now();
        assert!(!pattern.fits(&text));
        // A state is no more than some steps, also in a build that is not for speed.
        let a_step = begun.elapsed() / u32::try_from(pattern.steps(&text)).unwrap();
        assert!(a_step.as_micros() < 5, "{a_step:?}");
    }

    #[test]
    fn no_text_at_all_takes_as_long_as_its_steps_say() {
        // So many states are not remembered, and each text is begun with anew.
        let pattern = Pattern::compile("^(?:a?){500}b{2000}$").unwrap();
        assert!(pattern.lazy.is_none());
        for text in ["", "a"] {
            let begun = Instant::now();
            for _ in 0..200 {
                assert!(!pattern.fits(text));
            }
            let a_step = begun.elapsed() / u32::try_from(200 * pattern.steps(text)).unwrap();
            assert!(a_step.as_micros() < 5, "{text:?} {a_step:?}");
        }
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
