//! The authority of the audit webhook: made once, kept in a Secret with the file that an administrator gives to API servers.
//!
//! API servers read that file when they start, so that nothing in it may change behind an administrator's back: the authority lasts for
//! years, and a new client certificate is laid ready months before the old one ends. Whoever empties the Secret gets another authority,
//! and with it nobody's old certificate counts any more.

use std::{sync::Arc, time::Duration};

use nullius_kube::{AuditWebhook, AuditWebhookStore, CallerFile};
use nullius_model::{Timestamp, Ttl};
use nullius_pki::{PrivateKey, RootError, ServingAuthority};
use nullius_tls::{LiveCertificate, TlsError, WebRoots, WebhookAcceptor};
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::sync::watch;

use super::{meters::HearingMeters, service_name};
use crate::error::chain;

const DAY: u32 = 86_400;
const AUTHORITY_LIFE: Ttl = Ttl::from_secs(3_650 * DAY);
const CALLER_LIFE: Ttl = Ttl::from_secs(365 * DAY);
/// A new client certificate lies ready for so long before the old one ends.
const CALLER_AHEAD: i64 = 120 * DAY as i64;
const LOOK: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(3);

/// What the listener accepts with, once there is an authority.
pub(super) type Accepts = watch::Receiver<Option<WebhookAcceptor>>;

/// Why there is nothing to accept with yet.
#[derive(Debug, thiserror::Error)]
enum AuthorityError {
    #[error(
        "the manifest of this cluster is older than this agent; apply the manifest of this version"
    )]
    NoPlace,
    #[error("another replica keeps it at this moment")]
    Meanwhile,
    #[error(transparent)]
    Cluster(#[from] nullius_kube::KubeError),
    #[error("the audit webhook's authority cannot be used; empty the Secret to have another made")]
    Authority(#[from] RootError),
    #[error("the audit webhook's tls cannot be set up")]
    Tls(#[from] TlsError),
}

/// What is shown, and when it is to be renewed.
struct Shown {
    authority_pem: String,
    certificate: Arc<LiveCertificate>,
    renew_at: Timestamp,
}

/// Keeps it for as long as the process lives.
pub(super) async fn keep(
    store: AuditWebhookStore,
    told: watch::Sender<Option<WebhookAcceptor>>,
    meters: HearingMeters,
) {
    let mut shown: Option<Shown> = None;
    let mut last = String::new();
    loop {
        let wait = match look(&store, &mut shown, &told, &meters).await {
            Ok(()) => {
                last.clear();
                LOOK
            }
            Err(AuthorityError::Meanwhile) => AGAIN,
            Err(error) => {
                let why = chain(&error);
                if why != last {
                    tracing::warn!(error = %why, "cannot hear the api server's audit webhook yet, try again");
                }
                last = why;
                if shown.is_some() { LOOK } else { AGAIN }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn look(
    store: &AuditWebhookStore,
    shown: &mut Option<Shown>,
    told: &watch::Sender<Option<WebhookAcceptor>>,
    meters: &HearingMeters,
) -> Result<(), AuthorityError> {
    let mut webhook = store.load().await?.ok_or(AuthorityError::NoPlace)?;
    let now = Timestamp::now();
    let authority = authority(&mut webhook, now)?;
    let address = store.address().await?;
    if webhook.address != address || webhook.client_ends - now.as_second() < CALLER_AHEAD {
        lay_ready(&mut webhook, &authority, &address, now)?;
        if !store.keep(&webhook).await? {
            return Err(AuthorityError::Meanwhile);
        }
        tracing::info!(%address, "lay a file for the api server's audit webhook ready");
    }
    meters.client_ends.set((), webhook.client_ends);
    show(&webhook, &authority, now, shown, told)
}

/// The authority that is kept, or a new one.
fn authority(webhook: &mut AuditWebhook, now: Timestamp) -> Result<ServingAuthority, RootError> {
    if webhook.authority_pem.is_empty() {
        let made = ServingAuthority::create_for(&service_name(), AUTHORITY_LIFE, now)?;
        webhook.authority_pem = made.certificate_pem();
        webhook.authority_key = SecretSlice::from(made.key_pkcs8().to_vec());
        return Ok(made);
    }
    ServingAuthority::from_parts(&webhook.authority_pem, webhook.authority_key.expose_secret())
}

fn lay_ready(
    webhook: &mut AuditWebhook,
    authority: &ServingAuthority,
    address: &str,
    now: Timestamp,
) -> Result<(), RootError> {
    let name = service_name();
    let caller = authority.issue_caller(&format!("api-server.{name}"), CALLER_LIFE, now)?;
    webhook.set_file(&CallerFile {
        address,
        server_name: &name,
        certificate_pem: &caller.certificate_pem,
        key_pem: &caller.key_pem,
        ends: caller.not_after.as_second(),
    });
    Ok(())
}

fn show(
    webhook: &AuditWebhook,
    authority: &ServingAuthority,
    now: Timestamp,
    shown: &mut Option<Shown>,
    told: &watch::Sender<Option<WebhookAcceptor>>,
) -> Result<(), AuthorityError> {
    let same = shown.as_ref().filter(|shown| shown.authority_pem == webhook.authority_pem);
    if same.is_some_and(|shown| now < shown.renew_at) {
        return Ok(());
    }
    let issued = authority.issue(&service_name(), now)?;
    let renew_at = now + issued.not_after.duration_since(now) / 2;
    let key = PrivateKey::to_der(&issued.key);
    let certificate = match same {
        Some(shown) => {
            shown.certificate.replace(issued.chain, key)?;
            Arc::clone(&shown.certificate)
        }
        None => {
            let certificate = LiveCertificate::new(issued.chain, key)?;
            let roots = WebRoots::from_pem(webhook.authority_pem.as_bytes())?;
            let acceptor = WebhookAcceptor::new(Arc::clone(&certificate), Some(&roots))?;
            told.send_replace(Some(acceptor));
            tracing::info!("hear the api server's audit webhook");
            certificate
        }
    };
    let authority_pem = webhook.authority_pem.clone();
    *shown = Some(Shown { authority_pem, certificate, renew_at });
    Ok(())
}
