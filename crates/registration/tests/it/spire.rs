//! SPIRE's registrations carried over: what comes gives no more, and what has no counterpart is named.

use nullius_registration::{Imported, Remark, Spire, WorkloadIdentity, import_spire};
use serde_json::{Value, json};

/// An entry as `spire-server entry show -output json` prints it.
fn entry(path: &str, selectors: &[&str], more: Value) -> Value {
    let selectors: Vec<Value> = selectors
        .iter()
        .map(|text| {
            let (kind, value) = text.split_once(':').unwrap();
            json!({ "type": kind, "value": value })
        })
        .collect();
    let mut entry = json!({
        "id": "5b6c2f1e-0a38-4b2f-9b57-7c1f4a1c8d11",
        "spiffe_id": { "trust_domain": "example.org", "path": path },
        "parent_id": { "trust_domain": "example.org", "path": "/nodes/demo" },
        "selectors": selectors,
        "x509_svid_ttl": 0, "federates_with": [], "admin": false, "downstream": false,
        "expires_at": "0", "dns_names": [], "revision_number": "3", "store_svid": false,
        "jwt_svid_ttl": 0, "hint": "", "created_at": "1700000000",
    });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

/// The entry of all nodes of a cluster.
fn nodes(path: &str, cluster: &str) -> Value {
    let parent = json!({ "parent_id": { "trust_domain": "example.org", "path": "/spire/server" } });
    let selectors = [&format!("k8s_psat:cluster:{cluster}"), "k8s_psat:agent_sa:spire-agent"];
    entry(path, &selectors, parent)
}

fn imported(objects: &[Value]) -> Imported {
    import_spire(objects, &Spire::default())
}

/// What comes of entries beside that of the nodes.
fn of(entries: &[Value]) -> Imported {
    let all: Vec<Value> = entries.iter().cloned().chain([nodes("/nodes/demo", "demo")]).collect();
    imported(&all)
}

fn told(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|it| format!("{}: {}", it.object, it.fault)).collect()
}

/// The specs of what was carried over, which the strict reader takes.
fn specs(done: &Imported) -> Vec<(String, Value)> {
    let spec = |it: &nullius_registration::ImportedIdentity| {
        WorkloadIdentity::read(&it.to_json()).unwrap();
        (format!("{}/{}", it.namespace, it.name), it.spec.clone())
    };
    done.identities.iter().map(spec).collect()
}

fn class(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID",
        "metadata": { "name": name }, "spec": spec, "status": { "stats": {} },
    })
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

const DEFAULT: &str =
    "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}";

#[test]
fn an_entry_says_whose_an_identity_is_and_what_more_it_has() {
    let digest = "c".repeat(64);
    let image = format!("k8s:container-image:registry.example/web@sha256:{digest}");
    let sha256 = format!("unix:sha256:{digest}");
    let done = of(&[
        entry(
            "/ns/shop/sa/web/admin",
            &[
                "k8s:ns:shop",
                "k8s:sa:web",
                "k8s:pod-label:app:web",
                "k8s:pod-owner:StatefulSet:web",
            ],
            json!({
                "x509_svid_ttl": 1800, "jwt_svid_ttl": 60, "dns_names": ["web.shop.svc"],
                "hint": "admin", "federates_with": ["other.example", "spiffe://third.example"],
            }),
        ),
        entry(
            "/ns/shop/jobs",
            &[
                "k8s:ns:shop",
                "k8s:container-name:main",
                &image,
                "unix:uid:1000",
                "unix:gid:0",
                &sha256,
            ],
            json!({}),
        ),
        entry("/ns/shop/jobs", &["k8s:ns:shop"], json!({})),
        entry("/ns/shop/sa/web", &["k8s:ns:shop", "k8s:sa:web"], json!({ "x509_svid_ttl": 600 })),
    ]);
    assert_eq!(told(&done.refused), [""; 0]);
    assert_eq!(
        specs(&done),
        [
            (
                "shop/web-admin".to_owned(),
                json!({
                    "selector": {
                        "serviceAccounts": ["web"], "matchLabels": { "app": "web" },
                        "owner": { "kind": "StatefulSet", "name": "web" },
                    },
                    "path": "/ns/{namespace}/sa/{serviceAccount}/admin",
                    "x509": { "ttl": "1800s", "dnsNames": ["web.shop.svc"] },
                    "jwt": { "ttl": "60s" }, "hint": "admin",
                    "federatesWith": ["other.example", "third.example"],
                })
            ),
            (
                "shop/jobs".to_owned(),
                json!({
                    "selector": { "any": true },
                    "containers": { "names": ["main"], "images": [format!("sha256:{digest}")] },
                    "unix": { "uid": 1000, "gid": 0, "sha256": digest }, "path": "/ns/shop/jobs",
                })
            ),
            (
                "shop/jobs-2".to_owned(),
                json!({ "selector": { "any": true }, "path": "/ns/shop/jobs" })
            ),
            (
                "shop/web".to_owned(),
                json!({ "selector": { "serviceAccounts": ["web"] }, "x509": { "ttl": "600s" } })
            ),
        ]
    );
}

