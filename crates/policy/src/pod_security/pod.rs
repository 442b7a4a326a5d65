//! A pod as the checks see it: what the API server makes of JSON by decoding and defaulting.
//!
//! `null` is unset, a volume without a source is an emptyDir, the ports of a pod in the host's network are host
//! ports, an AppArmor annotation of a pod counts as its field. What has another type than the API's is no pod ([`DecodeError`]), and never passes.

use std::collections::BTreeMap;

use nullius_model::{FieldPath, FieldStep};
use serde_json::{Map, Value};

/// A pod, or what a template makes.
#[derive(Debug)]
pub struct Pod<'a> {
    pub(super) annotations: BTreeMap<&'a str, &'a str>,
    pub(super) host_network: bool,
    pub(super) host_pid: bool,
    pub(super) host_ipc: bool,
    pub(super) host_users: Option<bool>,
    pub(super) os: Option<&'a str>,
    pub(super) runtime_class: Option<&'a str>,
    pub(super) security: Security<'a>,
    pub(super) sysctls: Vec<&'a str>,
    pub(super) volumes: Vec<Volume<'a>>,
    pub(super) containers: Vec<Container<'a>>,
}

/// What pods and containers can both say of security; unset is `None`.
#[derive(Debug, Default)]
pub(super) struct Security<'a> {
    pub(super) run_as_non_root: Option<bool>,
    pub(super) run_as_user: Option<i64>,
    pub(super) se_linux: Option<SeLinux<'a>>,
    /// The type; empty where a profile stands without one.
    pub(super) seccomp: Option<&'a str>,
    /// The type; empty where a profile stands without one.
    pub(super) app_armor: Option<&'a str>,
    pub(super) app_armor_origin: ProfileOrigin,
    pub(super) host_process: Option<bool>,
}

/// Where a profile comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ProfileOrigin {
    /// The field says so.
    #[default]
    Field,
    /// An annotation says so, and the API server made a field of it.
    Annotation,
}

#[derive(Debug)]
pub(super) struct SeLinux<'a> {
    pub(super) kind: &'a str,
    pub(super) user: &'a str,
    pub(super) role: &'a str,
}

/// A container of any of the three lists.
#[derive(Debug)]
pub(super) struct Container<'a> {
    pub(super) list: ContainerList,
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    pub(super) security: Security<'a>,
    pub(super) privileged: Option<bool>,
    pub(super) allow_privilege_escalation: Option<bool>,
    pub(super) proc_mount: Option<&'a str>,
    pub(super) capabilities: Option<Capabilities<'a>>,
    pub(super) host_ports: Vec<HostPort>,
    pub(super) hosts: Vec<HandlerHost<'a>>,
}

#[derive(Debug)]
pub(super) struct Capabilities<'a> {
    pub(super) add: Vec<&'a str>,
    pub(super) drop: Vec<&'a str>,
}

/// A port on the node, and where it was asked for.
#[derive(Debug)]
pub(super) struct HostPort {
    pub(super) index: usize,
    pub(super) port: i64,
    pub(super) origin: PortOrigin,
}

/// Why a container port is also a port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortOrigin {
    /// `hostPort` says so.
    Written,
    /// The pod is in the host's network.
    HostNetwork,
}

/// A host that a probe or a lifecycle handler names.
#[derive(Debug)]
pub(super) struct HandlerHost<'a> {
    /// As in `livenessProbe`, `httpGet`, `host`.
    pub(super) fields: Vec<&'static str>,
    pub(super) host: &'a str,
}

/// The list that a container stands in, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerList {
    Init,
    Regular,
    Ephemeral,
}

impl ContainerList {
    const ALL: [Self; 3] = [Self::Init, Self::Regular, Self::Ephemeral];

    fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

impl Container<'_> {
    /// The container.
    pub(super) fn path(&self) -> FieldPath {
        FieldPath::of(&["spec", self.list.field()]).index(self.index)
    }

    /// A field of its security context.
    pub(super) fn security_path(&self, fields: &[&'static str]) -> FieldPath {
        self.path().field("securityContext").fields(fields)
    }
}

#[derive(Debug)]
pub(super) struct Volume<'a> {
    pub(super) name: &'a str,
    /// The sources that stand there; an unknown one by its name, so that it is not taken for none.
    pub(super) sources: Vec<&'a str>,
}

