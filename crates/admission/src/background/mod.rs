//! What stands in a cluster, judged as if it came now: policies only see what comes.
//!
//! [`Background`] is handed objects as they are read or change, and says what is to be told of them. It judges an object once
//! for each of its versions and each set of policies, keeps no object, and reports pods at what controls them in the end.

mod ledger;
mod standards;

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::{FindingWaiver, FoundObject, FoundPart};
use nullius_policy::pod_security::Workload;
use serde_json::Value as Json;

use ledger::Ledger;
pub use standards::{Measures, Standards};

/// What a scan has to say of one object, or of its pods: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The object.
    pub object: FoundObject,
    /// The object itself, or the pods that it makes.
    pub part: FoundPart,
    /// What was found.
    pub found: Vec<Found>,
}

/// One check that an object does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `ValidatingAdmissionPolicy/no-latest`, `PodSecurity/restricted`.
    pub policy: String,
    /// The binding or label that applies it.
    pub binding: String,
    /// The check.
    pub check: String,
    /// How bad it is.
    pub severity: nullius_model::Severity,
    /// What the cluster makes of such an object.
    pub enforcement: nullius_model::Enforcement,
    /// What is wrong.
    pub message: String,
    /// The fields that must change.
    pub evidence: Vec<String>,
    /// How.
    pub fix: String,
    /// Who accepted it.
    pub waiver: Option<FindingWaiver>,
}

/// What came of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// What is to be told.
    pub told: Vec<Told>,
    /// The object of which what was told before stands, by its UID.
    pub stands: Option<String>,
}

/// What makes two findings of an object the same.
type Key = (String, String, String);

/// What is known of one thing that makes pods.
#[derive(Debug)]
struct Maker {
    object: FoundObject,
    controller: Option<String>,
}

/// What was found of the pods of one thing.
#[derive(Debug)]
struct PodsOf {
    object: FoundObject,
    found: BTreeMap<Key, (Found, BTreeSet<String>)>,
}

/// The scan of one cluster.
#[derive(Debug)]
pub struct Background {
    standards: Standards,
    ledger: Ledger,
    makers: BTreeMap<String, Maker>,
    /// The findings of things that make pods, so that the pods do not repeat them.
    own: BTreeMap<String, BTreeSet<Key>>,
    pods: BTreeMap<String, PodsOf>,
    /// Under what each pod with findings was told.
    pod_owner: BTreeMap<String, String>,
}

impl Background {
    /// Begins, knowing nothing of the cluster's objects.
    #[must_use]
    pub fn new(standards: Standards) -> Self {
        Self {
            standards,
            ledger: Ledger::default(),
            makers: BTreeMap::new(),
            own: BTreeMap::new(),
            pods: BTreeMap::new(),
            pod_owner: BTreeMap::new(),
        }
    }

    /// What objects are judged by.
    #[must_use]
    pub fn standards(&self) -> &Standards {
        &self.standards
    }

    /// Judges by other standards from now on; where they say something else, everything is judged anew.
    pub fn judge_by(&mut self, standards: Standards) {
        if standards.hash() != self.standards.hash() {
            self.ledger.forget_versions();
        }
        self.standards = standards;
    }

    /// Begins to look at everything.
    pub fn begin(&mut self) {
        self.ledger.begin();
    }

    /// Ends looking at everything: what was not seen is gone.
    pub fn end(&mut self) -> Vec<Told> {
        let gone = self.ledger.unseen();
        gone.into_iter().flat_map(|uid| self.gone(&uid)).collect()
    }

    /// Whether an object was judged as it is; then it need not be read.
    #[must_use]
    pub fn knows(&self, uid: &str, version: &str) -> bool {
        self.ledger.knows(uid, version)
    }

    /// Takes an object as it is.
    pub fn sees(&mut self, object: &Json) -> Seen {
        let Some(found_object) = named(object) else { return Seen::default() };
        let version = text(object, "/metadata/resourceVersion").to_owned();
        let uid = found_object.uid.clone();
        let controller = controller_of(object);
        let workload = Workload::of_kind(found_object.group(), &found_object.kind);
        let makes_pods = workload.is_some_and(|workload| workload != Workload::Pod);
        if makes_pods {
            let controller = controller.as_ref().map(|owner| owner.uid.clone());
            self.makers.insert(uid.clone(), Maker { object: found_object.clone(), controller });
        }
        if self.ledger.knows(&uid, &version) {
            self.ledger.saw(&uid);
            let stands = match self.pod_owner.get(&uid) {
                Some(owner) => Some(owner.clone()),
                None => (self.ledger.has_findings(&uid) || self.pods.contains_key(&uid))
                    .then(|| uid.clone()),
            };
            return Seen { told: Vec::new(), stands };
        }
        // What makes pods for something else has its template: it is told there.
        let made = makes_pods && controller.as_ref().is_some_and(|owner| self.is_known(owner));
        let found = if made { Vec::new() } else { self.standards.judge(object) };
        let told_before = self.ledger.note(&uid, &version, !found.is_empty());
        let told = match (workload, controller) {
            (Some(Workload::Pod), Some(owner)) => self.of_pod(&uid, &owner, found),
            _ => self.of_object(found_object, makes_pods, found, told_before),
        };
        let stands = self.pods.contains_key(&uid).then_some(uid);
        Seen { told, stands }
    }

