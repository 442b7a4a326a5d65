//! What decides in the mesh, made of what stands in the cluster: the same for all pods of a node.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use nullius_intention::{Home, Intention, Intentions};
use nullius_mesh::{
    Directory,
    news::{Mode, Picture, Uid},
};
use nullius_proto::node_v1::RefusedIntention;
use nullius_workload::Registered;

/// Bytes of what is wrong with an intention.
const MESSAGE_MAX: usize = 512;

/// What is known of the mesh.
#[derive(Debug)]
pub(crate) struct Known {
    /// What stands.
    pub(crate) picture: Arc<Picture>,
    /// Intentions that can be read; of one that cannot any more, what it said before.
    pub(crate) intentions: Intentions,
    /// Those that cannot.
    pub(crate) refused: Vec<RefusedIntention>,
    /// Where others are.
    pub(crate) directory: Arc<Directory>,
    /// By UID of their objects.
    read: BTreeMap<Uid, Intention>,
}

impl Known {
    pub(crate) fn new(
        picture: Arc<Picture>,
        registered: &Registered,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let others = registered.bundles.keys().filter(|it| **it != registered.trust_domain);
        let home = Home {
            trust_domain: registered.trust_domain.clone(),
            federated: Some(others.cloned().collect()),
            // Tokens are not verified here: a rule that wants one denies.
            issuers: Some(Default::default()),
        };
        let mut directory = directory(&picture);
        if let Some(before) = before {
            directory.keep_gone(&before.directory, now);
        }
        let mut known = Self {
            directory: Arc::new(directory),
            picture: Arc::clone(&picture),
            intentions: Intentions::default(),
            refused: Vec::new(),
            read: BTreeMap::new(),
        };
        for (uid, object) in picture.intentions() {
            let read = serde_json::from_slice(&object.json)
                .map_err(|error| error.to_string())
                .and_then(|json| {
                    Intention::read(&json, object.origin, &home).map_err(|faults| {
                        let told = faults.iter().map(|it| format!("{}: {}", it.field, it.message));
                        told.collect::<Vec<_>>().join("; ")
                    })
                });
            let read = match read {
                Ok(read) => Some(read),
                Err(mut message) => {
                    let end = message.floor_char_boundary(MESSAGE_MAX);
                    message.truncate(end);
                    known.refused.push(RefusedIntention {
                        uid: uid.to_string(),
                        generation: object.generation,
                        message,
                    });
                    before.and_then(|before| before.read.get(uid)).cloned()
                }
            };
            if let Some(read) = read {
                known.intentions.put(read.clone());
                known.read.insert(Arc::clone(uid), read);
            }
        }
        known
    }
}

fn directory(picture: &Picture) -> Directory {
    let mut directory = Directory::default();
    for pod in picture.workloads().values() {
        let (Mode::Node | Mode::Sidecar, Some(id)) = (pod.mode, &pod.spiffe_id) else { continue };
        for address in &pod.addresses {
            // Where two pods claim an address, neither is believed; nor is it as if nobody of the mesh were there.
            if picture.at(*address).is_some_and(|there| there.uid == pod.uid) {
                directory.put_pod(*address, id.clone());
            } else {
                directory.put_claimed(*address);
            }
        }
    }
    for service in picture.services().values() {
        let name: Arc<str> = service.name.to_string().into();
        for (number, port) in &service.ports {
            let endpoints = port.endpoints.iter().map(|it| (it.address, it.port).into());
            let endpoints: Vec<std::net::SocketAddr> = endpoints.collect();
            for address in &service.addresses {
                directory.put_service(
                    (*address, *number).into(),
                    Arc::clone(&name),
                    endpoints
                        .iter()
                        .filter(|it| it.is_ipv4() == address.is_ipv4())
                        .copied()
                        .collect(),
                );
            }
        }
    }
    directory
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use std::net::IpAddr;

    use nullius_mesh::{
        GONE, Who,
        news::{News, Workload},
    };
    use nullius_model::SpiffeId;

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

    fn known(pods: Vec<Workload>, before: Option<&Known>, now: Instant) -> Known {
        let mut picture = Picture::default();
        let news = News {
            stream: "s".into(),
            sequence: 1,
            is_complete: true,
            put_workloads: pods,
            ..News::default()
        };
        picture.hear(news).unwrap();
        let registered = Registered {
            trust_domain: "dev.example".parse().unwrap(),
            bundles: Default::default(),
            entries: Default::default(),
            reissue_before: None,
        };
        Known::new(Arc::new(picture), &registered, before, now)
    }

    #[test]
    fn an_address_that_two_claim_or_that_a_pod_has_left_is_unclear() {
        let now = Instant::now();
        let at = |known: &Known, now| match known.directory.who(ADDRESS, now) {
            Who::Pod(id) => id[0].to_string(),
            Who::Outside => "outside".to_owned(),
            Who::Unclear => "unclear".to_owned(),
        };
        let one = known(vec![pod("one", Mode::Node)], None, now);
        assert_eq!(at(&one, now), id("one").to_string());
        // Of the mesh or not, the other one says to have the address.
        for mode in [Mode::Node, Mode::None] {
            let two = known(vec![pod("one", Mode::Node), pod("two", mode)], Some(&one), now);
            assert_eq!(at(&two, now), "unclear");
            let one = known(vec![pod("one", Mode::Node)], Some(&two), now);
            assert_eq!(at(&one, now), id("one").to_string());
        }
        let outside = known(vec![pod("two", Mode::None)], None, now);
        assert_eq!(at(&outside, now), "outside");
        // It goes, and the next one at the address is not of the mesh; nor does it help to say that again.
        let gone = known(vec![pod("two", Mode::None)], Some(&one), now);
        let again = known(vec![pod("two", Mode::None)], Some(&gone), now + GONE / 2);
        for (known, at_first) in [(&gone, now), (&again, now + GONE / 2)] {
            assert_eq!(at(known, at_first), "unclear");
            assert_eq!(at(known, now + GONE), "outside");
        }
        let next = known(vec![pod("next", Mode::Sidecar)], Some(&again), now + GONE / 2);
        assert_eq!(at(&next, now + GONE / 2), id("next").to_string());
    }
}
