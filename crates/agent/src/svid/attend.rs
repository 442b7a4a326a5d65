//! The hub hears how the cluster's authority stands, and may order another one: whoever leads tells it whatever changed, and asks every few
//! seconds.
//!
//! An order is the hub's command, signed: for this cluster, fresh, and newer than each that was taken before, which the Secret remembers
//! over restarts. It is a wish like that of somebody who annotates the Secret, and carried out in the same steps.

use std::{sync::Arc, time::Duration};

use nullius_kube::identity::{IdentityGeneration, IdentityRecord};
use nullius_model::{Order, Timestamp, TrustDomain};
use nullius_pki::{CommandVerifier, Verifier};
use nullius_proto::{
    VERSION,
    agent_v1::{
        AuthorityReport, AuthorityStage, KeptBundle, TrustAnswer, TrustReport,
        workload_root_client::WorkloadRootClient,
    },
};
use nullius_tls::Protocol;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{sync::watch, time::Instant};
use tonic::transport::Channel;

use super::{federation::Federated, lead::Hub, standing::Standing, turn::Ordered};
use crate::{
    Address, AgentError,
    error::chain,
    identity::Identity,
    net::{BoxIo, channel, dial},
};

/// Between two questions while nothing changes.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two reports, however much changes.
const LEAST: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// While the hub is away the log says so this often.
const TELL_AGAIN: Duration = Duration::from_secs(300);
/// Characters of a wish that are told.
const WISH_MAX: usize = 200;
/// What the hub says beside the own authority is kept with all that is not known of it.
const BESIDE_FORM: u32 = 1;

/// What this replica tells while it leads.
pub(crate) type Report = Option<Arc<TrustReport>>;

/// The part of a replica that asks the hub.
pub(crate) struct Attending {
    pub(crate) commands: CommandVerifier,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) hub: Hub,
    /// None while this replica does not lead.
    pub(crate) report: watch::Receiver<Report>,
    pub(crate) ordered: watch::Sender<Option<Ordered>>,
    pub(crate) federated: watch::Sender<Option<Federated>>,
}

impl Attending {
    /// Asks for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let mut clients: Vec<WorkloadRootClient<Channel>> = Vec::new();
        let mut key_set = String::new();
        let mut failing: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = self.report.changed() => if changed.is_err() {
                    // Nobody leads here any more: the process ends.
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(AGAIN) => {}
            }
            let Some(report) = self.report.borrow_and_update().clone() else { continue };
            let identity = self.hub.borrow().clone();
            let Some(identity) = identity else { continue };
            if clients.is_empty() {
                let all = identity.hub.addresses.iter().map(|address| client(&identity, address));
                clients = all.filter_map(Result::ok).collect();
            }
            match ask(&mut clients, &report).await {
                Ok(answer) => {
                    failing = None;
                    self.hear(answer, &mut key_set);
                }
                Err(why) if failing.is_none_or(|since| since.elapsed() >= TELL_AGAIN) => {
                    failing = Some(Instant::now());
                    tracing::warn!(%why, "cannot tell the hub how the cluster's authority stands, try again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(LEAST).await;
        }
    }

    fn hear(&self, answer: TrustAnswer, key_set: &mut String) {
        if answer.key_set != *key_set {
            match self.verifier.install(&answer.key_set) {
                Ok(_) => *key_set = answer.key_set,
                Err(error) => tracing::warn!(error = %chain(&error), "refuse a key set of the hub"),
            }
        }
        for order in &answer.orders {
            self.hear_order(order);
        }
    }

    fn hear_order(&self, order: &str) {
        match self.commands.verify(order, Timestamp::now()) {
            Ok(command) => match command.order {
                Order::Rotate { mode } => {
                    let ordered = Ordered {
                        id: command.id,
                        revision: command.revision,
                        issued_at: command.issued_at,
                        mode,
                    };
                    self.ordered.send_replace(Some(ordered));
                }
                Order::Federate(beside) => {
                    let (revision, issued_at) = (command.revision, command.issued_at);
                    let federated = Federated { revision, issued_at, beside };
                    self.federated.send_replace(Some(federated));
                }
                Order::Ensure(_) | Order::Flush { .. } | Order::Live { .. } => {
                    tracing::warn!("refuse an order that is for another agent");
                }
            },
            Err(error) => tracing::warn!(error = %chain(&error), "refuse an order of the hub"),
        }
    }
}

/// Asks the replicas of the hub in turn.
async fn ask(
    clients: &mut [WorkloadRootClient<Channel>],
    report: &TrustReport,
) -> Result<TrustAnswer, String> {
    let mut last = "no address is configured".to_owned();
    for client in clients {
        match tokio::time::timeout(CALL_TIMEOUT, client.stand(report.clone())).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => last = status.message().to_owned(),
            Err(_) => last = "it does not answer".to_owned(),
        }
    }
    Err(last)
}

