//! What mutations make: patches, merges, second passes, errors.

use nullius_policy::admission_policy::Need;
use serde_json::{Value as Json, json};

use super::{Bench, bound, mutation, named_mutation};

fn patch(expression: &str) -> String {
    mutation(&format!(
        "mutations:\n- patchType: JSONPatch\n  jsonPatch:\n    expression: '{expression}'"
    ))
}

fn apply(expression: &str) -> String {
    mutation(&format!(
        "mutations:\n- patchType: ApplyConfiguration\n  applyConfiguration:\n    expression: '{expression}'"
    ))
}

fn object(policies: &str) -> Json {
    let decision = Bench::new(policies).decide();
    assert_eq!(decision.refusal, None);
    decision.mutated.unwrap()
}

fn told(policies: &str) -> (u16, String, String) {
    Bench::new(policies).refusal().unwrap()
}

#[test]
fn a_json_patch_changes_the_object() {
    let decision = Bench::new(&patch(
        "[JSONPatch{op: \"add\", path: \"/metadata/labels/by\", value: request.userInfo.username}, JSONPatch{op: \"replace\", path: \"/spec/containers/0/image\", value: \"b\"}]",
    ))
    .decide();
    let object = decision.mutated.unwrap();
    assert_eq!(object["metadata"]["labels"], json!({ "app": "web", "by": "ada" }));
    assert_eq!(
        decision.patch,
        [
            json!({ "op": "add", "path": "/metadata/labels/by", "value": "ada" }),
            json!({ "op": "replace", "path": "/spec/containers/0/image", "value": "b" }),
        ]
    );
    let run = &decision.trace[0].bindings[0].runs[0];
    assert_eq!((run.mutations.len(), decision.trace[0].kind), (1, "MutatingAdmissionPolicy"));
}

#[test]
fn a_namespace_is_asked_for_by_mutations_that_look_at_it_and_no_others() {
    let hostname = |expression: &str| {
        let step =
            format!("JSONPatch{{op: \"add\", path: \"/spec/hostname\", value: {expression}}}");
        Bench::new(&patch(&format!("[{step}]")))
    };
    let mut plain = hostname("\"a\"");
    "unheard".clone_into(&mut plain.request.namespace);
    assert_eq!(plain.decide().mutated.unwrap()["spec"]["hostname"], "a");
    "gone".clone_into(&mut plain.request.namespace);
    assert_eq!(plain.refusal().unwrap().0, 404);
    let mut looking = hostname("namespaceObject.metadata.name");
    "unheard".clone_into(&mut looking.request.namespace);
    assert_eq!(looking.needs(), [Need::Namespace("unheard".to_owned())]);
}

#[test]
fn a_policy_that_moves_an_object_to_another_namespace_ends_the_request() {
    let moved = patch("[JSONPatch{op: \"add\", path: \"/metadata/namespace\", value: \"other\"}]");
    let message =
        "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(told(&moved), (400, "BadRequest".to_owned(), message.to_owned()));
}

#[test]
fn patches_carry_values_of_all_kinds() {
    let value = |expression: &str| {
        object(&patch(&format!(
            "[JSONPatch{{op: \"add\", path: \"/spec/x\", value: {expression}}}]"
        )))["spec"]["x"]
            .clone()
    };
    assert_eq!(value("1"), json!(1));
    assert_eq!(value("1.5"), json!(1.5));
    assert_eq!(value("2.0"), json!(2));
    assert_eq!(value("9007199254740993"), json!("9007199254740993"));
    assert_eq!(value("null"), json!(null));
    assert_eq!(value("[1, 2]"), json!([1, 2]));
    assert_eq!(value("{\"a\": \"b\"}"), json!({ "a": "b" }));
    assert_eq!(value("Object{a: 1, b: Object.b{c: \"d\"}}"), json!({ "a": 1, "b": { "c": "d" } }));
    assert_eq!(value("object.metadata.labels"), json!({ "app": "web" }));
    assert_eq!(value("b\"hi\""), json!("aGk="));
    assert_eq!(value("Object{a: 9007199254740993}"), json!({ "a": 9_007_199_254_740_992.0 }));
    assert_eq!(value("Object{a: [Object.a{b: 1}]}"), json!({ "a": [{ "b": 1 }] }));
    // An API server ends such a request without an answer.
    let (code, _, message) =
        told(&patch("[JSONPatch{op: \"add\", path: \"/spec/x\", value: [Object{a: 1}]}]"));
    assert!(code == 500 && message.contains("on which API servers fail"), "{message}");
}

