//! `audit list|show|tail|verify`, `usage show`.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
};

use nullius_api::{
    AnchoredCheckpoint, AuditAnchors, AuditQuery, AuditRow, AuditVerdict, List, UsageQuery,
    UsageRow, route,
};
use nullius_audit::{AnchorReader, Anchors, canonical_json, to_k8s_event};
use nullius_model::{AuditEvent, AuditId, AuditKind, KubeCall, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    ResultForm,
    args::{AuditCommand, AuditFilter, AuditList, AuditVerify, UsageCommand, UsageShow},
    client::{Call, Hub},
    failure::{Exit, Failure},
    output::{
        Format, Listing, Printed, Single, Table, Titles, escape, json_text, json_value,
        only_differences, only_exports, only_findings, only_graphs, properties, relative,
    },
    stage::Stage,
};

/// Runs a command on the audit.
pub(crate) async fn run(stage: &mut Stage, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::List(args) => list(stage, args).await,
        AuditCommand::Show { id } => show(stage, id).await,
        AuditCommand::Tail(filter) => tail(stage, filter).await,
        AuditCommand::Verify(args) => verify(stage, args).await,
    }
}

fn query(filter: AuditFilter) -> AuditQuery {
    AuditQuery {
        user: filter.user,
        cluster: filter.cluster,
        session: filter.session,
        kind: filter.kind,
        outcome: filter.outcome,
        verb: filter.verb,
        resource: filter.resource,
        namespace: filter.namespace,
        ..AuditQuery::default()
    }
}

async fn list(stage: &mut Stage, args: AuditList) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let mut query = query(requests_only(stage, args.filter)?);
    query.since = args.since.map(|moment| moment.from(now));
    query.until = args.until.map(|moment| moment.from(now));
    let rows = pages(&hub, "cannot read the audit", route::AUDIT, args.limit, |limit, after| {
        query.limit = Some(limit);
        query.after = after;
        json_value(&query)
    })
    .await?;
    let empty = "no event matches; events are kept from the hub's first start on, and only auditors see those of others";
    stage_list(stage, &rows, empty)
}

/// Only what happened at an API server has the form that Kubernetes has for events.
fn requests_only(stage: &Stage, mut filter: AuditFilter) -> Result<AuditFilter, Failure> {
    if stage.global.output != Format::Kubernetes {
        return Ok(filter);
    }
    match filter.kind {
        Some(AuditKind::KubeRequest | AuditKind::Admission | AuditKind::ApiServer) => Ok(filter),
        None => {
            filter.kind = Some(AuditKind::KubeRequest);
            Ok(filter)
        }
        Some(_) => Err(Failure::usage(
            "only events of kind `kube-request`, `admission` or `api-server` have the form of Kubernetes",
        )
        .next("leave `--kind` out, or use `-o json`")),
    }
}

/// An audit.k8s.io/v1 `EventList`.
fn kubernetes_list(rows: &[AuditRow]) -> Result<Printed, Failure> {
    let items: Vec<Value> = rows.iter().filter_map(|row| to_k8s_event(&row.event)).collect();
    let left_out = rows.len() - items.len();
    let err = match left_out {
        0 => String::new(),
        _ => format!(
            "{} left out: no request to a cluster\n",
            counted(left_out as u64, "event", "events")
        ),
    };
    let list = json!({
        "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items,
    });
    Ok(Printed { out: json_text(&list)?, err })
}

fn stage_list(stage: &mut Stage, rows: &[AuditRow], empty: &str) -> Result<Exit, Failure> {
    if stage.global.output == Format::Kubernetes {
        return stage.print(&kubernetes_list(rows)?);
    }
    let now = stage.now();
    let mut table = event_table();
    for row in rows {
        event_row(&mut table, &row.event, &relative(row.event.at, now));
    }
    stage.list(Listing {
        kind: "AuditEventList",
        items: rows.iter().map(json_value).collect::<Result<_, _>>()?,
        table,
        names: rows.iter().map(|row| row.event.audit_id.to_string()).collect(),
        empty: empty.to_owned(),
    })
}

