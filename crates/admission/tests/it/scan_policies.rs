//! Scans with policies of files: what they find, where, and what happens when something about them is wrong or missing.

use nullius_admission::{Depth, FaultKind, Policies, Report, Scan, Sender, Waivers, junit, sarif};
use nullius_manifest::Source;
use nullius_model::{Enforcement, Severity};
use nullius_policy::admission_policy::Version;

fn file(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn scan_at(level: &str, policies: &str, sources: &[(&str, &str)], depth: Depth) -> Report {
    let mut asked = Policies::new(Version::minor(36));
    asked.policies(Ok(file("policies.yaml", policies)));
    let today = "2026-11-21".parse().unwrap();
    let mut scan = Scan::new(level.parse().unwrap(), Waivers::default(), today)
        .with_policies(asked, Sender::default())
        .with_depth(depth);
    for (name, text) in sources {
        scan.source(Ok(file(name, text)));
    }
    scan.finish()
}

fn scan(policies: &str, sources: &[(&str, &str)]) -> Report {
    scan_at("privileged", policies, sources, Depth::Findings)
}

/// Findings as `FILE:LINE:COLUMN CHECK PATH: MESSAGE`.
fn found(report: &Report) -> Vec<String> {
    let told = report.findings.iter().map(|finding| {
        let (at, path) = (&finding.location, &finding.path);
        format!(
            "{}:{}:{} {} {path}: {}",
            at.file, at.line, at.column, finding.check, finding.message
        )
    });
    told.collect()
}

fn faults(report: &Report) -> Vec<String> {
    let told = report.errors.iter().map(|fault| {
        let line = fault.line.unwrap_or_default();
        format!("{:?} {}:{line}: {}", fault.kind, fault.file, fault.message)
    });
    told.collect()
}

const DEPLOYMENTS: &str =
    "{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {name}}}\nspec:\n  matchConstraints: {{resourceRules: [{DEPLOYMENTS}]}}\n{spec}---\n"
    )
}

fn binding(name: &str, policy: &str, rest: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\nspec: {{policyName: {policy}, {rest}}}\n---\n"
    )
}

const REPLICAS: &str = "  validations:\n  - expression: object.spec.replicas <= 3\n    messageExpression: \"'at most 3 replicas, not ' + string(object.spec.replicas)\"\n";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  labels: {tier: front}
spec:
  selector: {matchLabels: {a: b}}
  replicas: 5
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - {name: a, image: 'a:1', securityContext: {privileged: true}}
";

#[test]
fn a_policy_finds_what_a_cluster_would_refuse_at_the_field_that_it_looks_at() {
    let policies =
        policy("replicas", REPLICAS) + &binding("b", "replicas", "validationActions: [Deny]");
    let report = scan(&policies, &[("web.yaml", WEB)]);
    assert_eq!(found(&report), ["web.yaml:9:3 replicas spec.replicas: at most 3 replicas, not 5"]);
    let finding = &report.findings[0];
    assert_eq!(
        (finding.severity, finding.enforcement, finding.binding.as_deref()),
        (Severity::High, Enforcement::Deny, Some("b"))
    );
    assert!(report.is_denied());
    assert_eq!(
        report.objects[0].message,
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'b' denied request: at most 3 replicas, not 5"
    );
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    // Defaults of the API server count: `replicas` is 1.
    let unset = WEB.replace("  replicas: 5\n", "");
    assert!(scan(&policies, &[("web.yaml", &unset)]).findings.is_empty());
}

