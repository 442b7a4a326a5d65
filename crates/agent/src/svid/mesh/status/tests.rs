#![allow(clippy::unwrap_used, reason = "test")]
use super::*;

fn intention(spec: Value, status: Value) -> ObjectNews {
    let object = json!({
        "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "u-1" }, "spec": spec,
    });
    ObjectNews {
        namespace: "shop".into(),
        name: "orders".into(),
        uid: "u-1".into(),
        generation: 3,
        json: object.to_string().into_bytes().into(),
        status: Arc::new(status),
    }
}

fn good() -> Value {
    json!({ "destination": { "serviceAccount": "orders" }, "sources": [{ "any": true, "action": "allow" }] })
}

fn home() -> Home {
    Home::of("dev.example".parse().unwrap())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn here(in_force: usize) -> Here {
    Here { in_force, refused: Vec::new() }
}

fn told(news: &ObjectNews, nodes: usize, own: &Here, now: &str) -> Option<Value> {
    let lives = |name: &str| name != "gone";
    whole(news, &looked(news, nodes, &[]), own, "one", lives, at(now))
}

fn looked(news: &ObjectNews, nodes: usize, unread: &[u16]) -> Read {
    Read {
        json: Arc::clone(&news.json),
        reading: Arc::new(what_for(news, &home())),
        nodes: Arc::new((0..nodes).map(|it| it.to_string().into()).collect()),
        turn: None,
        unread: unread.iter().copied().collect(),
    }
}

#[test]
fn where_limits_count_nothing_is_told() {
    let status = |ports: &[u16]| {
        let news = intention(good(), json!({}));
        let read = looked(&news, 1, ports);
        let status = whole(&news, &read, &here(1), "one", |_| true, at(FIRST));
        status.unwrap()["conditions"][0]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(status(&[]), "it can be read");
    let told = status(&[5432, 6379]);
    assert!(told.starts_with("it can be read; its limits count nothing at port 5432, 6379 of"));
}

#[test]
fn of_many_faults_the_first_are_told_and_how_many_more_there_are() {
    let many: serde_json::Map<String, Value> =
        (0..5_000).map(|number| (format!("wrong{number}"), json!(1))).collect();
    let told = read(&intention(many.into(), json!({})), &home()).unwrap_err();
    assert!(told.ends_with("more") && told.len() < 10_000, "{} bytes", told.len());
}

const FIRST: &str = "2026-06-01T00:00:00.4Z";
const LATER: &str = "2026-06-02T00:00:00Z";

#[test]
fn it_is_in_force_where_living_replicas_heard_so_of_this_version() {
    let entry = |name: &str, generation: i64, count: usize| json!({ "name": name, "observedGeneration": generation, "inForce": count });
    let of = |entries: Value| intention(good(), json!({ "replicas": entries }));
    for (entries, own, nodes, in_force, word, reason) in [
        (json!([]), 0, 0, 0, "False", "NoWorkloads"),
        (json!([]), 0, 3, 0, "False", "Pending"),
        (json!([]), 3, 3, 3, "True", "InForce"),
        (json!([entry("two", 3, 2)]), 1, 3, 3, "True", "InForce"),
        (json!([entry("two", 3, 2)]), 2, 3, 3, "True", "InForce"),
        (json!([entry("two", 2, 2)]), 1, 3, 1, "False", "Pending"),
        (json!([entry("gone", 3, 2)]), 1, 3, 1, "False", "Pending"),
        (json!([entry("one", 3, 2)]), 1, 3, 1, "False", "Pending"),
    ] {
        let status = told(&of(entries.clone()), nodes, &here(own), FIRST).unwrap();
        let condition = &status["conditions"][1];
        assert_eq!((&status["inForce"], &status["nodes"]), (&json!(in_force), &json!(nodes)));
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!(word), &json!(reason)),
            "{entries}"
        );
        assert_eq!(status["conditions"][0]["status"], "True");
    }
}

