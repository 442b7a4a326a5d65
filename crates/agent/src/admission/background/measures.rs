//! What the background scan judges by, as the cluster has it: its own policies and bindings, the webhook's, their parameters,
//! kinds and namespaces.

use std::{sync::Arc, time::Duration};

use nullius_admission::{background::Measures, webhook::native};
use nullius_kube::{
    ApiServer, Credential,
    admission::{Objects, Watched},
    kubernetes_version,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    AgentError,
    admission::policies::{Engines, files_of, minor_number},
    backoff::{Backoff, random},
    tasks::Tasks,
};

/// Several changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(500);
const GROUP: &str = "admissionregistration.k8s.io/v1";

/// Follows what the scan judges by.
pub(crate) fn follow(
    api: &ApiServer,
    account: &Credential,
    engines: Engines,
    tasks: &mut Tasks,
) -> Result<watch::Receiver<Option<Arc<Measures>>>, AgentError> {
    let mut watching = |name, kind: &str, plural: &str| {
        let (objects, keeping) =
            Objects::watch(api, account.clone(), &Watched::all(GROUP, kind, plural))?;
        tasks.spawn_loop(name, keeping);
        Ok::<_, AgentError>(objects)
    };
    let policies = watching(
        "policies of the cluster",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
    )?;
    let bindings = watching(
        "bindings of the cluster",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    )?;
    let (told, measures) = watch::channel(None);
    let following =
        Following { api: api.clone(), account: account.clone(), engines, policies, bindings, told };
    tasks.spawn_loop("measures of the scan", following.run());
    Ok(measures)
}

struct Following {
    api: ApiServer,
    account: Credential,
    engines: Engines,
    policies: Objects,
    bindings: Objects,
    told: watch::Sender<Option<Arc<Measures>>>,
}

impl Following {
    async fn run(mut self) {
        let minor = self.minor().await;
        let mut sources = self.engines.sources();
        self.policies.completed().await;
        self.bindings.completed().await;
        sources.namespaces.completed().await;
        sources.definitions.completed().await;
        sources.maps.completed().await;
        let mut changes = self.engines.changes();
        loop {
            self.told.send_replace(Some(Arc::new(self.measures(minor))));
            tokio::select! {
                () = self.policies.changed() => {}
                () = self.bindings.changed() => {}
                () = sources.namespaces.changed() => {}
                () = sources.definitions.changed() => {}
                () = sources.maps.changed() => {}
                () = changes.next() => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    async fn minor(&self) -> u16 {
        let mut backoff = Backoff::within_cluster();
        loop {
            match kubernetes_version(&self.api, self.account.clone()).await {
                Ok(version) => return minor_number(&version).unwrap_or(u16::MAX),
                Err(error) => tracing::warn!(%error, "cannot ask for the version, try again"),
            }
            tokio::time::sleep(backoff.after_failure(random())).await;
        }
    }

    fn measures(&self, minor: u16) -> Measures {
        let sources = self.engines.sources();
        let mut policies: Vec<(String, String)> =
            files_of(&sources.maps.list()).into_iter().map(|file| (file.name, file.text)).collect();
        for object in self.policies.list().iter().chain(&self.bindings.list()) {
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            // What the API server leaves to the webhook is judged like the rest.
            let text = native::written(object).to_string();
            policies.push((name.unwrap_or_default().to_owned(), text));
        }
        let standing = self.engines.standing();
        for object in standing.iter().flat_map(|standing| &standing.exceptions) {
            policies.push(("PolicyException".to_owned(), object.to_string()));
        }
        let values = |objects: Vec<Arc<Value>>| -> Vec<Value> {
            objects.iter().map(|object| Value::clone(object)).collect()
        };
        let mut facts = values(sources.definitions.list());
        if let Some(standing) = &standing {
            facts.extend(standing.params.values().flat_map(|objects| values(objects.list())));
        }
        Measures { policies, facts, namespaces: values(sources.namespaces.list()), minor }
    }
}
