//! Text of others made safe for a terminal: control characters and what reorders text are shown, not obeyed.

/// One cell or one line: every control character is escaped.
pub(crate) fn cell(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if is_hostile(c) {
            safe.extend(c.escape_default())
        } else {
            safe.push(c)
        }
        safe
    })
}

/// Text with line breaks of its own: they stay, everything else as in [`cell`].
pub(crate) fn lines(text: &str) -> String {
    text.split('\n').map(cell).collect::<Vec<_>>().join("\n")
}

/// JSON text: what a terminal would obey stands inside its strings alone, and is written as a number there.
pub(crate) fn json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if is_hostile(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
        safe
    })
}

/// Whether text of several lines can go to a terminal as it is.
pub(crate) fn is_safe(text: &str) -> bool {
    !text.chars().any(|c| is_hostile(c) && c != '\n')
}

/// Control characters (C0, C1, DEL) and those that change the direction of text or hide in it.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_drive_a_terminal_is_shown() {
        assert_eq!(cell("a\u{1b}[31mb\r\n\u{202e}c"), "a\\u{1b}[31mb\\r\\n\\u{202e}c");
        assert_eq!(cell("Ærøskøbing 東京"), "Ærøskøbing 東京");
        assert_eq!(lines("a\nb\tc"), "a\nb\\tc");
        let text = serde_json::to_string_pretty(&["\u{9b}31m\u{202e}é\u{e0041}\u{7f}"])
            .unwrap_or_default();
        let safe = json(&text);
        assert_eq!(safe, "[\n  \"\\u009b31m\\u202eé\\udb40\\udc41\\u007f\"\n]");
        assert!(is_safe(&safe) && !is_safe(&text));
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&safe).unwrap_or_default(),
            ["\u{9b}31m\u{202e}é\u{e0041}\u{7f}"]
        );
    }
}
