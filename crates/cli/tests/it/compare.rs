//! Two folders of manifests beside each other, as a change is reviewed.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::person::{Done, Person};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers: [{name: a, image: 'registry.example/a:1'}]
";

const RIGHTS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: readers}
rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: readers}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: dev}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editors, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: ada}]
";

const POLICIES: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas.example.com}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: ['*']}]
  validations:
  - expression: object.spec.replicas <= 3
  - expression: has(object.metadata.labels)
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas.example.com}
spec: {policyName: replicas.example.com, validationActions: [Deny, Audit]}
";

struct Desk(Person);

impl Desk {
    fn new(base: &[(&str, &str)], head: &[(&str, &str)]) -> Self {
        let person = Person::new();
        for (side, files) in [("base", base), ("head", head)] {
            std::fs::create_dir(person.home.path().join(side)).unwrap();
            for (name, text) in files {
                person.file(&format!("{side}/{name}"), text);
            }
        }
        Self(person)
    }

    async fn diff(&self, more: &[&str]) -> Done {
        let path = |side: &str| self.0.home.path().join(side).display().to_string();
        let (base, head) = (path("base"), path("head"));
        self.0.run(&[&["diff", &base, &head], more].concat()).await
    }

    fn told(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.home.path().display()), "")
    }
}

#[tokio::test]
async fn what_gets_worse_is_told_with_exit_code_2() {
    let pod = POD.replace("spec:\n", "spec:\n  hostNetwork: true\n");
    let rights = RIGHTS
        .replace(
            "verbs: [get, list]}",
            "verbs: [get]}, {apiGroups: [''], resources: ['*'], verbs: [watch, delete]}",
        )
        .replace("name: ada}", "name: ada}, {kind: ServiceAccount, name: bot}");
    let policies = POLICIES
        .replace("failurePolicy: Fail", "failurePolicy: Ignore")
        .replace("operations: [CREATE, UPDATE]", "operations: [CREATE]")
        .replace("  - expression: has(object.metadata.labels)\n", "")
        .replace("[Deny, Audit]", "[Audit]");
    let base = [("pod.yaml", POD), ("rights.yaml", RIGHTS), ("policies.yaml", POLICIES)];
    let head = [("pod.yaml", &*pod), ("rights.yaml", &*rights), ("policies.yaml", &*policies)];
    let desk = Desk::new(&base, &head);
    let baseline = ["--pod-security", "baseline"];
    let done = desk.diff(&baseline).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("compare_worse", desk.told(&done.out));
    assert_eq!(done.err, "1 finding more, 2 rights more, 2 policies or bindings weaker or gone\n");
    let done = desk.diff(&[&baseline[..], &["-o", "markdown"]].concat()).await;
    insta::assert_snapshot!("compare_markdown", desk.told(&done.out));
    let done = desk.diff(&[&baseline[..], &["-o", "json"]].concat()).await;
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&document["kind"], &document["worse"]),
        (&json!("ManifestDifference"), &json!(true))
    );
    assert_eq!(document["findings"]["new"][0]["check"], "hostNamespaces");
    assert_eq!(document["rights"]["lost"][0]["verbs"], json!(["list"]));
    assert_eq!(document["policies"][0]["change"], "weakened");
    desk.diff(&["-o", "junit"]).await.failed(Exit::Usage);
}

#[tokio::test]
async fn what_gets_better_or_moves_is_no_harm() {
    let base = [("a.yaml", POD), ("p.yaml", POLICIES)];
    let moved = format!("# moved\n\n{POLICIES}---\n{POD}");
    let desk = Desk::new(&base, &[("all.yaml", &moved)]);
    let done = desk.diff(&[]).await;
    assert_eq!((done.out.as_str(), done.err.as_str()), ("", "nothing is other\n"));
    assert_eq!(done.exit, Exit::Ok);
    let before =
        POLICIES.replace("replicas <= 3", "replicas <= 2").replace("[Deny, Audit]", "[Deny]");
    let base = [("r.yaml", RIGHTS), ("p.yaml", before.as_str())];
    let desk = Desk::new(&base, &[("p.yaml", POLICIES)]);
    let done = desk.diff(&[]).await;
    insta::assert_snapshot!("compare_better", desk.told(&done.out));
    assert_eq!(done.err, "nothing got worse\n");
    assert_eq!(done.exit, Exit::Ok);
}

const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/enforce-version: v1.30}}
---
apiVersion: v1
kind: Namespace
metadata: {name: tools}
";

