//! What the proxies beside pods' containers are told of the mesh: of its own pod each is told everything, of others who they are and where.
//!
//! What all of them are told is encoded once for each change, in pieces ([`Steps`]); what one is told beside it, as it is written ([`Relay`]).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nullius_intention::Origin;
use nullius_mesh::news::{
    Changed, IntentionObject, Mode, News, Picture, Uid, Workload, write_news,
};
use serde::Deserialize;
use tokio::time::Instant;

/// The namespace whose intentions are for every pod.
const SYSTEM: &str = "nullius-system";
/// The name of each stream: a proxy has one at a time.
const STREAM: &str = "node";
/// A piece is sent as soon as it is so long, in bytes.
const PIECE: usize = 64 * 1024;
/// All that stands is encoded again after so long at the earliest: who begins meanwhile is told that, and then what has changed since.
const STANDING_FOR: Duration = Duration::from_secs(10);
/// Changes that are kept for proxies that have not been told yet.
const KEPT: usize = 4;

/// From one picture to another, for all proxies of the node.
pub(crate) struct Step {
    /// None where it tells all that stands.
    from: Option<Arc<Picture>>,
    to: Arc<Picture>,
    made: Instant,
    /// Messages without their number.
    common: Vec<Box<[u8]>>,
    intentions: Vec<Told>,
    changed: Changed,
}

/// An intention that is other than before.
struct Told {
    uid: Uid,
    /// Whose it is, as long as it stands and can be read.
    object: Option<(Whose, Arc<IntentionObject>)>,
}

enum Whose {
    Everybody,
    Namespace(String),
}

/// The steps that somebody may still have to be told.
#[derive(Default)]
pub(crate) struct Steps {
    standing: Mutex<Option<Arc<Step>>>,
    changes: Mutex<VecDeque<Arc<Step>>>,
}

impl Steps {
    /// What somebody is told who was told so much. It encodes for a while where nobody has asked for the same yet; the others wait.
    pub(crate) fn next(&self, told: Option<&Arc<Picture>>, now: &Arc<Picture>) -> Arc<Step> {
        match told {
            None => {
                let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(step) = &*standing
                    && step.made.elapsed() < STANDING_FOR
                {
                    return Arc::clone(step);
                }
                Arc::clone(standing.insert(Arc::new(Step::new(None, now))))
            }
            Some(told) => {
                let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(step) = changes.iter().find(|step| step.is(told, now)) {
                    return Arc::clone(step);
                }
                let step = Arc::new(Step::new(Some(told), now));
                changes.push_back(Arc::clone(&step));
                if changes.len() > KEPT {
                    changes.pop_front();
                }
                step
            }
        }
    }
}

impl Step {
    fn new(from: Option<&Arc<Picture>>, to: &Arc<Picture>) -> Self {
        let changed = match from {
            Some(from) => to.changed_since(from),
            None => to.changed_since(&Picture::default()),
        };
        let Changed { workloads, services, intentions, issuers } = &changed;
        let mut pieces = Pieces::default();
        for uid in workloads {
            // Labels of pods are nobody's but their own, nor are pods outside of the mesh.
            match to.workloads().get(uid).filter(|it| it.mode != Mode::None) {
                Some(workload) => pieces.add(&News {
                    put_workloads: vec![Workload { local: None, ..(**workload).clone() }],
                    ..News::default()
                }),
                None => {
                    pieces.add(&News { gone_workloads: vec![Arc::clone(uid)], ..News::default() });
                }
            }
        }
        for name in services {
            let news = match to.services().get(name) {
                Some(service) => {
                    News { put_services: vec![(**service).clone()], ..News::default() }
                }
                None => News { gone_services: vec![name.clone()], ..News::default() },
            };
            pieces.add(&news);
        }
        for name in issuers {
            let news = match to.issuers().get(name) {
                Some(issuer) => News { put_issuers: vec![issuer.clone()], ..News::default() },
                None => News { gone_issuers: vec![name.clone()], ..News::default() },
            };
            pieces.add(&news);
        }
        let intentions = intentions.iter().map(|uid| Told {
            uid: Arc::clone(uid),
            object: to.intentions().get(uid).and_then(|it| Some((whose(it)?, Arc::clone(it)))),
        });
        let intentions = intentions.collect();
        Self {
            from: from.cloned(),
            to: Arc::clone(to),
            made: Instant::now(),
            intentions,
            common: pieces.all(),
            changed,
        }
    }

