//! One policy of Istio, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use nullius_fields::{Fault, Faults, Fields, shown};
use nullius_model::{
    IntentionAction, IntentionClaim, IntentionHeader, IntentionJwt, IntentionPath,
    IntentionPermission, SpiffeId,
};
use serde_json::{Value as Json, json};

use super::{Istio, Place};
use crate::later;

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// Everybody, also without identity.
    Anyone,
    /// Everybody who has one.
    Authenticated,
    Namespace(String),
    Account(String, String),
    Id(String),
    Block(String),
}

impl Who {
    /// Whether whoever is the other is this too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anyone, _) => true,
            (Self::Authenticated, Self::Anyone | Self::Block(_)) => false,
            (Self::Authenticated, _) => true,
            (Self::Namespace(one), Self::Account(namespace, _)) => one == namespace,
            (Self::Block(one), Self::Block(other)) => {
                match (one.parse::<IpNet>(), other.parse::<IpNet>()) {
                    (Ok(one), Ok(other)) => one.contains(&other),
                    _ => one == other,
                }
            }
            (one, other) => one == other,
        }
    }
}

/// One source with one operation of a rule.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) who: Who,
    /// None stands for all.
    pub(super) ports: BTreeSet<u16>,
    /// What it says of requests; none where it is for all.
    pub(super) requests: Option<IntentionPermission>,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) action: IntentionAction,
    pub(super) entries: Vec<Entry>,
}

/// A `PeerAuthentication`.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether callers without identity are taken at all ports that it does not name.
    pub(super) all: bool,
    /// The ports at which they are, where not at all.
    pub(super) ports: Vec<u16>,
}

struct Target<'a> {
    name: String,
    place: Place,
    spec: Option<&'a Json>,
}

/// Name, place and spec of an object.
fn target<'a>(object: &'a Json, istio: &Istio, faults: &Faults) -> Target<'a> {
    let text = |path: &str| object.pointer(path).and_then(Json::as_str);
    let name = text("/metadata/name").unwrap_or_default().to_owned();
    let namespace = text("/metadata/namespace").unwrap_or("default").to_owned();
    let spec = object.get("spec").filter(|spec| !spec.is_null());
    let mut labels = BTreeMap::new();
    if let Some(selector) = spec.and_then(|spec| spec.get("selector")) {
        let wanted = selector.get("matchLabels").and_then(Json::as_object);
        for (key, value) in wanted.into_iter().flatten() {
            match value.as_str() {
                Some(value) => drop(labels.insert(key.clone(), value.to_owned())),
                None => faults.add("spec.selector.matchLabels", "a label is no text"),
            }
        }
    }
    if name.is_empty() {
        faults.add("metadata.name", "it is missing");
    }
    let is_root = namespace == istio.root_namespace;
    if is_root && !labels.is_empty() {
        let told = "a selector in the root namespace is for pods of all namespaces: write it into each namespace";
        faults.add("spec.selector", told);
    }
    let place = (Some(namespace).filter(|_| !is_root), labels);
    Target { name, place, spec }
}

impl Policy {
    /// Reads it; where something in it cannot be carried over, whom it is for and every fault.
    pub(super) fn read(object: &Json, istio: &Istio) -> Result<(Place, Self), (Place, Vec<Fault>)> {
        let faults = later::faults();
        let Target { name, place, spec } = target(object, istio, &faults);
        let own = object.pointer("/metadata/namespace").and_then(Json::as_str).unwrap_or("default");
        let nothing = json!({});
        let mut action = IntentionAction::Allow;
        let mut entries = Vec::new();
        if let Some(mut fields) = Fields::of(spec.unwrap_or(&nothing), "spec", &faults) {
            let _ = fields.value("selector");
            action = match fields.text("action") {
                None | Some("ALLOW") => IntentionAction::Allow,
                Some("DENY") => IntentionAction::Deny,
                Some(other) => {
                    let told = format!(
                        "`{}` policies are not carried over",
                        shown(other).trim_matches('`')
                    );
                    fields.wrong("action", told);
                    IntentionAction::Deny
                }
            };
            if fields.has("targetRefs") || fields.has("targetRef") {
                let _ = (fields.value("targetRefs"), fields.value("targetRef"));
                fields.wrong(
                    "targetRefs",
                    "gateways and Services are no destinations here: give it a selector",
                );
            }
            if fields.has("provider") {
                let _ = fields.value("provider");
                fields.wrong("provider", "external authorizers are not carried over");
            }
            let rules = match spec.and_then(|spec| spec.get("rules")) {
                Some(Json::Array(rules)) if rules.is_empty() => {
                    let _ = fields.value("rules");
                    Vec::new()
                }
                _ => fields.items("rules"),
            };
            for rule in rules {
                entries.extend(read_rule(rule.value, &rule.path, action, own, istio, &faults));
            }
            fields.finish();
        }
        match faults.into_vec() {
            faults if faults.is_empty() => Ok((place, Self { name, action, entries })),
            faults => Err((place, faults)),
        }
    }
}

