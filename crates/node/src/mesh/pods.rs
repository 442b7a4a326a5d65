//! Which pods of this node are led, and each of them from its network to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use nullius_mesh::{
    Captured, CapturedParts, HostSockets, Neighbours, Seen, World,
    news::{Mode, Uid, Workload},
};
use nullius_redirect::{Listeners, Mark, Network, NetworkId, RedirectError, Tag};
use nullius_workload::{CgroupRoot, Holdings, PodUid};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    KnownView,
    addresses::Addresses,
    find,
    known::Known,
    sidecars::{Beside, Places},
    sockets::PodSockets,
    world::WorldMaker,
};
use crate::cni::Attachments;

/// Pods whose traffic is led, and in which network.
pub(crate) type Led = BTreeMap<Uid, NetworkId>;

/// Networks that nobody handed over are looked for again after so long, and each time twice as long, to the longest.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_SELDOM: Duration = Duration::from_secs(60);
/// Between two tries to lead a pod.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How long open calls have when a pod is led no more, or the node ends.
const DRAIN: Duration = Duration::from_secs(5);

/// What it works with.
pub(crate) struct Parts {
    pub(crate) cgroups: CgroupRoot,
    pub(crate) secret: Secret,
    pub(crate) known: KnownView,
    pub(crate) attachments: watch::Receiver<Attachments>,
    pub(crate) holdings: watch::Receiver<Option<Arc<Holdings>>>,
    pub(crate) addresses: watch::Receiver<Addresses>,
    /// By which probes are told from calls of others; without, there are none.
    pub(crate) host: Option<Arc<HostSockets>>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) led: watch::Sender<Led>,
    /// Those whose own proxies take what is led.
    pub(crate) places: watch::Sender<Places>,
}

/// What the marks of pods are made of: the same after a restart, and nobody else's to know.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// That of a node, which is made where there is none.
    pub(crate) fn of(state: &Path) -> io::Result<Self> {
        let path = state.join("marks");
        let mut secret = [0; 32];
        match File::open(&path) {
            Ok(mut file) => file.read_exact(&mut secret)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open("/dev/urandom")?.read_exact(&mut secret)?;
                let beside = state.join("marks.new");
                let _ = fs::remove_file(&beside);
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
                file.write_all(&secret)?;
                file.sync_all()?;
                fs::rename(&beside, &path)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self(secret))
    }

    /// The name of a pod's network. It is no secret, and says nothing of the mark.
    fn tag(&self, pod: &str) -> Tag {
        let digest = Sha256::new_with_prefix(self.0).chain_update("network of ").chain_update(pod);
        Tag::new(digest.finalize().first_chunk().copied().unwrap_or_default())
    }

    fn mark(&self, pod: &str) -> Mark {
        let mut digest = Sha256::new_with_prefix(self.0).chain_update(pod).finalize();
        loop {
            let number = digest.first_chunk().copied().map_or(0, u32::from_ne_bytes);
            if let Some(mark) = Mark::new(number) {
                return mark;
            }
            digest = Sha256::digest(digest);
        }
    }
}

/// Leads all pods of the node that are in the mesh.
pub(crate) struct Leader {
    parts: Parts,
    running: BTreeMap<Uid, Running>,
    tasks: JoinSet<Uid>,
    /// Networks that were found, of pods that nobody handed over.
    found: BTreeMap<Uid, Arc<Network>>,
    /// Pods outside of the mesh in which nothing is left of a time when they were in it, before this process.
    clean: BTreeSet<Uid>,
    missing: Missing,
}

/// Pods whose networks are looked for: all processes of the node are read for that.
#[derive(Debug, Default)]
struct Missing(BTreeMap<Uid, (Instant, Duration)>);

impl Missing {
    /// When it is to be looked again.
    fn due(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }

    /// Whether it is to be looked for one of these; others are not looked for any more.
    fn is_time<'u>(&mut self, all: impl Iterator<Item = &'u Uid>, now: Instant) -> bool {
        let all: BTreeSet<&Uid> = all.collect();
        self.0.retain(|uid, _| all.contains(uid));
        all.into_iter().any(|uid| self.0.get(uid).is_none_or(|(due, _)| *due <= now))
    }

    /// It was looked, and these were not found.
    fn looked<'u>(&mut self, still: impl Iterator<Item = &'u Uid>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for uid in still {
            let wait = match before.remove(uid) {
                Some((due, wait)) if due > now => (due, wait),
                Some((_, wait)) => {
                    let wait = (wait * 2).min(LOOK_SELDOM);
                    (now + wait, wait)
                }
                None => (now + LOOK_AGAIN, LOOK_AGAIN),
            };
            self.0.insert(uid.clone(), wait);
        }
    }
}

