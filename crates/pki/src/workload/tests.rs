#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::{fs, process::Command};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, DnsName, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    PrivateKey, RootError, VerifyError,
    certificate::certificate_pem,
    root::{date, serial},
};

const HOUR: Ttl = Ttl::from_secs(3_600);
const WEEK: Ttl = Ttl::from_secs(7 * 86_400);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(seconds: u32) -> Timestamp {
    Ttl::from_secs(seconds).after(now())
}

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// A cluster's authority under a root.
fn authority(root: &WorkloadRoot, name: &str) -> ClusterAuthority {
    let prepared = PreparedAuthority::create(domain(name)).unwrap();
    let signed = root.certify(&prepared.request().unwrap(), &domain(name), WEEK, now()).unwrap();
    prepared.admit(signed, root.certificate_der(), now()).unwrap()
}

fn issue(authority: &ClusterAuthority, who: &str) -> Result<X509Svid, RootError> {
    let csr = PrivateKey::generate().unwrap().request().unwrap();
    let asked = SvidRequest { id: &id(who), dns_names: &[], csr: &csr, life: HOUR };
    authority.issue(&asked, now())
}

fn bundle(authority: &ClusterAuthority) -> TrustBundle {
    let mut bundle = TrustBundle::new(authority.trust_domain().clone());
    bundle.add_x509(authority.anchor_der().clone()).unwrap();
    bundle
}

fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &[&TrustBundle],
    now: Timestamp,
) -> Result<SpiffeId, SvidError> {
    let of = |domain: &str| {
        bundles.iter().find(|bundle| bundle.trust_domain().as_str() == domain).copied()
    };
    verify_x509_svid(chain, of, now).map(|(id, _)| id)
}

/// What somebody with a cluster's own key signs, whatever our code would do.
fn signed_by(
    key: &PrivateKey,
    issuer: &CertificateDer<'_>,
    with: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.not_before = date(now().as_second() - 60).unwrap();
    params.not_after = date(later(3_600).as_second()).unwrap();
    params.serial_number = Some(serial());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    with(&mut params);
    let issuer = Issuer::from_ca_cert_der(issuer, key.pair()).unwrap();
    params.signed_by(PrivateKey::generate().unwrap().pair(), &issuer).unwrap().into()
}

