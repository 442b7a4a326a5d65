//! Sockets of a proxy without any capability: it makes them itself, and its node adds the rights that they need, some at a time.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nullius_mesh::{Caller, Sockets};
use tokio::net::TcpSocket;

use super::wire::{Answer, Ask, BATCH, Family, LINE_MAX, Side, line};
use crate::descriptors::{Gathered, Line, receive, send};

/// The node answers sooner, or not at all.
const PATIENCE: Duration = Duration::from_millis(500);
/// After it did not, nobody is kept waiting for so long.
const BREATHER: Duration = Duration::from_millis(200);

/// The node, as far as it gives sockets what takes rights.
#[derive(Debug)]
pub(crate) struct NodeSockets(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    line: Option<UnixStream>,
    /// What has its rights and is not used yet.
    kept: BTreeMap<(bool, bool), Vec<TcpSocket>>,
    not_before: Option<Instant>,
}

/// Where the pod's traffic is led.
#[derive(Debug, Default)]
pub(crate) struct Led {
    pub(crate) inbound: Vec<TcpListener>,
    pub(crate) outbound: Vec<TcpListener>,
}

impl NodeSockets {
    /// By the node's socket; it is connected to when something is wanted.
    pub(crate) fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self(Mutex::new(Inner { path, line: None, kept: BTreeMap::new(), not_before: None }))
    }

    /// The sockets to which the pod's traffic is led; who had them before must have ended. It blocks.
    pub(crate) fn listeners(&self) -> io::Result<Led> {
        match self.ask(Ask::Listeners, &[])? {
            (Answer::Listeners { inbound }, mut all) if inbound <= all.len() => {
                let outbound = all.split_off(inbound);
                let adopt = |all: Vec<OwnedFd>| all.into_iter().map(TcpListener::from).collect();
                Ok(Led { inbound: adopt(all), outbound: adopt(outbound) })
            }
            (answer, _) => Err(unexpected(answer)),
        }
    }

    fn ask(&self, ask: Ask, beside: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ask(ask, beside)
    }

    fn one(&self, side: Side, of: SocketAddr) -> io::Result<TcpSocket> {
        let family = Family::of(of);
        let kind = (side == Side::In, family == Family::V6);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = inner.kept.get_mut(&kind).and_then(Vec::pop) {
            return Ok(socket);
        }
        let new = || match family {
            Family::V4 => TcpSocket::new_v4(),
            Family::V6 => TcpSocket::new_v6(),
        };
        let mut some = (0..BATCH).map(|_| new()).collect::<io::Result<Vec<TcpSocket>>>()?;
        let beside: Vec<BorrowedFd<'_>> = some.iter().map(|it| it.as_fd()).collect();
        match inner.ask(Ask::Sockets { side, family }, &beside)? {
            (Answer::Sockets, _) => {
                let one = some.pop().ok_or_else(|| unexpected(Answer::Sockets))?;
                inner.kept.insert(kind, some);
                Ok(one)
            }
            (answer, _) => Err(unexpected(answer)),
        }
    }
}

impl Sockets for NodeSockets {
    fn connect_out(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        self.one(Side::Out, to)
    }

    fn connect_in(&self, from: SocketAddr, _: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.one(Side::In, from)?;
        socket.bind(from)?;
        Ok(socket)
    }

    fn caller(&self, client: SocketAddr, at: SocketAddr) -> Caller {
        match self.ask(Ask::Caller { client, at }, &[]) {
            Ok((Answer::Caller(called), _)) => called.into(),
            Ok(_) => Caller::Unknown,
            Err(error) => {
                tracing::warn!(%error, "cannot ask the node whether it calls itself");
                Caller::Unknown
            }
        }
    }
}

impl Inner {
    /// Asks, once more where the node has begun anew since.
    fn ask(&mut self, ask: Ask, beside: &[BorrowedFd<'_>]) -> io::Result<(Answer, Vec<OwnedFd>)> {
        if self.not_before.is_some_and(|then| Instant::now() < then) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the node does not answer"));
        }
        self.not_before = None;
        if let Some(stream) = self.line.take()
            && let Ok(answer) = exchange(&stream, ask, beside)
        {
            self.line = Some(stream);
            return Ok(answer);
        }
        let again = UnixStream::connect(&self.path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let answer = exchange(&stream, ask, beside)?;
            self.line = Some(stream);
            Ok(answer)
        });
        if again.is_err() {
            self.not_before = Some(Instant::now() + BREATHER);
        }
        again
    }
}

fn exchange(
    stream: &UnixStream,
    ask: Ask,
    beside: &[BorrowedFd<'_>],
) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let asked = line(&ask)?;
    let mut sent = 0;
    while sent < asked.len() {
        // They go with the first byte.
        let beside = if sent == 0 { beside } else { &[] };
        sent += send(stream, asked.get(sent..).unwrap_or_default(), beside)?;
    }
    let mut answer = Line::default();
    loop {
        let (bytes, descriptors) = receive(stream)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match answer.take(&bytes, descriptors, LINE_MAX)? {
            Gathered::Whole(line, descriptors) => {
                return Ok((serde_json::from_slice(&line)?, descriptors));
            }
            Gathered::Part(part) => answer = part,
        }
    }
}

fn unexpected(answer: Answer) -> io::Error {
    match answer {
        Answer::Later(why) | Answer::Refused(why) => io::Error::other(why),
        Answer::News | Answer::Listeners { .. } | Answer::Sockets | Answer::Caller(_) => {
            io::Error::new(io::ErrorKind::InvalidData, "the node answers something else")
        }
    }
}
