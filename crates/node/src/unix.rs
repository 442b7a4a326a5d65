//! Sockets on which the kubelet calls, and their gRPC.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nullius_workload::Mended;
use tokio::{net::UnixListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{NodeError, host::Asker};

/// How long nothing is accepted after the system had no room.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Binds a socket for root alone, where nobody serves any more: the lock says so.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, NodeError> {
    let bound = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        // In place: the kubelet looks at each socket that appears in its folder, whatever its name is.
        remove(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bound().map_err(|source| NodeError::Socket { path: path.to_owned(), source })
}

/// Removes a socket that may be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Serves with what is there for who asks, until it is told to stop; calls that go on are ended after that.
pub(crate) async fn serve(
    listener: UnixListener,
    routes: impl Fn(Asker) -> Routes,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "fail to accept the kubelet");
                tokio::time::sleep(NO_ROOM).await;
                continue;
            }
        };
        let asker = match Asker::of(&stream) {
            Ok(asker) => asker,
            Err(error) => {
                tracing::warn!(%error, "refuse a caller that is not known");
                continue;
            }
        };
        let (routes, stop) = (routes(asker).prepare(), stop.clone());
        connections.spawn(async move {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(
                    TokioIo::new(Mended::new(stream)),
                    TowerToHyperService::new(routes),
                );
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                served = connection.as_mut() => if let Err(error) = served {
                    tracing::debug!(%error, "end a connection of the kubelet");
                },
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    while connections.join_next().await.is_some() {}
}