/// Pages of a list until `limit` rows are there.
async fn pages<T: DeserializeOwned>(
    hub: &Hub,
    what: &str,
    path: &str,
    limit: u32,
    mut query: impl FnMut(u32, Option<String>) -> Result<Value, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut rows: Vec<T> = Vec::new();
    let mut after = None;
    loop {
        let missing = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let page: List<T> =
            hub.read(&Call::get(what, path).query(&query(missing.min(1_000), after)?)?).await?;
        let came = page.items.len();
        rows.extend(page.items);
        after = page.next;
        if after.is_none() || came == 0 || rows.len() >= limit as usize {
            rows.truncate(limit as usize);
            return Ok(rows);
        }
    }
}

fn event_table() -> Table {
    Table::new(["WHEN", "WHO", "WHAT", "OUTCOME", "WHERE", "ON", "SOURCE", "AUDIT-ID", "WHY"])
        .wide("SOURCE")
        .wide("AUDIT-ID")
        .sentence_last()
}

fn event_row(table: &mut Table, event: &AuditEvent, when: &str) {
    table.row([
        when.to_owned(),
        who(event),
        match &event.kube {
            Some(call) if event.kind == AuditKind::Admission => format!("admission {}", call.verb),
            Some(call) if event.kind == AuditKind::ApiServer => format!("api-server {}", call.verb),
            Some(call) => call.verb.clone(),
            None => event.kind.as_str().to_owned(),
        },
        match event.kube.as_ref().map(|call| call.code).filter(|code| *code > 0) {
            Some(code) => format!("{} {code}", event.outcome.as_str()),
            None => event.outcome.as_str().to_owned(),
        },
        event.cluster.as_ref().map_or_else(|| "hub".to_owned(), ToString::to_string),
        match &event.kube {
            Some(call) => what_of(call),
            None => event.target.clone().unwrap_or_default(),
        },
        event.source.map(|source| source.to_string()).unwrap_or_default(),
        event.audit_id.to_string(),
        event
            .explanation
            .as_ref()
            .map(|explanation| explanation.sentence.clone())
            .unwrap_or_default(),
    ]);
}

/// `pods/exec shop/web-1`, or the path of what is no resource.
fn what_of(call: &KubeCall) -> String {
    if !call.is_resource {
        return call.request_uri.clone();
    }
    let mut text = call.resource.clone();
    for (mark, part) in [('.', &call.api_group), ('/', &call.subresource)] {
        if !part.is_empty() {
            text.push(mark);
            text.push_str(part);
        }
    }
    let object = match (call.namespace.as_str(), call.name.as_str()) {
        ("", "") => String::new(),
        ("", name) => format!(" {name}"),
        (namespace, "") => format!(" {namespace}"),
        (namespace, name) => format!(" {namespace}/{name}"),
    };
    text + &object
}

async fn show(stage: &mut Stage, id: AuditId) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let query =
        AuditQuery { audit_id: Some(id.clone()), limit: Some(100), ..AuditQuery::default() };
    let call = Call::get("cannot read the audit", route::AUDIT).query(&query)?;
    let mut rows: List<AuditRow> = hub.read(&call).await?;
    rows.items.sort_by_key(|row| row.position);
    if rows.items.is_empty() {
        return Err(Failure::new(format!("no event has the Audit-ID `{id}`"))
            .next("list events: `nullius audit list -o wide`"));
    }
    if !stage.is_for_people() {
        return stage_list(stage, &rows.items, "");
    }
    let now = stage.now();
    let text: Vec<String> = rows.items.iter().map(|row| in_full(row, now)).collect();
    stage.environment.terminal.print(&text.join("\n"))?;
    Ok(Exit::Ok)
}

/// Who it was, and as whom they acted.
fn who(event: &AuditEvent) -> String {
    let who = event.principal.label();
    match event.facts.get("impersonated") {
        Some(whom) => format!("{who} as {whom}"),
        None => who,
    }
}

