//! One condition of the API server's own policies, which says whose objects it leaves to the webhook.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// Who writes the condition, as the API server keeps it beside what others write.
const MANAGER: &str = "nullius-exceptions";

/// Writes it.
#[derive(Clone)]
pub struct NativePolicies {
    policies: Api<ValidatingAdmissionPolicy>,
}

impl NativePolicies {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        Ok(Self { policies: Api::all(server.client(credential)?) })
    }

    /// Makes a policy have this condition, or none of that name, by server-side apply: what others wrote stays as it is.
    pub async fn set(
        &self,
        policy: &str,
        condition: &str,
        expression: Option<&str>,
    ) -> Result<(), KubeError> {
        let conditions: Vec<Value> = expression
            .map(|expression| json!({ "name": condition, "expression": expression }))
            .into_iter()
            .collect();
        let mut spec = json!({});
        if !conditions.is_empty() {
            spec["matchConditions"] = Value::Array(conditions);
        }
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": policy }, "spec": spec,
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = self.policies.patch(policy, &params, &Patch::Apply(&patch)).await;
        written.map(|_| ()).map_err(KubeError::at(Step::WriteCondition))
    }
}
