//! How the cluster's authority is replaced: *prepare* a key, have the hub *certify* it, tell everybody of it, *activate* it, and when
//! nothing that the one before signed is valid any more, *retire* that. Pure: what is kept, and the time.

use std::time::Duration;

use nullius_kube::identity::{Certified, IdentityGeneration, IdentityRecord};
use nullius_model::{CommandId, RotationMode, Timestamp, TrustDomain};
use nullius_pki::{
    CertificateError, KeyError,
    workload::{AuthorityFacts, ClusterAuthority, JwtSigner, NotAdmitted, PreparedAuthority},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice};

/// How long a new authority stands in bundles before it signs: nodes hear of it at once, and whoever reads it from a file of the kubelet
/// within two minutes.
pub(crate) const SETTLE: Duration = Duration::from_secs(120);
/// The longest that an SVID lives.
pub(crate) const LONGEST_SVID: i64 = 3_600;
/// How long the one before stays after another signs: replicas hear of that within two minutes, and clocks differ.
const RETIRE: i64 = LONGEST_SVID + 120 + 300;
/// An order that was heard and not taken by then, since another replica led meanwhile, is given again or not wanted any more.
pub(crate) const ORDER_AGE: i64 = 120;
/// A wish that begins so takes away at once whatever the authority of before has signed.
const REVOKE: &str = "revoke";

/// What the hub ordered, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub(crate) id: CommandId,
    pub(crate) revision: u64,
    pub(crate) issued_at: Timestamp,
    pub(crate) mode: RotationMode,
}

impl Ordered {
    /// As it stands in the Secret.
    fn wish(&self) -> String {
        format!("{}-hub-{}", self.mode, self.id)
    }
}

/// Whether everybody has had the time to hear of what is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    NotYet,
    Settled,
}

/// What the leader does next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing.
    Stay,
    /// Keep this record.
    Keep(Box<IdentityRecord>),
    /// Ask the hub to certify what is next.
    Certify,
}

