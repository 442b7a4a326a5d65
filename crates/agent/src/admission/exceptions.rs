//! Exceptions from policies: which of them count in this cluster, and which of the API server's own policies the webhook asks
//! because of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::{join_all, select_all};
use nullius_admission::webhook::{PolicyFile, Trouble, native};
use nullius_kube::{
    ApiServer, Credential, EXCEPTED_POLICIES,
    admission::{Asked, EXCLUDED_NAMESPACES, Objects, Watched},
};
use nullius_model::{API_VERSION, Namespace, Timestamp};
use nullius_policy::exception::{Exception, KIND};
use serde_json::Value;
use tokio::time::Instant;

use super::policies::Native;
use crate::{AgentError, tasks::Tasks};

/// An API server may still have an older condition of a policy for so long, and a replica that leads may not have heard that it
/// is of no more use. To ask a policy twice costs next to nothing.
const LINGER: Duration = Duration::from_secs(120);
/// Exceptions that are not known by then do not count until they are.
const TRIED_WITHIN: Duration = Duration::from_secs(5);
/// The conditions that a policy may have, ours among them.
const MOST_CONDITIONS: usize = 64;
/// How long a condition is at most: an older and a newer one stand in one expression, of 16 KiB.
const LONGEST: usize = 5_000;
/// Policies that keep the agent itself in bounds: nobody is excepted from them.
const OWN: &str = "nullius-";

/// What exceptions and the API server's policies say.
pub(super) struct Excepting {
    /// Those of each home: elsewhere anybody may write, and nothing is read.
    exceptions: Vec<Objects>,
    native: Native,
    /// The role in which administrators name policies.
    allowed: Objects,
    /// Conditions of policies that API servers may have, and since when one is neither asked for nor seen.
    conditions: BTreeMap<String, BTreeMap<String, Option<Instant>>>,
}

/// What comes of them.
#[derive(Default)]
pub(super) struct Excepted {
    /// Those that count.
    pub(super) exceptions: Vec<Exception>,
    /// The same as the cluster has them.
    pub(super) objects: Vec<Arc<Value>>,
    /// Those that cannot be read, each with why.
    pub(super) unreadable: Vec<(Arc<Value>, String)>,
    /// Policies of the API server, as the webhook asks them.
    pub(super) files: Vec<PolicyFile>,
    /// What the API server's policies have to say.
    pub(super) wanted: Vec<Wanted>,
    /// Conditions about whose objects they are asked.
    pub(super) asked: Asked,
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
        native: Native,
        homes: BTreeSet<Namespace>,
        tasks: &mut Tasks,
    ) -> Result<Self, AgentError> {
        let mut watching = |name, what: &Watched| {
            let (objects, keeping) = Objects::watch(api, account.clone(), what)?;
            tasks.spawn_loop(name, keeping);
            Ok::<_, AgentError>(objects)
        };
        let mut exceptions = Vec::new();
        for home in homes {
            let namespace = Some(home.to_string());
            let what = Watched { namespace, ..Watched::all(API_VERSION, KIND, "policyexceptions") };
            exceptions.push(watching("exceptions", &what)?);
        }
        Ok(Self {
            exceptions,
            native,
            allowed: watching(
                "policies that may be excepted from",
                &Watched {
                    name: Some(EXCEPTED_POLICIES.to_owned()),
                    ..Watched::all("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles")
                },
            )?,
            conditions: BTreeMap::new(),
        })
    }

    /// Waits for what must be known before a request is answered: the API server leaves objects out by its policies, whether the
    /// exceptions can be read or not.
    pub(super) async fn completed(&mut self) {
        self.native.completed().await;
        let tried = join_all(self.watched_mut().map(Objects::tried));
        let _ = tokio::time::timeout(TRIED_WITHIN, tried).await;
    }

    /// Why nobody can say now which exceptions count.
    pub(super) fn unheard(&self) -> Option<String> {
        let mut all = self.exceptions.iter().chain([&self.allowed]);
        all.find_map(|objects| objects.is_current().err())
    }

    fn watched_mut(&mut self) -> impl Iterator<Item = &mut Objects> {
        self.exceptions.iter_mut().chain([&mut self.allowed])
    }

    /// Waits for the next change.
    pub(super) async fn changed(&mut self) {
        let exceptions = self
            .exceptions
            .iter_mut()
            .chain([&mut self.allowed])
            .map(|each| Box::pin(each.changed()));
        tokio::select! {
            _ = select_all(exceptions) => {}
            () = self.native.changed() => {}
        }
    }

    /// What counts now.
    pub(super) fn look(&mut self, now: Timestamp) -> Excepted {
        let mut excepted = Excepted::default();
        let policies = self.native.policies.list();
        let unheard = self.unheard();
        let known = match &unheard {
            None => self.exceptions.iter().flat_map(Objects::list).collect(),
            Some(wrong) => {
                excepted.troubles.push(Trouble {
                    file: KIND.to_owned(),
                    line: 0,
                    what: String::new(),
                    told: format!("exceptions cannot be read: {wrong}"),
                    instead: "none, and what API servers leave to the webhook stays as it is"
                        .to_owned(),
                });
                Vec::new()
            }
        };
        for object in known {
            match read(&object, now) {
                Ok(exception) => {
                    excepted.exceptions.push(exception);
                    excepted.objects.push(object);
                }
                Err(told) => {
                    excepted.troubles.push(trouble(&object, told.clone(), "nothing of it"));
                    excepted.unreadable.push((object, told));
                }
            }
        }
        let in_force: Vec<&Exception> =
            excepted.exceptions.iter().filter(|exception| exception.holds_at(now)).collect();
        let ends = in_force.iter().map(|exception| exception.spec().expires.duration_since(now));
        excepted.again = ends.min().and_then(|left| Duration::try_from(left).ok());

        let bindings = self.native.bindings.list();
        let began = Instant::now();
        let allowed = self.allowed.find("", EXCEPTED_POLICIES);
        let allowed = allowed.map(|role| named(&role)).unwrap_or_default();
        let mut lingering = None;
        let mut seen = BTreeMap::new();
        for policy in &policies {
            let name = name_of(policy);
            let standing = native::standing(policy);
            let wanted = match countable(policy, &allowed, &in_force) {
                // Nobody knows better than what stands.
                _ if unheard.is_some() => standing.clone(),
                Ok(wanted) => wanted,
                Err(told) => {
                    excepted.troubles.push(Trouble {
                        file: format!("ValidatingAdmissionPolicy/{name}"),
                        line: 0,
                        what: String::new(),
                        told: format!("its exceptions do not count; {told}"),
                        instead: "the policy as it was written".to_owned(),
                    });
                    None
                }
            };
            let mut conditions = self.conditions.remove(name).unwrap_or_default();
            for (condition, gone) in &mut conditions {
                let is_held = [&standing, &wanted].into_iter().flatten().any(|it| it == condition);
                *gone = (!is_held).then(|| gone.unwrap_or(began));
            }
            conditions.retain(|_, gone| gone.is_none_or(|at| began.duration_since(at) < LINGER));
            conditions
                .extend([&standing, &wanted].into_iter().flatten().map(|it| (it.clone(), None)));
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
            if conditions.values().any(Option::is_some) {
                lingering = Some(LINGER);
            }
            seen.insert(name.to_owned(), conditions);
        }
        excepted.asked = Asked::of(seen.iter().flat_map(|(policy, conditions)| {
            conditions.keys().map(|condition| (policy.as_str(), condition.as_str()))
        }));
        self.conditions = seen;
        excepted.again = excepted.again.into_iter().chain(lingering).min();
        excepted
    }
}

