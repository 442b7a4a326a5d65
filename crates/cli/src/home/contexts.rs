//! Which hubs this person uses: a name, the hub's URL and the root that is pinned for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use nullius_model::{API_VERSION, ObjectName};
use serde::{Deserialize, Serialize};
use url::Url;

use super::private_file::{private_directory, write_private};
use crate::failure::{Failure, file_failure};

/// The file of all contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Contexts {
    api_version: String,
    kind: String,
    /// The context that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<ObjectName>,
    /// All contexts.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<ObjectName, Context>,
}

/// A hub and how to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Context {
    /// `https://host:port`, never with a path.
    pub(crate) hub: Url,
    /// The hub's infrastructure root in PEM; nothing else is trusted.
    pub(crate) ca: String,
}

/// A context by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: ObjectName,
    pub(crate) context: Context,
}

const KIND: &str = "ClientContexts";

impl Contexts {
    /// Reads the contexts; none where the file is not there.
    pub(crate) fn load(home: &Path) -> Result<Self, Failure> {
        let path = file(home);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    api_version: API_VERSION.to_owned(),
                    kind: KIND.to_owned(),
                    ..Self::default()
                });
            }
            Err(error) => return Err(file_failure("read", &path, error)),
        };
        let read: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::usage(format!("cannot read the contexts in `{}`", path.display()))
                .because(error)
                .next("mend the file, or remove it and sign in again: `nullius login --hub URL`")
        })?;
        if read.api_version != API_VERSION || read.kind != KIND {
            return Err(Failure::usage(format!(
                "cannot read the contexts in `{}`",
                path.display()
            ))
            .why(format!("it is a `{}` of `{}`", read.kind, read.api_version))
            .next("use the version of nullius that wrote it"));
        }
        Ok(read)
    }

    /// Writes the contexts.
    pub(crate) fn store(&self, home: &Path) -> Result<(), Failure> {
        private_directory(home)?;
        write_private(&file(home), &crate::output::json_text(self)?)
    }

    /// The context that flags name: `--hub` by its URL, `--context` by its name, else the current one.
    pub(crate) fn choose(
        &self,
        hub: Option<&Url>,
        context: Option<&ObjectName>,
    ) -> Result<Named, Failure> {
        let known =
            || self.contexts.keys().map(ToString::to_string).collect::<Vec<_>>().join("`, `");
        if let Some(name) = context {
            let Some(found) = self.contexts.get(name) else {
                let failure = Failure::usage(format!("no context is named `{name}`"));
                return Err(if self.contexts.is_empty() {
                    failure.next("sign in first: `nullius login --hub https://HOST`")
                } else {
                    failure.next(format!("choose one of `{}`", known()))
                });
            };
            if let Some(hub) = hub.filter(|hub| **hub != found.hub) {
                return Err(Failure::usage(format!("context `{name}` is not of the hub `{hub}`"))
                    .why(format!("it is of `{}`", found.hub))
                    .next("leave out `--hub` or `--context`"));
            }
            return Ok(Named { name: name.clone(), context: found.clone() });
        }
        if let Some(hub) = hub {
            let found = self.contexts.iter().find(|(_, context)| context.hub == *hub);
            let (name, context) = found.ok_or_else(|| {
                Failure::usage(format!("the hub `{hub}` is not known here"))
                    .next(format!("sign in first: `nullius login --hub {hub} --ca FILE`"))
            })?;
            return Ok(Named { name: name.clone(), context: context.clone() });
        }
        let Some(name) = &self.current else {
            return Err(Failure::usage("no hub is known here")
                .next("sign in first: `nullius login --hub https://HOST --ca FILE`"));
        };
        let found = self.contexts.get(name).ok_or_else(|| {
            Failure::usage(format!("the current context `{name}` does not exist"))
                .next("sign in again: `nullius login --hub URL`")
        })?;
        Ok(Named { name: name.clone(), context: found.clone() })
    }

    /// A name for a new context of a hub: its host, made unique by port and number.
    pub(crate) fn name_for(&self, hub: &Url) -> ObjectName {
        let host = hub.host_str().unwrap_or_default().replace(':', "-");
        let host = host.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let with_port = format!("{host}-{}", hub.port_or_known_default().unwrap_or(443));
        let numbered = (2_u32..1_000).map(|number| format!("{with_port}-{number}"));
        let free = [host, with_port.clone()].into_iter().chain(numbered).find_map(|candidate| {
            let name: ObjectName = candidate.parse().ok()?;
            let taken = self.contexts.get(&name).is_some_and(|context| context.hub != *hub);
            (!taken).then_some(name)
        });
        free.unwrap_or_else(fallback)
    }
}

