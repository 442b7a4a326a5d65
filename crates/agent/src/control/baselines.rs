//! Namespace baselines: the replica that leads makes in each namespace what baselines say, undoes what others change, and takes
//! away what no baseline says any more.
//!
//! It works as an account of its own, with a Lease of its own, and needs no hub. What is to be done is found by comparing what stands
//! with what is said, so that a start, a change and a drift are the same thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use nullius_kube::{
    ApiServer, BASELINE, BaselineStore, Credential, KubeError, LEADER_LEASE, Leadership,
    MintedToken, OwnAccount, OwnTokens, SharedToken,
    admission::{Objects, Watched},
};
use nullius_model::{API_VERSION, BASELINE_LABEL, Timestamp};
use nullius_policy::baseline::{Baseline, BaselineKind, KIND, Plan, Standing, Step, named_by};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    steps::{Done, Steps},
    telling::Telling,
};
use super::{OWN_TOKEN_SECONDS, token};
use crate::{
    AgentError,
    backoff::{Backoff, random},
    tasks::{Tasks, run_until},
};

mod steps;
mod telling;

const ROUND: Duration = Duration::from_secs(2);
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);
/// A leader counts itself one for so long after it asked: less than the Lease, for what is under way.
const LEADS: Duration = LEADER_LEASE.saturating_sub(Duration::from_secs(3));
/// Several changes that come together are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// Namespaces that are worked on at a time.
const AT_ONCE: usize = 8;
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Keeps baselines until told to stop.
pub(super) async fn run(
    api: ApiServer,
    own_tokens: OwnTokens,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let first = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        first = first_token(&own_tokens) => first,
    };
    let shared = SharedToken::default();
    shared.replace(&first.token);
    let account = Credential::Shared(shared.clone());
    let mut tasks = Tasks::new();
    let renewing =
        token::keep_renewed(own_tokens, OwnAccount::Baseline, shared, OWN_TOKEN_SECONDS, first);
    tasks.spawn_loop("the token of baselines", renewing);
    let keeper = Keeper {
        seen: Seen::watch(&api, &account, &mut tasks)?,
        steps: Steps::new(BaselineStore::new(&api, account.clone())?),
        telling: Telling::new(BaselineStore::new(&api, account.clone())?),
        failed: BTreeMap::new(),
        compared: Compared::default(),
    };
    let holder = format!("{:032x}", nullius_pki::random_bits());
    let leadership = Leadership::new(&api, account, BASELINE, holder)?;
    let stopping = tasks.stop();
    tasks.spawn("what baselines say", keeper.run(leadership, stopping));
    run_until(tasks, &stop, STOP_PATIENCE).await
}

