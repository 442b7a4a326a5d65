//! Deployments and their like.

use serde_json::{Value, json};

use super::{Rule, convert, default, drop_annotations, each, fill, inner_mut, text};
use crate::decode::Object;

pub(super) const RULES: &[Rule] = &[
    default(
        "apps/v1.DeploymentStrategy",
        |strategy| rolling(strategy, "25%".into(), "25%".into()),
        &["rollingUpdate"],
    ),
    convert("apps/v1.Deployment", convert_deployment, &[]),
    default(
        "apps/v1.DaemonSetUpdateStrategy",
        |strategy| rolling(strategy, 1.into(), 0.into()),
        &["rollingUpdate"],
    ),
    convert("apps/v1.DaemonSet", convert_daemon_set, &[]),
    convert("apps/v1.RollingUpdateDeployment", fill_update, &["maxSurge", "maxUnavailable"]),
    convert("apps/v1.RollingUpdateDaemonSet", fill_update, &["maxSurge", "maxUnavailable"]),
    default("apps/v1.StatefulSetSpec", default_stateful_set, &[]),
    default("apps/v1.StatefulSetUpdateStrategy", default_partition, &["rollingUpdate"]),
    convert(
        "apps/v1.RollingUpdateStatefulSetStrategy",
        |update| fill(update, "partition", 0),
        &["partition"],
    ),
    convert("apps/v1.StatefulSet", convert_stateful_set, &[]),
];

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn rolling(strategy: &mut Object, unavailable: Value, surge: Value) {
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    fill(strategy, "rollingUpdate", json!({}));
    if let Some(update) = inner_mut(strategy, "rollingUpdate") {
        fill(update, "maxUnavailable", unavailable);
        fill(update, "maxSurge", surge);
    }
}

/// In memory these are no pointers.
fn fill_update(update: &mut Object) {
    fill(update, "maxUnavailable", 0);
    fill(update, "maxSurge", 0);
}

fn convert_deployment(deployment: &mut Object) {
    let annotation = "deprecated.deployment.rollback.revision";
    let annotations =
        inner_mut(deployment, "metadata").and_then(|meta| inner_mut(meta, "annotations"));
    if annotations.is_some_and(|annotations| text(annotations, annotation).is_empty()) {
        drop_annotations(deployment, &[annotation]);
    }
}

/// The generation of the template is kept in an annotation.
fn convert_daemon_set(set: &mut Object) {
    let Some(metadata) = inner_mut(set, "metadata") else { return };
    fill(metadata, "annotations", json!({}));
    if let Some(annotations) = inner_mut(metadata, "annotations") {
        fill(annotations, TEMPLATE_GENERATION, "0");
    }
}

/// A strategy that is not named is a rolling update with settings.
fn default_stateful_set(spec: &mut Object) {
    if let Some(strategy) = inner_mut(spec, "updateStrategy")
        && text(strategy, "type").is_empty()
    {
        fill(strategy, "rollingUpdate", json!({}));
    }
}

/// A strategy that is named without its settings gets none.
fn default_partition(strategy: &mut Object) {
    if text(strategy, "type") == "RollingUpdate"
        && let Some(update) = inner_mut(strategy, "rollingUpdate")
    {
        fill(update, "partition", 0);
    }
}

fn convert_stateful_set(set: &mut Object) {
    let Some(spec) = inner_mut(set, "spec") else { return };
    for claim in each(spec, "volumeClaimTemplates") {
        claim.insert("apiVersion".to_owned(), json!("v1"));
        claim.insert("kind".to_owned(), json!("PersistentVolumeClaim"));
    }
}