/// An authority whose key is stolen: the key, and its anchor.
fn stolen(root: &WorkloadRoot, name: &str) -> (PrivateKey, ClusterAuthority) {
    let prepared = PreparedAuthority::create(domain(name)).unwrap();
    let key = PrivateKey::from_pkcs8(&prepared.key_pkcs8()).unwrap();
    let signed = root.certify(&prepared.request().unwrap(), &domain(name), WEEK, now()).unwrap();
    (key, prepared.admit(signed, root.certificate_der(), now()).unwrap())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn a_workload_is_proven_by_the_bundle_of_its_own_trust_domain() {
    let root = WorkloadRoot::create(now()).unwrap();
    let shop = authority(&root, "shop.example.org");
    let svid = issue(&shop, "spiffe://shop.example.org/ns/web/sa/page").unwrap();
    let own = bundle(&shop);
    let other = bundle(&authority(&root, "bank.example.org"));
    assert_eq!(verify(&svid.chain, &[&other, &own], now()).unwrap(), svid.id);
    assert_eq!(read_x509_svid(&svid.chain[0]).unwrap(), (svid.id.clone(), svid.not_after));
    assert_eq!(svid.not_after, later(3_600));
    let unknown = verify(&svid.chain, &[&other], now()).unwrap_err();
    assert_eq!(unknown, SvidError::UnknownDomain("shop.example.org".to_owned()));
    for never in [later(3_600), Timestamp::from_second(now().as_second() - 31).unwrap()] {
        let told = verify(&svid.chain, &[&own], never).unwrap_err();
        assert!(matches!(told, SvidError::NotValid { .. }), "{told}");
    }
    assert_eq!(verify(&[], &[&own], now()).unwrap_err(), SvidError::Chain(0));
}

#[test]
fn an_authority_issues_for_its_own_domain_and_within_its_life() {
    let root = WorkloadRoot::create(now()).unwrap();
    let shop = authority(&root, "shop.example.org");
    assert!(matches!(
        issue(&shop, "spiffe://bank.example.org/ns/a/sa/b"),
        Err(RootError::Issue(_))
    ));
    let csr = PrivateKey::generate().unwrap().request().unwrap();
    let name = id("spiffe://shop.example.org/ns/a/sa/b");
    let dns = [DnsName::try_from("b.a.svc").unwrap()];
    let asked = SvidRequest { id: &name, dns_names: &dns, csr: &csr, life: WEEK };
    assert_eq!(shop.issue(&asked, now()).unwrap().not_after, later(86_400), "a day at most");
    let end = shop.not_after();
    let near = Timestamp::from_second(end.as_second() - 60).unwrap();
    assert_eq!(shop.issue(&asked, near).unwrap().not_after, end, "not longer than its authority");
    assert!(matches!(shop.issue(&asked, end), Err(RootError::NotValid)));
    // It survives being kept.
    let prepared =
        PreparedAuthority::from_parts(domain("shop.example.org"), &shop.key_pkcs8()).unwrap();
    let (certificate, anchor) = shop.to_pem();
    let kept = ClusterAuthority::from_parts(
        prepared,
        &certificate,
        &anchor,
        root.certificate_der(),
        now(),
    );
    assert_eq!(kept.unwrap().anchor_der(), shop.anchor_der());
}

#[test]
fn the_key_of_one_cluster_proves_nobody_of_another() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (key, shop) = stolen(&root, "shop.example.org");
    let bank = authority(&root, "bank.example.org");
    let forged = signed_by(&key, shop.anchor_der(), |params| {
        params.subject_alt_names.push(uri("spiffe://bank.example.org/ns/vault/sa/clerk"));
    });
    let bundles = [&bundle(&shop), &bundle(&bank)];
    for chain in [vec![forged.clone()], vec![forged, shop.certificate_der().clone()]] {
        let told = verify(&chain, &bundles, now()).unwrap_err();
        assert!(matches!(told, SvidError::NotVerified { .. }), "{told}");
    }
}

#[test]
fn an_authority_that_has_ended_proves_nobody_whatever_its_key_signs() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (key, shop) = stolen(&root, "shop.example.org");
    let leaf = signed_by(&key, shop.anchor_der(), |params| {
        params.not_after = date(later(30 * 86_400).as_second()).unwrap();
        params.subject_alt_names = vec![uri("spiffe://shop.example.org/ns/web/sa/page")];
    });
    let chain = [leaf];
    verify(&chain, &[&bundle(&shop)], now()).unwrap();
    let refused = verify(&chain, &[&bundle(&shop)], later(7 * 86_400 + 1));
    assert!(matches!(refused, Err(SvidError::NotVerified { .. })), "{refused:?}");
    let early = Timestamp::from_second(shop.not_before().as_second() - 1).unwrap();
    assert!(verify(&chain, &[&bundle(&shop)], early).is_err());
}

