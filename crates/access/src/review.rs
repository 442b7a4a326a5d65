//! What somebody asks about themselves with `kubectl auth can-i` (authorization.k8s.io/v1 SelfSubjectAccessReview).

use nullius_rbac::{Attributes, ResourceAttributes};
use serde::Deserialize;

/// The spec of a SelfSubjectAccessReview; exactly one of its fields is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReviewSpec {
    /// A question about objects.
    pub resource_attributes: Option<ResourceReview>,
    /// A question about another path.
    pub non_resource_attributes: Option<NonResourceReview>,
}

/// A question about objects.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceReview {
    /// Namespace; empty for all, and for cluster-scoped objects.
    pub namespace: String,
    /// Verb.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Object name.
    pub name: String,
}

/// A question about a path that names no resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NonResourceReview {
    /// Path.
    pub path: String,
    /// Verb, the method in lower case.
    pub verb: String,
}

impl ReviewSpec {
    /// The question as attributes; none where it asks nothing or two things at once, as the API server refuses it.
    pub fn attributes(&self) -> Option<Attributes<'_>> {
        match (&self.resource_attributes, &self.non_resource_attributes) {
            (Some(asked), None) => Some(Attributes::resource(
                &asked.verb,
                ResourceAttributes {
                    group: &asked.group,
                    resource: &asked.resource,
                    subresource: &asked.subresource,
                    namespace: &asked.namespace,
                    name: &asked.name,
                },
            )),
            (None, Some(asked)) => Some(Attributes::url(&asked.verb, &asked.path)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}
