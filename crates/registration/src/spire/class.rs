//! `ClusterSPIFFEID`: an identity for the pods of chosen namespaces.

use std::collections::BTreeMap;

use nullius_fields::{Fault, Faults, Fields, shown};
use serde_json::Value as Json;

use super::{
    Done, Draft, More, Spire,
    entry::{domains, duration, refuse_power, texts},
    fault, go, name_of,
    nodes::Nodes,
    selector::Selected,
    without_empty,
};
use crate::later;

/// The label that every namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// An identity for pods of namespaces.
#[derive(Debug)]
pub(super) struct Class {
    name: String,
    /// The trust domain, with the path behind it.
    id: String,
    namespaces: Vec<Wanted>,
    of: Selected,
    more: More,
}

/// What a label must be.
#[derive(Debug, Clone)]
struct Wanted {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Class {
    /// Reads it; every fault where something in it cannot be carried over.
    pub(super) fn read(json: &Json) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let name = json.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default();
        let spec = without_empty(json.get("spec").unwrap_or(&Json::Null));
        let read = read(name, &spec, &faults);
        match (read, faults.into_vec()) {
            (Some(class), faults) if faults.is_empty() => Ok(class),
            (_, faults) => Err(faults),
        }
    }

    /// What is to be written for it, in each of its namespaces.
    pub(super) fn drafts(
        &self,
        namespaces: &Namespaces,
        nodes: &Nodes,
        spire: &Spire,
    ) -> Result<Vec<Draft>, Done> {
        let refused = |field: &str, told: &str| Done::Refused(vec![fault(field, told)]);
        let (domain, path) = self.id.split_at(self.id.find('/').unwrap_or(self.id.len()));
        if domain != go::OWN_DOMAIN {
            let checked = nodes.check_domain(domain);
            checked.map_err(|told| refused("spec.spiffeIDTemplate", &told))?;
        }
        let draft = Draft {
            namespace: String::new(),
            name: self.name.clone(),
            path: path.to_owned(),
            of: self.of.clone(),
            more: self.more.clone(),
        };
        if draft.is_default() {
            return Ok(vec![draft]);
        }
        let chosen = namespaces.chosen(&self.namespaces).ok_or_else(|| {
            refused(
                "spec.namespaceSelector",
                "nothing says which namespaces it chooses: give their objects too, `kubectl get namespaces,clusterspiffeids -o yaml`",
            )
        })?;
        let is_meant = |namespace: &String| !spire.ignored.contains(namespace);
        let chosen: Vec<String> = chosen.into_iter().filter(is_meant).collect();
        if chosen.is_empty() {
            let told = "it chooses no namespace that there is: nothing is written for it";
            return Err(Done::Needless(fault("spec.namespaceSelector", told)));
        }
        Ok(chosen.into_iter().map(|namespace| Draft { namespace, ..draft.clone() }).collect())
    }
}

fn read(name: &str, spec: &Json, faults: &Faults) -> Option<Class> {
    let mut fields = Fields::of(spec, "spec", faults)?;
    let _ = fields.value("className");
    let id = read_template(&mut fields);
    let mut dns_names = Vec::new();
    for (path, text) in fields.texts("dnsNameTemplates") {
        match go::template(text) {
            Ok(name) => dns_names.push(name),
            Err(told) => faults.add(&path, told),
        }
    }
    let of = read_pods(&mut fields, faults);
    let namespaces = labels(&mut fields, "namespaceSelector", faults);
    for (power, what) in [
        ("admin", "the API of SPIRE's server"),
        ("downstream", "servers below SPIRE's"),
        ("fallback", "pods that nothing else names"),
        ("autoPopulateDNSNames", "names that are worked out; write them as `dnsNameTemplates`"),
    ] {
        refuse_power(&mut fields, power, what);
    }
    let more = More {
        x509_seconds: duration(&mut fields, "ttl"),
        jwt_seconds: duration(&mut fields, "jwtTtl"),
        dns_names,
        hint: fields.text("hint").map(str::to_owned),
        federates_with: domains(&mut fields, "federatesWith"),
    };
    fields.finish();
    Some(Class { name: name_of(name), id: id?, namespaces, of, more })
}

fn read_template(fields: &mut Fields<'_>) -> Option<String> {
    const NAME: &str = "spiffeIDTemplate";
    let Some(text) = fields.text(NAME) else {
        fields.wrong(NAME, "it is missing: say which ID");
        return None;
    };
    let id = go::template(text).and_then(|id| match id.strip_prefix("spiffe://") {
        Some(id) => Ok(id.to_owned()),
        None => Err("an ID begins with `spiffe://`".to_owned()),
    });
    id.map_err(|told| fields.wrong(NAME, told)).ok()
}

