//! Intentions on a real API server: who writes them, what is refused and where, and how replicas say together how one stands.

use std::time::Duration;

use nullius_intention::{Home, Intention, Origin};
use nullius_kube::{
    ApiServer, Credential, Deployments, HubPins, IdentityParts, JoinManifest, Shape, SharedToken,
    identity::{Fleet, News, ObjectNews, StatusStore},
};
use nullius_model::Ceiling;
use nullius_testkit::{TestNamespace, wait_until};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::plane::{CEILING, Plane, plane, refused};

const SOON: Duration = Duration::from_secs(60);
const DOCS: [&str; 2] =
    [include_str!("../../../../docs/intentions.md"), include_str!("../../../../docs/api.md")];

/// A plane with the kind and the rights of `agent identity`, which go with the value.
struct Lab {
    plane: Plane,
    namespace: TestNamespace,
    /// What was applied.
    objects: Vec<Value>,
}

impl Lab {
    async fn open() -> Option<Self> {
        let plane = plane().await?;
        let mut deployments = Deployments::of_image("localhost/nullius:dev");
        deployments.identity = Some(IdentityParts::of_domain("plane.example".parse().unwrap()));
        let hub = HubPins {
            address: "10.99.1.1:8443".into(),
            infra_ca_pem: String::new(),
            offline_key: String::new(),
            hub_id: "hub-1".into(),
        };
        let manifest = JoinManifest {
            cluster: "plane".parse().unwrap(),
            ceiling: Ceiling::try_from(CEILING.to_owned()).unwrap(),
            shape: Shape::InCluster { deployments, hub, join_token: SecretString::from("none") },
        };
        let is_needed = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            let is_ours = name.contains("intentions") || name == "nullius:identity";
            let is_account = object["kind"] == "ServiceAccount" && name == "nullius-identity";
            is_ours && object["metadata"]["namespace"] != "nullius-node" || is_account
        };
        let objects: Vec<Value> = manifest.objects().into_iter().filter(is_needed).collect();
        for object in &objects {
            plane.admin.apply(&object.to_string()).unwrap();
        }
        let crd = "--for=condition=Established";
        let wait = ["wait", crd, "customresourcedefinition/intentions.nullius.dev"];
        plane.admin.ok(&wait).unwrap();
        let namespace = plane.namespace();
        let lab = Self { plane, namespace, objects };
        let odd = lab.intention("odd", json!({ "destination": {}, "qqqq": 1 }));
        wait_until(SOON, "the policy on intentions to be in force", || {
            lab.try_out(&odd).err().filter(|said| said.contains("unknown field"))
        })
        .unwrap();
        Some(lab)
    }

    fn intention(&self, name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
            "metadata": { "name": name, "namespace": self.namespace.name() }, "spec": spec,
        })
    }

    /// Whether the API server takes an object, without keeping it; without what kubectl would find by itself.
    fn try_out(&self, object: &Value) -> Result<(), String> {
        let create = ["create", "--dry-run=server", "--validate=ignore", "-f", "-"];
        let said = self.plane.admin.run_with_input(&create, &object.to_string()).unwrap();
        if said.code == 0 { Ok(()) } else { Err(said.stderr) }
    }

    fn identity(&self) -> (ApiServer, Credential) {
        let token = ["-n", "nullius-system", "create", "token", "nullius-identity"];
        let token = self.plane.admin.ok(&token).unwrap();
        let shared = SharedToken::default();
        shared.replace(&SecretString::from(token.trim().to_owned()));
        (self.plane.api.clone(), Credential::Shared(shared))
    }

    fn status(&self, namespace: &str, name: &str) -> Value {
        let get = ["-n", namespace, "get", "intention", name, "-o", "json"];
        let object: Value = serde_json::from_str(&self.plane.admin.ok(&get).unwrap()).unwrap();
        object["status"].clone()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for gone in [
            ["delete", "customresourcedefinition", "intentions.nullius.dev"],
            ["delete", "validatingadmissionpolicybinding", "nullius-intentions"],
            ["delete", "validatingadmissionpolicy", "nullius-intentions"],
        ] {
            let _ = self.plane.admin.run(&gone);
        }
    }
}

