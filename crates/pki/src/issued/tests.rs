#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::*;

const ISSUER: &str = "https://login.example.org";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Json {
    json!({ "iss": ISSUER, "aud": "orders", "sub": "anna", "exp": NOW + 60, "iat": NOW })
}

fn joined(header: &Json, claims: &Json) -> String {
    format!("{}.{}", b64(header.to_string()), b64(claims.to_string()))
}

struct Signs(EcdsaKeyPair);

impl Signs {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Json {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..]) })
    }

    fn token(&self, header: &Json, claims: &Json) -> String {
        let signed = joined(header, claims);
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }
}

fn es256() -> Json {
    json!({ "alg": "ES256", "kid": "one", "typ": "JWT" })
}

fn issuer(keys: &[Json]) -> TokenIssuer {
    TokenIssuer::read(ISSUER, json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// How a token of the right key is refused.
fn refused(header: &Json, claims: &Json) -> &'static str {
    let key = Signs::new();
    issuer(&[key.jwk("one")]).verify(&key.token(header, claims)).unwrap_err().as_str()
}

#[test]
fn a_token_of_the_issuer_says_what_it_says() {
    let key = Signs::new();
    for header in [es256(), json!({ "alg": "ES256" }), json!({ "alg": "ES256", "typ": "at+JWT" })] {
        let token = issuer(&[key.jwk("one")]).verify(&key.token(&header, &claims())).unwrap();
        assert_eq!((&*token.issuer, &*token.audiences), (ISSUER, &["orders".to_owned()][..]));
        assert_eq!(token.claims["sub"], "anna");
        assert_eq!(token.times.holds(at(NOW)), Ok(()));
    }
}

#[test]
fn a_token_of_no_algorithm_proves_nothing() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{signature}", joined(&json!({ "alg": alg }), &claims()));
            let told = issuer(&[Signs::new().jwk("one")]).verify(&token).unwrap_err();
            assert_eq!(told.as_str(), "wrong-algorithm", "{alg}");
        }
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    let (_, info) = SubjectPublicKeyInfo::from_der(spki.as_ref()).unwrap();
    let PublicKey::RSA(public) = info.parsed().unwrap() else { panic!("no RSA key") };
    let trim = |bytes: &[u8]| b64(&bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..]);
    let jwk = json!({
        "kty": "RSA", "kid": "one", "n": trim(public.modulus), "e": trim(public.exponent),
    });
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(spki.as_ref())
    );
    let known = issuer(std::slice::from_ref(&jwk));
    let signed = joined(&json!({ "alg": "HS256", "kid": "one" }), &claims());
    for secret in [spki.as_ref(), pem.as_bytes(), public.modulus, jwk.to_string().as_bytes()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let told = known.verify(&format!("{signed}.{}", b64(tag))).unwrap_err();
        assert_eq!(told.as_str(), "wrong-algorithm");
    }
    // The same key as it should be used.
    let signed = joined(&json!({ "alg": "RS256", "kid": "one" }), &claims());
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    assert!(known.verify(&format!("{signed}.{}", b64(signature))).is_ok());
    // A symmetric key in the set is passed over, whoever put it there.
    let secret = json!({ "kty": "oct", "kid": "one", "k": b64("secret") });
    let alone = json!({ "keys": [secret] }).to_string();
    assert_eq!(TokenIssuer::read(ISSUER, alone.as_bytes()).unwrap_err(), JwksError::NoUsableKey);
}

#[test]
fn an_unknown_kid_is_told_as_such_and_proves_nothing() {
    let header = json!({ "alg": "ES256", "kid": "two" });
    assert_eq!(refused(&header, &claims()), "unknown-key");
    let (key, other) = (Signs::new(), Signs::new());
    let token = key.token(&es256(), &claims());
    let told = issuer(&[other.jwk("one")]).verify(&token).unwrap_err();
    assert_eq!(told.as_str(), "bad-signature", "another key of the same name");
    let both = issuer(&[other.jwk("one"), key.jwk("one")]);
    assert!(both.verify(&token).is_ok(), "two keys of one name are both asked");
}

