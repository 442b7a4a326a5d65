//! Which policies are in force: ConfigMaps of the agent's namespace with the label, compiled together whenever one changes.
//!
//! A change comes into force as a whole, once the parameters that it asks for are known. A file that cannot be read any more leaves
//! what it said before in force, and says so; a replica that has never read it does not become ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use nullius_admission::webhook::{Engine, FileFault, InForce, PolicyFile, Trouble, check};
use nullius_kube::{
    ADMISSION_POLICIES_LABEL, ApiServer, Credential, SYSTEM_NAMESPACE,
    admission::{Objects, Watched},
    kubernetes_version,
};
use nullius_model::{Namespace, Timestamp};
use nullius_policy::admission_policy::{Kind, Version};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    exceptions::{Excepting, Wanted},
    meters::AdmissionMeters,
};
use crate::{
    AgentError,
    backoff::{Backoff, random},
    tasks::Tasks,
};

/// Several changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// Parameters that are not known by then are asked for in vain, which denies.
const PARAMS_WITHIN: Duration = Duration::from_secs(5);

/// Policies in force with what they ask for.
pub(crate) struct Standing {
    pub(crate) engine: Engine,
    /// Objects of the kinds of parameters.
    pub(crate) params: BTreeMap<Kind, Objects>,
    /// What is not in force as it was written.
    pub(crate) troubles: Vec<Trouble>,
    /// What the API server's own policies have to say, so that exceptions from them count.
    pub(crate) native: Vec<Wanted>,
    /// The exceptions that count, as the cluster has them.
    pub(crate) exceptions: Vec<Arc<Value>>,
}

/// What is in force, for everybody who asks.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Shared>);

struct Shared {
    standing: ArcSwapOption<Standing>,
    sources: Sources,
    changes: watch::Sender<Seen>,
}

/// What the cluster has of what policies are made of and look at.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) namespaces: Objects,
    pub(crate) definitions: Objects,
    /// The ConfigMaps that hold policies.
    pub(crate) maps: Objects,
}

/// How often it changed, and what keeps the first from coming into force.
#[derive(Debug, Clone, Default)]
struct Seen {
    changes: u64,
    unreadable: Vec<FileFault>,
}

impl Engines {
    /// Begins to watch what policies are made of.
    pub(crate) fn start(
        api: &ApiServer,
        account: &Credential,
        homes: BTreeSet<Namespace>,
        meters: AdmissionMeters,
        tasks: &mut Tasks,
    ) -> Result<Self, AgentError> {
        let excepting = Excepting::watch(api, account, homes, tasks)?;
        let mut watching = |name, what: &Watched| {
            let (objects, keeping) = Objects::watch(api, account.clone(), what)?;
            tasks.spawn_loop(name, keeping);
            Ok::<_, AgentError>(objects)
        };
        let namespaces = watching("namespaces", &Watched::all("v1", "Namespace", "namespaces"))?;
        let definitions = watching(
            "definitions",
            &Watched::all(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
            ),
        )?;
        let maps = watching(
            "policies",
            &Watched {
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
                labels: Some(format!("{ADMISSION_POLICIES_LABEL}=true")),
                ..Watched::all("v1", "ConfigMap", "configmaps")
            },
        )?;
        let engines = Self(Arc::new(Shared {
            standing: ArcSwapOption::empty(),
            sources: Sources {
                namespaces: namespaces.clone(),
                definitions: definitions.clone(),
                maps: maps.clone(),
            },
            changes: watch::Sender::new(Seen::default()),
        }));
        let making = Making {
            engines: engines.clone(),
            api: api.clone(),
            account: account.clone(),
            meters,
            namespaces,
            definitions,
            maps,
            excepting,
            again: None,
            readable: BTreeMap::new(),
            params: BTreeMap::new(),
            compiled: None,
            told: BTreeSet::new(),
        };
        tasks.spawn_loop("compiler", making.run());
        Ok(engines)
    }

    /// What is in force; `None` before everything is known.
    pub(crate) fn standing(&self) -> Option<Arc<Standing>> {
        self.0.standing.load_full()
    }

    /// A namespace as the watch has it.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Value>> {
        self.0.sources.namespaces.find("", name)
    }

    /// What policies are made of and look at.
    pub(crate) fn sources(&self) -> Sources {
        self.0.sources.clone()
    }

    /// Files that keep a replica from becoming ready.
    pub(crate) fn unreadable(&self) -> Vec<FileFault> {
        self.0.changes.borrow().unreadable.clone()
    }

    /// Tells of changes of what is in force.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.0.changes.subscribe())
    }
}

