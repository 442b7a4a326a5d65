//! An agent beside a kubeconfig: joined, attached, serving a session on the real API server, and its faults.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::StatusCode;
use http_body_util::BodyExt as _;
use nullius_agent::{AgentError, BesideSettings, TunnelCount, run_beside};
use nullius_model::{Ceiling, Order, SessionPlan};
use nullius_proto::agent_v1::{
    self as wire, agent_message::Kind as FromAgent, hub_message::Kind as ToAgent,
};
use nullius_testkit::TestNamespace;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{JOIN_TOKEN, PATIENCE, TestHub, cluster, objects},
    plane::{CEILING, Plane, left_of, plan, plane, pods_reader},
};

/// A running agent.
struct Running {
    task: JoinHandle<Result<(), AgentError>>,
    shutdown: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends in time").unwrap().unwrap();
    }

    /// As SIGKILL would: nothing is finished.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn settings(plane: &Plane, hub: &TestHub, join_token: Option<&str>) -> BesideSettings {
    BesideSettings {
        cluster: cluster(),
        ceiling: Ceiling::try_from(CEILING.to_owned()).unwrap(),
        hub: hub.settings(),
        kubeconfig: plane.cluster.kubeconfig().to_owned(),
        context: None,
        join_token: join_token.map(SecretString::from),
        tunnels: TunnelCount::default(),
        drain: Duration::from_secs(30),
        health: None,
    }
}

fn start(plane: &Plane, hub: &TestHub, join_token: Option<&str>) -> Running {
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run_beside(settings(plane, hub, join_token), shutdown.clone()));
    Running { task, shutdown }
}

/// A joined agent with a session that may read pods in a namespace of the test's own.
struct Scene {
    plane: Plane,
    hub: Arc<TestHub>,
    agent: Running,
    namespace: TestNamespace,
    plan: SessionPlan,
}

impl Scene {
    async fn new() -> Option<Self> {
        let plane = plane().await?;
        let hub = TestHub::start().await;
        let agent = start(&plane, &hub, Some(JOIN_TOKEN));
        hub.hello().await;
        // As the hub does first: what an earlier run left does not live.
        hub.order(Order::Live { sessions: [].into() }).await;
        hub.forget();
        hub.wait_for_tunnels(2).await;
        let namespace = plane.namespace();
        let plan = plan([pods_reader(Some(namespace.name()))]);
        let ready = hub.order(Order::Ensure(plan.clone())).await;
        assert_eq!(objects(&ready).len(), 3, "{ready:?}");
        Some(Self { plane, hub, agent, namespace, plan })
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace.name())
    }

    async fn get(&self, target: &str) -> (StatusCode, String) {
        self.hub.get(&self.plan.session, 1, target).await
    }

    /// With what a hub has on record.
    async fn flush_with(&self, objects: BTreeMap<String, String>) -> FromAgent {
        self.hub.order(Order::Flush { session: self.plan.session.clone(), objects }).await
    }

    async fn flush(&self) -> FromAgent {
        self.flush_with([].into()).await
    }
}

