#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::{fs::File, os::unix::net::UnixStream as Plain, sync::mpsc};

use nix::sched::{CloneFlags, unshare};
use nullius_mesh::{
    Sockets as _,
    news::{News, Picture, read_news},
};
use nullius_workload::Registered;
use socket2::SockRef;

use super::*;
use crate::{
    mesh::{Heard, Known, Scope, known::Knowledge, said::Said},
    sidecar::{NodeSockets, wire::line},
};

const UID: &str = "00000000-0000-0000-0000-000000000001";

/// The node's side, with one pod that has a place.
struct Node {
    sidecars: Arc<Sidecars>,
    places: watch::Sender<Places>,
    known: watch::Sender<Option<Arc<Known>>>,
    _addresses: watch::Sender<Addresses>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn uid() -> PodUid {
    UID.parse().unwrap()
}

fn mark() -> Mark {
    Mark::new(0x5eed_0001).unwrap()
}

fn known(pods: usize) -> Arc<Known> {
    let pod = |number: usize| nullius_mesh::news::Workload {
        uid: format!("pod-{number}").into(),
        namespace: "shop".parse().unwrap(),
        name: "p".repeat(200).into(),
        service_account: "web".into(),
        node: "n2".into(),
        addresses: Vec::new(),
        spiffe_id: Some("spiffe://dev.example/ns/shop/sa/web".parse().unwrap()),
        mode: Mode::Node,
        local: None,
    };
    let news = News {
        stream: "s".into(),
        sequence: 1,
        is_complete: true,
        put_workloads: (0..pods).map(pod).collect(),
        ..News::default()
    };
    let mut picture = Picture::default();
    picture.hear(news).unwrap();
    let registered = Registered {
        trust_domain: "dev.example".parse().unwrap(),
        bundles: Default::default(),
        entries: Default::default(),
        reissue_before: None,
    };
    let heard = Heard { picture: Arc::new(picture), scope: Scope::All };
    let mut knowledge = Knowledge::new("n1".to_owned(), Said::default());
    knowledge.know(Some(heard), &registered, std::time::Instant::now()).unwrap()
}

impl Node {
    /// Serves whoever connects as if they were of the pod, in this network.
    fn serve(network: Network, tag: Tag) -> Self {
        let name = "shop/web-1".into();
        let (network, mark) = (Arc::new(network), mark());
        let place = Arc::new(Beside { name, network, mark, tag, addresses: Vec::new() });
        let (places, seen) = watch::channel(Places::from([(uid(), place)]));
        let (known, know) = watch::channel(None);
        let (_addresses, addresses) = watch::channel(Addresses::default());
        let sidecars = Arc::new(Sidecars {
            node: "n1".to_owned(),
            attestor: Attestor::new("/".parse().unwrap()),
            places: seen,
            known: know,
            addresses,
            host: None,
            guests: Guests::default(),
            steps: Arc::default(),
            looks: looks(),
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serving = Arc::clone(&sidecars);
        tokio::spawn(async move {
            let stranger = serving.guests.stranger(1).unwrap();
            let seat = serving.guests.seat(&uid(), &stranger).unwrap();
            drop(stranger);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (serving, guest) = (Arc::clone(&serving), Arc::clone(&seat.guest));
                tokio::spawn(async move { serving.converse(stream, &uid(), &guest).await });
            }
        });
        Self { sidecars, places, known, _addresses, path, _folder: folder }
    }

    async fn ask(&self, ask: Ask) -> (UnixStream, Answer) {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(&line(&ask).unwrap()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (stream, serde_json::from_slice(&answer).unwrap())
    }
}

/// The next frame; nothing at the end.
async fn hear(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let length = stream.read_u32().await.ok()?;
    let kind = stream.read_u8().await.ok()?;
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_makes_its_sockets_and_the_node_adds_their_rights_in_its_own_network_alone() {
    if !rustix::process::geteuid().is_root() {
        nullius_skip::skip("a network namespace takes root");
        return;
    }
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<PathBuf>();
    let inside = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        let sockets = NodeSockets::new(&wait.recv().unwrap());
        let out = sockets.connect_out("192.0.2.1:443".parse().unwrap()).unwrap();
        let from = "192.0.2.7:40000".parse().unwrap();
        let borrowed = sockets.connect_in(from, "10.0.0.1:80".parse().unwrap()).unwrap();
        let marks = [&out, &borrowed].map(|it| SockRef::from(it).mark().unwrap());
        assert_eq!(marks[0], 0x5eed_0001);
        assert!(marks[1] != 0 && marks[1] != marks[0]);
        assert_eq!(borrowed.local_addr().unwrap(), from);
        for _ in 0..100 {
            sockets.connect_out("[2001:db8::1]:443".parse().unwrap()).unwrap();
        }
    });
    let network = Network::from_descriptor(told.recv().unwrap().into()).unwrap();
    let tag = Tag::new([7; 6]);
    network.tag(&tag).unwrap();
    let node = Node::serve(network, tag);
    go.send(node.path.clone()).unwrap();
    tokio::task::spawn_blocking(move || inside.join().unwrap()).await.unwrap();

    // Who runs elsewhere gets nothing for theirs, and the next of their questions waits.
    let path = node.path.clone();
    let refused = tokio::task::spawn_blocking(move || {
        NodeSockets::new(&path).connect_out("192.0.2.1:443".parse().unwrap()).unwrap_err()
    });
    let refused = refused.await.unwrap().to_string();
    assert!(refused.contains("another network"), "{refused}");
    let begun = Instant::now();
    let (_, answer) = node.ask(Ask::Sockets { side: Side::Out, family: Family::V4 }).await;
    assert_eq!(answer, Answer::Sockets, "there was none beside it");
    assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());

