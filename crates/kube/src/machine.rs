//! A machine that somebody adds with a kubeconfig: its object, and what it is given to find the cluster.

use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    ApiServer, ConnectError, NODE_NAMESPACE, SYSTEM_NAMESPACE, TRUST_BUNDLE_KEY, TRUST_DOMAIN_KEY,
    TRUST_ISSUER_KEY, TRUST_MAP, manifest::CONFIG,
};

const MANAGER: &str = "nullius-node-join-token";
const KIND: &str = "Machine";

/// Why a machine cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The API server does not answer.
    #[error("the API server `{address}` does not answer")]
    Unreachable {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// It says no.
    #[error("the API server refused {what}: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it says.
        message: String,
    },
    /// The cluster has no identities, or not yet.
    #[error(
        "the cluster does not say {0}; it must have joined with `--identity`, and `agent identity` must be ready"
    )]
    NoIdentities(&'static str),
}

/// What the cluster says of itself to who is to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlace {
    /// Its name.
    pub cluster: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// The bundle of that.
    pub bundle: String,
    /// Address and port of `agent identity`, as nodes of the cluster reach it.
    pub issuer: String,
}

/// The user of a kubeconfig, who adds machines.
pub struct MachineWriter {
    address: String,
    client: Client,
}

impl MachineWriter {
    /// Reads a kubeconfig (`None`: its current context).
    pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConnectError> {
        let (server, client) = ApiServer::from_kubeconfig(path, context).await?;
        Ok(Self { address: server.url().to_string(), client })
    }

    /// Where the cluster is to be found, and whom to believe there.
    pub async fn place(&self) -> Result<ClusterPlace, MachineError> {
        let config = self.config_map(SYSTEM_NAMESPACE, CONFIG).await?;
        let trust = self.config_map(NODE_NAMESPACE, TRUST_MAP).await?;
        let text = |map: &ConfigMap, key: &'static str| {
            let found = map.data.as_ref().and_then(|data| data.get(key));
            found.cloned().filter(|it| !it.is_empty()).ok_or(MachineError::NoIdentities(key))
        };
        Ok(ClusterPlace {
            cluster: text(&config, "cluster")?,
            trust_domain: text(&trust, TRUST_DOMAIN_KEY)?,
            bundle: text(&trust, TRUST_BUNDLE_KEY)?,
            issuer: text(&trust, TRUST_ISSUER_KEY)?,
        })
    }

    /// Makes the machine, or changes these fields of its specification and no others; those that are null are taken away.
    pub async fn write(&self, name: &str, spec: &Value) -> Result<(), MachineError> {
        let (group, version) =
            nullius_model::API_VERSION.split_once('/').unwrap_or((nullius_model::API_VERSION, ""));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, KIND));
        let machines: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let told = |error| self.told(format!("`{KIND}/{name}`"), error);
        let found = machines.get_metadata_opt(name).await.map_err(told)?;
        if found.is_some() {
            let parameters =
                PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let change = Patch::Merge(json!({ "spec": spec }));
            machines.patch(name, &parameters, &change).await.map_err(told)?;
            return Ok(());
        }
        let mut object = DynamicObject::new(name, &resource);
        let fields = spec.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let fields: Value = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        object.data = json!({ "spec": fields });
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        machines.create(&parameters, &object).await.map_err(told)?;
        Ok(())
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &'static str,
    ) -> Result<ConfigMap, MachineError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = maps.get_opt(name).await;
        let found =
            found.map_err(|error| self.told(format!("`ConfigMap/{namespace}/{name}`"), error))?;
        found.ok_or(MachineError::NoIdentities(name))
    }

    fn told(&self, what: String, error: kube::Error) -> MachineError {
        match error {
            kube::Error::Api(status) => MachineError::Refused { what, message: status.message },
            source => MachineError::Unreachable {
                address: self.address.clone(),
                source: Box::new(source),
            },
        }
    }
}
