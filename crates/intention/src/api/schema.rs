//! Schemas of values (JSON Schema 2020-12) as OpenAPI 3.1 has them, read strictly: a keyword that nobody knows is refused by name, since a
//! check that does not happen is none.
//!
//! Schemas that refer to each other become numbers of one list, so that nothing is read twice and a loop is only a number. No reference
//! leaves the document.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use nullius_fields::{Faults, found, nearest, shown};
use serde_json::{Map, Number, Value as Json};

use super::{
    decimal::Decimal,
    document::{at, resolve},
    evaluate::bits_of,
    format::Format,
    pattern::Pattern,
    value::{Value, canonical},
};

/// Schemas of one document.
const SCHEMAS_MAX: usize = 5_000;
/// Expressions of one document.
const PATTERNS_MAX: usize = 100;
/// Bytes of all places of schemas in one document: each is as long as the names above it.
const PLACES_MAX: usize = 2 * 1024 * 1024;

/// The number of a schema.
pub(super) type Id = usize;

/// Schemas that refer to each other.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    nodes: Vec<Node>,
    /// The types that a value may have of which each holds.
    possible: Vec<u8>,
}

/// One schema: all of its keywords must hold.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Where it stands, for people.
    pub(super) at: Box<str>,
    pub(super) keywords: Vec<Keyword>,
}

#[derive(Debug)]
pub(super) enum Keyword {
    Never,
    Reference(Id),
    Types(u8),
    Among {
        values: BTreeSet<String>,
        types: u8,
    },
    MultipleOf(Decimal),
    Least(Decimal),
    Most(Decimal),
    Above(Decimal),
    Below(Decimal),
    MinLength(u64),
    MaxLength(u64),
    Pattern(Arc<Pattern>),
    Format(Format),
    MinItems(u64),
    MaxItems(u64),
    UniqueItems,
    Contains {
        schema: Id,
        least: u64,
        most: Option<u64>,
    },
    Items {
        first: Vec<Id>,
        rest: Option<Id>,
    },
    MinProperties(u64),
    MaxProperties(u64),
    Required(Vec<Box<str>>),
    DependentRequired(Vec<(Box<str>, Vec<Box<str>>)>),
    Properties {
        named: BTreeMap<Box<str>, Id>,
        /// The same names, by what they are without case.
        words: BTreeMap<Box<str>, Box<str>>,
        like: Vec<(Arc<Pattern>, Id)>,
        rest: Option<Id>,
    },
    Names(Id),
    AllOf(Vec<Id>),
    AnyOf(Vec<Id>),
    OneOf(Vec<Id>),
    Not(Id),
    If {
        condition: Id,
        then: Option<Id>,
        otherwise: Option<Id>,
    },
    DependentSchemas(Vec<(Box<str>, Id)>),
    /// What no other keyword of the schema has looked at; asked last.
    Unevaluated {
        items: Option<Id>,
        properties: Option<Id>,
    },
}

impl Keyword {
    fn is_of_numbers(&self) -> bool {
        match self {
            Self::MultipleOf(_)
            | Self::Least(_)
            | Self::Most(_)
            | Self::Above(_)
            | Self::Below(_) => true,
            Self::Among { types, .. } => types & (types::NUMBER | types::INTEGER) != 0,
            _ => false,
        }
    }
}

/// Bits of types.
pub(super) mod types {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const INTEGER: u8 = 4;
    pub(crate) const NUMBER: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const ARRAY: u8 = 32;
    pub(crate) const OBJECT: u8 = 64;

    pub(crate) const ANY: u8 = 127;

    pub(crate) const ALL: [(&str, u8); 7] = [
        ("null", NULL),
        ("boolean", BOOLEAN),
        ("integer", INTEGER),
        ("number", NUMBER),
        ("string", STRING),
        ("array", ARRAY),
        ("object", OBJECT),
    ];
}

