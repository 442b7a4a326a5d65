//! What issues: the authority that signs now, and the bundle by which everybody verifies, as the Secret has them.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use nullius_kube::{
    ApiServer, Credential, IDENTITY_SECRET, SYSTEM_NAMESPACE,
    admission::{Objects, Watched},
    identity::{IdentityGeneration, IdentityRecord, IdentityStore},
};
use nullius_model::{SpiffeId, Timestamp, TrustDomain};
use nullius_pki::{
    KeyError,
    workload::{ClusterAuthority, JwtSigner, TrustBundle},
};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::{
    federation::{self, Beside},
    turn::{self, TurnError},
};
use crate::{AgentError, error::chain, tasks::Tasks};

/// After so many seconds whoever reads the bundle looks again.
const REFRESH_HINT: u64 = 300;
/// Where something ends, it is looked at least this often whether it has.
const LOOK: Duration = Duration::from_secs(60);

/// What replicas follow.
pub(crate) type Followed = watch::Receiver<Option<Arc<Standing>>>;

/// What issues.
pub(crate) struct Standing {
    pub(crate) authority: ClusterAuthority,
    pub(crate) jwt: JwtSigner,
    pub(crate) bundle: Arc<TrustBundle>,
    /// What the hub told beside.
    pub(crate) beside: Beside,
    /// SVIDs that were issued before are to be renewed.
    pub(crate) reissue_before: Option<Timestamp>,
}

impl Standing {
    /// What a record has; nothing where no authority of it can sign.
    pub(crate) fn of(
        record: &IdentityRecord,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Option<Self>, TurnError> {
        let Some(current) = &record.current else { return Ok(None) };
        let Some(authority) = turn::authority(current, domain, now)? else { return Ok(None) };
        let jwt = signer(current, domain)?;
        let mut bundle = TrustBundle::new(domain.clone());
        for generation in record.generations() {
            // One that has ended stands behind nothing, one that the hub has not certified behind nothing yet.
            let Ok(Some(known)) = turn::authority(generation, domain, now) else { continue };
            if let Err(why) = bundle.add_x509(known.anchor_der().clone()) {
                tracing::warn!(why, "leave an anchor out of the bundle");
                continue;
            }
            bundle.add_jwt(signer(generation, domain)?.authority());
        }
        let reissue_before = current.reissue_before;
        Ok(Some(Self {
            authority,
            jwt,
            bundle: Arc::new(bundle.at(record.sequence, REFRESH_HINT)),
            beside: federation::read(record, domain, now),
            reissue_before: reissue_before.and_then(|at| Timestamp::from_second(at).ok()),
        }))
    }

    /// Whether it may sign now.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.authority.not_before() <= now && now < self.authority.not_after()
    }
}

/// What signs tokens of a generation.
pub(crate) fn signer(
    generation: &IdentityGeneration,
    domain: &TrustDomain,
) -> Result<JwtSigner, KeyError> {
    JwtSigner::from_parts(domain.clone(), generation.jwt_key.expose_secret())
}

/// Who `agent identity` is to nodes.
pub(crate) fn own_id(domain: &TrustDomain) -> Result<SpiffeId, AgentError> {
    let id =
        format!("spiffe://{domain}/ns/{SYSTEM_NAMESPACE}/sa/{}", nullius_kube::IDENTITY).parse();
    id.map_err(|error: nullius_model::ParseSpiffeError| AgentError::Settings(error.to_string()))
}

/// Says whether the Secret is known as it is.
pub(crate) type Hearing = Box<dyn Fn() -> bool + Send + Sync>;

