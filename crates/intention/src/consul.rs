//! Consul's service intentions as intentions that allow no more.
//!
//! The order is the same in both: the most exact destination, then the most exact source. Consul knows services and we know service
//! accounts: [`Services`] says which is which. What has no exact counterpart is refused by name, and with it all for the same destination.

mod entry;
mod form;
mod provider;
mod request;
mod services;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use nullius_fields::Fault;
use nullius_model::{
    IntentionAction, IntentionDestination, IntentionSource, IntentionSpec, TrustDomain,
};
use serde_json::Value as Json;

pub use services::Services;

use crate::{
    imported::{Imported, ImportedIntention, Remark},
    origin::{Home, SYSTEM_NAMESPACE},
};
use entry::{ALL, Entry};
use form::Form;
use provider::Provider;
use services::Account;
use write::Writer;

/// Providers of tokens by their names; those that could not be read are kept, so that nothing is written by them.
type Providers = BTreeMap<String, Option<Provider>>;

/// Carries intentions over; entries and objects of other kinds are passed over.
pub fn import_consul(objects: &[Json], services: &Services, domain: &TrustDomain) -> Imported {
    let mut imported = Imported::default();
    let mut entries = Vec::new();
    let mut providers = Providers::new();
    for (object, json) in objects.iter().enumerate() {
        let done = match kind(json) {
            Kind::Other => Ok(()),
            Kind::Intentions(form, value) => {
                Entry::read(value, form).map(|entry| entries.push((object, entry)))
            }
            Kind::Provider(form, name, value) => {
                let read = Provider::read(value, form);
                providers.insert(name.to_owned(), read.as_ref().ok().cloned());
                read.map(drop)
            }
            Kind::Wrong(field, message) => {
                Err(vec![Fault { field: field.to_owned(), message: message.to_owned() }])
            }
        };
        imported.refuse(object, done.err().unwrap_or_default());
    }
    let writer = Writer { services, providers: &providers };
    let home = Home::of(domain.clone());
    let mut carried = Vec::new();
    for (object, entry) in &entries {
        let is_same = |other: &&(usize, Entry)| other.1.destination == entry.destination;
        let done = match entries.iter().filter(is_same).count() {
            1 => Carried::of(*object, entry, &writer, &home),
            _ => {
                Err(vec![entry.fault("", "its destination stands twice, of which Consul has one")])
            }
        };
        match done {
            Ok(done) => carried.push(done),
            Err(faults) => imported.refuse(*object, faults),
        }
    }
    let whole = whole_namespaces(&mut carried, services, &mut imported);
    for done in carried {
        let intention = done.intention(&whole);
        imported.intentions.push(intention);
    }
    imported
}

/// What an object is here.
enum Kind<'a> {
    Intentions(Form, &'a Json),
    Provider(Form, &'a str, &'a Json),
    /// Nothing that says who may call.
    Other,
    /// A field, and why nobody can tell what it says.
    Wrong(&'static str, &'static str),
}

fn kind(json: &Json) -> Kind<'_> {
    let text = |path: &str| json.pointer(path).and_then(Json::as_str).unwrap_or_default();
    if let Some((group, _)) = text("/apiVersion").split_once('/') {
        let spec = json.get("spec").unwrap_or(&Json::Null);
        return match (group, text("/kind")) {
            ("consul.hashicorp.com", "ServiceIntentions") => {
                Kind::Intentions(Form::Kubernetes, spec)
            }
            ("consul.hashicorp.com", "JWTProvider") => {
                Kind::Provider(Form::Kubernetes, text("/metadata/name"), spec)
            }
            ("auth.consul.hashicorp.com", _) => {
                Kind::Wrong("kind", "this kind is not carried over: write `ServiceIntentions`")
            }
            _ => Kind::Other,
        };
    }
    match text("/Kind") {
        "service-intentions" => Kind::Intentions(Form::Config, json),
        "jwt-provider" => Kind::Provider(Form::Config, text("/Name"), json),
        "" if json.get("apiVersion").is_some() => Kind::Other,
        "" if json.get("SourceName").is_some() => Kind::Wrong(
            "",
            "this is no config entry: read `/v1/config/service-intentions`, or by `consul config read`",
        ),
        "" => Kind::Wrong(
            "",
            "this is neither a config entry as `consul config read` prints it, with `Kind`, nor an object of Kubernetes",
        ),
        _ => Kind::Other,
    }
}

