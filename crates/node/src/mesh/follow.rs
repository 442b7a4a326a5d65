//! What stands in the cluster, heard of `agent identity` and remembered for a restart.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nullius_mesh::news::{News, Picture, PictureError, read_news, write_news};
use nullius_model::TrustDomain;
use nullius_proto::{
    VERSION,
    node_v1::{MeshReport, WatchMeshRequest},
};
use nullius_workload::{Registered, wait_after};
use tokio::sync::watch;

use super::{known::Known, said::Said};
use crate::{
    link::{Link, LinkError},
    memory::{MemoryError, read_message, write_message},
};

/// The file in which it stands.
const NAME: &str = "mesh";
/// That of what intentions said before they could not be read any more.
const SAID: &str = "mesh-said";
/// The longest one that is read.
const REMEMBERED_MAX: usize = 512 * 1024 * 1024;
/// The disk is written to at most so often.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// A stream that lasted so long was a good one: after it waits begin anew.
const GOOD: Duration = Duration::from_secs(10);
const MOST_FAILURES: u32 = 3;
/// So many refusals are reported: what the agent takes in one message.
const REFUSED_MAX: usize = 100;

/// Hears, without end.
pub(crate) struct Follower {
    link: Link,
    state: PathBuf,
    registered: watch::Receiver<Option<Arc<Registered>>>,
    known: watch::Sender<Option<Arc<Known>>>,
}

impl Follower {
    pub(crate) fn new(
        link: Link,
        state: PathBuf,
        registered: watch::Receiver<Option<Arc<Registered>>>,
        known: watch::Sender<Option<Arc<Known>>>,
    ) -> Self {
        Self { link, state, registered, known }
    }

