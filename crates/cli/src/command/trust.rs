//! `trust show|rotate|federate|accept-older`.

use std::path::Path;

use nullius_api::{
    AcceptOlderRequest, ClusterTrust, FederatedTrust, RotateRequest, RotationInfo, TrustAuthority,
    TrustList, TrustQuery, route,
};
use nullius_model::{
    AnyObject, AuthorityStage, Belief, BundleEndpointProfile, ClusterName, FederationSpec,
    ForeignTrust, Kind, Object, ObjectMeta, ObjectName, RotationMode, RotationProgress, Timestamp,
};

use crate::{
    args::{TrustAcceptOlder, TrustCommand, TrustFederate, TrustRotate},
    client::{Call, fill},
    environment::Confirmed,
    failure::{Exit, Failure},
    object::remote,
    output::{Listing, Single, Table, json_value, relative},
    stage::{Asked, Stage, declined},
};

/// Digits of a serial number and a key in a table; the document has all.
const SHORT: usize = 12;

/// Shows or rotates.
pub(crate) async fn run(stage: &mut Stage, command: TrustCommand) -> Result<Exit, Failure> {
    match command {
        TrustCommand::Show(only) => show(stage, only.cluster).await,
        TrustCommand::Rotate(args) => rotate(stage, args).await,
        TrustCommand::Federate(args) => federate(stage, args).await,
        TrustCommand::AcceptOlder(args) => accept_older(stage, args).await,
    }
}

async fn show(stage: &mut Stage, cluster: Option<ClusterName>) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let query = TrustQuery { cluster };
    let call = Call::get("cannot show whom clusters trust", route::TRUST).query(&query)?;
    let list: TrustList = hub.read(&call).await?;
    let now = stage.now();
    let mut table = Table::new([
        "CLUSTER",
        "TRUST DOMAIN",
        "STAGE",
        "SERIAL",
        "KEY",
        "TOKEN KEY",
        "FROM",
        "ENDS",
        "CERTIFIED BY",
        "STEP",
        "NOTE",
    ])
    .wide("KEY")
    .wide("TOKEN KEY")
    .wide("CERTIFIED BY")
    .wide("STEP")
    .sentence_last();
    for cluster in &list.items {
        rows(&mut table, cluster, now);
    }
    let names = list.items.iter().map(|cluster| cluster.trust_domain.to_string()).collect();
    let items = list.items.iter().map(json_value).collect::<Result<_, _>>()?;
    let empty =
        "there is no cluster that you may see\nadd one: `nullius cluster add NAME`".to_owned();
    stage.list(Listing { kind: "TrustList", items, table, names, empty })
}

fn rows(table: &mut Table, cluster: &ClusterTrust, now: Timestamp) {
    let mut row = |authority: Option<&TrustAuthority>, note: String| {
        let of = |value: Option<&String>| value.cloned().unwrap_or_default();
        let short = |value: Option<&String>| -> String {
            value.map(|text| text.chars().take(SHORT).collect()).unwrap_or_default()
        };
        let when = |at: Option<Timestamp>| at.map(|at| relative(at, now)).unwrap_or_default();
        table.row([
            cluster.cluster.to_string(),
            cluster.trust_domain.to_string(),
            authority.map(|it| it.stage.to_string()).unwrap_or_default(),
            short(authority.and_then(|it| it.serial.as_ref())),
            short(authority.and_then(|it| it.key.as_ref())),
            of(authority.and_then(|it| it.jwt_key.as_ref())),
            when(authority.and_then(|it| it.from)),
            when(authority.and_then(|it| it.until)),
            short(authority.and_then(|it| it.certified_by.as_ref())),
            cluster.sequence.map(|step| step.to_string()).unwrap_or_default(),
            note,
        ]);
    };
    if cluster.authorities.is_empty() {
        row(None, "`agent identity` never told of an authority".to_owned());
    }
    for authority in &cluster.authorities {
        row(Some(authority), note(authority, cluster, now));
    }
    for other in &cluster.federated {
        table.row([
            cluster.cluster.to_string(),
            other.trust_domain.to_string(),
            "federated".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            other.told_at.map(|at| relative(at, now)).unwrap_or_default(),
            String::new(),
            String::new(),
            other.sequence.map(|step| step.to_string()).unwrap_or_default(),
            believed(other, cluster.heard_at, now),
        ]);
    }
}

fn note(authority: &TrustAuthority, cluster: &ClusterTrust, now: Timestamp) -> String {
    match authority.stage {
        AuthorityStage::Prepared => "waits for the hub to certify it".to_owned(),
        AuthorityStage::Certified => "believed; signs when every node can know it".to_owned(),
        AuthorityStage::Retiring => "believed until what it signed has ended".to_owned(),
        AuthorityStage::Tainted => "believed until what it signed is renewed".to_owned(),
        AuthorityStage::Revoked => "in no bundle any more".to_owned(),
        AuthorityStage::Active => {
            cluster.rotation.as_ref().map(|it| rotation(it, now)).unwrap_or_default()
        }
    }
}

fn rotation(rotation: &RotationInfo, now: Timestamp) -> String {
    let RotationInfo { mode, by, ordered_at, progress, .. } = rotation;
    let ordered = relative(*ordered_at, now);
    let how = match progress {
        RotationProgress::Ordered => "the cluster has not taken it".to_owned(),
        RotationProgress::Lapsed => "lapsed, the cluster did not take it in time".to_owned(),
        progress => format!("{progress} {}", relative(rotation.changed_at, now)),
    };
    format!("{mode} ordered by {by} {ordered}: {how}")
}

