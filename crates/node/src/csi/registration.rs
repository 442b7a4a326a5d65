//! How the kubelet hears of the driver: it looks into a folder and asks each socket there what it is.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nullius_proto::plugin_registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::Registration,
};
use tonic::{Request, Response, Status};

use super::DRIVER;

/// The version of CSI that is spoken.
const VERSION: &str = "1.0.0";

#[derive(Clone)]
pub(super) struct Registrar {
    pub(super) endpoint: PathBuf,
    pub(super) is_registered: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        self.is_registered.store(plugin_registered, Ordering::Relaxed);
        match plugin_registered {
            true => tracing::info!("the kubelet knows the CSI driver"),
            // It tries again by itself.
            false => tracing::warn!(%error, "the kubelet does not take the CSI driver"),
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
