//! What `agent control` tells of an API server.

use nullius_model::{AuditEvent, AuditId, KubeCall, SessionId, Timestamp};
use nullius_proto::agent_v1::{ServerWeight, ServerWord};

use super::*;

const DEPLOYER: &str = "system:serviceaccount:shop:deployer";

impl Joined {
    async fn control(&self) -> TestAgent {
        self.enrol(AgentRole::Control, CONTROL).await
    }

    /// A session of ada that has credentials in this cluster or had some, with a request of hers that the hub forwarded.
    async fn request_of_ada(&self, standing: Standing) -> (SessionId, AuditId) {
        let hub = &self.lab.hub;
        let (session, now) = (SessionId::from_bits(nullius_pki::random_bits()), hub.now());
        let mut tx = hub.store().begin().await.unwrap();
        tx.sessions().create(&new_session(&session, now)).await.unwrap();
        if standing == Standing::Stands {
            let cluster = &self.lab.cluster;
            tx.clusters().request_provision(&session, cluster, 1, now).await.unwrap();
        }
        let mut event = hub.own_event(AuditKind::KubeRequest, AuditOutcome::Done);
        event.principal = Principal::Person { user: "ada".parse().unwrap() };
        event.session = Some(session.clone());
        event.cluster = Some(self.lab.cluster.clone());
        event.source = Some([192, 0, 2, 7].into());
        event.kube = Some(KubeCall { code: 403, received: now, ..KubeCall::default() });
        tx.audit(&event).unwrap();
        tx.commit().await.unwrap();
        (session, event.audit_id)
    }
}

#[derive(PartialEq, Eq)]
enum Standing {
    Stands,
    Gone,
}

fn account(session: &SessionId) -> String {
    format!("system:serviceaccount:nullius-sessions:session-{session}")
}

