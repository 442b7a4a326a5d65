//! How this part proves itself to `agent identity`, and whom it believes from the beginning: by its pod, or as a machine outside of the
//! cluster.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nullius_model::Timestamp;
use nullius_pki::{CertificateError, KeyError, VerifyError};

use crate::{
    NodeError,
    machine::Machine,
    trust::{Trust, TrustError},
};

/// By what this part proves itself.
#[derive(Debug, Clone)]
pub enum ProofSettings {
    /// By the token of its pod.
    Pod {
        /// The folder with `trust-domain`, `bundle.json` and `issuer`: whom the node believes, and where `agent identity` is.
        trust: PathBuf,
        /// The file with the pod's projected token for `agent identity`.
        token_file: PathBuf,
    },
    /// As a machine outside of the cluster.
    Machine {
        /// The file that `nullius node join-token` wrote.
        join: PathBuf,
        /// Files with certificates and their key, where those prove the machine.
        certificates: Option<(PathBuf, PathBuf)>,
    },
}

/// The same, opened.
#[derive(Clone)]
pub(crate) enum Proof {
    Pod { trust: PathBuf, token_file: PathBuf },
    Machine(Arc<Machine>),
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the certificate of this machine cannot be used")]
    Certificate(#[from] CertificateError),
    #[error("the key of this machine cannot be used")]
    Key(#[from] KeyError),
    #[error("a token of this machine cannot be signed")]
    Sign(#[from] VerifyError),
    #[error("the machine has not joined yet")]
    NotJoined,
}

impl Proof {
    pub(crate) fn open(settings: &ProofSettings, state: &Path) -> Result<Self, NodeError> {
        Ok(match settings {
            ProofSettings::Pod { trust, token_file } => {
                Self::Pod { trust: trust.clone(), token_file: token_file.clone() }
            }
            ProofSettings::Machine { join, certificates } => {
                Self::Machine(Arc::new(Machine::open(join, certificates.clone(), state)?))
            }
        })
    }

    /// Whom to believe from the beginning, and where to ask.
    pub(crate) fn trust(&self) -> Result<Trust, TrustError> {
        match self {
            Self::Pod { trust, .. } => Trust::read(trust),
            Self::Machine(machine) => Ok(machine.trust().clone()),
        }
    }

    /// What to show with a call.
    pub(crate) fn token(&self) -> Result<String, ProofError> {
        match self {
            // A small file in memory: reading it takes no longer than handing it to another thread.
            Self::Pod { token_file, .. } => read(token_file),
            Self::Machine(machine) => machine.token(Timestamp::now()),
        }
    }

    /// The machine, where this is one.
    pub(crate) fn machine(&self) -> Option<&Arc<Machine>> {
        match self {
            Self::Pod { .. } => None,
            Self::Machine(machine) => Some(machine),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String, ProofError> {
    fs::read_to_string(path).map_err(|source| ProofError::Read { path: path.to_owned(), source })
}
