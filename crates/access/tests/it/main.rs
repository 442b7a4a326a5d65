//! Judgements over a small fleet: two clusters, a few people, grants of every form.

mod fleet;
mod hub;
mod kube;
mod listing;
mod properties;
mod session;
mod validation;
