//! The access log: one line of JSON for each attempt, whatever became of it.
//!
//! Nothing that somebody sent reaches it unread: IDs and addresses are types, reasons are closed, and what is left as text is
//! escaped to printable ASCII, so that nobody writes a line of their own. Who makes a line never waits for whoever keeps it; lines
//! that find no room are counted. What else becomes of an attempt is for `seen`.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use nullius_model::{Reason, SpiffeId, Timestamp};
use serde::{Serialize, Serializer};

use crate::{
    AccessLogTo,
    copy::Moved,
    judge::Told,
    seen::{Alike, Generalised, Noted, Said, ShadowOf, Ticket, Witness, id},
};

/// Lines that wait at most.
const WAITING: usize = 8 * 1024;
/// Characters of a text that are kept.
const TEXT_MAX: usize = 400;

/// Why an attempt was allowed, denied, or came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Intentions decided.
    Decided(Reason),
    /// The handshake took too long.
    HandshakeTimeout,
    /// The handshake failed for another reason than the peer's SVID.
    HandshakeFailed,
    /// The peer's SVID is refused.
    SvidRefused,
    /// The peer's SVID has ended meanwhile.
    SvidEnded,
    /// The bundle of the peer's trust domain stands behind it no more.
    NoLongerProven,
    /// The server is proven to be somebody else.
    UnexpectedServer,
    /// No protocol was agreed upon.
    NoProtocol,
    /// What was sent as a CONNECT cannot be read in one way.
    BadConnect,
    /// The CONNECT names another address than this workload's.
    WrongDestination,
    /// The tunnel broke before anything was asked.
    TunnelFailed,
    /// Nobody answers at the destination.
    Unreachable,
    /// The destination refused.
    RefusedByDestination,
    /// The application does not answer.
    ApplicationUnreachable,
    /// Too much at once.
    Overloaded,
    /// Requests are decided one by one.
    Requests,
    /// A request asks for another protocol, which is not read.
    Upgrade,
    /// The caller has sent more requests than a limit lets pass.
    RateLimited,
    /// A request would not reach the application as it was judged.
    Unforwardable,
    /// The application broke off before it answered.
    ApplicationBroke,
    /// The kubelet asks whether the pod lives; that is not decided.
    Probe,
    /// Who is called is not in the mesh, so that what is sent passes as it is.
    NotInMesh,
    /// Nobody behind the Service is ready.
    NoEndpoint,
    /// Another pod has the address of the one that was called.
    OtherPod,
    /// Somebody of the mesh may be there, and it is not known who.
    Unclear,
    /// Who calls from the address of a pod of the mesh does not prove to be it.
    MustProve,
    /// Somebody called the proxy itself, where nothing was led to it.
    ProxyItself,
    /// The address at which clouds give credentials to whoever asks.
    MetadataAddress,
    /// A gateway leads a call to a Service that is exported; who may call it is for the destination to say.
    Exported,
    /// A call went through a gateway of another cluster to who is expected there.
    ThroughGateway,
    /// The Service is not exported, or not any more.
    NotExported,
    /// Who calls at a gateway is of no trust domain for which it is.
    NotFederated,
}

impl Why {
    /// Nothing is known yet.
    pub(crate) const STALE: Self = Self::Decided(Reason::StaleState);

    /// All but those by which intentions decide.
    pub(crate) const OWN: [Self; 31] = [
        Self::HandshakeTimeout,
        Self::HandshakeFailed,
        Self::SvidRefused,
        Self::SvidEnded,
        Self::NoLongerProven,
        Self::UnexpectedServer,
        Self::NoProtocol,
        Self::BadConnect,
        Self::WrongDestination,
        Self::TunnelFailed,
        Self::Unreachable,
        Self::RefusedByDestination,
        Self::ApplicationUnreachable,
        Self::Overloaded,
        Self::Requests,
        Self::Upgrade,
        Self::RateLimited,
        Self::Unforwardable,
        Self::ApplicationBroke,
        Self::Probe,
        Self::NotInMesh,
        Self::NoEndpoint,
        Self::OtherPod,
        Self::Unclear,
        Self::MustProve,
        Self::ProxyItself,
        Self::MetadataAddress,
        Self::Exported,
        Self::ThroughGateway,
        Self::NotExported,
        Self::NotFederated,
    ];