/// A client that connects when it is needed, each time with the certificate of then.
pub(crate) fn client(
    identity: &Identity,
    address: &Address,
) -> Result<WorkloadRootClient<Channel>, AgentError> {
    let connector = identity.to_hub(Protocol::Identity)?;
    let address = address.clone();
    let channel = channel(move || {
        let (address, connector) = (address.clone(), connector.clone());
        Box::pin(async move {
            let tcp = dial(&address).await?;
            Ok(Box::new(connector.connect(tcp, &address.host).await?.stream) as BoxIo)
        })
    });
    Ok(WorkloadRootClient::new(channel))
}

/// What is told of a record.
pub(crate) fn report_of(
    record: &IdentityRecord,
    domain: &TrustDomain,
    now: Timestamp,
) -> TrustReport {
    let forced = record.current.as_ref().is_some_and(|current| current.is_forced);
    let stages = [
        (&record.current, AuthorityStage::Active),
        (&record.next, AuthorityStage::Certified),
        (&record.previous, if forced { AuthorityStage::Tainted } else { AuthorityStage::Retiring }),
    ];
    let authorities = stages.into_iter().filter_map(|(generation, stage)| {
        generation.as_ref().map(|generation| authority(generation, stage, domain))
    });
    let standing = Standing::of(record, domain, now).ok().flatten();
    let kept = standing.iter().flat_map(|it| &it.beside.digests).map(|(domain, digest)| {
        KeptBundle { trust_domain: domain.to_string(), digest: digest.clone() }
    });
    TrustReport {
        beside_form: BESIDE_FORM,
        kept: kept.collect(),
        version: VERSION,
        sequence: record.sequence,
        since: record.since,
        authorities: authorities.collect(),
        bundle: standing.map(|it| it.bundle.to_json().to_string().into_bytes()).unwrap_or_default(),
        wish: record.wish.chars().take(WISH_MAX).collect(),
        rotated: record.rotated.chars().take(WISH_MAX).collect(),
        beside: nullius_pki::token_hash(&record.beside),
    }
}

fn authority(
    generation: &IdentityGeneration,
    stage: AuthorityStage,
    domain: &TrustDomain,
) -> AuthorityReport {
    let der = |pem: &str| {
        let read = CertificateDer::from_pem_slice(pem.as_bytes());
        read.map(|der| der.to_vec()).unwrap_or_default()
    };
    let certified = generation.certified.as_ref();
    let stage = if certified.is_some() { stage } else { AuthorityStage::Prepared };
    AuthorityReport {
        stage: stage.into(),
        certificate: certified.map(|it| der(&it.certificate_pem)).unwrap_or_default(),
        anchor: certified.map(|it| der(&it.anchor_pem)).unwrap_or_default(),
        jwt_key: super::standing::signer(generation, domain)
            .map(|signer| signer.authority().kid().to_owned())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;
    use crate::svid::turn::tests::{Hub as Root, at, domain, first, kept};

    fn stages(record: &IdentityRecord, second: i64) -> Vec<AuthorityStage> {
        let report = report_of(record, &domain(), at(second));
        report.authorities.iter().map(AuthorityReport::stage).collect()
    }

    #[test]
    fn each_step_of_a_rotation_is_told() {
        use AuthorityStage::{Active, Certified, Prepared, Retiring, Tainted};
        let hub = Root::new();
        let prepared = kept(&IdentityRecord::default(), 0);
        assert_eq!(stages(&prepared, 0), [Prepared]);
        assert!(report_of(&prepared, &domain(), at(0)).bundle.is_empty());
        let mut record = first(&hub);
        assert_eq!(stages(&record, 5), [Active]);
        record.wish = "taint-hub-1".to_owned();
        let prepared = kept(&record, 100);
        assert_eq!(stages(&prepared, 100), [Active, Prepared]);
        let certified = hub.certifies(&prepared, 101);
        assert_eq!(stages(&certified, 101), [Active, Certified]);
        let report = report_of(&certified, &domain(), at(102));
        assert_eq!((report.rotated.as_str(), report.sequence), ("taint-hub-1", certified.sequence));
        assert!(
            report.authorities.iter().all(|it| !it.anchor.is_empty() && !it.jwt_key.is_empty())
        );
        assert_eq!(stages(&kept(&certified, 300), 300), [Active, Tainted]);
        let day = 86_400;
        let by_itself = hub.certifies(&kept(&first(&hub), 4 * day), 4 * day);
        assert_eq!(stages(&kept(&by_itself, 6 * day), 6 * day), [Active, Retiring]);
    }
}
