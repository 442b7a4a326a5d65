#![allow(clippy::unwrap_used, reason = "test")]

use nullius_kube::identity::{NamespaceNews, NodeNews, PodNews};
use nullius_pki::MachineKey;
use serde_json::json;

use super::*;

const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ON_DB: &str = "machine:db-1";

fn news(
    kind: &str,
    namespace: &str,
    name: &str,
    uid: &str,
    spec: Value,
    status: Value,
) -> ObjectNews {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace, "uid": uid }, "spec": spec,
    });
    ObjectNews {
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        generation: 1,
        json: object.to_string().into_bytes().into(),
        status: Arc::new(status),
    }
}

fn machine(uid: &str, namespaces: &[&str], token: &str, status: Value) -> ObjectNews {
    let mut spec = json!({ "joinToken": { "sha256": token, "expires": "2027-01-31T00:00:00Z" } });
    if !namespaces.is_empty() {
        spec["namespaces"] = namespaces.into();
    }
    news("Machine", "", "db-1", uid, spec, status)
}

fn joined(key: &MachinePublicKey, token: &str) -> Value {
    json!({ "key": key.id(), "publicKey": key.to_text(), "token": token })
}

fn identity(namespace: &str, name: &str, machines: &[&str]) -> ObjectNews {
    let spec = json!({
        "machines": machines, "unix": { "uid": 70, "path": "/usr/bin/db" },
        "path": format!("/ns/{{namespace}}/{name}/{{machine}}"),
    });
    news("WorkloadIdentity", namespace, name, &format!("u-{name}"), spec, Value::Null)
}

fn namespace(name: &str, label: Option<&str>) -> NamespaceNews {
    let (name, label) = (name.into(), label.map(Into::into));
    NamespaceNews { name, label, mesh: None, exempt: Box::default() }
}

fn registry() -> Registry {
    let mut registry = Registry::new("dev.example".parse().unwrap());
    let all = ["shop", "bank", SYSTEM_NAMESPACE, NODE_NAMESPACE].map(|name| namespace(name, None));
    registry.hear_namespaces(News::All(all.into()));
    registry.hear_nodes(News::All(vec![NodeNews { name: "db-1".into(), uid: "n".into() }]));
    registry.hear_pods(News::All(Vec::new()));
    registry.hear_declared(News::All(Vec::new()));
    registry.hear_machines(News::All(Vec::new()));
    registry
}

fn ids(registry: &Registry) -> Vec<String> {
    registry.of_node(ON_DB).map(|(_, it)| it.entry.spiffe_id.path().to_owned()).collect()
}

fn is_touched(touched: &Touched) -> bool {
    touched.contains(ON_DB)
}

#[test]
fn processes_of_a_machine_have_what_a_namespace_declares_that_the_machine_names() {
    let mut registry = registry();
    registry.hear_machines(News::Put(machine("m-1", &["shop"], TOKEN, Value::Null)));
    let db = identity("shop", "db", &["db-1", "db-2"]);
    assert!(is_touched(&registry.hear_declared(News::Put(db.clone()))));
    registry.hear_declared(News::Put(identity("bank", "ledger", &["db-1"])));
    assert_eq!(ids(&registry), ["/ns/shop/db/db-1"]);
    let entry = registry.find(ON_DB, "m-1/shop/db").unwrap();
    let selectors: Vec<String> = entry.entry.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(selectors, ["unix:uid:70", "unix:path:/usr/bin/db"]);
    assert_eq!(entry.pod, None);
    // A node of the same name has nothing of it, and is told nothing of it.
    assert_eq!(registry.of_node("db-1").count(), 0);
    assert_eq!(registry.told(ON_DB).len(), 1);

    let stands = |registry: &Registry, name: &str| {
        let all = registry.declared();
        all.into_iter().find(|(news, _)| &*news.name == name).unwrap().1
    };
    // Nobody of a namespace learns which machines there are.
    let (why, other) =
        (stands(&registry, "db").unwrap_err(), stands(&registry, "ledger").unwrap_err());
    assert!(
        why.starts_with("spec.machines: no identity is given on `db-2`: an administrator"),
        "{why}"
    );
    assert_eq!(other.replace("db-1", "db-2"), why);
    registry.hear_declared(News::Put(identity("shop", "db", &["db-1"])));
    assert_eq!(stands(&registry, "db"), Ok(1));

    let both = machine("m-1", &["shop", "bank"], TOKEN, Value::Null);
    assert!(is_touched(&registry.hear_machines(News::Put(both))));
    assert_eq!(ids(&registry), ["/ns/bank/ledger/db-1", "/ns/shop/db/db-1"]);
    let disabled = namespace("bank", Some("disabled"));
    assert!(is_touched(&registry.hear_namespaces(News::Put(disabled))));
    assert_eq!(ids(&registry), ["/ns/shop/db/db-1"]);
    assert!(is_touched(&registry.hear_declared(News::Gone(identity("shop", "db", &["db-1"])))));
    assert!(ids(&registry).is_empty());
    registry.hear_namespaces(News::Put(namespace("bank", None)));
    let none = machine("m-1", &[], TOKEN, Value::Null);
    assert!(is_touched(&registry.hear_machines(News::Put(none))));
    assert!(ids(&registry).is_empty());
}

