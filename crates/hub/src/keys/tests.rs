#![allow(clippy::unwrap_used, reason = "test")]
use nullius_model::Ttl;
use nullius_pki::{Installed, KeySource, Verifier};

use super::{
    signing::{NextSigner, SIGNS_AFTER},
    *,
};

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(seconds: u32) -> Timestamp {
    Ttl::from_secs(seconds).after(start())
}

fn sealer(directory: &tempfile::TempDir) -> Sealer {
    Sealer::open(&KeySource::File(directory.path().join("key"))).unwrap().0
}

fn reopened(keys: &Keys, sealer: &Sealer, now: Timestamp) -> Keys {
    let sealed = keys.seal(sealer).unwrap();
    Keys::open(open_facts(&sealed, sealer).unwrap(), &sealed, sealer, now).unwrap()
}

#[test]
fn keys_survive_a_restart_and_a_signer_is_replaced_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = sealer(&directory);
    let keys = Keys::create(start(), None).unwrap();
    let again = reopened(&keys, &sealer, start());
    assert_eq!(again.signer().kid(), keys.signer().kid());
    assert_eq!(again.key_set_jws(), keys.key_set_jws());
    assert!(again.signing().renewed(start()).unwrap().is_none());

    let fresh_until = later(100 * 86_400);
    let renewed = again.signing().renewed(fresh_until).unwrap().unwrap();
    let before = again.signer().kid();
    again.follow(renewed, fresh_until);
    assert_eq!(again.signer().kid(), before, "agents hear of the next signer before it signs");
    assert_eq!(again.signing().facts().key_set.keys.len(), 2);
    let waiting = reopened(&again, &sealer, fresh_until);
    assert_eq!(waiting.signer().kid(), before);
    waiting.act_on_time(SIGNS_AFTER.after(fresh_until));
    assert_ne!(waiting.signer().kid(), before);

    let damaged = SealedKeys::from([(ROOT.to_owned(), vec![1; 40])]);
    let facts = keys.signing().facts().clone();
    assert!(Keys::open(facts, &damaged, &sealer, start()).is_err());
}

#[test]
fn a_hub_of_before_the_workload_root_gets_one_and_nothing_else_changes() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = sealer(&directory);
    let keys = Keys::create(start(), None).unwrap();
    let mut sealed = keys.seal(&sealer).unwrap();
    assert!(missing_workload_root(&sealed, &sealer, later(9)).unwrap().is_empty());
    for name in [WORKLOAD, WORKLOAD_CERTIFICATE] {
        let mut half = sealed.clone();
        half.remove(name);
        // Half of one is damage, and no reason to make another.
        assert!(missing_workload_root(&half, &sealer, later(9)).unwrap().is_empty());
        let facts = open_facts(&half, &sealer).unwrap();
        assert!(matches!(Keys::open(facts, &half, &sealer, start()), Err(KeysError::Missing(_))));
    }
    sealed.remove(WORKLOAD);
    sealed.remove(WORKLOAD_CERTIFICATE);
    let before = sealed.clone();
    let made = missing_workload_root(&sealed, &sealer, later(9)).unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), [WORKLOAD, WORKLOAD_CERTIFICATE]);
    sealed.extend(made);
    assert!(before.iter().all(|(name, blob)| sealed[name] == *blob));
    let facts = open_facts(&sealed, &sealer).unwrap();
    let opened = Keys::open(facts, &sealed, &sealer, start()).unwrap();
    assert_eq!(opened.key_set_jws(), keys.key_set_jws());
    let pem = opened.workload_root().certificate_pem();
    assert_eq!(reopened(&opened, &sealer, start()).workload_root().certificate_pem(), pem);
}