#[test]
fn a_failing_test_skips_the_patch_and_other_failures_refuse() {
    let with = |steps: &str| patch(&format!("[{steps}]"));
    let skipped = with(
        "JSONPatch{op: \"add\", path: \"/spec/x\", value: 1}, JSONPatch{op: \"test\", path: \"/spec/hostname\", value: \"b\"}",
    );
    assert_eq!(object(&skipped)["spec"].get("x"), None);
    let (code, reason, message) =
        told(&with("JSONPatch{op: \"remove\", path: \"/spec/hostname\"}"));
    assert_eq!((code, reason.as_str()), (403, "Invalid"));
    assert_eq!(
        message,
        "policy 'p' with binding 'b' denied request: JSON Patch: error in remove for path: '/spec/hostname': Unable to remove \
         nonexistent key: hostname: missing value"
    );
    let ignored = with("JSONPatch{op: \"remove\", path: \"/spec/hostname\"}").replacen(
        "spec:\n",
        "spec:\n  failurePolicy: Ignore\n",
        1,
    );
    assert_eq!(Bench::new(&ignored).refusal(), None);
    let (code, reason, message) =
        told(&with("JSONPatch{op: \"add\", path: \"/spec/nonsense\", value: 1}"));
    assert_eq!((code, reason.as_str()), (500, "InternalError"));
    assert_eq!(
        message,
        "Internal error occurred: strict decoding error: unknown field \"spec.nonsense\""
    );
    let (_, _, message) =
        told(&patch("[JSONPatch{op: \"add\", path: \"/x\", value: object.nothing}]"));
    assert!(message.contains("resulted in error: no such key: nothing"), "{message}");
}

#[test]
fn patches_go_by_escaped_keys_and_places() {
    let spec = |steps: &str| object(&patch(&format!("[{steps}]")));
    let made = spec(
        "JSONPatch{op: \"add\", path: \"/metadata/annotations\", value: {\"a\": \"b\"}}, JSONPatch{op: \"add\", path: \"/metadata/annotations/\" + jsonpatch.escapeKey(\"x.io/~y\"), value: \"1\"}",
    );
    assert_eq!(made["metadata"]["annotations"], json!({ "a": "b", "x.io/~y": "1" }));
    let list = |steps: &str| {
        spec(&format!("JSONPatch{{op: \"add\", path: \"/spec/l\", value: [1, 2, 3]}}, {steps}"))["spec"]["l"].clone()
    };
    assert_eq!(list("JSONPatch{op: \"add\", path: \"/spec/l/-\", value: 4}"), json!([1, 2, 3, 4]));
    assert_eq!(list("JSONPatch{op: \"add\", path: \"/spec/l/0\", value: 0}"), json!([0, 1, 2, 3]));
    assert_eq!(list("JSONPatch{op: \"remove\", path: \"/spec/l/-1\"}"), json!([1, 2]));
    assert_eq!(
        list("JSONPatch{op: \"move\", from: \"/spec/l/0\", path: \"/spec/l/2\"}"),
        json!([2, 3, 1])
    );
    assert_eq!(
        list("JSONPatch{op: \"copy\", from: \"/spec/l/0\", path: \"/spec/l/-\"}"),
        json!([1, 2, 3, 1])
    );
    let outside =
        told(&patch("[JSONPatch{op: \"replace\", path: \"/spec/containers/4\", value: 1}]")).2;
    assert!(outside.ends_with("replace operation does not apply: doc is missing key: /spec/containers/4: missing value"), "{outside}");
    let kind = told(&patch("[JSONPatch{op: \"eat\", path: \"/spec\"}]")).2;
    assert!(kind.ends_with("JSON Patch: Unexpected kind: eat"), "{kind}");
}

#[test]
fn a_configuration_is_merged_by_the_keys_of_lists() {
    let made = object(&apply(
        "Object{metadata: Object.metadata{labels: Object.metadata.labels{by: \"me\"}, finalizers: [\"x\"]}, spec: Object.spec{hostname: \"h\", containers: [Object.spec.containers{name: \"side\", image: \"s\"}, Object.spec.containers{name: \"a\", ports: [Object.spec.containers.ports{containerPort: 80}]}]}}",
    ));
    assert_eq!(made["metadata"]["labels"], json!({ "app": "web", "by": "me" }));
    assert_eq!(made["metadata"]["finalizers"], json!(["x"]));
    assert_eq!(made["spec"]["hostname"], json!("h"));
    assert_eq!(
        made["spec"]["containers"],
        json!([
            { "name": "side", "image": "s" },
            { "name": "a", "image": "registry.example/a:1", "ports": [{ "containerPort": 80 }] },
        ])
    );
    assert_eq!(
        (made["kind"].as_str(), made["metadata"]["name"].as_str()),
        (Some("Pod"), Some("web"))
    );
}

