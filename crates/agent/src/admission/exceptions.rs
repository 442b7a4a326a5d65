//! Exceptions from policies: which of them count in this cluster, and which of the API server's own policies the webhook asks
//! because of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nullius_admission::webhook::{PolicyFile, Trouble, native};
use nullius_kube::{
    ApiServer, Credential,
    admission::{Objects, Watched},
};
use nullius_model::{API_VERSION, Namespace, Timestamp};
use nullius_policy::exception::{Exception, KIND, POD_SECURITY};
use serde_json::Value;
use tokio::time::Instant;

use super::authority::SETTLE;
use crate::{AgentError, tasks::Tasks};

/// An API server may still have an older condition of a policy for so long.
const LINGER: Duration = SETTLE;
/// Policies that keep the agent itself in bounds: nobody is excepted from them.
const OWN: &str = "nullius-";

/// What exceptions and the API server's policies say.
pub(super) struct Excepting {
    exceptions: Objects,
    policies: Objects,
    bindings: Objects,
    homes: BTreeSet<Namespace>,
    /// Conditions of policies that API servers may have, and when each was last asked for or seen.
    conditions: BTreeMap<String, BTreeMap<String, Instant>>,
}

/// What comes of them.
#[derive(Default)]
pub(super) struct Excepted {
    /// Those that count.
    pub(super) exceptions: Vec<Exception>,
    /// The same as the cluster has them.
    pub(super) objects: Vec<Arc<Value>>,
    /// Policies of the API server, as the webhook asks them.
    pub(super) files: Vec<PolicyFile>,
    /// What the API server's policies have to say.
    pub(super) wanted: Vec<Wanted>,
    /// Exceptions that do not count as they are written.
    pub(super) troubles: Vec<Trouble>,
    /// When time alone changes something.
    pub(super) again: Option<Duration>,
}

/// The condition of a policy of the API server: as it stands, and as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) policy: String,
    pub(crate) standing: Option<String>,
    pub(crate) wanted: Option<String>,
}

impl Excepting {
    pub(super) fn watch(
        api: &ApiServer,
        account: &Credential,
        homes: BTreeSet<Namespace>,
        tasks: &mut Tasks,
    ) -> Result<Self, AgentError> {
        let mut watching = |name, what: &Watched| {
            let (objects, keeping) = Objects::watch(api, account.clone(), what)?;
            tasks.spawn_loop(name, keeping);
            Ok::<_, AgentError>(objects)
        };
        let native = |kind: &str, plural: &str| {
            Watched::all("admissionregistration.k8s.io/v1", kind, plural)
        };
        Ok(Self {
            exceptions: watching(
                "exceptions",
                &Watched::all(API_VERSION, KIND, "policyexceptions"),
            )?,
            policies: watching(
                "the API server's policies",
                &native("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            )?,
            bindings: watching(
                "the API server's bindings",
                &native("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
            )?,
            homes,
            conditions: BTreeMap::new(),
        })
    }

    /// Waits for what must be known before a request is answered: the API server leaves objects out by its policies, whether the
    /// exceptions can be read or not.
    pub(super) async fn completed(&mut self) {
        self.policies.completed().await;
        self.bindings.completed().await;
    }

    /// Waits for the next change.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            () = self.exceptions.changed() => {}
            () = self.policies.changed() => {}
            () = self.bindings.changed() => {}
        }
    }

    /// What counts now.
    pub(super) fn look(&mut self, now: Timestamp) -> Excepted {
        let mut excepted = Excepted::default();
        let policies = self.policies.list();
        for object in self.exceptions.list() {
            match self.read(&object, now) {
                Ok(exception) => {
                    excepted.exceptions.push(exception);
                    excepted.objects.push(object);
                }
                Err(told) => excepted.troubles.push(trouble(&object, told, "nothing of it")),
            }
        }
        for exception in &excepted.exceptions {
            excepted.troubles.extend(without_effect(exception, &policies));
        }
        let in_force: Vec<&Exception> =
            excepted.exceptions.iter().filter(|exception| exception.holds_at(now)).collect();
        let ends = in_force.iter().map(|exception| exception.spec().expires.duration_since(now));
        excepted.again = ends.min().and_then(|left| Duration::try_from(left).ok());

        let bindings = self.bindings.list();
        let began = Instant::now();
        let mut lingering = None;
        let mut seen = BTreeMap::new();
        for policy in &policies {
            let name = name_of(policy);
            let (standing, wanted) = match name.starts_with(OWN) {
                true => (native::standing(policy), None),
                false => (native::standing(policy), native::wanted(name, &in_force)),
            };
            let mut conditions = self.conditions.remove(name).unwrap_or_default();
            conditions.retain(|_, at| began.duration_since(*at) < LINGER);
            conditions
                .extend([&standing, &wanted].into_iter().flatten().map(|it| (it.clone(), began)));
            excepted.wanted.push(Wanted { policy: name.to_owned(), standing, wanted });
            if conditions.is_empty() {
                continue;
            }
            let bound: Vec<&Value> = bindings
                .iter()
                .map(Arc::as_ref)
                .filter(|binding| {
                    binding.pointer("/spec/policyName").and_then(Value::as_str) == Some(name)
                })
                .collect();
            let outside = conditions.keys().cloned().collect();
            excepted.files.push(native::file(policy, &bound, &outside));
            lingering = Some(LINGER);
            seen.insert(name.to_owned(), conditions);
        }
        self.conditions = seen;
        excepted.again = excepted.again.into_iter().chain(lingering).min();
        excepted
    }

    fn read(&self, object: &Value, now: Timestamp) -> Result<Exception, String> {
        let home =
            object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        if !self.homes.iter().any(|known| known.as_str() == home) {
            let homes: Vec<&str> = self.homes.iter().map(Namespace::as_str).collect();
            return Err(format!("exceptions count only in `{}`", homes.join("`, `")));
        }
        Exception::read(object, now)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// What an exception is meant for and does not reach.
fn without_effect(exception: &Exception, policies: &[Arc<Value>]) -> Vec<Trouble> {
    let told = |policy: &str| {
        if policy == POD_SECURITY {
            return Some("the API server's own Pod Security knows of no exceptions".to_owned());
        }
        let is_native = policies.iter().any(|each| name_of(each) == policy);
        (is_native && policy.starts_with(OWN))
            .then(|| format!("`{policy}` bounds the agent itself: nobody is excepted from it"))
    };
    let rules = exception.spec().rules.iter();
    rules
        .filter_map(|rule| told(&rule.policy))
        .map(|told| Trouble {
            file: format!("{KIND}/{}", exception.name()),
            line: 0,
            what: String::new(),
            told,
            instead: "its other rules".to_owned(),
        })
        .collect()
}

fn trouble(object: &Value, told: String, instead: &str) -> Trouble {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    Trouble {
        file: format!("{KIND}/{}/{}", namespace.unwrap_or_default(), name_of(object)),
        line: 0,
        what: String::new(),
        told,
        instead: instead.to_owned(),
    }
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