/// What can be said, all of it.
fn whole() -> Value {
    json!({
        "destination": { "serviceAccount": "orders", "labels": { "app": "orders" }, "ports": [8080, 9090] },
        "mode": "enforce",
        "audit": "all",
        "limits": [{ "requestsPerSecond": 10, "burst": 20, "per": "source" }],
        "permissive": { "until": "2099-01-31T00:00:00Z", "ports": [9090] },
        "api": {
            "mode": "shadow", "maxBodyBytes": 1000,
            "schema": { "openapi": "3.1.0", "x-own": [1, null], "paths": { "/a/{b}": {} } },
        },
        "sources": [
            { "spiffeId": "spiffe://plane.example/ns/shop/sa/web", "action": "allow" },
            { "serviceAccount": "web", "namespace": "batch", "trustDomain": "plane.example", "action": "deny" },
            { "any": true, "action": "deny" },
            { "ipBlock": "10.0.0.0/8", "action": "allow" },
            { "serviceAccount": "web", "permissions": [{
                "action": "allow",
                "methods": ["GET"],
                "paths": [{ "exact": "/a" }, { "prefix": "/b" }, { "regex": "/c/[0-9]+" }],
                "hosts": ["*.example.org"],
                "headers": [
                    { "name": "x-one", "exact": "1" }, { "name": "x-two", "prefix": "2", "invert": true },
                    { "name": "x-three", "suffix": "3" }, { "name": "x-four", "contains": "4" },
                    { "name": "x-five", "regex": "5+" }, { "name": "x-six", "present": true },
                ],
                "jwt": {
                    "issuer": "https://login.example.org", "audiences": ["shop"],
                    "claims": [{ "path": ["scope"], "values": ["write", 7, true] }],
                },
                "when": "request.method == 'GET'",
            }] },
        ],
    })
}

#[tokio::test]
async fn what_the_reader_takes_is_taken_and_what_it_refuses_is_refused_with_its_place() {
    let Some(lab) = Lab::open().await else { return };
    for object in &lab.objects {
        let again = lab.plane.admin.apply(&object.to_string()).unwrap();
        assert!(again.trim_end().ends_with("unchanged"), "{again}");
    }
    let home = Home::of("plane.example".parse().unwrap());
    let good = lab.intention("whole", whole());
    Intention::read(&good, Origin::Cluster, &home).unwrap();
    lab.try_out(&good).unwrap();
    let mut documents = 0;
    let blocks = DOCS.iter().flat_map(|page| page.split("```yaml\n").skip(1));
    for block in blocks.filter_map(|rest| rest.split("```").next()) {
        if block.contains("kind: Intention\n") {
            documents += 1;
            let text =
                block.replace("namespace: shop", &format!("namespace: {}", lab.namespace.name()));
            let create = ["create", "--dry-run=server", "-f", "-"];
            let said = lab.plane.admin.run_with_input(&create, &text).unwrap();
            assert_eq!(said.code, 0, "{}", said.stderr);
        }
    }
    assert_eq!(documents, 4);

    let with = |pointer: &str, name: &str, value: Value| {
        let mut spec = whole();
        spec.pointer_mut(pointer).unwrap()[name] = value;
        lab.intention("wrong", spec)
    };
    let (claim, header) =
        ("/sources/4/permissions/0/jwt/claims/0", "/sources/4/permissions/0/headers/0");
    for (wrong, place) in [
        (with("", "retries", json!({})), "spec: unknown field; known here are"),
        (with("/destination", "port", json!(80)), "spec.destination: unknown field"),
        (with("/api", "document", json!({})), "spec.api: unknown field"),
        (with("/api", "schema", json!("openapi: 3.1.0")), "spec.api.schema"),
        (with("/api", "maxBodyBytes", json!(0)), "spec.api.maxBodyBytes"),
        (with("/permissive", "forever", json!(true)), "spec.permissive: unknown field"),
        (with("/sources/0", "name", json!("web")), "spec.sources[]: unknown field"),
        (
            with("/sources/4/permissions/0", "path", json!("/")),
            "spec.sources[].permissions[]: unknown",
        ),
        (
            with(header, "value", json!("1")),
            "spec.sources[].permissions[].headers[]: unknown field",
        ),
        (
            with("/sources/4/permissions/0/jwt", "sub", json!("1")),
            "permissions[].jwt: unknown field",
        ),
        (with(claim, "value", json!("1")), "jwt.claims[]: unknown field"),
        (with("/limits/0", "window", json!("1s")), "spec.limits[]: unknown field"),
        (with("/limits/0", "requestsPerSecond", json!(0)), "spec.limits[0].requestsPerSecond"),
        (
            with("", "issuers", json!([{ "issuer": "https://a", "jwksUrl": "https://a/keys" }])),
            "only intentions in `nullius-system` name them",
        ),
        (with("/destination", "any", json!(true)), "only those in `nullius-system` name more"),
        (
            with("/destination", "namespace", json!("other")),
            "only those in `nullius-system` name more",
        ),
        (with("/destination", "ports", json!([70_000])), "spec.destination.ports[0]"),
        (with("/destination", "ports", json!(["http"])), "spec.destination.ports[0]"),
        (with("/destination", "labels", json!({})), "spec.destination.labels"),
        (with("", "sources", json!([])), "spec.sources"),
        (with("", "mode", json!("audit")), "spec.mode"),
        (with("/sources/0", "action", json!("maybe")), "spec.sources[0].action"),
        (with("/permissive", "until", json!("tomorrow")), "spec.permissive.until"),
    ] {
        assert!(Intention::read(&wrong, Origin::Cluster, &home).is_err(), "{wrong}");
        let said = lab.try_out(&wrong).expect_err(place);
        assert!(said.contains(place), "`{place}` is not told: {said}");
    }
    // For the whole cluster in the system's namespace alone.
    let mut guard = lab.intention("guard", whole());
    guard["spec"]["destination"] = json!({ "any": true });
    guard["metadata"]["namespace"] = json!("nullius-system");
    guard["spec"]["permissive"].as_object_mut().unwrap().remove("ports");
    // A schema is for certain ports.
    guard["spec"].as_object_mut().unwrap().remove("api");
    Intention::read(&guard, Origin::Cluster, &home).unwrap();
    lab.try_out(&guard).unwrap();
    let mut own = lab.intention("own", whole());
    own["spec"]["destination"]["namespace"] = json!(lab.namespace.name());
    Intention::read(&own, Origin::Cluster, &home).unwrap();
    lab.try_out(&own).unwrap();
}

