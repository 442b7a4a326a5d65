//! A difference for people: lines with a sign, or Markdown for the page of a change.

use nullius_admission::{Change, Difference, Finding, PolicyChange, Right};

use crate::output::escape;

/// What comes begins with `+`, what goes with `-`, what is other with `~`.
pub(super) fn lines(difference: &Difference) -> String {
    let mut text = String::new();
    let mut part = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {}\n", escape::cell(line))));
        }
    };
    let findings = &difference.findings;
    let new = findings.new.iter().map(|each| format!("+ {}", finding(each)));
    part(
        "findings",
        new.chain(findings.gone.iter().map(|each| format!("- {}", finding(each)))).collect(),
    );
    let rights = &difference.rights;
    let gained = rights.gained.iter().map(|each| format!("+ {}", right(each)));
    part(
        "rights",
        gained.chain(rights.lost.iter().map(|each| format!("- {}", right(each)))).collect(),
    );
    part("policies", difference.policies.iter().flat_map(policy).collect());
    text
}

fn finding(finding: &Finding) -> String {
    let at = &finding.location;
    format!(
        "{} {}: {}: {} ({}:{}:{})",
        finding.severity,
        finding.check,
        finding.object.label(),
        finding.message,
        at.file,
        at.line,
        at.column
    )
}

fn right(right: &Right) -> String {
    let Right { subject, namespace, verbs, group, resource, name, through } = right;
    let verbs = verbs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let name = name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let place = match namespace {
        Some(namespace) => format!("in `{namespace}`"),
        None => "in the whole cluster".to_owned(),
    };
    match resource.split_once('/') {
        Some((kind, role)) if kind == "ClusterRole" || kind == "Role" => format!(
            "{subject} holds the {kind} `{role}`, which is not among the files, {place}, by {through}"
        ),
        _ => format!("{subject} may {verbs} `{resource}{group}`{name} {place}, by {through}"),
    }
}

fn policy(change: &PolicyChange) -> Vec<String> {
    let sign = match change.change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Weakened | Change::Changed | Change::Reworded | Change::Strengthened => '~',
    };
    let head = format!("{sign} {} {} `{}`", change.change.as_str(), change.kind, change.name);
    let told = [
        ("weaker", &change.weaker),
        ("stronger", &change.stronger),
        ("other", &change.other),
        ("words", &change.words),
    ];
    let told = told
        .into_iter()
        .flat_map(|(word, all)| all.iter().map(move |each| format!("    {word}: {each}")));
    std::iter::once(head).chain(told).collect()
}

/// What is other, one name a line.
pub(super) fn names(difference: &Difference) -> String {
    let findings = difference.findings.new.iter().map(|each| format!("+finding/{}", each.check));
    let gone = difference.findings.gone.iter().map(|each| format!("-finding/{}", each.check));
    let policies = difference
        .policies
        .iter()
        .map(|each| format!("{} {}/{}", each.change.as_str(), each.kind, each.name));
    let all = findings.chain(gone).chain(policies);
    all.map(|line| escape::cell(&line) + "\n").collect()
}

/// Tables for the page of a change.
pub(super) fn markdown(difference: &Difference) -> String {
    let mut text = format!("### Nullius: {}\n", summary(difference));
    let mut table = |title: &str, heads: [&str; 4], rows: Vec<[String; 4]>| {
        if rows.is_empty() {
            return;
        }
        text.push_str(&format!("\n**{title}**\n\n| {} |\n|---|---|---|---|\n", heads.join(" | ")));
        for row in rows {
            let cells = row.map(|cell| quoted(&cell));
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
    };
    let finding = |sign: &str, each: &Finding| {
        let place = format!("{}:{}", each.location.file, each.location.line);
        let what = format!("{} {}", each.severity, each.check);
        [sign.to_owned(), what, format!("{} ({place})", each.object.label()), each.message.clone()]
    };
    let findings = &difference.findings;
    let new = findings.new.iter().map(|each| finding("new", each));
    let gone = findings.gone.iter().map(|each| finding("gone", each));
    table("Findings", ["", "check", "object", "what"], new.chain(gone).collect());
    let row = |sign: &str, each: &Right| {
        let verbs = each.verbs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let group = if each.group.is_empty() { String::new() } else { format!(".{}", each.group) };
        let name = each.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        let place = each.namespace.as_deref().unwrap_or("whole cluster");
        [
            sign.to_owned(),
            each.subject.clone(),
            format!("{verbs} {}{group}{name}", each.resource),
            format!("{place}, by {}", each.through),
        ]
    };
    let rights = &difference.rights;
    let gained = rights.gained.iter().map(|each| row("gained", each));
    let lost = rights.lost.iter().map(|each| row("lost", each));
    table("Rights", ["", "who", "may", "where"], gained.chain(lost).collect());
    let rows = difference.policies.iter().map(|each| {
        let told: Vec<&str> = [&each.weaker, &each.stronger, &each.other, &each.words]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        [each.change.as_str().to_owned(), each.kind.clone(), each.name.clone(), told.join("; ")]
    });
    table("Policies", ["", "kind", "name", "how"], rows.collect());
    text
}

/// Text of others in a cell: it makes no markup, no row and no link.
fn quoted(text: &str) -> String {
    let mut safe = String::new();
    for c in escape::cell(text).chars() {
        if "\\`*_{}[]<>()#+!|~@".contains(c) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

fn summary(difference: &Difference) -> String {
    if difference.is_empty() {
        return "nothing is other".to_owned();
    }
    let weaker = difference.policies.iter().filter(|each| each.change <= Change::Weakened);
    let (namespaces, policies): (Vec<_>, Vec<_>) =
        weaker.partition(|each| each.kind == "Namespace");
    let (namespaces, policies) = (namespaces.len(), policies.len());
    let several = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let worse: Vec<String> = [
        several(difference.findings.new.len(), "finding more", "findings more"),
        several(difference.rights.gained.len(), "right more", "rights more"),
        several(
            policies,
            "policy or binding weaker or gone",
            "policies or bindings weaker or gone",
        ),
        several(namespaces, "namespace that enforces less", "namespaces that enforce less"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match worse.is_empty() {
        true => "nothing got worse".to_owned(),
        false => worse.join(", "),
    }
}

/// What could not be read, and the sums.
pub(super) fn beside(difference: &Difference) -> String {
    let mut text: String = difference.errors.iter().map(crate::command::scan::fault).collect();
    text.push_str(&format!("{}\n", summary(difference)));
    text
}
