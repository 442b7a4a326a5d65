#![allow(clippy::unwrap_used, reason = "test")]
use serde_json::json;

use super::*;
use crate::admission::tests::plane::Plane;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const EXCEPTIONS: &str = "/apis/nullius.dev/v1alpha1/namespaces/nullius-system/policyexceptions";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// A cluster with a policy of its own that lets exceptions from it count, an exception until noon, and the condition that the policy
/// has already.
fn cluster(plane: &Plane, condition: Option<&str>) {
    let object = |kind: &str, spec: Value| json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "p" }, "spec": spec });
    let conditions =
        condition.map(|condition| json!({ "name": native::CONDITION, "expression": condition }));
    let policy = object(
        "ValidatingAdmissionPolicy",
        json!({
            "matchConstraints": { "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }] },
            "matchConditions": conditions.into_iter().collect::<Vec<_>>(),
            "validations": [{ "expression": "false" }],
        }),
    );
    let binding = object(
        "ValidatingAdmissionPolicyBinding",
        json!({ "policyName": "p", "validationActions": ["Deny"] }),
    );
    let exception = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "e", "namespace": "nullius-system" },
        "spec": { "owner": "a", "reason": "b", "expires": "2026-06-01T12:00:00Z", "rules": [{ "policy": "p" }],
                  "scope": { "namespaces": ["shop"] } },
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": EXCEPTED_POLICIES },
        "rules": [{ "apiGroups": ["admissionregistration.k8s.io"], "verbs": ["patch"],
                    "resources": ["validatingadmissionpolicies"], "resourceNames": ["p"] }],
    });
    let mut held = plane.held();
    held.is_listing = true;
    held.lists = BTreeMap::from([
        (format!("{GROUP}/validatingadmissionpolicies"), vec![policy]),
        (format!("{GROUP}/validatingadmissionpolicybindings"), vec![binding]),
        (EXCEPTIONS.to_owned(), vec![exception]),
        (ROLES.to_owned(), vec![role]),
    ]);
}

/// A replica that has just started and read what the cluster has.
async fn started(plane: &Plane, tasks: &mut Tasks) -> Excepting {
    let api = plane.serve().await;
    let mut watching = |kind: &str, plural: &str| {
        let what = Watched::all("admissionregistration.k8s.io/v1", kind, plural);
        let (objects, keeping) = Objects::watch(&api, Credential::None, &what).unwrap();
        tasks.spawn_loop("native", keeping);
        objects
    };
    let native = Native {
        policies: watching("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        bindings: watching("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    };
    let homes = BTreeSet::from(["nullius-system".parse().unwrap()]);
    let mut excepting = Excepting::watch(&api, &Credential::None, native, homes, tasks).unwrap();
    excepting.completed().await;
    excepting
}

fn at(hour: u8) -> Timestamp {
    format!("2026-06-01T{hour:02}:00:00Z").parse().unwrap()
}

#[tokio::test]
async fn an_exception_that_ends_takes_its_condition_away_and_its_objects_are_asked_about_until_all_have_heard()
 {
    let (plane, mut tasks) = (Plane::default(), Tasks::new());
    cluster(&plane, None);
    let mut excepting = started(&plane, &mut tasks).await;
    tokio::time::pause();
    let before = excepting.look(at(11));
    assert_eq!(before.again, Some(Duration::from_secs(3_600)), "it looks again when it ends");
    let condition = before.wanted[0].wanted.clone().unwrap();
    assert!(before.asked.asks("p", &condition) && before.files.len() == 1);

    let ended = excepting.look(at(12));
    assert_eq!(ended.wanted[0].wanted, None);
    assert!(ended.asked.asks("p", &condition) && ended.files == before.files);
    assert_eq!(ended.again, Some(LINGER), "it looks again when nobody can have it any more");
    tokio::time::advance(LINGER - Duration::from_secs(1)).await;
    assert!(excepting.look(at(12)).asked.asks("p", &condition));
    tokio::time::advance(Duration::from_secs(1)).await;
    let over = excepting.look(at(12));
    assert!(!over.asked.asks("p", &condition) && over.files.is_empty());

    // While nobody ran, the exception has ended: the API server still leaves its objects out.
    tokio::time::resume();
    cluster(&plane, Some(&condition));
    let restarted = started(&plane, &mut tasks).await.look(at(13));
    let wanted = Wanted { policy: "p".to_owned(), standing: Some(condition.clone()), wanted: None };
    assert_eq!(restarted.wanted, [wanted]);
    assert!(restarted.asked.asks("p", &condition) && restarted.files == before.files);
    assert!(!restarted.exceptions[0].holds_at(at(13)));
}

#[tokio::test]
async fn while_exceptions_cannot_be_read_none_counts_and_conditions_stay() {
    for unlisted in [EXCEPTIONS, ROLES] {
        let (plane, mut tasks) = (Plane::default(), Tasks::new());
        cluster(&plane, Some("request.namespace != 'edge'"));
        plane.held().unlisted.insert(unlisted.to_owned());
        let mut excepting = started(&plane, &mut tasks).await;
        assert!(excepting.unheard().is_some());
        let looked = excepting.look(at(11));
        let standing = Some("request.namespace != 'edge'".to_owned());
        let wanted =
            Wanted { policy: "p".to_owned(), standing: standing.clone(), wanted: standing };
        assert_eq!(looked.wanted, [wanted], "nobody knows better than what stands");
        assert!(looked.exceptions.is_empty() && looked.objects.is_empty());
        assert!(looked.asked.asks("p", "request.namespace != 'edge'") && looked.files.len() == 1);
        let told = looked.troubles[0].to_string();
        assert!(told.contains("cannot be read") && told.contains("stays as it is"), "{told}");

        // As soon as they can be read, they count.
        plane.held().unlisted.clear();
        while excepting.unheard().is_some() {
            excepting.changed().await;
        }
        let looked = excepting.look(at(11));
        assert!(looked.wanted[0].wanted.as_ref().unwrap().contains("'shop'"));
        assert_eq!(looked.exceptions.len(), 1);
    }
}

fn exception(namespace: &str) -> Exception {
    let object = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "e", "namespace": "n" },
        "spec": { "owner": "a", "reason": "b", "expires": "2026-07-01T00:00:00Z",
                  "rules": [{ "policy": "p" }, { "policy": "nullius-roles" }],
                  "scope": { "namespaces": [namespace] } },
    });
    Exception::read(&object, "2026-06-01T00:00:00Z".parse().unwrap()).unwrap()
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

