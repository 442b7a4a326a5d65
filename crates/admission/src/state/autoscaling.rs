//! A HorizontalPodAutoscaler in its other version, as long as CPU is all that it asks for: what else the newer version says, the
//! API server keeps for the older one in annotations, and that form is not known here.

use nullius_kinds::normalize;
use nullius_policy::admission_policy::Kind;
use serde_json::{Map, Value as Json, json};

const KIND: &str = "HorizontalPodAutoscaler";
/// Where the API server keeps what the older version has no fields for.
const KEPT: &str = "autoscaling.alpha.kubernetes.io/";
/// What CPU is to be used to where nothing is asked for, in percent.
const DEFAULT_CPU: i64 = 80;

/// The object in another version; `None` where more than CPU is asked for or known.
pub(super) fn converted(object: &Json, to: &Kind) -> Option<Json> {
    let text = |path: &str| object.pointer(path).and_then(Json::as_str);
    if text("/kind") != Some(KIND) || to.kind != KIND {
        return None;
    }
    let annotations = object.pointer("/metadata/annotations").and_then(Json::as_object);
    if annotations.into_iter().flatten().any(|(key, _)| key.starts_with(KEPT)) {
        return None;
    }
    let spec = match (text("/apiVersion")?, to.api_version().as_str()) {
        ("autoscaling/v2", "autoscaling/v1") => older(object.get("spec")?)?,
        ("autoscaling/v1", "autoscaling/v2") => newer(object.get("spec")?),
        _ => return None,
    };
    let mut other = object.clone();
    let fields = other.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), Json::from(to.api_version()));
    fields.insert("spec".to_owned(), spec);
    fields.insert("status".to_owned(), status(object.get("status"))?);
    normalize(&other).ok().filter(|made| made.dropped.is_empty()).map(|made| made.object)
}

/// What both versions say of what is scaled.
fn common(spec: &Json) -> Map<String, Json> {
    let fields = ["scaleTargetRef", "minReplicas", "maxReplicas"].into_iter();
    fields.filter_map(|field| Some((field.to_owned(), spec.get(field)?.clone()))).collect()
}

fn older(spec: &Json) -> Option<Json> {
    if spec.get("behavior").is_some() {
        return None;
    }
    let mut older = common(spec);
    let metrics = spec.get("metrics").and_then(Json::as_array).into_iter().flatten();
    for metric in metrics {
        let is = |path: &str, word: &str| metric.pointer(path).and_then(Json::as_str) == Some(word);
        let percent = metric.pointer("/resource/target/averageUtilization");
        let percent = percent.filter(|_| is("/type", "Resource") && is("/resource/name", "cpu"))?;
        // The first one counts.
        older.entry("targetCPUUtilizationPercentage").or_insert_with(|| percent.clone());
    }
    Some(Json::Object(older))
}

fn newer(spec: &Json) -> Json {
    let percent = spec.get("targetCPUUtilizationPercentage").cloned();
    let percent = percent.unwrap_or_else(|| Json::from(DEFAULT_CPU));
    let target = json!({ "type": "Utilization", "averageUtilization": percent });
    let metric = json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
    let mut newer = common(spec);
    newer.insert("metrics".to_owned(), json!([metric]));
    Json::Object(newer)
}

/// What both versions say of how it stands.
fn status(status: Option<&Json>) -> Option<Json> {
    let known = ["observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"];
    let mut common = Map::new();
    for (field, value) in status.and_then(Json::as_object).into_iter().flatten() {
        if known.contains(&field.as_str()) {
            common.insert(field.clone(), value.clone());
        } else if !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) {
            return None;
        }
    }
    Some(Json::Object(common))
}
