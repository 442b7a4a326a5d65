//! Objects for a real API server and for us: what it holds before admission is what we make of it.
//!
//! Its audit log has each request's object as it was decoded, defaulted and converted, before any plugin saw it. The
//! server is one of its own, whose audit is that detailed and which serves every version that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use nullius_kinds::{Field, Kind, Normalized, Scope, Shape, Table, Type, normalize};
use nullius_manifest::{Found, objects, walk};
use nullius_testkit::{Api, Cluster, ClusterConfig, Profile, Progress, StateDir, shared};
use serde_json::{Map, Value, json};

const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [create]
  users: [admin]
- level: None
";
const GENERATED_PER_KIND: usize = 8;

/// The API server of these tests; it ends with the test run.
fn plane() -> Option<Cluster> {
    static STARTING: Mutex<()> = Mutex::new(());
    shared(Profile::ControlPlane)?;
    let _turn = STARTING.lock().unwrap();
    let state = StateDir::open(Path::new(&env::var_os("NULLIUS_TEST_STATE")?)).unwrap();
    if let Some(running) = state.cluster("decoded").unwrap().filter(Cluster::is_ready) {
        return Some(running);
    }
    let mut config = ClusterConfig::new("decoded", Profile::ControlPlane).own();
    config.api_server.audit_policy = Some(AUDIT.to_owned());
    config.api_server.args = vec!["--runtime-config=api/all=true".to_owned()];
    Some(Cluster::up(&state, config, Progress::Silent).unwrap())
}

/// Sends objects, and finds what the API server made of each.
struct Sender {
    api: Api,
    sent: Vec<Sent>,
}

struct Sent {
    origin: String,
    object: Value,
    ours: Result<Normalized, Vec<nullius_kinds::Fault>>,
    status: u16,
    message: String,
}

impl Sender {
    fn path(kind: &Kind, object: &Value, number: usize, validation: &str) -> String {
        let namespace = object["metadata"]["namespace"].as_str().filter(|name| !name.is_empty());
        let root = if kind.api_version.contains('/') { "apis" } else { "api" };
        let namespace = match kind.scope {
            Scope::Cluster => String::new(),
            Scope::Namespaced => format!("namespaces/{}/", namespace.unwrap_or("default")),
        };
        let (version, resource) = (kind.api_version, kind.resource);
        format!(
            "/{root}/{version}/{namespace}{resource}?dryRun=All&fieldValidation={validation}&fieldManager=n{number}."
        )
    }

    fn send(&mut self, origin: &str, object: &Value) {
        let word = |name: &str| object[name].as_str().unwrap_or_default();
        let Some(kind) = Table::builtin().kind(word("apiVersion"), word("kind")) else { return };
        if kind.resource.contains('/') {
            return;
        }
        let ours = normalize(object);
        // A server that is asked to be strict refuses a field before its audit sees the object.
        let strict = ours.as_ref().is_ok_and(|ours| ours.dropped.is_empty());
        let number = self.sent.len();
        let validation = if strict { "Strict" } else { "Ignore" };
        let path = Self::path(kind, object, number, validation);
        let (status, message) = answered(&self.api, &path, object);
        let (origin, object) = (origin.to_owned(), object.clone());
        self.sent.push(Sent { origin, object, ours, status, message });
    }
}

/// Status and message. Some generated objects make the API server panic when it validates them, long after it has
/// decoded them; then it answers nothing.
fn answered(api: &Api, path: &str, object: &Value) -> (u16, String) {
    let Ok(answer) = api.post(path, object) else { return (500, String::new()) };
    let message =
        answer.json().unwrap_or_default()["message"].as_str().unwrap_or_default().to_owned();
    (answer.status, message)
}

/// The objects of real applications.
fn manifests(mut each: impl FnMut(&str, Value)) -> bool {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder =
        env::var_os("NULLIUS_CONFORMANCE").map_or_else(beside, PathBuf::from).join("manifests");
    if !folder.is_dir() {
        eprintln!("no manifests in {}: generated objects alone are compared", folder.display());
        return false;
    }
    walk(&[folder], &mut io::empty(), &mut |source| {
        let Ok(source) = source else { return };
        objects(&source.text, |found| {
            if let Found::Object(manifest) = found {
                each(&source.name, manifest.to_json());
            }
        });
    });
    true
}

