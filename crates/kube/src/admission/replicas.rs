//! What each replica of `agent admission` says of itself, so that the one that leads knows what it may leave to all of them.
//!
//! It stands in the ConfigMap of the status, a key for each pod. An API server asks whichever replica it likes: what one of them has not
//! heard of yet would be asked by nobody.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ADMISSION_STATUS, AGENT_ADMISSION, ApiServer, ConnectError, Credential, KubeError,
    SYSTEM_NAMESPACE, Step,
};

/// Before the name of a pod.
const KEY: &str = "replica.";
/// More than that many say something only where pods have gone.
const MANY: usize = 8;

/// The policies of the API server that a replica asks by itself, each with digests of the conditions for which it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked(BTreeMap<String, BTreeSet<String>>);

impl Asked {
    /// By policy and condition.
    pub fn of<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut asked = Self::default();
        for (policy, condition) in all {
            asked.0.entry(policy.to_owned()).or_default().insert(digest(condition));
        }
        asked
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (policy, digests) in other.0 {
            self.0.entry(policy).or_default().extend(digests);
        }
        self
    }

    /// Whether a policy is asked about the objects that a condition leaves out.
    #[must_use]
    pub fn asks(&self, policy: &str, condition: &str) -> bool {
        self.0.get(policy).is_some_and(|digests| digests.contains(&digest(condition)))
    }

    fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn told(&self) -> Option<String> {
        let told = (!self.0.is_empty()).then(|| serde_json::to_string(self));
        told.and_then(Result::ok)
    }
}

