//! Conditions in CEL: what they may name, and what they come to. Whatever does not come to `true` or `false` denies.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use nullius_cel::Text;
use nullius_cel::{
    Activation, Budget, Env, Program, Type, Value, Version,
    map::{Entries, Map},
    object::Objects,
};
use serde_json::Map as JsonMap;

use crate::{
    accept::Facts, labels::Rest, matchers::Token, path::Reads, request::Request, weight::OF_MATCHES,
};

/// The most that a condition may cost: a tenth of what an API server permits, since a person waits.
const COST: u64 = 100_000;
/// The largest value that it may make, in bytes.
const VALUE: usize = 64 * 1024;

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let mut objects = Objects::default();
    let texts = |names: &[&'static str]| -> Vec<(&'static str, Type)> {
        names.iter().map(|name| (*name, Type::String)).collect()
    };
    let source = ["id", "trustDomain", "namespace", "serviceAccount", "address"];
    objects.declare("nullius.Source", texts(&source));
    let mut destination = texts(&["namespace", "serviceAccount"]);
    destination.push(("port", Type::Int));
    destination.push(("labels", Type::map(Type::String, Type::String)));
    objects.declare("nullius.Destination", destination);
    let mut request = texts(&["method", "path", "query", "host"]);
    request.push(("headers", Type::map(Type::String, Type::list(Type::String))));
    objects.declare("nullius.Request", request);
    let object = |name: &str| Type::Object(Arc::from(name));
    Env::kubernetes(Version::LATEST)
        .with_objects(objects)
        .with_variable("source", object("nullius.Source"))
        .with_variable("destination", object("nullius.Destination"))
        .with_variable("request", object("nullius.Request"))
        .with_variable("jwt", Type::map(Type::String, Type::Dyn))
        .with_expressions_of(OF_MATCHES / 4)
});

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Condition {
    source: Box<str>,
    program: Program,
}

/// What a condition came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
    /// It has no value, and why.
    Failed(String),
}

impl Condition {
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        let program = ENV.compile(source).map_err(|errors| {
            let told: Vec<String> = errors
                .iter()
                .map(|error| format!("{}:{}: {}", error.line, error.column, error.message))
                .collect();
            told.join("; ")
        })?;
        match program.result_type() {
            Type::Bool => Ok(Self { source: source.into(), program }),
            other => Err(format!("must evaluate to bool but got {}", other.declared_name())),
        }
    }

    /// Whether it looks at the request's path, as far as its variables tell.
    pub(crate) fn reads(&self) -> Reads {
        match self.program.variables().any(|name| name == "request") {
            true => Reads::Paths,
            false => Reads::NoPaths,
        }
    }

    /// Whether it looks at the claims of a token.
    pub(crate) fn reads_tokens(&self) -> bool {
        self.program.variables().any(|name| name == "jwt")
    }

    pub(crate) fn holds(
        &self,
        facts: &Facts,
        request: &Request<'_>,
        token: Option<&Token>,
    ) -> Held {
        let address = facts.address.to_string();
        let none = JsonMap::new();
        let Some(headers) = headers(request) else {
            return Held::Failed("a header is no UTF-8".to_owned());
        };
        let claims = token.map_or(&none, |token| &token.claims);
        let activation = Activation::new()
            .with("source", source(facts, &address))
            .with("destination", destination(facts))
            .with("request", described(request, headers))
            .with("jwt", Value::Map(Map::Json(claims)));
        let budget = Budget { cost: COST, value_bytes: VALUE, interrupt: None };
        match self.program.evaluate(&activation, budget).result {
            Ok(Value::Bool(true)) => Held::Yes,
            Ok(Value::Bool(false)) => Held::No,
            Ok(other) => Held::Failed(format!("it came to a value of type {}", other.type_name())),
            Err(error) => Held::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.source)
    }
}

fn text(text: &str) -> Value<'_> {
    Value::String(Text::Borrowed(text))
}

/// A mapping of the fields that are known.
fn mapping<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value<'a>>)>) -> Value<'a> {
    let mut entries = Entries::default();
    for (name, value) in fields {
        if let Some(value) = value {
            entries.insert(text(name), value);
        }
    }
    Value::Map(Map::of(entries))
}

fn source<'a>(facts: &'a Facts, address: &'a str) -> Value<'a> {
    let id = facts.source.as_ref();
    mapping([
        ("id", id.map(|id| text(id.as_str()))),
        ("trustDomain", id.map(|id| text(id.trust_domain()))),
        ("namespace", id.and_then(|id| id.namespace()).map(text)),
        ("serviceAccount", id.and_then(|id| id.service_account()).map(text)),
        ("address", Some(text(address))),
    ])
}

fn destination(facts: &Facts) -> Value<'_> {
    let labels = &facts.destination.labels;
    let known = labels.known().iter();
    // Of labels of which some are not known nobody can say that one is not there.
    let all = (labels.rest() == Rest::None)
        .then(|| mapping(known.map(|(key, value)| (key.as_str(), Some(text(value))))));
    mapping([
        ("namespace", Some(text(facts.destination.namespace.as_str()))),
        ("serviceAccount", Some(text(&facts.destination.service_account))),
        ("port", Some(Value::Int(facts.port.into()))),
        ("labels", all),
    ])
}

fn headers<'a>(request: &'a Request<'_>) -> Option<Value<'a>> {
    let mut entries = Entries::default();
    for (name, _) in &request.headers {
        if entries.get(&text(name)).is_some() {
            continue;
        }
        let values: Result<Vec<&str>, _> = request.values(name).map(std::str::from_utf8).collect();
        entries.insert(text(name), Value::list(values.ok()?.into_iter().map(text).collect()));
    }
    Some(Value::Map(Map::of(entries)))
}

fn described<'a>(request: &'a Request<'_>, headers: Value<'a>) -> Value<'a> {
    mapping([
        ("method", Some(text(request.method))),
        ("path", Some(text(&request.path))),
        ("query", Some(text(request.query.unwrap_or_default()))),
        ("host", Some(text(&request.host))),
        ("headers", Some(headers)),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_expression_that_takes_more_than_it_is_counted_for_is_refused() {
        for small in ["^/orders/[0-9]+$", "^[a-z0-9-]{1,63}$", r"\\.html$"] {
            Condition::compile(&format!("request.path.matches('{small}')")).unwrap();
        }
        for large in [r"\\pL{8}", "[^/]{900}"] {
            let told = Condition::compile(&format!("request.path.matches('{large}')")).unwrap_err();
            assert!(told.contains("too large"), "{told}");
        }
    }
}
