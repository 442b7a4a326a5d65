//! Dashboards under `deploy/grafana` ask for metrics that the code registers, by labels that it gives them.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What Prometheus itself adds, where it scrapes.
const OF_SCRAPES: &[&str] = &["cluster", "instance", "job", "le", "namespace", "node", "pod"];

/// What a dashboard asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Adds what dashboards ask for in vain; `sources` are files of product code with their text.
pub(super) fn check(
    root: &Path,
    sources: &[(String, String)],
    findings: &mut Vec<String>,
) -> Result<()> {
    let folder = root.join("deploy/grafana");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    files.sort();
    for file in files {
        let place = super::shown(root, &file);
        let document: Value = serde_json::from_str(&fs::read_to_string(&file)?)
            .with_context(|| format!("{place} is no JSON"))?;
        let mut exprs = Vec::new();
        collect(&document, &mut exprs);
        if exprs.is_empty() {
            findings.push(format!("{place} asks for nothing"));
        }
        for expr in exprs {
            findings
                .extend(wrong_with(&expr, sources).map(|why| format!("{place}: `{expr}`: {why}")));
        }
    }
    Ok(())
}

/// All expressions, wherever they stand.
fn collect(value: &Value, exprs: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().filter(|_| name == "expr") {
                    Some(expr) => exprs.push(expr.to_owned()),
                    None => collect(field, exprs),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, exprs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn wrong_with(expr: &str, sources: &[(String, String)]) -> Option<String> {
    let asked = Asked::of(expr);
    if asked.metrics.is_empty() {
        return Some("it asks for no metric of ours".to_owned());
    }
    for metric in &asked.metrics {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
        let names = [Some(metric.as_str()), base];
        let holds =
            |text: &str| names.iter().flatten().any(|name| text.contains(&format!("\"{name}\"")));
        let homes: Vec<_> = sources.iter().filter(|(_, text)| holds(text)).collect();
        if homes.is_empty() {
            return Some(format!("no code registers `{metric}`"));
        }
        for label in asked.labels.iter().filter(|label| !OF_SCRAPES.contains(&label.as_str())) {
            let quoted = format!("\"{label}\"");
            if !homes.iter().any(|(_, text)| text.contains(&quoted)) {
                return Some(format!("`{metric}` has no label `{label}`"));
            }
        }
    }
    None
}

impl Asked {
    /// Names and labels of an expression in PromQL: what stands in `{…}`, and behind `by`.
    fn of(expr: &str) -> Self {
        let mut asked = Self::default();
        let mut rest = expr;
        let mut grouping = false;
        let mut depth = 0_u32;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if first == '"' {
                let end = rest[1..].find('"').map_or(rest.len(), |at| at + 2);
                rest = &rest[end..];
                continue;
            }
            if is_word(first) {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                rest = behind;
                if depth > 0 && behind.trim_start().starts_with(['=', '!'])
                    || grouping && word != "by"
                {
                    asked.labels.insert(word.to_owned());
                } else if word.starts_with("nullius_") {
                    asked.metrics.insert(word.to_owned());
                } else if word == "by" {
                    grouping = true;
                }
                continue;
            }
            match first {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ')' => grouping = false,
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_no_code_registers_is_found() {
        let sources = [(
            "crates/mesh/src/meters.rs".to_owned(),
            "all.counter(\"nullius_mesh_x_total\", …); NAME = \"verdict\"; all.histogram(\"nullius_mesh_y_seconds\")".to_owned(),
        )];
        let wrong = |expr: &str| wrong_with(expr, &sources);
        assert_eq!(
            wrong(
                "sum by (verdict, pod) (rate(nullius_mesh_x_total{verdict=~\"denied|failed\"}[5m]))"
            ),
            None
        );
        assert_eq!(
            wrong(
                "histogram_quantile(0.99, sum by (le) (rate(nullius_mesh_y_seconds_bucket[5m])))"
            ),
            None
        );
        assert_eq!(
            wrong("nullius_mesh_z_total").unwrap(),
            "no code registers `nullius_mesh_z_total`"
        );
        let label = "`nullius_mesh_x_total` has no label `reason`";
        assert_eq!(wrong("rate(nullius_mesh_x_total{reason=\"verdict\"}[5m])").unwrap(), label);
        assert_eq!(wrong("sum by (reason) (nullius_mesh_x_total)").unwrap(), label);
        assert!(wrong("up{job=\"nullius_mesh_x_total\"}").is_some());
    }
}
