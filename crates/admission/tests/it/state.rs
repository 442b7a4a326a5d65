//! What a state of files knows, and what it says that it does not.

use nullius_admission::{Person, State, request_of};
use nullius_policy::admission_policy::{Operation, PolicySet, Request, Version};
use serde_json::{Value, json};

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

fn state(documents: &str) -> State {
    let mut state = State::default();
    for document in documents.split("---\n") {
        state.add(&yaml(document)).unwrap();
    }
    state
}

const PERSON: Person<'_> = Person { username: "ada", groups: &[], namespace: "shop" };

const RULES: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reads, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: web}, {kind: User, name: ada}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics}
rules: [{nonResourceURLs: [/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: all-metrics}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics}
subjects: [{kind: Group, name: 'system:authenticated'}]
";

const COMPLETE: &str = "\
---
apiVersion: nullius.dev/v1alpha1
kind: RecordedState
holds:
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: Role}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding}
";

/// What an expression of text yields within a validation.
fn told(state: &State, expression: &str) -> Result<String, String> {
    let mut set = PolicySet::new(Version::minor(36));
    set.add(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "p" },
        "spec": {
            "matchConstraints": { "resourceRules": [
                { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"] },
            ]},
            "variables": [{ "name": "told", "expression": expression }],
            "validations": [{ "expression": "variables.told != ''" }],
        },
    }))
    .unwrap();
    set.add(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": "b" }, "spec": { "policyName": "p", "validationActions": ["Deny"] },
    }))
    .unwrap();
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } });
    let request = request_of(state, Some(&object), None, &PERSON).unwrap();
    let decision = state.judge(&set, &request).map_err(|lacking| lacking.to_string())?;
    let value = decision.trace[0].bindings[0].runs[0].variables[0].value.clone();
    Ok(value.unwrap().as_str().unwrap().to_owned())
}

#[test]
fn roles_answer_with_the_api_servers_reasons() {
    let complete = state(&format!("{RULES}{COMPLETE}"));
    let reads = "group('').resource('configmaps').namespace('shop')";
    let reason = |who: &str, check: &str| {
        let check = format!("{who}.{check}");
        told(&complete, &format!("{check}.allowed() ? 'yes, ' + {check}.reason() : 'no'")).unwrap()
    };
    assert_eq!(
        reason("authorizer", &format!("{reads}.check('get')")),
        "yes, RBAC: allowed by RoleBinding \"reads/shop\" of Role \"reader\" to User \"ada\""
    );
    assert_eq!(
        reason("authorizer.serviceAccount('shop', 'web')", &format!("{reads}.check('get')")),
        "yes, RBAC: allowed by RoleBinding \"reads/shop\" of Role \"reader\" to ServiceAccount \"web/shop\""
    );
    assert_eq!(
        reason("authorizer", "path('/metrics').check('get')"),
        "yes, RBAC: allowed by ClusterRoleBinding \"all-metrics\" of ClusterRole \"metrics\" to Group \"system:authenticated\""
    );
    for (who, check) in [
        ("authorizer", "group('').resource('configmaps').namespace('other').check('get')"),
        ("authorizer", "group('').resource('configmaps').check('get')"),
        ("authorizer", "group('apps').resource('configmaps').namespace('shop').check('get')"),
        (
            "authorizer.serviceAccount('other', 'web')",
            "group('').resource('configmaps').namespace('shop').check('get')",
        ),
        ("authorizer.serviceAccount('shop', 'web')", "path('/metrics').check('get')"),
    ] {
        assert_eq!(reason(who, check), "no", "{who}.{check}");
    }
}

#[test]
fn no_rule_is_a_no_only_where_the_state_holds_all_rules() {
    let some = state(RULES);
    let check = |verb: &str| {
        told(
            &some,
            &format!(
                "string(authorizer.group('').resource('configmaps').namespace('shop').check('{verb}').allowed())"
            ),
        )
    };
    assert_eq!(check("get"), Ok("true".to_owned()));
    let lacking = check("delete").unwrap_err();
    assert!(
        lacking
            .starts_with("the state does not say whether the requester `delete` on `configmaps.`"),
        "{lacking}"
    );
}

const AGGREGATED: &str = "\
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: whole, labels: {to: whole}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: whole}}, {matchLabels: {to: half}}]}
rules: [{apiGroups: [''], resources: [nodes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: half, labels: {to: half}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: whole}}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: part, labels: {to: whole}}
rules: [{apiGroups: [''], resources: [secrets], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: halves}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: half}
subjects: [{kind: User, name: ada}]
";

#[test]
fn a_role_that_aggregates_gives_what_the_controller_would_put_into_it() {
    let check = |state: &State, resource: &str| {
        let check = format!("authorizer.group('').resource('{resource}').check('get')");
        told(state, &format!("{check}.allowed() ? {check}.reason() : 'no'"))
    };
    let complete = state(&format!("{RULES}{AGGREGATED}{COMPLETE}"));
    assert_eq!(
        check(&complete, "secrets").unwrap(),
        "RBAC: allowed by ClusterRoleBinding \"halves\" of ClusterRole \"half\" to User \"ada\""
    );
    // The controller takes out what no labelled role has.
    assert_eq!(check(&complete, "nodes").unwrap(), "no");
    // Where roles are missing, others may be labelled.
    let some = state(&format!("{RULES}{AGGREGATED}"));
    assert!(check(&some, "secrets").is_ok());
    let lacking = check(&some, "nodes").unwrap_err();
    assert!(lacking.starts_with("the state does not say whether"), "{lacking}");
    let wrong = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: a}, aggregationRule: {clusterRoleSelectors: [7]}}";
    assert!(State::default().add(&yaml(wrong)).is_err());
}

