//! A hub that was taken over, or somebody in its place, speaks to an agent: without an assertion for exactly this
//! request on exactly this connection nothing leaves the agent.

use std::sync::Arc;

use bytes::Bytes;
use h2::{client::SendRequest, ext::Protocol};
use http::{Request, StatusCode};
use nullius_tls::HttpVersions;
use nullius_tunnel::Class;

use crate::{
    api::Api,
    world::{ADA, TestAgent, World},
};

const MINE: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];
const PODS: &str = "/api/v1/namespaces/shop/pods";
const EXEC: &str = "/api/v1/namespaces/shop/pods/p/exec";

/// The hub's end of a connection that an agent serves.
struct Hub {
    requests: SendRequest<Bytes>,
    world: World,
    api: Arc<Api>,
    _agent: TestAgent,
}

impl Hub {
    async fn start() -> Self {
        let api = Api::start(HttpVersions::Either).await;
        let world = World::start().await;
        let agent = world.agent(api.dial(), 7);
        let (near, far) = tokio::io::duplex(256 * 1024);
        agent.agent.serve(far, Class::Small, MINE, 1);
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        // The settings have come when the first answer has.
        let hub = Self { requests, world, api, _agent: agent };
        assert_eq!(
            hub.send(Request::get("https://kubernetes/nullius/hello").body(()).unwrap()).await.0,
            200
        );
        hub
    }

    async fn send(&self, request: Request<()>) -> (u16, String) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, _send) = requests.send_request(request, false).unwrap();
        let Ok(response) = response.await else { return (0, "reset".to_owned()) };
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut text = Vec::new();
        if status != StatusCode::OK.as_u16() {
            while let Some(Ok(data)) = body.data().await {
                text.extend_from_slice(&data);
            }
        }
        (status, String::from_utf8(text).unwrap())
    }

    fn sign(
        &self,
        method: &str,
        target: &str,
        exporter: &[u8; 32],
        upgrade: Option<&str>,
    ) -> String {
        self.world.assert.sign(ADA, method, target, exporter, upgrade)
    }
}

fn ask(method: &str, target: &str, assertion: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://kubernetes{target}"))
        .header("nullius-assertion", assertion)
        .header("audit-id", "a-1")
}

fn exec(assertion: &str, protocol: &'static str) -> http::request::Builder {
    ask("CONNECT", EXEC, assertion).extension(Protocol::from_static(protocol))
}