/// Which pods of the namespaces, and which of their processes.
fn read_pods(fields: &mut Fields<'_>, faults: &Faults) -> Selected {
    let mut of = Selected::default();
    for (path, text) in fields.texts("workloadSelectorTemplates") {
        let added = go::template(text).and_then(|selector| match selector.split_once(':') {
            // So is every pod that is chosen.
            Some(("k8s", "ns:{namespace}" | "sa:{serviceAccount}" | "pod-name:{pod}")) => Ok(()),
            Some((kind, value)) if !value.contains('{') => of.add(kind, value),
            _ => Err(format!("{} is not carried over", shown(text))),
        });
        if let Err(told) = added {
            faults.add(&path, told);
        }
    }
    if of.namespace.is_some() {
        fields.wrong("workloadSelectorTemplates", "say the namespace by `namespaceSelector`");
    }
    for wanted in labels(fields, "podSelector", faults) {
        match (wanted.operator, wanted.values.as_slice()) {
            (Operator::In, [value])
                if of.labels.get(&wanted.key).is_none_or(|other| other == value) =>
            {
                of.labels.insert(wanted.key, value.clone());
            }
            _ => {
                let key = shown(&wanted.key);
                let told = format!("not carried over: {key} must be one value of a label");
                fields.wrong("podSelector", told);
            }
        }
    }
    of
}

/// What a selector wants of labels, all of it.
fn labels(fields: &mut Fields<'_>, name: &'static str, faults: &Faults) -> Vec<Wanted> {
    let Some(value) = fields.value(name) else { return Vec::new() };
    let path = fields.at(name);
    let Some(mut fields) = Fields::of(value, &path, faults) else { return Vec::new() };
    let mut all = Vec::new();
    let pairs = fields.value("matchLabels").and_then(Json::as_object);
    for (key, value) in pairs.into_iter().flatten() {
        let Some(value) = value.as_str() else {
            faults.add(&path, format!("the value of {} is no text", shown(key)));
            continue;
        };
        let (key, values) = (key.clone(), vec![value.to_owned()]);
        all.push(Wanted { key, operator: Operator::In, values });
    }
    for item in fields.items("matchExpressions") {
        let Some(mut fields) = Fields::of(item.value, &item.path, faults) else { continue };
        let key = fields.text("key").unwrap_or_default().to_owned();
        let operators = [
            ("In", Operator::In),
            ("NotIn", Operator::NotIn),
            ("Exists", Operator::Exists),
            ("DoesNotExist", Operator::DoesNotExist),
        ];
        let operator = fields.word("operator", &operators);
        let values = texts(&mut fields, "values");
        fields.finish();
        match operator {
            Some(operator) if !key.is_empty() => all.push(Wanted { key, operator, values }),
            _ => faults.add(&item.path, "say `key` and `operator`"),
        }
    }
    fields.finish();
    all
}

impl Wanted {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_one = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_one,
            Operator::NotIn => !is_one,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The namespaces of the cluster, as far as their objects were given.
#[derive(Debug, Default)]
pub(super) struct Namespaces(BTreeMap<String, BTreeMap<String, String>>);

impl Namespaces {
    pub(super) fn add(&mut self, object: &Json) {
        let Some(name) = object.pointer("/metadata/name").and_then(Json::as_str) else { return };
        let labels = object.pointer("/metadata/labels").and_then(Json::as_object);
        let text = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
        let mut labels: BTreeMap<String, String> =
            labels.into_iter().flatten().filter_map(text).collect();
        labels.insert(NAME_LABEL.to_owned(), name.to_owned());
        self.0.insert(name.to_owned(), labels);
    }

    /// The namespaces that a selector chooses; none where nobody can tell.
    fn chosen(&self, wanted: &[Wanted]) -> Option<Vec<String>> {
        if !self.0.is_empty() {
            let is_chosen = |labels: &BTreeMap<_, _>| wanted.iter().all(|it| it.holds(labels));
            let all = self.0.iter().filter(|(_, labels)| is_chosen(labels));
            return Some(all.map(|(name, _)| name.clone()).collect());
        }
        match wanted {
            [Wanted { key, operator: Operator::In, values }] if key == NAME_LABEL => {
                Some(values.clone())
            }
            _ => None,
        }
    }
}
