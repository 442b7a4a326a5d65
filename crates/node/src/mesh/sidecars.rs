//! The node's side of proxies beside pods' containers: who asks is known by the kernel, and given what is their own pod's.
//!
//! A proxy has no capability. What it cannot make itself, listeners to which traffic is led and sockets past the rules, it is handed; so a
//! pod whose proxy is away has neither, and nobody else gets them but who has the volume in which this socket stands.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nullius_mesh::{
    Caller, HostSockets,
    news::{Mode, write_news},
};
use nullius_redirect::{Mark, Network};
use nullius_workload::{Attestor, PodUid, Resident};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{KnownView, addresses::Addresses, relay::Relay};
use crate::{
    NodeError,
    sidecar::wire::{
        Answer, Ask, BATCH, Called, Family, LINE_MAX, OF_MESH, OF_POD, OwnPod, Side, line, send,
    },
};

/// Connections of one pod: its proxy has two, and so has the one that replaces it.
const OF_ONE: usize = 6;
/// How long a question may take to be asked, once it has begun, and an answer to be taken.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a proxy is kept waiting for its pod to be known before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two answers on a connection: nobody keeps the node busy with questions.
const PACE: Duration = Duration::from_millis(1);
/// News are told at once, and then no more often than this.
const EVERY: Duration = Duration::from_millis(250);
/// How long nothing is accepted after the system had no room.
const NO_ROOM: Duration = Duration::from_millis(100);

/// A pod whose traffic its own proxy is to take.
pub(crate) struct Beside {
    /// `NAMESPACE/NAME`.
    pub(crate) name: Arc<str>,
    pub(crate) network: Arc<Network>,
    pub(crate) mark: Mark,
    /// Those that it was given when it began.
    pub(crate) addresses: Vec<IpAddr>,
}

/// All of them: rules lead their traffic to where their proxies listen.
pub(crate) type Places = BTreeMap<PodUid, Arc<Beside>>;

/// What answers them.
pub(crate) struct Sidecars {
    pub(crate) node: String,
    pub(crate) attestor: Attestor,
    pub(crate) places: watch::Receiver<Places>,
    pub(crate) known: KnownView,
    pub(crate) addresses: watch::Receiver<Addresses>,
    pub(crate) host: Option<Arc<HostSockets>>,
    pub(crate) connected: Mutex<BTreeMap<PodUid, usize>>,
}

/// The directory that proxies get, and the socket in it.
pub(crate) fn folder(cni_socket: &Path) -> PathBuf {
    cni_socket.with_file_name("proxy")
}

/// Binds the socket, to which everybody may connect who has the directory.
pub(crate) fn bind(folder: &Path) -> Result<UnixListener, NodeError> {
    let path = folder.join("node.sock");
    let bound = || {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        nullius_workload::bind(&path)
    };
    bound().map_err(|source| NodeError::Socket { path: path.clone(), source })
}

