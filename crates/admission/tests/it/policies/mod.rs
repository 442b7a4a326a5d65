//! Admission policies on a real API server and here: verdict, code, reason, message, warnings, audit annotations and the
//! object that mutations leave are equal. What is wrong with a policy is told in the same words.
//!
//! They run where a test run has started clusters (`NULLIUS_TEST_STATE`, set by `cargo xtask test`).

mod faults;
mod made;
mod webhook;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nullius_admission::{Person, State, request_of};
use nullius_policy::admission_policy::{Decision, Operation, PolicySet, Request, Version};
use nullius_testkit::{Api, Cluster, Profile, Response, TestNamespace, shared, wait_until};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

const API: &str = "admissionregistration.k8s.io/v1";
/// How long an API server may take to act on policies.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    kind: PolicyKind,
    #[serde(default)]
    params: Vec<Json>,
    spec: Json,
    #[serde(default)]
    binding: Option<Json>,
    requests: Vec<Ask>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum PolicyKind {
    #[default]
    Validating,
    Mutating,
}

impl PolicyKind {
    fn word(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingAdmissionPolicy",
            Self::Mutating => "MutatingAdmissionPolicy",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(rename = "do")]
    what: What,
    name: Option<String>,
    object: Option<Json>,
    old: Option<Json>,
    /// So many letters in `data.text`.
    #[serde(alias = "long")]
    text: Option<usize>,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum What {
    Create,
    Update,
    Delete,
}

/// What an API server or we say of a request.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    code: u16,
    reason: String,
    message: String,
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
    object: Option<Json>,
}

fn cases() -> Vec<Case> {
    written().into_iter().chain(made::cases()).collect()
}

fn written() -> Vec<Case> {
    serde_yaml_ng::from_str(include_str!("cases.yaml")).unwrap()
}

/// Merges what a case says over what all have.
fn over(mut all: Json, said: &Json) -> Json {
    match (&mut all, said) {
        (Json::Object(fields), Json::Object(said)) => {
            for (name, value) in said {
                let below = fields.remove(name).unwrap_or_default();
                fields.insert(name.clone(), over(below, value));
            }
            all
        }
        (_, said) => said.clone(),
    }
}

impl Case {
    /// The policy and its binding; only objects with the label of the case are theirs.
    fn policies(&self) -> [Json; 2] {
        let selector = json!({ "matchLabels": { "case": self.name } });
        let verbs = json!(["CREATE", "UPDATE"]);
        let own = json!({ "resourceRules": [
            { "apiGroups": [""], "apiVersions": ["v1"], "operations": verbs, "resources": ["configmaps"] },
        ]});
        let mut spec = self.spec.clone();
        let constraints = spec.get("matchConstraints").cloned().unwrap_or(own);
        spec["matchConstraints"] = over(json!({ "objectSelector": selector }), &constraints);
        if self.kind == PolicyKind::Mutating && spec.get("reinvocationPolicy").is_none() {
            spec["reinvocationPolicy"] = json!("Never");
        }
        let mut binding = self.binding.clone().unwrap_or_else(|| match self.kind {
            PolicyKind::Validating => json!({ "validationActions": ["Deny"] }),
            PolicyKind::Mutating => json!({}),
        });
        binding["policyName"] = json!(self.name);
        let word = self.kind.word();
        [
            json!({ "apiVersion": API, "kind": word, "metadata": { "name": self.name }, "spec": spec }),
            json!({ "apiVersion": API, "kind": format!("{word}Binding"), "metadata": { "name": self.name }, "spec": binding }),
        ]
    }

    fn object(
        &self,
        ask: &Ask,
        said: Option<&Json>,
        index: usize,
        namespace: &str,
    ) -> Option<Json> {
        if said.is_none() && ask.text.is_none() {
            return None;
        }
        let empty = json!({});
        let said = said.unwrap_or(&empty);
        let is_generated = said.pointer("/metadata/generateName").is_some();
        let mut metadata = json!({ "labels": { "case": self.name } });
        if !is_generated {
            let name = ask.name.clone().unwrap_or_else(|| format!("{}-{index}", self.name));
            metadata["name"] = json!(name);
        }
        let kind = said.get("kind").and_then(Json::as_str).unwrap_or("ConfigMap");
        if !["ClusterRole", "Namespace", "Limit"].contains(&kind) {
            metadata["namespace"] = json!(namespace);
        }
        let mut object =
            over(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }), said);
        if let Some(length) = ask.text {
            object["data"] = json!({ "text": "a".repeat(length) });
        }
        Some(object)
    }
}

