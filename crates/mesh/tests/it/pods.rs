//! Pods in network namespaces of their own, on a bridge of their node, with real rules that lead their connections to a proxy.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use nullius_intention::{Home, Intention, Intentions, Origin};
use nullius_mesh::{
    AccessLog, AccessLogTo, Caller, Captured, CapturedParts, Directory, Here, HostSockets,
    Neighbours, Seen, Sockets, World,
};
use nullius_model::SpiffeId;
use nullius_redirect::{Listeners, Mark, Network};
use nullius_telemetry::Metrics;
use nullius_tls::WorkloadTls;
use rustix::{
    process::Uid,
    thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_uid},
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    sync::watch,
};

use crate::world::{Application, Domain, wait_line};

/// Whether namespaces can be made here; the test ends otherwise.
pub(crate) fn can_run() -> bool {
    let has = |program: &str, argument: &str| {
        let run = Command::new(program).arg(argument).stdout(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    if !rustix::process::geteuid().is_root() {
        nullius_skip::skip("only root can make network namespaces");
        return false;
    }
    if !has("ip", "-V") {
        nullius_skip::skip("the program `ip` makes the network of pods");
        return false;
    }
    true
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A network namespace with a runtime whose threads are in it.
pub(crate) struct Host {
    namespace: String,
    last: u8,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
    runtime: Option<Runtime>,
}

impl Host {
    fn new(namespace: String, last: u8) -> Self {
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {namespace} link set lo up"));
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        let make = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).unwrap();
            Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
        };
        let runtime = std::thread::spawn(make).join().unwrap();
        Self {
            namespace,
            last,
            v4: Ipv4Addr::new(10, 77, 0, last).into(),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into(),
            runtime: Some(runtime),
        }
    }

    /// Runs something there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.runtime.as_ref().unwrap().spawn(task).await.unwrap()
    }

    pub(crate) async fn connect(&self, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        self.run(async move { TcpStream::connect(to).await }).await
    }

    /// As somebody who is not root.
    pub(crate) async fn connect_as_user(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let file = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        let connect = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).unwrap();
            let user = Uid::from_raw(65_534);
            // Of this thread alone, which ends with it.
            set_thread_res_uid(user, user, user).unwrap();
            std::net::TcpStream::connect(to)
        };
        let stream = tokio::task::spawn_blocking(|| std::thread::spawn(connect).join().unwrap());
        let stream = stream.await.unwrap()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    /// Gives its rules to `nft`; whether there is one.
    pub(crate) fn filter(&self, rules: &str) -> bool {
        if Command::new("nft").arg("-v").output().is_err() {
            nullius_skip::skip("the program `nft` makes the rules of the node");
            return false;
        }
        let arguments = ["netns", "exec", &self.namespace, "nft", rules];
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        true
    }

    /// How many connections it has with an IPv4 address.
    pub(crate) async fn connections_with(&self, other: IpAddr) -> usize {
        let IpAddr::V4(other) = other else { panic!("IPv4 alone is counted") };
        let wanted = format!("{:08X}:", u32::from_le_bytes(other.octets()));
        self.run(async move {
            let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            // The other side stands third, and behind it the state: 01 is established.
            let mut lines = text.lines().map(|line| line.split_whitespace().skip(2));
            let is_with = |line: &mut dyn Iterator<Item = &str>| {
                line.next().is_some_and(|it| it.starts_with(&wanted)) && line.next() == Some("01")
            };
            lines.by_ref().filter_map(|mut line| is_with(&mut line).then_some(())).count()
        })
        .await
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4, self.v6]
    }

    /// Serves each connection to a port there.
    pub(crate) async fn serve<F>(
        &self,
        port: u16,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Application
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = format!("[::]:{port}");
        self.run(async move { Application::at(&address, serve).await }).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A node with a bridge.
pub(crate) struct Node {
    pub(crate) host: Host,
    prefix: String,
    next: AtomicUsize,
    pub(crate) domain: Domain,
    sockets: Arc<HostSockets>,
}

impl Node {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("nmesh-{}-{number}", std::process::id());
        let host = Host::new(format!("{prefix}-node"), 1);
        let name = &host.namespace;
        ip(&format!("-n {name} link add br0 type bridge mcast_snooping 0"));
        ip(&format!("-n {name} addr add 10.77.0.1/24 dev br0"));
        ip(&format!("-n {name} addr add fd77::1/64 dev br0 nodad"));
        ip(&format!("-n {name} link set br0 up"));
        let (tell, told) = std::sync::mpsc::channel();
        let open = async move { tell.send(HostSockets::open()).unwrap() };
        drop(host.runtime.as_ref().unwrap().spawn(open));
        let sockets = Arc::new(told.recv().unwrap().unwrap());
        let domain = Domain::new("dev.example");
        Self { host, prefix, next: AtomicUsize::new(5), domain, sockets }
    }

    /// A pod that is not in the mesh.
    pub(crate) fn host(&self) -> Host {
        let last = self.next.fetch_add(1, Ordering::Relaxed);
        let host = Host::new(format!("{}-{last}", self.prefix), u8::try_from(last).unwrap());
        let (node, name) = (&self.host.namespace, &host.namespace);
        ip(&format!("link add eth0 netns {name} type veth peer name v{last} netns {node}"));
        ip(&format!("-n {node} link set v{last} master br0 up"));
        ip(&format!("-n {name} addr add {}/24 dev eth0", host.v4));
        ip(&format!("-n {name} addr add {}/64 dev eth0 nodad", host.v6));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} route add default via 10.77.0.1"));
        ip(&format!("-n {name} -6 route add default via fd77::1"));
        host
    }

    /// A pod in the mesh, of a service account.
    pub(crate) async fn pod(&self, account: &str) -> Pod {
        let host = self.host();
        let path = format!("/run/netns/{}", host.namespace);
        let network = Network::open(Path::new(&path)).unwrap();
        // Another one for each pod.
        let mark = Mark::new(0x539_0000 + u32::from(host.last)).unwrap();
        network.install(mark).unwrap();
        let Listeners { inbound, outbound } = network.listen(mark).unwrap();
        let id = self.domain.id("shop", account);
        let here = Here {
            addresses: host.addresses().into(),
            node_addresses: self.host.addresses().into(),
            ..Here::default()
        };
        let facts = Facts {
            generation: 0,
            tls: self.tls(&id),
            intentions: Vec::new(),
            here,
            directory: Directory::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let (access_log, _writer) = AccessLog::open(&AccessLogTo::File(log.clone())).unwrap();
        let seen = Seen::new(access_log, &Metrics::new());
        let seen = seen.workload(account, format!("shop/{account}-1").into(), Neighbours::Some);
        let (sender, world) = watch::channel(None);
        let pod_name: Arc<str> = format!("shop/{account}-1").into();
        let captured = Captured::start(CapturedParts {
            name: pod_name,
            world,
            sockets: Arc::new(InPod { network, mark, host: Arc::clone(&self.sockets) }),
            inbound,
            outbound,
            seen,
        })
        .unwrap();
        let facts = Mutex::new(facts);
        Pod { host, id, facts, sender, captured: Some(captured), log, _folder: folder }
    }

    pub(crate) fn tls(&self, id: &SpiffeId) -> Arc<WorkloadTls> {
        let shown = self.domain.svid(id);
        let key = PrivatePkcs8KeyDer::from(shown.key).into();
        Arc::new(WorkloadTls::new(shown.chain, key, [self.domain.bundle()]).unwrap())
    }
}

