//! Calls between a real cluster and another trust domain, through gateways, in both directions: pods know nothing of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_kube::NODE_NAMESPACE;
use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use nullius_testkit::{TestNamespace, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    mesh_calls::{begin, exec, pod, until},
    node::{Mesh, Nodes},
    running::Running,
    world::World,
};

const IMAGE: &str = "localhost/nullius:dev";
const SOON: Duration = Duration::from_secs(60);
const GATEWAY: u16 = 15_443;

/// A trust domain that is no cluster's, with its workloads on this machine.
struct Bank {
    domain: TrustDomain,
    authority: ClusterAuthority,
    /// The cluster's trust domain, and by what it is verified.
    cluster: TrustDomain,
    bundle: String,
    host: IpAddr,
}

impl Bank {
    fn new(world: &World, name: &str) -> Self {
        let now = Timestamp::now();
        let domain: TrustDomain = format!("{name}.example").parse().unwrap();
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let day = Ttl::from_secs(86_400);
        let signed = root.certify(&prepared.request().unwrap(), &domain, day, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        let map = ["-n", NODE_NAMESPACE, "get", "configmap", "nullius-trust"];
        let read = [&map[..], &["-o", r"jsonpath={.data.trust-domain}"]].concat();
        let cluster: TrustDomain = world.direct().ok(&read).unwrap().trim().parse().unwrap();
        let hub = world.environment.hub().unwrap();
        let path = format!("/v1/trust/{cluster}/bundle");
        let bundle = wait_until(SOON, "the cluster's bundle at the hub", || {
            let found = hub.get(&path).ok()?;
            found.json().is_ok_and(|it| it["keys"].is_array()).then(|| found.text().to_owned())
        });
        let host = world.cluster.record().host_address.unwrap();
        Self { domain, authority, cluster, bundle: bundle.unwrap(), host }
    }

    fn own_bundle(&self) -> String {
        let mut bundle = TrustBundle::new(self.domain.clone());
        bundle.add_x509(self.authority.anchor_der().clone()).unwrap();
        bundle.at(1, 300).to_json().to_string()
    }

    fn id(&self, account: &str) -> SpiffeId {
        format!("spiffe://{}/ns/bank/sa/{account}", self.domain).parse().unwrap()
    }

    /// A proxy of one of its workloads, and where it listens.
    fn start(&self, account: &str, rest: &str) -> (Running, SocketAddr, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let id = self.id(account);
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life: Ttl::from_secs(3_600) };
        let svid = self.authority.issue(&asked, Timestamp::now()).unwrap();
        let key = STANDARD.encode(&*key.to_pkcs8());
        put("svid.pem", &svid.to_pem());
        put("key.pem", &format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"));
        put("own.json", &self.own_bundle());
        put("cluster.json", &self.bundle);
        let (own, cluster) = (&self.domain, &self.cluster);
        put(
            "proxy.yaml",
            &format!(
                "apiVersion: nullius.dev/v1alpha1\nkind: ProxyConfiguration\nidentity:\n  certificate: svid.pem\n  key: key.pem\n  \
             bundles:\n  - {{trustDomain: {own}, file: own.json}}\n  - {{trustDomain: {cluster}, file: cluster.json}}\n{rest}"
            ),
        );
        if rest.contains("intentions:") {
            put(
                "intentions.yaml",
                &format!(
                    "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: own, namespace: bank}}\nspec:\n  \
                 destination: {{serviceAccount: {account}}}\n  sources: [{{trustDomain: {cluster}, action: allow}}]\n"
                ),
            );
        }
        let (running, at) = start(folder.path(), account);
        (running, at, folder)
    }
}

fn start(folder: &Path, name: &str) -> (Running, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nullius"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NULLIUS_")) {
        command.env_remove(name);
    }
    command.args(["proxy", "--log-format", "json", "--config"]).arg(folder.join("proxy.yaml"));
    let mut running = Running::start(&format!("the proxy `{name}`"), command);
    let line: Value = serde_json::from_str(&running.wait_line("\"listen\"")).unwrap();
    let text = line.to_string();
    let at = text.split('"').find_map(|word| word.parse::<SocketAddr>().ok());
    (running, at.unwrap_or_else(|| panic!("no address in {text}")))
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

/// A Service of the cluster that stands for one of the bank; gives its address.
fn import(shop: &TestNamespace, bank: &Bank, gateway: SocketAddr) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "ledger", "annotations": {
            "nullius.dev/import": "ledger.bank.svc.clusterset.local",
            "nullius.dev/import-gateways": gateway.to_string(),
            "nullius.dev/import-gateway-ids": bank.id("gateway").as_str(),
            "nullius.dev/import-ids": bank.id("ledger").as_str(),
        } },
        "spec": { "ports": [{ "port": 80 }] },
    });
    shop.apply(&service.to_string()).unwrap();
    shop.kubectl(&["get", "service", "ledger", "-o", "jsonpath={.spec.clusterIP}"]).unwrap()
}

