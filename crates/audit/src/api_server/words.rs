//! What an API server said of a request: that it refused it and by what, or what its policies wanted the audit to know.
//!
//! Who refused stands in the message alone. Its beginning is the API server's, up to and with a quoted name; what a caller or a webhook
//! could choose comes behind that and is never searched for words.

use serde::Deserialize;

use super::{Answered, Authorized};

const VALIDATION_FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";
const POD_SECURITY: &str = "pod-security.kubernetes.io/audit-violations";
const FAILED_OPEN: [&str; 2] = [
    "failed-open.validating.webhook.admission.k8s.io/",
    "failed-open.mutation.webhook.admission.k8s.io/",
];
/// What the webhook of ours is called in API servers: it tells by itself what it decided.
const OUR_WEBHOOK: &str = ".admission.nullius.dev";

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether the request was refused.
    pub weight: Weight,
    /// In one sentence, the API server's own where it has one.
    pub sentence: String,
    /// By whom or what, what decided first.
    pub remarks: Vec<Remark>,
}

/// How much it weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The authorizers did not allow it.
    Unauthorized,
    /// Admission refused it.
    Refused,
    /// It passed, and the audit is to know something.
    Noted,
}

/// What one of them said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remark {
    /// `ValidatingAdmissionPolicy/no-latest`, `PodSecurity/restricted`, `Webhook/policy.example.org`.
    pub policy: String,
    /// The policy's binding.
    pub binding: String,
    /// What of the policy.
    pub check: String,
    /// Its words.
    pub message: String,
}

pub(super) fn said(answered: &Answered) -> Option<Said> {
    if answered.authorized == Some(Authorized::Forbid) || answered.is_refused_impersonation() {
        let rule = Remark { policy: "Authorization".to_owned(), ..Remark::default() };
        return Some(Said {
            weight: Weight::Unauthorized,
            sentence: sentence(answered, "the api server's authorizers do not allow it"),
            remarks: vec![rule],
        });
    }
    answered.authorized?;
    let notes = notes(answered);
    if let Some(refused) = refused(answered) {
        if is_ours(&refused.policy) {
            return None;
        }
        let mut remarks = vec![refused];
        remarks.extend(notes);
        let sentence = sentence(answered, "admission refuses it");
        return Some(Said { weight: Weight::Refused, sentence, remarks });
    }
    let first = notes.first()?;
    let sentence = match first.message.as_str() {
        "" => format!("{} wants the audit to know of it", first.policy),
        message => message.to_owned(),
    };
    Some(Said { weight: Weight::Noted, sentence, remarks: notes })
}

fn sentence(answered: &Answered, otherwise: &str) -> String {
    match answered.message.as_str() {
        "" => otherwise.to_owned(),
        message => message.to_owned(),
    }
}

fn is_ours(policy: &str) -> bool {
    policy.strip_prefix("Webhook/").is_some_and(|name| name.ends_with(OUR_WEBHOOK))
}

/// Which part of admission refused the request; none where it was not admission.
fn refused(answered: &Answered) -> Option<Remark> {
    let message = answered.message.as_str();
    if answered.code < 400 {
        return None;
    }
    if let Some((name, rest)) = quoted_after(message, "admission webhook ") {
        let words = rest.strip_prefix(" denied the request")?;
        let words = words.trim_start_matches([':', ' ']);
        return Some(Remark::of(format!("Webhook/{name}"), words));
    }
    let uncalled = message.strip_prefix("Internal error occurred: ");
    if let Some((name, rest)) =
        uncalled.and_then(|rest| quoted_after(rest, "failed calling webhook "))
    {
        let words = rest.trim_start_matches([':', ' ']);
        return Some(Remark {
            check: "could not be asked".to_owned(),
            ..Remark::of(format!("Webhook/{name}"), words)
        });
    }
    let forbidden = behind_forbidden(message);
    if let Some(remark) = forbidden.and_then(by_policy) {
        return Some(remark);
    }
    if answered.code != 403 {
        return None;
    }
    let words = forbidden.unwrap_or(message);
    Some(by_plugin(words).unwrap_or_else(|| Remark::of("Admission".to_owned(), words)))
}