/// A pod that is led, or soon.
struct Running {
    network: NetworkId,
    mode: Mode,
    end: watch::Sender<Option<Why>>,
}

/// Why a pod is led no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is gone, or has another network, or this process ends: the rules stay.
    Gone,
    /// It has left the mesh, and goes on without.
    Left,
}

impl Leader {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            found: BTreeMap::new(),
            clean: BTreeSet::new(),
            missing: Missing::default(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut known = self.parts.known.clone();
        let mut attachments = self.parts.attachments.clone();
        loop {
            let now = known.borrow_and_update().clone();
            attachments.mark_unchanged();
            if let Some(now) = now {
                self.reconcile(&now).await;
            }
            let look_again = self.missing.due();
            let look_again = async {
                match look_again {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = known.changed() => if changed.is_err() { break },
                changed = attachments.changed() => if changed.is_err() { break },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(ended),
                () = look_again => {}
            }
        }
        for running in self.running.values() {
            running.end.send_replace(Some(Why::Gone));
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn ended(&mut self, ended: Result<Uid, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                // A pod with a new network runs already anew.
                if self
                    .running
                    .get(&uid)
                    .is_some_and(|it| it.end.borrow().is_some() || it.end.is_closed())
                {
                    self.running.remove(&uid);
                }
            }
            Err(error) => {
                tracing::error!(%error, "lose a pod that was led");
                self.running.retain(|_, running| !running.end.is_closed());
            }
        }
    }

    /// Begins and ends what is to be.
    async fn reconcile(&mut self, known: &Known) {
        let all = known.picture.workloads();
        let own = known.own.iter();
        let wanted: BTreeMap<&Uid, &Arc<Workload>> =
            own.filter(|(_, pod)| pod.mode != Mode::None).collect();
        let outside = known.own.iter().filter(|(_, pod)| pod.mode == Mode::None);
        let outside: BTreeSet<&Uid> =
            outside.filter(|(_, pod)| !pod.addresses.is_empty()).map(|(uid, _)| uid).collect();
        self.found.retain(|uid, _| wanted.contains_key(uid));
        self.clean.retain(|uid| outside.contains(uid));
        for (uid, running) in &self.running {
            if !wanted.contains_key(uid) {
                let why = if all.contains_key(uid) { Why::Left } else { Why::Gone };
                running.end.send_replace(Some(why));
            }
        }
        let mut handed: BTreeMap<String, (Arc<Network>, Vec<IpAddr>)> = BTreeMap::new();
        for attachment in self.parts.attachments.borrow().values() {
            let given = (Arc::clone(&attachment.network), attachment.addresses.clone());
            handed.insert(attachment.pod.uid.clone(), given);
        }
        let is_nowhere = |uid: &Uid| {
            !handed.contains_key(&**uid)
                && !self.found.contains_key(uid)
                && !self.running.contains_key(uid)
        };
        // Without addresses a pod has no network yet: the plugin will hand it over.
        let missing: BTreeMap<PodUid, Uid> = wanted
            .iter()
            .filter(|(uid, pod)| is_nowhere(uid) && !pod.addresses.is_empty())
            .map(|(uid, _)| *uid)
            .chain(
                outside.iter().copied().filter(|uid| is_nowhere(uid) && !self.clean.contains(*uid)),
            )
            .filter_map(|uid| Some((uid.parse().ok()?, Arc::clone(uid))))
            .collect();
        let now = Instant::now();
        if self.missing.is_time(missing.values(), now) {
            let (pods, root) =
                (missing.keys().cloned().collect::<BTreeSet<_>>(), self.parts.cgroups.clone());
            let found = tokio::task::spawn_blocking(move || find::networks(&pods, &root)).await;
            for (pod, network) in found.unwrap_or_default() {
                let Some(uid) = missing.get(&pod) else { continue };
                if !outside.contains(uid) {
                    self.found.insert(uid.clone(), network);
                } else if clear(uid, network).await {
                    self.clean.insert(uid.clone());
                }
            }
            let still = missing
                .values()
                .filter(|uid| !self.found.contains_key(*uid) && !self.clean.contains(*uid));
            self.missing.looked(still, Instant::now());
        }
        for (uid, pod) in wanted {
            let given = handed.get(&**uid).cloned();
            let given = given.or_else(|| Some((Arc::clone(self.found.get(uid)?), Vec::new())));
            if let Some((network, addresses)) = given {
                self.lead(uid, pod, network, addresses);
            }
        }
    }

    fn lead(&mut self, uid: &Uid, pod: &Workload, network: Arc<Network>, addresses: Vec<IpAddr>) {
        if let Some(running) = self.running.get(uid) {
            if running.network == network.id() && running.mode == pod.mode {
                return;
            }
            running.end.send_replace(Some(Why::Gone));
        }
        let Ok(pod_uid) = uid.parse::<PodUid>() else {
            tracing::warn!(pod = %uid, "pass over a pod whose UID no cgroup can have");
            return;
        };
        let (end, told) = watch::channel(None);
        let running = Running { network: network.id(), mode: pod.mode, end };
        self.running.insert(Arc::clone(uid), running);
        let one = Pod {
            uid: Arc::clone(uid),
            name: format!("{}/{}", pod.namespace, pod.name).into(),
            mark: self.parts.secret.mark(uid),
            tag: self.parts.secret.tag(uid),
            network,
            beside: (pod.mode == Mode::Sidecar).then(|| (pod_uid.clone(), addresses.clone())),
            places: self.parts.places.clone(),
            maker: WorldMaker::new(pod_uid, addresses),
            known: self.parts.known.clone(),
            holdings: self.parts.holdings.clone(),
            addresses: self.parts.addresses.clone(),
            host: self.parts.host.clone(),
            seen: Arc::clone(&self.parts.seen),
            led: self.parts.led.clone(),
            end: told,
        };
        self.tasks.spawn(one.run());
    }
}

/// One pod that is led.
struct Pod {
    uid: Uid,
    name: Arc<str>,
    mark: Mark,
    tag: Tag,
    network: Arc<Network>,
    /// Who it is, and its addresses, where its own proxy takes its traffic.
    beside: Option<(PodUid, Vec<IpAddr>)>,
    places: watch::Sender<Places>,
    maker: WorldMaker,
    known: KnownView,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    addresses: watch::Receiver<Addresses>,
    host: Option<Arc<HostSockets>>,
    seen: Arc<Seen>,
    led: watch::Sender<Led>,
    end: watch::Receiver<Option<Why>>,
}

/// Who takes the traffic that is led.
enum Begun {
    /// This process, by what decides.
    Here(Captured, watch::Sender<Option<Arc<World>>>),
    /// A proxy in the pod.
    Beside(PodUid, Arc<Beside>),
}

impl Pod {
    async fn run(mut self) -> Uid {
        let why = match self.begin().await {
            Ok(Begun::Here(captured, world)) => {
                tracing::info!(pod = %self.name, "lead the traffic of a pod");
                self.tell_led();
                let why = self.follow(&world).await;
                self.tell_not_led();
                let _ = tokio::time::timeout(DRAIN, captured.stop()).await;
                why
            }
            Ok(Begun::Beside(pod, place)) => self.stand_aside(pod, place).await,
            Err(why) => why,
        };
        if why == Why::Left && clear(&self.name, Arc::clone(&self.network)).await {
            tracing::info!(pod = %self.name, "lead a pod no more");
        }
        self.uid
    }

