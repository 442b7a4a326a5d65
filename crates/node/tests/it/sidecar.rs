//! A pod whose own proxy takes its traffic, and one that the node leads. The proxy is a process of its own, in the pod's cgroup: the test's
//! program once more.

use std::{
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nullius_mesh::AccessLogTo;
use nullius_node::{SidecarError, SidecarSettings, run_sidecar};
use nullius_proto::node_v1::{MeshMode, MeshNews};
use nullius_telemetry::{Metrics, Readiness};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{AGENT, Authority},
    mesh::{
        BACK, FRONT, LONG, PORT, Place, SHORT, add, intention, is_installed, prepare, tell,
        workload,
    },
    node::{Host, serve_agent},
};

/// Names the folder of a host to the process that is to be a proxy there.
const AS_PROXY: &str = "NULLIUS_TEST_PROXY_OF_HOST";
const NAME: &str = "sidecar::a_pods_own_proxy_takes_its_traffic_and_nothing_passes_without_it";
/// What the proxy's process ends with where the node refuses it.
const REFUSED: i32 = 17;

/// The cgroup of a container of a pod, in one hierarchy.
struct Container(PathBuf);

impl Container {
    fn of(pod: &str) -> Self {
        let hierarchy = match fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap() {
            true => "/sys/fs/cgroup",
            false => "/sys/fs/cgroup/pids",
        };
        let path = PathBuf::from(format!("{hierarchy}/kubepods/pod{pod}/{}", "0a".repeat(32)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Up to the first that others use too.
        for path in self.0.ancestors().take(3) {
            let begun = Instant::now();
            // Whoever was killed there is gone a moment later.
            while fs::remove_dir(path).is_err() && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(SHORT);
            }
        }
    }
}

/// A proxy that runs in a container.
struct Proxy(Child);

impl Proxy {
    /// In the cgroup of a container, and in the network of its pod.
    fn start(host: &Host, container: &Container, place: &Place) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([NAME, "--exact", "--nocapture"])
            .env(AS_PROXY, host.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = place.inside(|| command.spawn().unwrap());
        fs::write(container.0.join("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.as_mut().unwrap().write_all(b"now\n").unwrap();
        Self(child)
    }

    fn end(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What the process is that was started as a proxy.
fn be_proxy(host: PathBuf) -> ! {
    // Who connects is looked at when it is in its container.
    io::stdin().lock().read_line(&mut String::new()).unwrap();
    let settings = SidecarSettings {
        node: host.join("cni/proxy/node.sock"),
        identity: host.join("run/api.sock").to_str().unwrap().parse().unwrap(),
        access_log: AccessLogTo::Off,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    let running = run_sidecar(settings, &metrics, &ready, CancellationToken::new());
    match runtime.block_on(running) {
        Err(SidecarError::Refused(_)) => std::process::exit(REFUSED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pods_own_proxy_takes_its_traffic_and_nothing_passes_without_it() {
    if let Some(host) = std::env::var_os(AS_PROXY) {
        be_proxy(host.into());
    }
    let Some(places) = Place::pair() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let authority = Authority::create();
    let [of_front, of_back] = [FRONT, BACK].map(|uid| format!("k8s:pod-uid:{uid}"));
    let entries = authority.registrations(&[
        ("1", "/ns/shop/sa/front", &of_front),
        ("2", "/ns/shop/sa/back", &of_back),
    ]);
    let agent = runtime.block_on(serve_agent(&authority, AGENT, entries));
    let host = Host::create(&authority.bundle(), agent.address);
    prepare(&host);
    let node = runtime.block_on(async { host.start_in_mesh() });
    let [front, back] = &places;
    let news = MeshNews {
        is_complete: true,
        put_workloads: vec![
            workload(FRONT, "front", front, MeshMode::Node),
            workload(BACK, "back", back, MeshMode::Sidecar),
        ],
        ..MeshNews::default()
    };
    tell(&agent, news);
    runtime.block_on(host.is_ready());
    is_installed(&host);
    add(&host, FRONT, front);
    // It begins when nothing can pass beside its proxy, and before that has begun.
    add(&host, BACK, back);
    let called = back.echo();
    let to = SocketAddr::new(back.address, PORT);
    let from_back = front.echo();
    let to_front = SocketAddr::new(front.address, PORT);
    let is_refused = |result: io::Result<_>| {
        assert_eq!(result.map(drop).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    };
    is_refused(back.connect(to_front));
    let container = Container::of(BACK);
    tell(&agent, intention());
    front.says(to).unwrap_err();

    let proxy = Proxy::start(&host, &container, back);
    let mut live = front.until_it_says(to);
    assert_eq!(called.recv().unwrap().ip(), front.address, "it sees the client");
    // Its own calls are proven by it, and denied by whom it calls.
    back.says(to_front).unwrap_err();
    assert!(from_back.try_recv().is_err(), "the application must not hear of it");
    // What is allowed no more is cut, also while it lives.
    let gone = MeshNews {
        is_complete: true,
        gone_intentions: vec!["i-1".to_owned()],
        ..MeshNews::default()
    };
    let begun = Instant::now();
    tell(&agent, gone);
    let ended = live.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    front.says(to).unwrap_err();
    tell(&agent, intention());
    let mut live = front.until_it_says(to);

    // Killed: nobody listens, what was open ends, and the node does not take its place. The next one takes up.
    proxy.kill();
    let ended = live.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    is_refused(back.connect(to_front));
    while called.try_recv().is_ok() {}
    front.says(to).unwrap_err();
    assert!(called.try_recv().is_err(), "the application must not hear of it");
    let proxy = Proxy::start(&host, &container, back);
    front.until_it_says(to);

    // A second one beside it gets no listeners, and the first goes on.
    let second = Proxy::start(&host, &container, back);
    front.until_it_says(to);

    // Another pod's process is no proxy, nor is one of the host.
    let of_front = Container::of(FRONT);
    assert_eq!(Proxy::start(&host, &of_front, front).end().code(), Some(REFUSED));
    let mut stranger = UnixStream::connect(host.path("cni/proxy/node.sock")).unwrap();
    stranger.set_read_timeout(Some(LONG)).unwrap();
    let _ = stranger.write_all(b"{\"sockets\":{\"side\":\"out\",\"family\":\"v4\"}}\n");
    let mut heard = Vec::new();
    let ended = stranger.read_to_end(&mut heard);
    assert!(ended.is_err() || heard.is_empty(), "{}", String::from_utf8_lossy(&heard));

    // A node that begins anew leaves what the proxy holds, and tells it on.
    runtime.block_on(node.stop());
    let node = runtime.block_on(async { host.start_in_mesh() });
    runtime.block_on(host.is_ready());
    add(&host, FRONT, front);
    add(&host, BACK, back);
    let mut live = front.until_it_says(to);
    tell(
        &agent,
        MeshNews {
            is_complete: true,
            gone_intentions: vec!["i-1".to_owned()],
            ..MeshNews::default()
        },
    );
    let ended = live.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");

    second.kill();
    proxy.kill();
    drop((container, of_front));
    runtime.block_on(node.stop());
    runtime.block_on(agent.stop());
}
