//! The string extension. Places count characters, searches are Go's.

use super::{Library, formatting, int, list, text};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    types::Type,
    value::{Value, characters},
};

/// Which functions there are, and how `format` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    /// The first, before Kubernetes 1.29.
    Zero,
    /// With `format`, `quote` and `join` of dynamic lists: Kubernetes from 1.29.
    Two,
    /// The specification's: `reverse`, and `format` without a locale.
    Latest,
}

/// Declares the extension.
pub(crate) fn declare(library: &mut Library, edition: Edition) {
    use Type::{Int, String};
    library.member("charAt", "string_char_at_int", [String, Int], String, char_at);
    declare_search(library, edition);
    library.member("lowerAscii", "string_lower_ascii", [String], String, |machine, args| {
        machine.reserve(text(args, 0)?.len())?;
        Ok(Value::string(text(args, 0)?.to_ascii_lowercase()))
    });
    library.member("upperAscii", "string_upper_ascii", [String], String, |machine, args| {
        machine.reserve(text(args, 0)?.len())?;
        Ok(Value::string(text(args, 0)?.to_ascii_uppercase()))
    });
    library.member(
        "replace",
        "string_replace_string_string",
        [String, String, String],
        String,
        |machine, args| replace(machine, args, -1),
    );
    library.member(
        "replace",
        "string_replace_string_string_int",
        [String, String, String, Int],
        String,
        |machine, args| replace(machine, args, int(args, 3)?),
    );
    let texts = Type::list(String);
    library.member(
        "split",
        "string_split_string",
        [String, String],
        texts.clone(),
        |machine, args| split(machine, args, -1),
    );
    library.member(
        "split",
        "string_split_string_int",
        [String, String, Int],
        texts.clone(),
        |machine, args| split(machine, args, int(args, 2)?),
    );
    library.member("substring", "string_substring_int", [String, Int], String, |_, args| {
        let source = text(args, 0)?;
        let start = int(args, 1)?;
        let at = place(source, start)
            .ok_or_else(|| EvalError::Failed(format!("index out of range: {start}")))?;
        Ok(Value::string(&source[at..]))
    });
    library.member("substring", "string_substring_int_int", [String, Int, Int], String, substring);
    library.member("trim", "string_trim", [String], String, |_, args| {
        let is_space = |c: char| c.is_whitespace();
        Ok(Value::string(text(args, 0)?.trim_matches(is_space)))
    });
    library.member("join", "list_join", [texts.clone()], String, |machine, args| {
        join(machine, args, "")
    });
    library.member("join", "list_join_string", [texts, String], String, |machine, args| {
        join(machine, args, text(args, 1)?)
    });
    if edition == Edition::Zero {
        return;
    }
    let format: super::Run = if edition == Edition::Two {
        |machine, args| formatting::format(machine, args, formatting::Locale::English)
    } else {
        |machine, args| formatting::format(machine, args, formatting::Locale::None)
    };
    library.member("format", "string_format", [String, Type::list(Type::Dyn)], String, format);
    library.global("strings.quote", "strings_quote", [String], String, |machine, args| {
        machine.reserve(text(args, 0)?.len() * 2)?;
        Ok(Value::string(quote(text(args, 0)?)))
    });
    if edition == Edition::Latest {
        library.member("reverse", "string_reverse", [String], String, |machine, args| {
            machine.reserve(text(args, 0)?.len())?;
            Ok(Value::string(text(args, 0)?.chars().rev().collect::<std::string::String>()))
        });
    }
}

fn declare_search(library: &mut Library, edition: Edition) {
    use Type::{Int, String};
    library.member("indexOf", "string_index_of_string", [String, String], Int, |_, args| {
        Ok(found(text(args, 0)?, text(args, 0)?.find(text(args, 1)?)))
    });
    library.member(
        "lastIndexOf",
        "string_last_index_of_string",
        [String, String],
        Int,
        |_, args| Ok(found(text(args, 0)?, text(args, 0)?.rfind(text(args, 1)?))),
    );
    let strict = edition == Edition::Latest;
    let index_of: super::Run = if strict {
        |_, args| index_of(args, Beyond::Refused)
    } else {
        |_, args| index_of(args, Beyond::Missing)
    };
    let last_index_of: super::Run = if strict {
        |_, args| last_index_of(args, Beyond::Refused)
    } else {
        |_, args| last_index_of(args, Beyond::Missing)
    };
    library.member("indexOf", "string_index_of_string_int", [String, String, Int], Int, index_of);
    library.member(
        "lastIndexOf",
        "string_last_index_of_string_int",
        [String, String, Int],
        Int,
        last_index_of,
    );
}

/// What a place past the end means for a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    Refused,
    Missing,
}

