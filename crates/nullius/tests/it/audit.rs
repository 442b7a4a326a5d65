//! The audit: every request in ours and in the API server's own, under one id; filters, verification, uses.

use std::collections::{BTreeMap, BTreeSet};

use nullius_testkit::{AuditEntry, wait_until};
use serde_json::Value;

use crate::{
    faults_lab::PATIENCE,
    people::Worker,
    running::{Running, get_page, port_of},
    trail::{events, text, wait_event},
    transports,
    world::{World, ended_with},
};

/// Subresources whose requests become streams of raw bytes.
const UPGRADES: [&str; 3] = ["exec", "portforward", "attach"];

/// What the API server wrote of these requests, by Audit-ID.
fn entries(world: &World, ids: &BTreeSet<&str>) -> BTreeMap<String, Vec<AuditEntry>> {
    let of_ours = |line: &str| {
        let id = line.split(r#""auditID":""#).nth(1).and_then(|rest| rest.split('"').next());
        id.is_some_and(|id| ids.contains(id))
    };
    let mut by_id: BTreeMap<String, Vec<AuditEntry>> = BTreeMap::new();
    for entry in world.cluster.audit_log().unwrap().entries_where(of_ours).unwrap() {
        by_id.entry(entry.text("/auditID").to_owned()).or_default().push(entry);
    }
    by_id
}

/// One request of every kind.
fn work(worker: &Worker<'_>) {
    let kubectl = worker.kubectl();
    kubectl.ok(&["get", "pods"]).unwrap();
    kubectl.ok(&["get", "--raw", "/version"]).unwrap();
    kubectl.ok(&["create", "configmap", "made"]).unwrap();
    kubectl.ok(&["label", "configmap", "made", "color=blue"]).unwrap();
    kubectl.ok(&["delete", "configmap", "made"]).unwrap();
    kubectl.ok(&["logs", "page", "--tail=1"]).unwrap();
    kubectl.ok(&["auth", "can-i", "get", "pods"]).unwrap();
    let mut watch = Running::start("watch", kubectl.command(&["get", "pods", "--watch"]));
    watch.wait_line("page");
    for way in &transports::ALL {
        let kubectl = way.of(&kubectl);
        kubectl.ok(&["exec", "page", "--", "true"]).unwrap();
        let forward = kubectl.command(&["port-forward", "pod/page", ":8080"]);
        let mut forward = Running::start(way.name, forward);
        let port = port_of(&forward.wait_line("Forwarding from"));
        assert!(get_page(port, "/").unwrap().ends_with("the page\n"));
        let attach = kubectl.command(&["attach", "page"]);
        Running::start(way.name, attach).wait_line("tick");
    }
}

#[test]
fn every_request_is_in_both_audits_under_one_id_and_as_the_session() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("joined");
    work(&worker);
    let user = ["--user", worker.name.as_str(), "--kind", "kube-request"];
    let done = |events: &[Value]| {
        let ended = |pointer: &str, wanted: &str| {
            let fits = |e: &&Value| text(e, pointer) == wanted && e["outcome"] == "done";
            events.iter().filter(fits).count()
        };
        UPGRADES.iter().all(|kind| ended("/kube/subresource", kind) >= transports::ALL.len())
            && ended("/kube/verb", "watch") > 0
    };
    let ours = wait_until(PATIENCE, "the ends of all streams in the audit", || {
        Some(events(&world, &user)).filter(|events| done(events))
    });
    let ours = ours.unwrap_or_else(|error| {
        let streams = events(&world, &user).into_iter().filter(|event| {
            UPGRADES.contains(&text(event, "/kube/subresource"))
                || text(event, "/kube/verb") == "watch"
        });
        panic!("{error}: {:#?}", streams.collect::<Vec<_>>())
    });

    let ids: BTreeSet<&str> = ours.iter().map(|event| text(event, "/auditId")).collect();
    let theirs = wait_until(PATIENCE, "the API server's entries", || {
        let entries = entries(&world, &ids);
        ids.iter().all(|id| entries.contains_key(*id)).then_some(entries)
    });
    let theirs = theirs.unwrap_or_else(|error| {
        let entries = entries(&world, &ids);
        let missing: Vec<_> =
            ours.iter().filter(|event| !entries.contains_key(text(event, "/auditId"))).collect();
        panic!("{error}: {missing:#?}")
    });

    let account = format!("system:serviceaccount:nullius-sessions:session-{}", worker.session);
    for event in &ours {
        assert_eq!(text(event, "/principal/user"), worker.name);
        assert_eq!(text(event, "/session"), worker.session);
        assert_eq!(text(event, "/cluster"), world.cluster_name());
        for entry in &theirs[text(event, "/auditId")] {
            assert_eq!(entry.text("/user/username"), account, "{event:#}");
            assert!(entry.0.get("impersonatedUser").is_none(), "{:#}", entry.0);
            assert_eq!(entry.text("/requestURI"), text(event, "/kube/requestUri"));
            let agent = text(event, "/kube/userAgent");
            assert_eq!(entry.text("/userAgent"), agent, "the client is told as it is");
            let code = event["kube"]["code"].as_u64().unwrap();
            let whole = entry.text("/stage") == "ResponseComplete" && event["outcome"] == "done";
            if whole && !UPGRADES.contains(&text(event, "/kube/subresource")) {
                assert_eq!(entry.0["responseStatus"]["code"].as_u64(), Some(code), "{event:#}");
            }
        }
    }
    in_kubernetes_form(&world, &user, &theirs);
    nothing_else_was_done_as(&world, &account, &user);
    // The account that forwards is never seen by the API server.
    let forwarder = "system:serviceaccount:nullius-system:nullius-agent-proxy";
    let log = world.cluster.audit_log().unwrap();
    let mut seen = log.entries_where(|line| line.contains(forwarder)).unwrap();
    seen.retain(|entry| entry.text("/user/username") == forwarder);
    assert!(seen.is_empty(), "{seen:?}");
}

