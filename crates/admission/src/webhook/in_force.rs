//! What policy files became: the policies that are in force, by entry, and what stands in where one cannot be used.
//!
//! A policy that cannot be compiled is refused whole, and one of its name refuses what it would be for. That does not depend on
//! what a process saw before: every replica that reads the same files does the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use nullius_cel::with_deep_stack;
use nullius_manifest::Manifest;
use nullius_model::Timestamp;
use nullius_policy::{
    admission_policy::{Kind, ParamQuery, ParamSource, PolicySet, Programs, Taken, Version},
    exception::Exception,
    pod_security,
};
use serde_json::{Value as Json, json};

use super::{
    Entry,
    files::{FileFault, PolicyFile, manifests},
    rules::{self, Rules},
};
use crate::{
    stand_in::{UNUSABLE, stand_in},
    state::{NotTaken, State},
};

/// Policies in force, with the parameters that came with them.
#[derive(Debug)]
pub struct InForce {
    sets: [PolicySet; Entry::ALL.len()],
    rules: [Vec<Json>; Entry::ALL.len()],
    params: State,
    policies: BTreeMap<String, Standing>,
    troubles: Vec<Trouble>,
}

/// Policies in force, the kinds of the cluster in which they are, and who is excepted from them.
#[derive(Debug)]
pub struct Engine {
    pub(super) in_force: Arc<InForce>,
    pub(super) kinds: State,
    pub(super) exceptions: Vec<Exception>,
    /// The newest minor version whose Pod Security Standards the API server knows.
    pub(super) newest: u64,
}

/// A policy or binding that is not in force as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// The file.
    pub file: String,
    /// The line; 0 where it is about the whole file.
    pub line: usize,
    /// The policy or binding, `Kind/name`; empty for a whole file.
    pub what: String,
    /// What is wrong.
    pub told: String,
    /// What is in force in its place.
    pub instead: String,
}

/// Whether a policy is in force as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Written,
    StandIn,
    Unbound,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.what.is_empty() {
            write!(f, "{}: ", self.what)?;
        }
        write!(f, "{}; in force: {}", self.told, self.instead)
    }
}

impl Trouble {
    /// A file that cannot be read, in whose place its last readable text is in force.
    #[must_use]
    pub fn of_file(fault: &FileFault) -> Self {
        Self {
            file: fault.file.clone(),
            line: fault.line,
            what: String::new(),
            told: fault.told.clone(),
            instead: "the file as it could be read last".to_owned(),
        }
    }

    /// A file that could never be read.
    #[must_use]
    pub fn of_new_file(fault: &FileFault) -> Self {
        Self {
            instead: "nothing of it, since it could never be read".to_owned(),
            ..Self::of_file(fault)
        }
    }
}

/// Policies and bindings that validate, and those that mutate, know nothing of each other.
type Family = &'static str;
const VALIDATING: Family = "Validating";
const MUTATING: Family = "Mutating";

/// An object of a file. The places within it, of which there are many, are forgotten as soon as it is read.
struct Item {
    file: Arc<str>,
    group: String,
    kind: String,
    name: String,
    line: usize,
    object: Json,
}

impl Item {
    fn of(file: &Arc<str>, manifest: &Manifest) -> Self {
        Self {
            file: Arc::clone(file),
            group: manifest.group().to_owned(),
            kind: manifest.kind.clone(),
            name: manifest.name().to_owned(),
            line: manifest.node().line_of(""),
            object: manifest.to_json(),
        }
    }
}

impl InForce {
    /// Compiles policies for an API server of a version.
    ///
    /// # Errors
    ///
    /// The files that cannot be read: nothing can be said of their policies.
    pub fn compile(files: &[PolicyFile], version: Version) -> Result<Self, Vec<FileFault>> {
        Self::compile_sharing(files, version, Programs::default())
    }

    /// Compiles policies that come in the place of these; expressions that stand in both are compiled once.
    ///
    /// # Errors
    ///
    /// The files that cannot be read: nothing can be said of their policies.
    pub fn replaced(&self, files: &[PolicyFile], version: Version) -> Result<Self, Vec<FileFault>> {
        Self::compile_sharing(files, version, self.programs().clone())
    }

