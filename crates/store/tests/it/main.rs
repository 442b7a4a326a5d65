//! The store from outside, in memory and on a real file: repositories, audit, faults, tampering.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod anchor;
mod audit;
mod clusters;
mod crash;
mod faults;
mod files;
mod findings;
mod mesh;
mod objects;
mod people;
mod search;
mod speed;
mod tamper;
mod usage;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, Clock, Principal, SessionId, Timestamp, UserName,
};
use nullius_store::{AuditOptions, AuditWriter, Signer, Store, StoreUrl};
use tempfile::TempDir;

/// A clock that goes only when told to.
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(at("2026-01-02T03:04:05Z"))))
    }

    pub fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now += jiff::SignedDuration::from_secs(seconds);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    at("2026-01-02T03:04:05Z")
}

pub fn later(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

pub fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

pub fn session(number: u128) -> SessionId {
    SessionId::from_bits(number)
}

pub async fn on_file(directory: &Path) -> Store {
    Store::open(&StoreUrl::Directory(directory.to_owned()), TestClock::new()).await.unwrap()
}

/// A store in memory and one on a file; the directory lives as long as it is held.
pub async fn both() -> Vec<(Store, Option<TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let file = on_file(directory.path()).await;
    let memory = Store::open_in_memory(TestClock::new()).await.unwrap();
    vec![(memory, None), (file, Some(directory))]
}

/// A signature of the test: nobody else knows how to turn bytes around.
pub fn sign(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

pub fn check(bytes: &[u8], signature: &[u8]) -> bool {
    sign(bytes) == signature
}

pub fn options() -> AuditOptions {
    let signer: Signer = Arc::new(|bytes| Ok(sign(bytes)));
    AuditOptions::new("hub".parse().unwrap(), signer)
}

pub async fn start(store: &Store) -> AuditWriter {
    store.start_audit(options()).await.unwrap()
}

pub fn event(number: u64) -> AuditEvent {
    AuditEvent {
        audit_id: format!("event-{number}").parse().unwrap(),
        at: now(),
        kind: AuditKind::SignIn,
        outcome: AuditOutcome::Done,
        principal: Principal::Person { user: user("ada") },
        session: Some(session(7)),
        cluster: Some("dev".parse().unwrap()),
        source: None,
        target: Some("Session/7".into()),
        permission: None,
        explanation: None,
        kube: Some(nullius_model::KubeCall {
            verb: "get".into(),
            resource: "pods".into(),
            subresource: "log".into(),
            namespace: "shop".into(),
            ..Default::default()
        }),
        facts: [("number".to_owned(), number.to_string())].into(),
    }
}
