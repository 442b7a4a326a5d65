//! Reads what the configuration names: SVID, key, bundles, intentions.

use std::{fs, io, path::Path, sync::Arc};

use nullius_intention::{Home, Intention, Intentions, Origin, RuleSet, Workload};
use nullius_manifest::{Found, Manifest, Source, Unreadable, objects, walk};
use nullius_model::{API_VERSION, SpiffeId, Timestamp, TrustDomain};
use nullius_pki::{
    JWKS_MAX, TokenIssuer,
    workload::{BUNDLE_MAX, TrustBundle},
};
use nullius_tls::WorkloadTls;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

use crate::{
    Config, ConfigError, ConfigFault, IssuerKeys, Issuers, KeyAsks, KeyRing, KeySource, KeySources,
    KeysFrom, Reach, config::WorkloadName,
};

/// Bytes of a certificate or key file that are read.
const PEM_MAX: usize = 1024 * 1024;
const PEM: &[u8] = b"-----BEGIN ";

/// Reads the identity: the SVID must be valid now, and of a trust domain that has a bundle.
pub(crate) fn identity(config: &Config, now: Timestamp) -> Result<WorkloadTls, ConfigError> {
    let files = &config.identity;
    let chain = certificates(&files.certificate, &read(&files.certificate, PEM_MAX)?)?;
    let key = read(&files.key, PEM_MAX)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong(&files.key, format!("it holds no private key in PEM: {error}")))?;
    let bundles: Vec<TrustBundle> = files
        .bundles
        .iter()
        .map(|(domain, file)| bundle(domain, file))
        .collect::<Result<_, _>>()?;
    let tls = WorkloadTls::new(chain, key, bundles).map_err(|error| {
        let why = std::error::Error::source(&error).map_or(String::new(), |why| format!(": {why}"));
        wrong(&files.certificate, format!("{error}{why}"))
    })?;
    if now >= tls.not_after() {
        let told = format!("the SVID has ended at {}: renew it", tls.not_after());
        return Err(wrong(&files.certificate, told));
    }
    let own = tls.id().trust_domain();
    if !files.bundles.keys().any(|domain| domain.as_str() == own) {
        let told = format!(
            "the SVID is of trust domain `{own}`, and `identity.bundles` has none of it: add it"
        );
        return Err(wrong(&files.certificate, told));
    }
    Ok(tls)
}

/// Reads the intentions, and which of them are for the workload of an ID.
pub(crate) fn rules(config: &Config, id: &SpiffeId) -> Result<RuleSet, ConfigError> {
    let workload = workload(config, id)?;
    let domain: TrustDomain = id
        .trust_domain()
        .parse()
        .map_err(|error| wrong(&config.identity.certificate, format!("{error}")))?;
    let home = Home {
        trust_domain: domain,
        federated: Some(config.identity.bundles.keys().cloned().collect()),
        issuers: Some(config.issuers.keys().map(ToString::to_string).collect()),
    };
    let mut gathered = Gathered { intentions: Intentions::default(), faults: Vec::new() };
    for (origin, paths) in [(Origin::Cluster, &config.intentions), (Origin::Fleet, &config.fleet)] {
        walk(paths, &mut io::empty(), &mut |source| match source {
            Ok(source) => gathered.source(&source, origin, &home),
            Err(Unreadable { name, message }) => {
                gathered.faults.push(ConfigFault { file: name, place: None, message });
            }
        });
    }
    match gathered.faults.is_empty() {
        true => Ok(gathered.intentions.rules_for(workload)),
        false => Err(ConfigError(gathered.faults)),
    }
}

/// Reads the keys that are in files, and takes the others as they were fetched.
pub(crate) fn issuers(
    config: &Config,
    ring: &KeyRing,
    asks: &Arc<KeyAsks>,
) -> Result<Issuers, ConfigError> {
    let of = |issuer: &str, from: &KeysFrom| match from {
        KeysFrom::Url { .. } => Ok(ring.get(issuer).map(|fetched| fetched.keys.clone())),
        KeysFrom::File(file) => {
            let keys = TokenIssuer::read(issuer, &read(file, JWKS_MAX)?)
                .map_err(|error| wrong(file, error.to_string()))?;
            Ok(Some(IssuerKeys { keys: Arc::new(keys), until: None }))
        }
    };
    let all = config.issuers.iter().map(|(issuer, from)| Ok((issuer.clone(), of(issuer, from)?)));
    Ok(Issuers::new(all.collect::<Result<Vec<_>, ConfigError>>()?, Arc::clone(asks)))
}

