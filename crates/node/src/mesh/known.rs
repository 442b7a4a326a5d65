//! What decides in the mesh, made of what stands in the cluster: the same for all pods of a node. What has not changed is kept as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use nullius_intention::{Home, Intention};
use nullius_mesh::{
    Claim, Directory, IssuerKeys, Issuers, KeyAsks, Via,
    news::{Changed, IntentionObject, Mode, Picture, Service, ServiceName, Uid, Workload},
};
use nullius_model::SpiffeId;
use nullius_pki::TokenIssuer;
use nullius_proto::node_v1::RefusedIntention;
use nullius_workload::Registered;

use super::{
    heard::{Heard, Scope},
    rules::{Rules, Shelf},
    said::Said,
};

/// Bytes of what is wrong with an intention.
const MESSAGE_MAX: usize = 512;

/// What is known of the mesh.
#[derive(Debug)]
pub(crate) struct Known {
    /// What stands.
    pub(crate) picture: Arc<Picture>,
    /// Pods of this node.
    pub(crate) own: Arc<BTreeMap<Uid, Arc<Workload>>>,
    /// Intentions that can be read; of one that cannot any more, what it said before.
    pub(crate) rules: Rules,
    /// Those that cannot.
    pub(crate) refused: Arc<BTreeMap<Uid, RefusedIntention>>,
    /// Where others are.
    pub(crate) directory: Arc<Directory>,
    /// Whose tokens count.
    pub(crate) issuers: Arc<Issuers>,
}

/// Makes it of what is heard.
#[derive(Debug)]
pub(crate) struct Knowledge {
    node: String,
    home: Option<Home>,
    shelf: Shelf,
    /// Objects as they stood when they could be read.
    said: Said,
    refused: Arc<BTreeMap<Uid, RefusedIntention>>,
    own: Arc<BTreeMap<Uid, Arc<Workload>>>,
    directory: Arc<Directory>,
    issuers: Arc<Issuers>,
    asks: Arc<KeyAsks>,
    last: Option<Arc<Known>>,
    /// How many intentions were read.
    read: u64,
}

impl Knowledge {
    /// Of a node, with what intentions said that cannot be read any more.
    pub(crate) fn new(node: String, said: Said) -> Self {
        Self {
            node,
            home: None,
            shelf: Shelf::default(),
            said,
            refused: Arc::default(),
            own: Arc::default(),
            directory: Arc::default(),
            issuers: Arc::default(),
            asks: Arc::default(),
            last: None,
            read: 0,
        }
    }

    /// Who wants keys of issuers.
    pub(crate) fn asks(&self) -> &Arc<KeyAsks> {
        &self.asks
    }

    /// Whether what is registered makes no difference to what decides.
    pub(crate) fn is_at_home(&self, registered: &Registered) -> bool {
        let picture = self.last.as_ref().map(|last| &*last.picture);
        self.home.as_ref() == Some(&home(registered, picture))
    }