fn read_rule(
    value: &Json,
    path: &str,
    action: IntentionAction,
    own: &str,
    istio: &Istio,
    faults: &Faults,
) -> Vec<Entry> {
    let Some(mut fields) = Fields::of(value, path, faults) else { return Vec::new() };
    let mut sources = Vec::new();
    for item in fields.items("from") {
        let source = item.value.get("source").unwrap_or(&Json::Null);
        sources.extend(read_source(source, &format!("{}.source", item.path), own, istio, faults));
    }
    if !fields.has("from") {
        sources.push((Who::Anyone, None));
    }
    let mut operations = Vec::new();
    for item in fields.items("to") {
        let operation = item.value.get("operation").unwrap_or(&Json::Null);
        operations.extend(read_operation(operation, &format!("{}.operation", item.path), faults));
    }
    if !fields.has("to") {
        operations.push((BTreeSet::new(), IntentionPermission::default()));
    }
    let mut headers = Vec::new();
    for item in fields.items("when") {
        headers.extend(read_condition(item.value, &item.path, faults));
    }
    fields.finish();
    let mut entries = Vec::new();
    for (who, jwt) in &sources {
        for (ports, operation) in &operations {
            let requests = IntentionPermission {
                action,
                jwt: jwt.clone(),
                headers: headers.clone(),
                ..operation.clone()
            };
            let bare = IntentionPermission { action, ..IntentionPermission::default() };
            let requests = (requests != bare).then_some(requests);
            entries.push(Entry { who: who.clone(), ports: ports.clone(), requests });
        }
    }
    entries
}

type Source = (Who, Option<IntentionJwt>);

/// Fields that say who is not meant, or that nobody here can know.
const NOT_CARRIED: [(&str, &str); 9] = [
    ("notPrincipals", "here sources are named, not left out: write a `deny` for them"),
    ("notNamespaces", "here sources are named, not left out: write a `deny` for them"),
    ("notServiceAccounts", "here sources are named, not left out: write a `deny` for them"),
    ("notIpBlocks", "here sources are named, not left out: write a `deny` for the inner block"),
    ("notRequestPrincipals", "here tokens are named, not left out"),
    ("remoteIpBlocks", "an address that a header says is not believed"),
    ("notRemoteIpBlocks", "an address that a header says is not believed"),
    ("trustDomains", "name the workloads or namespaces of it"),
    ("notTrustDomains", "name the workloads or namespaces of it"),
];