/// Where keys are fetched from.
pub(crate) fn key_sources(config: &Config) -> Result<KeySources, ConfigError> {
    let mut sources = KeySources::new();
    for (issuer, from) in &config.issuers {
        let KeysFrom::Url { url, authorities } = from else { continue };
        let pem = authorities.as_ref().map(|file| -> Result<Arc<str>, ConfigError> {
            let pem = read(file, PEM_MAX)?;
            let pem = std::str::from_utf8(&pem).map_err(|error| wrong(file, error.to_string()))?;
            Ok(pem.into())
        });
        let source =
            KeySource { url: url.clone(), authorities: pem.transpose()?, reach: Reach::All };
        let file = authorities.as_deref().unwrap_or(Path::new("proxy"));
        source.check().map_err(|error| wrong(file, error.to_string()))?;
        sources.insert(issuer.clone(), source);
    }
    Ok(sources)
}

/// Whom intentions know the workload as: what its ID says, or what the configuration says where the ID does not.
fn workload(config: &Config, id: &SpiffeId) -> Result<Workload, ConfigError> {
    let of_id = id.namespace().zip(id.service_account()).and_then(|(namespace, account)| {
        let namespace = namespace.parse().ok()?;
        Some(WorkloadName { namespace, service_account: account.to_owned() })
    });
    let file = &config.identity.certificate;
    let name = match (&config.workload, of_id) {
        (Some(told), Some(proven)) if *told != proven => {
            let told = format!(
                "the SVID is of `{}/{}`, and `workload` says another: take it out",
                proven.namespace, proven.service_account
            );
            return Err(wrong(file, told));
        }
        (_, Some(proven)) => proven,
        (Some(told), None) => told.clone(),
        (None, None) => {
            let told = format!(
                "`{id}` does not say of which workload it is: say `workload.namespace` and `workload.serviceAccount`"
            );
            return Err(wrong(file, told));
        }
    };
    Ok(Workload {
        namespace: name.namespace,
        service_account: name.service_account,
        labels: config.labels.clone().into(),
    })
}

struct Gathered {
    intentions: Intentions,
    faults: Vec<ConfigFault>,
}

impl Gathered {
    fn source(&mut self, source: &Source, origin: Origin, home: &Home) {
        objects(&source.text, |found| match found {
            Found::Object(manifest) if is_intention(&manifest) => {
                self.object(source, &manifest, origin, home);
            }
            Found::Object(_) | Found::Other(_) => {}
            Found::Fault(fault) => self.faults.push(ConfigFault {
                file: source.name.clone(),
                place: Some((fault.place.line, fault.place.column)),
                message: fault.message,
            }),
        });
    }

    fn object(&mut self, source: &Source, manifest: &Manifest, origin: Origin, home: &Home) {
        let node = manifest.node();
        let mut wrong = |field: &str, message: String| {
            let place = node.place_of_text(field);
            let what = format!("Intention `{}`", manifest.name().escape_debug());
            let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
            self.faults.push(ConfigFault {
                file: source.name.clone(),
                place: Some((place.line, place.column)),
                message: format!("{what}: {field}{message}"),
            });
        };
        match Intention::read(&manifest.to_json(), origin, home) {
            Ok(intention) => {
                if self.intentions.put(intention).is_some() {
                    wrong("metadata.name", "it stands already in another place".to_owned());
                }
            }
            Err(faults) => {
                faults.into_iter().for_each(|fault| wrong(&fault.field, fault.message));
            }
        }
    }
}

/// Whether an object is to be read as one; of another version it is refused there.
fn is_intention(manifest: &Manifest) -> bool {
    let group = API_VERSION.split('/').next().unwrap_or_default();
    manifest.kind == "Intention" && manifest.group() == group
}

fn bundle(domain: &TrustDomain, file: &Path) -> Result<TrustBundle, ConfigError> {
    let text = read(file, BUNDLE_MAX)?;
    if !text.trim_ascii_start().starts_with(PEM) {
        return TrustBundle::read(domain.clone(), &text)
            .map_err(|error| wrong(file, error.to_string()));
    }
    let mut bundle = TrustBundle::new(domain.clone());
    for anchor in certificates(file, &text)? {
        bundle.add_x509(anchor).map_err(|why| wrong(file, why.to_owned()))?;
    }
    Ok(bundle)
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(file, format!("it is no PEM of certificates: {error}")))?;
    match all.is_empty() {
        true => Err(wrong(file, "it holds no certificate in PEM".to_owned())),
        false => Ok(all),
    }
}

fn read(file: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    let bytes =
        fs::read(file).map_err(|error| wrong(file, format!("it cannot be read: {error}")))?;
    let bytes = Zeroizing::new(bytes);
    match bytes.len() > most {
        true => Err(wrong(file, format!("it is longer than {} KiB", most / 1024))),
        false => Ok(bytes),
    }
}

fn wrong(file: &Path, message: String) -> ConfigError {
    ConfigError(vec![ConfigFault { file: file.display().to_string(), place: None, message }])
}
