//! What a namespace is to have by all baselines that are for it.
//!
//! Baselines add up as long as none says otherwise than another. Where one does, the older counts, and of the younger nothing is
//! done in that namespace.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::{
    Amount, BASELINE_FROM, BASELINE_LABEL, BASELINE_LABELS, BASELINE_NAME, BaselineLimit,
    BaselineNetworkPolicy, BaselineRoleRef, ENVIRONMENT_LABEL, NamespaceBaselineSpec,
    TrafficDirection,
};
use serde_json::{Map, Value as Json, json};

use super::Baseline;

/// A kind of object that baselines make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BaselineKind {
    /// Denies traffic.
    NetworkPolicy,
    /// Bounds the namespace.
    ResourceQuota,
    /// Bounds its objects.
    LimitRange,
    /// Gives a role.
    RoleBinding,
}

impl BaselineKind {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 4] =
        [Self::NetworkPolicy, Self::ResourceQuota, Self::LimitRange, Self::RoleBinding];

    /// `networking.k8s.io/v1`.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ResourceQuota | Self::LimitRange => "v1",
            Self::RoleBinding => "rbac.authorization.k8s.io/v1",
        }
    }

    /// `NetworkPolicy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ResourceQuota => "ResourceQuota",
            Self::LimitRange => "LimitRange",
            Self::RoleBinding => "RoleBinding",
        }
    }

    /// `networkpolicies`.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networkpolicies",
            Self::ResourceQuota => "resourcequotas",
            Self::LimitRange => "limitranges",
            Self::RoleBinding => "rolebindings",
        }
    }

    /// Whether it bounds what pods do, so that they wait for it; a role protects nobody.
    #[must_use]
    pub fn bounds_pods(self) -> bool {
        match self {
            Self::NetworkPolicy | Self::ResourceQuota | Self::LimitRange => true,
            Self::RoleBinding => false,
        }
    }
}

/// That a baseline says otherwise than an older one, so that nothing of it is done in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The younger.
    pub baseline: String,
    /// The older.
    pub with: String,
    /// What they say otherwise.
    pub about: String,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { with, about, .. } = self;
        write!(
            f,
            "says otherwise of {about} than the older baseline `{with}`, so nothing of it is done here"
        )
    }
}

/// What a namespace is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The baselines that it comes from, sorted; those with a conflict are none of them.
    pub baselines: Vec<String>,
    /// Labels of the namespace.
    pub labels: BTreeMap<String, String>,
    /// Objects in it, whole, in the order in which they are made.
    pub objects: Vec<(BaselineKind, Json)>,
    /// Baselines that are for it and cannot be had.
    pub conflicts: Vec<Conflict>,
}

impl Plan {
    /// What a namespace is to have; `None` where no baseline is for it.
    #[must_use]
    pub fn of<'a>(
        baselines: impl IntoIterator<Item = &'a Baseline>,
        namespace: &Json,
    ) -> Option<Self> {
        let name = namespace.pointer("/metadata/name").and_then(Json::as_str)?;
        let mut chosen: Vec<&Baseline> =
            baselines.into_iter().filter(|baseline| baseline.chooses(namespace)).collect();
        chosen.sort_by_key(|baseline| baseline.rank());
        let mut merged = Merged::default();
        let mut conflicts = Vec::new();
        for baseline in &chosen {
            if let Err((with, about)) = merged.add(baseline) {
                conflicts.push(Conflict { baseline: baseline.name.clone(), with, about });
            }
        }
        (!chosen.is_empty()).then(|| merged.into_plan(name, conflicts))
    }

    /// The annotations of the namespace.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<&'static str, String> {
        let keys: Vec<&str> = self.labels.keys().map(String::as_str).collect();
        BTreeMap::from([
            (BASELINE_FROM, self.baselines.join(",")),
            (BASELINE_LABELS, keys.join(",")),
        ])
    }
}

/// Something that one baseline said, and which.
type Said<T> = (T, String);

/// What baselines say together.
#[derive(Debug, Clone, Default)]
struct Merged {
    from: BTreeSet<String>,
    labels: BTreeMap<String, Said<String>>,
    deny: BTreeMap<TrafficDirection, String>,
    /// Whether egress that is denied spares DNS.
    dns: Option<Said<bool>>,
    hard: BTreeMap<String, Said<Amount>>,
    limits: BTreeMap<String, Said<BaselineLimit>>,
    /// Groups and users by role.
    roles: BTreeMap<BaselineRoleRef, (BTreeSet<String>, BTreeSet<String>)>,
}

impl Merged {
    /// Takes all that a baseline says, or nothing of it: then says with which other it cannot be had, and about what.
    fn add(&mut self, baseline: &Baseline) -> Result<(), (String, String)> {
        let mut next = self.clone();
        let NamespaceBaselineSpec {
            network_policy,
            resource_quota,
            limit_range,
            role_bindings,
            ..
        } = &baseline.spec;
        let by = &baseline.name;
        for (key, value) in labels(&baseline.spec) {
            let about = format!("the label `{key}`");
            say(&mut next.labels, key, value, by).map_err(|with| (with, about))?;
        }
        if let Some(BaselineNetworkPolicy { deny, allow_dns }) = network_policy {
            if deny.contains(&TrafficDirection::Egress) {
                match &next.dns {
                    Some((known, with)) if known != allow_dns => {
                        return Err((with.clone(), "`networkPolicy.allowDns`".to_owned()));
                    }
                    Some(_) => {}
                    None => next.dns = Some((*allow_dns, by.clone())),
                }
            }
            next.deny.extend(deny.iter().map(|direction| (*direction, by.clone())));
        }
        for (resource, amount) in resource_quota.iter().flat_map(|quota| &quota.hard) {
            let about = format!("`resourceQuota.hard[{resource}]`");
            say(&mut next.hard, resource.clone(), amount.clone(), by)
                .map_err(|with| (with, about))?;
        }
        for limit in limit_range.iter().flat_map(|range| &range.limits) {
            let about = format!("`limitRange` of type `{}`", limit.of);
            say(&mut next.limits, limit.of.clone(), limit.clone(), by)
                .map_err(|with| (with, about))?;
        }
        for binding in role_bindings {
            let (groups, users) = next.roles.entry(binding.role_ref.clone()).or_default();
            groups.extend(binding.groups.iter().cloned());
            users.extend(binding.users.iter().cloned());
        }
        next.from.insert(by.clone());
        *self = next;
        Ok(())
    }

