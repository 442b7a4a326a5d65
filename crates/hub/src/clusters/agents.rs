//! A connection of an agent, already proven by its certificate: a tunnel or the control service, by its protocol.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nullius_access::Snapshot;
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, ClusterName, InfraId, InstanceId, Kind, ObjectName,
    Timestamp,
};
use nullius_pki::AGENT_CERTIFICATE_TTL;
use nullius_proto::agent_v1::control_server::ControlServer;
use nullius_tls::Protocol;
use nullius_tunnel::{Class, Io, Tunnels};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{
    authority,
    control::{agent_event, service_for},
    reports,
};
use crate::Hub;

/// How long before its certificate ends a connection is closed whose agent has not come back with a new one.
const BEFORE_END: Duration = Duration::from_secs(5);

/// Serves one connection to its end. `exporter` binds assertions to it; it does not outlive the certificate.
pub(crate) async fn accept(
    hub: &Arc<Hub>,
    stream: impl Io,
    id: InfraId,
    protocol: Protocol,
    exporter: [u8; 32],
    not_after: Timestamp,
) {
    let Some(cluster) = id.cluster().cloned() else { return };
    let snapshot = hub.snapshot();
    if !snapshot.knows_cluster(&cluster) {
        tracing::info!(agent = %id, "refuse agent of a cluster that does not exist");
        return;
    }
    let (uid, created) = of_cluster(&snapshot, &cluster);
    // Before the next one of this name is known: who connects later is judged by that one's age.
    let cut = hub.clusters().connections.token(&cluster);
    drop(snapshot);
    let root_ends = hub.keys().root().not_after();
    if created.is_some_and(|created| is_of_before(not_after, created, root_ends)) {
        tracing::warn!(agent = %id, "refuse agent of an earlier cluster of this name");
        return;
    }
    let left = not_after.duration_since(hub.now()).unsigned_abs().saturating_sub(BEFORE_END);
    if let Some(class) = Class::of(protocol) {
        return tunnel(hub, stream, &id, class, exporter, left).await;
    }
    let served = async {
        match protocol {
            Protocol::Control => control(hub, stream, &id).await,
            Protocol::Admission => admission(hub, stream, &id).await,
            Protocol::Identity => authority(hub, stream, &id, uid).await,
            // Agents speak it among themselves; the listener does not agree to it.
            Protocol::Handover | Protocol::TunnelSmall | Protocol::TunnelBulk => {}
        }
    };
    tokio::select! {
        served = tokio::time::timeout(left, served) => if served.is_err() {
            tracing::info!(agent = %id, "close a connection whose certificate ends");
        },
        () = cut.cancelled() => {
            tracing::info!(agent = %id, "close a connection of a cluster that is removed");
        }
    }
}

/// What ends the connections of a cluster's agents when it is removed.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<ClusterName, CancellationToken>>);

impl Connections {
    fn token(&self, cluster: &ClusterName) -> CancellationToken {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(cluster.clone()).or_default().clone()
    }

    /// Ends those that stand; who comes later is of another cluster.
    pub(super) fn cut(&self, cluster: &ClusterName) {
        let gone = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
        if let Some(gone) = gone {
            gone.cancel();
        }
    }
}

/// Which cluster this is, and since when: a name may be another's later.
fn of_cluster(snapshot: &Snapshot, cluster: &ClusterName) -> (Option<String>, Option<Timestamp>) {
    let name: Option<ObjectName> = cluster.as_str().parse().ok();
    let object = name.and_then(|name| snapshot.object(Kind::Cluster, &name));
    let metadata = object.map(AnyObject::metadata);
    (metadata.and_then(|it| it.uid.clone()), metadata.and_then(|it| it.creation_timestamp))
}

/// Whether a certificate is older than the cluster that it names: that one was deleted, and this is another.
fn is_of_before(not_after: Timestamp, created: Timestamp, root_ends: Timestamp) -> bool {
    let earliest = AGENT_CERTIFICATE_TTL.after(created).min(root_ends);
    not_after.as_second() < earliest.as_second()
}

