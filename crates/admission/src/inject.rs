//! A proxy of the mesh beside the containers of a pod: what is added to a pod, or to the template of a workload, and what stands in the way.
//!
//! It is pure, and doing it again changes nothing. What cannot be injected safely is refused with the field that is in the way; nothing
//! is taken out of a pod, and nothing in it is changed but what is ours.

use std::mem;

use nullius_policy::pod_security::Workload;
use serde_json::{Map, Value, json};

/// The name of the proxy's container.
pub const PROXY: &str = "nullius-proxy";
/// The label of pods and namespaces that says who leads their calls.
const MESH: &str = "nullius.dev/mesh";
const SIDECAR: &str = "sidecar";
const NODE: &str = "node";
/// The annotation of a namespace with ServiceAccounts whose pods are not in its mesh.
const EXEMPT: &str = "nullius.dev/mesh-exempt";
/// The annotation of a pod that stands for one of the kubelet's own.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Namespaces without whose pods nothing would come up.
const NEVER: [&str; 3] = ["kube-system", "nullius-node", "nullius-system"];
/// The label of a pod that wants no proxy.
const INJECT: &str = "nullius.dev/inject";
const DISABLED: &str = "disabled";
const DRIVER: &str = "csi.nullius.dev";
/// The volume with the socket of the Workload API, and the one by which the node hands the pod's traffic over.
const IDENTITY_VOLUME: &str = "nullius-identity";
const PROXY_VOLUME: &str = "nullius-proxy";
const IDENTITY_DIR: &str = "/run/nullius/workload";
const PROXY_DIR: &str = "/run/nullius/proxy";
/// Where the pod's traffic is led to, and where the proxy's health is asked for.
const PORTS: [u16; 3] = [15001, 15006, HEALTH_PORT];
const HEALTH_PORT: u16 = 15020;
/// Some user that is not root; no right hangs on its number.
const USER: u32 = 65532;
/// Fields that the proxy never has, and nobody adds but who wants something else to run.
const FOREIGN: [&str; 2] = ["command", "lifecycle"];
/// Fields of its container that the API server fills in, and that are left as they stand where nobody says them.
const FILLED_IN: [&str; 3] =
    ["imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"];
/// Where the API server mounts an account's token into every container.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Annotations by which a pod says what its proxy may use: the field of `resources`, the resource, and what it is otherwise.
const RESOURCES: [(&str, &str, &str, Option<&str>); 4] = [
    ("nullius.dev/proxy-cpu", "requests", "cpu", Some("10m")),
    ("nullius.dev/proxy-memory", "requests", "memory", Some("24Mi")),
    ("nullius.dev/proxy-cpu-limit", "limits", "cpu", None),
    ("nullius.dev/proxy-memory-limit", "limits", "memory", Some("256Mi")),
];

/// The proxy that is put beside containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The image with the program `nullius`.
    pub image: String,
    /// When it is pulled; the API server says where this does not.
    pub pull_policy: Option<String>,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// The proxy stands in it, and did not before, or did in another form.
    Changed,
    /// It stood there as it should.
    Already,
    /// It says that it wants none.
    Unwanted,
    /// It makes no pods.
    NoPods,
}

/// Why nothing is put into an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// The field, from the object on.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// Puts the proxy into an object of Kubernetes, which is left as it was where something stands in the way.
pub fn inject(object: &mut Value, sidecar: &Sidecar) -> Result<Injected, Vec<InTheWay>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let Some(workload) = Workload::of_kind(group, text("kind")) else {
        return Ok(Injected::NoPods);
    };
    let fields = workload.template_fields();
    let pointer: String = fields.iter().map(|field| format!("/{field}")).collect();
    let path = fields.join(".");
    let Some(pod) = object.pointer_mut(&pointer) else { return Ok(Injected::NoPods) };
    inject_into(pod, &path, sidecar)
}

/// The same for a pod, whatever it says of its kind.
pub(crate) fn inject_pod(pod: &mut Value, sidecar: &Sidecar) -> Result<Injected, Vec<InTheWay>> {
    inject_into(pod, "", sidecar)
}

