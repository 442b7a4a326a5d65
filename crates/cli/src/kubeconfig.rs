//! `nullius kubeconfig`: one context for each cluster, an exec plugin instead of a secret.
//!
//! Merging replaces our own entries of this context and carries everything else along as it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nullius_api::{AccessRow, List, WhoseQuery, route};
use nullius_manifest::{Dialect, parse};
use nullius_model::{ClusterName, ObjectName};
use serde_json::{Map, Value, json};

use crate::{
    args::{self, KubeconfigCommand},
    client::{Call, Hub},
    credential,
    failure::{Exit, Failure, file_failure},
    home::private_file::write_private,
    output::{
        Format, Printed, json_text, only_differences, only_exports, only_findings, only_graphs,
        yaml_text,
    },
    stage::Stage,
};

/// What the entries of one context need to know.
struct Entries<'a> {
    hub: String,
    ca: &'a str,
    context: &'a ObjectName,
    home: &'a Path,
    program: &'a Path,
    clusters: BTreeSet<ClusterName>,
}

/// Writes a kubeconfig, or answers kubectl.
pub(crate) async fn run(stage: &mut Stage, args: args::Kubeconfig) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    if let Some(KubeconfigCommand::Credential) = args.command {
        let document = credential::exec_credential(&hub, &mut stage.environment).await?;
        return stage.print(&Printed { out: document, err: String::new() });
    }
    let clusters = reachable(&hub, args.only.cluster.as_ref()).await?;
    let home = stage.environment.home()?.to_owned();
    let home = std::path::absolute(&home).unwrap_or(home);
    let entries = Entries {
        hub: hub.origin(),
        ca: &hub.named.context.ca,
        context: &hub.named.name,
        home: &home,
        program: &stage.environment.program,
        clusters,
    };
    let target = match (args.merge, args.file) {
        (false, None) => {
            let fresh = merged(Map::new(), &entries, Keep::Nothing);
            let out = match stage.global.output {
                Format::Json | Format::Kubernetes => json_text(&fresh.document)?,
                Format::Table | Format::Wide | Format::Yaml | Format::Name => {
                    yaml_text(&fresh.document)?
                }
                Format::Sarif
                | Format::Junit
                | Format::Csv
                | Format::Policyreport
                | Format::Openreports
                | Format::Codequality => return Err(only_findings()),
                Format::Markdown => return Err(only_differences()),
                Format::Native | Format::Manifest => return Err(only_exports()),
                Format::Dot | Format::Svg => return Err(only_graphs()),
            };
            return stage.print(&Printed { out, err: String::new() });
        }
        (_, Some(file)) => file,
        (true, None) => stage.environment.kubeconfig.clone().ok_or_else(|| {
            Failure::usage("cannot tell which kubeconfig is yours").next("name it: `--file FILE`")
        })?,
    };
    let before = read(&target)?;
    if !args.merge
        && let Some(before) = &before
        && holds_others(before, &entries)
    {
        return Err(Failure::new(format!("refused to overwrite `{}`", target.display()))
            .why("it holds contexts that are not of this hub")
            .next("keep them: `nullius kubeconfig --merge --file FILE`"));
    }
    let keep = if args.only.cluster.is_some() { Keep::OtherClusters } else { Keep::Nothing };
    let after = merged(before.unwrap_or_default(), &entries, keep);
    write(&target, &yaml_text(&after.document)?)?;
    let names: Vec<_> = after.names.iter().map(|name| format!("`{name}`")).collect();
    stage.tell(&format!("wrote {} to {}\n", names.join(", "), target.display()));
    if let Some(first) = after.names.first() {
        stage.tell(&format!("next: `kubectl --context {first} get pods`\n"));
    }
    Ok(Exit::Ok)
}

/// The clusters that the person may reach, or the one that was named.
async fn reachable(
    hub: &Hub,
    only: Option<&ClusterName>,
) -> Result<BTreeSet<ClusterName>, Failure> {
    let call =
        Call::get("cannot list your clusters", route::ACCESS).query(&WhoseQuery::default())?;
    let rows: List<AccessRow> = hub.read(&call).await?;
    let mut clusters: BTreeSet<ClusterName> =
        rows.items.into_iter().map(|row| row.cluster).collect();
    if let Some(only) = only {
        if !clusters.contains(only) {
            return Err(Failure::new(format!("no grant lets you reach the cluster `{only}`"))
                .next("see what you may do: `nullius access list`")
                .exit_with(Exit::Denied));
        }
        clusters = BTreeSet::from([only.clone()]);
    }
    if clusters.is_empty() {
        return Err(Failure::new("there is no cluster to write")
            .why("no grant lets you reach one")
            .next("ask an admin for a grant; see what you may do: `nullius access list`")
            .exit_with(Exit::Denied));
    }
    Ok(clusters)
}

/// Which of our own older entries stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All are written anew; clusters that can no longer be reached go.
    Nothing,
    /// Those of clusters that are not being written.
    OtherClusters,
}

struct Merged {
    document: Value,
    /// The contexts that were written.
    names: Vec<String>,
}

/// A kubeconfig taken apart: what is not ours is carried along as it is.
struct Config {
    rest: Map<String, Value>,
    clusters: Vec<Value>,
    users: Vec<Value>,
    contexts: Vec<Value>,
}

