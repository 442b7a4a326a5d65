//! What a node says to the agent of what is in force: the newest of it, beside what decides and never before it.

use std::{sync::Arc, time::Duration};

use nullius_mesh::KeyAsks;
use nullius_proto::{
    VERSION,
    node_v1::{MeshReport, RefusedIntention},
};
use tokio::sync::watch;

use super::{known::Known, remember::MEMORY};
use crate::link::{Link, LinkError};

/// One report.
const PATIENCE: Duration = Duration::from_secs(10);
/// Refusals in one report. Where there are more, the agent takes nothing that it does not name for in force.
const REFUSED_MAX: usize = 1_000;
/// Bytes of refusals in one report: the agent takes 64 KiB.
const REFUSALS_MAX: usize = 60 * 1024;
/// So many issuers whose keys are wanted.
const WANTED_MAX: usize = 16;
/// Keys that are wanted are asked for at most so often; the agent fetches them as often as it thinks right.
const WANTED_EVERY: Duration = Duration::from_secs(1);
/// What a refusal costs beside its texts.
const BESIDE: usize = 24;

/// Reports, without end.
pub(crate) struct Reporting {
    pub(crate) link: Link,
    pub(crate) reports: watch::Receiver<Option<MeshReport>>,
    /// Keys of issuers that proxies want.
    pub(crate) asks: Arc<KeyAsks>,
}

impl Reporting {
    pub(crate) async fn run(mut self) {
        let mut next_ask = tokio::time::Instant::now();
        loop {
            let wanted = async {
                tokio::time::sleep_until(next_ask).await;
                self.asks.asked().await
            };
            let wanted_issuers: Vec<String> = tokio::select! {
                changed = self.reports.changed() => match changed {
                    Ok(()) => Vec::new(),
                    Err(_) => return,
                },
                wanted = wanted => {
                    next_ask = tokio::time::Instant::now() + WANTED_EVERY;
                    wanted.iter().take(WANTED_MAX).map(ToString::to_string).collect()
                }
            };
            let Some(report) = self.reports.borrow_and_update().clone() else { continue };
            let report = MeshReport { wanted_issuers, ..report };
            let told = async {
                let request = self.link.request(report)?;
                self.link.mesh().report(request).await.map_err(LinkError::told)
            };
            match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "fail to report what is in force"),
                Err(_) => tracing::debug!("fail to report what is in force in time"),
            }
        }
    }
}

/// What is to be reported; nothing of what is only remembered, which is of no stream.
pub(crate) fn of(known: &Known) -> Option<MeshReport> {
    let stream = known.picture.stream();
    (stream != MEMORY).then(|| MeshReport {
        version: VERSION,
        sequence: known.picture.sequence(),
        refused: fitting(known.refused.values().take(REFUSED_MAX).cloned().collect()),
        stream: stream.to_owned(),
        refuses_more: known.refused.len() > REFUSED_MAX,
        wanted_issuers: Vec::new(),
    })
}

/// Refusals, and why as far as there is room: that one is refused is more than its reason.
fn fitting(mut refused: Vec<RefusedIntention>) -> Vec<RefusedIntention> {
    let names: usize = refused.iter().map(|it| it.uid.len() + BESIDE).sum();
    let each = REFUSALS_MAX.saturating_sub(names) / refused.len().max(1);
    for one in &mut refused {
        one.message.truncate(one.message.floor_char_boundary(each));
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: usize, why: usize) -> Vec<RefusedIntention> {
        let one = |number| RefusedIntention {
            uid: format!("0a1b2c3d-0000-4111-8222-{number:012}"),
            generation: 1,
            message: "w".repeat(why),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn no_refusal_is_left_out_and_what_is_told_of_them_fits() {
        assert_eq!(
            fitting(refused(101, 512)).iter().filter(|it| it.message.len() == 512).count(),
            101
        );
        for count in [0, 1, 200, 1_000] {
            let told = fitting(refused(count, 512));
            assert_eq!(told.len(), count);
            let report = MeshReport { refused: told, ..MeshReport::default() };
            assert!(nullius_proto::encode(&report).len() <= 64 * 1024, "{count}");
        }
    }
}