/// What a pod is told.
pub(crate) struct Facts {
    pub(crate) generation: u64,
    pub(crate) tls: Arc<WorkloadTls>,
    pub(crate) intentions: Vec<Json>,
    pub(crate) here: Here,
    pub(crate) directory: Directory,
}

/// A pod in the mesh with its proxy.
pub(crate) struct Pod {
    pub(crate) host: Host,
    pub(crate) id: SpiffeId,
    facts: Mutex<Facts>,
    sender: watch::Sender<Option<Arc<World>>>,
    pub(crate) captured: Option<Captured>,
    pub(crate) log: PathBuf,
    _folder: TempDir,
}

impl Pod {
    /// Changes what it is told, and tells it.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts.lock().unwrap();
        change(&mut facts);
        let domain = self.id.trust_domain().parse().unwrap();
        let home = Home::of(domain);
        let mut intentions = Intentions::default();
        for object in &facts.intentions {
            intentions.put(Intention::read(object, Origin::Cluster, &home).unwrap());
        }
        let workload = nullius_intention::Workload {
            namespace: "shop".parse().unwrap(),
            service_account: self.id.service_account().unwrap().to_owned(),
            labels: Default::default(),
        };
        let rules = Arc::new(intentions.rules_for(workload));
        let (here, directory) = (facts.here.clone(), facts.directory.clone());
        let world = World::new(
            facts.generation,
            Arc::clone(&facts.tls),
            rules,
            Arc::new(here),
            Arc::new(directory),
        );
        self.sender.send_replace(Some(Arc::new(world)));
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        self.sender.send_replace(None);
    }

    /// Who may call it: entries of `sources`.
    pub(crate) fn allow(&self, sources: Json) {
        self.intend(json!({ "sources": sources }));
    }

    /// One intention for it.
    pub(crate) fn intend(&self, mut spec: Json) {
        spec["destination"] = json!({ "serviceAccount": self.id.service_account() });
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": "own", "namespace": "shop" }, "spec": spec,
        });
        self.tell(|facts| facts.intentions = vec![object]);
    }

    /// Tells it of others in the mesh.
    pub(crate) fn knows(&self, others: &[&Self]) {
        self.tell(|facts| {
            for other in others {
                for address in other.host.addresses() {
                    facts.directory.put_pod(address, other.id.clone());
                }
            }
        });
    }

    pub(crate) async fn line(&self, fits: impl Fn(&Json) -> bool) -> Json {
        wait_line(&self.log, fits).await
    }

    pub(crate) async fn reason(&self, reason: &str) -> Json {
        self.line(|line| line["reason"] == reason).await
    }
}

/// Sockets of a pod's network.
struct InPod {
    network: Network,
    mark: Mark,
    host: Arc<HostSockets>,
}

impl Sockets for InPod {
    fn connect_out(&self, to: SocketAddr) -> std::io::Result<TcpSocket> {
        let socket = self.network.connect_out(self.mark, to)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    fn connect_in(&self, from: SocketAddr, _: SocketAddr) -> std::io::Result<TcpSocket> {
        let socket = self.network.connect_in(from)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    fn caller(&self, client: SocketAddr, at: SocketAddr) -> Caller {
        self.host.caller(client, at)
    }
}
