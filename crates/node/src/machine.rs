//! A machine outside of the cluster: what it was given to join with, and its key, which it makes itself and shows to nobody.
//!
//! Each token to join with has a key of its own. The key stands in the state folder before the token is shown, so that whoever falls in
//! between asks again with the same one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nullius_model::Timestamp;
use nullius_pki::{MachineKey, token_hash, workload::TrustBundle};
use nullius_proto::{VERSION, node_v1::JoinMachineRequest};
use nullius_registration::MachineJoin;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::{
    NodeError,
    memory::{read_message, write_message},
    proof::{ProofError, read},
    trust::{Issuer, Trust},
};

/// The file with the key.
const NAME: &str = "machine";
const KEPT_MAX: usize = 4 * 1024;

/// A machine.
pub(crate) struct Machine {
    given: MachineJoin,
    trust: Trust,
    audience: String,
    means: Means,
}

/// By what it proves itself.
enum Means {
    /// A key that joined, or is to join.
    Key { state: PathBuf, kept: Mutex<Kept> },
    /// Certificates, read for each call: somebody renews them.
    Certificates { chain: PathBuf, key: PathBuf },
}

/// What is kept of the key that joins.
#[derive(Clone)]
struct Kept {
    /// The SHA-256 of the token that it is for.
    token: String,
    key: Arc<MachineKey>,
    has_joined: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    token: String,
    /// PKCS #8, in hexadecimal digits.
    key: String,
    joined: bool,
}

impl Machine {
    /// Reads what it was given; makes a key where there is none for that.
    pub(crate) fn open(
        join: &Path,
        certificates: Option<(PathBuf, PathBuf)>,
        state: &Path,
    ) -> Result<Self, NodeError> {
        let wrong = |why: String| NodeError::JoinFile { path: join.to_owned(), why };
        let text = fs::read_to_string(join).map_err(|error| wrong(error.to_string()))?;
        let object = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let given = MachineJoin::read(&object).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            wrong(faults.join("; "))
        })?;
        let bundle = given.bundle.to_string();
        let bundle = TrustBundle::read(given.trust_domain.clone(), bundle.as_bytes());
        let bundle = bundle.map_err(|error| wrong(format!("bundle: {error}")))?;
        let (domain, issuer) = (given.trust_domain.clone(), Issuer::Named(given.agent.clone()));
        let means = match (certificates, &given.token) {
            (Some((chain, key)), _) => Means::Certificates { chain, key },
            (None, Some(token)) => {
                let unkept = |source| NodeError::State { path: state.to_owned(), source };
                let kept = Kept::of(token, state).map_err(unkept)?;
                Means::Key { state: state.to_owned(), kept: Mutex::new(kept) }
            }
            (None, None) => {
                return Err(wrong(
                    "it has no token: name a certificate by `--certificate` and `--key`".to_owned(),
                ));
            }
        };
        let audience = format!("nullius-agent:{}", given.cluster);
        Ok(Self { given, trust: Trust { domain, bundle, issuer }, audience, means })
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A token that says who this is.
    pub(crate) fn token(&self, now: Timestamp) -> Result<String, ProofError> {
        let key = match &self.means {
            Means::Certificates { chain, key } => {
                Arc::new(MachineKey::with_certificates(&read(key)?, &read(chain)?)?)
            }
            Means::Key { kept, .. } => {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if !kept.has_joined {
                    return Err(ProofError::NotJoined);
                }
                Arc::clone(&kept.key)
            }
        };
        let token = key.sign(&self.given.machine, &self.audience, now)?;
        Ok(token.expose_secret().to_owned())
    }

    /// What to say to join; nothing where it has joined, or needs not.
    pub(crate) fn joining(&self) -> Result<Option<JoinMachineRequest>, ProofError> {
        let (Means::Key { kept, .. }, Some(token)) = (&self.means, &self.given.token) else {
            return Ok(None);
        };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if kept.has_joined {
            return Ok(None);
        }
        let request = kept.key.request()?;
        Ok(Some(JoinMachineRequest {
            version: VERSION,
            machine: self.given.machine.to_string(),
            token: token.clone(),
            certificate_request: request.as_der().to_vec(),
        }))
    }

    /// Remembers that the agent knows the key.
    pub(crate) fn note_joined(&self) {
        let Means::Key { state, kept } = &self.means else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.has_joined = true;
        // It joins again with the same key, which counts as the first time.
        if let Err(error) = kept.write(state) {
            tracing::warn!(%error, "cannot remember that this machine has joined");
        }
    }
}

