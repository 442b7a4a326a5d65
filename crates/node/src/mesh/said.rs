//! What intentions said last when they could be read: where one cannot any more, that counts, also after a restart.

use std::{collections::BTreeMap, sync::Arc};

use nullius_mesh::news::{IntentionObject, News, Picture, Uid};

/// Objects by their UID, as they stood when they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said(BTreeMap<Uid, Arc<IntentionObject>>);

impl Said {
    /// One that can be read.
    pub(crate) fn hear(&mut self, object: &Arc<IntentionObject>) {
        self.0.insert(Arc::clone(&object.uid), Arc::clone(object));
    }

    /// One that is gone.
    pub(crate) fn forget(&mut self, uid: &Uid) {
        self.0.remove(uid);
    }

    /// What some of them said.
    pub(crate) fn only<'u>(&self, uids: impl Iterator<Item = &'u Uid>) -> Self {
        let said = uids.filter_map(|uid| self.0.get_key_value(uid));
        Self(said.map(|(uid, said)| (Arc::clone(uid), Arc::clone(said))).collect())
    }

    pub(crate) fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.0.keys()
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<IntentionObject>> {
        self.0.values()
    }

    /// As news of a stream.
    pub(crate) fn news(&self, stream: &str) -> News {
        News {
            stream: stream.into(),
            sequence: 1,
            is_complete: true,
            put_intentions: self.0.values().map(|it| (**it).clone()).collect(),
            ..News::default()
        }
    }

    /// What was remembered, in a picture of nothing else.
    pub(crate) fn of(picture: &Picture) -> Self {
        let all = picture.intentions().iter();
        Self(all.map(|(uid, object)| (Arc::clone(uid), Arc::clone(object))).collect())
    }
}
