#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
mod mesh;
mod server;

use std::time::Duration;

use hyper_util::rt::TokioIo;
use nullius_model::{FindingState, Plane, Principal};
use nullius_pki::{IssuedCertificate, PrivateKey};
use nullius_proto::agent_v1::{
    AdmissionDecision, AdmissionEffect, AdmissionRemark, AdmissionUse, AgentRole,
    AgentShape as Shape, EnrolRequest, FoundByScan, JoinRequest, ObjectFindings, ObjectKey,
    ObjectPart, ReportHello, ScanDone, ScanId, ScanWord, control_client::ControlClient,
    reporting_client::ReportingClient, scan_word,
};
use nullius_store::{FindingFilter, NewSession, UseFilter};
use nullius_tls::{InfraRoots, LiveCertificate, PartConnector, PeerRule, Protocol};
use tonic::{Code, transport::Endpoint};

use super::*;
use crate::clusters::tests::lab::{Issuer, Lab};

const CONTROL: &str = "nullius-system/nullius-provisioner";
const ADMISSION: &str = "nullius-system/nullius-admission";
const PROXY: &str = "nullius-system/nullius-agent-proxy";
const IDENTITY: &str = "nullius-system/nullius-identity";

/// A cluster that has joined, with the keys of its ServiceAccounts.
struct Joined {
    lab: Lab,
    issuer: Issuer,
}

/// An agent with its certificate.
struct TestAgent {
    certificate: Arc<LiveCertificate>,
    instance: String,
}

/// One connection that reports.
struct Reporter {
    to_hub: mpsc::Sender<Report>,
    receipts: Streaming<ReportReceipt>,
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

    async fn enrol(&self, role: AgentRole, account: &str) -> TestAgent {
        let key = PrivateKey::generate().unwrap();
        let instance = format!("{:032x}", nullius_pki::random_bits());
        let request = EnrolRequest {
            version: VERSION,
            cluster: self.lab.cluster.to_string(),
            role: role.into(),
            instance: instance.clone(),
            service_account_token: self.issuer.token(account, Some("pod-0")),
            certificate_request: key.request().unwrap().to_pem(),
        };
        let hub = &self.lab.hub;
        let answer = hub.enrol_agent(&self.lab.cluster, &request, None).await.unwrap();
        let issued = IssuedCertificate::from_pem(&answer.certificate).unwrap();
        TestAgent { certificate: LiveCertificate::of(&issued, &key).unwrap(), instance }
    }

    async fn admission(&self) -> TestAgent {
        self.enrol(AgentRole::Admission, ADMISSION).await
    }

    async fn channel(
        &self,
        agent: &TestAgent,
        protocol: Protocol,
    ) -> Result<tonic::transport::Channel, tonic::transport::Error> {
        let pem = self.lab.hub.keys().root().certificate_pem();
        let roots = InfraRoots::from_pem(pem).unwrap();
        let certificate = Arc::clone(&agent.certificate);
        let connector = PartConnector::new(&roots, certificate, PeerRule::Hub, protocol).unwrap();
        let address = self.lab.listening;
        let dial = tower::service_fn(move |_: hyper::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                Ok::<_, std::io::Error>(TokioIo::new(
                    connector.connect(tcp, "127.0.0.1").await?.stream,
                ))
            }
        });
        Endpoint::from_static("http://nullius").connect_with_connector(dial).await
    }

    async fn report(&self, agent: &TestAgent, epoch: u64) -> Result<Reporter, Status> {
        self.report_by(agent, epoch, Protocol::Admission).await
    }

    async fn report_by(
        &self,
        agent: &TestAgent,
        epoch: u64,
        protocol: Protocol,
    ) -> Result<Reporter, Status> {
        let channel = self.channel(agent, protocol).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let (to_hub, reports) = mpsc::channel(8);
        let hello = ReportHello { version: VERSION, epoch };
        to_hub.send(Report { kind: Some(Kind::Hello(hello)) }).await.unwrap();
        let mut client = ReportingClient::new(channel);
        let receipts = client.report(ReceiverStream::new(reports)).await?.into_inner();
        Ok(Reporter { to_hub, receipts })
    }

    async fn events(&self, kind: AuditKind) -> Vec<nullius_model::AuditEvent> {
        let filter = nullius_audit::Filter { kind: Some(kind), ..Default::default() };
        let mut reader = self.lab.hub.store().read().await.unwrap();
        let page = reader.audit().list(&filter, None).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.event().unwrap()).collect()
    }

    async fn findings(&self, state: FindingState) -> Vec<nullius_model::Finding> {
        let filter = FindingFilter { state: Some(state), ..Default::default() };
        self.lab.hub.store().read().await.unwrap().findings().list(&filter).await.unwrap()
    }
}

