//! Agents at the hub's port.

use std::sync::Arc;

use jiff::Timestamp;
use nullius_tls::{
    AcceptError, Accepted, HANDSHAKE_TIMEOUT, HubAcceptor, LiveCertificate, PeerRule, Protocol,
    agent_client_config, describe_failure, exporter, hub_client_config, peer, public_server_config,
};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::Instant,
};

use crate::world::{World, admission, control, dial_hub, dial_server, hub, proxy, text};

#[tokio::test]
async fn an_agent_is_known_by_its_certificate_and_both_ends_share_a_secret() {
    let world = World::new();
    let acceptor = world.acceptor();
    for (id, protocol) in [
        (proxy("dev"), Protocol::TunnelSmall),
        (proxy("dev"), Protocol::TunnelBulk),
        (control("dev"), Protocol::Control),
        (admission("dev"), Protocol::Admission),
    ] {
        let config = world.agent(&id, protocol);
        let (accepted, dialled) = dial_hub(&acceptor, config).await;
        let Ok(Accepted::Agent { stream, id: found, protocol: spoken, not_after }) = accepted
        else {
            panic!("{accepted:?}");
        };
        assert_eq!((found, spoken), (id, protocol));
        assert!(not_after > Timestamp::now());
        let dialled = dialled.unwrap();
        let (near, far) = (dialled.get_ref().1, stream.get_ref().1);
        assert_eq!(peer(near).unwrap().id, hub());
        assert_eq!(near.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = near.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(exporter(near).unwrap(), exporter(far).unwrap());
        assert_ne!(exporter(near).unwrap(), [0; 32]);
    }
}

#[tokio::test]
async fn each_connection_is_proven_anew_and_has_a_secret_of_its_own() {
    let world = World::new();
    let acceptor = world.acceptor();
    let config = world.agent(&proxy("dev"), Protocol::TunnelSmall);
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let (_, dialled) = dial_hub(&acceptor, Arc::clone(&config)).await;
        let dialled = dialled.unwrap();
        let connection = dialled.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        secrets.push(exporter(connection).unwrap());
    }
    secrets.sort_unstable();
    secrets.dedup();
    assert_eq!(secrets.len(), 3);
}

#[tokio::test]
async fn without_an_agents_certificate_of_this_root_nobody_gets_a_tunnel() {
    let world = World::new();
    let acceptor = world.acceptor();
    let stranger = World::new();
    let with = |certificate: Arc<LiveCertificate>| {
        agent_client_config(&world.roots, certificate, PeerRule::Hub, Protocol::TunnelSmall)
            .unwrap()
    };
    let mut anonymous = Arc::unwrap_or_clone(
        hub_client_config(&world.roots, nullius_tls::HttpVersions::Http2).unwrap(),
    );
    anonymous.alpn_protocols = vec![b"nullius-tunnel-small/1".to_vec()];
    for (who, config, why) in [
        ("nobody", Arc::new(anonymous), "peer sent no certificates"),
        ("another root", with(stranger.certify(&proxy("dev"))), "UnknownIssuer"),
        ("a hub", with(world.certify(&hub())), "may not connect here"),
        ("an ended agent", with(world.certify_expired(&proxy("dev"))), "expired"),
    ] {
        let (accepted, dialled) = dial_hub(&acceptor, config).await;
        let error = accepted.expect_err(who);
        let said = text(&error).to_lowercase();
        assert!(said.contains(&why.to_lowercase()), "{who}: {said}");
        assert!(dialled.is_err(), "{who}");
    }
}

#[tokio::test]
async fn an_unknown_protocol_of_ours_is_refused_and_never_falls_back() {
    let world = World::new();
    let acceptor = world.acceptor();
    for alpn in [
        vec![b"nullius-tunnel-small/2".to_vec()],
        vec![b"nullius-handover/1".to_vec()],
        vec![b"nullius-x".to_vec(), b"h2".to_vec()],
    ] {
        let mut config = Arc::unwrap_or_clone(world.agent(&proxy("dev"), Protocol::Control));
        config.alpn_protocols = alpn;
        let (accepted, dialled) = dial_hub(&acceptor, Arc::new(config)).await;
        assert!(matches!(accepted, Err(AcceptError::Handshake(_))), "{accepted:?}");
        assert!(dialled.is_err());
    }
}

#[tokio::test]
async fn an_agent_without_our_protocol_is_a_stranger() {
    let world = World::new();
    let acceptor = world.acceptor();
    let mut config = Arc::unwrap_or_clone(world.agent(&proxy("dev"), Protocol::Control));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (accepted, _) = dial_hub(&acceptor, Arc::new(config)).await;
    let Ok(Accepted::Public(stream)) = accepted else { panic!("{accepted:?}") };
    assert!(stream.get_ref().1.peer_certificates().is_none());
}

