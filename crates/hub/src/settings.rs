//! What a hub is started with: one checked struct, whatever it came from (flags, file, test).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use nullius_model::Ttl;
use nullius_store::FileForm;
use nullius_tunnel::Reach;
use secrecy::SecretString;
use url::Url;

/// Everything that a hub needs to know before it starts.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Directory of the store, the sealed keys and the audit files; one hub at a time uses it.
    pub state_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What people and agents call the hub, `https://hub.example.org:8443`; absent means the listening address.
    pub public_url: Option<Url>,
    /// Further DNS names and addresses for the hub's certificate.
    pub names: Vec<String>,
    /// What seals the keys at rest.
    pub sealing: Sealing,
    /// How long sign-ins last.
    pub lifetimes: Lifetimes,
    /// What one source, or all together, may ask for.
    pub limits: Limits,
    /// Who may read `/metrics`.
    pub metrics_for: MetricsFor,
    /// How long requests that run may take to finish when the hub is told to stop, in seconds.
    pub drain: Ttl,
    /// Where the audit goes beside the store.
    pub audit: AuditSettings,
    /// Where bundles of other trust domains may be fetched from. Who federates need not own the hub's machine.
    pub foreign_reach: Reach,
}

impl HubSettings {
    /// Settings with the defaults: loopback port 8443, a key file beside the store, fail closed.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            public_url: None,
            names: Vec::new(),
            sealing: Sealing::KeyFile,
            lifetimes: Lifetimes::default(),
            limits: Limits::default(),
            metrics_for: MetricsFor::Loopback,
            drain: Ttl::from_secs(10),
            audit: AuditSettings::default(),
            foreign_reach: Reach::Elsewhere,
        }
    }

    /// The URL under which the hub is reached once it listens on `bound`; never with a trailing slash.
    pub fn origin(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.origin().ascii_serialization(),
            None => format!("https://{bound}"),
        }
    }

    /// `host:port` that agents dial once the hub listens on `bound`.
    pub fn address(&self, bound: SocketAddr) -> String {
        let Some(url) = &self.public_url else { return bound.to_string() };
        let host = url.host_str().unwrap_or("localhost");
        format!("{host}:{}", url.port_or_known_default().unwrap_or(443))
    }

    /// The names that the hub's certificate carries.
    pub(crate) fn certificate_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !self.listen.ip().is_unspecified() {
            names.push(self.listen.ip().to_string());
        }
        if let Some(host) = self.public_url.as_ref().and_then(Url::host_str) {
            names.push(host.trim_matches(['[', ']']).to_owned());
        }
        names.extend(self.names.iter().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Refuses what cannot work, naming the setting.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if let Some(url) = &self.public_url {
            let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            if url.scheme() != "https" || url.host_str().is_none() || !plain {
                return Err(SettingsError::PublicUrl(url.to_string()));
            }
        }
        let Lifetimes { session, browser_session, access_token, kube_credential, .. } =
            self.lifetimes;
        for (name, ttl) in [("access token", access_token), ("kube credential", kube_credential)] {
            if ttl.as_secs() > 600 {
                return Err(SettingsError::TokenLife { name, ttl });
            }
        }
        if browser_session > session {
            return Err(SettingsError::BrowserLife { browser_session, session });
        }
        if let Some(name) = self.names.iter().find(|name| !is_host(name)) {
            return Err(SettingsError::Name(
                name.chars().take(80).flat_map(char::escape_debug).collect(),
            ));
        }
        Ok(())
    }
}

fn is_host(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
        || (!name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.'))
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The public URL is not an https origin.
    #[error(
        "public URL `{0}` cannot be used: write `https://HOST` or `https://HOST:PORT` without a path"
    )]
    PublicUrl(String),
    /// A token would live too long.
    #[error("the {name} would live `{ttl}`: it may live `10m` at most")]
    TokenLife {
        /// Which token.
        name: &'static str,
        /// Its life as set.
        ttl: Ttl,
    },
    /// The browser session outlives the session's bound.
    #[error(
        "browser sessions of `{browser_session}` would outlive sessions of `{session}`: shorten them"
    )]
    BrowserLife {
        /// Browser sessions as set.
        browser_session: Ttl,
        /// Sessions as set.
        session: Ttl,
    },
    /// A name that cannot stand in a certificate.
    #[error("`{0}` cannot stand in the hub's certificate: write a DNS name or an IP address")]
    Name(String),
}

/// What seals the private keys in the state directory.
#[derive(Clone)]
pub enum Sealing {
    /// A random key in a file of mode 0600 beside them.
    KeyFile,
    /// A key derived from a passphrase.
    Passphrase(SecretString),
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "KeyFile",
            Self::Passphrase(_) => "Passphrase(…)",
        })
    }
}

/// How long sign-ins and what hangs on them last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A session ends so long after sign-in, whatever happens.
    pub session: Ttl,
    /// A session without use ends so long after the last.
    pub idle: Ttl,
    /// A session of the pages in a browser.
    pub browser_session: Ttl,
    /// The bearer token for the hub's own API; at most 10 minutes.
    pub access_token: Ttl,
    /// The bearer token for Kubernetes paths; at most 10 minutes.
    pub kube_credential: Ttl,
    /// A join token.
    pub join_token: Ttl,
    /// An enrolment link.
    pub enrolment_link: Ttl,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            session: Ttl::from_secs(12 * 3600),
            idle: Ttl::from_secs(4 * 3600),
            browser_session: Ttl::from_secs(3600),
            access_token: Ttl::from_secs(600),
            kube_credential: Ttl::from_secs(600),
            join_token: Ttl::from_secs(600),
            enrolment_link: Ttl::from_secs(24 * 3600),
        }
    }
}

/// What one source, or all together, may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls without a proven identity that one source may make at once.
    pub burst: u32,
    /// Calls without a proven identity that one source may make per second on average.
    pub per_second: u32,
    /// Password checks at the same time; each takes a core and 19 MiB for a while.
    pub password_checks: usize,
    /// Password checks that may wait for their turn; more are told to come back.
    pub password_queue: usize,
    /// Connections at the same time on the public listener.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            burst: 120,
            per_second: 20,
            password_checks: std::thread::available_parallelism().map_or(2, usize::from),
            password_queue: 64,
            connections: 20_000,
        }
    }
}

/// Where the audit goes beside the store.
#[derive(Debug, Clone, Default)]
pub struct AuditSettings {
    /// A file, or a directory for one, that receives every checkpoint and lies where the hub cannot take it back.
    pub anchor: Option<PathBuf>,
    /// The form of the lines in the file beside the store.
    pub file_form: FileForm,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFor {
    /// Callers on this machine.
    Loopback,
    /// Everybody who reaches the hub.
    Everyone,
}