#[test]
fn agents_follow_a_rotation_and_nothing_else() {
    let offline = KeySetSigner::generate().unwrap();
    let keys = Keys::create(start(), Some(&offline)).unwrap();
    let agent = Verifier::new(keys.offline_public().parse().unwrap(), 0).unwrap();
    let first = keys.key_set_jws();
    assert_eq!(agent.install(&first), Ok(Installed::Replaced));

    let signing = keys.signing();
    let known = &signing.facts().key_set;
    let make = |before| {
        NextSigner::make(known, before, later(90), Ttl::from_secs(86_400), start()).unwrap()
    };
    let next = make(Before::Overlaps);
    let kid = next.signer.kid();
    let jws = offline.sign(&next.key_set);
    let rotated = signing.rotated(&jws, next.signer, next.from, start()).unwrap();
    keys.follow(rotated, start());
    assert_eq!(agent.install(&keys.key_set_jws()), Ok(Installed::Replaced));
    assert!(matches!(agent.install(&first), Err(KeySetError::Older { .. })));
    let set = agent.key_set().unwrap();
    assert!(set.revision > 1);
    assert_eq!(set.keys[&kid].not_after, later(86_400));
    let old = set.keys.iter().find(|(old, _)| **old != kid).unwrap().1;
    assert_eq!(old.not_after, later(90 + 3_600), "the signer before is retired");
    assert_eq!(keys.signing_ends(), later(86_400));

    // One in wrong hands counts no more at once, and nobody waits.
    let ends = make(Before::Ends);
    let jws = offline.sign(&ends.key_set);
    let now = later(1);
    // Its revision is that of the one before.
    assert!(keys.signing().rotated(&jws, ends.signer, ends.from, now).is_err());
    let set = keys.signing().facts().key_set.clone();
    let ends =
        NextSigner::make(&set, Before::Ends, later(90), Ttl::from_secs(86_400), now).unwrap();
    assert_eq!(ends.key_set.keys.len(), 1);
    let kid = ends.signer.kid();
    let jws = offline.sign(&ends.key_set);
    keys.follow(keys.signing().rotated(&jws, ends.signer, ends.from, now).unwrap(), now);
    assert_eq!(keys.signer().kid(), kid);
}

#[test]
fn a_key_set_of_another_key_or_without_the_signer_is_refused() {
    let offline = KeySetSigner::generate().unwrap();
    let keys = Keys::create(start(), Some(&offline)).unwrap();
    let signing = keys.signing();
    let known = &signing.facts().key_set;
    let next = || {
        let ttl = Ttl::from_secs(86_400);
        NextSigner::make(known, Before::Overlaps, later(90), ttl, start()).unwrap()
    };
    let stranger = KeySetSigner::generate().unwrap();
    let made = next();
    let refused = signing.rotated(&stranger.sign(&made.key_set), made.signer, made.from, start());
    assert!(matches!(refused, Err(ChangeError::KeySet(_))));
    let made = next();
    let unnamed = offline.sign(&next().key_set);
    let refused = signing.rotated(&unnamed, made.signer, made.from, start());
    assert!(matches!(refused, Err(ChangeError::Unnamed)));
    let older = offline.sign(&KeySet { revision: 0, keys: known.keys.clone() });
    let refused = signing.rotated(&older, keys.signer().clone(), start(), start());
    assert!(matches!(refused, Err(ChangeError::KeySet(KeySetError::Older { .. }))));
}

#[test]
fn who_has_all_that_the_store_holds_cannot_name_a_signer() {
    let directory = tempfile::tempdir().unwrap();
    let sealer = sealer(&directory);
    let embedded = Keys::create(start(), None).unwrap();
    let exported = Keys::create(start(), None).unwrap();
    let without = exported.signing().without_offline_key().unwrap();
    exported.follow(without, start());
    let offline = KeySetSigner::generate().unwrap();
    let elsewhere = Keys::create(start(), Some(&offline)).unwrap();

    for (keys, can) in [(&embedded, true), (&exported, false), (&elsewhere, false)] {
        let agent = Verifier::new(keys.offline_public().parse().unwrap(), 0).unwrap();
        agent.install(&keys.key_set_jws()).unwrap();
        let mut set = keys.signing().facts().key_set.clone();
        set.revision = u64::MAX;
        let sealed = keys.seal(&sealer).unwrap();
        let forged = sealed.iter().any(|(name, blob)| {
            let plain = sealer.open_sealed(name, blob).unwrap();
            let key = KeySetSigner::from_pkcs8(&plain);
            key.is_ok_and(|key| agent.install(&key.sign(&set)).is_ok())
        });
        assert_eq!(forged, can);
        assert_eq!(sealed.contains_key(OFFLINE), can);
        // Without it the hub itself renews nothing.
        let renewed = keys.signing().renewed(later(399 * 86_400)).unwrap();
        assert_eq!(renewed.is_some(), can);
        assert_eq!(reopened(keys, &sealer, start()).key_set_jws(), keys.key_set_jws());
    }
}
