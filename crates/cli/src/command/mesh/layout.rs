//! Where everything is drawn: columns by who calls whom from left to right, a lane for each group from top to bottom.
//!
//! Each arc has a place of its own in every column that it crosses, and leaves and enters nodes at places of its own, so that no line goes
//! behind a node and no label lies on another. Integers alone: the same graph is drawn the same everywhere.

use super::picture::Picture;

/// Space between neighbours, and around everything.
const GAP: i32 = 14;
const MARGIN: i32 = 20;
/// Room of a line in a column, and between the places at which lines meet a node.
const ROW: i32 = 18;
const NODE_LEAST: i32 = 44;
/// Room of a lane's title.
const LANE_TITLE: i32 = 24;
/// Room between columns in which lines bend, and in which arrows end.
const BEND: i32 = 90;
const ARROW: i32 = 16;
/// How often columns are put in order by their neighbours.
const SWEEPS: usize = 6;

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Area {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: i32,
    pub(super) height: i32,
}

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Straight to a point.
    Straight(i32, i32),
    /// Bent to a point, level at both ends.
    Bent(i32, i32),
}

/// How an arc is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) from: (i32, i32),
    pub(super) pieces: Vec<Piece>,
    /// Where the label begins.
    pub(super) label: (i32, i32),
    /// The tip of the arrow.
    pub(super) tip: (i32, i32),
    pub(super) points: Points,
}

/// Which way an arrow points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Points {
    Right,
    Left,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) width: i32,
    pub(super) height: i32,
    /// Of each group.
    pub(super) lanes: Vec<Area>,
    /// Of each node.
    pub(super) nodes: Vec<Area>,
    /// Of each arc.
    pub(super) lines: Vec<Line>,
}

/// How wide texts are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts {
    /// Of a node's title and subtitle.
    pub(super) of_node: fn(&str) -> i32,
    /// Of a label.
    pub(super) of_label: fn(&str) -> i32,
}

/// What stands in a column: a node, or a line that only crosses it.
#[derive(Debug, Clone)]
struct Item {
    lane: usize,
    node: Option<usize>,
    /// Items of the column before and of the one behind that lines lead to.
    before: Vec<usize>,
    behind: Vec<usize>,
    order: i64,
    height: i32,
    y: i32,
}

/// An arc as it is laid out, from left to right.
#[derive(Debug)]
struct Way {
    /// Items from column to column; one for a node that calls itself.
    items: Vec<usize>,
    is_reversed: bool,
}