/// The path of the objects of a kind, and of one of them.
fn path(object: &Json, named: bool) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    let root = match text("/apiVersion") {
        "v1" => "/api/v1".to_owned(),
        version => format!("/apis/{version}"),
    };
    let plural = format!("{}s", text("/kind").to_lowercase());
    let within = match text("/metadata/namespace") {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let name = if named { format!("/{}", text("/metadata/name")) } else { String::new() };
    format!("{root}{within}/{plural}{name}")
}

/// The policies of cases in a cluster; they go when this does.
struct Installed {
    api: Api,
    paths: Vec<String>,
}

impl Installed {
    fn new(bench: &Bench, cases: &[Case]) -> Self {
        let mut installed = Self { api: bench.api.clone(), paths: Vec::new() };
        for policy in cases.iter().flat_map(Case::policies) {
            let name = policy["metadata"]["name"].as_str().unwrap();
            installed.paths.push(format!("{}/{name}", plural_path(&policy)));
            bench.create(&policy);
        }
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = self.api.delete(path);
        }
    }
}

/// Kinds that the cases have and Kubernetes does not.
fn definitions() -> Vec<Json> {
    serde_yaml_ng::from_str(include_str!("definitions.yaml")).unwrap()
}

/// Definitions in a cluster; they go when this does, with all their objects.
struct Defined {
    api: Api,
    paths: Vec<String>,
}

impl Defined {
    fn new(bench: &Bench, definitions: &[Json]) -> Self {
        const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let mut defined = Self { api: bench.api.clone(), paths: Vec::new() };
        for definition in definitions {
            let path = format!("{PATH}/{}", definition["metadata"]["name"].as_str().unwrap());
            defined.paths.push(path);
            let made = bench.api.post(PATH, definition).unwrap();
            assert!(made.is_success(), "{}", made.text());
            let spec = &definition["spec"];
            let (group, plural) =
                (spec["group"].as_str().unwrap(), spec["names"]["plural"].as_str().unwrap());
            wait_until(PATIENCE, "the definition", || {
                let served = bench.api.get(&format!("/apis/{group}/v1/{plural}")).ok()?;
                served.is_success().then_some(())
            })
            .unwrap();
        }
        defined
    }
}

impl Drop for Defined {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = self.api.delete(path);
        }
    }
}

/// The path of policies or bindings.
fn plural_path(policy: &Json) -> String {
    let kind = policy["kind"].as_str().unwrap_or_default().to_lowercase();
    match kind.strip_suffix("policy") {
        Some(stem) => format!("/apis/{API}/{stem}policies"),
        None => format!("/apis/{API}/{kind}s"),
    }
}

/// A request that was sent, with the answer.
struct Sent {
    case: String,
    ours: Said,
    theirs: Said,
    audit_id: String,
}

struct Bench {
    cluster: Cluster,
    api: Api,
    namespace: TestNamespace,
    state: State,
    user: Json,
}

