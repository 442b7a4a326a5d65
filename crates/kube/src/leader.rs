//! Which replica of an agent leads: one Lease in the agents' namespace, as Kubernetes' own controllers do it.
//!
//! The holder renews it; whoever has seen no renewal for its whole length, by its own clock, takes it and counts one
//! transition more. The term is that count, above the second in which the Lease was made: it grows also where somebody deletes the
//! Lease and the count begins anew, and whoever gives orders heeds the highest.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::time::Instant;

use crate::{ApiServer, ConnectError, Credential, KubeError, SYSTEM_NAMESPACE, Step};

/// After so long without a renewal the Lease is free.
pub const LEADER_LEASE: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 10;
/// What the second in which a Lease was made counts for: there are no more transitions in it.
const PER_SECOND: u64 = 1 << 20;

/// One replica's part in it.
pub struct Leadership {
    leases: Api<Lease>,
    lease: &'static str,
    holder: String,
    /// What was seen last, and since when.
    seen: Option<(String, Instant)>,
    /// The highest term that was seen.
    highest: i32,
}

impl Leadership {
    /// A replica that contends for a Lease with its account's credential, under a name that no other has.
    pub fn new(
        server: &ApiServer,
        account: Credential,
        lease: &'static str,
        holder: String,
    ) -> Result<Self, ConnectError> {
        let leases = Api::namespaced(server.client(account)?, SYSTEM_NAMESPACE);
        Ok(Self { leases, lease, holder, seen: None, highest: 0 })
    }

    /// Takes or renews the Lease; gives the term where this replica leads.
    pub async fn contend(&mut self) -> Result<Option<u64>, KubeError> {
        let found = self.leases.get_opt(self.lease).await;
        match found.map_err(KubeError::at(Step::Lead))? {
            None => self.create().await,
            Some(lease) => self.take_or_renew(lease).await,
        }
    }

    /// Gives the Lease back, so that another replica need not wait.
    pub async fn release(&mut self) -> Result<(), KubeError> {
        let found = self.leases.get_opt(self.lease).await;
        let Some(mut lease) = found.map_err(KubeError::at(Step::Lead))? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(());
        }
        spec.holder_identity = None;
        self.write(lease).await.map(|_| ())
    }

    async fn create(&mut self) -> Result<Option<u64>, KubeError> {
        let term = self.highest.saturating_add(1);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.lease.to_owned()),
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(self.held(term, None)),
        };
        match self.leases.create(&PostParams::default(), &lease).await {
            Ok(made) => Ok(self.led(term, &made)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(KubeError::from_kube(Step::Lead, error)),
        }
    }

    async fn take_or_renew(&mut self, mut lease: Lease) -> Result<Option<u64>, KubeError> {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        self.highest = self.highest.max(spec.lease_transitions.unwrap_or_default());
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let (term, since) = if holder == self.holder {
            (self.highest, spec.acquire_time.clone())
        } else if holder.is_empty() || self.is_over(&version) {
            (self.highest.saturating_add(1), None)
        } else {
            return Ok(None);
        };
        lease.spec = Some(self.held(term, since));
        let lead = self.led(term, &lease);
        Ok(if self.write(lease).await? { lead } else { None })
    }

    /// Whether this version of the Lease has stood for its whole length. The clocks of others do not count.
    fn is_over(&mut self, version: &str) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == version => since.elapsed() > LEADER_LEASE,
            Some(_) | None => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// Writes the version that was read and no other; false where somebody was faster.
    async fn write(&self, lease: Lease) -> Result<bool, KubeError> {
        match self.leases.replace(self.lease, &PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(false)
            }
            Err(error) => Err(KubeError::from_kube(Step::Lead, error)),
        }
    }

    fn held(&self, term: i32, since: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            acquire_time: since.or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(term),
            ..LeaseSpec::default()
        }
    }

    fn led(&mut self, transitions: i32, lease: &Lease) -> Option<u64> {
        self.highest = transitions;
        let made = lease.metadata.creation_timestamp.as_ref().map(|time| time.0);
        term_of(made?, transitions)
    }
}

fn term_of(made: Timestamp, transitions: i32) -> Option<u64> {
    let transitions = u64::try_from(transitions).ok().filter(|transitions| *transitions > 0)?;
    Some(u64::try_from(made.as_second()).ok()? * PER_SECOND + transitions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_term_grows_though_the_lease_was_deleted_and_its_count_begins_anew() {
        let term =
            |second, transitions| term_of(Timestamp::from_second(second).unwrap(), transitions);
        assert!(term(1_800_000_000, 2) > term(1_800_000_000, 1));
        assert!(term(1_800_000_001, 1) > term(1_800_000_000, 9_000));
        assert_eq!(term(1_800_000_000, 0), None);
        // The hub keeps it in 63 bits, other tools in the 53 of JavaScript.
        assert!(term(4_000_000_000, 1).unwrap() < 1 << 53);
    }
}
