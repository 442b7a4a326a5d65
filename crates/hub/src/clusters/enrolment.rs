//! The gRPC service on the public listener by which clusters join and their agents get certificates. What it does is
//! in [`super::joining`].

use std::{net::IpAddr, sync::Arc};

use nullius_model::ClusterName;
use nullius_proto::{
    VERSION,
    agent_v1::{
        EnrolRequest, EnrolResponse, JoinRequest, JoinResponse,
        enrolment_server::{Enrolment, EnrolmentServer},
    },
};
use tonic::{Request, Response, Status};

use super::joining::Said;
use crate::Hub;

/// The enrolment service as routes of the public listener.
pub(crate) fn routes(hub: Arc<Hub>) -> axum::Router {
    let server =
        EnrolmentServer::new(EnrolmentService { hub }).max_decoding_message_size(256 * 1024);
    tonic::service::Routes::new(server).into_axum_router()
}

struct EnrolmentService {
    hub: Arc<Hub>,
}

/// The address that a call came from, put into its extensions by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = self.admit(&request)?;
        let request = request.into_inner();
        known_version(request.version)?;
        let cluster = cluster_name(&request.cluster)?;
        self.hub.join_cluster(&cluster, &request, peer).await?;
        let keys = self.hub.keys();
        let (offline_key, hub_id) = (keys.offline_public().to_owned(), keys.hub_id().to_owned());
        Ok(Response::new(JoinResponse { offline_key, hub_id }))
    }

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let peer = self.admit(&request)?;
        let request = request.into_inner();
        known_version(request.version)?;
        let cluster = cluster_name(&request.cluster)?;
        Ok(Response::new(self.hub.enrol_agent(&cluster, &request, peer).await?))
    }
}

impl EnrolmentService {
    fn admit<T>(&self, request: &Request<T>) -> Result<Option<IpAddr>, Status> {
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        if let Some(source) = peer
            && let Err(seconds) = self.hub.take_source(source)
        {
            return Err(Status::resource_exhausted(format!(
                "too many calls; come back in {seconds} s"
            )));
        }
        Ok(peer)
    }
}

impl From<Said> for Status {
    fn from(said: Said) -> Self {
        match said {
            Said::Unreadable(sentence) => Self::invalid_argument(sentence),
            Said::Denied(sentence) => Self::permission_denied(sentence),
            Said::Unavailable => Self::unavailable("the hub cannot do this now; try again"),
        }
    }
}

fn known_version(version: u32) -> Result<(), Status> {
    if version == VERSION {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the agent speaks version {version} of the seam, this hub speaks {VERSION}; update the older"
    )))
}

fn cluster_name(text: &str) -> Result<ClusterName, Status> {
    text.parse()
        .map_err(|error: nullius_model::ParseNameError| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests;
