//! The graph as a picture. It holds no script and asks for nothing; all text in it is escaped.

use std::fmt::Write as _;

use nullius_api::MeshGraph;
use nullius_model::MeshVerdict;
use unicode_width::UnicodeWidthStr as _;

use super::{
    layout::{Layout, Line, Piece, Points, Texts, lay_out},
    picture::Picture,
};
use crate::output::escape;

/// Widths of characters in tenths of a pixel, generous for the fonts that there may be.
const NODE_CHAR: i32 = 80;
const LABEL_CHAR: i32 = 68;
/// Room of the title and of what the lines mean.
const HEAD: i32 = 64;
const LEAST_WIDTH: i32 = 640;

const STYLE: &str = "text{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2328}\
.title{font-size:15px;font-weight:bold}.lane{fill:#f6f8fa;stroke:#d0d7de}.lane-title{font-size:12px;font-weight:bold;fill:#57606a}\
.node rect{fill:#ffffff;stroke:#57606a;stroke-width:1.2}.name{font-size:13px;font-weight:bold}.kind{font-size:11px;fill:#57606a}\
.arc path{fill:none;stroke-width:1.7}.arc text,.key text{font-size:11px}.key path{fill:none;stroke-width:1.7}\
.arc text{paint-order:stroke;stroke:#f6f8fa;stroke-width:3px}\
.allowed path{stroke:#1a7f37}.allowed polygon,.allowed text{fill:#1a7f37}\
.shadow-denied path{stroke:#9a6700;stroke-dasharray:10 3 2 3}.shadow-denied polygon,.shadow-denied text{fill:#9a6700}\
.denied path{stroke:#cf222e;stroke-dasharray:6 4}.denied polygon,.denied text{fill:#cf222e}\
.failed path{stroke:#57606a;stroke-dasharray:2 3}.failed polygon,.failed text{fill:#57606a}\
.arc:hover path{stroke-width:3.2}";

/// Draws it.
pub(super) fn write(graph: &MeshGraph, title: &str) -> String {
    let picture = Picture::of(graph);
    let layout = lay_out(&picture, Texts { of_node: node_width, of_label: label_width });
    let width = layout.width.max(LEAST_WIDTH).max(20 + node_width(title) * 15 / 13);
    let height = layout.height + HEAD;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text class=\"title\" x=\"20\" y=\"28\">{title}</text>\n",
        title = xml(title),
    );
    key(&mut out);
    if picture.nodes.is_empty() {
        out.push_str("<text x=\"20\" y=\"80\">no calls</text>\n");
    }
    let _ = writeln!(out, "<g transform=\"translate(0 {HEAD})\">");
    for (group, lane) in picture.groups.iter().zip(&layout.lanes) {
        let _ = writeln!(
            out,
            "<g><rect class=\"lane\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\"/>\
             <text class=\"lane-title\" x=\"{}\" y=\"{}\">{}</text></g>",
            lane.x,
            lane.y,
            width - 2 * lane.x,
            lane.height,
            lane.x + 12,
            lane.y + 17,
            xml(group)
        );
    }
    for (arc, line) in picture.arcs.iter().zip(&layout.lines) {
        draw_line(&mut out, arc.verdict, &arc.label, &arc.tooltip, line);
    }
    nodes(&mut out, &picture, &layout);
    out.push_str("</g>\n</svg>\n");
    out
}

/// What the lines mean.
fn key(out: &mut String) {
    let mut x = 20;
    for verdict in MeshVerdict::ALL {
        let word = verdict.as_str();
        let _ = writeln!(
            out,
            "<g class=\"key {word}\"><path d=\"M {x} 48 H {}\"/><text x=\"{}\" y=\"52\">{word}</text></g>",
            x + 40,
            x + 48
        );
        x += 48 + label_width(word) + 24;
    }
}

fn draw_line(out: &mut String, verdict: MeshVerdict, label: &str, tooltip: &str, line: &Line) {
    let mut at = line.from;
    let mut path = format!("M {} {}", at.0, at.1);
    for piece in &line.pieces {
        match *piece {
            Piece::Straight(x, y) => {
                let _ = write!(path, " L {x} {y}");
                at = (x, y);
            }
            Piece::Bent(x, y) => {
                let middle = (at.0 + x) / 2;
                let _ = write!(path, " C {middle} {} {middle} {y} {x} {y}", at.1);
                at = (x, y);
            }
        }
    }
    let (x, y) = line.tip;
    let back = match line.points {
        Points::Right => x - 10,
        Points::Left => x + 10,
    };
    let _ = writeln!(
        out,
        "<g class=\"arc {}\"><title>{}</title><path d=\"{path}\"/><polygon points=\"{x},{y} {back},{} {back},{}\"/>\
         <text x=\"{}\" y=\"{}\">{}</text></g>",
        verdict.as_str(),
        xml_lines(tooltip),
        y - 5,
        y + 5,
        line.label.0,
        line.label.1,
        xml(label)
    );
}

fn nodes(out: &mut String, picture: &Picture, layout: &Layout) {
    for (node, drawn) in picture.nodes.iter().zip(&layout.nodes) {
        let middle = drawn.y + drawn.height / 2;
        let name_at = if node.subtitle.is_empty() { middle + 4 } else { middle - 2 };
        let _ = writeln!(
            out,
            "<g class=\"node\"><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\"/>\
             <text class=\"name\" x=\"{}\" y=\"{name_at}\">{}</text><text class=\"kind\" x=\"{}\" y=\"{}\">{}</text></g>",
            xml_lines(&node.tooltip),
            drawn.x,
            drawn.y,
            drawn.width,
            drawn.height,
            drawn.x + 12,
            xml(&node.title),
            drawn.x + 12,
            middle + 13,
            xml(&node.subtitle)
        );
    }
}

fn node_width(text: &str) -> i32 {
    width_of(text, NODE_CHAR)
}

fn label_width(text: &str) -> i32 {
    width_of(text, LABEL_CHAR)
}

fn width_of(text: &str, tenths: i32) -> i32 {
    let columns = i32::try_from(escape::cell(text).width()).unwrap_or(i32::MAX / 1_000);
    columns.min(4_000) * tenths / 10
}

/// Text of one line as XML has it.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in escape::cell(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no such characters, however they are written.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text with line breaks of its own.
fn xml_lines(text: &str) -> String {
    text.split('\n').map(xml).collect::<Vec<_>>().join("\n")
}
