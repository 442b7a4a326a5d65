#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]
use nullius_model::Timestamp;
use nullius_policy::admission_policy::{Need, Version};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const NAMED: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: team}
spec:
  failurePolicy: FAILURE
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
  validations: [{expression: EXPRESSION, message: a team must be named}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: team}
spec: {policyName: team, validationActions: [Deny]}
";

fn named(expression: &str) -> String {
    NAMED.replace("FAILURE", "Fail").replace("EXPRESSION", &json!(expression).to_string())
}

fn file(name: &str, text: impl Into<String>) -> PolicyFile {
    PolicyFile { name: name.to_owned(), text: text.into() }
}

fn in_force(files: &[PolicyFile]) -> InForce {
    InForce::compile(files, Version::LATEST).unwrap()
}

fn engine(text: impl Into<String>) -> Engine {
    Engine::new(in_force(&[file("policies/a.yaml", text)]).into(), []).0
}

fn review(object: Json) -> Json {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "c",
            "kind": { "group": "", "version": "v1", "kind": "ConfigMap" },
            "resource": { "group": "", "version": "v1", "resource": "configmaps" },
            "userInfo": { "username": "ada", "groups": ["dev"] },
            "object": object,
        },
    })
}

fn config_map(labels: Json) -> Json {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "shop", "labels": labels } })
}

/// Asks an entry; namespaces have a label, other facts fail.
fn ask(engine: &Engine, entry: Entry, body: &[u8], late: bool) -> Json {
    let answered = match Review::read(entry, body) {
        Err(NotRead { uid, told }) => refuse(&uid.expect("a uid"), &told),
        Ok(mut review) => loop {
            match review.step(engine, Timestamp::UNIX_EPOCH, &|| late) {
                Step::Decided(judged) => break answer(review.uid(), *judged),
                Step::Fetch(needs) => {
                    for need in needs {
                        let fact = match &need {
                            Need::Namespace(name) => {
                                let namespace = json!({
                                    "apiVersion": "v1", "kind": "Namespace",
                                    "metadata": { "name": name, "labels": { "tier": "gold" } },
                                });
                                Ok(Fact::Namespace(Some(namespace.into())))
                            }
                            _ => Err("the API server is away".to_owned()),
                        };
                        review.learn(need, fact);
                    }
                }
            }
        },
    };
    let body: Json = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!(body["response"]["allowed"], answered.judged.decision.is_allowed());
    body["response"].clone()
}

fn asked(engine: &Engine, entry: Entry, object: Json) -> Json {
    ask(engine, entry, review(object).to_string().as_bytes(), false)
}

#[test]
fn a_policy_denies_as_the_api_servers_own_plugin_does() {
    let engine = engine(named("has(object.metadata.labels.team)"));
    let denied = asked(&engine, Entry::ValidateFail, config_map(json!({})));
    assert_eq!(denied["uid"], "u-1");
    assert_eq!((&denied["allowed"], &denied["status"]["code"]), (&json!(false), &json!(422)));
    assert_eq!(
        denied["status"]["message"],
        "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'team' with binding 'team' denied request: a team must be named"
    );
    let passed = asked(&engine, Entry::ValidateFail, config_map(json!({ "team": "x" })));
    assert_eq!(passed, json!({ "uid": "u-1", "allowed": true }));
}

#[test]
fn each_entry_asks_its_own_policies_and_has_rules_for_no_others() {
    let engine = engine(named("false"));
    let in_force = engine.in_force();
    assert_eq!(
        in_force.rules(Entry::ValidateFail),
        [
            json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"], "scope": "*" })
        ]
    );
    for other in [Entry::ValidateIgnore, Entry::MutateFail, Entry::MutateIgnore] {
        assert!(in_force.rules(other).is_empty());
        assert_eq!(asked(&engine, other, config_map(json!({})))["allowed"], true);
    }
    let ignored = Engine::new(
        in_force_of(&NAMED.replace("FAILURE", "Ignore").replace("EXPRESSION", "'false'")).into(),
        [],
    );
    assert!(ignored.0.in_force().rules(Entry::ValidateFail).is_empty());
    assert_eq!(asked(&ignored.0, Entry::ValidateIgnore, config_map(json!({})))["allowed"], false);
}