/// Without the account of this version's join manifest there is nothing to do but to wait for it.
async fn first_token(own_tokens: &OwnTokens) -> MintedToken {
    let mut backoff = Backoff::default();
    let mut told = false;
    loop {
        match own_tokens.mint(OwnAccount::Baseline, None, OWN_TOKEN_SECONDS).await {
            Ok(token) => return token,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(account = BASELINE, %error, "cannot keep namespace baselines; apply the join manifest again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff.after_failure(random())).await;
    }
}

/// What the cluster has of it.
struct Seen {
    baselines: Objects,
    namespaces: Objects,
    objects: [(BaselineKind, Objects); 4],
}

impl Seen {
    fn watch(api: &ApiServer, account: &Credential, tasks: &mut Tasks) -> Result<Self, AgentError> {
        let mut watching = |name, what: Watched| {
            let (objects, keeping) = Objects::watch(api, account.clone(), &what)?;
            tasks.spawn_loop(name, keeping);
            Ok::<_, AgentError>(objects)
        };
        let mut made = |kind: BaselineKind| {
            let what = Watched {
                labels: Some(BASELINE_LABEL.to_owned()),
                ..Watched::all(kind.api_version(), kind.as_str(), kind.plural())
            };
            watching(kind.plural(), what).map(|objects| (kind, objects))
        };
        let [policy, quota, range, binding] = BaselineKind::ALL;
        let objects = [made(policy)?, made(quota)?, made(range)?, made(binding)?];
        Ok(Self {
            baselines: watching(
                "baselines",
                Watched::all(API_VERSION, KIND, "namespacebaselines"),
            )?,
            namespaces: watching("namespaces", Watched::all("v1", "Namespace", "namespaces"))?,
            objects,
        })
    }

    fn is_complete(&self) -> Result<(), String> {
        self.baselines.is_current()?;
        self.namespaces.is_current()?;
        self.objects.iter().try_for_each(|(_, objects)| objects.is_current())
    }

    async fn changed(&mut self) {
        let [(_, one), (_, two), (_, three), (_, four)] = &mut self.objects;
        tokio::select! {
            () = self.baselines.changed() => {}
            () = self.namespaces.changed() => {}
            () = one.changed() => {}
            () = two.changed() => {}
            () = three.changed() => {}
            () = four.changed() => {}
        }
    }

    /// What baselines made, by namespace.
    fn made(&self) -> BTreeMap<String, Vec<(BaselineKind, Arc<Value>)>> {
        let mut made: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (kind, objects) in &self.objects {
            for object in objects.list() {
                let namespace = text(&object, "/metadata/namespace").to_owned();
                made.entry(namespace).or_default().push((*kind, object));
            }
        }
        made
    }
}

/// What could not be done in a namespace: the same is tried again later each time.
struct Failed {
    steps: Vec<Step>,
    told: Vec<String>,
    backoff: Backoff,
    again: Instant,
}

struct Keeper {
    seen: Seen,
    steps: Steps,
    telling: Telling,
    failed: BTreeMap<String, Failed>,
    compared: Compared,
}

/// What is to be done in one namespace, by what the cluster had of it.
struct Work {
    namespace: Arc<Value>,
    objects: Vec<(BaselineKind, Arc<Value>)>,
    plan: Option<Plan>,
    steps: Vec<Step>,
}

/// What came of comparing: each pod changes the status of a quota, and in all other namespaces nothing has changed then.
#[derive(Default)]
struct Compared {
    baselines: Vec<Baseline>,
    work: BTreeMap<String, Arc<Work>>,
}

impl Compared {
    fn work(
        &mut self,
        name: &str,
        namespace: &Arc<Value>,
        objects: &[(BaselineKind, Arc<Value>)],
    ) -> Arc<Work> {
        let is_same = |known: &Work| {
            let pairs = known.objects.iter().zip(objects);
            Arc::ptr_eq(&known.namespace, namespace)
                && known.objects.len() == objects.len()
                && pairs.into_iter().all(|((_, one), (_, two))| Arc::ptr_eq(one, two))
        };
        if let Some(known) = self.work.get(name).filter(|known| is_same(known)) {
            return Arc::clone(known);
        }
        let plan = Plan::of(&self.baselines, namespace);
        let standing: Vec<(BaselineKind, &Value)> =
            objects.iter().map(|(kind, object)| (*kind, object.as_ref())).collect();
        let standing = Standing { namespace, objects: &standing };
        let steps = Plan::steps(plan.as_ref(), standing);
        let (namespace, objects) = (Arc::clone(namespace), objects.to_vec());
        let work = Arc::new(Work { namespace, objects, plan, steps });
        self.work.insert(name.to_owned(), Arc::clone(&work));
        work
    }
}

impl Keeper {
    /// Contends until it is told to stop, then gives way at once.
    async fn run(
        mut self,
        mut leadership: Leadership,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let (mut until, mut contends) = (Instant::now(), Instant::now());
        let mut led = false;
        while !stop.is_cancelled() {
            if contends <= Instant::now() {
                let asked = Instant::now();
                contends = asked + ROUND;
                match tokio::time::timeout(ROUND_TIMEOUT, leadership.contend()).await {
                    Ok(Ok(Some(_))) => until = asked + LEADS,
                    Ok(Ok(None)) => until = asked,
                    Ok(Err(error)) => tracing::debug!(%error, "cannot ask who leads, try again"),
                    Err(_) => tracing::debug!("nobody says in time who leads, try again"),
                }
            }
            let leads = Instant::now() < until;
            if leads != std::mem::replace(&mut led, leads) {
                tracing::info!(leads, "the lead among those who keep baselines has changed");
            }
            if leads && let Err(why) = self.seen.is_complete() {
                tracing::debug!(why, "do not keep baselines yet");
            } else if leads {
                // What is under way is done again by whoever leads next.
                let _ = tokio::time::timeout_at(until, self.keep()).await;
            }
            let again = self.failed.values().map(|failed| failed.again).min();
            let wake = again.into_iter().chain([contends]).min().unwrap_or(contends);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(wake) => {}
                () = self.seen.changed(), if leads => tokio::time::sleep(TOGETHER).await,
            }
        }
        // Another replica finds out by itself, a little later.
        let _ = tokio::time::timeout(ROUND_TIMEOUT, leadership.release()).await;
        Ok(())
    }

    /// Does what is to be done, and tells how baselines stand.
    async fn keep(&mut self) {
        let (mut baselines, mut unreadable) = (Vec::new(), BTreeMap::new());
        for object in self.seen.baselines.list() {
            match Baseline::read(&object) {
                Ok(baseline) => baselines.push(baseline),
                Err(faults) => {
                    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    unreadable.insert(text(&object, "/metadata/name").to_owned(), told.join("; "));
                }
            }
        }
        if self.compared.baselines != baselines {
            self.compared = Compared { baselines, work: BTreeMap::new() };
        }
        let work = self.work(&unreadable.keys().map(String::as_str).collect());
        let now = Instant::now();
        let mut due = Vec::new();
        for (index, each) in work.iter().enumerate() {
            let name = text(&each.namespace, "/metadata/name");
            match self.failed.get(name) {
                Some(failed) if failed.steps == each.steps && now < failed.again => {}
                _ if each.steps.is_empty() => {
                    self.failed.remove(name);
                }
                _ => due.push(index),
            }
        }
        let done: Vec<(usize, Done)> = stream::iter(due)
            .map(|index| {
                let (steps, each) = (&self.steps, work.get(index));
                async move {
                    let done = match each {
                        Some(each) => {
                            steps.take(&each.namespace, each.plan.as_ref(), &each.steps).await
                        }
                        None => Done::default(),
                    };
                    (index, done)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (index, done) in done {
            if let Some(each) = work.get(index) {
                self.note(each, done);
            }
        }
        let names: BTreeSet<&str> =
            work.iter().map(|each| text(&each.namespace, "/metadata/name")).collect();
        self.failed.retain(|name, _| names.contains(name.as_str()));
        self.compared.work.retain(|name, _| names.contains(name.as_str()));
        self.tell(&unreadable, &work).await;
    }

    /// What is to be done, namespace by namespace; nothing where one says that it comes from a baseline that cannot be read.
    fn work(&mut self, unreadable: &BTreeSet<&str>) -> Vec<Arc<Work>> {
        let made = self.seen.made();
        let mut work = Vec::new();
        for namespace in self.seen.namespaces.list() {
            let is_leaving = namespace.pointer("/metadata/deletionTimestamp").is_some();
            if is_leaving || named_by(&namespace).any(|name| unreadable.contains(name)) {
                continue;
            }
            let name = text(&namespace, "/metadata/name");
            let objects = made.get(name).map(Vec::as_slice).unwrap_or_default();
            work.push(self.compared.work(name, &namespace, objects));
        }
        work
    }

    fn note(&mut self, Work { namespace, steps, .. }: &Work, Done { changed, told }: Done) {
        let name = text(namespace, "/metadata/name");
        if !changed.is_empty() {
            tracing::info!(
                namespace = name,
                changed = changed.join(", "),
                "kept a namespace as its baselines say"
            );
        }
        if told.is_empty() {
            self.failed.remove(name);
            return;
        }
        let known = self.failed.remove(name);
        if known.as_ref().is_none_or(|known| known.told != told) {
            tracing::warn!(
                namespace = name,
                why = told.join("; "),
                "a namespace is not as its baselines say"
            );
        }
        let mut backoff = known.map(|known| known.backoff).unwrap_or_default();
        let again = Instant::now() + backoff.after_failure(random());
        let failed = Failed { steps: steps.clone(), told, backoff, again };
        self.failed.insert(name.to_owned(), failed);
    }

    async fn tell(&self, unreadable: &BTreeMap<String, String>, work: &[Arc<Work>]) {
        let baselines = &self.compared.baselines;
        let mut how: BTreeMap<&str, telling::How> = baselines
            .iter()
            .map(|baseline| (baseline.name(), telling::How::of(baseline.generation())))
            .collect();
        for each in work {
            let Some(plan) = &each.plan else { continue };
            let name = text(&each.namespace, "/metadata/name");
            let failed = self.failed.get(name).map(|failed| failed.told.as_slice());
            for baseline in &plan.baselines {
                if let Some(how) = how.get_mut(baseline.as_str()) {
                    how.add(name, failed.unwrap_or_default());
                }
            }
            for conflict in &plan.conflicts {
                if let Some(how) = how.get_mut(conflict.baseline.as_str()) {
                    how.add(name, &[conflict.to_string()]);
                }
            }
        }
        for (name, how) in how {
            self.say(name, how).await;
        }
        for (name, told) in unreadable {
            let object = self.seen.baselines.find("", name);
            let generation = object.as_ref().and_then(|each| each.pointer("/metadata/generation"));
            let generation = generation.and_then(Value::as_i64).unwrap_or_default();
            self.say(name, telling::How::unreadable(generation, told)).await;
        }
    }

    async fn say(&self, name: &str, how: telling::How) {
        let Some(object) = self.seen.baselines.find("", name) else { return };
        match self.telling.say(name, object.get("status"), &how, Timestamp::now()).await {
            Ok(()) => {}
            Err(error @ KubeError::Unreachable { .. }) => {
                tracing::debug!(%error, "cannot tell how a baseline stands")
            }
            Err(error) => {
                tracing::warn!(baseline = name, %error, "cannot tell how a baseline stands")
            }
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
