//! Policies of the webhook for the namespace of one test, and requests that meet them.

use std::time::{Duration, Instant};

use nullius_kube::{ADMISSION_STATUS, AGENT_ADMISSION, SYSTEM_NAMESPACE};
use nullius_testkit::{Api, Response, TestNamespace, wait_until};
use serde_json::{Value, json};

use crate::world::World;

/// How long until something holds that was written a moment ago; an answer of the API server lasts longer on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// A namespace with policies of its own, which go with the value.
pub(crate) struct Court<'w> {
    world: &'w World,
    pub(crate) namespace: TestNamespace,
    pub(crate) api: Api,
    map: String,
}

impl<'w> Court<'w> {
    pub(crate) fn open(world: &'w World, purpose: &str) -> Self {
        let namespace = world.cluster.namespace(purpose).unwrap();
        let map = format!("{}-policies", namespace.name());
        let court = Self { world, namespace, api: world.cluster.api().unwrap(), map };
        court.wait_for_replicas(2);
        court
    }

    pub(crate) fn name(&self) -> &str {
        self.namespace.name()
    }

    /// A name of an object of the cluster that no other test has.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.name())
    }

    /// Puts these files into the webhook's hands, instead of those before.
    #[track_caller]
    pub(crate) fn enforce(&self, files: &[(&str, String)]) {
        let data: serde_json::Map<String, Value> =
            files.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": self.map, "namespace": SYSTEM_NAMESPACE,
                "labels": { "nullius.dev/admission-policies": "true" },
            },
            "data": data,
        });
        self.world.direct().apply(&map.to_string()).unwrap();
    }

    /// What is said to be in force.
    pub(crate) fn status(&self) -> Value {
        let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{ADMISSION_STATUS}");
        self.api.get(&path).unwrap().json().unwrap()["data"].clone()
    }

    /// Sends an object as a dry run, as an administrator.
    #[track_caller]
    pub(crate) fn send(&self, resource: &str, object: &Value) -> Response {
        self.send_to(self.name(), resource, object)
    }

    #[track_caller]
    pub(crate) fn send_to(&self, namespace: &str, resource: &str, object: &Value) -> Response {
        let base = if resource.contains('/') { "/apis/" } else { "/api/v1/" };
        let (group, plural) = resource.rsplit_once('/').unwrap_or(("", resource));
        let group = if group.is_empty() { String::new() } else { format!("{group}/") };
        let path = format!("{base}{group}namespaces/{namespace}/{plural}?dryRun=All");
        self.api.post(&path, object).unwrap()
    }

    /// Waits until an object is refused with these words; gives the whole answer.
    #[track_caller]
    pub(crate) fn refuses(&self, resource: &str, object: &Value, words: &str) -> Value {
        let mut last = String::new();
        let refused = wait_until(SOON, &format!("a refusal with `{words}`"), || {
            let answer = self.send(resource, object);
            last = answer.text();
            let message = answer.json().ok()?;
            let told = message["message"].as_str()?.contains(words);
            (!answer.is_success() && told).then_some(message)
        });
        refused.unwrap_or_else(|error| panic!("{error}; at last: {last}; {:#}", self.status()))
    }

    /// Waits until an object is let through with a warning of these words: replicas put a policy in force one after the other.
    #[track_caller]
    pub(crate) fn warns(&self, resource: &str, object: &Value, words: &str) {
        let mut last = String::new();
        let warned = wait_until(SOON, &format!("a warning with `{words}`"), || {
            let answer = self.send(resource, object);
            last = answer.text();
            assert!(answer.is_success(), "{last}");
            answer.header("warning").any(|warning| warning.contains(words)).then_some(())
        });
        warned.unwrap_or_else(|error| panic!("{error}; at last: {last}; {:#}", self.status()))
    }

    /// Waits until an object is let through; gives it as the API server would store it.
    #[track_caller]
    pub(crate) fn passes(&self, resource: &str, object: &Value) -> Value {
        let mut last = String::new();
        let passed = wait_until(SOON, "an object to pass", || {
            let answer = self.send(resource, object);
            last = answer.text();
            answer.is_success().then(|| answer.json().unwrap())
        });
        passed.unwrap_or_else(|error| panic!("{error}; at last: {last}; {:#}", self.status()))
    }

    /// Waits until so many replicas of the webhook answer.
    #[track_caller]
    pub(crate) fn wait_for_replicas(&self, count: u64) {
        let path =
            format!("/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{AGENT_ADMISSION}");
        let mut last = Value::Null;
        let ready = wait_until(Duration::from_secs(180), "the webhook's replicas", || {
            let answer = self.api.get(&path).ok()?.json().ok()?;
            let number =
                |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let ready = number("/status/readyReplicas") == count
                && number("/status/replicas") == count
                && number("/status/updatedReplicas") == count
                && number("/status/observedGeneration") == number("/metadata/generation");
            last = answer["status"].clone();
            ready.then_some(())
        });
        ready.unwrap_or_else(|error| panic!("{error}: {last:#}"));
    }

    /// Runs kubectl in the agent's namespace as an administrator.
    #[track_caller]
    pub(crate) fn system(&self, args: &[&str]) -> String {
        self.world.direct().ok(&[&["-n", SYSTEM_NAMESPACE], args].concat()).unwrap()
    }

    /// The webhook configuration of a kind, as the API server has it.
    pub(crate) fn registration(&self, kind: &str) -> Vec<Value> {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}/nullius-admission");
        let found = self.api.get(&path).unwrap().json().unwrap();
        found["webhooks"].as_array().cloned().unwrap_or_default()
    }

    /// The webhook configuration by which exceptions from Pod Security count.
    pub(crate) fn asked_of_pods(&self) -> Value {
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/nullius-admission-pod-security";
        self.api.get(path).unwrap().json().unwrap()["webhooks"].clone()
    }

    /// A policy that validates ConfigMaps of this namespace, with its binding.
    pub(crate) fn validating(&self, name: &str, spec: Value) -> String {
        self.bound("Validating", name, spec, json!({ "validationActions": ["Deny"] }))
    }

    /// A policy of a family for ConfigMaps of this namespace unless it says otherwise, with its binding.
    pub(crate) fn bound(
        &self,
        family: &str,
        name: &str,
        mut spec: Value,
        mut binding: Value,
    ) -> String {
        let name = self.own(name);
        if spec.get("matchConstraints").is_none() {
            spec["matchConstraints"] = self.constraints("", "configmaps");
        }
        binding["policyName"] = json!(name);
        let of = |kind: String, spec: Value| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": { "name": name }, "spec": spec,
            })
        };
        let policy = of(format!("{family}AdmissionPolicy"), spec);
        let binding = of(format!("{family}AdmissionPolicyBinding"), binding);
        format!("{policy}\n---\n{binding}\n")
    }

    /// Constraints for one resource of this namespace.
    pub(crate) fn constraints(&self, group: &str, resource: &str) -> Value {
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": self.name() } },
            "resourceRules": [{
                "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource],
            }],
        })
    }
}

