//! Which requests policies and bindings are for.

use nullius_policy::admission_policy::{Need, Operation, Request};
use serde_json::json;

use super::{Bench, bound, policy};

const FALSE: &str = "validations:\n- {expression: 'false', message: hit}";

/// Whether a policy with these constraints is for the request.
fn hits(constraints: &str, change: impl FnOnce(&mut Bench)) -> bool {
    let mut bench = Bench::new(&policy(&format!("{FALSE}\nmatchConstraints:\n{constraints}")));
    change(&mut bench);
    bench.told() == "hit"
}

fn rule(rule: &str) -> String {
    format!("  resourceRules:\n  - {rule}")
}

#[test]
fn rules_name_groups_versions_resources_operations_and_scopes() {
    let hit = |text: &str| hits(&rule(text), |_| {});
    assert!(hit("{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*']}"));
    assert!(hit(
        "{apiGroups: [apps, ''], apiVersions: [v1], operations: [UPDATE, CREATE], resources: [pods]}"
    ));
    assert!(!hit(
        "{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [pods]}"
    ));
    assert!(!hit("{apiGroups: [''], apiVersions: [v2], operations: [CREATE], resources: [pods]}"));
    assert!(!hit("{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [pods]}"));
    assert!(!hit(
        "{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods/exec]}"
    ));
    assert!(hit("{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: ['*/*']}"));
    assert!(hit(
        "{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}"
    ));
    assert!(!hit(
        "{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Cluster}"
    ));
    assert!(hit(
        "{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [web]}"
    ));
    assert!(!hit(
        "{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], resourceNames: [api]}"
    ));
}

#[test]
fn subresources_are_matched_by_themselves() {
    let exec = |bench: &mut Bench| {
        "exec".clone_into(&mut bench.request.subresource);
        bench.request.operation = Operation::Connect;
    };
    let hit = |resource: &str| {
        let text = format!(
            "{{apiGroups: [''], apiVersions: [v1], operations: [CONNECT], resources: ['{resource}']}}"
        );
        hits(&rule(&text), exec)
    };
    assert!(hit("pods/exec") && hit("pods/*") && hit("*/exec") && hit("*/*"));
    assert!(!hit("pods") && !hit("*") && !hit("pods/attach"));
}

#[test]
fn exclusions_come_first_and_selectors_before_them() {
    let all = rule("{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}");
    let excluded = format!(
        "{all}\n  excludeResourceRules:\n  - {{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'], resourceNames: [web]}}"
    );
    assert!(!hits(&excluded, |_| {}));
    let named = |text: &str| format!("{all}\n  {text}");
    assert!(hits(&named("objectSelector: {matchLabels: {app: web}}"), |_| {}));
    assert!(!hits(&named("objectSelector: {matchLabels: {app: api}}"), |_| {}));
    assert!(hits(
        &named("objectSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}"),
        |_| {}
    ));
    assert!(hits(
        &named("objectSelector: {matchExpressions: [{key: x, operator: NotIn, values: [y]}]}"),
        |_| {}
    ));
    assert!(hits(
        &named("objectSelector: {matchExpressions: [{key: x, operator: DoesNotExist}]}"),
        |_| {}
    ));
    assert!(!hits(
        &named("objectSelector: {matchExpressions: [{key: x, operator: Exists}]}"),
        |_| {}
    ));
    assert!(hits(&named("namespaceSelector: {matchLabels: {team: sales}}"), |_| {}));
    assert!(!hits(&named("namespaceSelector: {matchLabels: {team: other}}"), |_| {}));
}