fn read_source(value: &Json, path: &str, own: &str, istio: &Istio, faults: &Faults) -> Vec<Source> {
    let Some(mut fields) = Fields::of(value, path, faults) else { return Vec::new() };
    let before = faults.count();
    for (name, why) in NOT_CARRIED {
        if fields.value(name).is_some() {
            fields.wrong(name, format!("not carried over: {why}"));
        }
    }
    let mut all = Vec::new();
    let mut kinds = 0;
    for kind in ["principals", "namespaces", "serviceAccounts", "ipBlocks"] {
        let texts = fields.texts(kind);
        kinds += usize::from(fields.has(kind));
        for (path, text) in texts {
            match who(kind, text, own, istio) {
                Ok(who) => all.push(who),
                Err(told) => {
                    faults.add(&path, format!("{} is not carried over: {told}", shown(text)))
                }
            }
        }
    }
    if kinds > 1 {
        fields.wrong_here("not carried over: it names the caller in two ways at once");
    }
    let mut tokens = Vec::new();
    for (path, text) in fields.texts("requestPrincipals") {
        match text.split_once("/*") {
            _ if text == "*" => {
                faults.add(&path, "not carried over: a token of any issuer; name the issuer");
            }
            Some((issuer, "")) if !issuer.contains('*') => {
                let issuer = issuer.to_owned();
                tokens.push(IntentionJwt { issuer, ..IntentionJwt::default() });
            }
            _ => match text.rsplit_once('/') {
                Some((issuer, subject)) if !text.contains('*') => {
                    let claims = vec![IntentionClaim {
                        path: vec!["sub".to_owned()],
                        values: vec![json!(subject)],
                        words: Vec::new(),
                    }];
                    tokens.push(IntentionJwt {
                        issuer: issuer.to_owned(),
                        audiences: Vec::new(),
                        claims,
                    });
                }
                _ => faults.add(
                    &path,
                    format!(
                        "{} is not carried over: say `ISSUER/SUBJECT` or `ISSUER/*`",
                        shown(text)
                    ),
                ),
            },
        }
    }
    if all.is_empty() && tokens.is_empty() && faults.count() == before {
        fields.wrong_here("it names nobody");
    }
    fields.finish();
    if all.is_empty() {
        all.push(Who::Anyone);
    }
    let with_tokens = |who: Who| -> Vec<Source> {
        match tokens.is_empty() {
            true => vec![(who, None)],
            false => tokens.iter().map(|token| (who.clone(), Some(token.clone()))).collect(),
        }
    };
    all.into_iter().flat_map(with_tokens).collect()
}

fn who(kind: &str, text: &str, own: &str, istio: &Istio) -> Result<Who, &'static str> {
    let exact = "it has a `*`: name each";
    match (kind, text) {
        ("principals" | "namespaces", "*") => Ok(Who::Authenticated),
        (_, text) if text.contains('*') => Err(exact),
        ("namespaces", text) => Ok(Who::Namespace(text.to_owned())),
        ("serviceAccounts", text) => {
            let (namespace, account) = text.split_once('/').unwrap_or((own, text));
            Ok(Who::Account(namespace.to_owned(), account.to_owned()))
        }
        ("ipBlocks", text) if text.contains('/') => Ok(Who::Block(text.to_owned())),
        ("ipBlocks", text) => {
            Ok(Who::Block(format!("{text}/{}", if text.contains(':') { 128 } else { 32 })))
        }
        (_, text) => {
            let id: SpiffeId = format!("spiffe://{text}")
                .parse()
                .map_err(|_| "it is no `DOMAIN/ns/NAMESPACE/sa/ACCOUNT`")?;
            match (id.namespace(), id.service_account()) {
                (Some(namespace), Some(account)) if id.trust_domain() == istio.trust_domain => {
                    Ok(Who::Account(namespace.to_owned(), account.to_owned()))
                }
                _ => Ok(Who::Id(id.to_string())),
            }
        }
    }
}

fn read_operation(
    value: &Json,
    path: &str,
    faults: &Faults,
) -> Option<(BTreeSet<u16>, IntentionPermission)> {
    let mut fields = Fields::of(value, path, faults)?;
    for name in ["notHosts", "notPorts", "notMethods", "notPaths"] {
        if fields.value(name).is_some() {
            fields.wrong(
                name,
                "not carried over: here requests are named, not left out; write a DENY for them",
            );
        }
    }
    let mut ports = BTreeSet::new();
    for (path, text) in fields.texts("ports") {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => drop(ports.insert(port)),
            Ok(_) | Err(_) => faults.add(&path, format!("{} is no port", shown(text))),
        }
    }
    let mut methods: Vec<String> = Vec::new();
    let all: Vec<_> = fields.texts("methods");
    let is_all = all.iter().any(|(_, method)| *method == "*");
    for (path, method) in all.into_iter().filter(|_| !is_all) {
        match method.contains('*') {
            true => faults.add(&path, "not carried over: it has a `*`; name each method"),
            false => methods.push(method.to_owned()),
        }
    }
    let mut paths = Vec::new();
    for (at, text) in fields.texts("paths") {
        match read_path(text) {
            Ok(path) => paths.push(path),
            Err(told) => faults.add(&at, format!("{} is not carried over: {told}", shown(text))),
        }
    }
    let mut hosts = Vec::new();
    for (at, host) in fields.texts("hosts") {
        let bare = host.strip_prefix("*.").unwrap_or(host);
        match bare.contains(['*', ':']) {
            true => faults
                .add(&at, "not carried over: hosts are names without port, or `*.example.org`"),
            false => hosts.push(host.to_lowercase()),
        }
    }
    fields.finish();
    Some((ports, IntentionPermission { methods, paths, hosts, ..IntentionPermission::default() }))
}