#[test]
fn a_leaf_that_is_no_svid_is_refused_by_name() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (key, shop) = stolen(&root, "shop.example.org");
    let own = bundle(&shop);
    let good = "spiffe://shop.example.org/ns/web/sa/page";
    let told = |with: &dyn Fn(&mut CertificateParams)| {
        let leaf = signed_by(&key, shop.anchor_der(), |params| {
            params.subject_alt_names.push(uri(good));
            with(params);
        });
        verify(&[leaf], &[&own], now())
    };
    assert_eq!(told(&|_| ()).unwrap(), id(good), "the rest is in order");
    let two = told(&|params| params.subject_alt_names.push(uri("spiffe://shop.example.org/b")));
    assert_eq!(two.unwrap_err(), SvidError::UriNames(2));
    let none = told(&|params| params.subject_alt_names.clear());
    assert_eq!(none.unwrap_err(), SvidError::UriNames(0));
    let authority = told(&|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    assert_eq!(authority.unwrap_err(), SvidError::Authority("it is a CA"));
    let signs = told(&|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(signs.unwrap_err(), SvidError::Authority("its key usage has certificate sign"));
    let lists = told(&|params| params.key_usages.push(KeyUsagePurpose::CrlSign));
    assert_eq!(lists.unwrap_err(), SvidError::Authority("its key usage has CRL sign"));
    let cannot = told(&|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(cannot.unwrap_err(), SvidError::KeyUsage);
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    for usages in [vec![ServerAuth], vec![ClientAuth], vec![CodeSigning]] {
        let told = told(&|params| params.extended_key_usages.clone_from(&usages));
        assert!(matches!(told.unwrap_err(), SvidError::NotVerified { .. }), "{usages:?}");
    }
    told(&|params| params.extended_key_usages = vec![CodeSigning, ClientAuth, ServerAuth]).unwrap();
    for bad in [
        "spiffe://shop.example.org/ns/web/../sa/page",
        "spiffe://shop.example.org/ns/web\0/sa/page",
        "spiffe://Shop.example.org/ns/web/sa/page",
        "spiffe://shop.example.org",
        "https://shop.example.org/a",
    ] {
        let told = told(&|params| params.subject_alt_names = vec![uri(bad)]);
        assert!(matches!(told.unwrap_err(), SvidError::Id(_)), "{bad:?}");
    }
}

#[test]
fn an_anchor_is_admitted_only_beside_what_the_root_signed_for_that_domain_alone() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (key, shop) = stolen(&root, "shop.example.org");
    let name = domain("shop.example.org");
    let check = |anchor: &CertificateDer<'_>, certificate: &CertificateDer<'_>| {
        verify_authority(anchor, certificate, root.certificate_der(), &name, now())
    };
    check(shop.anchor_der(), shop.certificate_der()).unwrap();
    let ended = shop.not_after();
    let over = verify_authority(
        shop.anchor_der(),
        shop.certificate_der(),
        root.certificate_der(),
        &name,
        ended,
    );
    assert!(matches!(over, Err(NotAdmitted::NotValid)));

    let bank = authority(&root, "bank.example.org");
    let wrong_domain = verify_authority(
        bank.anchor_der(),
        bank.certificate_der(),
        root.certificate_der(),
        &name,
        now(),
    );
    assert!(matches!(wrong_domain, Err(NotAdmitted::Unbounded(_))), "{wrong_domain:?}");
    // An anchor of another key beside a good certificate, and the reverse.
    assert!(matches!(check(bank.anchor_der(), shop.certificate_der()), Err(NotAdmitted::Other)));
    let other_root = WorkloadRoot::create(now()).unwrap();
    let foreign = authority(&other_root, "shop.example.org");
    let not_ours = check(foreign.anchor_der(), foreign.certificate_der());
    assert!(matches!(not_ours, Err(NotAdmitted::NotSigned)), "{not_ours:?}");

    // What a root might sign by mistake: unbounded, bounded in a way that is not critical, or with authorities below it.
    let root_key = PrivateKey::from_pkcs8(&root.key_pkcs8()).unwrap();
    let issuer = Issuer::from_ca_cert_der(root.certificate_der(), root_key.pair()).unwrap();
    let spki = key.pair().subject_public_key_info();
    let by_root = |with: &dyn Fn(&mut CertificateParams)| -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = date(now().as_second() - 60).unwrap();
        params.not_after = date(later(86_400).as_second()).unwrap();
        params.distinguished_name = authority::authority_name(&name, &spki);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        with(&mut params);
        params.signed_by(key.pair(), &issuer).unwrap().into()
    };
    let bounds = |critical: bool, host: &str| {
        let mut bounds = CustomExtension::from_oid_content(&[2, 5, 29, 30], root::only(host));
        bounds.set_criticality(critical);
        bounds
    };
    let loose: [&dyn Fn(&mut CertificateParams); 4] = [
        &|_| (),
        &|params| params.custom_extensions.push(bounds(false, "shop.example.org")),
        &|params| params.custom_extensions.push(bounds(true, ".example.org")),
        &|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.custom_extensions.push(bounds(true, "shop.example.org"));
        },
    ];
    for with in loose {
        let certificate = by_root(with);
        let told = check(shop.anchor_der(), &certificate);
        assert!(matches!(told, Err(NotAdmitted::Unbounded(_))), "{told:?}");
    }
}

