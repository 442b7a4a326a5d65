//! Service intentions of one destination, read strictly.

use nullius_fields::{Fault, Faults, Fields, Item, shown};
use nullius_model::{IntentionAction, IntentionClaim, IntentionHeader, IntentionPermission};
use serde_json::{Value as Json, json};

use super::{
    form::Form,
    request,
    services::{DEFAULT, Service},
};
use crate::later;

/// What stands for all names.
pub(super) const ALL: &str = "*";

/// All intentions for one destination.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) form: Form,
    pub(super) destination: Service,
    /// What every caller's token must say beside.
    pub(super) tokens: Vec<Wanted>,
    pub(super) sources: Vec<Source>,
}

/// What is said of one caller.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it stands.
    pub(super) path: String,
    pub(super) service: Service,
    pub(super) decision: Decision,
}

/// What is decided of a caller.
#[derive(Debug)]
pub(super) enum Decision {
    Action(IntentionAction),
    Permissions(Vec<Permission>),
}

/// Requests that are allowed or denied.
#[derive(Debug)]
pub(super) struct Permission {
    /// Without what tokens must say.
    pub(super) requests: IntentionPermission,
    pub(super) tokens: Vec<Wanted>,
}

/// A token of a provider.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// Where it stands.
    pub(super) path: String,
    pub(super) provider: String,
    pub(super) claims: Vec<IntentionClaim>,
}

/// What Consul keeps beside, and what it works out by itself.
const ASIDE: [&str; 11] = [
    "kind",
    "meta",
    "createIndex",
    "modifyIndex",
    "hash",
    "precedence",
    "description",
    "legacyID",
    "legacyMeta",
    "legacyCreateTime",
    "legacyUpdateTime",
];

fn pass_over(fields: &mut Fields<'_>) {
    for name in ASIDE {
        let _ = fields.value(name);
    }
}

impl Entry {
    /// Reads it; every fault where something in it cannot be carried over.
    pub(super) fn read(value: &Json, form: Form) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let read = read(&form.plain(value), form, &faults);
        match (read, faults.into_vec()) {
            (Some(entry), faults) if faults.is_empty() => Ok(entry),
            (_, faults) => Err(faults.into_iter().map(|fault| form.placed(fault)).collect()),
        }
    }

    /// Something to be told of a field of it.
    pub(super) fn fault(&self, field: &str, message: &str) -> Fault {
        self.form.placed(Fault { field: field.to_owned(), message: message.to_owned() })
    }
}

fn read(value: &Json, form: Form, faults: &Faults) -> Option<Entry> {
    let mut fields = Fields::of(value, "", faults)?;
    let destination = match form {
        Form::Config => {
            pass_over(&mut fields);
            service(&mut fields, DEFAULT)
        }
        Form::Kubernetes => {
            let destination = fields.value("destination").unwrap_or(&Json::Null);
            let mut fields = Fields::of(destination, "destination", faults)?;
            let service = service(&mut fields, DEFAULT);
            fields.finish();
            service
        }
    };
    let own = destination.as_ref().map_or(DEFAULT, |(namespace, _)| namespace);
    let tokens = read_tokens(&mut fields, faults);
    let is_all = destination.as_ref().is_some_and(|(_, name)| name == ALL);
    let items = fields.items("sources");
    if !fields.has("sources") {
        fields.wrong("sources", "it is missing: say who calls");
    }
    let mut sources: Vec<Source> = Vec::new();
    for item in items {
        let Some(source) = read_source(&item, own, faults) else { continue };
        if sources.iter().any(|other| other.service == source.service) {
            faults.add(&item.path, "this source stands twice");
        }
        if is_all && matches!(source.decision, Decision::Permissions(_)) {
            faults.add(&item.path, "Consul takes no permissions for all destinations");
        }
        sources.push(source);
    }
    fields.finish();
    Some(Entry { form, destination: destination?, tokens, sources })
}