fn in_full(row: &AuditRow, now: Timestamp) -> String {
    let event = &row.event;
    let explanation = event.explanation.as_ref();
    let mut lines = vec![
        ("Audit-ID", event.audit_id.to_string()),
        ("When", format!("{} ({})", event.at, relative(event.at, now))),
        ("What", event.kind.as_str().to_owned()),
        ("Outcome", event.outcome.as_str().to_owned()),
        ("Who", who(event)),
        ("Session", event.session.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("From", event.source.map(|source| source.to_string()).unwrap_or_default()),
        ("Cluster", event.cluster.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Target", event.target.clone().unwrap_or_default()),
    ];
    if let Some(call) = &event.kube {
        lines.extend([
            ("Request", format!("{} {}", call.verb, call.request_uri)),
            ("Resource", if call.is_resource { what_of(call) } else { String::new() }),
            ("Client", call.user_agent.clone()),
            ("Status", status_of(event, call)),
        ]);
    }
    lines.extend([
        ("Why", explanation.map(|why| why.sentence.clone()).unwrap_or_default()),
        ("Rule", explanation.and_then(|why| why.rule.clone()).unwrap_or_default()),
        ("Permission", event.permission.as_ref().map(ToString::to_string).unwrap_or_default()),
        (
            "Chain",
            format!(
                "writer {} epoch {} entry {} hash {}",
                row.writer, row.epoch, row.seq, row.hash
            ),
        ),
    ]);
    let mut text = properties(&lines);
    for (name, value) in &event.facts {
        text.push_str(&format!("  {} = {}\n", escape::cell(name), escape::cell(value)));
    }
    text
}

/// How a request stands; one that admission let in is told of no further.
fn status_of(event: &AuditEvent, call: &KubeCall) -> String {
    match (call.code, event.kind) {
        (0, AuditKind::Admission) => String::new(),
        (0, _) => "running".to_owned(),
        (code, _) => code.to_string(),
    }
}

async fn tail(stage: &mut Stage, filter: AuditFilter) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let query = query(requests_only(stage, filter)?);
    let call = Call::get("cannot follow the audit", route::AUDIT_TAIL).query(&query)?;
    let mut lines = hub.stream(&call).await?;
    while let Some(line) = lines.next().await? {
        // The hub sends empty lines to keep the connection alive.
        if line.is_empty() {
            continue;
        }
        let row: AuditRow = serde_json::from_slice(&line)
            .map_err(|error| Failure::new("an event cannot be read").because(error))?;
        let text = match stage.global.output {
            Format::Json | Format::Yaml => escape::json(&String::from_utf8_lossy(&line)) + "\n",
            Format::Kubernetes => match to_k8s_event(&row.event) {
                None => continue,
                Some(event) => {
                    canonical_json(&event).map_err(|error| {
                        Failure::new("cannot write an event as JSON").because(error)
                    })? + "\n"
                }
            },
            Format::Name => format!("{}\n", row.event.audit_id),
            Format::Table | Format::Wide => {
                let mut table = event_table();
                event_row(&mut table, &row.event, &short_time(row.event.at));
                let mut layout = stage.layout();
                layout.titles = Titles::Hidden;
                table.render(layout)
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
        stage.environment.terminal.print(&text)?;
    }
    Err(Failure::new("the hub ended the audit's stream")
        .next("follow it again: `nullius audit tail`"))
}

/// `2026-05-01T12:00:00Z`, without the fraction.
fn short_time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

async fn verify(stage: &mut Stage, args: AuditVerify) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let what = "cannot verify the audit";
    let verdict: AuditVerdict = match &args.anchor {
        None => hub.read(&Call::get(what, route::AUDIT_VERIFY)).await?,
        Some(path) => {
            let anchors = read_anchors(path)?;
            let checkpoints = anchors.checkpoints.iter().map(|signed| AnchoredCheckpoint {
                body: signed.body.clone(),
                signature: hex::encode(&signed.signature),
            });
            let body = AuditAnchors { checkpoints: checkpoints.collect() };
            let mut verdict: AuditVerdict =
                hub.read(&Call::post(what, route::AUDIT_VERIFY, &body)?).await?;
            verdict.anchored = Some(anchors.count);
            verdict
        }
    };
    let (text, exit) = verdict_text(&verdict);
    let name = if verdict.intact { "intact" } else { "broken" }.to_owned();
    stage.single(Single { kind: "AuditVerdict", value: json_value(&verdict)?, text, name })?;
    Ok(exit)
}

/// Reads the checkpoints that were kept elsewhere: a file, or the one in a directory.
pub fn read_anchors(path: &Path) -> Result<Anchors, Failure> {
    let path = if path.is_dir() { path.join("checkpoints.jsonl") } else { path.to_owned() };
    let unreadable = || Failure::new(format!("cannot read the anchor `{}`", path.display()));
    let file = std::fs::File::open(&path).map_err(|error| unreadable().because(error))?;
    let mut reader = AnchorReader::default();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| unreadable().because(error))?;
        reader.line(&line).map_err(|error| unreadable().because(error))?;
    }
    reader.finish().map_err(|error| unreadable().because(error))
}

