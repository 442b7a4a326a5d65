//! What binds a session to its client: refresh tokens that only the hub can make, and marks that only the client can
//! prove.

use nullius_access::session::ClientMark;
use nullius_authn::{PkceChallenge, PkceError};
use nullius_model::SessionId;
use secrecy::SecretString;

use crate::mark::{Purpose, is_marked, mark};

/// A refresh token: session, generation and a code over both that only the hub can make, so that nothing
/// of it has to be stored and the one of a generation can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) session: SessionId,
    pub(crate) generation: u64,
}

const REFRESH_PREFIX: &str = "nlr1";

impl RefreshToken {
    pub(crate) fn encode(&self, key: &[u8; 32]) -> String {
        let Self { session, generation } = self;
        let code = mark(key, Purpose::RefreshToken, self.marked());
        format!("{REFRESH_PREFIX}.{session}.{generation}.{code}")
    }

    /// Reads a token that this hub made; anything else is nothing.
    pub(crate) fn decode(text: &str, key: &[u8; 32]) -> Option<Self> {
        let mut parts = text.split('.');
        let (prefix, session, generation, code) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if prefix != REFRESH_PREFIX || parts.next().is_some() || generation.starts_with(['+', '0'])
        {
            return None;
        }
        let token = Self { session: session.parse().ok()?, generation: generation.parse().ok()? };
        is_marked(key, Purpose::RefreshToken, token.marked(), code).then_some(token)
    }

    /// What its code is over.
    fn marked(&self) -> Vec<u8> {
        [self.session.as_str().as_bytes(), &self.generation.to_be_bytes()].concat()
    }
}

/// What a client promises at sign-in to prove at each refresh: the hash of a secret that it keeps (as in RFC 7636,
/// S256). The address does not count: a laptop moves.
pub(crate) fn promised(challenge: &str) -> Result<ClientMark, PkceError> {
    challenge.parse::<PkceChallenge>().map(|challenge| ClientMark(challenge.to_text()))
}

/// What a client proves that shows its secret.
pub(crate) fn proven(secret: &SecretString) -> ClientMark {
    ClientMark(PkceChallenge::of(secret).to_text())
}

/// The mark of the pages' own sessions, which get no refresh token; no secret has it.
pub(crate) fn no_client() -> ClientMark {
    ClientMark(String::new())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_refresh_token_reads_back_and_nothing_forged_does() {
        let key = [1; 32];
        let token = RefreshToken { session: SessionId::from_bits(5), generation: 7 };
        let text = token.encode(&key);
        // Tokens that were given before an update are good after it.
        let code = "IpuJoC8crZD-i4-0R2TNM3gkEKGgxszrCnn1yX1Pwek";
        assert_eq!(text, format!("nlr1.{:032x}.7.{code}", 5));
        assert_eq!(RefreshToken::decode(&text, &key), Some(token));
        assert_eq!(RefreshToken::decode(&text, &[2; 32]), None);
        assert_eq!(RefreshToken::decode(&text.replace(".7.", ".8."), &key), None);
        assert_eq!(RefreshToken::decode(&text.replace(".7.", ".07."), &key), None);
        assert_eq!(RefreshToken::decode(&format!("{text}.x"), &key), None);
        assert_eq!(RefreshToken::decode("", &key), None);
    }
}
