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

use super::known::Known;
use crate::{
    link::{Link, LinkError},
    memory::{MemoryError, read_message, write_message},
};

/// The file in which it stands.
const NAME: &str = "mesh";
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
        let hear = hear_on(self.link.clone(), tell);
        let know = know(self.link, self.registered, told.clone(), self.known);
        let keep = keep(self.state, domain, told);
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
    let answer = link.mesh().watch(request).await.map_err(LinkError::told)?;
    let mut stream = answer.into_inner();
    let mut picture = Picture::default();
    while let Some(message) = stream.message().await.map_err(LinkError::told)? {
        if picture.hear(read_news(message)?)?.is_some() {
            tell.send_replace(Some(Arc::new(picture.clone())));
        }
    }
    Ok(())
}

/// Makes what decides of what is told, and says to the agent what is in force.
async fn know(
    link: Link,
    mut registered: watch::Receiver<Option<Arc<Registered>>>,
    mut told: watch::Receiver<Option<Arc<Picture>>>,
    known: watch::Sender<Option<Arc<Known>>>,
) {
    loop {
        let picture = told.borrow_and_update().clone();
        let now = registered.borrow_and_update().clone();
        if let (Some(picture), Some(now)) = (picture, now) {
            let before = known.borrow().clone();
            let after = Arc::new(Known::new(picture, &now, before.as_deref()));
            known.send_replace(Some(Arc::clone(&after)));
            report(&link, &after).await;
        }
        let changed = tokio::select! {
            changed = told.changed() => changed,
            changed = registered.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
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
async fn keep(
    state: PathBuf,
    domain: TrustDomain,
    mut told: watch::Receiver<Option<Arc<Picture>>>,
) {
    while told.changed().await.is_ok() {
        let Some(picture) = told.borrow_and_update().clone() else { continue };
        let (state, domain) = (state.clone(), domain.clone());
        let written =
            tokio::task::spawn_blocking(move || remember(&state, &domain, &picture)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(%error, "fail to remember the mesh for a restart");
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

/// As one message, behind the trust domain that it is of.
fn remember(state: &Path, domain: &TrustDomain, picture: &Picture) -> std::io::Result<()> {
    let news = News {
        stream: MEMORY.into(),
        sequence: 1,
        is_complete: true,
        put_workloads: picture.workloads().values().map(|it| (**it).clone()).collect(),
        put_services: picture.services().values().map(|it| (**it).clone()).collect(),
        put_intentions: picture.intentions().values().map(|it| (**it).clone()).collect(),
        ..News::default()
    };
    let mut message = domain.as_str().as_bytes().to_vec();
    message.push(b'\n');
    message.extend(nullius_proto::encode(&write_news(&news)));
    write_message(state, NAME, &message)
}

fn remembered(state: &Path, domain: &TrustDomain) -> Result<Option<Picture>, MemoryError> {
    let Some(message) = read_message(state, NAME, REMEMBERED_MAX)? else { return Ok(None) };
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
        remember(folder.path(), &domain, &picture).unwrap();
        let again = remembered(folder.path(), &domain).unwrap().unwrap();
        assert_eq!(*again.workloads()["u-1"], pod);
        assert_eq!(again.stream(), MEMORY);
        let other = "bank.example".parse().unwrap();
        assert!(matches!(remembered(folder.path(), &other), Err(MemoryError::Torn)));
    }
}
