//! What one replica does for all: it keeps authorities fresh, writes the webhook configurations as the policies in force ask, and
//! says in a ConfigMap what is in force.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nullius_admission::webhook::{Entry, inject, native::CONDITION};
use nullius_kube::{
    ApiServer, Credential, EXCEPTED_POLICIES, KubeError, Leadership, MESH_DISABLED, MESH_LABEL,
    MESH_NODE, MESH_SIDECAR, NODE_NAMESPACE,
    admission::{
        Asked, AuthorityRecord, AuthorityStore, NativePolicies, Registration, RegistrationStore,
        ReplicaStore, StatusStore, WebhookEntry, Written as Registered,
    },
};
use nullius_model::Timestamp;
use nullius_policy::{exception::POD_SECURITY, pod_security};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

mod lowering;
mod written;

use self::{lowering::Lowering, written::Written};
use super::{
    authority::{Believes, SETTLE, Turn, turn},
    baselines::Gate,
    exceptions::Wanted,
    levels::{self, ENFORCES, Levels, Seen},
    policies::{Engines, Standing},
    service_name,
};
use crate::{AgentError, backoff::random};

const ROUND: Duration = Duration::from_secs(2);
/// Until API servers know what to ask.
const ROUND_TIMEOUT: Duration = Duration::from_secs(4);
/// And what takes as many requests as there are policies, namespaces or exceptions, each: none of it is in the way of the next, nor all
/// together of the Lease.
const MANY_TIMEOUT: Duration = Duration::from_millis(900);
/// Whoever goes takes so long at most to leave everything in order.
const LEAVE_WITHIN: Duration = Duration::from_secs(12);
const RELEASE_WITHIN: Duration = Duration::from_secs(3);
/// The kubelet asks each second whether a replica is ready: nobody is sent to one before its Service knows it.
const READY_FIRST: Duration = Duration::from_secs(3);

/// A replica that is not ready leads for one round, and so long after it not again: one that is ready comes in between.
const STAND_IN: Duration = Duration::from_secs(20);

/// The part of a replica that may lead.
pub(crate) struct Leader {
    engines: Engines,
    gate: Gate,
    authorities: AuthorityStore,
    registrations: RegistrationStore,
    status: StatusStore,
    native: NativePolicies,
    levels: Levels,
    lowering: Lowering,
    /// Whether pods get proxies.
    injects: bool,
    /// The pod of this replica.
    pod: String,
    /// Conditions that are to be written, and since when the webhook is asked about their objects.
    asked: BTreeMap<String, (String, Instant)>,
    replicas: ReplicaStore,
    /// Conditions that wait for replicas, by policy.
    waiting: BTreeMap<String, String>,
    /// Policies of the API server that it does not let be changed, and why.
    refused: BTreeMap<String, String>,
    /// Conditions that were written.
    written: Written,
    ready_since: Option<Instant>,
    /// When this replica led last though it was not ready.
    stood_in: Option<Instant>,
    /// The term in which this replica leads, for whoever works only then.
    terms: watch::Sender<Option<u64>>,
}

