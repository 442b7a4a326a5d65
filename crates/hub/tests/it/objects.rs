//! Objects are changed by those who may, without surprises, and live sessions feel it.

use http::{Method, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{TestHub, access, text};

fn group(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {}})
}

fn role(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}})
}

fn grant(name: &str, subject: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"subjects": [subject], "role": "reader", "clusters": {"names": ["dev"]}}})
}

async fn with_admin() -> (TestHub, Value) {
    let hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    (hub, tokens)
}

async fn put(hub: &TestHub, token: &str, plural: &str, object: Value) -> crate::harness::Answer {
    let path = format!("/v1/objects/{plural}/{}", text(&object["metadata"]["name"]));
    hub.call(Method::PUT, &path, Some(token), Some(object)).await
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted_with_versions() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    let dry = hub.post("/v1/objects/groups?dryRun=true", Some(token), group("dev")).await.ok();
    assert_eq!(dry.json()["metadata"]["generation"], 1);
    hub.get("/v1/objects/groups/dev", token).await.refused(404, "not-found");

    let made = hub.apply(token, "groups", group("dev")).await.ok();
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!((text(&made["kind"]), text(&made["apiVersion"])), ("Group", "nullius.dev/v1alpha1"));
    hub.apply(token, "groups", group("dev")).await.refused(409, "conflict");

    let mut one = made.clone();
    one["spec"]["description"] = json!("developers");
    let changed = put(&hub, token, "groups", one.clone()).await.ok().json();
    assert_eq!(changed["metadata"]["generation"], 2);
    one["spec"]["description"] = json!("too late");
    let late = put(&hub, token, "groups", one).await.refused(409, "conflict");
    assert!(text(&late.json()["message"]).contains("changed by somebody else"));
    let unconditional = json!({"metadata": {"name": "dev"}, "spec": {"description": "forced"}});
    put(&hub, token, "groups", unconditional).await.ok();

    let stale = "/v1/objects/groups/dev?resourceVersion=1";
    hub.call(Method::DELETE, stale, Some(token), None).await.refused(409, "conflict");
    hub.call(Method::DELETE, "/v1/objects/groups/dev", Some(token), None).await.ok();
    hub.get("/v1/objects/groups/dev", token).await.refused(404, "not-found");
    let events = hub.audit(token, "object-change").await;
    let verbs: Vec<_> = events.iter().take(4).map(|event| text(&event["facts"]["verb"])).collect();
    assert_eq!(verbs, ["delete", "update", "update", "create"]);
    assert!(events.iter().take(4).all(|event| event["permission"].is_string()));
    hub.get("/v1/audit/verify", token).await.ok();
}

#[tokio::test]
async fn a_rehearsal_judges_changes_together_and_changes_nothing() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    let typed = |kind: &str, mut object: Value| {
        object["apiVersion"] = json!("nullius.dev/v1alpha1");
        object["kind"] = json!(kind);
        object
    };
    let create = |kind, object| json!({"verb": "create", "object": typed(kind, object)});
    let delete = |kind: &str, name: &str| json!({"verb": "delete", "kind": kind, "name": name});
    let rehearse = async |token: &str, changes: Vec<Value>| {
        let answer = hub.post("/v1/rehearsal", Some(token), json!({ "changes": changes })).await;
        let outcomes = answer.ok().json()["outcomes"].as_array().unwrap().clone();
        let told = |outcome: &Value| match text(&outcome["outcome"]) {
            "done" => "done".to_owned(),
            _ => text(&outcome["error"]["message"]).to_owned(),
        };
        outcomes.iter().map(told).collect::<Vec<_>>()
    };
    let dev = json!({"kind": "Group", "name": "dev"});
    let reads = || create("Grant", grant("dev-reads", dev.clone()));

    // What a grant names may come from the same changes, but only from those before it.
    let all = vec![create("Group", group("dev")), create("Role", role("reader")), reads()];
    assert_eq!(rehearse(token, all.clone()).await, ["done"; 3]);
    let told = rehearse(
        token,
        vec![create("Group", group("dev")), reads(), create("Role", role("reader"))],
    )
    .await;
    assert_eq!((told[0].as_str(), told[2].as_str()), ("done", "done"));
    assert!(told[1].contains("reader"), "{told:?}");
    // What was refused is not there for the next.
    let mut bad = role("reader");
    bad["spec"]["rules"][0]["verbs"] = json!([]);
    let told =
        rehearse(token, vec![create("Group", group("dev")), create("Role", bad), reads()]).await;
    assert!(told[1].contains("rules") && told[2].contains("reader"), "{told:?}");
    let told =
        rehearse(token, vec![create("Group", group("dev")), create("Group", group("dev"))]).await;
    assert!(told[1].contains("exists"), "{told:?}");
    for plural in ["groups", "roles", "grants"] {
        let stands = hub.get(&format!("/v1/objects/{plural}"), token).await.ok().json();
        let names: Vec<_> = stands["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| text(&o["metadata"]["name"]))
            .collect();
        assert!(
            !names.iter().any(|name| ["dev", "reader", "dev-reads"].contains(name)),
            "{names:?}"
        );
    }

    // Each alone would leave somebody in charge; both together leave nobody.
    let second = hub.person(token, "second", &[]).await;
    let admins = json!({"metadata": {"name": "second-admin"}, "spec": {
        "subjects": [{"kind": "User", "name": "second"}], "hubRole": "admin"}});
    hub.apply(token, "grants", admins).await.ok();
    let both = vec![delete("Grant", "second-admin"), delete("Grant", "first-admin")];
    for one in &both {
        assert_eq!(rehearse(token, vec![one.clone()]).await, ["done"]);
    }
    let told = rehearse(token, both).await;
    assert!(told[1].contains("nobody would be admin"), "{told:?}");

    // It needs the right to each change, and everything is as it was.
    let nobody = hub.person(token, "nobody", &[]).await;
    let tokens = hub.sign_in(&nobody).await;
    let told = rehearse(access(&tokens), all).await;
    assert!(told.iter().all(|told| told.contains("may not")), "{told:?}");
    let many = vec![delete("Group", "dev"); 1_001];
    let refused = hub.post("/v1/rehearsal", Some(token), json!({ "changes": many })).await;
    refused.refused(422, "invalid");
    let tokens = hub.sign_in(&second).await;
    hub.get("/v1/objects/grants/second-admin", access(&tokens)).await.ok();
}

