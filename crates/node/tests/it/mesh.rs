//! Two pods of the mesh on one node: networks that the plugin hands over, applications that know nothing of it, and what is told of
//! them. The networks are namespaces with a cable between them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns, unshare};
use nullius_node::{PLUGIN, run_plugin};
use nullius_proto::node_v1::{
    IntentionObject, IntentionOrigin, LocalWorkload, MeshMode, MeshNews, Workload,
};
use serde_json::{Value, json};

use crate::{
    agent::{AGENT, Agent, Authority, DOMAIN},
    identity::replicas,
    node::{Host, serve_agent},
};

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SHORT: Duration = Duration::from_millis(20);
pub(crate) const FRONT: &str = "0a1b2c3d-0000-4111-8222-00000000000f";
pub(crate) const BACK: &str = "0a1b2c3d-0000-4111-8222-00000000000b";
pub(crate) const PORT: u16 = 8080;

/// A pod's network.
pub(crate) struct Place {
    network: File,
    pub(crate) address: IpAddr,
}

impl Place {
    pub(crate) fn pair() -> Option<[Self; 2]> {
        if !rustix::process::geteuid().is_root() {
            nullius_skip::skip("network namespaces take root");
            return None;
        }
        if Command::new("ip").arg("-V").output().is_err() {
            nullius_skip::skip("the program `ip` is not here");
            return None;
        }
        let [front, back] = ["10.77.0.2", "10.77.0.3"].map(|address| {
            let made = std::thread::spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            Self { network: made.join().unwrap(), address: address.parse().unwrap() }
        });
        front.ip(&format!("link add eth0 type veth peer name eth0 netns {}", back.path()));
        for place in [&front, &back] {
            place.ip("link set lo up");
            place.ip(&format!("addr add {}/24 dev eth0", place.address));
            place.ip("link set eth0 up");
        }
        Some([front, back])
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(self.network.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }

    fn ip(&self, line: &str) -> String {
        let run = || Command::new("ip").args(line.split(' ')).output().unwrap();
        let output = self.inside(run);
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.inside(|| TcpStream::connect_timeout(&to, LONG))?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(stream)
    }

    /// An application that says back what it hears; tells who called.
    pub(crate) fn echo(&self) -> mpsc::Receiver<SocketAddr> {
        let at = SocketAddr::new(self.address, PORT);
        let listener = self.inside(|| TcpListener::bind(at).unwrap());
        let (tell, called) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = tell.send(stream.peer_addr().unwrap());
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    let _ = io::copy(&mut reader, &mut stream);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        called
    }

    /// Whether what is said comes back.
    pub(crate) fn says(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = self.connect(to)?;
        stream.write_all(b"hello")?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard)?;
        assert_eq!(&heard, b"hello");
        Ok(stream)
    }

    pub(crate) fn until_it_says(&self, to: SocketAddr) -> TcpStream {
        let begun = Instant::now();
        loop {
            match self.says(to) {
                Ok(stream) => return stream,
                Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
            }
            std::thread::sleep(SHORT);
        }
    }
}

pub(crate) fn workload(uid: &str, name: &str, place: &Place, mode: MeshMode) -> Workload {
    Workload {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: format!("{name}-1"),
        service_account: name.to_owned(),
        node: "n1".to_owned(),
        addresses: vec![place.address.to_string()],
        spiffe_id: format!("spiffe://{DOMAIN}/ns/shop/sa/{name}"),
        mode: mode.into(),
        local: Some(LocalWorkload::default()),
    }
}

pub(crate) fn intention() -> MeshNews {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": "back", "namespace": "shop" },
        "spec": {
            "destination": { "serviceAccount": "back" },
            "sources": [{ "serviceAccount": "front", "action": "allow" }],
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

pub(crate) fn tell(agent: &Agent, news: MeshNews) {
    agent.news.send_modify(|all| all.push(news));
}

/// Where a container runtime looks for networks, with one in it.
pub(crate) fn prepare(host: &Host) {
    for folder in ["bin", "net.d"] {
        fs::create_dir(host.path(folder)).unwrap();
    }
    let network = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]}"#;
    fs::write(host.path("net.d/10-pods.conflist"), network).unwrap();
}

