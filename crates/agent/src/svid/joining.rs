//! What a machine asks before it is one: to join with a token.

use nullius_pki::Csr;
use nullius_proto::{
    VERSION,
    node_v1::{JoinMachineRequest, JoinMachineResponse, machines_server::Machines},
};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::service::IdentityService;

#[tonic::async_trait]
impl Machines for IdentityService {
    async fn join(
        &self,
        request: Request<JoinMachineRequest>,
    ) -> Result<Response<JoinMachineResponse>, Status> {
        let JoinMachineRequest { version, machine, token, certificate_request } =
            request.into_inner();
        let token = SecretString::from(token);
        if version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the machine speaks version {version} and the agent {VERSION}; update the older of them"
            )));
        }
        self.issuing.is_ready().map_err(Status::unavailable)?;
        let request = Csr::from_der(certificate_request);
        let joined = self.issuing.callers.join(&machine, &token, &request).await;
        self.note(joined.as_ref());
        joined.map(|_| Response::new(JoinMachineResponse {}))
    }
}