/// JSON that the API server would not read as a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}, found {found}")]
pub struct DecodeError {
    /// The value.
    pub path: FieldPath,
    /// What the API has there.
    pub expected: &'static str,
    /// What stands there.
    pub found: &'static str,
}

impl DecodeError {
    fn new(expected: &'static str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        Self { path: FieldPath::root(), expected, found }
    }

    pub(super) fn under(mut self, step: FieldStep) -> Self {
        let below = std::mem::take(&mut self.path);
        let above = match step {
            FieldStep::Field(name) => FieldPath::root().field(name),
            FieldStep::Index(index) => FieldPath::root().index(index),
            FieldStep::Key(key) => FieldPath::root().key(key),
        };
        self.path = above.join(&below);
        self
    }
}

/// What the ports of a pod in the host's network become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defaults {
    /// Host ports, as in every pod.
    OfPod,
    /// As they stand: the API server does not default templates here.
    OfTemplate,
}

impl<'a> Pod<'a> {
    /// Reads a `Pod`.
    pub fn read(pod: &'a Value) -> Result<Self, DecodeError> {
        Self::decode(pod, Defaults::OfPod)
    }

    /// Reads the `template` of a workload.
    pub(super) fn read_template(template: &'a Value) -> Result<Self, DecodeError> {
        Self::decode(template, Defaults::OfTemplate)
    }

    fn decode(pod: &'a Value, defaults: Defaults) -> Result<Self, DecodeError> {
        let root = Fields::of(pod)?;
        let annotations = root.within("metadata", annotations)?.unwrap_or_default();
        let mut read = root.within("spec", pod_spec)?.unwrap_or_else(Self::empty);
        read.annotations = annotations;
        if defaults == Defaults::OfPod {
            read.take_over_app_armor_annotations();
        }
        if defaults == Defaults::OfTemplate || !read.host_network {
            for container in &mut read.containers {
                container.host_ports.retain(|port| port.origin == PortOrigin::Written);
            }
        }
        Ok(read)
    }

    /// The API server gives a container that has no AppArmor profile the one of its annotation. Only what turns
    /// AppArmor off matters here; other values pass in either form.
    fn take_over_app_armor_annotations(&mut self) {
        if self.is_for_windows() || self.security.app_armor == Some("Unconfined") {
            return;
        }
        for container in &mut self.containers {
            let key = format!("{APP_ARMOR_PREFIX}{}", container.name);
            let is_off = self.annotations.get(key.as_str()) == Some(&"unconfined");
            if is_off && container.security.app_armor.is_none() {
                container.security.app_armor = Some("Unconfined");
                container.security.app_armor_origin = ProfileOrigin::Annotation;
            }
        }
    }

