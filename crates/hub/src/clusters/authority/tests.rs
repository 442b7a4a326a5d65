#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use hyper_util::rt::TokioIo;
use nullius_model::{LockSpec, LockTarget, Object, ObjectMeta, Timestamp};
use nullius_pki::{
    IssuedCertificate, PrivateKey,
    workload::{NotAdmitted, PreparedAuthority, verify_authority},
};
use nullius_proto::agent_v1::{
    AgentRole, AgentShape as Shape, EnrolRequest, JoinRequest,
    workload_root_client::WorkloadRootClient,
};
use nullius_tls::{InfraRoots, LiveCertificate, PartConnector, PeerRule, Protocol};
use rustls_pki_types::CertificateDer;
use tonic::{Code, transport::Endpoint};

use super::*;
use crate::clusters::tests::lab::{Issuer, Lab};

const CONTROL: &str = "nullius-system/nullius-provisioner";
const IDENTITY: &str = "nullius-system/nullius-identity";
const DOMAIN: &str = "dev.nullius.internal";

/// A cluster that has joined.
struct Joined {
    lab: Lab,
    issuer: Issuer,
}

impl Joined {
    async fn start() -> Self {
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

    /// A client with the certificate of an agent.
    async fn client(
        &self,
        role: AgentRole,
        account: &str,
    ) -> Result<WorkloadRootClient<tonic::transport::Channel>, tonic::transport::Error> {
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
        let connector =
            PartConnector::new(&roots, certificate, PeerRule::Hub, Protocol::Identity).unwrap();
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

    async fn identity(&self) -> WorkloadRootClient<tonic::transport::Channel> {
        self.client(AgentRole::Identity, IDENTITY).await.unwrap()
    }

    async fn events(&self) -> Vec<nullius_model::AuditEvent> {
        let kind = Some(AuditKind::Certify);
        let filter = nullius_audit::Filter { kind, ..Default::default() };
        let mut reader = self.lab.hub.store().read().await.unwrap();
        let page = reader.audit().list(&filter, None).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.event().unwrap()).collect()
    }
}

fn asked(prepared: &PreparedAuthority, domain: &str) -> CertifyRequest {
    CertifyRequest {
        version: VERSION,
        trust_domain: domain.to_owned(),
        certificate_request: prepared.request().unwrap().as_der().to_vec(),
    }
}

fn prepared() -> PreparedAuthority {
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
    let week = LIFE.after(cluster.lab.hub.now());
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
