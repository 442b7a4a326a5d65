//! What one replica does for all: it keeps authorities fresh, writes the webhook configurations as the policies in force ask, and
//! says in a ConfigMap what is in force.

use std::{collections::BTreeMap, time::Duration};

use nullius_admission::webhook::{Entry, native::CONDITION};
use nullius_kube::{
    ApiServer, Credential, EXCEPTED_POLICIES, KubeError, Leadership,
    admission::{
        AuthorityRecord, AuthorityStore, NativePolicies, Registration, RegistrationStore,
        StatusStore, WebhookEntry,
    },
};
use nullius_model::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    authority::{Believes, SETTLE, Turn, turn},
    exceptions::Wanted,
    policies::{Engines, Standing},
    service_name,
};
use crate::{AgentError, backoff::random};

const ROUND: Duration = Duration::from_secs(2);
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);
/// The kubelet asks each second whether a replica is ready: nobody is sent to one before its Service knows it.
const READY_FIRST: Duration = Duration::from_secs(3);

/// The part of a replica that may lead.
pub(crate) struct Leader {
    engines: Engines,
    authorities: AuthorityStore,
    registrations: RegistrationStore,
    status: StatusStore,
    native: NativePolicies,
    /// Conditions that are to be written, and since when the webhook is asked about their objects.
    asked: BTreeMap<String, (String, Instant)>,
    /// Policies of the API server that it does not let be changed, and why.
    refused: BTreeMap<String, String>,
    ready_since: Option<Instant>,
    leads: bool,
    /// The term in which this replica leads, for whoever works only then.
    terms: watch::Sender<Option<u64>>,
}

impl Leader {
    pub(crate) fn new(
        api: &ApiServer,
        account: &Credential,
        engines: Engines,
        terms: watch::Sender<Option<u64>>,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            engines,
            authorities: AuthorityStore::new(api, account.clone())?,
            registrations: RegistrationStore::new(api, account.clone())?,
            status: StatusStore::new(api, account.clone())?,
            native: NativePolicies::new(api, account.clone())?,
            asked: BTreeMap::new(),
            refused: BTreeMap::new(),
            ready_since: None,
            leads: false,
            terms,
        })
    }

    /// Contends until it is told to stop, then gives way at once.
    pub(crate) async fn run(
        mut self,
        mut leadership: Leadership,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let mut changes = self.engines.changes();
        while !stop.is_cancelled() {
            let round = tokio::time::timeout(ROUND_TIMEOUT, self.round(&mut leadership)).await;
            let pause = match round {
                Ok(Ok(Next::AtOnce)) => Duration::ZERO,
                Ok(Ok(Next::Later)) => ROUND + Duration::from_millis(random() % 500),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot do what the leader does, try again");
                    ROUND
                }
                Err(_) => ROUND,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = changes.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Another replica finds out by itself, a little later.
        let _ = tokio::time::timeout(ROUND_TIMEOUT, leadership.release()).await;
        Ok(())
    }

    async fn round(&mut self, leadership: &mut Leadership) -> Result<Next, KubeError> {
        let term = leadership.contend().await?;
        self.terms.send_if_modified(|known| std::mem::replace(known, term) != term);
        let leads = term.is_some();
        if leads != self.leads {
            self.leads = leads;
            tracing::info!(leads, "the lead among replicas has changed");
        }
        let standing = self.engines.standing();
        if standing.is_some() && self.ready_since.is_none() {
            self.ready_since = Some(Instant::now());
        }
        if !leads {
            return Ok(Next::Later);
        }
        let record = self.authorities.load().await?;
        let believes = match &standing {
            Some(standing) if self.is_ready() => {
                let believes = self.register(&record, standing).await?;
                if matches!(believes, Believes::All) {
                    self.leave_out(&standing.native).await;
                }
                believes
            }
            _ => Believes::Unknown,
        };
        // What people read is in the way of nothing else.
        if let Err(error) = self.status.write(self.told(standing.as_deref())).await {
            tracing::warn!(%error, "cannot say what is in force");
        }
        match turn(&record, believes, &service_name(), Timestamp::now()) {
            Ok(Turn::Stay) => Ok(Next::Later),
            Ok(Turn::Keep(next)) => {
                if self.authorities.keep(&next).await? {
                    tracing::info!(
                        authorities = next.generations().count(),
                        "changed the webhook's authorities"
                    );
                }
                Ok(Next::AtOnce)
            }
            Err(error) => {
                tracing::error!(%error, "cannot use the webhook's authority; delete the data of its Secret to begin anew");
                Ok(Next::Later)
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.ready_since.is_some_and(|since| since.elapsed() >= READY_FIRST)
    }

    async fn register(
        &self,
        record: &AuthorityRecord,
        standing: &Standing,
    ) -> Result<Believes, KubeError> {
        let Some(registration) = registration(record, standing) else {
            return Ok(Believes::Unknown);
        };
        if self.registrations.write(&registration).await? {
            let (validating, mutating) =
                (registration.validating.len(), registration.mutating.len());
            tracing::info!(validating, mutating, "wrote the webhook configurations");
            // API servers hear of it in a moment: what waits for them waits for another round.
            return Ok(Believes::Unknown);
        }
        Ok(Believes::All)
    }

    /// Makes the API server's policies leave out what exceptions are for, and nothing else.
    ///
    /// What is left out newly is left out after the webhook has been asked about it for a while; what is to be asked about again
    /// is at once.
    async fn leave_out(&mut self, native: &[Wanted]) {
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
            }
            match self.native.set(policy, CONDITION, wanted.as_deref()).await {
                Ok(()) => {
                    tracing::info!(policy, "changed what the API server leaves to the webhook");
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
        self.refused.retain(|policy, _| native.iter().any(|each| each.policy == *policy));
    }

    /// What people read of it.
    fn told(&self, standing: Option<&Standing>) -> Vec<(String, String)> {
        let lines = |lines: Vec<String>| lines.join("\n");
        let Some(standing) = standing else {
            let faults = self.engines.unreadable().iter().map(ToString::to_string).collect();
            return vec![("starting".to_owned(), lines(faults))];
        };
        let in_force = standing.engine.in_force();
        let refused = self.refused.iter().map(|(policy, told)| {
            format!("ValidatingAdmissionPolicy/{policy}: its match condition `{CONDITION}` cannot be changed; {told}")
        });
        let troubles = standing.troubles.iter().map(ToString::to_string).chain(refused).collect();
        vec![
            ("in-force".to_owned(), lines(in_force.names())),
            ("troubles".to_owned(), lines(troubles)),
        ]
    }
}

enum Next {
    AtOnce,
    Later,
}

/// What API servers are to know; `None` before there is an authority.
fn registration(record: &AuthorityRecord, standing: &Standing) -> Option<Registration> {
    let current = record.current.as_ref()?;
    let mut registration = Registration {
        authorities_pem: record.generations().map(|each| each.certificate_pem.as_str()).collect(),
        ..Registration::default()
    };
    for entry in Entry::ALL {
        let rules = standing.engine.in_force().rules(entry);
        if rules.is_empty() {
            continue;
        }
        let webhook = WebhookEntry {
            name: entry.as_str().to_owned(),
            path: format!("/{}/{}", current.path.expose_secret(), entry.as_str()),
            rules: rules.to_vec(),
            failure_policy: entry.failure_policy(),
        };
        match entry.mutates() {
            true => registration.mutating.push(webhook),
            false => registration.validating.push(webhook),
        }
    }
    Some(registration)
}
