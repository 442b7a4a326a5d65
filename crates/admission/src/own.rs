//! Objects of Nullius among others', read as strictly as where they count.
//!
//! What is passed over here would count for nothing in a cluster, and nobody would know: a kind that does not exist, one of
//! a plane that this version does not have, a field that nobody reads.

use nullius_intention::{Home, Intention, Origin};
use nullius_kinds::nearest_name;
use nullius_manifest::{Content, Fault, Manifest, Node, Reader};
use nullius_model::{API_VERSION, AnyObject, Kind, KindHome, Timestamp, TrustDomain};
use nullius_policy::{
    baseline::{Baseline, KIND as BASELINE},
    exception::{Exception, KIND as EXCEPTION},
};

use crate::scan::field_fault;

/// The trust domain of clusters that say none; what an intention may say does not depend on it.
const TRUST_DOMAIN: &str = "cluster.local";

/// What is wrong with an object of the group `nullius.dev`; of other groups nothing is said. One that says not when it was
/// made counts as made at `now`.
pub fn own_faults(manifest: &Manifest, now: Timestamp) -> Vec<Fault> {
    let group = API_VERSION.split('/').next().unwrap_or_default();
    if manifest.group() != group {
        return Vec::new();
    }
    let node = manifest.node();
    let of_field = |field: &str, message: String, next: String| {
        vec![Fault { place: node.place_of_text(field), message, next: Some(next) }]
    };
    let kind = manifest.kind.as_str();
    let shown = || kind.chars().take(80).flat_map(char::escape_debug).collect::<String>();
    match KindHome::of(kind) {
        None => {
            let next = match nearest_name(KindHome::written(), kind) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let known: Vec<&str> = KindHome::written().collect();
                    format!("those that it has are `{}`", known.join("`, `"))
                }
            };
            of_field("kind", format!("`{group}` has no kind `{}`", shown()), next)
        }
        Some(KindHome::Later(plane)) => of_field(
            "kind",
            format!("`{kind}` belongs to {plane}, which this version does not have"),
            "take it out: nothing would come of it".to_owned(),
        ),
        Some(_) if manifest.api_version != API_VERSION => of_field(
            "apiVersion",
            format!("`{kind}` is not read in this version of `{group}`"),
            format!("write `{API_VERSION}`"),
        ),
        Some(KindHome::Cluster) => of_cluster(manifest, now),
        Some(KindHome::Hub(kind)) => of_hub(manifest, kind),
        // Whoever reads such a document checks it.
        Some(KindHome::File) => Vec::new(),
    }
}

fn of_cluster(manifest: &Manifest, now: Timestamp) -> Vec<Fault> {
    let object = manifest.to_json();
    let faults: Vec<(String, String)> = match manifest.kind.as_str() {
        BASELINE => parts(Baseline::read(&object).err(), |it| (it.field.clone(), it.to_string())),
        EXCEPTION => {
            parts(Exception::read(&object, now).err(), |it| (it.field.clone(), it.to_string()))
        }
        _ => {
            let domain = TrustDomain::try_from(TRUST_DOMAIN.to_owned());
            let read = domain
                .map(|domain| Intention::read(&object, Origin::Cluster, &Home::of(domain)).err());
            parts(read.unwrap_or_default(), |it| (it.field.clone(), it.to_string()))
        }
    };
    let told = |(field, told): (String, String)| Fault {
        place: manifest.node().place_of_text(&field),
        message: format!("{} `{}`: {told}", manifest.kind, manifest.name()),
        next: Some("mend it; a cluster would refuse it too".to_owned()),
    };
    faults.into_iter().map(told).collect()
}

fn parts<F>(
    faults: Option<Vec<F>>,
    part: impl Fn(&F) -> (String, String),
) -> Vec<(String, String)> {
    faults.unwrap_or_default().iter().map(part).collect()
}

fn of_hub(manifest: &Manifest, kind: Kind) -> Vec<Fault> {
    let node = manifest.node();
    let Content::Map(entries) = &node.content else { return Vec::new() };
    let body = entries.iter().filter(|(key, _)| key.name != "apiVersion" && key.name != "kind");
    let body: Node = node.with_entries(body.cloned().collect());
    let Err(error) = AnyObject::from_parts(kind, Reader(&body)) else { return Vec::new() };
    vec![Fault {
        place: node.place_of_text(&error.path),
        message: format!("{kind} `{}`: {}", manifest.name(), field_fault(&error)),
        next: Some("mend it; the hub would refuse it too".to_owned()),
    }]
}
