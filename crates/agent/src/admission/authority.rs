//! The webhook's own authority and how it is replaced with no request lost: *prepare* another one, and when every API server
//! believes both, *activate* it, and when nobody uses the first any more, *retire* that.
//!
//! With an authority goes the part of the webhook's path that strangers do not know; a path counts for as long as its authority.

use std::time::Duration;

use nullius_kube::{
    ADMISSION_SECRET, ApiServer, Credential, SYSTEM_NAMESPACE,
    admission::{AuthorityRecord, AuthorityStore, Generation, Objects, Watched},
};
use nullius_model::Timestamp;
use nullius_pki::{RootError, ServingAuthority, constant_time_eq, random_bits};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use tokio::sync::watch;

use crate::{AgentError, tasks::Tasks};

/// Each step lasts at least so long: in it every replica and every API server hears of it.
pub(crate) const SETTLE: Duration = Duration::from_secs(10);

/// What replicas follow.
pub(crate) type Authority = watch::Receiver<Option<Believed>>;

/// Authorities as the Secret has them, once there is one.
#[derive(Clone)]
pub(crate) struct Believed {
    /// What signs.
    pub(crate) current: Generation,
    paths: Vec<SecretString>,
}

impl Believed {
    fn of(record: &AuthorityRecord) -> Option<Self> {
        let current = record.current.clone()?;
        let paths = record.generations().map(|each| each.path.clone()).collect();
        Some(Self { current, paths })
    }

    /// Whether a part of a path is one of ours; it takes the same time for each that is not.
    pub(crate) fn knows(&self, part: &str) -> bool {
        let knows = |path: &SecretString| {
            constant_time_eq(path.expose_secret().as_bytes(), part.as_bytes())
        };
        self.paths.iter().fold(false, |known, path| knows(path) | known)
    }
}

/// Follows the Secret for as long as the process lives.
pub(crate) fn follow(
    api: &ApiServer,
    account: &Credential,
    tasks: &mut Tasks,
) -> Result<Authority, AgentError> {
    let what = Watched {
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        name: Some(ADMISSION_SECRET.to_owned()),
        ..Watched::all("v1", "Secret", "secrets")
    };
    let (mut secrets, keeping) = Objects::watch(api, account.clone(), &what)?;
    tasks.spawn_loop("secret", keeping);
    let (told, authority) = watch::channel(None);
    tasks.spawn_loop("authority", async move {
        loop {
            if let Some(secret) = secrets.find(SYSTEM_NAMESPACE, ADMISSION_SECRET) {
                match AuthorityStore::read(&secret) {
                    Ok(record) => {
                        if let Some(believed) = Believed::of(&record) {
                            told.send_replace(Some(believed));
                        }
                    }
                    // What was read before stays.
                    Err(error) => tracing::warn!(%error, "cannot read the webhook's authority"),
                }
            }
            secrets.changed().await;
        }
    });
    Ok(authority)
}

/// What the leader does next with the authorities.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing.
    Stay,
    /// Keep this record.
    Keep(Box<AuthorityRecord>),
}

/// One turn. `is_believed` says whether every configuration has all authorities of the record.
pub(crate) fn turn(
    record: &AuthorityRecord,
    is_believed: Believes,
    service: &str,
    now: Timestamp,
) -> Result<Turn, RootError> {
    let settled = now.as_second() - record.since >= SETTLE.as_secs().cast_signed();
    let mut next = record.clone();
    next.since = now.as_second();
    match (&record.current, &record.next, &record.previous) {
        (None, ..) => {
            next.current = Some(generation(service, now)?);
            next.rotated.clone_from(&record.wish);
        }
        (Some(current), None, None) => {
            let authority = ServingAuthority::from_parts(
                &current.certificate_pem,
                current.key.expose_secret(),
            )?;
            if !authority.is_old(now) && record.rotated == record.wish {
                return Ok(Turn::Stay);
            }
            next.next = Some(generation(service, now)?);
            next.rotated.clone_from(&record.wish);
        }
        (Some(_), Some(_), _) if settled && is_believed == Believes::All => {
            next.previous = next.current.take();
            next.current = next.next.take();
        }
        (Some(_), None, Some(_)) if settled && is_believed == Believes::All => {
            next.previous = None;
        }
        (Some(_), ..) => return Ok(Turn::Stay),
    }
    Ok(Turn::Keep(Box::new(next)))
}