/// Waits until the node has put its plugin where a runtime looks.
pub(crate) fn is_installed(host: &Host) {
    let network = || fs::read_to_string(host.path("net.d/10-pods.conflist")).unwrap();
    let begun = Instant::now();
    while !network().contains(PLUGIN) {
        assert!(begun.elapsed() < LONG);
        std::thread::sleep(SHORT);
    }
    assert!(host.path("bin").join(PLUGIN).exists());
}

/// What the container runtime does for a pod.
fn plugin(host: &Host, command: &str, uid: &str, place: &Place) -> (bool, String) {
    let arguments = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=pod;K8S_POD_UID={uid}");
    let environment: BTreeMap<String, String> = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", uid),
        ("CNI_NETNS", &place.path()),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", &arguments),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let result =
        json!({ "cniVersion": "1.0.0", "ips": [{ "address": format!("{}/24", place.address) }] });
    // As the node has written it into the network.
    let network: Value =
        serde_json::from_slice(&fs::read(host.path("net.d/10-pods.conflist")).unwrap()).unwrap();
    let mut config = network["plugins"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(config["type"], PLUGIN);
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("pods");
    config["prevResult"] = result;
    let output = run_plugin(&environment, config.to_string().as_bytes());
    (output.is_success, output.text)
}

pub(crate) fn add(host: &Host, uid: &str, place: &Place) {
    let begun = Instant::now();
    loop {
        // As kubelets do: again and again.
        match plugin(host, "ADD", uid, place) {
            (true, _) => return,
            (false, text) => assert!(begun.elapsed() < LONG, "{text}"),
        }
        std::thread::sleep(SHORT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_tells_decides_about_calls_of_pods() {
    let Some(places) = Place::pair() else { return };
    let authority = Authority::create();
    let [of_front, of_back] = [FRONT, BACK].map(|uid| format!("k8s:pod-uid:{uid}"));
    let entries = authority.registrations(&[
        ("1", "/ns/shop/sa/front", &of_front),
        ("2", "/ns/shop/sa/back", &of_back),
    ]);
    let agent = serve_agent(&authority, AGENT, entries).await;
    let host = Host::create(&authority.bundle(), agent.address);
    prepare(&host);
    let node = host.start_in_mesh();
    tell(
        &agent,
        MeshNews {
            is_complete: true,
            put_workloads: vec![
                workload(FRONT, "front", &places[0], MeshMode::Node),
                workload(BACK, "back", &places[1], MeshMode::Node),
            ],
            ..MeshNews::default()
        },
    );
    host.is_ready().await;
    tokio::task::block_in_place(|| is_installed(&host));

    let (tell_agent, asked) = mpsc::channel::<MeshNews>();
    let news = agent.news.clone();
    let teller = std::thread::spawn(move || {
        for one in asked {
            news.send_modify(|all| all.push(one));
        }
    });
    let (host, places) = tokio::task::spawn_blocking(move || {
        let [front, back] = &places;
        add(&host, FRONT, front);
        add(&host, BACK, back);
        let called = back.echo();
        let to = SocketAddr::new(back.address, PORT);

        // Nothing allows it: what is said is answered by nobody.
        front.says(to).unwrap_err();
        assert!(called.try_recv().is_err(), "the application must not hear of it");

        tell_agent.send(intention()).unwrap();
        let mut live = front.until_it_says(to);
        assert_eq!(called.recv().unwrap().ip(), front.address, "it sees the client");

        // What is allowed no more is cut, also while it lives.
        let gone = MeshNews {
            is_complete: true,
            gone_intentions: vec!["i-1".to_owned()],
            ..MeshNews::default()
        };
        let begun = Instant::now();
        tell_agent.send(gone).unwrap();
        let ended = live.read(&mut [0; 1]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        eprintln!("mesh: told to cut, {} ms later it is", took.as_millis());
        front.says(to).unwrap_err();

        tell_agent.send(intention()).unwrap();
        front.until_it_says(to);
        (host, places)
    })
    .await
    .unwrap();
    teller.join().unwrap();

    // An intention that cannot be read any more says what it said, also after a restart.
    let unreadable = IntentionObject {
        uid: "i-1".to_owned(),
        origin: IntentionOrigin::Cluster.into(),
        generation: 2,
        json: br#"{"spec":{}}"#.to_vec(),
    };
    let unreadable =
        MeshNews { is_complete: true, put_intentions: vec![unreadable], ..MeshNews::default() };
    tell(&agent, unreadable.clone());
    let mut reports = agent.reports.clone();
    let refused = reports.wait_for(|it| it.as_ref().is_some_and(|it| !it.refused.is_empty()));
    tokio::time::timeout(LONG, refused).await.unwrap().unwrap();
    let says = |name: &str, what: &[u8]| {
        let bytes = fs::read(host.path("state").join(name)).unwrap_or_default();
        bytes.windows(what.len()).any(|it| it == what)
    };
    let begun = Instant::now();
    while !says("mesh", br#"{"spec":{}}"#) || !says("mesh-said", br#""serviceAccount":"back""#) {
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(SHORT).await;
    }
    // To a new stream the agent tells what stands, and not what stood.
    agent.news.send_modify(|all| {
        *all = vec![MeshNews { put_workloads: all[0].put_workloads.clone(), ..unreadable }];
    });

    // While no node runs nobody is let through, and the next one goes on.
    node.stop().await;
    let to = SocketAddr::new(places[1].address, PORT);
    assert_eq!(places[0].connect(to).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let (is_success, _) = plugin(&host, "ADD", FRONT, &places[0]);
    assert!(!is_success);
    let node = host.start_in_mesh();
    host.is_ready().await;
    let (host, places) = tokio::task::spawn_blocking(move || {
        add(&host, FRONT, &places[0]);
        add(&host, BACK, &places[1]);
        places[0].until_it_says(to);
        (host, places)
    })
    .await
    .unwrap();

    // Who leaves the mesh goes on without it, and nothing is left in its network.
    tell(
        &agent,
        MeshNews {
            is_complete: true,
            put_workloads: vec![
                workload(FRONT, "front", &places[0], MeshMode::None),
                workload(BACK, "back", &places[1], MeshMode::None),
            ],
            gone_intentions: vec!["i-1".to_owned()],
            ..MeshNews::default()
        },
    );
    let (host, places) = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        while places.iter().any(|it| it.ip("rule show").contains("15006")) {
            assert!(begun.elapsed() < LONG);
            std::thread::sleep(SHORT);
        }
        places[0].until_it_says(to);
        add(&host, FRONT, &places[0]);
        (host, places)
    })
    .await
    .unwrap();
    let heard = agent.news.borrow().len() as u64;
    let mut reports = agent.reports.clone();
    let told = reports.wait_for(|it| it.as_ref().is_some_and(|it| it.sequence == heard));
    let told = tokio::time::timeout(LONG, told).await.unwrap().unwrap().clone().unwrap();
    assert_eq!((told.stream.as_str(), told.refused.len()), ("s1", 0));
    node.stop().await;
    drop((host, places));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_a_replica_that_says_nothing_of_the_mesh() {
    let authority = Authority::create();
    let first = authority.registrations(&[]);
    // It tells what is registered, and begins a stream on which nothing comes.
    let silent = serve_agent(&authority, AGENT, first.clone()).await;
    let well = serve_agent(&authority, AGENT, first).await;
    tell(&well, MeshNews { is_complete: true, ..MeshNews::default() });
    let issuer = replicas(silent.address, well.address).await;
    let host = Host::create(&authority.bundle(), issuer);
    for folder in ["bin", "net.d"] {
        fs::create_dir(host.path(folder)).unwrap();
    }
    let node = host.start_in_mesh();
    host.is_ready().await;
    let mut reports = well.reports.clone();
    let reported = reports.wait_for(Option::is_some);
    tokio::time::timeout(LONG, reported).await.unwrap().unwrap();
    assert!(silent.reports.borrow().is_none());
    node.stop().await;
}
