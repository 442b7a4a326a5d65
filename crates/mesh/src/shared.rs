//! What all tasks of a proxy share, whether it listens where somebody said or where a pod's connections are led to.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Sockets, World,
    gateway::Gateway,
    inbound::{Inbound, canonical},
    limiter::Limiter,
    outbound::Outbound,
    pool::Pool,
    reach::Ports,
    room::Room,
    seen::Witness,
    world::View,
};

/// How long what is open may go on when the proxy is told to end.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// How long it is waited after the system refused to accept.
const BREATHER: Duration = Duration::from_millis(50);

/// What all tasks of a proxy share.
pub(crate) struct Shared {
    view: View,
    pub(crate) seen: Arc<Witness>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) sockets: Arc<dyn Sockets>,
    /// Counts requests against limits.
    pub(crate) limiter: Limiter,
    /// For bodies that are looked into.
    pub(crate) room: Room,
    /// From which ports the application is reached.
    pub(crate) ports: Ports,
    /// Nothing new begins.
    pub(crate) stop: CancellationToken,
    /// Nothing goes on.
    pub(crate) kill: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(view: View, seen: Arc<Witness>, sockets: Arc<dyn Sockets>) -> Arc<Self> {
        Arc::new(Self {
            view,
            seen,
            pool: Arc::new(Pool::new(Arc::clone(&sockets))),
            sockets,
            limiter: Limiter::default(),
            room: Room::default(),
            ports: Ports::default(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    pub(crate) fn view(&self) -> View {
        self.view.clone()
    }

    /// What decides now; none as long as nothing is known.
    pub(crate) fn world(&self) -> Option<Arc<World>> {
        self.view.borrow().clone()
    }

    /// Runs a task until it ends or nothing goes on.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Lets go of tunnels that are of before whenever what decides changes. It ends when nobody can change it any more.
    pub(crate) fn retire(self: &Arc<Self>) -> JoinHandle<()> {
        let (pool, mut view, stop) = (Arc::clone(&self.pool), self.view(), self.stop.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = view.changed() => if changed.is_err() { return },
                }
                let world = view.borrow_and_update().clone();
                pool.retire(world.as_deref());
            }
        })
    }

    /// Takes nothing new, gives what is open some time, and ends.
    pub(crate) async fn drain(&self) {
        self.stop.cancel();
        // Tunnels without streams close; others with their last one.
        self.pool.retire(None);
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "end what did not end in time");
        }
        self.kill.cancel();
        self.tasks.wait().await;
    }

    /// Accepts until the proxy ends.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener, side: Side) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((tcp, client)) => side.accepted(tcp, canonical(client)),
                Err(error) => {
                    tracing::warn!(name = side.name(), %error, "cannot accept");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }
}

/// Who takes what a listener accepts.
pub(crate) enum Side {
    In(Arc<Inbound>),
    Out(Arc<Outbound>),
    Gateway(Arc<Gateway>),
}

impl Side {
    fn name(&self) -> &str {
        match self {
            Self::In(inbound) => inbound.name(),
            Self::Out(outbound) => outbound.name(),
            Self::Gateway(gateway) => gateway.name(),
        }
    }

    fn accepted(&self, tcp: TcpStream, client: SocketAddr) {
        match self {
            Self::In(inbound) => inbound.accepted(tcp, client),
            Self::Out(outbound) => outbound.accepted(tcp, client),
            Self::Gateway(gateway) => gateway.accepted(tcp, client),
        }
    }
}

/// A socket that somebody else made, for this runtime.
pub(crate) fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
