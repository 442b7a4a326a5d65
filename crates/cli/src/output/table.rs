//! Tables for people: columns as wide as their cells, names never cut, the last text column fitted to the terminal.

use unicode_width::UnicodeWidthStr;

use super::escape;

/// When a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// In every table.
    Always,
    /// With `-o wide` only.
    Wide,
}

/// A column.
#[derive(Debug, Clone)]
struct Column {
    title: &'static str,
    shown: Shown,
}

/// Rows under titles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// The last column is a sentence that may be cut to fit a terminal.
    fits: bool,
}

/// How a table is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Whether columns that only `-o wide` has are shown.
    pub(crate) widest: Shown,
    /// Whether titles are shown.
    pub(crate) titles: Titles,
    /// Columns of the terminal; absent when the output is none.
    pub(crate) width: Option<usize>,
}

/// Whether the line with the titles is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Titles {
    /// Titles first.
    Shown,
    /// Rows only.
    Hidden,
}

impl Table {
    /// A table with these columns in every output.
    pub(crate) fn new<const N: usize>(titles: [&'static str; N]) -> Self {
        let column = |title| Column { title, shown: Shown::Always };
        Self { columns: titles.into_iter().map(column).collect(), ..Self::default() }
    }

    /// The same, with one of the columns only in wide output.
    #[must_use]
    pub(crate) fn wide(mut self, title: &'static str) -> Self {
        for column in self.columns.iter_mut().filter(|column| column.title == title) {
            column.shown = Shown::Wide;
        }
        self
    }

    /// The same, with a last column of sentences that may be cut to fit a terminal, marked by `…`.
    #[must_use]
    pub(crate) fn sentence_last(mut self) -> Self {
        self.fits = true;
        self
    }

    /// Adds a row; cells are escaped, an empty one becomes `-`.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown =
            |cell: String| if cell.is_empty() { "-".to_owned() } else { escape::cell(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The text.
    pub(crate) fn render(&self, layout: Layout) -> String {
        let shown: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.shown == Shown::Always || layout.widest == Shown::Wide)
            .map(|(index, _)| index)
            .collect();
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_owned()).collect();
        let head = (layout.titles == Titles::Shown).then_some(&titles);
        let lines = || head.into_iter().chain(&self.rows);
        let widths: Vec<usize> = shown
            .iter()
            .map(|column| lines().map(|line| line[*column].width()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for line in lines() {
            let mut used = 0;
            for (position, column) in shown.iter().enumerate() {
                let cell = &line[*column];
                if position + 1 < shown.len() {
                    text.push_str(cell);
                    text.push_str(&" ".repeat(widths[position] - cell.width() + 3));
                    used += widths[position] + 3;
                    continue;
                }
                match layout.width.filter(|_| self.fits) {
                    Some(width) => text.push_str(&fit(cell, width.saturating_sub(used).max(12))),
                    None => text.push_str(cell),
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

/// The text, cut with `…` where it is wider.
fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        if cut.width() + c.to_string().width() + 1 > width {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> Table {
        let mut table = Table::new(["NAME", "SINCE", "WHY"]).wide("SINCE").sentence_last();
        table.row(["ada".to_owned(), "2h".to_owned(), "a long sentence that goes on".to_owned()]);
        table.row(["東京".to_owned(), String::new(), "short\u{7}".to_owned()]);
        table
    }

    #[test]
    fn columns_align_by_what_a_terminal_shows() {
        let layout = Layout { widest: Shown::Wide, titles: Titles::Shown, width: None };
        assert_eq!(
            people().render(layout),
            "NAME   SINCE   WHY\n\
             ada    2h      a long sentence that goes on\n\
             東京   -       short\\u{7}\n"
        );
    }

    #[test]
    fn only_the_sentence_is_cut_and_it_says_so() {
        let layout = Layout { widest: Shown::Always, titles: Titles::Hidden, width: Some(22) };
        assert_eq!(people().render(layout), "ada    a long sentenc…\n東京   short\\u{7}\n");
    }
}
