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
    admission::{Asked, Objects, Room, Watched},
    kubernetes_version,
};
use nullius_model::{Namespace, Timestamp};
use nullius_policy::admission_policy::{ParamSource, Pick, Version};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
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
/// New parameters that are not known by then are asked for in vain, which denies.
const PARAMS_WITHIN: Duration = Duration::from_secs(5);
/// Memory for all parameters, in bytes: whoever may make objects of their kinds could fill it.
const PARAMS_MOST: usize = 64 << 20;
/// Whether caches still know what they say is looked at this often.
const LOOK: Duration = Duration::from_secs(5);
/// And the version of the API server this often.
const VERSION_AGAIN: Duration = Duration::from_secs(60);
const VERSION_WITHIN: Duration = Duration::from_secs(2);

/// Policies in force with what they ask for.
pub(crate) struct Standing {
    pub(crate) engine: Engine,
    /// The parameters that bindings refer to.
    pub(crate) params: BTreeMap<ParamSource, Objects>,
    /// What is not in force as it was written.
    pub(crate) troubles: Vec<Trouble>,
    /// What the API server's own policies have to say, so that exceptions from them count.
    pub(crate) native: Vec<Wanted>,
    /// Conditions about whose objects the API server's own policies are asked here.
    pub(crate) asked: Asked,
    /// The exceptions that count, as the cluster has them.
    pub(crate) exceptions: Vec<Arc<Value>>,
    /// Those that count for nothing since they cannot be read, each with why.
    pub(crate) unreadable: Vec<(Arc<Value>, String)>,
    /// Whether these are all that there are.
    pub(crate) exceptions_known: bool,
    /// The minor version of the API server, where it says one.
    pub(crate) server: Option<u16>,
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
    /// The policies that the API server asks by itself, and their bindings.
    pub(crate) native: Native,
}

/// Policies and bindings of the API server.
#[derive(Clone)]
pub(crate) struct Native {
    pub(crate) policies: Objects,
    pub(crate) bindings: Objects,
}

impl Native {
    /// Waits until both were listed once.
    pub(crate) async fn completed(&mut self) {
        self.policies.completed().await;
        self.bindings.completed().await;
    }

