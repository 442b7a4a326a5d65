//! What can go wrong in somebody's network.

use std::io;

use nullius_nft::NftError;

/// Why traffic is not led. Until it is, rules that stand let nothing pass.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace: it must be one, and still be there")]
    Enter(#[source] io::Error),
    /// The thread for the work cannot be started, or ended early.
    #[error("cannot work in the network namespace")]
    Thread(#[source] io::Error),
    /// The rules are not in force.
    #[error("cannot change the rules that lead traffic")]
    Rules(#[source] NftError),
    /// The routes are not in force.
    #[error("cannot change {what}")]
    Routes {
        /// Which of them.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A port of the proxy cannot be listened on.
    #[error("cannot listen on port {port} inside of the pod: no other process there may use it")]
    Listen {
        /// Which one.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
}
