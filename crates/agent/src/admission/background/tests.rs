#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use serde_json::json;

use super::*;

/// A cluster in memory that counts what it is asked.
#[derive(Clone)]
struct Lab(Arc<LabState>);

struct LabState {
    objects: Mutex<BTreeMap<String, Value>>,
    asked: AtomicU32,
    failing: AtomicU32,
    watchers: Mutex<Vec<mpsc::UnboundedSender<ObjectNews>>>,
}

fn pods() -> ServedKind {
    ServedKind {
        group: String::new(),
        version: "v1".into(),
        kind: "Pod".into(),
        plural: "pods".into(),
    }
}

fn secrets() -> ServedKind {
    ServedKind { kind: "Secret".into(), plural: "secrets".into(), ..pods() }
}

impl Lab {
    fn new() -> Self {
        Self(Arc::new(LabState {
            objects: Mutex::default(),
            asked: AtomicU32::new(0),
            failing: AtomicU32::new(0),
            watchers: Mutex::default(),
        }))
    }

    fn put(&self, name: &str, version: u32, host_network: bool) {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string() },
            "spec": { "hostNetwork": host_network, "containers": [{ "name": "c", "image": "i" }] },
        });
        self.0.objects.lock().unwrap().insert(name.to_owned(), object);
        self.news(&ObjectNews::Stands {
            namespace: "shop".into(),
            name: name.into(),
            uid: name.into(),
            version: version.to_string(),
        });
    }

    fn delete(&self, name: &str) {
        self.0.objects.lock().unwrap().remove(name);
        self.news(&ObjectNews::Gone { uid: name.into() });
    }

    fn news(&self, news: &ObjectNews) {
        for watcher in self.0.watchers.lock().unwrap().iter() {
            let _ = watcher.send(news.clone());
        }
    }

    fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::Acquire)
    }

    fn ask(&self) -> Result<(), Unread> {
        self.0.asked.fetch_add(1, Ordering::AcqRel);
        let left = |left: u32| left.checked_sub(1);
        match self.0.failing.fetch_update(Ordering::AcqRel, Ordering::Acquire, left) {
            Ok(_) => Err(Unread::Failed("out of order".to_owned())),
            Err(_) => Ok(()),
        }
    }
}

impl Cluster for Lab {
    async fn kinds(&self) -> Result<Vec<ServedKind>, Unread> {
        Ok(vec![pods(), secrets()])
    }

    async fn page(&self, kind: &ServedKind, next: Option<String>) -> Result<ObjectPage, Unread> {
        assert_eq!(kind.plural, "pods", "nothing else is listed");
        self.ask()?;
        // One object a page.
        let objects = self.0.objects.lock().unwrap();
        let skip: usize = next.map_or(0, |next| next.parse().unwrap());
        let page = objects.values().skip(skip).take(1).cloned().collect();
        let next = (objects.len() > skip + 1).then(|| (skip + 1).to_string());
        Ok(ObjectPage { objects: page, next })
    }

    async fn read(&self, _: &ServedKind, _: &str, name: &str) -> Result<Option<Value>, Unread> {
        self.ask()?;
        Ok(self.0.objects.lock().unwrap().get(name).cloned())
    }

    fn news(&self, _: &ServedKind) -> impl Stream<Item = ObjectNews> + Send + Unpin + 'static {
        let (tell, news) = mpsc::unbounded_channel();
        self.0.watchers.lock().unwrap().push(tell);
        tokio_stream::wrappers::UnboundedReceiverStream::new(news)
    }
}

/// A scanner of a lab, and who hears it.
struct Desk {
    words: mpsc::Receiver<ScanWord>,
    leads: watch::Sender<Option<u64>>,
    measures: watch::Sender<Option<Arc<Measures>>>,
}

fn measures(label: &str) -> Option<Arc<Measures>> {
    let labels = json!({ "pod-security.kubernetes.io/enforce": label });
    let shop = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": labels } });
    Some(Arc::new(Measures { namespaces: vec![shop], minor: 36, ..Measures::default() }))
}

impl Desk {
    fn open(lab: &Lab) -> Self {
        let (reports, words) = Reports::heard();
        let (leads, leading) = watch::channel(None);
        let (tell_measures, known) = watch::channel(measures("privileged"));
        let scanner = Scanner::new(lab.clone(), reports, known, leading);
        tokio::spawn(scanner.run());
        Self { words, leads, measures: tell_measures }
    }

    async fn next(&mut self) -> (u64, u64, Kind) {
        let word = tokio::time::timeout(Duration::from_secs(600), self.words.recv());
        let word = word.await.unwrap().unwrap();
        let scan = word.scan.unwrap();
        (scan.term, scan.number, word.kind.unwrap())
    }