    /// Waits for the next change of either.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.policies.changed() => {}
            () = self.bindings.changed() => {}
        }
    }
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
        let mut own = |name, kind, plural| {
            watching(name, &Watched::all("admissionregistration.k8s.io/v1", kind, plural))
        };
        let native = Native {
            policies: own(
                "the API server's policies",
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
            )?,
            bindings: own(
                "the API server's bindings",
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
            )?,
        };
        let excepting = Excepting::watch(api, account, native.clone(), homes, tasks)?;
        let engines = Self(Arc::new(Shared {
            standing: ArcSwapOption::empty(),
            sources: Sources {
                namespaces: namespaces.clone(),
                definitions: definitions.clone(),
                maps: maps.clone(),
                native,
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
            room: Room::default(),
            compiled: None,
            lacked: Vec::new(),
            unheard: None,
            deaf: None,
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
        self.0.sources.namespaces.find_current("", name)
    }

    /// Of what has not been heard for so long that policies may have changed since.
    pub(crate) fn deaf(&self) -> Option<&'static str> {
        let Sources { namespaces: _, definitions, maps, native } = &self.0.sources;
        [
            (maps, "the policies of ConfigMaps"),
            (definitions, "definitions of kinds"),
            (&native.policies, "the API server's policies"),
            (&native.bindings, "the API server's bindings"),
        ]
        .into_iter()
        .find_map(|(objects, what)| objects.is_current().is_err().then_some(what))
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

#[cfg(test)]
impl Engines {
    /// What is in force already, whether a cluster says it or not.
    pub(crate) fn in_force(api: &ApiServer, engine: Engine) -> Result<Self, AgentError> {
        let objects = || {
            let what = Watched::all("v1", "Namespace", "namespaces");
            let (objects, keeping) = Objects::watch(api, Credential::None, &what)?;
            tokio::spawn(keeping);
            Ok::<_, AgentError>(objects)
        };
        let native = Native { policies: objects()?, bindings: objects()? };
        let (namespaces, definitions, maps) = (objects()?, objects()?, objects()?);
        let sources = Sources { namespaces, definitions, maps, native };
        let standing = Standing {
            engine,
            params: BTreeMap::new(),
            troubles: Vec::new(),
            native: Vec::new(),
            asked: Asked::default(),
            exceptions: Vec::new(),
            unreadable: Vec::new(),
            exceptions_known: true,
            server: None,
        };
        Ok(Self(Arc::new(Shared {
            standing: ArcSwapOption::from_pointee(standing),
            sources,
            changes: watch::Sender::new(Seen::default()),
        })))
    }

    /// Waits until everything was listed once.
    pub(crate) async fn completed(&self) {
        let Sources { mut namespaces, mut definitions, mut maps, mut native } = self.sources();
        namespaces.completed().await;
        definitions.completed().await;
        maps.completed().await;
        native.completed().await;
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
    params: BTreeMap<ParamSource, (Objects, AbortOnDropHandle<()>)>,
    /// How much of memory the parameters of one source may take.
    room: Room,
    compiled: Option<(Vec<PolicyFile>, Arc<InForce>)>,
    /// What was in the way of parameters when it was looked at last.
    lacked: Vec<Trouble>,
    /// Why exceptions were not known when they were looked at last.
    unheard: Option<String>,
    deaf: Option<&'static str>,
    told: BTreeSet<String>,
}

impl Making {
    async fn run(mut self) {
        let mut minor = self.minor().await;
        let mut asked = Instant::now();
        self.maps.completed().await;
        self.definitions.completed().await;
        self.namespaces.completed().await;
        self.excepting.completed().await;
        tracing::info!(version = %version_of(minor), "know namespaces, kinds and policies");
        loop {
            self.bring_up(minor).await;
            let again = after(self.again);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = self.maps.changed() => break,
                    () = self.definitions.changed() => break,
                    () = self.excepting.changed() => break,
                    () = &mut again => break,
                    () = tokio::time::sleep(LOOK) => {
                        self.hear();
                        if asked.elapsed() >= VERSION_AGAIN {
                            asked = Instant::now();
                            if let Some(other) = self.other_minor(minor).await {
                                tracing::info!(version = %version_of(other), "the API server has another version");
                                // Nothing of what was compiled for the other holds.
                                (minor, self.compiled) = (other, None);
                                break;
                            }
                        }
                        if self.lacking() != self.lacked || self.excepting.unheard() != self.unheard {
                            break;
                        }
                    }
                }
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Tells when something was not heard for too long, and when it is heard again.
    fn hear(&mut self) {
        let deaf = self.engines.deaf();
        if deaf != self.deaf {
            match deaf {
                Some(what) => tracing::warn!(
                    what,
                    "not ready: the API server has not been heard of it for too long"
                ),
                None => tracing::info!("hear the API server again"),
            }
            self.deaf = deaf;
            self.meters.deaf.set((), i64::from(deaf.is_some()));
        }
    }

    /// The API server whose rules hold.
    async fn minor(&self) -> Option<u16> {
        let mut backoff = Backoff::within_cluster();
        loop {
            match kubernetes_version(&self.api, self.account.clone()).await {
                Ok(version) => return minor_number(&version),
                Err(error) => tracing::warn!(%error, "cannot ask for the version, try again"),
            }
            tokio::time::sleep(backoff.after_failure(random())).await;
        }
    }

    /// The version of the API server, where it is another than it was: clusters are updated while agents run.
    async fn other_minor(&self, known: Option<u16>) -> Option<Option<u16>> {
        let asked = kubernetes_version(&self.api, self.account.clone());
        let version = tokio::time::timeout(VERSION_WITHIN, asked).await.ok()?.ok()?;
        Some(minor_number(&version)).filter(|minor| *minor != known)
    }

    async fn bring_up(&mut self, minor: Option<u16>) {
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
        self.unheard = self.excepting.unheard();
        let excepted = self.excepting.look(Timestamp::now());
        self.again = excepted.again;
        files.extend(excepted.files);
        let in_force = match &self.compiled {
            Some((before, in_force)) if *before == files => Arc::clone(in_force),
            _ => match self.compile(files, version_of(minor)).await {
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
        let engine = engine.excepting(excepted.exceptions).measuring(minor.unwrap_or(u16::MAX));
        self.watch_params(&engine).await;
        let mut troubles: Vec<Trouble> = faults.iter().map(Trouble::of_file).collect();
        troubles.extend(lost.iter().map(Trouble::of_new_file));
        troubles.extend(in_force.troubles().iter().cloned());
        troubles.extend(excepted.troubles);
        self.lacked = self.lacking();
        troubles.extend(self.lacked.iter().cloned());
        self.put_in_force(Standing {
            engine,
            params: self.watched(),
            troubles,
            native: excepted.wanted,
            asked: excepted.asked,
            exceptions: excepted.objects,
            unreadable: excepted.unreadable,
            exceptions_known: self.unheard.is_none(),
            server: minor,
        });
    }

    async fn compile(&mut self, files: Vec<PolicyFile>, version: Version) -> Option<Arc<InForce>> {
        let texts = files.clone();
        let before = self.compiled.as_ref().map(|(_, in_force)| Arc::clone(in_force));
        let compile = move || match before {
            Some(before) => before.replaced(&texts, version),
            None => InForce::compile(&texts, version),
        };
        let compiled = tokio::task::spawn_blocking(compile).await;
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

    /// Watches the parameters that bindings refer to, and no others; waits until new ones are known, or cannot be, but not for ever.
    async fn watch_params(&mut self, engine: &Engine) {
        let mut sources = engine.in_force().param_sources();
        // A policy with a kind that the cluster does not have, or without the namespaces that its binding names, denies by itself.
        sources.retain(|source| {
            let place = engine.place(&source.kind);
            place.is_some_and(|place| place.is_namespaced || source.namespace.is_none())
        });
        self.room.set(PARAMS_MOST / sources.len().max(1));
        self.params.retain(|source, _| sources.contains(source));
        let mut new = Vec::new();
        for source in sources {
            let Some(place) = engine.place(&source.kind) else { continue };
            if self.params.contains_key(&source) {
                continue;
            }
            let what = watched(&source, &place.resource.resource, &self.room);
            match Objects::watch(&self.api, self.account.clone(), &what) {
                Ok((objects, keeping)) => {
                    let mut tried = objects.clone();
                    new.push(async move { tried.tried().await });
                    let keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
                    self.params.insert(source, (objects, keeping));
                }
                Err(error) => {
                    tracing::warn!(%error, kind = %source.kind, "cannot watch parameters");
                }
            }
        }
        let _ = tokio::time::timeout(PARAMS_WITHIN, futures::future::join_all(new)).await;
    }

    /// What is in the way of parameters.
    fn lacking(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for (source, (objects, _)) in &self.params {
            let mut tell = |told: String| {
                troubles.push(Trouble {
                    file: format!("parameters {}", source.kind),
                    line: 0,
                    what: String::new(),
                    told,
                    instead: "policies that take them deny".to_owned(),
                });
            };
            if let Err(wrong) = objects.is_current() {
                tell(format!(
                    "they cannot be read ({wrong}); let the account `nullius-admission` get, list and watch them"
                ));
            }
            for (namespace, bytes) in objects.too_much() {
                tell(format!(
                    "in `{namespace}` there are {bytes} bytes of them, too many to be known"
                ));
            }
        }
        troubles.sort();
        troubles.dedup();
        troubles
    }

    /// The caches of parameters.
    fn watched(&self) -> BTreeMap<ParamSource, Objects> {
        let params = self.params.iter();
        params.map(|(source, (objects, _))| (source.clone(), objects.clone())).collect()
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

/// What is to be watched for a source: no more than bindings refer to, since not only administrators make parameters.
fn watched(source: &ParamSource, plural: &str, room: &Room) -> Watched {
    let mut what = Watched {
        namespace: source.namespace.clone(),
        room: Some(room.clone()),
        ..Watched::all(&source.kind.api_version(), &source.kind.kind, plural)
    };
    match &source.pick {
        Pick::Named(name) => what.name = Some(name.clone()),
        Pick::Selected(selector) => what.labels = Some(selector.to_string()),
    }
    what
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

/// What holds in a minor version; where nobody can say which, in the newest.
fn version_of(minor: Option<u16>) -> Version {
    minor.map_or(Version::LATEST, Version::minor)
}

/// The minor version of `v1.36.3` or `v1.34+`, where it says one.
pub(crate) fn minor_number(version: &str) -> Option<u16> {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