/// The service that some fields name.
fn service(fields: &mut Fields<'_>, own: &str) -> Option<Service> {
    if fields.text("partition").is_some_and(|partition| partition != DEFAULT) {
        fields.wrong("partition", "not carried over: other admin partitions are other clusters");
    }
    let namespace = fields.text("namespace").unwrap_or(own);
    let name = fields.text("name");
    if !fields.has("name") {
        fields.wrong("name", "it is missing: say which service");
    }
    if namespace == ALL {
        fields.wrong("namespace", "not carried over: name each namespace of Consul");
        return None;
    }
    for (field, text) in [("namespace", namespace), ("name", name.unwrap_or_default())] {
        if text.contains('*') && text != ALL {
            fields.wrong(field, format!("{} has a `*` in it: Consul takes none", shown(text)));
            return None;
        }
    }
    Some((namespace.to_owned(), name?.to_owned()))
}

fn read_source(item: &Item<'_>, own: &str, faults: &Faults) -> Option<Source> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    pass_over(&mut fields);
    if fields.text("peer").is_some() {
        fields.wrong(
            "peer",
            "not carried over: name the peer's workloads by `spiffeId` or `trustDomain`",
        );
    }
    if fields.text("samenessGroup").is_some() {
        fields.wrong("samenessGroup", "not carried over: name each service of the group");
    }
    if fields.text("type").is_some_and(|kind| kind != "consul") {
        fields.wrong("type", "not carried over: only services of Consul are");
    }
    let service = service(&mut fields, own);
    let action = fields.word("action", &ACTIONS);
    let permissions: Vec<Permission> = fields
        .items("permissions")
        .iter()
        .filter_map(|item| read_permission(item, faults))
        .collect();
    let decision = match (fields.has("action"), fields.has("permissions")) {
        (true, false) => action.map(Decision::Action),
        (false, true) => Some(Decision::Permissions(permissions)),
        (true, true) | (false, false) => {
            fields.wrong_here("Consul takes either an action or permissions");
            None
        }
    };
    fields.finish();
    Some(Source { path: item.path.clone(), service: service?, decision: decision? })
}

const ACTIONS: [(&str, IntentionAction); 2] =
    [("allow", IntentionAction::Allow), ("deny", IntentionAction::Deny)];

fn read_permission(item: &Item<'_>, faults: &Faults) -> Option<Permission> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    if !fields.has("action") {
        fields.wrong("action", "it is missing: say `allow` or `deny`");
    }
    let action = fields.word("action", &ACTIONS).unwrap_or_default();
    let mut requests = IntentionPermission { action, ..IntentionPermission::default() };
    if let Some(http) = fields.value("http") {
        read_http(http, &fields.at("http"), &mut requests, faults);
    }
    let tokens = read_tokens(&mut fields, faults);
    fields.finish();
    Some(Permission { requests, tokens })
}

fn read_http(value: &Json, path: &str, requests: &mut IntentionPermission, faults: &Faults) {
    let Some(mut fields) = Fields::of(value, path, faults) else { return };
    let paths = [
        fields.text("pathExact").map(|text| ("pathExact", request::exact(text))),
        fields.text("pathPrefix").map(|text| ("pathPrefix", request::prefix(text))),
        fields.text("pathRegex").map(|text| ("pathRegex", request::regex(text))),
    ];
    for (name, path) in paths.into_iter().flatten() {
        match path {
            Ok(path) => requests.paths.push(path),
            Err(told) => fields.wrong(name, told),
        }
    }
    if requests.paths.len() > 1 {
        fields.wrong_here("Consul takes one of an exact path, a prefix and a regular expression");
    }
    let methods = fields.texts("methods");
    requests.methods = methods.iter().map(|(_, method)| method.to_ascii_uppercase()).collect();
    let mut single = Vec::new();
    for item in fields.items("header") {
        let Some(header) = read_header(&item, faults) else { continue };
        if header.is_single && !single.contains(&header.matcher.name) {
            single.push(header.matcher.name.clone());
        }
        requests.headers.push(header.matcher);
    }
    // Consul sees all lines of a header as one text, here each is looked at; a deny sees them in every way.
    if requests.action == IntentionAction::Allow && !single.is_empty() {
        let alone = |name: &String| format!("size(request.headers[{}]) == 1", json!(name));
        requests.when = Some(single.iter().map(alone).collect::<Vec<_>>().join(" && "));
    }
    fields.finish();
}