/// The octet at which the character of a place begins; the end is a place too.
fn place(text: &str, characters: i64) -> Option<usize> {
    let wanted = usize::try_from(characters).ok()?;
    if text.is_ascii() {
        return (wanted <= text.len()).then_some(wanted);
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(wanted)
}

fn found<'a>(text: &str, at: Option<usize>) -> Value<'a> {
    Value::Int(at.map_or(-1, |at| i64::try_from(characters(&text[..at])).unwrap_or(i64::MAX)))
}

fn out_of_range(place: i64) -> EvalError {
    EvalError::Failed(format!("index out of range: {place}"))
}

fn char_at<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let (source, wanted) = (text(args, 0)?, int(args, 1)?);
    let at = place(source, wanted).ok_or_else(|| out_of_range(wanted))?;
    let character = source[at..].chars().next();
    Ok(Value::string(character.map(String::from).unwrap_or_default()))
}

fn index_of<'a>(args: &[Value<'a>], beyond: Beyond) -> Fallible<Value<'a>> {
    let (source, wanted, from) = (text(args, 0)?, text(args, 1)?, int(args, 2)?);
    if wanted.is_empty() && beyond == Beyond::Missing {
        return Ok(Value::Int(from));
    }
    let length = i64::try_from(characters(source)).unwrap_or(i64::MAX);
    if from < 0 || (from > length && beyond == Beyond::Refused) {
        return Err(out_of_range(from));
    }
    let Some(start) = place(source, from) else { return Ok(Value::Int(-1)) };
    Ok(found(source, source[start..].find(wanted).map(|at| start + at)))
}

fn last_index_of<'a>(args: &[Value<'a>], beyond: Beyond) -> Fallible<Value<'a>> {
    let (source, wanted, from) = (text(args, 0)?, text(args, 1)?, int(args, 2)?);
    if wanted.is_empty() && beyond == Beyond::Missing {
        return Ok(Value::Int(from));
    }
    let length = i64::try_from(characters(source)).unwrap_or(i64::MAX);
    if from < 0 || (from > length && beyond == Beyond::Refused) {
        return Err(out_of_range(from));
    }
    if from >= length && beyond == Beyond::Missing {
        return Ok(Value::Int(-1));
    }
    let Some(start) = place(source, from) else { return Ok(Value::Int(-1)) };
    // The last start that is looked at is the place itself.
    let at = source
        .char_indices()
        .map(|(at, _)| at)
        .chain([source.len()])
        .take_while(|at| *at <= start)
        .filter(|at| source[*at..].starts_with(wanted))
        .last();
    Ok(found(source, at))
}

fn substring<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let (source, start, end) = (text(args, 0)?, int(args, 1)?, int(args, 2)?);
    if start > end {
        return Err(EvalError::Failed(format!(
            "invalid substring range. start: {start}, end: {end}"
        )));
    }
    let from = place(source, start).ok_or_else(|| out_of_range(start))?;
    let to = place(source, end).ok_or_else(|| out_of_range(end))?;
    Ok(Value::string(&source[from..to]))
}

fn replace<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], limit: i64) -> Fallible<Value<'a>> {
    let (source, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count =
        if old.is_empty() { source.chars().count() + 1 } else { source.matches(old).count() }
            .min(limit);
    let size = source.len().saturating_add(count.saturating_mul(new.len()));
    machine.reserve(size)?;
    if old.is_empty() {
        // Between all characters, and at both ends.
        let mut replaced = String::with_capacity(size);
        let mut left = limit;
        for character in source.chars() {
            if left > 0 {
                replaced.push_str(new);
                left -= 1;
            }
            replaced.push(character);
        }
        if left > 0 {
            replaced.push_str(new);
        }
        return Ok(Value::string(replaced));
    }
    Ok(Value::string(source.replacen(old, new, limit)))
}

fn split<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], limit: i64) -> Fallible<Value<'a>> {
    let (source, separator) = (text(args, 0)?, text(args, 1)?);
    machine.reserve(source.len())?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(character) = rest.chars().next() {
            if parts.len() + 1 == limit {
                parts.push(Value::string(rest));
                rest = "";
                continue;
            }
            let (head, tail) = rest.split_at(character.len_utf8());
            parts.push(Value::string(head));
            rest = tail;
        }
        parts
    } else {
        source.splitn(limit, separator).map(Value::string).collect()
    };
    machine.reserve_items(parts.len())?;
    Ok(Value::list(parts))
}

fn join<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], separator: &str) -> Fallible<Value<'a>> {
    let mut joined = String::new();
    for (at, item) in list(args, 0)?.iter().enumerate() {
        let Value::String(part) = &item else {
            return Err(EvalError::Failed(format!(
                "join: invalid input: {}",
                super::go::shown(&item)
            )));
        };
        if at > 0 {
            joined.push_str(separator);
        }
        machine.reserve(part.len() + separator.len())?;
        if joined.len() + part.len() > machine.value_limit() {
            return Err(EvalError::TooLarge { limit: machine.value_limit() });
        }
        joined.push_str(part);
    }
    Ok(Value::string(joined))
}

/// Text as a literal of the language.
fn quote(source: &str) -> String {
    let mut quoted = String::with_capacity(source.len() + 2);
    quoted.push('"');
    for character in source.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