/// Why there is no next turn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error("a key for the cluster's authority cannot be made or used")]
    Certificate(#[from] CertificateError),
    #[error("a key for tokens cannot be made or used")]
    Key(#[from] KeyError),
    #[error("what the hub certified is refused")]
    NotAdmitted(#[from] NotAdmitted),
}

/// One turn.
pub(crate) fn turn(
    record: &IdentityRecord,
    domain: &TrustDomain,
    told: Told,
    now: Timestamp,
) -> Result<Turn, TurnError> {
    let second = now.as_second();
    if record.since > second {
        // A clock that was ahead wrote this: what is waited for counts from now.
        let mut kept = record.clone();
        kept.since = second;
        return Ok(Turn::Keep(Box::new(kept)));
    }
    let mut kept = following(record, now);
    let is_wished = record.rotated != record.wish;
    let is_revoked = is_wished && record.wish.starts_with(REVOKE);
    match (&record.current, &record.next, &record.previous) {
        (None, None, _) => kept.next = Some(prepare(domain, false)?),
        // What stands prepared lies in the same Secret as what somebody wants to be rid of.
        (Some(_), Some(next), previous)
            if is_revoked || is_wished && !next.is_forced && previous.is_none() =>
        {
            kept.next = Some(prepare(domain, true)?);
            kept.rotated.clone_from(&record.wish);
        }
        (_, Some(next), _) if Life::of(next).is_none_or(|life| life.is_over(now)) => {
            return Ok(Turn::Certify);
        }
        (None, Some(_), _) => activate(&mut kept, now),
        (Some(current), Some(next), _) => {
            let life = Life::of(current);
            let is_over = life.is_none_or(|life| life.is_over(now));
            let is_due = next.is_forced || life.is_none_or(|life| life.has_a_sixth_left(now));
            if !(is_over || told == Told::Settled && is_due) {
                return Ok(Turn::Stay);
            }
            activate(&mut kept, now);
        }
        // Who revokes waits for nothing that was signed before.
        (Some(_), None, Some(_)) if is_revoked => {
            kept.next = Some(prepare(domain, true)?);
            kept.rotated.clone_from(&record.wish);
        }
        (Some(_), None, Some(previous)) => {
            let is_over = Life::of(previous).is_none_or(|life| life.is_over(now));
            if !is_over && second - record.since < RETIRE {
                return Ok(Turn::Stay);
            }
            kept.previous = None;
        }
        (Some(current), None, None) => {
            let is_old = Life::of(current).is_none_or(|life| life.is_half_over(now));
            if !is_wished && !is_old {
                return Ok(Turn::Stay);
            }
            kept.next = Some(prepare(domain, is_wished)?);
            kept.rotated.clone_from(&record.wish);
        }
    }
    Ok(Turn::Keep(Box::new(kept)))
}

/// The record in which an order stands as the wish; none where it is taken already, older than one that was, or heard long ago.
pub(crate) fn ordered(
    record: &IdentityRecord,
    order: &Ordered,
    now: Timestamp,
) -> Option<IdentityRecord> {
    let wish = order.wish();
    if now.as_second() - order.issued_at.as_second() > ORDER_AGE
        || order.revision <= record.ordered
        || wish == record.wish
        || wish == record.rotated
    {
        return None;
    }
    let mut kept = record.clone();
    (kept.wish, kept.ordered) = (wish, order.revision);
    Some(kept)
}

/// The record with what the hub certified of its next generation.
pub(crate) fn certified(
    record: &IdentityRecord,
    domain: &TrustDomain,
    certificate: CertificateDer<'static>,
    root: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<Option<IdentityRecord>, TurnError> {
    let mut kept = following(record, now);
    let Some(next) = &mut kept.next else { return Ok(None) };
    let authority = prepared(next, domain)?.admit(certificate, root, now)?;
    let (certificate_pem, anchor_pem) = authority.to_pem();
    let root_pem = nullius_pki::certificate_pem(root);
    next.certified = Some(Certified { certificate_pem, anchor_pem, root_pem });
    Ok(Some(kept))
}

/// A generation's key, for which a certificate is asked.
pub(crate) fn prepared(
    generation: &IdentityGeneration,
    domain: &TrustDomain,
) -> Result<PreparedAuthority, CertificateError> {
    PreparedAuthority::from_parts(domain.clone(), generation.key.expose_secret())
}

/// The authority of a generation, verified as on the day on which it was certified.
pub(crate) fn authority(
    generation: &IdentityGeneration,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Option<ClusterAuthority>, TurnError> {
    let Some(certified) = &generation.certified else { return Ok(None) };
    let root = CertificateDer::from_pem_slice(certified.root_pem.as_bytes());
    let root = root.map_err(|_| NotAdmitted::NotSigned)?;
    let prepared = prepared(generation, domain)?;
    let (certificate, anchor) = (&certified.certificate_pem, &certified.anchor_pem);
    Ok(Some(ClusterAuthority::from_parts(prepared, certificate, anchor, &root, now)?))
}

/// A record that comes after: each has a higher number, which its bundle has too. The first begins where no other of the cluster was.
fn following(record: &IdentityRecord, now: Timestamp) -> IdentityRecord {
    let mut kept = record.clone();
    kept.since = now.as_second();
    kept.sequence = match record.sequence {
        0 => u64::try_from(now.as_second()).unwrap_or(1),
        sequence => sequence + 1,
    };
    kept
}

fn prepare(domain: &TrustDomain, is_forced: bool) -> Result<IdentityGeneration, TurnError> {
    let key = PreparedAuthority::create(domain.clone())?.key_pkcs8();
    let jwt = JwtSigner::create(domain.clone())?;
    Ok(IdentityGeneration {
        key: SecretSlice::from(key.to_vec()),
        jwt_key: SecretSlice::from(jwt.key_pkcs8().to_vec()),
        is_forced,
        reissue_before: None,
        certified: None,
    })
}

fn activate(record: &mut IdentityRecord, now: Timestamp) {
    record.previous = record.current.take();
    if record.rotated.starts_with(REVOKE) && record.next.as_ref().is_some_and(|it| it.is_forced) {
        record.previous = None;
    }
    record.current = record.next.take().map(|next| IdentityGeneration {
        reissue_before: next.is_forced.then_some(now.as_second()),
        ..next
    });
}

#[derive(Clone, Copy)]
struct Life {
    from: i64,
    until: i64,
}

impl Life {
    /// None where nothing is certified, or what is cannot be read: it serves nobody.
    fn of(generation: &IdentityGeneration) -> Option<Self> {
        let pem = &generation.certified.as_ref()?.certificate_pem;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let facts = AuthorityFacts::read(&certificate).ok()?;
        Some(Self { from: facts.not_before.as_second(), until: facts.not_after.as_second() })
    }

    fn is_over(self, now: Timestamp) -> bool {
        now.as_second() >= self.until
    }

    fn is_half_over(self, now: Timestamp) -> bool {
        now.as_second() >= self.from + (self.until - self.from) / 2
    }

    fn has_a_sixth_left(self, now: Timestamp) -> bool {
        now.as_second() >= self.until - (self.until - self.from) / 6
    }
}

#[cfg(test)]
pub(crate) mod tests;
