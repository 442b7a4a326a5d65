//! `nullius inject` as people use it: what comes out applies, and what cannot be done names its place.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::person::Person;

const IMAGE: [&str; 2] = ["--image", "registry.example.org/nullius:1"];

const SHOP: &str = "# comments are lost
apiVersion: v1
kind: Service
metadata: {name: orders, annotations: {version: \"1e3\", yes: \"on\"}}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      containers:
      - {name: orders, image: orders:1, env: [{name: MODE, value: \"0755\"}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: nightly}
  spec: {schedule: \"0 3 * * *\", jobTemplate: {spec: {template: {spec: {containers: [{name: n, image: n:1}]}}}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: quiet, labels: {nullius.dev/inject: disabled}}
  spec: {containers: [{name: q, image: q:1}]}
";

fn documents(text: &str) -> Vec<Value> {
    let all = nullius_manifest::parse(text, nullius_manifest::Dialect::Kubernetes).unwrap();
    all.iter().map(nullius_manifest::Node::to_json).collect()
}

#[tokio::test]
async fn all_documents_come_out_and_those_of_pods_with_a_proxy() {
    let person = Person::new();
    let file = person.file("shop.yaml", SHOP);
    let done = person.run(&[&["inject", "-f", &file], &IMAGE[..]].concat()).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    assert!(done.err.ends_with("2 get a proxy; 1 wants none\n"), "{done:?}");
    let (before, after) = (documents(SHOP), documents(&done.out));
    assert_eq!(after.len(), 3);
    assert_eq!(after[0], before[0], "texts that look like numbers stay texts");
    let pod = &after[1]["spec"]["template"];
    assert_eq!(pod["spec"]["initContainers"][0]["image"], IMAGE[1]);
    assert_eq!(pod["spec"]["containers"], before[1]["spec"]["template"]["spec"]["containers"]);
    assert_eq!(
        pod["metadata"]["labels"],
        json!({ "app": "orders", "nullius.dev/mesh": "sidecar" })
    );
    let of_job = "/items/0/spec/jobTemplate/spec/template/spec/initContainers/0/name";
    assert_eq!(after[2].pointer(of_job), Some(&json!("nullius-proxy")));
    assert_eq!(after[2]["items"][1], before[2]["items"][1]);

    let again = person.file("again.yaml", &done.out);
    let twice = person.run(&[&["inject", "-f", &again], &IMAGE[..]].concat()).await;
    assert_eq!(twice.out, done.out);
    assert!(twice.err.ends_with("0 get a proxy; 2 had it; 1 wants none\n"), "{twice:?}");
}

#[tokio::test]
async fn items_of_a_typed_list_are_of_its_kind_and_say_no_more_than_before() {
    let person = Person::new();
    let list = json!({
        "apiVersion": "apps/v1", "kind": "DeploymentList",
        "items": [{ "metadata": { "name": "a" }, "spec": { "template": { "spec": { "containers": [] } } } }],
    });
    let file = person.file("list.json", &list.to_string());
    let done = person.run(&[&["inject", "-f", &file, "-o", "json"], &IMAGE[..]].concat()).await;
    assert_eq!(done.exit, Exit::Ok, "{done:?}");
    let item = &documents(&done.out)[0]["items"][0];
    assert_eq!(item["spec"]["template"]["spec"]["initContainers"][0]["name"], "nullius-proxy");
    assert_eq!((&item["kind"], &item["apiVersion"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn where_one_thing_is_in_the_way_nothing_is_written_and_its_place_is_named() {
    let person = Person::new();
    let wrong = SHOP.replace("- {name: orders, image", "- {name: nullius-proxy, image");
    let file =
        person.file("wrong.yaml", &wrong.replace("spec: {schedule", "spec: {odd: 1, schedule"));
    let done = person.run(&[&["inject", "-f", &file], &IMAGE[..]].concat()).await;
    assert_eq!(done.exit, Exit::Denied, "{done:?}");
    assert_eq!(done.out, "");
    let place = "wrong.yaml:16:10: spec.template.spec.containers[0].name: `nullius-proxy`";
    assert!(done.err.contains(place), "{}", done.err);

    let file = person.file(
        "host.yaml",
        &SHOP.replace("containers: [{name: n", "hostNetwork: true, containers: [{name: n"),
    );
    let done = person.run(&[&["inject", "-f", &file], &IMAGE[..]].concat()).await;
    let place = "spec.jobTemplate.spec.template.spec.hostNetwork: ";
    assert!(done.err.contains("host.yaml:24:") && done.err.contains(place), "{}", done.err);

    let file = person.file("broken.yaml", "a: [1,\n");
    let done = person.run(&[&["inject", "-f", &file], &IMAGE[..]].concat()).await;
    assert!(done.exit != Exit::Ok && done.err.contains("broken.yaml:"), "{done:?}");
    let file = person.file("empty.yaml", "---\n");
    let done = person.run(&[&["inject", "-f", &file], &IMAGE[..]].concat()).await;
    assert_eq!(done.exit, Exit::Failed, "{done:?}");
}
