#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use secrecy::ExposeSecret as _;
use serde_json::Value as Json;

use super::*;
use crate::certificate::pem;

const AUDIENCE: &str = "nullius-agent:prod";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name() -> ObjectName {
    "db-1".parse().unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with any header and claims, by the machine's key.
fn token(key: &MachineKey, header: &Json, claims: &Json) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", b64(signature))
}

fn header(key: &MachineKey) -> Json {
    json!({ "alg": "ES256", "typ": KIND, "kid": key.public_key().id() })
}

fn claims() -> Json {
    json!({ "iss": "db-1", "sub": "db-1", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 60 })
}

fn with(mut json: Json, name: &str, value: Json) -> Json {
    json[name] = value;
    json
}

fn judge(key: &MachinePublicKey, token: &str) -> Result<Timestamp, MachineTokenError> {
    MachineToken::read(token)?.verify_by_key(key, AUDIENCE, at(NOW))
}

#[test]
fn a_machine_proves_itself_by_its_key_for_minutes() {
    let key = MachineKey::create().unwrap();
    let kept = MachineKey::from_pkcs8(key.key_pkcs8()).unwrap();
    assert_eq!(kept.public_key(), key.public_key());
    let known = MachinePublicKey::from_text(&key.public_key().to_text()).unwrap();
    assert_eq!(MachinePublicKey::proven(&key.request().unwrap()).unwrap(), known);
    let signed = kept.sign(&name(), AUDIENCE, at(NOW)).unwrap();
    let text = signed.expose_secret();
    assert!(MachineToken::is_one(text));
    let read = MachineToken::read(text).unwrap();
    assert_eq!((read.machine(), read.has_certificates()), (&name(), false));
    assert_eq!(read.verify_by_key(&known, AUDIENCE, at(NOW)), Ok(at(NOW + 630)));
    assert!(read.verify_by_key(&known, AUDIENCE, at(NOW + 629)).is_ok());
    let late = read.verify_by_key(&known, AUDIENCE, at(NOW + 630));
    assert_eq!(late, Err(MachineTokenError::Expired(30)));
    assert_eq!(read.verify_by_key(&known, AUDIENCE, at(NOW - 31)), Err(MachineTokenError::Early));
    let other = MachineKey::create().unwrap().public_key();
    assert_eq!(judge(&other, text), Err(MachineTokenError::OtherKey));
    let elsewhere = read.verify_by_key(&known, "nullius-agent:test", at(NOW));
    assert!(matches!(elsewhere, Err(MachineTokenError::Audience(_))));
}

#[test]
fn no_token_chooses_how_it_is_checked() {
    let key = MachineKey::create().unwrap();
    let public = key.public_key();
    let refused =
        |header: Json, claims: Json| judge(&public, &token(&key, &header, &claims)).unwrap_err();
    assert!(judge(&public, &token(&key, &header(&key), &claims())).is_ok());
    for alg in ["none", "HS256", "RS256", "ES384", "es256", ""] {
        let error = refused(with(header(&key), "alg", json!(alg)), claims());
        assert_eq!(error, MachineTokenError::Algorithm(alg.to_owned()));
    }
    // Without a signature, and with the public key taken for a shared secret.
    let none = json!({ "alg": "none", "typ": KIND, "kid": public.id() });
    let unsigned = format!("{}.{}.", b64(none.to_string()), b64(claims().to_string()));
    assert!(judge(&public, &unsigned).is_err());
    let shared = hmac::Key::new(hmac::HMAC_SHA256, &public.0);
    let signed = format!("{}.{}", b64(header(&key).to_string()), b64(claims().to_string()));
    let mac = hmac::sign(&shared, signed.as_bytes());
    let forged = judge(&public, &format!("{signed}.{}", b64(mac)));
    assert_eq!(forged, Err(MachineTokenError::Token(VerifyError::Signature)));

    let malformed = MachineTokenError::Token(VerifyError::Malformed);
    for (field, value) in [
        ("jwk", json!({ "kty": "EC" })),
        ("jku", json!("https://evil.example")),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
    ] {
        assert_eq!(refused(with(header(&key), field, value), claims()), malformed, "{field}");
    }
    let kind = refused(with(header(&key), "typ", json!("JWT")), claims());
    assert!(matches!(kind, MachineTokenError::Token(VerifyError::Kind { .. })));
    let kid = "0".repeat(64);
    let other = refused(with(header(&key), "kid", json!(kid)), claims());
    assert_eq!(other, MachineTokenError::OtherKey);
    let both = refused(with(header(&key), "x5c", json!([])), claims());
    assert_eq!(both, MachineTokenError::NoProof);
    let neither = refused(json!({ "alg": "ES256", "typ": KIND }), claims());
    assert_eq!(neither, MachineTokenError::NoProof);
}

