//! `nullius import`: what other programs say of workloads as objects, without a hub and without a cluster.

mod documents;

use std::io;

use nullius_intention::{Fault, Istio, Services, import_consul, import_istio};
use nullius_manifest::{Found, Manifest, Place, objects, walk};
use nullius_registration::{Spire, import_spire};
use serde_json::{Value as Json, json};

use crate::{
    args::{ImportCommand, ImportConsul, ImportIstio, ImportSpire},
    failure::{Exit, Failure},
    output::{Format, Printed, escape, json_text, yaml_text},
    stage::Stage,
};

/// Runs an import.
pub(crate) fn run(stage: &mut Stage, command: &ImportCommand) -> Result<Exit, Failure> {
    match command {
        ImportCommand::Istio(args) => istio(stage, args),
        ImportCommand::Consul(args) => consul(stage, args),
        ImportCommand::Spire(args) => spire(stage, args),
    }
}

/// What came of an import, for whoever asked for it.
#[derive(Default)]
struct Outcome {
    /// Objects with their namespaces and names.
    written: Vec<(String, String, Json)>,
    refused: Vec<String>,
    notes: Vec<String>,
}

/// A remark with its place.
fn remark(file: &str, place: Place, what: &str, fault: &Fault) -> String {
    format!(
        "{}:{}:{}: {}: {}\n",
        escape::cell(file),
        place.line,
        place.column,
        escape::cell(what),
        escape::cell(&fault.to_string())
    )
}

fn istio(stage: &mut Stage, args: &ImportIstio) -> Result<Exit, Failure> {
    let mut found: Vec<(String, Manifest)> = Vec::new();
    let mut wrong = Vec::new();
    walk(&args.paths, &mut io::stdin().lock(), &mut |source| match source {
        Err(unreadable) => wrong.push(format!("{}: {}", unreadable.name, unreadable.message)),
        Ok(source) => objects(&source.text, |each| match each {
            Found::Object(manifest) => found.push((source.name.clone(), manifest)),
            Found::Other(_) => {}
            Found::Fault(fault) => {
                let (line, column) = (fault.place.line, fault.place.column);
                wrong.push(format!("{}:{line}:{column}: {}", source.name, fault.message));
            }
        }),
    });
    if !wrong.is_empty() {
        return Err(Failure::new("a file cannot be read; nothing was written")
            .why(wrong.join("\n       "))
            .next("mend it: a policy that is left out could be one that denies"));
    }
    let json: Vec<Json> = found.iter().map(|(_, manifest)| manifest.to_json()).collect();
    let setup = Istio {
        root_namespace: args.root_namespace.clone(),
        trust_domain: args.trust_domain.to_string(),
        permissive_until: args.permissive_until,
    };
    let imported = import_istio(&json, &setup);
    let told = |object: usize, fault: &Fault| match found.get(object) {
        None => String::new(),
        Some((file, manifest)) => {
            let place = manifest.node().place_of_text(&fault.field);
            remark(file, place, &format!("{} `{}`", manifest.kind, manifest.name()), fault)
        }
    };
    let outcome = Outcome {
        refused: imported.refused.iter().map(|it| told(it.object, &it.fault)).collect(),
        notes: imported.notes.iter().map(|it| told(it.object, &it.fault)).collect(),
        written: intentions(imported),
    };
    finish(stage, outcome, ["intention", "intentions"])
}

fn intentions(imported: nullius_intention::Imported) -> Vec<(String, String, Json)> {
    let written = |it: nullius_intention::ImportedIntention| {
        let json = it.to_json();
        (it.namespace, it.name, json)
    };
    imported.intentions.into_iter().map(written).collect()
}

fn consul(stage: &mut Stage, args: &ImportConsul) -> Result<Exit, Failure> {
    let hcl = documents::hcl(&args.paths);
    if !hcl.is_empty() {
        let all: Vec<String> = hcl.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new("HCL is not read; nothing was written")
            .why(all.join("\n       "))
            .next("give what Consul prints of it: `consul config read -kind service-intentions -name NAME`"));
    }
    let services = Services::new(&args.namespaces, &args.services).map_err(Failure::usage)?;
    let found = documents::read(&args.paths)?;
    let json: Vec<Json> = found.iter().map(documents::Document::to_json).collect();
    let imported = import_consul(&json, &services, &args.trust_domain);
    let told = |object: usize, fault: &Fault| document_remark(&found, object, fault);
    let outcome = Outcome {
        refused: imported.refused.iter().map(|it| told(it.object, &it.fault)).collect(),
        notes: imported.notes.iter().map(|it| told(it.object, &it.fault)).collect(),
        written: intentions(imported),
    };
    finish(stage, outcome, ["intention", "intentions"])
}

fn spire(stage: &mut Stage, args: &ImportSpire) -> Result<Exit, Failure> {
    let found = documents::read(&args.paths)?;
    let json: Vec<Json> = found.iter().map(documents::Document::to_json).collect();
    let setup = Spire {
        trust_domain: args.trust_domain.clone(),
        parents: args.parents.iter().map(ToString::to_string).collect(),
        ignored: args.ignored.iter().map(ToString::to_string).collect(),
    };
    let imported = import_spire(&json, &setup);
    let told = |object: usize, fault: &Fault| document_remark(&found, object, fault);
    let written = imported.identities.iter();
    let outcome = Outcome {
        refused: imported.refused.iter().map(|it| told(it.object, &it.fault)).collect(),
        notes: imported.notes.iter().map(|it| told(it.object, &it.fault)).collect(),
        written: written.map(|it| (it.namespace.clone(), it.name.clone(), it.to_json())).collect(),
    };
    finish(stage, outcome, ["identity", "identities"])
}

fn document_remark(found: &[documents::Document], object: usize, fault: &Fault) -> String {
    let Some(document) = found.get(object) else { return String::new() };
    let place = document.node.place_of_text(&fault.field);
    remark(&document.file, place, &document.label(), fault)
}

/// Prints what was written, and what is to be told of the rest.
fn finish(stage: &mut Stage, outcome: Outcome, [one, several]: [&str; 2]) -> Result<Exit, Failure> {
    let Outcome { written, refused, notes } = outcome;
    let out = match stage.global.output {
        Format::Json => {
            let items: Vec<&Json> = written.iter().map(|(_, _, json)| json).collect();
            json_text(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))?
        }
        Format::Name => written
            .iter()
            .map(|(namespace, name, _)| {
                format!("{}/{}\n", escape::cell(namespace), escape::cell(name))
            })
            .collect(),
        Format::Table | Format::Wide | Format::Yaml => {
            let documents: Result<Vec<String>, Failure> =
                written.iter().map(|(_, _, json)| yaml_text(json)).collect();
            documents?.join("---\n")
        }
        _ => {
            return Err(Failure::usage("this command has no result in that form")
                .next("use `-o yaml`, `json` or `name`"));
        }
    };
    let mut err: String = refused.iter().map(|it| format!("refused: {it}")).collect();
    err.extend(notes.iter().map(|it| format!("note: {it}")));
    err.push_str(&format!(
        "{} {} written; {} {} refused\n",
        written.len(),
        if written.len() == 1 { one } else { several },
        refused.len(),
        if refused.len() == 1 { "thing" } else { "things" }
    ));
    stage.print(&Printed { out, err })?;
    Ok(if refused.is_empty() { Exit::Ok } else { Exit::Denied })
}