    /// Takes what was heard; gives what is known then, where that is not what was known.
    pub(crate) fn know(
        &mut self,
        heard: Option<Heard>,
        registered: &Registered,
        now: Instant,
    ) -> Option<Arc<Known>> {
        let (picture, scope) = match (heard, &self.last) {
            (Some(heard), _) => (heard.picture, heard.scope),
            (None, Some(last)) => (Arc::clone(&last.picture), Scope::Only(Changed::default())),
            (None, None) => return None,
        };
        let before = self.last.as_ref().map(|last| Arc::clone(&last.picture));
        let picture = with_keys(picture, before.as_deref());
        let mut changed = match (scope, &before) {
            (Scope::Only(changed), Some(_)) => changed,
            (_, Some(before)) => picture.changed_since(before),
            (_, None) => picture.changed_since(&Picture::default()),
        };
        let home = home(registered, Some(&picture));
        if self.home.as_ref() != Some(&home) {
            let is_first = self.home.replace(home).is_none();
            if is_first {
                self.remember();
            }
            changed.intentions.extend(picture.intentions().keys().cloned());
            changed.intentions.extend(self.said.uids().cloned());
        } else if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.picture, &picture)) {
            return None;
        }
        let before = before.as_deref();
        self.read_intentions(&picture, &changed.intentions);
        self.place_pods(&picture, before, &changed.workloads, now);
        self.place_services(&picture, before, &changed.services);
        // The same as before where nothing of them is new, so that what they verified stays verified.
        if before.is_none_or(|before| before.issuers() != picture.issuers()) {
            self.issuers = Arc::new(issuers(&picture, &self.asks));
        }
        let known = Arc::new(Known {
            picture,
            own: Arc::clone(&self.own),
            rules: self.shelf.rules().clone(),
            refused: Arc::clone(&self.refused),
            directory: Arc::clone(&self.directory),
            issuers: Arc::clone(&self.issuers),
        });
        self.last = Some(Arc::clone(&known));
        Some(known)
    }

    /// Of intentions that cannot be read, what they said when they could.
    pub(crate) fn said_of_refused(&self) -> Said {
        self.said.only(self.refused.keys())
    }

    /// What was said before a restart counts until what stands can be read.
    fn remember(&mut self) {
        let objects: Vec<_> = self.said.objects().cloned().collect();
        let read = objects.into_iter().map(|object| {
            let read = self.read(&object).ok();
            (Arc::clone(&object.uid), read)
        });
        let read: Vec<_> = read.collect();
        self.shelf.change(read);
    }

    fn read(&mut self, object: &IntentionObject) -> Result<Intention, String> {
        self.read += 1;
        let home = self.home.as_ref().ok_or("nothing is registered yet")?;
        let json = serde_json::from_slice(&object.json).map_err(|error| error.to_string())?;
        Intention::read(&json, object.origin, home).map_err(|faults| {
            let told = faults.iter().map(|it| format!("{}: {}", it.field, it.message));
            let mut message = told.collect::<Vec<_>>().join("; ");
            message.truncate(message.floor_char_boundary(MESSAGE_MAX));
            message
        })
    }

    fn read_intentions(&mut self, picture: &Picture, changed: &BTreeSet<Uid>) {
        let mut changes = Vec::new();
        for uid in changed {
            let Some(object) = picture.intentions().get(uid) else {
                self.said.forget(uid);
                self.refuse(uid, None);
                changes.push((Arc::clone(uid), None));
                continue;
            };
            match self.read(object) {
                Ok(read) => {
                    self.said.hear(object);
                    self.refuse(uid, None);
                    changes.push((Arc::clone(uid), Some(read)));
                }
                // What it said before goes on to count.
                Err(message) => {
                    let (uid, generation) = (uid.to_string(), object.generation);
                    let refused = RefusedIntention { uid, generation, message };
                    self.refuse(&object.uid, Some(refused));
                }
            }
        }
        self.shelf.change(changes);
    }

    fn refuse(&mut self, uid: &Uid, why: Option<RefusedIntention>) {
        match why {
            Some(why) => drop(Arc::make_mut(&mut self.refused).insert(Arc::clone(uid), why)),
            None if self.refused.contains_key(uid) => {
                Arc::make_mut(&mut self.refused).remove(uid);
            }
            None => {}
        }
    }

    fn place_pods(
        &mut self,
        picture: &Picture,
        before: Option<&Picture>,
        changed: &BTreeSet<Uid>,
        now: Instant,
    ) {
        let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
        for uid in changed {
            let (old, new) =
                (before.and_then(|it| it.workloads().get(uid)), picture.workloads().get(uid));
            let all = [old, new].into_iter().flatten().flat_map(|pod| &pod.addresses);
            addresses.extend(all);
            match new.filter(|pod| *pod.node == *self.node) {
                Some(pod) => {
                    Arc::make_mut(&mut self.own).insert(Arc::clone(uid), Arc::clone(pod));
                }
                None if self.own.contains_key(uid) => {
                    Arc::make_mut(&mut self.own).remove(uid);
                }
                None => {}
            }
        }
        for address in addresses {
            let claim = claim(picture, address);
            if !self.directory.is_told(address, claim) {
                Arc::make_mut(&mut self.directory).tell(address, claim, now);
            }
        }
        if self.directory.has_gone(now) {
            Arc::make_mut(&mut self.directory).forget_gone(now);
        }
    }

    fn place_services(
        &mut self,
        picture: &Picture,
        before: Option<&Picture>,
        changed: &BTreeSet<ServiceName>,
    ) {
        for name in changed {
            let old = before
                .and_then(|it| it.services().get(name))
                .map(|it| places(it))
                .unwrap_or_default();
            let new = picture.services().get(name).map(|it| places(it)).unwrap_or_default();
            if old == new {
                continue;
            }
            let directory = Arc::make_mut(&mut self.directory);
            let name: Arc<str> = name.to_string().into();
            for at in old.keys().filter(|at| !new.contains_key(*at)) {
                directory.remove_service(*at, &name);
            }
            for (at, place) in new {
                if old.get(&at) == Some(&place) {
                    continue;
                }
                match place {
                    Place::Here(endpoints) => {
                        directory.put_service(at, Arc::clone(&name), endpoints);
                    }
                    Place::Elsewhere(via) => directory.put_import(at, Arc::clone(&name), via),
                }
            }
        }
    }
}

