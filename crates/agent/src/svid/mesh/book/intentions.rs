//! Intentions that nodes are told of: of each namespace no more than so many.

use std::{collections::BTreeMap, sync::Arc};

use nullius_intention::{Origin, weight_of_expressions};
use nullius_kube::{SYSTEM_NAMESPACE, identity::ObjectNews};
use nullius_mesh::news::{INTENTION_MAX, INTENTIONS_MAX, IntentionObject, Uid};
use serde_json::Value;

use super::{Book, Key, Name, OF_SYSTEM, Standing, Touched, leave};

/// Intentions of one namespace that nodes are told of, and bytes of them.
pub(super) const INTENTIONS_OF_NAMESPACE: usize = 1_000;
pub(super) const BYTES_OF_NAMESPACE: usize = 4 * 1024 * 1024;
/// What their expressions take when they are compiled, by nodes, in bytes: a few hundred of the usual ones.
pub(super) const COMPILED_OF_NAMESPACE: usize = 16 * 1024 * 1024;
/// A part in so many is added to each for those that take something away: where others have taken all room, to leave such a one out
/// would open what it closes.
pub(super) const FOR_DENIES: usize = 4;
/// Of all namespaces but the system's: what is that one's stays free, and nodes take no more in all.
pub(super) const INTENTIONS_OF_OTHERS: usize =
    INTENTIONS_MAX - OF_SYSTEM * (INTENTIONS_OF_NAMESPACE + INTENTIONS_OF_NAMESPACE / FOR_DENIES);

/// How much of one namespace is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    count: usize,
    bytes: usize,
    compiled: usize,
}

/// Those that nodes were told of before first, then those that take something away: so that each replica, also after a restart, has room
/// for the same.
pub(super) fn in_order(mut intentions: Vec<ObjectNews>) -> Vec<ObjectNews> {
    intentions.sort_by_cached_key(|it| {
        let was_told = standing(&it.status) == Some(true);
        (!was_told, standing(&it.status) == Some(false), !takes_away(&it.json), it.name.clone())
    });
    intentions
}

/// Whether the status says that there is room for it; none where it says neither.
fn standing(status: &Value) -> Option<bool> {
    let mut all = status["conditions"].as_array()?.iter();
    let accepted = all.find(|it| it["type"] == "Accepted")?;
    Some(accepted["reason"] != "Crowded")
}

/// Whether an intention denies, lets requests decide, limits them, or says which there are.
fn takes_away(json: &[u8]) -> bool {
    let Ok(object) = serde_json::from_slice::<Value>(json) else { return false };
    let spec = &object["spec"];
    let mut sources = spec["sources"].as_array().into_iter().flatten();
    ["limits", "api"].iter().any(|name| spec.get(name).is_some())
        || sources.any(|it| it["action"] == "deny" || it.get("permissions").is_some())
}

/// What the expressions of an intention take at nodes; it is not looked for where there is none.
fn compiled(json: &[u8]) -> usize {
    let says = |word: &[u8]| json.windows(word.len()).any(|part| part == word);
    if !says(b"\"pattern") && !says(b"\"regex\"") && !says(b"\"when\"") {
        return 0;
    }
    serde_json::from_slice(json).map_or(0, |object: Value| weight_of_expressions(&object))
}

impl Book {
    pub(super) fn put_intention(&mut self, mut news: ObjectNews, touched: &mut Touched) {
        let uid = Uid::from(&*news.uid);
        let namespace = news.namespace.clone();
        let stood = self.intentions.remove(&uid);
        if let Some(stood) = &stood {
            self.give_back(&namespace, stood);
        }
        let mut told = None;
        let can_be = !uid.is_empty() && !news.is_left_out() && news.json.len() <= INTENTION_MAX;
        let is_known = |stood: &&Standing| stood.news.json == news.json;
        let compiled = match stood.as_ref().filter(is_known) {
            Some(stood) => stood.compiled,
            None if can_be => compiled(&news.json),
            None => 0,
        };
        let before = stood.and_then(|it| it.told);
        if can_be && self.has_room_for(&namespace, &news.json, compiled) {
            let taken = self.told_intentions.entry(namespace.clone()).or_default();
            taken.count += 1;
            taken.bytes += news.json.len();
            taken.compiled += compiled;
            self.of_others.intentions += usize::from(*namespace != *SYSTEM_NAMESPACE);
            told = Some(Arc::new(IntentionObject {
                uid: uid.clone(),
                origin: Origin::Cluster,
                generation: news.generation.max(0),
                json: Arc::clone(&news.json),
            }));
        }
        if told.is_none() {
            // It is not held: who applies it again when there is room is heard again.
            news.leave_out();
            self.crowd("Intention", &namespace);
        }
        self.within.entry(namespace.clone()).or_default().insert(uid.clone());
        self.intentions.insert(uid.clone(), Standing { news, told: told.clone(), compiled });
        if before != told {
            self.touch_intention(&namespace, uid, touched);
        }
    }

    /// Whether nodes may be told of another intention of a namespace.
    fn has_room_for(&self, namespace: &str, json: &[u8], compiled: usize) -> bool {
        let taken = self.told_intentions.get(namespace).copied().unwrap_or_default();
        let is_system = namespace == SYSTEM_NAMESPACE;
        let times = if is_system { OF_SYSTEM } else { 1 };
        let most = Taken {
            count: times * INTENTIONS_OF_NAMESPACE,
            bytes: times * BYTES_OF_NAMESPACE,
            compiled: times * COMPILED_OF_NAMESPACE,
        };
        let is_in = |part: usize| {
            let with = |most: usize| most + most / FOR_DENIES * part;
            taken.count < with(most.count)
                && taken.bytes + json.len() <= with(most.bytes)
                && (compiled == 0 || taken.compiled + compiled <= with(most.compiled))
        };
        // It is read only where that makes a difference.
        (is_in(0) || (takes_away(json) && is_in(1)))
            && (is_system || self.of_others.intentions < INTENTIONS_OF_OTHERS)
    }

    pub(super) fn drop_intention(&mut self, uid: &str, touched: &mut Touched) {
        let Some((uid, gone)) = self.intentions.remove_entry(uid) else { return };
        self.give_back(&gone.news.namespace, &gone);
        leave(&mut self.within, &gone.news.namespace, &uid);
        self.touch_intention(&gone.news.namespace, uid, touched);
    }

    /// One that was told is told no more, or anew.
    pub(super) fn give_back(&mut self, namespace: &Name, stood: &Standing) {
        let (Some(told), Some(taken)) = (&stood.told, self.told_intentions.get_mut(namespace))
        else {
            return;
        };
        self.of_others.intentions -= usize::from(**namespace != *SYSTEM_NAMESPACE);
        taken.count -= 1;
        taken.bytes -= told.json.len();
        taken.compiled -= stood.compiled;
        if taken.count == 0 {
            self.told_intentions.remove(namespace);
        }
    }

    /// Says once that a namespace has more of something than nodes are told.
    pub(super) fn crowd(&mut self, kind: &'static str, namespace: &Name) {
        if self.crowded.insert((kind, namespace.clone())) {
            tracing::warn!(%namespace, kind, "leave objects of a namespace out of the mesh: it has too many of them, or too long ones");
        }
    }

    pub(super) fn touch_intention(&self, namespace: &str, uid: Uid, touched: &mut Touched) {
        let key = Key::Intention(uid);
        if namespace == SYSTEM_NAMESPACE {
            touched.all.insert(key);
            return;
        }
        for node in self.enrolled.get(namespace).into_iter().flat_map(BTreeMap::keys) {
            touched.node(node, key.clone());
        }
    }
}
