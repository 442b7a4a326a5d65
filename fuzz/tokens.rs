//! Where tokens of strangers and machines, and key sets of issuers are read: what the fuzz target and the tests of `nullius-pki` call. None may panic, and
//! nothing is verified but what the issuer signed.

use nullius_model::Timestamp;
use nullius_pki::{
    ISSUED_TOKEN_MAX, IssuedToken, JWKS_MAX, MACHINE_TOKEN_MAX, MachinePublicKey, MachineToken,
    TokenIssuer,
};

const ISSUER: &str = "https://login.example";
const KEYS: &str = include_str!("corpus/issued_token/keys");
/// A token of these keys; its signature stands for no other bytes.
const TOKEN: &str = include_str!("corpus/issued_token/signed");

/// A token, and keys: each read for itself, and the token by keys that are not its own.
pub(super) fn issued_token(bytes: &[u8]) {
    if let Ok(issuer) = TokenIssuer::read(ISSUER, bytes) {
        assert!(bytes.len() <= JWKS_MAX);
        assert_eq!(issuer.issuer(), ISSUER);
        let _ = issuer.verify(TOKEN);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let claimed = IssuedToken::claimed_issuer(text);
    let Ok(issuer) = TokenIssuer::read(ISSUER, KEYS.as_bytes()) else {
        panic!("keys of the corpus")
    };
    match issuer.verify(text) {
        Ok(token) => {
            assert!(text.len() <= ISSUED_TOKEN_MAX);
            assert_eq!((token.issuer.as_str(), claimed.as_deref()), (ISSUER, Ok(ISSUER)));
            let signed = |text: &str| text.rsplit_once('.').map(|(signed, _)| signed.to_owned());
            assert_eq!(signed(text), signed(TOKEN), "nobody signed it");
        }
        Err(error) => assert!(!error.as_str().is_empty()),
    }
}

/// A key's public half, and a token by it: what the corpus begins with.
const MACHINE_KEY: &str = include_str!("corpus/machine_token/key");
const MACHINE_TOKEN: &str = include_str!("corpus/machine_token/signed");
const MACHINE_AUDIENCE: &str = "nullius-agent:prod";

/// A token of a machine, by a key that is not its own.
pub(super) fn machine_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(key) = MachinePublicKey::from_text(MACHINE_KEY.trim()) else {
        panic!("the key of the corpus")
    };
    let Ok(now) = Timestamp::from_second(1_800_000_000) else { panic!("a time") };
    let Ok(token) = MachineToken::read(text) else { return };
    assert!(MachineToken::is_one(text) && text.len() <= MACHINE_TOKEN_MAX);
    if token.verify_by_key(&key, MACHINE_AUDIENCE, now).is_ok() {
        let signed = |text: &str| text.trim().rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert_eq!(signed(text), signed(MACHINE_TOKEN), "nobody signed it");
        assert_eq!(token.machine().as_str(), "db-1");
    }
}
