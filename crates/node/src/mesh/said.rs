//! What intentions said last when they could be read: where one cannot any more, that counts, also after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use nullius_mesh::news::{IntentionObject, News, Picture, Uid};
use nullius_workload::Registered;

use super::known::Known;

/// Objects by their UID, as they stood when they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said(BTreeMap<Uid, Arc<IntentionObject>>);

impl Said {
    /// What is known from now on.
    pub(crate) fn hear(&mut self, known: &Known) {
        let refused: BTreeSet<&str> = known.refused.iter().map(|it| it.uid.as_str()).collect();
        let said = known.picture.intentions().iter().filter_map(|(uid, object)| {
            let said = match refused.contains(&**uid) {
                true => self.0.get(uid)?,
                false => object,
            };
            Some((Arc::clone(uid), Arc::clone(said)))
        });
        self.0 = said.collect();
    }

    /// Those that a picture does not say itself.
    pub(crate) fn beside(&self, picture: &Picture) -> Self {
        let is_other = |uid: &Uid, said: &Arc<IntentionObject>| {
            picture.intentions().get(uid).is_none_or(|now| now != said)
        };
        let beside = self.0.iter().filter(|(uid, said)| is_other(uid, said));
        Self(beside.map(|(uid, said)| (Arc::clone(uid), Arc::clone(said))).collect())
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
        Self(picture.intentions().clone())
    }

    /// What would be known if nothing else stood: where what stands next cannot be read, this was before. Nothing where nothing was said.
    pub(crate) fn known(&self, stream: &str, registered: &Registered) -> Option<Known> {
        let mut picture = Picture::default();
        picture.hear(self.news(stream)).ok()??;
        (!self.0.is_empty())
            .then(|| Known::new(Arc::new(picture), registered, None, Instant::now()))
    }
}
