//! People prove who they are. Everything that can fail is audited with its reason, and whoever tried learns only that
//! it failed.

mod attempts;
mod factors;
mod proven;
mod repair;
mod sign_in;

pub(crate) use factors::totp_name;
pub(crate) use proven::{Proven, RETRY, Redeemed, SignInRefusal};