#[tokio::test]
async fn a_session_works_through_the_tunnel_as_itself_until_it_is_flushed() {
    let Some(scene) = Scene::new().await else { return };
    let (status, body) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("PodList"), "{body}");
    // The hub permits everything here; Kubernetes knows the session's account and its rights.
    let (status, body) = scene.get("/api/v1/namespaces/default/pods").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let account = format!("system:serviceaccount:nullius-sessions:session-{}", scene.plan.session);
    assert!(body.contains(&account), "{body}");

    let watch = format!("{}?watch=true", scene.pods());
    let watching = scene.hub.ask(&scene.plan.session, 1, &watch).await;
    assert_eq!(watching.status(), StatusCode::OK);
    let flushed = scene.flush().await;
    assert_eq!(objects(&flushed).len(), 3, "{flushed:?}");
    // By itself it would end much later.
    let cut = tokio::time::timeout(Duration::from_secs(20), watching.into_body().collect()).await;
    assert!(cut.expect("the watch is cut at once").is_err());
    let (status, body) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert_eq!(left_of(&scene.plane, &scene.plan.session), "");
    let again = scene.hub.order(Order::Ensure(scene.plan.clone())).await;
    assert!(matches!(again, FromAgent::CommandFailed(failed) if failed.refused));
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_the_hub_has_on_record_goes_by_its_uid_and_is_named_whoever_removed_it() {
    let Some(scene) = Scene::new().await else { return };
    let session = &scene.plan.session;
    let namespace = scene.namespace.name();
    let admin = &scene.plane.admin;
    let before: BTreeMap<String, String> =
        objects(&scene.hub.order(Order::Ensure(scene.plan.clone())).await).into_iter().collect();
    // One binding went by another's hand; of a second one that is recorded nothing is left; a third is none of ours.
    let mine = before.keys().find(|object| object.starts_with("RoleBinding/")).unwrap();
    let name = mine.rsplit('/').next().unwrap();
    admin.ok(&["-n", namespace, "delete", "rolebinding", name]).unwrap();
    let mut recorded = before.clone();
    let lost = format!("RoleBinding/{namespace}/nullius:session:{session}:lost");
    recorded.insert(lost.clone(), "uid-lost".into());
    recorded.insert(format!("RoleBinding/{namespace}/others"), "uid-others".into());
    let flushed: BTreeMap<String, String> =
        objects(&scene.flush_with(recorded).await).into_iter().collect();
    let mut expected = before;
    expected.insert(lost, "uid-lost".into());
    assert_eq!(flushed, expected, "what is none of the session's is not touched and not named");
    assert_eq!(left_of(&scene.plane, session), "");
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_the_agents_own_accounts_may_never_goes_with_a_request() {
    let Some(scene) = Scene::new().await else { return };
    // The provisioner may list these; the session may not.
    for target in [
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "/api/v1/namespaces/nullius-sessions/serviceaccounts",
    ] {
        let (status, body) = scene.get(target).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        assert!(body.contains(":nullius-sessions:session-"), "{body}");
    }
    scene.agent.stop().await;
}

#[tokio::test]
async fn the_end_takes_back_what_sessions_had() {
    let Some(scene) = Scene::new().await else { return };
    scene.agent.stop().await;
    assert_eq!(left_of(&scene.plane, &scene.plan.session), "");
}

#[tokio::test]
async fn a_killed_agent_comes_back_without_a_token_and_clears_what_does_not_live() {
    let Some(mut scene) = Scene::new().await else { return };
    let gone = plan([pods_reader(None)]);
    scene.hub.order(Order::Ensure(gone.clone())).await;
    scene.agent.kill().await;
    assert_ne!(left_of(&scene.plane, &scene.plan.session), "", "nothing was finished");
    scene.hub.forget();

    scene.agent = start(&scene.plane, &scene.hub, None);
    let hello = scene.hub.hello().await;
    let mut standing = hello.sessions.clone();
    standing.sort();
    let mut expected = vec![scene.plan.session.to_string(), gone.session.to_string()];
    expected.sort();
    assert_eq!(standing, expected);
    assert_eq!(hello.key_set_revision, 5);
    let live = Order::Live { sessions: [scene.plan.session.clone()].into() };
    let answer = scene.hub.order(live).await;
    assert_eq!(objects(&answer).len(), 3, "{answer:?}");
    let told = scene.hub.hear(|kind| match kind {
        FromAgent::SessionFlushed(flushed) if flushed.session == gone.session.to_string() => {
            Some(())
        }
        _ => None,
    });
    told.await;
    assert_eq!(left_of(&scene.plane, &gone.session), "");
    assert_ne!(left_of(&scene.plane, &scene.plan.session), "", "what lives stays");
    scene.hub.wait_for_tunnels(2).await;
    let (status, body) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::OK, "the session goes on: {body}");
    scene.agent.stop().await;
}