/// Lays a picture out.
pub(super) fn lay_out(picture: &Picture, texts: Texts) -> Layout {
    let (ranks, reversed) = ranks(picture);
    let columns_count = ranks.iter().copied().max().map_or(0, |rank| rank + 1);
    let lanes = order_of_lanes(picture, &ranks);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); columns_count];
    let mut items: Vec<Item> = Vec::new();
    for (index, node) in picture.nodes.iter().enumerate() {
        columns[ranks[index]].push(items.len());
        items.push(Item::new(lanes[node.group], Some(index)));
    }
    let mut ways = Vec::new();
    for (index, arc) in picture.arcs.iter().enumerate() {
        let (left, right) = if reversed[index] { (arc.to, arc.from) } else { (arc.from, arc.to) };
        let mut way = vec![left];
        let lane = lanes[picture.nodes[right].group];
        for column in columns.iter_mut().take(ranks[right]).skip(ranks[left] + 1) {
            column.push(items.len());
            way.push(items.len());
            items.push(Item::new(lane, None));
        }
        if left != right {
            way.push(right);
        }
        for pair in way.windows(2) {
            items[pair[0]].behind.push(pair[1]);
            items[pair[1]].before.push(pair[0]);
        }
        ways.push(Way { items: way, is_reversed: reversed[index] });
    }
    put_in_order(&mut columns, &mut items);

    let loops =
        |node: usize| picture.arcs.iter().filter(|arc| arc.from == node && arc.to == node).count();
    for item in &mut items {
        let Some(node) = item.node else { continue };
        let places = item.before.len().max(item.behind.len() + 2 * loops(node));
        item.height = NODE_LEAST.max(ROW * count(places) + GAP);
    }
    let heights = stack(&columns, &mut items, picture.groups.len());
    let mut layout = Layout { height: MARGIN, ..Layout::default() };
    let mut lane_boxes = vec![Area::default(); picture.groups.len()];
    let mut tops = vec![0; picture.groups.len()];
    for (lane, height) in heights.iter().enumerate() {
        tops[lane] = layout.height;
        layout.height += LANE_TITLE + height + 2 * GAP;
        let drawn = Area { x: MARGIN, y: tops[lane], width: 0, height: layout.height - tops[lane] };
        if let Some(group) = lanes.iter().position(|it| *it == lane) {
            lane_boxes[group] = drawn;
        }
        layout.height += GAP;
    }
    layout.height += MARGIN - GAP;
    for item in &mut items {
        item.y += tops[item.lane] + LANE_TITLE + GAP;
    }

    // Columns are as wide as their nodes, and what is between them as the labels there.
    let mut lefts = Vec::new();
    let mut widths = Vec::new();
    let mut labels = Vec::new();
    let mut x = MARGIN + GAP;
    for column in &columns {
        let of_node = |item: &usize| {
            items[*item].node.map_or(0, |node| {
                let node = &picture.nodes[node];
                (texts.of_node)(&node.title).max((texts.of_node)(&node.subtitle)) + 24
            })
        };
        let width = column.iter().map(of_node).max().unwrap_or_default();
        let begins_here = |way: &&Way| column.contains(&way.items[0]);
        let arcs = ways.iter().zip(&picture.arcs).filter(|(way, _)| begins_here(way));
        let label = arcs.map(|(_, arc)| (texts.of_label)(&arc.label)).max().unwrap_or_default();
        lefts.push(x);
        widths.push(width);
        let room = if label == 0 { 0 } else { label + 2 * ARROW };
        labels.push(room);
        x += width + room + BEND + ARROW;
    }
    // Behind the last column nothing bends, but a node there may call itself.
    layout.width = x - if columns.is_empty() { 0 } else { BEND + ARROW } + GAP + MARGIN;
    for lane in &mut lane_boxes {
        lane.width = layout.width - 2 * MARGIN;
    }
    layout.lanes = lane_boxes;
    layout.nodes = (0..picture.nodes.len())
        .map(|node| Area {
            x: lefts[ranks[node]],
            y: items[node].y,
            width: widths[ranks[node]],
            height: items[node].height,
        })
        .collect();
    let column_of =
        |item: usize| columns.iter().position(|column| column.contains(&item)).unwrap_or_default();
    let places = Places::of(&items, &ways);
    for (index, way) in ways.iter().enumerate() {
        let first = way.items[0];
        let column = column_of(first);
        let right = lefts[column] + widths[column];
        let y = places.leaves[index];
        let label_at = (right + ARROW, y - 4);
        if way.items.len() == 1 {
            let far = right + labels[column];
            layout.lines.push(Line {
                from: (right, y),
                pieces: vec![
                    Piece::Straight(far, y),
                    Piece::Straight(far, y + ROW / 2),
                    Piece::Straight(right, y + ROW / 2),
                ],
                label: label_at,
                tip: (right, y + ROW / 2),
                points: Points::Left,
            });
            continue;
        }
        let mut pieces = vec![Piece::Straight(right + labels[column], y)];
        let mut tip = (right, y);
        for (step, item) in way.items.iter().enumerate().skip(1) {
            let column = column + step;
            let is_last = step + 1 == way.items.len();
            let y = if is_last { places.enters[index] } else { items[*item].y + ROW / 2 };
            let left = lefts[column];
            pieces.push(Piece::Bent(left - ARROW, y));
            if is_last {
                pieces.push(Piece::Straight(left, y));
                tip = (left, y);
            } else {
                pieces.push(Piece::Straight(left + widths[column] + labels[column], y));
            }
        }
        let (tip, points) = match way.is_reversed {
            true => ((right, y), Points::Left),
            false => (tip, Points::Right),
        };
        layout.lines.push(Line { from: (right, y), pieces, label: label_at, tip, points });
    }
    layout
}

impl Item {
    fn new(lane: usize, node: Option<usize>) -> Self {
        Self { lane, node, before: Vec::new(), behind: Vec::new(), order: 0, height: ROW, y: 0 }
    }
}

/// At which heights arcs leave and enter their nodes.
struct Places {
    leaves: Vec<i32>,
    enters: Vec<i32>,
}

impl Places {
    fn of(items: &[Item], ways: &[Way]) -> Self {
        let mut places = Self { leaves: vec![0; ways.len()], enters: vec![0; ways.len()] };
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.node.is_some()) {
            let of = |ends: fn(&Way) -> (usize, Option<usize>)| {
                let mut found: Vec<(i32, usize)> = Vec::new();
                for (way, it) in ways.iter().enumerate() {
                    let (end, neighbour) = ends(it);
                    if end == index {
                        // Who calls itself does so below all others.
                        found.push((neighbour.map_or(i32::MAX, |other| items[other].y), way));
                    }
                }
                found.sort_unstable();
                found
            };
            let leaving = of(|way| (way.items[0], way.items.get(1).copied()));
            let mut y = item.y + GAP / 2 + ROW / 2;
            for (neighbour, way) in leaving {
                places.leaves[way] = y + 3;
                y += if neighbour == i32::MAX { 2 * ROW } else { ROW };
            }
            let entering = of(|way| match way.items.as_slice() {
                [.., before, last] => (*last, Some(*before)),
                _ => (usize::MAX, None),
            });
            let mut y = item.y + GAP / 2 + ROW / 2;
            for (_, way) in entering {
                places.enters[way] = y + 3;
                y += ROW;
            }
        }
        places
    }
}

