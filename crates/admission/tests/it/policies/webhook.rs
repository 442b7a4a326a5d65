//! The same policies in the API server's own plugin and in the webhook, each for a namespace of its own: the same objects are
//! answered with the same code, reason, message and warnings, and left in the same form.
//!
//! They run where a test run has started clusters with agents (`cargo xtask test`). Beside the cases there are policies and objects
//! made at random.

use nullius_testkit::{Company, environment};
use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;

const SYSTEM: &str = "nullius-system";
const MAP: &str = "same-policies";
/// Random policies, and objects for each.
const POLICIES: usize = 60;
const OBJECTS: usize = 6;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Plugin,
    Webhook,
}

/// Whether a case is about objects of one namespace and nothing that only one side has.
fn is_of_one_namespace(case: &Case) -> bool {
    let kinds = ["ConfigMap", "Deployment", "Service"];
    let is_here = |object: &Json| {
        let kind = object.get("kind").and_then(Json::as_str).unwrap_or("ConfigMap");
        let is_named = object.pointer("/metadata/generateName").is_none();
        kinds.contains(&kind) && is_named && object.pointer("/metadata/namespace").is_none()
    };
    let objects = case.requests.iter().flat_map(|ask| ask.object.iter().chain(&ask.old));
    // A parameter in a namespace of its own name stands once, and a panic of the API server is no answer.
    let params = case.params.iter().all(is_here);
    let elsewhere = case
        .binding
        .as_ref()
        .is_some_and(|binding| binding.pointer("/paramRef/namespace").is_some());
    params && !elsewhere && objects.into_iter().all(is_here)
}

