//! The ways from the client to the applications: directly, through two proxies of ours, through two Envoys.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nullius_model::{SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey, private_key_pem,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use nullius_testkit::free_address;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    apps::Apps,
    envoy::{self, Ports},
    load::{Client, Speaks},
};
use crate::bench::process::Process;

const DOMAIN: &str = "bench.example";
const CALLER: &str = "web";
/// Called by connections, and by requests.
const CALLED: [&str; 2] = ["bytes", "orders"];
const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever dials from another address has a tunnel of its own.
const SOURCES: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 0);

/// One way.
pub(super) struct Way {
    name: &'static str,
    ports: Ports,
    processes: Vec<Running>,
}

/// All ways.
pub(super) struct Ways {
    all: [Way; 3],
    logged: Way,
    tunnels: Vec<SocketAddr>,
    called: TempDir,
    _others: Vec<TempDir>,
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Way {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn address(&self, speaks: Speaks) -> SocketAddr {
        match speaks {
            Speaks::Bytes => self.ports.bytes,
            Speaks::Http => self.ports.http,
        }
    }

    pub(super) fn bulk(&self) -> SocketAddr {
        self.ports.bulk
    }

    /// Of all its processes.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        self.processes.iter().map(|each| Process(each.0.id()).cpu_seconds()).sum()
    }

    /// Of the client's proxy and of one of the application.
    pub(super) fn resident_kib(&self) -> Result<f64> {
        self.processes.iter().take(2).map(|each| Process(each.0.id()).resident_kib()).sum()
    }
}

impl Ways {
    pub(super) fn start(
        runtime: &Runtime,
        binary: &Path,
        envoy: &Path,
        apps: &Apps,
        tunnels: usize,
    ) -> Result<Self> {
        let authority = authority()?;
        let direct = Ports { bytes: apps.bytes, http: apps.http, bulk: apps.bulk };
        let caller = workload(&authority, CALLER)?;
        let [called, orders] = CALLED.map(|name| workload(&authority, name));
        let (called, orders) = (called?, orders?);
        allow(called.path(), Allowed::Yes)?;
        permit_requests(orders.path())?;
        let (ours, tunnels) =
            proxies(binary, [&caller, &called, &orders], direct, tunnels, Log::Off)?;
        let (logged, _) = proxies(binary, [&caller, &called, &orders], direct, 0, Log::On)?;
        let envoys = envoys(envoy, &caller, &called, direct)?;
        let direct = Way { name: "direct", ports: direct, processes: Vec::new() };
        let ways = Self {
            all: [direct, ours, envoys],
            logged,
            tunnels,
            called,
            _others: vec![caller, orders],
        };
        for way in ways.all.iter().chain([&ways.logged]) {
            for speaks in [Speaks::Bytes, Speaks::Http] {
                let answers = runtime.block_on(answers(way.address(speaks), speaks));
                answers.with_context(|| format!("{} for {speaks:?}", way.name))?;
            }
        }
        Ok(ways)
    }

    pub(super) fn all(&self) -> &[Way; 3] {
        &self.all
    }

    pub(super) fn ours(&self) -> &Way {
        &self.all[1]
    }

    pub(super) fn envoy(&self) -> &Way {
        &self.all[2]
    }

    /// Ours, with an access log.
    pub(super) fn logged(&self) -> &Way {
        &self.logged
    }

    /// Addresses behind each of which a tunnel is dialled for the first who connects.
    pub(super) fn tunnels(&self) -> &[SocketAddr] {
        &self.tunnels
    }

    /// Takes the right away from a live connection, and gives it back: milliseconds until it was cut.
    pub(super) async fn cut(&self) -> Result<f64> {
        let address = self.ours().address(Speaks::Bytes);
        answers(address, Speaks::Bytes).await?;
        let mut client = Client::connect(address, Speaks::Bytes).await?;
        client.ask().await?;
        let began = Instant::now();
        allow(self.called.path(), Allowed::No)?;
        tokio::time::timeout(PATIENCE, client.ended()).await.context("nothing is cut")?;
        let cut = began.elapsed();
        allow(self.called.path(), Allowed::Yes)?;
        Ok(cut.as_secs_f64() * 1e3)
    }
}