#[tokio::test]
async fn an_assertion_is_good_for_one_request_on_one_connection_once() {
    let hub = Hub::start().await;
    let good = hub.sign("GET", PODS, &MINE, None);
    assert_eq!(hub.send(ask("GET", PODS, &good).body(()).unwrap()).await.0, 200);
    let replayed = hub.send(ask("GET", PODS, &good).body(()).unwrap()).await;
    assert_eq!(replayed.0, 403);
    assert!(replayed.1.contains("used before"), "{}", replayed.1);
    for (what, request) in [
        ("method", ask("DELETE", PODS, &hub.sign("GET", PODS, &MINE, None))),
        (
            "path",
            ask("GET", "/api/v1/namespaces/shop/secrets", &hub.sign("GET", PODS, &MINE, None)),
        ),
        ("path", ask("GET", &format!("{PODS}?x=1"), &hub.sign("GET", PODS, &MINE, None))),
        ("connection", ask("GET", PODS, &hub.sign("GET", PODS, &OTHER, None))),
        ("upgrade", ask("GET", PODS, &hub.sign("GET", PODS, &MINE, Some("spdy/3.1")))),
        ("refused", ask("GET", PODS, "eyJhbGciOiJub25lIn0.e30.")),
        ("refused", ask("GET", PODS, "")),
    ] {
        let (status, text) = hub.send(request.body(()).unwrap()).await;
        assert_eq!(status, 403, "{what}: {text}");
        assert!(text.contains(what), "{what}: {text}");
    }
    assert_eq!(hub.api.count(), 1);
    assert_eq!(hub.world.gate.refused.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn an_upgrade_needs_an_assertion_for_that_upgrade() {
    let hub = Hub::start().await;
    let upgrade = |assertion: &str| {
        exec(assertion, "nullius-upgrade")
            .header("nullius-method", "POST")
            .header("nullius-upgrade", "SPDY/3.1")
            .body(())
            .unwrap()
    };
    let plain = hub.sign("POST", EXEC, &MINE, None);
    assert_eq!(hub.send(upgrade(&plain)).await.0, 403);
    let other = hub.sign("POST", EXEC, &MINE, Some("websocket"));
    assert_eq!(hub.send(upgrade(&other)).await.0, 403);
    assert_eq!(hub.api.count(), 0);
    let good = hub.sign("POST", EXEC, &MINE, Some("spdy/3.1"));
    assert_eq!(hub.send(upgrade(&good)).await.0, 200);
    let seen = hub.api.last();
    assert_eq!(
        (seen.method.as_str(), &seen.headers["authorization"]),
        ("POST", &"Bearer token-of-ada".parse().unwrap())
    );
    assert_eq!(hub.send(upgrade(&good)).await.0, 403);
}

#[tokio::test]
async fn the_agent_believes_no_header_because_the_hub_sent_it() {
    let hub = Hub::start().await;
    let sign = || hub.sign("GET", PODS, &MINE, None);
    for (name, value, status) in [
        ("impersonate-user", "root", 403),
        ("x-remote-user", "root", 403),
        ("nullius-upgrade", "websocket", 400),
        ("nullius-method", "DELETE", 400),
        ("audit-id", "second", 400),
        ("nullius-assertion", "second", 400),
        ("content-length", "nonsense", 0),
    ] {
        let request = ask("GET", PODS, &sign()).header(name, value).body(()).unwrap();
        let answer = hub.send(request).await;
        let refused = answer.0 == status || (status == 0 && answer.0 == 400);
        assert!(refused, "{name}: {answer:?}");
    }
    assert_eq!(hub.api.count(), 0);
    let request = ask("GET", PODS, &sign())
        .header("authorization", "Bearer of-the-agent-itself")
        .header("cookie", "a=b")
        .header("x-forwarded-user", "root");
    assert_eq!(hub.send(request.body(()).unwrap()).await.0, 200);
    let seen = hub.api.last();
    assert_eq!(crate::client::names(&seen.headers), ["audit-id", "authorization"]);
    assert_eq!(seen.headers["authorization"], "Bearer token-of-ada");
}

#[tokio::test]
async fn what_is_protected_stays_so_even_with_a_right_assertion() {
    let hub = Hub::start().await;
    for (method, target) in [
        ("GET", "/api/v1/namespaces/nullius-sessions/secrets"),
        ("POST", "/api/v1/namespaces/nullius-sessions/serviceaccounts/s/token"),
        ("DELETE", "/api/v1/namespaces/nullius-sessions"),
        ("POST", "/api/v1/namespaces/nullius-system/pods"),
        ("GET", "/api/v1/secrets?limit=500"),
        ("POST", "/api/v1/nodes/n1/proxy/run/nullius-system/agent/agent?cmd=id"),
        ("GET", "/api/v1/nodes/n1/proxy/cri/exec/token"),
        ("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles/nullius:role"),
    ] {
        let assertion = hub.sign(method, target, &MINE, None);
        let (status, text) = hub.send(ask(method, target, &assertion).body(()).unwrap()).await;
        assert_eq!(status, 403, "{method} {target}: {text}");
    }
    for target in ["/api//v1/pods", "/api/v1/%2e%2e/pods", "/api/v1%2Fpods"] {
        let assertion = hub.sign("GET", target, &MINE, None);
        let (status, text) = hub.send(ask("GET", target, &assertion).body(()).unwrap()).await;
        assert_eq!(status, 400, "{target}: {text}");
    }
    assert_eq!(hub.api.count(), 0);
}

#[tokio::test]
async fn nothing_goes_out_without_an_assertion_and_no_other_upgrade_is_carried() {
    let hub = Hub::start().await;
    let bare = Request::get(format!("https://kubernetes{PODS}")).body(()).unwrap();
    assert_eq!(hub.send(bare).await.0, 401);
    let assertion = hub.sign("GET", EXEC, &MINE, Some("websocket"));
    let foreign = exec(&assertion, "websocket")
        .header("nullius-method", "GET")
        .header("nullius-upgrade", "websocket");
    assert_eq!(hub.send(foreign.body(()).unwrap()).await.0, 400);
    let h2c = exec(&assertion, "nullius-upgrade")
        .header("nullius-method", "GET")
        .header("nullius-upgrade", "h2c");
    assert_eq!(hub.send(h2c.body(()).unwrap()).await.0, 400);
    assert_eq!(hub.api.count(), 0);
}
