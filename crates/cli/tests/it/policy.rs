//! Requests judged by policies in files, as people and build servers do it.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::person::Person;

const POLICIES: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas.example.com}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables:
  - {name: most, expression: 'int(params.data.replicas)'}
  validations:
  - expression: object.spec.replicas <= variables.most
    messageExpression: '\"at most \" + string(variables.most) + \" replicas in \" + namespaceObject.metadata.name'
    reason: Forbidden
  auditAnnotations:
  - {key: asked, valueExpression: string(object.spec.replicas)}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas.example.com}
spec:
  policyName: replicas.example.com
  validationActions: [Deny, Audit]
  paramRef: {name: limits, parameterNotFoundAction: Deny}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: owner.example.com}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  matchConditions:
  - {name: not-the-admin, expression: \"request.userInfo.username != 'kubernetes-admin'\"}
  validations:
  - expression: authorizer.group('apps').resource('deployments').namespace(request.namespace).check('delete').allowed()
    message: who may not delete it may not make it
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: owner.example.com}
spec: {policyName: owner.example.com, validationActions: [Warn]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: sidecar.example.com}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [
          Object.spec.template.spec.containers{name: \"a\", imagePullPolicy: \"Always\"}]}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: sidecar.example.com}
spec: {policyName: sidecar.example.com}
";

const STATE: &str = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: limits, namespace: shop}, data: {replicas: '3'}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: edit}
  rules: [{apiGroups: [apps], resources: [deployments], verbs: ['*']}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: shop-edit, namespace: shop}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
  subjects: [{kind: Group, name: dev}]
";

const RBAC: &str = "\
apiVersion: nullius.dev/v1alpha1
kind: RecordedState
holds:
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: Role}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding}
";

fn deployment(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{containers: \
         [{{name: a, image: registry.example/a:1}}]}}\n"
    )
}

struct Desk {
    person: Person,
    policies: String,
    state: String,
}

impl Desk {
    fn new() -> Self {
        let person = Person::new();
        let policies = person.file("policies/all.yaml", POLICIES);
        let state = person.file("state.yaml", STATE);
        Self { person, policies, state }
    }

    async fn eval(&self, more: &[&str]) -> crate::person::Done {
        let mut words =
            vec!["policy", "eval", "--policies", &self.policies, "--state", &self.state];
        words.extend(more);
        self.person.run(&words).await
    }

    fn told(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.person.home.path().display()), "")
    }
}

#[tokio::test]
async fn an_object_is_denied_with_the_api_servers_words_and_code_2() {
    let desk = Desk::new();
    let many = desk.person.file("many.yaml", &deployment(5));
    let done = desk.eval(&["--object", &many]).await;
    assert_eq!(done.exit, Exit::Denied, "{}", done.err);
    insta::assert_snapshot!("policy_denied", done.out);
    let done = desk.eval(&["--object", &many, "--explain"]).await;
    insta::assert_snapshot!("policy_explained", done.out);
    let words = ["policy", "explain", "--policies", &desk.policies, "--state", &desk.state];
    let explained = desk.person.run(&[&words[..], &["--object", &many]].concat()).await;
    assert_eq!((explained.exit, &explained.out), (Exit::Denied, &done.out));
    let done = desk.eval(&["--object", &many, "-o", "json"]).await;
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&document["apiVersion"], &document["kind"]),
        (&json!("nullius.dev/v1alpha1"), &json!("PolicyDecision"))
    );
    assert_eq!(
        (&document["allowed"], &document["code"], &document["reason"]),
        (&json!(false), &json!(403), &json!("Forbidden"))
    );
    assert_eq!(
        document["messages"],
        json!([
            "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'replicas.example.com' with binding \
                'replicas.example.com' denied request: at most 3 replicas in shop"
        ])
    );
    assert_eq!(document["auditAnnotations"]["replicas.example.com/asked"], "5");
    assert!(
        document["auditAnnotations"]["validation.policy.admission.k8s.io/validation_failure"]
            .is_string()
    );
    assert_eq!((&document["warnings"], &document["patch"]), (&json!([]), &json!([])));
    assert!(
        document["trace"].as_array().is_some_and(|trace| trace.len() == 3),
        "{}",
        document["trace"]
    );
    let done = desk.eval(&["--object", &many, "-o", "name"]).await;
    assert_eq!(done.out, "denied\n");
}