    fn compile_sharing(
        files: &[PolicyFile],
        version: Version,
        programs: Programs,
    ) -> Result<Self, Vec<FileFault>> {
        let compile = || Self::compile_at_once(files, version, programs);
        // One thread for all of them, whose memory is given back as a whole.
        with_deep_stack(compile).unwrap_or_else(|| {
            let told = "the policies cannot be compiled: a defect of this program, told in its log";
            let of = |file: &PolicyFile| FileFault {
                file: file.name.clone(),
                line: 0,
                told: told.to_owned(),
            };
            Err(files.iter().map(of).collect())
        })
    }

    fn compile_at_once(
        files: &[PolicyFile],
        version: Version,
        programs: Programs,
    ) -> Result<Self, Vec<FileFault>> {
        let (mut items, mut faults) = (Vec::new(), Vec::new());
        for file in files {
            match manifests(file) {
                Ok(found) => {
                    let name = Arc::from(file.name.as_str());
                    items.extend(found.into_iter().map(|manifest| Item::of(&name, &manifest)));
                }
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut making = Making::new(version, &programs);
        let (mut policies, mut bindings) = (Vec::new(), Vec::new());
        for item in items {
            match family_of(&item) {
                Some((family, true)) => policies.push((family, item)),
                Some((family, false)) => bindings.push((family, item)),
                None => making.param(&item),
            }
        }
        making.bindings(bindings);
        making.policies(policies);
        programs.forget_unused();
        Ok(making.finish())
    }

    /// What the policies are compiled to; all sets share it.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        let [first, ..] = &self.sets;
        first.programs()
    }

    /// The policies of an entry.
    pub(super) fn set(&self, entry: Entry) -> &PolicySet {
        &self.sets[entry.index()]
    }

    /// The rules for which an API server must ask an entry; none where there is no policy for it.
    #[must_use]
    pub fn rules(&self, entry: Entry) -> &[Json] {
        &self.rules[entry.index()]
    }

    /// Where the parameters are that bindings refer to.
    #[must_use]
    pub fn param_sources(&self) -> BTreeSet<ParamSource> {
        self.sets.iter().flat_map(PolicySet::param_sources).collect()
    }

    /// Parameters that came with the policies.
    #[must_use]
    pub fn params(&self, query: &ParamQuery) -> Vec<Json> {
        self.params.found(query)
    }

    /// What is not in force as it was written.
    #[must_use]
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// The policies in force, `Kind/name`, each with what stands in for it or why it is for nothing.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let told = |(name, standing): (&String, &Standing)| match standing {
            Standing::Written => name.clone(),
            Standing::StandIn => format!("{name} (cannot be used: refuses what it would be for)"),
            Standing::Unbound => format!("{name} (for nothing: no binding names it)"),
        };
        self.policies.iter().map(told).collect()
    }

    /// How many policies are in force, those among them that stand in for another, and those that no binding names.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let of = |wanted: Standing| self.policies.values().filter(|is| **is == wanted).count();
        (of(Standing::Written), of(Standing::StandIn), of(Standing::Unbound))
    }
}

impl Engine {
    /// Policies in a cluster that defines kinds of its own by these `CustomResourceDefinition`s, and no others.
    #[must_use]
    pub fn new<'a>(
        in_force: Arc<InForce>,
        definitions: impl IntoIterator<Item = &'a Json>,
    ) -> (Self, Vec<NotTaken>) {
        let (kinds, wrong) = State::of_definitions(definitions);
        let newest = pod_security::Version::NEWEST_KNOWN;
        (Self { in_force, kinds, exceptions: Vec::new(), newest }, wrong)
    }

    /// With exceptions, which end by themselves.
    #[must_use]
    pub fn excepting(self, exceptions: Vec<Exception>) -> Self {
        Self { exceptions, ..self }
    }

    /// With the Pod Security Standards as an API server of a minor version knows them.
    #[must_use]
    pub fn measuring(self, minor: u16) -> Self {
        Self { newest: u64::from(minor).min(pod_security::Version::NEWEST_KNOWN), ..self }
    }

    /// The exceptions that hold at this time.
    #[must_use]
    pub fn exceptions_at(&self, now: Timestamp) -> Vec<&Exception> {
        self.exceptions.iter().filter(|exception| exception.holds_at(now)).collect()
    }

    /// The policies.
    #[must_use]
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Where the objects of a kind are; `None` for one that the cluster does not have.
    #[must_use]
    pub fn place(&self, kind: &Kind) -> Option<crate::Place> {
        self.kinds.place(kind)
    }
}

