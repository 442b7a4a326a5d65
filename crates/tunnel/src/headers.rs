//! The header pipeline, run by the hub on what clients send and by the agent on what the hub sends.
//!
//! Order: bad framing, a `Connection` header that names identity headers, hop-by-hop headers, headers that
//! claim an identity, then an allow-list. What is left is built anew; nothing passes because it is unknown.
//! Responses go the same way back, since a cluster may be hostile to the browser of the person who reads it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request};

use crate::{
    Refusal,
    upgrade::{self, UpgradeRequest},
};

/// The JWS of the request, from the hub to the agent.
pub(crate) const ASSERTION: HeaderName = HeaderName::from_static("nullius-assertion");
/// The method of a request that rides on an extended CONNECT.
pub(crate) const METHOD: HeaderName = HeaderName::from_static("nullius-method");
/// The protocol that an upgrade asks for, and in the answer: that the API server switched to it.
pub(crate) const UPGRADE: HeaderName = HeaderName::from_static("nullius-upgrade");
/// On an answer that the agent made itself.
pub(crate) const ANSWERED_BY: HeaderName = HeaderName::from_static("nullius-answered-by");
/// Trailer of an upgraded stream whose connection to the API server broke.
pub(crate) const ENDED: HeaderName = HeaderName::from_static("nullius-ended");
/// Kubernetes' id that joins the audit logs.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

const USER_AGENT_MAX: usize = 512;
/// Subprotocol by which a Kubernetes client may smuggle in a bearer token of its own.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// What the pipeline leaves of a request.
#[derive(Debug)]
pub(crate) struct Clean {
    pub(crate) headers: HeaderMap,
    pub(crate) upgrade: Option<UpgradeRequest>,
}

/// What the hub forwards of a client's request.
pub(crate) fn from_client(parts: &request::Parts) -> Result<Clean, Refusal> {
    known_form(&parts.method, parts.version)?;
    let headers = &parts.headers;
    framing(headers, parts.version)?;
    let named = connection_names(headers)?;
    let upgrade = upgrade::requested(parts, &named)?;
    no_forged_identity(headers)?;
    no_own_names(headers)?;
    Ok(Clean { headers: allowed_request(headers, &named), upgrade })
}

/// Whether a client's request passes the pipeline; 403 where it claims an identity that is not its own.
pub fn check_headers(parts: &request::Parts) -> Result<(), Refusal> {
    from_client(parts).map(drop)
}

/// What the agent forwards of a request that came through the tunnel, where no connection header is legal.
pub(crate) fn from_hub(headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    framing(headers, Version::HTTP_2)?;
    let named = connection_names(headers)?;
    no_forged_identity(headers)?;
    Ok(allowed_request(headers, &named))
}

/// What passes of an answer, at the agent and again at the hub.
pub(crate) fn from_upstream(headers: &HeaderMap) -> HeaderMap {
    let mut clean = HeaderMap::with_capacity(headers.len().min(32) + 4);
    for (name, value) in headers {
        if is_response_header(name) {
            clean.append(name.clone(), value.clone());
        }
    }
    clean
}

/// What passes of trailers, in both directions.
pub(crate) fn trailers(trailers: HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| {
        !is_hop_by_hop(name)
            && !claims_identity(name.as_str())
            && !is_ours(name.as_str())
            && !matches!(
                name.as_str(),
                "content-length"
                    | "content-type"
                    | "content-encoding"
                    | "host"
                    | "set-cookie"
                    | "cookie"
                    | "location"
                    | "alt-svc"
                    | "strict-transport-security"
            )
    };
    let mut clean = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers.iter().filter(|(name, _)| passes(name)) {
        clean.append(name.clone(), value.clone());
    }
    clean
}

/// Makes a browser show the answer as a file at most, whatever the cluster says that it is.
pub(crate) fn never_render(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

/// Where a redirect of an API server points.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// There is none.
    None,
    /// To a path of the same server.
    Within(String),
    /// Anywhere else.
    Elsewhere,
}

/// Reads `Location`; only a plain absolute path, or the same under the server's own authority, is within.
pub(crate) fn redirect(headers: &HeaderMap, own_authority: Option<&str>) -> Redirect {
    let mut values = headers.get_all(header::LOCATION).iter();
    let Some(location) = values.next() else { return Redirect::None };
    let (Ok(location), None) = (location.to_str(), values.next()) else {
        return Redirect::Elsewhere;
    };
    let own = own_authority.and_then(|authority| {
        let rest = location.strip_prefix("https://")?.strip_prefix(authority)?;
        rest.starts_with('/').then_some(rest)
    });
    let path = own.unwrap_or(location);
    let plain = path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if plain { Redirect::Within(path.to_owned()) } else { Redirect::Elsewhere }
}

fn known_form(method: &Method, version: Version) -> Result<(), Refusal> {
    if version != Version::HTTP_11 && version != Version::HTTP_2 {
        return Err(Refusal::new(400, "only HTTP/1.1 and HTTP/2 are served"));
    }
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let sentence = "the method is none that Kubernetes serves; WebSockets need HTTP/1.1 here";
        return Err(Refusal::new(405, sentence));
    }
    Ok(())
}

