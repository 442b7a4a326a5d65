//! Pods wait until what baselines say of their namespace stands: a namespace that was made a moment ago has no NetworkPolicy yet.
//!
//! No mark says that a namespace is ready, which somebody might set: the objects themselves are compared with what the baselines say.
//! The refusal is one that clients answer by trying again.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use nullius_admission::webhook::{Entry, Review};
use nullius_kube::{
    ApiServer, Credential,
    admission::{Objects, Questions, Watched},
};
use nullius_model::{API_VERSION, BASELINE_LABEL, BASELINE_NEVER};
use nullius_policy::{
    Judged,
    admission_policy::{Operation, Request},
    baseline::{Baseline, BaselineKind, KIND, Plan},
    defer_admission,
    pod_security::ENFORCE_LABEL,
    withhold_admission,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::policies::Engines;
use crate::{AgentError, error::chain, tasks::Tasks};

/// What pods wait for.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

struct Shared {
    baselines: Objects,
    made: Vec<(BaselineKind, Objects)>,
    /// The baselines as they were read; none before they were all listed.
    read: ArcSwapOption<Vec<Baseline>>,
    changes: watch::Sender<()>,
    engines: Engines,
    questions: Questions,
}

impl Gate {
    /// Begins to watch baselines and what they bound pods with.
    pub(super) fn watch(
        api: &ApiServer,
        account: &Credential,
        engines: Engines,
        tasks: &mut Tasks,
    ) -> Result<Self, AgentError> {
        let mut watching = |name, what: Watched| {
            let (objects, keeping) = Objects::watch(api, account.clone(), &what)?;
            tasks.spawn_loop(name, keeping);
            Ok::<_, AgentError>(objects)
        };
        let mut made = Vec::new();
        for kind in BaselineKind::ALL.into_iter().filter(|kind| kind.bounds_pods()) {
            let what = Watched {
                labels: Some(BASELINE_LABEL.to_owned()),
                ..Watched::all(kind.api_version(), kind.as_str(), kind.plural())
            };
            made.push((kind, watching(kind.plural(), what)?));
        }
        let baselines =
            watching("baselines", Watched::all(API_VERSION, KIND, "namespacebaselines"))?;
        let gate = Self(Arc::new(Shared {
            baselines,
            made,
            read: ArcSwapOption::empty(),
            changes: watch::Sender::new(()),
            engines,
            questions: Questions::new(api, account.clone())?,
        }));
        tasks.spawn_loop("reading of baselines", gate.clone().follow());
        Ok(gate)
    }

    async fn follow(self) {
        let mut baselines = self.0.baselines.clone();
        baselines.completed().await;
        loop {
            // The account that keeps them tells in their status which cannot be read.
            let read =
                baselines.list().iter().filter_map(|each| Baseline::read(each).ok()).collect();
            self.0.read.store(Some(Arc::new(read)));
            self.0.changes.send_replace(());
            baselines.changed().await;
        }
    }

    /// Whether everything was listed once.
    pub(crate) fn is_complete(&self) -> Result<(), String> {
        self.0.baselines.is_current()?;
        self.0.made.iter().try_for_each(|(_, objects)| objects.is_current())?;
        self.0
            .read
            .load()
            .as_ref()
            .map(|_| ())
            .ok_or_else(|| "they are still being read".to_owned())
    }

    /// Tells of changes of the baselines.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// The rules for which an API server must ask an entry because of baselines.
    pub(crate) fn rules(&self, entry: Entry) -> Vec<Value> {
        let asked = entry == Entry::ValidateFail && !self.0.baselines.list().is_empty();
        let pods = || {
            json!({
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced",
            })
        };
        asked.then(pods).into_iter().collect()
    }

    /// The level of Pod Security that baselines want a namespace to enforce, where they say one.
    pub(crate) fn level_of(&self, namespace: &Value) -> Option<String> {
        let baselines = self.0.read.load_full()?;
        Plan::of(baselines.iter(), namespace)?.labels.remove(ENFORCE_LABEL)
    }

    /// The refusal of a pod whose namespace does not have yet what it is to have.
    pub(crate) async fn hold(&self, review: &Review, use_by: Instant) -> Option<Judged> {
        let request = review.request();
        if review.entry() != Entry::ValidateFail || !makes_a_pod(request) {
            return None;
        }
        if let Err(why) = self.is_complete() {
            return Some(withhold_admission(&format!(
                "the namespace baselines are not known: {why}"
            )));
        }
        let name = request.namespace.as_str();
        let baselines = self.0.read.load_full()?;
        if baselines.is_empty() || BASELINE_NEVER.contains(&name) {
            return None;
        }
        let namespace = match self.0.engines.namespace(name) {
            Some(namespace) => namespace,
            // One that was made a moment ago is not known yet.
            None => {
                let left =
                    use_by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                match tokio::time::timeout(left, self.0.questions.namespace(name)).await {
                    Ok(Ok(Some(namespace))) => Arc::new(namespace),
                    Ok(Ok(None)) => return None,
                    Ok(Err(error)) => return Some(unknown(name, &chain(&error))),
                    Err(_) => return Some(unknown(name, "the API server does not say it in time")),
                }
            }
        };
        let plan = Plan::of(baselines.iter(), &namespace)?;
        let missing = plan.missing(&namespace, |kind, object| {
            let (_, objects) = self.0.made.iter().find(|(known, _)| *known == kind)?;
            objects.find(name, object)
        });
        if missing.is_empty() {
            return None;
        }
        let from = plan.baselines.join("`, `");
        let sentence = format!(
            "pods wait until namespace `{name}` has all that its NamespaceBaseline `{from}` says; missing yet: {}; try again in a moment, \
            `kubectl describe namespacebaseline` says what is in the way",
            missing.join(", ")
        );
        Some(defer_admission(&format!("{KIND}/{}", plan.baselines.join(",")), &sentence))
    }
}

fn makes_a_pod(request: &Request) -> bool {
    request.operation == Operation::Create
        && request.resource.group.is_empty()
        && request.resource.resource == "pods"
        && request.subresource.is_empty()
}

fn unknown(namespace: &str, why: &str) -> Judged {
    withhold_admission(&format!("the namespace `{namespace}` cannot be told: {why}"))
}
