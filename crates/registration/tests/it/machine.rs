//! Machines, and the identities that objects give processes of theirs.

use nullius_registration::{Machine, MachineJoin, WorkloadIdentity, identities, machine_identity};
use serde_json::{Value, json};

use crate::{faults, object, pod, read};

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn machine(spec: Value) -> Result<Machine, Vec<String>> {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Machine",
        "metadata": { "name": "db-1" }, "spec": spec,
    });
    Machine::read(&object).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn a_machine_says_how_it_proves_itself_and_for_whom() {
    let spec = json!({
        "namespaces": ["shop", "bank"],
        "joinToken": { "sha256": DIGEST, "expires": "2027-01-31T00:00:00Z" },
        "x509pop": { "caBundle": "PEM", "name": "db-1.example" },
    });
    let read = machine(spec).unwrap();
    assert_eq!(read.name().as_str(), "db-1");
    assert_eq!(read.namespaces.len(), 2);
    assert_eq!(&*read.join_token.unwrap().sha256, DIGEST);
    assert_eq!(&*read.x509pop.unwrap().name, "db-1.example");
    let none = machine(json!({})).unwrap();
    assert!(none.namespaces.is_empty() && none.join_token.is_none() && none.x509pop.is_none());

    for (spec, wanted) in [
        (json!({ "namespaces": ["shop", "shop"] }), "spec.namespaces[1]: it stands twice"),
        (json!({ "namespaces": ["Shop"] }), "spec.namespaces[0]: "),
        (json!({ "joinToken": { "sha256": DIGEST } }), "spec.joinToken.expires: it is missing"),
        (json!({ "joinToken": "x" }), "spec.joinToken: expected a mapping"),
        (
            json!({ "joinToken": { "sha256": DIGEST.to_uppercase(), "expires": "2027-01-31T00:00:00Z" } }),
            "spec.joinToken.sha256: a digest has 64",
        ),
        (
            json!({ "joinToken": { "sha256": DIGEST, "expires": "soon" } }),
            "spec.joinToken.expires: it is no time",
        ),
        (json!({ "x509pop": { "caBundle": "PEM" } }), "spec.x509pop.name: it is missing"),
        (json!({ "nodes": [] }), "spec.nodes: unknown field"),
    ] {
        let told = machine(spec.clone()).unwrap_err();
        assert!(told[0].starts_with(wanted), "{spec}: {told:?}");
    }
}

fn on(machine: &str, spec: Value) -> Result<String, String> {
    let object = read("x", spec);
    let identity = machine_identity(machine, &"d.example".parse().unwrap(), &object)?;
    Ok(identity.spiffe_id.to_string())
}

#[test]
fn an_object_gives_processes_of_the_machines_that_it_names_an_identity() {
    let spec = json!({
        "machines": ["db-1", "db-2"],
        "unix": { "uid": 70, "path": "/usr/lib/postgres" },
        "path": "/ns/{namespace}/db/{machine}",
        "x509": { "ttl": "30m", "dnsNames": ["db.shop.svc"] },
    });
    assert_eq!(on("db-1", spec.clone()).unwrap(), "spiffe://d.example/ns/shop/db/db-1");
    assert_eq!(on("db-2", spec.clone()).unwrap(), "spiffe://d.example/ns/shop/db/db-2");
    assert!(on("db-3", spec.clone()).is_err());
    let object = read("x", spec);
    let (of_pod, unfit) = identities(&pod(), &"d.example".parse().unwrap(), [&object]);
    assert_eq!((of_pod.len(), unfit.len()), (1, 0), "no pod has it");
    let identity = machine_identity("db-1", &"d.example".parse().unwrap(), &object).unwrap();
    assert_eq!((identity.uid, identity.gid, identity.container), (Some(70), None, None));
    assert_eq!(identity.path.as_deref(), Some("/usr/lib/postgres"));
    assert!(identity.dns_names.contains("db.shop.svc"));
    let of_pods = WorkloadIdentity::read(&object_of_pods()).unwrap();
    assert!(machine_identity("db-1", &"d.example".parse().unwrap(), &of_pods).is_err());
    // What the path becomes counts, whatever a machine is called.
    let named = json!({ "machines": ["sa"], "unix": { "uid": 1 }, "path": "/ns/shop/{machine}/x" });
    assert!(on("sa", named).unwrap_err().contains("of another account"));
}