#[tokio::test]
async fn an_agent_talks_to_a_hub_of_its_root_and_to_nobody_else() {
    let world = World::new();
    let stranger = World::new();
    for (who, certificate, why) in [
        (
            "an agent",
            world.certify(&proxy("dev")),
            "agent/proxy/00000000000000000000000000000002` may not connect here",
        ),
        ("another agent", world.certify(&control("dev")), "may not connect here"),
        ("a hub of another root", stranger.certify(&hub()), "UnknownIssuer"),
    ] {
        let pretender = HubAcceptor::new(certificate, &world.roots).unwrap();
        let config = world.agent(&proxy("dev"), Protocol::TunnelSmall);
        let (_, dialled) = dial_hub(&pretender, config).await;
        let reason = describe_failure(&dialled.expect_err(who));
        assert!(reason.contains(why), "{who}: {reason}");
        let enrolling = hub_client_config(&world.roots, nullius_tls::HttpVersions::Http2).unwrap();
        let (_, dialled) = dial_hub(&pretender, enrolling).await;
        assert!(dialled.is_err(), "{who}");
    }
}

#[tokio::test]
async fn an_agent_does_not_go_back_to_tls_1_2() {
    let world = World::new();
    // A public listener that knows only TLS 1.2 stands for somebody who strips the better version.
    let old = public_server_config(world.certify(&hub())).unwrap();
    let provider = Arc::clone(old.crypto_provider());
    let mut old = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(world.certify(&hub()));
    old.alpn_protocols = vec![b"nullius-control/1".to_vec()];
    let (_, dialled) =
        dial_server(Arc::new(old), world.agent(&control("dev"), Protocol::Control)).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_now_on_and_drops_nobody() {
    let world = World::new();
    let certificate = world.certify(&hub());
    let acceptor = HubAcceptor::new(Arc::clone(&certificate), &world.roots).unwrap();
    let mine = world.certify(&proxy("dev"));
    let config =
        agent_client_config(&world.roots, Arc::clone(&mine), PeerRule::Hub, Protocol::TunnelSmall)
            .unwrap();
    let (before, near) = dial_hub(&acceptor, Arc::clone(&config)).await;
    let Ok(Accepted::Agent { mut stream, .. }) = before else { panic!("{before:?}") };
    let mut near = near.unwrap();

    let (renewed, key) = world.issue(&hub(), Timestamp::now());
    certificate.renew(&renewed, &key).unwrap();
    let (renewed_agent, key) = world.issue(&proxy("dev"), Timestamp::now());
    mine.renew(&renewed_agent, &key).unwrap();

    let (after, dialled) = dial_hub(&acceptor, config).await;
    let Ok(Accepted::Agent { stream: second, .. }) = after else { panic!("{after:?}") };
    let shown = |certificates: Option<&[rustls_pki_types::CertificateDer<'static>]>| {
        certificates.unwrap()[0].clone()
    };
    let dialled = dialled.unwrap();
    assert_eq!(shown(dialled.get_ref().1.peer_certificates()), renewed.chain[0]);
    assert_eq!(shown(second.get_ref().1.peer_certificates()), renewed_agent.chain[0]);

    stream.write_all(b"still here").await.unwrap();
    stream.flush().await.unwrap();
    let mut read = [0; 10];
    near.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let world = World::new();
    let (issued, _) = world.issue(&hub(), Timestamp::now());
    let (_, other) = world.issue(&hub(), Timestamp::now());
    assert!(LiveCertificate::of(&issued, &other).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go_after_ten_seconds() {
    let world = World::new();
    let acceptor = world.acceptor();
    let (mut near, far) = duplex(1024);
    let start = Instant::now();
    let accepted = acceptor.accept(far).await;
    assert!(matches!(accepted, Err(AcceptError::Timeout)), "{accepted:?}");
    assert_eq!(start.elapsed(), HANDSHAKE_TIMEOUT);

    let (mut slow, far) = duplex(1024);
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert!(matches!(acceptor.accept(far).await, Err(AcceptError::Timeout)));
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let world = World::new();
    let acceptor = world.acceptor();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"[..], &[0; 64], &[0xff; 2048]] {
        let (mut near, far) = duplex(4096);
        near.write_all(garbage).await.unwrap();
        let accepted = acceptor.accept(far).await;
        assert!(matches!(accepted, Err(AcceptError::Handshake(_))), "{accepted:?}");
    }
    let (near, far) = duplex(64);
    drop(near);
    assert!(matches!(acceptor.accept(far).await, Err(AcceptError::Handshake(_))));
}
