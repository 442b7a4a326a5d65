//! Findings as people and other tools see them.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::{hub::Hub, person::Person, time::after};

fn finding(id: u8, name: &str, state: &str) -> Value {
    json!({
        "id": format!("{id:032x}"), "source": "admission", "cluster": "dev",
        "object": { "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name, "uid": "u-1" },
        "part": "object", "policy": "PodSecurity/restricted", "check": "runAsNonRoot", "severity": "medium",
        "enforcement": "warn", "message": "\u{1b}[2Jpod must not run as root", "evidence": ["spec.template.spec"],
        "fix": "set `runAsNonRoot: true`", "state": state, "firstSeen": after(-7200), "lastSeen": after(-60),
    })
}

fn scan(finished: bool) -> Value {
    let mut scan = json!({
        "cluster": "dev", "source": "admission", "beganAt": after(-600), "objects": 120, "policies": 16,
        "faults": ["`policy/lost` has no parameters"], "folded": 7,
    });
    if finished {
        scan["finishedAt"] = json!(after(-300));
    }
    scan
}

/// The text without the times of this run.
fn timeless(text: &str) -> String {
    let text = text.replace(&after(-7200).to_string(), "FIRST");
    let text = text.replace(&after(-60).to_string(), "LAST");
    text.replace(&after(-60).as_second().to_string(), "SECONDS")
}

#[tokio::test]
async fn findings_are_listed_and_shown_and_drive_no_terminal() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let items = json!([finding(1, "web", "open"), finding(2, "db", "waived")]);
    hub.script("GET /v1/findings", 200, json!({ "items": items, "scans": [scan(true)] }));
    let done = person.run(&["findings", "list"]).await;
    assert!(done.err.contains("7 more findings of `dev` are not kept"), "{}", done.err);
    assert!(done.err.contains("`policy/lost` has no parameters"), "{}", done.err);
    insta::assert_snapshot!("findings_table", done.ok());
    let out = person.run(&["findings", "list", "-o", "wide", "--severity", "medium"]).await.ok();
    insta::assert_snapshot!("findings_wide", out);
    let out = person.run(&["findings", "list", "-o", "csv"]).await.ok();
    insta::assert_snapshot!("findings_csv", timeless(&out));
    let out = person.run(&["findings", "list", "-o", "name"]).await.ok();
    assert_eq!(out.lines().count(), 2);
    hub.script(&format!("GET /v1/findings/{:032x}", 1), 200, finding(1, "web", "open"));
    let out = person.run(&["findings", "show", &format!("{:032x}", 1)]).await.ok();
    insta::assert_snapshot!("finding_in_full", timeless(&out));
    for form in ["table", "wide", "csv", "json", "yaml", "policyreport", "openreports"] {
        let out = person.run(&["findings", "list", "-o", form]).await.ok();
        assert!(!out.contains('\u{1b}'), "{form}");
    }
}

#[tokio::test]
async fn a_list_that_is_empty_says_why_and_what_to_do() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let said = async |words: &[&str], scans: Value| {
        hub.script("GET /v1/findings", 200, json!({ "items": [], "scans": scans }));
        person.run(words).await.err
    };
    let list = &["findings", "list"];
    let never = said(list, json!([])).await;
    assert!(never.contains("nullius agent admission"), "{never}");
    let under_way = said(list, json!([scan(false)])).await;
    assert!(under_way.contains("the first scan of `dev` is under way"), "{under_way}");
    let clean = said(list, json!([scan(true)])).await;
    assert!(clean.contains("looked at 120 objects with 16 policies"), "{clean}");
    let narrowed = said(&["findings", "list", "-n", "shop"], json!([scan(true)])).await;
    assert!(narrowed.contains("leave a filter out"), "{narrowed}");
}

#[tokio::test]
async fn reports_are_documents_of_one_cluster_for_each_namespace() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let mut of_cluster = finding(3, "shop", "open");
    of_cluster["object"] = json!({ "apiVersion": "v1", "kind": "Namespace", "name": "shop" });
    of_cluster["enforcement"] = json!("inform");
    let items = json!([finding(1, "web", "open"), finding(2, "db", "waived"), of_cluster]);
    hub.script("GET /v1/findings", 200, json!({ "items": items, "scans": [] }));
    for form in ["policyreport", "openreports"] {
        let words = ["findings", "list", "-o", form, "--state", "open"];
        let out = person.run(&words).await.ok();
        insta::assert_snapshot!(format!("findings_{form}"), timeless(&out));
    }
    let mut elsewhere = finding(4, "web", "open");
    elsewhere["cluster"] = json!("prod");
    let items = json!([finding(1, "web", "open"), elsewhere]);
    hub.script("GET /v1/findings", 200, json!({ "items": items, "scans": [] }));
    let err = person.run(&["findings", "list", "-o", "policyreport"]).await.failed(Exit::Usage);
    assert!(err.contains("-c NAME"), "{err}");
    let err = person.run(&["session", "list", "-o", "policyreport"]).await.failed(Exit::Usage);
    assert!(err.contains("findings list"), "{err}");
}
