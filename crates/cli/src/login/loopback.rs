//! The page on this machine to which a browser returns after sign-in (RFC 8252, section 7.3).
//!
//! Listens on the loopback address for as long as one sign-in takes. Only a request with the state of this sign-in is
//! taken; the page it shows holds nothing but the sentence that it may be closed.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nullius_pki::constant_time_eq;
use tokio::{net::TcpListener, sync::mpsc};

use crate::failure::Failure;

/// A listener for one sign-in.
pub(crate) struct Loopback {
    listener: TcpListener,
    /// Where the browser returns to.
    pub(crate) redirect_uri: String,
}

/// What the browser brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Returned {
    /// A code to exchange.
    Code(String),
    /// The person or the hub said no.
    Refused(String),
}

impl Loopback {
    /// Listens on a free port.
    pub(crate) async fn open() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new("cannot wait for the browser on this machine")
                .because(error)
                .next("sign in without a browser: `nullius login --device`")
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, redirect_uri: format!("http://{address}/") })
    }

    /// Waits for the browser with this state and takes its code.
    pub(crate) async fn code(self, state: &str) -> Result<String, Failure> {
        let (send, mut returned) = mpsc::channel(1);
        let host = self.redirect_uri.trim_start_matches("http://").trim_end_matches('/').to_owned();
        loop {
            let outcome = tokio::select! {
                outcome = returned.recv() => outcome,
                accepted = self.listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (send, state, host) = (send.clone(), state.to_owned(), host.clone());
                    let service = service_fn(move |request| {
                        let answer = answer(&request, &state, &host);
                        let send = send.clone();
                        async move {
                            let (page, outcome) = answer;
                            if let Some(outcome) = outcome {
                                let _ = send.send(outcome).await;
                            }
                            Ok::<_, std::convert::Infallible>(page)
                        }
                    });
                    tokio::spawn(http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service));
                    continue;
                }
            };
            return match outcome {
                Some(Returned::Code(code)) => Ok(code),
                Some(Returned::Refused(why)) => Err(Failure::new("the sign-in was refused")
                    .why(why)
                    .next("try again: `nullius login`")),
                None => Err(Failure::new("the sign-in ended without an answer")
                    .next("try again: `nullius login`")),
            };
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    state: &str,
    host: &str,
) -> (Response<Full<Bytes>>, Option<Returned>) {
    let is_ours = request
        .headers()
        .get(header::HOST)
        .is_some_and(|named| named.as_bytes() == host.as_bytes());
    if request.method() != Method::GET || request.uri().path() != "/" || !is_ours {
        return (page(StatusCode::NOT_FOUND, "Not found", "There is nothing here."), None);
    }
    match read_return(request.uri().query().unwrap_or_default(), state) {
        Some(Returned::Code(code)) => {
            let text = "You are signed in. You may close this page and go back to the terminal.";
            (page(StatusCode::OK, "Signed in", text), Some(Returned::Code(code)))
        }
        Some(refused) => {
            let text = "You are not signed in. The terminal says why. You may close this page.";
            (page(StatusCode::OK, "Not signed in", text), Some(refused))
        }
        None => {
            let text = "This sign-in is not the one that the terminal waits for.";
            (page(StatusCode::BAD_REQUEST, "Not this sign-in", text), None)
        }
    }
}

/// What a query brings, when its state is ours and each parameter stands once.
fn read_return(query: &str, state: &str) -> Option<Returned> {
    let single = |wanted: &str| {
        let mut values =
            url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
        let first = values.next();
        if values.next().is_some() { None } else { first.map(|(_, value)| value.into_owned()) }
    };
    if !constant_time_eq(single("state")?.as_bytes(), state.as_bytes()) {
        return None;
    }
    match (single("code"), single("error")) {
        (Some(code), None) => Some(Returned::Code(code)),
        (None, Some(error)) => {
            let why = single("error_description").unwrap_or(error);
            Some(Returned::Refused(why.chars().take(300).collect()))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn page(status: StatusCode, title: &str, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Nullius</title></head>\n\
         <body><main><h1>{title}</h1><p>{text}</p></main></body></html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_state_of_this_sign_in_brings_a_code() {
        let code = |text: &str| Some(Returned::Code(text.to_owned()));
        assert_eq!(read_return("code=abc&state=s1", "s1"), code("abc"));
        assert_eq!(read_return("code=abc&state=s2", "s1"), None);
        assert_eq!(read_return("code=abc", "s1"), None);
        assert_eq!(read_return("code=abc&code=def&state=s1", "s1"), None);
        assert_eq!(read_return("code=abc&state=s1&state=s1", "s1"), None);
        assert_eq!(
            read_return("error=denied&error_description=no+thanks&state=s1", "s1"),
            Some(Returned::Refused("no thanks".to_owned()))
        );
    }
}
