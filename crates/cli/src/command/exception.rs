//! `nullius exception list`: what somebody accepts of what policies find, and whether it counts.

use std::{collections::BTreeSet, io};

use nullius_kube::{ADMISSION_STATUS, ClusterReader, Listed, ReadError, SYSTEM_NAMESPACE};
use nullius_manifest::{Found, Manifest, objects, walk};
use nullius_model::{API_VERSION, Timestamp, Ttl};
use nullius_policy::exception::{Exception, KIND};
use serde_json::{Value as Json, json};

use super::record::{reader, unreachable};
use crate::{
    args::{ExceptionCommand, ExceptionList},
    failure::{Exit, Failure},
    output::{Listing, Table, escape, relative},
    stage::Stage,
};

/// The ConfigMap of the agent, and its key that says in which namespaces exceptions count.
const AGENT_CONFIG: (&str, &str) = ("nullius-agent", "exception-namespaces");

/// Runs a command on exceptions.
pub(crate) async fn run(stage: &mut Stage, command: ExceptionCommand) -> Result<Exit, Failure> {
    let ExceptionCommand::List(args) = command;
    let now = stage.now();
    let stock = match args.files.is_empty() {
        true => of_cluster(stage, &args).await?,
        false => of_files(&args),
    };
    let homes = stock.homes.as_ref();
    let mut rows: Vec<Row> = stock
        .exceptions
        .iter()
        .map(|(site, object)| Row::new(site.as_ref(), object, homes, now))
        .collect();
    let all = rows.len();
    rows.retain(|row| row.is_asked_for(&args, now));
    rows.sort_by_key(|row| (row.ends, row.full_name()));

    let mut table = Table::new(TITLES).wide("SCOPE").sentence_last();
    for row in &rows {
        row.cells(now).into_iter().for_each(|cells| table.row(cells));
    }
    let mut told: Vec<String> =
        stock.errors.iter().map(|error| format!("error: {error}")).collect();
    told.extend(rows.iter().filter_map(Row::why).map(|why| format!("note: {why}")));
    told.extend(rows.iter().filter_map(Row::places).map(|places| format!("note: {places}")));
    told.extend(stock.told_of(&rows).map(|line| format!("note: {line}")));
    stage.tell(&told.iter().map(|line| escape::lines(line) + "\n").collect::<String>());
    let empty = match all {
        0 => stock.empty,
        all => format!("none of {all} exceptions is asked for: leave out a flag to see more"),
    };
    stage.list(Listing {
        kind: "ExceptionList",
        items: rows.iter().map(Row::document).collect(),
        table,
        names: rows.iter().map(Row::full_name).collect(),
        empty,
    })?;
    Ok(if stock.errors.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// A file, and an object in it.
type Site = (String, Manifest);

const TITLES: [&str; 9] =
    ["NAMESPACE", "NAME", "POLICY", "CHECKS", "SCOPE", "OWNER", "ENDS", "STATE", "REASON"];

/// Exceptions, and what is known of where they stand.
struct Stock {
    /// Each with its file and where it stands in it; of a cluster nothing.
    exceptions: Vec<(Option<Site>, Json)>,
    /// The namespaces whose exceptions count; `None` where that is not known, or any do.
    homes: Option<BTreeSet<String>>,
    /// What the agent says that does not count.
    troubles: Vec<String>,
    errors: Vec<String>,
    /// Why there are none.
    empty: String,
}

impl Stock {
    /// What the agent says of exceptions and of their policies.
    fn told_of<'a>(&'a self, rows: &'a [Row]) -> impl Iterator<Item = &'a str> {
        let shown = rows.iter().filter(|row| row.state == State::InForce);
        let names: BTreeSet<String> = shown
            .flat_map(|row| {
                let policies =
                    row.rules().map(|(policy, _)| format!("ValidatingAdmissionPolicy/{policy}:"));
                policies.chain([format!("{KIND}/{}:", row.full_name())]).collect::<Vec<_>>()
            })
            .collect();
        let is_of = move |line: &&str| names.iter().any(|name| line.starts_with(name.as_str()));
        self.troubles.iter().map(String::as_str).filter(is_of)
    }
}

/// The exceptions of files, wherever they count.
fn of_files(args: &ExceptionList) -> Stock {
    let mut exceptions = Vec::new();
    let mut errors = Vec::new();
    walk(&args.files, &mut io::stdin().lock(), &mut |source| match source {
        Err(unreadable) => errors.push(format!("{}: {}", unreadable.name, unreadable.message)),
        Ok(source) => objects(&source.text, |found| match found {
            Found::Object(each) if each.api_version == API_VERSION && each.kind == KIND => {
                let object = each.to_json();
                exceptions.push((Some((source.name.clone(), each)), object));
            }
            Found::Object(_) | Found::Other(_) => {}
            Found::Fault(fault) => {
                errors.push(format!("{}:{}: {}", source.name, fault.place.line, fault.message));
            }
        }),
    });
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let empty = format!("no `{KIND}` stands in `{}`", names.join("`, `"));
    Stock { exceptions, homes: None, troubles: Vec::new(), errors, empty }
}

/// The exceptions of the cluster of a kubeconfig.
async fn of_cluster(stage: &Stage, args: &ExceptionList) -> Result<Stock, Failure> {
    let reader = reader(stage, &args.cluster).await?;
    let listed = Listed {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        resource: "policyexceptions".to_owned(),
        namespace: args.namespace.clone(),
        name: None,
    };
    let none = |empty: &str| Stock {
        exceptions: Vec::new(),
        homes: None,
        troubles: Vec::new(),
        errors: Vec::new(),
        empty: empty.to_owned(),
    };
    let exceptions = match reader.list(&listed).await {
        Ok(exceptions) => exceptions.into_iter().map(|object| (None, object)).collect(),
        Err(ReadError::Absent { .. }) => {
            return Ok(none(
                "the cluster has no kind `PolicyException`: the join manifest of an agent brings it; of files use `-f`",
            ));
        }
        Err(error) => return Err(unreachable("nothing can be listed", error)),
    };
    let mut errors = Vec::new();
    let mut homes = None;
    match config_map(&reader, AGENT_CONFIG.0).await {
        Ok(Some(data)) => {
            let named = data.get(AGENT_CONFIG.1).and_then(Json::as_str).unwrap_or(SYSTEM_NAMESPACE);
            homes = Some(named.split(',').map(|name| name.trim().to_owned()).collect());
        }
        Ok(None) => homes = Some(BTreeSet::new()),
        Err(error) => {
            errors.push(format!("in which namespaces exceptions count is not known: {error}"));
        }
    }
    let status = config_map(&reader, ADMISSION_STATUS).await;
    let status = status.ok().flatten();
    let troubles = status.as_ref().and_then(|data| data.get("troubles")).and_then(Json::as_str);
    let troubles = troubles.unwrap_or_default().lines().map(str::to_owned).collect();
    Ok(Stock {
        exceptions,
        homes,
        troubles,
        errors,
        ..none("there is no exception: nothing that policies find is accepted")
    })
}

/// The data of a ConfigMap of the agent; `None` where there is none.
async fn config_map(reader: &ClusterReader, name: &str) -> Result<Option<Json>, ReadError> {
    let listed = Listed {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        resource: "configmaps".to_owned(),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        name: Some(name.to_owned()),
    };
    let found = reader.list(&listed).await?;
    Ok(found.into_iter().next().map(|map| map.get("data").cloned().unwrap_or_default()))
}

/// Whether an exception counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InForce,
    Ended,
    Elsewhere,
    Refused,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Ended => "ended",
            Self::Elsewhere => "elsewhere",
            Self::Refused => "refused",
        }
    }
}