#[test]
fn what_only_warns_refuses_nothing_and_the_strictest_binding_counts() {
    let warned = policy("replicas", REPLICAS)
        + &binding("b", "replicas", "validationActions: [Warn, Audit]");
    let report = scan(&warned, &[("web.yaml", WEB)]);
    assert_eq!((report.findings.len(), report.is_denied()), (1, false));
    assert_eq!(report.findings[0].enforcement, Enforcement::Warn);
    assert_eq!(sarif(&report, "1")["runs"][0]["results"][0]["level"], "note");
    let both = warned + &binding("c", "replicas", "validationActions: [Deny]");
    let report = scan(&both, &[("web.yaml", WEB)]);
    assert_eq!((report.findings.len(), report.is_denied()), (1, true));
    let unbound = scan(&policy("replicas", REPLICAS), &[("web.yaml", WEB)]);
    assert!(unbound.findings.is_empty());
    assert_eq!(
        unbound.notes,
        ["no binding names the policy `replicas`: it is for nothing, as in a cluster"]
    );
}

#[test]
fn what_an_api_server_would_warn_of_is_told_with_its_line() {
    let typo =
        "  validations:\n  - expression: has(object.spec.replica) && object.spec.replica > 3\n";
    let policies = policy("typo", typo) + &binding("b", "typo", "validationActions: [Deny]");
    assert_eq!(
        scan(&policies, &[("web.yaml", WEB)]).notes,
        [
            "policies.yaml:7: an API server would warn of `typo`: spec.validations[0].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:4: undefined field 'replica'"
        ]
    );
}

#[test]
fn a_policy_that_cannot_be_used_refuses_whatever_it_is_for() {
    let wrong = "  validations:\n  - expression: object.spec.replicas <\n";
    let policies = policy("broken", wrong)
        + &binding("b", "broken", "validationActions: [Deny]")
        + &policy("replicas", REPLICAS)
        + &binding("c", "replicas", "validationActions: [Deny]");
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 1}]}\n";
    let small = WEB.replace("replicas: 5", "replicas: 1") + service;
    let report = scan(&policies, &[("web.yaml", &small)]);
    let told = faults(&report);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "Refused policies.yaml:7: ValidatingAdmissionPolicy `broken`: spec.validations[0].expression: Invalid value:"
        ),
        "{}",
        told[0]
    );
    let found = found(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(
            "web.yaml:1:1 broken : the policy cannot be used (policies.yaml:7: ValidatingAdmissionPolicy `broken`: "
        ),
        "{}",
        found[0]
    );
    // Constraints that cannot be read are taken for all.
    let lost = policies.replacen("resources: [deployments]", "resources: ['']", 1);
    assert_eq!(scan(&lost, &[("web.yaml", &small)]).findings.len(), 2);
    let mutating = policies
        .replacen("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy", 2)
        .replacen(wrong, "  mutations: []\n", 1)
        .replacen(", validationActions: [Deny]", "", 1);
    let report = scan(&mutating, &[("web.yaml", &small)]);
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].message.contains("the policy cannot be used"), "{report:?}");
}

#[test]
fn parameters_stand_beside_policies_or_among_the_objects_and_are_absent_otherwise() {
    let limited = policy(
        "limited",
        "  paramKind: {apiVersion: v1, kind: ConfigMap}\n  validations:\n  - expression: object.spec.replicas <= int(params.data.most)\n",
    );
    let of = |action: &str| {
        limited.clone()
            + &binding(
                "b",
                "limited",
                &format!(
                    "validationActions: [Deny], paramRef: {{name: most, parameterNotFoundAction: {action}}}"
                ),
            )
    };
    let param = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: most, namespace: shop}\ndata: {most: '4'}\n";
    let failed = "web.yaml:9:3 limited spec.replicas: failed expression: object.spec.replicas <= int(params.data.most)";
    assert_eq!(found(&scan(&(of("Deny") + param), &[("web.yaml", WEB)])), [failed]);
    // It may stand in a file that is read later.
    let report = scan(&of("Deny"), &[("web.yaml", WEB), ("z.yaml", param)]);
    assert_eq!((found(&report), faults(&report)), (vec![failed.to_owned()], Vec::new()));
    let absent = scan(&of("Deny"), &[("web.yaml", WEB)]);
    assert_eq!(
        found(&absent),
        [
            "web.yaml:1:1 limited : failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ]
    );
    let told = "Unjudged web.yaml:1: the `v1 ConfigMap` `most` in the namespace `shop` is not among the files, and counts as absent";
    assert_eq!(faults(&absent), [told]);
    // Under `Allow` nothing is found, but that it could not be asked is no silence.
    let skipped = scan(&of("Allow"), &[("web.yaml", WEB), ("w.yaml", WEB)]);
    assert!(skipped.findings.is_empty());
    assert_eq!(faults(&skipped), [format!("{told} (and 1 other object)")]);
}

