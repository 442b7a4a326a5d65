#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::sync::Arc;

use nullius_model::{
    AnyObject, ClusterSpec, CommandId, FederationSpec, LockSpec, LockTarget, Object, ObjectMeta,
    RotationMode, Ttl,
};
use nullius_pki::{
    CommandError, CommandVerifier, Verifier,
    workload::{ClusterAuthority, JwtSigner, PreparedAuthority},
};
use nullius_proto::agent_v1::{KeptBundle, workload_root_client::WorkloadRootClient};
use tonic::{Code, transport::Channel};

use super::*;
use crate::clusters::authority::tests::{DOMAIN, Joined, asked, prepared};

/// What an agent keeps.
struct Agent {
    client: WorkloadRootClient<Channel>,
    authority: ClusterAuthority,
    jwt: JwtSigner,
    /// The hash of what the hub told beside.
    beside: String,
    /// Of which trust domains it says that it keeps what.
    kept: Vec<KeptBundle>,
}

impl Agent {
    async fn of(cluster: &Joined) -> Self {
        let mut client = cluster.identity().await;
        let authority = certified(&mut client, prepared()).await;
        let jwt = JwtSigner::create(DOMAIN.parse().unwrap()).unwrap();
        let issuer = Some(cluster.lab.hub.issuer_of(&DOMAIN.parse().unwrap()));
        let beside = TrustBeside { issuer, ..TrustBeside::default() };
        let beside = token_hash(&beside.to_text());
        Self { client, authority, jwt, beside, kept: Vec::new() }
    }

    fn told(&self, stage: Stage) -> AuthorityReport {
        AuthorityReport {
            stage: stage.into(),
            certificate: self.authority.certificate_der().to_vec(),
            anchor: self.authority.anchor_der().to_vec(),
            jwt_key: self.jwt.authority().kid().to_owned(),
        }
    }

    fn report(&self, sequence: u64) -> TrustReport {
        TrustReport {
            version: VERSION,
            sequence,
            since: 1_800_000_000,
            authorities: vec![self.told(Stage::Active)],
            bundle: bundle(&[&self.authority], &self.jwt, sequence),
            wish: String::new(),
            rotated: String::new(),
            beside: self.beside.clone(),
            beside_form: 1,
            kept: self.kept.clone(),
        }
    }

    async fn stand(&mut self, report: TrustReport) -> Result<TrustAnswer, Status> {
        self.client.stand(report).await.map(tonic::Response::into_inner)
    }
}

async fn certified(
    client: &mut WorkloadRootClient<Channel>,
    prepared: PreparedAuthority,
) -> ClusterAuthority {
    let answer = client.certify(asked(&prepared, DOMAIN)).await.unwrap().into_inner();
    let (certificate, root) =
        (CertificateDer::from(answer.certificate), CertificateDer::from(answer.root));
    prepared.admit(certificate, &root, Timestamp::now()).unwrap()
}

fn bundle(authorities: &[&ClusterAuthority], jwt: &JwtSigner, sequence: u64) -> Vec<u8> {
    let mut bundle = TrustBundle::new(DOMAIN.parse().unwrap());
    for authority in authorities {
        bundle.add_x509(authority.anchor_der().clone()).unwrap();
    }
    bundle.add_jwt(jwt.authority());
    bundle.at(sequence, 300).to_json().to_string().into_bytes()
}

impl Joined {
    async fn standing(&self) -> Option<TrustStanding> {
        let mut reader = self.lab.hub.store().read().await.unwrap();
        reader.trust().standing(&self.lab.cluster).await.unwrap()
    }

    async fn progress(&self, id: u128) -> RotationProgress {
        let mut reader = self.lab.hub.store().read().await.unwrap();
        let all = reader.trust().rotations(&self.lab.cluster).await.unwrap();
        all.iter().find(|it| it.id == CommandId::from_bits(id)).unwrap().progress
    }

