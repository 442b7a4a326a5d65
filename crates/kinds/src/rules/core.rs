//! The core group: pods, services, and what they are made of.

use serde_json::{Value, json};

use super::{
    Rule, both, changed, convert, default, drop_annotations, each, fill, inner, inner_mut,
    is_empty, labels_of_template, resources, text,
};
use crate::{decode::Object, scalar};

pub(super) const RULES: &[Rule] = &[
    both("core/v1.Pod", [default_pod, convert_pod], &[]),
    changed("meta/v1.ObjectMeta", &["annotations", "labels"]),
    convert("core/v1.PodTemplateSpec", drop_init_annotations, &[]),
    convert(
        "core/v1.PodSpec",
        convert_pod_spec,
        &["enableServiceLinks", "serviceAccount", "serviceAccountName"],
    ),
    convert("core/v1.PodStatus", convert_pod_status, &["podIP", "podIPs"]),
    changed("core/v1.PodIP", &["ip"]),
    default("core/v1.Volume", default_volume, &["emptyDir"]),
    default(
        "core/v1.ImageVolumeSource",
        |source| pull_policy(source, "reference", "pullPolicy"),
        &["pullPolicy"],
    ),
    default("core/v1.Container", default_container, &["imagePullPolicy"]),
    default("core/v1.EphemeralContainer", default_container, &["imagePullPolicy"]),
    default(
        "core/v1.ServiceSpec",
        default_service,
        &[
            "allocateLoadBalancerNodePorts",
            "externalTrafficPolicy",
            "internalTrafficPolicy",
            "sessionAffinityConfig",
        ],
    ),
    changed("core/v1.ContainerPort", &["hostPort"]),
    changed("core/v1.LoadBalancerIngress", &["ipMode"]),
    changed("core/v1.ClientIPConfig", &["timeoutSeconds"]),
    default("core/v1.PersistentVolume", default_volume_spec, &[]),
    changed("core/v1.PersistentVolumeSpec", &["persistentVolumeReclaimPolicy", "volumeMode"]),
    default("core/v1.Service", default_service_status, &[]),
    default("core/v1.ServicePort", default_service_port, &["targetPort"]),
    default("core/v1.Namespace", default_namespace, &[]),
    convert("core/v1.NodeSpec", convert_node, &["podCIDR", "podCIDRs"]),
    default("core/v1.NodeStatus", default_node_status, &[]),
    default("core/v1.LimitRangeItem", default_limits, &[]),
    default("core/v1.ReplicationController", default_replication_controller, &[]),
    changed("core/v1.ReplicationControllerSpec", &["selector"]),
    convert("core/v1.Secret", convert_secret, &["data", "stringData"]),
];

const INIT_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

fn default_pod(pod: &mut Object) {
    let Some(spec) = inner_mut(pod, "spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            if let Some(resources) = inner_mut(container, "resources") {
                requests_of_limits(resources);
            }
        }
    }
    resources::default_pod_level(spec);
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["containers", "initContainers"] {
            for container in each(spec, list) {
                for port in each(container, "ports") {
                    if let Some(number) = port.get("containerPort").cloned() {
                        fill(port, "hostPort", number);
                    }
                }
            }
        }
    }
}

fn requests_of_limits(resources: &mut Object) {
    let Some(limits) = inner(resources, "limits").cloned() else { return };
    fill(resources, "requests", json!({}));
    let Some(requests) = inner_mut(resources, "requests") else { return };
    for (name, amount) in limits {
        fill(requests, &name, amount);
    }
}

fn convert_pod(pod: &mut Object) {
    drop_init_annotations(pod);
    let Some(spec) = inner_mut(pod, "spec") else { return };
    let seconds = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if seconds.is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
    }
}

fn drop_init_annotations(object: &mut Object) {
    drop_annotations(object, &INIT_ANNOTATIONS);
}

/// `serviceAccount` is the old name of `serviceAccountName`, which wins.
fn convert_pod_spec(spec: &mut Object) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    let name = Value::from(name);
    for field in ["serviceAccountName", "serviceAccount"] {
        if name == "" {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), name.clone());
        }
    }
}

fn convert_pod_status(status: &mut Object) {
    one_and_many(
        status,
        "podIP",
        "podIPs",
        |ip| json!({ "ip": ip }),
        |item| item.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned(),
    );
}

fn convert_node(spec: &mut Object) {
    one_and_many(
        spec,
        "podCIDR",
        "podCIDRs",
        |range| json!(range),
        |item| item.as_str().unwrap_or_default().to_owned(),
    );
}

/// A field with one value and a newer list that begins with it; the one decides where they differ.
fn one_and_many(
    object: &mut Object,
    one: &str,
    many: &str,
    item: impl Fn(&str) -> Value,
    value: impl Fn(&Value) -> String,
) {
    let single = text(object, one).to_owned();
    let first = |object: &Object| object.get(many).and_then(|list| list.get(0)).map(&value);
    if !single.is_empty() && first(object).as_deref() != Some(&single) {
        object.insert(many.to_owned(), json!([item(&single)]));
    }
    match first(object) {
        Some(first) if !first.is_empty() => {
            object.insert(one.to_owned(), Value::String(first));
        }
        Some(_) => {
            object.remove(one);
        }
        None => {}
    }
}

