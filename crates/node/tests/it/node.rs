//! A node in a folder.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use nullius_node::{CniHost, MeshSettings, NodeError, NodeSettings, ProofSettings, run_node};
use nullius_pki::workload::TrustBundle;
use nullius_proto::node_v1::Registrations;
use nullius_registration::MachineJoin;
use nullius_workload::{Client, ClientError, Endpoint, WorkloadIdentities};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Authority, DOMAIN, Judge};

const TOKEN: &str = "token-1";

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// What a host keeps while nodes come and go.
pub(crate) struct Host {
    folder: TempDir,
    version: u32,
    pub(crate) health: SocketAddr,
    pub(crate) probes: SocketAddr,
}

/// A node that runs.
pub(crate) struct Node {
    stop: CancellationToken,
    running: JoinHandle<Result<(), NodeError>>,
}

impl Host {
    pub(crate) fn create(bundle: &TrustBundle, issuer: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (health, probes) = (free_address(), free_address());
        let mut host = Self { folder, version: 0, health, probes };
        for name in ["trust", "kubelet/plugins_registry", "kubelet/pods"] {
            fs::create_dir_all(host.path(name)).unwrap();
        }
        host.token(TOKEN);
        host.trust(bundle, issuer);
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn token(&self, token: &str) {
        fs::write(self.path("token"), format!("{token}\n")).unwrap();
    }

    /// As the kubelet does: a new folder, and a link that is moved.
    pub(crate) fn trust(&mut self, bundle: &TrustBundle, issuer: SocketAddr) {
        self.version += 1;
        let trust = self.path("trust");
        let version = trust.join(format!("..{}", self.version));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("trust-domain"), DOMAIN).unwrap();
        fs::write(version.join("bundle.json"), bundle.to_json().to_string()).unwrap();
        fs::write(version.join("issuer"), issuer.to_string()).unwrap();
        symlink(&version, trust.join("..new")).unwrap();
        fs::rename(trust.join("..new"), trust.join("..data")).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/api.sock")
    }

    pub(crate) fn start(&self, kubelet: Option<&str>) -> Node {
        self.start_at(kubelet, self.health)
    }

    pub(crate) fn start_at(&self, kubelet: Option<&str>, health: SocketAddr) -> Node {
        self.start_as(kubelet, health, None)
    }

    /// With its part of the mesh; networks stand in `net.d`.
    pub(crate) fn start_in_mesh(&self) -> Node {
        let cni = CniHost {
            programs: self.path("bin"),
            networks: self.path("net.d"),
            socket: self.path("cni/cni.sock"),
            pass_namespaces: vec!["kube-system".to_owned()],
        };
        self.start_as(None, self.health, Some(MeshSettings { cni }))
    }

    /// As a machine outside of the cluster, which finds the agent by a name and joins with a token.
    pub(crate) fn start_as_machine(&self, authority: &Authority, port: u16, token: &str) -> Node {
        let join = MachineJoin {
            machine: "db-1".parse().unwrap(),
            cluster: "dev".parse().unwrap(),
            trust_domain: DOMAIN.parse().unwrap(),
            bundle: authority.bundle().to_json(),
            agent: format!("localhost:{port}"),
            token: Some(token.to_owned()),
        };
        let path = self.path("join.json");
        fs::write(&path, join.write().to_string()).unwrap();
        let proof = ProofSettings::Machine { join: path, certificates: None };
        self.start_proven(proof, None, self.health, None)
    }

    fn start_as(
        &self,
        kubelet: Option<&str>,
        health: SocketAddr,
        mesh: Option<MeshSettings>,
    ) -> Node {
        let proof =
            ProofSettings::Pod { trust: self.path("trust"), token_file: self.path("token") };
        self.start_proven(proof, kubelet, health, mesh)
    }

    fn start_proven(
        &self,
        proof: ProofSettings,
        kubelet: Option<&str>,
        health: SocketAddr,
        mesh: Option<MeshSettings>,
    ) -> Node {
        let settings = NodeSettings {
            node: "n1".to_owned(),
            proof,
            socket: self.socket(),
            state: self.path("state"),
            kubelet: kubelet.map(|name| self.path(name)),
            cgroup_root: "/".parse().unwrap(),
            health: Some(health),
            probes: (health == self.health).then_some(self.probes),
            mesh,
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run_node(settings, stop.clone()));
        Node { stop, running }
    }

    /// What a workload gets, as soon as it gets anything.
    pub(crate) async fn identities(&self) -> WorkloadIdentities {
        self.until(|answer| answer.ok()).await
    }

    /// Asks until an answer is the wanted one.
    pub(crate) async fn until<T>(
        &self,
        wanted: impl Fn(Result<WorkloadIdentities, ClientError>) -> Option<T>,
    ) -> T {
        let asking = async {
            loop {
                if let Some(found) = wanted(self.ask().await) {
                    return found;
                }
                tokio::time::sleep(SHORT).await;
            }
        };
        tokio::time::timeout(LONG, asking).await.expect("the node answers so in time")
    }

    pub(crate) async fn client(&self) -> Result<Client, ClientError> {
        let endpoint: Endpoint = self.socket().to_str().unwrap().parse().unwrap();
        Client::connect(&endpoint).await
    }

    async fn ask(&self) -> Result<WorkloadIdentities, ClientError> {
        self.client().await?.identities().await?.next().await
    }

    /// Status and text of a page for the kubelet; nothing while nobody listens.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        page(self.health, path).await
    }

    /// Waits until what stands on the disk is as wanted.
    pub(crate) async fn remembers(&self, wanted: impl Fn(&[u8]) -> bool) {
        let asking = async {
            while !fs::read(self.path("state/registrations")).is_ok_and(|bytes| wanted(&bytes)) {
                tokio::time::sleep(SHORT).await;
            }
        };
        tokio::time::timeout(LONG, asking).await.expect("it is remembered in time");
    }

    pub(crate) async fn is_ready(&self) {
        let asking = async {
            while self.page("/readyz").await.is_none_or(|(status, _)| status != 200) {
                tokio::time::sleep(SHORT).await;
            }
        };
        tokio::time::timeout(LONG, asking).await.expect("the node is ready in time");
    }
}

pub(crate) async fn page(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut tcp = TcpStream::connect(address).await.ok()?;
    let asked = format!("GET {path} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n");
    tcp.write_all(asked.as_bytes()).await.ok()?;
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split("\r\n\r\n").nth(1)?.trim().to_owned()))
}

/// An agent on this machine, which believes the token that hosts begin with.
pub(crate) async fn serve_agent(
    authority: &Arc<Authority>,
    path: &str,
    first: Registrations,
) -> Agent {
    agent_believing(&Arc::new(Mutex::new(TOKEN.to_owned())), authority, path, first).await
}

/// The same, which believes what stands there.
pub(crate) async fn agent_believing(
    token: &Arc<Mutex<String>>,
    authority: &Arc<Authority>,
    path: &str,
    first: Registrations,
) -> Agent {
    let known = Arc::clone(token);
    let judge: Judge = Arc::new(move |shown| *known.lock().unwrap() == shown);
    Agent::start([127, 0, 0, 1].into(), judge, authority, path, Some(first)).await
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Node {
    /// Why it ended by itself.
    pub(crate) async fn ended(self) -> String {
        let ended = tokio::time::timeout(LONG, self.running).await.expect("it ends in time");
        ended.unwrap().unwrap_err().to_string()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}
