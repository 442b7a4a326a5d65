//! `nullius svid`: what SVIDs prove, and those that the node gives this process.

mod fetch;
mod folder;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use nullius_model::{SpiffeId, Timestamp};
use nullius_pki::workload::{BUNDLE_MAX, TrustBundle, verify_x509_svid};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value as Json, json};

use crate::{
    args::{BundleFile, SvidCommand, SvidValidate},
    failure::{Exit, Failure, file_failure},
    output::{Single, relative},
    stage::Stage,
};

/// Bytes of an SVID that are read.
const SVID_MAX: usize = 1024 * 1024;
const PEM: &str = "-----BEGIN ";

/// Validates, fetches or watches.
pub(crate) async fn run(stage: &mut Stage, command: &SvidCommand) -> Result<Exit, Failure> {
    match command {
        SvidCommand::Validate(args) => validate(stage, args),
        SvidCommand::Fetch(args) => fetch::fetch(stage, args).await,
        SvidCommand::Watch(args) => fetch::watch(stage, args).await,
    }
}

fn validate(stage: &mut Stage, args: &SvidValidate) -> Result<Exit, Failure> {
    let bundles = args.bundles.iter().map(bundle).collect::<Result<Vec<_>, _>>()?;
    let text = read(&args.file, SVID_MAX)?;
    let bundle_of =
        |domain: &str| bundles.iter().find(|bundle| bundle.trust_domain().as_str() == domain);
    let now = stage.now();
    let proven = match text.trim_start().starts_with(PEM) {
        true => x509(args, &text, bundle_of, now)?,
        false => jwt(args, text.trim(), bundle_of, now)?,
    };
    stage.single(proven.shown(now))
}

/// What an SVID proves.
struct Proven {
    kind: &'static str,
    id: SpiffeId,
    until: Timestamp,
    audience: Option<Vec<String>>,
}

impl Proven {
    fn shown(self, now: Timestamp) -> Single {
        let Self { kind, id, until, audience } = self;
        let mut value = json!({
            "type": kind,
            "id": id.as_str(),
            "trustDomain": id.trust_domain(),
            "expires": until.to_string(),
        });
        let mut text = format!("{id}, proven by an {kind} that ends {}", relative(until, now));
        if let Some(audience) = audience {
            text.push_str(&format!(", for {}", audience.join(", ")));
            value["audience"] = Json::from(audience);
        }
        text.push('\n');
        Single { kind: "SvidValidation", value, text, name: id.to_string() }
    }
}

fn x509<'b>(
    args: &SvidValidate,
    text: &str,
    bundle_of: impl FnOnce(&str) -> Option<&'b TrustBundle>,
    now: Timestamp,
) -> Result<Proven, Failure> {
    if args.audience.is_some() {
        return Err(Failure::usage("a certificate is for no audience")
            .next("leave `--audience` out, or give a JWT-SVID"));
    }
    let chain = certificates(&args.file, text)?;
    match verify_x509_svid(&chain, bundle_of, now) {
        Ok((id, until)) => Ok(Proven { kind: "X.509-SVID", id, until, audience: None }),
        Err(error) => Err(refused(error)),
    }
}

fn jwt<'b>(
    args: &SvidValidate,
    token: &str,
    bundle_of: impl FnOnce(&str) -> Option<&'b TrustBundle>,
    now: Timestamp,
) -> Result<Proven, Failure> {
    if token.split('.').count() != 3 {
        let shown = args.file.display();
        return Err(Failure::new(format!("`{shown}` holds no SVID"))
            .next("give certificates in PEM, the leaf first, or one token of three parts"));
    }
    let Some(audience) = args.audience.as_deref() else {
        return Err(Failure::usage("a JWT-SVID proves its workload to one audience alone")
            .next("say who asks: `--audience AUDIENCE`"));
    };
    match TrustBundle::verify_jwt(token, audience, bundle_of, now) {
        Ok(svid) => Ok(Proven {
            kind: "JWT-SVID",
            id: svid.id,
            until: svid.expires_at,
            audience: Some(svid.audience),
        }),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let cause = error.source().map(|cause| format!("{error}: {cause}"));
    let why = cause.unwrap_or_else(|| error.to_string());
    Failure::new("the SVID proves nobody").why(why).because(error).exit_with(Exit::Denied)
}

fn bundle(of: &BundleFile) -> Result<TrustBundle, Failure> {
    let text = read(&of.file, BUNDLE_MAX)?;
    let wrong = |why: String| {
        let (file, domain) = (of.file.display(), &of.domain);
        Failure::new(format!("`{file}` is no bundle of `{domain}`")).why(why)
    };
    if !text.trim_start().starts_with(PEM) {
        let read = TrustBundle::read(of.domain.clone(), text.as_bytes());
        return read.map_err(|error| wrong(error.to_string()));
    }
    let mut bundle = TrustBundle::new(of.domain.clone());
    for anchor in certificates(&of.file, &text)? {
        bundle.add_x509(anchor).map_err(|why| wrong(why.to_owned()))?;
    }
    Ok(bundle)
}

/// The certificates of a PEM file; a key that stands beside them is passed over.
fn certificates(file: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let shown = file.display();
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| {
        Failure::new(format!("`{shown}` is no PEM of certificates")).why(error.to_string())
    })?;
    match all.is_empty() {
        true => Err(Failure::new(format!("`{shown}` holds no certificate"))),
        false => Ok(all),
    }
}

fn read(file: &Path, most: usize) -> Result<String, Failure> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let outcome = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    outcome.map_err(|error| file_failure("read", file, error))?;
    let shown = file.display();
    if bytes.len() > most {
        return Err(Failure::new(format!("`{shown}` is longer than {} KiB", most / 1024)));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("`{shown}` is no text"))
            .next("convert it to PEM: `openssl x509 -inform der`")
    })
}
