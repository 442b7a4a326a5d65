//! A node and whoever issues its SVIDs: the server alone proves who it is.

use std::sync::Arc;

use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{
        ClusterAuthority, PreparedAuthority, SvidError, SvidRequest, TrustBundle, WorkloadRoot,
    },
};
use nullius_tls::{WorkloadConnector, WorkloadError, WorkloadTls};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const ISSUER: &str = "spiffe://shop.example.org/ns/nullius-system/sa/nullius-identity";

fn authority(root: &WorkloadRoot) -> ClusterAuthority {
    let (domain, now): (TrustDomain, _) = ("shop.example.org".parse().unwrap(), Timestamp::now());
    let prepared = PreparedAuthority::create(domain.clone()).unwrap();
    let life = Ttl::from_secs(86_400);
    let signed = root.certify(&prepared.request().unwrap(), &domain, life, now).unwrap();
    prepared.admit(signed, root.certificate_der(), now).unwrap()
}

fn bundle(authority: &ClusterAuthority) -> TrustBundle {
    let mut bundle = TrustBundle::new(authority.trust_domain().clone());
    bundle.add_x509(authority.anchor_der().clone()).unwrap();
    bundle
}

fn shown(authority: &ClusterAuthority, id: &str) -> WorkloadTls {
    let key = PrivateKey::generate().unwrap();
    let (id, csr) = (id.parse().unwrap(), key.request().unwrap());
    let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life: Ttl::from_secs(3_600) };
    let svid = authority.issue(&asked, Timestamp::now()).unwrap();
    WorkloadTls::new(svid.chain, key.to_der(), []).unwrap()
}

/// What a client gets that expects the issuer by this bundle, where `server` is.
async fn asked(
    server: &WorkloadTls,
    bundle: TrustBundle,
    protocols: [&[&[u8]]; 2],
) -> Result<(SpiffeId, Vec<u8>), WorkloadError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = server.open_acceptor(protocols[0]).unwrap();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(tcp).await?;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        Ok::<_, WorkloadError>(())
    });
    let expected: Arc<[SpiffeId]> = [ISSUER.parse().unwrap()].into();
    let connector = WorkloadConnector::without_svid([bundle], expected, protocols[1]).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let connected = connector.connect(tcp, address.ip()).await;
    let answer = match connected {
        Ok((mut stream, peer)) => {
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            Ok((peer.id, said))
        }
        Err(error) => Err(error),
    };
    let served = serving.await.unwrap();
    assert_eq!(served.is_ok(), answer.is_ok(), "both ends agree");
    answer
}

const H2: &[&[u8]] = &[b"h2"];

#[tokio::test]
async fn the_issuer_alone_proves_itself() {
    let authority = authority(&WorkloadRoot::create(Timestamp::now()).unwrap());
    let issuer = shown(&authority, ISSUER);
    let (id, said) = asked(&issuer, bundle(&authority), [H2, H2]).await.unwrap();
    assert_eq!((id.as_str(), said.as_slice()), (ISSUER, b"hello".as_slice()));
}

#[tokio::test]
async fn a_workload_of_the_trust_domain_is_not_the_issuer() {
    let authority = authority(&WorkloadRoot::create(Timestamp::now()).unwrap());
    let pod = "spiffe://shop.example.org/ns/shop/sa/front";
    let refused = asked(&shown(&authority, pod), bundle(&authority), [H2, H2]).await.unwrap_err();
    assert!(
        matches!(&refused, WorkloadError::Unexpected { found } if found.as_str() == pod),
        "{refused}"
    );
}

#[tokio::test]
async fn an_issuer_of_another_authority_is_refused() {
    let root = WorkloadRoot::create(Timestamp::now()).unwrap();
    let (one, other) = (authority(&root), authority(&root));
    let refused = asked(&shown(&other, ISSUER), bundle(&one), [H2, H2]).await.unwrap_err();
    let not_verified = matches!(&refused, WorkloadError::Svid(SvidError::NotVerified { .. }));
    assert!(not_verified, "{refused}");
}

#[tokio::test]
async fn without_a_protocol_nothing_is_said() {
    let authority = authority(&WorkloadRoot::create(Timestamp::now()).unwrap());
    let issuer = shown(&authority, ISSUER);
    for protocols in [[H2, &[b"http/1.1".as_slice()]], [&[b"http/1.1".as_slice()], H2]] {
        assert!(asked(&issuer, bundle(&authority), protocols).await.is_err());
    }
}
