//! Exceptions from policies: a violation is accepted whole by one of them, or not.

use nullius_policy::{
    admission_policy::{Decision, Evaluation},
    exception::{Exception, Subject},
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Bench, bound, policy, yaml};

const PORTS: &str = "validations:
- expression: object.spec.containers.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))
  message: no host ports
- expression: object.spec.containers.exists(c, c.image.startsWith('registry.example/'))
  message: one image of ours";

fn exception(check: &[&str], scope: Json) -> Exception {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
        "metadata": { "name": "edge", "namespace": "exceptions" },
        "spec": { "owner": "edge", "reason": "listens on the node", "expires": "2026-07-01T00:00:00Z",
                  "rules": [{ "policy": "p", "checks": check }], "scope": scope },
    });
    Exception::read(&object, "2026-06-01T00:00:00Z".parse().unwrap()).unwrap()
}

fn decide(case: &Bench, exceptions: &[Exception]) -> Decision {
    let exceptions: Vec<&Exception> = exceptions.iter().collect();
    match case.evaluate_excepting(&exceptions) {
        Evaluation::Decided(decision) => *decision,
        Evaluation::Needs(needs) => panic!("needs {needs:?}"),
    }
}

fn listening(policies: &str, containers: Json) -> Bench {
    let mut case = Bench::new(policies);
    case.request.object.as_mut().unwrap()["spec"]["containers"] = containers;
    case
}

fn on_the_node(name: &str) -> Json {
    json!({ "name": name, "image": "registry.example/a:1", "ports": [{ "hostPort": 80 }] })
}

#[test]
fn what_one_exception_covers_whole_is_accepted_and_told() {
    let case = listening(
        &policy(PORTS),
        json!([on_the_node("a"), { "name": "b", "image": "registry.example/b" }]),
    );
    assert!(decide(&case, &[]).refusal.is_some());
    let scope = json!({ "namespaces": ["shop"], "containers": ["a"] });
    let decision = decide(&case, &[exception(&["no host ports"], scope)]);
    assert_eq!((decision.refusal, decision.violations), (None, vec![]));
    let (violation, acceptance) = &decision.accepted[0];
    assert_eq!((violation.validation, violation.message.as_str()), (Some(0), "no host ports"));
    assert_eq!(
        (acceptance.exception.as_str(), acceptance.owner.as_str()),
        ("exceptions/edge", "edge")
    );
}

#[test]
fn two_exceptions_never_add_up() {
    let case = listening(&policy(PORTS), json!([on_the_node("a"), on_the_node("b")]));
    let of = |name: &str| exception(&[], json!({ "namespaces": ["shop"], "containers": [name] }));
    assert!(decide(&case, &[of("a"), of("b")]).refusal.is_some());
    let both = exception(&[], json!({ "namespaces": ["shop"], "containers": ["a", "b"] }));
    let told = decide(&case, &[both]);
    assert!(told.refusal.is_none(), "{:?}", told.refusal);
}

#[test]
fn an_exception_from_one_check_leaves_the_others() {
    let foreign =
        json!([{ "name": "a", "image": "elsewhere.example/a", "ports": [{ "hostPort": 80 }] }]);
    let case = listening(&policy(PORTS), foreign);
    let whole = json!({ "namespaces": ["shop"], "names": ["web"] });
    let decision = decide(&case, &[exception(&["no host ports"], whole.clone())]);
    assert_eq!(decision.violations.len(), 1);
    assert!(decision.refusal.unwrap().message.contains("one image of ours"));
    // Without the container nothing is left that could have an image of ours.
    let part = json!({ "namespaces": ["shop"], "containers": ["a"] });
    assert!(decide(&case, &[exception(&[], part)]).refusal.is_some());
    assert!(decide(&case, &[exception(&[], whole)]).refusal.is_none());
}

#[test]
fn an_edited_policy_is_no_longer_excepted_from() {
    let case = listening(
        &policy(&PORTS.replace("no host ports", "no ports of hosts")),
        json!([on_the_node("a")]),
    );
    let whole = json!({ "namespaces": ["shop"] });
    assert!(decide(&case, &[exception(&["no host ports"], whole)]).refusal.is_some());
}

#[test]
fn an_exception_of_another_namespace_covers_nothing() {
    let case = listening(&policy(PORTS), json!([on_the_node("a")]));
    let elsewhere = exception(&[], json!({ "namespaces": ["exceptions", "shop-2"] }));
    assert!(decide(&case, &[elsewhere]).refusal.is_some());
}

#[test]
fn what_errs_without_the_part_is_not_covered() {
    let errs = "failurePolicy: Ignore\nvalidations:\n- expression: object.spec.containers[0].name != 'a'\n  message: no a";
    let case = listening(&policy(errs), json!([on_the_node("a")]));
    let part = json!({ "namespaces": ["shop"], "containers": ["a"] });
    assert!(decide(&case, &[exception(&[], part)]).refusal.is_some());
}

#[test]
fn what_is_accepted_neither_warns_nor_is_audited() {
    let warns = bound(PORTS, "validationActions: [Warn, Audit]");
    let case = listening(&warns, json!([on_the_node("a")]));
    assert_eq!(decide(&case, &[]).warnings.len(), 1);
    let decision = decide(&case, &[exception(&[], json!({ "namespaces": ["shop"] }))]);
    assert!(decision.warnings.is_empty() && decision.audit_annotations.is_empty());
    assert_eq!(decision.accepted.len(), 1);
}

/// Names with and without stars, and letters that mean something in expressions and their texts.
fn globs() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab.*'\\\\-]{1,4}", 0..3)
        .prop_map(|all| all.into_iter().filter(|glob| glob.chars().any(|c| c != '*')).collect())
}

proptest! {
    /// An API server with the condition asks about exactly the objects that the exception is not for.
    #[test]
    fn the_condition_of_an_exception_is_false_for_its_objects_alone(
        namespaces in globs(),
        names in globs(),
        kinds in proptest::collection::vec(prop_oneof![Just("Pod"), Just("Namespace")], 0..2),
        namespace in "[ab.'\\\\-]{0,4}",
        name in "[ab.'\\\\-]{0,4}",
        is_namespace in any::<bool>(),
    ) {
        prop_assume!(!(namespaces.is_empty() && names.is_empty()));
        let scope = json!({ "namespaces": namespaces, "names": names, "kinds": kinds });
        let exception = exception(&[], scope);
        let mut document = yaml(POD_POLICY);
        document["spec"]["matchConditions"] =
            json!([{ "name": "outside", "expression": exception.condition() }]);
        let mut case = Bench::new("");
        case.set.add(&document).unwrap();
        case.set.add(&yaml(POD_BINDING)).unwrap();
        case.request.name.clone_from(&name);
        case.request.namespace.clone_from(&namespace);
        let kind = if is_namespace { "Namespace" } else { "Pod" };
        case.request.kind.kind = kind.to_owned();
        case.request.resource.resource = format!("{}s", kind.to_lowercase());
        let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
        case.request.object = Some(object.clone());
        case.namespaces.insert(namespace.clone(), Some(object.into()));
        let subject = Subject {
            kind,
            namespace: if is_namespace { "" } else { &namespace },
            name: &name,
        };
        let told = decide(&case, &[]);
        let asked = told.refusal.is_some();
        prop_assert_eq!(asked, !exception.is_for("p", &[], subject), "{} {:?}", exception.condition(), told);
    }
}

const POD_POLICY: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods, namespaces]}]}
  validations: [{expression: 'false', message: asked}]";
const POD_BINDING: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b}
spec: {policyName: p, validationActions: [Deny]}";