impl Config {
    fn of(mut fields: Map<String, Value>) -> Self {
        let mut section = |name: &str| match fields.remove(name) {
            Some(Value::Array(items)) => items,
            Some(_) | None => Vec::new(),
        };
        let (clusters, users, contexts) =
            (section("clusters"), section("users"), section("contexts"));
        Self { rest: fields, clusters, users, contexts }
    }

    fn into_document(mut self) -> Value {
        self.rest.insert("apiVersion".to_owned(), json!("v1"));
        self.rest.insert("kind".to_owned(), json!("Config"));
        for (name, items) in
            [("clusters", self.clusters), ("users", self.users), ("contexts", self.contexts)]
        {
            self.rest.insert(name.to_owned(), Value::Array(items));
        }
        Value::Object(self.rest)
    }

    /// `nullius-CLUSTER`, with the context in it where another hub has that name.
    fn free_name(&self, cluster: &ClusterName, context: &ObjectName) -> String {
        let short = format!("nullius-{cluster}");
        let taken = self.contexts.iter().chain(&self.clusters).any(|item| name_of(item) == short);
        if taken { format!("nullius-{context}-{cluster}") } else { short }
    }
}

/// The kubeconfig with our entries in it.
fn merged(fields: Map<String, Value>, entries: &Entries<'_>, keep: Keep) -> Merged {
    let mut config = Config::of(fields);
    let user = user_of(entries);
    let prefix = format!("{}/clusters/", entries.hub);
    let goes = |cluster: &Value| {
        let server = cluster["cluster"]["server"].as_str().unwrap_or_default();
        server.strip_prefix(&prefix).is_some_and(|rest| {
            let name = rest.trim_end_matches('/');
            keep == Keep::Nothing || entries.clusters.iter().any(|cluster| cluster.as_str() == name)
        })
    };
    let gone: BTreeSet<String> = config
        .clusters
        .iter()
        .filter(|item| goes(item))
        .map(|item| name_of(item).to_owned())
        .collect();
    // A context that somebody made with another user of our clusters is theirs, and so is its cluster then.
    let foreign = |item: &Value| item["context"]["user"] != user.as_str();
    let used: BTreeSet<String> = config
        .contexts
        .iter()
        .filter(|item| foreign(item))
        .filter_map(|item| item["context"]["cluster"].as_str().map(str::to_owned))
        .collect();
    config.contexts.retain(|item| {
        foreign(item) || !gone.contains(item["context"]["cluster"].as_str().unwrap_or_default())
    });
    config.clusters.retain(|item| !gone.contains(name_of(item)) || used.contains(name_of(item)));
    config.users.retain(|item| name_of(item) != user);
    let mut names = Vec::new();
    for cluster in &entries.clusters {
        let name = config.free_name(cluster, entries.context);
        config.clusters.push(json!({
            "name": name,
            "cluster": {
                "server": format!("{prefix}{cluster}/"),
                "certificate-authority-data": STANDARD.encode(entries.ca),
            },
        }));
        config.contexts.push(json!({ "name": name, "context": { "cluster": name, "user": user } }));
        names.push(name);
    }
    config.users.push(json!({ "name": user, "user": { "exec": exec(entries) } }));
    let current = config.rest.get("current-context").and_then(Value::as_str).unwrap_or_default();
    let stands = config.contexts.iter().any(|item| name_of(item) == current);
    if !stands && let Some(first) = names.first() {
        config.rest.insert("current-context".to_owned(), json!(first));
    }
    Merged { document: config.into_document(), names }
}

fn exec(entries: &Entries<'_>) -> Value {
    json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": entries.program.to_string_lossy(),
        "args": ["kubeconfig", "credential"],
        "env": [
            { "name": "NULLIUS_HOME", "value": entries.home.to_string_lossy() },
            { "name": "NULLIUS_CONTEXT", "value": entries.context },
        ],
        "interactiveMode": "IfAvailable",
        "provideClusterInfo": false,
        "installHint": "kubectl signs in through nullius; see `nullius login --help`",
    })
}

fn name_of(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

fn user_of(entries: &Entries<'_>) -> String {
    format!("nullius-{}", entries.context)
}

fn holds_others(fields: &Map<String, Value>, entries: &Entries<'_>) -> bool {
    let user = user_of(entries);
    let contexts = fields.get("contexts").and_then(Value::as_array);
    contexts.is_some_and(|items| items.iter().any(|item| item["context"]["user"] != user.as_str()))
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_failure("read", path, error)),
    };
    let refused = |why: String| {
        Failure::new(format!("cannot read the kubeconfig `{}`", path.display()))
            .why(why)
            .next("mend it, or write another file: `--file FILE`")
    };
    let documents = parse(&text, Dialect::Strict)
        .map_err(|error| refused(format!("line {}: {}", error.line, error.message)))?;
    match documents.as_slice() {
        [] => Ok(None),
        [document] => match document.to_json() {
            Value::Object(fields) => Ok(Some(fields)),
            _ => Err(refused("it is no mapping".to_owned())),
        },
        _ => Err(refused("it holds more than one document".to_owned())),
    }
}

/// Writes through symbolic links, as kubectl does.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let target: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)
            .map_err(|error| file_failure("make the directory", folder, error))?;
    }
    write_private(&target, text)
}

#[cfg(test)]
#[path = "kubeconfig/tests.rs"]
mod tests;