/// An exception as it is shown, whatever is wrong with it.
struct Row {
    site: String,
    namespace: String,
    name: String,
    spec: Json,
    /// Namespaces where its rules of Pod Security count, or why not; `null` where nobody says so.
    pod_security: Json,
    ends: Option<Timestamp>,
    state: State,
    /// Why it does not count.
    why: Option<String>,
}

impl Row {
    fn new(
        site: Option<&Site>,
        object: &Json,
        homes: Option<&BTreeSet<String>>,
        now: Timestamp,
    ) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Json::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let elsewhere = homes.filter(|homes| !homes.contains(namespace)).map(|homes| {
            let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
            match homes.is_empty() {
                true => "no agent is in the cluster that would know of it".to_owned(),
                false => format!("exceptions count only in `{}`", homes.join("`, `")),
            }
        });
        let at = |field: &str| {
            let told = |(file, stands): &Site| format!("{file}:{}", stands.node().line_of(field));
            site.map(told).unwrap_or_default()
        };
        let mut place = at("");
        let (state, why) = match (Exception::read(object, now), elsewhere) {
            (Err(faults), _) => {
                place = faults.first().map(|fault| at(&fault.field)).unwrap_or(place);
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                (State::Refused, Some(faults.join("; ")))
            }
            (Ok(_), Some(why)) => (State::Elsewhere, Some(why)),
            (Ok(exception), None) if exception.holds_at(now) => (State::InForce, None),
            (Ok(_), None) => (State::Ended, None),
        };
        Self {
            site: place,
            namespace: namespace.to_owned(),
            name: text("/metadata/name").to_owned(),
            spec: object.get("spec").cloned().unwrap_or_default(),
            pod_security: object.pointer("/status/podSecurity").cloned().unwrap_or_default(),
            ends: text("/spec/expires").parse().ok(),
            state,
            why,
        }
    }

    fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    fn is_asked_for(&self, args: &ExceptionList, now: Timestamp) -> bool {
        let ends_within = |within: Ttl| {
            self.state == State::InForce && self.ends.is_some_and(|end| end <= within.after(now))
        };
        args.namespace.as_ref().is_none_or(|wanted| *wanted == self.namespace)
            && args
                .policy
                .as_ref()
                .is_none_or(|wanted| self.rules().any(|(policy, _)| policy == wanted))
            && args.expiring.is_none_or(ends_within)
    }

    /// The policies with the checks; none stands for all of them.
    fn rules(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let rules = self.spec.get("rules").and_then(Json::as_array).into_iter().flatten();
        rules.map(|rule| {
            let checks = rule.get("checks").and_then(Json::as_array).into_iter().flatten();
            let policy = rule.get("policy").and_then(Json::as_str).unwrap_or_default();
            (policy, checks.filter_map(Json::as_str).collect())
        })
    }

    fn text(&self, field: &str) -> String {
        self.spec.get(field).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// A line for each policy.
    fn cells(&self, now: Timestamp) -> Vec<[String; 9]> {
        let line = |policy: &str, checks: Vec<&str>| {
            let checks = if checks.is_empty() { "all".to_owned() } else { checks.join(", ") };
            [
                self.namespace.clone(),
                self.name.clone(),
                policy.to_owned(),
                checks,
                self.scope(),
                self.text("owner"),
                self.ends.map(|end| relative(end, now)).unwrap_or_default(),
                self.state.as_str().to_owned(),
                self.text("reason"),
            ]
        };
        let lines: Vec<_> = self.rules().map(|(policy, checks)| line(policy, checks)).collect();
        if lines.is_empty() { vec![line("", Vec::new())] } else { lines }
    }

    /// `namespaces: a, b; names: c`.
    fn scope(&self) -> String {
        let Some(Json::Object(scope)) = self.spec.get("scope") else { return String::new() };
        let told = scope.iter().map(|(field, value)| {
            let items = value.as_array().into_iter().flatten();
            let items: Vec<&str> = items
                .filter_map(|item| item.as_str().or_else(|| item.get("path")?.as_str()))
                .collect();
            format!("{field}: {}", items.join(", "))
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Why it does not count, for people.
    fn why(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        let name = self.full_name();
        Some(match self.site.as_str() {
            "" => format!("`{name}` does not count: {why}"),
            site => format!("{site}: `{name}` does not count: {why}"),
        })
    }

    /// Where its rules of Pod Security count, as the agent says.
    fn places(&self) -> Option<String> {
        let places = self.pod_security.as_array()?.iter().filter_map(|place| {
            let namespace = place.get("namespace")?.as_str()?;
            let since = place.get("inForceSince")?.as_str()?;
            Some(format!("`{namespace}` since {since}"))
        });
        let places: Vec<String> = places.collect();
        (self.state == State::InForce && !places.is_empty()).then(|| {
            format!("`{}` counts for Pod Security in {}", self.full_name(), places.join(", "))
        })
    }

    fn document(&self) -> Json {
        json!({
            "namespace": self.namespace,
            "name": self.name,
            "owner": self.text("owner"),
            "reason": self.text("reason"),
            "expires": self.spec.get("expires"),
            "rules": self.spec.get("rules"),
            "scope": self.spec.get("scope"),
            "state": self.state.as_str(),
            "why": self.why,
            "podSecurity": self.pod_security,
        })
    }
}