#[tokio::test]
async fn what_is_malformed_is_refused_by_field() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    let cases = [
        ("groups", json!({"metadata": {"name": "a b"}, "spec": {}}), "metadata.name"),
        ("groups", json!({"metadata": {"name": "g"}, "spec": {"colour": "red"}}), "spec.colour"),
        ("groups", json!({"kind": "Role", "metadata": {"name": "g"}, "spec": {}}), "kind"),
        (
            "groups",
            json!({"apiVersion": "v1", "metadata": {"name": "g"}, "spec": {}}),
            "apiVersion",
        ),
        (
            "users",
            json!({"metadata": {"name": "ada"}, "spec": {"groups": ["ghost"]}}),
            "spec.groups[0]",
        ),
        (
            "roles",
            json!({"metadata": {"name": "r"}, "spec": {"rules": [{"verbs": []}]}}),
            "spec.rules[0].verbs",
        ),
        (
            "grants",
            json!({"metadata": {"name": "g"}, "spec": {"subjects": [], "role": "ghost"}}),
            "spec.subjects",
        ),
        (
            "grants",
            json!({"metadata": {"name": "g"}, "spec": {"subjects": [{"kind": "User", "name": "admin"}], "duration": "8"}}),
            "spec.duration",
        ),
        (
            "locks",
            json!({"metadata": {"name": "l"}, "spec": {"target": {"kind": "Planet", "name": "x"}}}),
            "spec.target",
        ),
    ];
    for (plural, object, field) in cases {
        let refused = hub.apply(token, plural, object.clone()).await.refused(422, "invalid").json();
        let fields = refused["fields"].as_object().unwrap();
        assert!(fields.keys().any(|key| key.starts_with(field)), "{object} → {refused}");
    }
    hub.apply(token, "planets", group("x")).await.refused(404, "not-found");
    let other = json!({"metadata": {"name": "b"}, "spec": {}});
    let wrong = hub.call(Method::PUT, "/v1/objects/groups/a", Some(token), Some(other)).await;
    wrong.refused(422, "invalid");
    let broken = hub
        .request(Method::POST, "/v1/objects/groups")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    hub.send(broken.body(Full::from("{\"metadata\":")).unwrap()).await.refused(422, "invalid");
    let large = hub
        .request(Method::POST, "/v1/objects/groups")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    let large = large.body(Full::from(" ".repeat(2 << 20))).unwrap();
    assert_eq!(hub.send(large).await.status, 413);
    let form = hub
        .request(Method::POST, "/v1/objects/groups")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "text/plain");
    assert_eq!(hub.send(form.body(Full::from("{}")).unwrap()).await.status, 400);
}