#[test]
fn an_old_object_can_be_selected_and_options_cannot() {
    let constraints = "  objectSelector: {matchLabels: {old: 'yes'}}\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: ['*/*', ]}";
    let update = |bench: &mut Bench| {
        bench.request.operation = Operation::Update;
        let mut old = bench.request.object.clone().unwrap();
        old["metadata"]["labels"] = json!({ "old": "yes" });
        bench.request.old_object = Some(old);
    };
    assert!(hits(constraints, update));
    let connect = |bench: &mut Bench| {
        bench.request.operation = Operation::Connect;
        bench.request.object =
            Some(json!({ "apiVersion": "v1", "kind": "PodExecOptions", "command": ["sh"] }));
    };
    let none = "  objectSelector: {matchExpressions: [{key: old, operator: DoesNotExist}]}\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: ['*/*']}";
    assert!(!hits(none, connect));
}

#[test]
fn namespaces_are_selected_by_the_labels_that_they_will_have() {
    let constraints = "  namespaceSelector: {matchLabels: {team: sales}}\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [namespaces]}";
    let namespace = |labels: serde_json::Value| {
        move |bench: &mut Bench| {
            bench.request = Request::of_review(json!({
                "operation": "UPDATE",
                "kind": { "group": "", "version": "v1", "kind": "Namespace" },
                "resource": { "group": "", "version": "v1", "resource": "namespaces" },
                "name": "shop", "namespace": "shop",
                "object": { "metadata": { "name": "shop", "labels": labels } },
                "oldObject": { "metadata": { "name": "shop" } },
            }))
            .unwrap();
        }
    };
    assert!(hits(constraints, namespace(json!({ "team": "sales" }))));
    assert!(!hits(constraints, namespace(json!({}))));
    let cluster = |bench: &mut Bench| {
        "nodes".clone_into(&mut bench.request.resource.resource);
        bench.request.namespace = String::new();
    };
    let nodes =
        constraints.replace("namespaces", "nodes").replace("nodesSelector", "namespaceSelector");
    assert!(hits(&nodes, cluster), "what has no namespace passes its selector");
}

#[test]
fn a_namespace_that_is_missing_is_asked_for_or_refused() {
    let spec = format!(
        "{FALSE}\nmatchConstraints:\n  namespaceSelector: {{matchLabels: {{team: sales}}}}\n{}",
        rule("{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}")
    );
    let mut bench = Bench::new(&policy(&spec));
    "unheard".clone_into(&mut bench.request.namespace);
    assert_eq!(bench.needs(), [Need::Namespace("unheard".to_owned())]);
    "gone".clone_into(&mut bench.request.namespace);
    assert_eq!(bench.told(), "failed to configure policy: namespaces \"gone\" not found");
    // Under Ignore it is no reason to refuse; the namespace that expressions need still is.
    let mut bench = Bench::new(&policy(&format!("failurePolicy: Ignore\n{spec}")));
    "gone".clone_into(&mut bench.request.namespace);
    assert_eq!(bench.refusal(), None);
    let mut bench = Bench::new(&policy("validations:\n- {expression: 'true'}"));
    "gone".clone_into(&mut bench.request.namespace);
    let refusal = bench.refusal().unwrap();
    assert_eq!(refusal, (404, "NotFound".to_owned(), "namespaces \"gone\" not found".to_owned()));
}

#[test]
fn a_namespace_is_asked_for_by_policies_that_look_at_it_and_no_others() {
    let plain = policy("validations:\n- {expression: 'true'}");
    let looking = policy("validations:\n- {expression: 'has(namespaceObject.metadata)'}");
    let told = policy(
        "validations:\n- {expression: 'true', messageExpression: 'namespaceObject.metadata.name'}",
    );
    let annotated = policy(
        "validations:\n- {expression: 'true'}\nauditAnnotations:\n- {key: a, valueExpression: 'namespaceObject.metadata.name'}",
    );
    let by_variable = policy(
        "variables:\n- {name: n, expression: 'namespaceObject.metadata.name'}\nvalidations:\n- {expression: 'variables.n != \"x\"'}",
    );
    let unheard = |text: &str| {
        let mut bench = Bench::new(text);
        "unheard".clone_into(&mut bench.request.namespace);
        bench
    };
    assert_eq!(unheard(&plain).refusal(), None);
    for text in [&looking, &told, &annotated, &by_variable] {
        assert_eq!(unheard(text).needs(), [Need::Namespace("unheard".to_owned())], "{text}");
    }
    // One that looks does not make the others wait for what they find.
    let false_ = policy(FALSE);
    assert_eq!(unheard(&false_).told(), "hit");
    // What does not exist is refused all the same.
    for text in [&plain, &looking, &false_] {
        let mut bench = Bench::new(text);
        "gone".clone_into(&mut bench.request.namespace);
        assert_eq!(bench.refusal().unwrap().0, 404, "{text}");
    }
}

