//! What commands print: one result in the form that was asked for, table, JSON, YAML or names.
//!
//! JSON and YAML are one document with `apiVersion` and `kind`; times are RFC 3339 there and relative in tables.

pub(crate) mod escape;
mod relative;
mod table;

use nullius_model::API_VERSION;
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use relative::{age, relative, relative_or_never};
pub(crate) use table::{Layout, Shown, Table, Titles};

use crate::failure::Failure;

/// The forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// Names only, one a line.
    Name,
    /// SARIF, of findings only.
    Sarif,
    /// JUnit XML, of findings only.
    Junit,
    /// Comma-separated values, of findings only.
    Csv,
    /// PolicyReport (wgpolicyk8s.io/v1alpha2), of findings only.
    Policyreport,
    /// Report (openreports.io/v1alpha1), of findings only.
    Openreports,
    /// GitLab's code quality report, of scans only.
    Codequality,
    /// Markdown, of differences only.
    Markdown,
    /// Objects for kubectl, of exported policies only.
    Native,
    /// Files for an API server, of exported policies only.
    Manifest,
    /// Graphviz' language, of graphs only.
    Dot,
    /// A picture, of graphs only.
    Svg,
    /// Events of the audit as audit.k8s.io/v1 has them; other things have no such form.
    Kubernetes,
}

/// Several things of one kind.
pub(crate) struct Listing {
    /// Kind of the list, `SessionList`.
    pub(crate) kind: &'static str,
    /// The things as JSON.
    pub(crate) items: Vec<Value>,
    /// The things as rows.
    pub(crate) table: Table,
    /// The things as names.
    pub(crate) names: Vec<String>,
    /// Why the list is empty and what to do next.
    pub(crate) empty: String,
}

/// One thing.
pub(crate) struct Single {
    /// Kind of the thing, `WhoAmI`.
    pub(crate) kind: &'static str,
    /// The thing as JSON.
    pub(crate) value: Value,
    /// The thing for people.
    pub(crate) text: String,
    /// The thing as a name.
    pub(crate) name: String,
}

/// What goes to standard output, and what beside it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    /// The result.
    pub(crate) out: String,
    /// What people are told beside it.
    pub(crate) err: String,
}

impl Listing {
    /// The text in a form.
    pub(crate) fn print(self, format: Format, layout: Layout) -> Result<Printed, Failure> {
        let document = |items: Vec<Value>| json!({ "apiVersion": API_VERSION, "kind": self.kind, "items": items });
        let out = match format {
            Format::Json | Format::Kubernetes => json_text(&document(self.items))?,
            Format::Yaml => yaml_text(&document(self.items))?,
            Format::Name => self.names.iter().map(|name| escape::cell(name) + "\n").collect(),
            Format::Table | Format::Wide if self.items.is_empty() => {
                return Ok(Printed { out: String::new(), err: escape::lines(&self.empty) + "\n" });
            }
            Format::Table | Format::Wide => self.table.render(layout),
            Format::Sarif
            | Format::Junit
            | Format::Csv
            | Format::Policyreport
            | Format::Openreports
            | Format::Codequality => return Err(only_findings()),
            Format::Markdown => return Err(only_differences()),
            Format::Native | Format::Manifest => return Err(only_exports()),
            Format::Dot | Format::Svg => return Err(only_graphs()),
        };
        Ok(Printed { out, err: String::new() })
    }
}

impl Single {
    /// The text in a form.
    pub(crate) fn print(self, format: Format) -> Result<Printed, Failure> {
        let tagged = || match &self.value {
            Value::Object(fields) => {
                let mut all = serde_json::Map::new();
                all.insert("apiVersion".to_owned(), json!(API_VERSION));
                all.insert("kind".to_owned(), json!(self.kind));
                all.extend(fields.clone());
                Value::Object(all)
            }
            other => other.clone(),
        };
        let out = match format {
            Format::Json | Format::Kubernetes => json_text(&tagged())?,
            Format::Yaml => yaml_text(&tagged())?,
            Format::Name => escape::cell(&self.name) + "\n",
            Format::Table | Format::Wide => self.text,
            Format::Sarif
            | Format::Junit
            | Format::Csv
            | Format::Policyreport
            | Format::Openreports
            | Format::Codequality => return Err(only_findings()),
            Format::Markdown => return Err(only_differences()),
            Format::Native | Format::Manifest => return Err(only_exports()),
            Format::Dot | Format::Svg => return Err(only_graphs()),
        };
        Ok(Printed { out, err: String::new() })
    }
}

const OF_FINDINGS: &str = "`sarif`, `junit` and `codequality` are forms of `nullius scan`; `junit` of `nullius test` too; `csv`, `policyreport` and `openreports` of `nullius findings list`";
const OF_DIFFERENCES: &str = "`markdown` is a form of `nullius diff BASE HEAD`";
const OF_GRAPHS: &str = "`dot` and `svg` are forms of `nullius mesh graph`";
const OF_EXPORTS: &str = "`native` and `manifest` are forms of `nullius policy export`";

/// The failure of a command that has no findings.
pub(crate) fn only_findings() -> Failure {
    no_form(Format::Sarif, &[])
}

/// The failure of a command that compares nothing.
pub(crate) fn only_differences() -> Failure {
    no_form(Format::Markdown, &[])
}

/// The failure of a command that exports nothing.
pub(crate) fn only_exports() -> Failure {
    no_form(Format::Native, &[])
}

/// The failure of a command that draws nothing.
pub(crate) fn only_graphs() -> Failure {
    no_form(Format::Dot, &[])
}

/// The failure of a command that has results in these forms beside those that all have.
pub(crate) fn no_form(form: Format, own: &[&str]) -> Failure {
    let why = match form {
        Format::Markdown => OF_DIFFERENCES,
        Format::Native | Format::Manifest => OF_EXPORTS,
        Format::Dot | Format::Svg => OF_GRAPHS,
        _ => OF_FINDINGS,
    };
    let forms = ["table", "wide", "json", "yaml", "name"].iter().chain(own);
    let forms: Vec<String> = forms.map(|form| format!("`{form}`")).collect();
    Failure::usage("this command has no result in that form")
        .why(why)
        .next(format!("`-o` takes here {}", forms.join(", ")))
}

/// JSON for people and machines, ended by a line break; nothing in it drives a terminal.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text =
        text.map_err(|error| Failure::new("cannot write the answer as JSON").because(error))?;
    Ok(escape::json(&text) + "\n")
}

/// YAML for people and machines, ended by a line break.
pub(crate) fn yaml_text(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(value)
        .map_err(|error| Failure::new("cannot write the answer as YAML").because(error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if escape::is_safe(&text) {
        return Ok(text);
    }
    // JSON is YAML too, and can write every character as a number.
    json_text(value)
}

/// A value as JSON.
pub(crate) fn json_value(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| Failure::new("cannot write the answer as JSON").because(error))
}

/// Lines of `name: value` with aligned values; empty values are left out.
pub(crate) fn properties(lines: &[(&str, String)]) -> String {
    let shown = || lines.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    shown()
        .map(|(name, value)| {
            let name = format!("{name}:");
            format!("{name:width$}  {}\n", escape::cell(value))
        })
        .collect()
}