#[tokio::test]
async fn what_passes_shows_its_patch_and_ends_with_code_0() {
    let desk = Desk::new();
    let few = desk.person.file("few.yaml", &deployment(2));
    let done = desk.eval(&["--object", &few, "-o", "json"]).await;
    let document: Value = serde_json::from_str(&done.ok()).unwrap();
    assert_eq!((&document["allowed"], &document["code"]), (&json!(true), &json!(200)));
    assert_eq!(
        document["patch"],
        json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Always" }])
    );
    // An update is judged by what is made of it; the policy that mutates is for creations.
    let many = desk.person.file("many.yaml", &deployment(5));
    let done = desk.eval(&["--object", &many, "--old", &few]).await;
    assert!(done.failed(Exit::Denied).is_empty());
    let done = desk.eval(&["--old", &many]).await;
    assert!(done.ok().starts_with("allowed: delete Deployment `web`"));
}

#[tokio::test]
async fn a_fact_that_the_state_lacks_is_told_and_never_guessed() {
    let desk = Desk::new();
    let few =
        desk.person.file("few.yaml", &deployment(2).replace("namespace: shop", "namespace: other"));
    let err = desk.eval(&["--object", &few]).await.failed(Exit::Failed);
    insta::assert_snapshot!("policy_lacks_params", desk.told(&err));
    let few = desk.person.file("few.yaml", &deployment(2));
    let as_ada = ["--object", &few, "--as", "ada"];
    let err = desk.eval(&as_ada).await.failed(Exit::Failed);
    assert!(
        err.contains("whether the requester `delete` on `deployments.apps` is allowed"),
        "{err}"
    );
    let rbac = desk.person.file("rbac.yaml", RBAC);
    let done = desk.eval(&[&as_ada[..], &["--state", &rbac]].concat()).await;
    assert!(
        done.out.contains(
            "warning: Validation failed for ValidatingAdmissionPolicy 'owner.example.com'"
        ),
        "{}{}",
        done.out,
        done.err
    );
    done.ok();
    let done = desk.eval(&[&as_ada[..], &["--as-group", "dev"]].concat()).await;
    assert!(!done.ok().contains("warning"));
    let none = desk.person.file("none.yaml", "apiVersion: nullius.dev/v1alpha1\nkind: RecordedState\nholds: [{apiVersion: v1, kind: ConfigMap}, {apiVersion: v1, kind: Namespace}]\n");
    let elsewhere = desk
        .person
        .file("elsewhere.yaml", &deployment(2).replace("namespace: shop", "namespace: other"));
    let done = desk.eval(&["--object", &elsewhere, "--state", &none]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains("(404 NotFound)\n  namespaces \"other\" not found"), "{}", done.out);
}

#[tokio::test]
async fn a_policy_that_looks_at_no_namespace_needs_no_state() {
    let person = Person::new();
    let plain = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few.example.com}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  validations:
  - expression: object.spec.replicas <= 3
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few.example.com}
spec: {policyName: few.example.com, validationActions: [Deny]}
";
    let selecting = plain.replace(
        "  matchConstraints:\n",
        "  matchConstraints:\n    namespaceSelector: {matchLabels: {env: prod}}\n",
    );
    let (plain, selecting) = (person.file("a/p.yaml", plain), person.file("b/p.yaml", &selecting));
    let (few, many) =
        (person.file("few.yaml", &deployment(2)), person.file("many.yaml", &deployment(5)));
    let eval = async |policies: &str, object: &str| {
        person.run(&["policy", "eval", "--policies", policies, "--object", object]).await
    };
    assert!(eval(&plain, &few).await.ok().starts_with("allowed: create Deployment `web`"));
    let denied = eval(&plain, &many).await;
    assert_eq!(denied.exit, Exit::Denied);
    assert!(denied.out.contains("failed expression: object.spec.replicas <= 3"), "{}", denied.out);
    let lacking = eval(&selecting, &few).await.failed(Exit::Failed);
    assert!(lacking.contains("why: the namespace `shop`"), "{lacking}");
    // Who says that all namespaces are in the state says that this one is not there.
    let none = person.file(
        "none.yaml",
        "apiVersion: nullius.dev/v1alpha1\nkind: RecordedState\nholds: [{apiVersion: v1, kind: Namespace}]\n",
    );
    let words = ["policy", "eval", "--policies", &plain, "--object", &few, "--state", &none];
    let done = person.run(&words).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains("(404 NotFound)\n  namespaces \"shop\" not found"), "{}", done.out);
}

