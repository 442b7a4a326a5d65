#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use super::*;

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn bytes<const N: usize>(hexadecimal: &str) -> [u8; N] {
    hex::decode(hexadecimal).unwrap().try_into().unwrap()
}

#[test]
fn the_vectors_of_rfc_8032_hold() {
    // Section 7.1, tests 1 and 2.
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ] {
        let key = SecretKey::from_seed(&bytes(seed)).unwrap();
        assert_eq!(key.public().0, bytes::<32>(public));
        let message = hex::decode(message).unwrap();
        assert_eq!(hex::encode(key.pair.sign(&message)), signature);
        let public = key.public().parse_key().unwrap();
        assert!(public.verify_sig(&message, &bytes::<64>(signature)).is_ok());
        assert!(public.verify_sig(b"other", &bytes::<64>(signature)).is_err());
    }
}

#[test]
fn the_vector_of_rfc_8037_holds() {
    // Appendix A.4.
    let key = SecretKey::from_seed(&bytes(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    ));
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let compact = Compact::split(token, 4096).unwrap();
    let (signed, signature) = compact.signed_parts().unwrap();
    let public = key.unwrap().public().parse_key().unwrap();
    assert!(public.verify_sig(signed.as_bytes(), &signature).is_ok());
    assert_eq!(
        compact.kid(TokenKind::Request),
        Err(VerifyError::Kind { found: String::new(), expected: "nullius-request+jwt" })
    );
}

#[test]
fn a_header_is_alg_kid_and_typ_and_nothing_else() {
    let kid = |header: &str| {
        let token = format!("{}.e30.AA", encode(header));
        Compact::split(&token, 4096).unwrap().kid(TokenKind::Request)
    };
    let typ = r#""typ":"nullius-request+jwt""#;
    assert_eq!(kid(&format!(r#"{{"alg":"EdDSA","kid":"k",{typ}}}"#)), Ok("k".to_owned()));
    for alg in ["none", "None", "HS256", "RS256", "ES256", "eddsa", ""] {
        let error = kid(&format!(r#"{{"alg":"{alg}","kid":"k",{typ}}}"#));
        assert_eq!(error, Err(VerifyError::Algorithm(alg.to_owned())));
    }
    for typ in ["nullius-command+jwt", "nullius-keyset+jwt", "nullius-access+jwt", "JWT"] {
        let error = kid(&format!(r#"{{"alg":"EdDSA","kid":"k","typ":"{typ}"}}"#)).unwrap_err();
        assert!(matches!(error, VerifyError::Kind { .. }), "{typ}");
    }
    for malformed in [
        format!(r#"{{"alg":"EdDSA",{typ}}}"#),
        format!(r#"{{"kid":"k",{typ}}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"k",{typ},"crit":["x"]}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"k",{typ},"jwk":{{}}}}"#),
        format!(r#"{{"alg":"EdDSA","alg":"EdDSA","kid":"k",{typ}}}"#),
        "[]".to_owned(),
        String::new(),
    ] {
        if malformed.is_empty() {
            continue;
        }
        assert_eq!(kid(&malformed), Err(VerifyError::Malformed), "{malformed}");
    }
}

#[test]
fn a_token_has_three_parts_and_a_bounded_length() {
    for bad in ["", ".", "..", "a.b", "a.b.c.d", ".b.c", "a..c"] {
        let split = Compact::split(bad, 4096).map(|_| ());
        assert_eq!(split, Err(VerifyError::Malformed), "{bad}");
    }
    let long = "a".repeat(5000);
    assert_eq!(Compact::split(&long, 4096).map(|_| ()), Err(VerifyError::Oversize { max: 4096 }));
}

#[test]
fn a_key_survives_its_stored_and_its_printed_form() {
    let key = SecretKey::generate().unwrap();
    let again = SecretKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(key.public().to_string().parse::<PublicKey>(), Ok(key.public()));
    assert_eq!(key.public().kid().len(), 16);
    for bad in ["", "AAAA", "!!!"] {
        assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Public));
    }
    assert!(SecretKey::from_pkcs8(b"no key").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[A-Za-z0-9_.-]{0,300}|.{0,100}") {
        if let Ok(token) = Compact::split(&text, 256) {
            let key = SecretKey::from_seed(&[1; 32]).unwrap().public().parse_key().unwrap();
            let _ = token.kid(TokenKind::Command);
            proptest::prop_assert!(token.open::<nullius_model::Command>(&key).is_err());
        }
    }

    #[test]
    fn no_changed_byte_of_a_token_is_accepted(place in 0_usize..1000, byte in b'!'..b'~') {
        let key = SecretKey::from_seed(&[1; 32]).unwrap();
        let keys = nullius_model::KeySet { revision: 1, keys: std::collections::BTreeMap::new() };
        let token = key.sign(&key.header(TokenKind::KeySet), &keys);
        let mut changed = token.clone().into_bytes();
        let place = place % changed.len();
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        let opened = Compact::split(&changed, 4096)
            .and_then(|token| token.open::<nullius_model::KeySet>(&key.public().parse_key().unwrap()));
        proptest::prop_assert_eq!(opened.is_ok(), changed == token);
    }
}