    /// An object is gone.
    pub fn gone(&mut self, uid: &str) -> Vec<Told> {
        let had = self.ledger.gone(uid);
        self.own.remove(uid);
        let mut told = Vec::new();
        if let Some(owner) = self.pod_owner.remove(uid) {
            told.extend(self.without_pod(uid, &owner));
        } else if let Some(object) = had {
            let part = FoundPart::Object;
            told.push(Told { object, part, found: Vec::new() });
        }
        if let Some(pods) = self.pods.remove(uid) {
            told.push(Told { object: pods.object, part: FoundPart::Pods, found: Vec::new() });
        }
        self.makers.remove(uid);
        told
    }

    fn of_object(
        &mut self,
        object: FoundObject,
        makes_pods: bool,
        found: Vec<Found>,
        told_before: bool,
    ) -> Vec<Told> {
        let uid = object.uid.clone();
        if makes_pods {
            let keys: BTreeSet<Key> = found.iter().map(key).collect();
            match keys.is_empty() {
                true => self.own.remove(&uid),
                false => self.own.insert(uid.clone(), keys),
            };
        }
        if found.is_empty() && !told_before {
            return self.told_pods(&uid).into_iter().collect();
        }
        if !found.is_empty() {
            self.ledger.names(&uid, &object);
        }
        let mut told = vec![Told { object, part: FoundPart::Object, found }];
        // What the template now says, its pods need not say any more, and the other way round.
        told.extend(self.told_pods(&uid));
        told
    }

    fn of_pod(&mut self, pod: &str, owner: &Owner, found: Vec<Found>) -> Vec<Told> {
        let top = self.top_of(owner);
        let mut told = Vec::new();
        if let Some(before) = self.pod_owner.get(pod).cloned()
            && (before != top.uid || found.is_empty())
        {
            self.pod_owner.remove(pod);
            told.extend(self.without_pod(pod, &before));
        }
        if found.is_empty() {
            return told;
        }
        self.pod_owner.insert(pod.to_owned(), top.uid.clone());
        let uid = top.uid.clone();
        let of = self.pods.entry(uid.clone());
        let of = of.or_insert_with(|| PodsOf { object: top, found: BTreeMap::new() });
        let mut changed = remove_pod(of, pod);
        for one in found {
            let (known, pods) =
                of.found.entry(key(&one)).or_insert_with(|| (one.clone(), BTreeSet::new()));
            changed |= pods.is_empty();
            *known = one;
            pods.insert(pod.to_owned());
        }
        of.found.retain(|_, (_, pods)| !pods.is_empty());
        if changed {
            told.extend(self.told_pods(&uid));
        }
        told
    }

    fn without_pod(&mut self, pod: &str, owner: &str) -> Option<Told> {
        let of = self.pods.get_mut(owner)?;
        let changed = remove_pod(of, pod);
        of.found.retain(|_, (_, pods)| !pods.is_empty());
        let is_empty = of.found.is_empty();
        let told = changed.then(|| self.told_pods(owner)).flatten();
        if is_empty {
            self.pods.remove(owner);
        }
        told
    }

    /// What is to be told of the pods of something, without what it has itself.
    fn told_pods(&self, owner: &str) -> Option<Told> {
        let of = self.pods.get(owner)?;
        let own = self.own.get(owner);
        let fresh = of.found.iter().filter(|(key, _)| own.is_none_or(|own| !own.contains(key)));
        let found = fresh.map(|(_, (found, _))| found.clone()).collect();
        Some(Told { object: of.object.clone(), part: FoundPart::Pods, found })
    }

    fn is_known(&self, owner: &Owner) -> bool {
        Workload::of_kind(owner.object.group(), &owner.object.kind).is_some()
    }

    /// What controls in the end, as far as that is known.
    fn top_of(&self, owner: &Owner) -> FoundObject {
        let mut top = owner.object.clone();
        let mut uid = Some(owner.uid.clone());
        // Longer chains than these are no chains of Kubernetes.
        for _ in 0..8 {
            let Some(maker) = uid.take().and_then(|uid| self.makers.get(&uid)) else { break };
            top = maker.object.clone();
            uid.clone_from(&maker.controller);
        }
        top
    }
}

/// What controls an object.
#[derive(Debug)]
struct Owner {
    uid: String,
    object: FoundObject,
}

fn controller_of(object: &Json) -> Option<Owner> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller") == Some(&Json::Bool(true)))?;
    let word = |field: &str| owner.get(field).and_then(Json::as_str).unwrap_or_default().to_owned();
    let object = FoundObject {
        api_version: word("apiVersion"),
        kind: word("kind"),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: word("name"),
        uid: word("uid"),
    };
    Some(Owner { uid: object.uid.clone(), object })
}

/// An object by its names; none where it has no UID, and so stands nowhere.
fn named(object: &Json) -> Option<FoundObject> {
    let uid = text(object, "/metadata/uid");
    let named = FoundObject {
        api_version: text(object, "/apiVersion").to_owned(),
        kind: text(object, "/kind").to_owned(),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
        uid: uid.to_owned(),
    };
    let whole = [&named.api_version, &named.kind, &named.name, &named.uid];
    whole.iter().all(|part| !part.is_empty()).then_some(named)
}

/// Takes a pod out of what was found; whether some check now has none left.
fn remove_pod(of: &mut PodsOf, pod: &str) -> bool {
    let mut emptied = false;
    for (_, pods) in of.found.values_mut() {
        emptied |= pods.remove(pod) && pods.is_empty();
    }
    emptied
}

fn key(found: &Found) -> Key {
    (found.policy.clone(), found.binding.clone(), found.check.clone())
}

fn text<'a>(object: &'a Json, path: &str) -> &'a str {
    object.pointer(path).and_then(Json::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