/// `hub`: the name when nothing of a URL can stand in one.
fn fallback() -> ObjectName {
    #[expect(clippy::expect_used, reason = "a literal of lower-case letters is an object name")]
    "hub".parse().expect("a literal name")
}

fn file(home: &Path) -> PathBuf {
    home.join("contexts.json")
}

/// Reads a hub's URL: https, a host, no path; `HOST[:PORT]` alone means https as well.
pub(crate) fn hub_url(text: &str) -> Result<Url, String> {
    const FORM: &str = "write `https://HOST[:PORT]`";
    let written = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = written.parse().map_err(|error| format!("{error}; {FORM}"))?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let bare = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" if plain && bare && url.host_str().is_some() => Ok(url),
        "https" => Err(format!("{FORM} without a path")),
        _ => Err(format!("the hub is reached by https only: {FORM}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn context(hub: &str) -> Context {
        Context { hub: hub.parse().unwrap(), ca: "PEM".to_owned() }
    }

    fn two() -> Contexts {
        let mut contexts = Contexts {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            ..Contexts::default()
        };
        contexts.contexts.insert("one".parse().unwrap(), context("https://one.example"));
        contexts.contexts.insert("two".parse().unwrap(), context("https://two.example:8443"));
        contexts.current = Some("one".parse().unwrap());
        contexts
    }

    #[test]
    fn contexts_survive_their_file() {
        let home = tempfile::tempdir().unwrap();
        assert!(Contexts::load(home.path()).unwrap().contexts.is_empty());
        two().store(home.path()).unwrap();
        assert_eq!(Contexts::load(home.path()).unwrap(), two());
    }

    #[test]
    fn flags_choose_a_context() {
        let two = two();
        let hub: Url = "https://two.example:8443".parse().unwrap();
        assert_eq!(two.choose(None, None).unwrap().name.as_str(), "one");
        assert_eq!(two.choose(Some(&hub), None).unwrap().name.as_str(), "two");
        assert_eq!(two.choose(None, Some(&"two".parse().unwrap())).unwrap().name.as_str(), "two");
        assert!(two.choose(None, Some(&"three".parse().unwrap())).is_err());
        assert!(two.choose(Some(&hub), Some(&"one".parse().unwrap())).is_err());
        assert!(two.choose(Some(&"https://three.example".parse().unwrap()), None).is_err());
    }

    #[test]
    fn a_new_context_never_takes_the_name_of_another() {
        let mut contexts = two();
        let name =
            |contexts: &Contexts, hub: &str| contexts.name_for(&hub.parse().unwrap()).to_string();
        assert_eq!(name(&contexts, "https://hub.example"), "hub.example");
        assert_eq!(name(&contexts, "https://[::1]:8443"), "1");
        contexts.contexts.insert("hub.example".parse().unwrap(), context("https://hub.example"));
        assert_eq!(name(&contexts, "https://hub.example"), "hub.example");
        assert_eq!(name(&contexts, "https://hub.example:9443"), "hub.example-9443");
    }

    #[test]
    fn only_plain_https_names_a_hub() {
        for good in [
            "https://hub.example:8443",
            "hub.example:8443",
            "hub.example:8443/",
            "https://HUB.example:8443/",
        ] {
            assert_eq!(hub_url(good).unwrap().as_str(), "https://hub.example:8443/", "{good}");
        }
        for bad in [
            "http://hub.example",
            "hub.example/x",
            "https://hub.example/x",
            "https://a:b@hub.example",
            "",
        ] {
            assert!(hub_url(bad).is_err(), "{bad}");
        }
    }
}
