//! A HorizontalPodAutoscaler in its other version. What the older version has no fields for, the API server keeps in
//! annotations; so it is here, but for what the status says of metrics and conditions: an object with that is not converted.

mod kept;
#[cfg(test)]
mod tests;

use nullius_kinds::normalize;
use nullius_policy::admission_policy::Kind;
use serde_json::{Map, Value as Json, json};

const KIND: &str = "HorizontalPodAutoscaler";
/// How the annotations begin in which the API server keeps what the older version has no fields for.
const KEPT: &str = "autoscaling.alpha.kubernetes.io/";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// What CPU is to be used to where nothing is asked for, in percent.
const DEFAULT_CPU: i64 = 80;

/// The object in another version; `None` where that is not known.
pub(super) fn converted(object: &Json, to: &Kind) -> Option<Json> {
    let text = |path: &str| object.pointer(path).and_then(Json::as_str);
    if text("/kind") != Some(KIND) || to.kind != KIND {
        return None;
    }
    let (spec, annotations) = match (text("/apiVersion")?, to.api_version().as_str()) {
        ("autoscaling/v2", "autoscaling/v1") => older(object)?,
        ("autoscaling/v1", "autoscaling/v2") => newer(object)?,
        _ => return None,
    };
    let mut other = object.clone();
    let fields = other.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), Json::from(to.api_version()));
    fields.insert("spec".to_owned(), spec);
    fields.insert("status".to_owned(), status(object.get("status"))?);
    let metadata = fields.get_mut("metadata")?.as_object_mut()?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    } else {
        metadata.insert("annotations".to_owned(), Json::Object(annotations));
    }
    normalize(&other).ok().filter(|made| made.dropped.is_empty()).map(|made| made.object)
}

/// What both versions say of what is scaled.
fn common(spec: &Json) -> Map<String, Json> {
    let fields = ["scaleTargetRef", "minReplicas", "maxReplicas"].into_iter();
    fields.filter_map(|field| Some((field.to_owned(), spec.get(field)?.clone()))).collect()
}

/// The annotations of an object, of those that keep something only these.
fn annotations(object: &Json, known: &[&str]) -> Option<Map<String, Json>> {
    let found = object.pointer("/metadata/annotations").and_then(Json::as_object);
    let found = found.cloned().unwrap_or_default();
    let is_known = |key: &String| !key.starts_with(KEPT) || known.contains(&key.as_str());
    found.keys().all(is_known).then_some(found)
}

/// What is asked for in the older version, and the annotations with the rest.
fn older(object: &Json) -> Option<(Json, Map<String, Json>)> {
    let spec = object.get("spec")?;
    let mut annotations = annotations(object, &[])?;
    let mut older = common(spec);
    let metrics = spec.get("metrics").and_then(Json::as_array).into_iter().flatten();
    let (of_cpu, others): (Vec<&Json>, Vec<&Json>) =
        metrics.partition(|metric| cpu(metric).is_some());
    // The first one counts, the others are lost.
    if let Some(percent) = of_cpu.first().and_then(|metric| cpu(metric)) {
        older.insert("targetCPUUtilizationPercentage".to_owned(), percent.clone());
    }
    if !others.is_empty() {
        annotations.insert(METRICS.to_owned(), Json::from(kept::metrics(&others)?));
    }
    if let Some(behavior) = spec.get("behavior").filter(|behavior| !behavior.is_null()) {
        annotations.insert(BEHAVIOR.to_owned(), Json::from(kept::behavior(behavior)?));
    }
    Some((Json::Object(older), annotations))
}

/// The percentage of CPU that a metric asks for.
fn cpu(metric: &Json) -> Option<&Json> {
    let is = |path: &str, word: &str| metric.pointer(path).and_then(Json::as_str) == Some(word);
    let percent = metric.pointer("/resource/target/averageUtilization");
    percent.filter(|_| is("/type", "Resource") && is("/resource/name", "cpu"))
}

/// What is asked for in the newer version, and the annotations without what they kept of it.
fn newer(object: &Json) -> Option<(Json, Map<String, Json>)> {
    let spec = object.get("spec")?;
    let mut annotations = annotations(object, &[METRICS, BEHAVIOR])?;
    let mut take = |name: &str| match annotations.remove(name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    };
    let mut metrics = match take(METRICS) {
        Some(kept) => kept::metrics_of(&kept)?,
        None => Vec::new(),
    };
    let of_cpu = |percent: Json| {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })
    };
    metrics.extend(spec.get("targetCPUUtilizationPercentage").cloned().map(of_cpu));
    if metrics.is_empty() {
        metrics.push(of_cpu(Json::from(DEFAULT_CPU)));
    }
    let mut newer = common(spec);
    newer.insert("metrics".to_owned(), Json::Array(metrics));
    if let Some(kept) = take(BEHAVIOR) {
        let behavior = kept::behavior_of(&kept)?;
        newer.extend((!behavior.is_null()).then(|| ("behavior".to_owned(), behavior)));
    }
    Some((Json::Object(newer), annotations))
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
