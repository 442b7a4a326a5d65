//! All policies for the same workloads, written as intentions.

use std::collections::BTreeSet;

use nullius_fields::Fault;
use nullius_model::{
    IntentionAction, IntentionPath, IntentionPermission, IntentionSource, IntentionSpec,
};

use super::{
    Place, destination,
    policy::{Entry, Policy, Who},
};
use crate::imported::{Imported, ImportedIntention, Remark};

/// Policies for the same workloads.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) objects: Vec<usize>,
    /// Whether something in it could not be read: then nothing of it is written.
    pub(super) broken: bool,
    names: Vec<String>,
    has_allow: bool,
    allows: Vec<Entry>,
    denies: Vec<Entry>,
}

impl Group {
    pub(super) fn add(&mut self, object: usize, policy: Policy) {
        self.objects.push(object);
        self.names.push(policy.name);
        match policy.action {
            IntentionAction::Allow => {
                self.has_allow = true;
                self.allows.extend(policy.entries);
            }
            IntentionAction::Deny => self.denies.extend(policy.entries),
        }
    }

    /// Whether anything follows from it but that nothing is allowed by default.
    pub(super) fn says_something(&self) -> bool {
        self.broken || !self.allows.is_empty() || !self.denies.is_empty()
    }

    /// Writes intentions: one for all ports, and one for each port that is named.
    pub(super) fn write(&self, place: &Place, imported: &mut Imported) {
        if self.broken {
            return;
        }
        let mut told = |list: fn(&mut Imported) -> &mut Vec<Remark>, message: &str| {
            for object in &self.objects {
                let fault = Fault { field: "spec".to_owned(), message: message.to_owned() };
                list(imported).push(Remark { object: *object, fault });
            }
        };
        if !self.says_something() {
            return told(
                |it| &mut it.notes,
                "it allows nothing, as here nothing is allowed by default: nothing is written for it",
            );
        }
        if !self.has_allow {
            let why = "without an ALLOW policy Istio lets pass whatever is not denied; here somebody must say who may call: add an ALLOW policy";
            return told(|it| &mut it.refused, why);
        }
        let is_block = |entry: &Entry| matches!(entry.who, Who::Block(_));
        let is_named = |entry: &Entry| !is_block(entry) && entry.who != Who::Anyone;
        if self.denies.iter().any(is_block) && self.all().any(is_named) {
            let why = "a DENY by `ipBlocks` counts for named workloads too, and here the more exact source decides: deny the block in a higher tier";
            return told(|it| &mut it.refused, why);
        }
        if self.all().any(|entry| entry.who == Who::Anyone) {
            told(
                |it| &mut it.notes,
                "a rule without `from` is for callers of this trust domain: others and those without identity are denied",
            );
        }
        let name = self.names.iter().min().cloned().unwrap_or_default();
        let ports: BTreeSet<u16> =
            self.all().flat_map(|entry| entry.ports.iter().copied()).collect();
        for port in std::iter::once(None).chain(ports.into_iter().map(Some)) {
            let sources = self.sources(port);
            if sources.is_empty() {
                continue;
            }
            let (namespace, mut destination) = destination(place);
            destination.ports = port.map(i64::from).into_iter().collect();
            let name = match port {
                None => name.clone(),
                Some(port) => format!("{name}-{port}"),
            };
            let spec = IntentionSpec { destination, sources, ..IntentionSpec::default() };
            let objects = self.objects.clone();
            imported.intentions.push(ImportedIntention { namespace, name, spec, objects });
        }
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.allows.iter().chain(&self.denies)
    }

    /// A source for each caller that is named, with the rules of all wider ones.
    fn sources(&self, port: Option<u16>) -> Vec<IntentionSource> {
        let counts = |entry: &&Entry| match port {
            None => entry.ports.is_empty(),
            Some(port) => entry.ports.is_empty() || entry.ports.contains(&port),
        };
        let named: BTreeSet<&Who> = self.all().filter(counts).map(|entry| &entry.who).collect();
        named
            .into_iter()
            .map(|who| {
                let of = |entries: &[Entry]| -> Vec<Option<IntentionPermission>> {
                    let wider = entries.iter().filter(counts).filter(|entry| entry.who.covers(who));
                    wider.map(|entry| entry.requests.clone()).collect()
                };
                decided(source(who), &of(&self.denies), &of(&self.allows))
            })
            .collect()
    }
}

fn source(who: &Who) -> IntentionSource {
    let mut source = IntentionSource::default();
    match who {
        Who::Anyone | Who::Authenticated => source.any = Some(true),
        Who::Namespace(namespace) => source.namespace = Some(namespace.clone()),
        Who::Account(namespace, account) => {
            source.namespace = Some(namespace.clone());
            source.service_account = Some(account.clone());
        }
        Who::Id(id) => source.spiffe_id = Some(id.clone()),
        Who::Block(block) => source.ip_block = Some(block.clone()),
    }
    source
}

/// A source with what is decided of it; an entry without a permission is for all requests.
fn decided(
    source: IntentionSource,
    denies: &[Option<IntentionPermission>],
    allows: &[Option<IntentionPermission>],
) -> IntentionSource {
    if denies.iter().any(Option::is_none) {
        return IntentionSource { action: Some(IntentionAction::Deny), ..source };
    }
    let allows_all = allows.iter().any(Option::is_none);
    if denies.is_empty() && allows_all {
        return IntentionSource { action: Some(IntentionAction::Allow), ..source };
    }
    let all = || IntentionPermission {
        action: IntentionAction::Allow,
        paths: vec![IntentionPath { prefix: Some("/".to_owned()), ..IntentionPath::default() }],
        ..IntentionPermission::default()
    };
    let mut permissions: Vec<IntentionPermission> = denies.iter().flatten().cloned().collect();
    match allows_all {
        true => permissions.push(all()),
        false => permissions.extend(allows.iter().flatten().cloned()),
    }
    IntentionSource { permissions, ..source }
}
