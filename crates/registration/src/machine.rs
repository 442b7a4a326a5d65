//! `Machine`: a machine outside of the cluster, how it proves itself, and whose identities its processes may have; read strictly.

use std::collections::BTreeSet;

use nullius_fields::{Fault, Faults, Fields};
use nullius_model::{API_VERSION, Namespace, ObjectName, Timestamp};
use serde_json::Value as Json;

const KIND: &str = "Machine";
/// The most namespaces of one machine.
const NAMESPACES_MAX: usize = 64;
/// The longest name of a certificate, and the most text of authorities, in bytes.
const NAME_MAX: usize = 256;
const BUNDLE_MAX: usize = 64 * 1024;

/// A machine outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    name: ObjectName,
    /// Whose `WorkloadIdentity` objects may be for its processes.
    pub namespaces: BTreeSet<Namespace>,
    /// The token with which it may join once.
    pub join_token: Option<JoinToken>,
    /// The certificates by which it proves itself.
    pub x509pop: Option<X509Pop>,
}

/// What is known of a token to join with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: Box<str>,
    /// It joins nobody from then on.
    pub expires: Timestamp,
}

/// Certificates that prove a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Pop {
    /// Who must stand behind them, in PEM; nothing of it is looked at here.
    pub ca_bundle: Box<str>,
    /// The DNS or URI name that they must have.
    pub name: Box<str>,
}

impl Machine {
    /// Reads and checks an object.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json) -> Result<Self, Vec<Fault>> {
        let faults = Faults::new(|_| None);
        match read(object, &faults) {
            Some(machine) if faults.count() == 0 => Ok(machine),
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }
}

fn read(object: &Json, faults: &Faults) -> Option<Machine> {
    let mut fields = Fields::of(object, "", faults)?;
    let (version, kind) = (fields.text("apiVersion"), fields.text("kind"));
    if version != Some(API_VERSION) || kind != Some(KIND) {
        faults.add("", format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`"));
        return None;
    }
    let _ = fields.value("status");
    let metadata = fields.value("metadata").unwrap_or(&Json::Null);
    let spec = fields.value("spec");
    fields.finish();
    let name = metadata.get("name").and_then(Json::as_str).unwrap_or_default();
    let name = name.parse::<ObjectName>();
    let name = name.map_err(|error| faults.add("metadata.name", error.to_string())).ok();
    let Some(spec) = spec else {
        faults.add("spec", "it is missing: say `joinToken` or `x509pop`");
        return None;
    };
    let mut fields = Fields::of(spec, "spec", faults)?;
    let mut namespaces = BTreeSet::new();
    for (path, text) in fields.texts("namespaces") {
        match text.parse::<Namespace>() {
            Ok(namespace) => {
                if !namespaces.insert(namespace) {
                    faults.add(&path, "it stands twice");
                }
            }
            Err(error) => faults.add(&path, error.to_string()),
        }
    }
    if namespaces.len() > NAMESPACES_MAX {
        fields.wrong("namespaces", format!("{NAMESPACES_MAX} at most"));
    }
    let join_token = fields.value("joinToken").map(|value| read_token(value, faults));
    let x509pop = fields.value("x509pop").map(|value| read_x509pop(value, faults));
    fields.finish();
    // What stands there and cannot be read is no machine, not one without it.
    let (join_token, x509pop) = match (join_token, x509pop) {
        (Some(None), _) | (_, Some(None)) => return None,
        (token, x509pop) => (token.flatten(), x509pop.flatten()),
    };
    Some(Machine { name: name?, namespaces, join_token, x509pop })
}

fn read_token(value: &Json, faults: &Faults) -> Option<JoinToken> {
    let mut fields = Fields::of(value, "spec.joinToken", faults)?;
    let (sha256, expires) = (fields.text("sha256"), fields.text("expires"));
    for missing in ["sha256", "expires"].into_iter().filter(|name| !fields.has(name)) {
        fields.wrong(missing, "it is missing: `nullius node join-token` writes both");
    }
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if sha256.is_some_and(|text| text.len() != 64 || !text.bytes().all(is_hex)) {
        fields.wrong("sha256", "a digest has 64 hexadecimal digits in lower case");
    }
    let until = expires.and_then(|text| {
        let read = text.parse::<Timestamp>();
        read.map_err(|_| fields.wrong("expires", "it is no time: write `2027-01-31T00:00:00Z`"))
            .ok()
    });
    fields.finish();
    Some(JoinToken { sha256: sha256?.into(), expires: until? })
}

fn read_x509pop(value: &Json, faults: &Faults) -> Option<X509Pop> {
    let mut fields = Fields::of(value, "spec.x509pop", faults)?;
    let (bundle, name) = (fields.text("caBundle"), fields.text("name"));
    for missing in ["caBundle", "name"].into_iter().filter(|name| !fields.has(name)) {
        fields.wrong(
            missing,
            "it is missing: say who stands behind certificates, and which name they have",
        );
    }
    for (field, text, most) in [("caBundle", bundle, BUNDLE_MAX), ("name", name, NAME_MAX)] {
        if text.is_some_and(|text| text.len() > most) {
            fields.wrong(field, format!("it is longer than {most} bytes"));
        }
    }
    fields.finish();
    Some(X509Pop { ca_bundle: bundle?.into(), name: name?.into() })
}
