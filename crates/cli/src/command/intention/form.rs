//! The form of a file of intention tests, read so that whatever is wrong in it has its line.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use nullius_model::{API_VERSION, Namespace, Timestamp, TrustDomain};
use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer,
    },
};
use serde_json::{Map, Value as Json};

use super::question::Word;

/// The kind of a file of tests.
pub(super) const KIND: &str = "IntentionTest";

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    /// The cluster's trust domain.
    #[serde(default)]
    pub(super) trust_domain: Option<TrustDomain>,
    /// Trust domains that it is federated with; none where every one counts as known.
    #[serde(default)]
    pub(super) federated: Option<Vec<TrustDomain>>,
    /// Issuers whose tokens are verified; none where every one counts as known.
    #[serde(default)]
    pub(super) issuers: Option<Vec<String>>,
    pub(super) intentions: Vec<String>,
    #[serde(default)]
    pub(super) fleet: Vec<String>,
    #[serde(default)]
    pub(super) at: Option<Timestamp>,
    #[serde(default)]
    pub(super) defaults: Defaults,
    pub(super) cases: Vec<Case>,
}

/// What a file is called.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
}

/// What cases have that do not say it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Defaults {
    #[serde(default)]
    pub(super) namespace: Option<Namespace>,
    #[serde(default)]
    pub(super) from: Option<String>,
    #[serde(default)]
    pub(super) to: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// One call, and what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    pub(super) from: Option<String>,
    #[serde(default)]
    pub(super) from_address: Option<IpAddr>,
    #[serde(default)]
    pub(super) to: Option<String>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) protocol: Option<Spoken>,
    #[serde(default)]
    pub(super) request: Option<Requested>,
    /// Why the case is not asked for the time being.
    #[serde(default)]
    pub(super) skip: Option<String>,
    pub(super) expect: Expected,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Spoken {
    Http,
    Tcp,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Requested {
    #[serde(default)]
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Texts>,
    /// Claims of a token, as if it was verified.
    #[serde(default)]
    pub(super) claims: Option<Map<String, Json>>,
    /// The body: text as it is sent, or what JSON says.
    #[serde(default)]
    pub(super) body: Option<Json>,
}

/// One text or several.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

/// What is expected of a case.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) verdict: Word,
    pub(super) reason: Option<String>,
    /// The intention that decides, `orders` or `shop/orders`.
    pub(super) by: Option<String>,
    /// What the explanation says, in part.
    pub(super) message: Option<String>,
    /// What would come if intentions that are only watched decided.
    pub(super) shadow: Option<Word>,
    /// Whether it was written as one word.
    pub(super) is_word: bool,
}

impl Document {
    /// What is wrong with the file as a whole: field and reason.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut wrong = |field: &str, message: String| faults.push((field.to_owned(), message));
        if self.api_version != API_VERSION || self.kind != KIND {
            wrong("apiVersion", format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`"));
        }
        if self.cases.is_empty() {
            wrong("cases", "there is no case; a file that asks nothing proves nothing".to_owned());
        }
        let mut names = BTreeMap::new();
        for (index, case) in self.cases.iter().enumerate() {
            let field = |name: &str| format!("cases[{index}].{name}");
            if case.name.trim().is_empty() {
                wrong(&field("name"), "`name` is empty".to_owned());
            }
            if let Some(first) = names.insert(case.name.as_str(), index) {
                wrong(&field("name"), format!("`cases[{first}]` has this name already"));
            }
            if case.from.is_none() && self.defaults.from.is_none() {
                wrong(&field("name"), "say who calls: `from`".to_owned());
            }
            if case.to.is_none() && self.defaults.to.is_none() {
                wrong(&field("name"), "say who is called: `to`".to_owned());
            }
            if case.request.is_some() && case.protocol == Some(Spoken::Tcp) {
                wrong(&field("request"), "a port without HTTP has no requests".to_owned());
            }
        }
        faults
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or a list of texts")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Texts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Texts)
            }
        }
        from.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Written {
            Allowed,
            Denied,
            Requests,
        }
        Ok(match Written::deserialize(from)? {
            Written::Allowed => Self::Allowed,
            Written::Denied => Self::Denied,
            Written::Requests => Self::Requests,
        })
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            verdict: Word,
            #[serde(default)]
            reason: Option<String>,
            #[serde(default)]
            by: Option<String>,
            #[serde(default)]
            message: Option<String>,
            #[serde(default)]
            shadow: Option<Word>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Expected;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let words = Word::ALL.map(|word| format!("`{}`", word.as_str())).join(", ");
                write!(f, "{words}, or a mapping with `verdict`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Expected, E> {
                let word: serde::de::value::StrDeserializer<'_, E> =
                    serde::de::IntoDeserializer::into_deserializer(word);
                let verdict = Word::deserialize(word)?;
                let (reason, by, message, shadow) = (None, None, None, None);
                Ok(Expected { verdict, reason, by, message, shadow, is_word: true })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
                let Fields { verdict, reason, by, message, shadow } =
                    Fields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Expected { verdict, reason, by, message, shadow, is_word: false })
            }
        }
        from.deserialize_any(Either)
    }
}
