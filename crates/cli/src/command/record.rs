//! `nullius record`: what policies ask of a cluster, as files for `nullius test`, `policy eval` and `scan`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use nullius_admission::{NotRecorded, Recording, Wanted};
use nullius_kube::{ClusterReader, Listed, ReadError};
use nullius_manifest::{Found, objects, walk};
use serde_json::{Value as Json, json};

use crate::{
    args,
    failure::{Exit, Failure, file_failure},
    output::{
        Format, Printed, escape, json_text, only_differences, only_exports, only_findings,
        only_graphs, yaml_text,
    },
    stage::Stage,
};

const RECORDED: &str = "nothing was recorded";

/// What could not be recorded, and what a person should know.
#[derive(Default)]
struct Beside {
    errors: Vec<String>,
    notes: Vec<String>,
}

/// Records.
pub(crate) async fn run(stage: &mut Stage, args: args::Record) -> Result<Exit, Failure> {
    match stage.global.output {
        Format::Table | Format::Wide | Format::Yaml | Format::Json | Format::Name => {}
        Format::Markdown => return Err(only_differences()),
        Format::Native | Format::Manifest => return Err(only_exports()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
        _ => return Err(only_findings()),
    }
    let policies = policies(&args.policies)?;
    let reader = reader(stage, &args.cluster).await?;
    let version = reader.version().await.map_err(|error| unreachable(RECORDED, error))?;
    let mut beside = Beside::default();
    let mut recording = Recording::default();
    for wanted in Recording::always() {
        fetch(&reader, &wanted, &mut recording, &mut beside).await?;
    }
    let known: Vec<Json> = match args.params {
        true => policies.iter().chain(recording.policies()).cloned().collect(),
        false => policies,
    };
    let (params, not) = recording.params(known.iter());
    for wanted in params {
        fetch(&reader, &wanted, &mut recording, &mut beside).await?;
    }
    beside.errors.extend(not.iter().map(NotRecorded::to_string));
    let record = recording.finish(&version);
    let out = match &args.to {
        None => text(&record, stage.global.output)?,
        Some(path) => {
            write(path, &record)?;
            String::new()
        }
    };
    let mut err: String =
        beside.errors.iter().map(|told| format!("error: {}\n", escape::lines(told))).collect();
    err.extend(beside.notes.iter().map(|told| format!("note: {}\n", escape::lines(told))));
    err.push_str(&format!(
        "recorded {} of Kubernetes {}\n",
        counted(&record),
        escape::cell(&version)
    ));
    stage.print(&Printed { out, err })?;
    Ok(if beside.errors.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Opens the cluster of a kubeconfig.
pub(super) async fn reader(
    stage: &Stage,
    args: &args::OfKubeconfig,
) -> Result<ClusterReader, Failure> {
    let known = args.kubeconfig.as_ref().or(stage.environment.kubeconfig.as_ref());
    let path = known.ok_or_else(|| {
        Failure::usage("cannot tell which cluster is meant")
            .next("name a kubeconfig by `--kubeconfig`")
    })?;
    let context = args.kube_context.as_deref();
    ClusterReader::from_kubeconfig(path, context).await.map_err(|error| {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(below) = cause {
            why = format!("{why}: {below}");
            cause = below.source();
        }
        Failure::new("no cluster can be asked")
            .why(why)
            .next("check the kubeconfig: `kubectl --kubeconfig FILE get namespaces`")
    })
}

/// The policies and bindings of files.
fn policies(paths: &[PathBuf]) -> Result<Vec<Json>, Failure> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    walk(paths, &mut io::stdin().lock(), &mut |source| match source {
        Err(unreadable) => wrong.push(format!("{}: {}", unreadable.name, unreadable.message)),
        Ok(source) => objects(&source.text, |each| match each {
            Found::Object(manifest) if manifest.group() == "admissionregistration.k8s.io" => {
                found.push(manifest.to_json());
            }
            Found::Object(_) | Found::Other(_) => {}
            Found::Fault(fault) => {
                wrong.push(format!("{}:{}: {}", source.name, fault.place.line, fault.message));
            }
        }),
    });
    if !wrong.is_empty() {
        return Err(Failure::new("the policies cannot be read; nothing was recorded")
            .why(wrong.join("\n       ")));
    }
    Ok(found)
}

/// Fetches objects; only a silent API server ends it all.
async fn fetch(
    reader: &ClusterReader,
    wanted: &Wanted,
    recording: &mut Recording,
    beside: &mut Beside,
) -> Result<(), Failure> {
    let listed = Listed {
        api_version: wanted.api_version.clone(),
        kind: wanted.kind.clone(),
        resource: wanted.resource.clone(),
        namespace: wanted.namespace.clone(),
        name: wanted.name.clone(),
    };
    match reader.list(&listed).await {
        Ok(objects) => recording.take(wanted, objects),
        Err(ReadError::Absent { what }) => {
            beside
                .notes
                .push(format!("the API server has no `{what}` in `{}`", wanted.api_version));
        }
        Err(error @ ReadError::Unreachable { .. }) => return Err(unreachable(RECORDED, error)),
        Err(error) => beside.errors.push(error.to_string()),
    }
    Ok(())
}

/// A cluster that does not answer, or not to this user.
pub(super) fn unreachable(done: &str, error: ReadError) -> Failure {
    let what = error.to_string();
    let mut why = String::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(below) = cause {
        why = below.to_string();
        cause = below.source();
    }
    let failure = match error {
        ReadError::Unreachable { .. } => Failure::new(format!("{done}: {what}")),
        _ => {
            return Failure::new(done).why(what).next("check the user of the kubeconfig");
        }
    };
    failure.why(why).next("check that the cluster runs and can be reached: `kubectl version`")
}

/// The record as one text.
fn text(record: &[Json], format: Format) -> Result<String, Failure> {
    match format {
        Format::Json => json_text(&json!({ "apiVersion": "v1", "kind": "List", "items": record })),
        Format::Name => Ok(record.iter().skip(1).map(|object| named(object) + "\n").collect()),
        _ => documents(record.iter()),
    }
}

fn documents<'a>(objects: impl Iterator<Item = &'a Json>) -> Result<String, Failure> {
    let mut text = String::new();
    for object in objects {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&yaml_text(object)?);
    }
    Ok(text)
}

