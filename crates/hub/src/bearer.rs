//! The credential that a call carries.

use http::{HeaderMap, header};

/// No bearer token, or one that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// There is none.
    #[error("no credential was sent; use the kubeconfig that `nullius kubeconfig` writes")]
    Missing,
    /// More than one, or not of this form.
    #[error(
        "the authorization header is not one bearer token; passwords and other schemes are not accepted"
    )]
    Unreadable,
}

/// The one bearer token of a call (RFC 6750 section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, BearerError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(BearerError::Missing)?;
    if values.next().is_some() {
        return Err(BearerError::Unreadable);
    }
    let value = value.to_str().map_err(|_| BearerError::Unreadable)?;
    let (scheme, token) = value.split_once(' ').ok_or(BearerError::Unreadable)?;
    let plain = !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case("bearer") && plain {
        Ok(token)
    } else {
        Err(BearerError::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn only_one_plain_bearer_token_is_read() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Ok("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Ok("abc"));
        assert_eq!(bearer(&headers(&[])), Err(BearerError::Missing));
        for bad in [
            &["Basic YTpi"][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(bearer(&headers(bad)), Err(BearerError::Unreadable), "{bad:?}");
        }
    }
}
