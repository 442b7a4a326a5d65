//! What an API server is told: an `AdmissionReview` with the response to exactly one request.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_policy::{Judged, withhold_admission};
use serde_json::{Map, Value as Json, json};

/// The longest name of an audit annotation behind the webhook's own.
const KEY_MAX: usize = 63;

/// The status of a request that will be right in a moment.
const TRY_AGAIN: u16 = 429;

/// An answer, and what was decided.
#[derive(Debug)]
pub struct Answer {
    /// The decision with what policies said.
    pub judged: Judged,
    /// The body of the answer.
    pub body: Vec<u8>,
}

/// The answer to the request with this uid.
#[must_use]
pub fn answer(uid: &str, judged: Judged) -> Answer {
    let mut response = Map::new();
    response.insert("uid".to_owned(), Json::from(uid));
    // Two hands must agree: the sealed decision, and that nothing refuses.
    let allowed = judged.decision.is_allowed() && judged.outcome.refusal.is_none();
    response.insert("allowed".to_owned(), Json::from(allowed));
    if let Some(refusal) = &judged.outcome.refusal {
        let causes: Vec<Json> =
            refusal.causes.iter().map(|cause| json!({ "message": cause })).collect();
        let mut status = json!({
            "status": "Failure", "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
        });
        if !causes.is_empty() {
            status["details"] = json!({ "causes": causes });
        }
        // Kubernetes' own clients try again by themselves when they are told after how long.
        if refusal.code == TRY_AGAIN {
            status["details"]["retryAfterSeconds"] = Json::from(1);
        }
        response.insert("status".to_owned(), status);
    }
    let outcome = &judged.outcome;
    if !outcome.warnings.is_empty() {
        response.insert("warnings".to_owned(), json!(outcome.warnings));
    }
    if !outcome.audit_annotations.is_empty() {
        response
            .insert("auditAnnotations".to_owned(), json!(annotations(&outcome.audit_annotations)));
    }
    if allowed && !outcome.patch.is_empty() {
        let patch = Json::Array(outcome.patch.clone()).to_string();
        response.insert("patchType".to_owned(), Json::from("JSONPatch"));
        response.insert("patch".to_owned(), Json::from(STANDARD.encode(patch)));
    }
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Answer { judged, body: body.to_string().into_bytes() }
}

/// The denial of a request on which nothing could be decided; the sentence says why.
#[must_use]
pub fn refuse(uid: &str, why: &str) -> Answer {
    answer(uid, withhold_admission(why))
}

/// Annotations under names that an API server takes behind the name of the webhook: no `/`, and not too long.
fn annotations(all: &BTreeMap<String, String>) -> BTreeMap<String, &str> {
    all.iter().map(|(key, value)| (annotation_key(key), value.as_str())).collect()
}

fn annotation_key(key: &str) -> String {
    let flat = key.replace('/', ".");
    if flat.len() <= KEY_MAX {
        return flat;
    }
    // FNV-1a tells long names apart that begin in the same way.
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let kept: String = flat.chars().take(KEY_MAX - 9).collect();
    format!("{kept}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_wait_is_told_for_how_long() {
        let held = nullius_policy::defer_admission("NamespaceBaseline/a", "wait for it");
        let answer = answer("1", held);
        assert!(!answer.judged.decision.is_allowed());
        let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let status = &body["response"]["status"];
        assert_eq!((&status["code"], &status["message"]), (&json!(429), &json!("wait for it")));
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
        assert_eq!(body["response"]["allowed"], false);
    }

    #[test]
    fn names_of_annotations_fit_behind_the_webhooks_own() {
        assert_eq!(annotation_key("p.example/seen"), "p.example.seen");
        let long = |end: &str| annotation_key(&format!("{}/{end}", "p".repeat(120)));
        assert!(long("a").len() <= KEY_MAX && long("a") != long("b"));
    }
}