    /// Where it stands among those.
    pub(crate) fn place(self) -> usize {
        Self::OWN.iter().position(|it| *it == self).unwrap_or_default()
    }

    /// What is spoken, as far as that is known.
    pub(crate) fn protocol(self, is_request: bool) -> &'static str {
        if is_request || self == Self::Requests { "http" } else { "tcp" }
    }

    /// Whether somebody is to be told of it though it never came to a decision: somebody was not who they should be.
    fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::SvidRefused
                | Self::UnexpectedServer
                | Self::BadConnect
                | Self::Upgrade
                | Self::Unforwardable
        )
    }

    /// A sentence for people, and what they can do, where no intention has said it.
    fn sentence(self) -> (&'static str, &'static str) {
        match self {
            Self::SvidRefused => (
                "the certificate of the other side is not one that this side believes",
                "compare the trust bundles of both, and whether its SVID has ended",
            ),
            Self::SvidEnded => {
                ("the SVID of who calls has ended", "see why its node or proxy gets no new one")
            }
            Self::NoLongerProven => (
                "the bundle of the trust domain stands behind the caller's SVID no more",
                "let the caller connect again with a new SVID",
            ),
            Self::UnexpectedServer => (
                "who answers at the address proves to be somebody else",
                "see who has the address, and which ID is expected there",
            ),
            Self::BadConnect => (
                "the CONNECT could be read in two ways",
                "send it with one address and port as its authority",
            ),
            Self::WrongDestination => (
                "the call is for an address or port that is not this workload's",
                "call the address and port at which the workload was reached",
            ),
            Self::RefusedByDestination => (
                "the destination said no",
                "see what the destination's side tells of the same call",
            ),
            Self::MustProve => (
                "a pod of the mesh called without proving who it is",
                "see why its calls are not led through its proxy",
            ),
            Self::Unclear => (
                "somebody of the mesh may have the address, and it is not known who",
                "see which pods say to have it; it is clear again after some minutes",
            ),
            Self::OtherPod => {
                ("another pod has the address of the one that was called", "connect again")
            }
            Self::ProxyItself => {
                ("somebody called the proxy itself", "call the workload's own ports")
            }
            Self::MetadataAddress => (
                "the address gives away the rights of the machine",
                "give the workload an identity of its own",
            ),
            Self::NotExported => (
                "the Service is not exported by its cluster, or not any more",
                "see which `ServiceExport`s the other cluster has",
            ),
            Self::NotFederated => (
                "the gateway is not for workloads of the caller's trust domain",
                "federate the two clusters, or call from one for which it is",
            ),
            Self::Upgrade => (
                "the request asks for a protocol that nobody would judge",
                "upgrade to WebSockets alone",
            ),
            Self::RateLimited => (
                "the caller has sent more requests than a limit lets pass",
                "send them at the pace of the limit, or raise `limits` of the intention",
            ),
            Self::Unforwardable => (
                "the request's `Connection` header would take others away that were judged",
                "name only `close`, `keep-alive`, `te` and `upgrade` in it",
            ),
            Self::Decided(_)
            | Self::HandshakeTimeout
            | Self::HandshakeFailed
            | Self::NoProtocol
            | Self::TunnelFailed
            | Self::Unreachable
            | Self::ApplicationUnreachable
            | Self::Overloaded
            | Self::Requests
            | Self::ApplicationBroke
            | Self::Probe
            | Self::NotInMesh
            | Self::NoEndpoint
            | Self::Exported
            | Self::ThroughGateway => ("", ""),
        }
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decided(reason) => reason.as_str(),
            Self::HandshakeTimeout => "handshake-timeout",
            Self::HandshakeFailed => "handshake-failed",
            Self::SvidRefused => "svid-refused",
            Self::SvidEnded => "svid-ended",
            Self::NoLongerProven => "no-longer-proven",
            Self::UnexpectedServer => "unexpected-server",
            Self::NoProtocol => "no-protocol",
            Self::BadConnect => "bad-connect",
            Self::WrongDestination => "wrong-destination",
            Self::TunnelFailed => "tunnel-failed",
            Self::Unreachable => "unreachable",
            Self::RefusedByDestination => "refused-by-destination",
            Self::ApplicationUnreachable => "application-unreachable",
            Self::Overloaded => "overloaded",
            Self::Requests => "requests",
            Self::Upgrade => "upgrade",
            Self::RateLimited => "rate-limited",
            Self::Unforwardable => "unforwardable",
            Self::ApplicationBroke => "application-broke",
            Self::Probe => "probe",
            Self::NotInMesh => "not-in-mesh",
            Self::NoEndpoint => "no-endpoint",
            Self::OtherPod => "other-pod",
            Self::Unclear => "unclear",
            Self::MustProve => "must-prove",
            Self::ProxyItself => "proxy-itself",
            Self::MetadataAddress => "metadata-address",
            Self::Exported => "exported",
            Self::ThroughGateway => "through-gateway",
            Self::NotExported => "not-exported",
            Self::NotFederated => "not-federated",
        }
    }
}

