//! `WorkloadIdentity` objects as they stand, by namespace: each read once, and again when it says something else.

use std::collections::{BTreeMap, BTreeSet};

use nullius_kube::identity::{News, ObjectNews};
use nullius_registration::WorkloadIdentity;

/// Objects of one namespace that count: the first by their names.
const OF_NAMESPACE: usize = 256;

const MANY: &str = "of one namespace the first 256 objects by their names count: delete some";

type Name = Box<str>;

/// What stands.
#[derive(Default)]
pub(super) struct Declared(BTreeMap<Name, BTreeMap<Name, Object>>);

struct Object {
    news: ObjectNews,
    read: Result<WorkloadIdentity, String>,
}

impl Declared {
    /// Takes what is heard, and gives the namespaces for which something else is declared now.
    pub(super) fn hear(&mut self, news: News<ObjectNews>) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        match news {
            News::Put(object) => self.put(object, &mut changed),
            News::Gone(object) => {
                // Another of the name may stand by now.
                let stands = self.0.get(&object.namespace).and_then(|all| all.get(&object.name));
                if stands.is_some_and(|stands| stands.news.uid == object.uid) {
                    self.remove(&object.namespace, &object.name, &mut changed);
                }
            }
            News::All(objects) => {
                let names: BTreeSet<(Name, Name)> =
                    objects.iter().map(|it| (it.namespace.clone(), it.name.clone())).collect();
                let stand = self.0.iter().flat_map(|(namespace, all)| {
                    all.keys().map(|name| (namespace.clone(), name.clone()))
                });
                let gone: Vec<(Name, Name)> = stand.filter(|it| !names.contains(it)).collect();
                for (namespace, name) in gone {
                    self.remove(&namespace, &name, &mut changed);
                }
                for object in objects {
                    self.put(object, &mut changed);
                }
            }
        }
        changed
    }

    /// What can be read of a namespace's.
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &WorkloadIdentity> {
        let all = self.0.get(namespace).into_iter().flat_map(BTreeMap::values);
        all.take(OF_NAMESPACE).filter_map(|object| object.read.as_ref().ok())
    }

    /// Everything, and why it cannot be read.
    pub(super) fn all(
        &self,
    ) -> impl Iterator<Item = (&ObjectNews, Result<&WorkloadIdentity, &str>)> {
        let all = self.0.values().flat_map(|all| all.values().enumerate());
        all.map(|(place, object)| match place < OF_NAMESPACE {
            true => (&object.news, object.read.as_ref().map_err(String::as_str)),
            false => (&object.news, Err(MANY)),
        })
    }

    fn put(&mut self, news: ObjectNews, changed: &mut BTreeSet<Name>) {
        let all = self.0.entry(news.namespace.clone()).or_default();
        if let Some(stands) = all.get_mut(&news.name)
            && stands.news.json == news.json
        {
            stands.news = news;
            return;
        }
        changed.insert(news.namespace.clone());
        let read = read(&news);
        all.insert(news.name.clone(), Object { news, read });
    }

    fn remove(&mut self, namespace: &str, name: &str, changed: &mut BTreeSet<Name>) {
        let Some(all) = self.0.get_mut(namespace) else { return };
        if all.remove(name).is_some() {
            changed.insert(namespace.into());
        }
        if all.is_empty() {
            self.0.remove(namespace);
        }
    }
}

fn read(news: &ObjectNews) -> Result<WorkloadIdentity, String> {
    let object = serde_json::from_slice(&news.json).map_err(|error| error.to_string())?;
    WorkloadIdentity::read(&object).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}