/// Half of a SHA-256: who could make another condition with it writes policies anyway.
fn digest(condition: &str) -> String {
    let digest = Sha256::digest(condition.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads and writes what replicas say.
#[derive(Clone)]
pub struct ReplicaStore {
    maps: Api<ConfigMap>,
    pods: Api<Pod>,
}

impl ReplicaStore {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        let client = server.client(credential)?;
        let maps = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        Ok(Self { maps, pods: Api::namespaced(client, SYSTEM_NAMESPACE) })
    }

    /// Says what the replica in a pod asks; nothing is written where it is said already.
    pub async fn say(&self, pod: &str, asked: &Asked) -> Result<(), KubeError> {
        let found = self.maps.get(ADMISSION_STATUS).await;
        let mut map = found.map_err(KubeError::at(Step::WriteStatus))?;
        let mut data = map.data.unwrap_or_default();
        let key = format!("{KEY}{pod}");
        let told = asked.told();
        if data.get(&key) == told.as_ref() {
            return Ok(());
        }
        data.remove(&key);
        if data.keys().filter(|key| key.starts_with(KEY)).count() >= MANY {
            let there: BTreeSet<String> = self.pods().await?.iter().map(key_of).collect();
            data.retain(|key, _| !key.starts_with(KEY) || there.contains(key));
        }
        data.extend(told.map(|told| (key, told)));
        map.data = Some(data);
        let written = self.maps.replace(ADMISSION_STATUS, &PostParams::default(), &map).await;
        written.map(|_| ()).map_err(KubeError::at(Step::WriteStatus))
    }

    /// What each replica asks that an API server may come to, by pod.
    pub async fn said(&self) -> Result<BTreeMap<String, Asked>, KubeError> {
        // Who is ready afterwards has read what there is by then.
        let pods = self.pods().await?;
        let data = self.data().await?;
        let ready = pods.iter().filter(|pod| is_ready(pod));
        let said = ready.map(|pod| (pod.name_any(), said_by(&data, pod)));
        Ok(said.collect())
    }

    /// Whether somebody goes on with what `policy` and `condition` name when the replica in a pod has gone: another one is ready and
    /// not told to go, and each such one says that it does. One of an older version might lead, and would not.
    pub async fn is_followed(
        &self,
        pod: &str,
        policy: &str,
        condition: &str,
    ) -> Result<bool, KubeError> {
        let pods = self.pods().await?;
        let data = self.data().await?;
        Ok(follow(&pods, &data, pod, policy, condition))
    }

    async fn data(&self) -> Result<BTreeMap<String, String>, KubeError> {
        let found = self.maps.get(ADMISSION_STATUS).await;
        Ok(found.map_err(KubeError::at(Step::ReadReplicas))?.data.unwrap_or_default())
    }

    async fn pods(&self) -> Result<Vec<Pod>, KubeError> {
        let ours =
            ListParams::default().labels(&format!("app.kubernetes.io/component={AGENT_ADMISSION}"));
        let pods = self.pods.list(&ours).await;
        Ok(pods.map_err(KubeError::at(Step::ReadReplicas))?.items)
    }
}

/// Takes what replicas say over into what is said instead of it.
pub(super) fn keep(before: Option<&BTreeMap<String, String>>, data: &mut BTreeMap<String, String>) {
    let said = before.into_iter().flatten().filter(|(key, _)| key.starts_with(KEY));
    data.extend(said.map(|(key, told)| (key.clone(), told.clone())));
}

fn key_of(pod: &Pod) -> String {
    format!("{KEY}{}", pod.name_any())
}

fn said_by(data: &BTreeMap<String, String>, pod: &Pod) -> Asked {
    data.get(&key_of(pod)).map(|text| Asked::read(text)).unwrap_or_default()
}

fn follow(
    pods: &[Pod],
    data: &BTreeMap<String, String>,
    pod: &str,
    policy: &str,
    condition: &str,
) -> bool {
    let stays = |each: &&Pod| {
        each.name_any() != pod && each.metadata.deletion_timestamp.is_none() && is_ready(each)
    };
    let mut others = pods.iter().filter(stays).peekable();
    others.peek().is_some() && others.all(|each| said_by(data, each).asks(policy, condition))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|each| each.type_ == "Ready" && each.status == "True")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_is_asked_is_known_by_its_condition_whole() {
        let asked = Asked::of([("p", "a"), ("p", "b"), ("q", "a")]);
        assert!(asked.asks("p", "a") && asked.asks("p", "b") && asked.asks("q", "a"));
        let more = asked.clone().and(Asked::of([("q", "b")]));
        assert!(more.asks("p", "a") && more.asks("q", "a") && more.asks("q", "b"));
        assert!(!asked.asks("q", "b") && !asked.asks("r", "a"));
        assert_eq!(Asked::read(&asked.told().unwrap()), asked);
        assert_eq!(Asked::default().told(), None);
        assert_eq!(Asked::read("no JSON"), Asked::default(), "who cannot be read has said nothing");
    }

    #[test]
    fn only_who_says_so_goes_on_with_what_is_left_to_replicas() {
        let pod = |name: &str, is_ready: bool, goes: bool| {
            let mut pod = serde_json::json!({
                "metadata": { "name": name },
                "status": { "conditions": [{ "type": "Ready", "status": if is_ready { "True" } else { "False" } }] },
            });
            if goes {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let told = Asked::of([("p", "a")]).told().unwrap();
        let data = BTreeMap::from(
            ["self", "new", "gone", "unready"].map(|name| (format!("{KEY}{name}"), told.clone())),
        );
        let follow = |pods: &[Pod]| follow(pods, &data, "self", "p", "a");
        let myself = pod("self", true, false);
        let (gone, unready) = (pod("gone", true, true), pod("unready", false, false));
        assert!(!follow(&[myself.clone(), gone.clone(), unready.clone()]));
        let new = pod("new", true, false);
        assert!(follow(&[myself.clone(), new.clone(), gone, unready]));
        // A ready pod of an older version, which says nothing of it, may come to lead.
        let old = pod("old", true, false);
        assert!(!follow(&[myself.clone(), old.clone()]));
        assert!(!follow(&[myself, new, old]));
    }

    #[test]
    fn the_status_keeps_what_replicas_say_and_nothing_else() {
        let text = |text: &str| text.to_owned();
        let before =
            BTreeMap::from([(text("replica.a"), text("{}")), (text("troubles"), text("old"))]);
        let mut data = BTreeMap::from([(text("in-force"), text("p"))]);
        keep(Some(&before), &mut data);
        assert_eq!(data.into_keys().collect::<Vec<_>>(), ["in-force", "replica.a"]);
    }
}