    fn is(&self, from: &Arc<Picture>, to: &Arc<Picture>) -> bool {
        self.from.as_ref().is_some_and(|it| Arc::ptr_eq(it, from)) && Arc::ptr_eq(&self.to, to)
    }
}

/// What one proxy was told, so that it is told what is other since.
pub(crate) struct Relay {
    pod: Uid,
    namespace: Box<str>,
    told: Option<Arc<Picture>>,
    sequence: u64,
}

impl Relay {
    /// For the proxy of a pod of a namespace.
    pub(crate) fn new(pod: Uid, namespace: &str) -> Self {
        Self { pod, namespace: namespace.into(), told: None, sequence: 0 }
    }

    /// What was told last.
    pub(crate) fn told(&self) -> Option<&Arc<Picture>> {
        self.told.as_ref()
    }

    /// Begins to tell a step, which goes on from what was told last.
    pub(crate) fn tell(&mut self, step: Arc<Step>) -> Telling {
        let is_needed = self.told.replace(Arc::clone(&step.to)).is_none();
        Telling { step, common: 0, own: 0, is_needed, is_done: false }
    }

    /// The next message of it. All of them together count when the last is heard; there is none where nothing is news to this proxy.
    pub(crate) fn message(&mut self, telling: &mut Telling) -> Option<Vec<u8>> {
        if telling.is_done {
            return None;
        }
        let step = Arc::clone(&telling.step);
        let mut own = Vec::new();
        let piece = match step.common.get(telling.common) {
            Some(piece) => {
                telling.common += 1;
                &**piece
            }
            None => {
                while telling.own <= step.intentions.len() && own.len() < PIECE {
                    if let Some(news) = self.own(&step, telling.own) {
                        own.extend(nullius_proto::encode(&write_news(&news)));
                    }
                    telling.own += 1;
                }
                telling.is_done = telling.own > step.intentions.len();
                own.as_slice()
            }
        };
        if piece.is_empty() && !telling.is_needed {
            return None;
        }
        telling.is_needed = true;
        self.sequence += 1;
        let head = News {
            stream: STREAM.into(),
            sequence: self.sequence,
            is_complete: telling.is_done,
            ..News::default()
        };
        // Fields that follow those of another message are fields of the same.
        let mut message = nullius_proto::encode(&write_news(&head));
        message.extend(piece);
        Some(message)
    }

    /// A part of what only this proxy is told of a step.
    fn own(&self, step: &Step, part: usize) -> Option<News> {
        let Some(part) = part.checked_sub(1) else {
            let own = step.changed.workloads.contains(&self.pod);
            let own = own.then(|| step.to.workloads().get(&self.pod)).flatten()?;
            return Some(News { put_workloads: vec![(**own).clone()], ..News::default() });
        };
        let Told { uid, object } = step.intentions.get(part)?;
        match object {
            None => Some(News { gone_intentions: vec![Arc::clone(uid)], ..News::default() }),
            Some((whose, object)) => self
                .is_for(whose)
                .then(|| News { put_intentions: vec![(**object).clone()], ..News::default() }),
        }
    }

    /// Whether an intention can be for the pod. It need not be known of the pod yet what it is: its namespace is, and is no other's later.
    fn is_for(&self, whose: &Whose) -> bool {
        match whose {
            Whose::Everybody => true,
            Whose::Namespace(of) => of == SYSTEM || **of == *self.namespace,
        }
    }
}

/// How far a step is told.
pub(crate) struct Telling {
    step: Arc<Step>,
    common: usize,
    own: usize,
    /// Whether there is something to be told, or the end of what was.
    is_needed: bool,
    is_done: bool,
}

/// Encoded messages, as long as they are sent.
#[derive(Default)]
struct Pieces {
    whole: Vec<Box<[u8]>>,
    last: Vec<u8>,
}

impl Pieces {
    fn add(&mut self, news: &News) {
        self.last.extend(nullius_proto::encode(&write_news(news)));
        if self.last.len() >= PIECE {
            self.whole.push(std::mem::take(&mut self.last).into());
        }
    }

    fn all(mut self) -> Vec<Box<[u8]>> {
        if !self.last.is_empty() {
            self.whole.push(self.last.into());
        }
        self.whole
    }
}

