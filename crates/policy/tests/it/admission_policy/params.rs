//! Parameters: which runs there are, and what happens where there are none.

use nullius_policy::admission_policy::{Kind, Need, ParamQuery, Pick, authz::Target};
use serde_json::json;

use super::{Bench, bound, named_mutation};

const MAP: &str = "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations:\n- {expression: 'params != null && params.data.ok == \"yes\"', messageExpression: 'params.metadata.name + \" of \" + params.kind'}";

fn bench(policy: &str, reference: &str) -> Bench {
    Bench::new(&bound(policy, &format!("validationActions: [Deny]\nparamRef: {reference}")))
}

fn map(name: &str, ok: &str) -> serde_json::Value {
    json!({ "metadata": { "name": name, "namespace": "shop" }, "data": { "ok": ok } })
}

fn kind() -> Kind {
    Kind::new("v1", "ConfigMap")
}

fn named(name: &str) -> Pick {
    Pick::Named(name.to_owned())
}

#[test]
fn without_a_reference_params_are_null() {
    let bench = Bench::new(&bound(
        "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations:\n- {expression: 'params == null'}",
        "validationActions: [Deny]",
    ));
    assert_eq!(bench.refusal(), None);
}

#[test]
fn a_named_parameter_is_asked_for_in_the_namespace_of_the_request() {
    let reference = "{name: limits, parameterNotFoundAction: Deny}";
    let query =
        ParamQuery { kind: kind(), namespace: Some("shop".to_owned()), pick: named("limits") };
    assert_eq!(bench(MAP, reference).needs(), [Need::Params(query)]);
    let with = |found: &[serde_json::Value]| {
        bench(MAP, reference).with_params(kind(), Some("shop"), named("limits"), found)
    };
    assert_eq!(with(&[map("limits", "yes")]).refusal(), None);
    assert_eq!(with(&[map("limits", "no")]).told(), "limits of ConfigMap");
    assert_eq!(
        with(&[]).told(),
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
    let elsewhere = "{name: limits, namespace: base, parameterNotFoundAction: Allow}";
    let query =
        ParamQuery { kind: kind(), namespace: Some("base".to_owned()), pick: named("limits") };
    assert_eq!(bench(MAP, elsewhere).needs(), [Need::Params(query)]);
}

#[test]
fn none_is_allowed_where_the_binding_says_so() {
    let reference = "{name: limits, parameterNotFoundAction: Allow}";
    let bench = bench(MAP, reference).with_params(kind(), Some("shop"), named("limits"), &[]);
    assert_eq!(bench.refusal(), None);
    assert!(bench.decide().trace[0].bindings[0].runs.is_empty());
}

#[test]
fn each_selected_parameter_is_a_run_of_its_own() {
    let reference = "{selector: {}, parameterNotFoundAction: Deny}";
    let with = |found: &[serde_json::Value]| {
        bench(MAP, reference).with_params(
            kind(),
            Some("shop"),
            Pick::Selected(Default::default()),
            found,
        )
    };
    assert_eq!(with(&[map("a", "yes"), map("b", "yes")]).refusal(), None);
    let bench = with(&[map("a", "yes"), map("b", "no"), map("c", "no")]);
    assert_eq!(bench.told(), "b of ConfigMap");
    let decision = bench.decide();
    let runs: Vec<_> =
        decision.trace[0].bindings[0].runs.iter().map(|run| run.param.as_deref()).collect();
    assert_eq!(runs, [Some("shop/a"), Some("shop/b"), Some("shop/c")]);
    assert_eq!(decision.refusal.unwrap().causes.len(), 2);
}

#[test]
fn kinds_decide_what_a_reference_may_say() {
    let policy = |kind: &str| format!("paramKind: {kind}\nvalidations:\n- {{expression: 'true'}}");
    let told = |kind: &str, reference: &str| bench(&policy(kind), reference).told();
    assert_eq!(
        told(
            "{apiVersion: example.com/v1, kind: Limit}",
            "{name: a, namespace: b, parameterNotFoundAction: Deny}"
        ),
        "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
    );
    assert_eq!(
        told(
            "{apiVersion: example.com/v1, kind: Unheard}",
            "{name: a, parameterNotFoundAction: Deny}"
        ),
        "failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Unheard'"
    );
    let secretive = Kind::new("example.com/v1", "Secretive");
    assert_eq!(
        bench(
            &policy("{apiVersion: example.com/v1, kind: Secretive}"),
            "{name: a, parameterNotFoundAction: Deny}"
        )
        .needs(),
        [Need::Kind(secretive)]
    );
    let mut nodes = bench(
        &format!(
            "matchConstraints:\n  resourceRules:\n  - {{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [nodes]}}\n{}",
            policy("{apiVersion: v1, kind: ConfigMap}")
        ),
        "{name: a, parameterNotFoundAction: Deny}",
    );
    nodes.request.resource.resource = "nodes".to_owned();
    nodes.request.namespace = String::new();
    assert_eq!(
        nodes.told(),
        "failed to configure binding: cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
    );
}

/// Paths of which it is not known whether the requester may get them.
fn paths(needs: &[Need]) -> Vec<String> {
    let path = |need: &Need| match need {
        Need::Access(check) => match &check.target {
            Target::Path(path) => Some(path.clone()),
            Target::Resource(_) => None,
        },
        _ => None,
    };
    needs.iter().filter_map(path).collect()
}

#[test]
fn what_is_lacking_is_asked_for_at_once() {
    let asked = |of: &str| -> Vec<String> {
        let (policy, binding) = of.split_once("\n---\n").unwrap();
        let bindings = ["one", "two", "three", "four", "five", "six"].map(|name| {
            let reference = format!("paramRef: {{name: {name}, parameterNotFoundAction: Deny}}");
            binding
                .replace("{name: b}", &format!("{{name: {name}}}"))
                .replace("REFERENCE", &reference)
        });
        let policies = format!("{policy}\n---\n{}", bindings.join("\n---\n"));
        let needs = Bench::new(&policies).needs();
        needs.iter().map(|need| need.to_string()).collect()
    };
    let expected: Vec<String> = ["five", "four", "one", "six", "three", "two"]
        .map(|name| format!("the `v1 ConfigMap` `{name}` in the namespace `shop`"))
        .into();
    assert_eq!(asked(&bound(MAP, "validationActions: [Deny]\nREFERENCE")), expected);
    let patch = "paramKind: {apiVersion: v1, kind: ConfigMap}\nmutations:\n- patchType: JSONPatch\n  jsonPatch: {expression: '[JSONPatch{op: \"test\", path: \"/kind\", value: \"Pod\"}]'}";
    let mutating = bound(patch, "REFERENCE")
        .replace("kind: Validating", "kind: Mutating")
        .replace("\nspec:\n  match", "\nspec:\n  reinvocationPolicy: Never\n  match");
    assert_eq!(asked(&mutating), expected);

    let may = |path: &str| format!("authorizer.path(\"/{path}\").check(\"get\").allowed()");
    let each = |list: &str, paths: &[&str]| {
        let items = paths.iter().map(|path| match list {
            "matchConditions" => format!("- {{name: {path}, expression: '{}'}}", may(path)),
            _ => format!("- {{expression: '{}'}}", may(path)),
        });
        format!("{list}:\n{}", items.collect::<Vec<_>>().join("\n"))
    };
    let all = ["a", "b", "c", "d", "e", "f"];
    let needs_of =
        |spec: &str| paths(&Bench::new(&bound(spec, "validationActions: [Deny]")).needs());
    let expected = all.map(|path| format!("/{path}"));
    assert_eq!(needs_of(&each("validations", &all)), expected);
    let conditions = format!("{}\n{}", each("matchConditions", &all), each("validations", &["x"]));
    assert_eq!(needs_of(&conditions), expected, "what depends on them is not asked for yet");
    let mutations = all.map(|path| {
        let patch =
            format!("patchType: JSONPatch\n  jsonPatch: {{expression: '{} ? [JSONPatch{{op: \"test\", path: \"/kind\", value: \"Pod\"}}] : [JSONPatch{{op: \"test\", path: \"/kind\", value: \"Pod\"}}]'}}", may(path));
        named_mutation(path, "Never", &patch)
    });
    assert_eq!(paths(&Bench::new(&mutations.join("\n---\n")).needs()), expected);
}

#[test]
fn a_run_for_each_parameter_asks_with_the_others() {
    let spec = "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations:\n- {expression: 'authorizer.path(params.data.ok).check(\"get\").allowed()'}";
    let found = ["/a", "/b", "/c", "/d", "/e", "/f"].map(|path| map(&path[1..], path));
    let bench = bench(spec, "{selector: {}, parameterNotFoundAction: Deny}").with_params(
        kind(),
        Some("shop"),
        Pick::Selected(Default::default()),
        &found,
    );
    assert_eq!(paths(&bench.needs()), ["/a", "/b", "/c", "/d", "/e", "/f"]);
}
