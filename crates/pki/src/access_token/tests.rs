#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use super::*;

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn issue(signer: &AccessSigner, aud: Audience, ttl: u32) -> (String, i64) {
    let (sub, sid) = ("ada".parse().unwrap(), SessionId::from_bits(3));
    signer.issue(aud, &sub, &sid, Ttl::from_secs(ttl), at(NOW))
}

fn world() -> (AccessSigner, AccessVerifier) {
    let signer = AccessSigner::generate("hub-1").unwrap();
    let verifier = AccessVerifier::new("hub-1", [signer.public()]).unwrap();
    (signer, verifier)
}

#[test]
fn a_token_opens_its_own_doors_only() {
    let (signer, verifier) = world();
    let (hub, _) = issue(&signer, Audience::Hub, 300);
    let (kubernetes, exp) = issue(&signer, Audience::Kubernetes, 300);
    assert_eq!(exp, NOW + 300);
    let claims = verifier.verify(&kubernetes, Audience::Kubernetes, at(NOW)).unwrap();
    assert_eq!(claims.sub.as_str(), "ada");
    assert_eq!(claims.sid, SessionId::from_bits(3));
    assert!(verifier.verify(&hub, Audience::Hub, at(NOW)).is_ok());
    for (token, aud) in [(&kubernetes, Audience::Hub), (&hub, Audience::Kubernetes)] {
        assert_eq!(verifier.verify(token, aud, at(NOW)), Err(AccessTokenError::Audience));
    }
}

#[test]
fn ten_minutes_are_the_longest_and_the_end_is_the_end() {
    let (signer, verifier) = world();
    let (token, exp) = issue(&signer, Audience::Hub, 86_400);
    assert_eq!(exp, NOW + 600);
    assert!(verifier.verify(&token, Audience::Hub, at(exp - 1)).is_ok());
    let expired = verifier.verify(&token, Audience::Hub, at(exp));
    assert_eq!(expired, Err(AccessTokenError::Expired(0)));
    assert_eq!(verifier.verify(&token, Audience::Hub, at(NOW - 6)), Err(AccessTokenError::Times));
    let mut long = verifier.verify(&token, Audience::Hub, at(NOW)).unwrap();
    long.exp = NOW + 601;
    let long = verifier.verify(&signer.sign(&long), Audience::Hub, at(NOW));
    assert_eq!(long, Err(AccessTokenError::Times));
}

#[test]
fn another_hub_another_key_and_another_kind_are_refused() {
    let (signer, verifier) = world();
    let stranger = AccessSigner::generate("hub-1").unwrap();
    let (forged, _) = issue(&stranger, Audience::Hub, 60);
    assert!(matches!(
        verifier.verify(&forged, Audience::Hub, at(NOW)),
        Err(AccessTokenError::Token(VerifyError::UnknownKey(_)))
    ));
    let elsewhere = AccessSigner::from_pkcs8("hub-2", &signer.to_pkcs8().unwrap()).unwrap();
    let (other, _) = issue(&elsewhere, Audience::Hub, 60);
    assert_eq!(
        verifier.verify(&other, Audience::Hub, at(NOW)),
        Err(AccessTokenError::Issuer("hub-2".to_owned()))
    );
    let (token, _) = issue(&signer, Audience::Hub, 60);
    let claims = verifier.verify(&token, Audience::Hub, at(NOW)).unwrap();
    let header = signer.key.header(TokenKind::Request);
    let wrong_kind = signer.key.sign(&header, &claims);
    assert!(matches!(
        verifier.verify(&wrong_kind, Audience::Hub, at(NOW)),
        Err(AccessTokenError::Token(VerifyError::Kind { .. }))
    ));
}

#[test]
fn a_token_of_any_replica_is_taken() {
    let (one, two) =
        (AccessSigner::generate("hub").unwrap(), AccessSigner::generate("hub").unwrap());
    let verifier = AccessVerifier::new("hub", [one.public(), two.public()]).unwrap();
    for signer in [&one, &two] {
        let (token, _) = issue(signer, Audience::Hub, 60);
        assert!(verifier.verify(&token, Audience::Hub, at(NOW)).is_ok());
    }
}