fn denied(username: &str, audit_id: &str) -> ServerWord {
    ServerWord {
        audit_id: audit_id.to_owned(),
        received_micros: Timestamp::now().as_microsecond() - 5_000_123,
        username: username.to_owned(),
        verb: "create".to_owned(),
        path: "/api/v1/namespaces/shop/configmaps".to_owned(),
        resource: "configmaps".to_owned(),
        version: "v1".to_owned(),
        namespace: "shop".to_owned(),
        pod: "deployer-1".to_owned(),
        source: "10.244.1.3".to_owned(),
        code: 422,
        weight: ServerWeight::Refused.into(),
        sentence: "configmaps \"c\" is forbidden: no team\u{1b}[2J".to_owned(),
        remarks: vec![AdmissionRemark {
            effect: AdmissionEffect::Denied.into(),
            policy: "ValidatingAdmissionPolicy/team".to_owned(),
            binding: "all".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn batch(number: u64, words: Vec<ServerWord>) -> ReportBatch {
    ReportBatch { number, server_words: words, ..Default::default() }
}

fn fact<'a>(event: &'a AuditEvent, name: &str) -> &'a str {
    event.facts.get(name).map(String::as_str).unwrap_or_default()
}

#[tokio::test]
async fn a_denial_of_the_api_server_reaches_the_audit_and_uses_are_counted_exactly() {
    let joined = Joined::start().await;
    let agent = joined.control().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let by_rbac = ServerWord {
        code: 403,
        weight: ServerWeight::Unauthorized.into(),
        sentence: String::new(),
        ..denied(DEPLOYER, "a-2")
    };
    let noted = ServerWord {
        code: 201,
        weight: ServerWeight::Noted.into(),
        permission: format!("{:032x}", 5),
        allowed_by: "RoleBinding \"read/shop\" of Role \"read\"".to_owned(),
        ..denied(DEPLOYER, "a-3")
    };
    let of = |resource: &str, namespace: &str| AdmissionUse {
        operation: "list".to_owned(),
        group: String::new(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        allowed: true,
        permission: format!("{:032x}", 5),
        ..a_use(DEPLOYER, 7)
    };
    let told = ReportBatch {
        server_uses: vec![of("pods", "shop"), of("/metrics", "")],
        ..batch(1, vec![denied(DEPLOYER, "a-1"), by_rbac, noted])
    };
    for _ in 0..2 {
        assert_eq!(reporter.tell(told.clone()).await.unwrap(), 1, "told twice, counted once");
    }

    let events = joined.events(AuditKind::ApiServer).await;
    let [policy, rbac, noted] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(policy.outcome, AuditOutcome::Denied);
    assert_eq!(policy.audit_id.as_str(), "a-1");
    assert_eq!(policy.principal.label(), format!("kubernetes:dev/{DEPLOYER}"));
    let why = policy.explanation.as_ref().unwrap();
    assert_eq!(why.reason, nullius_model::Reason::PolicyRefused);
    assert!(
        why.sentence.contains("no team") && !why.sentence.contains('\u{1b}'),
        "{}",
        why.sentence
    );
    assert_eq!(why.rule.as_deref(), Some("ValidatingAdmissionPolicy/team"));
    for (name, value) in [("binding", "all"), ("effect", "denied"), ("pod", "deployer-1")] {
        assert_eq!(fact(policy, name), value, "{name}");
    }
    let kubernetes = nullius_audit::to_k8s_event(rbac).unwrap();
    assert_eq!(kubernetes["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(rbac.explanation.as_ref().unwrap().reason, nullius_model::Reason::ApiServerRefused);
    assert_eq!((noted.outcome, noted.permission.is_some()), (AuditOutcome::Done, true));

    let mut reader = joined.lab.hub.store().read().await.unwrap();
    let uses = reader.usage().list(&UseFilter::default()).await.unwrap();
    let rbac = uses.iter().filter(|used| used.key.plane == Plane::Rbac);
    let mut counted: Vec<_> = rbac
        .map(|used| (used.key.resource.as_str(), used.key.action.as_str(), used.count))
        .collect();
    counted.sort_unstable();
    assert_eq!(counted, [("/metrics", "list", 7), ("core/pods@shop", "list", 7)]);
}

#[tokio::test]
async fn a_request_that_came_through_the_hub_is_joined_to_its_person_also_after_the_session() {
    let joined = Joined::start().await;
    let agent = joined.control().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    for (number, standing) in [(1, Standing::Stands), (2, Standing::Gone)] {
        let (session, id) = joined.request_of_ada(standing).await;
        reporter.tell(batch(number, vec![denied(&account(&session), id.as_str())])).await.unwrap();
        let events = joined.events(AuditKind::ApiServer).await;
        let event = events.last().unwrap();
        assert_eq!(event.principal.label(), "person:ada");
        assert_eq!((event.session.as_ref(), &event.audit_id), (Some(&session), &id));
        assert_eq!((fact(event, "through"), event.source), ("hub", Some([192, 0, 2, 7].into())));
    }
    // Another replica of the agent may have been told the same.
    let (session, id) = joined.request_of_ada(Standing::Stands).await;
    let word = denied(&account(&session), id.as_str());
    reporter.tell(batch(3, vec![word.clone()])).await.unwrap();
    let other = joined.control().await;
    let mut second = joined.report(&other, 1).await.unwrap();
    second.tell(batch(1, vec![word])).await.unwrap();
    assert_eq!(joined.events(AuditKind::ApiServer).await.len(), 3);
}

#[tokio::test]
async fn a_request_that_two_replicas_tell_is_counted_once() {
    let joined = Joined::start().await;
    let (first, second) = (joined.control().await, joined.control().await);
    let of = |marks: &[u64]| AdmissionUse {
        operation: "list".to_owned(),
        group: String::new(),
        resource: "pods".to_owned(),
        marks: marks.to_vec(),
        ..a_use(DEPLOYER, marks.len() as u64)
    };
    let told =
        |number, marks| ReportBatch { server_uses: vec![of(marks)], ..batch(number, Vec::new()) };
    let mut reporter = joined.report(&first, 1).await.unwrap();
    for _ in 0..2 {
        reporter.tell(told(1, &[1, 2, 3])).await.unwrap();
    }
    // The receipt of the list was lost: its API server told it to the other replica, with what had come since.
    let mut other = joined.report(&second, 1).await.unwrap();
    other.tell(told(1, &[2, 3, 4])).await.unwrap();
    other.tell(told(2, &[1])).await.unwrap();
    let mut reader = joined.lab.hub.store().read().await.unwrap();
    let uses = reader.usage().list(&UseFilter::default()).await.unwrap();
    let counts: Vec<u64> =
        uses.iter().filter(|used| used.key.plane == Plane::Rbac).map(|used| used.count).collect();
    assert_eq!(counts, [4]);
    let flood: Vec<u64> = (0..=SERVER_MARKS as u64).collect();
    assert_eq!(other.tell(told(3, &flood)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_event_says_who_acted_and_as_whom() {
    let joined = Joined::start().await;
    let agent = joined.control().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let acting = ServerWord {
        impersonated: "robot".to_owned(),
        impersonated_groups: vec!["system:masters".to_owned(), "ops".to_owned()],
        groups: vec!["dev".to_owned()],
        ..denied("ada@example.com", "a-1")
    };
    reporter.tell(batch(1, vec![acting])).await.unwrap();
    let events = joined.events(AuditKind::ApiServer).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.principal.label(), "kubernetes:dev/ada@example.com", "who did it");
    assert_eq!(fact(event, "impersonated"), "robot");
    assert_eq!(fact(event, "impersonated-groups"), "system:masters,ops");
    let kubernetes = nullius_audit::to_k8s_event(event).unwrap();
    assert_eq!(kubernetes["user"]["username"], "ada@example.com");
    assert_eq!(kubernetes["user"]["groups"], serde_json::json!(["dev"]));
    let robot = serde_json::json!({ "username": "robot", "groups": ["system:masters", "ops"] });
    assert_eq!(kubernetes["impersonatedUser"], robot);
}

#[tokio::test]
async fn nobody_joins_a_request_of_somebody_else_by_sending_its_audit_id() {
    let joined = Joined::start().await;
    let agent = joined.control().await;
    let mut reporter = joined.report(&agent, 1).await.unwrap();
    let (session, id) = joined.request_of_ada(Standing::Stands).await;
    let stranger = SessionId::from_bits(nullius_pki::random_bits());
    let forged = [denied(DEPLOYER, id.as_str()), denied(&account(&stranger), id.as_str())];
    reporter.tell(batch(1, forged.to_vec())).await.unwrap();
    // Neither does it keep the true word away, before or after.
    reporter.tell(batch(2, vec![denied(&account(&session), id.as_str())])).await.unwrap();
    reporter.tell(batch(3, vec![denied(DEPLOYER, "no audit id at all")])).await.unwrap();
    let events = joined.events(AuditKind::ApiServer).await;
    let [pod, stranger, ada, odd] = events.as_slice() else { panic!("{events:?}") };
    for event in [pod, stranger] {
        assert_ne!(event.audit_id, id);
        assert_eq!(fact(event, "sent-audit-id"), id.as_str());
        assert!(event.principal.label().starts_with("kubernetes:dev/"), "{event:?}");
        assert_eq!((event.session.as_ref(), fact(event, "through")), (None, ""));
    }
    assert_eq!((ada.principal.label().as_str(), &ada.audit_id), ("person:ada", &id));
    assert_eq!(fact(odd, "sent-audit-id"), "no audit id at all");
}

#[tokio::test]
async fn each_agent_tells_its_own_words_alone_and_what_was_lost_is_told() {
    let joined = Joined::start().await;
    let (control, admission) = (joined.control().await, joined.admission().await);
    let of_policies =
        ReportBatch { number: 1, decisions: vec![denial("ada")], ..Default::default() };
    let of_server = batch(1, vec![denied(DEPLOYER, "a-1")]);
    for (agent, batch) in [(&control, of_policies), (&admission, of_server)] {
        let mut reporter = joined.report(agent, 1).await.unwrap();
        assert_eq!(reporter.tell(batch).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(joined.events(AuditKind::Alarm).await.len(), 2);
    assert!(joined.events(AuditKind::Admission).await.is_empty());

    let mut reporter = joined.report(&control, 2).await.unwrap();
    let too_many = batch(1, vec![denied(DEPLOYER, "a-1"); SERVER_WORDS + 1]);
    assert_eq!(reporter.tell(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    let mut reporter = joined.report(&control, 3).await.unwrap();
    let lost = ReportBatch {
        turned_away_lists: 2,
        unreadable_events: 3,
        unreadable_lists: 4,
        lost_server_words: 5,
        ..batch(1, Vec::new())
    };
    reporter.tell(lost).await.unwrap();
    let events = joined.events(AuditKind::ApiServer).await;
    let [gap] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(gap.outcome, AuditOutcome::Failed);
    for (name, count) in [
        ("turned-away-lists", "2"),
        ("unreadable-events", "3"),
        ("unreadable-lists", "4"),
        ("lost-events", "5"),
    ] {
        assert_eq!(fact(gap, name), count, "{name}");
    }
}
