//! The Pod Security Standards on a real API server and here: Kubernetes' own cases of every version, as pods and as what
//! makes pods, and the objects of real applications. Status, message and warnings are equal.
//!
//! They run where a test run has started clusters (`NULLIUS_TEST_STATE`, set by `cargo xtask test`), on data beside the
//! workspace or in `$NULLIUS_CONFORMANCE`.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nullius_kinds::{Scope, Table, normalize};
use nullius_manifest::{Found, objects, walk};
use nullius_policy::pod_security::{Operation, PodRequest, Settings, review};
use nullius_testkit::{Api, Cluster, Profile, TestNamespace, shared};
use serde_json::{Value, json};

use crate::{api_server::settings, policies::unquoted};

/// So many requests are under way at once.
const AT_ONCE: usize = 4;

/// What is sent where.
struct Question<'r> {
    origin: String,
    room: &'r Room,
    object: Value,
}

/// Status, message of a refusal, warnings of the standards.
#[derive(Debug, PartialEq)]
struct Said {
    status: u16,
    message: String,
    warnings: Vec<String>,
}

/// A namespace with labels of the standards.
struct Room {
    namespace: TestNamespace,
    labels: BTreeMap<String, String>,
}

impl Room {
    fn open(cluster: &Cluster, api: &Api, level: &str, version: &str) -> Self {
        let namespace = cluster.namespace("pss").unwrap();
        let path = format!("/api/v1/namespaces/{}", namespace.name());
        let mut object = api.get(&path).unwrap().json().unwrap();
        let mut labels = BTreeMap::new();
        for mode in ["enforce", "warn"] {
            let label = format!("pod-security.kubernetes.io/{mode}");
            labels.insert(format!("{label}-version"), version.to_owned());
            labels.insert(label, level.to_owned());
        }
        for (label, value) in &labels {
            object["metadata"]["labels"][label] = json!(value);
        }
        let answer = api.put(&path, &object).unwrap();
        assert!(answer.is_success(), "{}", answer.text());
        Self { namespace, labels }
    }
}

fn folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = env::var_os("NULLIUS_CONFORMANCE").map_or_else(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    nullius_skip::skip_without_data(&format!(
        "{} is not there: set NULLIUS_CONFORMANCE to the folder of the conformance data",
        folder.display()
    ));
    None
}

/// `LEVEL/vVERSION/pass|fail/CHECKn.yaml` of each archive: level, version, place, pod.
fn cases(folder: &Path) -> Vec<(String, String, String, Value)> {
    let mut cases = Vec::new();
    for archive in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if !archive.to_string_lossy().ends_with(".tar.gz") {
            continue;
        }
        let unpacked = tempfile::tempdir().unwrap();
        let status =
            Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(unpacked.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unpack {archive:?}");
        let mut open = vec![unpacked.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|end| end == "yaml") {
                let place = path.strip_prefix(unpacked.path()).unwrap().display().to_string();
                let parts: Vec<&str> = place.split('/').collect();
                let [level, version, ..] = parts[..] else { panic!("{place} is no case") };
                let pod = serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                cases.push((level.to_owned(), version.to_owned(), place, pod));
            }
        }
    }
    cases
}

/// The pod as what a Deployment makes.
fn deployment(pod: &Value) -> Value {
    let mut template = json!({ "metadata": pod["metadata"], "spec": pod["spec"] });
    template["metadata"]["labels"] = json!({ "app": "a" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "app": "a" } }, "template": template },
    })
}

fn theirs(api: &Api, question: &Question<'_>) -> Option<Said> {
    let word = |name: &str| question.object[name].as_str().unwrap_or_default();
    let kind = Table::builtin().kind(word("apiVersion"), word("kind"))?;
    if kind.scope != Scope::Namespaced || kind.resource.contains('/') {
        return None;
    }
    let root = if kind.api_version.contains('/') { "apis" } else { "api" };
    let (version, resource) = (kind.api_version, kind.resource);
    let namespace = question.room.namespace.name();
    let path = format!("/{root}/{version}/namespaces/{namespace}/{resource}?dryRun=All");
    let answer = api.post(&path, &question.object).unwrap();
    // What the API itself does not take is not judged by the standards.
    let judged = answer.is_success() || answer.status == 403;
    let warnings = answer.header("warning").map(unquoted);
    judged.then(|| Said {
        status: answer.status,
        message: match answer.status {
            403 => answer.json().unwrap()["message"].as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        },
        warnings: warnings.filter(|warning| warning.contains("violate PodSecurity")).collect(),
    })
}

