//! Scanned objects as facts: what they may add, what they may not change, and that the order of files decides nothing.

use nullius_admission::{Depth, Policies, Report, Scan, Sender, State, Waivers};
use nullius_manifest::Source;
use nullius_policy::admission_policy::Version;

const POLICY: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    namespaceSelector: {matchExpressions: [{key: exempt, operator: DoesNotExist}]}
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]
  validations: [{expression: \"object.spec.replicas <= int(params.data.max)\", message: too many}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few, validationActions: [Deny], paramRef: {name: limit, namespace: policy, parameterNotFoundAction: Deny}}
";
const LIMIT: &str = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: limit, namespace: policy}, data: {max: '3'}}\n";
const SHOP: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, uid: x, labels: {kubernetes.io/metadata.name: shop}}}\n";
const COMPLETE: &str = "---\n{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, holds: [{apiVersion: v1, kind: Namespace}, {apiVersion: v1, kind: ConfigMap}]}\n";
const MANY: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: shop}
spec: {replicas: 50, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {hostPID: true, containers: [{name: c, image: i}]}}}
";
const EXEMPT: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {exempt: '1'}}}\n";

fn scan(level: &str, policies: &str, state: &str, files: &[&str]) -> Report {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let mut asked = Policies::new(Version::LATEST);
    asked.policies(Ok(source("policies.yaml", policies)));
    asked.facts(Ok(source("state.yaml", state)));
    let mut scan =
        Scan::new(level.parse().unwrap(), Waivers::default(), "2026-11-21".parse().unwrap())
            .with_policies(asked, Sender::default())
            .with_depth(Depth::Findings);
    for (index, text) in files.iter().enumerate() {
        scan.source(Ok(source(&format!("{index}.yaml"), text)));
    }
    scan.finish()
}

/// What is found, with the faults, and the notes beside it, of two files in both orders, which must say the same.
fn both(policies: &str, state: &str, one: &str, two: &str) -> (Vec<String>, usize) {
    let told = |files: &[&str]| {
        let report = scan("privileged", policies, state, files);
        let found = report.findings.iter().map(|finding| finding.message.clone());
        let faults = report.errors.iter().map(|fault| {
            let message = fault.message.as_str();
            format!("{:?}: {message}", fault.kind)
        });
        let mut told: Vec<String> = found.chain(faults).collect();
        told.sort();
        (told, report.notes.len())
    };
    let first = told(&[one, two]);
    assert_eq!(first, told(&[two, one]), "the order of files decides");
    first
}

#[test]
fn a_definition_does_not_change_what_kubernetes_defines() {
    let definition = |group: &str, kind: &str, plural: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{group}}}\nspec: {{group: '{group}', scope: Namespaced, names: {{kind: {kind}, plural: {plural}}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{selector: {{type: object}}}}}}}}}}}}}}]}}\n"
        )
    };
    let policies = format!("{POLICY}{LIMIT}");
    for (group, kind, plural, why) in [
        ("apps", "Deployment", "foos", "the group `apps` has no dot; an API server refuses it"),
        (
            "apps",
            "Deployment",
            "deployments",
            "the group `apps` has no dot; an API server refuses it",
        ),
        ("", "Pod", "pods", "the group `` has no dot; an API server refuses it"),
        (
            "networking.k8s.io",
            "Ingress",
            "ingresses",
            "`networking.k8s.io/v1` is Kubernetes' own, and no definition changes it",
        ),
        (
            "networking.k8s.io",
            "Own",
            "owns",
            "`networking.k8s.io/v1` is Kubernetes' own, and no definition changes it",
        ),
    ] {
        let crd = definition(group, kind, plural);
        let told = format!("Refused: `CustomResourceDefinition` `{plural}.{group}`: {why}");
        let both = both(&policies, SHOP, &crd, MANY);
        assert_eq!(both.0, [told.as_str(), "too many"], "{group}");
        let report = scan("baseline", &policies, SHOP, &[&crd, MANY]);
        assert!(report.findings.iter().any(|found| found.check == "hostNamespaces"), "{group}");
        // Nor where somebody records it.
        let recorded: serde_json::Value = serde_yaml_ng::from_str(&crd).unwrap();
        let refused = State::default().add(&recorded).unwrap_err().to_string();
        assert!(refused.ends_with(why), "{refused}");
    }
    let odd =
        definition("example.com", "Widget", "widgets").replace("name: widgets.", "name: other.");
    assert_eq!(
        both(&policies, SHOP, &odd, MANY).0,
        [
            "Refused: `CustomResourceDefinition` `other.example.com`: its name must be `widgets.example.com`; an API server refuses it",
            "too many"
        ]
    );
}

#[test]
fn what_policies_and_state_say_is_not_changed_by_what_is_judged() {
    let known = format!("{POLICY}{LIMIT}");
    assert_eq!(both(&known, SHOP, EXEMPT, MANY), (vec!["too many".to_owned()], 1));
    let lax = LIMIT.replace("'3'", "'99'");
    assert_eq!(both(&known, SHOP, &lax, MANY), (vec!["too many".to_owned()], 1));
    // The same, as a file says it, is no other.
    let same = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
    assert_eq!(both(&known, SHOP, same, MANY), (vec!["too many".to_owned()], 0));
}