/// A set that is being made.
struct Making {
    sets: [PolicySet; Entry::ALL.len()],
    rules: [Rules; Entry::ALL.len()],
    params: State,
    policies: BTreeMap<String, Standing>,
    troubles: Vec<Trouble>,
    /// Names of policies that a binding names.
    bound: BTreeSet<(Family, String)>,
    /// Bindings that cannot be used, by their policy.
    lost: BTreeMap<(Family, String), Vec<(String, Item)>>,
}

impl Making {
    fn new(version: Version, programs: &Programs) -> Self {
        Self {
            sets: Entry::ALL.map(|_| PolicySet::sharing(version, programs.clone())),
            rules: Entry::ALL.map(|_| Rules::default()),
            params: State::default(),
            policies: BTreeMap::new(),
            troubles: Vec::new(),
            bound: BTreeSet::new(),
            lost: BTreeMap::new(),
        }
    }

    fn param(&mut self, item: &Item) {
        if let Err(wrong) = self.params.add(&item.object) {
            self.trouble(item, &wrong.to_string(), "nothing of it");
        }
    }

    fn bindings(&mut self, bindings: Vec<(Family, Item)>) {
        let mut times: BTreeMap<(Family, String), usize> = BTreeMap::new();
        for (family, item) in &bindings {
            *times.entry((family, item.name.clone())).or_default() += 1;
        }
        for (family, item) in bindings {
            let name = item.name.clone();
            let policy = item.object.pointer("/spec/policyName").and_then(Json::as_str);
            let policy = policy.unwrap_or_default().to_owned();
            let is_twice = times.get(&(family, name.clone())).is_some_and(|times| *times > 1);
            // Entries of a family share their bindings: each knows only those of its own policies.
            let added = match is_twice {
                true => Err("its name stands twice".to_owned()),
                false => entries(family).into_iter().try_for_each(|entry| {
                    let added = self.sets[entry.index()].add(&item.object);
                    added.map(|_: Taken| ()).map_err(|faults| first_of(&faults))
                }),
            };
            match added {
                Ok(()) => {
                    self.bound.insert((family, policy));
                }
                Err(told) => self.lost.entry((family, policy)).or_default().push((told, item)),
            }
        }
    }

    fn policies(&mut self, policies: Vec<(Family, Item)>) {
        let mut by_name: BTreeMap<(Family, String), Vec<Item>> = BTreeMap::new();
        for (family, item) in policies {
            by_name.entry((family, item.name.clone())).or_default().push(item);
        }
        for ((family, name), items) in by_name {
            let lost = self.lost.remove(&(family, name.clone())).unwrap_or_default();
            let is_bound = self.bound.contains(&(family, name.clone()));
            if let [item] = items.as_slice() {
                self.policy(family, item, is_bound);
            } else {
                for item in &items {
                    self.replace(family, item, "its name stands twice", is_bound);
                }
            }
            for (told, binding) in lost {
                self.binding_lost(family, &items, &told, &binding);
            }
        }
        for ((_, policy), lost) in std::mem::take(&mut self.lost) {
            for (told, binding) in lost {
                let instead = format!("nothing, since there is no policy `{policy}`");
                self.trouble(&binding, &told, &instead);
            }
        }
    }

    fn policy(&mut self, family: Family, item: &Item, is_bound: bool) {
        let ignores =
            item.object.pointer("/spec/failurePolicy").and_then(Json::as_str) == Some("Ignore");
        let [fail, ignore] = entries(family);
        let entry = if ignores { ignore } else { fail };
        match self.sets[entry.index()].add(&item.object) {
            Ok(_) => {
                let standing = if is_bound { Standing::Written } else { Standing::Unbound };
                self.policies.insert(label(item), standing);
                if let Some(constraints) =
                    item.object.pointer("/spec/matchConstraints").filter(|_| is_bound)
                {
                    rules::of(constraints, &mut self.rules[entry.index()]);
                }
            }
            Err(faults) => self.replace(family, item, &first_of(&faults), is_bound),
        }
    }

