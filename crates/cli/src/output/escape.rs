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

/// Control characters (C0, C1, DEL) and those that change the direction of text or hide in it.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_drive_a_terminal_is_shown() {
        assert_eq!(cell("a\u{1b}[31mb\r\n\u{202e}c"), "a\\u{1b}[31mb\\r\\n\\u{202e}c");
        assert_eq!(cell("Ærøskøbing 東京"), "Ærøskøbing 東京");
        assert_eq!(lines("a\nb\tc"), "a\nb\\tc");
    }
}
