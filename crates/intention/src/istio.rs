//! Istio's `AuthorizationPolicy` and `PeerAuthentication` as intentions that allow no more.
//!
//! Istio joins all rules that are for a caller; here the most exact source decides. So each source is written with the rules of all
//! wider ones. What has no exact counterpart is refused by name, and with it the policies for the same workloads.

mod group;
mod policy;

use std::collections::BTreeMap;

use nullius_fields::Fault;
use nullius_model::{IntentionDestination, IntentionSpec, Permissive, Timestamp};
use serde_json::Value as Json;

use crate::{
    imported::{Imported, ImportedIntention, Remark},
    origin::{Home, SYSTEM_NAMESPACE},
};
use group::Group;
use policy::{Peer, Policy};

/// How a mesh of Istio is set up.
#[derive(Debug, Clone)]
pub struct Istio {
    /// The namespace whose policies are for all.
    pub root_namespace: String,
    /// The trust domain that its principals begin with; it becomes the cluster's own.
    pub trust_domain: String,
    /// When what `PERMISSIVE` lets pass ends; without it such a `PeerAuthentication` is refused.
    pub permissive_until: Option<Timestamp>,
}

/// The workloads that policies are for: a namespace, none for all, and labels.
type Place = (Option<String>, BTreeMap<String, String>);

/// Carries policies over; other objects are passed over.
pub fn import_istio(objects: &[Json], istio: &Istio) -> Imported {
    let mut imported = Imported::default();
    let mut groups: BTreeMap<Place, Group> = BTreeMap::new();
    let mut peers = Vec::new();
    for (object, json) in objects.iter().enumerate() {
        let text = |field: &str| json.get(field).and_then(Json::as_str).unwrap_or_default();
        if !text("apiVersion").starts_with("security.istio.io/") {
            continue;
        }
        let refused =
            |faults: Vec<Fault>| faults.into_iter().map(move |fault| Remark { object, fault });
        match text("kind") {
            "AuthorizationPolicy" => match Policy::read(json, istio) {
                Ok((place, policy)) => {
                    groups.entry(place).or_default().add(object, policy);
                }
                Err((place, faults)) => {
                    groups.entry(place).or_default().broken = true;
                    imported.refused.extend(refused(faults));
                }
            },
            "PeerAuthentication" => match Peer::read(json, istio) {
                Ok(peer) => peers.push((object, peer)),
                Err(faults) => imported.refused.extend(refused(faults)),
            },
            _ => {
                let message = "this kind is not carried over".to_owned();
                let fault = Fault { field: "kind".to_owned(), message };
                imported.refused.push(Remark { object, fault });
            }
        }
    }
    check_levels(&mut groups, &mut imported);
    for (place, group) in &groups {
        group.write(place, &mut imported);
    }
    for (object, peer) in peers {
        write_peer(object, peer, &groups, istio, &mut imported);
    }
    if let Ok(domain) = istio.trust_domain.parse() {
        imported.leave_out_unreadable(&Home::of(domain));
    }
    imported
}

/// Istio joins what is for a namespace or for all with what is for some of its workloads; tiers do not.
fn check_levels(groups: &mut BTreeMap<Place, Group>, imported: &mut Imported) {
    let places: Vec<Place> = groups.keys().cloned().collect();
    for place in &places {
        let (namespace, labels) = place;
        let wider = places.iter().find(|other| {
            let is_wider = other.0.is_none() && namespace.is_some()
                || (other.0 == *namespace && other.1.is_empty() && !labels.is_empty());
            is_wider && groups.get(other).is_some_and(|group| group.says_something())
        });
        let overlapping = places.iter().find(|other| {
            *other != place
                && other.0 == *namespace
                && !labels.is_empty()
                && !other.1.is_empty()
                && overlaps(labels, &other.1)
        });
        let told = match (wider, overlapping) {
            (Some(_), _) => {
                "policies for the whole namespace or mesh are joined with this one in Istio: write them into one, or give every policy a selector"
            }
            (None, Some(_)) => {
                "another policy is for pods that this one is for too, by other labels: give both the same selector"
            }
            (None, None) => continue,
        };
        if let Some(group) = groups.get_mut(place).filter(|group| !group.broken) {
            group.broken = true;
            for object in &group.objects {
                let fault = Fault { field: "spec.selector".to_owned(), message: told.to_owned() };
                imported.refused.push(Remark { object: *object, fault });
            }
        }
    }
}

/// Whether a pod can have both.
fn overlaps(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    one.iter().all(|(key, value)| other.get(key).is_none_or(|it| it == value))
}

/// The destination of a place, and the namespace in which an intention for it stands.
fn destination(place: &Place) -> (String, IntentionDestination) {
    let (namespace, labels) = place;
    match (namespace, labels.is_empty()) {
        (Some(namespace), false) => {
            let labels = labels.clone();
            (namespace.clone(), IntentionDestination { labels, ..Default::default() })
        }
        (Some(namespace), true) => {
            let namespace = Some(namespace.clone());
            (SYSTEM_NAMESPACE.to_owned(), IntentionDestination { namespace, ..Default::default() })
        }
        (None, _) => (
            SYSTEM_NAMESPACE.to_owned(),
            IntentionDestination { any: Some(true), ..Default::default() },
        ),
    }
}

fn write_peer(
    object: usize,
    peer: Peer,
    groups: &BTreeMap<Place, Group>,
    istio: &Istio,
    imported: &mut Imported,
) {
    let mut note = |message: &str| {
        let fault = Fault { field: "spec.mtls".to_owned(), message: message.to_owned() };
        imported.notes.push(Remark { object, fault });
    };
    if peer.ports.is_empty() && !peer.all {
        return note("it is strict, as everything is: nothing is written for it");
    }
    let is_near =
        |place: &&Place| place.0.is_none() || peer.place.0.is_none() || place.0 == peer.place.0;
    if groups.keys().any(|place| is_near(&place)) {
        return note(
            "policies decide about these workloads, and here a caller without identity is denied unless an `ipBlock` names it: nothing is written",
        );
    }
    let Some(until) = istio.permissive_until else {
        let message = "`PERMISSIVE` has an end here: say when by `--permissive-until`".to_owned();
        let fault = Fault { field: "spec.mtls".to_owned(), message };
        return imported.refused.push(Remark { object, fault });
    };
    let (namespace, destination) = destination(&peer.place);
    let ports = peer.ports.iter().map(|port| i64::from(*port)).collect();
    let permissive = Some(Permissive { until, ports });
    let spec = IntentionSpec { destination, permissive, ..IntentionSpec::default() };
    let (name, objects) = (peer.name, vec![object]);
    imported.intentions.push(ImportedIntention { namespace, name, spec, objects });
}