/// Remarks, which decide nothing.
const REMARKS: [&str; 16] = [
    "$comment",
    "$defs",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords that are something else, or nothing, in this version of OpenAPI.
const OTHERWISE: [(&str, &str); 10] = [
    ("nullable", "it is of OpenAPI 3.0: write `type: [string, \"null\"]`"),
    ("definitions", "it is of an older JSON Schema: write `$defs`"),
    (
        "dependencies",
        "it is of an older JSON Schema: write `dependentRequired` or `dependentSchemas`",
    ),
    ("additionalItems", "it is of an older JSON Schema: write `prefixItems` and `items`"),
    ("$id", "schemas are named by where they stand: refer to them by `#/…`"),
    ("$anchor", "schemas are named by where they stand: refer to them by `#/…`"),
    ("$dynamicAnchor", "schemas are named by where they stand: refer to them by `#/…`"),
    ("$dynamicRef", "schemas are named by where they stand: refer to them by `$ref: \"#/…\"`"),
    ("$recursiveRef", "schemas are named by where they stand: refer to them by `$ref: \"#/…\"`"),
    ("$vocabulary", "keywords are those of JSON Schema 2020-12"),
];

/// The dialects of schemas that are read.
pub(super) const DIALECTS: [&str; 2] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://spec.openapis.org/oas/3.1/dialect/base",
];

impl Schemas {
    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// The types that a value may have of which a schema holds, as far as it names them.
    pub(super) fn possible(&self, id: Id) -> u8 {
        self.possible.get(id).copied().unwrap_or(types::ANY)
    }

    /// Whether it says something of numbers, of a value or of an item, and does not say whether that is a number: `1e3`, `+7` and `007` are
    /// texts to some and numbers to others.
    pub(super) fn leaves_numbers_open(&self, id: Id) -> bool {
        let (mut waiting, mut seen) = (vec![id], BTreeSet::new());
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let asked = self.asked_about(id);
            let keywords =
                || asked.iter().filter_map(|id| self.nodes.get(*id)).flat_map(|it| &it.keywords);
            if self.possible(id) == types::ANY && keywords().any(Keyword::is_of_numbers) {
                return true;
            }
            for keyword in keywords() {
                match keyword {
                    Keyword::Items { first, rest } => waiting.extend(first.iter().chain(rest)),
                    Keyword::Contains { schema, .. } => waiting.push(*schema),
                    Keyword::Unevaluated { items, .. } => waiting.extend(items),
                    _ => {}
                }
            }
        }
        false
    }

    /// All schemas that are asked about the same value as one, itself too.
    fn asked_about(&self, id: Id) -> BTreeSet<Id> {
        let (mut waiting, mut seen) = (vec![id], BTreeSet::new());
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.nodes.get(id).map(in_place).unwrap_or_default());
            }
        }
        seen
    }

    /// The types that a schema names, through what it refers to; none where it names none.
    pub(super) fn types_of(&self, id: Id) -> Option<u8> {
        let mut id = id;
        // No reference leads back: that was refused.
        for _ in 0..self.nodes.len() {
            let mut next = None;
            for keyword in &self.nodes.get(id)?.keywords {
                match keyword {
                    Keyword::Types(types) => return Some(*types),
                    Keyword::Reference(other) => next = Some(*other),
                    _ => {}
                }
            }
            id = next?;
        }
        None
    }

    /// The schema of all items of a list.
    pub(super) fn items_of(&self, id: Id) -> Option<Id> {
        let mut id = id;
        for _ in 0..self.nodes.len() {
            let mut next = None;
            for keyword in &self.nodes.get(id)?.keywords {
                match keyword {
                    Keyword::Items { rest, .. } => return *rest,
                    Keyword::Reference(other) => next = Some(*other),
                    _ => {}
                }
            }
            id = next?;
        }
        None
    }
}

