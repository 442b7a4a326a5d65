//! `nullius policy export`: policies for an API server that asks them by itself.
//!
//! Everything is made and checked before the first file is written. A folder that holds other files than the export's own is
//! left alone: an API server, or `kubectl apply -f`, would take them for part of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf, absolute},
};

use nullius_admission::{Export, ExportForm, Exported, ExportedPolicy, Family};
use nullius_cel::Version;
use serde_json::{Value as Json, json};

use super::{each_object, no_policy, own_of, told_of, unusable};
use crate::{
    args::PolicyExport,
    failure::{Exit, Failure, file_failure},
    output::{
        Format, Printed, escape, json_text, only_differences, only_exports, only_findings,
        only_graphs, yaml_text,
    },
    stage::Stage,
};

/// The first version whose API server reads policies from files, and serves policies that mutate as `v1`.
const FIRST_MANIFEST: u16 = 36;

/// Exports.
pub(super) fn run(stage: &mut Stage, args: &PolicyExport) -> Result<Exit, Failure> {
    let out = args.out.as_deref().filter(|path| *path != Path::new("-"));
    let form = form(stage.global.output, out, args)?;
    let export = read(stage, args)?;
    let exported = export.finish(form).map_err(|wrong| {
        Failure::new("the policies cannot be exported; nothing was written")
            .why(wrong.join("\n       "))
    })?;
    let text = match (form, out) {
        (ExportForm::Manifest, Some(folder)) => {
            write(folder, &files(&exported, form)?)?;
            let installed = args.installed_at.as_deref().unwrap_or(folder);
            let installed =
                absolute(installed).map_err(|error| file_failure("find", installed, error))?;
            yaml_text(&configuration(&exported, &installed))?
        }
        (_, Some(folder)) => {
            write(folder, &files(&exported, form)?)?;
            String::new()
        }
        (_, None) => shown(&exported, stage.global.output)?,
    };
    stage.print(&Printed { out: text, err: beside(&exported, form, args.env) })?;
    Ok(if exported.left.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// What is asked for, where it can be.
fn form(format: Format, out: Option<&Path>, args: &PolicyExport) -> Result<ExportForm, Failure> {
    let form = match format {
        Format::Manifest => ExportForm::Manifest,
        Format::Table | Format::Wide | Format::Native => ExportForm::Native,
        Format::Json | Format::Yaml | Format::Name if out.is_none() => ExportForm::Native,
        Format::Json | Format::Yaml | Format::Name => return Err(only_exports()),
        Format::Markdown => return Err(only_differences()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
        Format::Sarif
        | Format::Junit
        | Format::Csv
        | Format::Policyreport
        | Format::Openreports
        | Format::Codequality
        | Format::Kubernetes => return Err(only_findings()),
    };
    if form == ExportForm::Native && args.installed_at.is_some() {
        return Err(Failure::usage("`--installed-at` is of `-o manifest` alone")
            .next("leave it out, or add `-o manifest`"));
    }
    if form == ExportForm::Manifest && out.is_none() {
        return Err(Failure::usage("files for an API server need a folder")
            .why("it reads policies that validate and those that mutate from a folder each")
            .next("name the folder that they stand in: `--out DIR`"));
    }
    if form == ExportForm::Manifest && args.env < Version::minor(FIRST_MANIFEST) {
        return Err(Failure::usage(format!(
            "no API server of Kubernetes {} reads policies from files",
            args.env
        ))
        .next(format!("say `--env k8s-1.{FIRST_MANIFEST}` or later, or use `-o native`")));
    }
    Ok(form)
}

fn read(stage: &Stage, args: &PolicyExport) -> Result<Export, Failure> {
    let mut export = Export::new(args.env, stage.now());
    let mut wrong = Vec::new();
    let paths: Vec<PathBuf> = args.policies.iter().chain(&args.exceptions).cloned().collect();
    let unread = each_object(&paths, &mut |source, manifest| {
        let own = own_of(source, manifest, stage.now());
        if own.is_empty() {
            let faults = export.add(&manifest.to_json()).err().unwrap_or_default();
            wrong.extend(told_of(source, manifest, &faults));
        }
        wrong.extend(own);
    });
    wrong.extend(unread);
    if !wrong.is_empty() {
        return Err(unusable(&wrong, "exported"));
    }
    if export.is_empty() {
        return Err(no_policy(&args.policies));
    }
    Ok(export)
}

/// The folder of a family among files for an API server.
fn folder_of(family: Family) -> &'static str {
    match family {
        Family::Validating => "validating",
        Family::Mutating => "mutating",
    }
}

/// The files of an export with their paths.
fn files(exported: &Exported, form: ExportForm) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let file = |policy: &ExportedPolicy| {
        let (folder, name) = (folder_of(policy.family), &policy.name);
        let path: PathBuf = match form {
            ExportForm::Native => format!("{name}.{folder}.yaml").into(),
            ExportForm::Manifest => [folder, &format!("{name}.yaml")].iter().collect(),
        };
        Ok((path, documents(&policy.objects)?))
    };
    exported.policies.iter().map(file).collect()
}

/// Writes files, each as a whole, into a folder in which nothing else stands.
fn write(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), Failure> {
    let mut strange = Vec::new();
    standing(folder, Path::new(""), &mut |path| {
        if !files.contains_key(path) {
            strange.push(format!("`{}`", folder.join(path).display()));
        }
    })?;
    if !strange.is_empty() {
        return Err(Failure::new(
            "the folder holds what is not of this export; nothing was written",
        )
        .why(format!("an API server would read it too: {}", strange.join(", ")))
        .next("take it away, or name another folder"));
    }
    for (path, text) in files {
        let path = folder.join(path);
        let failed = |error: io::Error| file_failure("write", &path, error);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        // What ends otherwise is nothing that anybody reads.
        let partial = path.with_extension("yaml.partial");
        fs::write(&partial, text).map_err(failed)?;
        fs::rename(&partial, &path).map_err(failed)?;
    }
    Ok(())
}

/// Tells each file of a folder and of the folders in it that somebody would read.
fn standing(root: &Path, below: &Path, each: &mut dyn FnMut(&Path)) -> Result<(), Failure> {
    let folder = root.join(below);
    let failed = |error: io::Error| file_failure("read", &folder, error);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = below.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            standing(root, &path, each)?;
        } else {
            let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
            let read = ["yaml", "yml", "json"];
            if ending.is_some_and(|ending| read.iter().any(|known| ending == *known)) {
                each(&path);
            }
        }
    }
    Ok(())
}