#[tokio::test]
async fn nobody_grants_to_themselves_or_what_they_lack_or_leaves_nobody_in_charge() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    for (plural, object) in [
        ("clusters", json!({"metadata": {"name": "dev"}, "spec": {}})),
        ("roles", role("reader")),
        ("groups", group("ops")),
    ] {
        hub.apply(token, plural, object).await.ok();
    }
    let mine = grant("mine", json!({"kind": "User", "name": "admin"}));
    let refused = hub.apply(token, "grants", mine).await.refused(403, "denied");
    assert_eq!(refused.json()["explanation"]["reason"], "self-grant");

    let op = hub.person(token, "olga", &["ops"]).await;
    let ops = json!({"metadata": {"name": "ops"}, "spec": {"subjects": [{"kind": "Group", "name": "ops"}], "hubRole": "operator"}});
    hub.apply(token, "grants", ops).await.ok();
    let olga = hub.sign_in(&op).await;
    hub.person(token, "ada", &[]).await;
    let ada = json!({"kind": "User", "name": "ada"});
    let over =
        hub.apply(access(&olga), "grants", grant("over", ada.clone())).await.refused(403, "denied");
    assert_eq!(over.json()["explanation"]["reason"], "escalation");
    let hub_role = json!({"metadata": {"name": "up"}, "spec": {"subjects": [ada.clone()], "hubRole": "admin"}});
    hub.apply(access(&olga), "grants", hub_role).await.refused(403, "denied");
    hub.post("/v1/users/admin/enrolment", Some(access(&olga)), json!({}))
        .await
        .refused(403, "denied");
    hub.apply(token, "grants", grant("ok", ada)).await.ok();

    let last = hub.call(Method::DELETE, "/v1/objects/grants/first-admin", Some(token), None).await;
    assert!(last.status.is_client_error(), "{}", last.text);
    let gone = hub.call(Method::DELETE, "/v1/objects/users/admin", Some(token), None).await;
    assert!(gone.status.is_client_error(), "{}", gone.text);
    let denied = hub.audit(token, "object-change").await;
    assert!(denied.iter().any(
        |event| event["outcome"] == "denied" && event["explanation"]["reason"] == "escalation"
    ));
    let usage = hub.get("/v1/usage?user=olga", token).await.ok().json();
    assert!(usage["items"].as_array().unwrap().iter().any(|row| row["allowed"] == false));
}

#[tokio::test]
async fn people_see_their_own_and_auditors_see_all() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    for (plural, object) in [
        ("clusters", json!({"metadata": {"name": "dev"}, "spec": {}})),
        ("clusters", json!({"metadata": {"name": "prod"}, "spec": {}})),
        ("roles", role("reader")),
        ("groups", group("dev")),
        ("groups", group("audit")),
    ] {
        hub.apply(token, plural, object).await.ok();
    }
    let ada = hub.person(token, "ada", &["dev"]).await;
    let eve = hub.person(token, "eve", &["audit"]).await;
    hub.apply(token, "grants", grant("dev", json!({"kind": "Group", "name": "dev"}))).await.ok();
    let auditors = json!({"metadata": {"name": "auditors"}, "spec": {"subjects": [{"kind": "Group", "name": "audit"}], "hubRole": "auditor"}});
    hub.apply(token, "grants", auditors).await.ok();
    let (ada, eve) = (hub.sign_in(&ada).await, hub.sign_in(&eve).await);

    let names = |answer: Value| -> Vec<String> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|object| text(&object["metadata"]["name"]).to_owned()).collect()
    };
    let seen = hub.get("/v1/objects/clusters", access(&ada)).await.ok().json();
    assert_eq!(names(seen), ["dev"]);
    let seen = hub.get("/v1/objects/users", access(&ada)).await.ok().json();
    assert_eq!(seen["items"][0]["status"]["enrolled"], true);
    assert_eq!(names(seen), ["ada"]);
    hub.get("/v1/objects/clusters/prod", access(&ada)).await.refused(403, "denied");
    hub.get("/v1/objects/clusters/ghost", access(&ada)).await.refused(403, "denied");
    let own = hub.get("/v1/audit", access(&ada)).await.ok().json();
    let own = own["items"].as_array().unwrap();
    assert!(!own.is_empty());
    assert!(own.iter().all(|row| row["event"]["principal"]["user"] == "ada"), "{own:?}");
    hub.get("/v1/audit?user=eve", access(&ada)).await.refused(403, "denied");
    hub.get("/v1/audit/verify", access(&ada)).await.refused(403, "denied");
    let own = hub.get("/v1/usage", access(&ada)).await.ok().json();
    let own = own["items"].as_array().unwrap();
    assert!(own.iter().all(|row| row["principal"] == "person:ada"), "{own:?}");
    hub.get("/v1/sessions?all=true", access(&ada)).await.refused(403, "denied");
    hub.get("/v1/access?user=eve", access(&ada)).await.refused(403, "denied");
    let seen = hub.get("/v1/objects/clusters", access(&eve)).await.ok().json();
    assert_eq!(names(seen), ["dev", "prod"]);
    let admin_session = format!("/v1/sessions/{}", text(&tokens["session"]));
    hub.call(Method::DELETE, &admin_session, Some(access(&eve)), None).await.refused(403, "denied");
    assert!(
        hub.get("/v1/sessions?all=true", access(&eve)).await.ok().json()["items"]
            .as_array()
            .unwrap()
            .len()
            >= 3
    );

    let rows = hub.get("/v1/access", access(&ada)).await.ok().json();
    assert_eq!(rows["items"][0]["cluster"], "dev");
    assert_eq!(rows["items"][0]["through"], "dev");
    assert_eq!(rows["items"][0]["reachable"], false);
    let ask = json!({"user": "ada", "cluster": "dev", "verb": "delete", "resource": "pods", "namespace": "shop"});
    let why = hub.post("/v1/access/explain", Some(access(&eve)), ask).await.ok().json();
    assert_eq!((&why["allowed"], &why["considered"][0]["grant"]), (&json!(false), &json!("dev")));
    let intact = hub.get("/v1/audit/verify", access(&eve)).await.ok().json();
    assert_eq!(intact["intact"], true, "{intact}");
}

