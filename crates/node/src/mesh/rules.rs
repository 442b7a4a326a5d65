//! Intentions that can be read, by the namespace that they are for. What is of one namespace stays the same value for as long as nothing
//! of it changes: by that a pod knows whether its rules are to be made anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use nullius_intention::{Intention, Intentions, RuleSet, Tier, Workload};
use nullius_mesh::news::Uid;
use nullius_model::Namespace;

/// Whose an intention is, and its name: of several objects that say to be the same the last by UID counts.
type Name = (Tier, Box<str>);

/// Those that count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    near: HashMap<Namespace, Arc<Intentions>>,
    wide: Arc<Intentions>,
}

/// What is for workloads of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Within {
    near: Option<Arc<Intentions>>,
    wide: Arc<Intentions>,
}

impl Rules {
    pub(crate) fn within(&self, namespace: &Namespace) -> Within {
        Within { near: self.near.get(namespace).cloned(), wide: Arc::clone(&self.wide) }
    }
}

impl Within {
    /// Whether nothing has changed between the two.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let is_near = match (&self.near, &other.near) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        is_near && Arc::ptr_eq(&self.wide, &other.wide)
    }

    pub(crate) fn rules_for(&self, workload: Workload) -> RuleSet {
        let mut set = match &self.near {
            Some(near) => near.rules_for(workload),
            None => RuleSet::new(workload),
        };
        self.wide.iter().for_each(|intention| set.put(intention));
        set
    }
}

/// Keeps them, change by change.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    read: BTreeMap<Uid, Intention>,
    named: BTreeMap<Name, BTreeSet<Uid>>,
    /// Where the intention of a name stands.
    placed: BTreeMap<Name, Option<Namespace>>,
    rules: Rules,
}

impl Shelf {
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What objects say now; nothing where there is nothing to count.
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = (Uid, Option<Intention>)>) {
        let mut touched = BTreeSet::new();
        for (uid, now) in changes {
            if let Some(before) = self.read.remove(&uid) {
                let name = name(&before);
                if let Some(uids) = self.named.get_mut(&name) {
                    uids.remove(&uid);
                    if uids.is_empty() {
                        self.named.remove(&name);
                    }
                }
                touched.insert(name);
            }
            if let Some(now) = now {
                let name = name(&now);
                self.named.entry(name.clone()).or_default().insert(uid.clone());
                touched.insert(name);
                self.read.insert(uid, now);
            }
        }
        touched.into_iter().for_each(|name| self.settle(name));
    }

    fn settle(&mut self, name: Name) {
        let Rules { near, wide } = &mut self.rules;
        match self.placed.remove(&name) {
            Some(Some(namespace)) => {
                if let Some(all) = near.get_mut(&namespace) {
                    Arc::make_mut(all).remove(name.0, &name.1);
                    if all.is_empty() {
                        near.remove(&namespace);
                    }
                }
            }
            Some(None) => drop(Arc::make_mut(wide).remove(name.0, &name.1)),
            None => {}
        }
        let uid = self.named.get(&name).and_then(BTreeSet::last);
        let Some(intention) = uid.and_then(|uid| self.read.get(uid)) else { return };
        let namespace = intention.destination().namespace().cloned();
        let all = match &namespace {
            Some(namespace) => near.entry(namespace.clone()).or_default(),
            None => wide,
        };
        Arc::make_mut(all).put(intention.clone());
        self.placed.insert(name, namespace);
    }
}

fn name(intention: &Intention) -> Name {
    (intention.tier(), intention.name().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use nullius_intention::{Home, Origin};
    use serde_json::json;

    use super::*;

    fn intention(namespace: &str, name: &str, destination: serde_json::Value) -> Intention {
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "destination": destination, "sources": [{ "any": true, "action": "allow" }] },
        });
        let home = Home::of("dev.example".parse().unwrap());
        Intention::read(&object, Origin::Cluster, &home).unwrap()
    }

    fn count(rules: &Rules, namespace: &str) -> usize {
        let workload = Workload {
            namespace: namespace.parse().unwrap(),
            service_account: "web".to_owned(),
            labels: Default::default(),
        };
        rules.within(&workload.namespace).rules_for(workload).len()
    }

    #[test]
    fn a_change_touches_what_is_for_its_namespace_and_nothing_else() {
        let mut shelf = Shelf::default();
        let web = || json!({ "serviceAccount": "web" });
        let put = |shelf: &mut Shelf, uid: &str, read| shelf.change([(uid.into(), read)]);
        put(&mut shelf, "1", Some(intention("shop", "a", web())));
        put(&mut shelf, "2", Some(intention("bank", "a", web())));
        let within =
            |shelf: &Shelf| ["shop", "bank"].map(|it| shelf.rules().within(&it.parse().unwrap()));
        let first = within(&shelf);
        put(&mut shelf, "3", Some(intention("shop", "b", web())));
        let second = within(&shelf);
        assert!(!first[0].is(&second[0]) && first[1].is(&second[1]));
        assert_eq!((count(shelf.rules(), "shop"), count(shelf.rules(), "bank")), (2, 1));
        // The system's may be for all.
        put(&mut shelf, "4", Some(intention("nullius-system", "all", json!({ "any": true }))));
        let third = within(&shelf);
        assert!(!third[0].is(&second[0]) && !third[1].is(&second[1]));
        assert_eq!((count(shelf.rules(), "shop"), count(shelf.rules(), "bank")), (3, 2));
        put(
            &mut shelf,
            "4",
            Some(intention("nullius-system", "all", json!({ "namespace": "bank" }))),
        );
        assert_eq!((count(shelf.rules(), "shop"), count(shelf.rules(), "bank")), (2, 2));
        for uid in ["1", "3", "4", "never"] {
            put(&mut shelf, uid, None);
        }
        assert_eq!((count(shelf.rules(), "shop"), count(shelf.rules(), "bank")), (0, 1));
        assert_eq!((shelf.rules.near.len(), shelf.placed.len(), shelf.named.len()), (1, 1, 1));
    }

    #[test]
    fn of_two_objects_of_one_name_one_counts_until_both_are_gone() {
        let mut shelf = Shelf::default();
        let one = || Some(intention("shop", "a", json!({ "serviceAccount": "web" })));
        shelf.change([("1".into(), one()), ("2".into(), one())]);
        assert_eq!(count(shelf.rules(), "shop"), 1);
        // In whatever order they go.
        shelf.change([("1".into(), None)]);
        assert_eq!(count(shelf.rules(), "shop"), 1);
        shelf.change([("3".into(), one()), ("2".into(), None)]);
        assert_eq!(count(shelf.rules(), "shop"), 1);
        shelf.change([("3".into(), None)]);
        assert_eq!(count(shelf.rules(), "shop"), 0);
    }
}
