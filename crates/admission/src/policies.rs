//! The policies of a scan: those of files and good practice, what they say of themselves, and what they know of a cluster.
//!
//! A policy that cannot be used is told with its line, and in its place stands one that refuses whatever it would be for.

use std::collections::{BTreeMap, BTreeSet};

use nullius_manifest::{Found, Manifest, Source, Unreadable, objects};
use nullius_model::{API_VERSION, Severity, Timestamp};
use nullius_policy::admission_policy::{
    Decision, Detail, ExpressionWarning, Fault, Kind, PolicyOutline, PolicySet, PolicyTrace,
    Programs, Request, Taken, Version,
};
use nullius_policy::exception::KIND as EXCEPTION;
use serde_json::{Value as Json, json};

use crate::{
    own::own_faults,
    practice::PRACTICE,
    proposed::Proposed,
    report::{FaultKind, ScanFault},
    stand_in::{UNUSABLE, stand_in},
    state::{Lacking, State, Unknown},
};

/// What says how bad it is to break a policy: `low`, `medium` or `high`.
const SEVERITY: &str = "nullius.dev/severity";
/// What says how to mend an object.
const FIX: &str = "nullius.dev/fix";
/// What says, by `true`, that the fields that a policy finds hold what must not be shown.
const SENSITIVE: &str = "nullius.dev/sensitive";
/// What says why a policy is there; Kubernetes' own word stands in for it.
const ABOUT: [&str; 2] = ["nullius.dev/about", "kubernetes.io/description"];

/// Policies with what they must know.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    state: State,
    proposed: Proposed,
    abouts: BTreeMap<String, PolicyAbout>,
    faults: Vec<ScanFault>,
    /// Policies of files, of which it is told what the API server would warn of.
    own: BTreeSet<String>,
    /// Kinds of which scanned objects are facts; derived of the set when it is first asked.
    fact_kinds: Option<BTreeSet<Kind>>,
    /// How much is told of how policies came to what they say.
    detail: Detail,
    /// Where policies stand, by kind and name.
    sites: BTreeMap<(String, String), Site>,
}

/// Where a policy stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Site {
    /// The file.
    pub(crate) file: String,
    /// Where it begins, counted from 1.
    pub(crate) line: usize,
    /// Where each expression stands, by its field.
    pub(crate) lines: BTreeMap<String, usize>,
}

/// What a policy says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyAbout {
    /// How bad it is to break it.
    pub severity: Option<Severity>,
    /// Why it is there.
    pub about: String,
    /// How to mend an object.
    pub fix: String,
    /// Whether the fields that it finds hold what must not be shown.
    pub is_sensitive: bool,
    /// Why it cannot be used.
    pub broken: Option<String>,
}

impl Policies {
    /// No policies, for an API server of a version.
    pub fn new(version: Version) -> Self {
        Self::sharing(version, Programs::default())
    }

    /// The same, with expressions that others have compiled.
    pub fn sharing(version: Version, programs: Programs) -> Self {
        Self {
            set: PolicySet::sharing(version, programs),
            state: State::default(),
            proposed: Proposed::default(),
            abouts: BTreeMap::new(),
            faults: Vec::new(),
            own: BTreeSet::new(),
            fact_kinds: None,
            detail: Detail::default(),
            sites: BTreeMap::new(),
        }
    }

    /// Takes exceptions too, with policies and as facts; they are asked at `now`.
    #[must_use]
    pub fn excepting_at(self, now: Timestamp) -> Self {
        Self { state: State::at(now), ..self }
    }

    /// Tells more of how policies come to what they say, or less.
    pub(crate) fn detail(&mut self, detail: Detail) {
        self.detail = detail;
    }

    /// Adds good practice, but for the policies of these names.
    #[must_use]
    pub fn with_practice(mut self, without: &BTreeSet<String>) -> Self {
        for (name, text) in PRACTICE {
            if without.contains(&practice_name(name)) {
                continue;
            }
            let source = Source { name: name.to_owned(), text: text.to_owned() };
            self.each(Ok(source), |this, source, manifest| this.policy(source, manifest));
        }
        self
    }

