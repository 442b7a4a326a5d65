//! What a node knows of the mesh after a restart: what stood, and what of it counted though it could not be read any more.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nullius_mesh::news::{News, Picture, read_news, write_news};
use nullius_model::TrustDomain;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::said::Said;
use crate::memory::{MemoryError, read_message, write_message};

/// The file in which it stands.
const NAME: &str = "mesh";
/// That of what intentions said before they could not be read any more.
const SAID: &str = "mesh-said";
/// The longest one that is read.
const REMEMBERED_MAX: usize = 512 * 1024 * 1024;
/// The disk is written to at most so often.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// And no longer than one part in so many of the time.
const PART: u32 = 20;
/// The stream of what is remembered.
pub(crate) const MEMORY: &str = "memory";

type Digest = [u8; 32];

/// What is remembered for a restart: what stands, and what of it counts though it stands so no more.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) picture: Arc<Picture>,
    pub(crate) said: Said,
}

/// What was written last.
#[derive(Debug, Default)]
struct Written {
    picture: Option<Digest>,
    said: Option<Digest>,
}

/// Remembers what stands, the last of it where it changes faster.
pub(crate) async fn keep(
    state: PathBuf,
    domain: TrustDomain,
    mut stands: watch::Receiver<Option<Standing>>,
) {
    let mut written = Written::default();
    while stands.changed().await.is_ok() {
        let Some(standing) = stands.borrow_and_update().clone() else { continue };
        let (state, domain) = (state.clone(), domain.clone());
        let began = Instant::now();
        let wrote = tokio::task::spawn_blocking(move || {
            let wrote = remember(&state, &domain, &standing, &mut written);
            (written, wrote)
        });
        let wrote = match wrote.await {
            Ok((last, wrote)) => {
                written = last;
                wrote
            }
            Err(error) => {
                written = Written::default();
                Err(std::io::Error::other(error))
            }
        };
        if let Err(error) = wrote {
            tracing::error!(%error, "fail to remember the mesh for a restart");
        }
        tokio::time::sleep(WRITE_EVERY.max(began.elapsed() * PART)).await;
    }
}

fn remember(
    state: &Path,
    domain: &TrustDomain,
    standing: &Standing,
    written: &mut Written,
) -> std::io::Result<()> {
    let Standing { picture, said } = standing;
    // First, so that nothing stands on the disk as unreadable without what it said.
    write(state, domain, SAID, &said.news(MEMORY), &mut written.said)?;
    let news = News {
        stream: MEMORY.into(),
        sequence: 1,
        is_complete: true,
        put_workloads: picture.workloads().values().map(|it| (**it).clone()).collect(),
        put_services: picture.services().values().map(|it| (**it).clone()).collect(),
        put_intentions: picture.intentions().values().map(|it| (**it).clone()).collect(),
        put_issuers: picture.issuers().values().cloned().collect(),
        ..News::default()
    };
    write(state, domain, NAME, &news, &mut written.picture)
}

/// As one message, behind the trust domain that it is of; not again where it was the last one.
fn write(
    state: &Path,
    domain: &TrustDomain,
    name: &str,
    news: &News,
    last: &mut Option<Digest>,
) -> std::io::Result<()> {
    let mut message = domain.as_str().as_bytes().to_vec();
    message.push(b'\n');
    message.extend(nullius_proto::encode(&write_news(news)));
    let digest = Sha256::digest(&message).into();
    if *last != Some(digest) {
        // After a fault it is not known what stands.
        *last = None;
        write_message(state, name, &message)?;
        *last = Some(digest);
    }
    Ok(())
}

/// What stood.
pub(crate) fn picture(state: &Path, domain: &TrustDomain) -> Result<Option<Picture>, MemoryError> {
    read(state, domain, NAME)
}

/// What intentions said that could not be read any more.
pub(crate) fn said(state: &Path, domain: &TrustDomain) -> Result<Said, MemoryError> {
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

    fn pod() -> Workload {
        Workload {
            uid: "u-1".into(),
            namespace: "shop".parse().unwrap(),
            name: "cart".into(),
            service_account: "cart".into(),
            node: "n1".into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            spiffe_id: Some("spiffe://shop.example/ns/shop/sa/cart".parse().unwrap()),
            mode: Mode::Node,
            local: None,
        }
    }

    fn standing(pods: Vec<Workload>) -> Standing {
        let mut picture = Picture::default();
        let news = News {
            stream: "s".into(),
            sequence: 1,
            is_complete: true,
            put_workloads: pods,
            ..News::default()
        };
        picture.hear(news).unwrap();
        Standing { picture: Arc::new(picture), said: Said::default() }
    }

    #[test]
    fn what_stood_is_known_after_a_restart_of_the_same_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let domain: TrustDomain = "shop.example".parse().unwrap();
        assert!(picture(folder.path(), &domain).unwrap().is_none());
        let mut written = Written::default();
        remember(folder.path(), &domain, &standing(vec![pod()]), &mut written).unwrap();
        let again = picture(folder.path(), &domain).unwrap().unwrap();
        assert_eq!(*again.workloads()["u-1"], pod());
        assert_eq!(again.stream(), MEMORY);
        let other = "bank.example".parse().unwrap();
        assert!(matches!(picture(folder.path(), &other), Err(MemoryError::Torn)));
    }

    #[test]
    fn what_stands_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let domain: TrustDomain = "shop.example".parse().unwrap();
        let mut written = Written::default();
        let mut remember = |pods| {
            remember(folder.path(), &domain, &standing(pods), &mut written).unwrap();
            use std::os::unix::fs::MetadataExt as _;
            [NAME, SAID].map(|name| std::fs::metadata(folder.path().join(name)).unwrap().ino())
        };
        let first = remember(vec![pod()]);
        assert_eq!(remember(vec![pod()]), first);
        let second = remember(Vec::new());
        assert_ne!(second[0], first[0]);
        assert_eq!(second[1], first[1]);
    }
}
