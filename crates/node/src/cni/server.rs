//! The node's side: who asks, what they hand over, and who decides.

use std::{collections::BTreeMap, io, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use nullius_redirect::Network;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    request::Pod,
    wire::{Answer, MOST, Question},
};
use crate::descriptors::Line;

/// How long a question may take to be asked.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing is accepted after the system had no room.
const NO_ROOM: Duration = Duration::from_millis(100);
/// So many pods begin at once at most.
const AT_ONCE: usize = 256;

/// A pod's network, as it was handed over.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Whose it is.
    pub(crate) pod: Pod,
    /// The addresses that the pod has got.
    pub(crate) addresses: Vec<IpAddr>,
    /// The network namespace.
    pub(crate) network: Arc<Network>,
}

/// What was handed over and is not gone, by the container that holds the network.
pub(crate) type Attachments = BTreeMap<String, Arc<Attachment>>;

/// What becomes of a pod that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may: it is led, or needs not be.
    Begin,
    /// Not yet.
    Later(String),
}

/// Who decides about pods: the part of the node that leads them.
pub(crate) trait Desk: Send + Sync + 'static {
    /// Resolves when it is decided, within [`READ_WITHIN`] several times over.
    fn decide(&self, attachment: Arc<Attachment>) -> impl Future<Output = Verdict> + Send;
    /// Whether a pod could be decided about now.
    fn is_ready(&self) -> Result<(), &'static str>;
}

/// Answers until it is told to stop.
pub(crate) async fn serve(
    listener: UnixListener,
    attachments: watch::Sender<Attachments>,
    desk: Arc<impl Desk>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "fail to accept a plugin");
                tokio::time::sleep(NO_ROOM).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(caller) if caller.uid() == 0 => {}
            Ok(_) | Err(_) => {
                tracing::warn!("refuse a caller of the plugin's socket who is not root");
                continue;
            }
        }
        let (attachments, desk) = (attachments.clone(), Arc::clone(&desk));
        let (places, stop) = (Arc::clone(&places), stop.clone());
        connections.spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            tokio::select! {
                () = stop.cancelled() => {}
                served = converse(stream, &attachments, &*desk) => if let Err(error) = served {
                    tracing::warn!(%error, "fail to answer a plugin");
                },
            }
        });
    }
    connections.shutdown().await;
}

async fn converse(
    mut stream: UnixStream,
    attachments: &watch::Sender<Attachments>,
    desk: &impl Desk,
) -> io::Result<()> {
    let read = tokio::time::timeout(READ_WITHIN, Line::default().rest(&stream, MOST)).await;
    let (question, descriptors) =
        read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the question does not end"))??;
    let question = serde_json::from_slice(&question)?;
    let answer = answer(question, descriptors, attachments, desk).await;
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

async fn answer(
    question: Question,
    mut descriptors: Vec<OwnedFd>,
    attachments: &watch::Sender<Attachments>,
    desk: &impl Desk,
) -> Answer {
    match question {
        Question::Add { pod, container, addresses } => {
            let network = match (descriptors.pop(), descriptors.is_empty()) {
                (Some(descriptor), true) => Network::from_descriptor(descriptor),
                _ => return Answer::Refused("one descriptor of a network is wanted".to_owned()),
            };
            let network = match network.map(|network| (network.is_own(), network)) {
                Ok((Ok(false), network)) => Arc::new(network),
                Ok((Ok(true), _)) => {
                    return Answer::Refused("the network is the node's own".to_owned());
                }
                Ok((Err(error), _)) => return Answer::Refused(error.to_string()),
                Err(error) => return Answer::Refused(error.to_string()),
            };
            let attachment = Arc::new(Attachment { pod, addresses, network });
            attachments.send_modify(|all| {
                all.insert(container, Arc::clone(&attachment));
            });
            match desk.decide(attachment).await {
                Verdict::Begin => Answer::Done,
                Verdict::Later(why) => Answer::Later(why),
            }
        }
        Question::Check { container } => {
            let known = attachments.borrow().get(&container).cloned();
            let Some(known) = known else {
                // The node has begun anew since, and finds its pods by itself.
                return Answer::Done;
            };
            match desk.decide(known).await {
                Verdict::Begin => Answer::Done,
                Verdict::Later(why) => Answer::Later(why),
            }
        }
        Question::Delete { container } => {
            attachments.send_if_modified(|all| all.remove(&container).is_some());
            Answer::Done
        }
        Question::Keep { containers } => {
            attachments.send_if_modified(|all| {
                let before = all.len();
                all.retain(|container, _| containers.contains(container));
                all.len() != before
            });
            Answer::Done
        }
        Question::Status => match desk.is_ready() {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Later(why.to_owned()),
        },
    }
}