impl Reporter {
    async fn tell(&mut self, batch: ReportBatch) -> Result<u64, Status> {
        // Whether the hub still listens is told by what it answers.
        let _ = self.to_hub.send(Report { kind: Some(Kind::Batch(batch)) }).await;
        let answer = tokio::time::timeout(Duration::from_secs(120), self.receipts.message());
        match answer.await.unwrap()? {
            Some(receipt) => Ok(receipt.number),
            None => Err(Status::cancelled("closed")),
        }
    }
}

fn denial(username: &str) -> AdmissionDecision {
    AdmissionDecision {
        uid: "review-1".to_owned(),
        username: username.to_owned(),
        operation: "CREATE".to_owned(),
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        resource: "deployments".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        code: 422,
        reason: "policy-refused".to_owned(),
        rule: "ValidatingAdmissionPolicy/no-latest validation 1".to_owned(),
        sentence: "the image has no tag".to_owned(),
        next: "name a tag".to_owned(),
        permission: format!("{:032x}", 7),
        remarks: vec![AdmissionRemark {
            effect: AdmissionEffect::Denied.into(),
            policy: "ValidatingAdmissionPolicy/no-latest".to_owned(),
            binding: "no-latest-shop".to_owned(),
            check: "validation 1".to_owned(),
            message: "the image has no tag".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn a_use(username: &str, count: u64) -> AdmissionUse {
    AdmissionUse {
        username: username.to_owned(),
        operation: "CREATE".to_owned(),
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        namespace: "shop".to_owned(),
        count,
        sample: "review-1".to_owned(),
        ..Default::default()
    }
}

fn found(scan: u64, name: &str, checks: &[&str]) -> ScanWord {
    let finding = |check: &&str| FoundByScan {
        policy: "PodSecurity/restricted".to_owned(),
        check: (*check).to_owned(),
        severity: "medium".to_owned(),
        enforcement: "warn".to_owned(),
        message: format!("{check} is not as it should be"),
        ..Default::default()
    };
    let findings = ObjectFindings {
        object: Some(ObjectKey {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        }),
        part: ObjectPart::Object.into(),
        findings: checks.iter().map(finding).collect(),
    };
    word(scan, scan_word::Kind::Findings(findings))
}

fn word(scan: u64, kind: scan_word::Kind) -> ScanWord {
    ScanWord { scan: Some(ScanId { term: 1, number: scan }), kind: Some(kind) }
}

#[tokio::test]
async fn a_decision_reaches_the_audit_with_policy_and_reason_and_uses_are_counted() {
    let joined = Joined::start().await;
    let agent = joined.admission().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let account = "system:serviceaccount:shop:deployer";
    let batch = ReportBatch {
        number: 1,
        decisions: vec![denial(account)],
        uses: vec![a_use(account, 3)],
        ..Default::default()
    };
    assert_eq!(reporter.tell(batch).await.unwrap(), 1);

    let events = joined.events(AuditKind::Admission).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.outcome, AuditOutcome::Denied);
    assert_eq!(event.audit_id.as_str(), "review-1");
    assert_eq!(event.principal.label(), "kubernetes:dev/system:serviceaccount:shop:deployer");
    let why = event.explanation.as_ref().unwrap();
    assert_eq!(
        why.to_string(),
        "the image has no tag (by ValidatingAdmissionPolicy/no-latest validation 1); name a tag"
    );
    let call = event.kube.as_ref().unwrap();
    assert_eq!(call.request_uri, "/apis/apps/v1/namespaces/shop/deployments");
    assert_eq!((call.verb.as_str(), call.name.as_str(), call.code), ("create", "web", 422));
    for (name, value) in [
        ("policy", "ValidatingAdmissionPolicy/no-latest"),
        ("binding", "no-latest-shop"),
        ("check", "validation 1"),
        ("effect", "denied"),
        ("object-kind", "Deployment"),
    ] {
        assert_eq!(event.facts.get(name).map(String::as_str), Some(value), "{name}");
    }
    let kubernetes = nullius_audit::to_k8s_event(event).unwrap();
    assert_eq!(kubernetes["user"]["username"], account);
    assert_eq!(kubernetes["responseStatus"]["code"], 422);

    let mut reader = joined.lab.hub.store().read().await.unwrap();
    let uses = reader.usage().list(&UseFilter::default()).await.unwrap();
    let used = uses.iter().find(|used| used.key.plane == Plane::Admission).unwrap();
    assert_eq!((used.count, used.key.resource.as_str()), (3, "apps/deployments@shop"));
}

#[tokio::test]
async fn a_batch_that_comes_again_is_receipted_and_counted_once() {
    let joined = Joined::start().await;
    let agent = joined.admission().await;
    let batch = |number| ReportBatch {
        number,
        decisions: vec![denial("ada")],
        uses: vec![a_use("ada", 1)],
        ..Default::default()
    };
    let mut first = joined.report(&agent, 1).await.unwrap();
    assert_eq!(first.tell(batch(1)).await.unwrap(), 1);
    // The connection breaks before the receipt is read: the agent tells it again on the next.
    let mut second = joined.report(&agent, 2).await.unwrap();
    assert_eq!(second.tell(batch(1)).await.unwrap(), 1);
    assert_eq!(second.tell(batch(2)).await.unwrap(), 2);
    assert_eq!(joined.events(AuditKind::Admission).await.len(), 2);
    // The older connection may tell nothing more, and its epoch opens none.
    assert_eq!(first.tell(batch(3)).await.unwrap_err().code(), Code::Aborted);
    let replayed = joined.report(&agent, 2).await;
    assert_eq!(replayed.err().unwrap().code(), Code::Aborted);
    assert!(!joined.events(AuditKind::Alarm).await.is_empty());
    assert_eq!(joined.events(AuditKind::Admission).await.len(), 2);
}

#[tokio::test]
async fn what_was_lost_stands_in_the_audit() {
    let joined = Joined::start().await;
    let agent = joined.admission().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    reporter.tell(ReportBatch { number: 1, ..Default::default() }).await.unwrap();
    let batch = ReportBatch { number: 4, lost_decisions: 9, ..Default::default() };
    reporter.tell(batch).await.unwrap();
    let events = joined.events(AuditKind::Admission).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.outcome, AuditOutcome::Failed);
    assert_eq!(event.facts["lost-decisions"], "9");
    assert_eq!(event.facts["lost-batches"], "2");
    let Principal::Agent { instance, .. } = &event.principal else { panic!("{event:?}") };
    assert_eq!(instance.as_str(), agent.instance);
}

#[tokio::test]
async fn a_session_is_joined_to_its_person_only_in_a_cluster_where_it_has_something() {
    let joined = Joined::start().await;
    let hub = &joined.lab.hub;
    let (known, elsewhere) = (
        nullius_model::SessionId::from_bits(nullius_pki::random_bits()),
        nullius_model::SessionId::from_bits(nullius_pki::random_bits()),
    );
    let mut tx = hub.store().begin().await.unwrap();
    for (id, cluster) in [(&known, "dev"), (&elsewhere, "prod")] {
        let now = hub.now();
        tx.sessions().create(&new_session(id, now)).await.unwrap();
        let cluster = cluster.parse().unwrap();
        tx.clusters().request_provision(id, &cluster, 1, now).await.unwrap();
    }
    tx.commit().await.unwrap();
    let agent = joined.admission().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let account = |id| format!("{}session-{id}", "system:serviceaccount:nullius-sessions:");
    let batch = ReportBatch {
        number: 1,
        decisions: vec![denial(&account(&known)), denial(&account(&elsewhere))],
        ..Default::default()
    };
    reporter.tell(batch).await.unwrap();
    let events = joined.events(AuditKind::Admission).await;
    assert_eq!(events[0].principal.label(), "person:ada");
    assert_eq!(events[0].session.as_ref(), Some(&known));
    assert!(events[1].principal.label().starts_with("kubernetes:dev/system:serviceaccount:"));
    assert_eq!(events[1].session, None, "whose it is, this cluster cannot know");
}

fn new_session(id: &nullius_model::SessionId, now: nullius_model::Timestamp) -> NewSession {
    NewSession {
        id: id.clone(),
        user: "ada".parse().unwrap(),
        client: nullius_store::SessionClient::Cli,
        proof: nullius_model::Proof {
            factors: [nullius_model::Factor::Password].into(),
            factor_at: now,
        },
        signed_in_at: now,
        expires_at: nullius_model::Ttl::from_secs(3_600).after(now),
        token: nullius_store::TokenHash::of(id.as_str()),
        client_mark: String::new(),
        source: None,
        user_agent: String::new(),
    }
}

#[tokio::test]
async fn only_who_has_something_to_tell_reports_and_it_gets_nothing_else() {
    let joined = Joined::start().await;
    let agent = joined.enrol(AgentRole::Proxy, PROXY).await;
    assert!(joined.report(&agent, 1).await.is_err());
    let agent = joined.admission().await;
    if let Ok(channel) = joined.channel(&agent, Protocol::Control).await {
        let (_to_hub, messages) = mpsc::channel(1);
        let attached = ControlClient::new(channel).attach(ReceiverStream::new(messages)).await;
        assert!(attached.is_err());
    }
    // On its own connection there is no other service either.
    let channel = joined.channel(&agent, Protocol::Admission).await.unwrap();
    let (_to_hub, messages) = mpsc::channel(1);
    let attached = ControlClient::new(channel).attach(ReceiverStream::new(messages)).await;
    assert_eq!(attached.err().unwrap().code(), Code::Unimplemented);
}

#[tokio::test]
async fn more_than_a_batch_may_hold_is_refused_and_raises_an_alarm() {
    let joined = Joined::start().await;
    let agent = joined.admission().await;
    let too_many = [
        ReportBatch { decisions: vec![denial("ada"); DECISIONS + 1], ..Default::default() },
        ReportBatch { uses: vec![a_use("ada", 1); USES + 1], ..Default::default() },
        ReportBatch { scan: vec![ScanWord::default()], ..Default::default() },
        ReportBatch {
            scan: vec![found(1, "web", &vec!["c"; nullius_proto::report::FINDINGS_OF_OBJECT + 1])],
            ..Default::default()
        },
    ];
    for (epoch, batch) in (1..).zip(too_many) {
        let mut reporter = joined.report(&agent, epoch).await.unwrap();
        let refused = reporter.tell(ReportBatch { number: 1, ..batch }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let mut reporter = joined.report(&agent, 9).await.unwrap();
    let huge = AdmissionDecision { sentence: "x".repeat(REPORT_BYTES), ..denial("ada") };
    let batch = ReportBatch { number: 1, decisions: vec![huge], ..Default::default() };
    assert!(reporter.tell(batch).await.is_err());
    assert!(joined.events(AuditKind::Admission).await.is_empty());
    assert!(!joined.events(AuditKind::Alarm).await.is_empty());
}

#[tokio::test]
async fn findings_open_stand_and_are_resolved_as_scans_see_them() {
    let joined = Joined::start().await;
    let agent = joined.admission().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let mut number = 0;
    let mut scan = async |words: Vec<ScanWord>| {
        number += 1;
        let batch = ReportBatch { number, scan: words, ..Default::default() };
        reporter.tell(batch).await.unwrap();
    };
    let done =
        |scan| word(scan, scan_word::Kind::Done(ScanDone { objects: 2, ..Default::default() }));
    scan(vec![found(1, "web", &["a", "b"]), found(1, "db", &["a"]), done(1)]).await;
    assert_eq!(joined.findings(FindingState::Open).await.len(), 3);
    // Mended in part: what is not named any more is resolved.
    scan(vec![found(1, "web", &["b"])]).await;
    assert_eq!(joined.findings(FindingState::Resolved).await.len(), 1);
    // The next scan sees web as it was and db nowhere.
    let standing = nullius_proto::agent_v1::ScanStanding { uids: vec!["uid-web".to_owned()] };
    scan(vec![word(2, scan_word::Kind::Standing(standing)), done(2)]).await;
    let open = joined.findings(FindingState::Open).await;
    let [finding] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((finding.object.name.as_str(), finding.check.as_str()), ("web", "b"));
    assert_eq!(finding.cluster, joined.lab.cluster);
    // A leader of before tells too late.
    scan(vec![found(1, "late", &["a"]), done(1)]).await;
    assert_eq!(joined.findings(FindingState::Open).await.len(), 1);
}

#[tokio::test]
async fn what_the_mesh_decides_is_heard_of_the_agent_of_identities_alone() {
    let joined = Joined::start().await;
    let agent = joined.enrol(AgentRole::Identity, IDENTITY).await;
    let denials = ReportBatch {
        number: 1,
        mesh_denials: vec![nullius_proto::agent_v1::MeshDenial::default()],
        ..Default::default()
    };
    let mut reporter = joined.report_by(&agent, 1, Protocol::Identity).await.unwrap();
    assert_eq!(reporter.tell(denials.clone()).await.unwrap(), 1);
    let lost = ReportBatch {
        number: 2,
        lost_mesh_flows: 7,
        disbelieved_nodes: [("worker-1".to_owned(), 3)].into(),
        ..Default::default()
    };
    assert_eq!(reporter.tell(lost).await.unwrap(), 2);
    let events = joined.events(AuditKind::Mesh).await;
    let [unread, event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(unread.facts["disbelieved-mesh-words"], "1", "a denial of nothing");
    assert_eq!(event.facts["lost-mesh-flows"], "7");
    assert_eq!(event.facts["disbelieved-mesh-words"], "3");
    let decisions = ReportBatch { number: 3, decisions: vec![denial("ada")], ..Default::default() };
    assert_eq!(reporter.tell(decisions).await.unwrap_err().code(), Code::InvalidArgument);

    assert!(joined.report_by(&agent, 2, Protocol::Admission).await.is_err());
    let other = joined.admission().await;
    assert!(joined.report_by(&other, 1, Protocol::Identity).await.is_err());
    let mut reporter = joined.report(&other, 1).await.unwrap();
    assert_eq!(reporter.tell(denials).await.unwrap_err().code(), Code::InvalidArgument);
}