    fn empty() -> Self {
        Self {
            annotations: BTreeMap::new(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            host_users: None,
            os: None,
            runtime_class: None,
            security: Security::default(),
            sysctls: Vec::new(),
            volumes: Vec::new(),
            containers: Vec::new(),
        }
    }

    /// Whether it has a user namespace of its own.
    pub(super) fn has_own_users(&self) -> bool {
        self.host_users == Some(false)
    }

    /// Whether it says that it is for Windows nodes.
    pub(super) fn is_for_windows(&self) -> bool {
        self.os == Some("windows")
    }

    /// Whether a change from `old` calls for a new judgement: containers, images, or annotations that checks read.
    pub(super) fn differs_where_it_matters(&self, old: &Self) -> bool {
        let in_order = |list| {
            let now: Vec<_> = self.images(list).collect();
            let before: Vec<_> = old.images(list).collect();
            now.len() != before.len()
                || now.iter().zip(&before).any(|((_, now), (_, before))| now != before)
        };
        let by_name = |(name, image): (&str, &str)| {
            let before = old.images(ContainerList::Ephemeral).find(|(known, _)| *known == name);
            before.is_none_or(|(_, before)| before != image)
        };
        in_order(ContainerList::Init)
            || in_order(ContainerList::Regular)
            || self.images(ContainerList::Ephemeral).any(by_name)
            || !self.profile_annotations().eq(old.profile_annotations())
    }

    fn images(&self, list: ContainerList) -> impl Iterator<Item = (&str, &str)> {
        let of_list = self.containers.iter().filter(move |container| container.list == list);
        of_list.map(|container| (container.name, container.image))
    }

    fn profile_annotations(&self) -> impl Iterator<Item = (&&str, &&str)> {
        self.annotations.iter().filter(|(key, _)| {
            key.starts_with(APP_ARMOR_PREFIX)
                || key.starts_with(SECCOMP_CONTAINER_PREFIX)
                || **key == SECCOMP_POD
        })
    }
}

/// Annotations that name the AppArmor profile of a container.
pub(super) const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Annotations that name the seccomp profile of a container.
pub(super) const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// The annotation that names the seccomp profile of a pod.
pub(super) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// The fields of a mapping; `null` counts as unset.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, DecodeError> {
        match value {
            Value::Object(fields) => Ok(Self(Some(fields))),
            Value::Null => Ok(Self(None)),
            other => Err(DecodeError::new("a mapping", other)),
        }
    }

    fn at(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(
        self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        let Some(value) = self.at(name) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(DecodeError::new(expected, value).under(FieldStep::Field(name.into()))),
        }
    }

    fn boolean(self, name: &'static str) -> Result<Option<bool>, DecodeError> {
        self.read(name, "a boolean", Value::as_bool)
    }

    pub(super) fn text(self, name: &'static str) -> Result<Option<&'a str>, DecodeError> {
        self.read(name, "text", Value::as_str)
    }

    fn word(self, name: &'static str) -> Result<&'a str, DecodeError> {
        Ok(self.text(name)?.unwrap_or_default())
    }

    fn integer(self, name: &'static str) -> Result<Option<i64>, DecodeError> {
        self.read(name, "a whole number of 64 bits", Value::as_i64)
    }

    fn port(self, name: &'static str) -> Result<i64, DecodeError> {
        let fits = |value: &Value| value.as_i64().filter(|port| i32::try_from(*port).is_ok());
        Ok(self.read(name, "a whole number of 32 bits", fits)?.unwrap_or_default())
    }

    /// Reads the mapping under a name.
    pub(super) fn within<T>(
        self,
        name: &'static str,
        read: impl FnOnce(Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let Some(value) = self.at(name) else { return Ok(None) };
        let inside = Fields::of(value).and_then(read);
        inside.map(Some).map_err(|error| error.under(FieldStep::Field(name.into())))
    }

    /// Reads the mappings of the list under a name.
    fn each<T>(
        self,
        name: &'static str,
        mut read: impl FnMut(usize, Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.items(name, |index, item| Fields::of(item).and_then(|fields| read(index, fields)))
    }

    fn texts(self, name: &'static str) -> Result<Vec<&'a str>, DecodeError> {
        self.items(name, |_, item| match item {
            Value::Null => Ok(""),
            item => item.as_str().ok_or_else(|| DecodeError::new("text", item)),
        })
    }

    fn items<T>(
        self,
        name: &'static str,
        mut read: impl FnMut(usize, &'a Value) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let Some(items) = self.read(name, "a list", Value::as_array)? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            all.push(read(index, item).map_err(|error| {
                error.under(FieldStep::Index(index)).under(FieldStep::Field(name.into()))
            })?);
        }
        Ok(all)
    }
}

/// The text values under a name, as labels and annotations are.
pub(super) fn text_map<'a>(
    fields: Fields<'a>,
    name: &'static str,
) -> Result<BTreeMap<&'a str, &'a str>, DecodeError> {
    let read = fields.within(name, |entries| {
        let mut all = BTreeMap::new();
        for (key, value) in entries.0.into_iter().flatten() {
            let text = match value {
                Value::Null => "",
                value => value.as_str().ok_or_else(|| {
                    DecodeError::new("text", value).under(FieldStep::Key(key.clone()))
                })?,
            };
            all.insert(key.as_str(), text);
        }
        Ok(all)
    })?;
    Ok(read.unwrap_or_default())
}

fn annotations(metadata: Fields<'_>) -> Result<BTreeMap<&str, &str>, DecodeError> {
    text_map(metadata, "annotations")
}

