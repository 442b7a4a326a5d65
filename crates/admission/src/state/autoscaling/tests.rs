#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
//! The comparison with an API server runs where a test run has started clusters.

use nullius_testkit::{Profile, shared};

use super::*;

fn autoscaler(name: &str, spec: Json) -> Json {
    let mut whole = json!({
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }, "maxReplicas": 9,
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "autoscaling/v2", "kind": KIND,
        "metadata": { "name": name, "annotations": { "example.com/a": "b" } }, "spec": whole,
    })
}

fn autoscalers() -> Vec<Json> {
    let selector = json!({
        "matchExpressions": [{ "key": "verb", "operator": "In", "values": ["GET", "POST"] }, { "key": "x", "operator": "Exists" }],
        "matchLabels": { "b": "2", "a": "1" },
    });
    let target = json!({ "apiVersion": "v1", "kind": "Service", "name": "main" });
    let of = |kind: &str, source: Json| json!({ "type": match kind { "containerResource" => "ContainerResource".to_owned(), kind => kind[..1].to_uppercase() + &kind[1..] }, kind: source });
    let cpu =
        json!({ "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } });
    let metrics = json!([
        of(
            "resource",
            json!({ "name": "memory", "target": { "type": "Utilization", "averageUtilization": 60 } })
        ),
        of("resource", cpu.clone()),
        of(
            "resource",
            json!({ "name": "cpu", "target": { "type": "AverageValue", "averageValue": "1500m" } })
        ),
        of(
            "containerResource",
            json!({ "name": "cpu", "container": "a", "target": { "type": "Utilization", "averageUtilization": 50 } })
        ),
        of(
            "pods",
            json!({ "metric": { "name": "requests", "selector": selector }, "target": { "type": "AverageValue", "averageValue": "1k" } })
        ),
        of(
            "object",
            json!({ "describedObject": target, "metric": { "name": "a<b" }, "target": { "type": "Value", "value": "0.5" } })
        ),
        of(
            "object",
            json!({ "describedObject": target, "metric": { "name": "rate", "selector": selector }, "target": { "type": "AverageValue", "averageValue": 10 } })
        ),
        of(
            "external",
            json!({ "metric": { "name": "queue", "selector": selector }, "target": { "type": "Value", "value": "30" } })
        ),
        of(
            "external",
            json!({ "metric": { "name": "queue" }, "target": { "type": "AverageValue", "averageValue": "2Gi" } })
        ),
    ]);
    let slow = json!({ "stabilizationWindowSeconds": 60, "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 30 }] });
    vec![
        autoscaler("plain", json!({})),
        autoscaler("cpu", json!({ "metrics": [of("resource", cpu)], "minReplicas": 2 })),
        autoscaler("all", json!({ "metrics": metrics })),
        autoscaler("slow", json!({ "behavior": { "scaleDown": slow } })),
        autoscaler(
            "both",
            json!({ "metrics": metrics, "behavior": { "scaleUp": { "selectPolicy": "Disabled" }, "scaleDown": slow } }),
        ),
    ]
}

/// What conversion is about: how it stands is left out.
fn parts(object: &Json) -> (Json, Json) {
    (object["spec"].clone(), object["metadata"]["annotations"].clone())
}

fn to(version: &str) -> Kind {
    Kind::new(&format!("autoscaling/{version}"), KIND)
}

#[test]
fn what_the_older_version_has_no_fields_for_stands_in_its_annotations_and_comes_back() {
    for object in autoscalers() {
        let object = normalize(&object).unwrap().object;
        let older = converted(&object, &to("v1")).unwrap();
        assert!(older["spec"].get("metrics").is_none() && older["spec"].get("behavior").is_none());
        let newer = converted(&older, &to("v2")).unwrap();
        let (spec, annotations) = parts(&newer);
        let (wanted, kept) = parts(&object);
        let name = &object["metadata"]["name"];
        assert_eq!((&annotations, &spec["behavior"]), (&kept, &wanted["behavior"]), "{name}");
        let count = |spec: &Json| spec["metrics"].as_array().unwrap().len();
        assert_eq!(count(&spec), count(&wanted), "{name}");
    }
    let all = normalize(&autoscalers()[4]).unwrap().object;
    let older = converted(&all, &to("v1")).unwrap();
    assert_eq!(older["spec"]["targetCPUUtilizationPercentage"], 70);
    let kept = older["metadata"]["annotations"][METRICS].as_str().unwrap();
    assert!(
        kept.starts_with(
            r#"[{"type":"Resource","resource":{"name":"memory","targetAverageUtilization":60}},"#
        ),
        "{kept}"
    );
    assert!(kept.contains(r#""metricName":"a\u003cb","targetValue":"500m"}"#), "{kept}");
    let broken = |annotation: &str| {
        let mut older = older.clone();
        older["metadata"]["annotations"][annotation] = json!("{");
        converted(&older, &to("v2"))
    };
    assert_eq!((broken(METRICS), broken(BEHAVIOR)), (None, None));
    assert_eq!(broken("autoscaling.alpha.kubernetes.io/conditions"), None);
}

#[test]
fn both_versions_are_those_of_an_api_server() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let namespace = cluster.namespace("scale").unwrap();
    let api = cluster.api().unwrap();
    let path = |version: &str| {
        format!(
            "/apis/autoscaling/{version}/namespaces/{}/horizontalpodautoscalers",
            namespace.name()
        )
    };
    for object in autoscalers() {
        api.create(&path("v2"), &object).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let read = |name: &str, version: &str| {
            let mut found = api.get(&format!("{}/{name}", path(version))).unwrap().json().unwrap();
            found.as_object_mut().unwrap().remove("status");
            // What the status says is kept in annotations too, which the controller writes when it comes by.
            if let Some(kept) = found["metadata"]["annotations"].as_object_mut() {
                kept.retain(|key, _| {
                    !key.ends_with("/conditions") && !key.ends_with("/current-metrics")
                });
            }
            found
        };
        let (older, newer) = (read(name, "v1"), read(name, "v2"));
        assert_eq!(parts(&converted(&newer, &to("v1")).unwrap()), parts(&older), "{name}");
        // Sent as the older version it is another object: CPU comes last.
        let other = format!("{name}-older");
        let mut sent = older.clone();
        sent["metadata"] =
            json!({ "name": other, "annotations": older["metadata"]["annotations"] });
        api.create(&path("v1"), &sent).unwrap();
        let sent = normalize(&sent).unwrap().object;
        let newer = read(&other, "v2");
        assert_eq!(parts(&converted(&sent, &to("v2")).unwrap()), parts(&newer), "{other}");
    }
}
