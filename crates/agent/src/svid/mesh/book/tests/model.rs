//! Whatever happens, in whatever order: what a node was told step by step is what it would be told from the beginning.

use std::collections::BTreeMap;

use nullius_mesh::news::{Picture, read_news, write_news};
use proptest::{collection::vec, prelude::*};

use super::*;

const NODES: [&str; 2] = ["a", "b"];
const NAMESPACES: [&str; 3] = ["shop", "plain", SYSTEM_NAMESPACE];

/// Something that happens in a cluster.
#[derive(Debug, Clone)]
enum Event {
    Pod(Box<PodNews>),
    PodGone(usize, usize),
    Namespace(usize, Option<&'static str>),
    NamespaceGone(usize),
    Service(usize, usize, Option<&'static str>),
    ServiceGone(usize, usize),
    Slice(usize, usize, usize, Vec<(usize, bool)>),
    SliceGone(usize, usize),
    Intention(usize, usize, i64),
    IntentionGone(usize, usize),
    /// All watches begin anew.
    Anew,
}

/// What stands, as the API server has it.
#[derive(Debug, Clone, Default)]
struct Cluster {
    pods: BTreeMap<(usize, Name), PodNews>,
    namespaces: BTreeMap<usize, NamespaceNews>,
    services: BTreeMap<(usize, usize), ServiceNews>,
    slices: BTreeMap<(usize, usize), SliceNews>,
    intentions: BTreeMap<(usize, usize), ObjectNews>,
}

fn address(number: usize) -> String {
    format!("10.0.0.{}", number + 1)
}

fn named(what: &str, number: usize) -> String {
    format!("{what}-{number}")
}

impl Cluster {
    /// Lets something happen, and says what a watch would.
    fn happen(&mut self, event: Event, book: &mut Book) -> Vec<Touched> {
        match event {
            Event::Pod(pod) => {
                let space = NAMESPACES.iter().position(|it| **it == *pod.namespace).unwrap();
                self.pods.insert((space, pod.name.clone()), (*pod).clone());
                vec![book.hear_pods(Heard::Put(*pod))]
            }
            Event::PodGone(space, pod) => {
                let gone = self.pods.remove(&(space, named("pod", pod).into()));
                gone.map(|gone| book.hear_pods(Heard::Gone(gone))).into_iter().collect()
            }
            Event::Namespace(space, label) => {
                let news = namespace(NAMESPACES[space], label);
                self.namespaces.insert(space, news.clone());
                vec![book.hear_namespaces(Heard::Put(news))]
            }
            Event::NamespaceGone(space) => {
                let gone = self.namespaces.remove(&space);
                gone.map(|gone| book.hear_namespaces(Heard::Gone(gone))).into_iter().collect()
            }
            Event::Service(space, of, app_protocol) => {
                let news = service(NAMESPACES[space], &named("service", of), app_protocol);
                self.services.insert((space, of), news.clone());
                vec![book.hear_services(Heard::Put(news))]
            }
            Event::ServiceGone(space, of) => {
                let gone = self.services.remove(&(space, of));
                gone.map(|gone| book.hear_services(Heard::Gone(gone))).into_iter().collect()
            }
            Event::Slice(space, number, of, endpoints) => {
                let endpoints: Vec<(String, bool)> =
                    endpoints.into_iter().map(|(at, is_ready)| (address(at), is_ready)).collect();
                let endpoints: Vec<(&str, bool)> =
                    endpoints.iter().map(|(at, is_ready)| (at.as_str(), *is_ready)).collect();
                let news = SliceNews {
                    name: named("slice", number).into(),
                    ..slice(NAMESPACES[space], &named("service", of), &endpoints)
                };
                self.slices.insert((space, number), news.clone());
                vec![book.hear_slices(Heard::Put(news))]
            }
            Event::SliceGone(space, number) => {
                let gone = self.slices.remove(&(space, number));
                gone.map(|gone| book.hear_slices(Heard::Gone(gone))).into_iter().collect()
            }
            Event::Intention(space, number, generation) => {
                let news = intention(NAMESPACES[space], &named("one", number), generation);
                self.intentions.insert((space, number), news.clone());
                vec![book.hear_intentions(Heard::Put(news))]
            }
            Event::IntentionGone(space, number) => {
                let gone = self.intentions.remove(&(space, number));
                gone.map(|gone| book.hear_intentions(Heard::Gone(gone))).into_iter().collect()
            }
            Event::Anew => self.list(book),
        }
    }

    fn list(&self, book: &mut Book) -> Vec<Touched> {
        vec![
            book.hear_pods(Heard::All(self.pods.values().cloned().collect())),
            book.hear_slices(Heard::All(self.slices.values().cloned().collect())),
            book.hear_services(Heard::All(self.services.values().cloned().collect())),
            book.hear_namespaces(Heard::All(self.namespaces.values().cloned().collect())),
            book.hear_intentions(Heard::All(self.intentions.values().cloned().collect())),
        ]
    }
}

fn event() -> impl Strategy<Value = Event> {
    let space = 0..NAMESPACES.len();
    let label =
        prop_oneof![Just(None), Just(Some("node")), Just(Some("disabled")), Just(Some("?"))];
    let node = prop_oneof![1 => Just(None), 4 => (0..NODES.len()).prop_map(Some)];
    let pod = (
        space.clone(),
        0..3_usize,
        0..2_u8,
        node,
        0..5_usize,
        label.clone(),
        0..10_u8,
        any::<bool>(),
    );
    let pod = pod.prop_map(|(space, name, life, node, at, label, odds, has_label)| {
        let (name, at) = (named("pod", name), if at == 4 { String::new() } else { address(at) });
        let mut pod = super::pod(NAMESPACES[space], &name, node.map(|node| NODES[node]), &at);
        pod.uid = format!("{}-{life}", pod.uid).into();
        pod.mesh = label.map(Into::into);
        pod.is_ended = odds == 0;
        pod.is_on_host = odds == 1;
        if has_label {
            Arc::make_mut(&mut pod.parts).labels.insert("more".to_owned(), "yes".to_owned());
        }
        Event::Pod(Box::new(pod))
    });
    let app = prop_oneof![Just(None), Just(Some("http")), Just(Some("tcp"))];
    let ends = vec((0..4_usize, any::<bool>()), 0..4);
    prop_oneof![
        8 => pod,
        3 => (space.clone(), 0..3_usize).prop_map(|(space, pod)| Event::PodGone(space, pod)),
        2 => (space.clone(), label).prop_map(|(space, label)| Event::Namespace(space, label)),
        1 => space.clone().prop_map(Event::NamespaceGone),
        2 => (space.clone(), 0..2_usize, app).prop_map(|(space, of, app)| Event::Service(space, of, app)),
        1 => (space.clone(), 0..2_usize).prop_map(|(space, of)| Event::ServiceGone(space, of)),
        4 => (space.clone(), 0..2_usize, 0..2_usize, ends)
            .prop_map(|(space, number, of, ends)| Event::Slice(space, number, of, ends)),
        1 => (space.clone(), 0..2_usize).prop_map(|(space, number)| Event::SliceGone(space, number)),
        2 => (space.clone(), 0..2_usize, 1..3_i64)
            .prop_map(|(space, number, generation)| Event::Intention(space, number, generation)),
        1 => (space, 0..2_usize).prop_map(|(space, number)| Event::IntentionGone(space, number)),
        1 => Just(Event::Anew),
    ]
}

/// Tells a node of some things, by the wire.
fn hear(book: &Book, node: &str, picture: &mut Picture, keys: impl IntoIterator<Item = Key>) {
    let mut news = News {
        stream: node.into(),
        sequence: picture.sequence() + 1,
        is_complete: true,
        ..News::default()
    };
    keys.into_iter().for_each(|key| book.tell(node, &key, &mut news));
    picture.hear(read_news(write_news(&news)).unwrap()).unwrap();
}

fn from_the_beginning(book: &Book, node: &str) -> Picture {
    let mut picture = Picture::default();
    hear(book, node, &mut picture, book.keys_for(node));
    picture
}

fn same(one: &Picture, other: &Picture) {
    assert_eq!(one.workloads(), other.workloads());
    assert_eq!(one.services(), other.services());
    assert_eq!(one.intentions(), other.intentions());
}

/// The same as who has heard of nothing before; but a Service that was told once stays told for as long as it stands.
fn stands(picture: &Picture, fresh: &Picture, cluster: &Cluster) {
    assert_eq!(picture.workloads(), fresh.workloads());
    assert_eq!(picture.intentions(), fresh.intentions());
    for (name, service) in fresh.services().iter() {
        assert_eq!(picture.services().get(name), Some(service));
    }
    for (name, service) in picture.services().iter() {
        let is_there =
            |it: &ServiceNews| *it.namespace == *name.namespace.as_str() && it.name == name.name;
        assert!(cluster.services.values().any(is_there), "{name}");
        let mut ends = service.ports.values().flat_map(|port| &port.endpoints);
        assert!(fresh.services().contains_key(name) || ends.all(|end| end.workload.is_none()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_step_by_step_is_what_stands(events in vec(event(), 1..60)) {
        let mut book = Book::new("dev.example".parse().unwrap());
        let mut cluster = Cluster::default();
        cluster.list(&mut book);
        let mut pictures: Vec<Picture> =
            NODES.iter().map(|node| from_the_beginning(&book, node)).collect();
        for event in events {
            for touched in cluster.happen(event, &mut book) {
                for (node, picture) in NODES.iter().zip(&mut pictures) {
                    let own = touched.nodes.get(*node).cloned().unwrap_or_default();
                    hear(&book, node, picture, touched.all.iter().cloned().chain(own));
                }
            }
            let mut fresh = Book::new("dev.example".parse().unwrap());
            cluster.list(&mut fresh);
            for (node, picture) in NODES.iter().zip(&pictures) {
                stands(picture, &from_the_beginning(&fresh, node), &cluster);
                same(picture, &from_the_beginning(&book, node));
            }
        }
    }
}
