//! Expressions out of a grammar: templates by type, whose holes are filled at random until a depth is reached.

use std::{collections::BTreeMap, fmt::Write as _};

const GRAMMAR: &str = include_str!("grammar.txt");

/// What every expression may be in the end.
const TYPES: [&str; 21] = [
    "bool", "bool", "bool", "bool", "int", "int", "uint", "double", "string", "string", "bytes",
    "time", "span", "ints", "strings", "list", "map", "optional", "any", "quantity", "url",
];
/// One hole in so many is filled with anything, whatever it asks for.
const SURPRISE: u64 = 25;

/// Numbers that look random and are the same for a seed: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn choose<'t, T>(&mut self, among: &'t [T]) -> &'t T {
        let at = self.below(among.len() as u64);
        &among[usize::try_from(at).unwrap()]
    }
}

/// Templates by the type of what they make; those that end an expression by themselves.
pub(crate) struct Grammar {
    templates: BTreeMap<&'static str, Vec<&'static str>>,
    ends: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Grammar {
    pub(crate) fn read() -> Self {
        let mut grammar = Self { templates: BTreeMap::new(), ends: BTreeMap::new() };
        for line in GRAMMAR.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (of, template) = line.split_once(' ').unwrap();
            grammar.templates.entry(of).or_default().push(template);
            if hole(template).is_none() {
                grammar.ends.entry(of).or_default().push(template);
            }
        }
        grammar
    }

    pub(crate) fn expression(&self, random: &mut Random) -> String {
        let of = random.choose(&TYPES);
        let depth = 1 + random.below(3);
        let mut text = String::new();
        self.write(&mut text, of, depth, random);
        text
    }

    fn write(&self, text: &mut String, of: &str, depth: u64, random: &mut Random) {
        let among = match depth {
            0 => self.ends.get(of),
            _ => self.templates.get(of),
        };
        // A type without an end is one step from one that has one.
        let among = among.unwrap_or_else(|| &self.templates[of]);
        let mut rest = *random.choose(among);
        while let Some((start, name)) = hole(rest) {
            text.push_str(&rest[..start]);
            rest = &rest[start + 1 + name.len()..];
            if random.one_in(SURPRISE) {
                let _ = write!(text, "dyn(");
                self.write(text, "any", depth.saturating_sub(1), random);
                text.push(')');
            } else {
                self.write(text, name, depth.saturating_sub(1), random);
            }
        }
        text.push_str(rest);
    }
}

/// The first `$type` of a template: where it stands, and the type.
fn hole(template: &str) -> Option<(usize, &str)> {
    template.char_indices().filter(|(_, character)| *character == '$').find_map(|(at, _)| {
        let name = &template[at + 1..];
        let end = name.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(name.len());
        (end > 0).then(|| (at, &name[..end]))
    })
}