    fn into_plan(self, namespace: &str, conflicts: Vec<Conflict>) -> Plan {
        let baselines: Vec<String> = self.from.into_iter().collect();
        let mut objects = Vec::new();
        let mut object = |kind: BaselineKind, name: &str, body: Json| {
            let mut object = json!({
                "apiVersion": kind.api_version(), "kind": kind.as_str(),
                "metadata": {
                    "name": name, "namespace": namespace,
                    "labels": { "app.kubernetes.io/part-of": "nullius", BASELINE_LABEL: "true" },
                    "annotations": { BASELINE_FROM: baselines.join(",") },
                },
            });
            if let (Json::Object(object), Json::Object(body)) = (&mut object, body) {
                object.extend(body);
            }
            objects.push((kind, object));
        };
        if !self.deny.is_empty() {
            let spares_dns = self.dns.is_some_and(|(spares, _)| spares);
            let spec = network_policy(self.deny.keys().copied().collect(), spares_dns);
            object(BaselineKind::NetworkPolicy, BASELINE_NAME, json!({ "spec": spec }));
        }
        if !self.hard.is_empty() {
            let hard: BTreeMap<String, Amount> =
                self.hard.into_iter().map(|(resource, (amount, _))| (resource, amount)).collect();
            object(BaselineKind::ResourceQuota, BASELINE_NAME, json!({ "spec": { "hard": hard } }));
        }
        if !self.limits.is_empty() {
            let limits: Vec<Json> =
                self.limits.into_values().map(|(limit, _)| json!(as_defaulted(limit))).collect();
            object(
                BaselineKind::LimitRange,
                BASELINE_NAME,
                json!({ "spec": { "limits": limits } }),
            );
        }
        for (role, (groups, users)) in &self.roles {
            const RBAC: &str = "rbac.authorization.k8s.io";
            let kind = role.kind.as_str();
            let subject =
                |kind: &str, name: &String| json!({ "apiGroup": RBAC, "kind": kind, "name": name });
            let groups = groups.iter().map(|name| subject("Group", name));
            let subjects: Vec<Json> =
                groups.chain(users.iter().map(|name| subject("User", name))).collect();
            let name = format!("{BASELINE_NAME}:{}:{}", kind.to_ascii_lowercase(), role.name);
            let body = json!({
                "roleRef": { "apiGroup": RBAC, "kind": kind, "name": role.name },
                "subjects": subjects,
            });
            object(BaselineKind::RoleBinding, &name, body);
        }
        let labels = self.labels.into_iter().map(|(key, (value, _))| (key, value)).collect();
        Plan { baselines, labels, objects, conflicts }
    }
}

/// Says something unless another said otherwise; then gives who did.
fn say<T: PartialEq>(
    all: &mut BTreeMap<String, Said<T>>,
    key: String,
    value: T,
    by: &str,
) -> Result<(), String> {
    match all.get(&key) {
        Some((known, with)) if *known != value => Err(with.clone()),
        Some(_) => Ok(()),
        None => {
            all.insert(key, (value, by.to_owned()));
            Ok(())
        }
    }
}

/// All labels that a baseline asks for.
fn labels(spec: &NamespaceBaselineSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels
        .extend(spec.environment.iter().map(|value| (ENVIRONMENT_LABEL.to_owned(), value.clone())));
    if let Some(levels) = &spec.pod_security {
        let modes =
            [("enforce", &levels.enforce), ("audit", &levels.audit), ("warn", &levels.warn)];
        for (mode, level) in modes {
            let Some(level) = level else { continue };
            let key = format!("pod-security.kubernetes.io/{mode}");
            if let Some(version) = &levels.version {
                labels.insert(format!("{key}-version"), version.clone());
            }
            labels.insert(key, level.clone());
        }
    }
    labels
}

fn network_policy(deny: Vec<TrafficDirection>, spares_dns: bool) -> Json {
    let types: Vec<&str> = deny.into_iter().map(TrafficDirection::as_str).collect();
    let mut spec = json!({ "podSelector": {}, "policyTypes": types });
    if spares_dns {
        let port = |protocol: &str| json!({ "port": 53, "protocol": protocol });
        spec["egress"] = json!([{
            "to": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
            }],
            "ports": [port("UDP"), port("TCP")],
        }]);
    }
    spec
}

/// What an API server makes of a limit, so that what stands can be compared with it.
fn as_defaulted(mut limit: BaselineLimit) -> Json {
    let fill = |into: &mut BTreeMap<String, Amount>, from: &BTreeMap<String, Amount>| {
        for (resource, amount) in from {
            into.entry(resource.clone()).or_insert_with(|| amount.clone());
        }
    };
    if limit.of == "Container" {
        fill(&mut limit.default, &limit.max);
        fill(&mut limit.default_request, &limit.default);
        fill(&mut limit.default_request, &limit.min);
    }
    serde_json::to_value(limit).unwrap_or_else(|_| Json::Object(Map::new()))
}
