//! The Secret of the audit webhook: its authority, which `agent control` keeps, and the file that an administrator gives to API servers.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, Service},
};
use kube::{Api, api::PostParams};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde_json::json;

use crate::{
    AGENT_AUDIT, AUDIT_SECRET, ApiServer, ConnectError, Credential, KubeError, SYSTEM_NAMESPACE,
    Step,
};

const AUTHORITY: &str = "authority.crt";
const KEY: &str = "authority.key";
const ENDS: &str = "client-certificate-ends";
/// What API servers are given.
const FILE: &str = "kubeconfig";

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct AuditWebhook {
    /// The authority's certificate, PEM; empty before there is one.
    pub authority_pem: String,
    /// Its key, PKCS#8.
    pub authority_key: SecretSlice<u8>,
    /// The address in the file for API servers; empty before there is one.
    pub address: String,
    /// When the client certificate in that file ends, in seconds of Unix time.
    pub client_ends: i64,
    /// That file; whoever has it may tell what an API server tells.
    file: SecretString,
    version: Option<String>,
}

/// What the file for API servers is made of.
pub struct CallerFile<'a> {
    /// Where they connect, `host:port`.
    pub address: &'a str,
    /// The name in the certificate that they are shown.
    pub server_name: &'a str,
    /// Their certificate, PEM.
    pub certificate_pem: &'a str,
    /// Its key, PEM.
    pub key_pem: &'a str,
    /// When it ends, in seconds of Unix time.
    pub ends: i64,
}

impl AuditWebhook {
    /// Puts in a file for API servers, which then find the webhook and prove themselves.
    pub fn set_file(&mut self, file: &CallerFile<'_>) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "nullius",
            "clusters": [{ "name": "nullius", "cluster": {
                "server": format!("https://{}/audit", file.address),
                "tls-server-name": file.server_name,
                "certificate-authority-data": STANDARD.encode(&self.authority_pem),
            } }],
            "users": [{ "name": "api-server", "user": {
                "client-certificate-data": STANDARD.encode(file.certificate_pem),
                "client-key-data": STANDARD.encode(file.key_pem),
            } }],
            "contexts": [{ "name": "nullius", "context": { "cluster": "nullius", "user": "api-server" } }],
        });
        // JSON values always have a YAML form.
        self.file = SecretString::from(serde_yaml_ng::to_string(&text).unwrap_or_default());
        file.address.clone_into(&mut self.address);
        self.client_ends = file.ends;
    }
}

/// Reads and writes it.
#[derive(Clone)]
pub struct AuditWebhookStore {
    secrets: Api<Secret>,
    services: Api<Service>,
}

impl AuditWebhookStore {
    /// With the provisioner's credential.
    pub fn new(server: &ApiServer, provisioner: Credential) -> Result<Self, ConnectError> {
        let client = server.client(provisioner)?;
        Ok(Self {
            secrets: Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
            services: Api::namespaced(client, SYSTEM_NAMESPACE),
        })
    }

    /// What is kept; none where the manifest of the cluster is older and has no place for it.
    pub async fn load(&self) -> Result<Option<AuditWebhook>, KubeError> {
        let secret = self.secrets.get_opt(AUDIT_SECRET).await;
        let secret = secret.map_err(KubeError::at(Step::ReadAuditWebhook))?;
        secret.map(parse).transpose()
    }

    /// Where API servers reach the Service, `host:port`.
    pub async fn address(&self) -> Result<String, KubeError> {
        let service = self.services.get(AGENT_AUDIT).await;
        let spec = service.map_err(KubeError::at(Step::ReadAuditWebhook))?.spec.unwrap_or_default();
        let lacks = |what| KubeError::Incomplete { step: Step::ReadAuditWebhook, what };
        let host = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None");
        let host = host.ok_or_else(|| lacks("an address of the Service"))?;
        let port = spec.ports.unwrap_or_default().first().map(|port| port.port);
        let port = port.ok_or_else(|| lacks("a port of the Service"))?;
        Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// Keeps it; false where somebody else wrote since it was read.
    pub async fn keep(&self, webhook: &AuditWebhook) -> Result<bool, KubeError> {
        let secret = self.secrets.get(AUDIT_SECRET).await;
        let mut secret = secret.map_err(KubeError::at(Step::ReadAuditWebhook))?;
        if secret.metadata.resource_version != webhook.version {
            return Ok(false);
        }
        secret.data = Some(data_of(webhook));
        match self.secrets.replace(AUDIT_SECRET, &PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(KubeError::from_kube(Step::WriteAuditWebhook, error)),
        }
    }
}

const ADDRESS: &str = "address";

fn parse(mut secret: Secret) -> Result<AuditWebhook, KubeError> {
    let data = secret.data.take().unwrap_or_default();
    let version = secret.metadata.resource_version;
    let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let Some(authority_pem) = text(AUTHORITY) else {
        return Ok(AuditWebhook { version, ..AuditWebhook::default() });
    };
    let lacks = |what| KubeError::Incomplete { step: Step::ReadAuditWebhook, what };
    let key = data.get(KEY).ok_or_else(|| lacks("a key"))?;
    Ok(AuditWebhook {
        authority_pem,
        authority_key: SecretSlice::from(key.0.clone()),
        address: text(ADDRESS).unwrap_or_default(),
        client_ends: text(ENDS).and_then(|ends| ends.parse().ok()).unwrap_or_default(),
        file: SecretString::from(text(FILE).unwrap_or_default()),
        version,
    })
}

fn data_of(webhook: &AuditWebhook) -> BTreeMap<String, ByteString> {
    let entries: [(&str, &[u8]); 5] = [
        (AUTHORITY, webhook.authority_pem.as_bytes()),
        (KEY, webhook.authority_key.expose_secret()),
        (ADDRESS, webhook.address.as_bytes()),
        (ENDS, &webhook.client_ends.to_string().into_bytes()),
        (FILE, webhook.file.expose_secret().as_bytes()),
    ];
    entries.into_iter().map(|(key, bytes)| (key.to_owned(), ByteString(bytes.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_is_kept_survives_its_secret_and_half_of_it_is_refused() {
        let mut webhook = AuditWebhook {
            authority_pem: "pem".to_owned(),
            authority_key: SecretSlice::from(vec![1, 2]),
            ..AuditWebhook::default()
        };
        webhook.set_file(&CallerFile {
            address: "10.96.0.9:443",
            server_name: "a.svc",
            certificate_pem: "certificate",
            key_pem: "key",
            ends: 7,
        });
        let mut secret = Secret { data: Some(data_of(&webhook)), ..Secret::default() };
        let read = parse(secret.clone()).unwrap();
        assert_eq!((read.authority_pem.as_str(), read.client_ends), ("pem", 7));
        assert_eq!(read.address, "10.96.0.9:443");
        let file = read.file.expose_secret();
        assert!(
            file.contains("https://10.96.0.9:443/audit") && file.contains("tls-server-name: a.svc")
        );
        assert!(!format!("{read:?}").contains("client-key-data"), "nobody logs it by mistake");
        assert!(parse(Secret::default()).unwrap().authority_pem.is_empty());
        secret.data.as_mut().unwrap().remove(KEY);
        assert!(parse(secret).is_err());
    }
}
