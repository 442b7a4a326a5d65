//! Lines of a text, short enough to show.

use std::cell::OnceCell;

use nullius_manifest::{Place, Source};

use crate::report::Location;

/// The most characters that are shown of a line.
const SHOWN_MAX: usize = 160;

/// A text whose lines are found when the first is asked for.
pub(crate) struct Lines<'a> {
    pub(crate) source: &'a Source,
    /// Where each line begins.
    starts: OnceCell<Vec<usize>>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(source: &'a Source) -> Self {
        Self { source, starts: OnceCell::new() }
    }

    /// A place with its line.
    pub(crate) fn location(&self, at: Place) -> Location {
        Location {
            file: self.source.name.clone(),
            line: at.line,
            column: at.column,
            snippet: self.snippet(at.line),
        }
    }

    /// The line with this number, counted from 1, cut where it is long.
    pub(crate) fn snippet(&self, number: usize) -> String {
        let text = self.source.text.as_str();
        let starts = self.starts.get_or_init(|| {
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        });
        let start = number.checked_sub(1).and_then(|index| starts.get(index));
        let rest = start.and_then(|start| text.get(*start..)).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default().trim_end();
        match line.char_indices().nth(SHOWN_MAX) {
            Some((cut, _)) => format!("{}…", &line[..cut]),
            None => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, number: usize) -> String {
        let source = Source { name: "x".to_owned(), text: text.to_owned() };
        Lines::of(&source).snippet(number)
    }

    #[test]
    fn a_line_is_shown_without_its_end_and_not_too_long() {
        assert_eq!(line("a\r\n  b \nc", 2), "  b");
        assert_eq!(line("a\nb", 1), "a");
        assert_eq!(line("a\nb", 2), "b");
        assert_eq!(line("a", 7), "");
        assert_eq!(line("a", 0), "");
        assert_eq!(line(&"é".repeat(400), 1).chars().count(), SHOWN_MAX + 1);
    }
}