/// The column of each node, and which arcs go against that order.
fn ranks(picture: &Picture) -> (Vec<usize>, Vec<bool>) {
    let count = picture.nodes.len();
    let mut out: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut called = vec![0_usize; count];
    for (index, arc) in picture.arcs.iter().enumerate().filter(|(_, arc)| arc.from != arc.to) {
        out[arc.from].push((arc.to, index));
        called[arc.to] += 1;
    }
    // Who is called by nobody first: what goes back from there closes a circle.
    let mut starts: Vec<usize> = (0..count).collect();
    starts.sort_by_key(|node| (called[*node] > 0, *node));
    let mut reversed = vec![false; picture.arcs.len()];
    let mut seen = vec![Seen::Not; count];
    let mut finished = Vec::new();
    for start in starts {
        if seen[start] != Seen::Not {
            continue;
        }
        seen[start] = Seen::OnTheWay;
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            let Some((to, arc)) = out[node].get(next).copied() else {
                seen[node] = Seen::Done;
                finished.push(node);
                continue;
            };
            stack.push((node, next + 1));
            match seen[to] {
                Seen::OnTheWay => reversed[arc] = true,
                Seen::Not => {
                    seen[to] = Seen::OnTheWay;
                    stack.push((to, 0));
                }
                Seen::Done => {}
            }
        }
    }
    // What finished last calls and is not called by what finished before, but by arcs that are reversed; those count from their other end.
    let ways: Vec<(usize, usize)> = picture
        .arcs
        .iter()
        .zip(&reversed)
        .filter(|(arc, _)| arc.from != arc.to)
        .map(|(arc, back)| if *back { (arc.to, arc.from) } else { (arc.from, arc.to) })
        .collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (left, right) in ways {
        after[left].push(right);
    }
    let mut ranks = vec![0_usize; count];
    for node in finished.iter().rev() {
        for right in &after[*node] {
            ranks[*right] = ranks[*right].max(ranks[*node] + 1);
        }
    }
    // Who is called by nobody stands right before whom they call.
    for node in 0..count {
        if called[node] == 0
            && let Some(nearest) = after[node].iter().map(|right| ranks[*right]).min()
        {
            ranks[node] = nearest.saturating_sub(1);
        }
    }
    (ranks, reversed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    OnTheWay,
    Done,
}

/// The lane of each group: those that call above those that are called.
fn order_of_lanes(picture: &Picture, ranks: &[usize]) -> Vec<usize> {
    let mut mean: Vec<(usize, usize)> = (0..picture.groups.len())
        .map(|group| {
            let own = picture.nodes.iter().zip(ranks).filter(|(node, _)| node.group == group);
            let (sum, count) = own.fold((0, 0), |(sum, count), (_, rank)| (sum + rank, count + 1));
            (sum * 1_000 / count.max(1), group)
        })
        .collect();
    mean.sort_unstable();
    let mut lanes = vec![0; mean.len()];
    for (lane, (_, group)) in mean.into_iter().enumerate() {
        lanes[group] = lane;
    }
    lanes
}

/// Orders what stands in each column so that few lines cross: each near what it is joined to, within its lane.
fn put_in_order(columns: &mut [Vec<usize>], items: &mut [Item]) {
    for column in columns.iter_mut() {
        column.sort_by_key(|item| (items[*item].lane, *item));
        number(column, items);
    }
    for sweep in 0..SWEEPS {
        let forward = sweep % 2 == 0;
        let order: Vec<usize> = match forward {
            true => (0..columns.len()).collect(),
            false => (0..columns.len()).rev().collect(),
        };
        for index in order {
            let column = &mut columns[index];
            column.sort_by_cached_key(|item| {
                let it = &items[*item];
                let near = if forward { &it.before } else { &it.behind };
                let sum: i64 = near.iter().map(|other| items[*other].order).sum();
                let mean = match i64::try_from(near.len()) {
                    Ok(count) if count > 0 => sum / count,
                    _ => it.order,
                };
                (it.lane, mean, it.order)
            });
            number(column, items);
        }
    }
}

/// Writes down where each item stands in its column, in thousandths of it so that columns compare.
fn number(column: &[usize], items: &mut [Item]) {
    let all = i64::try_from(column.len()).unwrap_or(1).max(1);
    for (place, item) in (0_i64..).zip(column) {
        items[*item].order = (2 * place + 1) * 500_000 / all;
    }
}

/// Stacks the items of each lane and column, centred in the lane; gives how high lanes are.
fn stack(columns: &[Vec<usize>], items: &mut [Item], lanes: usize) -> Vec<i32> {
    let mut heights = vec![0; lanes];
    let mut of_cell = vec![vec![0; lanes]; columns.len()];
    for (column, cells) in columns.iter().zip(&mut of_cell) {
        for item in column {
            let item = &mut items[*item];
            item.y = cells[item.lane];
            cells[item.lane] += item.height + GAP;
        }
        for (height, cell) in heights.iter_mut().zip(cells.iter()) {
            *height = (*height).max(cell - GAP);
        }
    }
    for (column, cells) in columns.iter().zip(&of_cell) {
        for item in column {
            let item = &mut items[*item];
            item.y += (heights[item.lane] - (cells[item.lane] - GAP)) / 2;
        }
    }
    heights
}

fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX / ROW)
}

#[cfg(test)]
mod tests;
