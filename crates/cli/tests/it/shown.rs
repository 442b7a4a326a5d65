//! What lists and explanations look like, in each form.

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::{hub::Hub, person::Person, time::after};

#[tokio::test]
async fn access_is_listed_and_explained() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    insta::assert_snapshot!("access_table", person.run(&["access", "list"]).await.ok());
    let out = person.run(&["access", "list", "-c", "dev", "-o", "json"]).await.ok();
    insta::assert_snapshot!("access_json", out);
    let answer = json!({
        "allowed": false,
        "explanation": { "reason": "no-grant", "sentence": "no grant lets `eve` delete pods in `shop` of `dev`",
                         "next": "ask an admin for a grant of role `developer`" },
        "considered": [{ "grant": "dev-shop", "role": "developer", "matched": false, "why": "its subjects are group devs" }],
    });
    hub.script("POST /v1/access/explain", 200, answer);
    let words = ["access", "explain", "eve", "delete", "pods", "-c", "dev", "-n", "shop"];
    let done = person.run(&words).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("explain", done.out);
}

fn event(position: i64) -> Value {
    json!({
        "position": position, "writer": "hub", "epoch": "e", "seq": position, "hash": "00ff",
        "event": {
            "auditId": format!("id-{position}"), "at": after(-125), "kind": "kube-request", "outcome": "done",
            "principal": { "kind": "person", "user": "ada" }, "cluster": "dev", "source": "192.0.2.7",
            "kube": { "verb": "create", "requestUri": "/api/v1/namespaces/shop/pods/web/exec?command=\u{1b}[31m",
                      "isResource": true, "apiVersion": "v1", "resource": "pods", "subresource": "exec",
                      "namespace": "shop", "name": "web", "code": 101, "received": after(-125) },
            "explanation": { "reason": "grant-matched", "sentence": "grant dev-shop allows it", "rule": "Grant/dev-shop" },
        },
    })
}

#[tokio::test]
async fn the_audit_is_listed_followed_and_verified() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    hub.script("GET /v1/audit", 200, json!({ "items": [event(2), event(1)] }));
    insta::assert_snapshot!("audit_table", person.run(&["audit", "list"]).await.ok());
    let words = [
        "audit",
        "list",
        "--user",
        "ada",
        "--kind",
        "kube-request",
        "--since",
        "1h",
        "--limit",
        "1",
        "-o",
        "name",
    ];
    assert_eq!(person.run(&words).await.ok(), "id-2\n");
    let asked = hub.state().calls.last().unwrap().clone();
    for part in ["user=ada", "kind=kube-request", "limit=1", "since=20"] {
        assert!(asked.contains(part), "{asked}");
    }
    let shown = person.run(&["audit", "show", "id-1"]).await.ok();
    assert!(shown.contains("pods/exec shop/web") && shown.contains("\\u{1b}[31m"), "{shown}");
    assert!(!shown.contains('\u{1b}'));

    hub.script("GET /v1/audit/tail", 200, json!(format!("{}\n\n{}\n", event(1), event(2))));
    let done = person.run(&["audit", "tail"]).await;
    assert_eq!(done.exit, Exit::Failed, "the hub ended the stream");
    assert_eq!(done.out.lines().count(), 2, "{}", done.out);

    hub.script(
        "GET /v1/audit/verify",
        200,
        json!({ "intact": true, "entries": 7, "checkpoints": 2 }),
    );
    assert_eq!(
        person.run(&["audit", "verify"]).await.ok(),
        "the chain is whole: 7 entries and 2 signed checkpoints\n"
    );
    let broken =
        json!({ "intact": false, "entries": 3, "checkpoints": 0, "broken": "entry 3 was changed" });
    hub.script("GET /v1/audit/verify", 200, broken);
    let done = person.run(&["audit", "verify"]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains("BROKEN: entry 3 was changed"), "{}", done.out);
}

#[tokio::test]
async fn sessions_uses_and_oneself_are_shown() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let session = format!("{:032x}", 1);
    let sessions = json!({ "items": [{ "session": session, "user": "ada", "signedInAt": after(-630), "expiresAt": after(3_605),
        "lastUsed": after(-5), "live": 2, "clusters": ["dev"], "current": true }] });
    hub.script("GET /v1/sessions", 200, sessions);
    let table = person.run(&["session", "list"]).await.ok();
    assert!(table.contains("10m ago") && table.contains("this one"), "{table}");
    hub.script(&format!("DELETE /v1/sessions/{session}"), 204, json!(""));
    assert_eq!(
        person.run(&["session", "end", &session]).await.ok(),
        format!("session {session} ended\n")
    );

    let uses = json!({ "items": [{ "plane": "access", "principal": "person:ada", "cluster": "dev", "action": "get",
        "resource": "pods@shop", "allowed": true, "permission": session, "first": after(-9_000), "last": after(-60),
        "count": 12, "sample": "id-1" }] });
    hub.script("GET /v1/usage", 200, uses);
    insta::assert_snapshot!("usage_table", person.run(&["usage", "show"]).await.ok());

    let me = json!({ "user": "ada", "groups": ["devs"], "session": session, "signedInAt": after(-600), "expiresAt": after(3_605),
        "factors": ["password", "totp"], "factorAt": after(-600), "hubRoles": ["auditor"] });
    hub.script("GET /v1/whoami", 200, me);
    let out = person.run(&["whoami"]).await.ok();
    assert!(
        out.contains("password, one-time code, proven 10m ago") && out.contains("auditor"),
        "{out}"
    );
    assert_eq!(person.run(&["whoami", "-o", "name"]).await.ok(), "ada\n");
    let out = person.run(&["version"]).await.ok();
    assert!(out.contains("9.9.9"), "{out}");
}
