//! What stands in the cluster, heard of `agent identity`, and what is made of it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nullius_mesh::news::{News, Picture, PictureError, read_news};
use nullius_model::{Timestamp, TrustDomain};
use nullius_proto::{VERSION, node_v1::WatchMeshRequest};
use nullius_workload::{Holdings, Registered, wait_after};
use tokio::{sync::watch, time::Instant};

use super::{
    heard::{Heard, Mailbox, Scope},
    known::{Knowledge, Known},
    remember::{self, Standing},
    report::{self, Reporting},
    said::Said,
};
use crate::{
    link::{Link, LinkError},
    meters::Meters,
};

/// A stream that lasted so long was a good one: after it waits begin anew.
const GOOD: Duration = Duration::from_secs(10);
const MOST_FAILURES: u32 = 3;
/// News are taken at once, and then no more often than this: whoever flaps costs a node no more than that, and what is revoked waits no
/// longer.
const EVERY: Duration = Duration::from_millis(250);
/// An agent that says every ten seconds that it is there has gone when it was not heard for so long.
const SILENT: Duration = Duration::from_secs(35);

/// Hears, without end.
pub(crate) struct Follower {
    pub(crate) node: String,
    pub(crate) link: Link,
    pub(crate) state: PathBuf,
    pub(crate) registered: watch::Receiver<Option<Arc<Registered>>>,
    pub(crate) known: watch::Sender<Option<Arc<Known>>>,
    pub(crate) meters: Meters,
}

impl Follower {
    pub(crate) async fn run(self) {
        let domain = self.domain().await;
        let heard = Arc::new(Mailbox::default());
        match remember::picture(&self.state, &domain) {
            Ok(Some(picture)) => {
                tracing::info!(pods = picture.workloads().len(), "remember what stood in the mesh");
                heard.put(Heard { picture: Arc::new(picture), scope: Scope::All });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "forget what stood in the mesh before the restart")
            }
        }
        let said = remember::said(&self.state, &domain).unwrap_or_else(|error| {
            tracing::warn!(%error, "forget what intentions said that cannot be read any more");
            Said::default()
        });
        let (stand, stands) = watch::channel(None);
        let (report, reports) = watch::channel(None);
        let knowledge = Knowledge::new(self.node, said);
        let asks = Arc::clone(knowledge.asks());
        let knowing = Knowing {
            knowledge,
            registered: self.registered,
            heard: Arc::clone(&heard),
            known: self.known,
            stand,
            report,
        };
        let reporting = Reporting { link: self.link.clone(), reports, asks };
        let keep = remember::keep(self.state, domain, stands);
        let hear = hear_on(self.link, heard, self.meters);
        tokio::join!(hear, knowing.run(), reporting.run(), keep);
    }

    /// The cluster's trust domain, once something is registered.
    async fn domain(&self) -> TrustDomain {
        let mut registered = self.registered.clone();
        loop {
            if let Some(registered) = registered.borrow_and_update().as_ref() {
                return registered.trust_domain.clone();
            }
            if registered.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Hears stream after stream.
async fn hear_on(link: Link, heard: Arc<Mailbox>, meters: Meters) {
    let mut failures = 0_u32;
    loop {
        let began = Instant::now();
        let mut hearing = Hearing::new(Arc::clone(&heard));
        let ended = hear(&link, &mut hearing, &meters).await;
        // What came before the stream broke was told whole.
        hearing.publish();
        if began.elapsed() > GOOD {
            failures = 0;
        }
        let wait = match ended {
            Ok(()) => wait_after(0),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, failures, "fail to hear of the mesh");
                wait_after(failures)
            }
        };
        failures = (failures + 1).min(MOST_FAILURES);
        tokio::time::sleep(wait).await;
    }
}

