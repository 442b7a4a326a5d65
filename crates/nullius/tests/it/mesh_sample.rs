//! The sample that `cargo xtask up` shows of the mesh: what README and tour say of it holds.

use std::time::{Duration, Instant};

use nullius_testkit::{TestNamespace, wait_until};

const SAMPLE: &str = include_str!("../../../../dev/cluster/sample.yaml");
const MESH: &str = include_str!("../../../../dev/environment/mesh.yaml");
const LONG: Duration = Duration::from_secs(120);

/// Of the file, what is said of one name, once more in a namespace of the test's own.
fn in_namespace(file: &str, namespace: &str) -> String {
    let of_the_shop =
        |document: &&str| document.contains("namespace: shop") || document.contains("name: shop\n");
    let documents: Vec<&str> = file.split("\n---\n").filter(of_the_shop).collect();
    let text =
        documents.join("\n---\n").replace("namespace: shop", &format!("namespace: {namespace}"));
    text.replace("name: shop\n", &format!("name: {namespace}\n"))
}

/// Waits for a line of `orders` that comes from now on.
#[track_caller]
fn says(namespace: &TestNamespace, since: Instant, wanted: &str) {
    let said = wait_until(LONG, &format!("`{wanted}` of orders"), || {
        let since = format!("--since={}s", since.elapsed().as_secs().max(1));
        let logs = namespace.run(&["logs", "deploy/orders", &since]).ok()?;
        logs.stdout.contains(wanted).then_some(())
    });
    if let Err(error) = said {
        let logs = namespace.run(&["logs", "deploy/orders", "--tail=20"]).map(|logs| logs.stdout);
        panic!("{error}: {}", logs.unwrap_or_default());
    }
}

/// The sample in a namespace of a cluster whose nodes lead their pods.
#[track_caller]
pub(crate) fn is_as_the_readme_says(namespace: &TestNamespace) {
    let name = namespace.name();
    namespace.apply(&in_namespace(SAMPLE, name)).unwrap();
    namespace.apply(&in_namespace(MESH, name)).unwrap();
    let began = Instant::now();
    says(namespace, began, "ledger: balance 10");
    says(namespace, began, "web: GET /: HTTP/1.0 200 OK, GET /staff: HTTP/1.0 403 Forbidden");

    let intention = namespace.kubectl(&["get", "intention", "ledger", "-o", "json"]).unwrap();
    namespace.kubectl(&["delete", "intention", "ledger"]).unwrap();
    let deleted = Instant::now();
    says(namespace, deleted, "ledger: the call has ended");
    // Every call from now on ends before a line came.
    let refused = || {
        let logs = namespace.run(&["logs", "deploy/orders", "--tail=12"]).ok()?;
        let lines = logs.stdout.lines().filter(|line| line.contains(" ledger: "));
        let last: Vec<_> = lines.rev().take(3).collect();
        let ends = |line: &&str| line.ends_with("ledger: the call has ended");
        (last.len() == 3 && last.iter().all(ends)).then_some(())
    };
    wait_until(LONG, "calls that are all refused", refused).unwrap();

    let mut again: serde_json::Value = serde_json::from_str(&intention).unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        again["metadata"].as_object_mut().unwrap().remove(field);
    }
    namespace.apply(&again.to_string()).unwrap();
    says(namespace, Instant::now(), "ledger: balance 10");
}