impl Leader {
    pub(crate) fn new(
        api: &ApiServer,
        account: &Credential,
        engines: Engines,
        gate: Gate,
        levels: Levels,
        pod: String,
        terms: watch::Sender<Option<u64>>,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            engines,
            gate,
            authorities: AuthorityStore::new(api, account.clone())?,
            registrations: RegistrationStore::new(api, account.clone())?,
            status: StatusStore::new(api, account.clone())?,
            native: NativePolicies::new(api, account.clone())?,
            lowering: Lowering::new(api, account, levels.clone())?,
            levels,
            injects: false,
            pod,
            replicas: ReplicaStore::new(api, account.clone())?,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            refused: BTreeMap::new(),
            written: Written::default(),
            ready_since: None,
            stood_in: None,
            terms,
        })
    }

    /// Has API servers ask about pods that may get a proxy, or not.
    pub(crate) fn injecting(self, injects: bool) -> Self {
        Self { injects, ..self }
    }

    /// Contends until it is told to leave, and then gives way at once, while others still answer; ends when it is told to stop.
    pub(crate) async fn run(
        mut self,
        mut leadership: Leadership,
        leave: CancellationToken,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let mut changes = self.engines.changes();
        let mut baselines = self.gate.changes();
        let mut places = self.levels.changes();
        while !leave.is_cancelled() {
            let began = Instant::now();
            let round = tokio::select! {
                round = tokio::time::timeout(ROUND_TIMEOUT, self.round(&mut leadership)) => round,
                () = leave.cancelled() => break,
            };
            let pause = match round {
                Ok(Ok(Some(led))) => {
                    self.follow_up(&led).await;
                    match led.next {
                        Next::AtOnce => Duration::ZERO,
                        Next::Later => ROUND + Duration::from_millis(random() % 500),
                    }
                }
                Ok(Ok(None)) => ROUND + Duration::from_millis(random() % 500),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot do what the leader does, try again");
                    ROUND
                }
                Err(_) => ROUND,
            };
            tokio::select! {
                () = leave.cancelled() => {}
                () = changes.next() => {}
                _ = baselines.changed() => {}
                _ = places.changed() => {}
                // A long round is no reason to wait longer: the Lease is renewed in time.
                () = tokio::time::sleep_until(began + pause) => {}
            }
        }
        self.terms.send_replace(None);
        if tokio::time::timeout(LEAVE_WITHIN, self.leave()).await.is_err() {
            tracing::warn!(
                "could not raise all levels of Pod Security in time; pods of their namespaces are refused until a replica is back"
            );
        }
        // Another replica finds out by itself, a little later.
        let _ = tokio::time::timeout(RELEASE_WITHIN, leadership.release()).await;
        stop.cancelled().await;
        Ok(())
    }

    /// Whoever goes and is followed by nobody leaves namespaces as their owners want them: nobody would enforce it.
    async fn leave(&mut self) {
        let followed = self.replicas.is_followed(&self.pod, POD_SECURITY, ENFORCES);
        match tokio::time::timeout(RELEASE_WITHIN, followed).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot ask whether another replica goes on"),
            Err(_) => tracing::warn!("nobody says in time whether another replica goes on"),
        }
        self.lowering.leave(&self.levels.seen()).await;
    }

    /// One round, whoever leads; gives what is left to do for who does.
    async fn round(&mut self, leadership: &mut Leadership) -> Result<Option<Led>, KubeError> {
        // Whoever does not know the baselines would take their rules away, and whoever does not know the namespaces would take away
        // that pods of lowered ones are asked about.
        let knows = self.engines.deaf().is_none()
            && self.gate.is_complete().is_ok()
            && self.engines.sources().namespaces.is_current().is_ok();
        let standing = self.engines.standing().filter(|_| knows);
        self.ready_since = standing.as_ref().and(self.ready_since.or(Some(Instant::now())));
        let may = standing.is_some()
            || self.stood_in.is_none_or(|stood_in| stood_in.elapsed() >= STAND_IN);
        let term = if may { leadership.contend().await? } else { None };
        // What only a leader does for long is done by one that is ready.
        let told = term.filter(|_| standing.is_some());
        if self.terms.send_if_modified(|known| std::mem::replace(known, told) != told) {
            tracing::info!(leads = told.is_some(), "the lead among replicas has changed");
            // Who led meanwhile may have told API servers something else.
            self.lowering.begin_anew();
            self.asked.clear();
        }
        if term.is_none() {
            return Ok(None);
        }
        let led = self.lead(standing).await;
        if told.is_none() {
            self.stood_in = Some(Instant::now());
            leadership.release().await?;
        }
        led.map(Some)
    }

    /// What comes before all else: API servers know whom to ask about what. Also without policies somebody must make an authority.
    async fn lead(&mut self, standing: Option<Arc<Standing>>) -> Result<Led, KubeError> {
        let record = self.authorities.load().await?;
        let seen = self.levels.seen();
        let believes = match &standing {
            Some(standing) if self.is_ready() => self.register(&record, standing, &seen).await,
            _ => Believes::Unknown,
        };
        let is_told = matches!(believes, Believes::All);
        let next = match turn(&record, believes, &service_name(), Timestamp::now()) {
            Ok(Turn::Stay) => Next::Later,
            Ok(Turn::Keep(next)) => {
                if self.authorities.keep(&next).await? {
                    tracing::info!(
                        authorities = next.generations().count(),
                        "changed the webhook's authorities"
                    );
                }
                Next::AtOnce
            }
            Err(error) => {
                tracing::error!(%error, "cannot use the webhook's authority; delete the data of its Secret to begin anew");
                Next::Later
            }
        };
        Ok(Led { next, is_told, standing, seen })
    }

    /// What there may be much of. Each part has its time, and what people read comes last.
    async fn follow_up(&mut self, led: &Led) {
        let Led { is_told, standing, seen, .. } = led;
        if let Some(standing) = standing.as_ref().filter(|_| self.is_ready()) {
            // These have an end of their own, so that what was written is always noted.
            self.lowering.restore(seen, &self.replicas).await;
            if *is_told {
                within(MANY_TIMEOUT, self.leave_out(&standing.native)).await;
                self.lowering.lower(seen, &self.replicas).await;
            }
        }
        let told = self.told(standing.as_deref(), seen);
        if let Some(Err(error)) = within(MANY_TIMEOUT, self.status.write(told)).await {
            tracing::warn!(%error, "cannot say what is in force");
        }
        if standing.is_some() {
            within(MANY_TIMEOUT, self.lowering.tell(seen, Timestamp::now())).await;
        }
    }

    fn is_ready(&self) -> bool {
        self.ready_since.is_some_and(|since| since.elapsed() >= READY_FIRST)
    }

    async fn register(
        &mut self,
        record: &AuthorityRecord,
        standing: &Standing,
        seen: &Seen,
    ) -> Believes {
        let Some(registration) = registration(record, standing, &self.gate, seen, self.injects)
        else {
            return Believes::Unknown;
        };
        let wrote = match self.registrations.write(&registration).await {
            Ok(wrote) => wrote,
            Err(error) => {
                tracing::warn!(%error, "cannot write the webhook configurations, try again");
                // Part of it may have been.
                Registered { pod_security: true, policies: true }
            }
        };
        // How long API servers have known it is counted from when it stood last.
        if wrote.pod_security {
            self.lowering.begin_anew();
        }
        if wrote.policies {
            self.asked.clear();
        }
        if wrote == Registered::default() {
            return Believes::All;
        }
        let (validating, mutating) = (registration.validating.len(), registration.mutating.len());
        tracing::info!(
            validating,
            mutating,
            pod_security = registration.pod_security.is_some(),
            "changed the webhook configurations"
        );
        // API servers hear of it in a moment: what waits for them waits for another round.
        Believes::Unknown
    }

    /// Makes the API server's policies leave out what exceptions are for, and nothing else.
    ///
    /// What is left out newly is left out after the webhook has been asked about it for a while, and when every replica says that
    /// it asks: one that has not heard of an exception yet would ask nobody. What is to be asked about again is at once.
    async fn leave_out(&mut self, native: &[Wanted]) {
        self.waiting.clear();
        let mut said = None;
        for Wanted { policy, standing, wanted } in native {
            if standing == wanted {
                self.asked.remove(policy);
                self.refused.remove(policy);
                continue;
            }
            if let Some(expression) = wanted {
                let now = Instant::now();
                let (asked, since) =
                    self.asked.entry(policy.clone()).or_insert_with(|| (expression.clone(), now));
                if asked != expression {
                    (*asked, *since) = (expression.clone(), now);
                }
                if since.elapsed() < SETTLE {
                    continue;
                }
                if said.is_none() {
                    match self.replicas.said().await {
                        Ok(all) => said = Some(all),
                        Err(error) => {
                            tracing::warn!(%error, "cannot ask whether an exception is known to every replica");
                            continue;
                        }
                    }
                }
                if let Some(silent) = silent(said.as_ref(), policy, expression) {
                    self.waiting.insert(policy.clone(), silent);
                    continue;
                }
            }
            if !self.written.is_due(policy, wanted.as_deref(), Instant::now()) {
                continue;
            }
            match self.native.set(policy, CONDITION, wanted.as_deref()).await {
                Ok(()) => {
                    if self.written.note(policy, wanted.as_deref(), Instant::now()) == 1 {
                        tracing::info!(policy, "changed what the API server leaves to the webhook");
                    }
                    self.refused.remove(policy);
                }
                // The next round tries again.
                Err(KubeError::Unreachable { .. }) => return,
                // One policy that cannot be changed is in the way of no other.
                Err(error) => {
                    let told = match error {
                        KubeError::Api { code: 403, .. } => format!(
                            "to let them, name it among the `resourceNames` of the ClusterRole `{EXCEPTED_POLICIES}`"
                        ),
                        error => error.to_string(),
                    };
                    if self.refused.insert(policy.clone(), told.clone()).as_ref() != Some(&told) {
                        tracing::warn!(policy, told, "exceptions from a policy do not count");
                    }
                }
            }
        }
        let is_there = |policy: &str| native.iter().any(|each| each.policy == policy);
        self.refused.retain(|policy, _| is_there(policy));
        self.written.retain(is_there);
    }

    /// What people read of it.
    fn told(&self, standing: Option<&Standing>, seen: &Seen) -> Vec<(String, String)> {
        let lines = |lines: Vec<String>| lines.join("\n");
        let Some(standing) = standing else {
            let faults = self.engines.unreadable();
            let deaf = self
                .engines
                .deaf()
                .map(|what| format!("the API server has not been heard of {what}"));
            let faults = faults.iter().map(ToString::to_string).chain(deaf).collect();
            return vec![("starting".to_owned(), lines(faults))];
        };
        let in_force = standing.engine.in_force();
        let refused = self.refused.iter().map(|(policy, told)| {
            format!("ValidatingAdmissionPolicy/{policy}: its match condition `{CONDITION}` cannot be changed; {told}")
        });
        let quarrels = self.written.quarrels().map(|policy| {
            format!("ValidatingAdmissionPolicy/{policy}: somebody else writes its match condition `{CONDITION}` too; leave it to the agent")
        });
        let waiting = self.waiting.iter().map(|(policy, pods)| {
            format!("ValidatingAdmissionPolicy/{policy}: its exceptions count when {pods} has heard of them")
        });
        let troubles = standing.troubles.iter().map(ToString::to_string);
        let troubles = troubles.chain(refused).chain(quarrels).chain(waiting);
        let troubles = troubles.chain(self.lowering.troubles(seen)).collect();
        vec![
            ("in-force".to_owned(), lines(in_force.names())),
            ("troubles".to_owned(), lines(troubles)),
        ]
    }
}

