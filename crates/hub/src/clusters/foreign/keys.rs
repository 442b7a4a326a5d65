//! Which keys stand in a bundle, as the audit has them: an anchor by its SHA-256, a key for tokens by its id and the SHA-256 of it.

use std::collections::{BTreeMap, BTreeSet};

use nullius_audit::display_safe;
use nullius_pki::{sha256, token_hash, workload::TrustBundle};

/// Keys of one kind that are written out; of more their number is.
const WRITTEN: usize = 16;
/// Characters of the id of a key, and of the digest behind it.
const ID: usize = 64;
const DIGEST: usize = 16;

/// The keys of a bundle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    number: Option<u64>,
    anchors: BTreeSet<String>,
    tokens: BTreeSet<String>,
}

impl Keys {
    pub(super) fn of(bundle: Option<&TrustBundle>) -> Self {
        let Some(bundle) = bundle else { return Self::default() };
        let anchors = bundle.x509_authorities().iter().map(|anchor| hex::encode(sha256(anchor)));
        let document = bundle.jwt_json();
        let keys = document["keys"].as_array().into_iter().flatten();
        let tokens = keys.map(|key| {
            let id = display_safe(key["kid"].as_str().unwrap_or_default());
            let id: String = id.chars().take(ID).collect();
            let digest = token_hash(&key.to_string());
            format!("{id}={}", digest.get(..DIGEST).unwrap_or_default())
        });
        Self { number: bundle.sequence(), anchors: anchors.collect(), tokens: tokens.collect() }
    }

    /// Whether the same keys stand in both, whatever their numbers.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.anchors == other.anchors && self.tokens == other.tokens
    }

    /// As facts of an event; their names end with `suffix`.
    pub(super) fn tell(&self, facts: &mut BTreeMap<String, String>, suffix: &str) {
        let number = self.number.map(|number| number.to_string()).unwrap_or_default();
        facts.insert(format!("number{suffix}"), number);
        facts.insert(format!("anchors{suffix}"), written(&self.anchors));
        facts.insert(format!("token-keys{suffix}"), written(&self.tokens));
    }
}

fn written(keys: &BTreeSet<String>) -> String {
    let first: Vec<&str> = keys.iter().take(WRITTEN).map(String::as_str).collect();
    let more = keys.len().saturating_sub(WRITTEN);
    let text = first.join(" ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}