/// The policies of a case for one namespace alone.
fn of_namespace(case: &Case, namespace: &str) -> [Json; 2] {
    let mut policies = case.policies();
    let constraints = policies[0]["spec"]["matchConstraints"].take();
    let own = json!({ "namespaceSelector": { "matchExpressions": [
        { "key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace] },
    ] } });
    let said = constraints.pointer("/namespaceSelector/matchExpressions").and_then(Json::as_array);
    let mut expressions: Vec<Json> = said.cloned().unwrap_or_default();
    expressions.extend(
        own.pointer("/namespaceSelector/matchExpressions")
            .and_then(Json::as_array)
            .cloned()
            .unwrap(),
    );
    let mut constraints = over(constraints, &own);
    constraints["namespaceSelector"]["matchExpressions"] = Json::Array(expressions);
    policies[0]["spec"]["matchConstraints"] = constraints;
    policies
}

/// Cases of which an API server takes the policy: random expressions that are often wrong when they run.
fn random_cases() -> Vec<Case> {
    let name = || select(vec!["a", "b", "c"]);
    let value = prop_oneof![
        name().prop_map(|name| format!("object.data.{name}")),
        name().prop_map(|name| format!("object.metadata.labels.{name}")),
        Just("object.metadata.name".to_owned()),
        Just("'x'".to_owned()),
        Just("request.operation".to_owned()),
        Just("variables.word".to_owned()),
        Just("string(size(object.data))".to_owned()),
    ];
    let test =
        (value.clone(), value, name(), 0..5_u8).prop_map(|(one, two, name, form)| match form {
            0 => format!("{one} == {two}"),
            1 => format!("{one}.contains({two})"),
            2 => format!("has(object.data.{name}) && {one} != {two}"),
            3 => format!("size({one}) < 3 || {two}.matches('^[a-m]+$')"),
            _ => format!("int({one}) / (size({two}) - 1) >= 0"),
        });
    let test = test.prop_recursive(3, 12, 2, |inner| {
        (inner.clone(), inner, 0..4_u8).prop_map(|(one, two, form)| match form {
            0 => format!("({one}) && ({two})"),
            1 => format!("({one}) || ({two})"),
            2 => format!("!({one}) ? ({two}) : true"),
            _ => format!("['a', 'b'].exists(k, k in object.data && ({one}))"),
        })
    });
    let validation = (
        test.clone(),
        select(vec!["", "message", "expression", "broken"]),
        select(vec!["", "Forbidden", "Invalid"]),
    )
        .prop_map(|(test, message, reason)| {
            let mut validation = json!({ "expression": test });
            match message {
                "message" => validation["message"] = json!("it must not be"),
                "expression" => {
                    validation["messageExpression"] = json!("'not ' + object.metadata.name")
                }
                "broken" => validation["messageExpression"] = json!("object.data.missing"),
                _ => {}
            }
            if !reason.is_empty() {
                validation["reason"] = json!(reason);
            }
            validation
        });
    let case = (
        prop::collection::vec(validation, 1..3),
        prop::option::of(test),
        select(vec!["Fail", "Ignore"]),
        select(vec![
            json!(["Deny"]),
            json!(["Deny", "Audit"]),
            json!(["Warn"]),
            json!(["Warn", "Audit"]),
        ]),
    );
    let words = || select(vec!["", "a", "abc", "x", "7", "nine", "zz-top"]);
    let fields = || prop::collection::btree_map(name(), words(), 0..4);
    let mut runner = TestRunner::deterministic();
    let mut any = |strategy: BoxedStrategy<Case>| strategy.new_tree(&mut runner).unwrap().current();
    let objects = prop::collection::vec((fields(), fields()), OBJECTS);
    let strategy =
        (case, objects).prop_map(|((validations, condition, failure, actions), objects)| {
            let mut spec = json!({
                "failurePolicy": failure, "validations": validations,
                "variables": [{ "name": "word", "expression": "object.data.a" }],
            });
            if let Some(condition) = condition {
                let condition = condition.replace("variables.word", "'word'");
                spec["matchConditions"] = json!([{ "name": "some", "expression": condition }]);
            }
            let requests = objects.into_iter().map(|(data, labels)| Ask {
                what: What::Create,
                name: None,
                object: Some(json!({ "data": data, "metadata": { "labels": labels } })),
                old: None,
                text: None,
            });
            Case {
                name: String::new(),
                kind: PolicyKind::Validating,
                params: Vec::new(),
                spec,
                binding: Some(json!({ "validationActions": actions })),
                requests: requests.collect(),
            }
        });
    let strategy = strategy.boxed();
    let all = (0..POLICIES).map(|number| {
        let mut case = any(strategy.clone());
        case.name = format!("random-{number}");
        case
    });
    let all: Vec<Case> = all.collect();
    // What the API server refuses to take is compared elsewhere.
    let is_taken =
        |case: &Case| PolicySet::new(Version::minor(36)).add(&case.policies()[0]).is_ok();
    all.into_iter().filter(is_taken).collect()
}

struct Room {
    side: Side,
    bench: Bench,
    namespace: String,
}

impl Room {
    fn open(side: Side, cluster: Cluster, cases: &[Case]) -> Self {
        let bench = Bench::new(cluster);
        let namespace = bench.namespace.name().to_owned();
        let room = Self { side, bench, namespace };
        room.furnish(cases);
        room
    }

    /// Accounts, parameters, and objects that are there before a policy could refuse them.
    fn furnish(&self, cases: &[Case]) {
        let (bench, namespace) = (&self.bench, &self.namespace);
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
        for case in cases {
            for param in &case.params {
                let base = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": namespace } });
                bench.create(&over(base, param));
            }
            for (index, ask) in case.requests.iter().enumerate() {
                let old = case.object(ask, ask.old.as_ref(), index, namespace);
                if let Some(old) = old.filter(|_| ask.old.is_some()) {
                    bench.create(&old);
                }
            }
        }
    }

    /// What is said of a request, without what only tells who says it.
    fn ask(&self, case: &Case, ask: &Ask, index: usize) -> Option<Said> {
        let object = case.object(ask, ask.object.as_ref(), index, &self.namespace);
        let object = object.filter(|_| ask.what != What::Delete);
        let old = case.object(ask, ask.old.as_ref(), index, &self.namespace);
        let old = old.filter(|_| ask.old.is_some());
        let old = old.map(|old| self.bench.api.get(&path(&old, true)).unwrap().json().unwrap());
        let (mut said, _) = self.bench.theirs(ask.what, object.as_ref(), old.as_ref())?;
        let plain = |text: &str| {
            let text = match text.split_once(".admission.nullius.dev\" denied the request: ") {
                Some((_, told)) if self.side == Side::Webhook => told,
                _ => text,
            };
            text.replace(&self.namespace, "NAMESPACE")
        };
        said.message = plain(&said.message);
        said.warnings = said.warnings.iter().map(|warning| plain(warning)).collect();
        said.object =
            said.object.map(|object| serde_json::from_str(&plain(&object.to_string())).unwrap());
        Some(said)
    }
}

/// Policies in the webhook's hands; they go when this does.
struct Handed(Api);

impl Handed {
    fn new(bench: &Bench, cases: &[Case], namespace: &str) -> Self {
        let mut data = Map::new();
        for case in cases {
            let policies = of_namespace(case, namespace);
            let text: Vec<String> = policies.iter().map(Json::to_string).collect();
            data.insert(format!("{}.yaml", case.name), json!(text.join("\n---\n")));
        }
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": MAP, "namespace": SYSTEM, "labels": { "nullius.dev/admission-policies": "true" } },
            "data": data,
        });
        let _ = bench.api.delete(&format!("/api/v1/namespaces/{SYSTEM}/configmaps/{MAP}"));
        bench.create(&map);
        Self(bench.cluster.api().unwrap())
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let _ = self.0.delete(&format!("/api/v1/namespaces/{SYSTEM}/configmaps/{MAP}"));
    }
}

