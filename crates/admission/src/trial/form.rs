//! The form of a file of policy tests, read so that whatever is wrong in it has its line.

use std::{collections::BTreeMap, fmt};

use nullius_cel::{Dialect, Version};
use nullius_model::{API_VERSION, Timestamp};
use nullius_policy::{admission_policy::Operation, pod_security::LevelVersion};
use regex::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer,
    },
};
use serde_json::Value as Json;

/// The kind of a file of tests.
pub(super) const KIND: &str = "PolicyTest";

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) policies: Vec<String>,
    #[serde(default)]
    pub(super) state: Vec<Given>,
    #[serde(default)]
    pub(super) pod_security: Option<PodSecurity>,
    #[serde(default)]
    env: Option<String>,
    /// When exceptions are asked.
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
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) user: Option<Requester>,
}

/// One request, or one for each of several objects, and what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    pub(super) request: Option<Given>,
    #[serde(default)]
    pub(super) object: Option<Given>,
    #[serde(default)]
    pub(super) objects: Option<Vec<Given>>,
    #[serde(default)]
    pub(super) old: Option<Given>,
    /// Fields of the object that are other than it says, by path.
    #[serde(default)]
    pub(super) set: BTreeMap<String, Json>,
    #[serde(default, deserialize_with = "operation")]
    pub(super) operation: Option<Operation>,
    #[serde(default)]
    pub(super) resource: Option<String>,
    #[serde(default)]
    pub(super) subresource: Option<String>,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) user: Option<Requester>,
    #[serde(default)]
    pub(super) dry_run: bool,
    #[serde(default)]
    pub(super) state: Vec<Given>,
    /// Why the case is not asked for the time being.
    #[serde(default)]
    pub(super) skip: Option<String>,
    pub(super) expect: Expected,
}

/// Who asks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Requester {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    #[serde(default)]
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

/// What is expected of a case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) verdict: Verdict,
    pub(super) by: Option<Vec<String>>,
    pub(super) checks: Option<Vec<String>>,
    pub(super) code: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<Text>,
    pub(super) warnings: Option<Vec<Text>>,
    pub(super) audit_annotations: BTreeMap<String, Option<Text>>,
    pub(super) patch: Option<Vec<Json>>,
    pub(super) object: Option<Json>,
    /// Whether it was written as one word.
    pub(super) is_word: bool,
}

/// What comes of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes, and nobody is warned.
    #[default]
    Allowed,
    /// It passes, and who asks is warned.
    Warned,
    /// It is refused.
    Denied,
}

impl Verdict {
    pub(super) const ALL: [Self; 3] = [Self::Allowed, Self::Warned, Self::Denied];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Denied => "denied",
        }
    }
}

/// A text that is expected.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Exactly(String),
    Contains(String),
    Matches(Regex),
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Text {
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Exactly(wanted) => text == wanted,
            Self::Contains(wanted) => text.contains(wanted),
            Self::Matches(wanted) => wanted.is_match(text),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(wanted) => f.write_str(wanted),
            Self::Contains(wanted) => write!(f, "something with `{wanted}`"),
            Self::Matches(wanted) => write!(f, "something that matches `{wanted}`"),
        }
    }
}

/// By what pods are measured beside policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodSecurity {
    /// Every namespace enforces this.
    Level(LevelVersion),
    /// By the labels of their namespace.
    Namespace,
}

/// A path, or what would stand there.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    Path(String),
    Inline(Json),
}