#[test]
fn the_default_identity_and_those_of_nodes_need_no_object() {
    let done = of(&[entry(
        "/ns/shop/sa/web",
        &["k8s:ns:shop", "k8s:sa:web"],
        json!({ "x509_svid_ttl": 3600, "jwt_svid_ttl": 300 }),
    )]);
    assert!(done.identities.is_empty() && done.refused.is_empty(), "{done:?}");
    let notes = told(&done.notes);
    assert!(notes[0].starts_with("0: this is the ID that its pods have when they are enrolled"));
    assert!(notes[1].starts_with("1: spiffe_id: an identity of nodes"), "{notes:?}");
    let done = imported(&[class(
        "all",
        json!({ "spiffeIDTemplate": DEFAULT, "podSelector": { "matchLabels": { "a": "b" } } }),
    )]);
    assert!(done.identities.is_empty() && done.refused.is_empty(), "{done:?}");
    assert!(told(&done.notes)[0].contains("nothing is written"));
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    let power = |more: Value| entry("/ns/shop/x", &["k8s:ns:shop"], more);
    let by = |selector: &str| entry("/ns/shop/x", &["k8s:ns:shop", selector], json!({}));
    for (odd, wanted) in [
        (entry("/web", &["k8s:ns:shop"], json!({})), "others come from the hub"),
        (entry("/ns/bank/x", &["k8s:ns:shop"], json!({})), "others come from the hub"),
        (
            entry("/ns/shop/sa/web", &["k8s:ns:shop"], json!({})),
            "what follows `/sa/` is the pod's account",
        ),
        (
            entry("/ns/shop/sa/webx", &["k8s:ns:shop", "k8s:sa:web"], json!({})),
            "what follows `/sa/`",
        ),
        (entry("/x", &["unix:uid:0"], json!({})), "selectors: not carried over: no `k8s:ns`"),
        (by("k8s:ns:bank"), "selectors[1]: `k8s:ns:bank` stands beside another of its kind"),
        (by("k8s:pod-uid:1"), "it is for one pod"),
        (by("k8s:node-name:n"), "for pods of all nodes"),
        (by("k8s:container-image:web:1"), "a tag is what somebody pushed last"),
        (by("k8s:pod-image-count:2"), "no WorkloadIdentity says it"),
        (by("k8s:pod-owner:Deployment:web"), "pods of a Deployment are a ReplicaSet's"),
        (by("unix:path:/bin/x"), "a path inside of a container"),
        (by("unix:user:root"), "names of users are the node's"),
        (by("unix:uid:x"), "has no number"),
        (by("docker:label:a:b"), "no WorkloadIdentity says it"),
        (power(json!({ "admin": true })), "admin: not carried over"),
        (power(json!({ "downstream": true })), "downstream: not carried over"),
        (power(json!({ "store_svid": true })), "store_svid: not carried over"),
        (power(json!({ "expires_at": "1900000000" })), "expires_at: not carried over"),
        (power(json!({ "x509_svid_ttl": 864_000 })), "is not between"),
        (power(json!({ "dns_names": ["web.bank.svc"] })), "may name its own Services"),
        (power(json!({ "federates_with": ["Upper"] })), "federatesWith[0]"),
        (power(json!({ "selectors": [] })), "selectors: it is missing"),
        (power(json!({ "colour": "red" })), "colour: unknown field"),
        (power(json!({ "spiffe_id": { "trust_domain": "example.org" } })), "spiffe_id: "),
        (
            power(
                json!({ "parent_id": { "trust_domain": "example.org", "path": "/spire/agent/k8s_psat/demo/7" } }),
            ),
            "parent_id: not carried over: it is for one node",
        ),
        (
            power(json!({ "parent_id": { "trust_domain": "example.org", "path": "/gpu" } })),
            "say by `--parent spiffe://example.org/gpu`",
        ),
        (json!({ "name": "x" }), "neither an entry"),
        (
            json!({ "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterFederatedTrustDomain" }),
            "kind: not carried over",
        ),
    ] {
        let done = of(&[odd, entry("/ns/shop/fine", &["k8s:ns:shop"], json!({}))]);
        assert_eq!(done.identities.len(), 1, "{wanted}: {:?}", done.identities);
        let refused = told(&done.refused);
        assert!(
            refused.iter().any(|it| it.starts_with("0: ") && it.contains(wanted)),
            "{wanted}: {refused:?}"
        );
    }
}

