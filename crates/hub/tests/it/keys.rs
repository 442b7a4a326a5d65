//! Keys of a hub: an offline key that is kept elsewhere, rotation while the hub runs, and what happens when something is
//! missing, foreign or late.

use std::{path::Path, sync::Arc};

use http::Method;
use nullius_hub::{
    Before, HubSettings, OperatorError, Rotation, Uptake, export_offline_key,
    init_with_offline_key, list_keys, rotate_keys, run,
};
use nullius_model::Ttl;
use nullius_pki::{KeySetSigner, OfflineKeyFile, Verifier};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::{TestClock, TestHub, access, settings};

fn file(directory: &Path) -> OfflineKeyFile {
    OfflineKeyFile { path: directory.join("offline.key"), passphrase: None }
}

fn soon() -> Rotation {
    Rotation { after: Ttl::from_secs(60), ..Rotation::default() }
}

/// A state directory whose offline key is in a file outside.
async fn made(clock: &Arc<TestClock>) -> (TempDir, TempDir) {
    let (state, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let offline = file(outside.path());
    init_with_offline_key(settings(&state), &offline, clock.clone()).await.unwrap().unwrap();
    (state, outside)
}

#[tokio::test]
async fn a_hub_with_an_offline_key_rotates_while_it_runs_and_agents_follow() {
    let clock = TestClock::now_real();
    let (state, outside) = made(&clock).await;
    let offline = file(outside.path());
    let shutdown = CancellationToken::new();
    let running = run(settings(&state), clock.clone(), shutdown.clone()).await.unwrap();
    let keys = running.hub().keys();
    let agent = Verifier::new(keys.offline_public().parse().unwrap(), 0).unwrap();
    agent.install(&keys.key_set_jws()).unwrap();
    let before = (keys.signer().kid(), keys.key_set_jws());

    let refused = rotate_keys(&settings(&state), None, soon(), clock.clone()).await;
    assert!(matches!(refused, Err(OperatorError::NeedsFile)));
    let done = rotate_keys(&settings(&state), Some(&offline), soon(), clock.clone()).await.unwrap();
    assert_eq!(done.uptake, Uptake::TakenIn);
    assert_eq!(keys.key_set_revision(), done.revision);
    assert_eq!(keys.signer().kid(), before.0, "every agent hears of it first");
    agent.install(&keys.key_set_jws()).unwrap();
    assert!(agent.install(&before.1).is_err(), "an older one is refused");
    clock.advance(61);
    running.hub().take_in_key_change().await;
    while keys.signer().kid() != done.signer {
        tokio::task::yield_now().await;
    }
    assert!(!state.path().join("keys.next").exists());

    let listed = list_keys(&settings(&state), clock.clone()).await.unwrap();
    assert!(!listed.offline_in_store && !listed.change_waits);
    let signers: Vec<_> = listed.keys.iter().filter(|key| key.name == "signer").collect();
    assert_eq!(signers.len(), 2);
    let signs = signers.iter().find(|key| key.id == done.signer).unwrap();
    assert_eq!(signs.state, "signs requests and orders");
    shutdown.cancel();
    running.stopped().await;

    // A restart keeps it all.
    let shutdown = CancellationToken::new();
    let running = run(settings(&state), clock.clone(), shutdown.clone()).await.unwrap();
    assert_eq!(running.hub().keys().signer().kid(), done.signer);
    assert_eq!(running.hub().keys().key_set_revision(), done.revision);
    shutdown.cancel();
    running.stopped().await;
}

#[tokio::test]
async fn a_hub_that_does_not_run_takes_the_change_in_when_it_starts() {
    let clock = TestClock::now_real();
    let (state, outside) = made(&clock).await;
    let offline = file(outside.path());
    let ends = Rotation { before: Before::Ends, ..Rotation::default() };
    let done = rotate_keys(&settings(&state), Some(&offline), ends, clock.clone()).await.unwrap();
    assert_eq!(done.uptake, Uptake::AtStart);
    assert!(list_keys(&settings(&state), clock.clone()).await.unwrap().change_waits);
    let second = rotate_keys(&settings(&state), Some(&offline), ends, clock.clone()).await;
    assert!(second.unwrap_err().to_string().contains("a change of keys waits"));
    let shutdown = CancellationToken::new();
    let running = run(settings(&state), clock.clone(), shutdown.clone()).await.unwrap();
    let keys = running.hub().keys();
    assert_eq!((keys.signer().kid(), keys.key_set_revision()), (done.signer, done.revision));
    shutdown.cancel();
    running.stopped().await;
}

#[tokio::test]
async fn a_key_set_of_a_thief_is_refused_and_set_aside() {
    let clock = TestClock::now_real();
    let (state, _outside) = made(&clock).await;
    // The thief has the whole state directory and the key file, and an offline key of their own.
    let (foreign, elsewhere) = made(&clock).await;
    let theirs = file(elsewhere.path());
    let refused = rotate_keys(&settings(&state), Some(&theirs), soon(), clock.clone()).await;
    assert!(matches!(refused, Err(OperatorError::WrongFile { .. })));
    // A change that was made for another hub does not even open.
    rotate_keys(&settings(&foreign), Some(&theirs), soon(), clock.clone()).await.unwrap();
    std::fs::rename(foreign.path().join("keys.next"), state.path().join("keys.next")).unwrap();
    let shutdown = CancellationToken::new();
    let running = run(settings(&state), clock.clone(), shutdown.clone()).await.unwrap();
    assert_eq!(running.hub().keys().key_set_revision(), 1);
    assert!(state.path().join("keys.refused").exists() && !state.path().join("keys.next").exists());
    shutdown.cancel();
    running.stopped().await;
}

/// All bytes of a directory.
fn bytes(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn holds(directory: &Path, part: &[u8]) -> bool {
    bytes(directory).windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn the_offline_key_is_carried_out_of_a_hub_that_runs_and_leaves_nothing() {
    let mut hub = TestHub::start().await;
    let outside = tempfile::tempdir().unwrap();
    let offline = file(outside.path());
    let sealed = {
        let mut reader = hub.hub().store().read().await.unwrap();
        let sealed = reader.keys().find("offline").await.unwrap().unwrap();
        sealed.as_bytes().to_vec()
    };
    assert!(holds(hub.directory.path(), &sealed));
    let settings = settings(&hub.directory);
    let listed = list_keys(&settings, hub.clock.clone()).await.unwrap();
    assert!(listed.offline_in_store);
    let plain = rotate_keys(&settings, Some(&offline), soon(), hub.clock.clone()).await;
    assert!(matches!(plain, Err(OperatorError::InStore)));
    // With the key in the store no file is needed.
    rotate_keys(&settings, None, soon(), hub.clock.clone()).await.unwrap();

    let uptake = export_offline_key(&settings, &offline, hub.clock.clone()).await.unwrap();
    assert_eq!(uptake, Uptake::TakenIn);
    assert_eq!(offline.read().unwrap().public().to_string(), hub.hub().keys().offline_public());
    assert!(!holds(hub.directory.path(), &sealed), "neither in the store nor in its journal");
    let again = export_offline_key(&settings, &offline, hub.clock.clone()).await;
    assert!(matches!(again, Err(OperatorError::Elsewhere)));
    rotate_keys(&settings, Some(&offline), soon(), hub.clock.clone()).await.unwrap();

    let revision = hub.hub().keys().key_set_revision();
    hub.restart().await;
    assert_eq!(hub.hub().keys().key_set_revision(), revision);
    let admin = {
        let first = nullius_hub::init(settings.clone(), hub.clock.clone()).await;
        assert!(first.is_err(), "the hub runs");
        hub.hub().keys().offline_public()
    };
    assert_eq!(offline.read().unwrap().public().to_string(), admin);
}

#[tokio::test]
async fn changes_of_keys_are_in_the_audit_and_their_end_in_the_metrics() {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let short = Rotation { valid_for: Ttl::from_secs(7_200), ..soon() };
    let done =
        rotate_keys(&settings(&hub.directory), None, short, hub.clock.clone()).await.unwrap();
    let events = hub.audit(access(&tokens), "lifecycle").await;
    let rotated = events.iter().find(|event| event["facts"]["what"] == "rotate-keys").unwrap();
    assert_eq!(rotated["facts"]["signer"], done.signer);
    assert_eq!(rotated["facts"]["revision"], done.revision.to_string());
    let metrics = hub.call(Method::GET, "/metrics", None, None).await.ok().text;
    let revision = format!("nullius_hub_key_set_revision {}", done.revision);
    for line in ["nullius_hub_signing_key_expires_seconds 7200", revision.as_str()] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    hub.clock.advance(7_300);
    let metrics = hub.call(Method::GET, "/metrics", None, None).await.ok().text;
    assert!(metrics.contains("nullius_hub_signing_key_expires_seconds -100"), "{metrics}");
}

fn listing(directory: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("store.db-"))
        .collect();
    names.sort();
    names
}

async fn start_error(settings: HubSettings) -> String {
    let error = run(settings, TestClock::now_real(), CancellationToken::new()).await.err().unwrap();
    error.to_string()
}

#[tokio::test]
async fn without_its_key_file_a_hub_says_which_and_writes_none() {
    let mut hub = TestHub::start().await;
    hub.stop().await;
    std::fs::rename(hub.directory.path().join("key"), hub.directory.path().join("kept")).unwrap();
    let before = listing(&hub.directory);
    let store = std::fs::read(hub.directory.path().join("store.db")).unwrap();
    let error = start_error(settings(&hub.directory)).await;
    let path = hub.directory.path().join("key").display().to_string();
    for part in [path.as_str(), "is missing", "put `key` back from the backup"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let mut by_passphrase = settings(&hub.directory);
    by_passphrase.sealing =
        nullius_hub::Sealing::Passphrase("correct horse battery".to_owned().into());
    std::fs::rename(hub.directory.path().join("kept"), hub.directory.path().join("key")).unwrap();
    let error = start_error(by_passphrase).await;
    assert!(
        error.contains("key-derivation.json") && error.contains("leave the passphrase out"),
        "{error}"
    );
    std::fs::rename(hub.directory.path().join("key"), hub.directory.path().join("kept")).unwrap();
    assert_eq!(listing(&hub.directory), before, "nothing was made");
    assert_eq!(std::fs::read(hub.directory.path().join("store.db")).unwrap(), store);
    std::fs::rename(hub.directory.path().join("kept"), hub.directory.path().join("key")).unwrap();
    hub.restart().await;
}

#[tokio::test]
async fn an_offline_key_is_made_with_the_hub_or_not_at_all() {
    let clock = TestClock::now_real();
    let (state, outside) = made(&clock).await;
    let offline = file(outside.path());
    // Done again with the same file it only renews the link.
    assert!(
        init_with_offline_key(settings(&state), &offline, clock.clone()).await.unwrap().is_some()
    );
    let other = tempfile::tempdir().unwrap();
    let theirs = file(other.path());
    theirs.write(&KeySetSigner::generate().unwrap()).unwrap();
    let error =
        init_with_offline_key(settings(&state), &theirs, clock.clone()).await.err().unwrap();
    assert!(error.to_string().contains("nullius hub keys export"), "{error}");
    // A place that cannot be written leaves no half-made hub.
    let fresh = tempfile::tempdir().unwrap();
    let nowhere = OfflineKeyFile { path: outside.path().join("no/such/place"), passphrase: None };
    assert!(init_with_offline_key(settings(&fresh), &nowhere, clock.clone()).await.is_err());
    assert!(!fresh.path().join("key").exists());
    assert!(init_with_offline_key(settings(&fresh), &file(fresh.path()), clock).await.is_ok());
}