/// Who does not ask about the objects of a condition: replicas that are ready, or all where none is known.
fn silent(said: Option<&BTreeMap<String, Asked>>, policy: &str, condition: &str) -> Option<String> {
    let Some(said) = said.filter(|said| !said.is_empty()) else {
        return Some("a ready replica".to_owned());
    };
    let silent = said.iter().filter(|(_, asked)| !asked.asks(policy, condition));
    let pods: Vec<&str> = silent.map(|(pod, _)| pod.as_str()).collect();
    (!pods.is_empty()).then(|| format!("`{}`", pods.join("`, `")))
}

/// What a round of who leads came to.
struct Led {
    next: Next,
    /// Whether API servers have been told already what they are to ask.
    is_told: bool,
    standing: Option<Arc<Standing>>,
    seen: Seen,
}

enum Next {
    AtOnce,
    Later,
}

/// What comes of it in this time.
async fn within<T>(time: Duration, done: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, done).await.ok()
}

/// What API servers are to know; `None` before there is an authority.
fn registration(
    record: &AuthorityRecord,
    standing: &Standing,
    gate: &Gate,
    seen: &Seen,
    injects: bool,
) -> Option<Registration> {
    let current = record.current.as_ref()?;
    let mut registration = Registration {
        authorities_pem: record.generations().map(|each| each.certificate_pem.as_str()).collect(),
        ..Registration::default()
    };
    for entry in Entry::ALL {
        let mut rules = standing.engine.in_force().rules(entry).to_vec();
        rules.extend(gate.rules(entry));
        let (mut namespaces, mut conditions) = (None, Vec::new());
        let asked_about = seen.asked_about();
        if entry == Entry::PodSecurity && !asked_about.is_empty() {
            rules.extend(levels::rules());
            namespaces = Some(asked_about);
            conditions.extend(pod_security::conditions());
        }
        let (mut namespace_labels, mut object_labels) = (Vec::new(), Vec::new());
        if injects && let Some(whom) = injected(entry) {
            rules.extend(inject::rules());
            (namespace_labels, object_labels) = whom;
        }
        if rules.is_empty() {
            continue;
        }
        let webhook = WebhookEntry {
            name: entry.as_str().to_owned(),
            path: format!("/{}/{}", current.path.expose_secret(), entry.as_str()),
            rules,
            failure_policy: entry.failure_policy(),
            namespaces,
            namespace_labels,
            object_labels,
            conditions,
        };
        match entry {
            Entry::PodSecurity => registration.pod_security = Some(webhook),
            Entry::MutateFail | Entry::MutateIgnore | Entry::InjectFail | Entry::InjectIgnore => {
                registration.mutating.push(webhook);
            }
            Entry::ValidateFail | Entry::ValidateIgnore => registration.validating.push(webhook),
        }
    }
    Some(registration)
}