/// Why nothing is heard of the mesh.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("what the agent tells of the mesh is refused")]
    News(#[from] nullius_mesh::news::NewsError),
    #[error("what the agent tells of the mesh does not go on from before")]
    Picture(#[from] PictureError),
}

async fn hear(link: &Link, hearing: &mut Hearing, meters: &Meters) -> Result<(), FollowError> {
    let request = link.request(WatchMeshRequest { version: VERSION })?;
    let mut left = link.left();
    let mut client = link.mesh();
    let begun = async {
        let mut stream = client.watch(request).await?.into_inner();
        let first = stream.message().await?;
        Ok((stream, first))
    };
    let Some((mut stream, mut message)) = link.first(begun, &mut left).await? else {
        return Ok(());
    };
    while let Some(news) = message {
        hearing.take(read_news(news)?)?;
        meters.mesh_heard.set((), Timestamp::now().as_second());
        message = loop {
            tokio::select! {
                message = stream.message() => break message.map_err(LinkError::told)?,
                // Reports go over the next connection, and are of a stream there.
                _ = left.changed() => return Ok(()),
                () = hearing.due() => hearing.publish(),
                () = hearing.silence() => {
                    link.leave();
                    return Err(LinkError::Silent.into());
                }
            }
        };
    }
    Ok(())
}

/// One stream, and what of it is not published yet.
struct Hearing {
    picture: Picture,
    unpublished: Option<Scope>,
    heard: Arc<Mailbox>,
    due: Instant,
    /// When something came last.
    last: Instant,
    /// Whether the agent says also when there is nothing new that it is there.
    beats: bool,
}

impl Hearing {
    fn new(heard: Arc<Mailbox>) -> Self {
        let now = Instant::now();
        let picture = Picture::default();
        Self { picture, unpublished: None, heard, due: now, last: now, beats: false }
    }

    fn take(&mut self, news: News) -> Result<(), PictureError> {
        self.last = Instant::now();
        let (is_first, is_beat) = (!self.picture.is_complete(), is_empty(&news));
        let Some(changed) = self.picture.hear(news)? else { return Ok(()) };
        if is_beat && !is_first {
            self.beats = true;
            return Ok(());
        }
        let scope = if is_first { Scope::All } else { Scope::Only(changed) };
        self.unpublished = Some(match self.unpublished.take() {
            Some(before) => before.and(scope),
            None => scope,
        });
        if Instant::now() >= self.due {
            self.publish();
        }
        Ok(())
    }

    /// When what waits is to be published; never while nothing does.
    async fn due(&self) {
        match self.unpublished {
            Some(_) => tokio::time::sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }

    /// When nothing has come for so long that nothing comes any more.
    async fn silence(&self) {
        match self.beats {
            true => tokio::time::sleep_until(self.last + SILENT).await,
            false => std::future::pending().await,
        }
    }

    fn publish(&mut self) {
        let Some(scope) = self.unpublished.take() else { return };
        self.due = Instant::now() + EVERY;
        self.heard.put(Heard { picture: Arc::new(self.picture.clone()), scope });
    }
}

/// Whether a message says nothing but that the agent is there.
fn is_empty(news: &News) -> bool {
    let put = news.put_workloads.len() + news.put_services.len() + news.put_intentions.len();
    let gone = news.gone_workloads.len() + news.gone_services.len() + news.gone_intentions.len();
    let issuers = news.put_issuers.len() + news.gone_issuers.len();
    put + gone + issuers == 0
}

/// Makes what decides of what a proxy beside a pod's containers hears, without end.
pub(crate) async fn know(
    node: String,
    mut holdings: watch::Receiver<Option<Arc<Holdings>>>,
    heard: Arc<Mailbox>,
    known: watch::Sender<Option<Arc<Known>>>,
) {
    let (tell, registered) = watch::channel(None);
    let ((stand, _), (report, _)) = (watch::channel(None), watch::channel(None));
    let knowledge = Knowledge::new(node, Said::default());
    let knowing = Knowing { knowledge, registered, heard, known, stand, report };
    let registering = async {
        loop {
            let now = holdings.borrow_and_update().clone();
            if let Some(now) = now {
                tell.send_replace(Some(Arc::clone(&now.registered)));
            }
            if holdings.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::join!(registering, knowing.run());
}

/// Makes what decides of what is told.
struct Knowing {
    knowledge: Knowledge,
    registered: watch::Receiver<Option<Arc<Registered>>>,
    heard: Arc<Mailbox>,
    known: watch::Sender<Option<Arc<Known>>>,
    stand: watch::Sender<Option<Standing>>,
    report: watch::Sender<Option<nullius_proto::node_v1::MeshReport>>,
}

impl Knowing {
    async fn run(mut self) {
        let mut registered = self.registered.clone();
        loop {
            let now = registered.borrow_and_update().clone();
            // What is heard waits until it is known what is registered.
            if let Some(now) = now {
                self = self.know(now).await;
            }
            tokio::select! {
                () = self.heard.filled() => {}
                changed = registered.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn know(self, registered: Arc<Registered>) -> Self {
        let Self { mut knowledge, heard, .. } = self;
        let taken = heard.take();
        if taken.is_none() && knowledge.is_at_home(&registered) {
            return Self { knowledge, heard, ..self };
        }
        // To read intentions can take long: other pods' calls do not wait for it.
        let known = tokio::task::spawn_blocking(move || {
            let known = knowledge.know(taken, &registered, std::time::Instant::now());
            (knowledge, known)
        });
        let (knowledge, known) = match known.await {
            Ok(known) => known,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Some(known) = known {
            let said = knowledge.said_of_refused();
            let picture = Arc::clone(&known.picture);
            self.report.send_replace(report::of(&known));
            self.known.send_replace(Some(known));
            self.stand.send_replace(Some(Standing { picture, said }));
        }
        Self { knowledge, heard, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use nullius_mesh::news::{Mode, Workload};

    use super::*;

    fn pod(mode: Mode) -> Workload {
        Workload {
            uid: "u-1".into(),
            namespace: "shop".parse().unwrap(),
            name: "cart".into(),
            service_account: "cart".into(),
            node: "n1".into(),
            addresses: Vec::new(),
            spiffe_id: Some("spiffe://shop.example/ns/shop/sa/cart".parse().unwrap()),
            mode,
            local: None,
        }
    }

    fn news(sequence: u64, mode: Mode) -> News {
        News {
            stream: "s".into(),
            sequence,
            is_complete: true,
            put_workloads: vec![pod(mode)],
            ..News::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_come_at_once_and_then_together_four_times_a_second() {
        let heard = Arc::new(Mailbox::default());
        let mut hearing = Hearing::new(Arc::clone(&heard));
        let mode = |heard: &Heard| heard.picture.workloads()["u-1"].mode;
        hearing.take(news(1, Mode::Node)).unwrap();
        let first = heard.take().unwrap();
        assert!(matches!(first.scope, Scope::All));
        let mut published = 0;
        let mut sequence = 1;
        let begun = Instant::now();
        // It flaps twenty times a second for ten seconds.
        while begun.elapsed() < Duration::from_secs(10) {
            sequence += 1;
            let said = if sequence % 2 == 0 { Mode::None } else { Mode::Node };
            hearing.take(news(sequence, said)).unwrap();
            let next = Instant::now() + Duration::from_millis(50);
            loop {
                tokio::select! {
                    biased;
                    () = hearing.due() => hearing.publish(),
                    () = tokio::time::sleep_until(next) => break,
                }
            }
            if let Some(heard) = heard.take() {
                published += 1;
                assert!(matches!(heard.scope, Scope::Only(_)));
            }
        }
        assert!((39..=41).contains(&published), "{published}");
        // What comes last is not lost, and not late.
        hearing.publish();
        tokio::time::sleep(EVERY).await;
        hearing.take(news(sequence + 1, Mode::None)).unwrap();
        assert_eq!(mode(&heard.take().unwrap()), Mode::None);
        hearing.take(news(sequence + 2, Mode::Sidecar)).unwrap();
        assert!(heard.take().is_none());
        let told = Instant::now();
        hearing.due().await;
        hearing.publish();
        assert!(told.elapsed() <= EVERY);
        assert_eq!(mode(&heard.take().unwrap()), Mode::Sidecar);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_said_it_is_there_and_then_nothing_has_gone() {
        let heard = Arc::new(Mailbox::default());
        let mut hearing = Hearing::new(Arc::clone(&heard));
        let beat = |sequence| News { put_workloads: Vec::new(), ..news(sequence, Mode::Node) };
        hearing.take(news(1, Mode::Node)).unwrap();
        heard.take();
        // One that never says so may be silent for as long as nothing changes.
        let hour = Duration::from_secs(3_600);
        tokio::time::timeout(hour, hearing.silence()).await.unwrap_err();
        for sequence in 2..10 {
            hearing.take(beat(sequence)).unwrap();
            tokio::time::timeout(SILENT / 2, hearing.silence()).await.unwrap_err();
        }
        assert!(heard.take().is_none(), "it is no news");
        let said = Instant::now();
        hearing.take(beat(10)).unwrap();
        hearing.silence().await;
        assert_eq!(said.elapsed(), SILENT);
    }
}
