//! Machines outside of the cluster: by what each may prove itself, and which identities its processes have.
//!
//! A machine stands beside nodes under a name that no node can have. Its objects are its cluster's administrators'; identities on it are of
//! the namespaces that it names, and of no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nullius_kube::{
    IDENTITY_DISABLED,
    identity::{News, ObjectNews},
};
use nullius_model::Timestamp;
use nullius_pki::{MachineAuthority, MachinePublicKey, constant_time_eq};
use nullius_registration::{JoinToken, Machine, WorkloadIdentity, machine_identity};
use serde_json::Value;

use super::{NODE_NAMESPACE, Name, Registered, Registry, SYSTEM_NAMESPACE, Touched, entries};

/// What the names of machines begin with among those of nodes, which have no `:`.
const PREFIX: &str = "machine:";

/// What stands.
#[derive(Default)]
pub(super) struct Machines {
    by_name: BTreeMap<Name, Known>,
    is_listed: bool,
}

struct Known {
    news: ObjectNews,
    read: Result<Readable, String>,
}

struct Readable {
    machine: Machine,
    means: Means,
}

/// By what a machine may prove itself now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Means {
    /// The UID of its object.
    pub(crate) uid: Name,
    /// The key that joined by the token that the object has now.
    pub(crate) key: Option<MachinePublicKey>,
    /// Who stands behind its certificates.
    pub(crate) authority: Option<Arc<MachineAuthority>>,
}

/// What the status of a machine says of who joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedBy {
    /// The SHA-256 of the token.
    pub(crate) token: Box<str>,
    pub(crate) key: MachinePublicKey,
}

/// How a machine is called among nodes.
pub(crate) fn name_among_nodes(machine: &str) -> Name {
    format!("{PREFIX}{machine}").into()
}

/// The name of the machine that is called so among nodes.
pub(crate) fn name_of(among_nodes: &str) -> Option<&str> {
    among_nodes.strip_prefix(PREFIX)
}

/// Whether a name among nodes is that of a machine.
pub(crate) fn is_machine(name: &str) -> bool {
    name.contains(':')
}

impl JoinedBy {
    /// Reads it; nothing where nobody joined.
    pub(crate) fn read(status: &Value) -> Option<Self> {
        let text = |name: &str| status.get(name).and_then(Value::as_str);
        let key = MachinePublicKey::from_text(text("publicKey")?)?;
        (text("key") == Some(&*key.id())).then_some(())?;
        Some(Self { token: text("token")?.into(), key })
    }
}

/// Whether a token is the one that a machine may join with, whatever the time is.
pub(crate) fn is_token(known: Option<&JoinToken>, sha256: &str) -> bool {
    // Without one it is compared all the same.
    let none = "-".repeat(sha256.len());
    let expected = known.map_or(none.as_str(), |token| &token.sha256);
    let is_equal = constant_time_eq(expected.as_bytes(), sha256.as_bytes());
    is_equal && known.is_some()
}

impl Machines {
    fn find(&self, name: &str) -> Option<&Readable> {
        self.by_name.get(name)?.read.as_ref().ok()
    }
}

impl Registry {
    /// Whether machines were listed once.
    pub(crate) fn knows_machines(&self) -> bool {
        self.machines.is_listed
    }

    /// By what a machine may prove itself; nothing where there is no such machine.
    pub(crate) fn means(&self, machine: &str) -> Option<Means> {
        Some(self.machines.find(machine)?.means.clone())
    }

    /// Whether a machine has this token to join with, by its SHA-256.
    pub(crate) fn has_join_token(&self, machine: &str, sha256: &str) -> bool {
        let found = self.machines.find(machine);
        is_token(found.and_then(|it| it.machine.join_token.as_ref()), sha256)
    }

    /// All machines, and why one cannot be read.
    pub(crate) fn machines(&self) -> Vec<(ObjectNews, Result<(), String>)> {
        let all = self.machines.by_name.values();
        all.map(|it| (it.news.clone(), it.read.as_ref().map(drop).map_err(String::clone))).collect()
    }

    pub(crate) fn hear_machines(&mut self, news: News<ObjectNews>) -> Touched {
        let mut touched = Touched::new();
        match news {
            News::Put(machine) => self.put_machine(machine, &mut touched),
            News::Gone(machine) => {
                let stands = self.machines.by_name.get(&machine.name);
                // Another of the name may stand by now.
                if stands.is_some_and(|stands| stands.news.uid == machine.uid) {
                    self.remove_machine(&machine.name, &mut touched);
                }
            }
            News::All(machines) => {
                self.machines.is_listed = true;
                let names: BTreeSet<Name> = machines.iter().map(|it| it.name.clone()).collect();
                let stand = self.machines.by_name.keys();
                let gone: Vec<Name> =
                    stand.filter(|name| !names.contains(*name)).cloned().collect();
                for name in gone {
                    self.remove_machine(&name, &mut touched);
                }
                for machine in machines {
                    self.put_machine(machine, &mut touched);
                }
            }
        }
        touched
    }

