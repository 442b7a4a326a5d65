//! When a token is renewed, and the agent's own that are.

use std::time::Duration;

use nullius_kube::{MintedToken, OwnAccount, OwnTokens, SharedToken};
use nullius_model::Timestamp;

use crate::backoff::{Backoff, random};

/// Whether a token has been used for less than 80 % of its life.
pub(crate) fn is_fresh(token: &MintedToken, now: Timestamp) -> bool {
    let life = token.expires_at.duration_since(token.issued_at);
    let used = now.duration_since(token.issued_at);
    !used.is_negative() && used < life * 4 / 5
}

/// Replaces an own account's token at half of its life by one of so many seconds, for as long as the process lives.
/// The life is never taken from the token before: its times are rounded, and API servers give no less than 600 s.
pub(crate) async fn keep_renewed(
    tokens: OwnTokens,
    account: OwnAccount,
    shared: SharedToken,
    seconds: i64,
    first: MintedToken,
) {
    let mut current = first;
    let mut backoff = Backoff::default();
    loop {
        tokio::time::sleep(half_left(&current, Timestamp::now())).await;
        match tokens.mint(account, None, seconds).await {
            Ok(token) => {
                shared.replace(&token.token);
                current = token;
                backoff.reset();
            }
            Err(error) => {
                let wait = backoff.after_failure(random());
                tracing::warn!(account = account.name(), %error, "cannot renew a token, try again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn half_left(token: &MintedToken, now: Timestamp) -> Duration {
    let life = token.expires_at.duration_since(token.issued_at);
    let renew = token.issued_at.saturating_add(life / 2).unwrap_or(now);
    Duration::try_from(renew.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_token_is_used_for_four_fifths_of_its_life() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let token = MintedToken {
            token: SecretString::from("t"),
            issued_at: at("2026-01-01T00:00:00Z"),
            expires_at: at("2026-01-01T00:10:00Z"),
        };
        assert!(is_fresh(&token, at("2026-01-01T00:07:59Z")));
        assert!(!is_fresh(&token, at("2026-01-01T00:08:01Z")));
        assert!(
            !is_fresh(&token, at("2025-12-31T23:59:59Z")),
            "a clock that went back trusts nothing"
        );
        assert_eq!(half_left(&token, at("2026-01-01T00:04:00Z")), Duration::from_secs(60));
    }
}
