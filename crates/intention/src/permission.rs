//! Permissions: requests that are allowed or denied.

use std::sync::Arc;

use nullius_fields::{Faults, Fields, Item, found, shown};
use nullius_model::{IntentionAction, PermissionId};
use serde_json::Value as Json;

use crate::{
    accept::Facts,
    condition::{Condition, Held},
    matchers::{
        ClaimMatcher, HeaderMatcher, HostMatcher, JwtMatcher, PathMatcher, Sense, Token, Values,
        Whole,
    },
    origin::Home,
    path::Reads,
    request::{Request, is_token},
};

/// Requests that are allowed or denied: all that it says must fit.
#[derive(Debug)]
pub struct Permission {
    pub(crate) id: PermissionId,
    pub(crate) action: IntentionAction,
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) paths: Vec<PathMatcher>,
    pub(crate) hosts: Vec<HostMatcher>,
    pub(crate) headers: Vec<HeaderMatcher>,
    pub(crate) jwt: Option<JwtMatcher>,
    pub(crate) issuer: Issuer,
    pub(crate) when: Option<Arc<Condition>>,
}

/// Whether tokens of the issuer that a permission names can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issuer {
    Known,
    Unknown,
}

/// Whether a permission is for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    Fits,
    /// It is not, and the first part by which it is not.
    Misses(Miss),
    /// Its issuer is not known, so nobody can tell.
    Unknown,
    /// Its condition has no value, so nobody can tell.
    Failed(String),
}

/// The part of a permission by which it is not for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    Method,
    Path,
    Host,
    Header(usize),
    Token,
    When,
}

impl Permission {
    /// Its stable id.
    pub fn id(&self) -> &PermissionId {
        &self.id
    }

    /// Whether it allows or denies.
    pub fn action(&self) -> IntentionAction {
        self.action
    }

    /// Reads one; the id is made of what is written.
    pub(crate) fn read(
        item: &Item<'_>,
        id: PermissionId,
        home: &Home,
        faults: &Faults,
    ) -> Option<Self> {
        let before = faults.count();
        let mut fields = Fields::of(item.value, &item.path, faults)?;
        let words = [("allow", IntentionAction::Allow), ("deny", IntentionAction::Deny)];
        if !fields.has("action") {
            fields.wrong("action", "say `allow` or `deny`");
        }
        let action = fields.word("action", &words).unwrap_or_default();
        let methods = methods(&mut fields, faults);
        let paths = paths(&mut fields, faults);
        let hosts = hosts(&mut fields, faults);
        let headers = headers(&mut fields, faults);
        let jwt = fields.value("jwt").and_then(|jwt| read_jwt(jwt, &fields.at("jwt"), faults));
        let when = fields.text("when").and_then(|source| {
            let compiled = Condition::compile(source);
            compiled.map_err(|told| fields.wrong("when", told)).ok().map(Arc::new)
        });
        // Of whom `jwt.sub` is what it is, is for its issuer to say: another one may say the same of somebody else.
        if when.as_ref().is_some_and(|when| when.reads_tokens()) && !fields.has("jwt") {
            let told = "it reads `jwt` of whichever issuer: name that beside it, as `jwt: {issuer: \"https://login.example.org\"}`, and `audiences` too where the issuer is not yours alone";
            fields.wrong("when", told);
        }
        let says = ["methods", "paths", "hosts", "headers", "jwt", "when"];
        if !says.iter().any(|name| fields.has(name)) {
            let told =
                "it is for every request: say so by `paths: [{prefix: /}]`, or name what it is for";
            fields.wrong_here(told);
        }
        fields.finish();
        let issuer = match &jwt {
            Some(jwt) if !home.knows_issuer(&jwt.issuer) => Issuer::Unknown,
            Some(_) | None => Issuer::Known,
        };
        let permission = Self { id, action, methods, paths, hosts, headers, jwt, issuer, when };
        (faults.count() == before).then_some(permission)
    }

