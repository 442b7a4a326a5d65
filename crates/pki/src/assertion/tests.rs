#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use nullius_model::{KeySet, SessionId};

use super::*;
use crate::{KeySetSigner, Signer};

const NOW: i64 = 1_000_000;
const CONNECTION: [u8; 32] = [7; 32];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

struct World {
    signer: Signer,
    verifier: AssertionVerifier,
}

fn world() -> World {
    let offline = KeySetSigner::generate().unwrap();
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::new(offline.public(), 0).unwrap();
    let keys = [signer.entry(at(0), at(NOW * 2))].into();
    verifier.install(&offline.sign(&KeySet { revision: 1, keys })).unwrap();
    let verifier = AssertionVerifier::new(Arc::new(verifier), "dev".parse().unwrap());
    World { signer, verifier }
}

fn assertion(nonce: u128) -> RequestAssertion {
    RequestAssertion {
        aud: "dev".parse().unwrap(),
        iat: NOW,
        exp: NOW + 30,
        jti: format!("{nonce:032x}"),
        sub: "ada".parse().unwrap(),
        sid: SessionId::from_bits(1),
        perm: None,
        plan: 1,
        method: "GET".to_owned(),
        path: path_hash("/api/v1/namespaces/shop/pods?limit=500"),
        upgrade: None,
        conn: connection_id(&CONNECTION),
    }
}

fn facts() -> RequestFacts<'static> {
    RequestFacts {
        method: "GET",
        path_and_query: "/api/v1/namespaces/shop/pods?limit=500",
        upgrade: None,
        exporter: &CONNECTION,
    }
}

impl World {
    fn verify_at(
        &self,
        assertion: &RequestAssertion,
        facts: &RequestFacts<'_>,
        now: i64,
    ) -> Result<RequestAssertion, AssertionError> {
        self.verifier.verify(&self.signer.sign_request(assertion), facts, at(now))
    }

    fn refuse(&self, change: impl FnOnce(&mut RequestAssertion)) -> AssertionError {
        let mut assertion = assertion(99);
        change(&mut assertion);
        self.verify_at(&assertion, &facts(), NOW).unwrap_err()
    }
}

#[test]
fn the_request_that_was_permitted_passes_once() {
    let world = world();
    assert_eq!(world.verify_at(&assertion(1), &facts(), NOW), Ok(assertion(1)));
    assert_eq!(world.verify_at(&assertion(1), &facts(), NOW), Err(AssertionError::Replayed));
    assert_eq!(world.verify_at(&assertion(1), &facts(), NOW + 35), Err(AssertionError::Replayed));
    assert_eq!(world.verify_at(&assertion(2), &facts(), NOW), Ok(assertion(2)));
}

#[test]
fn another_cluster_connection_or_request_is_refused() {
    let world = world();
    let staging: ClusterName = "staging".parse().unwrap();
    assert_eq!(
        world.refuse(|assertion| assertion.aud = staging.clone()),
        AssertionError::Cluster(staging.clone())
    );
    assert_eq!(
        world.refuse(|assertion| assertion.conn = connection_id(&[8; 32])),
        AssertionError::Connection
    );
    assert_eq!(world.refuse(|assertion| assertion.conn.clear()), AssertionError::Connection);
}

#[test]
fn method_path_and_upgrade_must_be_those_that_were_permitted() {
    let world = world();
    let refuse = |facts| world.verify_at(&assertion(3), &facts, NOW).unwrap_err();
    assert_eq!(
        refuse(RequestFacts { method: "DELETE", ..facts() }),
        AssertionError::Request("method")
    );
    assert_eq!(
        refuse(RequestFacts { method: "get", ..facts() }),
        AssertionError::Request("method")
    );
    let path_and_query = "/api/v1/namespaces/shop/pods?limit=501";
    assert_eq!(refuse(RequestFacts { path_and_query, ..facts() }), AssertionError::Request("path"));
    let path_and_query = "/api/v1/namespaces/shop/secrets";
    assert_eq!(refuse(RequestFacts { path_and_query, ..facts() }), AssertionError::Request("path"));
    let upgrade = Some("websocket");
    assert_eq!(refuse(RequestFacts { upgrade, ..facts() }), AssertionError::Request("upgrade"));

    let mut upgraded = assertion(4);
    upgraded.upgrade = Some("websocket".to_owned());
    let refused = world.verify_at(&upgraded, &facts(), NOW).unwrap_err();
    assert_eq!(refused, AssertionError::Request("upgrade"));
    let spdy = RequestFacts { upgrade: Some("spdy/3.1"), ..facts() };
    let refused = world.verify_at(&upgraded, &spdy, NOW).unwrap_err();
    assert_eq!(refused, AssertionError::Request("upgrade"));
    let websocket = RequestFacts { upgrade, ..facts() };
    assert!(world.verify_at(&upgraded, &websocket, NOW).is_ok());
}

#[test]
fn a_refused_assertion_does_not_use_up_its_nonce() {
    let world = world();
    let wrong = RequestFacts { method: "DELETE", ..facts() };
    assert!(world.verify_at(&assertion(5), &wrong, NOW).is_err());
    assert!(world.verify_at(&assertion(5), &facts(), NOW).is_ok());
}

#[test]
fn its_life_is_short_and_clocks_may_be_five_seconds_apart() {
    let world = world();
    let verify = |nonce, now| world.verify_at(&assertion(nonce), &facts(), now);
    assert_eq!(verify(10, NOW - 6), Err(AssertionError::Early(6)));
    assert!(verify(11, NOW - 5).is_ok());
    assert!(verify(12, NOW + 35).is_ok());
    assert_eq!(verify(13, NOW + 36), Err(AssertionError::Expired(6)));

    assert_eq!(world.refuse(|assertion| assertion.exp = NOW + 61), AssertionError::Life(61));
    assert_eq!(world.refuse(|assertion| assertion.exp = NOW), AssertionError::Life(0));
    assert_eq!(world.refuse(|assertion| assertion.exp = NOW - 1), AssertionError::Life(-1));
    let error = world.refuse(|assertion| (assertion.iat, assertion.exp) = (i64::MIN, i64::MAX));
    assert_eq!(error, AssertionError::Life(i64::MAX));
}

#[test]
fn a_nonce_is_128_bits_in_one_form() {
    let world = world();
    for bad in ["", "1", &"A".repeat(32), &"g".repeat(32), &"0".repeat(33), &"+0".repeat(16)] {
        let error = world.refuse(|assertion| assertion.jti = bad.to_owned());
        assert_eq!(error, AssertionError::Nonce, "{bad}");
    }
}

#[test]
fn an_oversized_token_is_not_even_read() {
    let World { signer, verifier } = world();
    let token = signer.sign_request(&assertion(20));
    let (header, _) = token.split_once('.').unwrap();
    let long = format!("{header}.{}.AA", "A".repeat(4096));
    assert_eq!(
        verifier.verify(&long, &facts(), at(NOW)),
        Err(AssertionError::Token(VerifyError::Oversize { max: 4096 }))
    );
}