    /// Takes the policies and bindings of a text; its other objects are facts.
    pub fn policies(&mut self, source: Result<Source, Unreadable>) {
        self.each(source, |this, source, manifest| {
            this.policy(source, manifest);
            if manifest.kind == "ValidatingAdmissionPolicy" {
                this.own.insert(manifest.name().to_owned());
            }
        });
    }

    /// Takes the objects of a text as facts of the cluster.
    pub fn facts(&mut self, source: Result<Source, Unreadable>) {
        self.each(source, |this, source, manifest| this.fact(source, manifest));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether something is wrong with policies or facts.
    pub fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The names of the policies with what they say of themselves.
    pub fn abouts(&self) -> impl Iterator<Item = (&str, &PolicyAbout)> {
        self.abouts.iter().map(|(name, about)| (name.as_str(), about))
    }

    /// What a policy says of itself.
    pub(crate) fn about(&self, name: &str) -> Option<&PolicyAbout> {
        self.abouts.get(name)
    }

    /// What is wrong with policies and facts.
    pub(crate) fn take_faults(&mut self) -> Vec<ScanFault> {
        std::mem::take(&mut self.faults)
    }

    /// Policies that are for nothing, and bindings of nothing.
    pub(crate) fn notes(&self) -> Vec<String> {
        let unbound = self.set.unbound().map(|name| {
            format!("no binding names the policy `{name}`: it is for nothing, as in a cluster")
        });
        let dangling = self.set.dangling().map(|(binding, policy)| {
            format!("the binding `{binding}` names the policy `{policy}`, which is not there")
        });
        let ended = self.state.ended().map(|exception| {
            let (name, end) = (exception.name(), exception.spec().expires);
            format!("the exception `{name}` ended at {end} and covers nothing")
        });
        unbound.chain(dangling).chain(ended).collect()
    }

    /// What the API server would warn of, by the kinds that are known by now.
    pub(crate) fn type_notes(&self) -> Vec<String> {
        let warnings = self.state.type_warnings(&self.set).into_iter();
        let told =
            warnings.filter(|warning| self.own.contains(&warning.policy)).filter_map(|told| {
                let ExpressionWarning { policy, field, warning } = told;
                let site =
                    self.sites.get(&("ValidatingAdmissionPolicy".to_owned(), policy.clone()))?;
                let line = site.lines.get(&field).copied().unwrap_or(site.line);
                // Of each kind the first mistake, without the picture of it.
                let told: Vec<&str> =
                    warning.lines().filter(|line| line.contains(", Kind=")).collect();
                let (file, told) = (&site.file, told.join("; "));
                Some(format!(
                    "{file}:{line}: an API server would warn of `{policy}`: {field}: {told}"
                ))
            });
        told.collect()
    }

    /// What is known: of policies and state, at the end of scanned objects too.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether a policy may be for objects of a group.
    pub(crate) fn concerns(&self, group: &str) -> bool {
        self.set.concerns(group)
    }

    /// What is wrong with a scanned object that is a policy or a binding.
    pub(crate) fn wrong_policy(&self, file: &str, manifest: &Manifest) -> Vec<ScanFault> {
        let mut alone = PolicySet::new(self.set.version());
        match alone.add(&manifest.to_json()) {
            Ok(_) => Vec::new(),
            Err(faults) => refused(file, manifest, &faults),
        }
    }

    /// Takes a scanned object as a proposed fact, where policies may ask for it.
    pub(crate) fn learn(&mut self, object: &Json, site: String) -> Result<(), String> {
        let text = |field: &str| object.get(field).and_then(Json::as_str).unwrap_or_default();
        let kind = Kind::new(text("apiVersion"), text("kind"));
        if !self.fact_kinds().contains(&kind) {
            return Ok(());
        }
        self.proposed.learn(&self.state, kind, object, site).map_err(|wrong| wrong.to_string())
    }

    /// Takes an object of the cluster itself as a fact.
    pub(crate) fn know(&mut self, object: &Json) -> Result<(), String> {
        self.fact_kinds = None;
        self.state.add(object).map_err(|wrong| wrong.to_string())
    }

    /// Everything was scanned: what scanned objects propose is known from here on. Gives what is to be said of it.
    pub(crate) fn adopt(&mut self) -> Vec<String> {
        std::mem::take(&mut self.proposed).end(&mut self.state)
    }

    /// Judges a request before everything was scanned, by what policies and state say alone: an answer does not depend on
    /// the order of files.
    pub(crate) fn judge(&mut self, request: &Request) -> Result<Decision, Lacking> {
        self.state.decide(&self.set, request, &mut Unknown::Later, self.detail)
    }

    /// Judges a request when nothing more will be known: parameters that are not there are absent, as in a cluster, and
    /// told.
    pub(crate) fn judge_last(&mut self, request: &Request) -> (Result<Decision, Lacking>, Lacking) {
        let mut unknown = Unknown::Assumed { absent: Vec::new() };
        let decision = self.state.decide(&self.set, request, &mut unknown, self.detail);
        let absent = match unknown {
            Unknown::Assumed { absent } => absent,
            Unknown::Lacks | Unknown::Later => Vec::new(),
        };
        (decision, Lacking(absent))
    }

    /// Judges a request by what another state holds.
    pub(crate) fn judge_with(&self, state: &State, request: &Request) -> Result<Decision, Lacking> {
        state.decide(&self.set, request, &mut Unknown::Lacks, self.detail)
    }

    /// The policies, but for those that cannot be used, and where they stand.
    pub(crate) fn outlines(&self) -> impl Iterator<Item = (PolicyOutline, Site)> {
        let usable = |outline: &PolicyOutline| {
            self.abouts.get(&outline.policy).is_some_and(|about| about.broken.is_none())
        };
        self.set.outlines().into_iter().filter(usable).map(|outline| {
            let key = (outline.kind.to_owned(), outline.policy.clone());
            let site = self.sites.get(&key).cloned().unwrap_or_default();
            (outline, site)
        })
    }

    /// The policies that are not for a request at all, and why.
    pub(crate) fn passed_over(&self, request: &Request) -> Vec<PolicyTrace> {
        self.state.passed_over(&self.set, request)
    }

    fn fact_kinds(&mut self) -> &BTreeSet<Kind> {
        let set = &self.set;
        self.fact_kinds.get_or_insert_with(|| {
            let mut kinds = set.param_kinds();
            kinds.insert(Kind::new("v1", "Namespace"));
            kinds.insert(Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"));
            kinds
        })
    }

    fn each(
        &mut self,
        source: Result<Source, Unreadable>,
        mut each: impl FnMut(&mut Self, &Source, &Manifest),
    ) {
        self.fact_kinds = None;
        let source = match source {
            Ok(source) => source,
            Err(unreadable) => return self.faults.push(ScanFault::unreadable(unreadable)),
        };
        objects(&source.text, |found| match found {
            Found::Object(manifest) => each(self, &source, &manifest),
            Found::Other(_) => {}
            Found::Fault(fault) => {
                self.faults.push(ScanFault::at(FaultKind::Unreadable, &source.name, fault));
            }
        });
    }

    fn fact(&mut self, source: &Source, manifest: &Manifest) {
        if manifest.api_version == API_VERSION && manifest.kind == EXCEPTION {
            let faults = self.state.except(&manifest.to_json()).err().unwrap_or_default();
            return self.faults.extend(refused(&source.name, manifest, &faults));
        }
        let told = |fault| ScanFault::at(FaultKind::Refused, &source.name, fault);
        let faults = own_faults(manifest, self.state.now().unwrap_or_default());
        self.faults.extend(faults.into_iter().map(told));
        if let Err(error) = self.state.add(&manifest.to_json()) {
            let fault = nullius_manifest::Fault {
                place: manifest.node().place(),
                message: error.to_string(),
                next: None,
            };
            self.faults.push(ScanFault::at(FaultKind::Refused, &source.name, fault));
        }
    }

    fn policy(&mut self, source: &Source, manifest: &Manifest) {
        let object = manifest.to_json();
        let faults = match self.set.add(&object) {
            Ok(Taken::Foreign) => return self.fact(source, manifest),
            Ok(Taken::Added) => Vec::new(),
            Err(faults) => faults,
        };
        if faults.is_empty() {
            self.note_site(source, manifest);
        }
        let told = refused(&source.name, manifest, &faults);
        let is_policy = manifest.kind.ends_with("AdmissionPolicy");
        if is_policy {
            let broken = told.first().map(|fault| {
                let line = fault.line.unwrap_or_default();
                let message = fault.message.lines().next().unwrap_or_default();
                format!("{UNUSABLE} ({}:{line}: {message})", source.name)
            });
            let stands_in = |about: &Self| about.abouts.contains_key(manifest.name());
            if broken.is_none() || !stands_in(self) {
                self.abouts.insert(manifest.name().to_owned(), about(&object, broken.clone()));
            }
            if broken.is_some() {
                self.stand_in(manifest, &object);
            }
        }
        if !is_policy && !told.is_empty() {
            self.stand_in_binding(manifest, &object);
        }
        self.faults.extend(told);
    }

    fn note_site(&mut self, source: &Source, manifest: &Manifest) {
        const EXPRESSIONS: [(&str, &str); 5] = [
            ("matchConditions", ".expression"),
            ("validations", ".expression"),
            ("validations", ".messageExpression"),
            ("auditAnnotations", ".valueExpression"),
            ("mutations", ""),
        ];
        let node = manifest.node();
        let count = |list: &str| {
            let items = node.child("spec").and_then(|spec| spec.child(list)?.items());
            items.map_or(0, <[_]>::len)
        };
        let fields = EXPRESSIONS.into_iter().flat_map(|(list, field)| {
            (0..count(list)).map(move |index| format!("spec.{list}[{index}]{field}"))
        });
        let lines = fields.map(|field| (field.clone(), node.line_of(&field))).collect();
        let site = Site { file: source.name.clone(), line: node.line, lines };
        self.sites.insert((manifest.kind.clone(), manifest.name().to_owned()), site);
    }

    /// A binding in place of a broken one: it denies what its policy is for, narrowed as the broken one says where that can
    /// be read.
    fn stand_in_binding(&mut self, manifest: &Manifest, object: &Json) {
        let own = |fields: &[&str]| {
            let mut spec = json!({ "policyName": object.pointer("/spec/policyName") });
            if manifest.kind.starts_with("Validating") {
                spec["validationActions"] = json!(["Deny"]);
            }
            for field in fields {
                if let Some(value) = object.pointer(&format!("/spec/{field}")) {
                    spec[*field] = value.clone();
                }
            }
            json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"],
                "metadata": { "name": manifest.name() }, "spec": spec,
            })
        };
        let attempts: [&[&str]; 4] =
            [&["paramRef", "matchResources"], &["paramRef"], &["matchResources"], &[]];
        for fields in attempts {
            if self.set.add(&own(fields)).is_ok() {
                return;
            }
        }
    }