impl Bench {
    fn new(cluster: Cluster) -> Self {
        let api = cluster.api().unwrap();
        let namespace = cluster.namespace("policies").unwrap();
        let review =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let review =
            api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).unwrap();
        let user = review.json().unwrap()["status"]["userInfo"].clone();
        Self { cluster, api, namespace, state: State::default(), user }
    }

    fn create(&self, object: &Json) -> Json {
        let path = match object["kind"].as_str().unwrap_or_default() {
            kind if kind.contains("AdmissionPolicy") => plural_path(object),
            _ => path(object, false),
        };
        let made = self.api.post(&path, object).unwrap();
        assert!(made.is_success(), "{object}: {}", made.text());
        made.json().unwrap()
    }

    /// What the cluster holds, as a state knows it.
    fn record(&mut self, params: &[Json]) {
        let namespace =
            self.api.get(&format!("/api/v1/namespaces/{}", self.namespace.name())).unwrap();
        let mut objects = vec![namespace.json().unwrap()];
        for plural in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
            let list = self
                .api
                .get(&format!("/apis/rbac.authorization.k8s.io/v1/{plural}"))
                .unwrap()
                .json()
                .unwrap();
            let kind = list["kind"].as_str().unwrap().trim_end_matches("List").to_owned();
            for mut item in list["items"].as_array().cloned().unwrap_or_default() {
                item["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
                item["kind"] = json!(kind);
                objects.push(item);
            }
        }
        objects.extend_from_slice(params);
        let kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        let mut holds: Vec<Json> = kinds
            .iter()
            .map(|kind| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind }))
            .collect();
        holds.push(json!({ "apiVersion": "v1", "kind": "ConfigMap" }));
        holds.push(
            json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition" }),
        );
        holds.push(json!({ "apiVersion": "v1", "kind": "Node" }));
        objects.push(json!({ "apiVersion": nullius_model::API_VERSION, "kind": "RecordedState", "holds": holds }));
        for object in &objects {
            self.state.add(object).unwrap();
        }
    }

    fn ours(
        &self,
        set: &PolicySet,
        (case, what): (&Case, What),
        object: Option<&Json>,
        old: Option<&Json>,
    ) -> Said {
        let groups: Vec<String> = serde_json::from_value(self.user["groups"].clone()).unwrap();
        let person = Person {
            username: self.user["username"].as_str().unwrap(),
            groups: &groups,
            namespace: "default",
        };
        let object = object.filter(|_| what != What::Delete);
        let mut request = request_of(&self.state, object, old, &person).unwrap();
        request.user.extra = self.user["extra"].as_object().cloned().unwrap_or_default();
        request.dry_run = true;
        if let Some(options) = request.options.as_mut() {
            options["dryRun"] = json!(["All"]);
        }
        let decision = self
            .state
            .judge(set, &request)
            .unwrap_or_else(|lacking| panic!("{}: {lacking}", case.name));
        said(decision, &request)
    }

    /// `None` when there is no answer: the API server failed.
    fn theirs(
        &self,
        what: What,
        object: Option<&Json>,
        old: Option<&Json>,
    ) -> Option<(Said, Response)> {
        let object = object.or(old).unwrap();
        let dry = |path: String| format!("{path}?dryRun=All&fieldValidation=Ignore");
        let answer = match what {
            What::Create => self.api.post(&dry(path(object, false)), object),
            What::Update => self.api.put(&dry(path(object, true)), object),
            What::Delete => self.api.delete(&dry(path(object, true))),
        };
        let answer = answer.ok()?;
        let body = answer.json().unwrap();
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let warnings = answer.header("warning").map(unquoted).collect();
        let is_refused = !answer.is_success();
        let said = Said {
            code: if is_refused { answer.status } else { 200 },
            reason: if is_refused { text("reason") } else { String::new() },
            message: if is_refused { text("message") } else { String::new() },
            warnings,
            annotations: BTreeMap::new(),
            object: (!is_refused && what != What::Delete).then(|| without_servers_part(body)),
        };
        Some((said, answer))
    }
}

fn said(decision: Decision, request: &Request) -> Said {
    let refused = decision.refusal.is_some();
    let (code, reason, message) =
        decision.refusal.map_or((200, String::new(), String::new()), |refusal| {
            (refusal.code, refusal.reason, refusal.message)
        });
    let is_kept = !refused && request.operation != Operation::Delete;
    let object = decision.mutated.or_else(|| request.object.clone()).filter(|_| is_kept);
    Said {
        code,
        reason,
        message,
        warnings: as_headers(decision.warnings),
        annotations: decision.audit_annotations,
        object: object.map(without_servers_part),
    }
}

/// An object without what an API server adds after admission.
fn without_servers_part(mut object: Json) -> Json {
    if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
        for field in ["uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"]
        {
            metadata.remove(field);
        }
        if metadata.contains_key("generateName") {
            metadata.remove("name");
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if fields.get("kind") == Some(&json!("Namespace")) {
            fields.remove("spec");
            let labels =
                fields.get_mut("metadata").and_then(|metadata| metadata["labels"].as_object_mut());
            labels.map(|labels| labels.remove("kubernetes.io/metadata.name"));
        }
    }
    object
}

/// Warnings as an API server sends them: past 4,096 characters together each is cut to 256.
fn as_headers(warnings: Vec<String>) -> Vec<String> {
    const TOGETHER: usize = 4 * 1024;
    const EACH: usize = 256;
    let length = |text: &String| text.chars().count();
    if warnings.iter().map(length).sum::<usize>() <= TOGETHER {
        return warnings;
    }
    let mut sent: Vec<String> = Vec::new();
    for warning in warnings {
        if sent.iter().map(length).sum::<usize>() >= TOGETHER {
            break;
        }
        sent.push(warning.chars().take(EACH).collect());
    }
    sent
}

/// The text of a `Warning` header.
pub(crate) fn unquoted(header: &str) -> String {
    let text = header.split_once('"').map_or("", |(_, rest)| rest);
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            '"' => break,
            other => out.push(other),
        }
    }
    out
}