    /// Whether it looks at paths.
    pub(crate) fn reads(&self) -> Reads {
        match (&self.when, self.paths.is_empty()) {
            (_, false) => Reads::Paths,
            (Some(when), true) => when.reads(),
            (None, true) => Reads::NoPaths,
        }
    }

    /// Whether it looks at the token of a request.
    pub(crate) fn reads_tokens(&self) -> bool {
        self.jwt.is_some() || self.when.as_ref().is_some_and(|when| when.reads_tokens())
    }

    /// Whether it is for a request.
    pub(crate) fn fit(&self, facts: &Facts, request: &Request<'_>, tokens: &[Token]) -> Fit {
        let action = self.action;
        if !self.methods.is_empty() && !self.methods.iter().any(|it| **it == *request.method) {
            return Fit::Misses(Miss::Method);
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|it| it.fits(&request.path, action)) {
            return Fit::Misses(Miss::Path);
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|it| it.fits(&request.host)) {
            return Fit::Misses(Miss::Host);
        }
        let mut headers = self.headers.iter();
        if let Some(index) = headers.position(|header| !header.fits(request, action)) {
            return Fit::Misses(Miss::Header(index));
        }
        if self.issuer == Issuer::Unknown {
            return Fit::Unknown;
        }
        let token = match &self.jwt {
            None => None,
            // A token counts beside an identity, not in its place.
            Some(_) if action == IntentionAction::Allow && facts.source.is_none() => {
                return Fit::Misses(Miss::Token);
            }
            Some(jwt) => match jwt.find(tokens) {
                Some(token) => Some(token),
                None => return Fit::Misses(Miss::Token),
            },
        };
        match self.when.as_ref().map(|when| when.holds(facts, request, token)) {
            None | Some(Held::Yes) => Fit::Fits,
            Some(Held::No) => Fit::Misses(Miss::When),
            Some(Held::Failed(told)) => Fit::Failed(told),
        }
    }

    /// In words, by which part it is not for a request.
    pub(crate) fn miss_words(&self, miss: Miss, request: &Request<'_>) -> String {
        let any = |all: Vec<String>| all.join(" or ");
        match miss {
            Miss::Method => {
                let all = self.methods.iter().map(|method| format!("`{method}`")).collect();
                format!("method {} is not {}", shown(request.method), any(all))
            }
            Miss::Path => {
                let all = self.paths.iter().map(ToString::to_string).collect();
                format!("path {} is not {}", shown(&request.path), any(all))
            }
            Miss::Host => {
                let all = self.hosts.iter().map(ToString::to_string).collect();
                format!("host {} is not {}", shown(&request.host), any(all))
            }
            Miss::Header(index) => match self.headers.get(index) {
                Some(header) => format!("{header} is not so"),
                None => "a header is not so".to_owned(),
            },
            Miss::Token => match &self.jwt {
                Some(jwt) => format!("{jwt} is not there"),
                None => "a token is not there".to_owned(),
            },
            Miss::When => match &self.when {
                Some(when) => format!("{when} is false"),
                None => "its condition is false".to_owned(),
            },
        }
    }
}

fn methods(fields: &mut Fields<'_>, faults: &Faults) -> Vec<Box<str>> {
    let mut methods = Vec::new();
    for (path, method) in fields.texts("methods") {
        let upper = method.to_ascii_uppercase();
        let is_word = method.bytes().all(|c| c.is_ascii_alphabetic() || c == b'-' || c == b'_');
        match method {
            "*" => faults.add(&path, "leave `methods` out: then it is for all"),
            "CONNECT" => faults.add(&path, "a plain CONNECT is never forwarded: leave it out"),
            _ if is_word && method == upper => methods.push(method.into()),
            _ if is_word => faults.add(&path, format!("methods are upper case: write `{upper}`")),
            _ => faults.add(&path, format!("{} is no method", shown(method))),
        }
    }
    methods
}

