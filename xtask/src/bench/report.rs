//! What a bench prints and writes: rows, as JSON, as text, and as a table of BENCHMARKS.md.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::stats::Figure;

/// One figure beside its peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// The least and the most of the runs that `ours` is the median of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<[f64; 2]>,
    pub(crate) peer: Option<f64>,
    pub(crate) peer_name: Option<&'static str>,
    /// `ours / peer`.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<String>,
    pub(crate) met: Option<bool>,
}

/// A goal, judged by the value of the row or by something that holds or not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    Below(f64),
    Above(f64),
    Holds(&'static str, bool),
}

impl Row {
    /// A row without peer and goal.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: Figure) -> Self {
        let spread = (ours.least < ours.most).then_some([rounded(ours.least), rounded(ours.most)]);
        Self {
            what: what.into(),
            unit,
            ours: rounded(ours.median),
            spread,
            peer: None,
            peer_name: None,
            ratio: None,
            goal: None,
            met: None,
        }
    }

    /// Beside this.
    #[must_use]
    pub(crate) fn peer(mut self, name: &'static str, figure: Figure) -> Self {
        self.peer = Some(rounded(figure.median));
        self.peer_name = Some(name);
        self.ratio = (figure.median > 0.0).then(|| rounded(self.ours / figure.median));
        self
    }

    /// To be reached; a missed goal is said, and no error.
    #[must_use]
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        let (text, met) = match goal {
            Goal::Below(limit) => (format!("< {}", number(limit)), self.ours < limit),
            Goal::Above(limit) => (format!("> {}", number(limit)), self.ours > limit),
            Goal::Holds(what, met) => (what.to_owned(), met),
        };
        self.goal = Some(text);
        self.met = Some(met);
        self
    }
}

/// The rows for people at a terminal.
pub(crate) fn text(rows: &[Row]) -> String {
    let cells: Vec<[String; 8]> =
        std::iter::once(TITLES.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in &cells {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Puts the table of a bench between its markers in BENCHMARKS.md.
pub(crate) fn rewrite(root: &Path, name: &str, words: &str, rows: &[Row]) -> Result<()> {
    let path = root.join("BENCHMARKS.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let table = format!("{words}\n\n{}", markdown(rows));
    let text = between_markers(&text, name, &table)
        .with_context(|| format!("`{}` has no markers for bench `{name}`", path.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

const TITLES: [&str; 8] = ["what", "unit", "ours", "spread", "peer", "ratio", "goal", "met"];

fn cells(row: &Row) -> [String; 8] {
    let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
    let spread = row.spread.map(|[least, most]| format!("{} – {}", number(least), number(most)));
    let peer = row.peer.map(|peer| format!("{} {}", number(peer), row.peer_name.unwrap_or("")));
    [
        row.what.clone(),
        row.unit.to_owned(),
        number(row.ours),
        spread.unwrap_or_default(),
        peer.unwrap_or_default().trim_end().to_owned(),
        optional(row.ratio),
        row.goal.clone().unwrap_or_default(),
        row.met.map_or("", |met| if met { "yes" } else { "no" }).to_owned(),
    ]
}

fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "| {} |", TITLES.join(" | "));
    let _ = writeln!(text, "|---|---|--:|--:|--:|--:|--:|---|");
    for row in rows {
        let _ = writeln!(text, "| {} |", cells(row).join(" | "));
    }
    text
}

fn between_markers(text: &str, name: &str, content: &str) -> Option<String> {
    let open = format!("<!-- bench {name} -->");
    let close = format!("<!-- end {name} -->");
    let start = text.find(&open)? + open.len();
    let end = start + text.get(start..)?.find(&close)?;
    Some(format!("{}\n\n{}\n\n{}", &text[..start], content.trim(), &text[end..]))
}

/// Three significant digits: more would say more than was measured.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of a double is small")]
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

fn number(value: f64) -> String {
    let whole = value.abs() >= 100.0 || value.fract() == 0.0;
    if whole { format!("{value:.0}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_missed_goal_is_a_row_that_says_so() {
        let figure = Figure { median: 1.2345, least: 1.0, most: 2.0 };
        let row = Row::new("small GET", "ms", figure).peer("direct", Figure::once(0.5));
        let row = row.goal(Goal::Below(1.0));
        assert_eq!((row.ours, row.ratio, row.met), (1.23, Some(2.46), Some(false)));
        let json = serde_json::to_value(&row).unwrap();
        for field in ["what", "unit", "ours", "peer", "peer_name", "ratio", "goal", "met"] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert!(
            markdown(&[row])
                .ends_with("| small GET | ms | 1.23 | 1 – 2 | 0.5 direct | 2.46 | < 1 | no |\n")
        );
    }

    #[test]
    fn a_table_replaces_its_own_and_nothing_else() {
        let text = "head\n<!-- bench a -->\nold\n<!-- end a -->\ntail\n";
        let new = between_markers(text, "a", "new\n").unwrap();
        assert_eq!(new, "head\n<!-- bench a -->\n\nnew\n\n<!-- end a -->\ntail\n");
        assert_eq!(between_markers(&new, "a", "new").unwrap(), new);
        assert_eq!(between_markers(text, "b", "new"), None);
    }
}