/// How an allowed attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// The application, or whoever calls from this machine, broke off.
    LocalBroke,
    /// The other side in the mesh broke off.
    MeshBroke,
    /// It was cut: it is allowed no more.
    Cut,
    /// The proxy ended.
    Shutdown,
}

impl End {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::LocalBroke => "local-broke",
            Self::MeshBroke => "mesh-broke",
            Self::Cut => "cut",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Which way an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Allowed,
    Denied,
    /// It never came to a decision.
    Failed,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Where lines go.
#[derive(Debug, Clone)]
pub struct AccessLog(Option<SyncSender<String>>);

/// Whoever writes the lines; it ends when nobody can make one any more.
#[derive(Debug)]
pub struct AccessLogWriter(Option<JoinHandle<()>>);

impl AccessLog {
    /// Opens it.
    pub fn open(to: &AccessLogTo) -> io::Result<(Self, AccessLogWriter)> {
        let out: Box<dyn Write + Send> = match to {
            AccessLogTo::Off => return Ok((Self(None), AccessLogWriter(None))),
            AccessLogTo::Stdout => Box::new(io::stdout()),
            AccessLogTo::File(file) => {
                Box::new(OpenOptions::new().append(true).create(true).open(file)?)
            }
        };
        let (sender, lines) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&lines, out))?;
        Ok((Self(Some(sender)), AccessLogWriter(Some(thread))))
    }

    /// Whether anybody keeps lines.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a line found room.
    pub(crate) fn put(&self, line: String) -> bool {
        self.0.as_ref().is_none_or(|sender| sender.try_send(line).is_ok())
    }
}

impl AccessLogWriter {
    /// Waits until the last line is written, which comes only when everybody who could make one is gone.
    pub fn finish(self) {
        if let Some(thread) = self.0 {
            // It told by itself why it could not.
            let _ = thread.join();
        }
    }
}

fn write(lines: &Receiver<String>, out: Box<dyn Write + Send>) {
    let mut out = BufWriter::new(out);
    let mut failed = false;
    while let Ok(first) = lines.recv() {
        let mut wrote = writeln!(out, "{first}");
        while let Ok(line) = lines.try_recv() {
            wrote = wrote.and_then(|()| writeln!(out, "{line}"));
        }
        match wrote.and_then(|()| out.flush()) {
            Ok(()) => failed = false,
            Err(error) => {
                if !failed {
                    tracing::error!(%error, "lose lines of the access log: it cannot be written");
                }
                failed = true;
            }
        }
    }
}

/// A request as the access log tells it.
#[derive(Debug)]
pub(crate) struct Asked {
    method: String,
    path: String,
    pub(crate) status: Option<u16>,
    /// Why its token proves nothing, where it shows one and that matters.
    pub(crate) token: Option<&'static str>,
}

