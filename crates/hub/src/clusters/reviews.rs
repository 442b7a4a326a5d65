//! `kubectl auth can-i`: a SelfSubjectAccessReview is answered by the same decision as the request that it asks
//! about; only where that says yes is the cluster asked as well, so the answer is yes only when both agree.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use nullius_access::{NonResourceReview, ResourceReview, ReviewSpec};
use nullius_proto::kubernetes::{self, AccessReview, AccessReviewSpec, AccessReviewStatus};
use nullius_rbac::RequestInfo;
use nullius_tunnel::TunnelBody;
use serde::Deserialize;
use serde_json::{Value, json};

const GROUP: &str = "authorization.k8s.io";
const KIND: &str = "SelfSubjectAccessReview";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// A question is a few hundred bytes.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// Whether a request asks what its sender may do.
pub(crate) fn is_review(request: &RequestInfo) -> bool {
    request.verb() == "create"
        && request.api_group() == GROUP
        && request.resource() == "selfsubjectaccessreviews"
        && request.subresource().is_empty()
}

/// A question, read once from JSON or protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) spec: ReviewSpec,
    protobuf: Option<AccessReviewSpec>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    spec: ReviewSpec,
}

/// A question that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadableReview {
    #[error("the review is not written in json or protobuf")]
    MediaType,
    #[error("the review cannot be read")]
    Body,
}

impl Question {
    /// Reads the body of a review.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, UnreadableReview> {
        let media_type =
            headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or(""));
        match media_type.split(';').next().unwrap_or_default().trim() {
            JSON => {
                let body: Body =
                    serde_json::from_slice(body).map_err(|_| UnreadableReview::Body)?;
                Ok(Self { spec: body.spec, protobuf: None })
            }
            PROTOBUF => {
                let review: AccessReview = kubernetes::open(body).ok_or(UnreadableReview::Body)?;
                let spec = review.spec.unwrap_or_default();
                Ok(Self { spec: from_protobuf(&spec), protobuf: Some(spec) })
            }
            _ => Err(UnreadableReview::MediaType),
        }
    }

    /// The answer no, in the form that the client understands.
    pub(crate) fn denied(
        &self,
        headers: &HeaderMap,
        version: &str,
        reason: &str,
    ) -> Response<TunnelBody> {
        let accept =
            headers.get(header::ACCEPT).map_or("*/*", |value| value.to_str().unwrap_or(""));
        let wants_json = accept.is_empty() || accept.contains("json") || accept.contains("*/*");
        let api_version = format!("{GROUP}/{version}");
        let (media_type, body) = if wants_json {
            (JSON, self.json(&api_version, reason).to_string().into_bytes())
        } else {
            let status = AccessReviewStatus { allowed: false, reason: reason.to_owned() };
            let spec = self.protobuf.clone().unwrap_or_else(|| to_protobuf(&self.spec));
            let review = AccessReview { spec: Some(spec), status: Some(status) };
            (PROTOBUF, kubernetes::seal(&api_version, KIND, &review))
        };
        let mut response = Response::new(TunnelBody::full(Bytes::from(body)));
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }

    fn json(&self, api_version: &str, reason: &str) -> Value {
        let spec = match (&self.spec.resource_attributes, &self.spec.non_resource_attributes) {
            (Some(asked), _) => json!({"resourceAttributes": {
                "namespace": asked.namespace, "verb": asked.verb, "group": asked.group,
                "resource": asked.resource, "subresource": asked.subresource, "name": asked.name,
            }}),
            (None, Some(asked)) => {
                json!({"nonResourceAttributes": {"path": asked.path, "verb": asked.verb}})
            }
            (None, None) => json!({}),
        };
        json!({
            "apiVersion": api_version,
            "kind": KIND,
            "metadata": {},
            "spec": spec,
            "status": {"allowed": false, "reason": reason},
        })
    }
}

fn from_protobuf(spec: &AccessReviewSpec) -> ReviewSpec {
    ReviewSpec {
        resource_attributes: spec.resource_attributes.as_ref().map(|asked| ResourceReview {
            namespace: asked.namespace.clone(),
            verb: asked.verb.clone(),
            group: asked.group.clone(),
            resource: asked.resource.clone(),
            subresource: asked.subresource.clone(),
            name: asked.name.clone(),
        }),
        non_resource_attributes: spec
            .non_resource_attributes
            .as_ref()
            .map(|asked| NonResourceReview { path: asked.path.clone(), verb: asked.verb.clone() }),
    }
}

fn to_protobuf(spec: &ReviewSpec) -> AccessReviewSpec {
    AccessReviewSpec {
        resource_attributes: spec.resource_attributes.as_ref().map(|asked| {
            kubernetes::ResourceAttributes {
                namespace: asked.namespace.clone(),
                verb: asked.verb.clone(),
                group: asked.group.clone(),
                version: String::new(),
                resource: asked.resource.clone(),
                subresource: asked.subresource.clone(),
                name: asked.name.clone(),
            }
        }),
        non_resource_attributes: spec.non_resource_attributes.as_ref().map(|asked| {
            kubernetes::NonResourceAttributes { path: asked.path.clone(), verb: asked.verb.clone() }
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())])
    }

    #[test]
    fn the_same_question_is_read_from_both_forms() {
        let body = br#"{"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"namespace":"shop","verb":"get","resource":"pods"}}}"#;
        let json = Question::read(&headers("application/json; charset=utf-8"), body).unwrap();
        let review = AccessReview { spec: Some(to_protobuf(&json.spec)), status: None };
        let bytes = kubernetes::seal("authorization.k8s.io/v1", KIND, &review);
        let protobuf = Question::read(&headers(PROTOBUF), &bytes).unwrap();
        assert_eq!(json.spec, protobuf.spec);
        assert_eq!(json.spec.resource_attributes.as_ref().unwrap().namespace, "shop");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(Question::read(&headers(JSON), b"{"), Err(UnreadableReview::Body));
        assert_eq!(Question::read(&headers(PROTOBUF), b"{}"), Err(UnreadableReview::Body));
        assert_eq!(
            Question::read(&headers("application/cbor"), b""),
            Err(UnreadableReview::MediaType)
        );
        assert_eq!(Question::read(&HeaderMap::new(), b"{}"), Err(UnreadableReview::MediaType));
    }
}