#[test]
fn no_machine_speaks_for_our_own_parts() {
    let mut registry = registry();
    let all = [SYSTEM_NAMESPACE, NODE_NAMESPACE];
    registry.hear_machines(News::Put(machine("m-1", &all, TOKEN, Value::Null)));
    for namespace in all {
        registry.hear_declared(News::Put(identity(namespace, "db", &["db-1"])));
    }
    assert!(ids(&registry).is_empty());
}

#[test]
fn no_pod_is_on_a_machine_whatever_it_says() {
    let mut registry = registry();
    registry.hear_namespaces(News::Put(namespace("shop", Some("enabled"))));
    registry.hear_pods(News::Put(PodNews {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "0a1b2c3d-0000-4111-8222-333344445555".into(),
        node: Some(ON_DB.into()),
        account: "web".into(),
        label: None,
        mesh: None,
        is_ended: false,
        is_on_host: false,
        parts: Arc::default(),
    }));
    assert_eq!(registry.count(), 0);
}

#[test]
fn the_key_that_joined_counts_while_the_token_is_the_one_it_joined_by() {
    let mut registry = registry();
    let key = MachineKey::create().unwrap().public_key();
    assert!(registry.means("db-1").is_none());
    let put = |registry: &mut Registry, news| registry.hear_machines(News::Put(news));
    assert!(is_touched(&put(&mut registry, machine("m-1", &["shop"], TOKEN, Value::Null))));
    assert_eq!(registry.means("db-1").unwrap().key, None);
    assert!(registry.has_join_token("db-1", TOKEN) && !registry.has_join_token("db-1", OTHER));
    assert!(!registry.has_join_token("db-2", TOKEN));
    assert!(!registry.has_join_token("db-2", &"-".repeat(64)), "nor what stands for none");

    let news = machine("m-1", &["shop"], TOKEN, joined(&key, TOKEN));
    assert!(is_touched(&put(&mut registry, news.clone())), "who waits for it hears");
    assert_eq!(registry.means("db-1").unwrap().key, Some(key.clone()));
    assert!(!is_touched(&put(&mut registry, news)));
    // Another token: the key of before counts no more, and its streams are told.
    let other = machine("m-1", &["shop"], OTHER, joined(&key, TOKEN));
    assert!(is_touched(&put(&mut registry, other)));
    assert_eq!(registry.means("db-1").unwrap().key, None);
    let mut forged = joined(&key, TOKEN);
    forged["key"] = TOKEN.into();
    put(&mut registry, machine("m-1", &["shop"], TOKEN, forged));
    assert_eq!(registry.means("db-1").unwrap().key, None);
    // Made anew under its name it is another one.
    let before = machine("m-1", &["shop"], TOKEN, joined(&key, TOKEN));
    put(&mut registry, before.clone());
    let anew = machine("m-2", &["shop"], TOKEN, joined(&key, TOKEN));
    assert!(is_touched(&put(&mut registry, anew)));
    assert_eq!(&*registry.means("db-1").unwrap().uid, "m-2");
    assert!(!is_touched(&registry.hear_machines(News::Gone(before))));
    assert!(is_touched(&registry.hear_machines(News::All(Vec::new()))));
    assert!(registry.means("db-1").is_none());
}

#[test]
fn what_cannot_be_read_is_nobody_and_says_why() {
    let mut registry = registry();
    registry.hear_declared(News::Put(identity("shop", "db", &["db-1"])));
    let key = MachineKey::create().unwrap().public_key();
    registry.hear_machines(News::Put(machine("m-1", &["shop"], TOKEN, joined(&key, TOKEN))));
    assert_eq!(ids(&registry).len(), 1);
    let pop = json!({ "namespaces": ["shop"], "x509pop": { "caBundle": "none", "name": "db-1" } });
    let news = news("Machine", "", "db-1", "m-1", pop, joined(&key, TOKEN));
    assert!(is_touched(&registry.hear_machines(News::Put(news))));
    assert!(registry.means("db-1").is_none() && ids(&registry).is_empty());
    let all = registry.machines();
    let why = all[0].1.as_ref().unwrap_err();
    assert!(why.starts_with("spec.x509pop.caBundle: "), "{why}");
}