fn object_of_pods() -> Value {
    object("y", json!({ "selector": { "any": true }, "path": "/ns/shop/y" }))
}

#[test]
fn an_object_is_for_pods_or_for_machines_and_says_which_processes() {
    let spec = |more: Value| {
        let mut spec = json!({ "machines": ["db-1"], "unix": { "uid": 70 }, "path": "/ns/shop/x" });
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => drop(spec.as_object_mut().unwrap().remove(name)),
                value => spec[name] = value.clone(),
            }
        }
        spec
    };
    assert!(on("db-1", spec(json!({}))).is_ok());
    for (more, wanted) in [
        (json!({ "selector": { "any": true } }), "spec.selector: it is for processes of machines"),
        (json!({ "containers": { "names": ["a"] } }), "spec.containers: it is for processes"),
        (json!({ "machines": [] }), "spec.machines: the list is empty"),
        (json!({ "machines": ["../x"] }), "spec.machines[0]: "),
        (json!({ "unix": null }), "spec.unix: it is missing"),
        (json!({ "unix": {} }), "spec.unix: it says nothing"),
        (json!({ "unix": { "path": "bin/x" } }), "spec.unix.path: a path is absolute"),
        (json!({ "unix": { "path": "/a/../b" } }), "spec.unix.path: a path is absolute"),
        (json!({ "unix": { "path": "/a\n" } }), "spec.unix.path: a path is absolute"),
        (json!({ "path": null }), "spec.path: it is missing"),
        (json!({ "path": "/ns/shop/sa/orders" }), "spec.path: what follows `/sa/`"),
        (json!({ "path": "/ns/bank/x" }), "spec.path: an ID of this namespace begins with"),
        (json!({ "path": "/ns/shop/{pod}" }), "spec.path: machines have no ServiceAccount"),
        (
            json!({ "x509": { "dnsNames": ["{serviceAccount}.shop.svc"] } }),
            "spec.x509.dnsNames[0]: machines have no ServiceAccount",
        ),
    ] {
        let told = faults(spec(more.clone()));
        assert!(told[0].starts_with(wanted), "{more}: {told:?}");
    }
    let of_pods = json!({ "selector": { "any": true }, "path": "/ns/shop/{machine}" });
    assert!(faults(of_pods)[0].starts_with("spec.path: `{machine}` is known only where"));
}

#[test]
fn what_a_machine_is_given_is_read_as_it_was_written() {
    let join = MachineJoin {
        machine: "db-1".parse().unwrap(),
        cluster: "prod".parse().unwrap(),
        trust_domain: "prod.example".parse().unwrap(),
        bundle: json!({ "keys": [] }),
        agent: "agent.example:8447".to_owned(),
        token: Some("secret".to_owned()),
    };
    assert_eq!(MachineJoin::read(&join.write()).unwrap(), join);
    assert!(!format!("{join:?}").contains("secret"));
    let without = MachineJoin { token: None, ..join.clone() };
    assert_eq!(MachineJoin::read(&without.write()).unwrap(), without);
    for (field, value, wanted) in [
        ("agent", json!("agent.example"), "agent: write `HOST:PORT`"),
        ("agent", json!("[::1:8447"), "agent: write `HOST:PORT`"),
        ("agent", json!("a b:1"), "agent: write `HOST:PORT`"),
        ("trustDomain", json!("Prod"), "trustDomain: "),
        ("tokn", json!("x"), "tokn: unknown field; did you mean `token`?"),
        ("kind", json!("Machine"), ""),
    ] {
        let mut object = join.write();
        object[field] = value;
        let told = MachineJoin::read(&object).unwrap_err();
        assert!(told[0].to_string().contains(wanted), "{told:?}");
    }
    for good in ["10.0.0.1:1", "[fd00::1]:8447", "agent:65535"] {
        assert!(nullius_registration::is_address(good), "{good}");
    }
}
