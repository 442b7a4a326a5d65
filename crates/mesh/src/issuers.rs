//! Issuers of tokens, with the keys by which the tokens that callers show are verified; what is not verified is as if it was not shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header};
use nullius_intention::Token;
use nullius_model::Timestamp;
use nullius_pki::{IssuedToken, IssuedTokenError, TokenIssuer, TokenTimes, VerifyError};
use tokio::sync::Notify;

/// Issuers that are asked for at once.
const ASKED_MAX: usize = 64;

/// Issuers whose tokens count.
#[derive(Debug, Default)]
pub struct Issuers {
    all: BTreeMap<Box<str>, Option<IssuerKeys>>,
    asks: Arc<KeyAsks>,
}

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// The keys themselves.
    pub keys: Arc<TokenIssuer>,
    /// Until when they count, unless they are fetched again before.
    pub until: Option<Timestamp>,
}

/// Tokens that name keys which nobody knows: whoever fetches keys hears of it.
#[derive(Debug, Default)]
pub struct KeyAsks {
    issuers: Mutex<BTreeSet<Box<str>>>,
    news: Notify,
}

/// What a request shows beside the identity of who sends it.
#[derive(Debug)]
pub(crate) enum Shown {
    /// No token.
    Nothing,
    /// One that its issuer signed.
    Token(Box<Proven>),
    /// One that proves nothing, and why in a word.
    Refused(&'static str),
}

/// A token that its issuer signed, and until when that counts.
#[derive(Debug)]
pub(crate) struct Proven {
    token: Token,
    times: TokenTimes,
    until: Option<Timestamp>,
}

impl Issuers {
    /// Whether they are the same ones, or none at all.
    pub(crate) fn are(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.all.is_empty() && other.all.is_empty())
    }

    /// These, some perhaps without keys yet; who cannot verify a token for want of a key tells it to `asks`.
    pub fn new(
        all: impl IntoIterator<Item = (Box<str>, Option<IssuerKeys>)>,
        asks: Arc<KeyAsks>,
    ) -> Self {
        Self { all: all.into_iter().collect(), asks }
    }

    /// Who they are, with keys or without.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(|name| &**name)
    }

    /// Verifies what a request shows; its times are for [`Shown::at`].
    pub(crate) fn verify(&self, headers: &HeaderMap) -> Shown {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let text = match (all.next(), all.next()) {
            (None, _) => return Shown::Nothing,
            (Some(value), None) => bearer(value.as_bytes()),
            // Answered with 400 before anybody asks here.
            (Some(_), Some(_)) => return Shown::Refused("malformed"),
        };
        match text {
            None => Shown::Nothing,
            Some(text) => self.token(text).unwrap_or_else(Shown::Refused),
        }
    }

    fn token(&self, text: &str) -> Result<Shown, &'static str> {
        let word = |error: IssuedTokenError| error.as_str();
        let issuer = IssuedToken::claimed_issuer(text).map_err(word)?;
        let (name, keys) = self.all.get_key_value(&*issuer).ok_or("unknown-issuer")?;
        let Some(IssuerKeys { keys, until }) = keys else {
            self.asks.ask(name);
            return Err("no-keys");
        };
        let verified = keys.verify(text).map_err(|error| {
            if matches!(error, IssuedTokenError::Token(VerifyError::UnknownKey(_))) {
                self.asks.ask(name);
            }
            word(error)
        })?;
        let IssuedToken { issuer, audiences, claims, times } = verified;
        let token = Token { issuer, audiences, claims };
        Ok(Shown::Token(Box::new(Proven { token, times, until: *until })))
    }
}

impl Shown {
    /// The token at a time, or why there is none.
    pub(crate) fn at(&self, now: Timestamp) -> Result<&Proven, Option<&'static str>> {
        match self {
            Self::Nothing => Err(None),
            Self::Refused(why) => Err(Some(why)),
            Self::Token(proven) if proven.until.is_some_and(|until| now >= until) => {
                Err(Some("no-keys"))
            }
            Self::Token(proven) => match proven.times.holds(now) {
                Ok(()) => Ok(proven),
                Err(error) => Err(Some(error.as_str())),
            },
        }
    }
}

impl Proven {
    /// As what judges takes it.
    pub(crate) fn tokens(&self) -> &[Token] {
        std::slice::from_ref(&self.token)
    }

    /// Who it is about, told from subjects of other issuers.
    pub(crate) fn subject(&self) -> Option<String> {
        let subject = self.token.claims.get("sub")?.as_str()?;
        Some(format!("{}\n{subject}", self.token.issuer))
    }

    /// When it counts no more.
    pub(crate) fn ends(&self) -> Timestamp {
        let ends = self.times.ends();
        self.until.map_or(ends, |until| until.min(ends))
    }
}

impl KeyAsks {
    /// Somebody wants keys of an issuer.
    pub fn ask(&self, issuer: &str) {
        let mut all = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < ASKED_MAX && all.insert(issuer.into()) {
            self.news.notify_one();
        }
    }

    /// Waits until somebody does, and says of which issuers.
    pub async fn asked(&self) -> BTreeSet<Box<str>> {
        loop {
            let all =
                std::mem::take(&mut *self.issuers.lock().unwrap_or_else(PoisonError::into_inner));
            if !all.is_empty() {
                return all;
            }
            self.news.notified().await;
        }
    }
}

/// The token of `Authorization: Bearer` (RFC 6750); nothing where that is another scheme.
fn bearer(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_token_is_what_bearer_says_and_nothing_else() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer   a.b.c ", Some("a.b.c")),
            ("Bearer", None),
            ("Basic a.b.c", None),
            ("Bearera.b.c", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token, "{value}");
        }
        // Two in one are none.
        assert_eq!(bearer(b"Bearer a.b.c, Bearer d.e.f"), Some("a.b.c, Bearer d.e.f"));
        let issuers = Issuers::default();
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
        };
        let told = issuers.verify(&headers("Bearer a.b.c, Bearer d.e.f"));
        assert!(matches!(told, Shown::Refused("malformed")), "{told:?}");
        assert!(matches!(issuers.verify(&HeaderMap::new()), Shown::Nothing));
    }

    #[tokio::test]
    async fn who_is_asked_for_again_and_again_is_told_once() {
        let asks = KeyAsks::default();
        (0..1_000).for_each(|number| asks.ask(&format!("https://{}", number % 200)));
        assert_eq!(asks.asked().await.len(), ASKED_MAX);
        let next = asks.asked();
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        asks.ask("https://one");
        assert_eq!(next.await, BTreeSet::from(["https://one".into()]));
    }
}