fn in_force_of(text: &str) -> InForce {
    in_force(&[file("policies/a.yaml", text)])
}

#[test]
fn a_policy_that_no_binding_names_is_for_nothing() {
    let policy = named("false").split("---").next().unwrap().to_owned();
    let in_force = in_force_of(&policy);
    assert!(in_force.rules(Entry::ValidateFail).is_empty());
    assert_eq!(in_force.counts(), (0, 0, 1));
}

#[test]
fn a_mutation_comes_as_a_patch_that_keys_name_once() {
    let text = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: stamp}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: Object.metadata.labels{stamped: \"yes\"}}}'}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: stamp}
spec: {policyName: stamp}
";
    let engine = engine(text);
    let response = asked(&engine, Entry::MutateFail, config_map(json!({ "a": "b" })));
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        response["patch"].as_str().unwrap(),
    );
    let patch: Json = serde_json::from_slice(&patch.unwrap()).unwrap();
    assert_eq!(patch, json!([{ "op": "add", "path": "/metadata/labels/stamped", "value": "yes" }]));
}

#[test]
fn a_broken_policy_denies_by_name_what_it_would_be_for() {
    let in_force = in_force_of(&named("object.metadata.("));
    assert_eq!(in_force.counts(), (0, 1, 0));
    let [trouble] = in_force.troubles() else { panic!("{:?}", in_force.troubles()) };
    assert_eq!(trouble.what, "ValidatingAdmissionPolicy/team");
    assert!(trouble.to_string().contains("refuses whatever it would be for"), "{trouble}");
    let engine = Engine::new(in_force.into(), []).0;
    assert!(!engine.in_force().rules(Entry::ValidateFail).is_empty());
    let denied = asked(&engine, Entry::ValidateFail, config_map(json!({ "team": "x" })));
    let message = denied["status"]["message"].as_str().unwrap();
    assert!(message.contains("'team'") && message.contains("cannot be used"), "{message}");
}

