//! Two states of files beside each other: which findings, rights and policies come and go.

mod namespaces;
mod policies;
mod rights;

use std::collections::BTreeMap;

use nullius_manifest::{Found, Source, objects};
use serde::Serialize;
use serde_json::Value as Json;

pub use policies::{Change, PolicyChange};
pub use rights::Right;

use crate::report::{Finding, Report, ScanFault};
use rights::Granted;

/// One state of files.
#[derive(Debug, Default)]
pub struct Side {
    objects: Vec<Json>,
}

/// What is other between two states.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Findings that come and go.
    pub findings: Findings,
    /// Rights that come and go.
    pub rights: Rights,
    /// Policies and bindings that are other, and namespaces that ask for something else of the Pod Security Standards; what is
    /// worst first.
    pub policies: Vec<PolicyChange>,
    /// What could not be read or judged in either.
    pub errors: Vec<ScanFault>,
}

/// Findings that come and go.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Those that were not there before.
    pub new: Vec<Finding>,
    /// Those that are there no more.
    pub gone: Vec<Finding>,
}

/// Rights that come and go.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rights {
    /// Those that somebody did not have before.
    pub gained: Vec<Right>,
    /// Those that somebody has no more.
    pub lost: Vec<Right>,
}

impl Side {
    /// Takes the objects of a text; what cannot be read is told by the scan.
    pub fn source(&mut self, source: &Source) {
        objects(&source.text, |found| {
            if let Found::Object(manifest) = found
                && (["rbac.authorization.k8s.io", "admissionregistration.k8s.io"]
                    .contains(&manifest.group())
                    || manifest.group().is_empty() && manifest.kind == "Namespace")
            {
                self.objects.push(manifest.to_json());
            }
        });
    }

    /// Takes what both states stand on: roles and bindings of the cluster. What the files say themselves counts before it.
    pub fn beneath(&mut self, below: &Self) {
        let known: std::collections::BTreeSet<_> = self.objects.iter().map(key).collect();
        let more = below.objects.iter().filter(|object| {
            object["apiVersion"].as_str().unwrap_or_default().starts_with("rbac.")
                && !known.contains(&key(object))
        });
        let more: Vec<Json> = more.cloned().collect();
        self.objects.extend(more);
    }
}

fn key(object: &Json) -> [String; 3] {
    ["/kind", "/metadata/namespace", "/metadata/name"]
        .map(|path| object.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned())
}

impl Difference {
    /// Compares two states with what a scan of each found.
    pub fn between((base, before): (&Side, Report), (head, after): (&Side, Report)) -> Self {
        let (had, has) = (Granted::of(base.objects.iter()), Granted::of(head.objects.iter()));
        let mut errors = before.errors;
        errors.extend(after.errors);
        let mut policies = policies::changes(base.objects.iter(), head.objects.iter());
        policies.extend(namespaces::changes(base.objects.iter(), head.objects.iter()));
        policies.sort_by_key(|each| each.change);
        Self {
            findings: Findings {
                new: beyond(&after.findings, &before.findings),
                gone: beyond(&before.findings, &after.findings),
            },
            rights: Rights { gained: has.beyond(&had), lost: had.beyond(&has) },
            policies,
            errors,
        }
    }

    /// Whether something got worse: a finding or a right more, a policy or binding that is gone or lets more pass.
    pub fn is_worse(&self) -> bool {
        let is_weaker = |change: &PolicyChange| change.change <= Change::Weakened;
        !self.findings.new.is_empty()
            || !self.rights.gained.is_empty()
            || self.policies.iter().any(is_weaker)
    }

    /// Whether nothing is other.
    pub fn is_empty(&self) -> bool {
        let Self { findings, rights, policies, errors: _ } = self;
        findings.new.is_empty()
            && findings.gone.is_empty()
            && rights.gained.is_empty()
            && rights.lost.is_empty()
            && policies.is_empty()
    }
}

/// The findings that others do not have, wherever they stand in their files.
fn beyond(findings: &[Finding], others: &[Finding]) -> Vec<Finding> {
    let same = |finding: &Finding| {
        let object = &finding.object;
        let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let (kind, namespace) = (object.kind.clone(), object.namespace.clone());
        let name = object.name.clone();
        (finding.check.clone(), group, kind, namespace, name, finding.message.clone())
    };
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for other in others {
        *known.entry(same(other)).or_default() += 1;
    }
    let mut more = Vec::new();
    for finding in findings {
        match known.get_mut(&same(finding)).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => more.push(finding.clone()),
        }
    }
    more
}
