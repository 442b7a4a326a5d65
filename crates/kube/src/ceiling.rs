//! Which ceiling really stands in the cluster: what the manifest said may never have taken effect, since Kubernetes
//! does not let a binding change its role.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{Api, Client};

use crate::{
    ApiServer, ConnectError, Credential, KubeError, Step,
    names::{CEILING_BINDING, ROLE_WRITER, SYSTEM_NAMESPACE},
};

/// Reads the ceiling with the provisioner's credential.
#[derive(Clone)]
pub struct CeilingReader {
    provisioner: Client,
}

impl CeilingReader {
    /// With the provisioner's credential.
    pub fn new(server: &ApiServer, provisioner: Credential) -> Result<Self, ConnectError> {
        Ok(Self { provisioner: server.client(provisioner)? })
    }

    /// The ClusterRole to which role-writer is bound; none where the binding is gone or binds somebody else.
    pub async fn read(&self) -> Result<Option<String>, KubeError> {
        let bindings: Api<ClusterRoleBinding> = Api::all(self.provisioner.clone());
        let found = bindings.get_opt(CEILING_BINDING).await;
        let found = found.map_err(KubeError::at(Step::ReadCeiling))?;
        let ours = found.filter(|binding| {
            binding.role_ref.kind == "ClusterRole"
                && binding.subjects.iter().flatten().any(|subject| {
                    subject.kind == "ServiceAccount"
                        && subject.name == ROLE_WRITER
                        && subject.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
                })
        });
        Ok(ours.map(|binding| binding.role_ref.name))
    }
}
