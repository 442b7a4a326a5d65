//! A cluster for tests.

use std::collections::BTreeMap;

use nullius_intention::{
    Accept, Connection, Head, Home, Intention, Intentions, Malformed, Origin, Protocol, RuleSet,
    Stand, Token, Verdict, Version, Workload,
};
use nullius_model::{Reason, SpiffeId, Timestamp};
use serde_json::{Value as Json, json};

pub(crate) fn home() -> Home {
    Home::of("dev.example".parse().unwrap())
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// An intention of `namespace/name` with this spec.
pub(crate) fn object(name: &str, spec: Json) -> Json {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

pub(crate) fn intention(name: &str, spec: Json) -> Intention {
    Intention::read(&object(name, spec), Origin::Cluster, &home()).unwrap()
}

pub(crate) fn of_fleet(name: &str, spec: Json) -> Intention {
    Intention::read(&object(name, spec), Origin::Fleet, &home()).unwrap()
}

/// For `shop/orders`, these sources.
pub(crate) fn orders(name: &str, sources: Json) -> Intention {
    intention(name, json!({ "destination": { "serviceAccount": "orders" }, "sources": sources }))
}

pub(crate) fn workload() -> Workload {
    Workload {
        namespace: "shop".parse().unwrap(),
        service_account: "orders".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "orders".to_owned())]).into(),
    }
}

/// What is for `shop/orders` of these.
pub(crate) fn rules(intentions: impl IntoIterator<Item = Intention>) -> RuleSet {
    let mut all = Intentions::default();
    intentions.into_iter().for_each(|each| drop(all.put(each)));
    all.rules_for(workload())
}

pub(crate) fn id(text: &str) -> SpiffeId {
    let text = match text.split_once('/') {
        Some((namespace, account)) => format!("spiffe://dev.example/ns/{namespace}/sa/{account}"),
        None => text.to_owned(),
    };
    text.parse().unwrap()
}

pub(crate) fn connect(rules: &RuleSet, from: &str) -> Accept {
    connect_to(rules, from, 8080, Protocol::Http)
}

/// A connection of a workload `namespace/account`, or of an address without identity.
pub(crate) fn connect_to(rules: &RuleSet, from: &str, port: u16, protocol: Protocol) -> Accept {
    let (source, address) = match from.parse() {
        Ok(address) => (None, address),
        Err(_) if from.starts_with("spiffe://") => {
            (Some(from.parse().unwrap()), "10.0.0.9".parse().unwrap())
        }
        Err(_) => (Some(id(from)), "10.0.0.9".parse().unwrap()),
    };
    let connection = Connection { source: source.as_ref(), address, port, protocol };
    rules.accept(&connection, now())
}

pub(crate) fn decided(accept: &Accept) -> Verdict {
    match accept.stand() {
        Stand::Decided(verdict) => verdict.clone(),
        Stand::Requests => panic!("requests decide"),
    }
}

/// Whether a connection is allowed, and why.
pub(crate) fn answer(rules: &RuleSet, from: &str) -> (bool, Reason) {
    let verdict = decided(&connect(rules, from));
    (verdict.is_allowed(), verdict.reason)
}

/// A request as a test writes it.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) tokens: Vec<Token>,
}

pub(crate) fn send(method: &str, target: &str) -> Sent {
    let host = ("Host".to_owned(), b"orders.shop".to_vec());
    Sent {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: vec![host],
        tokens: Vec::new(),
    }
}

impl Sent {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    pub(crate) fn token(mut self, issuer: &str, claims: Json) -> Self {
        let Json::Object(claims) = claims else { panic!("claims are a mapping") };
        self.tokens.push(Token { issuer: issuer.to_owned(), audiences: Vec::new(), claims });
        self
    }

    /// What a connection makes of it.
    pub(crate) fn on(&self, accept: &Accept) -> Result<Verdict, Malformed> {
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
        let head = Head {
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            authority: None,
            headers: &headers,
            version: Version::Http1,
        };
        let request = head.read(accept.reads())?;
        Ok(accept.judge(&request, &self.tokens).verdict)
    }

    pub(crate) fn is_allowed(&self, accept: &Accept) -> bool {
        self.on(accept).is_ok_and(|verdict| verdict.is_allowed())
    }
}