#[test]
fn openssl_lets_a_clusters_certificate_speak_for_its_own_domain_alone() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (key, shop) = stolen(&root, "shop.example.org");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, der: &CertificateDer<'static>| {
        let path = folder.path().join(name);
        fs::write(&path, certificate_pem(der)).unwrap();
        path
    };
    let (anchor, between) =
        (file("root", root.certificate_der()), file("ca", shop.certificate_der()));
    let judge = |name: &str, san: SanType| {
        let leaf =
            signed_by(&key, shop.certificate_der(), |params| params.subject_alt_names = vec![san]);
        let leaf = file(name, &leaf);
        let at = now().as_second().to_string();
        let output = Command::new("openssl")
            .args(["verify", "-attime", &at, "-CAfile"])
            .arg(&anchor)
            .arg("-untrusted")
            .args([&between, &leaf])
            .output()
            .unwrap_or_else(|error| panic!("install `openssl`: {error}"));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (own, told) = judge("own", uri("spiffe://shop.example.org/ns/web/sa/page"));
    assert!(own, "{told}");
    let others = [
        uri("spiffe://bank.example.org/ns/vault/sa/clerk"),
        uri("spiffe://deep.shop.example.org/a"),
        SanType::DnsName("shop.example.org".try_into().unwrap()),
        SanType::IpAddress([10, 0, 0, 1].into()),
        SanType::IpAddress([0u16; 8].into()),
        SanType::Rfc822Name("a@shop.example.org".try_into().unwrap()),
    ];
    for other in others {
        let shown = format!("{other:?}");
        let (taken, told) = judge("other", other);
        assert!(!taken && told.contains("subtree violation"), "{shown}: {told}");
    }
}

#[test]
fn a_token_proves_its_workload_to_its_audience_for_a_while() {
    let shop = domain("shop.example.org");
    let signer = JwtSigner::create(shop.clone()).unwrap();
    let mut bundle = TrustBundle::new(shop.clone());
    bundle.add_jwt(signer.authority());
    let page = id("spiffe://shop.example.org/ns/web/sa/page");
    let five_minutes = Ttl::from_secs(300);
    let token = signer.sign(&page, &["bank", "store"], five_minutes, now()).unwrap();
    let token = token.expose_secret();
    let verify = |audience: &str, at: Timestamp| {
        let of = |domain: &str| (domain == "shop.example.org").then_some(&bundle);
        TrustBundle::verify_jwt(token, audience, of, at)
    };
    let proven = verify("store", now()).unwrap();
    assert_eq!((&proven.id, proven.expires_at), (&page, later(300)));
    assert_eq!(verify("else", now()), Err(JwtError::Audience("else".to_owned())));
    assert_eq!(verify("bank", later(311)), Err(JwtError::Expired(11)));
    let early = Timestamp::from_second(now().as_second() - 11).unwrap();
    assert_eq!(verify("bank", early), Err(JwtError::Early));
    // Another trust domain's keys do not verify it, nor does another key of its own.
    let unknown = TrustBundle::verify_jwt(token, "bank", |_| None, now());
    assert_eq!(unknown, Err(JwtError::UnknownDomain("shop.example.org".to_owned())));
    let mut other = TrustBundle::new(shop.clone());
    other.add_jwt(JwtSigner::create(shop.clone()).unwrap().authority());
    let told = TrustBundle::verify_jwt(token, "bank", |_| Some(&other), now());
    assert_eq!(told, Err(JwtError::Token(VerifyError::UnknownKey(signer.authority().kid))));
    let bank = id("spiffe://bank.example.org/a");
    assert!(signer.sign(&bank, &["x"], five_minutes, now()).is_err());
    assert!(signer.sign(&page, &[], five_minutes, now()).is_err());
    let kept = JwtSigner::from_parts(shop, signer.key_pkcs8()).unwrap();
    assert_eq!(kept.authority(), signer.authority());
}

