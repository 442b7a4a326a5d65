//! Intentions that nodes are told of: of each namespace no more than so many.

use std::{collections::BTreeMap, sync::Arc};

use nullius_intention::Origin;
use nullius_kube::{SYSTEM_NAMESPACE, identity::ObjectNews};
use nullius_mesh::news::{INTENTION_MAX, IntentionObject, Uid};

use super::{Book, Key, Name, OF_SYSTEM, Standing, Touched, leave};

/// Intentions of one namespace that nodes are told of, and bytes of them.
pub(super) const INTENTIONS_OF_NAMESPACE: usize = 1_000;
pub(super) const BYTES_OF_NAMESPACE: usize = 4 * 1024 * 1024;

impl Book {
    pub(super) fn put_intention(&mut self, mut news: ObjectNews, touched: &mut Touched) {
        let uid = Uid::from(&*news.uid);
        let namespace = news.namespace.clone();
        let before = self.intentions.remove(&uid).and_then(|it| it.told);
        self.give_back(&namespace, before.as_deref());
        let mut told = None;
        if !uid.is_empty() && !news.is_left_out() && news.json.len() <= INTENTION_MAX {
            let (count, bytes) = self.told_intentions.entry(namespace.clone()).or_default();
            let times = if *namespace == *SYSTEM_NAMESPACE { OF_SYSTEM } else { 1 };
            if *count < times * INTENTIONS_OF_NAMESPACE
                && *bytes + news.json.len() <= times * BYTES_OF_NAMESPACE
            {
                *count += 1;
                *bytes += news.json.len();
                told = Some(Arc::new(IntentionObject {
                    uid: uid.clone(),
                    origin: Origin::Cluster,
                    generation: news.generation.max(0),
                    json: Arc::clone(&news.json),
                }));
            }
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
