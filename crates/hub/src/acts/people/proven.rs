//! Who was proven to be whom, and why somebody was not.

use nullius_model::{Explanation, Proof, UserName};
use nullius_store::{LoginCode, StoreError};

use crate::SignInOutcome;

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) user: UserName,
    pub(crate) proof: Proof,
}

/// Somebody who proved who they are elsewhere and agreed to this sign-in, with the code that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redeemed {
    pub(crate) proven: Proven,
    pub(crate) login: LoginCode,
}

/// Seconds after which the audit may be written again.
pub(crate) const RETRY: u32 = 10;

/// Why nobody is signed in, in words for whoever tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInRefusal {
    #[error("user, password or code is wrong")]
    Wrong,
    #[error("the code is wrong or was used before; wait for the next one")]
    WrongCode,
    #[error("too many tries: wait {0} s")]
    Wait(u32),
    #[error("the hub is busy: try again in {0} s")]
    Busy(u32),
    #[error("{}", .0.sentence)]
    Stopped(Explanation),
    #[error("the hub cannot record sign-ins at present: try again in {RETRY} s")]
    Unrecorded(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the hub could not do this because of a fault of its own")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SignInRefusal {
    /// How the metrics count it.
    pub(super) fn outcome(&self) -> SignInOutcome {
        match self {
            Self::Wrong | Self::WrongCode | Self::Stopped(_) => SignInOutcome::Refused,
            Self::Wait(_) | Self::Busy(_) | Self::Unrecorded(_) | Self::Fault(_) => {
                SignInOutcome::HeldBack
            }
        }
    }

    pub(crate) fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl From<StoreError> for SignInRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            error @ (StoreError::Audit(_) | StoreError::Database { .. }) => {
                Self::Unrecorded(Box::new(error))
            }
            StoreError::Busy => Self::Busy(2),
            error => Self::fault(error),
        }
    }
}
