//! Envoy's secret discovery, as Envoy asks for it.

use std::{collections::BTreeSet, sync::Arc};

use nullius_model::{SystemClock, TrustDomain};
use nullius_proto::{
    decode,
    envoy::{
        extensions::transport_sockets::tls::v3::{
            DataSource, Secret, SpiffeCertValidatorConfig, data_source::Specifier, secret::Type,
        },
        service::{
            discovery::v3::{DiscoveryRequest, DiscoveryResponse, Status as Refusal},
            secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
        },
    },
};
use nullius_workload::Entry;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

use crate::world::{Authority, DOMAIN, Node, OTHER, entry, own_user, registered};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

async fn envoy(node: &Node) -> SecretDiscoveryServiceClient<Channel> {
    let target = format!("unix:{}", node.path());
    let channel = tonic::transport::Endpoint::from_shared(target).unwrap().connect().await.unwrap();
    SecretDiscoveryServiceClient::new(channel)
}

fn ask(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: nonce.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: None,
    }
}

/// The PEM blocks of a secret's certificates.
fn certificates(source: &Option<DataSource>) -> Vec<CertificateDer<'static>> {
    let Some(Specifier::InlineBytes(pem)) = source.as_ref().unwrap().specifier.as_ref() else {
        panic!("not inline");
    };
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

fn secrets(answer: &DiscoveryResponse) -> Vec<Secret> {
    assert_eq!(answer.type_url, SECRET);
    let read = |any: &nullius_proto::Any| {
        assert_eq!(any.type_url, SECRET);
        decode::<Secret>(&any.value).unwrap()
    };
    answer.resources.iter().map(read).collect()
}

struct Stream {
    asks: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn open(node: &Node, first: DiscoveryRequest) -> Self {
        let (asks, asked) = mpsc::channel(4);
        asks.send(first).await.unwrap();
        let answers = envoy(node).await.stream_secrets(ReceiverStream::new(asked)).await.unwrap();
        Self { asks, answers: answers.into_inner() }
    }

    async fn next(&mut self) -> DiscoveryResponse {
        self.answers.message().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn envoy_is_given_certificate_and_bundle_and_both_anew() {
    let mut node = Node::start(vec![entry("/a", &[&own_user()])]);
    // Envoy opens one stream for each secret, and sends no sign of a workload.
    let mut own = Stream::open(&node, ask(&["default"], "")).await;
    let mut root = Stream::open(&node, ask(&["ROOTCA"], "")).await;
    let first = own.next().await;
    let [secret] = &secrets(&first)[..] else { panic!("one secret") };
    assert_eq!(secret.name, "default");
    let Some(Type::TlsCertificate(tls)) = &secret.r#type else { panic!("a certificate") };
    let chain = certificates(&tls.certificate_chain);
    let held = node.holdings.borrow().as_ref().unwrap().held["000"].clone();
    assert_eq!(chain, held.svid.chain);
    let Some(Specifier::InlineBytes(key)) = &tls.private_key.as_ref().unwrap().specifier else {
        panic!("not inline");
    };
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(key).unwrap();
    assert_eq!(key.secret_pkcs8_der(), held.key.as_slice());
    let bundle = secrets(&root.next().await);
    let Some(Type::ValidationContext(context)) = &bundle[0].r#type else { panic!("a bundle") };
    let anchors = node.authority.bundle().x509_authorities().to_vec();
    assert_eq!(certificates(&context.trusted_ca), anchors);
    // Acknowledged, and then changed: that alone is sent.
    own.asks.send(ask(&["default"], &first.nonce)).await.unwrap();
    node.rotate().await;
    let second = own.next().await;
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(second.resources, first.resources);
    // Refused, nothing is sent again until something else is there.
    let mut refusal = ask(&["default"], &second.nonce);
    refusal.error_detail = Some(Refusal { code: 3, message: "\u{1b}[31mno".to_owned() });
    own.asks.send(refusal).await.unwrap();
    own.asks.send(ask(&["ROOTCA"], &second.nonce)).await.unwrap();
    assert_eq!(secrets(&own.next().await)[0].name, "ROOTCA");
    node.end().await;
}

#[tokio::test]
async fn names_are_the_callers_own_or_denied() {
    let bank: TrustDomain = OTHER.parse().unwrap();
    let other = Authority::create(OTHER, Arc::new(SystemClock));
    let mut node = Node::start(Vec::new());
    let mine =
        Entry { federates_with: BTreeSet::from([bank.clone()]), ..entry("/a", &[&own_user()]) };
    let theirs = entry("/b", &["unix:uid:77"]);
    let mut now = registered(&node.authority, vec![mine, theirs]);
    now.bundles.insert(bank, other.bundle());
    node.register(now);
    node.holdings
        .wait_for(|all| all.as_ref().is_some_and(|all| all.held.len() == 2))
        .await
        .unwrap();
    let mut envoy = envoy(&node).await;
    let all = envoy.fetch_secrets(ask(&["ALL"], "")).await.unwrap().into_inner();
    let Some(Type::ValidationContext(context)) = secrets(&all)[0].r#type.clone() else {
        panic!("a bundle");
    };
    let validator = context.custom_validator_config.unwrap();
    assert_eq!(validator.name, "envoy.tls.cert_validator.spiffe");
    let config: SpiffeCertValidatorConfig = decode(&validator.typed_config.unwrap().value).unwrap();
    let domains: Vec<_> = config.trust_domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(domains, [OTHER, DOMAIN]);
    assert_eq!(
        certificates(&config.trust_domains[0].trust_bundle),
        other.bundle().x509_authorities()
    );
    let everything = envoy.fetch_secrets(ask(&[], "")).await.unwrap().into_inner();
    let names: Vec<_> = secrets(&everything).into_iter().map(|secret| secret.name).collect();
    let of = |domain: &str| format!("spiffe://{domain}");
    assert_eq!(names, [format!("{}/a", of(DOMAIN)), of(OTHER), of(DOMAIN)]);
    for name in [format!("{}/b", of(DOMAIN)), of("evil.example.org"), "x".to_owned()] {
        let refused = envoy.fetch_secrets(ask(&[&name], "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let mut clusters = ask(&[], "");
    clusters.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let refused = envoy.fetch_secrets(clusters).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    node.end().await;
}

#[tokio::test]
async fn an_envoy_without_identity_is_denied() {
    let node = Node::start(vec![entry("/a", &["unix:uid:77"])]);
    let mut stream = Stream::open(&node, ask(&["default"], "")).await;
    let refused = stream.answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    node.end().await;
}
