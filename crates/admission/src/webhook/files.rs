//! Files of policies, as ConfigMaps bring them: every document must be an object of Kubernetes.

use nullius_manifest::{Found, Manifest, objects};

/// A file with policies, bindings and parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyFile {
    /// Where it comes from: `configmap/key`.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// A file of which nobody can tell what its policies are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {told}")]
pub struct FileFault {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub told: String,
}

/// Whether a file can be read to its end.
///
/// # Errors
///
/// The first place where it cannot.
pub fn check(file: &PolicyFile) -> Result<(), FileFault> {
    manifests(file).map(drop)
}

/// The objects of a file.
pub(super) fn manifests(file: &PolicyFile) -> Result<Vec<Manifest>, FileFault> {
    let (mut found, mut fault) = (Vec::new(), None);
    let wrong = |line: usize, told: String| FileFault { file: file.name.clone(), line, told };
    objects(&file.text, |each| {
        let this = match each {
            Found::Object(manifest) => match of_nobody(&manifest) {
                None => return found.push(manifest),
                Some(told) => wrong(manifest.node().line_of(""), told),
            },
            Found::Other(place) => {
                let told = "it is no object of Kubernetes: `apiVersion` or `kind` is missing";
                wrong(place.line, told.to_owned())
            }
            Found::Fault(fault) => wrong(fault.place.line, fault.message),
        };
        fault.get_or_insert(this);
    });
    fault.map_or(Ok(found), Err)
}

/// Why nobody could say what an object is for.
fn of_nobody(manifest: &Manifest) -> Option<String> {
    let is_policy = manifest.group() == "admissionregistration.k8s.io";
    if !is_policy {
        return None;
    }
    if manifest.name().is_empty() {
        return Some(format!("a `{}` without a name", manifest.kind));
    }
    let names = |object: &serde_json::Value| {
        object.pointer("/spec/policyName").is_some_and(serde_json::Value::is_string)
    };
    let is_lost = manifest.kind.ends_with("Binding") && !names(&manifest.to_json());
    is_lost.then(|| format!("the `{}` `{}` names no policy", manifest.kind, manifest.name()))
}
