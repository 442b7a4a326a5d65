#![allow(clippy::unwrap_used, reason = "test")]
use nullius_model::MeshVerdict;

use super::super::picture::{Arc, Node};
use super::*;

const TEXTS: Texts = Texts { of_node: width, of_label: width };

fn width(text: &str) -> i32 {
    8 * i32::try_from(text.len()).unwrap()
}

/// Nodes by their group, and who calls whom.
fn picture(groups: &[usize], arcs: &[(usize, usize)]) -> Picture {
    let most = groups.iter().max().map_or(0, |most| most + 1);
    Picture {
        groups: (0..most).map(|group| format!("group-{group}")).collect(),
        nodes: groups
            .iter()
            .enumerate()
            .map(|(index, group)| Node {
                title: format!("node-{index}"),
                subtitle: "Deployment".into(),
                group: *group,
                tooltip: String::new(),
            })
            .collect(),
        arcs: arcs
            .iter()
            .map(|(from, to)| Arc {
                from: *from,
                to: *to,
                verdict: MeshVerdict::Allowed,
                label: "8080 ×1".into(),
                tooltip: String::new(),
            })
            .collect(),
    }
}

/// The same numbers each time, without chance.
fn scattered(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % below
}

fn apart(one: Area, other: Area) -> bool {
    one.x + one.width <= other.x
        || other.x + other.width <= one.x
        || one.y + one.height <= other.y
        || other.y + other.height <= one.y
}

fn within(inner: Area, outer: Area) -> bool {
    inner.x >= outer.x
        && inner.y >= outer.y
        && inner.x + inner.width <= outer.x + outer.width
        && inner.y + inner.height <= outer.y + outer.height
}

/// What every drawing must be, whatever is drawn.
fn is_readable(picture: &Picture) {
    let layout = lay_out(picture, TEXTS);
    assert_eq!(layout, lay_out(picture, TEXTS), "the same each time");
    for (index, drawn) in layout.nodes.iter().enumerate() {
        assert!(within(*drawn, layout.lanes[picture.nodes[index].group]), "{index} in its lane");
        for other in &layout.nodes[index + 1..] {
            assert!(apart(*drawn, *other), "{drawn:?} {other:?}");
        }
    }
    for (index, lane) in layout.lanes.iter().enumerate() {
        assert!(lane.x >= 0 && lane.y + lane.height <= layout.height, "{lane:?}");
        assert!(lane.x + lane.width <= layout.width);
        assert!(layout.lanes[index + 1..].iter().all(|other| apart(*lane, *other)));
    }
    let label = |line: &Line, label: &str| Area {
        x: line.label.0,
        y: line.label.1 - 11,
        width: width(label),
        height: 13,
    };
    let labels: Vec<_> =
        layout.lines.iter().zip(&picture.arcs).map(|(line, arc)| label(line, &arc.label)).collect();
    for (index, drawn) in labels.iter().enumerate() {
        assert!(layout.nodes.iter().all(|node| apart(*drawn, *node)), "no label on a node");
        assert!(labels[index + 1..].iter().all(|other| apart(*drawn, *other)), "nor on another");
    }
    for (line, arc) in layout.lines.iter().zip(&picture.arcs) {
        let mut at = line.from;
        for piece in &line.pieces {
            let to = match *piece {
                Piece::Straight(x, y) | Piece::Bent(x, y) => (x, y),
            };
            // A bent piece stays between the heights of its ends, and goes through no column.
            let reach = Area {
                x: at.0.min(to.0) + 1,
                y: at.1.min(to.1),
                width: (at.0 - to.0).abs() - 2,
                height: (at.1 - to.1).abs() + 1,
            };
            assert!(layout.nodes.iter().all(|node| apart(reach, *node)), "{reach:?} {arc:?}");
            at = to;
        }
        let end = layout.nodes[arc.to];
        let touches = line.tip.0 == end.x || line.tip.0 == end.x + end.width;
        assert!(touches && (end.y..=end.y + end.height).contains(&line.tip.1), "{arc:?}");
    }
}

#[test]
fn who_calls_stands_left_of_whom_they_call() {
    let layout = lay_out(&picture(&[0, 0, 1, 1], &[(0, 1), (1, 2), (0, 3), (3, 2)]), TEXTS);
    let x: Vec<_> = layout.nodes.iter().map(|node| node.x).collect();
    assert!(x[0] < x[1] && x[1] < x[2] && x[0] < x[3] && x[3] < x[2], "{x:?}");
    assert!(layout.lanes[0].y < layout.lanes[1].y, "those that call above those that are called");
    assert!(layout.lines.iter().all(|line| line.points == Points::Right));
}

#[test]
fn circles_and_who_calls_themselves_are_drawn_with_their_arrows_where_they_belong() {
    let round = picture(&[0, 0, 0], &[(0, 1), (1, 2), (2, 0), (1, 1)]);
    let layout = lay_out(&round, TEXTS);
    let left = layout.lines.iter().filter(|line| line.points == Points::Left).count();
    assert_eq!(left, 2, "the one that goes back, and the one to itself");
    is_readable(&round);
}

#[test]
fn nothing_is_drawn_of_nothing_and_alone_stands_who_calls_nobody() {
    is_readable(&Picture::default());
    is_readable(&picture(&[0], &[]));
    is_readable(&picture(&[0, 1, 2], &[]));
}

#[test]
fn whatever_is_drawn_lines_go_behind_no_node_and_labels_lie_on_nothing() {
    let mut seed = 7;
    for nodes in 2..24 {
        let groups: Vec<_> =
            (0..nodes)
                .map(|node| {
                    if node < 3 { node.min(nodes - 1) } else { scattered(&mut seed, 3.min(nodes)) }
                })
                .collect();
        let mut arcs: Vec<_> = (0..nodes * 2)
            .map(|_| (scattered(&mut seed, nodes), scattered(&mut seed, nodes)))
            .collect();
        arcs.sort_unstable();
        arcs.dedup();
        is_readable(&picture(&groups, &arcs));
    }
}