#[test]
fn a_name_that_stands_twice_and_a_broken_binding_deny_too() {
    let twice = in_force(&[file("a/x", named("true")), file("b/x", named("true"))]);
    let engine = Engine::new(twice.into(), []).0;
    assert_eq!(asked(&engine, Entry::ValidateFail, config_map(json!({})))["allowed"], false);
    assert_eq!(engine.in_force().troubles().len(), 4, "{:?}", engine.in_force().troubles());

    let broken = named("true").replace("validationActions: [Deny]", "validationActions: [Dany]");
    let engine = Engine::new(in_force_of(&broken).into(), []).0;
    let denied = asked(&engine, Entry::ValidateFail, config_map(json!({})));
    let message = denied["status"]["message"].as_str().unwrap();
    assert!(message.contains("its binding `team` cannot be used"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_line() {
    let good = file("a/x", named("true"));
    for (text, line) in [
        ("a: [", 1),
        ("kind: Thing\n", 1),
        (
            "---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: b}\nspec: {}\n",
            2,
        ),
        (
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {}\nspec: {}\n",
            1,
        ),
    ] {
        let faults = InForce::compile(&[good.clone(), file("b/y", text)], Version::LATEST);
        let faults = faults.unwrap_err();
        assert_eq!((faults[0].file.as_str(), faults[0].line), ("b/y", line), "{faults:?}");
    }
}

#[test]
fn parameters_that_come_with_policies_are_found_by_name_and_namespace() {
    use nullius_policy::admission_policy::{Kind, ParamQuery, Pick};
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits, namespace: shop}\ndata: {most: '3'}\n";
    let in_force = in_force_of(text);
    let query = |namespace: &str, name: &str| ParamQuery {
        kind: Kind::new("v1", "ConfigMap"),
        namespace: Some(namespace.to_owned()),
        pick: Pick::Named(name.to_owned()),
    };
    assert_eq!(in_force.params(&query("shop", "limits")).len(), 1);
    assert!(in_force.params(&query("other", "limits")).is_empty());
}

#[test]
fn a_fact_that_cannot_be_fetched_denies_whatever_the_failure_policy_is() {
    // CVE-2025-46342: a namespace that could not be looked up counted as one without labels.
    let selects = NAMED
        .replace(
            "matchConstraints:",
            "matchConstraints:\n    namespaceSelector: {matchLabels: {tier: gold}}",
        )
        .replace("EXPRESSION", "'true'");
    for (failure, entry) in [("Fail", Entry::ValidateFail), ("Ignore", Entry::ValidateIgnore)] {
        let engine = engine(selects.replace("FAILURE", failure));
        let body = review(config_map(json!({}))).to_string();
        let mut review = Review::read(entry, body.as_bytes()).unwrap();
        let Step::Fetch(needs) = review.step(&engine, Timestamp::UNIX_EPOCH, &|| false) else {
            panic!("it needs nothing")
        };
        for need in needs {
            review.learn(need, Err("the API server is away".to_owned()));
        }
        let Step::Decided(judged) = review.step(&engine, Timestamp::UNIX_EPOCH, &|| false) else {
            panic!("it needs more")
        };
        let refusal = judged.outcome.refusal.unwrap();
        assert_eq!(refusal.code, 500);
        assert!(refusal.message.contains("the namespace `shop`"), "{}", refusal.message);
        assert_eq!(asked(&engine, entry, config_map(json!({})))["allowed"], true);
    }
}

#[test]
fn questions_that_depend_on_answers_are_asked_one_after_the_other() {
    use nullius_policy::admission_policy::authz::Verdict;
    let check = |n: usize| format!("authorizer.path('/{n}').check('get').allowed()");
    // Two checks are as much as one expression may cost.
    let expressions = |count: usize| -> String {
        let two =
            |n: usize| json!({ "expression": format!("{} && {}", check(2 * n), check(2 * n + 1)) });
        let all: Vec<Json> = (0..count).map(two).collect();
        NAMED.replace("FAILURE", "Fail").replace(
            "[{expression: EXPRESSION, message: a team must be named}]",
            &Json::Array(all).to_string(),
        )
    };
    let asks = |count: usize| {
        let engine = engine(expressions(count));
        assert!(engine.in_force().troubles().is_empty(), "{:?}", engine.in_force().troubles());
        let body = review(config_map(json!({}))).to_string();
        let mut review = Review::read(Entry::ValidateFail, body.as_bytes()).unwrap();
        let mut rounds = 0;
        loop {
            match review.step(&engine, Timestamp::UNIX_EPOCH, &|| false) {
                Step::Decided(judged) => return (rounds, judged.decision.is_allowed()),
                Step::Fetch(needs) => {
                    rounds += 1;
                    for need in needs {
                        let fact = match &need {
                            Need::Namespace(_) => {
                                Fact::Namespace(Some(json!({ "metadata": {} }).into()))
                            }
                            _ => Fact::Access(Verdict::Allow { reason: String::new() }),
                        };
                        review.learn(need, Ok(fact));
                    }
                }
            }
        }
    };
    let (rounds, allowed) = asks(6);
    // The first check of every expression; the second ones. Nobody looks at the namespace.
    assert_eq!((rounds, allowed), (2, true));
}

#[test]
fn an_answer_that_comes_too_late_is_no_also_where_errors_are_ignored() {
    let engine = engine(NAMED.replace("FAILURE", "Ignore").replace("EXPRESSION", "'true'"));
    let body = review(config_map(json!({}))).to_string();
    let denied = ask(&engine, Entry::ValidateIgnore, body.as_bytes(), true);
    assert_eq!(denied["allowed"], false);

    // A late moment that comes while an expression runs.
    let slow = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, a + b + c > 0)))";
    let engine = self::engine(
        NAMED.replace("FAILURE", "Ignore").replace("EXPRESSION", &json!(slow).to_string()),
    );
    let times = std::cell::Cell::new(0);
    let mut review = Review::read(Entry::ValidateIgnore, body.as_bytes()).unwrap();
    let step = loop {
        times.set(0);
        let step = review.step(&engine, Timestamp::UNIX_EPOCH, &|| {
            times.set(times.get() + 1);
            times.get() > 3
        });
        match step {
            Step::Fetch(needs) => {
                for need in needs {
                    review.learn(need, Ok(Fact::Namespace(Some(json!({ "metadata": {} }).into()))));
                }
            }
            Step::Decided(judged) => break judged,
        }
    };
    assert!(!step.decision.is_allowed());
}

