//! Tests of policies as people and build servers run them.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::person::{Done, Person};

const PAGE: &str = include_str!("../../../../docs/test.md");

/// The blocks of the page that name a file.
fn examples() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let named = blocks.filter_map(|block| {
        let (text, _) = block.split_once("```")?;
        Some((text.strip_prefix("# ")?.lines().next()?, text))
    });
    named.collect()
}

/// A folder with the files of the page.
struct Desk {
    person: Person,
}

impl Desk {
    fn new() -> Self {
        let person = Person::new();
        for (name, text) in examples() {
            person.file(&format!("p/{name}"), text);
        }
        Self { person }
    }

    fn folder(&self) -> String {
        self.person.home.path().join("p").display().to_string()
    }

    fn told(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder()), "")
    }

    /// Tests one file with these cases under the policy of the page.
    async fn cases(&self, cases: &str, more: &[&str]) -> Done {
        let text = format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npolicies: [replicas.yaml]\nstate:\n- {{apiVersion: v1, kind: \
             ConfigMap, metadata: {{name: limits, namespace: policies}}, data: {{most: '3'}}}}\n{cases}"
        );
        let file = self.person.file("p/own.yaml", &text);
        self.person.run(&[&["test", &file], more].concat()).await
    }

    async fn json(&self, cases: &str) -> (Exit, Value) {
        let done = self.cases(cases, &["-o", "json"]).await;
        (done.exit, serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}")))
    }
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let cases = report["cases"].as_array().unwrap().iter();
    cases.map(|case| (case["name"].as_str().unwrap(), case["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn the_example_of_the_page_does_what_the_page_says() {
    assert_eq!(
        examples().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["replicas.yaml", "web.yaml", "replicas.test.yaml", "pods.test.yaml"]
    );
    let desk = Desk::new();
    let file = format!("{}/replicas.test.yaml", desk.folder());
    let done = desk.person.run(&["test", &file, "--coverage"]).await;
    assert_eq!(done.exit, Exit::Denied);
    let shown = PAGE.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(format!("$ nullius test --coverage\n{}{}", desk.told(&done.out), done.err), shown);
    let file = format!("{}/pods.test.yaml", desk.folder());
    let done = desk.person.run(&["test", &file, "-o", "wide"]).await;
    insta::assert_snapshot!("trial_pods", desk.told(&done.ok()));
    let mended = examples()[2].1.replace("expect: denied", "expect: allowed");
    desk.person.file("p/replicas.test.yaml", &mended);
    let done = desk.person.run(&["test", &desk.folder(), "--min-coverage", "100"]).await;
    assert!(done.err.contains("5 cases in 2 files: 5 passed; 100 % of"), "{}", done.err);
    done.ok();
}

#[tokio::test]
async fn every_expectation_that_does_not_hold_is_told_with_its_place() {
    let desk = Desk::new();
    let cases = "\
cases:
- name: much is wrong
  object: web.yaml
  set: {spec.replicas: 9}
  expect:
    verdict: denied
    by: [other.example.com]
    code: 403
    reason: Forbidden
    message: {matches: '^at most [45]'}
    warnings: [careful]
    auditAnnotations: {replicas.example.com/a: x}
    patch: [{op: remove, path: /a}]
- name: the object stays
  object: web.yaml
  expect:
    verdict: allowed
    patch: []
    warnings: []
    auditAnnotations: {replicas.example.com/a: null}
    object: {spec: {replicas: 2, strategy: {type: Recreate}, paused: null, template: {spec: {containers: [{}, {}]}}}}
- name: skipped
  skip: not decided yet
  object: web.yaml
  expect: allowed
";
    let done = desk.cases(cases, &["-o", "wide"]).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("trial_failures", desk.told(&done.out));
    assert_eq!(done.err, "3 cases in 1 file: 0 passed, 2 failed, 1 skipped\n");
    let done = desk.cases(cases, &["-o", "junit"]).await;
    insta::assert_snapshot!("trial_junit", desk.told(&done.out));
    let done = desk.cases(cases, &["-o", "name"]).await;
    assert_eq!(done.out, "much is wrong\nthe object stays\n");
    let (_, report) = desk.json(cases).await;
    assert_eq!(report["kind"], "PolicyTestReport");
    assert_eq!(
        report["counts"],
        json!({ "files": 1, "passed": 0, "failed": 2, "errored": 0, "skipped": 1 })
    );
    assert_eq!(report["cases"][0]["failures"][0]["field"], "cases[0].expect.by");
    assert_eq!(report["cases"][0]["failures"][0]["line"], 12);
    desk.cases(cases, &["-o", "sarif"]).await.failed(Exit::Usage);
}

#[tokio::test]
async fn a_fact_that_nobody_gave_fails_the_case_and_is_named() {
    let desk = Desk::new();
    let text = "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npolicies: [replicas.yaml]\ncases:\n- {name: a, object: web.yaml, expect: denied}\n- {name: b, object: web.yaml, state: [{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, holds: [{apiVersion: v1, kind: ConfigMap}]}], expect: denied}\n";
    let file = desk.person.file("p/facts.test.yaml", text);
    let done = desk.person.run(&["test", &file]).await;
    assert_eq!(done.exit, Exit::Failed, "a denial that is not known is none");
    insta::assert_snapshot!("trial_lacks", desk.told(&done.out));
    assert_eq!(done.err, "2 cases in 1 file: 1 passed, 1 cannot be told\n");
    // Of a namespace nobody asks; where the state holds them all, one that is not among them does not exist.
    let namespaces = "- {name: a, object: web.yaml, state: [{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, holds: [{apiVersion: v1, kind: Namespace}]}], expect: {verdict: denied, code: 404, message: 'namespaces \"shop\" not found'}}\n";
    desk.cases(&format!("cases:\n{namespaces}"), &[]).await.ok();
    // A policy that looks at namespaces asks about what it is for, and about nothing else.
    let pods = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: prod}\nspec:\n  \
        matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}\n  \
        validations: [{expression: \"namespaceObject.metadata.labels.env == 'prod'\"}]\n---\n\
        apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: prod}\n\
        spec: {policyName: prod, validationActions: [Deny]}\n";
    desk.person.file("p/pods.yaml", pods);
    let two = "policies: [replicas.yaml, pods.yaml]\nstate:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: limits, namespace: policies}, data: {most: '9'}}\ncases:\n\
        - {name: web, object: web.yaml, expect: allowed}\n\
        - {name: pod, object: {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {containers: [{name: a, image: a}]}}, expect: allowed}\n";
    let text = format!("apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\n{two}");
    let file = desk.person.file("p/two.test.yaml", &text);
    let done = desk.person.run(&["test", &file, "-o", "json"]).await;
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(outcomes(&report), [("web", "passed"), ("pod", "errored")], "{report:#}");
    assert!(report.to_string().contains("the namespace `shop`"), "{report:#}");
}

#[tokio::test]
async fn requests_are_what_the_case_says() {
    let desk = Desk::new();
    let policy = |name: &str, expression: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             matchConstraints: {{resourceRules: [{{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*']}}]}}\n  \
             validations:\n  - expression: \"false\"\n    messageExpression: {expression}\n---\napiVersion: \
             admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\nspec: {{policyName: {name}, \
             validationActions: [Deny]}}\n"
        )
    };
    let told = "request.operation + ' ' + request.resource.resource + '/' + (has(request.subResource) ? request.subResource : '') + ' ' + request.userInfo.username + ' ' + request.userInfo.groups.join(',') + ' ' + (request.dryRun ? 'dry' : 'real') + ' ' + (has(request.userInfo.extra) ? request.userInfo.extra['team'].join('+') : '') + ' ' + (has(request.namespace) ? request.namespace : '')";
    desk.person.file("p/echo.yaml", &policy("echo.example.com", &format!("\"{told}\"")));
    let text = "\
apiVersion: nullius.dev/v1alpha1
kind: PolicyTest
policies: [echo.yaml]
defaults: {namespace: here, user: {name: ada, groups: [dev]}}
cases:
- {name: create, object: web.yaml, expect: {verdict: denied, message: 'CREATE deployments/ ada dev,system:authenticated real  shop'}}
- {name: update, object: web.yaml, old: web.yaml, dryRun: true, expect: {verdict: denied, message: 'UPDATE deployments/ ada dev,system:authenticated dry  shop'}}
- {name: delete, old: web.yaml, expect: {verdict: denied, message: 'DELETE deployments/ ada dev,system:authenticated real  shop'}}
- {name: delete by word, operation: DELETE, object: web.yaml, expect: {verdict: denied, message: {contains: DELETE}}}
- name: scale
  resource: apps/v1/deployments
  subresource: scale
  object: {apiVersion: autoscaling/v1, kind: Scale, metadata: {name: web}, spec: {replicas: 3}}
  old: {apiVersion: autoscaling/v1, kind: Scale, metadata: {name: web}, spec: {replicas: 2}}
  user: {name: 'system:serviceaccount:ops:scaler', extra: {team: [a, b]}}
  expect:
    verdict: denied
    message: UPDATE deployments/scale system:serviceaccount:ops:scaler system:serviceaccounts,system:serviceaccounts:ops,system:authenticated real a+b here
- name: exec
  operation: CONNECT
  resource: v1/pods
  subresource: exec
  object: {apiVersion: v1, kind: PodExecOptions, container: a}
  expect: {verdict: denied, message: {contains: CONNECT pods/exec ada}}
- name: a whole request
  request:
    request: {operation: CREATE, name: a, namespace: b, kind: {group: '', version: v1, kind: Pod}, resource: {group: '', version: v1, resource: pods}, userInfo: {username: eve, groups: [g]}, object: {metadata: {name: a}}}
  expect: {verdict: denied, message: 'CREATE pods/ eve g real  b'}
";
    let file = desk.person.file("p/echo.test.yaml", text);
    let done = desk.person.run(&["test", &file]).await;
    assert_eq!(done.exit, Exit::Ok, "{}{}", done.out, done.err);
}

#[tokio::test]
async fn what_policies_change_is_tested_and_seen_from_both_sides() {
    let desk = Desk::new();
    desk.person.file(
        "p/label.yaml",
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicy\nmetadata: {name: label.example.com}\nspec:\n  reinvocationPolicy: Never\n  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}\n  mutations:\n  - patchType: ApplyConfiguration\n    applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: Object.metadata.labels{team: \"a\"}}}'}\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicyBinding\nmetadata: {name: label.example.com}\nspec: {policyName: label.example.com}\n",
    );
    let head = "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npolicies: [label.yaml]\ncases:\n- name: it is added\n  object: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n  expect:\n    verdict: allowed\n    patch: [{op: add, path: /metadata/labels, value: {team: a}}]\n    object: {metadata: {labels: {team: a}}}\n";
    let file = desk.person.file("p/label.test.yaml", head);
    let done = desk.person.run(&["test", &file, "--min-coverage", "51"]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(
        done.out.contains("mutations[0]: never unchanged (") && done.out.contains("label.yaml:8)"),
        "{}",
        done.out
    );
    assert!(
        done.err.ends_with("50 % of the policies seen (1 of 2 sides), which is less than 51 %\n"),
        "{}",
        done.err
    );
    let whole = format!(
        "{head}- name: it stays\n  object: {{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, labels: {{team: a}}}}}}\n  expect: {{verdict: allowed, patch: []}}\n"
    );
    desk.person.file("p/label.test.yaml", &whole);
    desk.person.run(&["test", &file, "--min-coverage", "100"]).await.ok();
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_and_the_rest_is_asked() {
    let desk = Desk::new();
    let wrong = [
        "cases:\n- {name: a, object: web.yaml, expcet: allowed}\n",
        "cases:\n- {name: a, object: web.yaml}\n",
        "cases:\n- {name: a, object: web.yaml, expect: allowd}\n",
        "cases:\n- {name: a, object: web.yaml, expect: {verdict: denied, massage: x}}\n",
        "cases:\n- {name: a, object: web.yaml, expect: {verdict: denied, message: {matches: '('}}}\n",
        "cases:\n- {name: a, object: web.yaml, operation: LOOK, expect: allowed}\n",
        "cases: []\n",
        "env: k8s-1.2\ncases:\n- {name: a, object: web.yaml, expect: allowed}\n- {name: a, objects: [], old: web.yaml, expect: {verdict: allowed, by: x, code: 1}}\n- {name: b, expect: {verdict: warned, warnings: []}}\n- {name: c, request: web.yaml, object: web.yaml, namespace: x, resource: pods, skip: '', expect: allowed}\n",
        "podSecurity: strict\ncases:\n- {name: a, object: web.yaml, expect: allowed}\n",
        "cases:\n- {name: a, name: b, object: web.yaml, expect: allowed}\n",
        "cases: {\n",
    ];
    let mut told = String::new();
    for cases in wrong {
        let done = desk.cases(cases, &[]).await;
        assert_eq!(done.exit, Exit::Failed, "{cases}: {}", done.out);
        told.push_str(&desk.told(&done.err));
    }
    insta::assert_snapshot!("trial_wrong", told);
    let several =
        format!("{}---\n{}", examples()[3].1, "kind: Pod\napiVersion: v1\n---\na: 1\n---\n- [\n");
    let file = desk.person.file("p/several.test.yaml", &several);
    let done = desk.person.run(&["test", &file]).await;
    assert_eq!(done.exit, Exit::Failed);
    insta::assert_snapshot!("trial_several", desk.told(&done.err));
    let done = desk.person.run(&["test", "/nowhere"]).await;
    assert!(done.failed(Exit::Failed).contains("/nowhere: cannot read it: it does not exist"));
    let empty = desk.person.home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let done = desk.person.run(&["test", empty.to_str().unwrap()]).await;
    assert!(done.failed(Exit::Failed).contains("no test stands in"));
    let done = desk.person.run(&["test", &file, "--run", "("]).await;
    assert!(done.failed(Exit::Usage).contains("unclosed group"));
    let file = format!("{}/pods.test.yaml", desk.folder());
    let done = desk.person.run(&["test", &file, "--run", "nothing like it"]).await;
    assert!(done.failed(Exit::Failed).contains("has a name that matches `nothing like it`"));
    let done = desk.person.run(&["test", &file, "--run", "only warned"]).await;
    assert_eq!(done.err, "1 case in 1 file: 1 passed\n");
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_refuses_and_a_missing_path_asks_nothing() {
    let desk = Desk::new();
    let broken = examples()[0].1.replace("object.spec.replicas <=", "object.spec.replicas <");
    let broken = broken.replace("int(params.data.most)", "int(params.data.most");
    desk.person.file("p/replicas.yaml", &broken);
    let (exit, report) =
        desk.json("cases:\n- {name: a, object: web.yaml, expect: allowed}\n").await;
    assert_eq!(exit, Exit::Denied);
    assert_eq!(outcomes(&report), [("a", "failed")]);
    assert!(
        report["errors"][0]["message"].as_str().unwrap().contains("spec.validations[0].expression"),
        "{report}"
    );
    assert_eq!(report["coverage"]["total"], 0);
    std::fs::remove_file(desk.person.home.path().join("p/replicas.yaml")).unwrap();
    let (exit, report) =
        desk.json("cases:\n- {name: a, object: web.yaml, expect: allowed}\n").await;
    assert_eq!((exit, outcomes(&report)), (Exit::Failed, vec![("a", "errored")]));
    assert_eq!(report["errors"][0]["line"], 3);
}