fn read(object: &Value, now: Timestamp) -> Result<Exception, String> {
    Exception::read(object, now)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// The condition that a policy of the API server has to have, or why exceptions from it do not count.
fn countable(
    policy: &Value,
    allowed: &BTreeSet<String>,
    in_force: &[&Exception],
) -> Result<Option<String>, String> {
    let name = name_of(policy);
    let Some(wanted) = native::wanted(name, in_force, &EXCLUDED_NAMESPACES) else {
        return Ok(None);
    };
    if name.starts_with(OWN) {
        return Err("it bounds the agent itself: nobody is excepted from it".to_owned());
    }
    if !allowed.contains(name) {
        return Err(format!(
            "to let them, name it among the `resourceNames` of the ClusterRole `{EXCEPTED_POLICIES}`"
        ));
    }
    let kind =
        |field: &str| policy.pointer(&format!("/spec/paramKind/{field}")).and_then(Value::as_str);
    if !matches!((kind("apiVersion"), kind("kind")), (None, None) | (Some("v1"), Some("ConfigMap")))
    {
        return Err("it takes parameters that the agent does not read".to_owned());
    }
    let own = native::written(policy);
    let own = own.pointer("/spec/matchConditions").and_then(Value::as_array);
    if own.is_some_and(|own| own.len() >= MOST_CONDITIONS) {
        return Err(format!("it has {MOST_CONDITIONS} match conditions already"));
    }
    if wanted.len() > LONGEST {
        return Err(format!(
            "together they say {} letters of which objects they are for, of {LONGEST} at most",
            wanted.len()
        ));
    }
    Ok(Some(wanted))
}

/// The policies that a role lets be changed by name; one without names lets none.
fn named(role: &Value) -> BTreeSet<String> {
    let texts = |rule: &Value, field: &str| -> BTreeSet<String> {
        let items = rule.get(field).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    let ours = rules.filter(|rule| {
        texts(rule, "apiGroups").contains("admissionregistration.k8s.io")
            && texts(rule, "resources").contains("validatingadmissionpolicies")
            && texts(rule, "verbs").contains("patch")
    });
    ours.flat_map(|rule| texts(rule, "resourceNames")).collect()
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

#[cfg(test)]
mod tests;