#[test]
fn scanned_objects_add_what_nobody_says() {
    let (policies, none) = (format!("{POLICY}{LIMIT}"), Vec::<String>::new());
    assert_eq!(both(&policies, "", EXEMPT, MANY), (none.clone(), 0));
    let lax = LIMIT.replace("'3'", "'99'");
    assert_eq!(both(POLICY, SHOP, &lax, MANY), (none.clone(), 0));
    // A cluster that does not have them yet gets them with the object.
    let empty = COMPLETE.trim_start_matches("---\n");
    assert_eq!(both(&policies, empty, EXEMPT, MANY), (none.clone(), 0));
    assert_eq!(both(POLICY, &format!("{SHOP}{COMPLETE}"), &lax, MANY), (none, 0));
}

#[test]
fn where_scanned_objects_say_two_things_neither_counts() {
    let policies = format!("{POLICY}{LIMIT}");
    let two = format!("{EXEMPT}---\n{SHOP}");
    let (told, notes) = both(&policies, "", &two, MANY);
    assert_eq!(
        (told, notes),
        (
            vec![
                "Unjudged: policies cannot judge it: this is not known: the namespace `shop`"
                    .to_owned()
            ],
            1
        )
    );
    let definition = |name: &str, field: &str| {
        format!(
            "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {name}.example.com}}\nspec: {{group: example.com, scope: Namespaced, names: {{kind: Widget, plural: {name}}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, properties: {{{field}: {{x-kubernetes-preserve-unknown-fields: true}}}}}}}}}}]}}\n"
        )
    };
    let policies = policies.replace("[apps]", "['*']").replace("[deployments]", "['*']");
    let widget = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, namespace: shop}, spec: {replicas: 9}}\n";
    let whole = definition("widgets", "spec");
    let of_widgets = |told: Vec<String>| -> Vec<String> {
        told.into_iter().filter(|told| told.contains("Widget") || told == "too many").collect()
    };
    assert_eq!(of_widgets(both(&policies, SHOP, &whole, widget).0), ["too many"]);
    for other in [definition("widgets", "other"), definition("others", "other")] {
        let two = format!("{whole}{other}");
        assert_eq!(
            of_widgets(both(&policies, SHOP, &two, widget).0),
            [
                "Unjudged: policies cannot judge `Widget`: `example.com/v1` is not Kubernetes' own and not defined in the files"
            ],
            "{other}"
        );
        let (told, notes) = both(&policies, &format!("{SHOP}{whole}"), &other, widget);
        assert_eq!((of_widgets(told), notes), (vec!["too many".to_owned()], 1), "{other}");
    }
}

#[test]
fn scanned_objects_are_neither_rights_nor_exceptions_nor_a_word_on_the_state() {
    let kinds = [
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("nullius.dev/v1alpha1", "PolicyException"),
        ("nullius.dev/v1alpha1", "RecordedState"),
    ];
    let rights = "\
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: all}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: all}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all}, subjects: [{kind: Group, name: 'system:authenticated'}]}
---
{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, metadata: {name: x}, holds: [{apiVersion: v1, kind: Namespace}, {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition}]}
---
{apiVersion: nullius.dev/v1alpha1, kind: PolicyException, metadata: {name: x}, spec: {}}
";
    // Policies that take these kinds as parameters make facts of them, and no more.
    let takers: String = kinds
        .iter()
        .map(|(api_version, kind)| {
            let name = format!("takes-{}", kind.to_lowercase());
            POLICY
                .replace("name: few", &format!("name: {name}"))
                .replace("policyName: few", &format!("policyName: {name}"))
                .replace(
                    "{apiVersion: v1, kind: ConfigMap}",
                    &format!("{{apiVersion: {api_version}, kind: {kind}}}"),
                )
                .replace("[deployments]", "[statefulsets]")
                + "---\n"
        })
        .collect();
    let asks = POLICY
        .replace("  paramKind: {apiVersion: v1, kind: ConfigMap}\n", "")
        .replace(", paramRef: {name: limit, namespace: policy, parameterNotFoundAction: Deny}", "")
        .replace(
            "object.spec.replicas <= int(params.data.max)",
            "authorizer.group('').resource('pods').check('create').allowed()",
        );
    let (told, _) = both(&format!("{takers}{asks}"), SHOP, rights, MANY);
    assert!(
        told.iter()
            .any(|told| told
                .contains("this is not known: whether the requester `create` on `pods.`")),
        "{told:?}"
    );
}

#[test]
fn a_state_that_says_two_things_of_one_object_is_told() {
    let two = format!("{SHOP}---\n{EXEMPT}");
    let (told, _) = both(&format!("{POLICY}{LIMIT}"), &two, MANY, "");
    assert_eq!(
        told,
        [
            "Refused: the Namespace `shop` stands twice, and differently; leave one of them",
            "too many"
        ]
    );
    let same = format!("{SHOP}---\n{SHOP}");
    assert_eq!(both(&format!("{POLICY}{LIMIT}"), &same, MANY, "").0, ["too many"]);
}