#[tokio::test]
async fn who_may_grant_rights_in_a_namespace_writes_its_intentions_and_nobody_else() {
    let Some(lab) = Lab::open().await else { return };
    let spec = json!({
        "destination": { "serviceAccount": "orders" }, "sources": [{ "any": true, "action": "allow" }],
    });
    let object = lab.intention("mine", spec.clone()).to_string();
    let namespace = lab.namespace.name();
    let get = ["-n", namespace, "get", "intentions"];
    let admin = lab.plane.somebody(&lab.namespace, "admin");
    wait_until(SOON, "the role to be part of `admin`", || {
        let made = admin.kubectl.run_with_input(&["apply", "-f", "-"], &object).unwrap();
        (made.code == 0).then_some(())
    })
    .unwrap();
    for role in ["edit", "view"] {
        let somebody = lab.plane.somebody(&lab.namespace, role);
        wait_until(SOON, "the role to be part of it", || {
            (somebody.kubectl.run(&get).unwrap().code == 0).then_some(())
        })
        .unwrap();
        let other = lab.intention("other", spec.clone()).to_string();
        let made = somebody.kubectl.run_with_input(&["create", "-f", "-"], &other).unwrap();
        refused(&made, "forbidden");
        let delete = ["-n", namespace, "delete", "intention", "mine"];
        refused(&somebody.kubectl.run(&delete).unwrap(), "forbidden");
    }
    // Whoever administers namespaces does not administer the cluster.
    let mut guard = lab.intention("guard", spec);
    guard["metadata"]["namespace"] = json!("nullius-system");
    let made = admin.kubectl.run_with_input(&["create", "-f", "-"], &guard.to_string()).unwrap();
    refused(&made, "only administrators of the cluster change what runs here");
}

