//! `access list|explain`, `session list|end`.

use nullius_api::{AccessRow, ExplainAnswer, ExplainRequest, List, SessionInfo, WhoseQuery, route};

use crate::{
    args::{AccessCommand, AccessExplain, AccessList, SessionCommand, SessionEnd, SessionList},
    client::{Call, exchange, fill},
    failure::{Exit, Failure},
    object::describe::rule_sentence,
    output::{Listing, Single, Table, escape, json_value, relative},
    stage::Stage,
};

/// Runs a command on access.
pub(crate) async fn run(stage: &mut Stage, command: AccessCommand) -> Result<Exit, Failure> {
    match command {
        AccessCommand::List(args) => list(stage, args).await,
        AccessCommand::Explain(args) => explain(stage, args).await,
    }
}

/// Runs a command on sessions.
pub(crate) async fn run_session(
    stage: &mut Stage,
    command: SessionCommand,
) -> Result<Exit, Failure> {
    match command {
        SessionCommand::List(args) => sessions(stage, args).await,
        SessionCommand::End(args) => end(stage, args).await,
    }
}

async fn list(stage: &mut Stage, args: AccessList) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let query = WhoseQuery { user: args.user.clone(), all: false };
    let call = Call::get("cannot list access", route::ACCESS).query(&query)?;
    let rows: List<AccessRow> = hub.read(&call).await?;
    let narrowed = args.only.cluster.as_ref();
    let rows: Vec<AccessRow> = rows
        .items
        .into_iter()
        .filter(|row| narrowed.is_none_or(|cluster| row.cluster == *cluster))
        .collect();
    let now = stage.now();
    let mut table = Table::new([
        "CLUSTER",
        "NAMESPACES",
        "ROLE",
        "GRANT",
        "THROUGH",
        "UNTIL",
        "AGENT",
        "RULES",
    ])
    .wide("RULES");
    for row in &rows {
        let namespaces = row.namespaces.as_ref().map_or_else(
            || "all".to_owned(),
            |names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        );
        table.row([
            row.cluster.to_string(),
            namespaces,
            row.role.to_string(),
            row.grant.to_string(),
            row.through.clone(),
            row.until.map(|at| relative(at, now)).unwrap_or_default(),
            if row.reachable { "connected" } else { "away" }.to_owned(),
            row.rules.iter().map(rule_sentence).collect::<Vec<_>>().join("; "),
        ]);
    }
    let names = rows.iter().map(|row| row.grant.to_string()).collect();
    let whose = args.user.map_or_else(|| "you".to_owned(), |user| format!("`{user}`"));
    let empty = format!(
        "no grant lets {whose} reach a cluster; an admin can write one: a `Grant` and `nullius apply -f FILE`"
    );
    let items = rows.iter().map(json_value).collect::<Result<_, _>>()?;
    stage.list(Listing { kind: "AccessList", items, table, names, empty })
}

async fn explain(stage: &mut Stage, args: AccessExplain) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let request = ExplainRequest {
        user: args.user,
        cluster: args.cluster,
        verb: args.verb,
        resource: args.resource,
        namespace: args.namespace,
        name: args.name,
    };
    let answer: ExplainAnswer =
        exchange(&hub, "cannot explain access", route::ACCESS_EXPLAIN, &request).await?;
    let verdict = if answer.allowed { "allowed" } else { "denied" };
    let explanation = &answer.explanation;
    let mut text = format!("{verdict}: {}\n", escape::lines(&explanation.sentence));
    for (name, value) in [("by", &explanation.rule), ("next", &explanation.next)] {
        if let Some(value) = value {
            text.push_str(&format!("  {name}: {}\n", escape::lines(value)));
        }
    }
    if !answer.considered.is_empty() {
        let mut table = Table::new(["GRANT", "ROLE", "MATCHED", "WHY"]).sentence_last();
        for considered in &answer.considered {
            table.row([
                considered.grant.to_string(),
                considered.role.as_ref().map(ToString::to_string).unwrap_or_default(),
                if considered.matched { "yes" } else { "no" }.to_owned(),
                considered.why.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render(stage.layout()));
    }
    let value = json_value(&answer)?;
    stage.single(Single { kind: "AccessExplanation", value, text, name: verdict.to_owned() })?;
    Ok(if answer.allowed { Exit::Ok } else { Exit::Denied })
}

async fn sessions(stage: &mut Stage, args: SessionList) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let query = WhoseQuery { user: args.user, all: args.all };
    let call = Call::get("cannot list sessions", route::SESSIONS).query(&query)?;
    let sessions: List<SessionInfo> = hub.read(&call).await?;
    let now = stage.now();
    let mut table = Table::new([
        "SESSION",
        "USER",
        "SIGNED IN",
        "LAST USED",
        "ENDS",
        "LIVE",
        "CLUSTERS",
        "CURRENT",
    ]);
    for session in &sessions.items {
        table.row([
            session.session.to_string(),
            session.user.to_string(),
            relative(session.signed_in_at, now),
            relative(session.last_used, now),
            relative(session.expires_at, now),
            session.live.to_string(),
            session.clusters.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            if session.current { "this one" } else { "" }.to_owned(),
        ]);
    }
    let names = sessions.items.iter().map(|session| session.session.to_string()).collect();
    let items = sessions.items.iter().map(json_value).collect::<Result<_, _>>()?;
    let empty = "no session stands".to_owned();
    stage.list(Listing { kind: "SessionList", items, table, names, empty })
}

async fn end(stage: &mut Stage, args: SessionEnd) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    for session in &args.sessions {
        let what = format!("cannot end the session `{session}`");
        hub.call(&Call::delete(what, fill(route::SESSION, &[session.as_str()]))).await?;
        stage.environment.terminal.print(&format!("session {session} ended\n"))?;
    }
    Ok(Exit::Ok)
}