struct Header {
    matcher: IntentionHeader,
    /// Whether several lines of it could be read in another way than by Consul.
    is_single: bool,
}

fn read_header(item: &Item<'_>, faults: &Faults) -> Option<Header> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    let name = fields.text("name").map(str::to_ascii_lowercase);
    if !fields.has("name") {
        fields.wrong("name", "it is missing: say which header");
    }
    let present = fields.truth("present").unwrap_or_default();
    let (exact, prefix) = (fields.text("exact"), fields.text("prefix"));
    let (suffix, contains) = (fields.text("suffix"), fields.text("contains"));
    let regex = fields.text("regex");
    let is_inverted = fields.truth("invert").unwrap_or_default();
    let ignores_case = fields.truth("ignoreCase").unwrap_or_default();
    fields.finish();
    let texts = [exact, prefix, suffix, contains];
    let count =
        texts.iter().flatten().count() + usize::from(present) + usize::from(regex.is_some());
    if count != 1 {
        faults.add(
            &item.path,
            "Consul takes exactly one of `Present`, `Exact`, `Prefix`, `Suffix`, `Contains` and `Regex`",
        );
        return None;
    }
    if ignores_case && texts.iter().all(Option::is_none) {
        faults.add(&item.path, "Consul ignores the case of texts alone");
        return None;
    }
    if let Some(Err(told)) = regex.map(request::check_regex) {
        faults.add(&item.path, told);
        return None;
    }
    let mut matcher = IntentionHeader { name: name?, ..IntentionHeader::default() };
    if present {
        matcher.present = Some(!is_inverted);
        return Some(Header { matcher, is_single: false });
    }
    let text = |text: Option<&str>| text.map(str::to_owned);
    match ignores_case {
        false => {
            (matcher.exact, matcher.prefix) = (text(exact), text(prefix));
            (matcher.suffix, matcher.contains) = (text(suffix), text(contains));
            matcher.regex = text(regex);
        }
        true => {
            let around = |text: &str| format!("(?i:{})", regex::escape(text));
            let pattern = [
                exact.map(around),
                prefix.map(|text| format!("{}.*", around(text))),
                suffix.map(|text| format!(".*{}", around(text))),
                contains.map(|text| format!(".*{}.*", around(text))),
            ];
            matcher.regex = pattern.into_iter().flatten().next();
        }
    }
    matcher.invert = is_inverted.then_some(true);
    // A part of a line is one of all lines too; that no line has it says so of all only where no comma is in it.
    let is_single = match is_inverted {
        false => exact.is_some() || regex.is_some(),
        true => regex.is_some() || texts.iter().flatten().any(|text| text.contains(',')),
    };
    Some(Header { matcher, is_single })
}

/// The tokens of providers, one of which must be there.
fn read_tokens(fields: &mut Fields<'_>, faults: &Faults) -> Vec<Wanted> {
    let Some(value) = fields.value("jwt") else { return Vec::new() };
    let Some(mut fields) = Fields::of(value, &fields.at("jwt"), faults) else { return Vec::new() };
    let items = fields.items("providers");
    if !fields.has("providers") {
        fields.wrong_here("it names no provider");
    }
    fields.finish();
    let read = |item: &Item<'_>| {
        let mut fields = Fields::of(item.value, &item.path, faults)?;
        let provider = fields.text("name");
        if !fields.has("name") {
            fields.wrong("name", "it is missing: say which provider");
        }
        let claims = fields.items("verifyClaims");
        fields.finish();
        let claims = claims.iter().filter_map(|item| read_claim(item, faults)).collect();
        Some(Wanted { path: item.path.clone(), provider: provider?.to_owned(), claims })
    };
    items.iter().filter_map(read).collect()
}

fn read_claim(item: &Item<'_>, faults: &Faults) -> Option<IntentionClaim> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    let path = fields.texts("path").into_iter().map(|(_, text)| text.to_owned()).collect();
    let value = fields.text("value");
    if !fields.has("path") || !fields.has("value") {
        fields.wrong_here("say `Path` and `Value` of a claim");
    }
    fields.finish();
    Some(IntentionClaim { path, values: vec![json!(value?)], words: Vec::new() })
}
