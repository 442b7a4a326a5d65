//! Upgrades: which protocols there are, what a client must have asked for, and what counts as agreed.
//!
//! Only `SPDY/3.1` and `websocket` exist. A pipe opens after a 101 that names the asked protocol, proves that it
//! read the WebSocket key and chose one of the offered subprotocols; every other answer is an answer.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request};
use sha1::{Digest as _, Sha1};

use crate::Refusal;

/// A protocol that a connection can change to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// Kubernetes' first streaming protocol.
    Spdy,
    /// RFC 6455.
    WebSocket,
}

impl Upgrade {
    /// The token of the `Upgrade` header.
    pub fn token(self) -> &'static str {
        match self {
            Self::Spdy => "SPDY/3.1",
            Self::WebSocket => "websocket",
        }
    }

    /// The token in lower case, as it stands in a request's assertion.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spdy => "spdy/3.1",
            Self::WebSocket => "websocket",
        }
    }

    /// Reads a token in any case.
    pub fn parse(token: &[u8]) -> Option<Self> {
        [Self::Spdy, Self::WebSocket]
            .into_iter()
            .find(|known| token.eq_ignore_ascii_case(known.token().as_bytes()))
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// What a client asked for, as far as the answer must fit to it.
#[derive(Debug, Clone)]
pub(crate) struct UpgradeRequest {
    pub(crate) protocol: Upgrade,
    key: Option<HeaderValue>,
    offered: Vec<HeaderValue>,
}

impl UpgradeRequest {
    /// The same from headers that were checked before they entered the tunnel.
    pub(crate) fn tunnelled(protocol: Upgrade, headers: &HeaderMap) -> Result<Self, Refusal> {
        let offered: Vec<HeaderValue> =
            headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
        let key = match protocol {
            Upgrade::Spdy => None,
            Upgrade::WebSocket => Some(websocket_key(headers)?),
        };
        Ok(Self { protocol, key, offered })
    }

    fn offers(&self, chosen: &[u8]) -> bool {
        let lists =
            self.offered.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        lists.map(<[u8]>::trim_ascii).any(|offered| offered == chosen)
    }
}

/// Reads the upgrade that a client asks for; half an upgrade or an unknown one is refused.
pub(crate) fn requested(
    parts: &request::Parts,
    connection: &[String],
) -> Result<Option<UpgradeRequest>, Refusal> {
    let wants = connection.iter().any(|name| name == "upgrade");
    let settings = connection.iter().any(|name| name == "http2-settings");
    let mut tokens = parts.headers.get_all(header::UPGRADE).iter();
    let first = tokens.next();
    if first.is_none() && !wants && !settings && !parts.headers.contains_key("http2-settings") {
        return Ok(None);
    }
    let protocol = match (first, tokens.next(), wants, settings) {
        (Some(token), None, true, false) => Upgrade::parse(token.as_bytes()),
        _ => None,
    };
    let Some(protocol) = protocol else {
        return Err(Refusal::new(
            400,
            "the request asks for an upgrade that is none: `Connection: Upgrade` with one `Upgrade` of `SPDY/3.1` or `websocket`",
        ));
    };
    if parts.version != Version::HTTP_11 {
        return Err(Refusal::new(400, "an upgrade needs HTTP/1.1"));
    }
    let without_body = !parts.headers.contains_key(header::TRANSFER_ENCODING)
        && parts.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    if !without_body {
        return Err(Refusal::new(400, "an upgrade cannot have a body"));
    }
    let method_fits = match protocol {
        Upgrade::Spdy => matches!(parts.method, Method::GET | Method::POST),
        Upgrade::WebSocket => parts.method == Method::GET,
    };
    if !method_fits {
        return Err(Refusal::new(405, format!("an upgrade to `{protocol}` needs another method")));
    }
    UpgradeRequest::tunnelled(protocol, &parts.headers).map(Some)
}

/// Whether an answer switches to what was asked for; else it is an answer like any other.
pub(crate) fn switched(request: &UpgradeRequest, status: StatusCode, headers: &HeaderMap) -> bool {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return false;
    }
    let mut tokens = headers.get_all(header::UPGRADE).iter();
    let names_it = tokens.next().and_then(|token| Upgrade::parse(token.as_bytes()))
        == Some(request.protocol)
        && tokens.next().is_none();
    let connection = headers.get_all(header::CONNECTION).iter();
    let upgrades = connection
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    names_it && upgrades && agreed(request, headers)
}

