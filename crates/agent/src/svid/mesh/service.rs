//! What nodes ask of the mesh: all that stands, and then what changes; and what they report.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use nullius_mesh::news::{News, Uid, write_news};
use nullius_proto::node_v1::{MeshNews, MeshReport, MeshReported, WatchMeshRequest, mesh_server};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Mesh, book::Key, ledger::Refused, streams::Joined};
use crate::svid::{
    callers::Caller,
    meters::Refusal,
    service::{IdentityService, lasting},
};

/// Bytes of a report: half of what a node's connection may have unfinished.
pub(crate) const REPORT_MAX: usize = 64 * 1024;
/// What comes within so long is told together.
const GATHER: Duration = Duration::from_millis(50);
/// How often it is looked at whether a caller still is who it was.
const LOOK: Duration = Duration::from_secs(5);
/// A node hears at least so often, so that it knows how old what it knows is.
const BEAT: Duration = Duration::from_secs(10);
/// A message is read within so long, or the node is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a message, about; one thing may be longer.
const ABOUT: usize = 256 * 1024;
/// Refusals of one report.
const REFUSED_MAX: usize = 1_000;
/// Issuers of one report whose keys are wanted.
const WANTED_MAX: usize = 16;
/// Letters of why an intention is refused.
const WHY_MAX: usize = 512;

/// The service for one connection.
#[derive(Clone)]
pub(crate) struct MeshService {
    pub(crate) identity: IdentityService,
    pub(crate) mesh: Arc<Mesh>,
}

type Told = Pin<Box<dyn futures::Stream<Item = Result<MeshNews, Status>> + Send>>;

#[tonic::async_trait]
impl mesh_server::Mesh for MeshService {
    type WatchStream = Told;

