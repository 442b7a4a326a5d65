//! Reads objects of a cluster with the user of a kubeconfig, whole and page by page, and changes nothing.

use std::path::Path;

use http::Request;
use kube::Client;
use serde_json::Value;

use crate::{ApiServer, ConnectError};

/// How many objects one answer holds at most.
const PAGE: usize = 500;

/// Objects of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The plural, `deployments`.
    pub resource: String,
    /// In this namespace alone.
    pub namespace: Option<String>,
    /// Only the one of this name.
    pub name: Option<String>,
}

/// Why objects were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server does not answer.
    #[error("the API server `{address}` does not answer")]
    Unreachable {
        address: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The user may not.
    #[error("the user of the kubeconfig may not list `{what}`: {message}")]
    Denied { what: String, message: String },
    /// The API server has no such resource.
    #[error("the API server has no `{what}`")]
    Absent { what: String },
    /// The API server said no for another reason.
    #[error("listing `{what}` failed, the API server answered {code}: {message}")]
    Api { what: String, code: u16, message: String },
}

/// The user of a kubeconfig, who only reads.
pub struct ClusterReader {
    address: String,
    client: Client,
}

impl ClusterReader {
    /// Reads a kubeconfig (`None`: its current context).
    pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConnectError> {
        let (server, client) = ApiServer::from_kubeconfig(path, context).await?;
        Ok(Self { address: server.url().to_string(), client })
    }

    /// The API server's version, `v1.36.3`.
    pub async fn version(&self) -> Result<String, ReadError> {
        let version = self.client.apiserver_version().await;
        version.map(|version| version.git_version).map_err(|error| self.told("version", error))
    }

    /// All objects of a resource as JSON; each says what it is.
    pub async fn list(&self, listed: &Listed) -> Result<Vec<Value>, ReadError> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let path = listed.path(&next);
            let request = Request::get(&path).body(Vec::new());
            let request = request.map_err(kube::Error::HttpError);
            let request = request.map_err(|error| self.told(&listed.resource, error))?;
            let answer = self.client.request::<Value>(request).await;
            let mut answer = answer.map_err(|error| self.told(&listed.resource, error))?;
            if let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) {
                all.extend(items.into_iter().map(|item| listed.named(item)));
            }
            next = match answer.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => token.to_owned(),
                _ => return Ok(all),
            };
        }
    }

    fn told(&self, what: &str, error: kube::Error) -> ReadError {
        let what = what.to_owned();
        match error {
            kube::Error::Api(status) => match status.code {
                401 | 403 => ReadError::Denied { what, message: status.message.clone() },
                404 => ReadError::Absent { what },
                code => ReadError::Api { what, code, message: status.message.clone() },
            },
            source => {
                ReadError::Unreachable { address: self.address.clone(), source: Box::new(source) }
            }
        }
    }
}

impl Listed {
    fn path(&self, next: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let mut path =
            format!("/{root}/{}{namespace}/{}?limit={PAGE}", self.api_version, self.resource);
        if let Some(name) = &self.name {
            path.push_str(&format!("&fieldSelector=metadata.name%3D{name}"));
        }
        if !next.is_empty() {
            path.push_str(&format!("&continue={}", escaped(next)));
        }
        path
    }

    fn named(&self, mut object: Value) -> Value {
        if let Value::Object(fields) = &mut object {
            fields.insert("apiVersion".to_owned(), Value::from(self.api_version.as_str()));
            fields.insert("kind".to_owned(), Value::from(self.kind.as_str()));
        }
        object
    }
}

/// A token in a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_resource() {
        let mut listed = Listed {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            resource: "configmaps".to_owned(),
            namespace: None,
            name: None,
        };
        assert_eq!(listed.path(""), "/api/v1/configmaps?limit=500");
        listed.namespace = Some("a".to_owned());
        listed.name = Some("b".to_owned());
        assert_eq!(
            listed.path("x=/"),
            "/api/v1/namespaces/a/configmaps?limit=500&fieldSelector=metadata.name%3Db&continue=x%3D%2F"
        );
        listed.api_version = "example.com/v1".to_owned();
        assert!(listed.path("").starts_with("/apis/example.com/v1/namespaces/a/"));
    }
}
