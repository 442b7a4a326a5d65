//! The admission webhook without its sockets: bytes of an `AdmissionReview` in, a decision, bytes out.
//!
//! [`InForce`] is what policy files became, [`Engine`] is that with the kinds of the cluster. A [`Review`] is asked step by
//! step: [`Review::step`] decides, or says which facts it lacks; whoever has sockets fetches them and asks again. What cannot
//! be read, known or decided in time is denied in an answer that an API server takes, since an error would count as the
//! webhook's failure, which a policy may ignore.

mod answer;
mod files;
mod in_force;
pub mod inject;
mod json;
pub mod native;
mod rules;
mod step;

#[cfg(test)]
mod tests;

pub use crate::state::picks;
pub use answer::{Answer, answer, refuse};
pub use files::{FileFault, PolicyFile, check};
pub use in_force::{Engine, InForce, Trouble};
pub use json::{BODY_MAX, NotRead};
pub use step::{Fact, Review, Step};

/// One of the webhook's entries in the API server: what it does, and what becomes of a request that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Policies that validate; without an answer a request is refused.
    ValidateFail,
    /// Policies that validate; without an answer a request passes.
    ValidateIgnore,
    /// Policies that mutate; without an answer a request is refused.
    MutateFail,
    /// Policies that mutate; without an answer a request passes.
    MutateIgnore,
    /// Pods that say that they have a proxy of their own, which gets it; without an answer a pod is refused, since it would have no traffic.
    InjectFail,
    /// Pods of namespaces that say so; without an answer a pod begins without one, and its node leads it.
    InjectIgnore,
    /// The Pod Security Standards with exceptions, for pods of namespaces whose label was lowered; without an answer a request is
    /// refused.
    PodSecurity,
}

impl Entry {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ValidateFail,
        Self::ValidateIgnore,
        Self::MutateFail,
        Self::MutateIgnore,
        Self::PodSecurity,
        Self::InjectFail,
        Self::InjectIgnore,
    ];

    /// The entry in a path and in the name that an API server knows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidateFail => "validate-fail",
            Self::ValidateIgnore => "validate-ignore",
            Self::MutateFail => "mutate-fail",
            Self::MutateIgnore => "mutate-ignore",
            Self::PodSecurity => "pod-security",
            Self::InjectFail => "inject-fail",
            Self::InjectIgnore => "inject-ignore",
        }
    }

    /// The entry of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entry| entry.as_str() == word)
    }

    /// Whether policies that mutate are asked.
    #[must_use]
    pub fn mutates(self) -> bool {
        matches!(self, Self::MutateFail | Self::MutateIgnore)
    }

    /// The API's word for what becomes of a request that nobody answers.
    #[must_use]
    pub fn failure_policy(self) -> &'static str {
        match self {
            Self::ValidateFail | Self::MutateFail | Self::PodSecurity | Self::InjectFail => "Fail",
            Self::ValidateIgnore | Self::MutateIgnore | Self::InjectIgnore => "Ignore",
        }
    }

    /// Its place among all of them.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::ValidateFail => 0,
            Self::ValidateIgnore => 1,
            Self::MutateFail => 2,
            Self::MutateIgnore => 3,
            Self::PodSecurity => 4,
            Self::InjectFail => 5,
            Self::InjectIgnore => 6,
        }
    }
}