impl Document {
    /// What is wrong with the file as a whole: field and reason.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut wrong = |field: &str, message: String| faults.push((field.to_owned(), message));
        if self.api_version != API_VERSION || self.kind != KIND {
            wrong("apiVersion", format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`"));
        }
        if let Err(message) = self.version() {
            wrong("env", message);
        }
        if self.cases.is_empty() {
            wrong("cases", "there is no case; a file that asks nothing proves nothing".to_owned());
        }
        if self.policies.is_empty() && self.pod_security.is_none() {
            wrong(
                "policies",
                "name `policies` or `podSecurity`: nothing would be asked".to_owned(),
            );
        }
        let mut names = BTreeMap::new();
        for (index, case) in self.cases.iter().enumerate() {
            let field = |name: &str| format!("cases[{index}].{name}");
            if case.name.trim().is_empty() {
                wrong(&field("name"), "`name` is empty".to_owned());
            }
            if let Some(first) = names.insert(case.name.as_str(), index) {
                let message = format!("`cases[{first}]` has this name already");
                wrong(&field("name"), message);
            }
            for (name, message) in case.faults() {
                wrong(&field(name), message);
            }
        }
        faults
    }

    /// The API server's version.
    pub(super) fn version(&self) -> Result<Version, String> {
        let Some(env) = &self.env else { return Ok(Version::minor(36)) };
        match env.parse() {
            Ok(Dialect::Kubernetes(version)) => Ok(version),
            Ok(Dialect::Spec) | Err(_) => Err(format!(
                "`{env}` is no version of an API server: say `k8s-{}` to `k8s-{}`",
                Version::FIRST,
                Version::LATEST
            )),
        }
    }
}

impl Case {
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut wrong =
            |field: &'static str, message: &str| faults.push((field, message.to_owned()));
        let given = [
            ("request", self.request.is_some()),
            ("object", self.object.is_some()),
            ("objects", self.objects.is_some()),
        ];
        let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        match given.as_slice() {
            [] if self.old.is_none() => {
                wrong("name", "say what is asked: `object`, `objects`, `old` or `request`");
            }
            [_, another, ..] => {
                wrong("name", &format!("`{}` and `{another}` exclude each other", given[0]));
            }
            _ => {}
        }
        let is_request = self.request.is_some();
        let own = [
            ("old", self.old.is_some()),
            ("operation", self.operation.is_some()),
            ("resource", self.resource.is_some()),
            ("subresource", self.subresource.is_some()),
            ("namespace", self.namespace.is_some()),
            ("user", self.user.is_some()),
            ("dryRun", self.dry_run),
            ("set", !self.set.is_empty()),
        ];
        for (name, _) in own.iter().filter(|(_, is)| *is && is_request) {
            wrong(name, "a whole `request` says this itself");
        }
        if self.objects.is_some() && self.old.is_some() {
            wrong("old", "`objects` are made or deleted; give an update its own `object`");
        }
        if self.objects.as_ref().is_some_and(Vec::is_empty) {
            wrong("objects", "the list is empty");
        }
        if !self.set.is_empty() && self.object.is_none() && self.objects.is_none() && !is_request {
            wrong("set", "there is no `object` whose fields it would set");
        }
        let word = self.resource.as_deref();
        if word.is_some_and(|word| ![2, 3].contains(&word.split('/').count())) {
            wrong("resource", "write `v1/pods` or `apps/v1/deployments`");
        }
        if self.skip.as_ref().is_some_and(|why| why.trim().is_empty()) {
            wrong("skip", "say why the case is skipped");
        }
        let Expected { verdict, by, checks, code, reason, message, warnings, .. } = &self.expect;
        let is_denied = *verdict == Verdict::Denied;
        if *verdict == Verdict::Allowed && (by.is_some() || message.is_some()) {
            wrong(
                "expect",
                "nobody says anything of what is `allowed`: take out `by` and `message`",
            );
        }
        if !is_denied && (code.is_some() || reason.is_some() || checks.is_some()) {
            wrong("expect", "`code`, `reason` and `checks` are for what is `denied`");
        }
        match (verdict, warnings.as_ref().map(Vec::is_empty)) {
            (Verdict::Allowed, Some(false)) => {
                wrong("expect", "with `warnings` the verdict is `warned`");
            }
            (Verdict::Warned, Some(true)) => {
                wrong("expect", "without `warnings` the verdict is `allowed`");
            }
            _ => {}
        }
        faults
    }
}

fn operation<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Operation>, D::Error> {
    let word = String::deserialize(from)?;
    let told = || format!("`{word}` is unknown here; use `CREATE`, `UPDATE`, `DELETE`, `CONNECT`");
    Operation::of_word(&word).map(Some).ok_or_else(|| serde::de::Error::custom(told()))
}

impl<'de> Deserialize<'de> for PodSecurity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        if word == "namespace" {
            return Ok(Self::Namespace);
        }
        let level: LevelVersion = word.parse().map_err(|_| {
            let told = "say `baseline` or `restricted`, with a version such as `restricted:v1.36`, or `namespace`";
            serde::de::Error::custom(format!("`{word}` is no level: {told}"))
        })?;
        Ok(Self::Level(level))
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or an object")
            }
            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Path(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Given, A::Error> {
                Json::deserialize(MapAccessDeserializer::new(map)).map(Given::Inline)
            }
        }
        from.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Wanted {
            #[serde(default)]
            contains: Option<String>,
            #[serde(default)]
            matches: Option<String>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, `{contains: TEXT}` or `{matches: REGEX}`")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Exactly(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
                let wrong = <A::Error as serde::de::Error>::custom::<String>;
                match Wanted::deserialize(MapAccessDeserializer::new(map))? {
                    Wanted { contains: Some(part), matches: None } => Ok(Text::Contains(part)),
                    Wanted { contains: None, matches: Some(pattern) } => match Regex::new(&pattern)
                    {
                        Ok(pattern) => Ok(Text::Matches(pattern)),
                        Err(_) => Err(wrong(format!("`{pattern}` is no regular expression"))),
                    },
                    _ => Err(wrong("say `contains` or `matches`".to_owned())),
                }
            }
        }
        from.deserialize_any(Either)
    }
}

/// One name, or a list of them.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E>(self, text: &str) -> Result<Names, E> {
                Ok(Names(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Names)
            }
        }
        from.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Verdict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        let found = Self::ALL.into_iter().find(|each| each.as_str() == word);
        found.ok_or_else(|| {
            let told = format!("`{word}` is unknown here; use `allowed`, `warned`, `denied`");
            serde::de::Error::custom(told)
        })
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            verdict: Verdict,
            #[serde(default)]
            by: Option<Names>,
            #[serde(default)]
            checks: Option<Names>,
            #[serde(default)]
            code: Option<u16>,
            #[serde(default)]
            reason: Option<String>,
            #[serde(default)]
            message: Option<Text>,
            #[serde(default)]
            warnings: Option<Vec<Text>>,
            #[serde(default)]
            audit_annotations: BTreeMap<String, Option<Text>>,
            #[serde(default)]
            patch: Option<Vec<Json>>,
            #[serde(default)]
            object: Option<Json>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Expected;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`allowed`, `warned`, `denied`, or a mapping with `verdict`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Expected, E> {
                let word: serde::de::value::StrDeserializer<'_, E> =
                    serde::de::IntoDeserializer::into_deserializer(word);
                let verdict = Verdict::deserialize(word)?;
                Ok(Expected { verdict, is_word: true, ..Expected::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expected, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Expected {
                    verdict: fields.verdict,
                    by: fields.by.map(|Names(names)| names),
                    checks: fields.checks.map(|Names(names)| names),
                    code: fields.code,
                    reason: fields.reason,
                    message: fields.message,
                    warnings: fields.warnings,
                    audit_annotations: fields.audit_annotations,
                    patch: fields.patch,
                    object: fields.object,
                    is_word: false,
                })
            }
        }
        from.deserialize_any(Either)
    }
}