/// Waits until a request is answered.
async fn answers(address: SocketAddr, speaks: Speaks) -> Result<()> {
    let ask = async || Client::connect(address, speaks).await?.ask().await;
    let began = Instant::now();
    loop {
        match tokio::time::timeout(PATIENCE, ask()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => bail!("no answer at {address}"),
        }
    }
}

pub(in crate::bench) fn authority() -> Result<ClusterAuthority> {
    let now = Timestamp::now();
    let domain: TrustDomain = DOMAIN.parse()?;
    let root = WorkloadRoot::create(now)?;
    let prepared = PreparedAuthority::create(domain.clone())?;
    let signed = root.certify(&prepared.request()?, &domain, Ttl::from_secs(86_400), now)?;
    Ok(prepared.admit(signed, root.certificate_der(), now)?)
}

fn id(name: &str) -> Result<SpiffeId> {
    Ok(format!("spiffe://{DOMAIN}/ns/shop/sa/{name}").parse()?)
}

/// A folder with an SVID, its key, the bundle in both forms and a place for intentions.
fn workload(authority: &ClusterAuthority, name: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let key = PrivateKey::generate()?;
    let (id, csr) = (id(name)?, key.request()?);
    let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life: Ttl::from_secs(7_200) };
    let svid = authority.issue(&asked, Timestamp::now())?;
    let mut bundle = TrustBundle::new(DOMAIN.parse()?);
    bundle.add_x509(authority.anchor_der().clone()).map_err(anyhow::Error::msg)?;
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
    write("svid.pem", &svid.to_pem())?;
    write("key.pem", private_key_pem(&key.to_pkcs8()).expose_secret())?;
    write("bundle.json", &bundle.to_json().to_string())?;
    write("bundle.pem", &bundle.to_pem())?;
    fs::create_dir(folder.path().join("intentions"))?;
    Ok(folder)
}

#[derive(Clone, Copy)]
enum Allowed {
    Yes,
    No,
}

/// Whether the caller may connect.
fn allow(folder: &Path, allowed: Allowed) -> Result<()> {
    let action = match allowed {
        Allowed::Yes => "allow",
        Allowed::No => "deny",
    };
    intend(folder, CALLED[0], &json!({ "serviceAccount": CALLER, "action": action }))
}

fn permit_requests(folder: &Path) -> Result<()> {
    let permissions =
        json!([{ "action": "allow", "methods": ["GET"], "paths": [{ "prefix": "/orders" }] }]);
    intend(folder, CALLED[1], &json!({ "serviceAccount": CALLER, "permissions": permissions }))
}

fn intend(folder: &Path, workload: &str, source: &Value) -> Result<()> {
    let intention = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": workload, "namespace": "shop" },
        "spec": { "destination": { "serviceAccount": workload }, "sources": [source] },
    });
    // Whole or not at all, as whoever writes such files does it.
    let new = folder.join("new");
    fs::write(&new, intention.to_string())?;
    Ok(fs::rename(new, folder.join("intentions/own.yaml"))?)
}

#[derive(Clone, Copy)]
enum Log {
    Off,
    On,
}