#[test]
fn entries_of_other_clusters_and_trust_domains_are_not_this_ones() {
    let x = entry("/ns/shop/x", &["k8s:ns:shop"], json!({}));
    let two = [x.clone(), nodes("/nodes/demo", "demo"), nodes("/nodes/other", "other")];
    assert!(told(&imported(&two).refused)[0].contains("--parent spiffe://example.org/nodes/demo"));
    let spire = Spire {
        parents: ["spiffe://example.org/nodes/demo".to_owned()].into(),
        ..Spire::default()
    };
    assert_eq!(import_spire(&two, &spire).identities.len(), 1);
    // A parent that stands for some nodes.
    let mut some = nodes("/nodes/demo", "demo");
    some["selectors"][1] = json!({ "type": "k8s_psat", "value": "agent_node_label:gpu:yes" });
    assert_eq!(imported(&[x.clone(), some]).refused.len(), 1);
    let mut foreign = x.clone();
    foreign["spiffe_id"]["trust_domain"] = json!("other.example");
    let both = of(&[x.clone(), foreign.clone()]);
    assert_eq!((both.identities.len(), both.refused.len()), (0, 2));
    assert!(told(&both.refused)[0].contains("--trust-domain"));
    let spire = Spire { trust_domain: Some("example.org".parse().unwrap()), ..Spire::default() };
    let done = import_spire(&[x, foreign, nodes("/nodes/demo", "demo")], &spire);
    assert_eq!(done.identities.len(), 1);
    assert!(told(&done.refused)[0].contains("`example.org` becomes the cluster's trust domain"));
}

