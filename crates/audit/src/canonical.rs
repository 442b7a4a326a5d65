//! One text form for what is hashed and written to files, in which no string can break a line or a terminal.
//!
//! JSON requires only U+0000–U+001F to be escaped. Here every character that moves a cursor, ends a line or turns
//! the reading direction is escaped too, so that a hostile name cannot forge a second line of a log.

use std::{borrow::Cow, fmt::Write as _, io};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Compact JSON with every unsafe character escaped; the same value gives the same bytes.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, SafeFormatter))?;
    String::from_utf8(bytes).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

/// Text for a table or a terminal: every control and direction character becomes visible as `\u{…}`.
pub fn display_safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a `String` cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Characters that change lines, cursor or reading direction, or that cannot be seen.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00AD}'
                | '\u{061C}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E007F}'
        )
}

struct SafeFormatter;

impl Formatter for SafeFormatter {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if fragment.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hostile_string_stays_on_its_line() {
        let hostile = "ada\n{\"forged\":1}\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}\u{e0041}é";
        let json = canonical_json(hostile).unwrap();
        assert!(!json.contains(is_unsafe), "{json}");
        assert!(json.contains('é'));
        assert_eq!(
            display_safe("a\n\u{1b}[31m\u{202e}b"),
            "a\\n\\u{1b}[31m\\u{202e}b",
            "tables show it instead of obeying it"
        );
        assert!(matches!(display_safe("plain é"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn every_string_survives(text in any::<String>()) {
            let json = canonical_json(&text).unwrap();
            prop_assert!(!json.contains(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
