//! Compiled expressions, each made once: policies that say the same of the same share one program, within a set and between the sets
//! that are made of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use nullius_cel::{Program, Type, Version};

use super::environment::{Params, Reach};

/// Programs by what they say; clones share them. It keeps none that no policy has.
#[derive(Clone, Default)]
pub struct Programs(Arc<Mutex<HashMap<Scope, Sources>>>);

type Sources = HashMap<Arc<str>, Weak<Program>>;

/// What an expression means beside its own text: the version, and what it may name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) version: Version,
    pub(super) params: Params,
    pub(super) composed: bool,
    pub(super) reach: Reach,
    /// Names and types of a policy's own variables.
    pub(super) variables: Vec<(String, Type)>,
}

/// A program with its source.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) source: Arc<str>,
    pub(super) program: Arc<Program>,
}

impl Programs {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let of =
            |sources: &Sources| sources.values().filter(|each| each.strong_count() > 0).count();
        self.with(|all| all.values().map(of).sum())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The program of a source, compiled unless there is one.
    pub(super) fn of<E>(
        &self,
        scope: Scope,
        source: &str,
        compile: impl FnOnce() -> Result<Program, E>,
    ) -> Result<Shared, E> {
        if let Some(shared) = self.with(|all| found(all.get(&scope)?, source)) {
            return Ok(shared);
        }
        let shared = Shared { source: Arc::from(source), program: Arc::new(compile()?) };
        let (key, program) = (Arc::clone(&shared.source), Arc::downgrade(&shared.program));
        self.with(|all| all.entry(scope).or_default().insert(key, program));
        Ok(shared)
    }

    /// Forgets the sources of programs that are no more.
    pub fn forget_unused(&self) {
        self.with(|all| {
            for sources in all.values_mut() {
                sources.retain(|_, program| program.strong_count() > 0);
                sources.shrink_to_fit();
            }
            all.retain(|_, sources| !sources.is_empty());
            all.shrink_to_fit();
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Scope, Sources>) -> T) -> T {
        // Whatever panics leaves whole entries.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn found(sources: &Sources, source: &str) -> Option<Shared> {
    let (source, program) = sources.get_key_value(source)?;
    Some(Shared { source: Arc::clone(source), program: program.upgrade()? })
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Programs").field(&self.len()).finish()
    }
}
