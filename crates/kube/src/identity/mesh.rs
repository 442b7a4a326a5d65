//! What identities and the mesh need of pods, of Services, and of where Services lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::{
        core::v1::{Container, ContainerStatus, Lifecycle, LifecycleHandler, Pod, Probe, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

/// The label by which a slice says to which Service it belongs.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Bytes of the kind and of the name of an owner.
const NAME_MAX: usize = 253;
/// Labels of a pod that are held, the first by name, and bytes of them: more is nobody's need, and each is held for as long as the pod is there.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 8 * 1024;

/// What else is needed of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodParts {
    /// Its addresses, as its status has them.
    pub addresses: Vec<IpAddr>,
    /// When it was made, in seconds of Unix time: the API server says so, and no kubelet.
    pub created: i64,
    /// Whether it is being deleted.
    pub is_leaving: bool,
    /// Its labels: 64, and 8 KiB of them.
    pub labels: BTreeMap<String, String>,
    /// Whether it has others.
    pub has_more_labels: bool,
    /// TCP ports that its containers declare.
    pub ports: BTreeSet<u16>,
    /// Ports at which the kubelet calls.
    pub probe_ports: BTreeSet<u16>,
    /// Kind and name of its controller.
    pub owner: Option<(Box<str>, Box<str>)>,
    /// Containers that run.
    pub containers: Vec<RunningContainer>,
}

/// A container that runs, as the kubelet tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningContainer {
    /// Its name.
    pub name: Box<str>,
    /// Its ID at the runtime, without the runtime's name.
    pub id: Box<str>,
    /// The digest of its image, `sha256:HEX`.
    pub image: Option<Box<str>>,
}

impl RunningContainer {
    fn of(status: &ContainerStatus) -> Option<Self> {
        status.state.as_ref()?.running.as_ref()?;
        let (_, id) = status.container_id.as_deref()?.split_once("://")?;
        // `NAME@sha256:HEX` where the image came from a registry, its bare ID otherwise.
        let image = status.image_id.as_str();
        let image = image.rsplit_once('@').map_or(image, |(_, digest)| digest);
        let image = image.starts_with("sha256:").then(|| image.into());
        Some(Self { name: status.name.as_str().into(), id: id.into(), image })
    }
}

impl PodParts {
    pub(super) fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let addresses = addresses.filter_map(|it| it.ip.parse().ok()).collect();
        let owner = pod.metadata.owner_references.iter().flatten();
        let owner = owner.into_iter().find(|owner| owner.controller == Some(true));
        let owner = owner.filter(|owner| is_name(&owner.kind) && is_name(&owner.name));
        let containers = status.into_iter().flat_map(|status| {
            let beside = status.init_container_statuses.iter().flatten();
            status.container_statuses.iter().flatten().chain(beside)
        });
        let all = pod.metadata.labels.as_ref();
        let labels = some(all.into_iter().flatten());
        let mut parts = Self {
            addresses,
            created: pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            is_leaving: pod.metadata.deletion_timestamp.is_some(),
            has_more_labels: labels.len() < all.map_or(0, BTreeMap::len),
            labels,
            owner: owner.map(|it| (it.kind.as_str().into(), it.name.as_str().into())),
            containers: containers.filter_map(RunningContainer::of).collect(),
            ..Self::default()
        };
        let Some(spec) = &pod.spec else { return parts };
        // What only runs before the others is over when somebody calls.
        let beside = spec.init_containers.iter().flatten();
        let beside = beside.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        for container in spec.containers.iter().chain(beside) {
            parts.add(container);
        }
        parts
    }

    fn add(&mut self, container: &Container) {
        let declared = container.ports.iter().flatten();
        let tcp = declared.clone().filter(|port| is_tcp(port.protocol.as_deref()));
        self.ports.extend(tcp.filter_map(|port| number(port.container_port)));
        let named = |port: &IntOrString| match port {
            IntOrString::Int(port) => number(*port),
            IntOrString::String(name) => declared
                .clone()
                .find(|port| port.name.as_deref() == Some(name))
                .and_then(|port| number(port.container_port)),
        };
        let probes =
            [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        let probes = probes.into_iter().flatten().filter_map(|probe| of_probe(probe, &named));
        let hooks = container.lifecycle.iter().flat_map(|hooks| of_hooks(hooks, &named));
        self.probe_ports.extend(probes.chain(hooks));
    }
}

/// Whether it can be a kind or the name of an object. An API server asks of an owner only that it is not empty, and who may make pods writes it.
fn is_name(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_legal)
}