/// Whatever the API server saw of a session's account is in ours too, but for what the agent asks when it makes it.
fn nothing_else_was_done_as(world: &World, account: &str, user: &[&str]) {
    let log = world.cluster.audit_log().unwrap();
    let mut seen = log.entries_where(|line| line.contains(account)).unwrap();
    seen.retain(|entry| {
        entry.text("/user/username") == account
            && !entry.text("/userAgent").starts_with("nullius-agent/")
    });
    assert!(!seen.is_empty());
    let mut strange = Vec::new();
    let joined = wait_until(PATIENCE, "ours to hold all of theirs", || {
        let ours = events(world, user);
        let ids: BTreeSet<&str> = ours.iter().map(|event| text(event, "/auditId")).collect();
        strange = seen
            .iter()
            .filter(|entry| !ids.contains(entry.text("/auditID")))
            .map(|entry| entry.0.clone())
            .collect();
        strange.is_empty().then_some(())
    });
    joined.unwrap_or_else(|error| panic!("{error}: {strange:#?}"));
}

#[test]
fn a_review_that_cannot_be_read_is_refused_and_in_the_audit() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("unreadable");
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let large = format!("{{\"kind\": \"{}\"}}", "x".repeat(100_000));
    for body in ["{ no review", &large] {
        let create = ["create", "--raw", path, "-f", "-"];
        let refused = worker.kubectl().run_with_input(&create, body).unwrap();
        ended_with(&refused, 1);
    }
    let of_it = ["--user", worker.name.as_str(), "--outcome", "failed"];
    let both = wait_until(PATIENCE, "both refusals in the audit", || {
        let refused =
            |event: &Value| text(event, "/kube/requestUri") == path && event["kube"]["code"] == 400;
        let found = events(&world, &of_it).into_iter().filter(refused).count();
        (found == 2).then_some(())
    });
    both.unwrap_or_else(|error| panic!("{error}: {:#?}", events(&world, &of_it)));
}

/// Our events in the form of Kubernetes say what the API server's own say, but for who: it knows the session alone.
fn in_kubernetes_form(world: &World, user: &[&str], theirs: &BTreeMap<String, Vec<AuditEntry>>) {
    let list = ["audit", "list", "--limit", "20000", "-o", "kubernetes"];
    let list: Value = serde_json::from_str(&world.admin(&[&list, user].concat())).unwrap();
    assert_eq!(
        (&list["apiVersion"], &list["kind"]),
        (&"audit.k8s.io/v1".into(), &"EventList".into())
    );
    let whole = |event: &&Value| event["stage"] == "ResponseComplete";
    let mut joined = BTreeSet::new();
    for ours in list["items"].as_array().unwrap().iter().filter(whole) {
        let entries = theirs.get(text(ours, "/auditID")).map_or(&[][..], Vec::as_slice);
        let Some(entry) = entries.iter().find(|entry| whole(&&entry.0)) else { continue };
        for field in ["requestURI", "userAgent"] {
            assert_eq!(ours[field], entry.0[field], "{field} of {ours:#} and {:#}", entry.0);
        }
        // An exec by GET is `get` in the API server's log and was decided as `create`.
        let upgrade = UPGRADES.contains(&text(ours, "/objectRef/subresource"));
        let verb = if upgrade { "create" } else { entry.text("/verb") };
        assert_eq!(ours["verb"], verb, "{ours:#}");
        for (field, value) in ours["objectRef"].as_object().into_iter().flatten() {
            assert_eq!(
                *value, entry.0["objectRef"][field],
                "{field} of {ours:#} and {:#}",
                entry.0
            );
        }
        assert_eq!(ours.get("objectRef").is_some(), entry.0.get("objectRef").is_some(), "{ours:#}");
        assert_ne!(ours["user"], entry.0["user"]);
        joined.insert(text(ours, "/verb").to_owned());
    }
    for verb in ["get", "list", "watch", "create", "patch", "delete"] {
        assert!(joined.contains(verb), "no `{verb}` stands in both: {joined:?}");
    }
}

