//! `WorkloadIdentity`: an identity beside the default one, or more about that, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use nullius_fields::{Fault, Faults, Fields, found, shown};
use nullius_model::{API_VERSION, Namespace, ObjectName, TrustDomain, Ttl};
use serde_json::Value as Json;

use crate::{
    dns, later,
    pod::{Container, Owner, Pod},
    template::{Place, Template},
};

const KIND: &str = "WorkloadIdentity";
/// How long an X.509-SVID lives where nothing else is said.
pub const X509_TTL: Ttl = Ttl::from_secs(3_600);
/// How long a JWT-SVID lives where nothing else is said.
pub const JWT_TTL: Ttl = Ttl::from_secs(300);
/// Shorter lives would be renewed all the time, longer ones outlive a day's work.
const X509_SECONDS: std::ops::RangeInclusive<u32> = 120..=86_400;
const JWT_SECONDS: std::ops::RangeInclusive<u32> = 30..=3_600;
/// The path of the default identity.
const DEFAULT_PATH: &str = "/ns/{namespace}/sa/{serviceAccount}";
/// The most items of a list, and the longest text.
const LIST_MAX: usize = 32;
const TEXT_MAX: usize = 256;

/// An identity that pods of a namespace have, or more about their default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadIdentity {
    namespace: Namespace,
    name: ObjectName,
    whom: Whom,
    pub(crate) unix: Unix,
    pub(crate) path: Template,
    pub(crate) x509_ttl: Ttl,
    pub(crate) jwt_ttl: Ttl,
    pub(crate) dns_names: Vec<Template>,
    pub(crate) audiences: BTreeSet<String>,
    pub(crate) hint: Option<Box<str>>,
    pub(crate) federates_with: BTreeSet<TrustDomain>,
}

/// Where the processes run that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    /// In pods of the namespace.
    Pods(Pods, Option<Containers>),
    /// On machines outside of the cluster, by their names.
    Machines(BTreeSet<Box<str>>),
}

/// Which pods: all that stands here must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pods {
    accounts: BTreeSet<Box<str>>,
    labels: BTreeMap<Box<str>, Box<str>>,
    owner: Option<Owner>,
}

/// Which of their containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Containers {
    names: BTreeSet<Box<str>>,
    images: BTreeSet<Box<str>>,
}

/// Which of their processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unix {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Known on machines alone.
    pub(crate) path: Option<Box<str>>,
    pub(crate) sha256: Option<Box<str>>,
}

impl WorkloadIdentity {
    /// Reads and checks an object.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let read = read(object, &faults);
        match read {
            Some(identity) if faults.count() == 0 => Ok(identity),
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// The namespace that it is for.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether it is for a pod.
    pub fn is_for(&self, pod: &Pod) -> bool {
        let Whom::Pods(Pods { accounts, labels, owner }, _) = &self.whom else { return false };
        *self.namespace.as_str() == *pod.namespace
            && (accounts.is_empty() || accounts.contains(&pod.account))
            && labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value))
            && (owner.is_none() || *owner == pod.owner)
    }

    /// The machines that it is for, where it is for some.
    pub fn machines(&self) -> Option<&BTreeSet<Box<str>>> {
        match &self.whom {
            Whom::Machines(names) => Some(names),
            Whom::Pods(..) => None,
        }
    }

    /// The containers of a pod that it is for; `None` stands for the pod as a whole.
    pub(crate) fn containers<'p>(&self, pod: &'p Pod) -> Option<Vec<&'p Container>> {
        let Whom::Pods(_, Some(Containers { names, images })) = &self.whom else { return None };
        let is_meant = |container: &&Container| {
            let image = container.image.as_ref();
            (names.is_empty() || names.contains(&container.name))
                && (images.is_empty() || image.is_some_and(|image| images.contains(image)))
        };
        Some(pod.containers.iter().filter(is_meant).collect())
    }

    /// Whether it is for all processes of its pods.
    pub(crate) fn is_for_whole_pods(&self) -> bool {
        matches!(self.whom, Whom::Pods(_, None)) && self.unix == Unix::default()
    }
}

