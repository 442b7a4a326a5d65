//! `nullius import`: policies of other meshes as Intentions, without a hub and without a cluster.

use std::io;

use nullius_intention::{Istio, Remark, import_istio};
use nullius_manifest::{Found, Manifest, objects, walk};
use serde_json::{Value as Json, json};

use crate::{
    args::{ImportCommand, ImportIstio},
    failure::{Exit, Failure},
    output::{Format, Printed, escape, json_text, yaml_text},
    stage::Stage,
};

/// Runs an import.
pub(crate) fn run(stage: &mut Stage, command: &ImportCommand) -> Result<Exit, Failure> {
    let ImportCommand::Istio(args) = command;
    istio(stage, args)
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
    let written: Vec<Json> = imported.intentions.iter().map(|each| each.to_json()).collect();
    let out = match stage.global.output {
        Format::Json => {
            json_text(&json!({ "apiVersion": "v1", "kind": "List", "items": written }))?
        }
        Format::Name => imported
            .intentions
            .iter()
            .map(|each| format!("{}/{}\n", escape::cell(&each.namespace), escape::cell(&each.name)))
            .collect(),
        Format::Table | Format::Wide | Format::Yaml => {
            let documents: Result<Vec<String>, Failure> = written.iter().map(yaml_text).collect();
            documents?.join("---\n")
        }
        _ => {
            return Err(Failure::usage("this command has no result in that form")
                .next("use `-o yaml`, `json` or `name`"));
        }
    };
    let told = |word: &str, remark: &Remark| {
        let Some((file, manifest)) = found.get(remark.object) else { return String::new() };
        let place = manifest.node().place_of_text(&remark.fault.field);
        format!(
            "{word}: {}:{}:{}: {} `{}`: {}\n",
            escape::cell(file),
            place.line,
            place.column,
            escape::cell(&manifest.kind),
            escape::cell(manifest.name()),
            escape::cell(&remark.fault.to_string())
        )
    };
    let mut err: String = imported.refused.iter().map(|it| told("refused", it)).collect();
    err.extend(imported.notes.iter().map(|it| told("note", it)));
    let (written, refused) = (imported.intentions.len(), imported.refused.len());
    err.push_str(&format!(
        "{written} {} written; {refused} {} refused\n",
        if written == 1 { "intention" } else { "intentions" },
        if refused == 1 { "thing" } else { "things" }
    ));
    stage.print(&Printed { out, err })?;
    Ok(if refused > 0 { Exit::Denied } else { Exit::Ok })
}
