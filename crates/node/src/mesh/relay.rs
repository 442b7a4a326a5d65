//! What the proxy beside a pod's containers is told of the mesh: of its own pod everything, of others who they are and where.

use std::sync::Arc;

use nullius_intention::Origin;
use nullius_mesh::news::{Changed, IntentionObject, Mode, News, Picture, Uid, Workload};
use serde::Deserialize;

/// The namespace whose intentions are for every pod.
const SYSTEM: &str = "nullius-system";
/// The name of each stream: a proxy has one at a time.
const STREAM: &str = "node";

/// What one proxy was told, so that it is told what is other since.
pub(crate) struct Relay {
    pod: Uid,
    told: Option<Arc<Picture>>,
    sequence: u64,
}

impl Relay {
    pub(crate) fn new(pod: Uid) -> Self {
        Self { pod, told: None, sequence: 0 }
    }

    /// What is to be told now: first all that stands, then what has changed; nothing where nothing has.
    pub(crate) fn news(&mut self, picture: &Arc<Picture>) -> Option<News> {
        let changed = match &self.told {
            Some(told) if Arc::ptr_eq(told, picture) => return None,
            Some(told) => picture.changed_since(told),
            None => picture.changed_since(&Picture::default()),
        };
        let news = self.of(picture, changed);
        let is_first = self.told.replace(Arc::clone(picture)).is_none();
        if !is_first && news == News::default() {
            return None;
        }
        self.sequence += 1;
        Some(News { stream: STREAM.into(), sequence: self.sequence, is_complete: true, ..news })
    }

    fn of(&self, picture: &Picture, changed: Changed) -> News {
        let mut news = News::default();
        let own = picture.workloads().get(&self.pod);
        for uid in changed.workloads {
            match picture.workloads().get(&uid).and_then(|it| self.shown(it)) {
                Some(workload) => news.put_workloads.push(workload),
                None => news.gone_workloads.push(uid),
            }
        }
        for name in changed.services {
            match picture.services().get(&name) {
                Some(service) => news.put_services.push((**service).clone()),
                None => news.gone_services.push(name),
            }
        }
        for uid in changed.intentions {
            let object = picture.intentions().get(&uid);
            match object.filter(|object| own.is_some_and(|own| is_for(object, own))) {
                Some(object) => news.put_intentions.push((**object).clone()),
                None => news.gone_intentions.push(uid),
            }
        }
        for name in changed.issuers {
            match picture.issuers().get(&name) {
                Some(issuer) => news.put_issuers.push(issuer.clone()),
                None => news.gone_issuers.push(name),
            }
        }
        news
    }

    /// Labels of other pods are nobody's here, nor are pods outside of the mesh.
    fn shown(&self, workload: &Workload) -> Option<Workload> {
        if workload.uid == self.pod {
            return Some(workload.clone());
        }
        (workload.mode != Mode::None).then(|| Workload { local: None, ..workload.clone() })
    }
}

/// Whether an intention can be for a pod. What says of no namespace whose it is comes from nobody's API server.
fn is_for(object: &IntentionObject, own: &Workload) -> bool {
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
        return true;
    }
    serde_json::from_slice::<Head>(&object.json).is_ok_and(|head| {
        let of = head.metadata.namespace;
        of == SYSTEM || of == own.namespace.as_str()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use std::collections::BTreeMap;

    use nullius_mesh::news::Local;
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
        let mut relay = Relay::new("own".into());
        let mut heard = Picture::default();
        let told = relay.news(&node.hear(standing)).unwrap();
        heard.hear(told).unwrap();
        let labels = |heard: &Picture, uid: &str| heard.workloads()[uid].local.clone();
        let names = |heard: &Picture| heard.workloads().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&heard), ["other".into(), "own".into()]);
        assert_eq!(labels(&heard, "own").unwrap().labels.known()["of"], "own");
        assert_eq!(labels(&heard, "other"), None);
        let intentions: Vec<_> = heard.intentions().keys().cloned().collect();
        assert_eq!(intentions, ["of-all".into(), "of-hub".into(), "of-shop".into()]);

        // Then what changes, and what is none of its business is no news.
        let leaves = News {
            put_workloads: vec![pod("other", "bank", Mode::None)],
            gone_intentions: vec!["of-shop".into()],
            ..News::default()
        };
        heard.hear(relay.news(&node.hear(leaves)).unwrap()).unwrap();
        assert_eq!(names(&heard), ["own".into()]);
        assert!(!heard.intentions().contains_key("of-shop"));
        let same = node.hear(News::default());
        assert!(relay.news(&same).is_none());
    }
}