/// Answers until it is told to stop.
pub(crate) async fn serve(
    sidecars: Arc<Sidecars>,
    listener: UnixListener,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let sidecars = Arc::clone(&sidecars);
                connections.spawn(async move { sidecars.connection(stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "fail to accept a proxy");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
    connections.shutdown().await;
}

impl Sidecars {
    async fn connection(&self, stream: UnixStream) {
        let resident = match Resident::of(&stream, &self.attestor) {
            Ok(Some(resident)) => resident,
            Ok(None) => {
                tracing::info!("refuse a proxy that runs in no pod");
                return;
            }
            Err(error) => {
                tracing::info!(%error, "refuse a proxy that is not known");
                return;
            }
        };
        let pod = resident.pod();
        let Some(_counted) = self.count(pod) else {
            tracing::info!(%pod, most = OF_ONE, "refuse a proxy: its pod has too many connections");
            return;
        };
        tokio::select! {
            // Whoever else holds the connection is not who was looked at.
            () = resident.ended() => {}
            ended = self.converse(stream, pod) => if let Err(error) = ended {
                tracing::debug!(%error, %pod, "end the connection of a proxy");
            },
        }
    }

    fn count(&self, pod: &PodUid) -> Option<Counted<'_>> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pod = connected.entry(pod.clone()).or_default();
        if *of_pod >= OF_ONE {
            return None;
        }
        *of_pod += 1;
        Some(Counted { of: &self.connected, pod: pod.clone() })
    }

    /// Answers one connection of a process of a pod.
    async fn converse(&self, mut stream: UnixStream, pod: &PodUid) -> io::Result<()> {
        while let Some(ask) = read(&mut stream).await? {
            let next = Instant::now() + PACE;
            // Whoever wants sockets is not kept waiting: there are callers behind them.
            let patience = if ask == Ask::News { PATIENCE } else { Duration::ZERO };
            let place = match self.place(pod, patience).await {
                Ok(place) => place,
                Err(answer) => return write(&stream, &answer, &[]).await,
            };
            match ask {
                Ask::News => return self.tell(stream, pod, &place).await,
                Ask::Listeners => {
                    let (answer, all) = listeners(place).await;
                    write(&stream, &answer, &all).await?;
                }
                Ask::Sockets { side, family } => {
                    let (answer, all) = sockets(&place, side, family);
                    write(&stream, &answer, &all).await?;
                }
                Ask::Caller { client, at } => {
                    // Of calls to others it is told nothing.
                    let is_own = self.is_own(pod, &place, at.ip());
                    let host = self.host.as_ref().filter(|_| is_own);
                    let caller = host.map_or(Caller::Unknown, |host| host.caller(client, at));
                    write(&stream, &Answer::Caller(Called::from(caller)), &[]).await?;
                }
            }
            sleep_until(next).await;
        }
        Ok(())
    }

    fn is_own(&self, pod: &PodUid, place: &Beside, address: IpAddr) -> bool {
        let known = self.known.borrow();
        let own = known.as_ref().and_then(|known| known.own.get(pod.as_str()));
        place.addresses.contains(&address)
            || own.is_some_and(|own| own.addresses.contains(&address))
    }

    /// The pod's place, as soon as its traffic is led; or what there is to say instead.
    async fn place(&self, pod: &PodUid, patience: Duration) -> Result<Arc<Beside>, Answer> {
        let (mut places, mut known) = (self.places.clone(), self.known.clone());
        let deadline = Instant::now() + patience;
        loop {
            if let Some(place) = places.borrow_and_update().get(pod) {
                return Ok(Arc::clone(place));
            }
            let mode = known
                .borrow_and_update()
                .as_ref()
                .and_then(|known| known.own.get(pod.as_str()).map(|own| own.mode));
            let why = match mode {
                Some(Mode::None) => {
                    "the pod is not in the mesh: its namespace has to say `nullius.dev/mesh: sidecar`, or the pod where its namespace says nothing"
                }
                Some(Mode::Node) => {
                    "the node leads the pod itself: the pod has to have the label `nullius.dev/mesh: sidecar`, in a namespace that does not say `node`"
                }
                Some(Mode::Sidecar) | None => {
                    let changed = async {
                        tokio::select! {
                            changed = places.changed() => changed,
                            changed = known.changed() => changed,
                        }
                    };
                    match timeout_at(deadline, changed).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(_)) | Err(_) => {
                            let why = "the pod's traffic is not led yet: the node's log says why";
                            return Err(Answer::Later(why.to_owned()));
                        }
                    }
                }
            };
            return Err(Answer::Refused(why.to_owned()));
        }
    }

    /// Tells what stands, and what changes, for as long as the pod has this place.
    async fn tell(&self, stream: UnixStream, pod: &PodUid, place: &Arc<Beside>) -> io::Result<()> {
        write(&stream, &Answer::News, &[]).await?;
        let (mut reader, mut writer) = stream.into_split();
        let mut places = self.places.clone();
        let telling = async {
            let (mut known, mut addresses) = (self.known.clone(), self.addresses.clone());
            let (mut relay, mut told) = (Relay::new(pod.as_str().into()), None);
            loop {
                let of_node = addresses.borrow_and_update().clone();
                let own = OwnPod {
                    uid: pod.to_string(),
                    name: place.name.to_string(),
                    node: self.node.clone(),
                    addresses: place.addresses.clone(),
                    node_addresses: of_node.iter().copied().collect(),
                };
                let now = known.borrow_and_update().clone();
                if told.as_ref() != Some(&own) {
                    frame(&mut writer, OF_POD, &serde_json::to_vec(&own)?).await?;
                    told = Some(own);
                }
                if let Some(news) = now.and_then(|known| relay.news(&known.picture)) {
                    let message = nullius_proto::encode(&write_news(&news));
                    frame(&mut writer, OF_MESH, &message).await?;
                    tokio::time::sleep(EVERY).await;
                }
                tokio::select! {
                    changed = known.changed() => if changed.is_err() { return Ok(()) },
                    changed = addresses.changed() => if changed.is_err() { return Ok(()) },
                }
            }
        };
        let is_another =
            |places: &Places| !places.get(pod).is_some_and(|it| Arc::ptr_eq(it, place));
        tokio::select! {
            told = telling => told,
            _ = places.wait_for(is_another) => Ok(()),
            // It says nothing more: this is its end.
            _ = reader.read_u8() => Ok(()),
        }
    }
}

