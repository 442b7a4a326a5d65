//! `nullius proxy` end to end: two workloads of a trust domain, a call that is allowed, and its end when the right is taken.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::running::Running;

const SOON: Duration = Duration::from_secs(30);
const DOMAIN: &str = "dev.example";

fn authority() -> ClusterAuthority {
    let now = Timestamp::now();
    let domain: TrustDomain = DOMAIN.parse().unwrap();
    let root = WorkloadRoot::create(now).unwrap();
    let prepared = PreparedAuthority::create(domain.clone()).unwrap();
    let day = Ttl::from_secs(86_400);
    let signed = root.certify(&prepared.request().unwrap(), &domain, day, now).unwrap();
    prepared.admit(signed, root.certificate_der(), now).unwrap()
}

/// The files of one workload.
fn workload(folder: &Path, authority: &ClusterAuthority, account: &str, rest: &str) {
    let id: SpiffeId = format!("spiffe://{DOMAIN}/ns/shop/sa/{account}").parse().unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.request().unwrap();
    let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life: Ttl::from_secs(3_600) };
    let svid = authority.issue(&asked, Timestamp::now()).unwrap();
    let key = STANDARD.encode(&*key.to_pkcs8());
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    put("svid.pem", &svid.to_pem());
    put("key.pem", &format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"));
    let mut bundle = TrustBundle::new(authority.trust_domain().clone());
    bundle.add_x509(authority.anchor_der().clone()).unwrap();
    put("bundle.json", &bundle.to_json().to_string());
    put(
        "proxy.yaml",
        &format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: ProxyConfiguration\nidentity:\n  certificate: svid.pem\n  key: key.pem\n  \
             bundles:\n  - {{trustDomain: {DOMAIN}, file: bundle.json}}\n{rest}"
        ),
    );
}

fn intention(folder: &Path, source: &str) {
    let text = format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  \
         destination: {{serviceAccount: orders}}\n  sources: [{{serviceAccount: {source}, action: allow}}]\n"
    );
    fs::write(folder.join(".intentions.new"), text).unwrap();
    fs::rename(folder.join(".intentions.new"), folder.join("intentions.yaml")).unwrap();
}

fn nullius() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nullius"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NULLIUS_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// A proxy that listens, and where.
fn start(folder: &Path, name: &str) -> (Running, SocketAddr) {
    let mut command = nullius();
    command.args(["proxy", "--log-format", "json", "--config"]).arg(folder.join("proxy.yaml"));
    let mut running = Running::start(&format!("the proxy `{name}`"), command);
    let line: Json = serde_json::from_str(&running.wait_line("\"listen\"")).unwrap();
    let text = line.to_string();
    let address = text.split('"').find_map(|word| word.parse::<SocketAddr>().ok());
    (running, address.unwrap_or_else(|| panic!("no address in {text}")))
}

fn echo() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        for stream in socket.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"hello");
    Ok(())
}

#[test]
fn a_call_between_two_proxies_lives_as_long_as_it_is_allowed() {
    let authority = authority();
    let (orders, front) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (orders, front) = (orders.path(), front.path());
    intention(orders, "front");
    workload(
        orders,
        &authority,
        "orders",
        &format!(
            "intentions: [intentions.yaml]\nlisteners:\n- {{name: orders, listen: '127.0.0.2:0', forward: '{}', protocol: tcp}}\n",
            echo()
        ),
    );
    let (mut orders_proxy, at) = start(orders, "orders");
    workload(
        front,
        &authority,
        "front",
        &format!(
            "upstreams:\n- {{name: orders, listen: '127.0.0.1:0', destination: '{at}', expect: ['spiffe://{DOMAIN}/ns/shop/sa/orders']}}\n"
        ),
    );
    let (mut front_proxy, to) = start(front, "front");
    let mut stream = TcpStream::connect(to).unwrap();
    ping(&mut stream).unwrap();
    let changed = Instant::now();
    intention(orders, "back");
    let broke = stream.read(&mut [0]).unwrap_err();
    assert_eq!(broke.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    let line: Json = serde_json::from_str(&orders_proxy.wait_line("\"cutBecause\"")).unwrap();
    assert_eq!(line["source"], format!("spiffe://{DOMAIN}/ns/shop/sa/front"));
    assert_eq!(line["cutBecause"], "no-intention");
    assert_eq!(line["bytesToSource"], 5);
    // Nobody new, either; the denial is told on both sides.
    let refused = TcpStream::connect(to).and_then(|mut stream| ping(&mut stream));
    assert!(refused.is_err());
    orders_proxy.wait_line("\"no-intention\"");
    front_proxy.wait_line("\"refused-by-destination\"");
    for proxy in [&mut orders_proxy, &mut front_proxy] {
        proxy.signal(Signal::TERM);
        let (code, said) = proxy.wait_end(SOON);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_place_and_starts_nothing() {
    let authority = authority();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = |rest: &str| {
        workload(folder, &authority, "orders", rest);
        let output =
            nullius().args(["proxy", "--config"]).arg(folder.join("proxy.yaml")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let listener = "- {name: a, listen: '127.0.0.2:0', forward: '127.0.0.1:1', protocol: tcp}\n";
    for (rest, told) in [
        ("listeners:\n- {name: a, listen: '127.0.0.2:0', forward: '127.0.0.1:1', protocol: grpc}\n".to_owned(), "proxy.yaml:9:"),
        (format!("listener:\n{listener}"), "unknown field `listener`"),
        (format!("intentions: [missing.yaml]\nlisteners:\n{listener}"), "missing.yaml: cannot read it"),
    ] {
        let (code, said) = run(&rest);
        assert_eq!(code, 64, "{said}");
        assert!(said.contains(told), "{told}: {said}");
    }
    fs::write(folder.join("bad.yaml"), "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {name: a, namespace: shop}\nspec:\n  destination: {serviceAccount: orders}\n  sources: [{ipBlock: 10.0.0.300/8, action: allow}]\n").unwrap();
    let (code, said) = run(&format!("intentions: [bad.yaml]\nlisteners:\n{listener}"));
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("bad.yaml:6:") && said.contains("ipBlock"), "{said}");
}