async fn rotate(stage: &mut Stage, args: TrustRotate) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let cluster = &args.cluster;
    let mode = if args.revoke { RotationMode::Revoke } else { RotationMode::Taint };
    if mode == RotationMode::Revoke {
        let question = format!(
            "Revoke the authority of cluster `{cluster}`? Calls between its workloads may fail for seconds."
        );
        if stage.confirm(Asked::of_flag(args.yes), &question).await? == Confirmed::No {
            return Err(declined());
        }
    }
    let what = format!("cannot rotate the authority of cluster `{cluster}`");
    let path = fill(route::TRUST_ROTATION, &[cluster.as_str()]);
    let request = RotateRequest { mode, reason: args.reason };
    let ordered: RotationInfo = hub.read(&Call::post(what, path, &request)?).await?;
    let text = format!(
        "{mode} of cluster {cluster} ordered; how far it is: `nullius trust show -c {cluster}`\n"
    );
    let name = ordered.id.to_string();
    stage.single(Single { kind: "TrustRotation", value: json_value(&ordered)?, text, name })
}

/// What is to be said of another trust domain.
fn believed(other: &FederatedTrust, heard_at: Option<Timestamp>, now: Timestamp) -> String {
    let heard = match heard_at {
        Some(at) => format!("heard last {}", relative(at, now)),
        None => "never heard".to_owned(),
    };
    let bundle = match other.belief {
        Belief::Believed => "believed too".to_owned(),
        Belief::Other => {
            format!("believed by another bundle than that of now; its agent was {heard}")
        }
        Belief::NotTaken => format!("the cluster has not taken the bundle; its agent was {heard}"),
        Belief::NotForgotten => {
            format!(
                "still believed, though the hub tells of no bundle any more; its agent was {heard}"
            )
        }
        Belief::LeftOut => "left out: there are too many, or they are too long".to_owned(),
        Belief::NoBundle => "not believed: there is no bundle yet".to_owned(),
        Belief::Unknown => {
            format!("may be believed too; its agent does not say whether, and was {heard}")
        }
    };
    let from = other.from.as_ref().map(|from| format!("; the bundle is of {from}"));
    let failing = other.failing_since.map(|since| {
        let why = other.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("; none can be fetched since {}{why}", relative(since, now))
    });
    format!("{bundle}{}{}", from.unwrap_or_default(), failing.unwrap_or_default())
}

async fn federate(stage: &mut Stage, args: TrustFederate) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let clusters: Vec<String> = args.clusters.iter().map(ToString::to_string).collect();
    let federates_with = match (args.with, args.url) {
        (Some(trust_domain), Some(bundle_endpoint_url)) => Some(ForeignTrust {
            trust_domain,
            bundle_endpoint_url,
            bundle_endpoint_profile: match args.spiffe_id {
                Some(endpoint_spiffe_id) => BundleEndpointProfile::Spiffe { endpoint_spiffe_id },
                None => BundleEndpointProfile::Web {
                    authorities: args.authorities.as_deref().map(text_of).transpose()?,
                },
            },
            trust_domain_bundle: args.bundle.as_deref().map(text_of).transpose()?,
        }),
        _ => None,
    };
    let named = federates_with
        .as_ref()
        .map_or_else(|| clusters.join("-"), |it| it.trust_domain.to_string());
    let name = match args.name {
        Some(name) => name,
        None => named.parse::<ObjectName>().map_err(|error| {
            Failure::usage(format!("`{named}` is no name for a federation"))
                .why(error.to_string())
                .next("name it: `--name NAME`")
        })?,
    };
    let whom = match &federates_with {
        Some(it) => format!("the bundle of {}", it.trust_domain),
        None => "each other's bundles".to_owned(),
    };
    let spec = FederationSpec {
        clusters: args.clusters.into_iter().collect(),
        federates_with,
        description: args.description,
    };
    let object = Object { metadata: ObjectMeta::named(name.clone()), spec, status: None };
    remote::create(&hub, &AnyObject::Federation(object)).await?;
    let text = format!(
        "{}/{name} created: workloads of {} may be given {whom}\n",
        Kind::Federation,
        clusters.join(", ")
    );
    stage.environment.terminal.print(&text)?;
    Ok(Exit::Ok)
}

async fn accept_older(stage: &mut Stage, args: TrustAcceptOlder) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let name = &args.federation;
    let question = format!(
        "Take an older bundle for federation `{name}`? Keys that its owner revoked may be believed again."
    );
    if stage.confirm(Asked::of_flag(args.yes), &question).await? == Confirmed::No {
        return Err(declined());
    }
    let what = format!("cannot take an older bundle for federation `{name}`");
    let path = fill(route::FEDERATION_ACCEPT_OLDER, &[name.as_str()]);
    let request = AcceptOlderRequest { reason: args.reason };
    hub.call(&Call::post(what, path, &request)?).await?;
    let text = format!(
        "Federation/{name} takes the next bundle, also an older one; what comes: `nullius trust show`\n"
    );
    stage.environment.terminal.print(&text)?;
    Ok(Exit::Ok)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let read = std::fs::read_to_string(path);
    read.map_err(|error| {
        Failure::new(format!("cannot read `{}`", path.display())).why(error.to_string())
    })
}