/// About which pods the entry asks that puts proxies into them: expressions about labels of their namespaces, and of themselves. What
/// says itself that it has a proxy would have no traffic without one, and is refused while nobody answers.
fn injected(entry: Entry) -> Option<(Vec<Value>, Vec<Value>)> {
    let is = |key: &str, operator: &str, values: &[&str]| json!({ "key": key, "operator": operator, "values": values });
    // The others of ours are never asked about.
    let elsewhere = is("kubernetes.io/metadata.name", "NotIn", &[NODE_NAMESPACE]);
    let (namespace, pod) = match entry {
        Entry::InjectFail => (
            is(MESH_LABEL, "NotIn", &[MESH_NODE, MESH_DISABLED]),
            is(MESH_LABEL, "In", &[MESH_SIDECAR]),
        ),
        Entry::InjectIgnore => {
            (is(MESH_LABEL, "In", &[MESH_SIDECAR]), is(MESH_LABEL, "NotIn", &[MESH_SIDECAR]))
        }
        Entry::ValidateFail
        | Entry::ValidateIgnore
        | Entry::MutateFail
        | Entry::MutateIgnore
        | Entry::PodSecurity => return None,
    };
    Some((vec![elsewhere, namespace], vec![pod]))
}

#[cfg(test)]
mod tests;