/// The last of the policies: when it refuses, those before it are known too.
fn last() -> Case {
    Case {
        name: "zz-last".to_owned(),
        kind: PolicyKind::Validating,
        params: Vec::new(),
        spec: json!({ "validations": [{ "expression": "false", "message": "the last policy" }] }),
        binding: None,
        requests: vec![Ask {
            what: What::Create,
            name: None,
            object: Some(json!({})),
            old: None,
            text: None,
        }],
    }
}

#[test]
fn the_webhook_answers_as_the_api_servers_own_plugin_does() {
    let (Some(plugin), Some(webhook)) = (shared(Profile::Standard), shared(Profile::Standard))
    else {
        return;
    };
    let Some(_) = environment() else { return };
    // End-to-end tests take the webhook away for a while.
    let _turn = webhook.turn(Company::Together).unwrap();
    let known: Vec<Case> = written().into_iter().filter(is_of_one_namespace).collect();
    assert!(known.len() >= 90, "{} cases are of one namespace", known.len());
    let mut all = known;
    all.extend(random_cases());
    assert!(all.len() >= 120, "{} with those at random", all.len());
    all.push(last());

    let plugin = Room::open(Side::Plugin, plugin, &all);
    let webhook = Room::open(Side::Webhook, webhook, &all);
    let handed = Handed::new(&webhook.bench, &all, &webhook.namespace);
    let mut installed = Installed { api: plugin.bench.cluster.api().unwrap(), paths: Vec::new() };
    for policy in all.iter().flat_map(|case| of_namespace(case, &plugin.namespace)) {
        let name = policy["metadata"]["name"].as_str().unwrap();
        installed.paths.push(format!("{}/{name}", plural_path(&policy)));
        plugin.bench.create(&policy);
    }
    let last = last();
    for room in [&plugin, &webhook] {
        let known = wait_until(PATIENCE, "the last policy", || {
            let said = room.ask(&last, &last.requests[0], 0)?;
            said.message.contains("the last policy").then_some(())
        });
        known.unwrap_or_else(|error| panic!("{error}: {:?}", room.side));
    }
    let (mut different, mut asked, mut refused) = (Vec::new(), 0, 0);
    for case in &all {
        for (index, ask) in case.requests.iter().enumerate() {
            let mut both = (None, None);
            // What a cache of either side has not seen yet is asked again.
            let same = wait_until(Duration::from_secs(20), "the same answer", || {
                both = (plugin.ask(case, ask, index), webhook.ask(case, ask, index));
                // An API server that fails at an expression gives no answer; we do, and it is no.
                let is_same = match &both {
                    (None, Some(said)) => said.code == 500,
                    (plugin, webhook) => plugin == webhook,
                };
                is_same.then_some(())
            });
            asked += 1;
            refused += usize::from(both.0.as_ref().is_some_and(|said| said.code != 200));
            if same.is_err() {
                different.push(format!(
                    "{} {index}\n  plugin:  {:?}\n  webhook: {:?}",
                    case.name, both.0, both.1
                ));
            }
        }
    }
    drop((handed, installed));
    assert!(
        different.is_empty(),
        "{} of {asked} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    assert!(asked > 300 && refused > 60, "{asked} asked, {refused} refused");
}