fn read(object: &Json, faults: &Faults) -> Option<WorkloadIdentity> {
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
    let text = |name: &str| metadata.get(name).and_then(Json::as_str).unwrap_or_default();
    let wrong = |field: &str, error: &dyn std::fmt::Display| faults.add(field, error.to_string());
    let name = text("name").parse::<ObjectName>();
    let name = name.map_err(|error| wrong("metadata.name", &error)).ok();
    let namespace = text("namespace").parse::<Namespace>();
    let namespace = namespace.map_err(|error| wrong("metadata.namespace", &error)).ok();
    let Some(spec) = spec else {
        faults.add("spec", "it is missing: say `selector`");
        return None;
    };
    let mut fields = Fields::of(spec, "spec", faults)?;
    let own = namespace.as_ref().map_or("", Namespace::as_str);
    let (whom, kind) = read_whom(&mut fields, faults);
    let unix = fields.value("unix").and_then(|value| read_unix(value, kind, faults));
    if kind == Fills::Machines && !fields.has("unix") {
        fields.wrong("unix", "it is missing: say which processes of the machines, by `uid`, `gid`, `path` or `sha256`");
    }
    let path = read_path(&mut fields, own, kind);
    let x509 = fields.value("x509");
    let (x509_ttl, dns_names) =
        x509.map_or((None, Vec::new()), |it| read_x509(it, own, kind, faults));
    let jwt = fields.value("jwt");
    let (jwt_ttl, audiences) = jwt.map_or((None, BTreeSet::new()), |it| read_jwt(it, faults));
    let hint = fields.text("hint").map(Into::into);
    let federates_with = read_domains(&mut fields, faults);
    fields.finish();
    Some(WorkloadIdentity {
        namespace: namespace?,
        name: name?,
        whom: whom?,
        unix: unix.unwrap_or_default(),
        path: path?,
        x509_ttl: x509_ttl.unwrap_or(X509_TTL),
        jwt_ttl: jwt_ttl.unwrap_or(JWT_TTL),
        dns_names,
        audiences,
        hint,
        federates_with,
    })
}

/// Who fills the places of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fills {
    Pods,
    Containers,
    Machines,
}

impl Fills {
    /// What is wrong with a template that has a place which they do not fill.
    fn wrong(self, template: &Template) -> Option<&'static str> {
        let has = |place| template.has(place);
        match self {
            Self::Machines => {
                let of_pods = [Place::ServiceAccount, Place::Pod, Place::Container];
                of_pods.into_iter().any(has).then_some("machines have no ServiceAccount, pod or container: use `{namespace}` and `{machine}`")
            }
            _ if has(Place::Machine) => {
                Some("`{machine}` is known only where `machines` says which")
            }
            Self::Pods if has(Place::Container) => {
                Some("`{container}` is known only where `containers` says which")
            }
            Self::Pods | Self::Containers => None,
        }
    }
}

fn read_whom(fields: &mut Fields<'_>, faults: &Faults) -> (Option<Whom>, Fills) {
    let (selector, containers) = (fields.value("selector"), fields.value("containers"));
    let pods = selector.and_then(|value| read_pods(value, faults));
    let containers = containers.and_then(|value| read_containers(value, faults));
    if fields.value("machines").is_none() {
        if selector.is_none() {
            fields.wrong(
                "selector",
                "it is missing: say which pods, or `any: true` for all of the namespace; or `machines`",
            );
        }
        let kind = if fields.has("containers") { Fills::Containers } else { Fills::Pods };
        return (pods.map(|pods| Whom::Pods(pods, containers)), kind);
    }
    for of_pods in ["selector", "containers"].into_iter().filter(|name| fields.has(name)) {
        fields.wrong(of_pods, "it is for processes of machines: leave out this, or `machines`");
    }
    let machines = distinct(fields, "machines", faults, |text| {
        text.parse::<ObjectName>().map(|name| name.as_str().into()).map_err(|it| it.to_string())
    });
    (Some(Whom::Machines(machines)), Fills::Machines)
}