/// Whose an intention is. What says of no namespace whose it is comes from nobody's API server.
fn whose(object: &IntentionObject) -> Option<Whose> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        namespace: String,
    }
    if object.origin == Origin::Fleet {
        return Some(Whose::Everybody);
    }
    let head = serde_json::from_slice::<Head>(&object.json).ok()?;
    Some(Whose::Namespace(head.metadata.namespace))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use std::collections::BTreeMap;

    use nullius_mesh::news::{Local, read_news};
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, namespace: &str, mode: Mode) -> Workload {
        let labels = BTreeMap::from([("of".to_owned(), uid.to_owned())]);
        Workload {
            uid: uid.into(),
            namespace: namespace.parse().unwrap(),
            name: uid.into(),
            service_account: uid.into(),
            node: "n1".into(),
            addresses: Vec::new(),
            spiffe_id: (mode != Mode::None)
                .then(|| format!("spiffe://d.example/ns/{namespace}/sa/{uid}").parse().unwrap()),
            mode,
            local: Some(Local { labels: labels.into(), ..Local::default() }),
        }
    }

    fn intention(uid: &str, namespace: &str, origin: Origin) -> IntentionObject {
        let json = json!({ "metadata": { "namespace": namespace }, "spec": {} }).to_string();
        IntentionObject { uid: uid.into(), origin, generation: 1, json: json.into_bytes().into() }
    }

    /// A stream, and what its node makes of it.
    #[derive(Default)]
    struct Node(Picture);

    impl Node {
        fn hear(&mut self, news: News) -> Arc<Picture> {
            let sequence = self.0.sequence() + 1;
            let news = News { stream: "s".into(), sequence, is_complete: true, ..news };
            self.0.hear(news).unwrap().unwrap();
            Arc::new(self.0.clone())
        }
    }

    /// A proxy, and all that it was told.
    struct Proxy {
        relay: Relay,
        heard: Picture,
        /// How long the messages were of what it was told last.
        messages: Vec<usize>,
    }

    impl Proxy {
        fn new(pod: &str, namespace: &str) -> Self {
            let relay = Relay::new(pod.into(), namespace);
            Self { relay, heard: Picture::default(), messages: Vec::new() }
        }

        fn hear(&mut self, steps: &Steps, now: &Arc<Picture>) -> Arc<Step> {
            let step = steps.next(self.relay.told(), now);
            let mut telling = self.relay.tell(Arc::clone(&step));
            let (mut last, mut messages) = (true, Vec::new());
            while let Some(message) = self.relay.message(&mut telling) {
                messages.push(message.len());
                let news = read_news(nullius_proto::decode(&message).unwrap()).unwrap();
                last = self.heard.hear(news).unwrap().is_some();
            }
            assert!(last, "what is told counts");
            self.messages = messages;
            step
        }

        fn pods(&self) -> Vec<Uid> {
            self.heard.workloads().keys().cloned().collect()
        }

        fn intentions(&self) -> Vec<Uid> {
            self.heard.intentions().keys().cloned().collect()
        }
    }

    #[test]
    fn a_proxy_hears_of_others_who_they_are_and_no_labels_nor_intentions_of_theirs() {
        let mut node = Node::default();
        let standing = News {
            put_workloads: vec![
                pod("own", "shop", Mode::Sidecar),
                pod("other", "bank", Mode::Node),
                pod("plain", "bank", Mode::None),
            ],
            put_intentions: vec![
                intention("of-shop", "shop", Origin::Cluster),
                intention("of-bank", "bank", Origin::Cluster),
                intention("of-all", "nullius-system", Origin::Cluster),
                intention("of-hub", "bank", Origin::Fleet),
            ],
            ..News::default()
        };
        let steps = Steps::default();
        let mut own = Proxy::new("own", "shop");
        own.hear(&steps, &node.hear(standing));
        let labels = |own: &Proxy, uid: &str| own.heard.workloads()[uid].local.clone();
        assert_eq!(own.pods(), ["other".into(), "own".into()]);
        assert_eq!(labels(&own, "own").unwrap().labels.known()["of"], "own");
        assert_eq!(labels(&own, "other"), None);
        assert_eq!(own.intentions(), ["of-all".into(), "of-hub".into(), "of-shop".into()]);

        // Then what changes, and what is none of its business is no news.
        let leaves = News {
            put_workloads: vec![pod("other", "bank", Mode::None)],
            gone_intentions: vec!["of-shop".into()],
            ..News::default()
        };
        own.hear(&steps, &node.hear(leaves));
        assert_eq!(own.pods(), ["own".into()]);
        assert_eq!(own.intentions(), ["of-all".into(), "of-hub".into()]);
        let of_others = News {
            put_intentions: vec![intention("new", "bank", Origin::Cluster)],
            ..News::default()
        };
        for news in [News::default(), of_others] {
            own.hear(&steps, &node.hear(news));
            assert_eq!(own.messages, [0; 0]);
        }
        // Of itself it is told everything, also that it is not in the mesh any more.
        let left = News { put_workloads: vec![pod("own", "shop", Mode::None)], ..News::default() };
        own.hear(&steps, &node.hear(left));
        assert_eq!(own.heard.workloads()["own"].mode, Mode::None);
    }

    #[test]
    fn what_is_for_a_pod_is_told_while_the_pod_itself_is_not_known() {
        let (mut node, steps) = (Node::default(), Steps::default());
        let mut own = Proxy::new("own", "shop");
        let standing = News {
            put_workloads: vec![pod("own", "shop", Mode::Sidecar)],
            put_intentions: vec![intention("deny", "shop", Origin::Cluster)],
            ..News::default()
        };
        own.hear(&steps, &node.hear(standing));
        let mut changed = intention("deny", "shop", Origin::Cluster);
        changed.generation = 2;
        let flaps = News {
            gone_workloads: vec!["own".into()],
            put_intentions: vec![changed.clone()],
            ..News::default()
        };
        own.hear(&steps, &node.hear(flaps));
        assert!(own.pods().is_empty());
        assert_eq!(own.heard.intentions()["deny"].generation, 2);
        let back =
            News { put_workloads: vec![pod("own", "shop", Mode::Sidecar)], ..News::default() };
        own.hear(&steps, &node.hear(back));
        assert_eq!(own.heard.workloads()["own"].mode, Mode::Sidecar);
        assert_eq!(own.heard.intentions()["deny"].generation, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn much_is_told_in_pieces_that_are_encoded_once() {
        let (mut node, steps) = (Node::default(), Steps::default());
        let others = (0..5_000).map(|it| pod(&format!("other-{it}"), "bank", Mode::Node));
        let own = ["a", "b"].map(|it| pod(it, "shop", Mode::Sidecar));
        let long = |uid: &str| {
            let object = intention(uid, "shop", Origin::Cluster);
            let json = json!({ "metadata": { "namespace": "shop" }, "spec": "x".repeat(50_000) });
            IntentionObject { json: json.to_string().into_bytes().into(), ..object }
        };
        let standing = News {
            put_workloads: others.chain(own).collect(),
            put_intentions: (0..20).map(|it| long(&format!("long-{it:02}"))).collect(),
            ..News::default()
        };
        let first = node.hear(standing);
        let (mut a, mut b) = (Proxy::new("a", "shop"), Proxy::new("b", "shop"));
        let steps_of_a = a.hear(&steps, &first);
        assert!(a.messages.len() > 10, "{:?}", a.messages);
        assert!(a.messages.iter().all(|it| *it < PIECE + 51_000), "{:?}", a.messages);
        assert_eq!(a.pods().len(), 5_002);
        assert_eq!(a.intentions().len(), 20);

        // Who begins a little later is told the same, and then what has changed since, as is the other.
        let second = node.hear(News { gone_workloads: vec!["other-7".into()], ..News::default() });
        assert!(Arc::ptr_eq(&steps_of_a, &b.hear(&steps, &second)));
        let changed = a.hear(&steps, &second);
        assert!(Arc::ptr_eq(&changed, &b.hear(&steps, &second)));
        for proxy in [&a, &b] {
            assert_eq!(proxy.messages.len(), 2, "what is everybody's, and the end");
            assert_eq!(proxy.pods().len(), 5_001);
        }
        assert!(
            a.heard.workloads()["a"].local.is_some() && a.heard.workloads()["b"].local.is_none()
        );
        tokio::time::advance(STANDING_FOR).await;
        let mut c = Proxy::new("a", "shop");
        assert!(!Arc::ptr_eq(&steps_of_a, &c.hear(&steps, &second)));
        assert_eq!(c.pods().len(), 5_001);
    }
}
