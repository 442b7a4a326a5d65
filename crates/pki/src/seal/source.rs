//! Where the key-encryption key comes from: a file, a passphrase, or the operating system's key store.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{SealError, Sealer};
use crate::random_bytes;

/// The name under which a known text is sealed, to tell a wrong passphrase from a damaged key.
const CHECK_NAME: &str = "passphrase check";
const CHECK_TEXT: &[u8] = b"nullius";
const PASSPHRASE_MIN: usize = 12;
const FILE_MAX: u64 = 4096;

/// Where the key-encryption key comes from.
pub enum KeySource {
    /// 32 random bytes in a file that only its owner may read; made on first use.
    File(PathBuf),
    /// Derived from a passphrase by argon2id; the file holds salt and parameters, and is made on first use.
    Passphrase {
        /// What the operator types or a unit's credential holds.
        passphrase: SecretString,
        /// Salt and parameters; no secret.
        parameters: PathBuf,
    },
    /// In the key store of the operating system, under this account name. On Linux that is the Secret Service, through
    /// `secret-tool` of libsecret.
    OsKeyStore {
        /// Tells several hubs of one user apart.
        account: String,
    },
}

/// Whether the key-encryption key was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// It was made just now.
    Created,
    /// It was there.
    Existing,
}

impl KeySource {
    pub(super) fn open(&self) -> Result<(Sealer, KeyOrigin), SealError> {
        if let Some(sealer) = self.find()? {
            return Ok((sealer, KeyOrigin::Existing));
        }
        let sealer = match self {
            Self::File(path) => make_file(path),
            Self::Passphrase { passphrase, parameters } => make_passphrase(passphrase, parameters),
            Self::OsKeyStore { account } => make_in_os_key_store(secret_tool(), account),
        };
        Ok((sealer?, KeyOrigin::Created))
    }

    pub(super) fn find(&self) -> Result<Option<Sealer>, SealError> {
        match self {
            Self::File(path) => find_file(path),
            Self::Passphrase { passphrase, parameters } => find_passphrase(passphrase, parameters),
            Self::OsKeyStore { account } => find_in_os_key_store(secret_tool(), account),
        }
    }
}

fn secret_tool() -> &'static Path {
    Path::new("secret-tool")
}

fn find_file(path: &Path) -> Result<Option<Sealer>, SealError> {
    let Some(text) = read_private(path)? else { return Ok(None) };
    let key = key_from_hex(&text).ok_or_else(|| SealError::Damaged(shown(path)))?;
    Sealer::from_key(&key).map(Some)
}

fn make_file(path: &Path) -> Result<Sealer, SealError> {
    let key = Zeroizing::new(random_bytes::<32>());
    let text = Zeroizing::new(format!("{}\n", *key_to_hex(&key)));
    create_private(path, text.as_bytes())?;
    Sealer::from_key(&key)
}

/// What is stored beside a passphrase.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Derivation {
    kdf: Kdf,
    /// KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    /// A known text, sealed under the derived key.
    check: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kdf {
    Argon2id,
}

impl Derivation {
    /// New parameters for a passphrase, and what it seals with.
    pub(crate) fn make(passphrase: &SecretString) -> Result<(Self, Sealer), SealError> {
        if passphrase.expose_secret().chars().count() < PASSPHRASE_MIN {
            return Err(SealError::PassphraseShort);
        }
        // The second recommended option of RFC 9106, section 4, with one lane: 64 MiB, three passes.
        let mut made = Self {
            kdf: Kdf::Argon2id,
            memory: 64 * 1024,
            passes: 3,
            lanes: 1,
            salt: hex::encode(random_bytes::<16>()),
            check: String::new(),
        };
        let key = made.derive(passphrase);
        let key = key.ok_or_else(|| SealError::Seal("key-encryption key".to_owned()))?;
        let sealer = Sealer::from_key(&key)?;
        made.check = hex::encode(sealer.seal(CHECK_NAME, CHECK_TEXT)?);
        Ok((made, sealer))
    }

    /// What the passphrase seals with; refuses a wrong one. `path` is where these parameters were read.
    pub(crate) fn open(&self, passphrase: &SecretString, path: &Path) -> Result<Sealer, SealError> {
        let damaged = || SealError::Damaged(shown(path));
        if !self.is_bearable() {
            return Err(damaged());
        }
        let sealer = Sealer::from_key(&*self.derive(passphrase).ok_or_else(damaged)?)?;
        let check = hex::decode(&self.check).map_err(|_| damaged())?;
        sealer.open_sealed(CHECK_NAME, &check).map_err(|_| SealError::Passphrase)?;
        Ok(sealer)
    }