/// The verdict on a state directory as text, with the exit code.
pub fn tell_verdict(verdict: &AuditVerdict, form: ResultForm) -> Result<(String, Exit), Failure> {
    let (text, exit) = verdict_text(verdict);
    if form == ResultForm::Text {
        return Ok((text, exit));
    }
    let value = json_value(verdict)?;
    let name = String::new();
    let single = Single { kind: "AuditVerdict", value, text, name };
    Ok((single.print(Format::Json)?.out, exit))
}

fn verdict_text(verdict: &AuditVerdict) -> (String, Exit) {
    let entries = counted(verdict.entries, "entry", "entries");
    let checkpoints = counted(verdict.checkpoints, "signed checkpoint", "signed checkpoints");
    let text = match &verdict.broken {
        None if verdict.intact => {
            let anchored = match verdict.anchored {
                Some(1) => "\n  and 1 anchored checkpoint is in it".to_owned(),
                Some(count) => format!("\n  and all {count} anchored checkpoints are in it"),
                None => String::new(),
            };
            format!("the chain is whole: {entries} and {checkpoints}{anchored}\n")
        }
        broken => format!(
            "the chain is BROKEN: {}\n  {entries} and {checkpoints} were read\n",
            escape::lines(broken.as_deref().unwrap_or("the hub does not say where")),
        ),
    };
    (text, if verdict.intact { Exit::Ok } else { Exit::Denied })
}

fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// Runs a command on uses.
pub(crate) async fn run_usage(stage: &mut Stage, command: UsageCommand) -> Result<Exit, Failure> {
    match command {
        UsageCommand::Show(args) => usage(stage, args).await,
    }
}

async fn usage(stage: &mut Stage, args: UsageShow) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let mut query = UsageQuery {
        user: args.user,
        cluster: args.cluster,
        since: args.since.map(|moment| moment.from(now)),
        ..UsageQuery::default()
    };
    let rows: Vec<UsageRow> =
        pages(&hub, "cannot read uses", route::USAGE, args.limit, |limit, after| {
            query.limit = Some(limit);
            query.after = after;
            json_value(&query)
        })
        .await?;
    let mut table = Table::new([
        "WHO",
        "WHERE",
        "VERB",
        "RESOURCE",
        "ALLOWED",
        "COUNT",
        "FIRST",
        "LAST",
        "PERMISSION",
        "SAMPLE",
    ])
    .wide("FIRST")
    .wide("PERMISSION")
    .wide("SAMPLE");
    for row in &rows {
        table.row([
            row.key.principal.clone(),
            row.key.cluster.clone(),
            row.key.action.clone(),
            row.key.resource.clone(),
            if row.key.allowed { "yes" } else { "no" }.to_owned(),
            row.count.to_string(),
            relative(row.first, now),
            relative(row.last, now),
            row.key.permission.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.sample.to_string(),
        ]);
    }
    let names = rows.iter().map(|row| row.sample.to_string()).collect();
    let items = rows.iter().map(json_value).collect::<Result<_, _>>()?;
    let empty = "nothing was used yet in what you asked for; uses are recorded with each request"
        .to_owned();
    stage.list(Listing { kind: "UsageList", items, table, names, empty })
}
