//! The small pieces of text of Kubernetes' messages: quoted lists, plurals, Go's quoting.

use std::fmt::Write as _;

/// `"a", "b"`; the items are not escaped, as in Kubernetes.
pub(crate) fn quoted_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        let separator = if text.is_empty() { "\"" } else { ", \"" };
        text.push_str(separator);
        text.push_str(item.as_ref());
        text.push('"');
    }
    text
}

/// The first word for one, the second for any other number.
pub(crate) fn plural(one: &'static str, more: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { more }
}

/// `container "a"` or `containers "a", "b"`.
pub(crate) fn containers<T: AsRef<str>>(names: &[T]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted_list(names))
}

/// Text as Go's `%q` prints it.
pub(crate) fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a string does not fail.
                let _ = match code {
                    0..=0x7f => write!(quoted, "\\x{code:02x}"),
                    0x80..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(c: char) -> bool {
    // After a letter a mark is printed as it is, everything else that Rust escapes is not printable.
    c == ' ' || c == '\'' || (!c.is_whitespace() && format!("a{c}").escape_debug().eq(['a', c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_plurals_read_as_in_kubernetes() {
        assert_eq!(containers(&["a"]), "container \"a\"");
        assert_eq!(containers(&["a", "b"]), "containers \"a\", \"b\"");
        assert_eq!(quoted_list::<&str>([]), "");
        assert_eq!(quoted_list(["", "x"]), "\"\", \"x\"");
    }

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        assert_eq!(go_quoted("un'confined \"x\"\\"), r#""un'confined \"x\"\\""#);
        assert_eq!(
            go_quoted("\u{0}\u{7f}\n\u{a0}\u{200b}é東\u{301}"),
            r#""\x00\x7f\n\u00a0\u200bé東́""#
        );
        assert_eq!(go_quoted("\u{1f600}\u{e0001}"), "\"\u{1f600}\\U000e0001\"");
    }
}