    /// Registers anew on the machines that a namespace may have identities on.
    pub(super) fn register_machines_of(&mut self, namespace: &str, touched: &mut Touched) {
        let is_of = |known: &Known| {
            let machine = known.read.as_ref().ok().map(|it| &it.machine);
            machine.is_some_and(|it| it.namespaces.iter().any(|own| own.as_str() == namespace))
        };
        let all = self.machines.by_name.iter().filter(|(_, known)| is_of(known));
        let names: Vec<Name> = all.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.register_machine(&name, touched);
        }
    }

    /// On how many machines an object gives an identity; or on which it gives none, and why.
    pub(super) fn on_machines(
        &self,
        object: &WorkloadIdentity,
        machines: &BTreeSet<Name>,
    ) -> Result<usize, String> {
        let namespace = object.namespace().as_str();
        let id = |uid: &str| entry_id(uid, namespace, object.name());
        let mut without = Vec::new();
        for name in machines {
            let on_it = self.registered.get(&name_among_nodes(name));
            let uid = self.machines.find(name).map(|it| &it.means.uid);
            let has = on_it.zip(uid).is_some_and(|(on_it, uid)| on_it.contains_key(&id(uid)));
            if has {
                continue;
            }
            // Whether a machine is there, or is another namespace's, is nobody else's business.
            let may = self.may_be_on(namespace, name);
            let fault = machine_identity(name, &self.domain, object).err().filter(|_| may);
            without
                .push(fault.map_or_else(|| format!("`{name}`"), |why| format!("`{name}` ({why})")));
        }
        match without.is_empty() {
            true => Ok(machines.len()),
            false => Err(format!(
                "spec.machines: no identity is given on {}: an administrator of the cluster names this namespace in `spec.namespaces` of the Machine, and the namespace must not say `disabled`",
                without.join(", "),
            )),
        }
    }

    fn put_machine(&mut self, news: ObjectNews, touched: &mut Touched) {
        let name = news.name.clone();
        let read = read(&news);
        let before = self.machines.by_name.insert(name.clone(), Known { news, read });
        let now = self.means(&name);
        // Whoever is connected is looked at again.
        if before.and_then(|it| it.read.ok()).map(|it| it.means) != now {
            touched.insert(name_among_nodes(&name));
        }
        self.register_machine(&name, touched);
    }

    fn remove_machine(&mut self, name: &str, touched: &mut Touched) {
        if self.machines.by_name.remove(name).is_some() {
            touched.insert(name_among_nodes(name));
        }
        self.register_machine(name, touched);
    }

    /// Whether objects of a namespace may be for processes of a machine.
    fn may_be_on(&self, namespace: &str, machine: &str) -> bool {
        let names = self.machines.find(machine).map(|it| &it.machine.namespaces);
        let labels = self.namespaces.get(namespace);
        ![SYSTEM_NAMESPACE, NODE_NAMESPACE].contains(&namespace)
            && names.is_some_and(|names| names.iter().any(|own| own.as_str() == namespace))
            && labels.is_some_and(|it| it.identity.as_deref() != Some(IDENTITY_DISABLED))
    }

    /// Registers what processes of a machine have now, which may be nothing.
    fn register_machine(&mut self, name: &str, touched: &mut Touched) {
        let now = self.entries_on(name);
        let among_nodes = name_among_nodes(name);
        let before = match now.is_empty() {
            true => self.registered.remove(&among_nodes),
            false => self.registered.insert(among_nodes.clone(), now.clone()),
        };
        if before.unwrap_or_default() != now {
            touched.insert(among_nodes);
        }
    }

    fn entries_on(&self, name: &str) -> BTreeMap<Name, Registered> {
        let mut all = BTreeMap::new();
        let Some(Readable { machine, means }) = self.machines.find(name) else { return all };
        for namespace in machine.namespaces.iter().map(|it| it.as_str()) {
            if !self.may_be_on(namespace, name) {
                continue;
            }
            for object in self.declared.of(namespace) {
                let Ok(identity) = machine_identity(name, &self.domain, object) else { continue };
                let Ok(entry) = entries::entry(identity, None) else { continue };
                let id = entry_id(&means.uid, namespace, object.name());
                let (entry, namespace) = (Arc::new(entry), namespace.into());
                all.insert(id, Registered { entry, namespace, pod: None });
            }
        }
        all
    }
}

/// The id of an entry. UIDs are of one object of the cluster: no pod has this one.
fn entry_id(machine_uid: &str, namespace: &str, object: &str) -> Name {
    format!("{machine_uid}/{namespace}/{object}").into()
}

fn read(news: &ObjectNews) -> Result<Readable, String> {
    let object = serde_json::from_slice(&news.json).map_err(|error| error.to_string())?;
    let machine = Machine::read(&object).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })?;
    let authority = machine.x509pop.as_ref().map(|pop| {
        let read = MachineAuthority::read(&pop.ca_bundle, &pop.name);
        read.map(Arc::new).map_err(|error| format!("spec.x509pop.caBundle: {error}"))
    });
    let joined = JoinedBy::read(&news.status);
    let key = joined.filter(|it| is_token(machine.join_token.as_ref(), &it.token)).map(|it| it.key);
    let means = Means { uid: news.uid.clone(), key, authority: authority.transpose()? };
    Ok(Readable { machine, means })
}

/// Whether a token to join with is over.
pub(crate) fn is_over(token: &JoinToken, now: Timestamp) -> bool {
    token.expires <= now
}

#[cfg(test)]
mod tests;
