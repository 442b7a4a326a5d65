#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_model::{ClusterName, SessionId};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn set(revision: u64, signers: &[&Signer]) -> KeySet {
    let keys = signers.iter().map(|signer| signer.entry(at(0), at(1_000_000))).collect();
    KeySet { revision, keys }
}

fn assertion() -> RequestAssertion {
    RequestAssertion {
        aud: "dev".parse::<ClusterName>().unwrap(),
        iat: 1000,
        exp: 1030,
        jti: format!("{:032x}", 7),
        sub: "ada".parse().unwrap(),
        sid: SessionId::from_bits(1),
        perm: None,
        plan: 1,
        method: "GET".to_owned(),
        path: String::new(),
        upgrade: None,
        conn: String::new(),
    }
}

fn open(verifier: &Verifier, token: &str, now: i64) -> Result<RequestAssertion, VerifyError> {
    verifier.open(token, TokenKind::Request, at(now)).map(|(assertion, _)| assertion)
}

struct World {
    offline: KeySetSigner,
    signer: Signer,
    verifier: Verifier,
}

fn world() -> World {
    let offline = KeySetSigner::generate().unwrap();
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::new(offline.public(), 0).unwrap();
    let installed = verifier.install(&offline.sign(&set(1, &[&signer])));
    assert_eq!(installed, Ok(Installed::Replaced));
    World { offline, signer, verifier }
}

#[test]
fn what_a_trusted_key_signed_opens_and_a_changed_token_does_not() {
    let World { signer, verifier, .. } = world();
    let token = signer.sign_request(&assertion());
    assert_eq!(open(&verifier, &token, 1000), Ok(assertion()));

    let parts: Vec<&str> = token.split('.').collect();
    let mut other = assertion();
    other.sub = "eve".parse().unwrap();
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other).unwrap());
    let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
    assert_eq!(open(&verifier, &forged, 1000), Err(VerifyError::Signature));

    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(open(&verifier, &unsigned, 1000), Err(VerifyError::Signature));

    let none = URL_SAFE_NO_PAD.encode(format!(
        r#"{{"alg":"none","kid":"{}","typ":"nullius-request+jwt"}}"#,
        signer.kid()
    ));
    let none = format!("{none}.{}.", parts[1]);
    assert_eq!(open(&verifier, &none, 1000), Err(VerifyError::Algorithm("none".to_owned())));
}

#[test]
fn before_the_first_key_set_nothing_opens() {
    let World { offline, signer, .. } = world();
    let verifier = Verifier::new(offline.public(), 0).unwrap();
    let refused = open(&verifier, &signer.sign_request(&assertion()), 1000);
    assert_eq!(refused, Err(VerifyError::UnknownKey(signer.kid().to_owned())));
}

#[test]
fn a_stranger_cannot_borrow_a_trusted_key_id() {
    let World { signer, verifier, .. } = world();
    let stranger = Signer::generate().unwrap();
    let refused = open(&verifier, &stranger.sign_request(&assertion()), 1000);
    assert_eq!(refused, Err(VerifyError::UnknownKey(stranger.kid().to_owned())));

    let swapped = stranger.live.load().key.sign(&signer.live.load().request_header, &assertion());
    assert_eq!(open(&verifier, &swapped, 1000), Err(VerifyError::Signature));
}

#[test]
fn a_token_of_one_kind_does_not_pass_for_another() {
    let World { offline, signer, verifier } = world();
    let as_command = signer.live.load().key.sign(&signer.live.load().command_header, &assertion());
    let refused = open(&verifier, &as_command, 1000).unwrap_err();
    assert!(matches!(refused, VerifyError::Kind { .. }));

    // A hub key cannot sign key sets, even with the right type.
    let header = signer.live.load().key.header(TokenKind::KeySet);
    let forged = signer.live.load().key.sign(&header, &set(9, &[&signer]));
    assert!(matches!(
        verifier.install(&forged),
        Err(KeySetError::Token(VerifyError::UnknownKey(_)))
    ));
    let header = offline.key.header(TokenKind::KeySet);
    let borrowed = signer.live.load().key.sign(&header, &set(9, &[&signer]));
    assert_eq!(verifier.install(&borrowed), Err(KeySetError::Token(VerifyError::Signature)));

    // The offline key is no request key.
    let header = offline.key.header(TokenKind::Request);
    let refused = open(&verifier, &offline.key.sign(&header, &assertion()), 1000);
    assert!(matches!(refused, Err(VerifyError::UnknownKey(_))));
}