#[test]
fn a_namespace_must_be_known_only_where_a_policy_looks_at_it() {
    let of = |rest: &str| policy("replicas", REPLICAS) + &binding("b", "replicas", rest);
    let selecting = of(
        "validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {env: prod}}}",
    );
    let report = scan(&selecting, &[("web.yaml", WEB)]);
    assert!(report.findings.is_empty());
    assert_eq!(
        faults(&report),
        ["Unjudged web.yaml:1: policies cannot judge it: this is not known: the namespace `shop`"]
    );
    let namespace = |env: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{env: {env}}}}}\n"
        )
    };
    let (prod, test) = (namespace("prod"), namespace("test"));
    let report = scan(&selecting, &[("web.yaml", WEB), ("z.yaml", &prod)]);
    assert_eq!((report.findings.len(), report.errors.len()), (1, 0));
    let report = scan(&selecting, &[("web.yaml", WEB), ("z.yaml", &test)]);
    assert_eq!((report.findings.len(), report.errors.len()), (0, 0));
}

#[test]
fn a_namespace_that_is_known_to_be_absent_is_no_place_for_an_object() {
    let state = "apiVersion: nullius.dev/v1alpha1\nkind: RecordedState\nholds: [{apiVersion: v1, kind: Namespace}]\n---\n";
    let plain = policy("replicas", "  validations: [{expression: 'true'}]\n")
        + &binding("b", "replicas", "validationActions: [Deny]");
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let report = scan(&plain, &[("web.yaml", WEB)]);
    assert_eq!((found(&report), faults(&report)), (Vec::<String>::new(), Vec::<String>::new()));
    let report = scan(&(state.to_owned() + &plain), &[("web.yaml", WEB)]);
    assert_eq!(found(&report), ["web.yaml:1:1 admission : namespaces \"shop\" not found"]);
    // It may stand in a file that is read later.
    let report = scan(&(state.to_owned() + &plain), &[("web.yaml", WEB), ("z.yaml", shop)]);
    assert_eq!((found(&report), faults(&report)), (Vec::<String>::new(), Vec::<String>::new()));
}

#[test]
fn pods_are_judged_as_policies_leave_them() {
    let mutating = "\
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: tame}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}
  reinvocationPolicy: Never
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: '[JSONPatch{op: \"remove\", path: \"/spec/template/spec/containers/0/securityContext/privileged\"}]'
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: tame}
spec: {policyName: tame}
";
    let sources = [("web.yaml", WEB)];
    assert!(scan_at("baseline", mutating, &sources, Depth::Findings).findings.is_empty());
    let only_pods = mutating.replace("deployments", "statefulsets");
    let report = scan_at("baseline", &only_pods, &sources, Depth::Findings);
    assert_eq!(report.findings.len(), 1);
    // What cannot be applied refuses the object, which is still judged.
    let failing = mutating.replace("privileged\\\"", "other\\\"").replace("/privileged", "/other");
    let report = scan_at("baseline", &failing, &sources, Depth::Findings);
    assert_eq!(found(&report).len(), 2, "{:?}", found(&report));
    assert!(report.findings[1].message.contains("JSON Patch"), "{:?}", report.findings[1]);
}