#[test]
fn objects_of_the_controller_manager_are_read_too() {
    let fixed = json!({
        "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterStaticEntry",
        "metadata": { "name": "Jobs.v1" },
        "spec": {
            "spiffeID": "spiffe://example.org/ns/shop/jobs", "parentID": "spiffe://example.org/nodes/demo",
            "selectors": ["k8s:ns:shop", "k8s:sa:jobs"], "x509SVIDTTL": "30m0s", "hint": "jobs", "className": "x",
        },
    });
    let done = of(std::slice::from_ref(&fixed));
    assert_eq!(told(&done.refused), [""; 0]);
    assert_eq!(
        specs(&done),
        [(
            "shop/jobs-v1".to_owned(),
            json!({
                "selector": { "serviceAccounts": ["jobs"] }, "path": "/ns/shop/jobs",
                "x509": { "ttl": "1800s" }, "hint": "jobs",
            })
        )]
    );
    assert!(told(&imported(&[fixed]).refused)[0].starts_with("0: spec.parentID: "));
    let odd = class(
        "web",
        json!({
            "spiffeIDTemplate": format!("{DEFAULT}/{{{{ .PodMeta.Name }}}}"),
            "dnsNameTemplates": ["{{ .PodSpec.ServiceAccountName }}.{{ .PodMeta.Namespace }}.svc"],
            "workloadSelectorTemplates": ["k8s:ns:{{ .PodMeta.Namespace }}", "unix:uid:1000"],
            "namespaceSelector": { "matchLabels": { "team": "a" }, "matchExpressions": [{ "key": "old", "operator": "DoesNotExist" }] },
            "podSelector": { "matchLabels": { "empty": "" }, "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web"] }] },
            "ttl": "1h", "jwtTtl": "1m",
        }),
    );
    let spaces = [
        namespace("shop", json!({ "team": "a" })),
        namespace("bank", json!({ "team": "a" })),
        namespace("old", json!({ "team": "a", "old": "" })),
        namespace("dev", json!({})),
    ];
    let all: Vec<Value> = spaces.into_iter().chain([odd.clone()]).collect();
    let spire = Spire { ignored: ["bank".to_owned()].into(), ..Spire::default() };
    let done = import_spire(&all, &spire);
    assert_eq!(told(&done.refused), [""; 0]);
    assert_eq!(
        specs(&done),
        [(
            "shop/web".to_owned(),
            json!({
                "selector": { "matchLabels": { "empty": "", "app": "web" } },
                "unix": { "uid": 1000 },
                "path": "/ns/{namespace}/sa/{serviceAccount}/{pod}",
                "x509": { "dnsNames": ["{serviceAccount}.{namespace}.svc"] },
                "jwt": { "ttl": "60s" },
            })
        )]
    );
    assert!(
        told(&imported(std::slice::from_ref(&odd)).refused)[0]
            .starts_with("0: spec.namespaceSelector: nothing says")
    );
    let mut named = odd;
    named["spec"]["namespaceSelector"] =
        json!({ "matchLabels": { "kubernetes.io/metadata.name": "bank" } });
    assert_eq!(specs(&imported(&[named]))[0].0, "bank/web");
}

#[test]
fn parts_of_a_cluster_spiffe_id_without_counterpart_are_refused() {
    let with = |more: Value| {
        let mut spec = json!({ "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/x" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let done = imported(&[namespace("shop", json!({})), class("x", spec)]);
        assert!(done.identities.is_empty(), "{:?}", done.identities);
        told(&done.refused).join("\n")
    };
    for (more, wanted) in [
        (
            json!({ "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/{{ .ClusterName }}" }),
            "spec.spiffeIDTemplate: `{{ .ClusterName }}` is not carried over",
        ),
        (
            json!({ "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/web" }),
            "others come from the hub",
        ),
        (
            json!({ "spiffeIDTemplate": "spiffe://example.org/ns/shop/x" }),
            "say it by `--trust-domain`",
        ),
        (json!({ "spiffeIDTemplate": "" }), "spec.spiffeIDTemplate: it is missing"),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] } }),
            "spec.podSelector: not carried over",
        ),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b", "c"] }] } }),
            "spec.podSelector",
        ),
        (
            json!({ "workloadSelectorTemplates": ["k8s:ns:shop"] }),
            "say the namespace by `namespaceSelector`",
        ),
        (
            json!({ "workloadSelectorTemplates": ["k8s:pod-label:a:{{ .PodMeta.Name }}"] }),
            "workloadSelectorTemplates[0]",
        ),
        (json!({ "fallback": true }), "spec.fallback"),
        (json!({ "autoPopulateDNSNames": true }), "spec.autoPopulateDNSNames"),
        (json!({ "admin": true }), "spec.admin"),
        (json!({ "ttl": "1.5h" }), "spec.ttl"),
        (json!({ "colour": 1 }), "spec.colour: unknown field"),
    ] {
        assert!(with(more).contains(wanted), "{wanted}");
    }
}
