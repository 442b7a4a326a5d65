//! The SPIFFE Workload API, for one caller.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use nullius_model::TrustDomain;
use nullius_pki::workload::TrustBundle;
use nullius_proto::{
    ListValue, Struct, Value,
    spiffe::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svid, X509svidRequest, X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
    },
    value::Kind,
};
use secrecy::ExposeSecret as _;
use serde_json::Value as Json;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    account::StreamPlace,
    caller::{Caller, View},
    issuer::IssueError,
    jwt::Tokens,
    keep::Holdings,
    request::{AskError, JwtAsk, ValidateAsk},
};

/// What tells a request of a workload from one that somebody else was made to send (SPIFFE Workload Endpoint, section 6.1).
const SIGN: &str = "workload.spiffe.io";
/// How long a caller waits for an SVID that is not issued yet.
const FIRST_WAIT: Duration = Duration::from_secs(20);

/// The service of one connection.
pub(crate) struct Api {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tokens: Arc<Tokens>,
}

pub(crate) type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Updates<X509svidResponse>;
    type FetchX509BundlesStream = Updates<X509BundlesResponse>;
    type FetchJWTBundlesStream = Updates<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.admit(&request)?;
        let updates = updates(&self.caller, self.caller.stream()?, x509_svids);
        Ok(Response::new(Box::pin(updates)))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.admit(&request)?;
        let updates = updates(&self.caller, self.caller.stream()?, |view| {
            let bundles = view.bundles.iter().map(|(domain, bundle)| x509_bundle(domain, bundle));
            Some(X509BundlesResponse { crl: Vec::new(), bundles: bundles.collect() })
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        self.admit(&request)?;
        let ask = JwtAsk::read(request.into_inner()).map_err(unasked)?;
        let holdings = self.caller.current()?;
        let view = self.caller.view(&holdings).await?;
        let wanted: Vec<_> = view
            .mine
            .iter()
            .filter(|mine| ask.id.as_ref().is_none_or(|id| *id == mine.entry.spiffe_id))
            .filter(|mine| mine.entry.may_speak_to(&ask.audience))
            .collect();
        if wanted.is_empty() {
            let why = "no identity of the caller has this ID and may have JWT-SVIDs for all of these audiences";
            return Err(Status::permission_denied(why));
        }
        let mut svids = Vec::with_capacity(wanted.len());
        for mine in wanted {
            let issued = self
                .tokens
                .token(&mine.id, &mine.entry, &ask.audience, &holdings.registered)
                .await
                .map_err(unissued)?;
            svids.push((
                mine.id.clone(),
                Jwtsvid {
                    spiffe_id: mine.entry.spiffe_id.to_string(),
                    svid: issued.token.expose_secret().to_owned(),
                    hint: mine.entry.hint.as_deref().unwrap_or_default().to_owned(),
                },
            ));
        }
        // The issuer took its time: whose they are now decides.
        let view = self.caller.view(&self.caller.current()?).await?;
        svids.retain(|(id, svid)| {
            let is_theirs =
                |entry_id: &str, id_of: &str| entry_id == &**id && id_of == svid.spiffe_id;
            view.mine.iter().any(|mine| is_theirs(&mine.id, mine.entry.spiffe_id.as_str()))
        });
        match svids.is_empty() {
            true => Err(Status::permission_denied("the identity is no longer the caller's")),
            false => {
                let svids = svids.into_iter().map(|(_, svid)| svid).collect();
                Ok(Response::new(JwtsvidResponse {
                    svids: first_of_hint(svids, |svid| &svid.hint),
                }))
            }
        }
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.admit(&request)?;
        let updates = updates(&self.caller, self.caller.stream()?, |view| {
            let bundles = view.bundles.iter().map(|(domain, bundle)| {
                (trust_domain_id(domain), bundle.jwt_json().to_string().into_bytes())
            });
            Some(JwtBundlesResponse { bundles: bundles.collect() })
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        self.admit(&request)?;
        let ask = ValidateAsk::read(request.into_inner()).map_err(unasked)?;
        let view = self.caller.view(&self.caller.current()?).await?;
        let bundle_of = |domain: &str| {
            let mut bundles = view.bundles.values();
            bundles.find(|bundle| bundle.trust_domain().as_str() == domain).map(AsRef::as_ref)
        };
        match TrustBundle::verify_jwt(&ask.token, &ask.audience, bundle_of, self.tokens.now()) {
            Ok(svid) => Ok(Response::new(ValidateJwtsvidResponse {
                spiffe_id: svid.id.to_string(),
                claims: Some(to_struct(svid.claims)),
            })),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let why = format!("{error}{}", cause.unwrap_or_default());
                Err(Status::invalid_argument(why))
            }
        }
    }
}

impl Api {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut signs = request.metadata().get_all(SIGN).iter();
        match (signs.next(), signs.next()) {
            (Some(sign), None) if sign == "true" => Ok(()),
            _ => Err(Status::invalid_argument(format!(
                "the metadata `{SIGN}: true` is missing: a workload sends it with each request"
            ))),
        }
    }
}

