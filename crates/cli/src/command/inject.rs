//! `nullius inject`: a proxy of the mesh beside the containers of pods in files, without a hub and without a cluster.

use std::io;

use nullius_admission::{InTheWay, Injected, Sidecar, inject};
use nullius_manifest::{Dialect, Node, Source, parse, walk};
use serde_json::{Value as Json, json};

use crate::{
    args,
    failure::{Exit, Failure},
    output::{Format, Printed, escape, json_text, yaml_text},
    stage::Stage,
};

/// What came of all files.
#[derive(Default)]
struct Outcome {
    /// All documents, in order.
    documents: Vec<Json>,
    wrong: Vec<String>,
    changed: usize,
    already: usize,
    unwanted: usize,
}

/// Injects.
pub(crate) fn run(stage: &mut Stage, args: &args::Inject) -> Result<Exit, Failure> {
    let sidecar = Sidecar {
        image: args.image.clone(),
        pull_policy: args.pull.map(|pull| pull.as_kubernetes().to_owned()),
    };
    let mut outcome = Outcome::default();
    walk(&args.files.files, &mut io::stdin().lock(), &mut |source| match source {
        Ok(source) => outcome.read(&source, &sidecar),
        Err(wrong) => outcome.wrong.push(format!("{}: {}", wrong.name, wrong.message)),
    });
    if !outcome.wrong.is_empty() {
        let wrong: Vec<String> = outcome.wrong.iter().map(|line| escape::cell(line)).collect();
        return Err(Failure::new(
            "no proxy can stand beside all of these pods; nothing was written",
        )
        .why(wrong.join("\n       "))
        .next("mend it, or label the pod `nullius.dev/inject: disabled` to leave it as it is")
        .exit_with(Exit::Denied));
    }
    if outcome.documents.is_empty() {
        return Err(Failure::new("no object stands in these files")
            .next("if something was to make the text, see whether it failed"));
    }
    let Outcome { documents, changed, already, unwanted, .. } = outcome;
    let out = match stage.global.output {
        Format::Table | Format::Wide | Format::Yaml => {
            let documents: Result<Vec<String>, Failure> = documents.iter().map(yaml_text).collect();
            documents?.join("---\n")
        }
        Format::Json => match documents.as_slice() {
            [one] => json_text(one)?,
            several => json_text(&json!({ "apiVersion": "v1", "kind": "List", "items": several }))?,
        },
        _ => {
            return Err(Failure::usage("this command has no result in that form")
                .next("use `-o yaml` or `json`"));
        }
    };
    let mut err = format!("{changed} {} a proxy", if changed == 1 { "gets" } else { "get" });
    if already > 0 {
        err.push_str(&format!("; {already} had it"));
    }
    if unwanted > 0 {
        err.push_str(&format!(
            "; {unwanted} {} none",
            if unwanted == 1 { "wants" } else { "want" }
        ));
    }
    stage.print(&Printed { out, err: err + "\n" })?;
    Ok(Exit::Ok)
}

impl Outcome {
    fn read(&mut self, source: &Source, sidecar: &Sidecar) {
        let documents = match parse(&source.text, Dialect::Kubernetes) {
            Ok(documents) => documents,
            Err(error) => {
                let (name, line, column) = (&source.name, error.line, error.column);
                self.wrong.push(format!("{name}:{line}:{column}: {}", error.message));
                return;
            }
        };
        for node in documents {
            let mut document = node.to_json();
            self.take(&source.name, &node, "", &mut document, sidecar);
            self.documents.push(document);
        }
    }

    /// Injects into an object, or into what is in a list of objects.
    fn take(&mut self, file: &str, node: &Node, path: &str, object: &mut Json, sidecar: &Sidecar) {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if let (Some(of), Some(items)) =
            (kind.strip_suffix("List"), object.get_mut("items").and_then(Json::as_array_mut))
        {
            for (index, item) in items.iter_mut().enumerate() {
                let path = format!("{path}items[{index}].");
                // Items of a list of one kind need not say what they are.
                let said = [("apiVersion", api_version.as_str()), ("kind", of)];
                let unsaid = said.map(|(name, value)| {
                    let is_unsaid = !of.is_empty() && item.is_object() && item[name].is_null();
                    if is_unsaid {
                        item[name] = json!(value);
                    }
                    (name, is_unsaid)
                });
                self.take(file, node, &path, item, sidecar);
                if let Some(fields) = item.as_object_mut() {
                    fields.retain(|field, _| !unsaid.iter().any(|(name, it)| *it && name == field));
                }
            }
            return;
        }
        match inject(object, sidecar) {
            Ok(Injected::Changed) => self.changed += 1,
            Ok(Injected::Already) => self.already += 1,
            Ok(Injected::Unwanted) => self.unwanted += 1,
            Ok(Injected::NoPods) => {}
            Err(faults) => self.wrong.extend(faults.iter().map(|InTheWay { field, message }| {
                let place = node.place_of_text(&format!("{path}{field}"));
                format!("{file}:{}:{}: {field}: {message}", place.line, place.column)
            })),
        }
    }
}