#[test]
fn the_audit_is_filtered_shown_and_verified() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker_with_pod("trail");
    let user = ["--user", worker.name.as_str()];
    let of_user = |more: &[&str]| events(&world, &[&user, more].concat());
    let kubectl = worker.kubectl();

    let follow = [&["audit", "tail", "-o", "json"], &user[..]].concat();
    let home = world.environment.homes.join("admin");
    let mut tail = std::process::Command::new(&world.environment.nullius);
    tail.args(follow).env("NULLIUS_HOME", home);
    let mut tail = Running::start("audit tail", tail);
    // The tail begins some time after its start: ask until it shows.
    wait_until(PATIENCE, "an event at the tail", || {
        kubectl.ok(&["get", "configmaps"]).unwrap();
        tail.has_line("configmaps").then_some(())
    })
    .unwrap();

    kubectl.ok(&["exec", "page", "--", "true"]).unwrap();
    ended_with(&kubectl.run(&["get", "secrets", "-n", "ops"]).unwrap(), 1);
    let filter = [&user[..], &["--resource", "pods/exec"]].concat();
    let exec = wait_event(&world, "the exec", &filter, |event| event["outcome"] == "done");
    assert_eq!(text(&exec, "/kube/namespace"), namespace.name());
    assert_eq!(text(&exec, "/kube/name"), "page");
    assert_eq!(text(&exec, "/kube/verb"), "create", "an exec by GET creates as well");
    assert_eq!(text(&exec, "/explanation/reason"), "grant-matched");
    assert!(text(&exec, "/explanation/rule").contains(&worker.grant_name()), "{exec:#}");
    assert!(!text(&exec, "/permission").is_empty(), "{exec:#}");

    let filter = [&user[..], &["--outcome", "denied"]].concat();
    let denied = wait_event(&world, "the denial", &filter, |_| true);
    assert_eq!(text(&denied, "/kube/resource"), "secrets");
    assert_eq!(denied["kube"]["code"], 403);
    assert_eq!(text(&denied, "/explanation/reason"), "no-grant");
    assert!(of_user(&["--namespace", "ops"]).iter().all(|e| text(e, "/kube/namespace") == "ops"));
    assert!(of_user(&["--verb", "create"]).iter().all(|e| text(e, "/kube/verb") == "create"));
    assert!(of_user(&["--session", &worker.session]).len() >= 3);
    assert!(of_user(&["--until", "1h"]).is_empty());
    let kinds: BTreeSet<String> =
        of_user(&[]).iter().map(|event| text(event, "/kind").to_owned()).collect();
    for kind in ["enrol", "sign-in", "provision", "kube-request"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }

    let shown = world.admin(&["audit", "show", text(&exec, "/auditId")]);
    for part in [worker.name.as_str(), "pods/exec", &worker.grant_name(), "Permission:", "Chain:"] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let verdict = world.admin_json(&["audit", "verify"]);
    assert_eq!(verdict["intact"], true, "{verdict}");
    assert!(verdict["entries"].as_u64() > Some(10), "{verdict}");
    // The trail is not everybody's to read.
    ended_with(&worker.nullius(&["audit", "list", "--user", "admin"]), 2);
}

#[test]
fn uses_are_merged_with_the_permission_that_allowed_them() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("uses");
    let kubectl = worker.kubectl();
    for _ in 0..3 {
        kubectl.ok(&["get", "configmap", "kube-root-ca.crt"]).unwrap();
    }
    ended_with(&kubectl.run(&["get", "secrets", "-n", "ops"]).unwrap(), 1);
    let show = ["usage", "show", "--user", worker.name.as_str()];
    let place = format!("core/configmaps@{}", namespace.name());
    let rows = wait_until(PATIENCE, "the uses", || {
        let answer = world.admin_json(&show);
        let rows = answer["items"].as_array()?.clone();
        let found = |resource: &str| rows.iter().any(|row| row["resource"] == resource);
        (found(&place) && found("core/secrets@ops")).then_some(rows)
    });
    let rows = rows.unwrap();
    let row = |resource: &str| rows.iter().find(|row| row["resource"] == resource).unwrap();
    let allowed = row(&place);
    assert_eq!(allowed["action"], "get");
    assert_eq!(allowed["allowed"], true);
    assert_eq!(allowed["count"], 3);
    assert_eq!(allowed["principal"], format!("person:{}", worker.name));
    let filter = ["--user", worker.name.as_str(), "--resource", "configmaps"];
    let event = &events(&world, &filter)[0];
    assert_eq!(allowed["permission"], event["permission"], "{allowed:#}");
    assert!(allowed["permission"].is_string());
    let shown = world.admin(&["audit", "show", allowed["sample"].as_str().unwrap()]);
    assert!(shown.contains("configmaps"), "{shown}");
    assert_eq!(row("core/secrets@ops")["allowed"], false);

    // Where somebody worked lately, what their next session needs stands before its first request.
    worker.nullius_ok(&["logout"]);
    // A code counts once; if the step has gone on meanwhile, this one is of the step after it.
    let code = worker.person.next_code().unwrap();
    worker.person.sign_in_with(&world.environment, &code).unwrap();
    let session = worker.session_now();
    wait_until(PATIENCE, "the new session's account and bindings", || {
        let made = world.session_objects(&session);
        made.iter().any(|object| object.starts_with("RoleBinding")).then_some(())
    })
    .unwrap();
}
