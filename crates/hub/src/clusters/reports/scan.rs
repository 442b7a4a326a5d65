//! What the background scan of a cluster finds, whole for each object.

use nullius_model::{
    ClusterName, Enforcement, FindingId, FindingSource, FoundObject, FoundPart, Severity, Timestamp,
};
use nullius_proto::{
    agent_v1::{FoundByScan, ObjectFindings, ObjectPart, ScanWord, scan_word::Kind},
    report::{FINDINGS_OF_OBJECT, STANDING},
};
use nullius_store::{Looked, NewFinding, ScanEnd, ScanMark, StoreError, Tx};
use sha2::{Digest, Sha256};

use super::{cut, waiver};

const SOURCE: FindingSource = FindingSource::Admission;
/// Characters of names, of what policies say, and of each piece of evidence.
const NAME: usize = 300;
const WORDS: usize = 2_000;
const EVIDENCE: usize = 500;
/// Pieces of evidence of a finding, and faults of a scan.
const PIECES: usize = 20;

/// Why a word of a scan is more than an agent may tell at once.
pub(super) fn beyond_bounds(word: &ScanWord) -> Option<&'static str> {
    if word.scan.is_none() {
        return Some("a word of no scan");
    }
    match &word.kind {
        None => Some("a word of a scan that this hub does not know"),
        Some(Kind::Findings(of)) => {
            let named = of.object.as_ref().is_some_and(|key| {
                !key.kind.is_empty() && !key.api_version.is_empty() && !key.name.is_empty()
            });
            if !named || of.part() == ObjectPart::Unspecified {
                return Some("findings of no object");
            }
            (of.findings.len() > FINDINGS_OF_OBJECT).then_some("too many findings of one object")
        }
        Some(Kind::Standing(standing)) => {
            (standing.uids.len() > STANDING).then_some("too many objects that stand")
        }
        Some(Kind::Done(_)) => None,
    }
}

/// Writes the words of a scan; those of a scan that a later one has overtaken are passed over.
pub(super) async fn write(
    tx: &mut Tx,
    cluster: &ClusterName,
    words: &[ScanWord],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut room = None;
    let mut folded = 0;
    for word in words {
        let (Some(scan), Some(kind)) = (&word.scan, &word.kind) else { continue };
        let mark = ScanMark { term: scan.term, number: scan.number };
        if !tx.findings().go_on(SOURCE, cluster, mark, now).await? {
            continue;
        }
        match kind {
            Kind::Findings(of) => {
                let looked = looked(cluster, of);
                let found: Vec<_> =
                    of.findings.iter().map(|finding| new_finding(&looked, finding)).collect();
                let mut left = match room {
                    Some(room) => room,
                    None => tx.findings().room(cluster).await?,
                };
                folded += tx.findings().replace(&looked, &found, mark, &mut left, now).await?;
                room = Some(left);
            }
            Kind::Standing(standing) => {
                tx.findings().stand(SOURCE, cluster, &standing.uids, mark, now).await?;
            }
            Kind::Done(done) => {
                let faults = done.faults.iter().take(PIECES).map(|fault| cut(fault, EVIDENCE));
                let end = ScanEnd {
                    objects: done.objects,
                    policies: done.policies,
                    faults: faults.collect(),
                };
                let gone = tx.findings().finish_scan(SOURCE, cluster, mark, &end, now).await?;
                tracing::debug!(%cluster, gone, objects = end.objects, "end a scan of a cluster");
            }
        }
    }
    if folded > 0 {
        tx.findings().fold(SOURCE, cluster, folded).await?;
    }
    Ok(())
}

fn looked(cluster: &ClusterName, of: &ObjectFindings) -> Looked {
    let key = of.object.clone().unwrap_or_default();
    let object = FoundObject {
        api_version: cut(&key.api_version, NAME),
        kind: cut(&key.kind, NAME),
        namespace: cut(&key.namespace, NAME),
        name: cut(&key.name, NAME),
        uid: cut(&key.uid, 64),
    };
    let part = match of.part() {
        ObjectPart::Pods => FoundPart::Pods,
        ObjectPart::Object | ObjectPart::Unspecified => FoundPart::Object,
    };
    Looked { source: SOURCE, cluster: cluster.clone(), object, part }
}

fn new_finding(looked: &Looked, found: &FoundByScan) -> NewFinding {
    let policy = cut(&found.policy, NAME);
    let binding = cut(&found.binding, NAME);
    let check = cut(&found.check, NAME);
    NewFinding {
        id: id(looked, [&policy, &binding, &check]),
        policy,
        binding,
        check,
        // Of what is not known the worst is taken.
        severity: Severity::of_word(&found.severity).unwrap_or(Severity::High),
        enforcement: Enforcement::of_word(&found.enforcement).unwrap_or(Enforcement::Inform),
        message: cut(&found.message, WORDS),
        evidence: found.evidence.iter().take(PIECES).map(|piece| cut(piece, EVIDENCE)).collect(),
        fix: cut(&found.fix, WORDS),
        waiver: waiver(&found.waiver_owner, &found.waiver_reason, &found.waiver_expires),
    }
}

/// A hash over parts, each with its length, so that no two lists of parts look the same.
fn id(looked: &Looked, check: [&str; 3]) -> FindingId {
    let object = &looked.object;
    let mut hash = Sha256::new();
    let parts = [
        "nullius finding 1",
        looked.cluster.as_str(),
        looked.source.as_str(),
        object.group(),
        &object.kind,
        &object.namespace,
        &object.name,
        looked.part.as_str(),
    ];
    for part in parts.into_iter().chain(check) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    FindingId::from_bits(u128::from_be_bytes(bytes))
}
