//! `findings list|show`.

mod reports;

use nullius_api::{FindingList, FindingScan, FindingsQuery, route};
use nullius_model::{Finding, FindingState, Timestamp};

use crate::{
    args::{FindingsCommand, FindingsList},
    client::{Call, Hub, fill},
    failure::{Exit, Failure},
    output::{Format, Listing, Printed, Single, Table, escape, json_value, properties, relative},
    stage::Stage,
};

const WHAT: &str = "cannot list findings";
/// Characters of an id in a table: `show` takes the beginning of one.
const SHORT_ID: usize = 12;
/// More than a hub keeps of a cluster.
const ALL: u32 = 1_000_000;

/// Runs a command on findings.
pub(crate) async fn run(stage: &mut Stage, command: FindingsCommand) -> Result<Exit, Failure> {
    match command {
        FindingsCommand::List(args) => list(stage, args).await,
        FindingsCommand::Show { id } => show(stage, &id).await,
    }
}

async fn list(stage: &mut Stage, args: FindingsList) -> Result<Exit, Failure> {
    let form = stage.global.output;
    let hub = stage.hub()?;
    let now = stage.now();
    let query = FindingsQuery {
        cluster: args.cluster,
        namespace: args.namespace,
        severity: args.severity,
        policy: args.policy,
        state: args.state,
        kind: args.kind,
        since: args.since.map(|moment| moment.from(now)),
        ..FindingsQuery::default()
    };
    if let Some(kind) = reports::ReportKind::of(form) {
        return write_reports(stage, &hub, query, kind).await;
    }
    let found = pages(&hub, query.clone(), args.limit).await?;
    if form == Format::Csv {
        return stage.print(&Printed { out: csv(&found.items), err: beside(&found.scans) });
    }
    let mut table = table();
    for finding in &found.items {
        row(&mut table, finding, now);
    }
    let empty = why_empty(&query, &found.scans, now);
    if !found.items.is_empty() {
        stage.tell(&beside(&found.scans));
    }
    stage.list(Listing {
        kind: "FindingList",
        items: found.items.iter().map(json_value).collect::<Result<_, _>>()?,
        table,
        names: found.items.iter().map(|finding| finding.id.to_string()).collect(),
        empty,
    })
}

/// Reports of one cluster, of what is open, accepted and mended.
async fn write_reports(
    stage: &mut Stage,
    hub: &Hub,
    query: FindingsQuery,
    kind: reports::ReportKind,
) -> Result<Exit, Failure> {
    let mut found = pages(hub, query.clone(), ALL).await?;
    if query.state.is_none() {
        let mended = FindingsQuery { state: Some(FindingState::Resolved), ..query.clone() };
        found.items.extend(pages(hub, mended, ALL).await?.items);
    }
    let mut clusters: Vec<_> = found.items.iter().map(|finding| &finding.cluster).collect();
    clusters.sort();
    clusters.dedup();
    if clusters.len() > 1 {
        return Err(Failure::usage(
            "a report is of one cluster, and there are findings of several",
        )
        .next("name the cluster: `nullius findings list -c NAME -o policyreport`"));
    }
    if found.items.is_empty() {
        stage.tell(&(escape::lines(&why_empty(&query, &found.scans, stage.now())) + "\n"));
        return Ok(Exit::Ok);
    }
    let out = reports::documents(kind, &found.items)?;
    stage.print(&Printed { out, err: beside(&found.scans) })
}

/// Pages until `limit` findings are there.
async fn pages(hub: &Hub, mut query: FindingsQuery, limit: u32) -> Result<FindingList, Failure> {
    let mut all = FindingList { items: Vec::new(), next: None, scans: Vec::new() };
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let missing = wanted.saturating_sub(all.items.len()).min(1_000);
        query.limit = u32::try_from(missing).ok();
        query.after = all.next.take();
        let page: FindingList = hub.read(&Call::get(WHAT, route::FINDINGS).query(&query)?).await?;
        let came = page.items.len();
        all.items.extend(page.items);
        all.scans = page.scans;
        all.next = page.next;
        if all.next.is_none() || came == 0 || all.items.len() >= wanted {
            all.items.truncate(wanted);
            return Ok(all);
        }
    }
}

fn table() -> Table {
    let titles = [
        "SEVERITY",
        "CLUSTER",
        "OBJECT",
        "POLICY",
        "CHECK",
        "EFFECT",
        "STATE",
        "FIRST SEEN",
        "LAST SEEN",
        "ID",
        "MESSAGE",
    ];
    Table::new(titles).wide("EFFECT").wide("LAST SEEN").sentence_last()
}

fn row(table: &mut Table, finding: &Finding, now: Timestamp) {
    let pods = if finding.part == nullius_model::FoundPart::Pods { " (pods)" } else { "" };
    table.row([
        finding.severity.to_string(),
        finding.cluster.to_string(),
        finding.object.label() + pods,
        finding.policy.clone(),
        finding.check.clone(),
        finding.enforcement.to_string(),
        finding.state.to_string(),
        relative(finding.first_seen, now),
        relative(finding.last_seen, now),
        finding.id.as_str().chars().take(SHORT_ID).collect(),
        finding.message.clone(),
    ]);
}

