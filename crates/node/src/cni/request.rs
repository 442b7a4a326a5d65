//! What a container runtime says to a plugin: environment and configuration, by the CNI specification.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// Versions of the specification whose results are passed on as they came.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What is wrong, by the codes of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CniError {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) details: String,
}

/// Codes of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Version = 1,
    Environment = 4,
    InputOutput = 5,
    Decode = 6,
    Config = 7,
    Later = 11,
    Unavailable = 50,
    /// Ours: the node has refused.
    Refused = 100,
}

impl CniError {
    pub(super) fn new(code: Code, message: impl Into<String>, details: impl ToString) -> Self {
        Self { code, message: message.into(), details: details.to_string() }
    }

    /// As the runtime reads it from standard output.
    pub(super) fn to_json(&self, version: &str) -> String {
        serde_json::json!({
            "cniVersion": version,
            "code": self.code as u32,
            "msg": self.message,
            "details": self.details,
        })
        .to_string()
    }
}

/// The network's configuration, as much of it as the plugin needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    pub(super) cni_version: String,
    /// Where the node listens.
    pub(super) socket: PathBuf,
    /// Namespaces whose pods are never led: they come up while the node is down.
    #[serde(default)]
    pub(super) pass_namespaces: Vec<String>,
    /// What the plugins before this one have made.
    pub(super) prev_result: Option<Box<RawValue>>,
    /// All that is still there, for `GC`.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub(super) valid_attachments: Option<Vec<ValidAttachment>>,
}

/// One thing that is still there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container: String,
}

impl Config {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, CniError> {
        let config: Self = serde_json::from_slice(bytes).map_err(|error| {
            CniError::new(Code::Decode, "cannot read the network's configuration", error)
        })?;
        if !VERSIONS.contains(&config.cni_version.as_str()) {
            let message = format!("version `{}` of CNI is not spoken", config.cni_version);
            return Err(CniError::new(Code::Version, message, VERSIONS.join(", ")));
        }
        if !config.socket.is_absolute() {
            let message = "`socket` must be an absolute path: the node's socket for this plugin";
            return Err(CniError::new(Code::Config, message, config.socket.display()));
        }
        Ok(config)
    }

    /// What was made before; the plugin makes no interface of its own.
    pub(super) fn previous(&self) -> Result<&RawValue, CniError> {
        self.prev_result.as_deref().ok_or_else(|| {
            let message =
                "`prevResult` is missing: the plugin must stand behind the one that makes the interface";
            CniError::new(Code::Config, message, "")
        })
    }

    /// The addresses that the pod has got.
    pub(super) fn addresses(&self) -> Result<Vec<IpAddr>, CniError> {
        let wrong =
            |error: String| CniError::new(Code::Decode, "cannot read `prevResult.ips`", error);
        let result: Value = serde_json::from_str(self.previous()?.get())
            .map_err(|error| wrong(error.to_string()))?;
        let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let address = |ip: &Value| {
            let text = ip["address"].as_str().unwrap_or_default();
            let (address, _) = text.split_once('/').unwrap_or((text, ""));
            address.parse().map_err(|_| wrong(format!("`{text}` is no address")))
        };
        ips.iter().map(address).collect()
    }
}

/// Whose network it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The variables of a call.
pub(super) struct Variables<'a>(pub(super) &'a BTreeMap<String, String>);

impl Variables<'_> {
    pub(super) fn required(&self, name: &str) -> Result<&str, CniError> {
        match self.0.get(name).map(String::as_str) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) | None => {
                Err(CniError::new(Code::Environment, format!("`{name}` is not set"), ""))
            }
        }
    }

    /// The pod, as runtimes of Kubernetes name it; nothing where the network is for something else.
    pub(super) fn pod(&self) -> Result<Option<Pod>, CniError> {
        let arguments = self.0.get("CNI_ARGS").map(String::as_str).unwrap_or_default();
        let of: BTreeMap<&str, &str> =
            arguments.split(';').filter_map(|argument| argument.split_once('=')).collect();
        let named = |name: &str| of.get(name).copied().filter(|value| !value.is_empty());
        let all = [named("K8S_POD_NAMESPACE"), named("K8S_POD_NAME"), named("K8S_POD_UID")];
        match all {
            [None, None, None] => Ok(None),
            [Some(namespace), Some(name), Some(uid)] => Ok(Some(Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
            })),
            _ => {
                let message =
                    "`CNI_ARGS` must name `K8S_POD_NAMESPACE`, `K8S_POD_NAME` and `K8S_POD_UID`";
                Err(CniError::new(Code::Environment, message, arguments))
            }
        }
    }
}
