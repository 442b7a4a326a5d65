//! Keyed marks: what the hub alone can make, so that it recognizes a text without keeping it, or keeps what stands for a
//! short one without letting anybody guess it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_pki::constant_time_eq;
use sha2::{Digest, Sha256};

/// What a mark is for; marks of one purpose are never those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The request of a command line that a browser completes.
    BrowserLogin,
    /// The short code of a device.
    UserCode,
    /// The name that somebody tried to sign in with.
    TriedName,
    /// The refresh token of a session.
    RefreshToken,
    /// The form of a page that one browser got.
    Form,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::BrowserLogin => b"browser-login\0",
            Self::UserCode => b"user-code\0",
            Self::TriedName => b"tried-name\0",
            Self::RefreshToken => b"refresh\0",
            Self::Form => b"form\0",
        }
    }
}

/// The mark of a text, in base64url.
pub(crate) fn mark(key: &[u8; 32], purpose: Purpose, text: impl AsRef<[u8]>) -> String {
    let inner = Sha256::new().chain_update(key).chain_update(purpose.label()).chain_update(text);
    let outer = Sha256::new().chain_update(key).chain_update(inner.finalize());
    URL_SAFE_NO_PAD.encode(outer.finalize())
}

/// Whether a mark is the one of a text.
pub(crate) fn is_marked(
    key: &[u8; 32],
    purpose: Purpose,
    text: impl AsRef<[u8]>,
    found: &str,
) -> bool {
    constant_time_eq(mark(key, purpose, text).as_bytes(), found.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_key_purpose_and_text() {
        let of = |key, purpose, text| mark(&[key; 32], purpose, text);
        let one = of(1, Purpose::UserCode, "BCDF-GHJK");
        assert!(is_marked(&[1; 32], Purpose::UserCode, "BCDF-GHJK", &one));
        assert_ne!(one, of(2, Purpose::UserCode, "BCDF-GHJK"));
        assert_ne!(one, of(1, Purpose::TriedName, "BCDF-GHJK"));
        assert_ne!(one, of(1, Purpose::UserCode, "BCDF-GHJL"));
    }
}