async fn tunnel(
    hub: &Arc<Hub>,
    stream: impl Io,
    id: &InfraId,
    class: Class,
    exporter: [u8; 32],
    left: Duration,
) {
    let (InfraId::AgentProxy { cluster, instance }
    | InfraId::AgentControl { cluster, instance }
    | InfraId::AgentAdmission { cluster, instance }
    | InfraId::AgentIdentity { cluster, instance }) = id
    else {
        return;
    };
    let tunnels = &hub.clusters().tunnels;
    let mut attached = match tunnels.attach(stream, id, class, exporter).await {
        Ok(attached) => attached,
        Err(error) => {
            tracing::warn!(agent = %id, %error, "refuse tunnel");
            if hub.clusters().commands.take_word(cluster, hub.now()).is_none() {
                return;
            }
            let what = error.to_string();
            let (kind, outcome) = (AuditKind::Alarm, AuditOutcome::Denied);
            hub.note(agent_event(hub, kind, outcome, cluster, instance, &what)).await;
            return;
        }
    };
    tracing::info!(agent = %id, ?class, "attach tunnel");
    hub.cluster_seen(cluster).await;
    let epoch = attached.epoch();
    let why = match tokio::time::timeout(left, attached.ended()).await {
        Ok(why) => why,
        // What runs may finish when the same agent has proven itself again since; new requests go there.
        Err(_) if renewed(tunnels, cluster, instance, epoch) => attached.ended().await,
        Err(_) => {
            attached.close();
            "its certificate ends".to_owned()
        }
    };
    tracing::info!(agent = %id, ?class, %why, "detach tunnel");
    hub.cluster_seen(cluster).await;
}

/// Whether an agent has come back with a newer certificate.
fn renewed(tunnels: &Tunnels, cluster: &ClusterName, instance: &InstanceId, epoch: u64) -> bool {
    let mut agents = tunnels.agents(cluster).into_iter();
    agents.any(|agent| agent.instance == *instance && agent.epoch > epoch)
}

async fn control(hub: &Arc<Hub>, stream: impl Io, id: &InfraId) {
    let Some(service) = service_for(hub, id) else {
        tracing::warn!(agent = %id, "refuse control connection of an agent that is no control");
        return;
    };
    serve(stream, id, Routes::new(ControlServer::new(service))).await;
}

async fn admission(hub: &Arc<Hub>, stream: impl Io, id: &InfraId) {
    let Some(service) = reports::service_for(hub, id, Protocol::Admission) else {
        tracing::warn!(agent = %id, "refuse reports of an agent that is no admission and no control");
        return;
    };
    serve(stream, id, Routes::new(service)).await;
}

async fn authority(hub: &Arc<Hub>, stream: impl Io, id: &InfraId, uid: Option<String>) {
    let Some(service) = authority::service_for(hub, id, uid) else {
        tracing::warn!(agent = %id, "refuse to certify an authority of an agent that keeps none");
        return;
    };
    let routes = Routes::new(service);
    let routes = match reports::service_for(hub, id, Protocol::Identity) {
        Some(reports) => routes.add_service(reports),
        None => routes,
    };
    serve(stream, id, routes).await;
}

/// Serves a gRPC service on a proven connection to its end.
async fn serve(stream: impl Io, id: &InfraId, routes: Routes) {
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(8)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
    if let Err(error) = served {
        tracing::debug!(agent = %id, %error, "end a connection");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_certificate_of_a_deleted_cluster_is_none_of_a_new_one_with_its_name() {
        let at = |milli| Timestamp::from_millisecond(milli).unwrap();
        let (created, root_ends) = (at(10_700), at(1_000_000_000));
        let issued = |milli| AGENT_CERTIFICATE_TTL.after(at(milli));
        assert!(is_of_before(issued(9_000), created, root_ends));
        assert!(!is_of_before(issued(10_000), created, root_ends), "of the same second");
        assert!(!is_of_before(issued(60_000), created, root_ends));
        assert!(!is_of_before(at(12_000), created, at(12_000)), "cut short by the root's end");
    }
}
