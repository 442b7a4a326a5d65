//! Scanned objects as facts. Whoever sends an object must not decide by which facts it is judged: what policies and state say
//! stands, scanned objects only add to it, and where two of them say different things neither counts.
//!
//! Nothing of it is known before everything was scanned, so that no verdict depends on the names of files.

use std::collections::BTreeMap;

use nullius_policy::admission_policy::Kind;
use serde_json::Value as Json;

use crate::state::{NotTaken, State, called, definition, key_of};

/// Facts that scanned objects propose.
#[derive(Debug, Default)]
pub(crate) struct Proposed {
    facts: BTreeMap<(Kind, (String, String)), Fact>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Fact {
    object: Json,
    /// Where it stands, `FILE:LINE`.
    site: String,
    /// Where something else is said of it.
    other: Option<String>,
}

impl Proposed {
    /// Takes a scanned object that stands somewhere.
    pub(crate) fn learn(
        &mut self,
        state: &State,
        kind: Kind,
        object: &Json,
        site: String,
    ) -> Result<(), NotTaken> {
        let key = key_of(object);
        if key.1.is_empty() {
            return Ok(());
        }
        if kind == definition() {
            State::default().adopt(kind.clone(), object.clone())?;
        }
        let says_else = match state.object(&kind, &key) {
            Some(known) => Some(!agrees(object, known)),
            None => defined(&kind, object)
                .is_some_and(|(group, kind)| state.defines(group, kind))
                .then_some(true),
        };
        if let Some(says_else) = says_else {
            if says_else {
                let called = called(&kind, &key);
                self.notes.push(format!(
                    "{site}: {called} is another in the files of policies or state, which count"
                ));
            }
            return Ok(());
        }
        match self.facts.get_mut(&(kind.clone(), key.clone())) {
            None => {
                let fact = Fact { object: object.clone(), site, other: None };
                self.facts.insert((kind, key), fact);
            }
            Some(fact) if fact.object != *object => {
                fact.other.get_or_insert(site);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Adds to a state what can be known; gives what is to be said.
    pub(crate) fn end(mut self, state: &mut State) -> Vec<String> {
        self.dispute_definitions();
        let mut notes = self.notes;
        for ((kind, key), Fact { object, site, other }) in self.facts {
            match other {
                Some(other) => {
                    let called = called(&kind, &key);
                    notes.push(format!(
                        "{called} is not the same in {site} and {other}; neither counts as known"
                    ));
                }
                // A definition was read before.
                None => drop(state.adopt(kind, object)),
            }
        }
        notes
    }

    /// Of two definitions of one kind an API server serves whichever it knew first.
    fn dispute_definitions(&mut self) {
        let mut sites: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let of = |kind: &Kind, fact: &Fact| {
            let (group, kind) = defined(kind, &fact.object)?;
            Some((group.to_owned(), kind.to_owned()))
        };
        for ((kind, _), fact) in &self.facts {
            if let Some(of) = of(kind, fact) {
                sites.entry(of).or_default().push(fact.site.clone());
            }
        }
        for ((kind, _), fact) in &mut self.facts {
            let all = of(kind, fact).and_then(|of| sites.get(&of));
            let other = all.into_iter().flatten().find(|site| **site != fact.site);
            if fact.other.is_none() {
                fact.other = other.cloned();
            }
        }
    }
}

/// The group and kind that an object defines.
fn defined<'o>(kind: &Kind, object: &'o Json) -> Option<(&'o str, &'o str)> {
    let text = |path: &str| object.pointer(path).and_then(Json::as_str);
    Some((text("/spec/group")?, text("/spec/names/kind")?)).filter(|_| *kind == definition())
}

/// Whether what an object says stands in a known one too, which may hold more: what a server adds. What is not in the hands of
/// who writes it counts for nothing.
fn agrees(said: &Json, known: &Json) -> bool {
    let metadata = ["labels", "annotations"].into_iter().all(|field| {
        let path = format!("/metadata/{field}");
        said.pointer(&path).is_none_or(|said| within(said, known.pointer(&path)))
    });
    let rest = said.as_object().into_iter().flatten().all(|(field, said)| {
        matches!(field.as_str(), "metadata" | "status") || within(said, known.get(field))
    });
    metadata && rest
}

fn within(said: &Json, known: Option<&Json>) -> bool {
    match (said, known) {
        (Json::Object(said), Some(Json::Object(known))) => {
            said.iter().all(|(field, said)| within(said, known.get(field)))
        }
        (Json::Array(said), Some(Json::Array(known))) => {
            said.len() == known.len()
                && said.iter().zip(known).all(|(said, known)| within(said, Some(known)))
        }
        (said, Some(known)) => said == known,
        // Empty and left out are the same.
        (Json::Object(said), None) => said.is_empty(),
        (Json::Array(said), None) => said.is_empty(),
        (said, None) => said.is_null(),
    }
}