    /// Bounds against a changed file that would take all memory.
    fn is_bearable(&self) -> bool {
        self.memory <= 1024 * 1024 && self.passes <= 64 && self.lanes <= 16
    }

    fn derive(&self, passphrase: &SecretString) -> Option<Zeroizing<[u8; 32]>> {
        let Kdf::Argon2id = self.kdf;
        let salt = hex::decode(&self.salt).ok()?;
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose_secret().as_bytes(), &salt, &mut *key)
            .ok()?;
        Some(key)
    }
}

fn find_passphrase(passphrase: &SecretString, path: &Path) -> Result<Option<Sealer>, SealError> {
    let Some(text) = read_private(path)? else { return Ok(None) };
    let damaged = || SealError::Damaged(shown(path));
    let stored: Derivation = serde_json::from_str(&text).map_err(|_| damaged())?;
    stored.open(passphrase, path).map(Some)
}

fn make_passphrase(passphrase: &SecretString, path: &Path) -> Result<Sealer, SealError> {
    let (stored, sealer) = Derivation::make(passphrase)?;
    let damaged = |_| SealError::Damaged(shown(path));
    create_private(path, &serde_json::to_vec_pretty(&stored).map_err(damaged)?)?;
    Ok(sealer)
}

fn attributes(account: &str) -> [&str; 4] {
    ["service", "nullius", "account", account]
}

/// The Secret Service of a Linux desktop. The key travels over pipes, never as an argument.
fn find_in_os_key_store(tool: &Path, account: &str) -> Result<Option<Sealer>, SealError> {
    let mut lookup = Command::new(tool);
    let (found, text) = run_tool(tool, lookup.arg("lookup").args(attributes(account)), b"")?;
    if !found || text.is_empty() {
        return Ok(None);
    }
    let key = std::str::from_utf8(&text).ok().and_then(key_from_hex);
    let key = key.ok_or_else(|| SealError::Damaged(format!("os key store: {account}")))?;
    Sealer::from_key(&key).map(Some)
}

fn make_in_os_key_store(tool: &Path, account: &str) -> Result<Sealer, SealError> {
    let key = Zeroizing::new(random_bytes::<32>());
    let mut store = Command::new(tool);
    store.args(["store", "--label=Nullius key-encryption key"]).args(attributes(account));
    let (stored, _) = run_tool(tool, &mut store, key_to_hex(&key).as_bytes())?;
    if !stored {
        return Err(SealError::OsKeyStore("`secret-tool store` failed".to_owned()));
    }
    Sealer::from_key(&key)
}

/// Whether the tool succeeded, and what it wrote.
fn run_tool(
    tool: &Path,
    command: &mut Command,
    input: &[u8],
) -> Result<(bool, Zeroizing<Vec<u8>>), SealError> {
    let failed = |error: std::io::Error| {
        SealError::OsKeyStore(format!("`{}` cannot be run ({error})", tool.display()))
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    // `lookup` fails silently when there is no such entry, and with a message when the service cannot be reached.
    if !output.status.success() && !output.stderr.is_empty() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(SealError::OsKeyStore(crate::jws::shown(text.trim())));
    }
    Ok((output.status.success(), Zeroizing::new(output.stdout)))
}

/// The content of a file that nobody else can read; nothing when there is no such file.
fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, SealError> {
    let failed = |source| SealError::File { path: shown(path), action: "read", source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    check_owner_only(path, &file.metadata().map_err(failed)?)?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

#[cfg(unix)]
pub(crate) fn check_owner_only(path: &Path, metadata: &fs::Metadata) -> Result<(), SealError> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SealError::Permissions { path: shown(path), mode });
    }
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(SealError::Owner { path: shown(path), owner });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn check_owner_only(_: &Path, _: &fs::Metadata) -> Result<(), SealError> {
    Ok(())
}

/// Writes a new file that only its owner may read. It appears whole or not at all, and never replaces another.
fn create_private(path: &Path, content: &[u8]) -> Result<(), SealError> {
    let failed = |source| SealError::File { path: shown(path), action: "written", source };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let draft = directory.join(format!(".nullius-key-{}", hex::encode(random_bytes::<8>())));
    let result = write_new(&draft, content)
        .and_then(|()| fs::hard_link(&draft, path))
        .and_then(|()| fs::File::open(directory)?.sync_all());
    let removed = fs::remove_file(&draft);
    result.map_err(failed)?;
    removed.map_err(failed)
}

pub(crate) fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn key_to_hex(key: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(key))
}

fn key_from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), &mut *key).ok()?;
    Some(key)
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
