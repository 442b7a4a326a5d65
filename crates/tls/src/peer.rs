//! Who may be at the other end, and who is: checks by the URI name of the infrastructure certificate.
//!
//! A server of ours is not checked by DNS name: an agent may reach a hub under any address, and a name is worth
//! nothing beside `spiffe://infra.nullius/hub/…` signed by the pinned root.

use std::{io, sync::Arc};

use nullius_model::{ClusterName, InfraId, Timestamp};
use nullius_pki::{CertificateError, CertificateIdentity, identity_of};
use rustls::{
    CommonState, ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The label of the exporter that binds assertions to a connection (RFC 8446, section 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-nullius-tunnel";

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRule {
    /// Any replica of the hub.
    Hub,
    /// Any agent of any cluster; the caller goes by its identity.
    Agent,
    /// `agent control` of one cluster.
    ControlOf(ClusterName),
    /// `agent proxy` of one cluster.
    ProxyOf(ClusterName),
}

impl PeerRule {
    /// Whether an identity may be at the other end.
    pub fn admits(&self, id: &InfraId) -> bool {
        match (self, id) {
            (Self::Hub, InfraId::Hub { .. })
            | (
                Self::Agent,
                InfraId::AgentProxy { .. }
                | InfraId::AgentControl { .. }
                | InfraId::AgentAdmission { .. }
                | InfraId::AgentIdentity { .. },
            ) => true,
            (Self::ControlOf(wanted), InfraId::AgentControl { cluster, .. })
            | (Self::ProxyOf(wanted), InfraId::AgentProxy { cluster, .. }) => wanted == cluster,
            (
                Self::Hub | Self::Agent | Self::ControlOf(_) | Self::ProxyOf(_),
                InfraId::Hub { .. }
                | InfraId::AgentProxy { .. }
                | InfraId::AgentControl { .. }
                | InfraId::AgentAdmission { .. }
                | InfraId::AgentIdentity { .. },
            ) => false,
        }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let id = match identity_of(certificate) {
            Ok(CertificateIdentity { id, .. }) => id,
            Err(error) => return Err(refused(error)),
        };
        if self.admits(&id) { Ok(()) } else { Err(refused(PeerError::NotAdmitted(id))) }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The identity in its certificate.
    pub id: InfraId,
    /// When that certificate ends; a connection must not outlive it.
    pub not_after: Timestamp,
}

/// Why nobody that we know is at the other end.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No certificate was shown.
    #[error("the peer showed no certificate")]
    Anonymous,
    /// The certificate names nobody of ours.
    #[error("the peer's certificate is refused")]
    Certificate(#[from] CertificateError),
    /// Somebody of ours, but not who may be here.
    #[error("`{0}` may not connect here")]
    NotAdmitted(InfraId),
    /// The handshake is not done.
    #[error("the connection has no exporter")]
    Exporter(#[source] Error),
}

/// The peer of a connection between our own parts.
pub fn peer(connection: &CommonState) -> Result<Peer, PeerError> {
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(PeerError::Anonymous)?;
    let CertificateIdentity { id, not_after } = identity_of(leaf)?;
    Ok(Peer { id, not_after })
}

/// The value that both ends of a connection share and nobody else knows, to bind assertions to the connection.
pub fn exporter<Data>(connection: &ConnectionCommon<Data>) -> Result<[u8; 32], PeerError> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(PeerError::Exporter)
}

/// Why a handshake failed, in words: the reason of ours, where a certificate named the wrong part of Nullius.
pub fn describe_failure(error: &io::Error) -> String {
    refusal(error).unwrap_or_else(|| error.to_string())
}

/// Our own reason inside a handshake's error, where there is one.
pub(crate) fn refusal(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(reason))) => {
            let mut text = reason.to_string();
            let mut source = reason.source();
            while let Some(error) = source {
                text.push_str(": ");
                text.push_str(&error.to_string());
                source = error.source();
            }
            Some(text)
        }
        _ => None,
    }
}

/// Verifies servers of ours.
#[derive(Debug)]
pub(crate) struct InfraServerVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) rule: PeerRule,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for InfraServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _by_uri_not_by_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.rule.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies clients of ours: the chain as webpki does, then who it is.
#[derive(Debug)]
pub(crate) struct InfraClientVerifier {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) rule: PeerRule,
}

impl ClientCertVerifier for InfraClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.rule.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(Arc::new(error))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::InstanceId;

    use super::*;

    #[test]
    fn each_rule_admits_its_own_and_nobody_else() {
        let instance = InstanceId::from_bits(1);
        let cluster = |name: &str| name.parse::<ClusterName>().unwrap();
        let hub = InfraId::Hub { instance: instance.clone() };
        let proxy =
            |name| InfraId::AgentProxy { cluster: cluster(name), instance: instance.clone() };
        let control =
            |name| InfraId::AgentControl { cluster: cluster(name), instance: instance.clone() };
        let admission =
            |name| InfraId::AgentAdmission { cluster: cluster(name), instance: instance.clone() };
        let everybody = [
            hub,
            proxy("a"),
            proxy("b"),
            control("a"),
            control("b"),
            admission("a"),
            admission("b"),
        ];
        let admitted = |rule: PeerRule| everybody.each_ref().map(|id| rule.admits(id));
        assert_eq!(admitted(PeerRule::Hub), [true, false, false, false, false, false, false]);
        assert_eq!(admitted(PeerRule::Agent), [false, true, true, true, true, true, true]);
        assert_eq!(
            admitted(PeerRule::ProxyOf(cluster("a"))),
            [false, true, false, false, false, false, false]
        );
        assert_eq!(
            admitted(PeerRule::ControlOf(cluster("b"))),
            [false, false, false, false, true, false, false]
        );
    }
}