impl Drop for Court<'_> {
    fn drop(&mut self) {
        let delete =
            ["-n", SYSTEM_NAMESPACE, "delete", "configmap", &self.map, "--ignore-not-found"];
        let _ = self.world.direct().run(&delete);
        if std::thread::panicking() {
            let name = format!("app.kubernetes.io/component={AGENT_ADMISSION}");
            let logs = ["-n", SYSTEM_NAMESPACE, "logs", "-l", &name, "--tail=30", "--prefix"];
            if let Ok(logs) = self.world.direct().run(&logs) {
                eprintln!("--- the webhook said at last:\n{}{}", logs.stdout, logs.stderr);
            }
        }
    }
}

/// A ConfigMap with labels.
pub(crate) fn config_map(labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "tried", "labels": labels } })
}

/// Sends the same object again and again until told to stop; gives every answer that was not the wanted refusal.
pub(crate) fn traffic<'s>(
    court: &'s Court<'_>,
    scope: &'s std::thread::Scope<'s, '_>,
    stop: &'s std::sync::atomic::AtomicBool,
    words: &'s str,
) -> std::thread::ScopedJoinHandle<'s, (usize, Vec<String>)> {
    scope.spawn(move || {
        let (mut sent, mut wrong) = (0, Vec::new());
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let began = Instant::now();
            let answer = court.send("configmaps", &config_map(json!({})));
            sent += 1;
            if answer.status != 422 || !answer.text().contains(words) {
                wrong.push(format!(
                    "{} after {:?}: {}",
                    answer.status,
                    began.elapsed(),
                    answer.text()
                ));
            }
        }
        (sent, wrong)
    })
}

/// Ends traffic with the value, also when a test fails.
pub(crate) struct Ends<'s>(pub(crate) &'s std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