/// Istio's prefixes end anywhere in a segment; here only whole segments are one.
fn read_path(text: &str) -> Result<IntentionPath, &'static str> {
    let regex =
        |pattern: String| IntentionPath { regex: Some(pattern), ..IntentionPath::default() };
    if text.contains(['{', '}']) {
        return Err("templates of paths have no counterpart: write a `regex`");
    }
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) | (_, Some("/")) => {
            Ok(IntentionPath { prefix: Some("/".to_owned()), ..IntentionPath::default() })
        }
        (None, Some(start)) if start.contains('*') => Err("it has two `*`"),
        (None, Some(start)) if start.ends_with('/') => {
            Ok(IntentionPath { prefix: Some(start.to_owned()), ..IntentionPath::default() })
        }
        (None, Some(start)) => Ok(regex(format!("{}.*", regex::escape(start)))),
        (Some(end), None) if end.contains('*') => Err("it has two `*`"),
        (Some(end), None) => Ok(regex(format!(".*{}", regex::escape(end)))),
        (Some(_), Some(_)) => Err("it has two `*`"),
        (None, None) if text.contains('*') => Err("a `*` stands at the beginning or the end"),
        (None, None) => {
            Ok(IntentionPath { exact: Some(text.to_owned()), ..IntentionPath::default() })
        }
    }
}

fn read_condition(value: &Json, path: &str, faults: &Faults) -> Vec<IntentionHeader> {
    let Some(mut fields) = Fields::of(value, path, faults) else { return Vec::new() };
    let key = fields.text("key").unwrap_or_default();
    let values = fields.texts("values");
    let not_values = fields.texts("notValues");
    fields.finish();
    let name = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
    let Some(name) = name else {
        let told =
            format!("{} is not carried over: write it as `when` of an Intention", shown(key));
        faults.add(&format!("{path}.key"), told);
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (values, invert) in [(values, None), (not_values, Some(true))] {
        if values.is_empty() {
            continue;
        }
        let patterns: Vec<String> = values.iter().map(|(_, value)| pattern(value)).collect();
        let regex = Some(patterns.join("|"));
        headers.push(IntentionHeader {
            name: name.to_owned(),
            regex,
            invert,
            ..IntentionHeader::default()
        });
    }
    headers
}

fn pattern(value: &str) -> String {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => ".+".to_owned(),
        (_, Some(start)) => format!("{}.*", regex::escape(start)),
        (Some(end), None) => format!(".*{}", regex::escape(end)),
        (None, None) => regex::escape(value),
    }
}

impl Peer {
    /// Reads it.
    pub(super) fn read(object: &Json, istio: &Istio) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let Target { name, place, spec } = target(object, istio, &faults);
        let mode = |value: Option<&Json>, field: &str, inherited: bool| match value
            .and_then(|value| value.get("mode"))
            .and_then(Json::as_str)
        {
            None | Some("UNSET") => inherited,
            Some("STRICT") => false,
            Some("PERMISSIVE") => true,
            Some(other) => {
                let told =
                    format!("{} is not carried over: here mTLS is never left out", shown(other));
                faults.add(field, told);
                false
            }
        };
        let all = mode(spec.and_then(|spec| spec.get("mtls")), "spec.mtls.mode", false);
        let mut ports = Vec::new();
        let by_port = spec.and_then(|spec| spec.get("portLevelMtls")).and_then(Json::as_object);
        for (port, value) in by_port.into_iter().flatten() {
            let field = format!("spec.portLevelMtls[{port}]");
            match port.parse::<u16>() {
                Ok(number) if mode(Some(value), &field, all) => ports.push(number),
                Ok(_) if all => {
                    faults.add(&field, "not carried over: a strict port of a permissive workload; name the permissive ports");
                }
                Ok(_) => {}
                Err(_) => faults.add(&field, "it is no port"),
            }
        }
        if all {
            ports.clear();
        }
        match faults.into_vec() {
            faults if faults.is_empty() => Ok(Self { name, place, all, ports }),
            faults => Err(faults),
        }
    }
}