#[tokio::test]
async fn what_a_namespace_enforces_and_what_a_rule_says_is_told_in_words() {
    let weaker = NAMESPACES.replace("enforce: restricted", "enforce: baseline");
    let desk = Desk::new(&[("n.yaml", NAMESPACES)], &[("n.yaml", &weaker)]);
    let done = desk.diff(&["--pod-security", "baseline"]).await;
    assert_eq!(done.exit, Exit::Denied, "{}", done.out);
    insta::assert_snapshot!("compare_namespace", desk.told(&done.out));
    assert_eq!(done.err, "1 namespace that enforces less\n");
    let stronger = NAMESPACES
        .replace(
            "name: tools",
            "name: tools, labels: {pod-security.kubernetes.io/enforce: baseline}",
        )
        .replace("v1.30", "v1.20");
    let desk = Desk::new(&[("n.yaml", NAMESPACES)], &[("n.yaml", &stronger)]);
    let done = desk.diff(&["--pod-security", "baseline"]).await;
    assert_eq!(done.err, "nothing got worse\n");
    insta::assert_snapshot!("compare_namespace_stronger", desk.told(&done.ok()));
    // A rule that asks the same and says something else; one that asks something else.
    let rule = "  - expression: object.spec.replicas <= 3\n";
    let said =
        POLICIES.replace(rule, &format!("{rule}    message: at most 3\n    reason: Forbidden\n"));
    let desk = Desk::new(&[("p.yaml", POLICIES)], &[("p.yaml", &said)]);
    insta::assert_snapshot!("compare_words", desk.told(&desk.diff(&[]).await.ok()));
    let other = POLICIES.replace("<= 3", "<= 4");
    let desk = Desk::new(&[("p.yaml", POLICIES)], &[("p.yaml", &other)]);
    insta::assert_snapshot!("compare_expression", desk.told(&desk.diff(&[]).await.ok()));
    let turned = POLICIES.replace(
        "  - expression: object.spec.replicas <= 3\n  - expression: has(object.metadata.labels)\n",
        "  - expression: has(object.metadata.labels)\n  - expression: object.spec.replicas <= 3\n",
    );
    let desk = Desk::new(&[("p.yaml", POLICIES)], &[("p.yaml", &turned)]);
    let out = desk.diff(&[]).await.ok();
    assert!(out.contains("words: `validations` stand in another order"), "{out}");
}

#[tokio::test]
async fn a_policy_that_goes_is_worse_and_a_state_says_what_roles_give() {
    let desk = Desk::new(&[("p.yaml", POLICIES)], &[("r.yaml", RIGHTS)]);
    let state = desk.0.file(
        "state.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: edit}\nrules: [{apiGroups: [''], resources: [secrets], verbs: [get, list]}]\n",
    );
    let done = desk.diff(&["--state", &state]).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("compare_gone", desk.told(&done.out));
}

#[tokio::test]
async fn both_meanings_are_told_apart_and_bad_input_is_told() {
    let desk = Desk::new(&[("a.yaml", "a: [\n")], &[("a.yaml", "kind: x\nkind: y\n")]);
    let done = desk.diff(&[]).await;
    let err = desk.told(&done.failed(Exit::Failed));
    assert!(err.contains("base/a.yaml:") && err.contains("head/a.yaml:2: the key"), "{err}");
    // What is broken, or is not there, on one side alone is not called gone or new.
    for (base, head) in [(POLICIES, "a: ["), ("a: [", POLICIES)] {
        let desk = Desk::new(&[("p.yaml", base), ("a.yaml", POD)], &[("p.yaml", head)]);
        let done = desk.diff(&[]).await;
        assert_eq!((done.exit, done.out.as_str()), (Exit::Failed, ""), "{}", done.err);
        assert!(
            done.err.contains("/p.yaml:") && done.err.contains("cannot be compared"),
            "{}",
            done.err
        );
        let there = desk.0.home.path().join("base").display().to_string();
        for sides in [[there.as_str(), "/nowhere"], ["/nowhere", there.as_str()]] {
            let done = desk.0.run(&["diff", sides[0], sides[1]]).await;
            assert_eq!((done.exit, done.out.as_str()), (Exit::Failed, ""), "{}", done.err);
            assert!(done.err.contains("/nowhere: cannot read it"), "{}", done.err);
        }
    }
    // What is broken on both sides alike says nothing of the rest.
    let chart = ("t.yaml", "kind: Pod\nmetadata: {name: {{ .a }}}\n");
    let desk = Desk::new(&[chart, ("p.yaml", POLICIES)], &[chart]);
    let done = desk.diff(&[]).await;
    assert_eq!(done.exit, Exit::Denied, "{}", done.err);
    assert!(done.out.contains("removed ValidatingAdmissionPolicy"), "{}", done.out);
    let person = Person::new();
    person.run(&["diff"]).await.failed(Exit::Usage);
    person.run(&["diff", "one"]).await.failed(Exit::Usage);
    person.run(&["diff", "a", "b", "-f", "c"]).await.failed(Exit::Usage);
    let err = person.run(&["diff", "/nowhere", "/neither"]).await.failed(Exit::Failed);
    assert!(
        err.contains("/nowhere: cannot read it") && err.contains("/neither: cannot read it"),
        "{err}"
    );
    person.run(&["scan", "/tmp", "-o", "markdown"]).await.failed(Exit::Usage);
}

#[tokio::test]
async fn a_cell_of_markdown_holds_no_markup_of_others() {
    let odd = POD
        .replace("name: web,", "name: '<img src=x>|[a](http://b)@all',")
        .replace("spec:\n", "spec:\n  hostPID: true\n");
    let desk = Desk::new(&[], &[("pod.yaml", &odd)]);
    let done = desk.diff(&["--pod-security", "baseline", "-o", "markdown"]).await;
    assert!(done.out.contains(r"\<img src=x\>\|\[a\]\(http://b\)\@all"), "{}", done.out);
}
