#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use nullius_model::{KeySet, Ttl};
use nullius_pki::{KeySetSigner, Signer, connection_id, path_hash, random_bits};
use nullius_rbac::RequestInfo;
use nullius_tunnel::Refusal;
use secrecy::ExposeSecret;

use super::*;

const EXPORTER: [u8; 32] = [7; 32];
const PATH: &str = "/api/v1/namespaces/shop/pods?limit=5";

/// Hands out numbered tokens, or does what it is told.
#[derive(Default)]
struct Control {
    asked: AtomicUsize,
    fails: Mutex<Option<NotHanded>>,
    seconds: Mutex<u32>,
}

impl Issuer for Control {
    fn issue<'a>(
        &'a self,
        _: &'a RequestAssertion,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Handed, NotHanded>> + Send + 'a>> {
        Box::pin(async move {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if let Some(error) = self.fails.lock().unwrap().clone() {
                return Err(error);
            }
            let life = Ttl::from_secs(*self.seconds.lock().unwrap());
            let expires_at = life.after(Timestamp::now());
            Ok(Handed { token: SecretString::from(format!("token-{number}")), expires_at })
        })
    }
}

struct World {
    gate: Arc<SessionGate>,
    control: Arc<Control>,
    lease: Lease,
    signer: Signer,
    raised: tokio::sync::mpsc::Receiver<nullius_proto::agent_v1::Alarm>,
}

impl World {
    fn new() -> Self {
        let offline = KeySetSigner::generate().unwrap();
        let signer = Signer::generate().unwrap();
        let now = Timestamp::now();
        let (kid, key) = signer.entry(now, Ttl::from_secs(3_600).after(now));
        let verifier = Arc::new(Verifier::new(offline.public(), 0).unwrap());
        let set = KeySet { revision: 1, keys: BTreeMap::from([(kid, key)]) };
        verifier.install(&offline.sign(&set)).unwrap();
        let control = Arc::new(Control { seconds: Mutex::new(600), ..Control::default() });
        let lease = Lease::new();
        lease.extend(Instant::now(), Duration::from_secs(60));
        let meters = Meters::new();
        let (alarms, raised) = Alarms::new(meters.clone());
        let gate = Arc::new(SessionGate::new(
            "dev".parse().unwrap(),
            verifier,
            lease.clone(),
            Arc::clone(&control) as Arc<dyn Issuer>,
            alarms,
            meters,
        ));
        Self { gate, control, lease, signer, raised }
    }

    fn assertion(&self) -> RequestAssertion {
        let now = Timestamp::now().as_second();
        RequestAssertion {
            aud: "dev".parse().unwrap(),
            iat: now,
            exp: now + 30,
            jti: format!("{:032x}", random_bits()),
            sub: "ada".parse().unwrap(),
            sid: SessionId::from_bits(1),
            perm: None,
            plan: 1,
            method: "GET".into(),
            path: path_hash(PATH),
            upgrade: None,
            conn: connection_id(&EXPORTER),
        }
    }

    async fn present(&self, assertion: &RequestAssertion) -> Result<String, Refusal> {
        self.present_text(&self.signer.sign_request(assertion)).await
    }

    async fn present_text(&self, text: &str) -> Result<String, Refusal> {
        let request = RequestInfo::parse("GET", PATH).unwrap();
        let presented =
            Presented { assertion: text, request: &request, upgrade: None, exporter: &EXPORTER };
        let admission = self.gate.admit(presented).await?;
        Ok(admission.credential.expose_secret().to_owned())
    }
}

#[tokio::test]
async fn one_token_serves_all_requests_of_a_session_until_its_plan_changes() {
    let world = World::new();
    assert_eq!(world.present(&world.assertion()).await.unwrap(), "token-0");
    assert_eq!(world.present(&world.assertion()).await.unwrap(), "token-0");
    let mut newer = world.assertion();
    newer.plan = 2;
    assert_eq!(world.present(&newer).await.unwrap(), "token-1");
    assert_eq!(world.present(&world.assertion()).await.unwrap(), "token-1");
    let mut other = world.assertion();
    other.sid = SessionId::from_bits(2);
    assert_eq!(world.present(&other).await.unwrap(), "token-2");
}