/// What stands behind `pods "web" is forbidden: `; the name is what somebody sent, quoted as Go quotes it.
fn behind_forbidden(message: &str) -> Option<&str> {
    let (resource, rest) = message.split_once(' ')?;
    if resource.contains(['"', ':']) {
        return None;
    }
    let rest = match rest.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?.1.strip_prefix(' ')?,
        // What is created with a generated name has none yet.
        None => rest,
    };
    rest.strip_prefix("is forbidden: ")
}

/// `ValidatingAdmissionPolicy 'p' with binding 'b' denied request: words`: names of objects hold no quotes.
fn by_policy(words: &str) -> Option<Remark> {
    let rest = words.strip_prefix("ValidatingAdmissionPolicy '")?;
    let (policy, rest) = rest.split_once('\'')?;
    let (binding, rest) = match rest.strip_prefix(" with binding '") {
        Some(rest) => rest.split_once('\'')?,
        None => ("", rest),
    };
    let words = rest.strip_prefix(" denied request: ")?;
    let remark = Remark::of(format!("ValidatingAdmissionPolicy/{policy}"), words);
    Some(Remark { binding: binding.to_owned(), ..remark })
}

fn by_plugin(words: &str) -> Option<Remark> {
    if let Some((level, rest)) = quoted_after(words, "violates PodSecurity ") {
        let (level, version) = level.split_once(':').unwrap_or((&level, ""));
        let remark =
            Remark::of(format!("PodSecurity/{level}"), rest.trim_start_matches([':', ' ']));
        return Some(Remark { check: version.to_owned(), ..remark });
    }
    let quota = words.strip_prefix("exceeded quota: ")?;
    let name = quota.split(',').next().unwrap_or(quota);
    Some(Remark::of(format!("ResourceQuota/{name}"), words))
}

/// What policies and webhooks wanted the audit to know.
fn notes(answered: &Answered) -> Vec<Remark> {
    let mut notes = Vec::new();
    for (key, value) in &answered.annotations {
        if key == VALIDATION_FAILURE {
            notes.extend(failures(value));
        } else if key == POD_SECURITY {
            notes.push(Remark::of("PodSecurity".to_owned(), value));
        } else if FAILED_OPEN.iter().any(|prefix| key.starts_with(prefix)) {
            let check = "could not be asked, and was ignored".to_owned();
            notes.push(Remark { check, ..Remark::of(format!("Webhook/{value}"), "") });
        } else if let Some((by, word)) = key.split_once('/')
            && !by.ends_with("k8s.io")
            && !by.ends_with("kubernetes.io")
            && !by.ends_with(OUR_WEBHOOK)
        {
            // Annotations have the name of the policy or of the webhook before them; which of the two it is they do not say.
            notes.push(Remark {
                check: word.to_owned(),
                ..Remark::of(format!("Admission/{by}"), value)
            });
        }
    }
    notes
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    message: String,
    policy: String,
    #[serde(default)]
    binding: String,
    #[serde(default)]
    expression_index: u32,
}

fn failures(value: &str) -> Vec<Remark> {
    match serde_json::from_str::<Vec<Failure>>(value) {
        Ok(failures) => failures
            .into_iter()
            .map(|failure| Remark {
                policy: format!("ValidatingAdmissionPolicy/{}", failure.policy),
                binding: failure.binding,
                check: format!("validation {}", u64::from(failure.expression_index) + 1),
                message: failure.message,
            })
            .collect(),
        // It was cut, or is written in a way of a later version: the words are kept as they are.
        Err(_) => vec![Remark::of("ValidatingAdmissionPolicy".to_owned(), value)],
    }
}

impl Remark {
    fn of(policy: String, message: &str) -> Self {
        Self { policy, message: message.to_owned(), ..Self::default() }
    }
}

/// A quoted word behind these, and what follows it.
fn quoted_after<'a>(text: &'a str, before: &str) -> Option<(String, &'a str)> {
    unquoted(text.strip_prefix(before)?.strip_prefix('"')?)
}

/// Reads up to the quote that ends a text in Go's quotes.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((word, &text[at + 1..])),
            // Whatever is escaped is no end; what it stands for is of no matter here.
            '\\' => word.push(letters.next()?.1),
            letter => word.push(letter),
        }
    }
    None
}