#[test]
fn what_stands_is_not_said_again_and_since_when_is_kept() {
    let first = told(&intention(good(), Value::Null), 2, &here(2), FIRST).unwrap();
    assert_eq!(first["conditions"][1]["lastTransitionTime"], "2026-06-01T00:00:00Z");
    assert_eq!(told(&intention(good(), first.clone()), 2, &here(2), LATER), None);
    let less = told(&intention(good(), first.clone()), 3, &here(2), LATER).unwrap();
    assert_eq!(less["conditions"][1]["lastTransitionTime"], LATER);
    assert_eq!(less["conditions"][0]["lastTransitionTime"], "2026-06-01T00:00:00Z");
    // What replicas say beside it is no reason to say it again.
    let mut beside = first;
    beside["replicas"] = json!([{ "name": "two", "observedGeneration": 3, "inForce": 0 }]);
    assert_eq!(told(&intention(good(), beside), 2, &here(2), LATER), None);
}

#[test]
fn one_that_cannot_be_read_says_each_fault_with_its_place() {
    let spec = json!({
        "destination": { "serviceAccount": "orders", "port": 80 },
        "sources": [{ "any": true, "permissions": [{ "action": "allow", "paths": [{ "regex": "(" }] }] }],
    });
    let status = told(&intention(spec, Value::Null), 0, &here(0), FIRST).unwrap();
    let accepted = &status["conditions"][0];
    assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("False"), &json!("Refused")));
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.contains("spec.destination.port: unknown field; did you mean `ports`?"),
        "{message}"
    );
    assert!(message.contains("spec.sources[0].permissions[0].paths[0].regex"), "{message}");
    assert_eq!(status["conditions"][1]["reason"], "Refused");
    let long = intention(json!({ "é".repeat(100): 1, "destination": {} }), Value::Null);
    let long = told(&long, 0, &here(0), FIRST).unwrap();
    assert!(long["conditions"][0]["message"].as_str().unwrap().chars().count() <= 2_048 + 1);
}

#[test]
fn a_node_that_refuses_it_is_named_wherever_it_is_connected() {
    let refused = Here { in_force: 1, refused: vec![("a".into(), "it is odd".to_owned())] };
    let news = intention(good(), Value::Null);
    let own = told(&news, 2, &refused, FIRST).unwrap();
    assert_eq!(own["conditions"][1]["reason"], "RefusedByNodes");
    assert_eq!(own["conditions"][1]["message"], "on 1 of 2 nodes; `a` refuses it: it is odd");
    let entry = own_entry(&news, "two", &refused).unwrap();
    let elsewhere = intention(good(), json!({ "replicas": [entry] }));
    let other = told(&elsewhere, 2, &here(0), FIRST).unwrap();
    assert_eq!(other["conditions"][1], own["conditions"][1]);
}

#[test]
fn a_replica_says_what_it_heard_when_it_is_new() {
    let news = intention(good(), Value::Null);
    assert_eq!(own_entry(&news, "one", &here(0)), None, "it has heard of nobody");
    let entry = own_entry(&news, "one", &here(2)).unwrap();
    assert_eq!(entry, json!({ "name": "one", "observedGeneration": 3, "inForce": 2 }));
    let standing = intention(good(), json!({ "replicas": [entry.clone()] }));
    assert_eq!(own_entry(&standing, "one", &here(2)), None);
    assert_eq!(own_entry(&standing, "two", &here(0)), None);
    assert!(own_entry(&standing, "one", &here(0)).is_some(), "what is no longer so is said");
}

#[test]
fn who_changes_many_objects_keeps_no_others_waiting() {
    let saying = |namespace: &str, number: usize| {
        let news = ObjectNews {
            namespace: namespace.into(),
            name: number.to_string().into(),
            ..intention(good(), json!({}))
        };
        Saying { uid: "u".into(), news, manager: String::new(), status: None }
    };
    let all = || {
        let loud = (0..1_000).map(|number| saying("loud", number));
        loud.chain([saying("shop", 0), saying("bank", 0)]).collect::<Vec<_>>()
    };
    let first = |served: &str| {
        let ordered = in_turn(all(), served);
        assert_eq!(ordered.len(), 1_002);
        let names = ordered[..5].iter().map(|it| it.news.namespace.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(first(""), "bank loud shop loud loud");
    assert_eq!(first("bank"), "loud shop bank loud loud");
    assert_eq!(first("shop"), "bank loud shop loud loud");
}
