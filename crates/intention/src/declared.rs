//! Issuers of tokens that an intention declares: for the whole cluster, so that only those of the system and of the hub may.

use std::sync::Arc;

use nullius_fields::{Faults, Fields, Item, shown};
use serde_json::Value as Json;

use crate::{destination::Destination, intention::Tier};

/// Issuers that one intention declares at most.
const ISSUERS_MAX: usize = 64;
/// The longest name or address, in bytes.
const TEXT_MAX: usize = 2_048;

/// An issuer whose tokens count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredIssuer {
    /// Who it is: the claim `iss`.
    pub issuer: Box<str>,
    /// Its keys.
    pub keys: DeclaredKeys,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredKeys {
    /// At an `https` address.
    Url {
        /// The address.
        url: Box<str>,
        /// Authorities in PEM that stand behind its server; without, those that browsers believe.
        authorities: Option<Arc<str>>,
    },
    /// Here: a JSON web key set.
    Inline(Arc<str>),
}

/// Reads what stands in `issuers`.
pub(crate) fn read(
    fields: &mut Fields<'_>,
    tier: Tier,
    destination: Option<&Destination>,
    faults: &Faults,
) -> Arc<[DeclaredIssuer]> {
    let items = fields.items("issuers");
    if !fields.has("issuers") {
        return Arc::default();
    }
    if tier == Tier::Namespace {
        let told = "issuers count for the whole cluster: declare them in `nullius-system`";
        fields.wrong("issuers", told);
    }
    let is_any = |it: &Destination| {
        it.namespace.is_none() && it.service_account.is_none() && it.labels.is_empty()
    };
    if destination.is_some_and(|it| !is_any(it) || !it.ports.is_empty()) {
        let told = "issuers count for all destinations: say `destination: {any: true}`";
        fields.wrong("issuers", told);
    }
    if items.len() > ISSUERS_MAX {
        fields.wrong("issuers", format!("these are {}, and {ISSUERS_MAX} may be", items.len()));
    }
    let mut all: Vec<DeclaredIssuer> = Vec::new();
    for item in &items {
        let Some(issuer) = read_one(item, faults) else { continue };
        if all.iter().any(|known| known.issuer == issuer.issuer) {
            faults.add(&format!("{}.issuer", item.path), "this issuer stands already: keep one");
        }
        all.push(issuer);
    }
    all.into()
}

fn read_one(item: &Item<'_>, faults: &Faults) -> Option<DeclaredIssuer> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    let issuer = fields.text("issuer");
    match issuer {
        None if !fields.has("issuer") => {
            fields.wrong("issuer", "say who issues the tokens: their claim `iss`");
        }
        Some(issuer) if issuer.len() > TEXT_MAX => {
            fields.wrong("issuer", format!("it is longer than {TEXT_MAX} bytes"));
        }
        Some(_) | None => {}
    }
    let (url, inline) = (fields.text("jwksUrl"), fields.text("jwks"));
    let authorities = fields.text("ca");
    if authorities.is_some() && url.is_none() {
        fields.wrong("ca", "it stands behind `jwksUrl` alone: leave it out");
    }
    if authorities.is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        fields.wrong("ca", "it holds no certificate in PEM");
    }
    let keys = match (url, inline) {
        (Some(url), None) => {
            if !is_address(url) {
                let told = "write `https://HOST/PATH` without user, password and fragment";
                fields.wrong("jwksUrl", format!("{}: {told}", shown(url)));
            }
            Some(DeclaredKeys::Url { url: url.into(), authorities: authorities.map(Into::into) })
        }
        (None, Some(text)) => {
            let read: Option<Json> = serde_json::from_str(text).ok();
            if !read.is_some_and(|set| set.get("keys").is_some_and(Json::is_array)) {
                fields.wrong("jwks", "it is no JSON web key set: write `{\"keys\": […]}`");
            }
            Some(DeclaredKeys::Inline(text.into()))
        }
        (Some(_), Some(_)) | (None, None) => {
            if fields.has("jwksUrl") == fields.has("jwks") {
                fields.wrong_here("say where its keys are, in one way: `jwksUrl` or `jwks`");
            }
            None
        }
    };
    fields.finish();
    Some(DeclaredIssuer { issuer: issuer?.into(), keys: keys? })
}

/// Whether a text can be the address of keys. Whoever fetches them reads it again.
fn is_address(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let is_plain = url.len() <= TEXT_MAX
        && url.bytes().all(|c| c.is_ascii_graphic())
        && !url.contains(['@', '#', '\\']);
    is_plain && !rest.is_empty() && !rest.starts_with(['/', '?', ':'])
}
