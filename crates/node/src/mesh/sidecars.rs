//! The node's side of proxies beside pods' containers: who asks is known by the kernel, and given what is their own pod's.
//!
//! A proxy has no capability. What it cannot make itself, listeners to which traffic is led, it is handed; sockets that it has made get the
//! rights to go past the rules. So a pod whose proxy is away has neither, and nobody else gets them but who has the volume in which this
//! socket stands.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    net::IpAddr,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nullius_mesh::{Caller, HostSockets, news::Mode};
use nullius_redirect::{Mark, Network, NotAdded, Tag};
use nullius_workload::{Attestor, PodUid, Resident};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    KnownView,
    addresses::Addresses,
    guests::{Guest, Guests, Seat, Stranger},
    relay::{Relay, Steps},
};
use crate::{
    NodeError,
    descriptors::{Gathered, Line, send, some},
    sidecar::wire::{Answer, Ask, Called, Family, LINE_MAX, OF_MESH, OF_POD, OwnPod, Side, line},
};

/// How long a question may take to be asked, once it has begun, and an answer to be taken.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a proxy is kept waiting for its pod to be known before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a step of the news may take to be heard as a whole.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// So many of those who connect are looked at at once.
const LOOKS: usize = 4;
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
    /// The name of its network.
    pub(crate) tag: Tag,
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
    pub(crate) guests: Guests,
    pub(crate) steps: Arc<Steps>,
    /// See [`looks`].
    pub(crate) looks: Semaphore,
}

