//! Everything else: networking, RBAC, devices.

use serde_json::json;

use super::{Rule, changed, convert, default, fill, is_empty, text};
use crate::decode::Object;

pub(super) const RULES: &[Rule] = &[
    default("networking/v1.NetworkPolicySpec", default_policy_types, &["policyTypes"]),
    default("rbac/v1.Subject", default_subject, &["apiGroup"]),
    default("resource/v1.ExactDeviceRequest", default_count, &["count"]),
    default("resource/v1.DeviceSubRequest", default_count, &["count"]),
    default("resource/v1beta2.ExactDeviceRequest", default_count, &["count"]),
    default("resource/v1beta2.DeviceSubRequest", default_count, &["count"]),
    default("resource/v1beta1.DeviceSubRequest", default_count, &["count"]),
    default("resource/v1beta1.DeviceRequest", default_request, &["allocationMode", "count"]),
    convert("resource/v1beta1.Device", |device| fill(device, "basic", json!({})), &["basic"]),
    // The time of the server, which nobody else knows.
    changed("resource/v1.DeviceTaint", &["timeAdded"]),
    changed("resource/v1alpha3.DeviceTaint", &["timeAdded"]),
    changed("resource/v1beta1.DeviceTaint", &["timeAdded"]),
    changed("resource/v1beta2.DeviceTaint", &["timeAdded"]),
];

fn default_policy_types(spec: &mut Object) {
    if is_empty(spec, "policyTypes") {
        let both = json!(["Ingress", "Egress"]);
        let types = if is_empty(spec, "egress") { json!(["Ingress"]) } else { both };
        spec.insert("policyTypes".to_owned(), types);
    }
}

fn default_subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        fill(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn default_count(request: &mut Object) {
    if text(request, "allocationMode") == "ExactCount" {
        fill(request, "count", 1);
    }
}

fn default_request(request: &mut Object) {
    if !text(request, "deviceClassName").is_empty() {
        fill(request, "allocationMode", "ExactCount");
        default_count(request);
    }
}
