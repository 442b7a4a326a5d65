//! API servers at the webhook's port, and who is none.

use nullius_model::Timestamp;
use nullius_pki::{ServingAuthority, ServingCertificate};
use nullius_tls::{
    ClientIdentity, HttpVersions, LiveCertificate, TlsError, WebConnector, WebRoots,
    WebhookAcceptor,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::world::{World, proxy};

const SERVICE: &str = "hook.system.svc";

struct Side {
    roots: WebRoots,
    certificate: std::sync::Arc<LiveCertificate>,
}

fn side(name: &str) -> Side {
    let now = Timestamp::now();
    let authority = ServingAuthority::create(name, now).unwrap();
    let ServingCertificate { chain, key, .. } = authority.issue(name, now).unwrap();
    Side {
        roots: WebRoots::from_pem(authority.certificate_pem().as_bytes()).unwrap(),
        certificate: LiveCertificate::new(chain, key.to_der()).unwrap(),
    }
}

/// Whether one byte comes through from a client that believes `roots` and calls `host`.
async fn reaches(
    acceptor: &WebhookAcceptor,
    roots: &WebRoots,
    host: &str,
    as_who: ClientIdentity,
) -> bool {
    let (near, far) = duplex(64 * 1024);
    let connector = WebConnector::new(roots, &as_who).unwrap();
    let served = async {
        let mut stream = acceptor.accept(far).await.ok()?;
        let byte = stream.read_u8().await.ok()?;
        stream.write_u8(byte).await.ok()?;
        stream.flush().await.ok()
    };
    let called = async {
        let (mut stream, _) = connector.connect(near, host, HttpVersions::Either).await.ok()?;
        stream.write_u8(7).await.ok()?;
        stream.flush().await.ok()?;
        stream.read_u8().await.ok()
    };
    let (_, called) = tokio::join!(served, called);
    called == Some(7)
}

#[tokio::test]
async fn an_api_server_recognises_the_service_by_its_authority_and_nobody_else()
-> Result<(), TlsError> {
    let (ours, other) = (side(SERVICE), side(SERVICE));
    let acceptor = WebhookAcceptor::new(ours.certificate.clone(), None)?;
    let anonymous = || ClientIdentity::Anonymous;
    assert!(reaches(&acceptor, &ours.roots, SERVICE, anonymous()).await);
    assert!(!reaches(&acceptor, &other.roots, SERVICE, anonymous()).await);
    assert!(!reaches(&acceptor, &ours.roots, "other.system.svc", anonymous()).await);
    Ok(())
}

#[tokio::test]
async fn an_authority_speaks_for_its_service_alone() {
    let now = Timestamp::now();
    let authority = ServingAuthority::create(SERVICE, now).unwrap();
    let ServingCertificate { chain, key, .. } =
        authority.issue("kubernetes.default.svc", now).unwrap();
    let roots = WebRoots::from_pem(authority.certificate_pem().as_bytes()).unwrap();
    let certificate = LiveCertificate::new(chain, key.to_der()).unwrap();
    let acceptor = WebhookAcceptor::new(certificate, None).unwrap();
    let anonymous = ClientIdentity::Anonymous;
    assert!(!reaches(&acceptor, &roots, "kubernetes.default.svc", anonymous).await);
}

#[tokio::test]
async fn where_clients_have_an_authority_nobody_gets_in_without_a_certificate_of_it() {
    let (clients, strangers) = (World::new(), World::new());
    let ours = side(SERVICE);
    let believed = WebRoots::from(&clients.roots);
    let acceptor = WebhookAcceptor::new(ours.certificate.clone(), Some(&believed)).unwrap();
    let with = |world: &World| ClientIdentity::Certificate(world.certify(&proxy("dev")));
    assert!(reaches(&acceptor, &ours.roots, SERVICE, with(&clients)).await);
    assert!(!reaches(&acceptor, &ours.roots, SERVICE, with(&strangers)).await);
    assert!(!reaches(&acceptor, &ours.roots, SERVICE, ClientIdentity::Anonymous).await);
}