#[tokio::test]
async fn an_order_that_is_not_the_hubs_or_not_new_is_refused_with_an_alarm() {
    let Some(scene) = Scene::new().await else { return };
    let flush = Order::Flush { session: scene.plan.session.clone(), objects: [].into() };
    let send = async |jws: String| {
        scene.hub.send(ToAgent::Command(wire::Command { jws, heed_only: false })).await;
        let detail = scene.hub.alarm("refused-command").await;
        scene.hub.forget();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        detail
    };
    let (_, old) = scene.hub.command(Order::Ensure(scene.plan.clone()));
    scene.hub.order(Order::Ensure(scene.plan.clone())).await;
    assert!(send(old).await.contains("was accepted before"));
    let (_, good) = scene.hub.command(flush);
    let (header, rest) = good.split_once('.').unwrap();
    let forged = format!(
        "{header}.{}",
        rest.replacen(&rest[10..11], if &rest[10..11] == "A" { "B" } else { "A" }, 1)
    );
    assert!(send(forged).await.contains("refused"));
    let (status, _) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::OK, "nothing was done");
    scene.hub.send(ToAgent::KeySet(wire::KeySet { jws: scene.hub.key_set(4) })).await;
    assert!(scene.hub.alarm("refused-key-set").await.contains("older"));
    scene.agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_does_not_hear_its_hub_refuses_everybody() {
    let Some(scene) = Scene::new().await else { return };
    // A new connection takes the shorter lease.
    scene.hub.lease_seconds.store(3, Ordering::SeqCst);
    scene.hub.forget();
    scene.hub.send(ToAgent::Drain(wire::Drain { seconds: 1 })).await;
    assert_eq!(scene.hub.hello().await.epoch, 2);
    scene.hub.hears.store(false, Ordering::SeqCst);
    let refused = async {
        loop {
            let (status, body) = scene.get(&scene.pods()).await;
            if status == StatusCode::SERVICE_UNAVAILABLE && body.contains("has not heard its hub") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // The lease that was held before runs out first.
    tokio::time::timeout(PATIENCE, refused).await.expect("it refuses");
    scene.hub.hears.store(true, Ordering::SeqCst);
    let back = async {
        while scene.get(&scene.pods()).await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it serves again");
    scene.agent.stop().await;
}

#[tokio::test]
async fn certificates_rotate_while_a_watch_goes_on() {
    let Some(plane) = plane().await else { return };
    let hub = TestHub::start().await;
    hub.certificate_seconds.store(8, Ordering::SeqCst);
    let agent = start(&plane, &hub, Some(JOIN_TOKEN));
    hub.hello().await;
    hub.wait_for_tunnels(2).await;
    let namespace = plane.namespace();
    let plan = plan([pods_reader(Some(namespace.name()))]);
    hub.order(Order::Ensure(plan.clone())).await;
    let target = format!("/api/v1/namespaces/{}/pods?watch=true", namespace.name());
    let mut watching = hub.ask(&plan.session, 1, &target).await.into_body();
    hub.certificate_seconds.store(600, Ordering::SeqCst);
    hub.hear(|kind| match kind {
        FromAgent::Hello(hello) if hello.epoch >= 2 => Some(()),
        _ => None,
    })
    .await;
    let renewed = async {
        while !hub.tunnels.agents(&cluster()).iter().any(|view| view.epoch >= 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("tunnels are replaced");
    let (status, _) = hub.get(&plan.session, 1, &target.replace("?watch=true", "")).await;
    assert_eq!(status, StatusCode::OK);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: seen, namespace: {}}}\nspec: {{containers: [{{name: x, image: x}}]}}",
        namespace.name()
    );
    plane.admin.apply(&pod).unwrap();
    let event = tokio::time::timeout(PATIENCE, watching.frame()).await;
    assert!(event.expect("the watch goes on").unwrap().is_ok());
    drop(watching);
    agent.stop().await;
}

#[tokio::test]
async fn without_a_good_join_token_the_agent_says_so_and_ends() {
    let Some(plane) = plane().await else { return };
    let hub = TestHub::start().await;
    let wrong = start(&plane, &hub, Some("wrong"));
    let error = wrong.task.await.unwrap().unwrap_err();
    assert!(error.chain().contains("the join token is wrong"), "{}", error.chain());
    let none = start(&plane, &hub, None);
    let error = none.task.await.unwrap().unwrap_err();
    assert!(error.chain().contains("nullius cluster add"), "{}", error.chain());
}

#[tokio::test]
async fn a_hub_that_is_not_the_pinned_one_gets_nothing() {
    let Some(plane) = plane().await else { return };
    let (hub, other) = (TestHub::start().await, TestHub::start().await);
    let mut settings = settings(&plane, &hub, Some(JOIN_TOKEN));
    settings.hub.addresses = other.settings().addresses;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run_beside(settings, shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running.is_finished(), "it goes on trying");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(other.tunnels.agents(&cluster()).is_empty());
}

#[tokio::test]
async fn a_tunnel_stands_only_when_requests_on_it_are_served() {
    let Some(plane) = plane().await else { return };
    let hub = TestHub::start().await;
    hub.welcome_millis.store(1_500, Ordering::SeqCst);
    let agent = start(&plane, &hub, Some(JOIN_TOKEN));
    hub.hello().await;
    hub.wait_for_tunnels(2).await;
    let arrivals = hub.arrivals.lock().unwrap().clone();
    assert_eq!(arrivals[0], "welcome", "a tunnel stood before the agent had a lease: {arrivals:?}");
    agent.stop().await;
}

#[tokio::test]
async fn without_a_policy_no_session_is_made_until_it_is_back() {
    let Some(scene) = Scene::new().await else { return };
    let state = async |unguarded: bool| {
        let told = scene.hub.hear(|kind| match kind {
            FromAgent::State(state) if state.unguarded.is_empty() != unguarded => {
                Some(state.unguarded.clone())
            }
            _ => None,
        });
        told.await
    };
    // The scene's session was made, so every policy answered.
    scene.hub.forget();
    let binding = ["delete", "validatingadmissionpolicybinding", "nullius-bindings"];
    scene.plane.admin.ok(&binding).unwrap();
    let why = state(true).await;
    assert!(why.contains("`nullius-bindings`") && why.contains("kubectl apply"), "{why}");
    assert_eq!(scene.hub.alarm("unguarded").await, why);

    let another = plan([pods_reader(Some(scene.namespace.name()))]);
    let answer = scene.hub.order(Order::Ensure(another.clone())).await;
    let FromAgent::CommandFailed(failed) = answer else { panic!("{answer:?}") };
    assert!(!failed.refused, "trying again helps, once it is back");
    assert_eq!(failed.message, why);
    assert_eq!(left_of(&scene.plane, &another.session), "");
    let (status, body) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::OK, "what stands goes on: {body}");
    let narrower = scene.hub.order(Order::Ensure(scene.plan.clone())).await;
    assert_eq!(objects(&narrower).len(), 3);

    scene.hub.forget();
    scene.plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    state(false).await;
    let answer = scene.hub.order(Order::Ensure(another)).await;
    assert_eq!(objects(&answer).len(), 3, "{answer:?}");
    scene.agent.stop().await;
}

#[tokio::test]
async fn an_old_join_token_is_deleted_by_an_agent_that_has_joined() {
    let Some(scene) = Scene::new().await else { return };
    let of_join = ["-n", "nullius-system", "get", "secret", "nullius-join", "--ignore-not-found"];
    let make = ["-n", "nullius-system", "create", "secret", "generic", "nullius-join"];
    scene.agent.stop().await;
    scene.plane.admin.ok(&[&make[..], &["--from-literal=token=used"]].concat()).unwrap();
    scene.hub.forget();
    let agent = start(&scene.plane, &scene.hub, Some("used"));
    scene.hub.hello().await;
    assert_eq!(scene.plane.admin.ok(&of_join).unwrap(), "");
    agent.stop().await;
}

#[tokio::test]
async fn of_two_replicas_one_leads_and_the_other_takes_over_when_it_is_killed() {
    let Some(scene) = Scene::new().await else { return };
    let term = async |above: u64| {
        let led = scene.hub.hear(|kind| match kind {
            FromAgent::State(state) if state.term > above => Some(state.term),
            _ => None,
        });
        led.await
    };
    let first = term(0).await;
    scene.hub.forget();
    let second = start(&scene.plane, &scene.hub, None);
    scene.hub.hello().await;
    scene.hub.wait_for_tunnels(4).await;
    // Another session, made by the one that leads, and half of one that somebody began.
    let made = plan([pods_reader(Some(scene.namespace.name()))]);
    assert_eq!(objects(&scene.hub.order(Order::Ensure(made.clone())).await).len(), 3);
    let begun = scene.plane.half_made().await;
    let holder = || {
        let lease = ["-n", "nullius-system", "get", "lease", "nullius-agent-control", "-o"];
        let spec = "jsonpath={.spec.holderIdentity} {.spec.leaseTransitions}";
        scene.plane.admin.ok(&[&lease[..], &[spec]].concat()).unwrap()
    };
    let held = holder();
    // The term is that count above the second in which the Lease was made.
    let born = ["-n", "nullius-system", "get", "lease", "nullius-agent-control", "-o"];
    let born = [&born[..], &["jsonpath={.metadata.creationTimestamp}"]].concat();
    let born: jiff::Timestamp = scene.plane.admin.ok(&born).unwrap().parse().unwrap();
    let transitions = first.checked_sub(u64::try_from(born.as_second()).unwrap() << 20).unwrap();
    assert!(held.ends_with(&format!(" {transitions}")), "{held}");
    // Requests through either are served, also of a session that only one of them made.
    for _ in 0..8 {
        let (status, body) = scene.hub.get(&made.session, 1, &scene.pods()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    assert_eq!(holder(), held, "the other one waits");

    let Scene { plane, hub, agent, namespace, .. } = scene;
    let killed = jiff::Timestamp::now();
    agent.kill().await;
    let led = hub.hear(|kind| match kind {
        FromAgent::State(state) if state.term > first => Some(state.term),
        _ => None,
    });
    assert_eq!(led.await, first + 1);
    let lease = ["-n", "nullius-system", "get", "lease", "nullius-agent-control", "-o"];
    let acquired = [&lease[..], &["jsonpath={.spec.acquireTime}"]].concat();
    let acquired: jiff::Timestamp = plane.admin.ok(&acquired).unwrap().parse().unwrap();
    let took = acquired.duration_since(killed);
    assert!(took.as_secs() < 17, "{took:#}");
    assert_eq!(left_of(&plane, &begun), "", "what was half made is cleared by who leads");
    let flush = Order::Flush { session: made.session.clone(), objects: [].into() };
    assert_eq!(objects(&hub.order(flush).await).len(), 3);
    assert_eq!(left_of(&plane, &made.session), "");
    let path = format!("/api/v1/namespaces/{}/pods", namespace.name());
    let (status, _) = hub.get(&made.session, 1, &path).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    second.stop().await;
    let spec = plane.admin.ok(&[&lease[..], &["jsonpath={.spec.holderIdentity}"]].concat());
    assert_eq!(spec.unwrap(), "", "who stops gives way at once");
}

/// What this thread's tasks say at level WARN or worse.
#[derive(Clone, Default)]
struct Warnings(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("nullius")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_no_warning() {
    let Some(scene) = Scene::new().await else { return };
    let (status, _) = scene.get(&scene.pods()).await;
    assert_eq!(status, StatusCode::OK);
    let warnings = Warnings::default();
    let _heard = tracing::subscriber::set_default(warnings.clone());
    // As in `nullius up`: the hub says that it goes as well.
    scene.hub.send(ToAgent::Drain(wire::Drain { seconds: 1 })).await;
    scene.agent.stop().await;
    assert_eq!(*warnings.0.lock().unwrap(), Vec::<String>::new());
}