    // A pod that has its place no more gets nothing.
    node.places.send_replace(Places::new());
    let (_, answer) = node.ask(Ask::Sockets { side: Side::Out, family: Family::V4 }).await;
    assert!(matches!(answer, Answer::Later(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn news_are_heard_by_one_at_a_time_and_not_begun_without_end() {
    let Ok(network) = Network::open(Path::new("/proc/self/ns/net")) else {
        nullius_skip::skip("to enter a network namespace takes root");
        return;
    };
    let node = Node::serve(network, Tag::new([8; 6]));
    node.known.send_replace(Some(known(2_000)));
    let (mut first, answer) = node.ask(Ask::News).await;
    assert_eq!(answer, Answer::News);
    let (kind, own) = hear(&mut first).await.unwrap();
    let own: OwnPod = serde_json::from_slice(&own).unwrap();
    assert_eq!((kind, own.name.as_str()), (OF_POD, "shop/web-1"));
    let (mut picture, mut messages) = (Picture::default(), 0);
    loop {
        let (kind, message) = hear(&mut first).await.unwrap();
        assert!(kind == OF_MESH && message.len() < 70_000, "{}", message.len());
        messages += 1;
        let news = read_news(nullius_proto::decode(&message).unwrap()).unwrap();
        if picture.hear(news).unwrap().is_some() {
            break;
        }
    }
    assert!(messages > 5 && picture.workloads().len() == 2_000, "{messages}");

    // The next ends the one before.
    let (mut second, answer) = node.ask(Ask::News).await;
    assert_eq!(answer, Answer::News);
    assert_eq!(hear(&mut first).await, None);
    let (mut third, answer) = node.ask(Ask::News).await;
    assert_eq!(answer, Answer::News);
    while hear(&mut second).await.is_some() {}
    let (_, answer) = node.ask(Ask::News).await;
    assert!(matches!(answer, Answer::Later(_)), "{answer:?}");
    assert!(hear(&mut third).await.is_some(), "who is refused ends nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_makes_the_node_hold_no_more_than_the_system_does() {
    let Ok(network) = Network::open(Path::new("/proc/self/ns/net")) else {
        nullius_skip::skip("to enter a network namespace takes root");
        return;
    };
    let node = Node::serve(network, Tag::new([9; 6]));
    node.known.send_replace(Some(known(20_000)));
    let deaf = Plain::connect(&node.path).unwrap();
    io::Write::write_all(&mut &deaf, &line(&Ask::News).unwrap()).unwrap();
    // Others of the node are told meanwhile: what all are told is the same, and is there once.
    let told = {
        let steps = Arc::clone(&node.sidecars.steps);
        let picture = Arc::clone(&node.known.borrow().as_ref().unwrap().picture);
        let next = tokio::task::spawn_blocking(move || {
            let one = steps.next(None, &picture);
            let two = steps.next(None, &picture);
            Arc::ptr_eq(&one, &two)
        });
        next.await.unwrap()
    };
    assert!(told);
    let (mut other, answer) = node.ask(Ask::News).await;
    assert_eq!(answer, Answer::News);
    let mut bytes = 0;
    while bytes < 4_000_000 {
        bytes += hear(&mut other).await.unwrap().1.len();
    }
    drop(deaf);
}
