//! The Pod Security Standards: Kubernetes' own cases, its messages, and what holds for any JSON.

mod conformance;
mod messages;
mod properties;
