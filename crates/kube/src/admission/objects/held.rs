//! Objects by namespace, within the room that there is for them.
//!
//! Where it does not suffice, the namespace that takes most of it is forgotten whole, and nothing is said about it any more until
//! everything is listed anew: who fills a namespace harms that one.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use serde_json::Value;

use super::Room;

/// What a value takes beside its text.
const NODE: usize = 48;

#[derive(Debug, Default)]
pub(super) struct Held {
    namespaces: BTreeMap<String, Named>,
    /// Namespaces of which nothing is held, and how much that would have been.
    forgotten: BTreeMap<String, usize>,
    bytes: usize,
    room: Option<Room>,
}

#[derive(Debug, Default)]
struct Named {
    objects: BTreeMap<String, (Arc<Value>, usize)>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(room: Option<Room>) -> Self {
        Self { room, ..Self::default() }
    }

    pub(super) fn insert(&mut self, (namespace, name): (String, String), object: Arc<Value>) {
        let bytes = self.room.as_ref().map_or(0, |_| weight(&object));
        if let Some(forgotten) = self.forgotten.get_mut(&namespace) {
            *forgotten = (*forgotten).max(bytes);
            return;
        }
        let named = self.namespaces.entry(namespace).or_default();
        let before = named.objects.insert(name, (object, bytes)).map_or(0, |(_, bytes)| bytes);
        named.bytes = named.bytes + bytes - before;
        self.bytes = self.bytes + bytes - before;
        self.make_room();
    }

    pub(super) fn remove(&mut self, (namespace, name): &(String, String)) {
        let Some(named) = self.namespaces.get_mut(namespace) else { return };
        if let Some((_, bytes)) = named.objects.remove(name) {
            named.bytes -= bytes;
            self.bytes -= bytes;
        }
        if named.objects.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let (object, _) = self.namespaces.get(namespace)?.objects.get(name)?;
        Some(Arc::clone(object))
    }

    pub(super) fn list(&self) -> Vec<Arc<Value>> {
        let all = self.namespaces.values().flat_map(|named| named.objects.values());
        all.map(|(object, _)| Arc::clone(object)).collect()
    }

    pub(super) fn all_of(&self, namespace: &str) -> Result<Vec<Arc<Value>>, String> {
        if self.forgotten.contains_key(namespace) {
            return Err(format!("there is too much of them in `{namespace}` to be known"));
        }
        let named = self.namespaces.get(namespace).into_iter();
        let objects = named.flat_map(|named| named.objects.values());
        Ok(objects.map(|(object, _)| Arc::clone(object)).collect())
    }

    pub(super) fn too_much(&self) -> Vec<(String, usize)> {
        self.forgotten.iter().map(|(namespace, bytes)| (namespace.clone(), *bytes)).collect()
    }

    fn make_room(&mut self) {
        let Some(room) = &self.room else { return };
        let most = room.0.load(Ordering::Relaxed);
        while self.bytes > most {
            let largest = self.namespaces.iter().max_by_key(|(_, named)| named.bytes);
            let Some(largest) = largest.map(|(namespace, _)| namespace.clone()) else { return };
            let bytes = self.namespaces.remove(&largest).map_or(0, |named| named.bytes);
            self.bytes -= bytes;
            self.forgotten.insert(largest, bytes);
        }
    }
}

/// About how much of memory a value takes.
fn weight(value: &Value) -> usize {
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| NODE + name.len() + weight(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn put(held: &mut Held, namespace: &str, name: &str, length: usize) {
        held.insert(
            (namespace.to_owned(), name.to_owned()),
            Arc::new(Value::from("x".repeat(length))),
        );
    }

    #[test]
    fn who_fills_a_namespace_harms_that_one_alone() {
        let room = Room::default();
        room.set(10_000);
        let mut held = Held::new(Some(room.clone()));
        put(&mut held, "shop", "limits", 500);
        for number in 0..100 {
            put(&mut held, "evil", &format!("limits-{number}"), 900);
            assert!(held.bytes <= 10_000);
        }
        assert_eq!(held.all_of("shop").unwrap().len(), 1);
        assert!(held.all_of("evil").unwrap_err().contains("too much of them in `evil`"));
        assert!(held.too_much()[0].1 > 9_000);
        // What is not known is not said to be absent, whatever comes or goes.
        held.remove(&("evil".to_owned(), "limits-1".to_owned()));
        assert!(held.all_of("evil").is_err());
        assert!(held.all_of("empty").unwrap().is_empty());
        // Less room holds from the next change on.
        room.set(100);
        put(&mut held, "other", "limits", 1);
        assert!(held.all_of("shop").is_err() && held.all_of("other").is_ok());
    }

    #[test]
    fn what_changes_or_goes_gives_its_room_back() {
        let room = Room::default();
        room.set(3_000);
        let mut held = Held::new(Some(room));
        for _ in 0..50 {
            put(&mut held, "shop", "a", 2_000);
            put(&mut held, "shop", "b", 500);
            held.remove(&("shop".to_owned(), "b".to_owned()));
        }
        assert_eq!((held.list().len(), held.too_much()), (1, Vec::new()));
        held.remove(&("shop".to_owned(), "a".to_owned()));
        assert_eq!((held.bytes, held.list().len()), (0, 0));
    }
}