#[tokio::test]
async fn live_sessions_feel_a_deleted_user_at_once() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    let ada = hub.person(token, "ada", &[]).await;
    let session = hub.sign_in(&ada).await;
    hub.get("/v1/whoami", access(&session)).await.ok();
    hub.call(Method::DELETE, "/v1/objects/users/ada", Some(token), None).await.ok();
    hub.get("/v1/whoami", access(&session)).await.refused(401, "unauthenticated");
    hub.try_sign_in(&ada).await.refused(401, "unauthenticated");
    let ends = hub.audit(token, "session-end").await;
    assert_eq!(ends[0]["facts"]["reason"], "user-gone");
    let user = json!({"metadata": {"name": "ada"}, "spec": {}});
    hub.apply(token, "users", user).await.ok();
    hub.try_sign_in(&ada).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_deletion_names_the_grants_that_give_nothing_afterwards() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    hub.apply(token, "groups", group("devs")).await.ok();
    hub.apply(token, "clusters", json!({"metadata": {"name": "dev"}, "spec": {}})).await.ok();
    hub.apply(token, "roles", role("reader")).await.ok();
    let subject = json!({"kind": "Group", "name": "devs"});
    hub.apply(token, "grants", grant("dev-shop", subject)).await.ok();

    let delete = |path: &'static str| hub.call(Method::DELETE, path, Some(token), None);
    let tried = delete("/v1/objects/roles/reader?dryRun=true").await.ok().json();
    let gone = delete("/v1/objects/roles/reader").await.ok().json();
    assert_eq!(tried["warnings"], gone["warnings"]);
    assert_eq!(gone["object"]["metadata"]["name"], "reader");
    let warning = text(&gone["warnings"][0]);
    assert!(warning.contains("Grant `dev-shop` names Role `reader`"), "{warning}");
    assert!(warning.contains("gives nothing"), "{warning}");
    let gone = delete("/v1/objects/groups/devs").await.ok().json();
    assert!(text(&gone["warnings"][0]).contains("`dev-shop`"), "{gone}");
    let gone = delete("/v1/objects/grants/dev-shop").await.ok().json();
    assert_eq!(gone["warnings"], Value::Null);
}

#[tokio::test]
async fn who_may_not_make_an_object_learns_what_it_takes_and_not_whether_it_is_there() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    hub.apply(token, "roles", role("reader")).await.ok();
    let ada = hub.person(token, "ada", &[]).await;
    let ada = hub.sign_in(&ada).await;
    let there = hub.apply(access(&ada), "roles", role("reader")).await.refused(403, "denied");
    let absent = hub.apply(access(&ada), "roles", role("writer")).await.refused(403, "denied");
    let (there, absent) = (there.text.replace("reader", "x"), absent.text.replace("writer", "x"));
    assert_eq!(there, absent);
    assert!(there.contains("hub role `operator`") || there.contains("hub role `admin`"), "{there}");
    let ceiling = json!({"metadata": {"name": "dev"}, "spec": {"ceiling": "Not A Role"}});
    let wrong = hub.apply(token, "clusters", ceiling).await.refused(422, "invalid");
    assert!(wrong.text.contains("name of a ClusterRole"), "{}", wrong.text);
}

