//! Where a browser may be sent back to: a program on its own machine.

use std::net::{IpAddr, SocketAddr};

use super::LoginError;

/// The loopback address to which a browser goes back, and nothing else (RFC 8252 section 7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loopback {
    uri: String,
    at: SocketAddr,
}

impl Loopback {
    /// Reads `http://127.0.0.1:PORT/path` or `http://[::1]:PORT/path`, written exactly so.
    pub(crate) fn parse(uri: &str) -> Result<Self, LoginError> {
        let rest = uri.strip_prefix("http://").ok_or(LoginError::Redirect)?;
        let (authority, path) = rest.split_once('/').ok_or(LoginError::Redirect)?;
        let at: SocketAddr = authority.parse().map_err(|_| LoginError::Redirect)?;
        let literal = [
            IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ];
        let plain_path = path.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~/".contains(&c));
        let exact = literal.contains(&at.ip()) && at.port() != 0 && at.to_string() == authority;
        if exact && plain_path && uri.len() <= 256 {
            Ok(Self { uri: uri.to_owned(), at })
        } else {
            Err(LoginError::Redirect)
        }
    }

    /// The address as it was asked for.
    pub(super) fn as_str(&self) -> &str {
        &self.uri
    }

    /// The address, for people to see.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at
    }

    /// `http://127.0.0.1:PORT`, for a content security policy; none for IPv6, which policies cannot name.
    pub(crate) fn policy_source(&self) -> Option<String> {
        self.at.is_ipv4().then(|| format!("http://{}", self.at))
    }

    /// The address to go to, with parameters.
    pub(super) fn with(&self, parameters: &[(&str, &str)]) -> String {
        let query: url::form_urlencoded::Serializer<'_, String> =
            url::form_urlencoded::Serializer::new(String::new());
        let query = parameters
            .iter()
            .fold(query, |mut query, (name, value)| {
                query.append_pair(name, value);
                query
            })
            .finish();
        format!("{}?{query}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_literals_are_redirected_to() {
        for good in ["http://127.0.0.1:4711/", "http://[::1]:1/", "http://127.0.0.1:65535/callback"]
        {
            assert!(Loopback::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "https://127.0.0.1:4711/",
            "http://127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://localhost:4711/",
            "http://127.0.0.2:4711/",
            "http://127.1:4711/",
            "http://0x7f.0.0.1:4711/",
            "http://127.0.0.1:4711",
            "http://127.0.0.1:4711@evil.example/",
            "http://evil.example/?http://127.0.0.1:4711/",
            "http://127.0.0.1:4711/?x=1",
            "http://127.0.0.1:4711/#x",
            "http://127.0.0.1:4711/\r\nSet-Cookie:a",
            "http://127.0.0.1:04711/",
            "http://[::ffff:127.0.0.1]:4711/",
            "//127.0.0.1:4711/",
            "javascript:alert(1)",
        ] {
            assert_eq!(Loopback::parse(bad).err(), Some(LoginError::Redirect), "{bad}");
        }
    }
}