impl Asked {
    /// Of a target the query is left out: secrets stand there.
    pub(crate) fn new(method: &http::Method, target: &[u8]) -> Self {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let path = String::from_utf8_lossy(path).into_owned();
        Self { method: method.as_str().to_owned(), path, status: None, token: None }
    }

    /// The method, where it is one of those that everybody knows.
    fn known_method(&self) -> &'static str {
        const KNOWN: [&str; 9] =
            ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
        KNOWN.iter().find(|known| **known == self.method).unwrap_or(&"(other)")
    }
}

/// An attempt, which leaves its line when it is dropped, however that comes.
#[derive(Debug)]
pub(crate) struct Attempt {
    seen: Arc<Witness>,
    number: u64,
    /// Where it is counted as long as it lives.
    ticket: Option<Ticket>,
    is_forgotten: bool,
    began: Instant,
    time: Timestamp,
    direction: Direction,
    name: Arc<str>,
    client: SocketAddr,
    /// How it looks on the wire: the word of a `Wire`, or [`PLAIN`].
    pub(crate) wire: Option<&'static str>,
    pub(crate) source: Option<SpiffeId>,
    pub(crate) destination: Option<SpiffeId>,
    pub(crate) address: Option<SocketAddr>,
    /// The gateway of another cluster through which it went.
    pub(crate) gateway: Option<SpiffeId>,
    /// The Service that was called.
    pub(crate) service: Option<Arc<str>>,
    pub(crate) moved: Arc<Moved>,
    /// The request, where it is one.
    pub(crate) asked: Option<Asked>,
    pub(crate) told: Option<Told>,
    outcome: Outcome,
    why: Why,
    end: Option<End>,
    cut: Option<Why>,
    detail: Option<String>,
}

impl Attempt {
    /// Begins one; until something else is said, it has failed.
    pub(crate) fn begin(
        seen: &Arc<Witness>,
        direction: Direction,
        name: &Arc<str>,
        client: SocketAddr,
    ) -> Self {
        Self {
            seen: Arc::clone(seen),
            number: seen.next(),
            ticket: None,
            is_forgotten: false,
            began: Instant::now(),
            time: Timestamp::now(),
            direction,
            name: Arc::clone(name),
            client,
            wire: None,
            source: None,
            destination: None,
            address: None,
            gateway: None,
            service: None,
            moved: Arc::default(),
            asked: None,
            told: None,
            outcome: Outcome::Failed,
            why: Why::TunnelFailed,
            end: None,
            cut: None,
            detail: None,
        }
    }

    /// Makes attempts of the same connection.
    pub(crate) fn template(&self) -> Box<dyn Fn() -> Self + Send + Sync> {
        let (seen, direction, name) =
            (Arc::clone(&self.seen), self.direction, Arc::clone(&self.name));
        let (client, wire, address) = (self.client, self.wire, self.address);
        let (source, destination) = (self.source.clone(), self.destination.clone());
        Box::new(move || {
            let mut attempt = Self::begin(&seen, direction, &name, client);
            (attempt.wire, attempt.address) = (wire, address);
            attempt.source.clone_from(&source);
            attempt.destination.clone_from(&destination);
            attempt
        })
    }

    /// It counts for nothing and leaves no line: others stand for it.
    pub(crate) fn forget(mut self) {
        self.is_forgotten = true;
    }

    /// It came to nothing.
    pub(crate) fn failed(&mut self, why: Why, detail: Option<String>) {
        (self.outcome, self.why, self.detail) = (Outcome::Failed, why, detail);
    }

    /// It is denied.
    pub(crate) fn denied(&mut self, why: Why) {
        (self.outcome, self.why) = (Outcome::Denied, why);
    }

    /// What else is known.
    pub(crate) fn say(&mut self, detail: Option<String>) {
        self.detail = detail;
    }

    /// It is allowed, and counted from now on.
    pub(crate) fn allowed(&mut self, why: Why) {
        (self.outcome, self.why) = (Outcome::Allowed, why);
        if self.ticket.is_none() {
            let ticket = self.with_kind(self.outcome, why, true, |alike, noted| {
                self.seen.allowed(alike, noted, &self.moved)
            });
            self.ticket = Some(ticket);
        }
    }