fn some<'l>(labels: impl Iterator<Item = (&'l String, &'l String)>) -> BTreeMap<String, String> {
    let mut left = LABEL_BYTES_MAX;
    let some = labels.take(LABELS_MAX).map_while(|(key, value)| {
        left = left.checked_sub(key.len() + value.len())?;
        Some((key.clone(), value.clone()))
    });
    some.collect()
}

fn of_probe(probe: &Probe, named: &impl Fn(&IntOrString) -> Option<u16>) -> Option<u16> {
    let http = probe.http_get.as_ref().filter(|http| http.host.is_none());
    let tcp = probe.tcp_socket.as_ref().filter(|tcp| tcp.host.is_none());
    let grpc = probe.grpc.as_ref().and_then(|grpc| number(grpc.port));
    http.and_then(|http| named(&http.port)).or(tcp.and_then(|tcp| named(&tcp.port))).or(grpc)
}

fn of_hooks(hooks: &Lifecycle, named: &impl Fn(&IntOrString) -> Option<u16>) -> Vec<u16> {
    let port = |hook: &LifecycleHandler| {
        let http = hook.http_get.as_ref().filter(|http| http.host.is_none());
        http.and_then(|http| named(&http.port))
    };
    [&hooks.post_start, &hooks.pre_stop].into_iter().flatten().filter_map(port).collect()
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNews {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its cluster IPs.
    pub addresses: Vec<IpAddr>,
    /// Its TCP ports.
    pub ports: Vec<ServicePortNews>,
    /// Its annotations that say for which Service of another cluster it stands, by what follows `nullius.dev/import`.
    pub import: BTreeMap<Box<str>, Box<str>>,
}

/// How annotations begin that say for which Service of another cluster one stands.
const IMPORT: &str = "nullius.dev/import";
/// Bytes of such an annotation that are read.
const IMPORT_BYTES: usize = 4 * 1024;

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortNews {
    /// Its number.
    pub port: u16,
    /// Its name; empty where it has none.
    pub name: Box<str>,
    /// What it says to speak.
    pub app_protocol: Option<Box<str>>,
}

impl ServiceNews {
    pub(super) fn of(service: Service) -> Self {
        let spec = service.spec.unwrap_or_default();
        let addresses = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
        let ports = spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
        let ports = ports.filter_map(|port| {
            Some(ServicePortNews {
                port: number(port.port)?,
                name: port.name.as_deref().unwrap_or_default().into(),
                app_protocol: port.app_protocol.as_deref().map(Into::into),
            })
        });
        let annotations = service.metadata.annotations.iter().flatten();
        let import = annotations.filter_map(|(name, value)| {
            // What is too long is there, and says nothing that can be read.
            let value = if value.len() > IMPORT_BYTES { "" } else { value.as_str() };
            Some((name.strip_prefix(IMPORT)?.into(), value.into()))
        });
        Self {
            addresses: addresses.collect(),
            ports: ports.collect(),
            import: import.collect(),
            namespace: service.metadata.namespace.unwrap_or_default().into(),
            name: service.metadata.name.unwrap_or_default().into(),
        }
    }
}

/// A part of where a Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceNews {
    /// Its namespace, and that of the Service.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The Service; empty where it is of none.
    pub service: Box<str>,
    /// TCP ports.
    pub ports: Vec<SlicePort>,
    /// Who is there.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port to which a Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the port of the Service.
    pub name: Box<str>,
    /// The number at the endpoints.
    pub port: u16,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is to be called.
    pub is_ready: bool,
    /// Whether a pod is meant, and no place outside of the cluster.
    pub is_pod: bool,
}

