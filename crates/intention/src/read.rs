//! Reads an intention strictly: every wrong field is told, and one is enough to refuse the whole.

use std::sync::Arc;

use nullius_fields::{Fault, Faults, Fields, Item, shown};
use nullius_model::{
    API_VERSION, IntentionAction, IntentionAudit, IntentionMode, Namespace, ObjectName,
    PermissionId, Timestamp,
};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::{
    api::Api,
    declared::{self, DeclaredIssuer},
    destination::{Destination, ports},
    intention::{Audit, Intention, Origins, Permissive, Rule, Tier, Verb},
    later,
    limits::{self, Limit},
    origin::{Home, Origin, SYSTEM_NAMESPACE},
    permission::Permission,
    source::Subject,
    weight::{WEIGHT_MAX, weight_of_expressions},
};

/// The kind.
const KIND: &str = "Intention";

impl Intention {
    /// Reads and checks an object, as it counts in a cluster.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json, origin: Origin, home: &Home) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let read = read(object, origin, home, &faults);
        match read {
            Some(intention) if faults.count() == 0 => Ok(intention),
            Some(_) | None => Err(faults.into_vec()),
        }
    }
}

/// What names an intention for good.
struct Identity<'a> {
    namespace: Namespace,
    name: &'a str,
    /// The object's UID; without one its namespace and name.
    key: String,
}

/// What a spec says, with sources that are still to be read.
struct Spec<'a> {
    origins: Arc<Origins>,
    sources: Vec<Item<'a>>,
    issuers: Arc<[DeclaredIssuer]>,
    limits: Arc<[Limit]>,
    api: Option<Arc<Api>>,
}