fn named(object: &Json) -> String {
    let text = |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default();
    let (kind, namespace, name) =
        (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    match namespace {
        "" => format!("{kind}/{name}"),
        namespace => format!("{kind}/{namespace}/{name}"),
    }
}

/// Writes a file, or a folder with a file for each kind.
fn write(path: &Path, record: &[Json]) -> Result<(), Failure> {
    let is_folder = path.is_dir() || path.to_string_lossy().ends_with('/');
    let put = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| file_failure("write", path, error))
    };
    if !is_folder {
        return put(path, &documents(record.iter())?);
    }
    fs::create_dir_all(path).map_err(|error| file_failure("make", path, error))?;
    let mut files: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for object in record {
        let kind = object.get("kind").and_then(Json::as_str).unwrap_or_default().to_lowercase();
        files.entry(format!("{kind}.yaml")).or_default().push(object);
    }
    // Of a kind that is gone its earlier file must not stay.
    for wanted in Recording::always() {
        let name = format!("{}.yaml", wanted.kind.to_lowercase());
        if !files.contains_key(&name) && path.join(&name).is_file() {
            files.insert(name, Vec::new());
        }
    }
    for (name, objects) in files {
        let text = if objects.is_empty() {
            "# none\n".to_owned()
        } else {
            documents(objects.into_iter())?
        };
        put(&path.join(name), &text)?;
    }
    Ok(())
}

/// `3 Namespaces, 70 ClusterRoles`.
fn counted(record: &[Json]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for object in record.iter().skip(1) {
        *kinds.entry(object.get("kind").and_then(Json::as_str).unwrap_or_default()).or_default() +=
            1;
    }
    let counts = kinds.into_iter().map(|(kind, count)| format!("{count} {}", escape::cell(kind)));
    let told = counts.collect::<Vec<_>>().join(", ");
    if told.is_empty() { "nothing".to_owned() } else { told }
}
