//! HorizontalPodAutoscalers.

use serde_json::{Value, json};

use super::{Rule, both, changed, drop_annotations, fill, inner, inner_mut, is_empty};
use crate::decode::Object;

pub(super) const RULES: &[Rule] = &[
    both("autoscaling/v2.HorizontalPodAutoscaler", [default_v2, convert_v2], &[]),
    both("autoscaling/v1.HorizontalPodAutoscaler", [default_v1, convert_v1], &[]),
    changed("autoscaling/v1.HorizontalPodAutoscalerSpec", &["targetCPUUtilizationPercentage"]),
    changed("autoscaling/v2.HPAScalingRules", &["policies", "stabilizationWindowSeconds"]),
];

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
/// Where older versions keep what they have no field for.
const ROUND_TRIP: [&str; 4] = [
    METRICS,
    CURRENT,
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/behavior",
];

fn default_v2(autoscaler: &mut Object) {
    let Some(spec) = inner_mut(autoscaler, "spec") else { return };
    if is_empty(spec, "metrics") {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        let metric =
            json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
        spec.insert("metrics".to_owned(), metric);
    }
    let Some(behavior) = inner_mut(spec, "behavior") else { return };
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    let pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
    scaling(behavior, "scaleUp", Some(0), json!([pods, percent]));
    scaling(behavior, "scaleDown", None, json!([percent]));
}

fn scaling(behavior: &mut Object, direction: &str, window: Option<i32>, policies: Value) {
    fill(behavior, direction, json!({}));
    let Some(rules) = inner_mut(behavior, direction) else { return };
    if let Some(window) = window {
        fill(rules, "stabilizationWindowSeconds", window);
    }
    fill(rules, "selectPolicy", "Max");
    fill(rules, "policies", policies);
}

fn convert_v2(autoscaler: &mut Object) {
    drop_annotations(autoscaler, &ROUND_TRIP);
}

/// The first version has a field for the processor alone, which counts where no other metric is kept beside it.
fn default_v1(autoscaler: &mut Object) {
    let annotations = inner(autoscaler, "metadata").and_then(|meta| inner(meta, "annotations"));
    if annotations.is_some_and(|annotations| annotations.contains_key(METRICS)) {
        return;
    }
    if let Some(spec) = inner_mut(autoscaler, "spec") {
        fill(spec, "targetCPUUtilizationPercentage", 80);
    }
}

/// What the status says of the processor is kept as a metric too.
fn convert_v1(autoscaler: &mut Object) {
    let status = inner(autoscaler, "status");
    let percent = status.and_then(|status| status.get("currentCPUUtilizationPercentage")).cloned();
    let Some(percent) = percent else { return };
    let metrics = format!(
        r#"[{{"type":"Resource","resource":{{"name":"cpu","currentAverageUtilization":{percent},"currentAverageValue":"0"}}}}]"#
    );
    let Some(metadata) = inner_mut(autoscaler, "metadata") else { return };
    fill(metadata, "annotations", json!({}));
    if let Some(annotations) = inner_mut(metadata, "annotations") {
        fill(annotations, CURRENT, metrics);
    }
}