#[test]
fn what_a_token_says_is_said_once_and_within_bounds() {
    let key = MachineKey::create().unwrap();
    let public = key.public_key();
    let refused = |claims: Json| judge(&public, &token(&key, &header(&key), &claims)).unwrap_err();
    assert_eq!(refused(with(claims(), "sub", json!("db-2"))), MachineTokenError::Subject);
    let both = with(with(claims(), "sub", json!("Db 1")), "iss", json!("Db 1"));
    assert_eq!(refused(both), MachineTokenError::Subject);
    assert_eq!(refused(with(claims(), "exp", json!(NOW + 601))), MachineTokenError::Long);
    assert_eq!(refused(with(claims(), "exp", json!(i64::MAX))), MachineTokenError::Long);
    assert_eq!(refused(with(claims(), "iat", json!(NOW + 31))), MachineTokenError::Early);
    let over = with(with(claims(), "iat", json!(NOW - 100)), "exp", json!(NOW - 30));
    assert_eq!(refused(over), MachineTokenError::Expired(30));
    for (field, value) in [
        ("aud", json!([AUDIENCE])),
        ("exp", json!("soon")),
        ("exp", Json::Null),
        ("nbf", json!(NOW)),
    ] {
        let error = refused(with(claims(), field, value));
        assert!(matches!(error, MachineTokenError::Token(VerifyError::Payload(_))), "{field}");
    }
}

/// An authority, and certificates by it.
struct Ca {
    pair: KeyPair,
    params: CertificateParams,
    pem: String,
}

impl Ca {
    fn create(name: &str, days: i64) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 86_400).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + days * 86_400).unwrap();
        let pem = params.clone().self_signed(&pair).unwrap().pem();
        Self { pair, params, pem }
    }

    /// A key with a certificate of these names.
    fn leaf(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> MachineKey {
        let key = MachineKey::create().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 60).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 3_600).unwrap();
        change(&mut params);
        let pair = PrivateKey::from_pkcs8(key.key_pkcs8()).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.pair);
        let signed = params.signed_by(pair.pair(), &issuer).unwrap();
        let key_pem = pem("PRIVATE KEY", key.key_pkcs8());
        MachineKey::with_certificates(&key_pem, &signed.pem()).unwrap()
    }
}

fn prove(
    key: &MachineKey,
    authority: &MachineAuthority,
) -> Result<MachinePublicKey, MachineTokenError> {
    let token = key.sign(&name(), AUDIENCE, at(NOW)).unwrap();
    let read = MachineToken::read(token.expose_secret())?;
    assert!(read.has_certificates());
    let by_key = read.verify_by_key(&key.public_key(), AUDIENCE, at(NOW));
    assert_eq!(by_key, Err(MachineTokenError::OtherKey), "it names no key");
    Ok(read.verify_by_authority(authority, AUDIENCE, at(NOW))?.0)
}