#[test]
fn objects_become_what_an_api_server_holds() {
    let defined = state(
        "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        properties:
          spec:
            properties:
              size: {type: integer, default: 3}
              free: {x-kubernetes-preserve-unknown-fields: true, properties: {known: {default: yes}}}
              parts: {items: {properties: {name: {type: string}, weight: {default: 1}}}}
              labels: {additionalProperties: {type: string}}
  - {name: v2, served: false}
",
    );
    let widget = yaml(
        "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, anything: 1}, spec: {odd: 1, free: {odd: 1}, parts: [{name: a, odd: 1}, {name: b, weight: 2}], labels: {a: b}}}",
    );
    let request = request_of(&defined, Some(&widget), None, &PERSON).unwrap();
    assert_eq!(
        (request.operation, request.resource.resource.as_str(), request.namespace.as_str()),
        (Operation::Create, "widgets", "shop")
    );
    assert_eq!(
        request.object.unwrap()["spec"],
        json!({
            "size": 3, "free": { "odd": 1, "known": "yes" }, "labels": { "a": "b" },
            "parts": [{ "name": "a", "weight": 1 }, { "name": "b", "weight": 2 }],
        })
    );
    let old = yaml("{apiVersion: example.com/v2, kind: Widget, metadata: {name: w}}");
    let told = request_of(&defined, Some(&old), None, &PERSON).unwrap_err().to_string();
    assert!(
        told.contains("the kind `example.com/v2 Widget` is neither Kubernetes' own nor defined"),
        "{told}"
    );
    let namespace = yaml("{apiVersion: v1, kind: Namespace, metadata: {name: new}}");
    let request = request_of(&defined, None, Some(&namespace), &PERSON).unwrap();
    assert_eq!((request.operation, request.namespace.as_str()), (Operation::Delete, "new"));
    assert!(request.object.is_none() && request.old_object.is_some());
    let wrong = yaml("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {contaners: []}}");
    let told = request_of(&defined, Some(&wrong), None, &PERSON).unwrap_err().to_string();
    assert!(told.contains("contaners"), "{told}");
    let other = yaml("{apiVersion: v1, kind: Namespace, metadata: {name: other}}");
    let told =
        request_of(&defined, Some(&namespace), Some(&other), &PERSON).unwrap_err().to_string();
    assert_eq!(told, "the object and the old one have different names");
}

#[test]
fn no_update_moves_an_object_to_another_namespace() {
    let state = State::default();
    let of = |namespace: &str| {
        yaml(&format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a{namespace}}}}}"))
    };
    let (none, shop, other) = (of(""), of(", namespace: shop"), of(", namespace: other"));
    let asked = |object: &Value, old: &Value| {
        let request = request_of(&state, Some(object), Some(old), &PERSON);
        request.map(|request| request.namespace).map_err(|told| told.to_string())
    };
    let moved = |to: &str, from: &str| {
        Err(format!(
            "the object is in the namespace `{to}` and the old one in `{from}`: no update moves an object"
        ))
    };
    assert_eq!(asked(&other, &shop), moved("other", "shop"));
    assert_eq!(asked(&none, &other), moved("shop", "other"));
    assert_eq!(asked(&none, &shop), Ok("shop".to_owned()));
    assert_eq!(asked(&other, &other), Ok("other".to_owned()));
    // What says none is where the request goes.
    assert_eq!(asked(&other, &none), Ok("other".to_owned()));
}

#[test]
fn a_policy_for_a_subresource_is_for_its_other_version_too() {
    let mut set = PolicySet::new(Version::minor(36));
    set.add(&yaml(
        "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [autoscaling], apiVersions: [v2], operations: [UPDATE], resources: [horizontalpodautoscalers/status]}]
  validations: [{expression: object.apiVersion == 'autoscaling/v1', message: converted}]
",
    ))
    .unwrap();
    set.add(&yaml(
        "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: b}, spec: {policyName: p, validationActions: [Deny]}}",
    ))
    .unwrap();
    let state = state("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    let scaler = yaml(
        "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: a, namespace: shop}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: d}}, status: {currentReplicas: 1, desiredReplicas: 1}}",
    );
    let mut request = request_of(&state, Some(&scaler), Some(&scaler), &PERSON).unwrap();
    let is_allowed = |request: &Request| state.judge(&set, request).unwrap().refusal.is_none();
    assert!(is_allowed(&request));
    request.subresource = "status".to_owned();
    assert!(!is_allowed(&request));
    request.subresource = "scale".to_owned();
    assert!(is_allowed(&request));
}

#[test]
fn what_cannot_be_part_of_a_state_is_refused() {
    let mut state = State::default();
    for (document, told) in [
        (
            "{apiVersion: nullius.dev/v1alpha1, kind: RecordedState}",
            "it needs `holds`, a list of kinds",
        ),
        (
            "{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, holds: [Pod]}",
            "holds[0] needs `apiVersion` and `kind`",
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b}}",
            "`RoleBinding` `b`: missing field `roleRef`",
        ),
        (
            "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x}, spec: {group: g}}",
            "the field `spec.names.kind` is missing",
        ),
    ] {
        let error = state.add(&yaml(document)).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
