//! `identity list|show`.

use nullius_api::{IdentityList, IdentityQuery, IssuedIdentity, route};
use nullius_model::{ClusterName, Timestamp};

use crate::{
    args::{IdentityCommand, IdentityListArgs, IdentityShowArgs, OfCluster, Whose},
    client::{Call, Hub, fill},
    command::mesh::only_cluster,
    failure::{Exit, Failure},
    output::{Listing, Single, Table, json_value, properties, relative},
    stage::Stage,
};

/// Digits of a serial number in a table; the document has all.
const SHORT: usize = 12;
/// Answers that are asked for: as many as a hub keeps of a cluster.
const PAGES: usize = 100;

/// Runs a command on workload identities.
pub(crate) async fn run(stage: &mut Stage, command: IdentityCommand) -> Result<Exit, Failure> {
    match command {
        IdentityCommand::List(args) => list(stage, args).await,
        IdentityCommand::Show(args) => show(stage, args).await,
    }
}

async fn list(stage: &mut Stage, args: IdentityListArgs) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let narrowed = args.namespace.is_some() || args.node.is_some();
    let query =
        IdentityQuery { namespace: args.namespace, node: args.node, ..IdentityQuery::default() };
    let found = fetch(&hub, args.of, query).await?;
    let titles = ["NAMESPACE", "POD", "ID", "BY", "NODE", "SERIAL", "SINCE", "ISSUED", "ENDS"];
    let mut table = Table::new(titles).wide("SERIAL").wide("SINCE");
    for one in &found.items {
        table.row([
            one.namespace.to_string(),
            one.pod.clone(),
            one.spiffe_id.to_string(),
            why(one),
            one.node.clone(),
            one.serial.chars().take(SHORT).collect(),
            relative(one.since, now),
            relative(one.issued_at, now),
            relative(one.not_after, now),
        ]);
    }
    if !found.items.is_empty() {
        stage.tell(&beside(&found));
    }
    stage.list(Listing {
        kind: "IssuedIdentityList",
        items: found.items.iter().map(json_value).collect::<Result<_, _>>()?,
        table,
        names: found.items.iter().map(|one| one.spiffe_id.to_string()).collect(),
        empty: why_empty(&found, narrowed, now),
    })
}

async fn show(stage: &mut Stage, args: IdentityShowArgs) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let now = stage.now();
    let name = args.whose.to_string();
    let query = match args.whose {
        Whose::Id(id) => IdentityQuery { id: Some(id), ..IdentityQuery::default() },
        Whose::Pod(namespace, pod) => {
            IdentityQuery { namespace: Some(namespace), pod: Some(pod), ..IdentityQuery::default() }
        }
    };
    let found = fetch(&hub, args.of, query).await?;
    if found.items.is_empty() {
        let what = format!("no SVID of `{name}` is valid in `{}`", found.cluster);
        return Err(Failure::new(what).why(why_empty(&found, true, now)));
    }
    let mut blocks: Vec<String> = found.items.iter().map(|one| text_of(one, now)).collect();
    let locked = found.locked.as_ref().map(|why| why.sentence.clone());
    blocks.extend(locked.map(|why| properties(&[("Locked", why)])));
    let value = json_value(&found)?;
    stage.single(Single { kind: "IssuedIdentities", value, text: blocks.join("\n"), name })
}

fn text_of(one: &IssuedIdentity, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{at} ({})", relative(at, now));
    properties(&[
        ("ID", one.spiffe_id.to_string()),
        ("Pod", format!("{}/{}", one.namespace, one.pod)),
        ("Account", one.service_account.clone()),
        ("Node", one.node.clone()),
        ("By", why(one)),
        ("Processes", one.selectors.join(", ")),
        ("Entry", one.entry.clone()),
        ("Serial", one.serial.clone()),
        ("Since", when(one.since)),
        ("Issued", when(one.issued_at)),
        ("Ends", when(one.not_after)),
    ])
}

/// Why a pod has it.
fn why(one: &IssuedIdentity) -> String {
    match &one.by {
        Some(object) => format!("WorkloadIdentity/{object}"),
        None => "default".to_owned(),
    }
}

/// What a list does not show.
fn beside(found: &IdentityList) -> String {
    let mut text = String::new();
    if let Some(locked) = &found.locked {
        text.push_str(&format!("{}\n", locked.sentence));
    }
    if found.next.is_some() {
        text.push_str("there are more: narrow by `-n` or `--node`\n");
    }
    text
}

fn why_empty(found: &IdentityList, narrowed: bool, now: Timestamp) -> String {
    let cluster = &found.cluster;
    match found.told_at {
        None => format!(
            "nothing is known: the agent of `{cluster}` has told of no identity since the hub began\nidentities are told by \
             `nullius agent identity`: apply `nullius cluster add {cluster} --manifest --identity`, and label namespaces \
             (docs/identity.md)"
        ),
        Some(at) if narrowed => {
            format!("no identity matches; `{cluster}` told last {}", relative(at, now))
        }
        Some(at) => {
            format!("no identity that you may see; `{cluster}` told last {}", relative(at, now))
        }
    }
}

/// All pages, as one list.
async fn fetch(hub: &Hub, of: OfCluster, query: IdentityQuery) -> Result<IdentityList, Failure> {
    let cluster: ClusterName = match of.cluster {
        Some(cluster) => cluster,
        None => only_cluster(hub).await?,
    };
    let path = fill(route::IDENTITIES, &[cluster.as_str()]);
    let what = format!("cannot show the identities of `{cluster}`");
    let first = Call::get(&*what, &*path).query(&query)?;
    let mut found: IdentityList = hub.read(&first).await?;
    for _ in 1..PAGES {
        let Some(after) = found.next.take() else { break };
        let query = IdentityQuery { after: Some(after), ..query.clone() };
        let page: IdentityList = hub.read(&Call::get(&*what, &*path).query(&query)?).await?;
        found.items.extend(page.items);
        found.next = page.next;
    }
    Ok(found)
}