/// Tells of changes.
pub(crate) struct Changes(watch::Receiver<Seen>);

impl Changes {
    pub(crate) async fn next(&mut self) {
        // Its sender lives as long as the agent.
        let _ = self.0.changed().await;
    }
}

struct Making {
    engines: Engines,
    api: ApiServer,
    account: Credential,
    meters: AdmissionMeters,
    namespaces: Objects,
    definitions: Objects,
    maps: Objects,
    excepting: Excepting,
    /// When time alone changes something.
    again: Option<Duration>,
    /// Each file as it could be read last.
    readable: BTreeMap<String, String>,
    params: BTreeMap<Kind, (Objects, AbortOnDropHandle<()>)>,
    compiled: Option<(Vec<PolicyFile>, Arc<InForce>)>,
    told: BTreeSet<String>,
}

impl Making {
    async fn run(mut self) {
        let version = self.version().await;
        self.maps.completed().await;
        self.definitions.completed().await;
        self.namespaces.completed().await;
        self.excepting.completed().await;
        tracing::info!(%version, "know namespaces, kinds and policies");
        loop {
            self.bring_up(version).await;
            tokio::select! {
                () = self.maps.changed() => {}
                () = self.definitions.changed() => {}
                () = self.excepting.changed() => {}
                () = after(self.again) => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// The API server whose rules hold.
    async fn version(&self) -> Version {
        let mut backoff = Backoff::within_cluster();
        loop {
            match kubernetes_version(&self.api, self.account.clone()).await {
                Ok(version) => return minor_of(&version),
                Err(error) => tracing::warn!(%error, "cannot ask for the version, try again"),
            }
            tokio::time::sleep(backoff.after_failure(random())).await;
        }
    }

    async fn bring_up(&mut self, version: Version) {
        let is_first = self.engines.standing().is_none();
        let (mut files, faults, lost) = self.files();
        if is_first && !lost.is_empty() {
            for fault in &lost {
                self.tell(&format!("{fault}; not ready, since nobody can say what it refuses"));
            }
            self.engines.0.changes.send_modify(|seen| {
                seen.changes += 1;
                seen.unreadable = lost;
            });
            return;
        }
        let excepted = self.excepting.look(Timestamp::now());
        self.again = excepted.again;
        files.extend(excepted.files);
        let in_force = match &self.compiled {
            Some((before, in_force)) if *before == files => Arc::clone(in_force),
            _ => match self.compile(files, version).await {
                Some(in_force) => in_force,
                None => return,
            },
        };
        let definitions = self.definitions.list();
        let (engine, wrong) =
            Engine::new(Arc::clone(&in_force), definitions.iter().map(AsRef::as_ref));
        for wrong in wrong {
            self.tell(&wrong.to_string());
        }
        let engine = engine.excepting(excepted.exceptions);
        self.watch_params(&engine).await;
        let mut troubles: Vec<Trouble> = faults.iter().map(Trouble::of_file).collect();
        troubles.extend(lost.iter().map(Trouble::of_new_file));
        troubles.extend(in_force.troubles().iter().cloned());
        troubles.extend(excepted.troubles);
        self.put_in_force(Standing {
            engine,
            params: BTreeMap::new(),
            troubles,
            native: excepted.wanted,
            exceptions: excepted.objects,
        });
    }

    async fn compile(&mut self, files: Vec<PolicyFile>, version: Version) -> Option<Arc<InForce>> {
        let texts = files.clone();
        let compiled = tokio::task::spawn_blocking(move || InForce::compile(&texts, version)).await;
        match compiled {
            Ok(Ok(in_force)) => {
                let in_force = Arc::new(in_force);
                self.compiled = Some((files, Arc::clone(&in_force)));
                Some(in_force)
            }
            // Each file was read before, and what panics is a defect: what was in force stays.
            Ok(Err(faults)) => {
                faults.iter().for_each(|fault| self.tell(&fault.to_string()));
                None
            }
            Err(error) => {
                tracing::error!(%error, "cannot compile the policies; what was in force stays");
                None
            }
        }
    }

    /// The files as they can be read, those of which an earlier text counts, and those of which nothing was ever read.
    fn files(&mut self) -> (Vec<PolicyFile>, Vec<FileFault>, Vec<FileFault>) {
        let (mut files, mut faults, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut readable = BTreeMap::new();
        for file in files_of(&self.maps.list()) {
            match check(&file) {
                Ok(()) => {
                    readable.insert(file.name.clone(), file.text.clone());
                    files.push(file);
                }
                Err(fault) => match self.readable.get(&file.name) {
                    Some(text) => {
                        readable.insert(file.name.clone(), text.clone());
                        files.push(PolicyFile { text: text.clone(), ..file });
                        faults.push(fault);
                    }
                    None => lost.push(fault),
                },
            }
        }
        self.readable = readable;
        (files, faults, lost)
    }

    /// Watches the kinds of parameters that policies take, and no others; waits until they are known, but not for ever.
    async fn watch_params(&mut self, engine: &Engine) {
        let kinds = engine.in_force().param_kinds();
        self.params.retain(|kind, _| kinds.contains(kind));
        for kind in kinds {
            if self.params.contains_key(&kind) {
                continue;
            }
            // A policy with a kind that the cluster does not have denies by itself.
            let Some(place) = engine.place(&kind) else { continue };
            let what = Watched::all(&kind.api_version(), &kind.kind, &place.resource.resource);
            match Objects::watch(&self.api, self.account.clone(), &what) {
                Ok((objects, keeping)) => {
                    let keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
                    self.params.insert(kind, (objects, keeping));
                }
                Err(error) => tracing::warn!(%error, %kind, "cannot watch parameters"),
            }
        }
        let all = self.params.values().map(|(objects, _)| {
            let mut objects = objects.clone();
            async move { objects.completed().await }
        });
        let all = futures::future::join_all(all);
        if tokio::time::timeout(PARAMS_WITHIN, all).await.is_err() {
            for (kind, (objects, _)) in &self.params {
                if let Err(wrong) = objects.is_complete() {
                    tracing::warn!(
                        %kind, %wrong,
                        "cannot read parameters, so policies that take them deny; let the account `nullius-admission` read them"
                    );
                }
            }
        }
    }

    fn put_in_force(&mut self, standing: Standing) {
        let troubles = &standing.troubles;
        let (written, stand_ins, unbound) = standing.engine.in_force().counts();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.meters.policies.set((), number(written));
        self.meters.broken.set((), number(stand_ins));
        self.meters.troubles.set((), number(troubles.len()));
        let now: BTreeSet<String> = troubles.iter().map(ToString::to_string).collect();
        for trouble in now.difference(&self.told) {
            tracing::warn!(%trouble, "do not enforce as it is written");
        }
        self.told = now;
        let params = self
            .params
            .iter()
            .map(|(kind, (objects, _))| (kind.clone(), objects.clone()))
            .collect();
        let standing = Standing { params, ..standing };
        self.engines.0.standing.store(Some(Arc::new(standing)));
        self.engines.0.changes.send_modify(|seen| {
            seen.changes += 1;
            seen.unreadable.clear();
        });
        tracing::info!(policies = written, broken = stand_ins, unbound, "put policies in force");
    }

    /// Says something once.
    fn tell(&mut self, text: &str) {
        if self.told.insert(text.to_owned()) {
            tracing::warn!(trouble = text, "cannot take policies as they are written");
        }
    }
}

/// After a time; never without one.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// The files of ConfigMaps, by name.
pub(crate) fn files_of(maps: &[Arc<Value>]) -> Vec<PolicyFile> {
    let mut files = Vec::new();
    for map in maps {
        let name = map.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let entries = |field: &str| map.get(field).and_then(Value::as_object).into_iter().flatten();
        for (key, text) in entries("data") {
            let text = text.as_str().unwrap_or_default().to_owned();
            files.push(PolicyFile { name: format!("{name}/{key}"), text });
        }
        for (key, _) in entries("binaryData") {
            // No text at all: it cannot be read, and is told like every other such file.
            files.push(PolicyFile { name: format!("{name}/{key}"), text: "\0".to_owned() });
        }
    }
    files
}

/// `v1.36.3`, `v1.34+`.
fn minor_of(version: &str) -> Version {
    minor_number(version).map_or(Version::LATEST, Version::minor)
}

/// The minor version, where it says one.
pub(crate) fn minor_number(version: &str) -> Option<u16> {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_minor_version_is_read_from_what_clouds_write() {
        for (text, minor) in [("v1.36.3", 36), ("v1.34.2-gke.100", 34), ("v1.35+", 35)] {
            assert_eq!(minor_of(text), Version::minor(minor), "{text}");
        }
    }

    #[test]
    fn every_key_of_a_config_map_is_a_file_and_bytes_are_none_that_can_be_read() {
        let map = json!({
            "metadata": { "name": "m" }, "data": { "a.yaml": "{}" }, "binaryData": { "b": "AAAA" },
        });
        let files = files_of(&[Arc::new(map)]);
        assert_eq!(files[0], PolicyFile { name: "m/a.yaml".to_owned(), text: "{}".to_owned() });
        assert!(check(&files[1]).is_err());
    }
}
