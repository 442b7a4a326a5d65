#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::time::Duration;

use hyper_util::rt::TokioIo;
use nullius_model::{Ceiling, LockSpec, LockTarget, Object, ObjectMeta, Timestamp};
use nullius_pki::{
    IssuedCertificate, PrivateKey,
    workload::{NotAdmitted, PreparedAuthority, verify_authority},
};
use nullius_proto::agent_v1::{
    AgentRole, AgentShape as Shape, EnrolRequest, JoinRequest,
    workload_root_client::WorkloadRootClient,
};
use nullius_store::Precondition;
use nullius_tls::{InfraRoots, LiveCertificate, PartConnector, PeerRule, Protocol};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, transport::Endpoint};

use super::*;
use crate::clusters::tests::lab::{Issuer, Lab};

const CONTROL: &str = "nullius-system/nullius-provisioner";
const IDENTITY: &str = "nullius-system/nullius-identity";
pub(super) const DOMAIN: &str = "dev.nullius.internal";

/// A cluster that has joined.
pub(super) struct Joined {
    pub(super) lab: Lab,
    issuer: Issuer,
}

impl Joined {
    pub(super) async fn start() -> Self {
        let lab = Lab::start().await;
        let issuer = Issuer::new();
        let request = JoinRequest {
            version: VERSION,
            cluster: lab.cluster.to_string(),
            token: lab.token_for_manifest().await,
            issuer: issuer.name(),
            jwks: issuer.jwks(),
            shape: Shape::InCluster.into(),
            service_account_token: issuer.token(CONTROL, Some("control-0")),
        };
        lab.hub.join_cluster(&lab.cluster, &request, None).await.unwrap();
        Self { lab, issuer }
    }

    /// What connects with a new certificate of an agent.
    async fn connector(&self, role: AgentRole, account: &str) -> PartConnector {
        let key = PrivateKey::generate().unwrap();
        let request = EnrolRequest {
            version: VERSION,
            cluster: self.lab.cluster.to_string(),
            role: role.into(),
            instance: format!("{:032x}", nullius_pki::random_bits()),
            service_account_token: self.issuer.token(account, Some("pod-0")),
            certificate_request: key.request().unwrap().to_pem(),
        };
        let hub = &self.lab.hub;
        let answer = hub.enrol_agent(&self.lab.cluster, &request, None).await.unwrap();
        let issued = IssuedCertificate::from_pem(&answer.certificate).unwrap();
        let certificate = LiveCertificate::of(&issued, &key).unwrap();
        let roots = InfraRoots::from_pem(hub.keys().root().certificate_pem()).unwrap();
        PartConnector::new(&roots, certificate, PeerRule::Hub, Protocol::Identity).unwrap()
    }

    /// A client with the certificate of an agent.
    async fn client(
        &self,
        role: AgentRole,
        account: &str,
    ) -> Result<WorkloadRootClient<tonic::transport::Channel>, tonic::transport::Error> {
        let connector = self.connector(role, account).await;
        let address = self.lab.listening;
        let dial = tower::service_fn(move |_: hyper::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                let stream = connector.connect(tcp, "127.0.0.1").await?.stream;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://nullius");
        Ok(WorkloadRootClient::new(endpoint.connect_with_connector(dial).await?))
    }

    pub(super) async fn identity(&self) -> WorkloadRootClient<tonic::transport::Channel> {
        self.client(AgentRole::Identity, IDENTITY).await.unwrap()
    }

    async fn events(&self) -> Vec<nullius_model::AuditEvent> {
        self.events_of(AuditKind::Certify).await
    }

    pub(super) async fn events_of(&self, kind: AuditKind) -> Vec<nullius_model::AuditEvent> {
        let kind = Some(kind);
        let filter = nullius_audit::Filter { kind, ..Default::default() };
        let mut reader = self.lab.hub.store().read().await.unwrap();
        let page = reader.audit().list(&filter, None).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.event().unwrap()).collect()
    }
}

pub(super) fn asked(prepared: &PreparedAuthority, domain: &str) -> CertifyRequest {
    CertifyRequest {
        version: VERSION,
        trust_domain: domain.to_owned(),
        certificate_request: prepared.request().unwrap().as_der().to_vec(),
    }
}

pub(super) fn prepared() -> PreparedAuthority {
    PreparedAuthority::create(DOMAIN.parse().unwrap()).unwrap()
}