impl SliceNews {
    pub(super) fn of(slice: EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
        let ports = ports.filter_map(|port| {
            let name = port.name.as_deref().unwrap_or_default().into();
            Some(SlicePort { name, port: number(port.port?)? })
        });
        // Of several addresses any one may be used; names are none.
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let address = endpoint.addresses.first()?.parse().ok()?;
            let ready = endpoint.conditions.as_ref().and_then(|it| it.ready);
            let target = endpoint.target_ref.as_ref().and_then(|it| it.kind.as_deref());
            let is_pod = target == Some("Pod");
            Some(SliceEndpoint { address, is_ready: ready.unwrap_or(true), is_pod })
        });
        let (ports, endpoints) = (ports.collect(), endpoints.collect());
        let metadata = slice.metadata;
        let service = metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME));
        Self {
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: metadata.name.unwrap_or_default().into(),
            service: service.unwrap_or_default().into(),
            ports,
            endpoints,
        }
    }
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_that_cannot_be_is_none() {
        let owner = |kind: &str, name: &str| {
            let owner = json!({
                "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true,
            });
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": "web-1", "namespace": "shop", "ownerReferences": [owner] },
            }))
            .unwrap();
            PodParts::of(&pod).owner
        };
        assert_eq!(owner("ReplicaSet", "web-5f"), Some(("ReplicaSet".into(), "web-5f".into())));
        let long = "a".repeat(1_000_000);
        for (kind, name) in [
            (long.as_str(), "web"),
            ("ReplicaSet", &long),
            ("a b", "web"),
            ("Job", "x/y"),
            ("Job", ""),
        ] {
            assert_eq!(owner(kind, name), None);
        }
    }

    #[test]
    fn of_a_pod_its_ports_and_those_of_its_probes_are_read() {
        let pod = json!({
            "metadata": { "name": "web", "labels": { "app": "web" } },
            "spec": {
                "initContainers": [
                    { "name": "once", "ports": [{ "containerPort": 1 }] },
                    { "name": "beside", "restartPolicy": "Always", "ports": [{ "containerPort": 2 }] },
                ],
                "containers": [{
                    "name": "web",
                    "ports": [
                        { "name": "http", "containerPort": 8080 },
                        { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                        { "name": "admin", "containerPort": 9000, "protocol": "TCP" },
                    ],
                    "readinessProbe": { "httpGet": { "port": "admin" } },
                    "livenessProbe": { "tcpSocket": { "port": 7000 } },
                    "startupProbe": { "grpc": { "port": 6000 } },
                    "lifecycle": {
                        "preStop": { "httpGet": { "port": "http" } },
                        "postStart": { "httpGet": { "host": "elsewhere.example", "port": 1234 } },
                    },
                }],
            },
            "status": { "podIPs": [{ "ip": "10.0.0.5" }, { "ip": "2001:db8::5" }] },
        });
        let parts = PodParts::of(&serde_json::from_value(pod).unwrap());
        assert_eq!(parts.ports, [2, 8080, 9000].into());
        assert_eq!(parts.probe_ports, [6000, 7000, 8080, 9000].into());
        assert_eq!(parts.addresses.len(), 2);
        assert_eq!(parts.labels["app"], "web");
    }

    #[test]
    fn of_a_pod_with_more_labels_than_anybody_needs_some_are_kept() {
        let labelled = |count: usize, long: usize| {
            let labels: BTreeMap<String, String> =
                (0..count).map(|at| (format!("label-{at:06}"), "x".repeat(long))).collect();
            let pod = json!({ "metadata": { "labels": labels } });
            let parts = PodParts::of(&serde_json::from_value(pod).unwrap());
            (parts.labels.len(), parts.has_more_labels)
        };
        assert_eq!(labelled(64, 63), (64, false));
        assert_eq!(labelled(65, 63), (64, true));
        assert_eq!(labelled(16_384, 63), (64, true));
        assert_eq!(labelled(64, 1_000_000), (0, true));
        assert_eq!(labelled(0, 0), (0, false));
    }

    #[test]
    fn of_services_and_slices_tcp_alone_is_read() {
        let service = json!({
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": {
                "clusterIPs": ["10.96.0.7", "2001:db8:1::7"],
                "ports": [
                    { "name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c" },
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                ],
            },
        });
        let service = ServiceNews::of(serde_json::from_value(service).unwrap());
        assert_eq!(service.addresses.len(), 2);
        assert_eq!(service.ports.len(), 1);
        assert_eq!(service.ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
        let headless = json!({ "metadata": {}, "spec": { "clusterIPs": ["None"] } });
        assert!(ServiceNews::of(serde_json::from_value(headless).unwrap()).addresses.is_empty());
        let slice = json!({
            "metadata": { "namespace": "shop", "name": "web-x", "labels": { SERVICE_NAME: "web" } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080 }, { "name": "any" }, { "port": 53, "protocol": "UDP" }],
            "endpoints": [
                { "addresses": ["10.0.0.5"], "conditions": { "ready": true } },
                { "addresses": ["10.0.0.6"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.7"], "targetRef": { "kind": "Pod", "name": "web-1" } },
                { "addresses": ["name.example"] },
            ],
        });
        let slice = SliceNews::of(serde_json::from_value(slice).unwrap());
        assert_eq!((&*slice.service, slice.ports.len()), ("web", 1));
        let ready: Vec<bool> = slice.endpoints.iter().map(|it| it.is_ready).collect();
        assert_eq!(ready, [true, false, true]);
        let pods: Vec<bool> = slice.endpoints.iter().map(|it| it.is_pod).collect();
        assert_eq!(pods, [false, false, true]);
    }
}
