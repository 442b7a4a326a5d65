//! Every rustls configuration: who listens, who dials, what is offered and what is checked.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

use crate::{
    HttpVersions, InfraRoots, LiveCertificate, PeerRule, Protocol, WebRoots,
    peer::{InfraClientVerifier, InfraServerVerifier},
};

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or no certificate in it.
    #[error("the certificate authority cannot be read: {0}")]
    Pem(String),
    /// A pinned root that is none.
    #[error("the pinned root is refused")]
    Root {
        #[source]
        source: Box<nullius_pki::CertificateError>,
    },
    /// A certificate or key that TLS cannot use, or that do not belong together.
    #[error("certificate or key cannot be used for tls")]
    Certificate(#[source] rustls::Error),
    /// A certificate that proves no workload.
    #[error("the certificate is no SVID")]
    Svid(#[source] nullius_pki::workload::SvidError),
    /// The settings contradict each other.
    #[error("tls cannot be configured: {0}")]
    Settings(String),
}

/// Who a client is to a server that is not ours.
#[derive(Debug, Clone)]
pub enum ClientIdentity {
    /// It shows no certificate.
    Anonymous,
    /// It shows this one.
    Certificate(Arc<LiveCertificate>),
}

/// Makes AWS-LC the provider of libraries that build a configuration of their own. Call it first in `main`; a second
/// call changes nothing.
pub fn install_provider() {
    // An error says that a provider is installed already, and the only one linked in is this.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The hub's listener for people: no client certificates, HTTP/2 or HTTP/1.1, TLS 1.2 or 1.3.
pub fn public_server_config(
    certificate: Arc<LiveCertificate>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(settings)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = HttpVersions::Either.alpn();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(settings)?;
    Ok(Arc::new(config))
}

/// A listener for our own parts: TLS 1.3, a certificate of the infrastructure root on both sides, exactly these
/// protocols.
///
/// No session is resumed: each connection proves its certificate anew, and has an exporter of its own.
pub fn agent_server_config(
    roots: &InfraRoots,
    certificate: Arc<LiveCertificate>,
    admit: PeerRule,
    protocols: &[Protocol],
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots.store()), provider())
        .build()
        .map_err(|error| TlsError::Settings(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(settings)?
        .with_client_cert_verifier(Arc::new(InfraClientVerifier { chain, rule: admit }))
        .with_cert_resolver(certificate);
    config.alpn_protocols = protocols.iter().map(|protocol| alpn(*protocol)).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A listener for API servers, which call webhooks: TLS 1.3, HTTP/2 or HTTP/1.1, and a client certificate of these authorities
/// where there are any.
pub(crate) fn webhook_server_config(
    certificate: Arc<LiveCertificate>,
    clients: Option<&WebRoots>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(settings)?;
    let mut config = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let roots = Arc::clone(roots.store());
            let chain = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            let chain = chain.map_err(|error| TlsError::Settings(error.to_string()))?;
            builder.with_client_cert_verifier(chain)
        }
    }
    .with_cert_resolver(certificate);
    config.alpn_protocols = HttpVersions::Either.alpn();
    // Each connection proves anew who is there.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A client of our own parts: TLS 1.3, a certificate on both sides, one protocol. The server is checked by its URI
/// name, so that the `ServerName` given to the connector only serves as SNI.
pub fn agent_client_config(
    roots: &InfraRoots,
    certificate: Arc<LiveCertificate>,
    admit: PeerRule,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = infra_client(roots, admit)?.with_client_cert_resolver(certificate);
    config.alpn_protocols = vec![alpn(protocol)];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A client of the hub's public listener that has no certificate yet (join, enrolment, sign-in of the CLI): TLS 1.3,
/// and the server is a hub of the pinned root under whatever address.
pub fn hub_client_config(
    roots: &InfraRoots,
    http: HttpVersions,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = infra_client(roots, PeerRule::Hub)?.with_no_client_auth();
    config.alpn_protocols = http.alpn();
    Ok(Arc::new(config))
}

/// A client of a server that is not ours, such as an API server: checked by DNS name or IP address against `roots`.
///
/// Keep the configuration: sessions are resumed through it, which makes the fresh connections of upgrades cheap.
pub fn web_client_config(
    roots: &WebRoots,
    identity: ClientIdentity,
    http: HttpVersions,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(settings)?
        .with_root_certificates(Arc::clone(roots.store()));
    let mut config = match identity {
        ClientIdentity::Anonymous => builder.with_no_client_auth(),
        ClientIdentity::Certificate(certificate) => builder.with_client_cert_resolver(certificate),
    };
    config.alpn_protocols = http.alpn();
    Ok(Arc::new(config))
}

/// AWS-LC with X25519MLKEM768 first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn infra_client(
    roots: &InfraRoots,
    rule: PeerRule,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let roots = Arc::clone(roots.store());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(settings)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(InfraServerVerifier {
            roots,
            rule,
            algorithms,
        })))
}

fn alpn(protocol: Protocol) -> Vec<u8> {
    protocol.as_str().as_bytes().to_vec()
}

fn settings(error: rustls::Error) -> TlsError {
    TlsError::Settings(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn the_hybrid_post_quantum_group_is_offered_first() {
        let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups.first(), Some(&NamedGroup::X25519MLKEM768));
    }
}
