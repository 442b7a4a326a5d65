//! What the expressions of an intention take in memory when they are compiled, told from their texts: in no time, without compiling one,
//! and the same for whoever asks. It is never less than they take.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// The most that expressions of one intention may take together, in bytes.
pub(crate) const WEIGHT_MAX: usize = 2 * 1024 * 1024;
/// The most that one may take.
pub(crate) const ONE_MAX: usize = 128 * 1024;
/// What each takes beside its parts.
const EACH: usize = 1_024;
/// A state, and a way from one to the next.
const STATE: usize = 32;
const WAY: usize = 8;
/// A range of characters that are not all of ASCII.
const WIDE: usize = 2_048;
/// A class that has a name in Unicode.
const NAMED: usize = 96 * 1_024;
/// What an expression in a condition may take at most: for both directions, and what is remembered of both.
pub(crate) const OF_MATCHES: usize = 128 * 1024;
/// What a byte of a condition takes when it is compiled.
const OF_CONDITION: usize = 64;
/// Expressions in `permissions` are compiled for both directions.
const OF_PERMISSIONS: usize = 3;

/// What all expressions of an intention take, each counted once.
pub fn weight_of_expressions(object: &Json) -> usize {
    let mut known = BTreeSet::new();
    let spec = &object["spec"];
    let api = of_values(&spec["api"], &mut known);
    let mut all = BTreeSet::new();
    let rest = ["sources", "imported"].map(|name| of_values(&spec[name], &mut all));
    let conditions = ["sources", "imported"].map(|name| of_conditions(&spec[name]));
    let sum =
        rest.iter().fold(api, |sum, more| sum.saturating_add(more.saturating_mul(OF_PERMISSIONS)));
    conditions.iter().fold(sum, |sum, more| sum.saturating_add(*more))
}

/// What conditions take: as long as they are, and each `matches` as much as its expression may.
fn of_conditions(json: &Json) -> usize {
    let mut sum = 0_usize;
    let mut waiting = vec![json];
    while let Some(value) = waiting.pop() {
        match value {
            Json::Array(items) => waiting.extend(items),
            Json::Object(map) => {
                if let Some(Json::String(source)) = map.get("when") {
                    let asked = source.matches("matches").count();
                    let takes = EACH + OF_CONDITION * source.len() + OF_MATCHES * asked;
                    sum = sum.saturating_add(takes);
                }
                waiting.extend(map.values());
            }
            _ => {}
        }
    }
    sum
}

fn of_values<'j>(json: &'j Json, known: &mut BTreeSet<&'j str>) -> usize {
    let mut sum = 0_usize;
    let mut waiting = vec![json];
    while let Some(value) = waiting.pop() {
        let map = match value {
            Json::Array(items) => {
                waiting.extend(items);
                continue;
            }
            Json::Object(map) => map,
            _ => continue,
        };
        let mut add = |source: &'j str| {
            if known.insert(source) {
                // What takes more is refused by itself.
                sum = sum.saturating_add(weight(source).min(ONE_MAX));
            }
        };
        for (name, value) in map {
            match (name.as_str(), value) {
                ("pattern" | "regex", Json::String(source)) => add(source),
                ("patternProperties", Json::Object(inner)) => {
                    inner.keys().for_each(|source| add(source));
                }
                _ => {}
            }
            waiting.push(value);
        }
    }
    sum
}

