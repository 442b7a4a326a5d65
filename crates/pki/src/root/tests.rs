#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use nullius_model::InstanceId;
use rcgen::KeyPair;
use x509_parser::prelude::GeneralName;

use super::*;
use crate::{check_root, identity_of};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn hub() -> InfraId {
    InfraId::Hub { instance: InstanceId::from_bits(1) }
}

fn proxy() -> InfraId {
    InfraId::AgentProxy { cluster: "dev".parse().unwrap(), instance: InstanceId::from_bits(2) }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            GeneralName::DNSName(dns) => format!("dns:{dns}"),
            GeneralName::IPAddress(ip) => format!("ip:{ip:?}"),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_root_survives_being_stored() {
    let root = InfraRoot::create(now()).unwrap();
    assert!(root.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(check_root(root.certificate_der()).is_ok());
    let again = InfraRoot::from_parts(root.certificate_pem(), &root.key_pkcs8()).unwrap();
    assert_eq!(again.certificate_der(), root.certificate_der());
    let other = InfraRoot::create(now()).unwrap();
    let mixed = InfraRoot::from_parts(root.certificate_pem(), &other.key_pkcs8());
    assert!(matches!(mixed, Err(RootError::KeyMismatch)));
    let years = root.not_after().duration_since(now()).as_hours() / (24 * 365);
    assert_eq!(years, 10);
}

#[test]
fn an_agents_certificate_names_it_by_uri_alone_for_an_hour() {
    let root = InfraRoot::create(now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let issued =
        root.issue_agent(&key.request().unwrap(), &proxy(), AGENT_CERTIFICATE_TTL, now()).unwrap();
    assert_eq!(names(&issued.chain[0]), [proxy().to_string()]);
    let identity = identity_of(&issued.chain[0]).unwrap();
    assert_eq!(identity.id, proxy());
    assert_eq!(identity.not_after.as_second(), now().as_second() + 3_600);
    let again = IssuedCertificate::from_pem(&issued.to_pem()).unwrap();
    assert_eq!((again.id, again.not_after), (issued.id, issued.not_after));

    let (_, parsed) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let (_, ca) = X509Certificate::from_der(root.certificate_der()).unwrap();
    assert!(parsed.verify_signature(Some(ca.public_key())).is_ok());
}

#[test]
fn a_hubs_certificate_has_its_addresses_too() {
    let root = InfraRoot::create(now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let addresses =
        ["hub.example.org", "127.0.0.1", "::1"].map(|name| ServerName::try_from(name).unwrap());
    let issued = root
        .issue_hub(&key.request().unwrap(), &hub(), &addresses, HUB_CERTIFICATE_TTL, now())
        .unwrap();
    let names = names(&issued.chain[0]);
    assert_eq!(names[..2], [hub().to_string(), "dns:hub.example.org".to_owned()]);
    assert_eq!(names.len(), 4);
}

#[test]
fn nobody_gets_a_certificate_of_the_other_kind_or_for_longer() {
    let root = InfraRoot::create(now()).unwrap();
    let csr = PrivateKey::generate().unwrap().request().unwrap();
    let year = Ttl::from_secs(365 * 86_400);
    assert!(matches!(root.issue_agent(&csr, &hub(), year, now()), Err(RootError::WrongRole(_))));
    assert!(matches!(
        root.issue_hub(&csr, &proxy(), &[], year, now()),
        Err(RootError::WrongRole(_))
    ));
    let issued = root.issue_agent(&csr, &proxy(), year, now()).unwrap();
    assert_eq!(issued.not_after.as_second(), now().as_second() + 86_400);
    let ended = root.not_after();
    assert!(matches!(root.issue_agent(&csr, &proxy(), year, ended), Err(RootError::NotValid)));
}

#[test]
fn names_and_rights_that_a_request_asks_for_are_ignored() {
    let root = InfraRoot::create(now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::URI(ia5("spiffe://infra.nullius/hub/00000000000000000000000000000001").unwrap()),
        SanType::DnsName(ia5("hub.example.org").unwrap()),
    ];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let csr = Csr::from_der(params.serialize_request(key.pair()).unwrap().der().to_vec());
    let issued = root.issue_agent(&csr, &proxy(), AGENT_CERTIFICATE_TTL, now()).unwrap();
    assert_eq!(names(&issued.chain[0]), [proxy().to_string()]);
    let (_, parsed) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(parsed.subject().to_string(), "CN=nullius agent proxy");
}

#[test]
fn a_request_must_prove_its_key() {
    let root = InfraRoot::create(now()).unwrap();
    let refuse =
        |csr: &Csr| root.issue_agent(csr, &proxy(), AGENT_CERTIFICATE_TTL, now()).unwrap_err();
    let mine = PrivateKey::generate().unwrap().request().unwrap();
    let mut forged = mine.as_der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let error = refuse(&Csr::from_der(forged));
    assert!(matches!(error, RootError::Certificate(CertificateError::NoPossession)), "{error}");

    let mut trailing = mine.as_der().to_vec();
    trailing.push(0);
    for bad in [trailing, Vec::new(), b"junk".to_vec(), vec![0x30; 9000]] {
        let error = refuse(&Csr::from_der(bad));
        assert!(
            matches!(error, RootError::Certificate(CertificateError::Unreadable { .. })),
            "{error}"
        );
    }

    let weak = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = CertificateParams::default().serialize_request(&weak).unwrap();
    let error = refuse(&Csr::from_der(csr.der().to_vec()));
    assert!(matches!(error, RootError::Certificate(CertificateError::KeyKind)), "{error}");
}

#[test]
fn a_certificate_with_no_or_two_identities_names_nobody() {
    let root = InfraRoot::create(now()).unwrap();
    let none = identity_of(root.certificate_der());
    assert!(matches!(none, Err(CertificateError::UriNames(0))));
    let mut params = CertificateParams::default();
    for id in [hub(), proxy()] {
        params.subject_alt_names.push(SanType::URI(ia5(&id.to_string()).unwrap()));
    }
    let two = params.self_signed(PrivateKey::generate().unwrap().pair()).unwrap();
    assert!(matches!(identity_of(two.der()), Err(CertificateError::UriNames(2))));
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::URI(ia5("spiffe://dev.example/ns/a/sa/b").unwrap()));
    let foreign = params.self_signed(PrivateKey::generate().unwrap().pair()).unwrap();
    assert!(matches!(identity_of(foreign.der()), Err(CertificateError::Identity(_))));
    assert!(check_root(foreign.der()).is_err(), "no CA");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        place in 0_usize..1000,
        flip in 1_u8..,
    ) {
        let _ = identity_of(&bytes);
        let _ = check_root(&bytes);
        proptest::prop_assert!(Csr::from_der(bytes).proven_key().is_err());

        let mut changed = PrivateKey::generate().unwrap().request().unwrap().as_der().to_vec();
        let place = place % changed.len();
        changed[place] ^= flip;
        let _ = identity_of(&changed);
        let _ = Csr::from_der(changed).proven_key();
    }
}