#[test]
fn key_sets_go_upwards_only() {
    let World { offline, signer, verifier } = world();
    let next = Signer::generate().unwrap();
    let first = offline.sign(&set(1, &[&signer]));
    let second = offline.sign(&set(2, &[&next]));
    assert_eq!(verifier.install(&first), Ok(Installed::Unchanged));
    assert_eq!(verifier.install(&second), Ok(Installed::Replaced));
    assert_eq!(verifier.install(&first), Err(KeySetError::Older { known: 2, found: 1 }));
    let conflicting = offline.sign(&set(2, &[&signer]));
    assert_eq!(verifier.install(&conflicting), Err(KeySetError::Conflict(2)));
    assert_eq!(verifier.revision(), Some(2));
    let refused = open(&verifier, &signer.sign_request(&assertion()), 1000);
    assert!(matches!(refused, Err(VerifyError::UnknownKey(_))), "a key that was dropped");
    assert!(open(&verifier, &next.sign_request(&assertion()), 1000).is_ok());
}

#[test]
fn a_restart_does_not_bring_an_old_key_set_back() {
    let World { offline, signer, .. } = world();
    let restarted = Verifier::new(offline.public(), 2).unwrap();
    let refused = restarted.install(&offline.sign(&set(1, &[&signer])));
    assert_eq!(refused, Err(KeySetError::Older { known: 2, found: 1 }));
    let known = restarted.install(&offline.sign(&set(2, &[&signer])));
    assert_eq!(known, Ok(Installed::Replaced));
}

#[test]
fn a_key_signs_in_its_time_only() {
    let World { offline, signer, verifier } = world();
    let keys = [signer.entry(at(500), at(2000))].into();
    verifier.install(&offline.sign(&KeySet { revision: 2, keys })).unwrap();
    let token = signer.sign_request(&assertion());
    let expected = Err(VerifyError::KeyNotValid(signer.kid().to_owned()));
    assert_eq!(open(&verifier, &token, 494), expected);
    assert!(open(&verifier, &token, 495).is_ok());
    assert!(open(&verifier, &token, 2005).is_ok());
    assert_eq!(open(&verifier, &token, 2006), expected);
}

#[test]
fn a_key_set_with_wrong_ids_or_none_or_too_many_is_refused() {
    let World { offline, signer, verifier } = world();
    let other = Signer::generate().unwrap();
    let (_, entry) = other.entry(at(0), at(1));
    let swapped = KeySet { revision: 2, keys: [(signer.kid().to_owned(), entry)].into() };
    let refused = verifier.install(&offline.sign(&swapped));
    assert_eq!(refused, Err(KeySetError::Key(signer.kid().to_owned())));
    let empty = KeySet { revision: 2, keys: [].into() };
    assert_eq!(verifier.install(&offline.sign(&empty)), Err(KeySetError::Count(0)));
    let many: Vec<Signer> = (0..17).map(|_| Signer::generate().unwrap()).collect();
    let many = set(2, &many.iter().collect::<Vec<_>>());
    assert_eq!(verifier.install(&offline.sign(&many)), Err(KeySetError::Count(17)));
    assert_eq!(verifier.revision(), Some(1));
}

#[test]
fn a_header_written_another_way_is_read_all_the_same() {
    let World { signer, verifier, .. } = world();
    let json =
        format!(r#"{{ "typ":"nullius-request+jwt", "kid":"{}", "alg":"EdDSA" }}"#, signer.kid());
    let header = format!("{}.", URL_SAFE_NO_PAD.encode(json));
    assert!(open(&verifier, &signer.live.load().key.sign(&header, &assertion()), 1000).is_ok());
}