/// What one takes at most.
pub(crate) fn weight(source: &str) -> usize {
    let mut chars = source.chars().peekable();
    // What stands in each open group before its last part, and that part.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut before, mut last) = (EACH, 0_usize);
    let part = |before: &mut usize, last: &mut usize, takes: usize| {
        *before = before.saturating_add(*last);
        *last = takes;
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => part(&mut before, &mut last, escape(chars.next(), &mut chars)),
            '[' => part(&mut before, &mut last, class(&mut chars)),
            '.' => part(&mut before, &mut last, STATE + 2 * WIDE),
            '(' => {
                part(&mut before, &mut last, 0);
                open.push((before, 0));
                (before, last) = (2 * STATE, 0);
            }
            ')' => {
                let inner = before.saturating_add(last);
                (before, last) = (open.pop().map_or(EACH, |it| it.0), inner);
            }
            '*' | '+' | '?' => last = last.saturating_mul(2).saturating_add(2 * STATE),
            '{' => {
                let times = times(&mut chars);
                last = last.saturating_add(2 * STATE).saturating_mul(times).saturating_add(STATE);
            }
            '|' => part(&mut before, &mut last, 2 * STATE),
            c => part(&mut before, &mut last, STATE * c.len_utf8()),
        }
    }
    open.iter().fold(before.saturating_add(last), |sum, it| sum.saturating_add(it.0))
}

type Chars<'s> = std::iter::Peekable<std::str::Chars<'s>>;

fn escape(c: Option<char>, chars: &mut Chars<'_>) -> usize {
    match c {
        Some('d' | 'w') => STATE + 4 * WAY,
        Some('D' | 'W' | 'S') => STATE + 4 * WIDE,
        Some('s') => STATE + 2 * WIDE,
        Some('p' | 'P') => {
            if chars.next() == Some('{') {
                while chars.next().is_some_and(|c| c != '}') {}
            }
            NAMED
        }
        Some(_) | None => 4 * STATE,
    }
}

fn class(chars: &mut Chars<'_>) -> usize {
    let mut takes = STATE;
    if chars.peek() == Some(&'^') {
        chars.next();
        takes += 2 * WIDE;
    }
    while let Some(c) = chars.next() {
        takes = takes.saturating_add(match c {
            ']' => break,
            // Numbers of characters are written in many ways.
            '\\' => match chars.next() {
                Some('x' | 'u') => WIDE,
                other => escape(other, chars),
            },
            c if c.is_ascii() => 2 * WAY,
            _ => WIDE,
        });
    }
    takes
}

/// How often a part may stand: the larger of the two numbers.
fn times(chars: &mut Chars<'_>) -> usize {
    let mut numbers = [0_usize; 2];
    let mut at = 0;
    for c in chars.by_ref() {
        match c {
            '}' => break,
            ',' => at = 1,
            c => {
                let digit = c.to_digit(10).unwrap_or(0) as usize;
                numbers[at] = numbers[at].saturating_mul(10).saturating_add(digit);
            }
        }
    }
    // `{2,}` takes one more, which goes round.
    numbers[0].max(numbers[1]).saturating_add(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_counted_wherever_they_stand_and_each_once() {
        let one = weight("^[a-z]{3}$");
        let api = |schema: Json| json!({ "spec": { "api": { "schema": schema } } });
        assert_eq!(weight_of_expressions(&api(json!({ "pattern": "^[a-z]{3}$" }))), one);
        let twice = json!([{ "pattern": "^[a-z]{3}$" }, { "patternProperties": { "^[a-z]{3}$": { "a": [{ "pattern": "b" }] } } }]);
        assert_eq!(weight_of_expressions(&api(twice)), one + weight("b"));
        let permissions = json!({ "spec": { "sources": [{ "permissions": [{ "paths": [{ "regex": "/a" }] }] }] } });
        assert_eq!(weight_of_expressions(&permissions), 3 * weight("/a"));
        let when = |source: &str| json!({ "spec": { "sources": [{ "permissions": [{ "when": source }] }] } });
        let (plain, asks) = (when("request.path == '/a'"), when("request.path.matches('/a')"));
        assert!(weight_of_expressions(&plain) < 4 * EACH);
        assert!(weight_of_expressions(&asks) > OF_MATCHES);
        assert_eq!(weight_of_expressions(&json!(7)), 0);
        // Not a property that is called so.
        assert_eq!(weight_of_expressions(&api(json!({ "properties": { "pattern": {} } }))), 0);
        for source in
            ["(((((", "{{{", "[[", "\\", "a{99999999999999999999}{99999999999999999999}", ")"]
        {
            assert!(weight(source) >= EACH, "{source}");
        }
    }
}