    pub(crate) async fn run(self) {
        let (tell, told) = watch::channel(None::<Arc<Picture>>);
        let domain = self.domain().await;
        match remembered(&self.state, &domain) {
            Ok(Some(picture)) => {
                tracing::info!(pods = picture.workloads().len(), "remember what stood in the mesh");
                tell.send_replace(Some(Arc::new(picture)));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "forget what stood in the mesh before the restart")
            }
        }
        let said = said(&self.state, &domain).unwrap_or_else(|error| {
            tracing::warn!(%error, "forget what intentions said that cannot be read any more");
            Said::default()
        });
        let (stand, stands) = watch::channel(None);
        let hear = hear_on(self.link.clone(), tell);
        let knowing = Knowing {
            link: self.link,
            registered: self.registered,
            said,
            stand,
            known: self.known,
        };
        let know = knowing.run(told);
        let keep = keep(self.state, domain, stands);
        tokio::join!(hear, know, keep);
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
async fn hear_on(link: Link, tell: watch::Sender<Option<Arc<Picture>>>) {
    let mut failures = 0_u32;
    loop {
        let began = Instant::now();
        let ended = hear(&link, &tell).await;
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

async fn hear(link: &Link, tell: &watch::Sender<Option<Arc<Picture>>>) -> Result<(), FollowError> {
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
    let mut picture = Picture::default();
    while let Some(news) = message {
        if picture.hear(read_news(news)?)?.is_some() {
            tell.send_replace(Some(Arc::new(picture.clone())));
        }
        message = tokio::select! {
            message = stream.message() => message.map_err(LinkError::told)?,
            // Reports go over the next connection, and are of a stream there.
            _ = left.changed() => return Ok(()),
        };
    }
    Ok(())
}

/// What is remembered for a restart: what stands, and what of it counts though it stands so no more.
#[derive(Debug, Clone)]
struct Standing {
    picture: Arc<Picture>,
    said: Said,
}

/// Makes what decides of what is told, and says to the agent what is in force.
struct Knowing {
    link: Link,
    registered: watch::Receiver<Option<Arc<Registered>>>,
    said: Said,
    stand: watch::Sender<Option<Standing>>,
    known: watch::Sender<Option<Arc<Known>>>,
}

impl Knowing {
    async fn run(mut self, mut told: watch::Receiver<Option<Arc<Picture>>>) {
        loop {
            let picture = told.borrow_and_update().clone();
            let now = self.registered.borrow_and_update().clone();
            if let (Some(picture), Some(now)) = (picture, now) {
                let after = self.know(picture, &now);
                report(&self.link, &after).await;
            }
            let changed = tokio::select! {
                changed = told.changed() => changed,
                changed = self.registered.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn know(&mut self, picture: Arc<Picture>, registered: &Registered) -> Arc<Known> {
        let before = self.known.borrow().clone();
        let before = before.or_else(|| self.said.known(MEMORY, registered).map(Arc::new));
        let after = Arc::new(Known::new(picture, registered, before.as_deref(), Instant::now()));
        self.known.send_replace(Some(Arc::clone(&after)));
        self.said.hear(&after);
        let said = self.said.beside(&after.picture);
        let picture = Arc::clone(&after.picture);
        self.stand.send_if_modified(|before| {
            let is_as_before =
                |it: &Standing| Arc::ptr_eq(&it.picture, &picture) && it.said == said;
            let is_new = !before.as_ref().is_some_and(is_as_before);
            if is_new {
                *before = Some(Standing { picture, said });
            }
            is_new
        });
        after
    }
}

async fn report(link: &Link, known: &Known) {
    // What is only remembered is of no stream.
    if known.picture.stream() == MEMORY {
        return;
    }
    let report = MeshReport {
        version: VERSION,
        sequence: known.picture.sequence(),
        refused: known.refused.iter().take(REFUSED_MAX).cloned().collect(),
        stream: known.picture.stream().to_owned(),
    };
    let told = async {
        let request = link.request(report)?;
        link.mesh().report(request).await.map_err(LinkError::told)
    };
    match tokio::time::timeout(GOOD, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "fail to report what is in force"),
        Err(_) => tracing::debug!("fail to report what is in force in time"),
    }
}

/// The stream of what is remembered.
const MEMORY: &str = "memory";

/// Remembers what stands, the last of it where it changes faster.
async fn keep(state: PathBuf, domain: TrustDomain, mut stands: watch::Receiver<Option<Standing>>) {
    while stands.changed().await.is_ok() {
        let Some(standing) = stands.borrow_and_update().clone() else { continue };
        let (state, domain) = (state.clone(), domain.clone());
        let written =
            tokio::task::spawn_blocking(move || remember(&state, &domain, &standing)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(%error, "fail to remember the mesh for a restart");
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

fn remember(state: &Path, domain: &TrustDomain, standing: &Standing) -> std::io::Result<()> {
    let Standing { picture, said } = standing;
    // First, so that nothing stands on the disk as unreadable without what it said.
    write(state, domain, SAID, &said.news(MEMORY))?;
    let news = News {
        stream: MEMORY.into(),
        sequence: 1,
        is_complete: true,
        put_workloads: picture.workloads().values().map(|it| (**it).clone()).collect(),
        put_services: picture.services().values().map(|it| (**it).clone()).collect(),
        put_intentions: picture.intentions().values().map(|it| (**it).clone()).collect(),
        ..News::default()
    };
    write(state, domain, NAME, &news)
}

/// As one message, behind the trust domain that it is of.
fn write(state: &Path, domain: &TrustDomain, name: &str, news: &News) -> std::io::Result<()> {
    let mut message = domain.as_str().as_bytes().to_vec();
    message.push(b'\n');
    message.extend(nullius_proto::encode(&write_news(news)));
    write_message(state, name, &message)
}

fn remembered(state: &Path, domain: &TrustDomain) -> Result<Option<Picture>, MemoryError> {
    read(state, domain, NAME)
}

fn said(state: &Path, domain: &TrustDomain) -> Result<Said, MemoryError> {
    Ok(read(state, domain, SAID)?.as_ref().map(Said::of).unwrap_or_default())
}

fn read(state: &Path, domain: &TrustDomain, name: &str) -> Result<Option<Picture>, MemoryError> {
    let Some(message) = read_message(state, name, REMEMBERED_MAX)? else { return Ok(None) };
    let of_domain = |message: &[u8]| {
        let message = message.strip_prefix(domain.as_str().as_bytes())?.strip_prefix(b"\n")?;
        let news = read_news(nullius_proto::decode(message)?).ok()?;
        let mut picture = Picture::default();
        picture.hear(news).ok()??;
        Some(picture)
    };
    of_domain(&message).map(Some).ok_or(MemoryError::Torn)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use nullius_mesh::news::{Mode, Workload};

    use super::*;

    #[test]
    fn what_stood_is_known_after_a_restart_of_the_same_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let domain: TrustDomain = "shop.example".parse().unwrap();
        assert!(remembered(folder.path(), &domain).unwrap().is_none());
        let pod = Workload {
            uid: "u-1".into(),
            namespace: "shop".parse().unwrap(),
            name: "cart".into(),
            service_account: "cart".into(),
            node: "n1".into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            spiffe_id: Some("spiffe://shop.example/ns/shop/sa/cart".parse().unwrap()),
            mode: Mode::Node,
            local: None,
        };
        let mut picture = Picture::default();
        let news = News {
            stream: "s".into(),
            sequence: 1,
            is_complete: true,
            put_workloads: vec![pod.clone()],
            ..News::default()
        };
        picture.hear(news).unwrap();
        let standing = Standing { picture: Arc::new(picture), said: Said::default() };
        remember(folder.path(), &domain, &standing).unwrap();
        let again = remembered(folder.path(), &domain).unwrap().unwrap();
        assert_eq!(*again.workloads()["u-1"], pod);
        assert_eq!(again.stream(), MEMORY);
        let other = "bank.example".parse().unwrap();
        assert!(matches!(remembered(folder.path(), &other), Err(MemoryError::Torn)));
    }
}
