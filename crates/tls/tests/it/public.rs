//! People's tools at the hub's port, and clients of API servers.

use std::sync::Arc;

use nullius_tls::{
    Accepted, ClientIdentity, HttpVersions, HubAcceptor, HubConnector, InfraRoots, LiveCertificate,
    TlsError, UnverifiedPeer, WebRoots, hub_client_config, public_server_config, web_client_config,
};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, version::TLS12};

use tokio::io::duplex;

use crate::world::{World, dial_hub, dial_server, hub, proxy, text};

fn kubectl(world: &World, http: HttpVersions) -> Arc<ClientConfig> {
    web_client_config(&WebRoots::from(&world.roots), ClientIdentity::Anonymous, http).unwrap()
}

#[tokio::test]
async fn a_tool_that_pins_the_root_reaches_the_hub_by_name() {
    let world = World::new();
    let acceptor = world.acceptor();
    for (http, alpn) in [
        (HttpVersions::Either, &b"h2"[..]),
        (HttpVersions::Http2, b"h2"),
        (HttpVersions::Http1, b"http/1.1"),
    ] {
        let (accepted, dialled) = dial_hub(&acceptor, kubectl(&world, http)).await;
        assert!(matches!(accepted, Ok(Accepted::Public(_))), "{accepted:?}");
        assert_eq!(dialled.unwrap().get_ref().1.alpn_protocol(), Some(alpn));
    }
    let mut silent = Arc::unwrap_or_clone(kubectl(&world, HttpVersions::Http1));
    silent.alpn_protocols.clear();
    let (accepted, _) = dial_hub(&acceptor, Arc::new(silent)).await;
    assert!(matches!(accepted, Ok(Accepted::Public(_))), "a client without alpn: {accepted:?}");
}

#[tokio::test]
async fn an_older_tool_may_speak_tls_1_2() {
    let world = World::new();
    let modern = kubectl(&world, HttpVersions::Http1);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.root.certificate_der().clone()).unwrap();
    let old = ClientConfig::builder_with_provider(Arc::clone(modern.crypto_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (accepted, dialled) = dial_hub(&world.acceptor(), Arc::new(old)).await;
    assert!(matches!(accepted, Ok(Accepted::Public(_))), "{accepted:?}");
    let version = dialled.unwrap().get_ref().1.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn a_machine_that_signs_in_or_joins_needs_no_name() {
    let world = World::new();
    let config = hub_client_config(&world.roots, HttpVersions::Http2).unwrap();
    let (accepted, dialled) = dial_hub(&world.acceptor(), config).await;
    assert!(matches!(accepted, Ok(Accepted::Public(_))), "{accepted:?}");
    assert!(dialled.is_ok());
}

#[tokio::test]
async fn an_agents_certificate_does_not_fool_a_tool() {
    let world = World::new();
    let pretender = public_server_config(world.certify(&proxy("dev"))).unwrap();
    let (_, dialled) = dial_server(pretender, kubectl(&world, HttpVersions::Either)).await;
    let error = dialled.unwrap_err();
    assert!(text(&error).contains("certificate"), "{error}");
}

#[tokio::test]
async fn sessions_with_an_api_server_are_resumed() {
    let world = World::new();
    let server = public_server_config(world.certify(&hub())).unwrap();
    let client = kubectl(&world, HttpVersions::Http1);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (_, dialled) = dial_server(Arc::clone(&server), Arc::clone(&client)).await;
        kinds.push(dialled.unwrap().get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[tokio::test]
async fn a_hub_is_pinned_and_a_first_look_proves_nothing() {
    let (world, stranger) = (World::new(), World::new());
    let greet = async |acceptor: HubAcceptor, far| acceptor.accept(far).await;
    let pinned = HubConnector::new(&world.roots).unwrap();
    for (acceptor, expected) in [(world.acceptor(), true), (stranger.acceptor(), false)] {
        let (near, far) = duplex(64 * 1024);
        let (_, dialled) = tokio::join!(greet(acceptor.clone(), far), pinned.connect(near, "::1"));
        assert_eq!(dialled.is_ok(), expected);
        let (near, far) = duplex(64 * 1024);
        let look = UnverifiedPeer::connect(near, "hub.example.org");
        let (_, looked) = tokio::join!(greet(acceptor, far), look);
        assert!(looked.is_ok());
    }
}

#[test]
fn a_pinned_root_must_be_one() {
    let world = World::new();
    assert_eq!(world.roots.as_pem(), world.root.certificate_pem());
    let (leaf, key) = world.issue(&hub(), jiff::Timestamp::now());
    let refused = InfraRoots::from_pem(&leaf.to_pem());
    assert!(matches!(refused, Err(TlsError::Root { .. })), "{refused:?}");
    for bad in ["", "junk", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(InfraRoots::from_pem(bad), Err(TlsError::Pem(_))), "{bad}");
    }
    let two = format!("{}{}", world.root.certificate_pem(), World::new().root.certificate_pem());
    assert!(InfraRoots::from_pem(&two).is_ok(), "the old and the new root");
    let shown = format!("{:?}", LiveCertificate::of(&leaf, &key).unwrap());
    assert_eq!(shown, "LiveCertificate { .. }");
}