fn read_pods(value: &Json, faults: &Faults) -> Option<Pods> {
    let mut fields = Fields::of(value, "spec.selector", faults)?;
    let any = fields.truth("any");
    let accounts = names(&mut fields, "serviceAccounts", faults);
    let labels =
        fields.value("matchLabels").map_or_else(BTreeMap::new, |it| read_labels(it, faults));
    let owner = fields.value("owner").and_then(|value| read_owner(value, faults));
    let says = ["serviceAccounts", "matchLabels", "owner"].iter().any(|name| fields.has(name));
    match (any, says) {
        (Some(true), false) | (None, true) => {}
        (Some(true), true) => fields.wrong("any", "all pods of the namespace are meant: leave out the rest, or this"),
        (Some(false), _) => fields.wrong("any", "write `true`, or leave it out"),
        (None, false) => fields.wrong_here(
            "it says nothing: say `serviceAccounts`, `matchLabels`, `owner`, or `any: true` for all pods of the namespace",
        ),
    }
    fields.finish();
    Some(Pods { accounts, labels, owner })
}

fn read_labels(value: &Json, faults: &Faults) -> BTreeMap<Box<str>, Box<str>> {
    let path = "spec.selector.matchLabels";
    let Json::Object(map) = value else {
        faults.add(path, format!("expected a mapping, found {}", found(value)));
        return BTreeMap::new();
    };
    if map.is_empty() {
        faults.add(path, "it is empty: name labels, or leave it out");
    }
    if map.len() > LIST_MAX {
        faults.add(path, format!("there are {} labels: {LIST_MAX} at most", map.len()));
    }
    let read = |(name, value): (&String, &Json)| {
        let text = value.as_str();
        if text.is_none() {
            let told = format!("the value of {} is {}: write text", shown(name), found(value));
            faults.add(path, told);
        }
        Some((name.as_str().into(), text?.into()))
    };
    map.iter().filter_map(read).collect()
}

fn read_owner(value: &Json, faults: &Faults) -> Option<Owner> {
    let mut fields = Fields::of(value, "spec.selector.owner", faults)?;
    let (kind, name) = (fields.text("kind"), fields.text("name"));
    for missing in ["kind", "name"].iter().filter(|name| !fields.has(name)) {
        fields.wrong(missing, "it is missing: say `kind` and `name` of the pods' controller");
    }
    if kind == Some("Deployment") {
        fields.wrong("kind", "pods of a Deployment are a ReplicaSet's, which is another with each change: use `matchLabels`");
    }
    fields.finish();
    Some(Owner { kind: kind?.into(), name: name?.into() })
}

fn read_containers(value: &Json, faults: &Faults) -> Option<Containers> {
    let mut fields = Fields::of(value, "spec.containers", faults)?;
    let all = Containers {
        names: names(&mut fields, "names", faults),
        images: digests(&mut fields, faults),
    };
    if !fields.has("names") && !fields.has("images") {
        fields.wrong_here(
            "it says nothing: say `names` or `images`, or leave it out for all containers",
        );
    }
    fields.finish();
    Some(all)
}

fn read_unix(value: &Json, kind: Fills, faults: &Faults) -> Option<Unix> {
    let mut fields = Fields::of(value, "spec.unix", faults)?;
    let unix = Unix {
        uid: number(&mut fields, "uid"),
        gid: number(&mut fields, "gid"),
        path: read_executable(&mut fields, kind),
        sha256: fields.text("sha256").and_then(|text| {
            let is_digest = is_hex(text);
            if !is_digest {
                fields.wrong("sha256", "a digest has 64 hexadecimal digits in lower case");
            }
            is_digest.then(|| text.into())
        }),
    };
    if !["uid", "gid", "path", "sha256"].iter().any(|name| fields.has(name)) {
        fields.wrong_here("it says nothing: say `uid`, `gid` or `sha256`, or leave it out");
    }
    fields.finish();
    Some(unix)
}