    /// What is told of the next object: name, checks that the cluster refuses, and whether anything is left.
    async fn findings(&mut self) -> (String, Vec<String>, bool) {
        let (.., Kind::Findings(of)) = self.next().await else { panic!("other word") };
        let denied = of.findings.iter().filter(|found| found.enforcement == "deny");
        let denied = denied.map(|found| found.check.clone()).collect();
        (of.object.unwrap().name, denied, !of.findings.is_empty())
    }

    async fn done(&mut self) -> ScanDone {
        let (.., Kind::Done(done)) = self.next().await else { panic!("not the end") };
        done
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_looked_at_once_and_then_only_what_changes() {
    let lab = Lab::new();
    for name in ["a", "b", "c"] {
        lab.put(name, 1, true);
    }
    let mut desk = Desk::open(&lab);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(lab.asked(), 0, "who does not lead does not look");
    desk.leads.send_replace(Some(7));
    for name in ["a", "b", "c"] {
        let told = desk.findings().await;
        assert_eq!((told.0.as_str(), told.2), (name, true));
    }
    assert_eq!(desk.done().await.objects, 3);
    assert_eq!(lab.asked(), 3);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(lab.asked(), 3, "nothing changed");

    let began = Instant::now();
    lab.put("b", 2, false);
    let mended = desk.findings().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(mended.0, "b");
    assert_eq!(lab.asked(), 4, "it alone was read");
    lab.delete("c");
    assert_eq!(desk.findings().await, ("c".to_owned(), Vec::new(), false));
    assert_eq!(lab.asked(), 4, "what is gone is not read");
}

#[tokio::test(start_paused = true)]
async fn the_api_server_is_asked_ten_times_a_second_at_most() {
    let lab = Lab::new();
    (0..50).for_each(|number| lab.put(&format!("p{number:02}"), 1, true));
    let mut desk = Desk::open(&lab);
    desk.leads.send_replace(Some(1));
    let began = Instant::now();
    for _ in 0..50 {
        desk.findings().await;
    }
    desk.done().await;
    assert!(began.elapsed() >= Duration::from_millis(4_900), "{:?}", began.elapsed());
    // A storm of changes of one object is one question each tenth of a second at most.
    let before = lab.asked();
    for version in 2..1_000 {
        lab.put("p00", version, true);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(lab.asked() - before <= 11, "{}", lab.asked() - before);
}

#[tokio::test(start_paused = true)]
async fn another_label_of_a_namespace_is_looked_at_and_the_same_ones_are_not() {
    let lab = Lab::new();
    lab.put("a", 1, true);
    let mut desk = Desk::open(&lab);
    desk.leads.send_replace(Some(1));
    assert!(desk.findings().await.1.is_empty(), "the namespace asks for nothing");
    desk.done().await;
    desk.measures.send_replace(measures("privileged"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(lab.asked(), 1);
    desk.measures.send_replace(measures("baseline"));
    assert_eq!(desk.findings().await.1, ["hostNamespaces"]);
    let (term, number, _) = desk.next().await;
    assert_eq!((term, number), (1, 2), "the next round of the same leader");
}

#[tokio::test(start_paused = true)]
async fn what_stands_is_told_as_standing_in_the_next_round() {
    let lab = Lab::new();
    lab.put("a", 1, true);
    let mut desk = Desk::open(&lab);
    desk.leads.send_replace(Some(1));
    desk.findings().await;
    desk.done().await;
    tokio::time::sleep(ROUND).await;
    let (_, 2, Kind::Standing(standing)) = desk.next().await else { panic!("not the next round") };
    assert_eq!(standing.uids, ["a"]);
    desk.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_out_of_order_resolves_nothing_and_a_new_leader_begins_its_own_scan() {
    let lab = Lab::new();
    lab.put("a", 1, true);
    lab.0.failing.store(TRIES, Ordering::Release);
    let mut desk = Desk::open(&lab);
    desk.leads.send_replace(Some(1));
    // The first round is given up without an end.
    let (term, number, kind) = desk.next().await;
    assert_eq!((term, number), (1, 2));
    assert!(matches!(kind, Kind::Findings(_)), "{kind:?}");
    desk.done().await;
    desk.leads.send_replace(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.put("a", 2, false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(desk.words.try_recv().is_err(), "who no longer leads tells nothing");
    desk.leads.send_replace(Some(5));
    let (term, number, _) = desk.next().await;
    assert_eq!((term, number), (5, 1));
}