/// Who connects is looked at by reading files, of which not many are read at a time.
pub(crate) fn looks() -> Semaphore {
    Semaphore::new(LOOKS)
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
        // This costs next to nothing, however often somebody connects.
        let process = stream.peer_cred().ok().and_then(|caller| caller.pid());
        let Some(stranger) = process.and_then(|process| self.guests.stranger(process)) else {
            tracing::debug!(process, "refuse a proxy: it connects too often");
            return;
        };
        let Some((stream, resident, seat)) = self.admit(stream, &stranger).await else { return };
        drop(stranger);
        let pod = resident.pod();
        tokio::select! {
            // Whoever else holds the connection is not who was looked at.
            () = resident.ended() => {}
            ended = self.converse(stream, pod, &seat.guest) => if let Err(error) = ended {
                tracing::debug!(%error, %pod, "end the connection of a proxy");
            },
        }
    }

    /// Looks at who connects.
    async fn admit(
        &self,
        stream: UnixStream,
        stranger: &Stranger<'_>,
    ) -> Option<(UnixStream, Resident, Seat)> {
        let _look = self.looks.acquire().await.ok()?;
        let attestor = self.attestor.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let resident = Resident::of(&stream, &attestor);
            (stream, resident)
        });
        let (stream, resident) = looked.await.ok()?;
        let resident = match resident {
            Ok(Some(resident)) => resident,
            Ok(None) => {
                stranger.refuse();
                tracing::info!("refuse a proxy that runs in no pod");
                return None;
            }
            Err(error) => {
                stranger.refuse();
                tracing::info!(%error, "refuse a proxy that is not known");
                return None;
            }
        };
        let Some(seat) = self.guests.seat(resident.pod(), stranger) else {
            tracing::info!(pod = %resident.pod(), "refuse a proxy: its pod has too many connections");
            return None;
        };
        Some((stream, resident, seat))
    }

    /// Answers one connection of a process of a pod.
    async fn converse(&self, stream: UnixStream, pod: &PodUid, guest: &Guest) -> io::Result<()> {
        while let Some((ask, beside)) = read(&stream).await? {
            guest.turn().await;
            // Whoever wants sockets is not kept waiting: there are callers behind them.
            let patience = if ask == Ask::News { PATIENCE } else { Duration::ZERO };
            let place = match self.place(pod, patience).await {
                Ok(place) => place,
                Err(answer) => return write(&stream, &answer, &[]).await,
            };
            match ask {
                Ask::News => {
                    let Some(end) = guest.stream() else {
                        let why = "the mesh was told to this pod too often: ask in ten seconds";
                        return write(&stream, &Answer::Later(why.to_owned()), &[]).await;
                    };
                    return self.tell(stream, pod, &place, end).await;
                }
                Ask::Listeners => {
                    let (answer, all) = listeners(place).await;
                    write(&stream, &answer, &all).await?;
                }
                Ask::Sockets { side, family } => {
                    let answer = match let_pass(place, side, family, beside).await {
                        Ok(answer) => answer,
                        Err(refused) => {
                            // The kernel looks for a device of that name at length.
                            guest.slow_down().await;
                            tracing::warn!(%pod, why = %refused, "refuse a socket of a proxy");
                            Answer::Refused(format!("a socket gets no rights: {refused}"))
                        }
                    };
                    write(&stream, &answer, &[]).await?;
                }
                Ask::Caller { client, at } => {
                    // Of calls to others it is told nothing.
                    let is_own = self.is_own(pod, &place, at.ip());
                    let host = self.host.as_ref().filter(|_| is_own);
                    let caller = host.map_or(Caller::Unknown, |host| host.caller(client, at));
                    write(&stream, &Answer::Caller(Called::from(caller)), &[]).await?;
                }
            }
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

    /// Tells what stands, and what changes, for as long as the pod has this place and asks for it no other time.
    async fn tell(
        &self,
        stream: UnixStream,
        pod: &PodUid,
        place: &Arc<Beside>,
        end: CancellationToken,
    ) -> io::Result<()> {
        write(&stream, &Answer::News, &[]).await?;
        let (reader, mut writer) = stream.into_split();
        let mut places = self.places.clone();
        let is_another =
            |places: &Places| !places.get(pod).is_some_and(|it| Arc::ptr_eq(it, place));
        tokio::select! {
            told = self.tell_on(&mut writer, pod, place) => told,
            _ = places.wait_for(is_another) => Ok(()),
            () = end.cancelled() => Ok(()),
            () = said_something(reader) => Ok(()),
        }
    }

    async fn tell_on(
        &self,
        writer: &mut OwnedWriteHalf,
        pod: &PodUid,
        place: &Arc<Beside>,
    ) -> io::Result<()> {
        let (mut known, mut addresses) = (self.known.clone(), self.addresses.clone());
        let namespace = place.name.split('/').next().unwrap_or_default();
        let (mut relay, mut told) = (Relay::new(pod.as_str().into(), namespace), None);
        loop {
            let of_node = addresses.borrow_and_update().clone();
            let own = OwnPod {
                uid: pod.to_string(),
                name: place.name.to_string(),
                node: self.node.clone(),
                addresses: place.addresses.clone(),
                node_addresses: of_node.iter().copied().collect(),
            };
            if told.as_ref() != Some(&own) {
                frame(writer, OF_POD, &serde_json::to_vec(&own)?).await?;
                told = Some(own);
            }
            let now = known.borrow_and_update().as_ref().map(|known| Arc::clone(&known.picture));
            if let Some(now) = now
                && !relay.told().is_some_and(|told| Arc::ptr_eq(told, &now))
            {
                let (steps, told) = (Arc::clone(&self.steps), relay.told().cloned());
                let next = tokio::task::spawn_blocking(move || steps.next(told.as_ref(), &now));
                let mut telling = relay.tell(next.await.map_err(io::Error::other)?);
                let step = async {
                    while let Some(message) = relay.message(&mut telling) {
                        frame(writer, OF_MESH, &message).await?;
                    }
                    Ok::<(), io::Error>(())
                };
                timeout(STEP_WITHIN, step).await.map_err(|_| io::ErrorKind::TimedOut)??;
                tokio::time::sleep(EVERY).await;
                // What was told may have been of a moment ago.
                continue;
            }
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return Ok(()) },
                changed = addresses.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

/// Nothing more is to be said where news are heard: it is the end.
async fn said_something(mut reader: OwnedReadHalf) {
    let _ = reader.read_u8().await;
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

/// Adds the rights to sockets that a proxy has made: they are the pod's own, and so is their memory.
async fn let_pass(
    place: Arc<Beside>,
    side: Side,
    family: Family,
    sockets: Vec<OwnedFd>,
) -> Result<Answer, NotAdded> {
    let is_ipv6 = family == Family::V6;
    let all = move || {
        sockets.iter().try_for_each(|socket| match side {
            Side::Out => place.tag.let_out(socket.as_fd(), is_ipv6, place.mark),
            Side::In => place.tag.let_in(socket.as_fd(), is_ipv6),
        })
    };
    match tokio::task::spawn_blocking(all).await {
        Ok(let_pass) => let_pass.map(|()| Answer::Sockets),
        Err(error) => Ok(Answer::Later(error.to_string())),
    }
}

/// Reads a line; nothing where the other end has said all.
async fn read(stream: &UnixStream) -> io::Result<Option<(Ask, Vec<OwnedFd>)>> {
    let (bytes, beside) = some(stream).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let (line, beside) = match Line::default().take(&bytes, beside, LINE_MAX)? {
        Gathered::Whole(line, beside) => (line, beside),
        Gathered::Part(part) => timeout(WITHIN, part.rest(stream, LINE_MAX))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
    };
    Ok(Some((serde_json::from_slice(&line)?, beside)))
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

async fn frame(writer: &mut OwnedWriteHalf, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let writing = async {
        writer.write_u32(length).await?;
        writer.write_u8(kind).await?;
        writer.write_all(body).await
    };
    timeout(WITHIN, writing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests;