    /// An allowed one has ended.
    pub(crate) fn ended(&mut self, end: End) {
        self.end = Some(end);
    }

    /// An allowed one is allowed no more.
    pub(crate) fn cut(&mut self, why: Why) {
        (self.end, self.cut) = (Some(End::Cut), Some(why));
    }

    /// What it is counted as.
    fn with_kind<R>(
        &self,
        outcome: Outcome,
        why: Why,
        counts: bool,
        then: impl FnOnce(&Alike<'_>, &Noted<'_>) -> R,
    ) -> R {
        let told = self.told.as_ref();
        let shadow = told.and_then(|told| told.shadow.as_ref());
        let path = self.asked.as_ref().map(|asked| Generalised::of(&asked.path));
        let (peer, address) = match self.direction {
            Direction::Inbound => (&self.source, Some(self.client.ip())),
            // A Service's own address is nobody's.
            Direction::Outbound if self.service.is_some() && self.wire.is_none() => {
                (&self.destination, None)
            }
            Direction::Outbound => (&self.destination, self.address.map(|at| at.ip())),
        };
        let alike = Alike {
            direction: self.direction,
            outcome,
            why,
            peer: peer.as_ref().map(SpiffeId::as_str),
            address,
            port: self.address.map_or(0, |at| at.port()),
            service: self.service.as_deref(),
            wire: self.wire,
            permission: told.and_then(|told| told.permission.as_ref()).map(AsRef::as_ref),
            shadow: shadow.map(|shadow| ShadowOf {
                allowed: shadow.allowed,
                reason: shadow.explanation.reason,
                permission: shadow.permission.as_ref().map(AsRef::as_ref),
            }),
            method: self.asked.as_ref().map(Asked::known_method),
            path: path.as_ref().map(Generalised::as_str),
        };
        let noted = Noted {
            millis: self.time.as_millisecond(),
            number: if counts { self.number } else { self.seen.next() },
            of: (!counts).then_some(self.number),
            counts,
            is_recorded: outcome == Outcome::Allowed && told.is_some_and(|told| told.is_recorded),
            rule: told.and_then(|told| told.explanation.rule.as_deref()),
            shadow_rule: shadow.and_then(|shadow| shadow.explanation.rule.as_deref()),
            said: &|| self.said(why),
        };
        then(&alike, &noted)
    }

    /// What is said of it by itself, to people.
    fn said(&self, why: Why) -> Said {
        let explanation = self.told.as_ref().map(|told| &told.explanation);
        let (sentence, next) = why.sentence();
        let text = |text: Option<&str>| text.map(plain).unwrap_or_default();
        Said {
            path: text(self.asked.as_ref().map(|asked| asked.path.as_str())),
            rule: text(explanation.and_then(|it| it.rule.as_deref())),
            sentence: explanation.map_or_else(|| sentence.to_owned(), |it| plain(&it.sentence)),
            next: explanation.map_or_else(|| next.to_owned(), |it| text(it.next.as_deref())),
            detail: text(self.detail.as_deref()),
        }
    }

    /// What was allowed is so no more: somebody wants to know, by another number than that of its beginning, and it has counted.
    fn tell_cut(&self, why: Why) {
        self.with_kind(Outcome::Denied, why, false, |alike, noted| self.seen.cut(alike, noted));
    }

    fn text(&self) -> Option<String> {
        serde_json::to_string(&self.line()).ok()
    }