    /// A policy that refuses whatever a broken one would be for.
    fn stand_in(&mut self, manifest: &Manifest, object: &Json) {
        let set = &mut self.set;
        let add = |policy: &Json| set.add(policy).is_ok();
        stand_in(&manifest.kind, manifest.name(), object, UNUSABLE, add);
    }
}

/// The policy that a file of good practice holds.
pub(crate) fn practice_name(file: &str) -> String {
    file.replace(".yaml", ".nullius.dev")
}

/// What is wrong with a policy or binding, with its places.
fn refused(file: &str, manifest: &Manifest, faults: &[Fault]) -> Vec<ScanFault> {
    let told = |fault: &Fault| {
        let what = format!("{} `{}`", manifest.kind, manifest.name());
        let fault = nullius_manifest::Fault {
            place: manifest.node().place_of_text(&fault.field),
            message: format!("{what}: {fault}"),
            next: Some("mend it; an API server would refuse it too".to_owned()),
        };
        ScanFault::at(FaultKind::Refused, file, fault)
    };
    faults.iter().map(told).collect()
}

fn about(object: &Json, broken: Option<String>) -> PolicyAbout {
    let annotations = object.pointer("/metadata/annotations");
    let word = |key: &str| {
        let value = annotations.and_then(|all| all.get(key)).and_then(Json::as_str);
        value.unwrap_or_default().trim().to_owned()
    };
    PolicyAbout {
        severity: Severity::of_word(&word(SEVERITY)),
        about: ABOUT.into_iter().map(word).find(|text| !text.is_empty()).unwrap_or_default(),
        fix: word(FIX),
        is_sensitive: word(SENSITIVE) == "true",
        broken,
    }
}