/// Whether a pod that is made in a namespace gets a proxy without being asked. Whoever does not is led by its node, or is not in the mesh.
pub(crate) fn is_wanted(pod: &Value, name: &str, namespace: &Value) -> bool {
    let of_pod = label(pod, MESH);
    let is_said = match label(namespace, MESH) {
        Some(NODE | DISABLED) => false,
        Some(SIDECAR) => of_pod.is_none_or(|says| says == SIDECAR),
        // Who mistypes the word is led by the node, but for pods that say better.
        Some(_) | None => of_pod == Some(SIDECAR),
    };
    let spec = |pointer: &str| pod.get("spec").and_then(|spec| spec.pointer(pointer));
    let account = spec("/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
    let annotation = |of: &Value, name: &str| {
        let annotations = of.pointer("/metadata/annotations");
        annotations.and_then(|all| all.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let exempt = annotation(namespace, EXEMPT).unwrap_or_default();
    is_said
        && !NEVER.contains(&name)
        && !exempt.split(',').any(|one| one.trim() == account)
        && spec("/hostNetwork") != Some(&Value::Bool(true))
        && spec("/os/name").and_then(Value::as_str) != Some("windows")
        // Of what the kubelet runs by itself it shows an image, which changes nothing.
        && annotation(pod, MIRROR).is_none()
}

/// The same for a pod, or a template below a path.
fn inject_into(pod: &mut Value, path: &str, sidecar: &Sidecar) -> Result<Injected, Vec<InTheWay>> {
    let at = |field: &str| match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    };
    if label(pod, INJECT) == Some(DISABLED) || label(pod, MESH) == Some(DISABLED) {
        return Ok(Injected::Unwanted);
    }
    let (proxy, mut faults) = proxy(pod, &at, sidecar);
    faults.extend(in_the_way(pod, &at));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut made = pod.clone();
    if put(&mut made, proxy).is_none() {
        let message =
            "a pod has `metadata` and `spec`, each a map, and lists of containers and volumes";
        return Err(vec![InTheWay { field: at("spec"), message: message.to_owned() }]);
    }
    if made == *pod {
        return Ok(Injected::Already);
    }
    *pod = made;
    Ok(Injected::Changed)
}

fn label<'p>(pod: &'p Value, name: &str) -> Option<&'p str> {
    pod.get("metadata")?.get("labels")?.get(name)?.as_str()
}

fn list<'p>(pod: &'p Value, field: &str) -> impl Iterator<Item = (usize, &'p Value)> {
    let all = pod.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_array);
    all.into_iter().flatten().enumerate()
}

fn name(of: &Value) -> &str {
    text_of(of, "name")
}

fn text_of<'v>(of: &'v Value, field: &str) -> &'v str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an init container is one that was put there before, in whichever version. What it has beside that makes it another program.
fn is_ours(container: &Value) -> bool {
    name(container) == PROXY
        && container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
        && container.pointer("/args/0").and_then(Value::as_str) == Some("proxy")
        && container.pointer("/args/1").and_then(Value::as_str) == Some("--captured")
        && FOREIGN.iter().all(|field| container.get(field).is_none_or(Value::is_null))
}

/// All in a pod for which no proxy can be put there, or not safely.
fn in_the_way(pod: &Value, at: &dyn Fn(&str) -> String) -> Vec<InTheWay> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, message: &str| {
        faults.push(InTheWay { field: at(field), message: message.to_owned() });
    };
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        fault(
            "spec.hostNetwork",
            "a pod with the network of its node is never in the mesh: take it out, or label the pod `nullius.dev/inject: disabled`",
        );
    }
    if spec.pointer("/os/name").and_then(Value::as_str) == Some("windows") {
        fault("spec.os.name", "the mesh leads traffic on Linux alone");
    }
    if label(pod, MESH).is_some_and(|says| says != SIDECAR) {
        fault(
            "metadata.labels[nullius.dev/mesh]",
            "the pod says that somebody else leads its calls: take the label away, or let the node lead it and inject nothing",
        );
    }
    let mut is_there = false;
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in list(pod, field) {
            let place = format!("spec.{field}[{index}]");
            if field == "initContainers" && is_ours(container) && !mem::replace(&mut is_there, true)
            {
                continue;
            }
            if name(container) == PROXY {
                fault(
                    &format!("{place}.name"),
                    "`nullius-proxy` is the name of the mesh's proxy: give this container another one",
                );
            }
            let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
            for (number, port) in ports.enumerate() {
                let declared = port.get("containerPort").and_then(Value::as_u64);
                if declared.is_some_and(|it| PORTS.iter().any(|own| u64::from(*own) == it)) {
                    fault(
                        &format!("{place}.ports[{number}].containerPort"),
                        "ports 15001, 15006 and 15020 are the proxy's: let the application listen at another one",
                    );
                }
            }
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            for (number, mount) in mounts.into_iter().flatten().enumerate() {
                if name(mount) == PROXY_VOLUME {
                    fault(
                        &format!("{place}.volumeMounts[{number}].name"),
                        "who has this volume is handed the pod's traffic by the node: it is for the proxy alone",
                    );
                }
            }
        }
    }
    for (index, volume) in list(pod, "volumes") {
        let place = format!("spec.volumes[{index}]");
        let ours = volumes().into_iter().find(|own| name(own) == name(volume));
        if ours.as_ref().is_some_and(|own| own != volume) {
            fault(
                &format!("{place}.name"),
                "the proxy has a volume of this name: give this one another",
            );
        }
        let is_for_proxy = volume.pointer("/csi/driver").and_then(Value::as_str) == Some(DRIVER)
            && volume.pointer("/csi/volumeAttributes/for").is_some();
        if ours.is_none() && is_for_proxy {
            fault(
                &format!("{place}.csi.volumeAttributes"),
                "who has such a volume is handed the pod's traffic by the node: it is for the proxy alone",
            );
        }
    }
    faults
}

fn volumes() -> [Value; 2] {
    [
        json!({ "name": IDENTITY_VOLUME, "csi": { "driver": DRIVER, "readOnly": true } }),
        json!({
            "name": PROXY_VOLUME,
            "csi": { "driver": DRIVER, "readOnly": true, "volumeAttributes": { "for": "proxy" } },
        }),
    ]
}

