//! How people prove who they are: passwords, one-time codes, and what keeps both from being guessed.
//!
//! Everything is a function of its arguments: the time is passed in, what is stored is given and given back, and the
//! verdicts are values. Hashing a password takes tens of milliseconds of processor time by design; call it from a
//! thread that may block.

mod device;
mod lockout;
mod password;
mod pkce;
mod signin;
mod totp;

pub use device::{
    DEVICE_CODE_TTL, DeviceAuthorization, DeviceGrant, DeviceState, PollAnswer, UserCode,
    UserCodeError,
};
pub use lockout::{Lockout, SignInEvent, SourceNetwork, Verdict};
pub use password::{
    PASSWORD_MAX, PASSWORD_MIN, PasswordError, PasswordHash, check_new_password, hash_password,
    verify_password,
};
pub use pkce::{PkceChallenge, PkceError, new_pkce_verifier};
pub use signin::{
    SignInError, SignInReason, SignedIn, StoredFactors, UserStanding, sign_in, step_up,
};
pub use totp::{TotpEnrolment, TotpError, TotpSecret};
