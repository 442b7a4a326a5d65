//! The few Kubernetes messages that the hub reads itself, in Kubernetes' protobuf form.
//!
//! Field numbers are those of k8s.io/api `authorization/v1/generated.proto` and apimachinery's
//! `runtime/generated.proto`; the envelope is [`MAGIC`] followed by [`Unknown`].

use prost::Message;

/// The first bytes of every object in Kubernetes' protobuf form.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// The envelope (runtime.Unknown).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Unknown {
    /// `apiVersion` and `kind`.
    #[prost(message, optional, tag = "1")]
    pub type_meta: Option<TypeMeta>,
    /// The object itself.
    #[prost(bytes = "vec", tag = "2")]
    pub raw: Vec<u8>,
}

/// `apiVersion` and `kind`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TypeMeta {
    /// Group and version.
    #[prost(string, tag = "1")]
    pub api_version: String,
    /// Kind.
    #[prost(string, tag = "2")]
    pub kind: String,
}

/// SelfSubjectAccessReview without its metadata.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AccessReview {
    /// The question.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<AccessReviewSpec>,
    /// The answer.
    #[prost(message, optional, tag = "3")]
    pub status: Option<AccessReviewStatus>,
}

/// SelfSubjectAccessReviewSpec.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AccessReviewSpec {
    /// A question about objects.
    #[prost(message, optional, tag = "1")]
    pub resource_attributes: Option<ResourceAttributes>,
    /// A question about another path.
    #[prost(message, optional, tag = "2")]
    pub non_resource_attributes: Option<NonResourceAttributes>,
}

/// ResourceAttributes; the version plays no part in a decision.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResourceAttributes {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Verb.
    #[prost(string, tag = "2")]
    pub verb: String,
    /// API group.
    #[prost(string, tag = "3")]
    pub group: String,
    /// API version.
    #[prost(string, tag = "4")]
    pub version: String,
    /// Resource.
    #[prost(string, tag = "5")]
    pub resource: String,
    /// Subresource.
    #[prost(string, tag = "6")]
    pub subresource: String,
    /// Object name.
    #[prost(string, tag = "7")]
    pub name: String,
}

/// NonResourceAttributes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NonResourceAttributes {
    /// Path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Verb.
    #[prost(string, tag = "2")]
    pub verb: String,
}

/// SubjectAccessReviewStatus.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AccessReviewStatus {
    /// Whether it is allowed.
    #[prost(bool, tag = "1")]
    pub allowed: bool,
    /// Why.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// Reads an object in its envelope; none where it is none, or none of this type.
pub fn open<T: Message + Default>(bytes: &[u8]) -> Option<T> {
    let envelope = Unknown::decode(bytes.strip_prefix(MAGIC)?).ok()?;
    T::decode(envelope.raw.as_slice()).ok()
}

/// Writes an object in its envelope.
pub fn seal(api_version: &str, kind: &str, object: &impl Message) -> Vec<u8> {
    let type_meta = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let envelope = Unknown { type_meta: Some(type_meta), raw: object.encode_to_vec() };
    let mut bytes = MAGIC.to_vec();
    bytes.extend(envelope.encode_to_vec());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_opens_again_and_nothing_else_does() {
        let status = AccessReviewStatus { allowed: true, reason: "because".to_owned() };
        let review = AccessReview { spec: None, status: Some(status) };
        let bytes = seal("authorization.k8s.io/v1", "SelfSubjectAccessReview", &review);
        assert_eq!(open::<AccessReview>(&bytes), Some(review));
        assert_eq!(open::<AccessReview>(b"{}"), None);
        assert_eq!(open::<AccessReview>(b"k8s\0\xff\xff"), None);
    }
}