/// A connection that counts as one of its pod's.
struct Counted<'c> {
    of: &'c Mutex<BTreeMap<PodUid, usize>>,
    pod: PodUid,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut connected = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_pod) = connected.get_mut(&self.pod) {
            *of_pod -= 1;
            if *of_pod == 0 {
                connected.remove(&self.pod);
            }
        }
    }
}

async fn listeners(place: Arc<Beside>) -> (Answer, Vec<OwnedFd>) {
    let made = tokio::task::spawn_blocking(move || place.network.listen(place.mark)).await;
    match made {
        Ok(Ok(made)) => {
            let inbound = made.inbound.len();
            let all = made.inbound.into_iter().chain(made.outbound);
            (Answer::Listeners { inbound }, all.map(OwnedFd::from).collect())
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let why = format!("{error}: {}", cause.unwrap_or_default());
            (Answer::Later(why), Vec::new())
        }
        Err(error) => (Answer::Later(error.to_string()), Vec::new()),
    }
}

fn sockets(place: &Beside, side: Side, family: Family) -> (Answer, Vec<OwnedFd>) {
    let of = match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let one = || match side {
        Side::Out => place.network.connect_out(place.mark, of),
        Side::In => place.network.borrow(of),
    };
    let made: io::Result<Vec<OwnedFd>> = (0..BATCH).map(|_| one().map(OwnedFd::from)).collect();
    match made {
        Ok(made) => (Answer::Sockets, made),
        Err(error) => (Answer::Later(error.to_string()), Vec::new()),
    }
}

/// Reads a line; nothing where the other end has said all.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Ask>> {
    let mut line = Vec::new();
    let mut some = [0; 512];
    let first = stream.read(&mut some).await?;
    if first == 0 {
        return Ok(None);
    }
    line.extend(some.get(..first).unwrap_or_default());
    let rest = async {
        loop {
            if let Some(ask) = line.strip_suffix(b"\n") {
                return Ok(Some(serde_json::from_slice(ask)?));
            }
            if line.len() > LINE_MAX {
                return Err(io::Error::other("the question is too long"));
            }
            let read = stream.read(&mut some).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.extend(some.get(..read).unwrap_or_default());
        }
    };
    timeout(WITHIN, rest).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn write(stream: &UnixStream, answer: &Answer, descriptors: &[OwnedFd]) -> io::Result<()> {
    let bytes = line(answer)?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|it| it.as_fd()).collect();
    let sending = async {
        let mut sent = 0;
        while sent < bytes.len() {
            let left = bytes.get(sent..).unwrap_or_default();
            // They go with the first byte.
            let beside = if sent == 0 { descriptors.as_slice() } else { &[] };
            sent += stream.async_io(Interest::WRITABLE, || send(stream, left, beside)).await?;
        }
        Ok(())
    };
    timeout(WITHIN, sending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn frame(
    writer: &mut tokio::net::unix::OwnedWriteHalf,
    kind: u8,
    body: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let writing = async {
        writer.write_u32(length).await?;
        writer.write_u8(kind).await?;
        writer.write_all(body).await
    };
    timeout(WITHIN, writing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