    async fn watch(&self, request: Request<WatchMeshRequest>) -> Result<Response<Told>, Status> {
        let caller =
            self.identity.prove_node(request.metadata(), request.get_ref().version).await?;
        let issuing = &self.identity.issuing;
        self.mesh.is_ready().map_err(|why| {
            issuing.meters.refused.add_one(Refusal::Unready);
            Status::unavailable(why)
        })?;
        let stream = self.mesh.streams.join(&caller.node.name).ok_or_else(|| {
            issuing.meters.refused.add_one(Refusal::Pace);
            Status::resource_exhausted("too many streams of this node stand")
        })?;
        let (to_node, told) = mpsc::channel(1);
        let telling = Telling {
            service: self.clone(),
            caller,
            stream,
            to_node: to_node.clone(),
            sequence: 0,
        };
        tokio::spawn(telling.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn report(&self, request: Request<MeshReport>) -> Result<Response<MeshReported>, Status> {
        let caller =
            self.identity.prove_node(request.metadata(), request.get_ref().version).await?;
        let report = request.into_inner();
        let MeshReport { stream, sequence, refused, refuses_more, wanted_issuers, .. } = report;
        self.mesh.want_keys(wanted_issuers.iter().take(WANTED_MAX));
        if refused.len() > REFUSED_MAX {
            return Err(Status::invalid_argument("a report refuses 1,000 intentions at most"));
        }
        let short =
            |text: String| text.chars().take(WHY_MAX).flat_map(char::escape_debug).collect();
        let refused = refused.into_iter();
        let refused: HashMap<Uid, (i64, String)> = refused
            .map(|it| (Uid::from(it.uid.as_str()), (it.generation, short(it.message))))
            .collect();
        let streams = &self.mesh.streams;
        let refused = Refused { named: refused, more: refuses_more };
        match streams.report(&caller.node.name, &stream, sequence, refused) {
            None => {
                Err(Status::not_found("this node has no such stream here; report the one it has"))
            }
            Some(Err(error)) => Err(Status::invalid_argument(error.to_string())),
            Some(Ok(())) => {
                self.mesh.note_standing();
                Ok(Response::new(MeshReported {}))
            }
        }
    }
}

/// One stream.
struct Telling {
    service: MeshService,
    caller: Caller,
    stream: Joined,
    to_node: mpsc::Sender<Result<MeshNews, Status>>,
    sequence: u64,
}

impl Telling {
    async fn run(mut self) {
        let mesh = Arc::clone(&self.service.mesh);
        let (leave, ends) = (self.service.identity.place.leave.clone(), self.caller.ends);
        let to_node = self.to_node.clone();
        let meters = self.service.identity.issuing.meters.clone();
        meters.mesh_streams.add((), 1);
        let ended = lasting(&leave, ends, &to_node, self.tell()).await;
        // The last word waits for nobody.
        let _ = to_node.try_send(Err(ended));
        drop(self);
        meters.mesh_streams.add((), -1);
        mesh.note_standing();
    }

    async fn tell(&mut self) -> Status {
        let mesh = Arc::clone(&self.service.mesh);
        let all = mesh.book().keys_for(&self.caller.node.name);
        if let Err(status) = self.send(all).await {
            return status;
        }
        let mut beat = Instant::now() + BEAT;
        loop {
            let has_news = tokio::time::timeout(LOOK, self.stream.news()).await.is_ok();
            if has_news {
                tokio::time::sleep(GATHER).await;
            }
            if let Err(status) = self.service.identity.issuing.callers.still(&self.caller) {
                return status;
            }
            // Another replica may hear what this one does not.
            if let Err(why) = mesh.is_ready() {
                return Status::unavailable(why);
            }
            let Some(keys) = self.stream.take() else { return too_slow() };
            if keys.is_empty() && Instant::now() < beat {
                continue;
            }
            if let Err(status) = self.send(keys.into_iter().collect()).await {
                return status;
            }
            beat = Instant::now() + BEAT;
        }
    }

    /// Sends how things stand now, in as many messages as that needs.
    async fn send(&mut self, keys: Vec<Key>) -> Result<(), Status> {
        let mesh = Arc::clone(&self.service.mesh);
        let mut keys = keys.into_iter().peekable();
        let mut intentions = BTreeMap::new();
        loop {
            self.sequence += 1;
            let mut news = News {
                stream: self.stream.name.clone(),
                sequence: self.sequence,
                ..News::default()
            };
            {
                let book = mesh.book();
                let mut bytes = 0;
                while bytes < ABOUT
                    && let Some(key) = keys.next()
                {
                    book.tell(&self.caller.node.name, &key, &mut news);
                    bytes += weight(&key, &news);
                }
            }
            news.is_complete = keys.peek().is_none();
            let put = news.put_intentions.iter();
            intentions.extend(put.map(|it| (it.uid.clone(), Some(it.generation))));
            intentions.extend(news.gone_intentions.iter().map(|uid| (uid.clone(), None)));
            if news.is_complete {
                // Before it is sent: a node may report sooner than this goes on.
                self.stream.sent(self.sequence, std::mem::take(&mut intentions));
            }
            let sent = self.to_node.send(Ok(write_news(&news)));
            match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok(())) if news.is_complete => return Ok(()),
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Status::cancelled("the node has gone")),
                Err(_) => return Err(too_slow()),
            }
        }
    }
}

/// How long what was told last is, about.
fn weight(key: &Key, news: &News) -> usize {
    const LITTLE: usize = 128;
    let more = match key {
        Key::Workload(_) => news.put_workloads.last().map(|workload| {
            let local = workload.local.as_ref();
            let labels = local.into_iter().flat_map(|local| local.labels.known());
            labels.map(|(key, value)| key.len() + value.len() + 8).sum::<usize>() + LITTLE
        }),
        Key::Service(_) => news
            .put_services
            .last()
            .map(|service| service.ports.values().map(|port| port.endpoints.len() * LITTLE).sum()),
        Key::Intention(_) => news.put_intentions.last().map(|intention| intention.json.len()),
        Key::Issuer(_) => news.put_issuers.last().map(|issuer| issuer.jwks.len()),
    };
    more.unwrap_or_default() + LITTLE
}

fn too_slow() -> Status {
    Status::unavailable("the node reads too slowly; begin anew")
}
