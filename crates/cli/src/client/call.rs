//! One call of the hub's API: what is asked, what came back, refusals as failures.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use nullius_api::ApiError;
use nullius_model::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    dial::{Again, Dialer},
    patience::within,
};
use crate::failure::{Failure, SIGN_IN_AGAIN};

/// The largest answer that is read.
const ANSWER_MAX: usize = 64 << 20;
/// How long an answer may take after the connection stands.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What the person wanted, for the first line of a failure: `cannot list sessions`.
    pub(crate) what: String,
    method: Method,
    path: String,
    body: Bytes,
    within: Duration,
}

impl Call {
    /// Reads.
    pub(crate) fn get(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(what, Method::GET, path, Bytes::new())
    }

    /// Deletes.
    pub(crate) fn delete(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(what, Method::DELETE, path, Bytes::new())
    }

    /// Posts a body.
    pub(crate) fn post(
        what: impl Into<String>,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<Self, Failure> {
        Ok(Self::new(what, Method::POST, path, bytes_of(body)?))
    }

    /// Puts a body.
    pub(crate) fn put(
        what: impl Into<String>,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<Self, Failure> {
        Ok(Self::new(what, Method::PUT, path, bytes_of(body)?))
    }

    /// Posts nothing.
    pub(crate) fn post_empty(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(what, Method::POST, path, Bytes::new())
    }

    /// The same with a shorter patience.
    #[must_use]
    pub(crate) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The same with query parameters; those without a value are left out.
    pub(crate) fn query(mut self, query: &impl Serialize) -> Result<Self, Failure> {
        let fields = crate::output::json_value(query)?;
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::String(value) => text.append_pair(name, value),
                other => text.append_pair(name, &other.to_string()),
            };
        }
        let text = text.finish();
        if !text.is_empty() {
            self.path = format!("{}?{text}", self.path);
        }
        Ok(self)
    }

    fn new(what: impl Into<String>, method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self { what: what.into(), method, path: path.into(), body, within: ANSWER_WITHIN }
    }
}

fn bytes_of(body: &impl Serialize) -> Result<Bytes, Failure> {
    let bytes = serde_json::to_vec(body);
    bytes.map(Bytes::from).map_err(|error| Failure::new("cannot write the request").because(error))
}

/// A route with its parameters filled in, each as one segment of the path.
pub(crate) fn fill(route: &str, parameters: &[&str]) -> String {
    const SEGMENT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let mut values = parameters.iter();
    let filled = route.split('/').map(|part| {
        if !part.starts_with('{') {
            return part.to_owned();
        }
        utf8_percent_encode(values.next().copied().unwrap_or_default(), SEGMENT).to_string()
    });
    filled.collect::<Vec<_>>().join("/")
}

/// An answer that was no refusal.
pub(crate) struct Answer {
    body: Bytes,
    /// The hub's clock when it answered.
    pub(crate) hub_time: Option<Timestamp>,
}

impl Answer {
    /// The body as a value.
    pub(crate) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            // The parser's message could quote a token.
            Failure::new(what)
                .why("the hub's answer is not what this version of nullius understands")
                .next("compare the versions: `nullius version`")
        })
    }
}

/// Sends a call, with a bearer token where there is one.
pub(crate) async fn send(
    dialer: &Dialer,
    call: &Call,
    bearer: Option<&str>,
) -> Result<Answer, Failure> {
    let exchange = async {
        let again = if call.method == Method::GET { Again::Allowed } else { Again::Never };
        let (response, kept) = dialer.send(request(dialer, call, bearer)?, again).await?;
        let (head, body) = response.into_parts();
        let read = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| {
            Failure::new(&call.what)
                .why(format!("the hub's answer broke off: {error}"))
                .next("see what came of it before you try again")
        })?;
        kept.keep();
        Ok((head, read.to_bytes()))
    };
    // Not awaited on the stack of every caller: the exchange is large.
    let (head, body) = within(call.within, Box::pin(exchange)).await.unwrap_or_else(|_| {
        Err(Failure::new(&call.what)
            .why(format!("the hub did not answer within {} s", call.within.as_secs()))
            .next("try again; if it goes on, look at the hub's log"))
    })?;
    let hub_time =
        head.headers.get(header::DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    if head.status.is_success() {
        return Ok(Answer { body, hub_time });
    }
    Err(refusal(&call.what, head.status, &body))
}

/// Sends a call whose answer goes on and on.
pub(crate) async fn stream(dialer: &Dialer, call: &Call, bearer: &str) -> Result<Lines, Failure> {
    let (response, _) = dialer.send(request(dialer, call, Some(bearer))?, Again::Allowed).await?;
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(Lines { body, pending: Vec::new(), what: call.what.clone() });
    }
    let read = Limited::new(body, ANSWER_MAX).collect().await;
    let bytes = read.map(|read| read.to_bytes()).unwrap_or_default();
    Err(refusal(&call.what, head.status, &bytes))
}

/// Lines of an answer, as they come.
pub(crate) struct Lines {
    body: Incoming,
    pending: Vec<u8>,
    what: String,
}

impl Lines {
    /// The next line; nothing when the hub ended the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(Failure::new(&self.what)
                        .because(error)
                        .why("the hub ended the connection")
                        .next("run the command again"));
                }
            }
        }
    }
}

fn request(
    dialer: &Dialer,
    call: &Call,
    bearer: Option<&str>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let hub = dialer.hub();
    let host = match (hub.host_str().unwrap_or_default(), hub.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut builder = Request::builder()
        .method(&call.method)
        .uri(&call.path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("nullius/", env!("CARGO_PKG_VERSION")));
    if !call.body.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(token) = bearer {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value
            .map_err(|_| Failure::new("the stored token cannot be sent").next(SIGN_IN_AGAIN))?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    let built = builder.body(Full::new(call.body.clone()));
    built.map_err(|error| Failure::new(&call.what).because(error))
}

fn refusal(what: &str, status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => Failure::refused(what, error),
        Err(_) => Failure::new(what)
            .why(format!("the answer was `{status}` and not from a hub"))
            .next("check the hub's URL and what stands between: `nullius version`"),
    }
}

/// Reads the date of an HTTP answer (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_api::{AuditQuery, route};

    use super::*;

    #[test]
    fn parameters_stay_in_their_segment() {
        assert_eq!(fill(route::OBJECT, &["users", "a/../b c"]), "/v1/objects/users/a%2F..%2Fb%20c");
        assert_eq!(fill(route::SESSIONS, &[]), "/v1/sessions");
    }

    #[test]
    fn a_query_holds_what_was_given() {
        let query = AuditQuery {
            user: Some("a+b".parse().unwrap()),
            limit: Some(5),
            ..AuditQuery::default()
        };
        let call = Call::get("read", route::AUDIT).query(&query).unwrap();
        let (path, pairs) = call.path.split_once('?').unwrap();
        assert_eq!(path, "/v1/audit");
        let mut pairs: Vec<_> = pairs.split('&').collect();
        pairs.sort_unstable();
        assert_eq!(pairs, ["limit=5", "user=a%2Bb"]);
        let none = Call::get("read", route::AUDIT).query(&AuditQuery::default()).unwrap();
        assert_eq!(none.path, "/v1/audit");
    }

    #[test]
    fn the_hubs_clock_is_read() {
        let time = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.as_second(), 784_111_777);
    }
}