/// What a stream remembers.
struct Watch<F> {
    caller: Arc<Caller>,
    _place: StreamPlace,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    make: F,
    /// What might have been the caller's when they were last told, and what was.
    told: Option<(Option<View>, View)>,
    has_ended: bool,
}

/// Messages for a caller, each a full set: the first as soon as there is one, then one for each change. The caller is looked at
/// before each. It ends with the reason once nothing is theirs.
pub(crate) fn updates<T: Send + 'static>(
    caller: &Arc<Caller>,
    place: StreamPlace,
    make: impl Fn(&View) -> Option<T> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let watch = Watch {
        caller: Arc::clone(caller),
        _place: place,
        holdings: caller.holdings.clone(),
        make,
        told: None,
        has_ended: false,
    };
    stream::unfold(watch, |mut watch| async move {
        if watch.has_ended {
            return None;
        }
        let next = watch.next().await;
        watch.has_ended = next.is_err();
        Some((next, watch))
    })
}

impl<T, F: Fn(&View) -> Option<T>> Watch<F> {
    async fn next(&mut self) -> Result<T, Status> {
        let began = tokio::time::Instant::now();
        loop {
            let holdings = self.holdings.borrow_and_update().clone();
            let starting =
                || Status::unavailable("the node is starting and knows no identities yet");
            let holdings = holdings.ok_or_else(starting)?;
            if let Some(message) = self.look(&holdings).await? {
                return Ok(message);
            }
            let ended = |_| Status::unavailable("the node is stopping");
            match self.told {
                Some(_) => self.holdings.changed().await.map_err(ended)?,
                // Not one SVID was issued yet.
                None => {
                    let changed =
                        tokio::time::timeout_at(began + FIRST_WAIT, self.holdings.changed()).await;
                    let late =
                        |_| Status::unavailable("no SVID was issued yet; see the node's log");
                    changed.map_err(late)?.map_err(ended)?;
                }
            }
        }
    }

    async fn look(&mut self, holdings: &Arc<Holdings>) -> Result<Option<T>, Status> {
        let candidate = self.caller.candidate(holdings);
        if let (Some((Some(before), _)), Some(now)) = (&self.told, &candidate)
            && before.is_same(now)
        {
            return Ok(None);
        }
        let view = self.caller.view(holdings).await?;
        if let Some((before, told)) = &mut self.told
            && told.is_same(&view)
        {
            *before = candidate;
            return Ok(None);
        }
        let message = (self.make)(&view);
        if message.is_some() {
            self.told = Some((candidate, view));
        }
        Ok(message)
    }
}

fn x509_svids(view: &View) -> Option<X509svidResponse> {
    let own = view.bundles.get(&view.trust_domain)?;
    let anchors = concatenated(own.x509_authorities().iter().map(AsRef::as_ref));
    let svids = view.mine.iter().filter_map(|mine| {
        let held = mine.held.as_ref()?;
        Some(X509svid {
            spiffe_id: mine.entry.spiffe_id.to_string(),
            x509_svid: concatenated(held.svid.chain.iter().map(AsRef::as_ref)),
            x509_svid_key: held.key.to_vec(),
            bundle: anchors.clone(),
            hint: mine.entry.hint.as_deref().unwrap_or_default().to_owned(),
        })
    });
    let svids = first_of_hint(svids.collect(), |svid: &X509svid| &svid.hint);
    let foreign = view.foreign().map(|(domain, bundle)| x509_bundle(domain, bundle));
    (!svids.is_empty()).then(|| X509svidResponse {
        svids,
        crl: Vec::new(),
        federated_bundles: foreign.collect(),
    })
}

/// A hint stands once in a message: the first that has it is meant (SPIFFE Workload API, section 5.2.1).
fn first_of_hint<T>(all: Vec<T>, hint: impl Fn(&T) -> &String) -> Vec<T> {
    let mut seen = Vec::new();
    let mut first = Vec::with_capacity(all.len());
    for one in all {
        let hint = hint(&one).clone();
        if hint.is_empty() || !seen.contains(&hint) {
            seen.push(hint);
            first.push(one);
        }
    }
    first
}

fn x509_bundle(domain: &TrustDomain, bundle: &TrustBundle) -> (String, Vec<u8>) {
    let anchors = bundle.x509_authorities().iter().map(AsRef::as_ref);
    (trust_domain_id(domain), concatenated(anchors))
}

fn trust_domain_id(domain: &TrustDomain) -> String {
    format!("spiffe://{domain}")
}

fn concatenated<'d>(all: impl Iterator<Item = &'d [u8]>) -> Vec<u8> {
    all.flatten().copied().collect()
}

pub(crate) fn unasked(error: AskError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unissued(error: IssueError) -> Status {
    match error {
        IssueError::Refused(_) => Status::permission_denied(error.to_string()),
        IssueError::Unavailable(_) => Status::unavailable(error.to_string()),
    }
}

fn to_struct(object: serde_json::Map<String, Json>) -> Struct {
    let fields = object.into_iter().map(|(name, value)| (name, to_value(value)));
    Struct { fields: fields.collect() }
}

/// JSON as protobuf writes it; tokens are nested at most as deep as their parser goes.
fn to_value(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() })
        }
        Json::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Value { kind: Some(kind) }
}
