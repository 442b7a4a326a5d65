//! What an act's refusal answers: each error of an act becomes a [`Problem`] here and nowhere else.

use nullius_store::StoreError;

use super::problem::{Problem, field_problem};
use crate::{
    acts::{
        access::ExplainRefusal,
        enrol::EnrolError,
        federation::AcceptRefusal,
        logins::LoginError,
        objects::ChangeRefusal,
        people::{RETRY, SignInRefusal},
        sessions::{CredentialRefusal, EndRefusal, RefreshRefusal},
        trail::ReadRefusal,
        trust::RotateRefusal,
    },
    decide::Refusal,
    record::chain,
};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Denied(explanation) => Self::denied(explanation),
            Refusal::ForLooking => Self::refused(text)
                .next("when the hub is ready again, sign in anew: `nullius login`"),
            Refusal::Unrecorded => Self::unavailable(text, 10)
                .next("ask whoever runs the hub to look at its disk and log"),
            Refusal::Store(error) => error.into(),
            Refusal::Fault(error) => Self::internal(error.as_ref()),
        }
    }
}

impl From<ChangeRefusal> for Problem {
    fn from(refusal: ChangeRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            ChangeRefusal::Refused(refusal) => refusal.into(),
            ChangeRefusal::Invalid { fields, .. } => Self::fields(text, fields),
            ChangeRefusal::NobodyInCharge => {
                Self::conflict(text).next("grant the hub role `admin` to somebody else first")
            }
        }
    }
}

impl From<ExplainRefusal> for Problem {
    fn from(refusal: ExplainRefusal) -> Self {
        match refusal {
            ExplainRefusal::Refused(refusal) => refusal.into(),
            ExplainRefusal::Field(field, rule) => field_problem(field, rule),
        }
    }
}

impl From<ReadRefusal> for Problem {
    fn from(refusal: ReadRefusal) -> Self {
        match refusal {
            ReadRefusal::Refused(refusal) => refusal.into(),
            ReadRefusal::After => field_problem("after", &refusal.to_string()),
        }
    }
}

impl From<RotateRefusal> for Problem {
    fn from(refusal: RotateRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            RotateRefusal::Refused(refusal) => refusal.into(),
            RotateRefusal::Reason => field_problem("reason", &text),
            RotateRefusal::NoAuthority(cluster) => Self::conflict(text).next(format!(
                "join it with one: `nullius cluster add {cluster} --manifest --identity`"
            )),
            RotateRefusal::UnderWay(..) => {
                Self::conflict(text).next("see how far it is: `nullius trust show`")
            }
        }
    }
}

impl From<AcceptRefusal> for Problem {
    fn from(refusal: AcceptRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            AcceptRefusal::Refused(refusal) => refusal.into(),
            AcceptRefusal::Reason => field_problem("reason", &text),
            AcceptRefusal::NotForeign(_) => Self::conflict(text)
                .next("a cluster's own bundle is as its agent tells: `nullius trust show`"),
        }
    }
}

impl From<SignInRefusal> for Problem {
    fn from(refusal: SignInRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            SignInRefusal::Wrong => Self::unauthenticated(text)
                .next("check all three; each code works once, so wait for the next one"),
            SignInRefusal::WrongCode => Self::unauthenticated(text),
            SignInRefusal::Wait(seconds) => Self::wait(text, seconds),
            SignInRefusal::Busy(seconds) => Self::unavailable(text, seconds),
            SignInRefusal::Stopped(explanation) => Self::denied(explanation),
            SignInRefusal::Unrecorded(error) => {
                tracing::warn!(%error, "refused a sign-in that could not be recorded");
                Self::unavailable(text, RETRY)
            }
            SignInRefusal::Fault(error) => Self::internal(error.as_ref()),
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let text = error.to_string();
        match error {
            LoginError::Wait(seconds) => Self::wait(text, seconds),
            LoginError::Challenge => field_problem("challenge", &text),
            LoginError::State => field_problem("state", &text),
            LoginError::Redirect => field_problem("redirectUri", &text),
            LoginError::Full => Self::unavailable(text, 60),
            LoginError::Unknown => Self::not_found(text),
            LoginError::Code
            | LoginError::CodeReused(_)
            | LoginError::Verifier
            | LoginError::OtherRedirect
            | LoginError::Outdated => Self::unauthenticated(text),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<RefreshRefusal> for Problem {
    fn from(refusal: RefreshRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            RefreshRefusal::Wait(seconds) => Self::wait(text, seconds),
            RefreshRefusal::UnknownToken | RefreshRefusal::Ended | RefreshRefusal::ForLooking => {
                Self::unauthenticated(text)
            }
            RefreshRefusal::Stopped(explanation) => Self::denied(explanation),
            RefreshRefusal::Store(error) => error.into(),
        }
    }
}

impl From<CredentialRefusal> for Problem {
    fn from(refusal: CredentialRefusal) -> Self {
        match refusal {
            CredentialRefusal::Ended => Self::unauthenticated(refusal.to_string()),
            CredentialRefusal::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<EndRefusal> for Problem {
    fn from(refusal: EndRefusal) -> Self {
        match refusal {
            EndRefusal::NoSession(_) => Self::not_found(refusal.to_string()),
            EndRefusal::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        let text = error.to_string();
        match error {
            EnrolError::Link => Self::not_found(text).next("ask an admin for a new link"),
            EnrolError::Password(_) => field_problem("password", &text),
            EnrolError::Code => field_problem("code", &text),
            EnrolError::TooManyCodes | EnrolError::NotBegun => Self::invalid(text),
            EnrolError::Wait(seconds) => Self::wait(text, seconds),
            EnrolError::Busy(seconds) => Self::unavailable(text, seconds),
            EnrolError::Fault(error) => Self::internal(error.as_ref()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Exists { .. } | StoreError::Conflict { .. } => Self::conflict(text),
            StoreError::NotFound { .. } => Self::not_found(text),
            StoreError::Busy => Self::unavailable(text, 2),
            StoreError::Audit(_) => Self::unavailable(text, 10)
                .next("ask whoever runs the hub to look at its disk and log"),
            error @ StoreError::Database { .. } => {
                tracing::error!(error = %chain(&error), "could not use the store");
                Self::unavailable("the hub's store does not work at present", 10)
                    .next("try again; if it stays, ask whoever runs the hub to look at its disk")
            }
            error => Self::internal(&error),
        }
    }
}
