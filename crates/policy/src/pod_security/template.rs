//! The pod inside every kind that makes pods.

use nullius_model::FieldPath;
use serde_json::Value;

use super::pod::{DecodeError, Pod};

/// A kind that is a pod or makes pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// `v1`, itself.
    Pod,
    /// `v1`.
    PodTemplate,
    /// `v1`.
    ReplicationController,
    /// `apps`.
    ReplicaSet,
    /// `apps`.
    Deployment,
    /// `apps`.
    DaemonSet,
    /// `apps`.
    StatefulSet,
    /// `batch`.
    Job,
    /// `batch`.
    CronJob,
}

/// The pod of an object, and where it stands there.
#[derive(Debug)]
pub struct PodTemplate<'a> {
    /// The kind around it.
    pub workload: Workload,
    /// What the paths of its findings begin with; the root for a pod.
    pub at: FieldPath,
    /// The pod.
    pub pod: Pod<'a>,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::PodTemplate,
        Self::ReplicationController,
        Self::ReplicaSet,
        Self::Deployment,
        Self::DaemonSet,
        Self::StatefulSet,
        Self::Job,
        Self::CronJob,
    ];

    /// The kind by its group and name, in any version; `extensions` is where some lived before `apps`.
    pub fn of_kind(group: &str, kind: &str) -> Option<Self> {
        let moved = |workload: Self| {
            group == "extensions"
                && matches!(workload, Self::ReplicaSet | Self::Deployment | Self::DaemonSet)
        };
        let mut all = Self::ALL.into_iter();
        all.find(|workload| {
            workload.kind() == kind && (workload.group() == group || moved(*workload))
        })
    }

    /// The kind by its group and resource, as requests name it.
    pub fn of_resource(group: &str, resource: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|workload| workload.group() == group && workload.resource() == resource)
    }

    /// The kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::PodTemplate => "PodTemplate",
            Self::ReplicationController => "ReplicationController",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// Its plural in requests.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::PodTemplate => "podtemplates",
            Self::ReplicationController => "replicationcontrollers",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::DaemonSet => "daemonsets",
            Self::StatefulSet => "statefulsets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
        }
    }

    /// Its group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Pod | Self::PodTemplate | Self::ReplicationController => "",
            Self::ReplicaSet | Self::Deployment | Self::DaemonSet | Self::StatefulSet => "apps",
            Self::Job | Self::CronJob => "batch",
        }
    }

    /// The fields from the object to its pod.
    pub fn template_fields(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &[],
            Self::PodTemplate => &["template"],
            Self::ReplicationController
            | Self::ReplicaSet
            | Self::Deployment
            | Self::DaemonSet
            | Self::StatefulSet
            | Self::Job => &["spec", "template"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
        }
    }

    /// Reads the pod of an object of this kind; `None` where a ReplicationController has no template.
    pub fn read(self, object: &Value) -> Result<Option<PodTemplate<'_>>, DecodeError> {
        let at = FieldPath::of(self.template_fields());
        if self == Self::Pod {
            return Ok(Some(PodTemplate { workload: self, at, pod: Pod::read(object)? }));
        }
        let mut value = object;
        let mut above = FieldPath::root();
        for field in self.template_fields() {
            let Value::Object(fields) = value else { break };
            value = fields.get(*field).unwrap_or(&Value::Null);
            above = above.field(*field);
        }
        // The template of a ReplicationController may be missing; any other is then an empty one.
        if self == Self::ReplicationController && value.is_null() {
            return Ok(None);
        }
        let pod = Pod::read_template(value).map_err(|error| DecodeError {
            path: above.join(&error.path),
            expected: error.expected,
            found: error.found,
        })?;
        Ok(Some(PodTemplate { workload: self, at, pod }))
    }
}

impl<'a> PodTemplate<'a> {
    /// The pod of an object by its `apiVersion` and `kind`; `None` where it makes no pods.
    pub fn of(object: &'a Value) -> Result<Option<Self>, DecodeError> {
        let word = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = word("apiVersion").split_once('/').map_or("", |(group, _)| group);
        match Workload::of_kind(group, word("kind")) {
            Some(workload) => workload.read(object),
            None => Ok(None),
        }
    }
}
