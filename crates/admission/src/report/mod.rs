//! What a scan found, and how other tools read it.

mod junit;
mod sarif;

pub(crate) use junit::escaped;
pub use junit::junit;
pub use sarif::sarif;

use nullius_manifest::{Fault, Unreadable};
use nullius_model::{Enforcement, Severity};
use nullius_policy::{
    admission_policy::{Action, PolicyTrace},
    exception::Acceptance,
};
use serde::Serialize;

use crate::{PolicyAbout, scan::EXPIRED};

/// What a scan found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The level of the Pod Security Standards: `restricted:latest`; `privileged:latest` asks for nothing.
    pub pod_security: String,
    /// The policies that were asked, by name.
    pub policies: Vec<String>,
    /// What is broken: one for each object and check.
    pub findings: Vec<Finding>,
    /// Objects that break something, with the API server's sentence about each.
    pub objects: Vec<BrokenObject>,
    /// Findings that somebody has accepted.
    pub waived: Vec<Waived>,
    /// What could not be read, is nothing that an API server takes, or could not be judged.
    pub errors: Vec<ScanFault>,
    /// What a person should know beside.
    pub notes: Vec<String>,
    /// How much was looked at.
    pub counts: Counts,
    /// What each object came to, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<ObjectTrace>,
    /// What policies say of themselves, in the order of `policies`.
    #[serde(skip)]
    pub abouts: Vec<PolicyAbout>,
}

/// A check that an object does not pass, or a policy that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check of the Pod Security Standards, or the policy.
    pub check: String,
    /// The level that was asked for; none for a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<&'static str>,
    /// Its version; none for a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The binding that applies the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What a cluster makes of it.
    pub enforcement: Enforcement,
    /// The object.
    pub object: ObjectRef,
    /// What the API server says of this check.
    pub message: String,
    /// The first field that must change; empty where it is not known.
    pub path: String,
    /// How; empty where the policy does not say it.
    pub fix: String,
    /// Where that is.
    #[serde(flatten)]
    pub location: Location,
    /// Every field that must change.
    pub spots: Vec<SpotAt>,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty where the object says none.
    pub namespace: String,
    /// The name, or what it will begin with.
    pub name: String,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The file, or `stdin`.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// The line itself.
    pub snippet: String,
}

/// A field that must change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpotAt {
    /// The field.
    pub path: String,
    /// What to do; empty where it is not known.
    pub fix: String,
    /// Counted from 1; of the nearest field above where it is missing.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

/// An object that breaks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokenObject {
    /// The object.
    pub object: ObjectRef,
    /// Where it begins.
    #[serde(flatten)]
    pub location: Location,
    /// What the API server says of it as a whole.
    pub message: String,
    /// How many of the findings, in their order, are of it.
    #[serde(skip)]
    pub findings: usize,
}

/// A finding that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waived {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// Who answers for it.
    pub owner: String,
    /// Why it is accepted.
    pub reason: String,
    /// The last day, or the moment of its end.
    pub expires: String,
    /// The `PolicyException` that covers it, `namespace/name`; none where the file of waivers does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
}

impl Waived {
    /// Accepted by an exception.
    pub(crate) fn by(finding: Finding, acceptance: &Acceptance) -> Self {
        let Acceptance { exception, owner, reason, expires } = acceptance.clone();
        let expires = expires.to_string();
        Self { finding, owner, reason, expires, exception: Some(exception) }
    }
}

/// Something that could not be read, that an API server would not take, or that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanFault {
    /// Which of these.
    pub kind: FaultKind,
    /// The file or folder.
    pub file: String,
    /// Counted from 1; absent for a file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What kind of fault something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// It cannot be read.
    Unreadable,
    /// No API server would take it.
    Refused,
    /// What policies ask for is not known.
    Unjudged,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Texts.
    pub files: usize,
    /// Objects of Kubernetes.
    pub objects: usize,
    /// Those that are pods or make pods.
    pub checked: usize,
    /// Those of kinds that clusters define themselves, which are taken as they are written.
    pub custom: usize,
    /// Documents that are something else.
    pub other: usize,
}

/// What an object came to, also where nothing was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectTrace {
    /// The object.
    pub object: ObjectRef,
    /// Where it begins.
    #[serde(flatten)]
    pub location: Location,
    /// What the Pod Security Standards came to.
    pub pod_security: String,
    /// What each policy came to.
    pub policies: Vec<PolicyTrace>,
}

impl Report {
    /// Whether a cluster would refuse something.
    pub fn is_denied(&self) -> bool {
        self.findings.iter().any(|finding| finding.enforcement == Enforcement::Deny)
    }

    /// Whether nothing of the Pod Security Standards is asked for.
    pub fn asks_no_level(&self) -> bool {
        self.pod_security.starts_with("privileged:")
    }

    /// How many of the findings are waivers that have ended: they are of no object that was judged.
    pub fn ended_waivers(&self) -> usize {
        self.findings.iter().filter(|finding| finding.check == EXPIRED).count()
    }

    /// What was asked: `restricted:latest and 16 policies`.
    pub fn measures(&self) -> String {
        let policies = match self.policies.len() {
            0 => return self.pod_security.clone(),
            1 => "1 policy".to_owned(),
            count => format!("{count} policies"),
        };
        match self.asks_no_level() {
            true => policies,
            false => format!("{} and {policies}", self.pod_security),
        }
    }

    /// What a policy says of itself.
    pub fn about(&self, policy: &str) -> Option<&PolicyAbout> {
        let at = self.policies.binary_search_by(|name| name.as_str().cmp(policy)).ok()?;
        self.abouts.get(at)
    }
}

/// The strictest of what a binding asks for.
pub(crate) fn strictest_of(actions: &[Action]) -> Enforcement {
    match actions.iter().min() {
        Some(Action::Warn) => Enforcement::Warn,
        Some(Action::Audit) => Enforcement::Audit,
        Some(Action::Deny) | None => Enforcement::Deny,
    }
}

impl ObjectRef {
    /// `Deployment shop/web`.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { "(without a name)" } else { &self.name };
        match self.namespace.as_str() {
            "" => format!("{} {name}", self.kind),
            namespace => format!("{} {namespace}/{name}", self.kind),
        }
    }
}

impl ScanFault {
    pub(crate) fn unreadable(Unreadable { name, message }: Unreadable) -> Self {
        let kind = FaultKind::Unreadable;
        Self { kind, file: name, line: None, column: None, message, next: None }
    }

    pub(crate) fn at(kind: FaultKind, file: &str, fault: Fault) -> Self {
        let Fault { place, message, next } = fault;
        let (line, column) = (Some(place.line), Some(place.column));
        Self { kind, file: file.to_owned(), line, column, message, next }
    }
}
