//! Whether a value is as a schema says, in a bounded number of steps.
//!
//! A schema that refers to itself in two ways could ask twice as much with each level of a value, so that a small body would take a
//! processor for good. What is done is counted, for all that is asked about one request together, and who has used that up has not been
//! found right.

use std::collections::{BTreeSet, HashSet};

use nullius_fields::shown;

use super::{
    schema::{Id, Keyword, Node, Schemas, folded, types},
    value::{Value, canonical},
    work::{Spent, Work},
};

/// How deep schemas may ask for each other, so that no stack ends.
const DEPTH_MAX: u32 = 200;

/// Why a value is not as a schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// What does not hold, and where.
    Wrong(String),
    /// Nobody can tell in bounded time.
    Costly,
}

impl Schemas {
    /// Asks a schema about a value.
    pub(super) fn check(&self, id: Id, value: &Value, work: &mut Work) -> Result<(), Unfit> {
        let mut run = Run::new(self, work);
        match run.holds(id, value, None) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Unfit::Wrong(run.told.unwrap_or_else(|| "it does not fit".to_owned())))
            }
            Err(Spent) => Err(Unfit::Costly),
        }
    }
}

/// What keywords have looked at, for those that ask about the rest.
#[derive(Debug, Default)]
struct Seen<'v> {
    names: BTreeSet<&'v str>,
    all_names: bool,
    /// So many items from the first.
    first: usize,
    items: BTreeSet<usize>,
}

impl<'v> Seen<'v> {
    fn take(&mut self, other: Self) {
        self.names.extend(other.names);
        self.all_names |= other.all_names;
        self.first = self.first.max(other.first);
        self.items.extend(other.items);
    }
}

enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

struct Run<'s, 'v, 'w> {
    schemas: &'s Schemas,
    work: &'w mut Work,
    depth: u32,
    /// Within how many keywords that may find a value wrong without that being wrong.
    quiet: u32,
    path: Vec<Step<'v>>,
    told: Option<String>,
}

type Asked = Result<bool, Spent>;

impl<'s, 'v, 'w> Run<'s, 'v, 'w> {
    fn new(schemas: &'s Schemas, work: &'w mut Work) -> Self {
        Self { schemas, work, depth: 0, quiet: 0, path: Vec::new(), told: None }
    }

    fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        self.work.spend(steps)
    }

    /// What a part has looked at is what the whole has.
    fn take(&mut self, seen: &mut Option<Seen<'v>>, other: Option<Seen<'v>>) -> Result<(), Spent> {
        if let (Some(seen), Some(other)) = (seen.as_mut(), other) {
            self.spend(other.names.len() + other.items.len())?;
            seen.take(other);
        }
        Ok(())
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) -> Asked {
        if self.quiet == 0 && self.told.is_none() {
            let at: String = self
                .path
                .iter()
                .map(|step| match step {
                    Step::Name(name) => format!("/{}", name.chars().take(60).collect::<String>()),
                    Step::Index(index) => format!("/{index}"),
                })
                .take(20)
                .collect();
            let at = if at.is_empty() { "the value".to_owned() } else { shown(&at) };
            self.told = Some(format!("{at} {}", what()));
        }
        Ok(false)
    }

    fn quietly(&mut self, id: Id, value: &'v Value, seen: Option<&mut Seen<'v>>) -> Asked {
        self.quiet += 1;
        let held = self.holds(id, value, seen);
        self.quiet -= 1;
        held
    }

    fn inside(&mut self, step: Step<'v>, id: Id, value: &'v Value) -> Asked {
        self.path.push(step);
        let held = self.holds(id, value, None);
        self.path.pop();
        held
    }

    fn holds(&mut self, id: Id, value: &'v Value, seen: Option<&mut Seen<'v>>) -> Asked {
        let schemas = self.schemas;
        let Some(node) = schemas.node(id) else { return Err(Spent) };
        self.spend(1 + node.keywords.len())?;
        if self.depth == DEPTH_MAX {
            return Err(Spent);
        }
        self.depth += 1;
        let held = self.all(node, value, seen);
        self.depth -= 1;
        held
    }

    fn all(&mut self, node: &Node, value: &'v Value, seen: Option<&mut Seen<'v>>) -> Asked {
        let asks_rest = matches!(node.keywords.last(), Some(Keyword::Unevaluated { .. }));
        if seen.is_none() && !asks_rest {
            for keyword in &node.keywords {
                if !self.one(keyword, value, &mut None)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut own = Some(Seen::default());
        for keyword in &node.keywords {
            if !self.one(keyword, value, &mut own)? {
                return Ok(false);
            }
        }
        if let (Some(seen), Some(own)) = (seen, own) {
            self.spend(own.names.len() + own.items.len())?;
            seen.take(own);
        }
        Ok(true)
    }

    fn one(&mut self, keyword: &Keyword, value: &'v Value, seen: &mut Option<Seen<'v>>) -> Asked {
        match keyword {
            Keyword::Never => self.wrong(|| "may not be there".to_owned()),
            Keyword::Reference(id) => self.holds(*id, value, seen.as_mut()),
            Keyword::AllOf(ids) => {
                for id in ids {
                    if !self.holds(*id, value, seen.as_mut())? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Keyword::AnyOf(ids) => self.any_of(ids, value, seen),
            Keyword::OneOf(ids) => self.one_of(ids, value, seen),
            Keyword::Not(id) => match self.quietly(*id, value, None)? {
                true => self.wrong(|| "is what it may not be".to_owned()),
                false => Ok(true),
            },
            Keyword::If { condition, then, otherwise } => {
                let mut of_condition = seen.is_some().then(Seen::default);
                let branch = match self.quietly(*condition, value, of_condition.as_mut())? {
                    true => {
                        self.take(seen, of_condition)?;
                        then
                    }
                    false => otherwise,
                };
                match branch {
                    Some(id) => self.holds(*id, value, seen.as_mut()),
                    None => Ok(true),
                }
            }
            Keyword::Types(_) | Keyword::Among { .. } => self.of_any(keyword, value),
            Keyword::Unevaluated { items, properties } => {
                self.rest(*items, *properties, value, seen)
            }
            _ => match value {
                Value::Number(_) => self.of_number(keyword, value),
                Value::Text(text) => self.of_text(keyword, text),
                Value::List(items) => self.of_list(keyword, items, seen),
                Value::Mapping(_) => self.of_mapping(keyword, value, seen),
                Value::Null | Value::Truth(_) => Ok(true),
            },
        }
    }

    fn any_of(&mut self, ids: &[Id], value: &'v Value, seen: &mut Option<Seen<'v>>) -> Asked {
        let mut held = false;
        for id in ids {
            let mut own = seen.is_some().then(Seen::default);
            if self.quietly(*id, value, own.as_mut())? {
                held = true;
                self.take(seen, own)?;
                // Only who asks about the rest wants to know all that was looked at.
                if seen.is_none() {
                    break;
                }
            }
        }
        if held {
            Ok(true)
        } else {
            self.wrong(|| "is none of what it may be (`anyOf`)".to_owned())
        }
    }

    fn one_of(&mut self, ids: &[Id], value: &'v Value, seen: &mut Option<Seen<'v>>) -> Asked {
        let mut found = 0;
        let mut looked = None;
        for id in ids {
            let mut own = seen.is_some().then(Seen::default);
            if self.quietly(*id, value, own.as_mut())? {
                found += 1;
                looked = own;
            }
            if found == 2 {
                return self.wrong(|| "is two of what it may be one of (`oneOf`)".to_owned());
            }
        }
        if found == 0 {
            return self.wrong(|| "is none of what it may be (`oneOf`)".to_owned());
        }
        self.take(seen, looked)?;
        Ok(true)
    }

    fn of_any(&mut self, keyword: &Keyword, value: &Value) -> Asked {
        match keyword {
            Keyword::Types(bits) if bits & bits_of(value) == 0 => {
                let all = types::ALL.iter().filter(|(_, bit)| bits & bit != 0);
                let words: Vec<&str> = all.map(|(word, _)| *word).collect();
                self.wrong(|| format!("is no {}", words.join(" and no ")))
            }
            Keyword::Among { values, .. } => {
                let text = canonical(value);
                self.work.look_at(text.len())?;
                match values.contains(&text) {
                    true => Ok(true),
                    false => self.wrong(|| "is none of the values that it may have".to_owned()),
                }
            }
            _ => Ok(true),
        }
    }

    fn of_number(&mut self, keyword: &Keyword, value: &Value) -> Asked {
        let Value::Number(number) = value else { return Ok(true) };
        let (holds, what) = match keyword {
            Keyword::MultipleOf(step) => {
                self.spend(number.apart(*step) / 4)?;
                (number.is_multiple_of(*step), "is no multiple of what it must be one of")
            }
            Keyword::Least(least) => (number >= least, "is too small"),
            Keyword::Most(most) => (number <= most, "is too large"),
            Keyword::Above(least) => (number > least, "is too small"),
            Keyword::Below(most) => (number < most, "is too large"),
            Keyword::Format(format) => (format.fits_number(*number), "has another format"),
            _ => return Ok(true),
        };
        if holds { Ok(true) } else { self.wrong(|| what.to_owned()) }
    }

    fn of_text(&mut self, keyword: &Keyword, text: &str) -> Asked {
        let length = || text.chars().count() as u64;
        let (holds, what) = match keyword {
            Keyword::MinLength(least) => {
                self.spend(text.len() / 64)?;
                (length() >= *least, "is too short")
            }
            Keyword::MaxLength(most) => {
                self.spend(text.len() / 64)?;
                (length() <= *most, "is too long")
            }
            Keyword::Pattern(pattern) => {
                self.spend(pattern.steps(text))?;
                (pattern.fits(text), "does not fit its expression (`pattern`)")
            }
            Keyword::Format(format) => {
                self.work.look_at(text.len())?;
                (format.fits_text(text), "has another format")
            }
            _ => return Ok(true),
        };
        if holds { Ok(true) } else { self.wrong(|| what.to_owned()) }
    }

    fn of_list(
        &mut self,
        keyword: &Keyword,
        items: &'v [Value],
        seen: &mut Option<Seen<'v>>,
    ) -> Asked {
        let count = items.len() as u64;
        match keyword {
            Keyword::MinItems(least) if count < *least => {
                self.wrong(|| "has too few items".to_owned())
            }
            Keyword::MaxItems(most) if count > *most => {
                self.wrong(|| "has too many items".to_owned())
            }
            Keyword::UniqueItems => {
                let mut known = HashSet::new();
                for item in items {
                    let text = canonical(item);
                    self.work.look_at(text.len())?;
                    if !known.insert(text) {
                        return self.wrong(|| "has an item twice".to_owned());
                    }
                }
                Ok(true)
            }
            Keyword::Items { first, rest } => {
                let ids = first.iter().copied().map(Some).chain(std::iter::repeat(*rest));
                for (index, (item, id)) in items.iter().zip(ids).enumerate() {
                    let Some(id) = id else { break };
                    if !self.inside(Step::Index(index), id, item)? {
                        return Ok(false);
                    }
                }
                if let Some(seen) = seen {
                    let looked = if rest.is_some() { items.len() } else { first.len() };
                    seen.first = seen.first.max(looked);
                }
                Ok(true)
            }
            Keyword::Contains { schema, least, most } => {
                let mut found = 0;
                for (index, item) in items.iter().enumerate() {
                    if self.quietly(*schema, item, None)? {
                        found += 1;
                        if let Some(seen) = seen {
                            seen.items.insert(index);
                        }
                    }
                }
                match found >= *least && most.is_none_or(|most| found <= most) {
                    true => Ok(true),
                    false => self.wrong(|| "has too few or too many items of a kind".to_owned()),
                }
            }
            _ => Ok(true),
        }
    }

    fn of_mapping(
        &mut self,
        keyword: &Keyword,
        value: &'v Value,
        seen: &mut Option<Seen<'v>>,
    ) -> Asked {
        let Value::Mapping(map) = value else { return Ok(true) };
        let count = map.len() as u64;
        match keyword {
            Keyword::MinProperties(least) if count < *least => {
                self.wrong(|| "has too few names".to_owned())
            }
            Keyword::MaxProperties(most) if count > *most => {
                self.wrong(|| "has too many names".to_owned())
            }
            Keyword::Required(names) => {
                self.work.look_at(names.iter().map(|name| 16 + name.len()).sum())?;
                match names.iter().find(|name| !map.contains_key(&***name)) {
                    Some(name) => self.wrong(|| format!("lacks {}", shown(name))),
                    None => Ok(true),
                }
            }
            Keyword::DependentRequired(each) => {
                for (name, others) in each {
                    self.work.look_at(name.len())?;
                    if !map.contains_key(&**name) {
                        continue;
                    }
                    self.work.look_at(others.iter().map(|name| 16 + name.len()).sum())?;
                    if let Some(other) = others.iter().find(|other| !map.contains_key(&***other)) {
                        return self
                            .wrong(|| format!("has {}, and lacks {}", shown(name), shown(other)));
                    }
                }
                Ok(true)
            }
            Keyword::Properties { named, words, like, rest } => {
                for (name, inner) in map {
                    self.work.look_at(name.len())?;
                    for (pattern, _) in like {
                        self.spend(pattern.steps(name))?;
                    }
                    let exact = named.get(name.as_str()).copied();
                    if exact.is_none() {
                        self.spend(name.len())?;
                        // Many servers take one for the other, and the last one.
                        if let Some(known) = words.get(&*folded(name)) {
                            let (name, known) = (shown(name), shown(known));
                            return self.wrong(|| {
                                format!("has the name {name}, which some servers read as {known}")
                            });
                        }
                    }
                    let fits = like.iter().filter(|(pattern, _)| pattern.fits(name));
                    let mut ids: Vec<Id> =
                        exact.into_iter().chain(fits.map(|(_, id)| *id)).collect();
                    if ids.is_empty() {
                        ids.extend(rest);
                    }
                    if ids.is_empty() {
                        continue;
                    }
                    if let Some(seen) = seen {
                        seen.names.insert(name);
                    }
                    for id in ids {
                        if !self.inside(Step::Name(name), id, inner)? {
                            return Ok(false);
                        }
                    }
                }
                Ok(true)
            }
            Keyword::Names(id) => {
                for name in map.keys() {
                    self.work.look_at(name.len())?;
                    let text = Value::Text(name.clone());
                    let mut run = Run::new(self.schemas, self.work);
                    (run.depth, run.quiet) = (self.depth, 1);
                    let held = run.holds(*id, &text, None)?;
                    if !held {
                        return self.wrong(|| format!("has the name {}", shown(name)));
                    }
                }
                Ok(true)
            }
            Keyword::DependentSchemas(each) => {
                for (name, id) in each {
                    self.work.look_at(name.len())?;
                    if map.contains_key(&**name) && !self.holds(*id, value, seen.as_mut())? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// What no other keyword has looked at.
    fn rest(
        &mut self,
        items: Option<Id>,
        properties: Option<Id>,
        value: &'v Value,
        seen: &mut Option<Seen<'v>>,
    ) -> Asked {
        let Some(looked) = seen else { return Err(Spent) };
        match (value, items, properties) {
            (Value::List(all), Some(id), _) => {
                self.spend(all.len())?;
                for (index, item) in all.iter().enumerate().skip(looked.first) {
                    let is_new = !looked.items.contains(&index);
                    if is_new && !self.inside(Step::Index(index), id, item)? {
                        return Ok(false);
                    }
                }
                looked.first = all.len();
            }
            (Value::Mapping(map), _, Some(id)) => {
                self.spend(map.len())?;
                for (name, inner) in map {
                    let is_new = !looked.all_names && !looked.names.contains(name.as_str());
                    if is_new && !self.inside(Step::Name(name), id, inner)? {
                        return Ok(false);
                    }
                }
                looked.all_names = true;
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The types that a value has.
pub(super) fn bits_of(value: &Value) -> u8 {
    match value {
        Value::Null => types::NULL,
        Value::Truth(_) => types::BOOLEAN,
        Value::Number(number) if number.is_whole() => types::INTEGER | types::NUMBER,
        Value::Number(_) => types::NUMBER,
        Value::Text(_) => types::STRING,
        Value::List(_) => types::ARRAY,
        Value::Mapping(_) => types::OBJECT,
    }
}
