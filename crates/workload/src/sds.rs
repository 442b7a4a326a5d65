//! Envoy's secret discovery, version 3: the same SVIDs and bundles in Envoy's words.
//!
//! `default` is the caller's first SVID, and an ID one of theirs; `ROOTCA` is the bundle of the own trust domain, `ALL` those of all
//! that the caller may verify, and `spiffe://DOMAIN` one of them. Without names everything is sent.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use nullius_model::TrustDomain;
use nullius_pki::{private_key_pem, workload::TrustBundle};
use nullius_proto::{
    Any, encode,
    envoy::{
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, DataSource, Secret, SpiffeCertValidatorConfig,
            TlsCertificate, TypedExtensionConfig, data_source::Specifier, secret,
            spiffe_cert_validator_config,
        },
        service::{
            discovery::v3::{DiscoveryRequest, DiscoveryResponse},
            secret::v3::secret_discovery_service_server::SecretDiscoveryService,
        },
    },
};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    account::StreamPlace,
    api::{Updates, unasked, updates},
    caller::{Caller, View},
    keep::Held,
    request::{SECRET_TYPE, SecretsAsk},
};

const DEFAULT: &str = "default";
const ROOT: &str = "ROOTCA";
const ALL: &str = "ALL";
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// The service of one connection.
pub(crate) struct Secrets {
    pub(crate) caller: Arc<Caller>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type StreamSecretsStream = Answers;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let conversation = Conversation {
            caller: Arc::clone(&self.caller),
            asks: request.into_inner(),
            place: Some(self.caller.stream()?),
            views: None,
            names: Vec::new(),
            view: None,
            sent: None,
            version: 0,
            has_ended: false,
        };
        let answers = stream::unfold(conversation, |mut conversation| async move {
            if conversation.has_ended {
                return None;
            }
            let answer = conversation.next().await.transpose()?;
            conversation.has_ended = answer.is_err();
            Some((answer, conversation))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let ask = SecretsAsk::read(request.into_inner()).map_err(unasked)?;
        let view = self.caller.view(&self.caller.current()?).await?;
        Ok(Response::new(answer(resources(&view, &ask.names)?, 1)))
    }
}

/// A stream with Envoy: it names what it wants, acknowledges what it gets, and is told anew when that changes.
struct Conversation {
    caller: Arc<Caller>,
    asks: Streaming<DiscoveryRequest>,
    place: Option<StreamPlace>,
    views: Option<Updates<View>>,
    names: Vec<String>,
    view: Option<View>,
    sent: Option<Vec<Any>>,
    version: u64,
    has_ended: bool,
}

impl Conversation {
    /// The next answer; nothing where Envoy has ended the stream.
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        loop {
            let has_view = self.views.is_some();
            let views = async {
                match &mut self.views {
                    Some(views) => views.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = self.asks.message() => match ask? {
                    None => return Ok(None),
                    Some(ask) => self.asked(SecretsAsk::read(ask).map_err(unasked)?)?,
                },
                view = views, if has_view => match view {
                    Some(view) => self.view = Some(view?),
                    None => return Ok(None),
                },
            }
            let Some(view) = &self.view else { continue };
            let secrets = resources(view, &self.names)?;
            if self.sent.as_ref() != Some(&secrets) {
                self.version += 1;
                self.sent = Some(secrets.clone());
                return Ok(Some(answer(secrets, self.version)));
            }
        }
    }

    fn asked(&mut self, ask: SecretsAsk) -> Result<(), Status> {
        if let Some(refusal) = &ask.refusal {
            tracing::warn!(%refusal, "Envoy refuses the secrets that it was sent");
        }
        // An answer to what is not the newest any more says nothing of what is wanted now.
        if ask.answer.as_ref().is_some_and(|nonce| *nonce != self.version.to_string()) {
            return Ok(());
        }
        if ask.names != self.names {
            self.caller.count()?;
            self.names = ask.names;
            self.sent = None;
        }
        if let Some(place) = self.place.take() {
            let is_issued = |view: &View| {
                view.mine.iter().any(|mine| mine.held.is_some()).then(|| view.clone())
            };
            self.views = Some(Box::pin(updates(&self.caller, place, is_issued)));
        }
        Ok(())
    }
}

fn answer(resources: Vec<Any>, version: u64) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_string(),
        resources,
        type_url: SECRET_TYPE.to_owned(),
        nonce: version.to_string(),
    }
}

/// Secrets by their names; what the caller may not have is denied, and what is not issued yet is left out.
fn resources(view: &View, names: &[String]) -> Result<Vec<Any>, Status> {
    let all = everything(view);
    let names = if names.is_empty() { &all } else { names };
    let secrets = names.iter().map(|name| secret(view, name).map(|found| found.map(packed)));
    Ok(secrets.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn packed(secret: Secret) -> Any {
    Any { type_url: SECRET_TYPE.to_owned(), value: encode(&secret) }
}

fn everything(view: &View) -> Vec<String> {
    let ids = view.mine.iter().map(|mine| mine.entry.spiffe_id.to_string());
    let domains = view.bundles.keys().map(|domain| format!("spiffe://{domain}"));
    ids.chain(domains).collect()
}

fn secret(view: &View, name: &str) -> Result<Option<Secret>, Status> {
    let issued = |held: &Option<Arc<Held>>| held.as_deref().map(certificate);
    let kind = match name {
        DEFAULT => view.mine.first().and_then(|mine| issued(&mine.held)),
        ROOT => view.bundles.get(&view.trust_domain).map(|bundle| anchors(bundle)),
        ALL => Some(validator(view)),
        _ => {
            let mut mine = view.mine.iter();
            let mine = mine.find(|mine| mine.entry.spiffe_id.as_str() == name);
            let domain = name.strip_prefix("spiffe://");
            let domain = domain.and_then(|domain| domain.parse::<TrustDomain>().ok());
            let bundle = domain.and_then(|domain| view.bundles.get(&domain));
            match (mine, bundle) {
                (Some(mine), _) => issued(&mine.held),
                (None, Some(bundle)) => Some(anchors(bundle)),
                (None, None) => {
                    let name = name.escape_debug();
                    let why = format!(
                        "`{name}` is no ID of the caller and no trust domain that it may verify"
                    );
                    return Err(Status::permission_denied(why));
                }
            }
        }
    };
    Ok(kind.map(|kind| Secret { name: name.to_owned(), r#type: Some(kind) }))
}

fn certificate(held: &Held) -> secret::Type {
    let key = private_key_pem(&held.key);
    secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(held.svid.to_pem())),
        private_key: Some(inline(key.expose_secret().to_owned())),
    })
}

fn anchors(bundle: &TrustBundle) -> secret::Type {
    secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(bundle.to_pem())),
        custom_validator_config: None,
    })
}

/// Each trust domain is verified by its own bundle.
fn validator(view: &View) -> secret::Type {
    let domains =
        view.bundles.iter().map(|(domain, bundle)| spiffe_cert_validator_config::TrustDomain {
            name: domain.to_string(),
            trust_bundle: Some(inline(bundle.to_pem())),
        });
    let config = SpiffeCertValidatorConfig { trust_domains: domains.collect() };
    let typed_config = Any { type_url: VALIDATOR_TYPE.to_owned(), value: encode(&config) };
    secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: None,
        custom_validator_config: Some(TypedExtensionConfig {
            name: VALIDATOR.to_owned(),
            typed_config: Some(typed_config),
        }),
    })
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())) }
}