#[test]
fn what_takes_long_can_be_given_up_and_asked_again_from_the_beginning() {
    let slow = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, a + b + c > 0)))";
    let engine =
        engine(NAMED.replace("FAILURE", "Ignore").replace("EXPRESSION", &json!(slow).to_string()));
    let body = review(config_map(json!({}))).to_string();
    let mut review = Review::read(Entry::ValidateIgnore, body.as_bytes()).unwrap();
    let shop = Fact::Namespace(Some(json!({ "metadata": {} }).into()));
    review.learn(Need::Namespace("shop".to_owned()), Ok(shop));
    let at = Timestamp::UNIX_EPOCH;
    for looks in 0..8 {
        // Whether it is long is looked at between policies and within expressions.
        let seen = std::cell::Cell::new(0);
        let is_long = || {
            seen.set(seen.get() + 1);
            seen.get() > looks
        };
        assert!(review.brief_step(&engine, at, &|| false, &is_long).is_none(), "{looks}");
        assert!(seen.get() > looks);
    }
    let decided = |step: Option<Step>| match step {
        Some(Step::Decided(judged)) => judged.decision.is_allowed(),
        other => panic!("{other:?}"),
    };
    assert!(decided(review.brief_step(&engine, at, &|| false, &|| false)));
    assert!(decided(Some(review.step(&engine, at, &|| false))));
    // Who is late has an answer, which is no.
    assert!(!decided(review.brief_step(&engine, at, &|| true, &|| true)));
}

#[test]
fn policies_that_come_in_the_place_of_others_keep_the_programs_of_both() {
    let file = |text: String| [file("policies/a.yaml", text)];
    let version = Version::LATEST;
    let before = in_force(&file(named("true")));
    let count = before.programs().len();
    let same = before.replaced(&file(named("true")), version).unwrap();
    assert_eq!(same.programs().len(), count);
    let other = before.replaced(&file(named("1 == 1")), version).unwrap();
    assert_eq!(other.programs().len(), count + 1);
    drop((before, same));
    assert_eq!(other.programs().len(), count);
}