fn paths(fields: &mut Fields<'_>, faults: &Faults) -> Vec<PathMatcher> {
    let read = |item: Item<'_>| {
        let mut fields = Fields::of(item.value, &item.path, faults)?;
        let exact = fields.text("exact").map(|path| ("exact", path));
        let prefix = fields.text("prefix").map(|path| ("prefix", path));
        let regex = fields.text("regex").map(|path| ("regex", path));
        let all: Vec<_> = [exact, prefix, regex].into_iter().flatten().collect();
        let matcher = match all.as_slice() {
            [(name, text)] => match *name {
                "regex" => compiled(&fields, name, text).map(PathMatcher::Regex),
                name => match wrong_with_pattern(text) {
                    Some(told) => {
                        fields.wrong(name, told);
                        None
                    }
                    None if name == "exact" => Some(PathMatcher::Exact((*text).into())),
                    None => Some(PathMatcher::Prefix((*text).into())),
                },
            },
            _ => {
                fields.wrong_here("say one of `exact`, `prefix` and `regex`");
                None
            }
        };
        fields.finish();
        matcher
    };
    fields.items("paths").into_iter().filter_map(read).collect()
}

fn compiled(fields: &Fields<'_>, name: &str, source: &str) -> Option<Whole> {
    let compiled = Whole::compile(source);
    compiled.map_err(|told| fields.wrong(name, format!("{}: {told}", shown(source)))).ok()
}

/// Why a path is none that a request could have once it is decoded.
fn wrong_with_pattern(path: &str) -> Option<String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Some(format!("{} must begin with `/`", shown(path)));
    };
    let is_encoded = path.as_bytes().windows(3).any(|three| {
        three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit()
    });
    let inner = rest.strip_suffix('/').unwrap_or(rest);
    let has_odd_segment = inner.split('/').any(|segment| matches!(segment, "." | ".."))
        || (!rest.is_empty() && inner.split('/').any(str::is_empty));
    let told = if path.contains('*') {
        "a `*` stands for itself: use `prefix` for all below, or `regex`"
    } else if path.contains(['?', '#']) {
        "a path has no query and no fragment: compare those in `when`"
    } else if is_encoded {
        "paths are compared decoded: write the character itself"
    } else if path.contains([';', '\\', '\0']) || has_odd_segment {
        "no request has such a path: those with `//`, `.`, `..`, `;` or `\\` are answered with 400"
    } else {
        return None;
    };
    Some(format!("{}: {told}", shown(path)))
}

fn hosts(fields: &mut Fields<'_>, faults: &Faults) -> Vec<HostMatcher> {
    let mut hosts = Vec::new();
    for (path, host) in fields.texts("hosts") {
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let legal = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_name = bare.bytes().all(legal) && !bare.split('.').any(str::is_empty);
        if host.bytes().any(|c| c.is_ascii_uppercase()) {
            faults.add(&path, format!("hosts are lower case: write `{}`", host.to_lowercase()));
        } else if host == "*" {
            faults.add(&path, "leave `hosts` out: then it is for all");
        } else if !is_name && !is_address {
            let told = "is no host: write a name without port and final dot, or `*.example.org`";
            faults.add(&path, format!("{} {told}", shown(host)));
        } else if host.starts_with("*.") {
            hosts.push(HostMatcher::Below(format!(".{bare}").into()));
        } else {
            hosts.push(HostMatcher::Exact(host.into()));
        }
    }
    hosts
}

/// Headers that say nothing that could be believed, and what to say instead.
fn never(name: &str) -> Option<&'static str> {
    match name {
        "host" => Some("name it by `hosts`"),
        "x-forwarded-client-cert" => {
            Some("anybody can write it: the caller's identity is what `sources` name")
        }
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding"
        | "upgrade" | "content-length" => Some("it is of the connection, not of the request"),
        _ => None,
    }
}