/// The newest that is told of an intention.
async fn hear(
    news: &mut nullius_kube::identity::Follower<ObjectNews>,
    look: impl Fn(&ObjectNews) -> bool,
) -> ObjectNews {
    let found = async {
        loop {
            let all = match news.next().await.unwrap() {
                News::All(all) => all,
                News::Put(one) => vec![one],
                News::Gone(_) => Vec::new(),
            };
            if let Some(found) = all.into_iter().find(|it| look(it)) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap()
}

#[tokio::test]
async fn replicas_say_together_how_an_intention_stands_and_one_that_is_gone_says_nothing() {
    let Some(lab) = Lab::open().await else { return };
    let spec = json!({
        "destination": { "serviceAccount": "orders" }, "sources": [{ "any": true, "action": "allow" }],
    });
    let (api, account) = lab.identity();
    let store = StatusStore::intentions(&api, account.clone()).unwrap();
    let mut news = Fleet::new(&api, account).unwrap().intentions();
    for namespace in [lab.namespace.name(), "nullius-system"] {
        let name = format!("stands-{}", lab.namespace.name());
        let mut object = lab.intention(&name, spec.clone());
        object["metadata"]["namespace"] = json!(namespace);
        lab.plane.admin.apply(&object.to_string()).unwrap();
        let is_it = |it: &ObjectNews| *it.name == *name && *it.namespace == *namespace;
        let told = hear(&mut news, is_it).await;
        let read: Value = serde_json::from_slice(&told.json).unwrap();
        assert_eq!(read["spec"], spec);
        let entry = |replica: &str, count: u64| json!({ "replicas": [{ "name": replica, "observedGeneration": 1, "inForce": count }] });
        let condition = json!({
            "type": "InForce", "status": "True", "reason": "InForce", "message": "on 3 of 3 nodes",
            "observedGeneration": 1, "lastTransitionTime": "2026-06-01T00:00:00Z",
        });
        let leader =
            json!({ "observedGeneration": 1, "nodes": 3, "inForce": 3, "conditions": [condition] });
        store.say(&told, "nullius-identity:one", Some(&entry("one", 1))).await.unwrap();
        store.say(&told, "nullius-identity:two", Some(&entry("two", 2))).await.unwrap();
        store.say(&told, "nullius-identity:leader", Some(&leader)).await.unwrap();
        store.say(&told, "nullius-identity:two", Some(&entry("two", 3))).await.unwrap();
        let mut all = leader.clone();
        all["replicas"] = json!([entry("one", 1)["replicas"][0], entry("two", 3)["replicas"][0]]);
        assert_eq!(lab.status(namespace, &name), all);
        // The leader says for one that is gone that it says nothing.
        store.say(&told, "nullius-identity:one", None).await.unwrap();
        all["replicas"] = json!([entry("two", 3)["replicas"][0]]);
        assert_eq!(lab.status(namespace, &name), all);
        let again = hear(&mut news, |it| is_it(it) && *it.status == all).await;
        assert_eq!((again.json, again.generation), (told.json.clone(), told.generation));
        // One that is gone is no error, and is not made by what is said of it.
        let of_it = ["-n", namespace, "delete", "intention", &name];
        lab.plane.admin.ok(&of_it).unwrap();
        store.say(&told, "nullius-identity:two", Some(&entry("two", 1))).await.unwrap();
        let get = ["-n", namespace, "get", "intention", &name, "--ignore-not-found", "-o", "name"];
        assert_eq!(lab.plane.admin.ok(&get).unwrap(), "");
    }
    // What it says of intentions it says in their status alone.
    let token = ["-n", "nullius-system", "create", "token", "nullius-identity"];
    let own = lab.plane.with_token(&lab.plane.admin.ok(&token).unwrap());
    let object = lab.intention("own", spec).to_string();
    refused(&own.run_with_input(&["create", "-f", "-"], &object).unwrap(), "forbidden");
    lab.plane.admin.apply(&object).unwrap();
    let patch = ["-n", lab.namespace.name(), "patch", "intention", "own", "--type=merge", "-p"];
    let spec = r#"{"spec":{"mode":"shadow"}}"#;
    refused(&own.run(&[&patch[..], &[spec]].concat()).unwrap(), "forbidden");
}