#[test]
fn an_api_server_holds_the_objects_that_we_make() {
    let Some(cluster) = plane() else { return };
    let mut sender = Sender { api: cluster.api().unwrap(), sent: Vec::new() };
    let has_manifests = manifests(|origin, object| sender.send(origin, &object));
    let of_applications = sender.sent.len();
    let mut random = Random(7);
    for kind in Table::builtin().kinds() {
        for _ in 0..GENERATED_PER_KIND {
            sender.send("generated", &random.object(kind));
        }
    }
    let theirs = held(&cluster, sender.sent.len());
    let (mut compared, mut unserved, mut different) = (0, BTreeSet::new(), Vec::new());
    for (number, sent) in sender.sent.iter().enumerate() {
        let kind = format!("{} {}", sent.object["apiVersion"], sent.object["kind"]);
        match (&sent.ours, theirs.get(&number)) {
            (Ok(ours), Some(theirs)) => {
                compared += 1;
                if without_server_times(&ours.object) != without_server_times(theirs) {
                    different.push(format!(
                        "{kind} in {}:\nours   {}\ntheirs {theirs}",
                        sent.origin, ours.object
                    ));
                }
            }
            (Err(_), None) if sent.status == 400 => compared += 1,
            (_, None) if sent.status == 404 => {
                unserved.insert(kind);
            }
            (ours, theirs) => different.push(format!(
                "{kind} in {}: {} {:?}, ours {ours:?}, theirs {theirs:?}",
                sent.origin, sent.status, sent.message
            )),
        }
    }
    eprintln!(
        "{compared} objects compared, {of_applications} of them of applications; not served: {unserved:?}"
    );
    let count = different.len();
    different.truncate(12);
    assert!(different.is_empty(), "{count} of {compared} differ:\n{}", different.join("\n"));
    assert!(
        compared > 600 && (!has_manifests || of_applications > 600),
        "{compared}, {of_applications}"
    );
    assert!(unserved.len() <= 6, "{unserved:?}");
}

/// The kinds that an API server says it takes, by apiVersion.
fn served(api: &Api) -> BTreeSet<(String, String)> {
    let read = |path: &str| api.get(path).unwrap().json().unwrap();
    let mut versions = vec!["/api/v1".to_owned()];
    for group in read("/apis")["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            versions.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let mut served = BTreeSet::new();
    for version in versions {
        let list = read(&version);
        for resource in list["resources"].as_array().unwrap() {
            let word = |name: &str| resource[name].as_str().unwrap_or_default();
            let sends = |verb: &Value| *verb == json!("create") || *verb == json!("update");
            // Options are what a connection is asked for with, no objects.
            if !resource["verbs"].as_array().unwrap().iter().any(sends)
                || word("kind").ends_with("Options")
            {
                continue;
            }
            let api_version = match (word("group"), word("version")) {
                (_, "") => list["groupVersion"].as_str().unwrap().to_owned(),
                ("", version) => version.to_owned(),
                (group, version) => format!("{group}/{version}"),
            };
            served.insert((api_version, word("kind").to_owned()));
        }
    }
    served
}

#[test]
fn every_kind_that_an_api_server_takes_is_known() {
    let Some(cluster) = plane() else { return };
    let served = served(&cluster.api().unwrap());
    let known: BTreeSet<(String, String)> = Table::builtin()
        .kinds()
        .map(|kind| (kind.api_version.to_owned(), kind.name.to_owned()))
        .collect();
    let missing: Vec<_> = served.difference(&known).collect();
    assert!(missing.is_empty(), "served and not known: {missing:#?}");
    let unserved: Vec<_> = known.difference(&served).collect();
    eprintln!("{} kinds are served; known and not served: {unserved:?}", served.len());
    assert!(served.len() > 90 && unserved.len() <= 6, "{unserved:?}");
}

#[test]
fn an_api_server_refuses_the_fields_that_we_find_unknown() {
    let Some(cluster) = plane() else { return };
    let api = cluster.api().unwrap();
    let mut random = Random(11);
    let (mut compared, mut refused) = (0, 0);
    for kind in Table::builtin().kinds().filter(|kind| !kind.resource.contains('/')) {
        for _ in 0..6 {
            let mut object = random.object(kind);
            random.misspell(&mut object, 0);
            let ours: BTreeSet<String> = match normalize(&object) {
                Ok(ours) => ours.dropped.iter().map(|fault| fault.path.to_string()).collect(),
                // What is of a wrong type is refused first.
                Err(_) => continue,
            };
            let path = Sender::path(kind, &object, usize::MAX, "Strict");
            let (status, message) = answered(&api, &path, &object);
            if status == 404 {
                continue;
            }
            let theirs = unknown_fields(&message);
            assert_eq!(
                ours.iter().map(|path| comparable(path)).collect::<BTreeSet<_>>(),
                theirs,
                "{message}\n{object}"
            );
            compared += 1;
            refused += usize::from(!theirs.is_empty());
        }
    }
    eprintln!("{compared} compared, {refused} refused");
    assert!(compared > 200 && refused > 80, "{compared}, {refused}");
}

/// Taints of devices begin now where they do not say when, which nobody but the server knows.
fn without_server_times(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, _)| *name != "timeAdded")
                .map(|(name, value)| (name.clone(), without_server_times(value)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(without_server_times).collect(),
        other => other.clone(),
    }
}

