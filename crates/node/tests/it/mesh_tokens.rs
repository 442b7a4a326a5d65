//! Tokens of callers in the mesh: verified by the keys that the agent tells, and by those that it told before it began anew.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    time::Instant,
};

use nullius_proto::node_v1::{IntentionObject, IntentionOrigin, IssuerKeys, MeshMode, MeshNews};
use serde_json::json;

use crate::{
    agent::{AGENT, Authority},
    mesh::{BACK, FRONT, LONG, PORT, Place, SHORT, add, tell, workload},
    node::{Host, serve_agent},
};

const ISSUER: &str = "https://login.example";
/// Keys of two issuers of this name, each with a token that ends in the year 2100.
const ONE: (&str, &str) = (
    r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"tHq9UdI3CT8Okb6OQB1nc_IEVkDei0_ZZzJXYRDW8jg","y":"IasQsThqa6TD4y5D-dkCw5hmGWwZJJ8U-0g3N89LHe8"}]}"#,
    "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJleHAiOjQxMDI0NDQ4MDB9.E__hlcKD6PVQ4i15EHE6KDy480UKnEclahDMJ6EtK_NTCIc0_J5pD1fATISvPD9jK6B-ipoepOkOKyjor0TMcg",
);
const TWO: (&str, &str) = (
    r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"two","x":"h6EQrvwWNsU1lHqzJ9Lol3hnzMFhpnTZ_qHUmhMnaMU","y":"7md_2wXvcqGOK2XlLD5wTWV0pmCyuGNjbOrkYPD2T4s"}]}"#,
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InR3byJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJleHAiOjQxMDI0NDQ4MDB9.r3eta76mDpHYzGf0tcuEub5Y0ya8Vax47zVdZhlglGofE9vlnT0rVftvJl2YiL7bEbRZwJx7la_ueDOM-quD0w",
);

fn intention() -> MeshNews {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": "back", "namespace": "shop" },
        "spec": {
            "destination": { "serviceAccount": "back" },
            "sources": [{ "serviceAccount": "front", "permissions": [
                { "action": "allow", "paths": [{ "exact": "/open" }] },
                { "action": "allow", "paths": [{ "prefix": "/" }], "jwt": { "issuer": ISSUER } },
            ] }],
        },
    });
    let put = IntentionObject {
        uid: "i-1".to_owned(),
        origin: IntentionOrigin::Cluster.into(),
        generation: 1,
        json: object.to_string().into_bytes(),
    };
    MeshNews { is_complete: true, put_intentions: vec![put], ..MeshNews::default() }
}

fn keys(jwks: &str) -> MeshNews {
    let put = IssuerKeys {
        issuer: ISSUER.to_owned(),
        source: format!("{ISSUER}/keys"),
        jwks: jwks.as_bytes().to_vec(),
        until: 4_102_444_800,
    };
    MeshNews { is_complete: true, put_issuers: vec![put], ..MeshNews::default() }
}

/// An application that answers each request with 200 and ends the connection.
fn serve(place: &Place) {
    let at = SocketAddr::new(place.address, PORT);
    let listener = place.inside(|| TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|it| it > 0)
                {
                    head.push(byte[0]);
                }
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            });
        }
    });
}