    fn line(&self) -> Line<'_> {
        let told = self.told.as_ref();
        let explanation = told.map(|told| &told.explanation);
        Line {
            time: self.time,
            id: id(self.seen.process(), self.number),
            direction: self.direction,
            name: &self.name,
            wire: self.wire,
            client: self.client,
            source: self.source.as_ref().map(SpiffeId::as_str),
            destination: self.destination.as_ref().map(SpiffeId::as_str),
            address: self.address,
            gateway: self.gateway.as_ref().map(SpiffeId::as_str),
            service: self.service.as_deref(),
            method: self.asked.as_ref().map(|asked| Plain(&asked.method)),
            path: self.asked.as_ref().map(|asked| Plain(&asked.path)),
            status: self.asked.as_ref().and_then(|asked| asked.status),
            token: self.asked.as_ref().and_then(|asked| asked.token),
            verdict: self.outcome,
            reason: self.why.as_str(),
            rule: explanation.and_then(|it| it.rule.as_deref()).map(Plain),
            permission: told.and_then(|told| told.permission.as_ref()).map(ToString::to_string),
            shadow: told.and_then(|told| told.shadow.as_ref()).map(|shadow| ShadowLine {
                verdict: if shadow.allowed { Outcome::Allowed } else { Outcome::Denied },
                reason: shadow.explanation.reason.as_str(),
                rule: shadow.explanation.rule.as_deref().map(Plain),
            }),
            bytes_to_destination: self.moved.to_destination.load(Ordering::Relaxed),
            bytes_to_source: self.moved.to_source.load(Ordering::Relaxed),
            end: self.end.map(End::as_str),
            cut_because: self.cut.map(Why::as_str),
            duration_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            detail: self.detail.as_deref().map(Plain),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_forgotten {
            return;
        }
        if self.outcome == Outcome::Allowed && self.end.is_none() {
            self.end = Some(End::Shutdown);
        }
        let Some(ticket) = self.ticket.take() else {
            let (outcome, why) = (self.outcome, self.why);
            let is_told = outcome == Outcome::Denied || why.is_refusal();
            return self.with_kind(outcome, why, true, |alike, noted| {
                self.seen.refused(alike, noted, is_told, || self.text());
            });
        };
        let lived = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.seen.ended(ticket, self.time.as_millisecond().saturating_add(lived));
        if let Some(why) = self.cut {
            self.tell_cut(why);
        }
        self.seen.write(self.direction, || self.text());
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: Timestamp,
    id: String,
    direction: Direction,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    wire: Option<&'static str>,
    client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Plain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Plain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'static str>,
    verdict: Outcome,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Plain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowLine<'a>>,
    bytes_to_destination: u64,
    bytes_to_source: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_because: Option<&'static str>,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Plain<'a>>,
}

#[derive(Debug, Serialize)]
struct ShadowLine<'a> {
    verdict: Outcome,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Plain<'a>>,
}

/// What is no wire of the mesh: bytes as they are.
pub(crate) const PLAIN: &str = "plain";

/// Text in printable ASCII, cut.
#[derive(Debug, Clone, Copy)]
struct Plain<'a>(&'a str);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= TEXT_MAX && self.0.chars().all(is_plain) {
            return serializer.serialize_str(self.0);
        }
        serializer.serialize_str(&plain(self.0))
    }
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

fn plain(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().take(TEXT_MAX) {
        match is_plain(c) {
            true => kept.push(c),
            false => kept.extend(c.escape_default()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;
    use crate::{Neighbours, Seen};

    #[test]
    fn a_line_is_one_line_whatever_somebody_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        let (log, writer) = AccessLog::open(&AccessLogTo::File(file.clone())).unwrap();
        let seen = Seen::new(log, &nullius_telemetry::Metrics::new());
        let witness = seen.workload("u-1", "orders".into(), Neighbours::None);
        let client = SocketAddr::from(([10, 0, 0, 9], 7));
        for evil in ["a\n{\"verdict\":\"allowed\"}", "\u{2028}\u{202e}x", "\r\u{1b}[31m", "\u{85}"]
        {
            let mut attempt =
                Attempt::begin(&witness, Direction::Inbound, &"orders".into(), client);
            attempt.failed(Why::HandshakeFailed, Some(evil.repeat(300)));
        }
        drop(Attempt::begin(&witness, Direction::Outbound, &"bank".into(), client));
        drop((witness, seen));
        writer.finish();
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)), "{text}");
        assert_eq!(text.lines().count(), 5);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["verdict"], "failed");
            assert!(line["detail"].as_str().unwrap_or_default().len() < 10 * TEXT_MAX);
        }
    }
}