fn ours(settings: &Settings, question: &Question<'_>) -> Said {
    let room = question.room;
    let labels = room.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let normalized = normalize(&question.object).unwrap().object;
    let word = |name: &str| question.object[name].as_str().unwrap_or_default();
    let kind = Table::builtin().kind(word("apiVersion"), word("kind")).unwrap();
    let request = PodRequest {
        operation: Operation::Create,
        group: kind.api_version.split_once('/').map_or("", |(group, _)| group),
        resource: kind.resource,
        subresource: "",
        namespace: room.namespace.name(),
        name: question.object["metadata"]["name"].as_str().unwrap_or_default(),
        user: "admin",
        object: &normalized,
        old_object: None,
    };
    let review = review(settings, &request, Ok(&labels));
    let (status, message) =
        review.refusal.map_or((201, String::new()), |refusal| (refusal.code, refusal.message));
    Said { status, message, warnings: review.warnings }
}

/// Compares both sides, and says how many were judged, refused and warned of.
fn compare(api: &Api, questions: &[Question<'_>]) -> (usize, usize, usize) {
    let settings = settings(api);
    let ask = |part: &[Question<'_>]| {
        let (mut judged, mut refused, mut warned, mut differ) = (0, 0, 0, Vec::new());
        for question in part {
            let Some(theirs) = theirs(api, question) else { continue };
            let ours = ours(&settings, question);
            judged += 1;
            refused += usize::from(theirs.status == 403);
            warned += usize::from(!theirs.warnings.is_empty());
            if ours != theirs {
                let (origin, labels) = (&question.origin, &question.room.labels);
                differ.push(format!("{origin} {labels:?}\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        }
        (judged, refused, warned, differ)
    };
    let parts = questions.chunks(questions.len().div_ceil(AT_ONCE).max(1));
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = parts.map(|part| scope.spawn(|| ask(part))).collect();
        asking.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let mut differ = Vec::new();
    let mut counts = (0, 0, 0);
    for (judged, refused, warned, part) in answers {
        counts = (counts.0 + judged, counts.1 + refused, counts.2 + warned);
        differ.extend(part);
    }
    let shown = &differ[..differ.len().min(8)];
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), counts.0, shown.join("\n"));
    eprintln!("{} judged, {} refused, {} warned of", counts.0, counts.1, counts.2);
    counts
}

#[test]
fn kubernetes_own_cases_are_judged_as_on_the_api_server() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let Some(folder) = folder("pod-security") else { return };
    let api = cluster.api().unwrap();
    let cases = cases(&folder);
    let mut rooms = BTreeMap::new();
    for (level, version, ..) in &cases {
        rooms
            .entry((level.as_str(), version.as_str()))
            .or_insert_with(|| Room::open(&cluster, &api, level, version));
    }
    let mut questions = Vec::new();
    for (level, version, place, pod) in &cases {
        let room = &rooms[&(level.as_str(), version.as_str())];
        for object in [pod.clone(), deployment(pod)] {
            let origin = format!("{place} {}", object["kind"]);
            questions.push(Question { origin, room, object });
        }
    }
    let (judged, refused, warned) = compare(&api, &questions);
    // The API of this version takes an eighth of them no more, whatever the standards say.
    assert!(judged > questions.len() * 85 / 100, "{judged} of {}", questions.len());
    assert!(refused > cases.len() / 2 && warned > cases.len() / 2, "{refused}, {warned}");
}

#[test]
fn objects_of_real_applications_are_judged_as_on_the_api_server() {
    let Some(cluster) = shared(Profile::ControlPlane) else { return };
    let Some(folder) = folder("manifests") else { return };
    let api = cluster.api().unwrap();
    let levels = [("restricted", "latest"), ("baseline", "latest"), ("restricted", "v1.20")];
    let rooms = levels.map(|(level, version)| Room::open(&cluster, &api, level, version));
    let mut questions = Vec::new();
    walk(&[folder], &mut io::empty(), &mut |source| {
        let Ok(source) = source else { return };
        objects(&source.text, |found| {
            let Found::Object(manifest) = found else { return };
            let mut object = manifest.to_json();
            if normalize(&object).is_err() {
                return;
            }
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
            let origin = format!("{} {}", source.name, object["kind"]);
            let asked = |room| Question { origin: origin.clone(), room, object: object.clone() };
            questions.extend(rooms.iter().map(asked));
        });
    });
    let (judged, refused, warned) = compare(&api, &questions);
    assert!(judged > 500 && refused > 20 && warned > 100, "{judged}, {refused}, {warned}");
}