#[test]
fn a_token_that_brings_its_key_is_refused() {
    let key = Signs::new();
    for (name, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("jwk", key.jwk("one")),
        ("x5u", json!("https://evil.example/chain")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = es256();
        header[name] = value;
        let token = key.token(&header, &claims());
        let told = issuer(&[key.jwk("one")]).verify(&token).unwrap_err();
        assert_eq!(told.as_str(), "own-key", "{name}");
    }
    for (name, value) in [("crit", json!(["exp"])), ("b64", json!(false))] {
        let mut header = es256();
        header[name] = value;
        assert_eq!(refused(&header, &claims()), "malformed", "{name}");
    }
    assert_eq!(refused(&json!({ "alg": "ES256", "typ": "dpop+jwt" }), &claims()), "malformed");
}

#[test]
fn a_token_without_an_end_or_with_an_odd_one_is_refused() {
    for end in [Json::Null, json!("2027-01-01"), json!(1e300), json!([NOW + 60])] {
        let mut claims = claims();
        claims["exp"] = end.clone();
        assert_eq!(refused(&es256(), &claims), "malformed", "{end}");
    }
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("exp");
    assert_eq!(refused(&es256(), &claims), "malformed");
}

#[test]
fn a_token_of_another_issuer_is_refused_whoever_signed_it() {
    let with = |issuer: Json| {
        let mut claims = claims();
        claims["iss"] = issuer;
        claims
    };
    for other in
        ["https://login.example.org/", "https://login.example", "HTTPS://LOGIN.EXAMPLE.ORG"]
    {
        assert_eq!(refused(&es256(), &with(json!(other))), "unknown-issuer", "{other}");
    }
    for odd in [Json::Null, json!([ISSUER]), json!({ "a": ISSUER })] {
        assert_eq!(refused(&es256(), &with(odd)), "malformed");
    }
}

#[test]
fn a_token_holds_from_its_beginning_to_its_end() {
    let key = Signs::new();
    let known = issuer(&[key.jwk("one")]);
    let mut claims = claims();
    claims["nbf"] = json!(NOW + 10);
    let token = known.verify(&key.token(&es256(), &claims)).unwrap();
    assert_eq!(token.times.holds(at(NOW - 21)), Err(IssuedTokenError::Early));
    for second in [NOW - 20, NOW, NOW + 89] {
        assert_eq!(token.times.holds(at(second)), Ok(()), "{second}");
    }
    assert_eq!(token.times.holds(at(NOW + 90)), Err(IssuedTokenError::Expired));
    assert_eq!(token.times.ends(), at(NOW + 90));
}

#[test]
fn what_is_no_token_is_refused_and_named_as_such() {
    let key = Signs::new();
    let known = issuer(&[key.jwk("one")]);
    let whole = key.token(&es256(), &claims());
    let encrypted = format!("{whole}.AAAA.AAAA");
    let long = format!("{whole}{}", "A".repeat(ISSUED_TOKEN_MAX));
    for text in ["", ".", "..", "a.b.c", "....", &whole[1..], &encrypted, &long] {
        assert_eq!(known.verify(text).unwrap_err().as_str(), "malformed", "{text:.20}");
    }
    for end in 0..whole.len() {
        assert!(known.verify(&whole[..end]).is_err(), "{end}");
    }
    assert_eq!(IssuedToken::claimed_issuer(&whole).unwrap(), ISSUER);
}

#[test]
fn a_key_set_is_bounded_and_holds_at_least_one_key_that_signs() {
    let key = Signs::new();
    let mut encrypts = key.jwk("one");
    encrypts["use"] = json!("enc");
    for keys in [json!([]), json!([encrypts]), json!(["x"]), json!([{ "kty": "EC" }])] {
        let text = json!({ "keys": keys }).to_string();
        let told = TokenIssuer::read(ISSUER, text.as_bytes()).unwrap_err();
        assert_eq!(told, JwksError::NoUsableKey);
    }
    let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(JWKS_MAX));
    for text in ["", "[]", "{}", "<html>", "{\"keys\":{}}", &long] {
        let told = TokenIssuer::read(ISSUER, text.as_bytes()).unwrap_err();
        assert!(matches!(told, JwksError::Malformed(_)), "{text:.20}: {told}");
    }
    assert_eq!(TokenIssuer::read("", b"{}").unwrap_err(), JwksError::NoIssuer);
}
