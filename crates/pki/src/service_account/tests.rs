#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Key {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl Key {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                let (n, e) = rsa_parts(der.as_ref());
                json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": b64(n), "e": b64(e)})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }
}

/// Modulus and exponent of an RSA SubjectPublicKeyInfo.
fn rsa_parts(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};
    let (_, info) = SubjectPublicKeyInfo::from_der(der).unwrap();
    let PublicKey::RSA(key) = info.parsed().unwrap() else { panic!("no RSA key") };
    let trim = |bytes: &[u8]| bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..].to_vec();
    (trim(key.modulus), trim(key.exponent))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["nullius-hub"],
        "sub": "system:serviceaccount:nullius:nullius-proxy",
        "exp": NOW + 600,
        "nbf": NOW,
        "iat": NOW,
        "jti": "abc",
        "kubernetes.io": {
            "namespace": "nullius",
            "node": {"name": "node-1", "uid": "n"},
            "pod": {"name": "proxy-1", "uid": "11111111-2222-3333-4444-555555555555"},
            "serviceaccount": {"name": "nullius-proxy", "uid": "sa-uid"},
        },
    })
}

fn keys(jwks: &[Value]) -> IssuerKeys {
    IssuerKeys::from_jwks(ISSUER, json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

fn header(alg: &str) -> Value {
    json!({"alg": alg, "kid": "k1"})
}

#[test]
fn a_token_of_a_pod_says_who_and_where() {
    for (key, alg) in [(Key::rsa(), "RS256"), (Key::p256(), "ES256")] {
        let token = key.sign(&header(alg), &claims());
        let identity = keys(&[key.jwk("k1")]).verify(&token, "nullius-hub", at(NOW)).unwrap();
        assert_eq!(identity.namespace.as_str(), "nullius");
        assert_eq!(identity.name.as_str(), "nullius-proxy");
        assert_eq!(identity.uid, "sa-uid");
        let pod = identity.pod.unwrap();
        assert_eq!(pod.name, "proxy-1");
        assert_eq!(pod.uid, "11111111-2222-3333-4444-555555555555");
        assert_eq!(identity.node.as_deref(), Some("node-1"));
        assert_eq!(identity.expires_at, at(NOW + 600));
    }
}

#[test]
fn each_claim_that_is_wrong_is_named() {
    let key = Key::p256();
    let keys = keys(&[key.jwk("k1")]);
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        let token = key.sign(&header("ES256"), &claims);
        keys.verify(&token, "nullius-hub", at(NOW)).unwrap_err()
    };
    let audience = ServiceAccountTokenError::Audience("nullius-hub".to_owned());
    assert_eq!(refuse(&|claims| claims["aud"] = json!([ISSUER])), audience);
    assert_eq!(refuse(&|claims| claims["aud"] = json!("nullius-hub-2")), audience);
    assert_eq!(refuse(&|claims| claims["aud"] = json!([])), audience);
    assert!(matches!(
        refuse(&|claims| claims["iss"] = json!("https://evil")),
        ServiceAccountTokenError::Issuer { .. }
    ));
    assert_eq!(
        refuse(&|claims| claims["exp"] = json!(NOW - 30)),
        ServiceAccountTokenError::Expired(30)
    );
    assert_eq!(refuse(&|claims| claims["nbf"] = json!(NOW + 31)), ServiceAccountTokenError::Early);
    for missing in ["exp", "iss", "aud", "sub", "kubernetes.io"] {
        let error = refuse(&|claims| {
            claims.as_object_mut().unwrap().remove(missing);
        });
        assert!(
            matches!(error, ServiceAccountTokenError::Token(VerifyError::Payload(_))),
            "{missing}: {error}"
        );
    }
    for sub in ["system:serviceaccount:nullius:other", "system:node:x", "ada", ""] {
        assert!(
            matches!(
                refuse(&|claims| claims["sub"] = json!(sub)),
                ServiceAccountTokenError::Subject(_)
            ),
            "{sub}"
        );
    }
    assert!(matches!(
        refuse(&|claims| claims["kubernetes.io"]["namespace"] = json!("kube-system")),
        ServiceAccountTokenError::Subject(_)
    ));
}

#[test]
fn a_token_without_a_pod_has_none() {
    let key = Key::p256();
    let mut claims = claims();
    claims["kubernetes.io"].as_object_mut().unwrap().remove("pod");
    let token = key.sign(&header("ES256"), &claims);
    let identity = keys(&[key.jwk("k1")]).verify(&token, "nullius-hub", at(NOW)).unwrap();
    assert_eq!(identity.pod, None);
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let (rsa, p256) = (Key::rsa(), Key::p256());
    let keys = keys(&[rsa.jwk("k1"), p256.jwk("k2")]);
    let verify = |token: &str| match keys.verify(token, "nullius-hub", at(NOW)) {
        Err(ServiceAccountTokenError::Token(error)) => error,
        other => panic!("{other:?}"),
    };
    for alg in ["none", "HS256", "RS512", "PS256", "EdDSA"] {
        let token = rsa.sign(&json!({"alg": alg, "kid": "k1"}), &claims());
        assert_eq!(verify(&token), VerifyError::Algorithm(alg.to_owned()));
    }
    let crossed = rsa.sign(&json!({"alg": "RS256", "kid": "k2"}), &claims());
    assert_eq!(verify(&crossed), VerifyError::UnknownKey("k2".to_owned()));
    let unknown = rsa.sign(&json!({"alg": "RS256", "kid": "k9"}), &claims());
    assert_eq!(verify(&unknown), VerifyError::UnknownKey("k9".to_owned()));
    let stranger = Key::rsa().sign(&header("RS256"), &claims());
    assert_eq!(verify(&stranger), VerifyError::Signature);
    let critical = rsa.sign(&json!({"alg": "RS256", "kid": "k1", "crit": ["b64"]}), &claims());
    assert_eq!(verify(&critical), VerifyError::Malformed);
    let good = rsa.sign(&json!({"alg": "RS256"}), &claims());
    assert!(keys.verify(&good, "nullius-hub", at(NOW)).is_ok(), "without a kid all keys are tried");
}

#[test]
fn keys_for_other_uses_are_passed_over() {
    let key = Key::p256();
    let mut encryption = key.jwk("k1");
    encryption["use"] = json!("enc");
    let mut other_algorithm = key.jwk("k1");
    other_algorithm["alg"] = json!("ES384");
    let symmetric = json!({"kty": "oct", "k": "AAAA", "kid": "k1"});
    let short = json!({"kty": "RSA", "kid": "k1", "n": b64([0xff; 128]), "e": b64([1, 0, 1])});
    for jwk in [encryption, other_algorithm, symmetric, short, json!({}), json!(1)] {
        let jwks = json!({ "keys": [jwk] }).to_string();
        let refused = IssuerKeys::from_jwks(ISSUER, jwks.as_bytes()).err();
        assert_eq!(refused, Some(JwksError::NoUsableKey), "{jwks}");
    }
    assert!(matches!(IssuerKeys::from_jwks(ISSUER, b"[]").err(), Some(JwksError::Malformed(_))));
    assert_eq!(IssuerKeys::from_jwks("", b"{}").err(), Some(JwksError::NoIssuer));
}