#[test]
fn certificates_prove_the_name_that_is_asked_for_and_no_other() {
    let ca = Ca::create("machines", 30);
    let name = "db-1.machines.example";
    let authority = MachineAuthority::read(&ca.pem, name).unwrap();
    let good = ca.leaf(&["other.example", name], |_| {});
    assert_eq!(prove(&good, &authority), Ok(good.public_key()));
    let uri = MachineAuthority::read(&ca.pem, "spiffe://old.example/db-1").unwrap();
    let by_uri = ca.leaf(&[], |params| {
        let uri = "spiffe://old.example/db-1".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    });
    assert!(prove(&by_uri, &uri).is_ok());

    let refused = |key: &MachineKey, authority: &MachineAuthority| match prove(key, authority) {
        Err(MachineTokenError::Certificate(why)) => why,
        other => panic!("{other:?}"),
    };
    let asked = "it does not have the name that the Machine asks for";
    assert_eq!(refused(&ca.leaf(&["db-2.machines.example"], |_| {}), &authority), asked);
    // One certificate for all machines proves none of them.
    assert_eq!(refused(&ca.leaf(&["*.machines.example"], |_| {}), &authority), asked);
    assert_eq!(refused(&good, &MachineAuthority::read(&ca.pem, "db-1").unwrap()), asked);
    let other = Ca::create("machines", 30);
    refused(&other.leaf(&[name], |_| {}), &authority);
    let ended = Ca::create("machines", 0);
    let ended_ca = MachineAuthority::read(&ended.pem, name).unwrap();
    refused(&ended.leaf(&[name], |_| {}), &ended_ca);
    let times = |from: i64, until: i64| {
        move |params: &mut CertificateParams| {
            params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW + from).unwrap();
            params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + until).unwrap();
        }
    };
    refused(&ca.leaf(&[name], times(-100, -1)), &authority);
    refused(&ca.leaf(&[name], times(100, 200)), &authority);
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    refused(&ca.leaf(&[name], server), &authority);
    let signs = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    refused(&ca.leaf(&[name], signs), &authority);
    let usage = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    };
    assert_eq!(
        refused(&ca.leaf(&[name], usage), &authority),
        "its key usage lacks digital signature"
    );
}

#[test]
fn certificates_are_of_the_key_that_signs() {
    let ca = Ca::create("machines", 30);
    let authority = MachineAuthority::read(&ca.pem, "db-1").unwrap();
    let (good, thief) = (ca.leaf(&["db-1"], |_| {}), MachineKey::create().unwrap());
    // Certificates are no secret: whoever saw them has no key for them.
    let stolen = MachineKey { chain: good.chain.clone(), ..thief };
    let token = stolen.sign(&name(), AUDIENCE, at(NOW)).unwrap();
    let read = MachineToken::read(token.expose_secret()).unwrap();
    let proven = read.verify_by_authority(&authority, AUDIENCE, at(NOW));
    assert_eq!(proven.unwrap_err(), MachineTokenError::Token(VerifyError::Signature));
    let chain = good.chain.iter().map(crate::certificate_pem).collect::<String>();
    let key = pem("PRIVATE KEY", stolen.key_pkcs8());
    assert!(MachineKey::with_certificates(&key, &chain).is_err(), "it is of another key");
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(MachineKey::with_certificates(&p384.serialize_pem(), &chain).is_err());
    assert!(MachineAuthority::read(&chain, "db-1").is_err(), "a leaf is no authority");
    assert!(MachineAuthority::read("", "db-1").is_err());
}

#[test]
fn only_p256_keys_are_read() {
    let key = MachineKey::create().unwrap().public_key();
    assert_eq!(MachinePublicKey::from_der(&key.0), Some(key.clone()));
    let mut off_the_curve = key.0;
    off_the_curve[90] ^= 1;
    assert_eq!(MachinePublicKey::from_der(&off_the_curve), None);
    let mut other_kind = key.0;
    other_kind[22] ^= 1;
    assert_eq!(MachinePublicKey::from_der(&other_kind), None);
    assert_eq!(MachinePublicKey::from_der(&key.0[..90]), None);
    assert_eq!(MachinePublicKey::from_text("?"), None);
}
