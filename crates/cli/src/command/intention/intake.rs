//! The intentions of files, each rule with the place where it stands.

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

use nullius_intention::{Home, Intention, Intentions, Origin, Tier};
use nullius_manifest::{Found, Manifest, Source, Unreadable, objects, walk};
use nullius_model::{API_VERSION, PermissionId};

use crate::output::escape;

/// Intentions, and what could not be used.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) intentions: Intentions,
    /// Each rule that decides by itself and each permission, by its stable id.
    rules: BTreeMap<PermissionId, RuleAt>,
    places: BTreeMap<(Tier, String), Spot>,
    pub(super) faults: Vec<FaultAt>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A rule and where it stands.
#[derive(Debug, Clone)]
pub(super) struct RuleAt {
    /// `shop/orders`.
    pub(super) intention: String,
    /// `sources[0].permissions[1]`.
    pub(super) field: String,
    pub(super) spot: Spot,
}

/// Something wrong and where it stands.
#[derive(Debug, Clone)]
pub(super) struct FaultAt {
    pub(super) file: String,
    /// None for a file as a whole.
    pub(super) place: Option<(usize, usize)>,
    pub(super) message: String,
}

impl Spot {
    /// `orders.yaml:12`.
    pub(super) fn label(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl fmt::Display for FaultAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = escape::cell(&self.file);
        match self.place {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", self.message),
            None => write!(f, "{file}: {}", self.message),
        }
    }
}

/// Reads the intentions of a cluster and of a bundle of the hub; other objects in the files are passed over.
pub(super) fn gather(
    paths: &[PathBuf],
    fleet: &[PathBuf],
    home: &Home,
    input: &mut dyn io::Read,
) -> Gathered {
    let mut gathered = Gathered::default();
    for (origin, paths) in [(Origin::Cluster, paths), (Origin::Fleet, fleet)] {
        walk(paths, input, &mut |source| match source {
            Ok(source) => gathered.source(&source, origin, home),
            Err(Unreadable { name, message }) => {
                gathered.faults.push(FaultAt { file: name, place: None, message });
            }
        });
    }
    gathered
}

impl Gathered {
    /// Where a rule stands.
    pub(super) fn place_of(&self, id: &PermissionId) -> Option<&Spot> {
        self.rules.get(id).map(|rule| &rule.spot)
    }

    /// Every rule that decides, by its id.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&PermissionId, &RuleAt)> {
        self.rules.iter()
    }

    fn source(&mut self, source: &Source, origin: Origin, home: &Home) {
        objects(&source.text, |found| match found {
            Found::Object(manifest) if is_intention(&manifest) => {
                self.object(source, &manifest, origin, home);
            }
            Found::Object(_) | Found::Other(_) => {}
            Found::Fault(fault) => self.faults.push(FaultAt {
                file: source.name.clone(),
                place: Some((fault.place.line, fault.place.column)),
                message: fault.message,
            }),
        });
    }

    fn object(&mut self, source: &Source, manifest: &Manifest, origin: Origin, home: &Home) {
        let node = manifest.node();
        let spot = |field: &str| {
            let place = node.place_of_text(field);
            Spot { file: source.name.clone(), line: place.line, column: place.column }
        };
        let mut wrong = |field: &str, message: String| {
            let place = spot(field);
            let what = format!("Intention `{}`: ", escape::cell(manifest.name()));
            let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
            self.faults.push(FaultAt {
                file: source.name.clone(),
                place: Some((place.line, place.column)),
                message: format!("{what}{field}{message}"),
            });
        };
        let intention = match Intention::read(&manifest.to_json(), origin, home) {
            Ok(intention) => intention,
            Err(faults) => {
                return faults.into_iter().for_each(|fault| wrong(&fault.field, fault.message));
            }
        };
        let key = (intention.tier(), intention.name().to_owned());
        if let Some(first) = self.places.get(&key) {
            return wrong("metadata.name", format!("it stands already at {}", first.label()));
        }
        for rule in intention.rules() {
            let field = format!("sources[{}]", rule.index());
            let name = intention.name().to_owned();
            let mut note = |id: &PermissionId, field: String| {
                let spot = spot(&format!("spec.{field}"));
                let rule = RuleAt { intention: name.clone(), field, spot };
                self.rules.entry(id.clone()).or_insert(rule);
            };
            match rule.permissions() {
                [] => note(rule.id(), field),
                permissions => {
                    for (index, permission) in permissions.iter().enumerate() {
                        note(permission.id(), format!("{field}.permissions[{index}]"));
                    }
                }
            }
        }
        self.places.insert(key, spot(""));
        self.intentions.put(intention);
    }
}

/// Whether an object is to be read as one; of another version it is refused there.
fn is_intention(manifest: &Manifest) -> bool {
    let group = API_VERSION.split('/').next().unwrap_or_default();
    manifest.kind == "Intention" && manifest.group() == group
}