/// The path of what processes of machines execute.
fn read_executable(fields: &mut Fields<'_>, kind: Fills) -> Option<Box<str>> {
    let text = fields.text("path")?;
    if kind != Fills::Machines {
        fields.wrong("path", "a path inside of a container proves nothing: use `sha256`");
        return None;
    }
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    let inner = text.strip_prefix('/').filter(|inner| !inner.split('/').any(is_odd));
    if inner.is_none() || text.len() > TEXT_MAX || text.contains(char::is_control) {
        fields.wrong(
            "path",
            "a path is absolute, has no empty parts, `.` or `..`, and 256 bytes at most",
        );
        return None;
    }
    Some(text.into())
}

/// The path of the ID, which stays below `/ns/` and the own namespace.
fn read_path(fields: &mut Fields<'_>, own: &str, kind: Fills) -> Option<Template> {
    let text = match (fields.text("path"), kind) {
        (Some(text), _) => text,
        (None, Fills::Machines) => {
            if !fields.has("path") {
                fields.wrong(
                    "path",
                    "it is missing: processes of machines have no identity by default",
                );
            }
            return None;
        }
        (None, Fills::Pods | Fills::Containers) => DEFAULT_PATH,
    };
    let template = template(fields, "path", text, kind)?;
    if own.is_empty() {
        return None;
    }
    // Read as a pod of the namespace would have it.
    let pod = Pod {
        namespace: own.into(),
        account: "account".into(),
        name: "pod".into(),
        ..Pod::default()
    };
    let path = template.fill(&pod, "container");
    if let Err(error) = format!("spiffe://trust.domain{path}").parse::<nullius_model::SpiffeId>() {
        fields.wrong("path", error.rule);
        return None;
    }
    let Some(rest) = path.strip_prefix(&format!("/ns/{own}/")) else {
        fields.wrong(
            "path",
            "an ID of this namespace begins with `/ns/{namespace}/`: others come from the hub",
        );
        return None;
    };
    // `sa/NAME` is what pods of that account are by default, and what intentions know them by.
    if rest.starts_with("sa/") && kind == Fills::Machines {
        fields.wrong(
            "path",
            "what follows `/sa/` are pods of an account: give processes of machines another path",
        );
        return None;
    }
    if rest.starts_with("sa/") {
        let behind = |start: &str| text.strip_prefix(start)?.strip_prefix("/sa/{serviceAccount}");
        let behind = behind("/ns/{namespace}").or_else(|| behind(&format!("/ns/{own}")));
        if !behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/')) {
            fields.wrong(
                "path",
                "what follows `/sa/` is the pod's account: write `{serviceAccount}`",
            );
            return None;
        }
    }
    Some(template)
}

fn read_x509(
    value: &Json,
    own: &str,
    kind: Fills,
    faults: &Faults,
) -> (Option<Ttl>, Vec<Template>) {
    let Some(mut fields) = Fields::of(value, "spec.x509", faults) else {
        return (None, Vec::new());
    };
    let life = ttl(&mut fields, &X509_SECONDS);
    let texts = fields.texts("dnsNames");
    if texts.len() > LIST_MAX {
        fields.wrong("dnsNames", format!("there are {}: {LIST_MAX} at most", texts.len()));
    }
    let mut names = Vec::new();
    for (path, text) in texts {
        let pod = Pod {
            namespace: own.into(),
            account: "account".into(),
            name: "pod".into(),
            ..Pod::default()
        };
        match Template::read(text) {
            Err(wrong) => faults.add(&path, wrong),
            Ok(template) => {
                let wrong = kind.wrong(&template).map(str::to_owned);
                match wrong.or_else(|| dns::wrong(&template.fill(&pod, "container"), own)) {
                    Some(wrong) => faults.add(&path, wrong),
                    None => names.push(template),
                }
            }
        }
    }
    fields.finish();
    (life, names)
}