fn headers(fields: &mut Fields<'_>, faults: &Faults) -> Vec<HeaderMatcher> {
    let read = |item: Item<'_>| {
        let mut fields = Fields::of(item.value, &item.path, faults)?;
        if !fields.has("name") {
            fields.wrong("name", "say which header");
        }
        let name = fields.text("name").map(str::to_ascii_lowercase);
        match &name {
            Some(name) if name.starts_with(':') => {
                fields.wrong("name", "name it by `methods`, `paths` or `hosts`");
            }
            Some(name) if !name.bytes().all(is_token) => {
                fields.wrong("name", format!("{} is no name of a header", shown(name)));
            }
            Some(name) => {
                if let Some(told) = never(name) {
                    fields.wrong("name", format!("{}: {told}", shown(name)));
                }
            }
            None => {}
        }
        let exact = fields.text("exact").map(|text| Values::Exact(text.into()));
        let prefix = fields.text("prefix").map(|text| Values::Prefix(text.into()));
        let suffix = fields.text("suffix").map(|text| Values::Suffix(text.into()));
        let contains = fields.text("contains").map(|text| Values::Contains(text.into()));
        let regex = fields.text("regex").and_then(|text| compiled(&fields, "regex", text));
        let regex = regex.map(Values::Regex);
        let present = fields.truth("present");
        let presence = present.map(|it| if it { Values::Present } else { Values::Absent });
        let ways = ["exact", "prefix", "suffix", "contains", "regex", "present"];
        if ways.iter().filter(|way| fields.has(way)).count() != 1 {
            let told = "say one of `exact`, `prefix`, `suffix`, `contains`, `regex` and `present`";
            fields.wrong_here(told);
        }
        let sense = match fields.truth("invert") {
            Some(true) if present.is_some() => {
                fields.wrong("invert", "say `present: false` or `present: true` alone");
                Sense::Is
            }
            Some(true) => Sense::IsNot,
            Some(false) | None => Sense::Is,
        };
        fields.finish();
        let values =
            [exact, prefix, suffix, contains, regex, presence].into_iter().flatten().next();
        Some(HeaderMatcher { name: name?.into(), values: values?, sense })
    };
    fields.items("headers").into_iter().filter_map(read).collect()
}

fn read_jwt(value: &Json, path: &str, faults: &Faults) -> Option<JwtMatcher> {
    let mut fields = Fields::of(value, path, faults)?;
    if !fields.has("issuer") {
        fields.wrong("issuer", "say who issues the token: its claim `iss`");
    }
    let issuer = fields.text("issuer");
    let audiences = fields.texts("audiences").into_iter().map(|(_, text)| text.to_owned());
    let audiences = audiences.collect();
    let claims = fields.items("claims").into_iter().filter_map(|item| read_claim(&item, faults));
    let claims = claims.collect();
    fields.finish();
    Some(JwtMatcher { issuer: issuer?.into(), audiences, claims })
}

fn read_claim(item: &Item<'_>, faults: &Faults) -> Option<ClaimMatcher> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    if !fields.has("path") {
        fields.wrong("path", "it is missing");
    }
    if fields.has("values") == fields.has("words") {
        let told = "say one of `values` and `words`: a word is a part of a text between spaces, as of the claim `scope`";
        fields.wrong_here(told);
    }
    let path: Vec<String> =
        fields.texts("path").into_iter().map(|(_, text)| text.to_owned()).collect();
    let mut values = Vec::new();
    for item in fields.items("values") {
        match item.value {
            Json::String(_) | Json::Number(_) | Json::Bool(_) => values.push(item.value.clone()),
            other => {
                faults.add(
                    &item.path,
                    format!("expected text, number or truth, found {}", found(other)),
                );
            }
        }
    }
    let mut words = Vec::new();
    for (at, word) in fields.texts("words") {
        match word.is_empty() || word.contains(' ') {
            true => {
                faults.add(&at, format!("{} is no word: it is empty or has a space", shown(word)))
            }
            false => words.push(word.into()),
        }
    }
    fields.finish();
    Some(ClaimMatcher { path, values, words })
}