/// Pods of an account believe the bank.
fn believe(namespace: &TestNamespace, account: &str, bank: &Bank) {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity",
        "metadata": { "name": account },
        "spec": {
            "selector": { "serviceAccounts": [account] }, "federatesWith": [bank.domain.as_str()],
        },
    });
    namespace.apply(&object.to_string()).unwrap();
}

fn federate(world: &World, name: &str, bank: &Bank) {
    let federation = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Federation", "metadata": { "name": name },
        "spec": { "clusters": [world.cluster_name()], "federatesWith": {
            "trustDomain": bank.domain,
            // Nobody is there: what is given counts.
            "bundleEndpointURL": "https://127.0.0.1:1/bundle",
            "bundleEndpointProfile": { "type": "https_web" },
            "trustDomainBundle": bank.own_bundle(),
        } },
    });
    world.apply(&federation.to_string());
}

/// A gateway of the cluster, with what there is: the identity's files beside a proxy. Gives its address.
fn gateway_pod(
    edge: &TestNamespace,
    nodes: &Nodes<'_>,
    node: &str,
    bank: &Bank,
    service: &str,
) -> SocketAddr {
    let cluster = &bank.cluster;
    let config = format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: ProxyConfiguration\nidentity:\n  certificate: /own/svid/svid.pem\n  key: /own/svid/svid_key.pem\n  \
         bundles:\n  - {{trustDomain: {cluster}, file: /own/svid/bundle.pem}}\n  - {{trustDomain: {0}, file: /own/svid/bundle.{0}.pem}}\n\
         gateway:\n  listen: 0.0.0.0:{GATEWAY}\n  trustDomains: [{0}]\n  exports:\n  - {{service: server.shop.svc.clusterset.local:80, endpoints: ['{service}:8080']}}\n",
        bank.domain
    );
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "gateway" },
        "data": { "proxy.yaml": config },
    });
    edge.apply(&map.to_string()).unwrap();
    let svid = |verb: &str| {
        json!({
            "name": verb, "image": IMAGE, "imagePullPolicy": "Never",
            "args": ["svid", verb, "--socket", "unix:///identity/api.sock", "--write", "/own/svid"],
            "volumeMounts": [
                { "name": "identity", "mountPath": "/identity", "readOnly": true },
                { "name": "own", "mountPath": "/own" },
            ],
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "gateway" },
        "spec": {
            "serviceAccountName": "gateway", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0, "nodeName": node,
            "containers": [svid("watch"), {
                "name": "proxy", "image": IMAGE, "imagePullPolicy": "Never",
                "args": ["proxy", "--config", "/config/proxy.yaml"],
                "readinessProbe": { "tcpSocket": { "port": GATEWAY }, "periodSeconds": 1 },
                "volumeMounts": [
                    { "name": "own", "mountPath": "/own", "readOnly": true },
                    { "name": "config", "mountPath": "/config", "readOnly": true },
                ],
            }],
            "volumes": [
                { "name": "identity", "csi": { "driver": "csi.nullius.dev", "readOnly": true } },
                { "name": "own", "emptyDir": { "medium": "Memory" } },
                { "name": "config", "configMap": { "name": "gateway" } },
            ],
        },
    });
    let address = begin(edge, nodes, &pod);
    SocketAddr::new(address.parse().unwrap(), GATEWAY)
}

fn ping(to: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).contains("welcome"))
}