/// What tells an API server where its policies are.
fn configuration(exported: &Exported, installed: &Path) -> Json {
    let has = |family: &Family| exported.policies.iter().any(|policy| policy.family == *family);
    let plugins: Vec<Json> = Family::ALL
        .into_iter()
        .filter(has)
        .map(|family| {
            json!({
                "name": family.kind(),
                "configuration": {
                    "apiVersion": "apiserver.config.k8s.io/v1",
                    "kind": format!("{}Configuration", family.kind()),
                    "staticManifestsDir": installed.join(folder_of(family)),
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins,
    })
}

fn shown(exported: &Exported, format: Format) -> Result<String, Failure> {
    let objects: Vec<Json> =
        exported.policies.iter().flat_map(|policy| policy.objects.iter().cloned()).collect();
    match format {
        Format::Json => json_text(&json!({ "apiVersion": "v1", "kind": "List", "items": objects })),
        Format::Name => {
            let text = |object: &Json, path: &str| {
                object.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned()
            };
            let named = |object: &Json| {
                escape::cell(&format!(
                    "{}/{}",
                    text(object, "/kind"),
                    text(object, "/metadata/name")
                )) + "\n"
            };
            Ok(objects.iter().map(named).collect())
        }
        _ => documents(&objects),
    }
}

/// Objects as one stream of YAML.
fn documents(objects: &[Json]) -> Result<String, Failure> {
    let documents: Result<Vec<String>, Failure> = objects.iter().map(yaml_text).collect();
    Ok(documents?.join("---\n"))
}

/// What is said beside the result: what is not exported, what ends, what to do.
fn beside(exported: &Exported, form: ExportForm, version: Version) -> String {
    let mut err = String::new();
    let mut tell = |what: &str, told: &str| {
        err.push_str(&format!("{what}: {}\n", escape::lines(told)));
    };
    for told in &exported.left {
        tell("error", &format!("{told}: not exported, what it accepts will be refused"));
    }
    for policy in &exported.policies {
        for acceptance in &policy.excepted {
            let (name, end) = (&acceptance.exception, acceptance.expires);
            let of = &policy.name;
            tell(
                "warning",
                &format!(
                    "`{of}` leaves out the objects of `{name}`, which ends at {end}: export again by then, nothing else ends it"
                ),
            );
        }
    }
    exported.notes.iter().for_each(|told| tell("note", told));
    let mutates = exported.policies.iter().any(|policy| policy.family == Family::Mutating);
    if mutates && version < Version::minor(FIRST_MANIFEST) {
        tell(
            "note",
            "an API server before Kubernetes 1.36 has no `MutatingAdmissionPolicy` in `v1`",
        );
    }
    if form == ExportForm::Manifest {
        tell(
            "note",
            "give the printed text to the API server: `--admission-control-config-file=FILE`, with `--feature-gates=ManifestBasedAdmissionControlConfig=true`",
        );
    }
    err
}
