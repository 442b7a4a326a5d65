//! Waiting until the API server's authorizer knows what was bound.
//!
//! RBAC reads bindings by watch, a moment after they are written. A session is called ready when one of its own
//! rights, asked with its own token, is known; it then does not begin with a refusal.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use nullius_model::{Binding, Namespace};
use secrecy::SecretString;

use super::{Sessions, bind::Made};
use crate::connect::bearer;

const ASK_AGAIN_MILLIS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const NEWEST: usize = 4;

/// Whether the new rights are in force at the API server that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Known,
    Unknown,
}

impl Sessions {
    /// Asks until the newest bindings count, a quarter of a second at most.
    pub(super) async fn settle(&self, token: &SecretString, made: &[Made]) -> Settled {
        let mut newest: Vec<&Made> = made.iter().collect();
        newest.sort_by_key(|made| std::cmp::Reverse(made.resource_version));
        let questions: Vec<SelfSubjectAccessReviewSpec> =
            newest.iter().take(NEWEST).filter_map(|made| question(&made.binding)).collect();
        let asked = questions.iter().map(|question| self.ask(token, question));
        let answers = futures::future::join_all(asked).await;
        if answers.iter().all(|answer| *answer == Settled::Known) {
            Settled::Known
        } else {
            Settled::Unknown
        }
    }

    async fn ask(&self, token: &SecretString, spec: &SelfSubjectAccessReviewSpec) -> Settled {
        for pause in ASK_AGAIN_MILLIS {
            match self.review(token, spec).await {
                Some(true) => return Settled::Known,
                Some(false) => tokio::time::sleep(Duration::from_millis(pause)).await,
                None => return Settled::Unknown,
            }
        }
        Settled::Unknown
    }

    async fn review(
        &self,
        token: &SecretString,
        spec: &SelfSubjectAccessReviewSpec,
    ) -> Option<bool> {
        let review =
            SelfSubjectAccessReview { spec: spec.clone(), ..SelfSubjectAccessReview::default() };
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(AUTHORIZATION, bearer(token)?)
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&review).ok()?)
            .ok()?;
        let answer: SelfSubjectAccessReview = self.bare.request(request).await.ok()?;
        Some(answer.status.is_some_and(|status| status.allowed))
    }
}

/// One thing that the binding surely allows; `None` where its first rule names no single thing.
fn question(binding: &Binding) -> Option<SelfSubjectAccessReviewSpec> {
    let rule = binding.rules.first()?;
    let verb = concrete(rule.verbs.first()?, "get");
    if let Some(url) = rule.non_resource_urls.first() {
        if binding.namespace.is_some() || url.contains('*') {
            return None;
        }
        let attributes = NonResourceAttributes {
            path: Some(url.clone()),
            verb: Some(verb.to_ascii_lowercase()),
        };
        return Some(SelfSubjectAccessReviewSpec {
            non_resource_attributes: Some(attributes),
            resource_attributes: None,
        });
    }
    let full = rule.resources.first()?;
    let (resource, subresource) = match full.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (full.as_str(), None),
    };
    let attributes = ResourceAttributes {
        group: Some(concrete(rule.api_groups.first()?, "").to_owned()),
        resource: Some(concrete(resource, "pods").to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        name: rule.resource_names.first().cloned(),
        namespace: binding.namespace.as_ref().map(Namespace::to_string),
        ..ResourceAttributes::default()
    };
    Some(SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        non_resource_attributes: None,
    })
}

fn concrete<'a>(word: &'a str, instead: &'a str) -> &'a str {
    if word == "*" { instead } else { word }
}