    fn tell_led(&self) {
        let network = self.network.id();
        self.led.send_modify(|all| {
            all.insert(Arc::clone(&self.uid), network);
        });
    }

    fn tell_not_led(&self) {
        let network = self.network.id();
        self.led.send_if_modified(|all| {
            all.get(&self.uid) == Some(&network) && all.remove(&self.uid).is_some()
        });
    }

    /// Leaves the traffic to the pod's own proxy. Until that listens nothing passes, and nobody here takes its place.
    async fn stand_aside(&mut self, pod: PodUid, place: Arc<Beside>) -> Why {
        tracing::info!(pod = %self.name, "lead the traffic of a pod to its own proxy");
        self.places.send_modify(|all| {
            all.insert(pod.clone(), Arc::clone(&place));
        });
        self.tell_led();
        let why = ended(&mut self.end).await;
        self.tell_not_led();
        self.places.send_if_modified(|all| {
            let is_this = all.get(&pod).is_some_and(|it| Arc::ptr_eq(it, &place));
            is_this && all.remove(&pod).is_some()
        });
        why
    }

    /// Leads the traffic, and takes it here where nobody else is to.
    async fn try_to_begin(&mut self) -> Result<Begun, String> {
        let Some((pod, addresses)) = self.beside.clone() else {
            let listeners = self.listeners().await.map_err(|error| told(&error))?;
            return self.capture(listeners).map_err(|error| error.to_string());
        };
        let (network, mark, tag) = (Arc::clone(&self.network), self.mark, self.tag.clone());
        let install = move || network.install(mark).and_then(|()| network.tag(&tag));
        let installed = tokio::task::spawn_blocking(install).await;
        installed.map_err(|error| error.to_string())?.map_err(|error| told(&error))?;
        let network = Arc::clone(&self.network);
        let name = Arc::clone(&self.name);
        let tag = self.tag.clone();
        Ok(Begun::Beside(pod, Arc::new(Beside { name, network, mark, tag, addresses })))
    }