#[test]
fn exceptions_count_only_from_policies_that_are_named_and_can_be_asked() {
    let exception = exception("shop");
    let allowed = BTreeSet::from(["p".to_owned(), "nullius-roles".to_owned()]);
    let told = |name: &str, spec: Value, allowed: &BTreeSet<String>, exception: &Exception| {
        countable(&policy(name, &spec), allowed, &[exception])
    };
    let condition = told("p", json!({}), &allowed, &exception).unwrap().unwrap();
    assert!(condition.ends_with("request.namespace in ['kube-node-lease', 'kube-system', 'nullius-sessions', 'nullius-system']"));
    assert_eq!(told("q", json!({}), &allowed, &exception), Ok(None));
    let refused =
        |name, spec, allowed: &BTreeSet<String>| told(name, spec, allowed, &exception).unwrap_err();
    assert!(refused("p", json!({}), &BTreeSet::new()).contains(EXCEPTED_POLICIES));
    assert!(refused("nullius-roles", json!({}), &allowed).contains("nobody is excepted"));
    let secrets = json!({ "paramKind": { "apiVersion": "v1", "kind": "Secret" } });
    assert!(refused("p", secrets, &allowed).contains("does not read"));
    let many: Vec<Value> =
        (0..64).map(|at| json!({ "name": format!("c{at}"), "expression": "true" })).collect();
    let full = json!({ "matchConditions": many });
    assert!(refused("p", full, &allowed).contains("64 match conditions"));
    let long = self::exception(&"n".repeat(6_000));
    assert!(told("p", json!({}), &allowed, &long).unwrap_err().contains("5000 at most"));
}

#[test]
fn a_role_without_names_lets_nothing_be_excepted_from() {
    let rule = |names: Value| {
        json!({ "rules": [{ "apiGroups": ["admissionregistration.k8s.io"], "verbs": ["patch"],
                            "resources": ["validatingadmissionpolicies"], "resourceNames": names }] })
    };
    assert_eq!(named(&rule(json!(["a", "b"]))).len(), 2);
    assert!(named(&rule(Value::Null)).is_empty());
    assert!(named(&json!({})).is_empty());
}
