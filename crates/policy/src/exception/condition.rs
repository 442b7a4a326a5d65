//! The objects of an exception as a match condition: with it an API server leaves them to whoever knows of exceptions.

use std::{collections::BTreeSet, fmt::Write as _};

use nullius_model::ExceptionScope;

/// An expression that is false for exactly the objects of a scope, whatever the exception is for in them.
///
/// It reads of `request` alone, so that it never errs.
pub(super) fn outside(scope: &ExceptionScope) -> String {
    let ExceptionScope { namespaces, kinds, names, .. } = scope;
    // Of a request for a namespace the API server says that it is in it.
    let of_namespace = "request.kind.group == '' && request.kind.kind == 'Namespace'";
    let mut within = match namespaces.is_empty() {
        true => format!("(!has(request.namespace) || request.namespace == '' || ({of_namespace}))"),
        false => {
            let named = one_of("request.namespace", namespaces);
            format!("has(request.namespace) && !({of_namespace}) && {named}")
        }
    };
    if !kinds.is_empty() {
        // Kinds are written out: a star in them means nothing.
        let kinds: Vec<String> = kinds.iter().map(|kind| quoted(kind)).collect();
        let _ = write!(within, " && request.kind.kind in [{}]", kinds.join(", "));
    }
    if !names.is_empty() {
        let _ = write!(within, " && has(request.name) && {}", one_of("request.name", names));
    }
    format!("!({within})")
}

/// Whether a text is one of names with stars.
fn one_of(text: &str, globs: &BTreeSet<String>) -> String {
    let (starred, plain): (Vec<&String>, Vec<&String>) =
        globs.iter().partition(|glob| glob.contains('*'));
    let mut any = Vec::new();
    if !plain.is_empty() {
        let plain: Vec<String> = plain.into_iter().map(|name| quoted(name)).collect();
        any.push(format!("{text} in [{}]", plain.join(", ")));
    }
    for glob in starred {
        let pieces: Vec<String> = glob.split('*').map(escaped).collect();
        // `(?s)`: a star stands for line breaks too, as it does where we match.
        any.push(format!(
            "{text}.matches({})",
            quoted(&format!("(?s)\\A{}\\z", pieces.join(".*")))
        ));
    }
    format!("({})", any.join(" || "))
}

/// Text for which a regular expression stands that matches it alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if letter.is_ascii() && !letter.is_ascii_alphanumeric() && !letter.is_ascii_control() {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A string literal of CEL.
fn quoted(text: &str) -> String {
    let mut literal = String::from("'");
    for letter in text.chars() {
        match letter {
            '\\' | '\'' => {
                literal.push('\\');
                literal.push(letter);
            }
            letter if letter.is_control() => {
                let _ = write!(literal, "\\U{:08x}", u32::from(letter));
            }
            letter => literal.push(letter),
        }
    }
    literal.push('\'');
    literal
}