fn read_jwt(value: &Json, faults: &Faults) -> (Option<Ttl>, BTreeSet<String>) {
    let Some(mut fields) = Fields::of(value, "spec.jwt", faults) else {
        return (None, BTreeSet::new());
    };
    let life = ttl(&mut fields, &JWT_SECONDS);
    let audiences =
        distinct(&mut fields, "audiences", faults, |text| match text.len() <= TEXT_MAX {
            true => Ok(text.to_owned()),
            false => Err(format!("it is longer than {TEXT_MAX} bytes")),
        });
    fields.finish();
    (life, audiences)
}

fn read_domains(fields: &mut Fields<'_>, faults: &Faults) -> BTreeSet<TrustDomain> {
    distinct(fields, "federatesWith", faults, |text| {
        text.parse::<TrustDomain>().map_err(|error| error.rule.to_owned())
    })
}

fn template(fields: &Fields<'_>, name: &str, text: &str, kind: Fills) -> Option<Template> {
    let template = Template::read(text).and_then(|template| match kind.wrong(&template) {
        Some(wrong) => Err(wrong.to_owned()),
        None => Ok(template),
    });
    template.map_err(|wrong| fields.wrong(name, wrong)).ok()
}

/// Texts of a list, each once.
fn distinct<T: Ord>(
    fields: &mut Fields<'_>,
    name: &'static str,
    faults: &Faults,
    read: impl Fn(&str) -> Result<T, String>,
) -> BTreeSet<T> {
    let texts = fields.texts(name);
    if texts.len() > LIST_MAX {
        fields.wrong(name, format!("there are {}: {LIST_MAX} at most", texts.len()));
    }
    let mut all = BTreeSet::new();
    for (path, text) in texts {
        match read(text) {
            Ok(value) => {
                if !all.insert(value) {
                    faults.add(&path, "it stands twice");
                }
            }
            Err(wrong) => faults.add(&path, wrong),
        }
    }
    all
}

fn names(fields: &mut Fields<'_>, name: &'static str, faults: &Faults) -> BTreeSet<Box<str>> {
    distinct(fields, name, faults, |text| match text.len() <= TEXT_MAX {
        true => Ok(text.into()),
        false => Err(format!("it is longer than {TEXT_MAX} bytes")),
    })
}

fn digests(fields: &mut Fields<'_>, faults: &Faults) -> BTreeSet<Box<str>> {
    distinct(fields, "images", faults, |text| match text.strip_prefix("sha256:") {
        Some(digest) if is_hex(digest) => Ok(text.into()),
        _ => {
            Err(format!("{} is no digest: write `sha256:` and 64 hexadecimal digits", shown(text)))
        }
    })
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

fn number(fields: &mut Fields<'_>, name: &'static str) -> Option<u32> {
    let value = fields.value(name)?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    if number.is_none() {
        fields.wrong(name, format!("expected a number of a user or group, found {}", found(value)));
    }
    number
}

fn ttl(fields: &mut Fields<'_>, seconds: &std::ops::RangeInclusive<u32>) -> Option<Ttl> {
    let text = fields.text("ttl")?;
    match text.parse::<Ttl>() {
        Ok(ttl) if seconds.contains(&ttl.as_secs()) => return Some(ttl),
        Ok(_) => fields.wrong(
            "ttl",
            format!("{} is not between {} s and {} s", shown(text), seconds.start(), seconds.end()),
        ),
        Err(error) => fields.wrong("ttl", error.to_string()),
    }
    None
}