/// Follows the Secret for as long as the process lives.
pub(crate) fn follow(
    api: &ApiServer,
    account: &Credential,
    domain: TrustDomain,
    tasks: &mut Tasks,
) -> Result<(Followed, Hearing), AgentError> {
    let what = Watched {
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        name: Some(IDENTITY_SECRET.to_owned()),
        ..Watched::all("v1", "Secret", "secrets")
    };
    let (mut secrets, keeping) = Objects::watch(api, account.clone(), &what)?;
    tasks.spawn_loop("secret", keeping);
    let (told, followed) = watch::channel(None);
    let heard = secrets.clone();
    let hearing = Box::new(move || heard.is_current().is_ok());
    tasks.spawn_loop("authority", async move {
        let mut seen = None;
        let mut ends: Option<Timestamp> = None;
        loop {
            let secret = secrets.find(SYSTEM_NAMESPACE, IDENTITY_SECRET);
            let version = secret.as_ref().map(|it| it["metadata"]["resourceVersion"].clone());
            // Who takes the Secret away wants nobody to sign any more.
            if secret.is_none() && seen.is_some() && secrets.is_current().is_ok() {
                tracing::warn!("sign nothing: the Secret of the cluster's authority is gone");
                seen = None;
                told.send_replace(None);
            }
            let has_ended = ends.is_some_and(|end| end <= Timestamp::now());
            if let Some(secret) = secret.filter(|_| version != seen || has_ended) {
                (seen, ends) = (version, None);
                let record = IdentityStore::read(&secret);
                let record = record.inspect_err(|error| {
                    tracing::warn!(%error, "cannot read the cluster's authority");
                });
                match record.map(|record| Standing::of(&record, &domain, Timestamp::now())) {
                    Ok(Ok(Some(standing))) => {
                        ends = standing.beside.next_end;
                        told.send_replace(Some(Arc::new(standing)));
                    }
                    // What was read before stays: it ends by itself.
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(error = %chain(&error), "cannot use the cluster's authority");
                    }
                }
            }
            let next_end = ends.map(|end| end.duration_since(Timestamp::now()));
            tokio::select! {
                () = secrets.changed() => {}
                () = until(next_end) => {}
            }
        }
    });
    Ok((followed, hearing))
}

/// Waits for a moment; for ever where there is none.
async fn until(left: Option<SignedDuration>) {
    match left {
        // Clocks are set meanwhile: it is looked at again.
        Some(left) => {
            let left = Duration::try_from(left).unwrap_or_default();
            tokio::time::sleep(left.clamp(Duration::from_secs(1), LOOK)).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::Ttl;
    use nullius_pki::{
        PrivateKey,
        workload::{SvidError, SvidRequest, verify_x509_svid},
    };

    use super::*;
    use crate::svid::turn::tests::{Hub, at, domain, first, kept};

    #[test]
    fn a_forced_rotation_leaves_nobody_behind() {
        let hub = Hub::new();
        let mut record = first(&hub);
        let of = |record: &IdentityRecord, second| {
            Standing::of(record, &domain(), at(second)).unwrap().unwrap()
        };
        let before = of(&record, 10);
        let id = own_id(&domain()).unwrap();
        let issue = |standing: &Standing, second| {
            let csr = PrivateKey::generate().unwrap().request().unwrap();
            let life = Ttl::from_secs(3_600);
            let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life };
            standing.authority.issue(&asked, at(second)).unwrap().chain
        };
        let verify = |chain: &[_], standing: &Standing, second| {
            verify_x509_svid(chain, |_| Some(&*standing.bundle), at(second)).map(|_| ())
        };
        let old = issue(&before, 10);
        record.wish = "now".to_owned();
        let told_record = hub.certifies(&kept(&record, 100), 101);
        let told = of(&told_record, 102);
        assert_eq!(told.bundle.x509_authorities().len(), 2);
        assert!(told.bundle.sequence() > before.bundle.sequence());
        // While everybody hears of the next one, the first still signs.
        assert_eq!(told.authority.anchor_der(), before.authority.anchor_der());
        verify(&old, &told, 110).unwrap();

        let active_record = kept(&told_record, 300);
        let active = of(&active_record, 300);
        assert_eq!(active.reissue_before, Some(at(300)));
        let new = issue(&active, 300);
        // Each verifies for whoever has the bundle of the step before.
        verify(&new, &told, 310).unwrap();
        verify(&old, &active, 310).unwrap();
        let later = 300 + 3_600 + 120 + 300;
        let retired = of(&kept(&active_record, later), later);
        assert_eq!(retired.bundle.x509_authorities().len(), 1);
        assert_eq!(retired.bundle.jwt_authorities().len(), 1);
        let refused = verify(&new, &before, 310);
        assert!(matches!(refused, Err(SvidError::NotVerified { .. })), "{refused:?}");
    }

    #[test]
    fn an_authority_that_has_ended_signs_nothing() {
        let record = first(&Hub::new());
        let week = 7 * 86_400;
        let standing = Standing::of(&record, &domain(), at(week - 60)).unwrap().unwrap();
        assert!(standing.is_valid(at(week - 60)) && !standing.is_valid(at(week + 60)));
        assert!(Standing::of(&record, &domain(), at(week + 60)).is_err());
        let other = "prod.example".parse().unwrap();
        assert!(Standing::of(&record, &other, at(10)).is_err(), "it is for one trust domain");
        assert!(Standing::of(&IdentityRecord::default(), &domain(), at(0)).unwrap().is_none());
    }
}