/// Reads the schemas of a document that somebody asks for, and those that they refer to.
pub(super) struct Reader<'d> {
    document: &'d Json,
    faults: &'d Faults,
    nodes: Vec<Node>,
    known: HashMap<String, Id>,
    /// Bytes of what is known.
    places: usize,
    waiting: VecDeque<(Id, String, &'d Json)>,
    patterns: HashMap<&'d str, Option<Arc<Pattern>>>,
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Json, faults: &'d Faults) -> Self {
        let (nodes, known, waiting) = (Vec::new(), HashMap::new(), VecDeque::new());
        Self { document, faults, nodes, known, places: 0, waiting, patterns: HashMap::new() }
    }

    /// The number of the schema that stands at a pointer.
    pub(super) fn schema(&mut self, pointer: &str, value: &'d Json) -> Id {
        if let Some(id) = self.known.get(pointer) {
            return *id;
        }
        let id = self.nodes.len();
        if id == SCHEMAS_MAX {
            self.wrong("", format!("it has more than {SCHEMAS_MAX} schemas: check less of it"));
        }
        let before = self.places;
        self.places += pointer.len();
        if self.places > PLACES_MAX {
            if before <= PLACES_MAX {
                let told = "its schemas stand too deep, or below names that are too long";
                self.wrong("", format!("{told}: their places have more than 2 MiB together"));
            }
            // It is refused: nothing more of it is kept.
            return id.saturating_sub(1);
        }
        self.nodes.push(Node::default());
        self.known.insert(pointer.to_owned(), id);
        self.waiting.push_back((id, pointer.to_owned(), value));
        id
    }

    /// All of them, once nobody asks for more.
    pub(super) fn finish(mut self) -> Schemas {
        while let Some((id, pointer, value)) = self.waiting.pop_front() {
            if self.nodes.len() > SCHEMAS_MAX {
                break;
            }
            let keywords = self.keywords(&pointer, value);
            self.nodes[id] = Node { at: at(&pointer).into(), keywords };
        }
        let order = in_order(&self.nodes).unwrap_or_else(|id| {
            if let Some(node) = self.nodes.get(id) {
                let told = "it refers to itself without going deeper into the value: it could never be told whether it holds";
                self.faults.add(&node.at, told);
            }
            Vec::new()
        });
        let mut possible = vec![types::ANY; self.nodes.len()];
        for id in order {
            possible[id] = types_for(&self.nodes[id], &possible);
        }
        Schemas { nodes: self.nodes, possible }
    }

    fn wrong(&self, pointer: &str, told: impl Into<String>) {
        self.faults.add(&at(pointer), told);
    }

    fn keywords(&mut self, pointer: &str, value: &'d Json) -> Vec<Keyword> {
        let map = match value {
            Json::Bool(true) => return Vec::new(),
            Json::Bool(false) => return vec![Keyword::Never],
            Json::Object(map) => map,
            other => {
                self.wrong(pointer, format!("expected a schema, found {}", found(other)));
                return Vec::new();
            }
        };
        let mut fields = Keys { map, pointer, known: REMARKS.to_vec(), faults: self.faults };
        let mut all = Vec::new();
        if let Some(dialect) = fields.get("$schema").filter(|it| !is_dialect(it)) {
            fields.wrong(
                "$schema",
                format!("{} is not read; JSON Schema 2020-12 is", found(dialect)),
            );
        }
        self.of_any(&mut fields, &mut all);
        of_numbers(&mut fields, &mut all);
        self.of_texts(&mut fields, &mut all);
        self.of_lists(&mut fields, &mut all);
        self.of_mappings(&mut fields, &mut all);
        self.of_others(&mut fields, &mut all);
        let (items, properties) = (
            self.one(&mut fields, "unevaluatedItems"),
            self.one(&mut fields, "unevaluatedProperties"),
        );
        if items.is_some() || properties.is_some() {
            all.push(Keyword::Unevaluated { items, properties });
        }
        fields.finish();
        all
    }

    fn of_any(&mut self, fields: &mut Keys<'_, 'd>, all: &mut Vec<Keyword>) {
        match fields.get("type") {
            None => {}
            Some(Json::String(word)) => all.extend(type_of(word, fields).map(Keyword::Types)),
            Some(Json::Array(words)) if !words.is_empty() => {
                let bits = words.iter().map(|word| match word.as_str() {
                    Some(word) => type_of(word, fields),
                    None => {
                        fields.wrong("type", format!("expected text, found {}", found(word)));
                        None
                    }
                });
                let bits: Option<Vec<u8>> = bits.collect();
                all.extend(bits.map(|bits| Keyword::Types(bits.iter().fold(0, |a, b| a | b))));
            }
            Some(other) => fields.wrong("type", format!("expected a type, found {}", found(other))),
        }
        match fields.get("enum") {
            None => {}
            Some(Json::Array(values)) => {
                all.push(among(values));
            }
            Some(other) => fields.wrong("enum", format!("expected a list, found {}", found(other))),
        }
        // `null` is a value like others here.
        fields.known.push("const");
        if let Some(value) = fields.map.get("const") {
            all.push(among(std::slice::from_ref(value)));
        }
    }

    fn of_texts(&mut self, fields: &mut Keys<'_, 'd>, all: &mut Vec<Keyword>) {
        all.extend(fields.count("minLength").map(Keyword::MinLength));
        all.extend(fields.count("maxLength").map(Keyword::MaxLength));
        if let Some(source) = fields.text("pattern") {
            let pointer = fields.at("pattern");
            all.extend(self.pattern(source, &pointer).map(Keyword::Pattern));
        }
        all.extend(fields.text("format").and_then(Format::of).map(Keyword::Format));
    }

    fn of_lists(&mut self, fields: &mut Keys<'_, 'd>, all: &mut Vec<Keyword>) {
        all.extend(fields.count("minItems").map(Keyword::MinItems));
        all.extend(fields.count("maxItems").map(Keyword::MaxItems));
        let first = self.several(fields, "prefixItems").unwrap_or_default();
        let rest = self.one(fields, "items");
        if !first.is_empty() || rest.is_some() {
            all.push(Keyword::Items { first, rest });
        }
        let (least, most) = (fields.count("minContains"), fields.count("maxContains"));
        if let Some(schema) = self.one(fields, "contains") {
            all.push(Keyword::Contains { schema, least: least.unwrap_or(1), most });
        }
        if fields.truth("uniqueItems") == Some(true) {
            all.push(Keyword::UniqueItems);
        }
    }

    fn of_mappings(&mut self, fields: &mut Keys<'_, 'd>, all: &mut Vec<Keyword>) {
        all.extend(fields.count("minProperties").map(Keyword::MinProperties));
        all.extend(fields.count("maxProperties").map(Keyword::MaxProperties));
        let required = fields.get("required").and_then(|it| fields.names("required", it));
        all.extend(required.map(Keyword::Required));
        if let Some(map) = fields.mapping("dependentRequired") {
            let each = map.iter().filter_map(|(name, value)| {
                Some((name.as_str().into(), fields.names("dependentRequired", value)?))
            });
            all.push(Keyword::DependentRequired(each.collect()));
        }
        let named = self.by_name(fields, "properties").into_iter().collect::<BTreeMap<_, _>>();
        let mut like = Vec::new();
        for (source, id) in self.by_name_of(fields, "patternProperties") {
            let pointer = below(&fields.at("patternProperties"), source);
            like.extend(self.pattern(source, &pointer).map(|pattern| (pattern, id)));
        }
        let rest = self.one(fields, "additionalProperties");
        if !named.is_empty() || !like.is_empty() || rest.is_some() {
            let words = named.keys().map(|name| (folded(name).into(), name.clone())).collect();
            all.push(Keyword::Properties { named, words, like, rest });
        }
        all.extend(self.one(fields, "propertyNames").map(Keyword::Names));
    }

    fn of_others(&mut self, fields: &mut Keys<'_, 'd>, all: &mut Vec<Keyword>) {
        if let Some(target) = fields.text("$ref") {
            match resolve(self.document, target) {
                Ok((pointer, value)) => all.push(Keyword::Reference(self.schema(&pointer, value))),
                Err(told) => fields.wrong("$ref", told),
            }
        }
        all.extend(self.several(fields, "allOf").map(Keyword::AllOf));
        all.extend(self.several(fields, "anyOf").map(Keyword::AnyOf));
        all.extend(self.several(fields, "oneOf").map(Keyword::OneOf));
        all.extend(self.one(fields, "not").map(Keyword::Not));
        let then = self.one(fields, "then");
        let otherwise = self.one(fields, "else");
        if let Some(condition) = self.one(fields, "if") {
            all.push(Keyword::If { condition, then, otherwise });
        }
        let dependent = self.by_name(fields, "dependentSchemas");
        if !dependent.is_empty() {
            all.push(Keyword::DependentSchemas(dependent));
        }
    }

    fn pattern(&mut self, source: &'d str, pointer: &str) -> Option<Arc<Pattern>> {
        if let Some(known) = self.patterns.get(source) {
            return known.clone();
        }
        if self.patterns.len() == PATTERNS_MAX {
            self.wrong(pointer, format!("there are {PATTERNS_MAX} other expressions already"));
            return None;
        }
        let compiled = Pattern::compile(source).map_err(|told| {
            self.wrong(pointer, format!("{} cannot be used: {told}", shown(source)));
        });
        let compiled = compiled.ok();
        self.patterns.insert(source, compiled.clone());
        compiled
    }

    fn one(&mut self, fields: &mut Keys<'_, 'd>, name: &'static str) -> Option<Id> {
        let value = fields.get(name)?;
        Some(self.schema(&fields.at(name), value))
    }

    fn several(&mut self, fields: &mut Keys<'_, 'd>, name: &'static str) -> Option<Vec<Id>> {
        let items = match fields.get(name)? {
            Json::Array(items) if !items.is_empty() => items,
            other => {
                fields.wrong(name, format!("expected a list of schemas, found {}", found(other)));
                return None;
            }
        };
        let items = items.iter().enumerate();
        let at = fields.at(name);
        Some(items.map(|(index, item)| self.schema(&format!("{at}/{index}"), item)).collect())
    }

    fn by_name(&mut self, fields: &mut Keys<'_, 'd>, name: &'static str) -> Vec<(Box<str>, Id)> {
        let all = self.by_name_of(fields, name);
        all.into_iter().map(|(name, id)| (name.into(), id)).collect()
    }

    fn by_name_of(&mut self, fields: &mut Keys<'_, 'd>, name: &'static str) -> Vec<(&'d str, Id)> {
        let Some(map) = fields.mapping(name) else { return Vec::new() };
        let at = fields.at(name);
        map.iter()
            .map(|(name, value)| (name.as_str(), self.schema(&below(&at, name), value)))
            .collect()
    }
}

