//! What decides in the mesh, made of what stands in the cluster: the same for all pods of a node.

use std::{collections::BTreeMap, sync::Arc};

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
    ) -> Self {
        let others = registered.bundles.keys().filter(|it| **it != registered.trust_domain);
        let home = Home {
            trust_domain: registered.trust_domain.clone(),
            federated: Some(others.cloned().collect()),
            // Tokens are not verified here: a rule that wants one denies.
            issuers: Some(Default::default()),
        };
        let mut known = Self {
            directory: Arc::new(directory(&picture)),
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
            // An address that two pods claim has nobody's identity.
            if picture.at(*address).is_some_and(|there| there.uid == pod.uid) {
                directory.put_pod(*address, id.clone());
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