/// What a list does not show though it should: what could not be judged, and what is not kept.
fn beside(scans: &[FindingScan]) -> String {
    let mut text = String::new();
    for scan in scans {
        if scan.folded > 0 {
            text.push_str(&format!(
                "{} more findings of `{}` are not kept: mend or accept some of those that are\n",
                scan.folded, scan.cluster
            ));
        }
        for fault in &scan.faults {
            text.push_str(&format!("in `{}`: {}\n", scan.cluster, escape::cell(fault)));
        }
    }
    text
}

/// Why there is nothing to list, and what to do next.
fn why_empty(query: &FindingsQuery, scans: &[FindingScan], now: Timestamp) -> String {
    let narrowed = query.namespace.is_some()
        || query.severity.is_some()
        || query.policy.is_some()
        || query.state.is_some()
        || query.kind.is_some()
        || query.since.is_some();
    if scans.is_empty() {
        let place = match &query.cluster {
            Some(cluster) => format!("cluster `{cluster}` was"),
            None => "no cluster that you may see was".to_owned(),
        };
        let not = if query.cluster.is_some() { "never " } else { "ever " };
        return format!(
            "nothing is known: {place} {not}scanned\nfindings come from `nullius agent admission` in the cluster; \
             see which agents run: `nullius cluster list`"
        );
    }
    let each = scans.iter().map(|scan| match scan.finished_at {
        None => format!("the first scan of `{}` is under way", scan.cluster),
        Some(at) => format!(
            "the scan of `{}` ended {} and looked at {} objects with {} policies",
            scan.cluster,
            relative(at, now),
            scan.objects,
            scan.policies
        ),
    });
    let each: Vec<_> = each.collect();
    let first = match narrowed {
        true => "no finding matches; leave a filter out to see more",
        false => "nothing was found",
    };
    format!("{first}\n{}\n{}", each.join("\n"), beside(scans)).trim_end().to_owned()
}

fn csv(findings: &[Finding]) -> String {
    let mut out = String::from(
        "id,severity,state,cluster,kind,namespace,name,part,policy,binding,check,effect,message,fix,firstSeen,lastSeen,resolvedAt\r\n",
    );
    for finding in findings {
        let resolved = finding.resolved_at.map(|at| at.to_string()).unwrap_or_default();
        let cells = [
            finding.id.as_str(),
            finding.severity.as_str(),
            finding.state.as_str(),
            finding.cluster.as_str(),
            &finding.object.kind,
            &finding.object.namespace,
            &finding.object.name,
            finding.part.as_str(),
            &finding.policy,
            &finding.binding,
            &finding.check,
            finding.enforcement.as_str(),
            &finding.message,
            &finding.fix,
            &finding.first_seen.to_string(),
            &finding.last_seen.to_string(),
            &resolved,
        ];
        out.push_str(&cells.map(csv_cell).join(","));
        out.push_str("\r\n");
    }
    out
}

/// A value as RFC 4180 has it; one that a spreadsheet would take for a formula is text.
fn csv_cell(text: &str) -> String {
    let mut safe = escape::cell(text);
    if safe.starts_with(['=', '+', '-', '@']) {
        safe.insert(0, '\'');
    }
    if safe.contains(['"', ',']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

async fn show(stage: &mut Stage, id: &str) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let what = format!("cannot show the finding `{}`", escape::cell(id));
    let finding: Finding = hub.read(&Call::get(what, fill(route::FINDING, &[id]))).await?;
    let text = in_full(&finding, stage.now());
    let name = finding.id.to_string();
    stage.single(Single { kind: "Finding", value: json_value(&finding)?, text, name })
}

fn in_full(finding: &Finding, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{at} ({})", relative(at, now));
    let waiver = finding.waiver.as_ref();
    let mut text = properties(&[
        ("Id", finding.id.to_string()),
        ("Severity", finding.severity.to_string()),
        ("State", finding.state.to_string()),
        ("Cluster", finding.cluster.to_string()),
        ("Object", finding.object.label()),
        ("Api version", finding.object.api_version.clone()),
        ("Part", finding.part.to_string()),
        ("Policy", finding.policy.clone()),
        ("Binding", finding.binding.clone()),
        ("Check", finding.check.clone()),
        ("Effect", effect(finding).to_owned()),
        ("Message", finding.message.clone()),
        ("Fix", finding.fix.clone()),
        ("Accepted by", waiver.map(|waiver| waiver.owner.clone()).unwrap_or_default()),
        ("Accepted for", waiver.map(|waiver| waiver.reason.clone()).unwrap_or_default()),
        ("Accepted until", waiver.map(|waiver| waiver.expires.clone()).unwrap_or_default()),
        ("First seen", when(finding.first_seen)),
        ("Last seen", when(finding.last_seen)),
        ("Resolved", finding.resolved_at.map(when).unwrap_or_default()),
    ]);
    for piece in &finding.evidence {
        text.push_str(&format!("  {}\n", escape::cell(piece)));
    }
    text
}

/// What the cluster makes of such an object when it comes anew.
fn effect(finding: &Finding) -> &'static str {
    use nullius_model::Enforcement;
    match finding.enforcement {
        Enforcement::Deny => "deny: the cluster refuses such an object",
        Enforcement::Warn => "warn: the cluster takes such an object and warns its sender",
        Enforcement::Audit => "audit: the cluster takes such an object and notes it",
        Enforcement::Inform => "inform: the cluster takes such an object",
    }
}