#[test]
fn bindings_narrow() {
    let narrowed = |text: &str| {
        let spec = format!("validationActions: [Deny]\nmatchResources:\n  {text}");
        Bench::new(&bound(FALSE, &spec)).told() == "hit"
    };
    assert!(narrowed("namespaceSelector: {matchLabels: {team: sales}}"));
    assert!(!narrowed("namespaceSelector: {matchLabels: {team: other}}"));
    assert!(narrowed(
        "resourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: [pods]}]"
    ));
    assert!(!narrowed(
        "resourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: [services]}]"
    ));
    assert!(!narrowed(
        "excludeResourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: [pods]}]"
    ));
}

#[test]
fn other_versions_are_matched_when_they_are_equivalent() {
    let constraints = |more: &str| {
        format!(
            "{more}  resourceRules:\n  - {{apiGroups: [autoscaling], apiVersions: [v2], operations: [CREATE], resources: [horizontalpodautoscalers]}}"
        )
    };
    let v1 = |bench: &mut Bench| {
        let request = &mut bench.request;
        request.resource.group = "autoscaling".to_owned();
        request.resource.resource = "horizontalpodautoscalers".to_owned();
        request.kind.group = "autoscaling".to_owned();
        request.kind.kind = "HorizontalPodAutoscaler".to_owned();
    };
    assert!(hits(&constraints(""), v1));
    assert!(!hits(&constraints("  matchPolicy: Exact\n"), v1));
    let spec = format!(
        "validations:\n- {{expression: 'object.apiVersion == \"autoscaling/v2\" && object.converted && request.kind.version == \"v2\" && request.requestKind.version == \"v1\" && request.resource.version == \"v2\"'}}\nmatchConditions:\n- {{name: c, expression: 'request.resource.version == \"v1\" && request.kind.version == \"v2\"'}}\nmatchConstraints:\n{}",
        constraints("")
    );
    let mut bench = Bench::new(&policy(&spec));
    v1(&mut bench);
    let decision = bench.decide();
    assert_eq!(decision.refusal, None);
    assert_eq!(decision.trace[0].bindings[0].runs[0].validations.len(), 1);
    assert!(
        decision.trace[0].matched.reason.contains("equivalent"),
        "{:?}",
        decision.trace[0].matched
    );
}

#[test]
fn reviews_of_access_and_policies_are_exempt() {
    let all = policy(&format!(
        "{FALSE}\nmatchConstraints:\n{}",
        rule("{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*']}")
    ));
    for (group, resource, is_exempt) in [
        ("authorization.k8s.io", "subjectaccessreviews", true),
        ("authentication.k8s.io", "tokenreviews", true),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies", true),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
        ("rbac.authorization.k8s.io", "roles", false),
    ] {
        let mut bench = Bench::new(&all);
        bench.request.resource.group = group.to_owned();
        bench.request.resource.resource = resource.to_owned();
        assert_eq!(bench.refusal().is_none(), is_exempt, "{resource}");
    }
}

#[test]
fn what_is_passed_over_says_why() {
    let mut bench = Bench::new(&policy(FALSE));
    assert!(bench.set.passed_over(&bench.request, &bench.known).is_empty());
    "services".clone_into(&mut bench.request.resource.resource);
    let passed = bench.set.passed_over(&bench.request, &bench.known);
    assert_eq!(
        (passed[0].policy.as_str(), passed[0].matched.reason.as_str()),
        ("p", "no rule is for it")
    );
    assert!(bench.decide().trace.is_empty());
}