    /// The same, however often that must be tried.
    async fn begin(&mut self) -> Result<Begun, Why> {
        let mut told = String::new();
        loop {
            match self.try_to_begin().await {
                Ok(begun) => return Ok(begun),
                Err(error) if error != told => {
                    tracing::warn!(%error, pod = %self.name, "fail to lead the traffic of a pod");
                    told = error;
                }
                Err(_) => {}
            }
            tokio::select! {
                why = ended(&mut self.end) => return Err(why),
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
        }
    }

    async fn listeners(&self) -> Result<Listeners, RedirectError> {
        let (network, mark) = (Arc::clone(&self.network), self.mark);
        let installed = tokio::task::spawn_blocking(move || {
            network.install(mark)?;
            network.listen(mark)
        });
        installed.await.map_err(|error| RedirectError::Thread(io::Error::other(error)))?
    }

    fn capture(&mut self, listeners: Listeners) -> io::Result<Begun> {
        let (tell, world) = watch::channel(self.world());
        let captured = Captured::start(CapturedParts {
            name: Arc::clone(&self.name),
            world,
            sockets: Arc::new(PodSockets {
                network: Arc::clone(&self.network),
                mark: self.mark,
                host: self.host.clone(),
            }),
            inbound: listeners.inbound,
            outbound: listeners.outbound,
            seen: self.seen.workload(&self.uid, Arc::clone(&self.name), Neighbours::Some),
        })?;
        Ok(Begun::Here(captured, tell))
    }

    /// Keeps what decides as it is known, to the end.
    async fn follow(&mut self, tell: &watch::Sender<Option<Arc<World>>>) -> Why {
        loop {
            tokio::select! {
                why = ended(&mut self.end) => return why,
                changed = self.known.changed() => if changed.is_err() { return Why::Gone },
                changed = self.holdings.changed() => if changed.is_err() { return Why::Gone },
                changed = self.addresses.changed() => if changed.is_err() { return Why::Gone },
            }
            let world = self.world();
            tell.send_if_modified(|before| {
                let is_same = match (&*before, &world) {
                    (Some(before), Some(world)) => Arc::ptr_eq(before, world),
                    (None, None) => true,
                    _ => false,
                };
                *before = world;
                !is_same
            });
        }
    }

    fn world(&mut self) -> Option<Arc<World>> {
        let known = self.known.borrow_and_update().clone()?;
        let holdings = self.holdings.borrow_and_update().clone()?;
        let addresses = self.addresses.borrow_and_update().clone();
        let workload = known.own.get(&self.uid)?;
        self.maker.make(&known, workload, &holdings, &addresses)
    }
}

fn told(error: &RedirectError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Takes away what leads a pod; whether nothing of it is left.
async fn clear(pod: &str, network: Arc<Network>) -> bool {
    let removed = tokio::task::spawn_blocking(move || network.remove()).await;
    let error = match removed {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(%error, %pod, "fail to take rules away");
    false
}

async fn ended(end: &mut watch::Receiver<Option<Why>>) -> Why {
    match end.wait_for(Option::is_some).await {
        Ok(why) => (*why).unwrap_or(Why::Gone),
        Err(_) => Why::Gone,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_not_found_is_looked_for_ever_more_seldom() {
        let (one, other): (Uid, Uid) = ("one".into(), "other".into());
        let mut missing = Missing::default();
        let begun = Instant::now();
        let mut looks = 0;
        while begun.elapsed() < Duration::from_secs(3_600) {
            assert!(missing.is_time([&one].into_iter(), Instant::now()));
            looks += 1;
            missing.looked([&one].into_iter(), Instant::now());
            // News of others in between bring no look.
            assert!(!missing.is_time([&one].into_iter(), Instant::now()));
            tokio::time::sleep_until(missing.due().unwrap()).await;
        }
        assert!((60..=70).contains(&looks), "{looks}");
        // One that comes anew is looked for at once.
        assert!(missing.is_time([&one, &other].into_iter(), begun));
        assert!(!missing.is_time([].into_iter(), begun));
        assert_eq!(missing.due(), None);
    }
}