/// The proxy's container: without any capability, and with an end to its start, so that the application begins behind it.
fn proxy(pod: &Value, at: &dyn Fn(&str) -> String, sidecar: &Sidecar) -> (Value, Vec<InTheWay>) {
    let (resources, faults) = resources(pod, at);
    // With what an API server would fill in, so that what is written can be compared with what stands.
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": HEALTH_PORT, "scheme": "HTTP" },
            "periodSeconds": period, "failureThreshold": failures,
            "timeoutSeconds": 1, "successThreshold": 1,
        })
    };
    let mut container = json!({
        "name": PROXY,
        "image": sidecar.image,
        "args": [
            "proxy", "--captured",
            "--node-socket", format!("{PROXY_DIR}/node.sock"),
            "--identity-socket", format!("{IDENTITY_DIR}/api.sock"),
            "--health", format!("[::]:{HEALTH_PORT}"),
        ],
        "restartPolicy": "Always",
        "ports": [{ "name": "nullius-health", "containerPort": HEALTH_PORT, "protocol": "TCP" }],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "startupProbe": probe("/readyz", 1, 120),
        "livenessProbe": probe("/healthz", 10, 6),
        "volumeMounts": [
            { "name": IDENTITY_VOLUME, "mountPath": IDENTITY_DIR, "readOnly": true },
            { "name": PROXY_VOLUME, "mountPath": PROXY_DIR, "readOnly": true },
        ],
    });
    if let Some(pull_policy) = &sidecar.pull_policy {
        container["imagePullPolicy"] = json!(pull_policy);
    }
    (container, faults)
}

fn resources(pod: &Value, at: &dyn Fn(&str) -> String) -> (Value, Vec<InTheWay>) {
    let annotations = pod.pointer("/metadata/annotations");
    let (mut resources, mut faults) = (json!({ "requests": {}, "limits": {} }), Vec::new());
    for (annotation, field, resource, otherwise) in RESOURCES {
        let said = annotations.and_then(|all| all.get(annotation));
        let quantity = match said {
            Some(said) => said.as_str().filter(|text| is_quantity(text)),
            None => otherwise,
        };
        match quantity {
            Some(quantity) => resources[field][resource] = json!(quantity),
            None if said.is_some() => faults.push(InTheWay {
                field: at(&format!("metadata.annotations[{annotation}]")),
                message: "write a quantity such as `50m` or `64Mi`, in quotes".to_owned(),
            }),
            None => {}
        }
    }
    (resources, faults)
}

fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.strip_suffix(unit).unwrap_or_default();
    let is_number =
        number.parse::<f64>().is_ok() && number.starts_with(|c: char| c.is_ascii_digit());
    is_number && ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit)
}

/// Puts it there; nothing where a pod is none.
fn put(pod: &mut Value, proxy: Value) -> Option<()> {
    let pod = pod.as_object_mut()?;
    let labels = map(map(pod, "metadata")?, "labels")?;
    labels.insert(MESH.to_owned(), json!(SIDECAR));
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    let before = entries(spec, "initContainers")?;
    let known = before.iter().position(is_ours).map(|index| before.remove(index));
    // Before all others: what they call is led to it.
    before.insert(0, with_what_stands(proxy, known.as_ref().unwrap_or(&Value::Null)));
    let known = entries(spec, "volumes")?;
    for volume in volumes() {
        if !known.contains(&volume) {
            known.push(volume);
        }
    }
    Some(())
}

/// Ours, and of what stands there only what API servers put beside it: what somebody else added is no part of the proxy.
fn with_what_stands(mut proxy: Value, known: &Value) -> Value {
    let Some(fields) = proxy.as_object_mut() else { return proxy };
    for field in FILLED_IN {
        if let Some(value) = known.get(field) {
            fields.entry(field).or_insert_with(|| value.clone());
        }
    }
    // Defaults of a namespace, without which its limits would refuse the pod.
    for field in ["requests", "limits"] {
        let standing = known.pointer(&format!("/resources/{field}")).and_then(Value::as_object);
        let ours = fields.get_mut("resources").and_then(|it| it.get_mut(field));
        if let (Some(standing), Some(ours)) = (standing, ours.and_then(Value::as_object_mut)) {
            for (resource, quantity) in standing {
                ours.entry(resource.clone()).or_insert_with(|| quantity.clone());
            }
        }
    }
    let mounts = known.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    let token = mounts.filter(|mount| text_of(mount, "mountPath") == TOKEN_DIR).cloned();
    if let Some(ours) = fields.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        ours.extend(token.take(1));
    }
    proxy
}

fn map<'m>(of: &'m mut Map<String, Value>, field: &str) -> Option<&'m mut Map<String, Value>> {
    let value = of.entry(field).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

fn entries<'m>(of: &'m mut Map<String, Value>, field: &str) -> Option<&'m mut Vec<Value>> {
    let value = of.entry(field).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

#[cfg(test)]
mod tests;
