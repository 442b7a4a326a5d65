//! The agent's connections to its API server: a pool of HTTP/2 connections, HTTP/1.1 where it must be.
//!
//! An API server allows a connection about 100 streams and may say GOAWAY at any time (`--goaway-chance`), so the
//! pool opens another connection when all are full and sends again only what was certainly not processed.
//! An upgrade always gets a fresh HTTP/1.1 connection of its own.

mod dial;
mod http1;
mod pool;

use std::sync::Arc;

use h2::RecvStream;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header, uri};
use hyper_util::rt::TokioIo;
use nullius_model::ClusterName;
use nullius_tls::HttpVersions;

pub use dial::{ApiServer, Dial, Dialled};

use crate::{
    Refusal, TunnelBody,
    exchange::{Exchange, Failure, Remainder},
    headers::{self, Redirect},
    live::Stream,
    upgrade::{self, UpgradeRequest},
    upload::Upload,
};
use http1::Http1;
use pool::{Lease, Open, Pool};

const ATTEMPTS: usize = 4;

/// A cluster's API server, reached through as few connections as possible. Clones share them.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    cluster: ClusterName,
    dial: Arc<dyn Dial>,
    authority: String,
    pool: Pool,
    http1: Http1,
}

/// An API server's answer.
pub(crate) struct Answer {
    pub(crate) response: Response<TunnelBody>,
    /// The rest of the request's body, to be sent while the answer is read.
    pub(crate) upload: Option<Box<Upload>>,
    /// Frees its place in the pool when dropped.
    pub(crate) lease: Option<Lease>,
}

/// An API server's answer to an upgrade.
pub(crate) enum Upgraded {
    /// It switched; the head of its 101.
    Switched(Response<()>, TokioIo<hyper::upgrade::Upgraded>),
    /// It answered like anything else.
    Answered(Box<Response<TunnelBody>>),
}

impl Upstream {
    /// Connections to this server are made when they are needed.
    pub fn new(cluster: ClusterName, dial: Arc<dyn Dial>) -> Self {
        let authority = dial.authority();
        Self(Arc::new(Inner {
            cluster,
            dial,
            authority,
            pool: Pool::default(),
            http1: Http1::default(),
        }))
    }

    /// Sends a request whose headers are final but for `Host`.
    pub(crate) async fn send(
        &self,
        head: http::request::Parts,
        body: RecvStream,
        owner: &Arc<Stream>,
    ) -> Result<Answer, Refusal> {
        let mut body = TunnelBody::http2(body, Some(Arc::clone(owner)));
        for _ in 0..ATTEMPTS {
            let connection = match self.0.pool.choose(&self.0.dial).await {
                Ok(Open::Http2(connection)) => connection,
                Ok(Open::Http1(io)) => {
                    let request = self.http1_request(&head, body)?;
                    return self.over_http1(io, request).await;
                }
                Ok(Open::Full) => return Err(self.busy()),
                Err(error) => return Err(self.unreachable(&error)),
            };
            let ends = http_body::Body::is_end_stream(&body);
            let request = self.http2_request(&head)?;
            let (response, send, lease) = match connection.open(request, ends).await {
                Ok(opened) => opened,
                Err(_) => continue,
            };
            let exchange = if ends {
                Exchange::without_body(response, send)
            } else {
                Exchange::with_body(response, send, body)
            };
            match exchange.answer().await {
                Ok((response, remainder)) => {
                    let (parts, stream) = response.into_parts();
                    let response = self.answered(parts)?;
                    let upload = match remainder {
                        Remainder::Done(_) => None,
                        Remainder::Running(upload) => Some(upload),
                    };
                    let response =
                        response.map(|()| TunnelBody::http2(stream, Some(Arc::clone(owner))));
                    return Ok(Answer { response, upload, lease: Some(lease) });
                }
                Err(Failure::NotProcessed(whole, error)) => {
                    if error.is_go_away() {
                        lease.stop();
                    }
                    body = *whole;
                }
                Err(Failure::Broken(error)) => return Err(self.broken(&error)),
                Err(Failure::Body(error)) => {
                    return Err(
                        Refusal::new(400, "the request's body broke off").with_detail(error)
                    );
                }
            }
        }
        Err(self.busy())
    }

