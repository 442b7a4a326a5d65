#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use super::*;

#[test]
fn what_was_sealed_opens_under_its_name_alone() {
    let sealer = Sealer::from_key(&[1; 32]).unwrap();
    let sealed = sealer.seal("infra-root", b"secret").unwrap();
    assert_eq!(*sealer.open_sealed("infra-root", &sealed).unwrap(), b"secret");
    assert!(matches!(sealer.open_sealed("signer", &sealed), Err(SealError::Open(_))));
    let other = Sealer::from_key(&[2; 32]).unwrap();
    assert!(matches!(other.open_sealed("infra-root", &sealed), Err(SealError::Open(_))));
    assert_ne!(sealed, sealer.seal("infra-root", b"secret").unwrap(), "a nonce of its own");
    assert!(!sealed.windows(6).any(|window| window == b"secret"));
}

#[test]
fn a_changed_or_cut_blob_does_not_open() {
    let sealer = Sealer::from_key(&[1; 32]).unwrap();
    let sealed = sealer.seal("name", b"secret").unwrap();
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert!(sealer.open_sealed("name", &changed).is_err(), "byte {place}");
        assert!(sealer.open_sealed("name", &sealed[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn an_empty_secret_is_a_secret() {
    let sealer = Sealer::from_key(&[1; 32]).unwrap();
    let sealed = sealer.seal("name", b"").unwrap();
    assert_eq!(sealer.open_sealed("name", &sealed).unwrap().len(), 0);
}