/// Refuses a message whose end two readers could see in different places.
fn framing(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let bad = |what: &str| Err(Refusal::new(400, format!("the request has bad framing: {what}")));
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return bad("several `Content-Length`");
    }
    if let Some(length) = length {
        let digits = length.as_bytes();
        if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
            return bad("an odd `Content-Length`");
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return bad("`Content-Length` beside `Transfer-Encoding`");
        }
        if version != Version::HTTP_11 {
            return bad("`Transfer-Encoding` in HTTP/2");
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return bad("a `Transfer-Encoding` other than `chunked`");
        }
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return bad("several `Host`");
    }
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return bad("several `Authorization`");
    }
    Ok(())
}

/// The header names of all `Connection` lines in lower case; refuses those that would take an identity out.
fn connection_names(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().map_err(|_| {
            Refusal::new(400, "the `Connection` header has bytes that may not stand there")
        })?;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = name.to_ascii_lowercase();
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(Refusal::new(400, "the `Connection` header names no header"));
            }
            let sentence =
                "the `Connection` header names a header that is not the client's to drop";
            if claims_identity(&name) || is_ours(&name) || must_stay(&name) {
                return Err(Refusal::new(403, format!("{sentence}: `{name}`")));
            }
            names.push(name);
        }
    }
    Ok(names)
}

fn no_forged_identity(headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(name) = headers.keys().find(|name| claims_other(name.as_str())) {
        return Err(Refusal::new(
            403,
            format!(
                "header `{name}` is refused: nobody acts as somebody else through this hub; take `--as` out"
            ),
        ));
    }
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    for value in protocols {
        let smuggled = value.as_bytes().split(|byte| *byte == b',').any(|protocol| {
            let protocol = protocol.trim_ascii();
            protocol.len() >= BEARER_PROTOCOL.len()
                && protocol[..BEARER_PROTOCOL.len()]
                    .eq_ignore_ascii_case(BEARER_PROTOCOL.as_bytes())
        });
        if smuggled {
            let sentence =
                "a token in `Sec-WebSocket-Protocol` is refused: sign in to the hub instead";
            return Err(Refusal::new(403, sentence));
        }
    }
    Ok(())
}

fn no_own_names(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.keys().find(|name| is_ours(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(Refusal::new(403, format!("header `{name}` is refused: only this hub sets it")))
        }
    }
}

fn allowed_request(headers: &HeaderMap, dropped: &[String]) -> HeaderMap {
    let mut clean = HeaderMap::with_capacity(headers.len().min(32) + 4);
    for (name, value) in headers {
        if !is_request_header(name) || dropped.iter().any(|dropped| dropped == name.as_str()) {
            continue;
        }
        if *name == header::USER_AGENT && value.len() > USER_AGENT_MAX {
            if let Ok(cut) = HeaderValue::from_bytes(&value.as_bytes()[..USER_AGENT_MAX]) {
                clean.append(name.clone(), cut);
            }
            continue;
        }
        clean.append(name.clone(), value.clone());
    }
    clean
}

fn is_request_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept"
            | "accept-encoding"
            | "cache-control"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "kubectl-command"
            | "kubectl-session"
            | "range"
            | "sec-websocket-extensions"
            | "sec-websocket-key"
            | "sec-websocket-protocol"
            | "sec-websocket-version"
            | "traceparent"
            | "tracestate"
            | "user-agent"
            | "x-stream-protocol-version"
    )
}

fn is_response_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept-patch"
            | "accept-ranges"
            | "allow"
            | "audit-id"
            | "cache-control"
            | "content-disposition"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "date"
            | "etag"
            | "expires"
            | "last-modified"
            | "retry-after"
            | "sec-websocket-accept"
            | "sec-websocket-extensions"
            | "sec-websocket-protocol"
            | "trailer"
            | "vary"
            | "warning"
            | "x-kubernetes-pf-flowschema-uid"
            | "x-kubernetes-pf-prioritylevel-uid"
            | "x-stream-protocol-version"
    )
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// The name as a gateway that maps `_` to `-` would read it.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether the header says who somebody else is (Kubernetes impersonation, request-header authentication).
fn claims_other(name: &str) -> bool {
    let first = name.as_bytes().first().map(u8::to_ascii_lowercase);
    if !matches!(first, Some(b'i' | b'x')) {
        return false;
    }
    let name = folded(name);
    name.starts_with("impersonate") || name.starts_with("x-remote")
}

/// Whether the header says who somebody is, in any way.
fn claims_identity(name: &str) -> bool {
    claims_other(name)
        || matches!(folded(name).as_str(), "authorization" | "cookie" | "proxy-authorization")
        || name.starts_with("x-forwarded")
}

fn is_ours(name: &str) -> bool {
    name.starts_with("nullius-") || name.starts_with("nullius_")
}

/// Whether a message could mean something else without the header.
fn must_stay(name: &str) -> bool {
    matches!(
        name,
        "audit-id"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "host"
            | "sec-websocket-key"
            | "sec-websocket-protocol"
            | "sec-websocket-version"
            | "transfer-encoding"
            | "x-stream-protocol-version"
    )
}

#[cfg(test)]
mod tests;