/// Whom an entry is for.
enum Place {
    Account(Account),
    /// All of a namespace.
    Namespace(String),
}

/// An entry that can be said here.
struct Carried<'e> {
    object: usize,
    entry: &'e Entry,
    place: Place,
    sources: Vec<IntentionSource>,
}

impl<'e> Carried<'e> {
    fn of(
        object: usize,
        entry: &'e Entry,
        writer: &Writer<'_>,
        home: &Home,
    ) -> Result<Self, Vec<Fault>> {
        let (consul, name) = &entry.destination;
        let place = match name.as_str() {
            ALL => writer.services.namespace(consul).map(|it| Place::Namespace(it.to_owned())),
            _ => writer.services.account(&entry.destination).map(Place::Account),
        };
        let field = match entry.form {
            Form::Config => "name",
            Form::Kubernetes => "destination.name",
        };
        let place = place.map_err(|told| vec![entry.fault(field, &told)]);
        let sources = writer.sources(entry);
        let (place, sources) = match (place, sources) {
            (Ok(place), Ok(sources)) => (place, sources),
            (place, sources) => {
                let faults = [place.err(), sources.err()];
                return Err(faults.into_iter().flatten().flatten().collect());
            }
        };
        let carried = Self { object, entry, place, sources };
        carried.intention(&BTreeSet::new()).check(home)?;
        Ok(carried)
    }

    /// The intention; where one is for the whole of its namespace, it stands in the same tier as that, so that the order is Consul's.
    fn intention(&self, whole: &BTreeSet<String>) -> ImportedIntention {
        let (of, account) = match &self.place {
            Place::Account(account) => (&account.namespace, Some(&account.name)),
            Place::Namespace(namespace) => (namespace, None),
        };
        let is_above = account.is_none() || whole.contains(of);
        let namespace = if is_above { SYSTEM_NAMESPACE } else { of };
        let name = match account {
            Some(account) if is_above => format!("{of}.{account}"),
            Some(account) => account.clone(),
            None => of.clone(),
        };
        let destination = IntentionDestination {
            service_account: account.cloned(),
            namespace: is_above.then(|| of.clone()),
            ..IntentionDestination::default()
        };
        let sources = self.sources.iter().cloned().map(|mut source| {
            // An account of the intention's own namespace is named without it.
            if source.service_account.is_some() && source.namespace.as_deref() == Some(namespace) {
                source.namespace = None;
            }
            source
        });
        let spec = IntentionSpec { destination, sources: sources.collect(), ..Default::default() };
        let namespace = namespace.to_owned();
        ImportedIntention { namespace, name, spec, objects: vec![self.object] }
    }

    /// Whether somebody may call by it.
    fn allows(&self) -> bool {
        let allows = |source: &IntentionSource| {
            let mut permissions = source.permissions.iter().map(|permission| permission.action);
            source.action == Some(IntentionAction::Allow)
                || permissions.any(|action| action == IntentionAction::Allow)
        };
        self.sources.iter().any(allows)
    }
}

/// The namespaces for all of which something is written. What is for all and cannot be so is left out.
fn whole_namespaces(
    carried: &mut Vec<Carried<'_>>,
    services: &Services,
    imported: &mut Imported,
) -> BTreeSet<String> {
    let mut whole = BTreeSet::new();
    let is_all_carried = imported.refused.is_empty();
    carried.retain(|it| {
        let mut note = |message: &str| {
            let fault = it.entry.fault("", message);
            imported.notes.push(Remark { object: it.object, fault });
        };
        let Place::Namespace(namespace) = &it.place else {
            if !it.allows() {
                note("nobody may call it: where Consul's default policy is to allow, others may there");
            }
            return true;
        };
        if !it.allows() {
            note("it allows nothing, as here nothing is allowed by default: nothing is written for it");
            return false;
        }
        let outside = services.outside(&it.entry.destination.0);
        let told = match outside.first_key_value() {
            _ if !is_all_carried => {
                "it is for all destinations, also for one that was refused: mend that first".to_owned()
            }
            Some(((_, name), account)) => format!(
                "it is for all destinations, and `{name}` is in the namespace `{}`: name the destinations",
                account.namespace
            ),
            None => {
                note(&format!(
                    "it is for all of the namespace `{namespace}`, which `{SYSTEM_NAMESPACE}` alone says: there stands all for that namespace"
                ));
                whole.insert(namespace.clone());
                return true;
            }
        };
        imported.refuse(it.object, vec![it.entry.fault("", &told)]);
        false
    });
    whole
}
