//! Machines that join: the token that one has used is used for good, since its object is changed by one of two at once.

use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};

use super::declared::{MACHINE, resource};
use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// A machine as the API server has it now.
pub struct MachineNow {
    object: DynamicObject,
}

/// Reads and changes how machines stand.
#[derive(Clone)]
pub struct MachineStore {
    machines: Api<DynamicObject>,
}

/// Whether a machine was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It says what was written.
    Written,
    /// Somebody else changed it meanwhile, or it is gone.
    Overtaken,
}

impl MachineNow {
    /// What it says of itself, as a whole.
    pub fn json(&self) -> Value {
        let data = &self.object.data;
        json!({
            "apiVersion": nullius_model::API_VERSION, "kind": MACHINE,
            "metadata": { "name": self.object.metadata.name },
            "spec": data.get("spec").cloned().unwrap_or_default(),
            "status": data.get("status").cloned().unwrap_or_default(),
        })
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }
}

impl MachineStore {
    /// With the credential of `agent identity`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self::with_client(server.client(credential)?))
    }

    fn with_client(client: Client) -> Self {
        Self { machines: Api::all_with(client, &resource(MACHINE)) }
    }

    /// Reads one; nothing where there is none of the name.
    pub async fn read(&self, name: &str) -> Result<Option<MachineNow>, KubeError> {
        let found = self.machines.get_opt(name).await;
        let found = found.map_err(KubeError::at(Step::ReadAgain(format!("{MACHINE}/{name}"))))?;
        Ok(found.map(|object| MachineNow { object }))
    }

    /// Writes what joined into the status, if the object still is what was read; of two at once one is overtaken.
    pub async fn join(&self, machine: MachineNow, status: &Value) -> Result<Joined, KubeError> {
        let mut object = machine.object;
        let name = object.metadata.name.clone().unwrap_or_default();
        // The version that was read stays in it: it is the precondition.
        object.metadata.managed_fields = None;
        let mut now = object.data.get("status").cloned().filter(Value::is_object);
        let fields = now.get_or_insert_with(|| json!({}));
        for (field, value) in status.as_object().into_iter().flatten() {
            fields[field] = value.clone();
        }
        object.data["status"] = fields.clone();
        match self.machines.replace_status(&name, &PostParams::default(), &object).await {
            Ok(_) => Ok(Joined::Written),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(Joined::Overtaken)
            }
            Err(error) => Err(KubeError::at(Step::Keep(format!("{MACHINE}/{name}")))(error)),
        }
    }
}
