//! The token that a request shows: verified by keys that an intention holds, refused by them, or assumed; the answer says which.

use std::{fs, io::Read as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_intention::{DeclaredKeys, Token};
use nullius_model::Timestamp;
use nullius_pki::{ISSUED_TOKEN_MAX, IssuedToken, TokenIssuer};
use serde_json::{Map, Value as Json, json};

use super::{intake::Gathered, question};
use crate::{
    args::IntentionExplain,
    failure::{Failure, file_failure},
    output::escape,
};

/// A token, and what it counts for.
#[derive(Debug)]
pub(super) struct Shown {
    claims: Map<String, Json>,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// By the keys that this intention holds.
    Verified(String),
    /// Nobody has looked at its signature, and why.
    Assumed(String),
    /// It proves nothing, and why in the word of the proxy.
    Refused(&'static str),
}

/// The token of the request; none where it shows none.
pub(super) fn shown(
    args: &IntentionExplain,
    gathered: &Gathered,
    now: Timestamp,
) -> Result<Option<Shown>, Failure> {
    if !args.claims.is_empty() {
        let claims = args.claims.iter().map(|(name, value)| {
            let read = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            (name.clone(), read)
        });
        let standing = Standing::Assumed("its claims are those that `--claim` says".to_owned());
        return Ok(Some(Shown { claims: claims.collect(), standing }));
    }
    let Some(path) = &args.token else { return Ok(None) };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(ISSUED_TOKEN_MAX as u64 + 1024).read_to_string(&mut text))
        .map_err(|error| file_failure("read", path, error))?;
    let text = text.trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let claims = claims(text).ok_or_else(|| {
        Failure::new(format!("`{}` holds no token", path.display()))
            .why("it is not three parts with dots between them, the second of them claims")
            .next("write the token into it as it is sent, without anything beside")
    })?;
    Ok(Some(Shown { standing: standing(text, gathered, now), claims }))
}

/// What a token says, whoever signed it.
fn claims(text: &str) -> Option<Map<String, Json>> {
    let mut parts = text.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn standing(text: &str, gathered: &Gathered, now: Timestamp) -> Standing {
    let issuer = match IssuedToken::claimed_issuer(text) {
        Ok(issuer) => issuer,
        Err(error) => return Standing::Refused(error.as_str()),
    };
    let declared: Vec<_> = gathered
        .intentions
        .iter()
        .flat_map(|it| it.issuers().iter().map(move |issuer| (it.name(), issuer)))
        .filter(|(_, declared)| *declared.issuer == *issuer)
        .collect();
    let (name, keys) = match &declared[..] {
        [] => return Standing::Assumed("no intention here declares its issuer".to_owned()),
        [(name, first), rest @ ..] if rest.iter().all(|(_, it)| it.keys == first.keys) => {
            (*name, &first.keys)
        }
        // As in a cluster: whose keys they are is not clear.
        _ => return Standing::Refused("no-keys"),
    };
    let jwks = match keys {
        DeclaredKeys::Inline(jwks) => jwks,
        DeclaredKeys::Url { url, .. } => {
            return Standing::Assumed(format!(
                "its issuer's keys are at {url}, and nothing is fetched"
            ));
        }
    };
    let Ok(keys) = TokenIssuer::read(&issuer, jwks.as_bytes()) else {
        return Standing::Refused("no-keys");
    };
    match keys.verify(text).and_then(|token| token.times.holds(now)) {
        Ok(()) => Standing::Verified(name.to_owned()),
        Err(error) => Standing::Refused(error.as_str()),
    }
}

impl Shown {
    /// What intentions see of it: nothing, where it proves nothing.
    pub(super) fn token(&self) -> Option<Token> {
        match self.standing {
            Standing::Verified(_) | Standing::Assumed(_) => {
                Some(question::token(self.claims.clone()))
            }
            Standing::Refused(_) => None,
        }
    }

    pub(super) fn document(&self) -> Json {
        let (standing, why) = match &self.standing {
            Standing::Verified(by) => ("verified", format!("by the keys of Intention {by}")),
            Standing::Assumed(why) => ("assumed", why.clone()),
            Standing::Refused(why) => ("refused", (*why).to_owned()),
        };
        json!({ "standing": standing, "why": why, "claims": self.claims })
    }

    /// The token in words, with all that it says.
    pub(super) fn text(&self) -> String {
        let standing = match &self.standing {
            Standing::Verified(by) => format!("verified by the keys of Intention {by}"),
            Standing::Assumed(why) => format!("assumed, its signature was not checked: {why}"),
            Standing::Refused(why) => format!("refused, as if it was not shown: {why}"),
        };
        let mut text = format!("token: {}\n", escape::cell(&standing));
        for (name, value) in &self.claims {
            text.push_str(&format!(
                "  {}: {}\n",
                escape::cell(name),
                escape::cell(&value.to_string())
            ));
        }
        text
    }
}
