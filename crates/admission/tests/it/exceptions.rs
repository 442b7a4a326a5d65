//! Exceptions beside policies: what a scan says of that which they cover, and of those that are wrong.

use nullius_admission::{Depth, Policies, Report, Scan, Sender, State, Waivers, junit, sarif};
use nullius_manifest::Source;
use nullius_policy::admission_policy::Version;
use serde_json::json;

const POLICY: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: ports.example.com}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [daemonsets]}]}
  validations:
  - expression: object.spec.template.spec.containers.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))
    message: no host ports
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: ports.example.com}
spec: {policyName: ports.example.com, validationActions: [Deny]}
---
";
const EDGE: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: edge, namespace: shop}
spec:
  selector: {matchLabels: {app: edge}}
  template:
    metadata: {labels: {app: edge}}
    spec:
      containers:
      - {name: edge, image: 'registry.example/edge:1', ports: [{containerPort: 80, hostPort: 80}]}
";

fn exception(expires: &str, scope: &str) -> String {
    format!(
        "apiVersion: nullius.dev/v1alpha1
kind: PolicyException
metadata: {{name: edge, namespace: exceptions}}
spec:
  owner: edge team
  reason: listens on the node
  expires: {expires}
  rules: [{{policy: ports.example.com}}, {{policy: PodSecurity, checks: [hostPorts]}}]
  scope: {scope}
"
    )
}

fn scan(policies: &str, objects: &str) -> Report {
    let mut asked =
        Policies::new(Version::minor(36)).excepting_at("2026-11-21T12:00:00Z".parse().unwrap());
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    asked.policies(Ok(source("policies.yaml", policies)));
    let today = "2026-11-21".parse().unwrap();
    let mut scan = Scan::new("baseline".parse().unwrap(), Waivers::default(), today)
        .with_policies(asked, Sender::default())
        .with_depth(Depth::Findings);
    scan.source(Ok(source("edge.yaml", objects)));
    scan.finish()
}

fn checks(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.check.as_str()).collect()
}

#[test]
fn what_an_exception_covers_is_waived_with_who_answers_for_it() {
    let both = ["hostPorts", "ports.example.com"];
    assert_eq!(checks(&scan(POLICY, EDGE)), both);
    let scope = "{namespaces: [shop], containers: [edge]}";
    let report = scan(&format!("{POLICY}{}", exception("2026-12-24T00:00:00Z", scope)), EDGE);
    assert_eq!((checks(&report), report.errors.len()), (vec![], 0));
    let waived: Vec<&str> = report.waived.iter().map(|each| each.finding.check.as_str()).collect();
    assert_eq!(waived, both);
    assert!(report.waived.iter().all(|each| {
        each.exception.as_deref() == Some("exceptions/edge") && each.owner == "edge team"
    }));
    assert!(
        sarif(&report, "0")
            .to_string()
            .contains("listens on the node (edge team, until 2026-12-24T00:00:00Z)")
    );
    assert!(junit(&report).contains("<skipped"));
}

#[test]
fn an_exception_that_ended_covers_nothing_and_is_told() {
    let ended = exception("2026-11-21T12:00:00Z", "{namespaces: [shop]}");
    let report = scan(&format!("{POLICY}{ended}"), EDGE);
    assert_eq!(report.findings.len(), 2);
    let note = "the exception `exceptions/edge` ended at 2026-11-21T12:00:00Z and covers nothing";
    assert!(report.notes.iter().any(|told| told == note), "{:?}", report.notes);
}

#[test]
fn an_exception_that_is_wrong_is_told_with_its_line_and_covers_nothing() {
    let text = exception("2027-11-21T12:00:00Z", "{namespaces: ['*']}");
    let report = scan(&format!("{POLICY}{text}"), EDGE);
    assert_eq!(report.findings.len(), 2);
    let told: Vec<String> = report
        .errors
        .iter()
        .map(|fault| format!("{}: {}", fault.line.unwrap_or_default(), fault.message))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("21: PolicyException `edge`: spec.expires: an exception lasts 90 days")
    );
    assert!(
        told[1].starts_with("23: PolicyException `edge`: spec.scope.namespaces: `*`"),
        "{told:?}"
    );
}

#[test]
fn who_sends_objects_excepts_them_from_nothing() {
    let beside =
        format!("{EDGE}---\n{}", exception("2026-12-24T00:00:00Z", "{namespaces: [shop]}"));
    assert_eq!(scan(POLICY, &beside).findings.len(), 2);
}

#[test]
fn a_state_without_a_clock_takes_no_exception() {
    let object = json!({ "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException", "metadata": { "name": "a" } });
    let told = State::default().add(&object).unwrap_err().to_string();
    assert!(told.contains("what time it is"), "{told}");
}
