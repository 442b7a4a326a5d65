//! Policies and bindings as `admissionregistration.k8s.io/v1` writes them, decoded strictly: a field that the API does
//! not know is an error with its path, and what the API defaults is defaulted.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::IgnoredAny};
use serde_json::Value as Json;

use super::fault::Fault;

/// The API group and version of policies and bindings.
pub(super) const API_VERSION: &str = "admissionregistration.k8s.io/v1";

/// Reads an object of the API.
pub(super) fn read<T: DeserializeOwned>(object: &Json) -> Result<T, Fault> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        Fault { field, message: error.into_inner().to_string() }
    })
}

/// A missing field and `null` are the same to the API.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// An object with what its kind says in `spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Object<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) metadata: Metadata,
    pub(super) spec: S,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) name: String,
    #[serde(default, rename = "generateName")]
    _generate_name: IgnoredAny,
    #[serde(default, rename = "namespace")]
    _namespace: IgnoredAny,
    #[serde(default, rename = "selfLink")]
    _self_link: IgnoredAny,
    #[serde(default, rename = "uid")]
    _uid: IgnoredAny,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: IgnoredAny,
    #[serde(default, rename = "generation")]
    _generation: IgnoredAny,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: IgnoredAny,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: IgnoredAny,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: IgnoredAny,
    #[serde(default, rename = "labels", deserialize_with = "nullable")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations", deserialize_with = "nullable")]
    _annotations: BTreeMap<String, String>,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: IgnoredAny,
    #[serde(default, rename = "managedFields")]
    _managed_fields: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ValidatingSpec {
    pub(super) param_kind: Option<ParamKind>,
    pub(super) match_constraints: Option<MatchResources>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) validations: Vec<Validation>,
    pub(super) failure_policy: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) audit_annotations: Vec<AuditAnnotation>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) match_conditions: Vec<MatchCondition>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) variables: Vec<Variable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MutatingSpec {
    pub(super) param_kind: Option<ParamKind>,
    pub(super) match_constraints: Option<MatchResources>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) variables: Vec<Variable>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) mutations: Vec<Mutation>,
    pub(super) failure_policy: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) match_conditions: Vec<MatchCondition>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) reinvocation_policy: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ParamKind {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) api_version: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MatchResources {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) namespace_selector: LabelSelector,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) object_selector: LabelSelector,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) resource_rules: Vec<Rule>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) exclude_resource_rules: Vec<Rule>,
    pub(super) match_policy: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LabelSelector {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) match_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) match_expressions: Vec<Requirement>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Requirement {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) key: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) operator: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) resource_names: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) operations: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) api_groups: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) api_versions: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) resources: Vec<String>,
    pub(super) scope: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MatchCondition {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Variable {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Validation {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) expression: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) message: String,
    pub(super) reason: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) message_expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuditAnnotation {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) key: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) value_expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mutation {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) patch_type: String,
    pub(super) apply_configuration: Option<Patch>,
    pub(super) json_patch: Option<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Patch {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ValidatingBindingSpec {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) policy_name: String,
    pub(super) param_ref: Option<ParamRef>,
    pub(super) match_resources: Option<MatchResources>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) validation_actions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MutatingBindingSpec {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) policy_name: String,
    pub(super) param_ref: Option<ParamRef>,
    pub(super) match_resources: Option<MatchResources>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ParamRef {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) namespace: String,
    pub(super) selector: Option<LabelSelector>,
    pub(super) parameter_not_found_action: Option<String>,
}