/// Whether the headers of an answer fit to the request: key read, subprotocol and extensions offered.
pub(crate) fn agreed(request: &UpgradeRequest, headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    if let Some(key) = &request.key {
        let right =
            accepts.next().is_some_and(|accept| accept.as_bytes() == accept_of(key).as_bytes());
        if !right || accepts.next().is_some() {
            return false;
        }
    }
    let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next(), chosen.next()) {
        (None, _) => true,
        (Some(protocol), None) => request.offers(protocol.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// `Sec-WebSocket-Accept` of a key (RFC 6455, section 4.2.2).
pub(crate) fn accept_of(key: &HeaderValue) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

fn websocket_key(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(Refusal::new(400, "a WebSocket needs `Sec-WebSocket-Version: 13`"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys
        .next()
        .filter(|key| STANDARD.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16));
    match (key, keys.next()) {
        (Some(key), None) => Ok(key.clone()),
        _ => Err(Refusal::new(400, "a WebSocket needs one `Sec-WebSocket-Key` of 16 bytes")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use http::Request;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn ask(method: &str, headers: &[(&str, &str)]) -> Result<Option<UpgradeRequest>, Refusal> {
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let names: Vec<String> = parts
            .headers
            .get_all("connection")
            .iter()
            .flat_map(|value| value.to_str().unwrap().split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        requested(&parts, &names)
    }

    fn websocket() -> UpgradeRequest {
        ask(
            "GET",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
                ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
            ],
        )
        .unwrap()
        .unwrap()
    }

    fn answer(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn half_an_upgrade_or_an_unknown_one_is_refused() {
        assert!(ask("GET", &[]).unwrap().is_none());
        let spdy = [("connection", "upgrade"), ("upgrade", "spdy/3.1")];
        assert_eq!(ask("POST", &spdy).unwrap().unwrap().protocol, Upgrade::Spdy);
        for bad in [
            vec![("connection", "Upgrade")],
            vec![("upgrade", "websocket")],
            vec![("connection", "Upgrade"), ("upgrade", "h2c")],
            vec![
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABkAAQAAP__"),
            ],
            vec![("http2-settings", "AAMAAABkAAQAAP__")],
            vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1, websocket")],
            vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("upgrade", "websocket")],
            vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("content-length", "5")],
            vec![
                ("connection", "Upgrade"),
                ("upgrade", "SPDY/3.1"),
                ("transfer-encoding", "chunked"),
            ],
            vec![("connection", "Upgrade"), ("upgrade", "websocket")],
            vec![
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "short"),
            ],
        ] {
            assert_eq!(ask("GET", &bad).unwrap_err().code(), 400, "{bad:?}");
        }
        assert_eq!(ask("DELETE", &spdy).unwrap_err().code(), 405);
    }

    #[test]
    fn only_a_matching_101_switches() {
        let good = [
            ("connection", "upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ];
        let switching = StatusCode::SWITCHING_PROTOCOLS;
        assert!(switched(&websocket(), switching, &answer(&good)));
        assert!(!switched(&websocket(), StatusCode::OK, &answer(&good)));
        for (index, wrong) in [
            ("connection", "close"),
            ("upgrade", "SPDY/3.1"),
            ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("sec-websocket-protocol", "v3.channel.k8s.io"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut bad = good;
            bad[index] = wrong;
            assert!(!switched(&websocket(), switching, &answer(&bad)), "{wrong:?}");
            let without: Vec<_> = good.into_iter().filter(|(name, _)| *name != wrong.0).collect();
            let needed = wrong.0 != "sec-websocket-protocol";
            assert_eq!(!switched(&websocket(), switching, &answer(&without)), needed, "{wrong:?}");
        }
    }
}
