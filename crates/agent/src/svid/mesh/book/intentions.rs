//! Intentions that nodes are told of: of each namespace no more than so many.

use std::{collections::BTreeMap, sync::Arc};

use nullius_intention::Origin;
use nullius_kube::{SYSTEM_NAMESPACE, identity::ObjectNews};
use nullius_mesh::news::{INTENTION_MAX, INTENTIONS_MAX, IntentionObject, Uid};
use serde_json::Value;

use super::{Book, Key, Name, OF_SYSTEM, Standing, Touched, leave};

/// Intentions of one namespace that nodes are told of, and bytes of them.
pub(super) const INTENTIONS_OF_NAMESPACE: usize = 1_000;
pub(super) const BYTES_OF_NAMESPACE: usize = 4 * 1024 * 1024;
/// A part in so many is added to both for those that take something away: where others have taken all room, to leave such a one out
/// would open what it closes.
pub(super) const FOR_DENIES: usize = 4;
/// Of all namespaces but the system's: what is that one's stays free, and nodes take no more in all.
pub(super) const INTENTIONS_OF_OTHERS: usize =
    INTENTIONS_MAX - OF_SYSTEM * (INTENTIONS_OF_NAMESPACE + INTENTIONS_OF_NAMESPACE / FOR_DENIES);

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

impl Book {
    pub(super) fn put_intention(&mut self, mut news: ObjectNews, touched: &mut Touched) {
        let uid = Uid::from(&*news.uid);
        let namespace = news.namespace.clone();
        let before = self.intentions.remove(&uid).and_then(|it| it.told);
        self.give_back(&namespace, before.as_deref());
        let mut told = None;
        let can_be = !uid.is_empty() && !news.is_left_out() && news.json.len() <= INTENTION_MAX;
        if can_be && self.has_room_for(&namespace, &news.json) {
            let (count, bytes) = self.told_intentions.entry(namespace.clone()).or_default();
            *count += 1;
            *bytes += news.json.len();
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
        self.intentions.insert(uid.clone(), Standing { news, told: told.clone() });
        if before != told {
            self.touch_intention(&namespace, uid, touched);
        }
    }

    /// Whether nodes may be told of another intention of a namespace.
    fn has_room_for(&self, namespace: &str, json: &[u8]) -> bool {
        let (count, bytes) = self.told_intentions.get(namespace).copied().unwrap_or((0, 0));
        let is_system = namespace == SYSTEM_NAMESPACE;
        let times = if is_system { OF_SYSTEM } else { 1 };
        let (mut most, mut most_bytes) =
            (times * INTENTIONS_OF_NAMESPACE, times * BYTES_OF_NAMESPACE);
        let is_in =
            |most: usize, most_bytes: usize| count < most && bytes + json.len() <= most_bytes;
        // It is read only where that makes a difference.
        if !is_in(most, most_bytes) && takes_away(json) {
            most += most / FOR_DENIES;
            most_bytes += most_bytes / FOR_DENIES;
        }
        is_in(most, most_bytes) && (is_system || self.of_others.intentions < INTENTIONS_OF_OTHERS)
    }

    pub(super) fn drop_intention(&mut self, uid: &str, touched: &mut Touched) {
        let Some((uid, gone)) = self.intentions.remove_entry(uid) else { return };
        self.give_back(&gone.news.namespace, gone.told.as_deref());
        leave(&mut self.within, &gone.news.namespace, &uid);
        self.touch_intention(&gone.news.namespace, uid, touched);
    }

    /// One that was told is told no more, or anew.
    pub(super) fn give_back(&mut self, namespace: &Name, told: Option<&IntentionObject>) {
        let (Some(told), Some(held)) = (told, self.told_intentions.get_mut(namespace)) else {
            return;
        };
        held.0 -= 1;
        self.of_others.intentions -= usize::from(**namespace != *SYSTEM_NAMESPACE);
        held.1 -= told.json.len();
        if held.0 == 0 {
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