    /// Asks for an upgrade on a connection of its own.
    pub(crate) async fn upgrade(
        &self,
        head: http::request::Parts,
        asked: &UpgradeRequest,
    ) -> Result<Upgraded, Refusal> {
        let dialled = dial::in_time(self.0.dial.as_ref(), HttpVersions::Http1)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let mut request = self.http1_request(&head, TunnelBody::empty())?;
        let token = HeaderValue::from_static(asked.protocol.token());
        request.headers_mut().insert(header::UPGRADE, token);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let (mut sender, connection) =
            http1::handshake(dialled.io).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection.with_upgrades());
        let mut response =
            sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (parts, body) = response.into_parts();
            let response = self.answered(parts)?;
            // The connection lives as long as its answer and serves nothing else.
            let response = response.map(|()| TunnelBody::http1(body, || drop(sender)));
            return Ok(Upgraded::Answered(Box::new(response)));
        }
        if !upgrade::switched(asked, response.status(), response.headers()) {
            return Err(Refusal::new(
                502,
                format!(
                    "the API server of cluster `{}` agreed to another upgrade than was asked for",
                    self.0.cluster
                ),
            ));
        }
        let upgraded =
            hyper::upgrade::on(&mut response).await.map_err(|error| self.broken(&error))?;
        let mut switched = Response::new(());
        *switched.headers_mut() = headers::from_upstream(response.headers());
        switched.headers_mut().remove(header::CONTENT_LENGTH);
        Ok(Upgraded::Switched(switched, TokioIo::new(upgraded)))
    }

    async fn over_http1(
        &self,
        io: Option<Box<dyn crate::wire::Io>>,
        request: Request<TunnelBody>,
    ) -> Result<Answer, Refusal> {
        let sent = self.0.http1.send(&self.0.dial, io, request).await;
        let response = sent.map_err(|error| match error {
            http1::Failure::Dial(error) => self.unreachable(&error),
            http1::Failure::Broken(error) => self.broken(&error),
        })?;
        let (parts, body) = response.into_parts();
        let response = self.answered(parts)?.map(|()| body);
        Ok(Answer { response, upload: None, lease: None })
    }

    fn http2_request(&self, head: &http::request::Parts) -> Result<Request<()>, Refusal> {
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        let uri = uri::Builder::new()
            .scheme(uri::Scheme::HTTPS)
            .authority(self.0.authority.as_str())
            .path_and_query(path_of(&head.uri))
            .build();
        *request.uri_mut() = uri.map_err(|error| self.unusable(&error))?;
        Ok(request)
    }

    fn http1_request(
        &self,
        head: &http::request::Parts,
        body: TunnelBody,
    ) -> Result<Request<TunnelBody>, Refusal> {
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        let uri = path_of(&head.uri).parse::<Uri>();
        *request.uri_mut() = uri.map_err(|error| self.unusable(&error))?;
        let host =
            HeaderValue::from_str(&self.0.authority).map_err(|error| self.unusable(&error))?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    /// The head of an answer that may leave the cluster.
    fn answered(&self, parts: http::response::Parts) -> Result<Response<()>, Refusal> {
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::new(
                502,
                format!(
                    "the API server of cluster `{}` switched protocols though nobody asked",
                    self.0.cluster
                ),
            ));
        }
        let mut response = Response::new(());
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers::from_upstream(&parts.headers);
        match headers::redirect(&parts.headers, Some(&self.0.authority)) {
            Redirect::None => {}
            Redirect::Within(path) => {
                if let Ok(path) = HeaderValue::from_str(&path) {
                    response.headers_mut().insert(header::LOCATION, path);
                }
            }
            Redirect::Elsewhere if parts.status.is_redirection() => {
                return Err(Refusal::new(
                    502,
                    format!(
                        "the API server of cluster `{}` answered with a redirect to elsewhere, which is not followed",
                        self.0.cluster
                    ),
                ));
            }
            Redirect::Elsewhere => {}
        }
        Ok(response)
    }

    fn unreachable(&self, error: &std::io::Error) -> Refusal {
        Refusal::new(
            503,
            format!(
                "the API server of cluster `{}` cannot be reached by its agent; see whether it runs",
                self.0.cluster
            ),
        )
        .with_detail(error)
    }

    fn broken(&self, error: &dyn std::error::Error) -> Refusal {
        Refusal::new(
            503,
            format!(
                "the API server of cluster `{}` broke the connection while the request ran; see whether it took effect before you try again",
                self.0.cluster
            ),
        )
        .with_detail(error)
    }

    fn busy(&self) -> Refusal {
        Refusal::new(
            503,
            format!(
                "the API server of cluster `{}` takes no more requests now; try again",
                self.0.cluster
            ),
        )
    }

    fn unusable(&self, error: &dyn std::error::Error) -> Refusal {
        Refusal::new(400, "the request cannot be sent on").with_detail(error)
    }
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}