#[tokio::test]
async fn a_join_token_is_for_a_cluster_that_exists_and_by_those_who_may() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    hub.post("/v1/clusters/ghost/join-token", Some(token), json!({}))
        .await
        .refused(404, "not-found");
    hub.apply(token, "clusters", json!({"metadata": {"name": "dev"}, "spec": {"ceiling": "edit"}}))
        .await
        .ok();
    let join = hub.post("/v1/clusters/dev/join-token", Some(token), json!({})).await.ok().json();
    assert_eq!(join["ceiling"], "edit");
    assert!(text(&join["hubCa"]).starts_with("-----BEGIN CERTIFICATE-----"));
    let ada = hub.person(token, "ada", &[]).await;
    let ada = hub.sign_in(&ada).await;
    hub.post("/v1/clusters/dev/join-token", Some(access(&ada)), json!({}))
        .await
        .refused(403, "denied");
}

#[tokio::test]
async fn a_trust_domain_is_of_one_cluster_and_stays_once_an_authority_was_certified() {
    let (hub, tokens) = with_admin().await;
    let token = access(&tokens);
    let cluster = |name: &str, domain: Option<&str>| {
        let spec = domain.map_or(json!({}), |domain| json!({ "trustDomain": domain }));
        json!({"metadata": {"name": name}, "spec": spec})
    };
    hub.apply(token, "clusters", cluster("dev", None)).await.ok();
    for taken in [cluster("prod", Some("dev.nullius.internal")), cluster("prod", Some("Shop"))] {
        let refused = hub.apply(token, "clusters", taken).await;
        assert!(refused.status.is_client_error(), "{}", refused.json());
    }
    hub.apply(token, "clusters", cluster("prod", Some("shop.example"))).await.ok();
    let taken = put(&hub, token, "clusters", cluster("dev", Some("shop.example"))).await;
    let told = taken.refused(422, "invalid").json();
    assert!(told.to_string().contains("is the trust domain of cluster `prod`"), "{told}");
    put(&hub, token, "clusters", cluster("dev", Some("dev.example"))).await.ok();

    let now = hub.hub().now();
    let authority = nullius_store::CertifiedAuthority {
        serial: "07".to_owned(),
        cluster: "dev".parse().unwrap(),
        trust_domain: "dev.example".parse().unwrap(),
        key_digest: "0a".repeat(32),
        certified_at: now,
        not_after: nullius_model::Ttl::from_secs(3_600).after(now),
    };
    let mut tx = hub.hub().store().begin().await.unwrap();
    tx.clusters().put_authority(&authority).await.unwrap();
    tx.commit().await.unwrap();
    let other = put(&hub, token, "clusters", cluster("dev", Some("other.example"))).await;
    let told = other.refused(422, "invalid").json();
    assert!(told.to_string().contains("it is `dev.example` since an authority"), "{told}");
    // Other fields still change.
    let mut ceiling = cluster("dev", Some("dev.example"));
    ceiling["spec"]["ceiling"] = json!("view");
    put(&hub, token, "clusters", ceiling).await.ok();
    // Who removes the cluster and adds it again begins anew.
    let remove = || hub.call(Method::DELETE, "/v1/objects/clusters/dev", Some(token), None);
    remove().await.ok();
    // Nobody else speaks for the domain while the authority of the removed one does.
    let of_west = hub.apply(token, "clusters", cluster("west", Some("dev.example"))).await;
    let of_prod = put(&hub, token, "clusters", cluster("prod", Some("dev.example"))).await;
    for taken in [of_west, of_prod] {
        let told = taken.refused(422, "invalid").json();
        assert!(told.to_string().contains("an authority of cluster `dev` speaks"), "{told}");
    }
    hub.clock.advance(1);
    hub.apply(token, "clusters", cluster("dev", Some("other.example"))).await.ok();
    put(&hub, token, "clusters", cluster("dev", Some("another.example"))).await.ok();
    remove().await.ok();
    hub.apply(token, "clusters", cluster("dev", Some("dev.example"))).await.ok();
    // Nor does an agent beside the hub bring a cluster whose domain is another's.
    hub.apply(token, "clusters", cluster("east", Some("west.nullius.internal"))).await.ok();
    let west = "west".parse().unwrap();
    let refused = hub.hub().bring_cluster(&west, nullius_model::Ceiling::default()).await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("is the trust domain of cluster `east`"), "{told}");
}
