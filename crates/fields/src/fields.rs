//! A mapping read field by field: each wrong type and each unknown field is told, not the first alone.

use serde_json::{Map, Value as Json};

use crate::fault::{Faults, shown};

/// A mapping and where it stands.
pub struct Fields<'a> {
    map: &'a Map<String, Json>,
    path: String,
    known: Vec<&'static str>,
    faults: &'a Faults,
}

/// A value and where it stands.
pub struct Item<'a> {
    /// Where it stands, `spec.sources[0]`.
    pub path: String,
    /// The value.
    pub value: &'a Json,
}

impl<'a> Fields<'a> {
    /// The fields of a value, which must be a mapping.
    pub fn of(value: &'a Json, path: &str, faults: &'a Faults) -> Option<Self> {
        match value {
            Json::Object(map) => {
                Some(Self { map, path: path.to_owned(), known: Vec::new(), faults })
            }
            other => {
                faults.add(path, format!("expected a mapping, found {}", found(other)));
                None
            }
        }
    }

    /// Where a field stands.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes a fault in a field.
    pub fn wrong(&self, name: &str, message: impl Into<String>) {
        self.faults.add(&self.at(name), message);
    }

    /// Notes a fault of the mapping as a whole.
    pub fn wrong_here(&self, message: impl Into<String>) {
        self.faults.add(&self.path, message);
    }

    /// The value of a field; `null` stands for none.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Json> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Text, which must not be empty.
    pub fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.value(name)?;
        match value.as_str() {
            Some("") => {
                self.wrong(name, "it is empty: say what, or leave it out");
                None
            }
            Some(text) => Some(text),
            None => {
                self.wrong(name, format!("expected text, found {}", found(value)));
                None
            }
        }
    }

    /// Truth.
    pub fn truth(&mut self, name: &'static str) -> Option<bool> {
        let value = self.value(name)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.wrong(name, format!("expected `true` or `false`, found {}", found(value)));
        }
        truth
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(name)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.wrong(name, format!("{} is unknown here; use `{}`", shown(text), all.join("` or `")));
        None
    }

    /// The items of a list, which must not be empty where it stands.
    pub fn items(&mut self, name: &'static str) -> Vec<Item<'a>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Json::Array(items) = value else {
            self.wrong(name, format!("expected a list, found {}", found(value)));
            return Vec::new();
        };
        if items.is_empty() {
            self.wrong(name, "the list is empty: name what it is for, or leave it out");
        }
        let path = |index| format!("{}[{index}]", self.at(name));
        let items = items.iter().enumerate();
        items.map(|(index, value)| Item { path: path(index), value }).collect()
    }

    /// Texts of a list, none of them empty.
    pub fn texts(&mut self, name: &'static str) -> Vec<(String, &'a str)> {
        let items = self.items(name);
        let text = |item: Item<'a>| match item.value.as_str() {
            Some("") => {
                self.faults.add(&item.path, "it is empty: say what, or leave it out");
                None
            }
            Some(text) => Some((item.path, text)),
            None => {
                let told = format!("expected text, found {}", found(item.value));
                self.faults.add(&item.path, told);
                None
            }
        };
        items.into_iter().filter_map(text).collect()
    }

    /// Whether a field stands, without reading it.
    pub fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Tells every field that nobody has asked for.
    pub fn finish(self) {
        for name in self.map.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let path = self.at(name);
            let told = match (self.faults.later)(&without_indices(&path)) {
                Some(plane) => format!("it belongs to {plane}, which this version does not have"),
                None => match nearest(name, self.known.iter().copied()) {
                    Some(near) => format!("unknown field; did you mean `{near}`?"),
                    None => format!("unknown field; known here are `{}`", self.known.join("`, `")),
                },
            };
            let cut: String = path.chars().take(200).flat_map(char::escape_debug).collect();
            self.faults.add(&cut, told);
        }
    }
}

fn without_indices(path: &str) -> String {
    let mut bare = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => bare.push(c),
            _ => {}
        }
    }
    bare
}

/// What a value is, in words.
pub fn found(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        Json::Bool(truth) => format!("`{truth}`"),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text {}", shown(text)),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a mapping".to_owned(),
    }
}

/// The known word nearest to a typo: about a third of its letters may differ.
pub fn nearest<'a>(typo: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typo = typo.to_ascii_lowercase();
    let near = known
        .into_iter()
        .map(|word| (distance(&typo, &word.to_ascii_lowercase()), word))
        .min_by_key(|(distance, _)| *distance)?;
    (near.0 <= typo.chars().count().div_ceil(3)).then_some(near.1)
}

/// Levenshtein distance of the first hundred characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().take(100).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
