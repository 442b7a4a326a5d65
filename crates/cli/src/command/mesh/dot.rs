//! The graph in Graphviz' language.

use std::fmt::Write as _;

use nullius_api::MeshGraph;
use nullius_model::MeshVerdict;

use super::picture::Picture;
use crate::output::escape;

/// Writes it.
pub(super) fn write(graph: &MeshGraph) -> String {
    let picture = Picture::of(graph);
    let mut out = String::from(
        "digraph mesh {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (group, title) in picture.groups.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{group} {{\n    label={};", quoted(title));
        for (index, node) in picture.nodes.iter().enumerate().filter(|(_, it)| it.group == group) {
            let label = match node.subtitle.as_str() {
                "" => node.title.clone(),
                subtitle => format!("{}\n{subtitle}", node.title),
            };
            let (label, tooltip) = (quoted(&label), quoted(&node.tooltip));
            let _ = writeln!(out, "    n{index} [label={label}, tooltip={tooltip}];");
        }
        out.push_str("  }\n");
    }
    for arc in &picture.arcs {
        let (colour, style) = match arc.verdict {
            MeshVerdict::Allowed => ("#1a7f37", "solid"),
            MeshVerdict::ShadowDenied => ("#9a6700", "bold,dashed"),
            MeshVerdict::Denied => ("#cf222e", "dashed"),
            MeshVerdict::Failed => ("#57606a", "dotted"),
        };
        let (label, tooltip) = (quoted(&arc.label), quoted(&arc.tooltip));
        let _ = writeln!(
            out,
            "  n{} -> n{} [label={label}, color=\"{colour}\", fontcolor=\"{colour}\", style=\"{style}\", tooltip={tooltip}];",
            arc.from, arc.to
        );
    }
    out.push_str("}\n");
    out
}

/// A string as the language has it. What would be an escape of Graphviz is none.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in escape::lines(text).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