    /// Puts something in the place of a policy that cannot be used.
    fn replace(&mut self, family: Family, item: &Item, told: &str, is_bound: bool) {
        let name = item.name.clone();
        let (kind, message) = (item.kind.clone(), format!("{UNUSABLE}: {told}"));
        let [fail, _] = entries(family);
        let standing = stand_in(&kind, &name, &item.object, &message, |policy| {
            self.sets[fail.index()].add(policy).is_ok()
        });
        self.policies.insert(label(item), Standing::StandIn);
        match standing {
            Some(constraints) if is_bound => {
                rules::of(&constraints, &mut self.rules[fail.index()]);
                self.trouble(item, told, "a policy that refuses whatever it would be for");
            }
            Some(_) => self.trouble(item, told, "nothing, since no binding names it"),
            // One of the same name stands in already.
            None => self.trouble(item, told, "what stands in for its name"),
        }
    }

    /// What a binding is for is not known where it cannot be used: all that its policy is for is refused.
    fn binding_lost(&mut self, family: Family, policies: &[Item], told: &str, binding: &Item) {
        let [fail, _] = entries(family);
        let name = &binding.name;
        let kind = format!("{family}AdmissionPolicy");
        let message = format!("its binding `{name}` cannot be used: {told}");
        let mut put = false;
        for policy in policies {
            let own = format!("{}.{name}", policy.name);
            let constraints = stand_in(&kind, &own, &policy.object, &message, |object| {
                self.sets[fail.index()].add(object).is_ok()
            });
            let Some(constraints) = constraints else { continue };
            let mut bound = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}Binding"),
                "metadata": { "name": own }, "spec": { "policyName": own },
            });
            if family == VALIDATING {
                bound["spec"]["validationActions"] = json!(["Deny"]);
            }
            if self.sets[fail.index()].add(&bound).is_ok() {
                put = true;
                self.policies.insert(format!("{kind}/{own}"), Standing::StandIn);
                rules::of(&constraints, &mut self.rules[fail.index()]);
            }
        }
        let instead = match put {
            true => "a policy that refuses whatever its policy would be for",
            false => "what stands in for its policy",
        };
        self.trouble(binding, told, instead);
    }

    fn trouble(&mut self, item: &Item, told: &str, instead: &str) {
        self.troubles.push(Trouble {
            file: item.file.to_string(),
            line: item.line,
            what: label(item),
            told: told.to_owned(),
            instead: instead.to_owned(),
        });
    }

    fn finish(self) -> InForce {
        let mut troubles = self.troubles;
        troubles.sort();
        InForce {
            sets: self.sets,
            rules: self.rules.map(Rules::into_sorted),
            params: self.params,
            policies: self.policies,
            troubles,
        }
    }
}

/// The family of a policy or binding, and whether it is a policy; `None` for other objects.
fn family_of(item: &Item) -> Option<(Family, bool)> {
    if item.group != "admissionregistration.k8s.io" {
        return None;
    }
    [VALIDATING, MUTATING].into_iter().find_map(|family| {
        let rest = item.kind.strip_prefix(family)?;
        match rest {
            "AdmissionPolicy" => Some((family, true)),
            "AdmissionPolicyBinding" => Some((family, false)),
            _ => None,
        }
    })
}

/// The entries of a family: that which fails, that which is ignored.
fn entries(family: Family) -> [Entry; 2] {
    if family == MUTATING {
        [Entry::MutateFail, Entry::MutateIgnore]
    } else {
        [Entry::ValidateFail, Entry::ValidateIgnore]
    }
}

fn label(item: &Item) -> String {
    format!("{}/{}", item.kind, item.name)
}

fn first_of(faults: &[nullius_policy::admission_policy::Fault]) -> String {
    faults
        .first()
        .map(|fault| fault.to_string().lines().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}