/// The fields of `strict decoding error: unknown field "spec.x", unknown field "y"`.
fn unknown_fields(message: &str) -> BTreeSet<String> {
    message
        .split("unknown field \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(comparable)
        .collect()
}

/// A key of a mapping is a field like any other to the API server.
fn comparable(path: &str) -> String {
    let mut text = String::new();
    for piece in path.split('[') {
        match piece.split_once(']') {
            Some((index, rest)) if index.parse::<usize>().is_ok() => {
                text.push_str(&format!("[{index}]{rest}"))
            }
            Some((key, rest)) => text.push_str(&format!(".{key}{rest}")),
            None => text.push_str(piece),
        }
    }
    text
}

/// What the API server held, by the number of the request.
fn held(cluster: &Cluster, requests: usize) -> BTreeMap<usize, Value> {
    let last = format!("fieldManager=n{}.", requests - 1);
    let log = cluster.audit_log().unwrap();
    log.wait_for("the last request", |entry| entry.text("/requestURI").ends_with(&last)).unwrap();
    let entries = log.entries().unwrap().into_iter();
    entries
        .filter_map(|entry| {
            let number = entry
                .text("/requestURI")
                .split("fieldManager=n")
                .nth(1)?
                .strip_suffix('.')?
                .parse();
            let object = entry.0.get("requestObject").filter(|object| !object.is_null())?;
            Some((number.ok()?, object.clone()))
        })
        .collect()
}

/// A source of objects, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// An object of a kind as people write them: with gaps, nulls and empty values.
    fn object(&mut self, kind: &Kind) -> Value {
        let table = Table::builtin();
        let mut object = self.structure(table, table.root(kind).unwrap(), 0);
        object["apiVersion"] = json!(kind.api_version);
        object["kind"] = json!(kind.name);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
            metadata.remove("managedFields");
        }
        object
    }

    fn structure(&mut self, table: &Table, of: &Type, depth: usize) -> Value {
        let mut object = Map::new();
        let wanted = if depth == 0 {
            80
        } else {
            (700 / (of.fields().len() + 1)).min(if depth > 6 { 20 } else { 100 })
        };
        for field in of.fields() {
            if self.below(100) < wanted {
                let value = self.value(table, field, table.shape(field), depth);
                object.insert(field.name.to_owned(), value);
            }
        }
        Value::Object(object)
    }

    fn value(&mut self, table: &Table, field: &Field, shape: Shape<'_>, depth: usize) -> Value {
        if self.below(15) == 0 {
            return Value::Null;
        }
        match shape {
            Shape::Struct(of) => self.structure(table, of, depth + 1),
            Shape::List(item) => {
                (0..self.below(3)).map(|_| self.value(table, field, item.shape(), depth)).collect()
            }
            Shape::Map(item) => {
                let keys = self.pick(&[
                    &["cpu", "memory"][..],
                    &["a"],
                    &[],
                    &["hugepages-2Mi", "example.com/x"],
                ]);
                let entries = keys
                    .iter()
                    .map(|key| ((*key).to_owned(), self.value(table, field, item.shape(), depth)));
                Value::Object(entries.collect())
            }
            Shape::Scalar(_) => self.scalar(field),
        }
    }

    /// Values of which one is of the right type; the others show that wrong types are refused alike.
    fn scalar(&mut self, field: &Field) -> Value {
        for _ in 0..40 {
            let value = if !field.values.is_empty() && self.below(4) > 0 {
                json!(self.pick(&field.values))
            } else {
                self.pick(&[
                    json!(""),
                    json!("a"),
                    json!("1Gi"),
                    json!("1500m"),
                    json!("0.0001"),
                    json!("25%"),
                    json!("nginx:latest"),
                    json!("aGVsbG8="),
                    json!("2026-01-02T03:04:05+01:00"),
                    json!("2026-01-02T03:04:05.123456Z"),
                    json!("90m"),
                    json!(0),
                    json!(1),
                    json!(80),
                    json!(true),
                    json!(false),
                    json!({ "kind": "X", "apiVersion": "example.com/v1" }),
                ])
            };
            if field.takes(&value) || self.below(4000) == 0 {
                return value;
            }
        }
        Value::Null
    }

    /// Gives a field, somewhere, a name that does not exist.
    fn misspell(&mut self, value: &mut Value, depth: usize) {
        match value {
            Value::Object(fields) => {
                let names: Vec<String> = fields.keys().cloned().collect();
                if depth > 0 && !names.is_empty() && self.below(6) == 0 {
                    let name = self.pick(&names);
                    let value = fields.remove(&name).unwrap_or_default();
                    fields.insert(format!("{name}x"), value);
                }
                fields.values_mut().for_each(|value| self.misspell(value, depth + 1));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.misspell(item, depth + 1)),
            _ => {}
        }
    }
}