/// Whether the webhook configurations say what the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Believes {
    /// They do.
    All,
    /// They do not, or it is not known.
    Unknown,
}

fn generation(service: &str, now: Timestamp) -> Result<Generation, RootError> {
    let authority = ServingAuthority::create(service, now)?;
    Ok(Generation {
        certificate_pem: authority.certificate_pem(),
        key: SecretSlice::from(authority.key_pkcs8().to_vec()),
        // Kubernetes takes lower case letters and digits alone.
        path: SecretString::from(format!("{:032x}{:032x}", random_bits(), random_bits())),
    })
}

/// What replicas follow where this signer and this path stand already.
#[cfg(test)]
pub(crate) fn believed(signer: &ServingAuthority, path: &str) -> Authority {
    let current = Generation {
        certificate_pem: signer.certificate_pem(),
        key: SecretSlice::from(signer.key_pkcs8().to_vec()),
        path: SecretString::from(path.to_owned()),
    };
    let paths = vec![current.path.clone()];
    watch::channel(Some(Believed { current, paths })).1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn kept(record: &AuthorityRecord, believes: Believes, second: i64) -> AuthorityRecord {
        match turn(record, believes, "hook.svc", at(second)).unwrap() {
            Turn::Keep(record) => *record,
            Turn::Stay => panic!("nothing is done"),
        }
    }

    fn stays(record: &AuthorityRecord, believes: Believes, second: i64) -> bool {
        matches!(turn(record, believes, "hook.svc", at(second)).unwrap(), Turn::Stay)
    }

    #[test]
    fn an_authority_is_replaced_in_steps_each_of_which_everybody_has_heard_of() {
        let first = kept(&AuthorityRecord::default(), Believes::Unknown, 0);
        assert!(stays(&first, Believes::All, 1_000));
        let mut wished = first.clone();
        wished.wish = "now".to_owned();
        let prepared = kept(&wished, Believes::All, 1_000);
        let pem = |generation: &Option<Generation>| {
            generation.as_ref().map(|generation| generation.certificate_pem.clone())
        };
        assert_eq!(pem(&prepared.current), pem(&first.current));
        assert!(prepared.next.is_some() && prepared.rotated == "now");
        assert!(stays(&prepared, Believes::All, 1_005), "too soon");
        assert!(stays(&prepared, Believes::Unknown, 1_100), "not every API server believes both");

        let active = kept(&prepared, Believes::All, 1_011);
        assert_eq!(pem(&active.current), pem(&prepared.next));
        assert_eq!(pem(&active.previous), pem(&first.current));
        for record in [&prepared, &active] {
            let believed = Believed::of(record).unwrap();
            for generation in record.generations() {
                assert!(believed.knows(generation.path.expose_secret()));
            }
            assert!(!believed.knows("") && !believed.knows(&"A".repeat(43)));
        }
        assert!(stays(&active, Believes::All, 1_012) && stays(&active, Believes::Unknown, 2_000));
        let retired = kept(&active, Believes::All, 1_030);
        assert_eq!(retired.generations().count(), 1);
        let old = first.current.unwrap();
        assert!(!Believed::of(&retired).unwrap().knows(old.path.expose_secret()));
        assert!(stays(&retired, Believes::All, 1_100));
    }

    #[test]
    fn an_old_authority_is_replaced_without_being_asked() {
        let first = kept(&AuthorityRecord::default(), Believes::Unknown, 0);
        let day = 86_400;
        assert!(stays(&first, Believes::All, 50 * day));
        assert!(kept(&first, Believes::All, 61 * day).next.is_some());
    }
}