#[test]
fn pods_call_and_are_called_through_gateways_between_trust_domains() {
    // Alone: the network of its nodes is changed.
    let Some(world) = World::alone() else { return };
    let nodes = Nodes::install(&world, Mesh::With);
    let node = world.cluster.record().nodes[0].name.as_str();
    let [shop, edge] = ["shop", "edge"].map(|it| world.cluster.namespace(it).unwrap());
    // A gateway has an identity, and nobody leads its calls.
    for (namespace, label) in
        [(&shop, "nullius.dev/mesh=node"), (&edge, "nullius.dev/identity=enabled")]
    {
        world.direct().ok(&["label", "namespace", namespace.name(), label]).unwrap();
    }
    let bank = Bank::new(&world, shop.name());
    let (host, domain) = (bank.host, &bank.cluster);
    let rest = format!(
        "intentions: [intentions.yaml]\nlisteners:\n- {{name: ledger, listen: '127.0.0.1:0', wire: [tls], forward: '{}', protocol: tcp}}\n",
        echo()
    );
    let (mut ledger, at, _ledger_files) = bank.start("ledger", &rest);
    let rest = format!(
        "gateway:\n  listen: '{host}:0'\n  trustDomains: [{domain}]\n  exports:\n  - {{service: ledger.bank.svc.clusterset.local:80, endpoints: ['{at}']}}\n"
    );
    let (mut gateway, at, _gateway_files) = bank.start("gateway", &rest);

    believe(&shop, "client", &bank);
    let service = import(&shop, &bank, at);
    begin(&shop, &nodes, &pod("client", node, "exec sleep 3600", None));
    let calls = || {
        let ask = format!("printf 'hello\\n' | nc -w 5 {service} 80; echo asked");
        let output = exec(&shop, "client", &ask);
        assert!(output.stdout.ends_with("asked\n"), "{} {}", output.stdout, output.stderr);
        output.stdout.contains("hello")
    };
    assert!(!calls(), "nobody has federated the two");
    federate(&world, shop.name(), &bank);
    until(&nodes, "a call through the gateway", calls);
    let client = format!("spiffe://{domain}/ns/{}/sa/client", shop.name());
    for running in [&mut ledger, &mut gateway] {
        let line: Value =
            serde_json::from_str(&running.wait_line("\"verdict\":\"allowed\"")).unwrap();
        assert_eq!(line["source"], client, "{line}");
    }
    // An address of the other side that is not imported is one outside of the mesh, and the pod behind it proves nothing to it.
    let logs = nodes.run(&["logs", "-l", "test-node", "--tail=-1"]);
    let line = logs.lines().find(|line| line.contains("\"through-gateway\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["gateway"], &line["destination"], &line["service"]),
        (
            &json!(bank.id("gateway").as_str()),
            &json!(bank.id("ledger").as_str()),
            &json!(format!("{}/ledger", shop.name()))
        )
    );

    // The other way: a workload of the bank calls a pod.
    believe(&edge, "gateway", &bank);
    believe(&shop, "server", &bank);
    let serve = "mkdir -p /tmp/www && echo welcome > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    begin(&shop, &nodes, &pod("server", node, serve, Some(8080)));
    let intention = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention", "metadata": { "name": "server" },
        "spec": {
            "destination": { "serviceAccount": "server" },
            "sources": [{ "spiffeId": bank.id("teller").as_str(), "permissions": [
                { "action": "allow", "methods": ["GET"] },
            ] }],
        },
    });
    shop.kubectl(&["expose", "pod", "server", "--port=8080"]).unwrap();
    let address =
        shop.kubectl(&["get", "service", "server", "-o", "jsonpath={.spec.clusterIP}"]).unwrap();
    let inward = gateway_pod(&edge, &nodes, node, &bank, &address);
    let upstream = |account: &str| {
        bank.start(account, &format!(
            "upstreams:\n- name: server\n  listen: '127.0.0.1:0'\n  service: server.shop.svc.clusterset.local:80\n  \
             via: {{gateways: ['{inward}'], expect: ['spiffe://{domain}/ns/{}/sa/gateway']}}\n  expect: ['spiffe://{domain}/ns/{}/sa/server']\n",
            edge.name(),
            shop.name()
        ))
    };
    let (_teller, teller, _teller_files) = upstream("teller");
    let (_other, other, _other_files) = upstream("other");
    assert!(!ping(teller).unwrap_or_default(), "no intention allows it");
    shop.apply(&intention.to_string()).unwrap();
    until(&nodes, "a call of another trust domain", || ping(teller).unwrap_or_default());
    assert!(!ping(other).unwrap_or_default(), "it is for the teller alone");

    // What lives ends with the federation.
    let script = format!(
        "(while :; do echo x; usleep 20000; done) | nc {service} 80 > /tmp/heard; echo ended"
    );
    let args = ["-n", shop.name(), "exec", "client", "--", "sh", "-c", &script];
    let mut live = world.direct().spawn(&args).unwrap();
    until(&nodes, "a call that lives", || exec(&shop, "client", "test -s /tmp/heard").code == 0);
    assert!(live.try_wait().unwrap().is_none());
    world.admin(&["delete", "federation", shop.name(), "--yes"]);
    let deleted = Instant::now();
    live.wait().unwrap();
    let cut = deleted.elapsed();
    eprintln!(
        "gateways: a live call is cut {} ms after its federation is deleted",
        cut.as_millis()
    );
    assert!(cut < Duration::from_secs(30), "{cut:?}");
    assert!(!calls());
    until(&nodes, "the end of calls of the other side", || !ping(teller).unwrap_or_default());
}