#[test]
fn custom_kinds_are_judged_by_their_definition() {
    let policies = policy("sized", "  validations:\n  - expression: object.spec.size < 3\n")
        .replace("apiGroups: [apps]", "apiGroups: [example.com]")
        .replace("deployments", "widgets")
        + &binding("b", "sized", "validationActions: [Deny]");
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n";
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\nspec:\n  group: example.com\n  names: {kind: Widget, plural: widgets}\n  scope: Namespaced\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, default: 7}}}}}}}]\n";
    let report = scan(&policies, &[("a.yaml", widget), ("b.yaml", definition)]);
    assert_eq!(
        found(&report),
        ["a.yaml:4:1 sized spec.size: failed expression: object.spec.size < 3"]
    );
    let report = scan(&policies, &[("a.yaml", widget)]);
    assert_eq!(
        faults(&report),
        [
            "Unjudged a.yaml:1: policies cannot judge `Widget`: `example.com/v1` is not Kubernetes' own and not defined in the files"
        ]
    );
    let other = widget.replace("example.com", "other.org");
    assert!(scan(&policies, &[("a.yaml", &other)]).errors.is_empty());
}

#[test]
fn autoscalers_are_judged_in_the_version_that_a_policy_names() {
    let of = |version: &str, expression: &str| {
        policy("cpu", &format!("  validations:\n  - expression: \"{expression}\"\n"))
            .replace(
                "apiGroups: [apps], apiVersions: [v1]",
                &format!("apiGroups: [autoscaling], apiVersions: [{version}]"),
            )
            .replace("deployments", "horizontalpodautoscalers")
            + &binding("b", "cpu", "validationActions: [Deny]")
    };
    let scaler = |version: &str, rest: &str| {
        format!(
            "apiVersion: autoscaling/{version}\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a}}\nspec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: a}}\n  maxReplicas: 3\n{rest}"
        )
    };
    let cpu = "  metrics:\n  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}\n";
    let older = "object.apiVersion == 'autoscaling/v1' && object.spec.targetCPUUtilizationPercentage == 70 && object.spec.minReplicas == 1 && object.status.currentReplicas == 0 && !has(object.spec.metrics)";
    let report = scan(&of("v1", older), &[("a.yaml", &scaler("v2", cpu))]);
    assert_eq!((found(&report), faults(&report)), (Vec::new(), Vec::new()));
    let newer = |percent: u8| {
        format!(
            "object.apiVersion == 'autoscaling/v2' && object.spec.metrics.map(m, m.resource.target.averageUtilization) == [{percent}] && object.spec.metrics[0].resource.name == 'cpu' && object.status.currentMetrics == null"
        )
    };
    let set = scaler("v1", "  targetCPUUtilizationPercentage: 60\n");
    for (percent, object) in [(60, set), (80, scaler("v1", ""))] {
        let report = scan(&of("v2", &newer(percent)), &[("a.yaml", &object)]);
        assert_eq!((found(&report), faults(&report)), (Vec::new(), Vec::new()), "{percent}");
    }
    let unset = older.replace("== 70", "== 80");
    let report = scan(&of("v1", &unset), &[("a.yaml", &scaler("v2", ""))]);
    assert_eq!((found(&report), faults(&report)), (Vec::new(), Vec::new()));
    // What the older version has no fields for it keeps in annotations.
    let memory = cpu.replace("cpu", "memory");
    let behavior = "  behavior: {scaleDown: {stabilizationWindowSeconds: 5}}\n";
    for (rest, name) in [(memory.as_str(), "metrics"), (behavior, "behavior")] {
        let kept = format!(
            "object.apiVersion == 'autoscaling/v1' && 'autoscaling.alpha.kubernetes.io/{name}' in object.metadata.annotations"
        );
        let report = scan(&of("v1", &kept), &[("a.yaml", &scaler("v2", rest))]);
        assert_eq!((found(&report), faults(&report)), (Vec::new(), Vec::new()), "{name}");
    }
    // What stands in its status is not made up.
    let standing = "status: {currentReplicas: 1, desiredReplicas: 1, conditions: [{type: AbleToScale, status: 'True'}]}\n";
    let report = scan(&of("v1", older), &[("a.yaml", &scaler("v2", &format!("{cpu}{standing}")))]);
    assert_eq!(
        faults(&report),
        [
            "Unjudged a.yaml:1: policies cannot judge it: this is not known: the object as `autoscaling/v1 HorizontalPodAutoscaler`"
        ]
    );
}