#[test]
fn a_configuration_is_checked_by_the_schema() {
    let wrong = |expression: &str| {
        let (code, reason, message) = told(&apply(expression));
        assert_eq!((code, reason.as_str()), (403, "Invalid"), "{message}");
        message.replace("policy 'p' with binding 'b' denied request: ", "")
    };
    assert_eq!(
        wrong(
            "Object{spec: Object.spec{nodeSelector: Object.spec.nodeSelector{a: \"b\"}, containers: [Object.spec.containers{name: \"a\", command: [\"x\"]}]}}"
        ),
        "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
         .spec.containers[0].command, .spec.nodeSelector"
    );
    assert_eq!(
        wrong("Object{spec: Object.spec{what: 1}}"),
        "error applying patch: failed to convert patch object to typed object: .spec.what: field not declared in schema"
    );
    assert_eq!(
        wrong("Object{spec: Object.spec{priority: \"high\"}}"),
        "error applying patch: failed to convert patch object to typed object: .spec.priority: expected numeric (int or \
         float), got string"
    );
    assert_eq!(
        wrong("Object{spec: Object.spec{containers: [Object.spec.containers{image: \"x\"}]}}"),
        "error applying patch: failed to convert patch object to typed object: .spec.containers: element 0: associative list \
         with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)"
    );
    assert_eq!(
        wrong("Object{spec: Object.other{}}"),
        "type mismatch: unexpected type name \"Object.other\", expected \"Object.spec\", which matches field name path from \
         root Object type"
    );
}

#[test]
fn each_mutation_sees_what_the_last_one_made() {
    let two = mutation(
        "mutations:\n- {patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: \"add\", path: \"/spec/n\", value: 1}]'}}\n- {patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: \"replace\", path: \"/spec/n\", value: object.spec.n + 1}]'}}",
    );
    assert_eq!(object(&two)["spec"]["n"], json!(2));
    // A validation sees the result.
    let both = format!(
        "{two}\n---\n{}",
        bound(
            "validations:\n- {expression: 'object.spec.n != 2', message: seen}",
            "validationActions: [Deny]"
        )
    );
    assert_eq!(Bench::new(&both).told(), "seen");
}

#[test]
fn a_second_pass_is_made_where_it_is_asked_for() {
    let count = |name: &str| {
        format!(
            "{{patchType: JSONPatch, jsonPatch: {{expression: '[JSONPatch{{op: \"add\", path: \"/spec/{name}\", value: has(object.spec.{name}) ? object.spec.{name} + 1 : 1}}]'}}}}"
        )
    };
    let policies = format!(
        "{}\n---\n{}\n---\n{}",
        named_mutation("a", "IfNeeded", &count("a")),
        named_mutation("b", "Never", &count("b")),
        named_mutation("c", "IfNeeded", &count("c")),
    );
    let bench = Bench::new(&policies);
    let decision = bench.decide();
    let spec = &decision.mutated.unwrap()["spec"];
    assert_eq!((&spec["a"], &spec["b"], &spec["c"]), (&json!(2), &json!(1), &json!(2)));
    let second: Vec<_> = decision
        .trace
        .iter()
        .filter(|trace| trace.reinvocation)
        .map(|trace| trace.policy.as_str())
        .collect();
    assert_eq!(second, ["a", "c"]);
    let idle = named_mutation(
        "a",
        "IfNeeded",
        "{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: \"replace\", path: \"/spec\", value: object.spec}]'}}",
    );
    assert!(Bench::new(&idle).decide().patch.is_empty());
}

#[test]
fn conditions_that_err_refuse_by_their_policy() {
    let policies = mutation(
        "matchConditions:\n- {name: c, expression: 'object.nothing == 1'}\nmutations:\n- {patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{}'}}",
    );
    let (code, reason, message) = told(&policies);
    assert_eq!((code, reason.as_str()), (403, "Invalid"));
    assert_eq!(
        message,
        "policy 'p' with binding 'b' denied request: expression 'object.nothing == 1' resulted in error: no such key: nothing"
    );
}

#[test]
fn a_kind_without_a_known_schema_is_asked_for() {
    let mut bench = Bench::new(&apply("Object{}"));
    bench.request.kind.kind = "Unknown".to_owned();
    let needs = bench.needs();
    assert!(needs[0].to_string().contains("how fields of `v1 Unknown` are merged"), "{}", needs[0]);
}
