//! Envoy itself as client of secret discovery: one listener of it speaks mTLS to another, and to OpenSSL.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::world::{DOMAIN, Node, entry, own_user};

const PATIENCE: Duration = Duration::from_secs(60);

fn id(path: &str) -> String {
    format!("spiffe://{DOMAIN}{path}")
}

fn port() -> u16 {
    nullius_testkit::free_address([127, 0, 0, 1].into()).unwrap().port()
}

fn address(port: u16) -> Json {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn secret(name: &str) -> Json {
    let grpc = json!([{ "envoy_grpc": { "cluster_name": "node" } }]);
    let source =
        json!({ "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": grpc });
    json!({ "name": name, "sds_config": { "resource_api_version": "V3", "api_config_source": source } })
}

/// TLS that presents the first identity, and takes `peer` alone by the bundle of that name.
fn tls(kind: &str, bundle: &str, peer: &str) -> Json {
    let names = json!([{ "san_type": "URI", "matcher": { "exact": peer } }]);
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": { "match_typed_subject_alt_names": names },
                "validation_context_sds_secret_config": secret(bundle),
            },
        },
    } })
}

fn listener(port: u16, cluster: &str, transport: Option<Json>) -> Json {
    let proxy = json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster, "cluster": cluster,
    } });
    let mut chain = json!({ "filters": [proxy] });
    if let Some(transport) = transport {
        chain["transport_socket"] = transport;
    }
    json!({ "name": format!("to-{cluster}"), "address": address(port), "filter_chains": [chain] })
}

fn cluster(name: &str, endpoint: Json, transport: Option<Json>) -> Json {
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }]);
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": endpoints },
    });
    if let Some(transport) = transport {
        cluster["transport_socket"] = transport;
    }
    cluster
}

/// Answers with what it hears.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    port
}

/// What comes back from a port, once something does.
async fn said(port: u16) -> String {
    let ask = async {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.ok()?;
        stream.write_all(b"hello").await.ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        String::from_utf8(answer.to_vec()).ok()
    };
    ask.await.unwrap_or_default()
}

async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match found().await {
                Some(found) => return found,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, found).await.expect("Envoy does it within a minute")
}

/// The certificate that a port presents to a workload with these files, verified by OpenSSL.
async fn presented(port: u16, folder: &Path) -> Option<String> {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let at = format!("127.0.0.1:{port}");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &at, "-verify_return_error", "-tls1_3"])
        .args([
            "-CAfile",
            &file("bundle.pem"),
            "-cert",
            &file("svid.pem"),
            "-key",
            &file("key.pem"),
        ])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let end = text.find("-----END CERTIFICATE-----")?;
    text.contains("Verify return code: 0 (ok)").then(|| text[..end].to_owned())
}

struct Envoy(Child);

impl Envoy {
    fn start(program: &Path, configuration: &Json, folder: &Path) -> Self {
        let file = folder.join("envoy.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let child = Command::new(program)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
            .args(["--service-node", "test", "--service-cluster", "test", "-c"])
            .arg(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self(child)
    }
}

#[tokio::test]
async fn envoy_speaks_mtls_by_what_the_node_gives_it() {
    let Some(packages) = std::env::var_os(nullius_testkit::PYTHON_PACKAGES) else {
        nullius_skip::skip("it needs Envoy: run the test with `cargo xtask test`");
        return;
    };
    let program = Path::new(&packages).join("envoy/_bin/envoy");
    let mut node = Node::start(vec![entry("/a", &[&own_user()])]);
    node.holdings
        .wait_for(|all| all.as_ref().is_some_and(|all| all.held.len() == 1))
        .await
        .unwrap();
    let (secure, plain, wrong) = (port(), port(), port());
    let (peer, stranger) = (id("/a"), id("/b"));
    let upstream = |peer: &str| Some(tls("UpstreamTlsContext", "ALL", peer));
    let mut server = tls("DownstreamTlsContext", "ROOTCA", &peer);
    server["typed_config"]["require_client_certificate"] = json!(true);
    let mut discovery = cluster("node", json!({ "pipe": { "path": node.path() } }), None);
    discovery["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    let configuration = json!({ "static_resources": {
        "listeners": [
            listener(secure, "echo", Some(server)),
            listener(plain, "secure", None),
            listener(wrong, "stranger", None),
        ],
        "clusters": [
            discovery,
            cluster("echo", address(echo().await), None),
            cluster("secure", address(secure), upstream(&peer)),
            cluster("stranger", address(secure), upstream(&stranger)),
        ],
    } });
    let folder = tempfile::tempdir().unwrap();
    let envoy = Envoy::start(&program, &configuration, folder.path());
    // Envoy to Envoy: its listener has the anchors of the domain, its cluster the SPIFFE validator.
    until(async || (said(plain).await == "hello").then_some(())).await;
    assert_eq!(said(wrong).await, "", "the server is another than expected");
    // OpenSSL to Envoy, with the node's own files.
    let held = node.holdings.borrow().as_ref().unwrap().held["000"].clone();
    let key = nullius_pki::private_key_pem(&held.key);
    fs::write(folder.path().join("svid.pem"), held.svid.to_pem()).unwrap();
    fs::write(folder.path().join("key.pem"), secrecy::ExposeSecret::expose_secret(&key)).unwrap();
    fs::write(folder.path().join("bundle.pem"), node.authority.bundle().to_pem()).unwrap();
    let first = until(async || presented(secure, folder.path()).await).await;
    // A rotation reaches Envoy without anybody asking.
    node.rotate().await;
    until(async || presented(secure, folder.path()).await.filter(|now| *now != first)).await;
    assert_eq!(said(plain).await, "hello");
    drop(envoy.0);
    node.end().await;
}
