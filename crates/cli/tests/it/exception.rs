//! Exceptions listed, of files and of a real cluster.

use std::{env, path::Path, time::Duration};

use nullius_cli::Exit;
use nullius_testkit::{Cluster, ClusterConfig, Profile, Progress, StateDir, shared, wait_until};
use serde_json::{Value, json};

use crate::{person::Person, time};

const DAY: i64 = 86_400;

/// An exception, made 30 days ago, that ends in so many days.
fn exception(namespace: &str, name: &str, days: i64, rules: &Value) -> Value {
    json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
        "metadata": {
            "name": name, "namespace": namespace,
            "creationTimestamp": time::after(-30 * DAY).to_string(),
        },
        "spec": {
            "owner": "shop", "reason": "until the next release",
            "expires": time::after(days * DAY).to_string(),
            "rules": rules, "scope": { "namespaces": ["shop"], "names": ["web-*"] },
        },
    })
}

#[tokio::test]
async fn exceptions_of_files_are_shown_with_their_state() {
    let person = Person::new();
    let two = json!([{ "policy": "size.example.com" }, { "policy": "PodSecurity", "checks": ["hostPorts", "privileged"] }]);
    let one = json!([{ "policy": "size.example.com", "checks": ["at most 2 keys"] }]);
    let all = [
        exception("e", "soon", 5, &one),
        exception("e", "later", 50, &two),
        exception("e", "gone", -3, &one),
        exception("f", "wrong", 400, &json!([{ "policy": "PodSecurity", "checks": ["x"] }])),
    ];
    let text: Vec<String> = all.iter().map(Value::to_string).collect();
    let folder = person.file("exceptions/all.yaml", &text.join("\n---\n"));
    let list = async |more: &[&str]| {
        person.run(&[&["exception", "list", "-f", &folder], more].concat()).await
    };
    let done = list(&[]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    insta::assert_snapshot!("exceptions_table", done.out);
    assert!(
        done.err.contains(
            "all.yaml:7: `f/wrong` does not count: spec.expires: an exception lasts 90 days at most"
        ),
        "{}",
        done.err
    );
    assert!(done.err.contains("`x` is no check"), "{}", done.err);
    insta::assert_snapshot!("exceptions_wide", list(&["-o", "wide"]).await.ok());
    assert_eq!(list(&["--expiring", "7d", "-o", "name"]).await.ok(), "e/soon\n");
    assert_eq!(list(&["-n", "f", "-o", "name"]).await.ok(), "f/wrong\n");
    assert_eq!(list(&["--policy", "PodSecurity", "-o", "name"]).await.ok(), "e/later\nf/wrong\n");
    let done = list(&["--expiring", "1d"]).await;
    assert!(done.err.contains("none of 4 exceptions is asked for"), "{}", done.err);
    let document: Value = serde_json::from_str(&list(&["-o", "json"]).await.ok()).unwrap();
    assert_eq!(document["kind"], "ExceptionList");
    let states: Vec<&Value> =
        document["items"].as_array().unwrap().iter().map(|item| &item["state"]).collect();
    assert_eq!(states, ["ended", "in force", "in force", "refused"]);
    assert_eq!(document["items"][2]["rules"], two);
    let none = person.file("none.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n");
    let done = person.run(&["exception", "list", "-f", &none]).await;
    assert!(done.err.contains("no `PolicyException` stands in"), "{}", done.err);
    done.ok();
    let wrong = "apiVersion: nullius.dev/v1alpha1\nkind: PolicyException\nmetadata: {name: w, namespace: e}\nspec:\n  owner: a\n  reason: b\n  expires: tomorrow\n  rules: [{policy: x}]\n  scope: {namespaces: [a]}\n";
    let wrong = person.file("wrong.yaml", wrong);
    let done = person.run(&["exception", "list", "-f", &wrong]).await;
    assert!(
        done.err.contains("wrong.yaml:7: `e/w` does not count: spec.expires: `tomorrow` is no time; write one like `2026-12-31T00:00:00Z`"),
        "{}",
        done.err
    );
    let broken = person.file("broken.yaml", "a: [\n");
    let err = person.run(&["exception", "list", "-f", &broken]).await.failed(Exit::Failed);
    assert!(err.contains("broken.yaml"), "{err}");
}

const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: policyexceptions.nullius.dev}
spec:
  group: nullius.dev
  scope: Namespaced
  names: {kind: PolicyException, plural: policyexceptions, singular: policyexception}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cluster_it_is_said_which_exceptions_count_there() {
    if shared(Profile::ControlPlane).is_none() {
        return;
    }
    let state = StateDir::open(Path::new(&env::var_os("NULLIUS_TEST_STATE").unwrap())).unwrap();
    let config = ClusterConfig::new("excepted", Profile::ControlPlane).own();
    let cluster = Cluster::up(&state, config, Progress::Silent).unwrap();
    let kubectl = cluster.kubectl().unwrap();
    let person = Person::new();
    let config = cluster.kubeconfig().display().to_string();
    let list = async |more: &[&str]| {
        person.run(&[&["exception", "list", "--kubeconfig", &config], more].concat()).await
    };
    let done = list(&[]).await;
    assert!(done.err.contains("has no kind `PolicyException`"), "{}", done.err);
    done.ok();
    kubectl.apply(DEFINITION).unwrap();
    for namespace in ["nullius-system", "elsewhere"] {
        kubectl.ok(&["create", "namespace", namespace]).unwrap();
    }
    let rules = json!([{ "policy": "size.example.com" }]);
    let api = cluster.api().unwrap();
    for namespace in ["nullius-system", "elsewhere"] {
        let path = format!("/apis/nullius.dev/v1alpha1/namespaces/{namespace}/policyexceptions");
        let object = exception(namespace, "web", 40, &rules);
        wait_until(Duration::from_secs(180), "the kind", || api.create(&path, &object).ok())
            .unwrap();
    }
    let done = list(&["-o", "json"]).await;
    assert_eq!(done.err.matches("no agent is in the cluster").count(), 2, "{}", done.err);
    let map = |name: &str, data: Value| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": { "name": name, "namespace": "nullius-system" } })
        .to_string()
    };
    kubectl.apply(&map("nullius-agent", json!({ "hub": "a" }))).unwrap();
    let told = "ValidatingAdmissionPolicy/size.example.com:0: its exceptions do not count; to let them, name it; in force: the policy";
    let other =
        "ValidatingAdmissionPolicy/other:0: its exceptions do not count; x; in force: the policy";
    let status = json!({ "troubles": format!("{told}\n{other}") });
    kubectl.apply(&map("nullius-admission-status", status)).unwrap();
    let done = list(&["-o", "json"]).await;
    let document: Value = serde_json::from_str(&done.out).unwrap();
    let states = |document: &Value| -> Vec<(String, String)> {
        let text = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
        let items = document["items"].as_array().unwrap();
        items.iter().map(|item| (text(item, "namespace"), text(item, "state"))).collect()
    };
    let expected = [("elsewhere", "elsewhere"), ("nullius-system", "in force")];
    assert_eq!(states(&document), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(
        done.err
            .contains("`elsewhere/web` does not count: exceptions count only in `nullius-system`"),
        "{}",
        done.err
    );
    assert!(done.err.contains(told) && !done.err.contains(other), "{}", done.err);
    kubectl
        .apply(&map(
            "nullius-agent",
            json!({ "exception-namespaces": "elsewhere, nullius-system" }),
        ))
        .unwrap();
    let done = list(&["-o", "name"]).await;
    assert!(!done.err.contains("does not count:"), "{}", done.err);
    assert_eq!(done.ok(), "elsewhere/web\nnullius-system/web\n");
}