fn read(object: &Json, origin: Origin, home: &Home, faults: &Faults) -> Option<Intention> {
    let mut fields = Fields::of(object, "", faults)?;
    let (version, kind) = (fields.text("apiVersion"), fields.text("kind"));
    if version != Some(API_VERSION) || kind != Some(KIND) {
        faults.add("", format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`"));
        return None;
    }
    let _ = fields.value("status");
    let metadata = fields.value("metadata");
    let spec = fields.value("spec");
    fields.finish();
    let identity = match metadata {
        Some(metadata) => identity(metadata, faults),
        None => {
            faults.add("metadata", "it is missing: say `name` and `namespace`");
            None
        }
    };
    let Some(spec) = spec else {
        faults.add("spec", "it is missing: say `destination` and `sources`");
        return None;
    };
    // Before anything is compiled.
    if weight_of_expressions(object) > WEIGHT_MAX {
        let told = "its expressions (`pattern`, `regex`, and `when`, above all `matches` in it) take more than 2 MiB together when they are compiled: write fewer, or shorter ones";
        faults.add("spec", told);
        return None;
    }
    // What else is wrong is told too, as for an intention of a namespace.
    let assumed = || Namespace::try_from("default".to_owned()).ok();
    let own = identity.as_ref().map(|it| it.namespace.clone()).or_else(assumed)?;
    let tier = match origin {
        Origin::Fleet => Tier::Fleet,
        Origin::Cluster if own.as_str() == SYSTEM_NAMESPACE => Tier::Cluster,
        Origin::Cluster => Tier::Namespace,
    };
    let key = identity.as_ref().map_or("", |it| it.key.as_str());
    let Spec { origins, sources, issuers, limits, api } =
        read_spec(spec, &own, tier, &identity, faults)?;
    let rules = sources
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| read_rule(&item, index, key, &own, &origins, home, faults));
    let rules: Vec<Arc<Rule>> = rules.map(Arc::new).collect();
    identity.map(|_| Intention { origins, rules, issuers, limits, api })
}

fn identity<'a>(metadata: &'a Json, faults: &Faults) -> Option<Identity<'a>> {
    let text = |name: &str| metadata.get(name).and_then(Json::as_str).filter(|it| !it.is_empty());
    let name = match text("name") {
        Some(name) => name.parse::<ObjectName>().map(|_| name).map_err(|error| error.to_string()),
        None => Err("it is missing: say what it is called".to_owned()),
    };
    let namespace = match text("namespace") {
        Some(namespace) => namespace.parse::<Namespace>().map_err(|error| error.to_string()),
        None => Err("it is missing: an intention is of a namespace".to_owned()),
    };
    for (field, wrong) in
        [("metadata.name", name.as_ref().err()), ("metadata.namespace", namespace.as_ref().err())]
    {
        wrong.into_iter().for_each(|wrong| faults.add(field, wrong.clone()));
    }
    let (name, namespace) = (name.ok()?, namespace.ok()?);
    let key = text("uid").map_or_else(|| format!("{namespace}/{name}"), str::to_owned);
    Some(Identity { namespace, name, key })
}

fn read_spec<'a>(
    spec: &'a Json,
    own: &Namespace,
    tier: Tier,
    identity: &Option<Identity<'_>>,
    faults: &'a Faults,
) -> Option<Spec<'a>> {
    let mut fields = Fields::of(spec, "spec", faults)?;
    let destination = fields.value("destination");
    if destination.is_none() {
        fields.wrong("destination", "it is missing: say which workload is called");
    }
    let destination = destination.and_then(|it| Destination::read(it, own, tier, faults));
    let modes = [("enforce", IntentionMode::Enforce), ("shadow", IntentionMode::Shadow)];
    let mode = fields.word("mode", &modes).unwrap_or_default();
    let audits = [("all", IntentionAudit::All)];
    let audit = match fields.word("audit", &audits) {
        Some(IntentionAudit::All) => Audit::All,
        None => Audit::Denials,
    };
    let permissive = fields.value("permissive");
    let permissive = permissive.and_then(|it| read_permissive(it, destination.as_ref(), faults));
    if permissive.is_some() && mode == IntentionMode::Shadow {
        let told = "an intention in `mode: shadow` decides nothing: leave one of both out";
        fields.wrong("permissive", told);
    }
    let issuers = declared::read(&mut fields, tier, destination.as_ref(), faults);
    let name = identity.as_ref().map(|it| format!("{}/{}", it.namespace, it.name));
    let name = name.unwrap_or_default();
    let limits = limits::read(&mut fields, &format!("{tier} {name}"), faults);
    let api = Api::read(&mut fields, &name, mode, destination.as_ref(), faults);
    let sources = fields.items("sources");
    let says = ["sources", "permissive", "issuers", "limits", "api"];
    if !says.iter().any(|name| fields.has(name)) {
        let told = "it is missing: say who calls; without any intention nobody may";
        fields.wrong("sources", told);
    }
    fields.finish();
    // Without a destination the sources are read all the same, so that their faults are told.
    let destination = destination.unwrap_or_else(|| Destination {
        namespace: Some(own.clone()),
        service_account: Some(String::new()),
        labels: Default::default(),
        ports: Vec::new(),
    });
    let reach = destination.reach();
    let origins = Origins { name: name.into(), tier, destination, reach, mode, audit, permissive };
    Some(Spec { origins: Arc::new(origins), sources, issuers, limits, api })
}

fn read_permissive(
    value: &Json,
    destination: Option<&Destination>,
    faults: &Faults,
) -> Option<Permissive> {
    let mut fields = Fields::of(value, "spec.permissive", faults)?;
    if !fields.has("until") {
        fields.wrong("until", "it is missing: say when that ends, `2027-01-31T00:00:00Z`");
    }
    let until = fields.text("until").and_then(|text| {
        let read = text.parse::<Timestamp>();
        let told = format!("{} is no time: write `2027-01-31T00:00:00Z`", shown(text));
        read.map_err(|_| fields.wrong("until", told)).ok()
    });
    let ports = ports(&mut fields, faults);
    if let Some(destination) = destination.filter(|it| !it.ports.is_empty())
        && let Some(port) = ports.iter().find(|port| !destination.ports.contains(port))
    {
        fields.wrong("ports", format!("{port} is not among the ports of the destination"));
    }
    fields.finish();
    Some(Permissive { until: until?, ports })
}

fn read_rule(
    item: &Item<'_>,
    index: usize,
    key: &str,
    own: &Namespace,
    origins: &Arc<Origins>,
    home: &Home,
    faults: &Faults,
) -> Option<Rule> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    let subject = Subject::read(&mut fields, own, home);
    let words = [("allow", IntentionAction::Allow), ("deny", IntentionAction::Deny)];
    let action = fields.word("action", &words);
    let items = fields.items("permissions");
    match (fields.has("action"), fields.has("permissions")) {
        (false, false) => {
            fields.wrong_here(
                "it says nothing: say `action: allow`, `action: deny` or `permissions`",
            );
        }
        (true, true) => {
            let told = "`action` decides already: leave it out where `permissions` are to decide";
            fields.wrong("action", told);
        }
        (true, false) | (false, true) => {}
    }
    fields.finish();
    let who = without_action(item.value);
    let permissions = items.iter().filter_map(|item| {
        let id = id_of(key, &[&who.to_string(), &item.value.to_string()]);
        Permission::read(item, id, home, faults)
    });
    let permissions: Vec<Permission> = permissions.collect();
    let subject = subject?;
    let is_known = subject.trust_domain().is_none_or(|domain| home.knows_domain(domain));
    let verb = match action {
        _ if !is_known => Verb::Unknown,
        Some(IntentionAction::Allow) => Verb::Allow,
        Some(IntentionAction::Deny) => Verb::Deny,
        None => Verb::Permissions(permissions),
    };
    let action = action.map_or("", IntentionAction::as_str);
    let id = id_of(key, &[&who.to_string(), action]);
    Some(Rule { origins: Arc::clone(origins), index, id, subject, verb })
}

/// A source without what it decides: whom it is for.
fn without_action(source: &Json) -> Json {
    let Json::Object(fields) = source else { return Json::Null };
    let who = fields.iter().filter(|(name, _)| *name != "action" && *name != "permissions");
    Json::Object(who.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

/// A hash over the object and what a rule says; its place among the others does not count.
fn id_of(key: &str, parts: &[&str]) -> PermissionId {
    let mut hash = Sha256::new();
    for part in ["nullius intention permission 1", key].iter().chain(parts) {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        hash.update(length.to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    PermissionId::from_bits(u128::from_be_bytes(first))
}