fn pod_spec(spec: Fields<'_>) -> Result<Pod<'_>, DecodeError> {
    let context = spec.within("securityContext", |context| {
        let sysctls = context.each("sysctls", |_, sysctl| sysctl.word("name"))?;
        Ok((security(context)?, sysctls))
    })?;
    let (security, sysctls) = context.unwrap_or_default();
    let mut containers = Vec::new();
    for list in ContainerList::ALL {
        containers.extend(spec.each(list.field(), |index, fields| container(list, index, fields))?);
    }
    Ok(Pod {
        annotations: BTreeMap::new(),
        host_network: spec.boolean("hostNetwork")?.unwrap_or_default(),
        host_pid: spec.boolean("hostPID")?.unwrap_or_default(),
        host_ipc: spec.boolean("hostIPC")?.unwrap_or_default(),
        host_users: spec.boolean("hostUsers")?,
        os: spec.within("os", |os| os.word("name"))?,
        runtime_class: spec.text("runtimeClassName")?,
        security,
        sysctls,
        volumes: spec.each("volumes", |_, fields| volume(fields))?,
        containers,
    })
}

fn volume(fields: Fields<'_>) -> Result<Volume<'_>, DecodeError> {
    let set = fields.0.into_iter().flatten().filter(|(_, value)| !value.is_null());
    let sources = set.map(|(name, _)| name.as_str()).filter(|name| *name != "name").collect();
    Ok(Volume { name: fields.word("name")?, sources })
}

fn security(context: Fields<'_>) -> Result<Security<'_>, DecodeError> {
    let se_linux = context.within("seLinuxOptions", |options| {
        let (kind, user, role) =
            (options.word("type")?, options.word("user")?, options.word("role")?);
        Ok(SeLinux { kind, user, role })
    })?;
    let host_process =
        context.within("windowsOptions", |windows| windows.boolean("hostProcess"))?;
    Ok(Security {
        run_as_non_root: context.boolean("runAsNonRoot")?,
        run_as_user: context.integer("runAsUser")?,
        se_linux,
        seccomp: context.within("seccompProfile", |profile| profile.word("type"))?,
        app_armor: context.within("appArmorProfile", |profile| profile.word("type"))?,
        app_armor_origin: ProfileOrigin::Field,
        host_process: host_process.flatten(),
    })
}

fn container(
    list: ContainerList,
    index: usize,
    fields: Fields<'_>,
) -> Result<Container<'_>, DecodeError> {
    let mut read = Container {
        list,
        index,
        name: fields.word("name")?,
        image: fields.word("image")?,
        security: Security::default(),
        privileged: None,
        allow_privilege_escalation: None,
        proc_mount: None,
        capabilities: None,
        host_ports: host_ports(list, fields)?,
        hosts: handler_hosts(fields)?,
    };
    fields.within("securityContext", |context| {
        read.security = security(context)?;
        read.privileged = context.boolean("privileged")?;
        read.allow_privilege_escalation = context.boolean("allowPrivilegeEscalation")?;
        read.proc_mount = context.text("procMount")?;
        read.capabilities = context.within("capabilities", |capabilities| {
            Ok(Capabilities { add: capabilities.texts("add")?, drop: capabilities.texts("drop")? })
        })?;
        Ok(())
    })?;
    Ok(read)
}

fn host_ports(list: ContainerList, fields: Fields<'_>) -> Result<Vec<HostPort>, DecodeError> {
    let all = fields.each("ports", |index, port| {
        let (written, inside) = (port.port("hostPort")?, port.port("containerPort")?);
        Ok(match written {
            0 if list == ContainerList::Ephemeral => None,
            0 => Some(HostPort { index, port: inside, origin: PortOrigin::HostNetwork }),
            port => Some(HostPort { index, port, origin: PortOrigin::Written }),
        })
    })?;
    Ok(all.into_iter().flatten().filter(|port| port.port != 0).collect())
}

fn handler_hosts(fields: Fields<'_>) -> Result<Vec<HandlerHost<'_>>, DecodeError> {
    let mut hosts = Vec::new();
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        fields.within(probe, |handler| hosts_of(handler, &[probe], &mut hosts))?;
    }
    fields.within("lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            lifecycle
                .within(hook, |handler| hosts_of(handler, &["lifecycle", hook], &mut hosts))?;
        }
        Ok(())
    })?;
    Ok(hosts)
}

fn hosts_of<'a>(
    handler: Fields<'a>,
    above: &[&'static str],
    hosts: &mut Vec<HandlerHost<'a>>,
) -> Result<(), DecodeError> {
    for action in ["httpGet", "tcpSocket"] {
        let host = handler.within(action, |action| action.word("host"))?.unwrap_or_default();
        if !host.is_empty() {
            hosts.push(HandlerHost { fields: [above, &[action, "host"]].concat(), host });
        }
    }
    Ok(())
}