/// An agent that has just begun has no keys of issuers yet: those of before go on.
fn with_keys(mut picture: Arc<Picture>, before: Option<&Picture>) -> Arc<Picture> {
    if let Some(before) = before
        && picture.issuers().values().any(|it| it.jwks.is_empty())
    {
        Arc::make_mut(&mut picture).keep_keys(before);
    }
    picture
}

/// Issuers with their keys.
fn issuers(picture: &Picture, asks: &Arc<KeyAsks>) -> Issuers {
    let all = picture.issuers().iter().map(|(name, news)| {
        let keys = match news.jwks.is_empty() {
            true => None,
            false => TokenIssuer::read(name, &news.jwks)
                .inspect_err(|error| {
                    tracing::warn!(issuer = %name, %error, "believe no token of an issuer");
                })
                .ok(),
        };
        let until = news.until;
        (name.clone(), keys.map(|keys| IssuerKeys { keys: Arc::new(keys), until }))
    });
    Issuers::new(all, Arc::clone(asks))
}

fn home(registered: &Registered, picture: Option<&Picture>) -> Home {
    let others = registered.bundles.keys().filter(|it| **it != registered.trust_domain);
    Home {
        trust_domain: registered.trust_domain.clone(),
        federated: Some(others.cloned().collect()),
        issuers: Some(
            picture
                .into_iter()
                .flat_map(|it| it.issuers().keys())
                .map(ToString::to_string)
                .collect(),
        ),
    }
}

/// Where two pods claim an address, neither is believed; nor is it as if nobody of the mesh were there.
fn claim(picture: &Picture, address: IpAddr) -> Claim<'_> {
    let mut all = picture.all_at(address);
    let (first, second) = (all.next(), all.next());
    let mut of_mesh = [first, second].into_iter().flatten().chain(all).filter_map(|it| id(it));
    match of_mesh.next() {
        None => Claim::Nobody,
        Some(id) if second.is_none() => Claim::One(id),
        Some(_) => Claim::Many,
    }
}

fn id(pod: &Workload) -> Option<&SpiffeId> {
    match pod.mode {
        Mode::Node | Mode::Sidecar => pod.spiffe_id.as_ref(),
        Mode::None => None,
    }
}

/// Where a port of a Service leads.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// To endpoints of this cluster.
    Here(Vec<SocketAddr>),
    /// To another cluster.
    Elsewhere(Via),
}

