//! What the background scan judges by, as the cluster has it: its own policies and bindings, the webhook's, their parameters,
//! kinds and namespaces.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nullius_admission::{background::Measures, webhook::native};
use nullius_kube::{ApiServer, Credential, kubernetes_version};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    admission::policies::{Engines, files_of, minor_number},
    backoff::{Backoff, random},
    tasks::Tasks,
};

/// Several changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(500);

/// Follows what the scan judges by.
pub(crate) fn follow(
    api: &ApiServer,
    account: &Credential,
    engines: Engines,
    tasks: &mut Tasks,
) -> watch::Receiver<Option<Arc<Measures>>> {
    let (told, measures) = watch::channel(None);
    let following = Following { api: api.clone(), account: account.clone(), engines, told };
    tasks.spawn_loop("measures of the scan", following.run());
    measures
}

struct Following {
    api: ApiServer,
    account: Credential,
    engines: Engines,
    told: watch::Sender<Option<Arc<Measures>>>,
}

impl Following {
    async fn run(self) {
        let minor = self.minor().await;
        let mut sources = self.engines.sources();
        sources.native.completed().await;
        sources.namespaces.completed().await;
        sources.definitions.completed().await;
        sources.maps.completed().await;
        let mut changes = self.engines.changes();
        loop {
            self.told.send_replace(Some(Arc::new(self.measures(minor))));
            tokio::select! {
                () = sources.native.changed() => {}
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
        let native = &sources.native;
        for object in native.policies.list().iter().chain(&native.bindings.list()) {
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            // What the API server leaves to the webhook is judged like the rest.
            let text = native::written(object).to_string();
            policies.push((name.unwrap_or_default().to_owned(), text));
        }
        let standing = self.engines.standing();
        for object in standing.iter().flat_map(|standing| &standing.exceptions) {
            // Where it counts, and when that was told, changes nothing of what it says.
            let metadata = ["name", "namespace", "creationTimestamp"].map(|field| {
                let value = object.pointer(&format!("/metadata/{field}"));
                (field.to_owned(), value.cloned().unwrap_or_default())
            });
            let mut object = Value::clone(object);
            if let Some(fields) = object.as_object_mut() {
                fields.remove("status");
                let metadata = metadata.into_iter().filter(|(_, value)| !value.is_null());
                fields.insert("metadata".to_owned(), metadata.collect());
            }
            policies.push(("PolicyException".to_owned(), object.to_string()));
        }
        let values = |objects: Vec<Arc<Value>>| -> Vec<Value> {
            objects.iter().map(|object| Value::clone(object)).collect()
        };
        let mut facts = values(sources.definitions.list());
        if let Some(standing) = &standing {
            // Several bindings may refer to the same object.
            let params = standing.params.iter().flat_map(|(source, objects)| {
                let of =
                    move |object: Arc<Value>| ((source.kind.clone(), place_of(&object)), object);
                objects.list().into_iter().map(of)
            });
            let params: BTreeMap<_, Arc<Value>> = params.collect();
            facts.extend(values(params.into_values().collect()));
        }
        let programs = standing.map(|standing| standing.engine.in_force().programs().clone());
        let namespaces = values(sources.namespaces.list());
        Measures { policies, facts, namespaces, minor, programs: programs.unwrap_or_default() }
    }
}

/// Namespace and name.
fn place_of(object: &Value) -> (String, String) {
    let text = |field: &str| {
        let text = object.get("metadata").and_then(|metadata| metadata.get(field));
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    (text("namespace"), text("name"))
}