    /// What somebody ordered that is to be taken so many seconds from now.
    async fn orders(&self, id: u128, mode: RotationMode, seconds: i64) {
        let hub = &self.lab.hub;
        let uid = self.standing().await.unwrap().uid;
        let rotation = TrustRotation {
            id: CommandId::from_bits(id),
            cluster: self.lab.cluster.clone(),
            uid,
            mode,
            reason: "drill".to_owned(),
            ordered_by: "ada".to_owned(),
            ordered_at: hub.now(),
            take_until: Timestamp::from_second(hub.now().as_second() + seconds).unwrap(),
            progress: RotationProgress::Ordered,
            changed_at: hub.now(),
        };
        let mut tx = hub.store().begin().await.unwrap();
        tx.trust().put_rotation(&rotation).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_an_agent_tells_of_its_authority_is_kept_and_never_goes_back() {
    let cluster = Joined::start().await;
    let mut agent = Agent::of(&cluster).await;
    let answer = agent.stand(agent.report(5)).await.unwrap();
    assert!(answer.orders.is_empty() && !answer.key_set.is_empty());
    let known = cluster.standing().await.unwrap();
    assert_eq!((known.sequence, known.trust_domain.as_str()), (5, DOMAIN));
    let [told] = &known.told.authorities[..] else { panic!("{known:?}") };
    let facts = Signed::read(agent.authority.certificate_der()).unwrap();
    assert_eq!((told.stage, &told.serial), (AuthorityStage::Active, &facts.serial));
    let kept = TrustBundle::read(DOMAIN.parse().unwrap(), known.told.bundle.unwrap().as_bytes());
    assert_eq!(kept.unwrap().x509_authorities(), [agent.authority.anchor_der().clone()]);
    // A key that waits beside it.
    let mut next = agent.report(6);
    next.authorities
        .push(AuthorityReport { stage: Stage::Prepared.into(), ..AuthorityReport::default() });
    agent.stand(next).await.unwrap();
    assert_eq!(cluster.standing().await.unwrap().told.authorities.len(), 2);
    let older = agent.stand(agent.report(5)).await.unwrap_err();
    assert_eq!(older.code(), Code::FailedPrecondition, "{older}");
    assert_eq!(cluster.standing().await.unwrap().sequence, 6);
    // Another cluster of its name begins anew, and this agent speaks for it no more.
    cluster.comes_again().await;
    let gone = agent.stand(agent.report(7)).await.unwrap_err();
    assert_eq!(gone.code(), Code::PermissionDenied, "{gone}");
    assert!(cluster.events_of(AuditKind::Alarm).await.is_empty());
}

#[tokio::test]
async fn nobody_tells_of_an_authority_that_is_not_their_own() {
    let cluster = Joined::start().await;
    let mut agent = Agent::of(&cluster).await;
    let (now, week) = (Timestamp::now(), Ttl::from_secs(7 * 86_400));
    let of_root = |root: &nullius_pki::workload::WorkloadRoot, domain: &str| {
        let prepared = PreparedAuthority::create(domain.parse().unwrap()).unwrap();
        let csr = prepared.request().unwrap();
        let signed = root.certify(&csr, &domain.parse().unwrap(), week, now).unwrap();
        prepared.admit(signed, root.certificate_der(), now).unwrap()
    };
    let root = cluster.lab.hub.keys().workload_root();
    // The same hub certified it, for another cluster.
    let of_other = of_root(root, "prod.nullius.internal");
    let own_root = nullius_pki::workload::WorkloadRoot::create(now).unwrap();
    let of_nobody = of_root(&own_root, DOMAIN);
    let honest = agent.report(5);
    let with = |authority: &ClusterAuthority| {
        let mut report = honest.clone();
        report.authorities[0].certificate = authority.certificate_der().to_vec();
        report.authorities[0].anchor = authority.anchor_der().to_vec();
        report.bundle = bundle(&[authority], &agent.jwt, 5);
        report
    };
    let mut anchor_of_other = honest.clone();
    anchor_of_other.authorities[0].anchor = of_other.anchor_der().to_vec();
    let strange = TrustReport {
        bundle: bundle(&[&agent.authority, &of_other], &agent.jwt, 5),
        ..honest.clone()
    };
    let of_another_step =
        TrustReport { bundle: bundle(&[&agent.authority], &agent.jwt, 9), ..honest.clone() };
    let mut crowd = honest.clone();
    crowd.authorities = vec![agent.told(Stage::Active); AUTHORITIES + 1];
    let mut nowhere = honest.clone();
    nowhere.authorities[0].stage = Stage::Unspecified.into();
    let mut hostile = honest.clone();
    hostile.authorities[0].jwt_key = "\u{1b}[2J".to_owned();
    let own = JwtSigner::create(DOMAIN.parse().unwrap()).unwrap();
    let key_of_nobody =
        TrustReport { bundle: bundle(&[&agent.authority], &own, 5), ..honest.clone() };
    let mut prepared_alone = honest.clone();
    prepared_alone.authorities[0].stage = Stage::Prepared.into();
    let unreadable = TrustReport { bundle: b"{}".to_vec(), ..honest.clone() };
    let lies = [
        with(&of_other),
        with(&of_nobody),
        anchor_of_other,
        strange,
        of_another_step,
        crowd,
        nowhere,
        hostile,
        key_of_nobody,
        prepared_alone,
        unreadable,
    ];
    let count = lies.len();
    for lie in lies {
        let refused = agent.stand(lie).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert_eq!(cluster.standing().await, None);
    assert_eq!(cluster.events_of(AuditKind::Alarm).await.len(), count);
    let huge = TrustReport { bundle: vec![b' '; 64 * 1024], ..honest.clone() };
    assert!(agent.stand(huge).await.is_err());
    let words = TrustReport { wish: "\u{202e}by hand\n".repeat(100), ..honest };
    agent.stand(words).await.unwrap();
    let wish = cluster.standing().await.unwrap().told.wish;
    assert!(wish.chars().count() <= WORDS && !wish.contains(['\n', '\u{202e}']), "{wish}");
}

#[tokio::test]
async fn an_order_is_given_until_it_is_taken_and_followed_to_its_end() {
    let cluster = Joined::start().await;
    let mut agent = Agent::of(&cluster).await;
    agent.stand(agent.report(5)).await.unwrap();
    cluster.orders(1, RotationMode::Taint, 3_600).await;
    let verifier = Arc::new(
        Verifier::new(cluster.lab.hub.keys().offline_public().parse().unwrap(), 0).unwrap(),
    );
    let commands = CommandVerifier::new(Arc::clone(&verifier), cluster.lab.cluster.clone());
    let answer = agent.stand(agent.report(5)).await.unwrap();
    verifier.install(&answer.key_set).unwrap();
    let command = commands.verify(&answer.orders[0], Timestamp::now()).unwrap();
    assert_eq!(command.order, Order::Rotate { mode: RotationMode::Taint });
    assert_eq!(command.id, CommandId::from_bits(1));
    let replayed = commands.verify(&answer.orders[0], Timestamp::now());
    assert!(matches!(replayed, Err(CommandError::Replayed { .. })), "{replayed:?}");
    let late = Timestamp::from_second(Timestamp::now().as_second() + 120).unwrap();
    let old = CommandVerifier::new(Arc::clone(&verifier), cluster.lab.cluster.clone());
    assert!(matches!(old.verify(&answer.orders[0], late), Err(CommandError::Expired(_))));
    let other = CommandVerifier::new(verifier, "prod".parse().unwrap());
    let misled = other.verify(&answer.orders[0], Timestamp::now());
    assert!(matches!(misled, Err(CommandError::Cluster(_))), "{misled:?}");
    // It did not hear that: the same order, newly signed.
    let again = agent.stand(agent.report(5)).await.unwrap().orders.remove(0);
    let again = commands.verify(&again, Timestamp::now()).unwrap();
    assert!(again.id == command.id && again.revision > command.revision);

    let wish = format!("taint-hub-{}", command.id);
    let taken = TrustReport { wish: wish.clone(), ..agent.report(5) };
    assert!(agent.stand(taken).await.unwrap().orders.is_empty());
    assert_eq!(cluster.progress(1).await, RotationProgress::Taken);
    let next = certified(&mut agent.client, prepared()).await;
    let first = std::mem::replace(&mut agent.authority, next);
    let begun = |agent: &Agent, sequence, stages: &[Stage]| {
        let own = [agent.authority.anchor_der(), first.anchor_der()];
        let both = [&agent.authority, &first];
        let mut authorities = Vec::new();
        for (index, stage) in stages.iter().enumerate() {
            authorities.push(AuthorityReport {
                certificate: both[index].certificate_der().to_vec(),
                anchor: own[index].to_vec(),
                ..agent.told(*stage)
            });
        }
        TrustReport {
            authorities,
            bundle: bundle(&both[..stages.len()], &agent.jwt, sequence),
            wish: wish.clone(),
            rotated: wish.clone(),
            ..agent.report(sequence)
        }
    };
    for (sequence, stages, progress) in [
        (7, &[Stage::Certified, Stage::Active][..], RotationProgress::Prepared),
        (8, &[Stage::Active, Stage::Tainted], RotationProgress::Activated),
        (9, &[Stage::Active], RotationProgress::Done),
    ] {
        let report = begun(&agent, sequence, stages);
        assert!(agent.stand(report).await.unwrap().orders.is_empty());
        assert_eq!(cluster.progress(1).await, progress);
    }
    let events = cluster.events_of(AuditKind::Rotate).await;
    let outcomes: Vec<_> = events.iter().map(|event| event.outcome).collect();
    use AuditOutcome::{Begun, Done};
    assert_eq!(outcomes, [Begun, Begun, Begun, Done]);
}

#[tokio::test]
async fn an_order_that_nobody_took_in_time_is_not_given_any_more() {
    let cluster = Joined::start().await;
    let mut agent = Agent::of(&cluster).await;
    agent.stand(agent.report(5)).await.unwrap();
    cluster.orders(1, RotationMode::Revoke, -1).await;
    assert!(agent.stand(agent.report(5)).await.unwrap().orders.is_empty());
    assert_eq!(cluster.progress(1).await, RotationProgress::Lapsed);
    // Somebody in the cluster wishes something else while one is under way.
    cluster.orders(2, RotationMode::Taint, 3_600).await;
    let taken = format!("taint-hub-{}", CommandId::from_bits(2));
    agent.stand(TrustReport { wish: taken, ..agent.report(5) }).await.unwrap();
    agent.stand(TrustReport { wish: "mine".to_owned(), ..agent.report(5) }).await.unwrap();
    assert_eq!(cluster.progress(2).await, RotationProgress::Replaced);
}

#[tokio::test]
async fn a_cluster_that_tells_without_end_is_not_heard_without_end() {
    let cluster = Joined::start().await;
    let mut agent = Agent::of(&cluster).await;
    let mut heard = 0;
    for _ in 0..2 * super::super::REPORTS_AT_ONCE {
        match agent.stand(agent.report(5)).await {
            Ok(_) => heard += 1,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
    let at_once = super::super::REPORTS_AT_ONCE;
    assert!((at_once..2 * at_once).contains(&heard), "{heard}");
}

#[tokio::test]
async fn an_agent_is_told_what_its_tokens_say_of_their_issuer_until_it_keeps_that() {
    let cluster = Joined::start().await;
    let hub = &cluster.lab.hub;
    let mut agent = Agent::of(&cluster).await;
    let kept = std::mem::replace(&mut agent.beside, token_hash(""));
    cluster.orders_after(&mut agent).await;
    let answer = agent.stand(agent.report(5)).await.unwrap();
    let offline = hub.keys().offline_public().parse().unwrap();
    let verifier = Arc::new(Verifier::new(offline, 0).unwrap());
    verifier.install(&answer.key_set).unwrap();
    let commands = CommandVerifier::new(verifier, cluster.lab.cluster.clone());
    // Whoever hears both takes both.
    let [beside, rotation] = &answer.orders[..] else { panic!("{answer:?}") };
    let beside = commands.verify(beside, Timestamp::now()).unwrap().order;
    let rotation = commands.verify(rotation, Timestamp::now()).unwrap().order;
    assert_eq!(rotation, Order::Rotate { mode: RotationMode::Taint });
    let Order::Federate(beside) = beside else { panic!("{beside:?}") };
    assert_eq!(beside.issuer.as_ref().unwrap(), &format!("{}/v1/trust/{DOMAIN}", hub.origin()));
    assert!(beside.bundles.is_empty());
    assert_eq!(token_hash(&beside.to_text()), kept);
    agent.beside = kept;
    assert_eq!(agent.stand(agent.report(5)).await.unwrap().orders.len(), 1, "the rotation");
    // One of before this was told would not know the order.
    agent.beside.clear();
    assert_eq!(agent.stand(agent.report(5)).await.unwrap().orders.len(), 1);
}

impl Joined {
    /// A rotation waits for an agent that has told how it stands.
    async fn orders_after(&self, agent: &mut Agent) {
        agent.stand(agent.report(5)).await.unwrap();
        self.orders(1, RotationMode::Taint, 3_600).await;
    }
}

#[tokio::test]
async fn clusters_of_a_federation_are_given_each_others_bundles_and_nobody_elses() {
    let cluster = Joined::start().await;
    let hub = &cluster.lab.hub;
    let mut agent = Agent::of(&cluster).await;
    agent.stand(agent.report(5)).await.unwrap();
    // Two others, of which one is a friend.
    for name in ["prod", "west"] {
        cluster.brings_in(name).await;
    }
    assert!(agent.stand(agent.report(5)).await.unwrap().orders.is_empty(), "nobody is a friend");
    let clusters = ["dev", "prod"].map(|name| name.parse().unwrap()).into();
    let spec = FederationSpec { clusters, ..FederationSpec::default() };
    let made = cluster.creates(AnyObject::Federation(object("shops", spec))).await;
    let offline = hub.keys().offline_public().parse().unwrap();
    let verifier = Arc::new(Verifier::new(offline, 0).unwrap());
    let commands = CommandVerifier::new(Arc::clone(&verifier), cluster.lab.cluster.clone());
    let told = |answer: TrustAnswer| {
        verifier.install(&answer.key_set).unwrap();
        let [order] = &answer.orders[..] else { panic!("{answer:?}") };
        let command = commands.verify(order, Timestamp::now()).unwrap();
        let Order::Federate(beside) = command.order else { panic!("{:?}", command.order) };
        beside
    };
    let beside = told(agent.stand(agent.report(5)).await.unwrap());
    let known: Vec<_> = beside.bundles.iter().map(|(of, text)| (of.as_str(), &**text)).collect();
    assert_eq!(known, [("prod.nullius.internal", r#"{"keys":[]}"#)]);
    assert!(beside.issuer.is_some());
    // Once it has them it is told nothing more.
    let alone = std::mem::replace(&mut agent.beside, token_hash(&beside.to_text()));
    assert!(agent.stand(agent.report(5)).await.unwrap().orders.is_empty());
    // A friend that is locked is none.
    let target = LockTarget::Cluster("prod".parse().unwrap());
    let lock = LockSpec { target, message: None, expires: None };
    let lock = cluster.creates(AnyObject::Lock(object("stop", lock))).await;
    let beside = told(agent.stand(agent.report(5)).await.unwrap());
    assert!(beside.bundles.is_empty());
    assert_eq!(token_hash(&beside.to_text()), alone);
    cluster.deletes(&lock).await;
    assert!(agent.stand(agent.report(5)).await.unwrap().orders.is_empty());
    // And with the federation the bundle goes.
    cluster.deletes(&made).await;
    assert!(told(agent.stand(agent.report(5)).await.unwrap()).bundles.is_empty());
}

#[tokio::test]
async fn what_a_cluster_keeps_is_noted_and_an_agent_of_before_is_told_what_it_knows() {
    let cluster = Joined::start().await;
    let hub = &cluster.lab.hub;
    let mut agent = Agent::of(&cluster).await;
    cluster.brings_in("prod").await;
    let clusters = ["dev", "prod"].map(|name| name.parse().unwrap()).into();
    let spec = FederationSpec { clusters, ..FederationSpec::default() };
    cluster.creates(AnyObject::Federation(object("shops", spec))).await;
    let offline = hub.keys().offline_public().parse().unwrap();
    let verifier = Arc::new(Verifier::new(offline, 0).unwrap());
    let commands = CommandVerifier::new(Arc::clone(&verifier), cluster.lab.cluster.clone());
    let told = |answer: &TrustAnswer| {
        verifier.install(&answer.key_set).unwrap();
        let order = answer.orders.first().unwrap();
        match commands.verify(order, Timestamp::now()).unwrap().order {
            Order::Federate(beside) => beside,
            other => panic!("{other:?}"),
        }
    };
    let prod: TrustDomain = "prod.nullius.internal".parse().unwrap();
    let now = told(&agent.stand(agent.report(5)).await.unwrap());
    assert!(now.ends.contains_key(&prod), "it ends though the hub is away");
    // One of before refuses what it does not know.
    let older = |agent: &Agent| TrustReport { beside_form: 0, ..agent.report(5) };
    let before = told(&agent.stand(older(&agent)).await.unwrap());
    assert!(before.ends.is_empty() && before.bundles == now.bundles);
    let kept = async || {
        let mut reader = hub.store().read().await.unwrap();
        reader.trust().kept(&cluster.lab.cluster).await.unwrap().unwrap().kept
    };
    assert_eq!(kept().await, None, "it does not say");
    agent.beside = token_hash(&before.to_text());
    assert!(agent.stand(older(&agent)).await.unwrap().orders.is_empty());
    let digest = "0123456789abcdef".to_owned();
    agent.kept = vec![KeptBundle { trust_domain: prod.to_string(), digest: digest.clone() }];
    agent.beside = token_hash(&now.to_text());
    assert!(agent.stand(agent.report(5)).await.unwrap().orders.is_empty());
    assert_eq!(kept().await, Some([(prod.clone(), digest)].into()));
    let events = cluster.events_of(AuditKind::Certify).await;
    let said: Vec<_> = events.iter().filter_map(|it| it.facts.get("believed")).collect();
    assert_eq!(said, ["prod.nullius.internal=0123456789ab"]);
    for (domain, digest) in [("", "00"), ("a/b", "00"), ("a.example", "\u{1b}[2J")] {
        let lie = KeptBundle { trust_domain: domain.to_owned(), digest: digest.to_owned() };
        let refused = agent.stand(TrustReport { kept: vec![lie], ..agent.report(5) }).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    let many = vec![KeptBundle::default(); KEPT + 1];
    let refused = agent.stand(TrustReport { kept: many, ..agent.report(5) }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

fn object<S, T>(name: &str, spec: S) -> Object<S, T> {
    Object { metadata: ObjectMeta::named(name.parse().unwrap()), spec, status: None }
}

impl Joined {
    async fn creates(&self, object: AnyObject) -> AnyObject {
        let hub = &self.lab.hub;
        let mut tx = hub.store().begin().await.unwrap();
        let made = tx.objects().create(&object, hub.now()).await.unwrap();
        tx.commit().await.unwrap();
        hub.reload().await.unwrap();
        made
    }

    async fn deletes(&self, object: &AnyObject) {
        let hub = &self.lab.hub;
        let mut tx = hub.store().begin().await.unwrap();
        let (kind, name) = (object.kind(), object.name().as_str());
        tx.objects().delete(kind, name, &Default::default(), hub.now()).await.unwrap();
        tx.commit().await.unwrap();
        hub.reload().await.unwrap();
    }

    /// A cluster whose agent told of a bundle without keys.
    async fn brings_in(&self, name: &str) {
        let hub = &self.lab.hub;
        let made = AnyObject::Cluster(object(name, ClusterSpec::default()));
        let made = self.creates(made).await;
        let told = ToldTrust {
            since: hub.now(),
            authorities: Vec::new(),
            bundle: Some(r#"{"keys":[]}"#.to_owned()),
            wish: String::new(),
            rotated: String::new(),
        };
        let standing = TrustStanding {
            cluster: name.parse().unwrap(),
            uid: made.metadata().uid.clone().unwrap(),
            trust_domain: format!("{name}.nullius.internal").parse().unwrap(),
            sequence: 1,
            told,
            told_at: hub.now(),
        };
        let mut tx = hub.store().begin().await.unwrap();
        tx.trust().put_standing(&standing).await.unwrap();
        tx.commit().await.unwrap();
    }
}