fn is_dialect(value: &Json) -> bool {
    value.as_str().is_some_and(|it| DIALECTS.contains(&it.trim_end_matches('#')))
}

fn type_of(word: &str, fields: &Keys<'_, '_>) -> Option<u8> {
    let known = types::ALL.iter().find(|(known, _)| *known == word);
    if known.is_none() {
        fields.wrong("type", format!("{} is no type of JSON", shown(word)));
    }
    known.map(|(_, bit)| *bit)
}

fn of_numbers(fields: &mut Keys<'_, '_>, all: &mut Vec<Keyword>) {
    let mut of = |name| fields.number(name).and_then(Decimal::of);
    let (least, most) = (of("minimum"), of("maximum"));
    let (above, below) = (of("exclusiveMinimum"), of("exclusiveMaximum"));
    match of("multipleOf") {
        Some(step) if step.is_zero() || step.is_negative() => {
            fields.wrong("multipleOf", "it must be more than 0");
        }
        step => all.extend(step.map(Keyword::MultipleOf)),
    }
    all.extend(least.map(Keyword::Least));
    all.extend(most.map(Keyword::Most));
    all.extend(above.map(Keyword::Above));
    all.extend(below.map(Keyword::Below));
}

fn among(values: &[Json]) -> Keyword {
    let values: Vec<Value> = values.iter().map(Value::from).collect();
    let types = values.iter().fold(0, |types, value| types | bits_of(value));
    Keyword::Among { values: values.iter().map(canonical).collect(), types }
}