fn free() -> Result<SocketAddr> {
    free_address(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn free_ports() -> Result<Ports> {
    Ok(Ports { bytes: free()?, http: free()?, bulk: free()? })
}

/// The caller's proxy, the one that is called by connections, and the one that is called by requests.
fn proxies(
    binary: &Path,
    [caller, called, orders]: [&TempDir; 3],
    apps: Ports,
    tunnels: usize,
    log: Log,
) -> Result<(Way, Vec<SocketAddr>)> {
    let (near, far) = (free_ports()?, free_ports()?);
    let log = |folder: &TempDir| match log {
        Log::Off => json!("off"),
        Log::On => json!(folder.path().join("access.log")),
    };
    let listener = |name: &str, listen: SocketAddr, forward: SocketAddr, protocol: &str| json!({ "name": name, "listen": listen, "forward": forward, "protocol": protocol });
    let upstream = |name: &str, listen: SocketAddr, to: SocketAddr, expect: &str| {
        json!({ "name": name, "listen": listen, "destination": to,
                "expect": [format!("spiffe://{DOMAIN}/ns/shop/sa/{expect}")] })
    };
    let mut upstreams = vec![
        upstream("bytes", near.bytes, far.bytes, CALLED[0]),
        upstream("bulk", near.bulk, far.bulk, CALLED[0]),
        upstream("http", near.http, far.http, CALLED[1]),
    ];
    let mut addresses = Vec::new();
    for number in 1..=u32::try_from(tunnels)? {
        let address = free()?;
        let mut tunnel = upstream(&format!("t{number}"), address, far.bytes, CALLED[0]);
        tunnel["sourceAddress"] = json!(Ipv4Addr::from_bits(SOURCES.to_bits() + number));
        upstreams.push(tunnel);
        addresses.push(address);
    }
    let start = |folder: &TempDir, part: &str, value: Value| {
        let mut configuration = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "ProxyConfiguration",
            "identity": { "certificate": "svid.pem", "key": "key.pem",
                          "bundles": [{ "trustDomain": DOMAIN, "file": "bundle.json" }] },
            "intentions": ["intentions"], "accessLog": log(folder),
        });
        configuration[part] = value;
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(folder.path())?;
        let (_, file) = file.keep().context("cannot keep a file")?;
        fs::write(&file, configuration.to_string())?;
        let errors = File::create(folder.path().join("stderr"))?;
        spawn(Command::new(binary).args(["proxy", "--config"]).arg(file).stderr(errors))
    };
    let processes = vec![
        start(caller, "upstreams", json!(upstreams))?,
        start(
            called,
            "listeners",
            json!([
                listener("bytes", far.bytes, apps.bytes, "tcp"),
                listener("bulk", far.bulk, apps.bulk, "tcp"),
            ]),
        )?,
        start(orders, "listeners", json!([listener("http", far.http, apps.http, "http")]))?,
    ];
    Ok((Way { name: "nullius proxy", ports: near, processes }, addresses))
}

fn envoys(program: &Path, caller: &TempDir, called: &TempDir, apps: Ports) -> Result<Way> {
    let (near, far) = (free_ports()?, free_ports()?);
    let peers = (id(CALLER)?, id(CALLED[0])?);
    let start = |folder: &TempDir, configuration: Value| {
        let file = folder.path().join("envoy.json");
        fs::write(&file, configuration.to_string())?;
        let errors = File::create(folder.path().join("envoy.log"))?;
        let cores = std::thread::available_parallelism()?.get();
        spawn(
            Command::new(program)
                .args(["--disable-hot-restart", "--log-level", "warning"])
                .args(["--service-node", "bench", "--service-cluster", "bench"])
                .args(["--concurrency", &cores.to_string(), "-c"])
                .arg(file)
                .stderr(errors),
        )
    };
    let client = envoy::client(caller.path(), peers.1.as_str(), near, far);
    let server = envoy::server(called.path(), peers.0.as_str(), far, apps);
    let processes = vec![start(caller, client)?, start(called, server)?];
    Ok(Way { name: "Envoy", ports: near, processes })
}

fn spawn(command: &mut Command) -> Result<Running> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut running = Running(child.with_context(|| format!("cannot run {command:?}"))?);
    ensure!(running.0.try_wait()?.is_none(), "{command:?} ended at once");
    Ok(running)
}