#[test]
fn a_review_is_read_in_one_way_or_denied_under_its_uid() {
    let engine = engine(named("true"));
    let good = review(config_map(json!({}))).to_string();
    let denied = |body: &str| {
        let response = ask(&engine, Entry::ValidateFail, body.as_bytes(), false);
        assert_eq!(response["allowed"], false, "{response}");
        response["status"]["message"].as_str().unwrap().to_owned()
    };
    // The keys of serde_json's maps are sorted; the API server writes the uid before the object.
    let head =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","#;
    let tail = good.split_once(r#""request":{"#).unwrap().1;
    let with = |more: &str| format!("{head}{more}{}", tail.replace(r#","uid":"u-1""#, ""));
    assert!(denied(&with(r#""operation":"CREATE","#)).contains("`operation` stands twice"));
    assert!(denied(&with(r#""oldobject":{},"oldObject":{},"#)).contains("stands twice"));
    assert!(denied(&with(r#""options":{"a":{"b":1,"b":2}},"#)).contains("`b` stands twice"));
    let deep = format!(r#""options":{}1{},"#, "[".repeat(200), "]".repeat(200));
    assert!(denied(&with(&deep)).contains("recursion limit"));
    let long = format!(r#""options":{{"a":"{}"}},"#, "x".repeat(BODY_MAX));
    assert!(denied(&with(&long)).contains("longer than"));
    assert!(denied(&with("")[..head.len()]).contains("EOF"));
    assert!(
        denied(&good.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"))
            .contains("no `AdmissionReview`")
    );
    assert!(denied(&good.replace("CREATE", "PATCH")).contains("operation"));
    for nameless in [
        good.replace("\"uid\":\"u-1\"", "\"uid\":7"),
        good.replace("\"uid\":\"u-1\"", "\"uid\":\"\""),
        good.replace(",\"uid\":\"u-1\"", ""),
        String::new(),
        "[]".to_owned(),
    ] {
        assert_eq!(
            Review::read(Entry::ValidateFail, nameless.as_bytes()).unwrap_err().uid,
            None,
            "{nameless}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused_and_what_is_read_is_the_same(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        cut in 0_usize..600,
    ) {
        let _ = Review::read(Entry::ValidateFail, &bytes);
        let good = review(config_map(json!({ "a": "b" }))).to_string();
        let (cut, whole) = (&good[..cut.min(good.len())], cut >= good.len());
        prop_assert_eq!(Review::read(Entry::ValidateFail, cut.as_bytes()).is_ok(), whole);
        let read = json::read(good.as_bytes()).unwrap().0;
        prop_assert_eq!(read, serde_json::from_str::<Json>(&good).unwrap());
    }
}

/// A pod of many containers that break `restricted`, in a namespace that enforces it.
fn crowd(containers: usize) -> (Review, Json) {
    let containers: Vec<Json> = (0..containers)
        .map(|at| json!({ "name": format!("{}-{at}", "c".repeat(50)), "image": "a" }))
        .collect();
    let mut body = review(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "c" }, "spec": { "containers": containers },
    }));
    body["request"]["kind"]["kind"] = "Pod".into();
    body["request"]["resource"]["resource"] = "pods".into();
    let namespace = json!({ "metadata": {
        "name": "shop", "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
    } });
    (Review::read(Entry::PodSecurity, body.to_string().as_bytes()).unwrap(), namespace)
}

#[test]
fn a_pod_is_measured_in_time_or_refused_and_what_is_told_of_it_has_an_end() {
    let engine = engine(named("true"));
    let now = Timestamp::UNIX_EPOCH;
    let (review, namespace) = crowd(2_000);
    let measured =
        |late: bool, long: bool| review.measure(&engine, &namespace, now, &|| late, &|| long);
    let told = |step: Option<Step>| match step.unwrap() {
        Step::Decided(judged) => judged,
        Step::Fetch(_) => panic!("nothing is to be fetched"),
    };
    assert!(measured(false, true).is_none(), "whoever has no time for it hands it over");
    let late = told(measured(true, false));
    assert!(!late.decision.is_allowed());
    assert!(late.decision.explanation.sentence.contains("longer than the API server waits"));
    let refused = told(measured(false, false));
    let message = refused.outcome.refusal.unwrap().message;
    assert!(message.starts_with("pods \"c\" is forbidden: violates PodSecurity"));
    assert!(message.len() < 20_000 && message.ends_with(" …"), "{}", message.len());
    let lengths = refused.outcome.violations.iter().map(|found| found.message.len());
    assert!(lengths.max().unwrap() < 5_000);
}
