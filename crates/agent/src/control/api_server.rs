//! What the API server says of itself: its audit webhook ends here, with a listener, an authority and a budget of its own.
//!
//! Nobody gets past TLS without the client certificate that this agent made for API servers. A list is taken whole or turned away, and the
//! API server keeps it for a while and tries again; nothing else that control does waits for it.

mod authority;
mod hearing;
mod listener;
mod meters;

use nullius_kube::{AGENT_AUDIT, AuditWebhookStore, SYSTEM_NAMESPACE};
use nullius_tls::Protocol;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use self::{hearing::Hearing, listener::Ear, meters::HearingMeters};
use crate::{identity::Identity, meters::Meters, report, tasks::Tasks};

/// Begins to hear, and to tell the hub.
pub(super) fn hear(
    listener: TcpListener,
    store: AuditWebhookStore,
    identity: Identity,
    meters: &Meters,
    tasks: &mut Tasks,
) {
    let meters = HearingMeters::new(&meters.all);
    let (reports, waiting) = report::open();
    let (told, acceptor) = watch::channel(None);
    let hearing = Hearing::new(identity.cluster.clone(), reports, meters.clone());
    tasks.spawn_loop("audit webhook's authority", authority::keep(store, told, meters));
    // What was taken is told to the end: first nobody is heard any more.
    let deaf = CancellationToken::new();
    let hears = deaf.clone().drop_guard();
    tasks.spawn_loop("audit webhook", async move {
        let _hears = hears;
        Ear::new(hearing).serve(listener, acceptor).await;
    });
    tasks.spawn("reports of the api server", waiting.tell(identity, Protocol::Admission, deaf));
}

/// The DNS name by which API servers know the webhook.
fn service_name() -> String {
    format!("{AGENT_AUDIT}.{SYSTEM_NAMESPACE}.svc")
}

#[cfg(test)]
mod tests;
