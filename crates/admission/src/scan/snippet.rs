//! A line of a text, short enough to show.

/// The most characters that are shown of a line.
const SHOWN_MAX: usize = 160;

/// The line with this number, counted from 1, cut where it is long.
pub(super) fn line(text: &str, number: usize) -> String {
    let line = text.split('\n').nth(number.saturating_sub(1)).unwrap_or_default();
    let line = line.trim_end();
    match line.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_its_end_and_not_too_long() {
        assert_eq!(line("a\r\n  b \nc", 2), "  b");
        assert_eq!(line("a", 7), "");
        assert_eq!(line(&"é".repeat(400), 1).chars().count(), SHOWN_MAX + 1);
    }
}