/// A name without case, as many servers read it.
pub(super) fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A schema's keywords as they are asked for.
struct Keys<'p, 'd> {
    map: &'d Map<String, Json>,
    pointer: &'p str,
    known: Vec<&'static str>,
    faults: &'d Faults,
}

impl<'d> Keys<'_, 'd> {
    fn at(&self, name: &str) -> String {
        below(self.pointer, name)
    }

    fn wrong(&self, name: &str, told: impl Into<String>) {
        self.faults.add(&at(&self.at(name)), told);
    }

    fn get(&mut self, name: &'static str) -> Option<&'d Json> {
        self.known.push(name);
        self.map.get(name)
    }

    fn text(&mut self, name: &'static str) -> Option<&'d str> {
        let value = self.get(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong(name, format!("expected text, found {}", found(value)));
        }
        text
    }

    fn truth(&mut self, name: &'static str) -> Option<bool> {
        let value = self.get(name)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.wrong(name, format!("expected `true` or `false`, found {}", found(value)));
        }
        truth
    }

    fn number(&mut self, name: &'static str) -> Option<&'d Number> {
        let value = self.get(name)?;
        let number = value.as_number();
        if number.is_none() {
            self.wrong(name, format!("expected a number, found {}", found(value)));
        }
        number
    }

    fn count(&mut self, name: &'static str) -> Option<u64> {
        let number = self.number(name)?;
        let whole = number.as_f64().filter(|it| it.fract() == 0.0 && (0.0..1e15).contains(it));
        if whole.is_none() {
            self.wrong(name, format!("{number} is no whole number from 0"));
        }
        number.as_u64().or(whole.map(|it| it as u64))
    }

    fn mapping(&mut self, name: &'static str) -> Option<&'d Map<String, Json>> {
        let value = self.get(name)?;
        let map = value.as_object();
        if map.is_none() {
            self.wrong(name, format!("expected a mapping, found {}", found(value)));
        }
        map
    }

    fn names(&self, name: &str, value: &Json) -> Option<Vec<Box<str>>> {
        let items = value.as_array().map(|items| items.iter().map(Json::as_str));
        let names: Option<Vec<&str>> = items.and_then(|items| items.collect());
        if names.is_none() {
            self.wrong(name, "expected a list of names");
        }
        Some(names?.into_iter().map(Into::into).collect())
    }

    fn finish(self) {
        let unknown = |name: &&String| {
            !self.known.contains(&name.as_str()) && !name.starts_with("x-") && *name != "xml"
        };
        for name in self.map.keys().filter(unknown) {
            let told = match OTHERWISE.iter().find(|(known, _)| known == name) {
                Some((_, told)) => (*told).to_owned(),
                None => match nearest(name, self.known.iter().copied()) {
                    Some(near) => format!("unknown keyword; did you mean `{near}`?"),
                    None => "unknown keyword: what nobody checks is not taken".to_owned(),
                },
            };
            self.wrong(name, told);
        }
    }
}

/// The pointer of what stands in a mapping under a name.
pub(super) fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// All schemas, each behind those that it asks about the same value; or one that asks for itself.
fn in_order(nodes: &[Node]) -> Result<Vec<Id>, Id> {
    // Taken away one after the other are those that ask for nobody who is left; who stays is in a loop, or asks for one.
    let asks: Vec<Vec<Id>> = nodes.iter().map(in_place).collect();
    let mut left: Vec<usize> = asks.iter().map(Vec::len).collect();
    let mut asked_by: Vec<Vec<Id>> = vec![Vec::new(); nodes.len()];
    for (id, others) in asks.iter().enumerate() {
        others.iter().for_each(|other| asked_by[*other].push(id));
    }
    let mut free: Vec<Id> = (0..nodes.len()).filter(|id| left[*id] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(id) = free.pop() {
        order.push(id);
        for other in &asked_by[id] {
            left[*other] -= 1;
            if left[*other] == 0 {
                free.push(*other);
            }
        }
    }
    let Some(mut id) = left.iter().position(|left| *left > 0) else { return Ok(order) };
    // Who asks for a loop is not in it; whoever is found after so many steps is.
    for _ in 0..nodes.len() {
        id = asks[id].iter().copied().find(|other| left[*other] > 0).unwrap_or(id);
    }
    Err(id)
}

/// The types that a value may have of which a schema holds; of those that it asks they are known.
fn types_for(node: &Node, known: &[u8]) -> u8 {
    let of = |id: &Id| known.get(*id).copied().unwrap_or(types::ANY);
    let of_keyword = |keyword: &Keyword| match keyword {
        Keyword::Never => 0,
        Keyword::Types(bits) if bits & types::NUMBER != 0 => bits | types::INTEGER,
        Keyword::Types(bits) => *bits,
        Keyword::Among { types, .. } => *types,
        Keyword::Reference(id) => of(id),
        Keyword::AllOf(ids) => ids.iter().fold(types::ANY, |all, id| all & of(id)),
        Keyword::AnyOf(ids) | Keyword::OneOf(ids) => ids.iter().fold(0, |any, id| any | of(id)),
        _ => types::ANY,
    };
    node.keywords.iter().fold(types::ANY, |all, keyword| all & of_keyword(keyword))
}

/// Schemas that a schema asks about the same value.
fn in_place(node: &Node) -> Vec<Id> {
    let mut all = Vec::new();
    for keyword in &node.keywords {
        match keyword {
            Keyword::Reference(id) | Keyword::Not(id) => all.push(*id),
            Keyword::AllOf(ids) | Keyword::AnyOf(ids) | Keyword::OneOf(ids) => all.extend(ids),
            Keyword::If { condition, then, otherwise } => {
                all.push(*condition);
                all.extend(then.iter().chain(otherwise));
            }
            Keyword::DependentSchemas(each) => all.extend(each.iter().map(|(_, id)| *id)),
            _ => {}
        }
    }
    all
}