/// A volume without a source is an empty directory.
fn default_volume(volume: &mut Object) {
    if !volume.iter().any(|(field, value)| field != "name" && !value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

fn default_volume_spec(volume: &mut Object) {
    if let Some(spec) = inner_mut(volume, "spec") {
        fill(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
    }
}

fn default_container(container: &mut Object) {
    pull_policy(container, "image", "imagePullPolicy");
}

fn pull_policy(object: &mut Object, image: &str, policy: &str) {
    let pulled = if is_latest(text(object, image)) { "Always" } else { "IfNotPresent" };
    fill(object, policy, pulled);
}

/// Whether an image has the tag `latest`, which it also has without any tag and digest. What is no name of an image
/// has none.
fn is_latest(image: &str) -> bool {
    let Some(name) = ImageName::parse(image) else { return false };
    match (name.tag, name.has_digest) {
        (Some(tag), _) => tag == "latest",
        (None, has_digest) => !has_digest,
    }
}

/// The parts of an image's name that matter here.
struct ImageName<'a> {
    tag: Option<&'a str>,
    has_digest: bool,
}

impl<'a> ImageName<'a> {
    /// Reads a name as container engines do; `None` if it is none.
    fn parse(image: &'a str) -> Option<Self> {
        let is_bare_digest = image.len() == 64
            && image.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_bare_digest {
            return None;
        }
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return None;
        }
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            Some(_) | None => (name, None),
        };
        let is_good = tag.is_none_or(is_tag) && is_path(path);
        is_good.then_some(Self { tag, has_digest: digest.is_some() })
    }
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length
        && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// A domain, if the first part can be one, and a path in lower case.
fn is_path(path: &str) -> bool {
    let (domain, rest) = match path.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.to_lowercase() != first =>
        {
            (Some(first), rest)
        }
        Some(_) | None => (None, path),
    };
    path.len() <= 255 && domain.is_none_or(is_domain) && rest.split('/').all(is_component)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (domain, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match v6 {
        Some(address) => {
            !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
        }
        None => host.split('.').all(part),
    };
    is_host && port.is_none_or(is_port)
}

/// Lower case letters and digits, between them `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(word) || !component.ends_with(word) {
        return false;
    }
    component.split(word).all(|between| {
        matches!(between, "" | "." | "_" | "__") || between.chars().all(|c| c == '-')
    })
}

fn default_service(spec: &mut Object) {
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let config =
                inner(spec, "sessionAffinityConfig").and_then(|config| inner(config, "clientIP"));
            if config.is_none_or(|client| !client.contains_key("timeoutSeconds")) {
                let config = json!({ "clientIP": { "timeoutSeconds": 10800 } });
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    let kind = text(spec, "type").to_owned();
    let is_outside = match kind.as_str() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !is_empty(spec, "externalIPs"),
        _ => false,
    };
    if is_outside {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "LoadBalancer" | "NodePort" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn default_service_status(service: &mut Object) {
    if inner(service, "spec").is_none_or(|spec| text(spec, "type") != "LoadBalancer") {
        return;
    }
    let balancer =
        inner_mut(service, "status").and_then(|status| inner_mut(status, "loadBalancer"));
    let Some(balancer) = balancer else { return };
    for ingress in each(balancer, "ingress") {
        if !text(ingress, "ip").is_empty() {
            fill(ingress, "ipMode", "VIP");
        }
    }
}

fn default_service_port(port: &mut Object) {
    let target = port.get("targetPort");
    if target.is_none_or(|target| *target == 0 || *target == "") {
        let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
        port.insert("targetPort".to_owned(), number);
    }
}

fn default_namespace(namespace: &mut Object) {
    let Some(metadata) = inner_mut(namespace, "metadata") else { return };
    let name = text(metadata, "name").to_owned();
    if name.is_empty() {
        return;
    }
    fill(metadata, "labels", json!({}));
    if let Some(labels) = inner_mut(metadata, "labels") {
        labels.insert("kubernetes.io/metadata.name".to_owned(), Value::String(name));
    }
}

fn default_node_status(status: &mut Object) {
    if let Some(capacity) = status.get("capacity").cloned() {
        fill(status, "allocatable", capacity);
    }
}

/// For containers, limits come from the most that is allowed, requests from limits, then from the least.
fn default_limits(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
    {
        let amounts = inner(item, from).cloned().unwrap_or_default();
        fill(item, to, json!({}));
        let Some(into) = inner_mut(item, to) else { continue };
        for (name, amount) in amounts {
            fill(into, &name, amount);
        }
    }
}

fn default_replication_controller(controller: &mut Object) {
    let labels = inner(controller, "spec")
        .and_then(|spec| inner(spec, "template"))
        .and_then(|template| inner(template, "metadata")?.get("labels"))
        .cloned();
    if let (Some(labels), Some(spec)) = (labels, inner_mut(controller, "spec"))
        && is_empty(spec, "selector")
    {
        spec.insert("selector".to_owned(), labels);
    }
    labels_of_template(controller);
}

/// What is written as text becomes bytes, and takes the place of bytes.
fn convert_secret(secret: &mut Object) {
    let Some(Value::Object(texts)) = secret.remove("stringData") else { return };
    if texts.is_empty() {
        return;
    }
    fill(secret, "data", json!({}));
    let Some(data) = inner_mut(secret, "data") else { return };
    for (name, value) in texts {
        let bytes = scalar::bytes_of_text(value.as_str().unwrap_or_default());
        data.insert(name, Value::String(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_tag_and_digest_is_the_latest() {
        let digest = "a".repeat(64);
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("registry.example:5000/a/b", true),
            ("registry.example:5000/a/b:latest", true),
            ("", false),
            ("Nginx", false),
            ("localhost/Nginx", false),
            ("EXAMPLE/nginx", true),
            ("a..b", false),
            ("a__b--c", true),
            ("[::1]:5000/a", true),
            (&format!("r/x@sha256:{digest}"), false),
            (&format!("r/x:latest@sha256:{digest}"), true),
            (&digest, false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