#[tokio::test]
async fn an_authority_is_certified_for_its_cluster_and_the_audit_knows_of_it() {
    let cluster = Joined::start().await;
    let mut client = cluster.identity().await;
    let prepared = prepared();
    let answer = client.certify(asked(&prepared, DOMAIN)).await.unwrap().into_inner();
    let (certificate, root) =
        (CertificateDer::from(answer.certificate), CertificateDer::from(answer.root));
    let now = Timestamp::now();
    let authority = prepared.admit(certificate.clone(), &root, now).unwrap();
    let week = AUTHORITY_LIFE.after(cluster.lab.hub.now());
    assert_eq!(authority.not_after().as_second(), week.as_second());
    // It speaks for nobody else.
    let other = "prod.nullius.internal".parse().unwrap();
    let refused = verify_authority(authority.anchor_der(), &certificate, &root, &other, now);
    assert!(matches!(refused, Err(NotAdmitted::Unbounded(_))));

    let facts = Signed::read(&certificate).unwrap();
    let [event] = &cluster.events().await[..] else { panic!("one event") };
    assert_eq!(event.outcome, AuditOutcome::Done);
    let told = ["serial", "key-sha256", "until", "trust-domain"].map(|name| &*event.facts[name]);
    assert_eq!(told, [&facts.serial, &facts.key_digest, &facts.not_after.to_string(), DOMAIN]);
}

#[tokio::test]
async fn an_authority_lives_as_long_as_its_cluster_says() {
    let cluster = Joined::start().await;
    let hub = &cluster.lab.hub;
    let mut tx = hub.store().begin().await.unwrap();
    let name = cluster.lab.cluster.as_str();
    let AnyObject::Cluster(mut object) = tx.objects().get(Kind::Cluster, name).await.unwrap()
    else {
        panic!("a cluster")
    };
    let month: nullius_model::Ttl = "30d".parse().unwrap();
    object.spec.authority_life = Some(month);
    tx.objects().update(&AnyObject::Cluster(object)).await.unwrap();
    tx.commit().await.unwrap();
    hub.reload().await.unwrap();
    let before = hub.now();
    let answer = cluster.identity().await.certify(asked(&prepared(), DOMAIN)).await.unwrap();
    let certificate = CertificateDer::from(answer.into_inner().certificate);
    let until = Signed::read(&certificate).unwrap().not_after.as_second();
    let wanted = month.after(before).as_second()..=month.after(hub.now()).as_second();
    assert!(wanted.contains(&until), "{until}, {wanted:?}");
}

