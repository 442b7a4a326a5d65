//! Guards the pages' forms: each is bound to the browser that got it, and taken only from our own pages.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use nullius_pki::random_bytes;

use crate::mark::{Purpose, is_marked, mark};

/// Binds forms to a browser that is not signed in.
pub(crate) const FORM_COOKIE: &str = "__Host-nullius-form";
/// The session of a browser.
pub(crate) const SESSION_COOKIE: &str = "__Host-nullius-session";

/// A cookie of a request.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// The header that sets a cookie until the browser closes, for our own pages alone.
#[expect(clippy::expect_used, reason = "names and values are base64url and fixed text")]
pub(crate) fn set_cookie(name: &str, value: &str, max_age: Option<u32>) -> HeaderValue {
    let age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    HeaderValue::from_str(&format!(
        "{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{age}"
    ))
    .expect("a cookie of base64url is a header value")
}

/// The browser's form cookie, made where there is none.
pub(crate) struct FormKey {
    value: String,
    pub(crate) is_new: bool,
}

impl FormKey {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let known = cookie(headers, FORM_COOKIE).filter(|value| value.len() == 43);
        match known {
            Some(value) => Self { value: value.to_owned(), is_new: false },
            None => Self { value: URL_SAFE_NO_PAD.encode(random_bytes::<32>()), is_new: true },
        }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        set_cookie(FORM_COOKIE, &self.value, None)
    }

    /// What the form carries; nobody else can know it, nor make it fit another browser.
    pub(crate) fn token(&self, key: &[u8; 32]) -> String {
        mark(key, Purpose::Form, &self.value)
    }
}

/// Why a form is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error("the form was sent from another site")]
    Origin,
    #[error("the form has ended or belongs to another browser")]
    Token,
}

/// Checks that our own page sent the form and that this browser got it.
pub(crate) fn check(
    headers: &HeaderMap,
    host: Option<&str>,
    token: &str,
    key: &[u8; 32],
) -> Result<(), FormError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let same_site = text("sec-fetch-site").map(|site| site == "same-origin");
    let same_origin =
        text("origin").map(|origin| host.is_some_and(|host| origin == format!("https://{host}")));
    if same_site == Some(false)
        || same_origin == Some(false)
        || (same_site, same_origin) == (None, None)
    {
        return Err(FormError::Origin);
    }
    let form = FormKey::of(headers);
    let fits = is_marked(key, Purpose::Form, &form.value, token);
    if form.is_new || !fits { Err(FormError::Token) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn only_our_own_page_in_the_same_browser_is_heard() {
        let key = [7; 32];
        let form = FormKey::of(&HeaderMap::new());
        assert!(form.is_new);
        let cookie = format!("other=1; {FORM_COOKIE}={}", form.value);
        let token = form.token(&key);
        let host = Some("hub.example:8443");
        let origin = "https://hub.example:8443";
        let sent = |pairs: &[(&'static str, &str)]| check(&headers(pairs), host, &token, &key);
        assert_eq!(sent(&[("cookie", &cookie), ("origin", origin)]), Ok(()));
        assert_eq!(sent(&[("cookie", &cookie), ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(sent(&[("cookie", &cookie)]), Err(FormError::Origin));
        assert_eq!(
            sent(&[("cookie", &cookie), ("origin", "https://evil.example")]),
            Err(FormError::Origin)
        );
        assert_eq!(sent(&[("cookie", &cookie), ("origin", "null")]), Err(FormError::Origin));
        assert_eq!(
            sent(&[("cookie", &cookie), ("origin", origin), ("sec-fetch-site", "same-site")]),
            Err(FormError::Origin)
        );
        assert_eq!(sent(&[("origin", origin)]), Err(FormError::Token));
        let other = format!("{FORM_COOKIE}={}", FormKey::of(&HeaderMap::new()).value);
        assert_eq!(sent(&[("cookie", &other), ("origin", origin)]), Err(FormError::Token));
        assert_eq!(
            check(&headers(&[("cookie", &cookie), ("origin", origin)]), host, &token, &[8; 32]),
            Err(FormError::Token)
        );
    }
}
