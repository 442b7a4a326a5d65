//! The CSI driver: a pod that names it in a volume finds the socket of the Workload API there.
//!
//! A volume is the directory of the socket and not the socket itself, so that the next node's socket is seen through the same mount.
//! It tells the kubelet of itself; no other container is needed for that.

mod mount;
mod registration;
mod request;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nullius_proto::{
    csi_v1::{
        GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
        GetPluginInfoResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
        NodeGetInfoRequest, NodeGetInfoResponse, NodePublishVolumeRequest,
        NodePublishVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
        ProbeRequest, ProbeResponse,
        identity_server::{Identity, IdentityServer},
        node_server::{Node, NodeServer},
    },
    plugin_registration::registration_server::RegistrationServer,
};
use tokio::{net::UnixListener, sync::Mutex};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

use self::{
    registration::Registrar,
    request::{Holds, Refusal, published, unpublished},
};
use crate::{
    NodeError, NodeSettings,
    host::Asker,
    mesh::proxies_folder,
    meters::{Meters, Volume},
    unix,
};

/// The driver's name.
pub const DRIVER: &str = "csi.nullius.dev";

/// The driver with its sockets.
pub(crate) struct Driver {
    volumes: Arc<Volumes>,
    served: (PathBuf, UnixListener),
    registered: (PathBuf, UnixListener),
    is_registered: Arc<AtomicBool>,
}

/// Whether the kubelet knows the driver.
#[derive(Clone)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one connection is served by.
struct Asked {
    volumes: Arc<Volumes>,
    asker: Asker,
}

/// What mounts.
struct Volumes {
    node: String,
    /// The directory that pods get.
    source: PathBuf,
    /// That of proxies beside pods' containers, where the node has a part of the mesh.
    proxies: Option<PathBuf>,
    /// Below it are all volumes of pods.
    pods: PathBuf,
    meters: Meters,
    /// One mount at a time: two calls for one volume must not mount it twice.
    turn: Mutex<()>,
}

impl Driver {
    /// Makes its sockets below the kubelet's root directory.
    pub(crate) fn bind(
        settings: &NodeSettings,
        kubelet: &Path,
        source: &Path,
        meters: &Meters,
    ) -> Result<Self, NodeError> {
        let served = kubelet.join("plugins").join(DRIVER).join("csi.sock");
        let registered = kubelet.join("plugins_registry").join(format!("{DRIVER}-reg.sock"));
        let volumes = Volumes {
            node: settings.node.clone(),
            source: source.to_owned(),
            proxies: settings.mesh.as_ref().map(|mesh| proxies_folder(&mesh.cni.socket)),
            pods: kubelet.join("pods"),
            meters: meters.clone(),
            turn: Mutex::default(),
        };
        Ok(Self {
            volumes: Arc::new(volumes),
            served: (served.clone(), unix::bind(&served)?),
            registered: (registered.clone(), unix::bind(&registered)?),
            is_registered: Arc::default(),
        })
    }

    pub(crate) fn known(&self) -> Known {
        Known(Arc::clone(&self.is_registered))
    }

    /// Serves until it is told to stop. The kubelet forgets the driver then, and asks the next one.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let Self { volumes, served, registered, is_registered } = self;
        let registrar = Registrar { endpoint: served.0.clone(), is_registered };
        let driver = |asker| {
            let asked = Arc::new(Asked { volumes: Arc::clone(&volumes), asker });
            Routes::new(IdentityServer::from_arc(Arc::clone(&asked)))
                .add_service(NodeServer::from_arc(asked))
        };
        let registration = |_| Routes::new(RegistrationServer::new(registrar.clone()));
        tokio::join!(
            unix::serve(served.1, driver, stop.clone()),
            unix::serve(registered.1, registration, stop),
        );
        for path in [registered.0, served.0] {
            if let Err(error) = unix::remove(&path) {
                tracing::warn!(%error, path = %path.display(), "fail to remove a socket");
            }
        }
    }
}

impl Volumes {
    fn refused(&self, refusal: &Refusal) -> Status {
        self.meters.volumes.add_one(Volume::Refused);
        tracing::info!(%refusal, "refuse a volume");
        Status::invalid_argument(refusal.to_string())
    }

    fn failed(&self, target: &Path, error: &std::io::Error) -> Status {
        self.meters.volumes.add_one(Volume::Failed);
        tracing::error!(%error, target = %target.display(), "fail at a volume");
        Status::internal(format!("`{}`: {error}", target.display()))
    }
}

#[tonic::async_trait]
impl Identity for Asked {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse {}))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl Node for Asked {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let volumes = &self.volumes;
        let target = published(request.get_ref(), &volumes.pods);
        let (target, holds) = target.map_err(|refusal| volumes.refused(&refusal))?;
        let source = match (holds, &volumes.proxies) {
            (Holds::Identity, _) => volumes.source.clone(),
            (Holds::Proxy, Some(proxies)) => proxies.clone(),
            (Holds::Proxy, None) => return Err(volumes.refused(&Refusal::NoMesh)),
        };
        let wanted = target.clone();
        let _turn = volumes.turn.lock().await;
        let mounted = self.asker.in_mounts(move || mount::publish(&source, &wanted)).await;
        mounted.map_err(|error| volumes.failed(&target, &error))?;
        volumes.meters.volumes.add_one(Volume::Published);
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let volumes = &self.volumes;
        let target = unpublished(request.get_ref(), &volumes.pods);
        let target = target.map_err(|refusal| volumes.refused(&refusal))?;
        let wanted = target.clone();
        let _turn = volumes.turn.lock().await;
        let unmounted = self.asker.in_mounts(move || mount::unpublish(&wanted)).await;
        unmounted.map_err(|error| volumes.failed(&target, &error))?;
        volumes.meters.volumes.add_one(Volume::Unpublished);
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Ok(Response::new(NodeGetCapabilitiesResponse {}))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.volumes.node.clone(),
            max_volumes_per_node: 0,
        }))
    }
}