/// The head of the answer to a request with a token; nothing where there is none.
fn asked(place: &Place, to: SocketAddr, target: &str, token: &str) -> String {
    let ask = || {
        let mut stream = place.connect(to)?;
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: back\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().unwrap_or_default()
}

fn until(place: &Place, to: SocketAddr, target: &str, token: &str, words: &str) {
    let begun = Instant::now();
    loop {
        let answer = asked(place, to, target, token);
        if answer.contains(words) {
            return;
        }
        assert!(begun.elapsed() < LONG, "no `{words}` in {answer}");
        std::thread::sleep(SHORT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_by_the_keys_that_the_agent_tells_or_has_told() {
    let Some(places) = Place::pair() else { return };
    let authority = Authority::create();
    let [of_front, of_back] = [FRONT, BACK].map(|uid| format!("k8s:pod-uid:{uid}"));
    let entries = authority.registrations(&[
        ("1", "/ns/shop/sa/front", &of_front),
        ("2", "/ns/shop/sa/back", &of_back),
    ]);
    let agent = serve_agent(&authority, AGENT, entries).await;
    let host = Host::create(&authority.bundle(), agent.address);
    for folder in ["bin", "net.d"] {
        fs::create_dir(host.path(folder)).unwrap();
    }
    let network = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]}"#;
    fs::write(host.path("net.d/10-pods.conflist"), network).unwrap();
    let node = host.start_in_mesh();
    let pods = MeshNews {
        is_complete: true,
        put_workloads: vec![
            workload(FRONT, "front", &places[0], MeshMode::Node),
            workload(BACK, "back", &places[1], MeshMode::Node),
        ],
        ..MeshNews::default()
    };
    tell(&agent, pods.clone());
    tell(&agent, intention());
    host.is_ready().await;
    let begun = Instant::now();
    while !fs::read_to_string(host.path("net.d/10-pods.conflist"))
        .unwrap()
        .contains(nullius_node::PLUGIN)
    {
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(SHORT).await;
    }
    let to = SocketAddr::new(places[1].address, PORT);
    let news = agent.news.clone();
    let (host, places) = tokio::task::spawn_blocking(move || {
        let [front, back] = &places;
        add(&host, FRONT, front);
        add(&host, BACK, back);
        serve(back);
        until(front, to, "/open", ONE.1, "HTTP/1.1 200 ");
        // Nobody has told of the issuer, so that the rule cannot be asked.
        until(front, to, "/", ONE.1, "nullius-reason: unknown-reference");
        // One whose keys nobody has yet proves nothing.
        let heard = |one| news.send_modify(|all| all.push(one));
        heard(keys(""));
        until(front, to, "/", ONE.1, "nullius-token: no-keys");
        heard(keys(ONE.0));
        until(front, to, "/", ONE.1, "HTTP/1.1 200 ");
        assert!(asked(front, to, "/", TWO.1).contains("nullius-token: unknown-key"));
        (host, places)
    })
    .await
    .unwrap();
    // What is not known is asked for.
    let mut reports = agent.reports.clone();
    let wants = reports.wait_for(|it| {
        it.as_ref().is_some_and(|it| it.wanted_issuers.iter().any(|wanted| wanted == ISSUER))
    });
    tokio::time::timeout(LONG, wants).await.unwrap().unwrap();
    // Of a new stream of an agent that has fetched nothing yet, and after a restart, the keys of before count.
    let says = |what: &[u8]| {
        let bytes = fs::read(host.path("state").join("mesh")).unwrap_or_default();
        bytes.windows(what.len()).any(|it| it == what)
    };
    let begun = Instant::now();
    while !says(ONE.0.as_bytes()) {
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(SHORT).await;
    }
    let anew = MeshNews {
        put_workloads: pods.put_workloads,
        put_issuers: keys("").put_issuers,
        ..intention()
    };
    agent.news.send_modify(|all| *all = vec![anew]);
    node.stop().await;
    let node = host.start_in_mesh();
    host.is_ready().await;
    let news = agent.news.clone();
    let (host, places) = tokio::task::spawn_blocking(move || {
        let [front, back] = &places;
        add(&host, FRONT, front);
        add(&host, BACK, back);
        until(front, to, "/", ONE.1, "HTTP/1.1 200 ");
        let heard = |one| news.send_modify(|all| all.push(one));
        heard(keys(TWO.0));
        until(front, to, "/", TWO.1, "HTTP/1.1 200 ");
        assert!(asked(front, to, "/", ONE.1).contains("nullius-token: unknown-key"));
        let gone = MeshNews {
            is_complete: true,
            gone_issuers: vec![ISSUER.to_owned()],
            ..MeshNews::default()
        };
        heard(gone);
        until(front, to, "/", TWO.1, "nullius-reason: unknown-reference");
        (host, places)
    })
    .await
    .unwrap();
    node.stop().await;
    drop((host, places));
    agent.stop().await;
}
