//! One module for each check: what it asks for in each version, in Kubernetes' words, and how to mend it.

pub(super) mod allow_privilege_escalation;
pub(super) mod app_armor_profile;
pub(super) mod capabilities_baseline;
pub(super) mod capabilities_restricted;
pub(super) mod host_namespaces;
pub(super) mod host_path_volumes;
pub(super) mod host_ports;
pub(super) mod host_probes_and_host_lifecycle;
pub(super) mod privileged;
pub(super) mod proc_mount;
pub(super) mod proc_mount_restricted;
pub(super) mod restricted_volumes;
pub(super) mod run_as_non_root;
pub(super) mod run_as_user;
pub(super) mod se_linux_options;
pub(super) mod seccomp_profile_baseline;
pub(super) mod seccomp_profile_restricted;
pub(super) mod sysctls;
pub(super) mod windows_host_process;

use nullius_model::FieldPath;

use super::{
    evaluation::{Forbidden, Spot},
    go_text::containers,
    pod::{Container, Pod, Security},
};

/// Who says something in its security context: `pod and containers "a", "b"`.
#[derive(Debug, Default)]
struct Setters<'a> {
    pod: Option<FieldPath>,
    containers: Vec<&'a str>,
    paths: Vec<FieldPath>,
}

impl<'a> Setters<'a> {
    /// Those of the pod and its containers for which it is so; `field` is below their security contexts.
    fn of(
        pod: &Pod<'a>,
        field: &[&'static str],
        mut is_so: impl FnMut(&Security<'a>) -> bool,
    ) -> Self {
        let mut setters = Self::default();
        if is_so(&pod.security) {
            setters.pod = Some(FieldPath::of(&["spec", "securityContext"]).fields(field));
        }
        for container in pod.containers.iter().filter(|container| is_so(&container.security)) {
            setters.add(container, field);
        }
        setters
    }

    /// Containers alone for which it is so.
    fn containers(
        pod: &Pod<'a>,
        field: &[&'static str],
        mut is_so: impl FnMut(&Container<'a>) -> bool,
    ) -> Self {
        let mut setters = Self::default();
        for container in pod.containers.iter().filter(|container| is_so(container)) {
            setters.add(container, field);
        }
        setters
    }

    fn add(&mut self, container: &Container<'a>, field: &[&'static str]) {
        self.containers.push(container.name);
        self.paths.push(container.security_path(field));
    }

    fn is_empty(&self) -> bool {
        self.pod.is_none() && self.containers.is_empty()
    }

    fn words(&self) -> Vec<String> {
        let pod = self.pod.as_ref().map(|_| "pod".to_owned());
        let named = (!self.containers.is_empty()).then(|| containers(&self.containers));
        pod.into_iter().chain(named).collect()
    }

    /// `pod and container "a"`.
    fn text(&self) -> String {
        self.words().join(" and ")
    }

    /// The same fix at each place.
    fn spots(&self, fix: &str) -> Vec<Spot> {
        self.pod.iter().chain(&self.paths).map(|path| Spot::new(path.clone(), fix)).collect()
    }
}