#[tokio::test]
async fn another_trust_domain_a_wrong_request_and_a_locked_cluster_are_refused() {
    let cluster = Joined::start().await;
    let mut client = cluster.identity().await;
    let refused = |answer: Result<Response<CertifyResponse>, Status>| {
        let status = answer.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, told) = refused(client.certify(asked(&prepared(), "prod.example")).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(told.contains(DOMAIN) && told.contains("--identity"), "{told}");
    let mut forged = asked(&prepared(), DOMAIN);
    forged.certificate_request.pop();
    assert_eq!(refused(client.certify(forged).await).0, Code::InvalidArgument);
    let older = CertifyRequest { version: 0, ..asked(&prepared(), DOMAIN) };
    assert_eq!(refused(client.certify(older).await).0, Code::FailedPrecondition);

    let hub = &cluster.lab.hub;
    let target = LockTarget::Cluster(cluster.lab.cluster.clone());
    let lock = Object {
        metadata: ObjectMeta::named("stop".parse().unwrap()),
        spec: LockSpec { target, message: Some("it is lost".to_owned()), expires: None },
        status: None,
    };
    let mut tx = hub.store().begin().await.unwrap();
    tx.objects().create(&AnyObject::Lock(lock), hub.now()).await.unwrap();
    tx.commit().await.unwrap();
    hub.reload().await.unwrap();
    let (code, told) = refused(client.certify(asked(&prepared(), DOMAIN)).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(told.contains("it is lost"), "{told}");
    let events = cluster.events().await;
    assert_eq!(events.len(), 3, "the hub writes down what it refuses");
    assert!(events.iter().all(|event| event.outcome == AuditOutcome::Denied));
}

#[tokio::test]
async fn no_other_agent_has_an_authority_certified() {
    let cluster = Joined::start().await;
    for (role, account) in [
        (AgentRole::Control, CONTROL),
        (AgentRole::Proxy, "nullius-system/nullius-agent-proxy"),
        (AgentRole::Admission, "nullius-system/nullius-admission"),
    ] {
        // The hub closes the connection, sooner or later than the first call.
        let Ok(mut client) = cluster.client(role, account).await else { continue };
        assert!(client.certify(asked(&prepared(), DOMAIN)).await.is_err(), "{role:?}");
    }
    assert!(cluster.events().await.is_empty());
}

#[tokio::test]
async fn a_stolen_agent_does_not_stock_up_on_authorities() {
    let cluster = Joined::start().await;
    for _ in 0..PER_HOUR {
        // Each time another instance: it is the cluster that is counted.
        let mut client = cluster.identity().await;
        client.certify(asked(&prepared(), DOMAIN)).await.unwrap();
    }
    let refused = cluster.identity().await.certify(asked(&prepared(), DOMAIN)).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(cluster.events().await.len(), PER_HOUR + 1);
}

impl Joined {
    /// The cluster goes, and one of its name comes.
    pub(super) async fn comes_again(&self) {
        let hub = &self.lab.hub;
        let mut tx = hub.store().begin().await.unwrap();
        let any = Precondition::default();
        let name = self.lab.cluster.as_str();
        tx.objects().delete(Kind::Cluster, name, &any, hub.now()).await.unwrap();
        tx.commit().await.unwrap();
        hub.reload().await.unwrap();
        hub.bring_cluster(&self.lab.cluster, Ceiling::default()).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_of_a_removed_cluster_certifies_nothing_for_the_next_one_of_its_name() {
    let cluster = Joined::start().await;
    let mut client = cluster.identity().await;
    client.certify(asked(&prepared(), DOMAIN)).await.unwrap();
    cluster.comes_again().await;
    let refused = client.certify(asked(&prepared(), DOMAIN)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(cluster.events().await.len(), 2);
}

#[tokio::test]
async fn connections_of_a_cluster_end_with_it() {
    let cluster = Joined::start().await;
    let connector = cluster.connector(AgentRole::Identity, IDENTITY).await;
    let tcp = tokio::net::TcpStream::connect(cluster.lab.listening).await.unwrap();
    let mut stream = connector.connect(tcp, "127.0.0.1").await.unwrap().stream;
    // The hub serves it: it has said its part of the beginning.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_exact(&mut [0; 9]).await.unwrap();
    let hub = &cluster.lab.hub;
    hub.clusters().flush_cluster(hub, &cluster.lab.cluster).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
    // However it ends.
    let _ = ended.await.unwrap();
}

#[tokio::test]
async fn what_is_refused_anyway_waits_for_no_change_and_one_cluster_asks_once_at_a_time() {
    let cluster = Joined::start().await;
    let (mut client, mut other) = (cluster.identity().await, cluster.identity().await);
    let turn = cluster.lab.hub.changing.lock().await;
    let refused = client.certify(asked(&prepared(), "prod.example"));
    let refused = tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let waiting = tokio::spawn(async move { client.certify(asked(&prepared(), DOMAIN)).await });
    let busy = async {
        loop {
            match other.certify(asked(&prepared(), "prod.example")).await.unwrap_err() {
                busy if busy.code() == Code::Unavailable => return busy,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let busy = tokio::time::timeout(Duration::from_secs(5), busy).await.unwrap();
    assert!(busy.message().contains("another request"), "{busy}");
    drop(turn);
    waiting.await.unwrap().unwrap();
}

#[test]
fn a_cluster_asks_as_often_as_it_needs_to_and_no_other_pays() {
    let (asking, at) = (Asking::default(), |second| Timestamp::from_second(second).unwrap());
    let (dev, prod): (ClusterName, ClusterName) = ("dev".parse().unwrap(), "prod".parse().unwrap());
    let asks = |cluster, second| asking.begin(cluster, at(second)).map(drop).is_ok();
    assert_eq!((0..100).filter(|second| asks(&dev, 10_000 + second)).count(), ASKED_PER_HOUR);
    assert!(asks(&prod, 10_100) && !asks(&dev, 10_100) && asks(&dev, 14_000));
    // A clock that was ahead.
    assert!((0..100).any(|_| !asks(&dev, 90_000)) && asks(&dev, 20_000));
}
