//! Jobs: their defaults hold for jobs alone, not for the jobs that a CronJob will make.

use serde_json::json;

use super::{Rule, changed, default, fill, inner_mut, labels_of_template};
use crate::decode::Object;

pub(super) const RULES: &[Rule] = &[
    default("batch/v1.Job", default_job, &[]),
    changed(
        "batch/v1.JobSpec",
        &[
            "backoffLimit",
            "completionMode",
            "completions",
            "manualSelector",
            "parallelism",
            "podReplacementPolicy",
            "suspend",
        ],
    ),
];

fn default_job(job: &mut Object) {
    labels_of_template(job);
    let Some(spec) = inner_mut(job, "spec") else { return };
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if spec.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement =
        if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", json!(false));
}
