//! The two ways in which Consul's entries are written, read as one: config entries (`PathPrefix`) and objects of Kubernetes (`pathPrefix`).

use nullius_fields::Fault;
use serde_json::{Map, Value as Json};

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A config entry of Consul, as `consul config read` prints it.
    Config,
    /// An object of Kubernetes, what Consul knows below `spec`.
    Kubernetes,
}

/// Words that Consul writes in capitals.
const CAPITALS: [(&str, &str); 3] =
    [("HTTP", "http"), ("JWT", "jwt"), ("JSONWebKeySet", "jsonWebKeySet")];

impl Form {
    /// The entry as objects of Kubernetes write it, without what is empty: to Consul that is not there.
    pub(super) fn plain(self, value: &Json) -> Json {
        match value {
            Json::Object(map) => Json::Object(self.plain_fields(map)),
            Json::Array(items) => Json::Array(items.iter().map(|item| self.plain(item)).collect()),
            other => other.clone(),
        }
    }

    fn plain_fields(self, map: &Map<String, Json>) -> Map<String, Json> {
        let is_there = |value: &Json| match value {
            Json::Null => false,
            Json::String(text) => !text.is_empty(),
            Json::Array(items) => !items.is_empty(),
            Json::Bool(_) | Json::Number(_) | Json::Object(_) => true,
        };
        let fields = map.iter().filter(|(_, value)| is_there(value));
        fields.map(|(name, value)| (self.plain_name(name), self.plain(value))).collect()
    }

    fn plain_name(self, name: &str) -> String {
        if self == Self::Kubernetes {
            return name.to_owned();
        }
        if let Some((_, plain)) = CAPITALS.iter().find(|(capitals, _)| *capitals == name) {
            return (*plain).to_owned();
        }
        let mut rest = name.chars();
        match rest.next() {
            Some(first) if first.is_ascii_uppercase() => {
                format!("{}{}", first.to_ascii_lowercase(), rest.as_str())
            }
            // No field of a config entry begins so: it must not pass for one that does.
            _ => format!("\"{name}\""),
        }
    }

    /// A fault as the file has its field.
    pub(super) fn placed(self, fault: Fault) -> Fault {
        let Fault { field, message } = fault;
        let field = match self {
            Self::Kubernetes if field.is_empty() => "spec".to_owned(),
            Self::Kubernetes => format!("spec.{field}"),
            Self::Config => field.split('.').map(capitalised).collect::<Vec<_>>().join("."),
        };
        Fault { field, message }
    }
}

fn capitalised(step: &str) -> String {
    let (name, index) = step.split_at(step.find('[').unwrap_or(step.len()));
    if let Some((capitals, _)) = CAPITALS.iter().find(|(_, plain)| *plain == name) {
        return format!("{capitals}{index}");
    }
    if let Some(name) = name.strip_prefix('"') {
        return format!("{}{index}", name.trim_end_matches('"'));
    }
    let mut rest = name.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    format!("{}{}{index}", first.map(String::from).unwrap_or_default(), rest.as_str())
}
