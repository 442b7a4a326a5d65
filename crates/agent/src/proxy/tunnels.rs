//! Tunnel connections: dialled by the agent, kept up, replaced with each new certificate without losing what runs.

use std::{future::Future, sync::Arc, time::Duration};

use nullius_tls::PartConnector;
use nullius_tunnel::{Agent, Class};
use tokio::{sync::watch, time::Instant};

use crate::{
    Address, AgentError, TunnelCount,
    backoff::{Backoff, random},
    identity::Identity,
    lease::Lease,
    meters::Meters,
    net::dial,
};

/// A connection that lasted so long begins its tries anew.
const STEADY: Duration = Duration::from_secs(10);

/// The loops of all connections to all replicas.
pub(crate) fn all(
    agent: &Agent,
    identity: &Identity,
    count: TunnelCount,
    lease: &Lease,
    meters: &Meters,
) -> Result<Vec<impl Future<Output = ()> + Send + 'static>, AgentError> {
    let mut loops = Vec::new();
    for address in &identity.hub.addresses {
        for (class, connections) in [(Class::Small, count.small), (Class::Bulk, count.bulk)] {
            let connector = Arc::new(identity.to_hub(class.protocol())?);
            for _ in 0..connections.max(1) {
                let tunnel = Tunnel {
                    agent: agent.clone(),
                    address: address.clone(),
                    class,
                    connector: Arc::clone(&connector),
                    epoch: identity.epoch.clone(),
                    lease: lease.clone(),
                    meters: meters.clone(),
                };
                loops.push(tunnel.run());
            }
        }
    }
    Ok(loops)
}

struct Tunnel {
    agent: Agent,
    address: Address,
    class: Class,
    connector: Arc<PartConnector>,
    epoch: watch::Receiver<u64>,
    lease: Lease,
    meters: Meters,
}

/// Counts a connection while it stands.
struct Counted(Meters);

impl Counted {
    fn new(meters: &Meters) -> Self {
        meters.count_tunnel(1);
        Self(meters.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count_tunnel(-1);
    }
}

impl Tunnel {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.agent.is_draining() {
            // A tunnel says that requests have a way. Without a lease each of them would be refused.
            self.lease.held().await;
            let began = Instant::now();
            match self.serve_one().await {
                // Replaced: the next stands at once, and this one ends with what runs on it.
                Ok(Replaced) => backoff.reset(),
                Err(why) if self.agent.is_draining() => {
                    tracing::debug!(hub = %self.address, class = ?self.class, %why, "end a tunnel");
                }
                Err(why) => {
                    if began.elapsed() > STEADY {
                        backoff.reset();
                    }
                    let wait = backoff.after_failure(random());
                    tracing::warn!(
                        hub = %self.address, class = ?self.class, %why, wait_millis = wait.as_millis(),
                        "lose a tunnel, dial again"
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        }
        // It goes with the process, once what runs has ended.
        std::future::pending().await
    }

    async fn serve_one(&mut self) -> Result<Replaced, String> {
        let epoch = *self.epoch.borrow_and_update();
        let text = |error: std::io::Error| error.to_string();
        let tcp = dial(&self.address).await.map_err(text)?;
        let proven = self.connector.connect(tcp, &self.address.host).await.map_err(text)?;
        let mut served = self.agent.serve(proven.stream, self.class, proven.exporter, epoch);
        let counted = Counted::new(&self.meters);
        tracing::info!(hub = %self.address, class = ?self.class, epoch, "serve a tunnel");
        let hub_drains = served.hub_drains();
        tokio::select! {
            why = served.ended() => return Err(why),
            () = hub_drains => {}
            Ok(()) = self.epoch.changed() => {}
        }
        // The hub sends nothing new on the old connection once the new one stands; what runs on it goes on.
        tokio::spawn(async move {
            let why = served.ended().await;
            tracing::debug!(%why, "end a replaced tunnel");
            drop(counted);
        });
        Ok(Replaced)
    }
}

/// A connection that runs out while its successor is dialled.
struct Replaced;