#[tokio::test]
async fn requests_are_read_as_the_api_server_sends_them() {
    let desk = Desk::new();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "name": "web", "namespace": "shop",
            "kind": { "group": "apps", "version": "v1", "kind": "Deployment" },
            "resource": { "group": "apps", "version": "v1", "resource": "deployments" },
            "userInfo": { "username": "kubernetes-admin" },
            "object": {
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
                "spec": { "replicas": 9, "selector": {}, "template": { "metadata": {}, "spec": { "containers": [] } } },
            },
        },
    });
    let whole = desk.person.file("review.json", &review.to_string());
    let done = desk.eval(&["--request", &whole]).await;
    assert!(done.out.contains("at most 3 replicas in shop"), "{}{}", done.out, done.err);
    let bare = desk.person.file("request.json", &review["request"].to_string());
    assert_eq!(desk.eval(&["--request", &bare]).await.out, done.out);
    let broken = desk.person.file("broken.json", "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":{\"operation\":\"LOOK\"}}");
    let err = desk.eval(&["--request", &broken]).await.failed(Exit::Failed);
    assert!(
        err.contains("request.operation: say `CREATE`, `UPDATE`, `DELETE` or `CONNECT`"),
        "{err}"
    );
    // What two readers could read in two ways, or a field that means nothing, is no request.
    let object = review["request"]["object"].to_string();
    let few = object.replace("\"replicas\":9", "\"replicas\":1");
    let text = review.to_string();
    for (changed, told) in [
        (
            text.replace(&object, &format!("{object},\"object\":{few}")),
            "the key `object` stands twice",
        ),
        (
            text.replace("\"operation\":", "\"operation\":\"DELETE\",\"operation\":"),
            "the key `operation` stands twice",
        ),
        (text.replace("\"uid\":", "\"Object\":{},\"uid\":"), "request.Object: unknown field"),
        (text.replace("\"username\"", "\"user\""), "request.userInfo.user: unknown field"),
        (format!("{text}{text}"), ""),
    ] {
        let odd = desk.person.file("odd.json", &changed);
        let err = desk.eval(&["--request", &odd]).await.failed(Exit::Failed);
        assert!(err.contains(told), "{err}");
        let bare =
            desk.person.file("odd.json", &changed.replace("\"kind\":\"AdmissionReview\",", ""));
        assert!(desk.eval(&["--request", &bare]).await.failed(Exit::Failed).contains(told));
    }
    let err = desk.eval(&["--request", &whole, "--object", &whole]).await.failed(Exit::Usage);
    assert!(err.contains("cannot be used with"), "{err}");
}

#[tokio::test]
async fn wrong_policies_are_told_with_file_line_name_and_field() {
    let desk = Desk::new();
    let few = desk.person.file("few.yaml", &deployment(2));
    let wrong = POLICIES
        .replace("validationActions: [Warn]", "validationActions: [Shout]")
        .replace("reason: Forbidden", "reasn: Forbidden")
        .replace("request.userInfo.username !=", "request.userInfo.name !=");
    let wrong = desk.person.file("wrong.yaml", &wrong);
    let err = desk
        .person
        .run(&["policy", "eval", "--policies", &wrong, "--object", &few])
        .await
        .failed(Exit::Failed);
    insta::assert_snapshot!("policy_wrong", desk.told(&err));
    let err = desk
        .person
        .run(&["policy", "eval", "--policies", &few, "--object", &few])
        .await
        .failed(Exit::Failed);
    assert!(err.contains("no policy stands in"), "{err}");
    let unbound = desk.person.file("unbound.yaml", POLICIES.split("---").next().unwrap());
    let done = desk.person.run(&["policy", "eval", "--policies", &unbound, "--object", &few]).await;
    assert_eq!(
        done.err,
        "note: no binding names the policy `replicas.example.com`: it is for nothing\n"
    );
    done.ok();
    let odd = desk
        .person
        .file("odd.yaml", "apiVersion: example.com/v1\nkind: Odd\nmetadata: {name: x}\n");
    let err = desk.eval(&["--object", &odd]).await.failed(Exit::Failed);
    assert!(err.contains("add its `CustomResourceDefinition`"), "{err}");
}

#[tokio::test]
async fn a_mutation_that_cannot_be_applied_fails() {
    let person = Person::new();
    let policies = person.file(
        "policies.yaml",
        "\
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: args.example.com}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{spec: Object.spec{containers: [Object.spec.containers{name: \"a\", args: [\"b\"]}]}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: args.example.com}
spec: {policyName: args.example.com}
",
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n";
    let file = person.file("pod.yaml", pod);
    let done = person.run(&["policy", "explain", "--policies", &policies, "--object", &file]).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    assert!(
        done.out.contains("MutatingAdmissionPolicy `args.example.com`: fails\n"),
        "{}",
        done.out
    );
    // What no API server takes is told with its place.
    let odd = person.file("odd.yaml", &pod.replace("spec: {", "spec: {\n  hostNetwrok: true, "));
    let words = ["policy", "eval", "--policies", &policies, "--object", &odd];
    let err = person.run(&words).await.failed(Exit::Failed);
    assert!(err.contains("odd.yaml:5: unknown field `spec.hostNetwrok`"), "{err}");
}