/// Annotations that policies made.
fn of_policies(annotations: &Map<String, Json>) -> BTreeMap<String, String> {
    let names: BTreeSet<String> = cases().into_iter().map(|case| case.name).collect();
    annotations
        .iter()
        .filter(|(key, _)| {
            let prefix = key.split('/').next().unwrap_or_default();
            prefix == "validation.policy.admission.k8s.io" || names.contains(prefix)
        })
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[test]
fn the_cases_are_policies_that_an_api_server_takes() {
    let mut wrong = Vec::new();
    for policy in cases().iter().flat_map(Case::policies) {
        if let Err(faults) = PolicySet::new(Version::minor(36)).add(&policy) {
            wrong.push(format!("{}: {faults:#?}", policy["metadata"]["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policies_decide_as_on_the_api_server() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let mut bench = Bench::new(cluster);
    let namespace = bench.namespace.name().to_owned();
    let all = cases();
    let mut params = definitions();
    let _defined = Defined::new(&bench, &params);
    bench.create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "reader", "namespace": namespace },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }],
    }));
    bench.create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "reads", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader" }],
    }));
    for case in &all {
        for param in &case.params {
            let mut base = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
            if param.get("kind").is_none() {
                base["metadata"]["namespace"] = json!(namespace);
            }
            let made = bench.create(&over(base, param));
            params.push(made);
        }
        // Objects that exist are made before a policy could refuse them.
        for (index, ask) in case.requests.iter().enumerate() {
            if let Some(old) =
                case.object(ask, ask.old.as_ref(), index, &namespace).filter(|_| ask.old.is_some())
            {
                bench.create(&old);
            }
        }
    }
    let mut set = PolicySet::new(Version::minor(36));
    for policy in all.iter().flat_map(Case::policies) {
        set.add(&policy).unwrap();
    }
    let _installed = Installed::new(&bench, &all);
    bench.record(&params);
    let mut sent = Vec::new();
    for case in &all {
        for (index, ask) in case.requests.iter().enumerate() {
            let object = case.object(ask, ask.object.as_ref(), index, &namespace);
            let object = object.filter(|_| ask.what != What::Delete);
            let old =
                case.object(ask, ask.old.as_ref(), index, &namespace).filter(|_| ask.old.is_some());
            let old = old.map(|old| bench.api.get(&path(&old, true)).unwrap().json().unwrap());
            let ours = bench.ours(&set, (case, ask.what), object.as_ref(), old.as_ref());
            // Policies and kinds take their time to be seen by the API server; what differs then differs.
            let is_first = sent.is_empty() || case.name.starts_with("crd");
            let patience = if is_first { PATIENCE } else { Duration::from_secs(20) };
            let expected = Said { annotations: BTreeMap::new(), ..ours.clone() };
            let mut last = None;
            let agreed = wait_until(patience, "the API server", || {
                let answer = bench.theirs(ask.what, object.as_ref(), old.as_ref());
                let is_same = match &answer {
                    Some((theirs, _)) => *theirs == expected,
                    None => expected.code == 500,
                };
                last = answer;
                is_same.then_some(())
            });
            let name =
                format!("{} {index}{}", case.name, if agreed.is_ok() { "" } else { " (still)" });
            match last {
                Some((theirs, answer)) => {
                    let audit_id = answer.header("audit-id").next().unwrap_or_default().to_owned();
                    sent.push(Sent { case: name, ours, theirs, audit_id });
                }
                None => {
                    assert!(agreed.is_ok(), "{name}: the API server failed, and we said {ours:?}")
                }
            }
        }
    }
    let ids: BTreeSet<String> = sent.iter().map(|sent| sent.audit_id.clone()).collect();
    let log = bench.cluster.audit_log().unwrap();
    let mut last = Ok(BTreeSet::new());
    let entries = wait_until(PATIENCE, "the audit log", || {
        let entries = log.entries_where(|line| ids.iter().any(|id| line.contains(id.as_str())));
        let entries: BTreeMap<String, Json> = match entries {
            Ok(entries) => entries
                .into_iter()
                .map(|entry| (entry.text("/auditID").to_owned(), entry.0))
                .filter(|(id, _)| ids.contains(id))
                .collect(),
            Err(error) => {
                last = Err(error);
                return None;
            }
        };
        last = Ok(ids.iter().filter(|id| !entries.contains_key(*id)).cloned().collect());
        (entries.len() == ids.len()).then_some(entries)
    });
    let entries = entries.unwrap_or_else(|error| {
        let missing = |id: &String| last.as_ref().is_ok_and(|missing| missing.contains(id));
        let whose: Vec<_> =
            sent.iter().filter(|sent| missing(&sent.audit_id)).map(|sent| &sent.case).collect();
        panic!("{error}: {last:?} of {whose:?}")
    });
    let mut different = Vec::new();
    for Sent { case, ours, mut theirs, audit_id } in sent {
        let annotations =
            entries[&audit_id]["annotations"].as_object().cloned().unwrap_or_default();
        theirs.annotations = of_policies(&annotations);
        if ours != theirs {
            different.push(format!("{case}\n  theirs: {theirs:?}\n  ours:   {ours:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
