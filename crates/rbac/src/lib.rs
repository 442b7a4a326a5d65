//! Kubernetes' access semantics, exactly: what a request asks for, and whether a rule of a role allows it.
//!
//! [`RequestInfo`] reads method, path and query as the API server's request-info factory does, and refuses
//! whatever two readers could understand differently. [`allows`] is the RBAC authorizer's rule match,
//! [`covers()`] its escalation check, [`rule_errors`] its validation. Nothing here knows people or grants.

#![forbid(unsafe_code)]

mod attributes;
mod covers;
mod matching;
mod query;
mod request;
mod validation;

pub use attributes::{Attributes, ResourceAttributes, Target};
pub use covers::{Missing, covers};
pub use matching::{Scope, allows, first_match};
pub use request::{MAX_TARGET_BYTES, Method, RequestInfo, UnreadablePath};
pub use validation::{RuleError, rule_errors};
