//! What `autoscaling/v1` has no fields for: metrics beside the processor's in that version's own form, and behaviour in the form
//! of the API server's memory, each as Go writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// A metric as the older version has it. The order of fields is that of Go.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Older {
    #[serde(rename = "type")]
    of: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<OfObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<OfPods>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<OfResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_resource: Option<OfResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<OfOthers>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfObject {
    target: Reference,
    metric_name: String,
    target_value: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_value: Option<Json>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPods {
    metric_name: String,
    target_average_value: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
}

/// Of a whole pod, or of one container in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfResource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_utilization: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfOthers {
    metric_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_value: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Json>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    kind: String,
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    api_version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Requirement>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

/// A metric as the newer version has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Newer {
    #[serde(rename = "type")]
    of: String,
    object: Option<NewerSource>,
    pods: Option<NewerSource>,
    resource: Option<NewerResource>,
    container_resource: Option<NewerResource>,
    external: Option<NewerSource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewerSource {
    described_object: Option<Reference>,
    metric: Metric,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct NewerResource {
    name: String,
    container: Option<String>,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Metric {
    name: String,
    selector: Option<Selector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    value: Option<Json>,
    average_value: Option<Json>,
    average_utilization: Option<i32>,
}

/// How fast it scales, as the newer version has it and as it is kept: with the names of Go, and nothing left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(serialize = "PascalCase", deserialize = "camelCase"))]
struct Behavior {
    scale_up: Option<Scaling>,
    scale_down: Option<Scaling>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(serialize = "PascalCase", deserialize = "camelCase"))]
struct Scaling {
    stabilization_window_seconds: Option<i32>,
    select_policy: Option<String>,
    policies: Option<Vec<Step>>,
    tolerance: Option<Json>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all(serialize = "PascalCase", deserialize = "camelCase"))]
struct Step {
    #[serde(rename(serialize = "Type", deserialize = "type"))]
    of: String,
    value: i32,
    period_seconds: i32,
}

/// Metrics of the newer version as the older one keeps them; `None` for what cannot be read.
pub(super) fn metrics(newer: &[&Json]) -> Option<String> {
    let kept = newer.iter().map(|metric| Newer::deserialize(*metric).ok().map(Older::from));
    written(&kept.collect::<Option<Vec<_>>>()?)
}

/// What the older version keeps, as metrics of the newer one; `None` for what cannot be read.
pub(super) fn metrics_of(kept: &str) -> Option<Vec<Json>> {
    let kept: Vec<Older> = serde_json::from_str(kept).ok()?;
    Some(kept.into_iter().map(Older::into_newer).collect())
}

/// Behaviour of the newer version as the older one keeps it.
pub(super) fn behavior(newer: &Json) -> Option<String> {
    written(&Behavior::deserialize(newer).ok()?)
}

/// Behaviour that the older version keeps, as the newer one has it; `Null` where there is none.
pub(super) fn behavior_of(kept: &str) -> Option<Json> {
    let kept: Json = serde_json::from_str(kept).ok()?;
    let newer = with_small_letters(kept);
    Behavior::deserialize(&newer).ok()?;
    let is_empty = newer.as_object()?.is_empty();
    Some(if is_empty { Json::Null } else { newer })
}

/// As Go writes it, which takes no risk with pages that hold it.
fn written(kept: &impl Serialize) -> Option<String> {
    let text = serde_json::to_string(kept).ok()?;
    let text = text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    Some(text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

/// Fields with their first letter small, and without those that are `null`.
fn with_small_letters(kept: Json) -> Json {
    match kept {
        Json::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            let small = |name: String| {
                let mut letters = name.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                first.into_iter().chain(letters).collect::<String>()
            };
            fields.map(|(name, value)| (small(name), with_small_letters(value))).collect()
        }
        Json::Array(items) => items.into_iter().map(with_small_letters).collect(),
        other => other,
    }
}

/// The amount that stands where none was said.
fn nothing() -> Json {
    Json::from("0")
}

fn is_nothing(amount: &Json) -> bool {
    let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    !text.contains(|letter: char| ('1'..='9').contains(&letter))
}

impl From<NewerResource> for OfResource {
    fn from(NewerResource { name, container, target }: NewerResource) -> Self {
        Self {
            name,
            target_average_utilization: target.average_utilization,
            target_average_value: target.average_value,
            container,
        }
    }
}

impl From<Newer> for Older {
    fn from(newer: Newer) -> Self {
        let object = newer.object.and_then(|NewerSource { described_object, metric, target }| {
            Some(OfObject {
                target: described_object?,
                metric_name: metric.name,
                target_value: target.value.unwrap_or_else(nothing),
                selector: metric.selector,
                average_value: target.average_value,
            })
        });
        let pods = newer.pods.map(|NewerSource { metric, target, .. }| OfPods {
            metric_name: metric.name,
            target_average_value: target.average_value.unwrap_or_else(nothing),
            selector: metric.selector,
        });
        let external = newer.external.map(|NewerSource { metric, target, .. }| OfOthers {
            metric_name: metric.name,
            metric_selector: metric.selector,
            target_value: target.value,
            target_average_value: target.average_value,
        });
        Self {
            of: newer.of,
            object,
            pods,
            resource: newer.resource.map(OfResource::from),
            container_resource: newer.container_resource.map(OfResource::from),
            external,
        }
    }
}

impl Older {
    fn into_newer(self) -> Json {
        let mut newer = Map::from_iter([("type".to_owned(), Json::from(self.of))]);
        let mut put = |name: &str, source: Option<Json>| {
            newer.extend(source.map(|source| (name.to_owned(), without_nulls(source))));
        };
        put("object", self.object.map(|of| {
            let OfObject { target, metric_name, target_value, selector, average_value } = of;
            let value = (average_value.is_none() || !is_nothing(&target_value)).then_some(target_value);
            let word = if average_value.is_none() { "Value" } else { "AverageValue" };
            json!({
                "describedObject": target, "metric": { "name": metric_name, "selector": selector },
                "target": { "type": word, "value": value, "averageValue": average_value },
            })
        }));
        put(
            "pods",
            self.pods.map(|of| {
                json!({
                    "metric": { "name": of.metric_name, "selector": of.selector },
                    "target": { "type": "AverageValue", "averageValue": of.target_average_value },
                })
            }),
        );
        put("resource", self.resource.map(OfResource::into_newer));
        put("containerResource", self.container_resource.map(OfResource::into_newer));
        put("external", self.external.map(|of| {
            let word = if of.target_value.is_none() { "AverageValue" } else { "Value" };
            json!({
                "metric": { "name": of.metric_name, "selector": of.metric_selector },
                "target": { "type": word, "value": of.target_value, "averageValue": of.target_average_value },
            })
        }));
        Json::Object(newer)
    }
}

impl OfResource {
    fn into_newer(self) -> Json {
        let (percent, value) = (self.target_average_utilization, self.target_average_value);
        let word = if percent.is_none() { "AverageValue" } else { "Utilization" };
        json!({
            "name": self.name, "container": self.container,
            "target": { "type": word, "averageValue": value, "averageUtilization": percent },
        })
    }
}

fn without_nulls(mut value: Json) -> Json {
    if let Json::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
        for value in fields.values_mut() {
            *value = without_nulls(value.take());
        }
    }
    value
}