impl Kept {
    /// The key for a token: the one that is kept, or a new one.
    fn of(token: &str, state: &Path) -> std::io::Result<Self> {
        let token = token_hash(token);
        let kept = read_message(state, NAME, KEPT_MAX).ok().flatten();
        let written = kept.and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok());
        let written = written.filter(|written| written.token == token).and_then(|written| {
            let key = MachineKey::from_pkcs8(&hex::decode(written.key).ok()?).ok()?;
            Some((key, written.joined))
        });
        if let Some((key, has_joined)) = written {
            return Ok(Self { token, key: Arc::new(key), has_joined });
        }
        let key = MachineKey::create().map_err(std::io::Error::other)?;
        let new = Self { token, key: Arc::new(key), has_joined: false };
        new.write(state)?;
        Ok(new)
    }

    fn write(&self, state: &Path) -> std::io::Result<()> {
        let Self { token, key, has_joined } = self;
        let written = Written {
            token: token.clone(),
            key: hex::encode(key.key_pkcs8()),
            joined: *has_joined,
        };
        let bytes = serde_json::to_vec(&written).map_err(std::io::Error::other)?;
        write_message(state, NAME, &bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn given(folder: &Path, token: Option<&str>) -> PathBuf {
        let join = MachineJoin {
            machine: "db-1".parse().unwrap(),
            cluster: "prod".parse().unwrap(),
            trust_domain: "prod.example".parse().unwrap(),
            bundle: json!({ "keys": [], "spiffe_sequence": 7 }),
            agent: "agent.example:8447".to_owned(),
            token: token.map(str::to_owned),
        };
        let path = folder.join("join.json");
        fs::write(&path, join.write().to_string()).unwrap();
        path
    }

    #[test]
    fn each_token_has_a_key_of_its_own_which_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = |token: &str| {
            Machine::open(&given(folder.path(), Some(token)), None, folder.path()).unwrap()
        };
        let request = |machine: &Machine| machine.joining().unwrap().unwrap();
        let public = |machine: &Machine| {
            let csr = nullius_pki::Csr::from_der(request(machine).certificate_request);
            nullius_pki::MachinePublicKey::proven(&csr).unwrap()
        };
        let first = open("one");
        let key = public(&first);
        assert_eq!(
            (request(&first).machine.as_str(), request(&first).token.as_str()),
            ("db-1", "one")
        );
        assert!(matches!(first.token(Timestamp::now()), Err(ProofError::NotJoined)));
        let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // It fell before it had an answer.
        let again = open("one");
        assert_eq!(public(&again), key);
        again.note_joined();
        let joined = open("one");
        assert!(joined.joining().unwrap().is_none());
        let now = Timestamp::now();
        let token = joined.token(now).unwrap();
        let read = nullius_pki::MachineToken::read(&token).unwrap();
        assert!(read.verify_by_key(&key, "nullius-agent:prod", now).is_ok());
        let other = open("two");
        assert_ne!(public(&other), key);
        assert_eq!(other.trust().bundle.sequence(), Some(7));
    }

    #[test]
    fn what_it_was_given_is_read_strictly() {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |path: &Path| Machine::open(path, None, folder.path()).err().unwrap().to_string();
        assert!(open(&given(folder.path(), None)).contains("it has no token"));
        let path = folder.path().join("other");
        fs::write(&path, "{}").unwrap();
        assert!(open(&path).contains("kind: MachineJoin"));
        assert!(open(&folder.path().join("none")).contains("cannot be used"));
    }
}