#[tokio::test]
async fn many_first_requests_ask_control_once() {
    let world = World::new();
    let assertions: Vec<_> = (0..20).map(|_| world.assertion()).collect();
    let all = futures::future::join_all(assertions.iter().map(|a| world.present(a))).await;
    assert!(all.into_iter().all(|token| token.unwrap() == "token-0"));
    assert_eq!(world.control.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_not_exactly_this_request_on_this_connection_is_refused_with_an_alarm() {
    type Change = fn(&mut RequestAssertion);
    let changes: [(&str, Change); 6] = [
        ("another cluster", |a| a.aud = "prod".parse().unwrap()),
        ("another path", |a| a.path = path_hash("/api/v1/secrets")),
        ("another method", |a| a.method = "DELETE".into()),
        ("an upgrade", |a| a.upgrade = Some("websocket".into())),
        ("another connection", |a| a.conn = connection_id(&[8; 32])),
        ("a long life", |a| a.exp = a.iat + 3_600),
    ];
    for (what, change) in changes {
        let mut world = World::new();
        let mut assertion = world.assertion();
        change(&mut assertion);
        let refusal = world.present(&assertion).await.unwrap_err();
        assert_eq!(refusal.code(), 403, "{what}");
        assert_eq!(world.raised.recv().await.unwrap().what, "refused-assertion", "{what}");
        assert_eq!(world.control.asked.load(Ordering::SeqCst), 0, "{what}");
    }
}

#[tokio::test]
async fn a_replay_and_a_forgery_are_refused_with_an_alarm() {
    let mut world = World::new();
    let text = world.signer.sign_request(&world.assertion());
    world.present_text(&text).await.unwrap();
    assert_eq!(world.present_text(&text).await.unwrap_err().code(), 403);
    assert!(world.raised.recv().await.unwrap().detail.contains("used before"));

    let mut world = World::new();
    let forger = Signer::generate().unwrap();
    let refusal = world.present_text(&forger.sign_request(&world.assertion())).await.unwrap_err();
    assert!(refusal.message().contains("not trusted here"), "{}", refusal.message());
    assert!(world.raised.recv().await.is_some());
    assert!(world.present_text("a.b.c").await.is_err());
}

#[tokio::test]
async fn an_ended_session_is_refused_though_its_token_is_at_hand() {
    let world = World::new();
    world.present(&world.assertion()).await.unwrap();
    world.gate.end(&SessionId::from_bits(1));
    let refusal = world.present(&world.assertion()).await.unwrap_err();
    assert_eq!(refusal.code(), 401);
    assert!(refusal.message().contains("nullius login"));
}

#[tokio::test]
async fn a_session_that_control_calls_ended_is_ended() {
    let world = World::new();
    *world.control.fails.lock().unwrap() = Some(NotHanded::Ended(String::new()));
    assert_eq!(world.present(&world.assertion()).await.unwrap_err().code(), 401);
    *world.control.fails.lock().unwrap() = None;
    assert_eq!(world.present(&world.assertion()).await.unwrap_err().code(), 401);
    assert_eq!(world.control.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_a_lease_nobody_gets_in() {
    let world = World::new();
    world.present(&world.assertion()).await.unwrap();
    let gate = SessionGate { lease: Lease::new(), ..Arc::into_inner(world.gate).unwrap() };
    let world = World { gate: Arc::new(gate), ..world };
    let refusal = world.present(&world.assertion()).await.unwrap_err();
    assert_eq!(refusal.code(), 503);
    assert!(refusal.message().contains("has not heard its hub"), "{}", refusal.message());
    assert!(world.lease.is_held());
}

#[tokio::test]
async fn a_token_that_still_lives_is_used_while_control_is_away() {
    let world = World::new();
    *world.control.seconds.lock().unwrap() = 60;
    world.present(&world.assertion()).await.unwrap();
    let slot = Arc::clone(world.gate.slots().get(&SessionId::from_bits(1)).unwrap());
    let held = slot.held.load_full().unwrap();
    let past = Held {
        handed: held.handed.clone(),
        generation: held.generation,
        renew_at: Timestamp::UNIX_EPOCH,
    };
    slot.held.store(Some(Arc::new(past)));
    *world.control.fails.lock().unwrap() = Some(NotHanded::Unavailable("away".into()));
    assert_eq!(world.present(&world.assertion()).await.unwrap(), "token-0");
    let mut newer = world.assertion();
    newer.plan = 2;
    assert_eq!(world.present(&newer).await.unwrap_err().code(), 503, "not for a newer plan");
    assert_eq!(world.control.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_assertion_of_another_time_is_told_as_a_matter_of_clocks() {
    let mut world = World::new();
    let mut late = world.assertion();
    late.iat -= 120;
    late.exp -= 120;
    let refusal = world.present(&late).await.unwrap_err();
    assert_eq!(refusal.code(), 503);
    assert!(refusal.message().contains("clocks"), "{}", refusal.message());
    assert!(world.raised.try_recv().is_err(), "a clock is no attack");
}