#[test]
fn a_token_that_brings_its_own_rules_proves_nobody() {
    let shop = domain("shop.example.org");
    let signer = JwtSigner::create(shop.clone()).unwrap();
    let mut bundle = TrustBundle::new(shop.clone());
    bundle.add_jwt(signer.authority());
    let page = id("spiffe://shop.example.org/ns/web/sa/page");
    let token = signer.sign(&page, &["bank"], Ttl::from_secs(300), now()).unwrap();
    let parts: Vec<&str> = token.expose_secret().split('.').collect();
    let text = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let verify = |token: &str| TrustBundle::verify_jwt(token, "bank", |_| Some(&bundle), now());
    let with_header = |header: Json| {
        let told = verify(&format!("{}.{}.{}", text(&header), parts[1], parts[2]));
        told.unwrap_err().to_string()
    };
    let kid = signer.authority().kid;
    assert!(with_header(json!({ "alg": "none" })).contains("`none`"));
    assert!(with_header(json!({ "alg": "HS256", "kid": kid })).contains("`HS256`"));
    let malformed = "not a compact jws";
    for more in ["jku", "jwk", "x5u", "x5c", "crit", "b64"] {
        assert!(with_header(json!({ "alg": "ES256", "kid": kid, more: "x" })).contains(malformed));
    }
    assert!(with_header(json!({ "alg": "ES256", "kid": "other" })).contains("`other`"));
    assert!(with_header(json!({ "alg": "RS256", "kid": kid })).contains("not trusted"));
    assert!(with_header(json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" })).contains("at+jwt"));
    assert!(
        with_header(json!({ "alg": "ES256", "kid": kid, "typ": "JOSE" })).contains("signature")
    );
    let unsigned = verify(&format!("{}.{}.", text(&json!({ "alg": "none" })), parts[1]));
    assert!(unsigned.is_err());

    let with_claims = |claims: &Json| {
        let signed = format!("{}.{}", parts[0], text(claims));
        let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            signer.key_pkcs8(),
        )
        .unwrap();
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = key.sign(&random, signed.as_bytes()).unwrap();
        verify(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    };
    let exp = later(60).as_second();
    let good = json!({ "sub": page.as_str(), "aud": "bank", "exp": exp });
    assert_eq!(with_claims(&good).unwrap().audience, ["bank"]);
    let wrong = [
        json!({ "sub": page.as_str(), "aud": "bank" }),
        json!({ "sub": page.as_str(), "exp": exp }),
        json!({ "aud": "bank", "exp": exp }),
        json!({ "sub": "page", "aud": "bank", "exp": exp }),
        json!({ "sub": page.as_str(), "aud": { "a": 1 }, "exp": exp }),
        json!({ "sub": page.as_str(), "aud": [], "exp": exp }),
        json!({ "sub": page.as_str(), "aud": "bank", "exp": "never" }),
        json!({ "sub": page.as_str(), "aud": "bank", "exp": exp, "nbf": exp }),
    ];
    for claims in wrong {
        assert!(with_claims(&claims).is_err(), "{claims}");
    }
}

#[test]
fn a_bundle_is_read_as_it_was_written_and_keeps_no_private_key() {
    let root = WorkloadRoot::create(now()).unwrap();
    let shop = authority(&root, "shop.example.org");
    let mut made = bundle(&shop);
    made.add_jwt(JwtSigner::create(shop.trust_domain().clone()).unwrap().authority());
    let made = made.at(7, 300);
    let text = made.to_json().to_string();
    let read = TrustBundle::read(shop.trust_domain().clone(), text.as_bytes()).unwrap();
    assert_eq!(read, made);
    assert_eq!((read.sequence(), read.refresh_hint_secs()), (Some(7), Some(300)));
    let keys = made.to_json()["keys"].clone();
    assert_eq!((&keys[0]["use"], &keys[0]["kty"]), (&json!("x509-svid"), &json!("EC")));

    let mut private = made.to_json();
    private["keys"][1]["d"] = json!("secret");
    let read = TrustBundle::read(shop.trust_domain().clone(), private.to_string().as_bytes());
    assert!(!read.unwrap().to_json().to_string().contains("secret"));
}

#[test]
fn a_bundle_that_breaks_the_rules_is_refused_with_the_place() {
    let root = WorkloadRoot::create(now()).unwrap();
    let shop = authority(&root, "shop.example.org");
    let mut good = bundle(&shop);
    good.add_jwt(JwtSigner::create(shop.trust_domain().clone()).unwrap().authority());
    let good = good.to_json();
    let leaf = issue(&shop, "spiffe://shop.example.org/a").unwrap();
    let told = |change: &dyn Fn(&mut Json)| {
        let mut document = good.clone();
        change(&mut document);
        let read = TrustBundle::read(shop.trust_domain().clone(), document.to_string().as_bytes());
        read.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(told(&|_| ()), Ok(()));
    let unknown_use = told(&|document| document["keys"][0]["use"] = json!("ssh-svid"));
    assert_eq!(unknown_use, Ok(()), "of a use that is not known nothing is taken");
    let first = |why: &str| Err(format!("`keys[0]` of the bundle is refused: {why}"));
    let second = |why: &str| Err(format!("`keys[1]` of the bundle is refused: {why}"));
    let one = "`x5c` must be a list of exactly one certificate";
    let doubled = |document: &mut Json| {
        let same = document["keys"][0]["x5c"][0].clone();
        document["keys"][0]["x5c"] = json!([same, same]);
    };
    assert_eq!(told(&doubled), first(one));
    assert_eq!(told(&|document| document["keys"][0]["x5c"] = Json::Null), first(one));
    let no_ca = |document: &mut Json| {
        document["keys"][0]["x5c"] = json!([STANDARD.encode(&leaf.chain[0])]);
    };
    assert_eq!(told(&no_ca), first("the certificate is no CA"));
    assert_eq!(
        told(&|document| document["keys"][0]["x5c"] = json!(["AAAA"])),
        first("the certificate is not X.509")
    );
    assert_eq!(
        told(&|document| document["keys"][1]["kid"] = Json::Null),
        second("`kid` is missing")
    );
    let again = |document: &mut Json| {
        let same = document["keys"][1].clone();
        document["keys"].as_array_mut().unwrap().push(same);
    };
    assert!(told(&again).unwrap_err().contains("`keys[2]`"));
    assert!(told(&|document| document["keys"][1]["x"] = json!("AA")).is_err());
    assert!(told(&|document| document["keys"] = json!({})).is_err());
    assert!(told(&|document| document["spiffe_sequence"] = json!(-1)).is_err());
    let long = vec![b' '; BUNDLE_MAX + 1];
    assert_eq!(TrustBundle::read(shop.trust_domain().clone(), &long), Err(BundleError::Oversize));
}

#[test]
fn what_the_workload_api_sends_is_taken_apart_again() {
    let root = WorkloadRoot::create(now()).unwrap();
    let (one, two) = (authority(&root, "a.example"), authority(&root, "b.example"));
    let mut der = one.anchor_der().to_vec();
    der.extend_from_slice(two.anchor_der());
    let both = [one.anchor_der().clone(), two.anchor_der().clone()];
    assert_eq!(split_certificates(&der).unwrap(), both);
    assert_eq!(split_certificates(&[]).unwrap(), Vec::new());
    assert!(split_certificates(&der[..der.len() - 1]).is_err());
    der.push(0x30);
    assert!(split_certificates(&der).is_err());
    assert!(split_certificates(&one.anchor_der().repeat(257)).is_err());
    assert_eq!(bundle(&one).to_pem(), one.to_pem().1);
}

#[test]
fn an_svid_is_for_one_key() {
    let root = WorkloadRoot::create(now()).unwrap();
    let authority = authority(&root, "a.example");
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let csr = key.request().unwrap();
    let asked =
        SvidRequest { id: &id("spiffe://a.example/x"), dns_names: &[], csr: &csr, life: HOUR };
    let svid = authority.issue(&asked, now()).unwrap();
    assert!(svid.is_for(&key) && !svid.is_for(&other));
    assert!(!X509Svid { chain: Vec::new(), ..svid }.is_for(&key));
    let pem = key.to_pem();
    let read = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.expose_secret().as_bytes());
    assert_eq!(read.unwrap().secret_pkcs8_der(), key.to_pkcs8().as_slice());
}

#[test]
fn keys_for_tokens_are_told_without_the_anchors() {
    let root = WorkloadRoot::create(now()).unwrap();
    let authority = authority(&root, "a.example");
    let signer = JwtSigner::create(domain("a.example")).unwrap();
    let mut bundle = bundle(&authority);
    bundle.add_jwt(signer.authority());
    let read = TrustBundle::read(domain("a.example"), bundle.jwt_json().to_string().as_bytes());
    let read = read.unwrap();
    assert_eq!(read.jwt_authorities(), bundle.jwt_authorities());
    assert!(read.x509_authorities().is_empty());
}
