//! What is asked when a review waits for it: a namespace that no watch has brought yet, and whether somebody may do something.

use k8s_openapi::api::{
    authorization::v1::{
        FieldSelectorAttributes, LabelSelectorAttributes, NonResourceAttributes,
        ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
    },
    core::v1::Namespace,
};
use kube::{Api, api::PostParams};
use serde_json::Value;

use crate::{ApiServer, ConnectError, Credential, KubeError, Step};

/// Whether somebody may do something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessQuestion {
    /// The name.
    pub user: String,
    /// The unique id; empty where there is none.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: Vec<(String, Vec<String>)>,
    /// The verb.
    pub verb: String,
    /// What is asked about.
    pub target: AccessTarget,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    /// A path of the API server.
    Path(String),
    /// A resource: group, plural, subresource, namespace, name.
    Resource {
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
        field_selector: String,
        label_selector: String,
    },
}

impl Default for AccessTarget {
    fn default() -> Self {
        Self::Path(String::new())
    }
}

/// What the authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessVerdict {
    /// Yes, and why.
    Allow(String),
    /// No or no opinion, and why.
    Deny(String),
    /// It erred.
    Fail(String),
}

/// Asks the API server.
#[derive(Clone)]
pub struct Questions {
    namespaces: Api<Namespace>,
    reviews: Api<SubjectAccessReview>,
}

impl Questions {
    /// With the credential of `agent admission`.
    pub fn new(server: &ApiServer, credential: Credential) -> Result<Self, ConnectError> {
        let client = server.client(credential)?;
        Ok(Self { namespaces: Api::all(client.clone()), reviews: Api::all(client) })
    }

    /// A namespace as it is now; `None` where there is none of the name.
    pub async fn namespace(&self, name: &str) -> Result<Option<Value>, KubeError> {
        let step = || Step::ReadNamespace(name.to_owned());
        let found = self.namespaces.get_opt(name).await.map_err(KubeError::at(step()))?;
        let Some(mut found) = found else { return Ok(None) };
        found.metadata.managed_fields = None;
        let wrong = |_| KubeError::Incomplete { step: step(), what: "a namespace" };
        serde_json::to_value(found).map(Some).map_err(wrong)
    }

    /// Whether somebody may do something.
    pub async fn access(&self, question: AccessQuestion) -> Result<AccessVerdict, KubeError> {
        let review = SubjectAccessReview { spec: spec_of(question), ..Default::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(KubeError::at(Step::ReviewAccess))?.status;
        let status =
            status.ok_or(KubeError::Incomplete { step: Step::ReviewAccess, what: "a verdict" })?;
        let reason = status.reason.unwrap_or_default();
        Ok(match (status.allowed, status.evaluation_error) {
            (true, _) => AccessVerdict::Allow(reason),
            (false, Some(error)) if !error.is_empty() => AccessVerdict::Fail(error),
            (false, _) => AccessVerdict::Deny(reason),
        })
    }
}

fn spec_of(question: AccessQuestion) -> SubjectAccessReviewSpec {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let mut spec = SubjectAccessReviewSpec {
        user: Some(question.user),
        uid: some(question.uid),
        groups: Some(question.groups),
        extra: (!question.extra.is_empty()).then(|| question.extra.into_iter().collect()),
        ..Default::default()
    };
    let verb = Some(question.verb);
    match question.target {
        AccessTarget::Path(path) => {
            spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path), verb });
        }
        AccessTarget::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector,
        } => {
            let fields = some(field_selector);
            let labels = some(label_selector);
            spec.resource_attributes = Some(ResourceAttributes {
                group: some(group),
                resource: some(resource),
                subresource: some(subresource),
                namespace: some(namespace),
                name: some(name),
                verb,
                version: Some("*".to_owned()),
                field_selector: fields.map(|raw| FieldSelectorAttributes {
                    raw_selector: Some(raw),
                    requirements: None,
                }),
                label_selector: labels.map(|raw| LabelSelectorAttributes {
                    raw_selector: Some(raw),
                    requirements: None,
                }),
            });
        }
    }
    spec
}