/// What a Service has, and where that leads. One of another cluster leads nowhere in this one.
fn places(service: &Service) -> BTreeMap<SocketAddr, Place> {
    let mut places = BTreeMap::new();
    for (number, port) in &service.ports {
        for address in &service.addresses {
            let endpoints =
                port.endpoints.iter().filter(|it| it.address.is_ipv4() == address.is_ipv4());
            let endpoints = endpoints.map(|it| (it.address, it.port).into());
            let place = match &service.import {
                None => Place::Here(endpoints.collect()),
                Some(import) => {
                    import.port(*number).map_or(Place::Here(Vec::new()), Place::Elsewhere)
                }
            };
            places.insert((*address, *number).into(), place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use std::net::IpAddr;

    use nullius_intention::{Origin, Workload as Called};
    use nullius_mesh::{
        GONE, Who,
        news::{Endpoint, Import, News, PortProtocol, ServicePort, Workload},
    };
    use nullius_model::{Namespace, SpiffeId};

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://dev.example/ns/shop/sa/{name}").parse().unwrap()
    }

    fn pod(name: &str, mode: Mode) -> Workload {
        Workload {
            uid: name.into(),
            namespace: "shop".parse().unwrap(),
            name: name.into(),
            service_account: name.into(),
            node: "n1".into(),
            addresses: vec![ADDRESS],
            spiffe_id: (mode != Mode::None).then(|| id(name)),
            mode,
            local: None,
        }
    }

    fn registered() -> Registered {
        Registered {
            trust_domain: "dev.example".parse().unwrap(),
            bundles: Default::default(),
            entries: Default::default(),
            reissue_before: None,
        }
    }

    /// A node's knowledge, and the stream that it hears.
    struct Node {
        knowledge: Knowledge,
        picture: Picture,
        sequence: u64,
    }

    impl Node {
        fn new(said: Said) -> Self {
            let knowledge = Knowledge::new("n1".to_owned(), said);
            Self { knowledge, picture: Picture::default(), sequence: 0 }
        }

        fn hear(&mut self, news: News, now: Instant) -> Arc<Known> {
            self.sequence += 1;
            let news =
                News { stream: "s".into(), sequence: self.sequence, is_complete: true, ..news };
            let changed = self.picture.hear(news).unwrap().unwrap();
            let (picture, scope) = (Arc::new(self.picture.clone()), Scope::Only(changed));
            self.knowledge.know(Some(Heard { picture, scope }), &registered(), now).unwrap()
        }

        /// Another stream tells the same.
        fn again(&mut self) -> Arc<Known> {
            let picture = &self.picture;
            let news = News {
                put_workloads: picture.workloads().values().map(|it| (**it).clone()).collect(),
                put_services: picture.services().values().map(|it| (**it).clone()).collect(),
                put_intentions: picture.intentions().values().map(|it| (**it).clone()).collect(),
                is_complete: true,
                sequence: 1,
                stream: "next".into(),
                ..News::default()
            };
            let mut picture = Picture::default();
            picture.hear(news).unwrap();
            let heard = Heard { picture: Arc::new(picture), scope: Scope::All };
            self.knowledge.know(Some(heard), &registered(), Instant::now()).unwrap()
        }
    }

    #[test]
    fn an_address_that_two_claim_or_that_a_pod_has_left_is_unclear() {
        let now = Instant::now();
        let at = |known: &Known, now| match known.directory.who(ADDRESS, now) {
            Who::Pod(id) => id[0].to_string(),
            Who::Outside => "outside".to_owned(),
            Who::Unclear => "unclear".to_owned(),
        };
        let mut node = Node::new(Said::default());
        let put = |node: &mut Node, pod: Workload, now| {
            node.hear(News { put_workloads: vec![pod], ..News::default() }, now)
        };
        let gone = |node: &mut Node, uid: &str, now| {
            node.hear(News { gone_workloads: vec![uid.into()], ..News::default() }, now)
        };
        let one = put(&mut node, pod("one", Mode::Node), now);
        assert_eq!(at(&one, now), id("one").to_string());
        // Of the mesh or not, the other one says to have the address.
        for mode in [Mode::Node, Mode::None] {
            assert_eq!(at(&put(&mut node, pod("two", mode), now), now), "unclear");
            assert_eq!(at(&gone(&mut node, "two", now), now), id("one").to_string());
        }
        // It goes, and the next one at the address is not of the mesh; nor does it help to say that again.
        let left = [gone(&mut node, "one", now), put(&mut node, pod("two", Mode::None), now)];
        let again = node.again();
        for known in left.iter().chain([&again]) {
            assert_eq!(at(known, now), "unclear");
            assert_eq!(at(known, now + GONE), "outside");
        }
        assert!(Arc::ptr_eq(&again.directory, &left[1].directory));
        gone(&mut node, "two", now + GONE / 2);
        let next = put(&mut node, pod("next", Mode::Sidecar), now + GONE / 2);
        assert_eq!(at(&next, now + GONE / 2), id("next").to_string());
        let outside = put(&mut Node::new(Said::default()), pod("two", Mode::None), now);
        assert_eq!(at(&outside, now), "outside");
    }

    fn intention(number: usize, account: &str) -> IntentionObject {
        let json = serde_json::json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
            "metadata": { "name": format!("i{number}"), "namespace": format!("ns{}", number % 10) },
            "spec": {
                "destination": { "serviceAccount": account },
                "sources": [{ "serviceAccount": "front", "action": "allow" }],
            },
        });
        IntentionObject {
            uid: format!("i{number}").into(),
            origin: Origin::Cluster,
            generation: 1,
            json: json.to_string().into_bytes().into(),
        }
    }

    fn orders(address: &str) -> Service {
        let endpoint = Endpoint { address: address.parse().unwrap(), port: 80, workload: None };
        let port = ServicePort { protocol: PortProtocol::Auto, endpoints: vec![endpoint] };
        Service {
            name: "shop/orders".parse().unwrap(),
            addresses: vec!["10.96.0.1".parse().unwrap()],
            ports: [(80, port)].into(),
            import: None,
        }
    }

    #[test]
    fn a_service_that_stands_for_another_clusters_leads_to_nobody_of_this_one() {
        let now = Instant::now();
        let mut node = Node::new(Said::default());
        let first =
            node.hear(News { put_services: vec![orders("10.0.0.1")], ..News::default() }, now);
        let import = Import {
            name: "bank/ledger".parse().unwrap(),
            gateways: vec!["192.0.2.10:15443".parse().unwrap()],
            gateway_ids: ["spiffe://bank.example/ns/nullius-system/sa/nullius-gateway"
                .parse()
                .unwrap()]
            .into(),
            ids: ["spiffe://bank.example/ns/bank/sa/ledger".parse().unwrap()].into(),
        };
        let service = Service { import: Some(import.clone()), ..orders("10.0.0.1") };
        let news = News { put_services: vec![service.clone()], ..News::default() };
        let second = node.hear(news.clone(), now);
        assert!(!Arc::ptr_eq(&second.directory, &first.directory));
        let places = places(&service).into_values().collect::<Vec<_>>();
        assert_eq!(places, [Place::Elsewhere(import.port(80).unwrap())]);
        // Told again it is the same, and nobody is judged again.
        assert!(Arc::ptr_eq(&node.hear(news, now).directory, &second.directory));
        // What could have no name between clusters leads nowhere, rather than here.
        let name = "bank/Ledger_1".parse().unwrap();
        let odd = Service { import: Some(Import { name, ..import }), ..service };
        assert_eq!(super::places(&odd).into_values().collect::<Vec<_>>(), [Place::Here(vec![])]);
    }

    #[test]
    fn a_change_costs_what_has_changed() {
        let now = Instant::now();
        let mut node = Node::new(Said::default());
        let all = News {
            put_intentions: (0..2_000).map(|number| intention(number, "web")).collect(),
            put_services: vec![orders("10.0.0.1")],
            ..News::default()
        };
        let first = node.hear(all, now);
        assert_eq!(node.knowledge.read, 2_000);
        // One intention is read anew, and only what is for its namespace is another.
        let one = News { put_intentions: vec![intention(3, "cart")], ..News::default() };
        let second = node.hear(one, now);
        assert_eq!(node.knowledge.read, 2_001);
        let within = |known: &Known, of: &str| known.rules.within(&of.parse().unwrap());
        assert!(!within(&second, "ns3").is(&within(&first, "ns3")));
        assert!(within(&second, "ns4").is(&within(&first, "ns4")));
        assert!(Arc::ptr_eq(&second.directory, &first.directory));
        // A pod that flaps brings no intention to be read, and moves the rules of none.
        let mut last = Arc::clone(&second);
        for flip in 0..1_000 {
            let service = orders(if flip % 2 == 0 { "10.0.0.2" } else { "10.0.0.1" });
            let known = node.hear(News { put_services: vec![service], ..News::default() }, now);
            assert!(!Arc::ptr_eq(&known.directory, &last.directory));
            last = known;
        }
        assert_eq!(node.knowledge.read, 2_001);
        assert!(within(&last, "ns3").is(&within(&second, "ns3")));
        assert!(Arc::ptr_eq(&last.own, &second.own));
        // Nor does a stream that begins and tells the same.
        let again = node.again();
        assert_eq!(node.knowledge.read, 2_001);
        assert!(Arc::ptr_eq(&again.directory, &last.directory));
        assert!(within(&again, "ns3").is(&within(&last, "ns3")));
    }

    #[test]
    fn what_cannot_be_read_says_what_it_said_until_it_is_gone() {
        let now = Instant::now();
        let broken = || IntentionObject {
            generation: 2,
            json: b"{}".as_slice().into(),
            ..intention(3, "web")
        };
        let put = |object| News { put_intentions: vec![object], ..News::default() };
        let count = |known: &Known| {
            let namespace: Namespace = "ns3".parse().unwrap();
            let called = Called {
                namespace: namespace.clone(),
                service_account: "web".to_owned(),
                labels: Default::default(),
            };
            known.rules.within(&namespace).rules_for(called).len()
        };
        let mut node = Node::new(Said::default());
        assert_eq!(count(&node.hear(put(broken()), now)), 0, "it never could be read");
        assert_eq!(count(&node.hear(put(intention(3, "web")), now)), 1);
        let known = node.hear(put(broken()), now);
        assert_eq!((count(&known), known.refused.len()), (1, 1));
        assert_eq!(known.refused.values().next().unwrap().generation, 2);
        let said = node.knowledge.said_of_refused();
        // After a restart it is remembered, and goes with its object.
        let mut node = Node::new(said.clone());
        assert_eq!(count(&node.hear(put(broken()), now)), 1);
        let gone = News { gone_intentions: vec!["i3".into()], ..News::default() };
        let known = node.hear(gone, now);
        assert_eq!((count(&known), known.refused.len()), (0, 0));
        let mut node = Node::new(said);
        assert_eq!(count(&node.hear(put(intention(4, "web")), now)), 0, "it is gone meanwhile");
    }
}