#[test]
fn a_policy_says_where_how_bad_and_what_to_do() {
    let spec = "  variables:\n  - {name: wrong, expression: \"object.spec.template.spec.containers.transformList(i, c, c.securityContext.privileged, 'spec.template.spec.containers[' + string(i) + '].securityContext.privileged')\"}\n  validations:\n  - {expression: variables.wrong.size() == 0, message: no root on nodes}\n  auditAnnotations:\n  - {key: path, valueExpression: \"variables.wrong.join(', ')\"}\n";
    let policies = policy("calm", spec).replace(
        "{name: calm}",
        "{name: calm, annotations: {nullius.dev/severity: low, nullius.dev/fix: take it out, nullius.dev/about: it opens the node}}",
    ) + &binding("b", "calm", "validationActions: [Deny]");
    let report = scan(&policies, &[("web.yaml", WEB)]);
    assert_eq!(
        found(&report),
        [
            "web.yaml:14:51 calm spec.template.spec.containers[0].securityContext.privileged: no root on nodes"
        ]
    );
    let finding = &report.findings[0];
    assert_eq!((finding.severity, finding.fix.as_str()), (Severity::Low, "take it out"));
    let run = &sarif(&report, "1")["runs"][0];
    let rule = run["tool"]["driver"]["rules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&rule["id"], &rule["help"]["text"]), (&"calm".into(), &"take it out".into()));
    assert_eq!(run["results"][0]["ruleIndex"], 20);
    assert_eq!(run["results"][0]["level"], "note");
    assert!(junit(&report).contains("<failure type=\"calm\" message=\"no root on nodes\">"));
}

#[test]
fn policies_among_the_objects_are_checked_and_not_asked() {
    let good =
        policy("replicas", REPLICAS) + &binding("b", "replicas", "validationActions: [Deny]");
    let report = scan("", &[("policies.yaml", &good), ("web.yaml", WEB)]);
    assert!(report.findings.is_empty() && report.errors.is_empty(), "{report:?}");
    let wrong = good.replace("<= 3", "<= three");
    let report = scan("", &[("policies.yaml", &wrong)]);
    assert_eq!(report.errors.len(), 1);
    assert_eq!((report.errors[0].kind, report.errors[0].line), (FaultKind::Refused, Some(7)));
}

#[test]
fn an_explained_scan_says_what_each_policy_came_to() {
    let policies = policy("replicas", REPLICAS)
        + &binding("b", "replicas", "validationActions: [Deny]")
        + &policy("pods", REPLICAS).replace("deployments", "pods")
        + &binding("c", "pods", "validationActions: [Deny]");
    let small = WEB.replace("replicas: 5", "replicas: 1");
    let report = scan_at("restricted", &policies, &[("web.yaml", &small)], Depth::Traces);
    let [trace] = report.traces.as_slice() else { panic!("{:?}", report.traces) };
    assert!(trace.pod_security.starts_with("violates PodSecurity"), "{}", trace.pod_security);
    let told: Vec<_> =
        trace.policies.iter().map(|each| (each.policy.as_str(), each.matched.matched)).collect();
    assert_eq!(told, [("replicas", true), ("pods", false)]);
    let run = &trace.policies[0].bindings[0].runs[0];
    assert_eq!(run.validations[0].value, Some(true.into()));
}
