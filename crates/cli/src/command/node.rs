//! `nullius node join-token`: a machine outside of the cluster, and the file with which it joins.

use std::fs;

use nullius_kube::{MachineError, MachineWriter};
use nullius_pki::{MachineAuthority, random_token, token_hash};
use nullius_registration::MachineJoin;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use crate::{
    args::{NodeCommand, NodeJoinToken},
    failure::{Exit, Failure, file_failure},
    home::private_file::write_private,
    output::{Printed, json_text},
    stage::Stage,
};

const NOTHING: &str = "no machine was added";

/// Runs a command on machines.
pub(crate) async fn run(stage: &mut Stage, command: NodeCommand) -> Result<Exit, Failure> {
    match command {
        NodeCommand::JoinToken(args) => join_token(stage, args).await,
    }
}

async fn join_token(stage: &mut Stage, args: NodeJoinToken) -> Result<Exit, Failure> {
    let x509pop = x509pop(&args)?;
    let writer = writer(stage, &args).await?;
    let place = writer.place().await.map_err(refused)?;
    let unreadable = |what: &str, why: String| {
        Failure::new(NOTHING).why(format!("{what} of the cluster cannot be read: {why}"))
    };
    let join = MachineJoin {
        machine: args.machine.clone(),
        cluster: place
            .cluster
            .parse()
            .map_err(|error| unreadable("the name", format!("{error}")))?,
        trust_domain: place
            .trust_domain
            .parse()
            .map_err(|error| unreadable("the trust domain", format!("{error}")))?,
        bundle: serde_json::from_str(&place.bundle)
            .map_err(|error| unreadable("the bundle", error.to_string()))?,
        agent: args.agent.clone().unwrap_or(place.issuer),
        token: x509pop.is_none().then(|| random_token().expose_secret().to_owned()),
    };
    let mut spec = json!({});
    if !args.namespaces.is_empty() {
        spec["namespaces"] = args.namespaces.iter().map(|it| it.as_str()).collect();
    }
    let until = args.life.after(stage.now());
    let until = until.round(jiff::Unit::Second).unwrap_or(until);
    // One way to prove itself at a time: the other one is taken away.
    (spec["x509pop"], spec["joinToken"]) = match &join.token {
        Some(token) => {
            (Json::Null, json!({ "sha256": token_hash(token), "expires": until.to_string() }))
        }
        None => (x509pop.unwrap_or_default(), Json::Null),
    };
    let text = json_text(&join.write())?;
    // Before the token counts, so that none is lost that does.
    if let Some(path) = &args.to {
        write_private(path, &text)?;
    }
    writer.write(args.machine.as_str(), &spec).await.map_err(refused)?;
    let name = &args.machine;
    let mut err = match (&join.token, &args.to) {
        (Some(_), Some(path)) => format!(
            "Machine `{name}` may join until {until}: bring `{}` there and run `nullius node --join FILE`\n",
            path.display()
        ),
        (Some(_), None) => format!("Machine `{name}` may join until {until}\n"),
        (None, _) => format!("Machine `{name}` proves itself by its certificate\n"),
    };
    if args.namespaces.is_empty() {
        err.push_str("note: no `--namespace` was given: a machine without any has no identities\n");
    }
    let out = if args.to.is_some() { String::new() } else { text };
    stage.print(&Printed { out, err })
}

fn x509pop(args: &NodeJoinToken) -> Result<Option<Json>, Failure> {
    let (Some(path), Some(name)) = (&args.x509_ca, &args.x509_name) else { return Ok(None) };
    let bundle = fs::read_to_string(path).map_err(|error| file_failure("read", path, error))?;
    MachineAuthority::read(&bundle, name).map_err(|error| {
        Failure::new(NOTHING)
            .why(format!("`{}`: {error}", path.display()))
            .next("name a file with the certificates of the authority in PEM")
    })?;
    Ok(Some(json!({ "caBundle": bundle, "name": name })))
}

async fn writer(stage: &Stage, args: &NodeJoinToken) -> Result<MachineWriter, Failure> {
    let known = args.cluster.kubeconfig.as_ref().or(stage.environment.kubeconfig.as_ref());
    let path = known.ok_or_else(|| {
        Failure::usage("cannot tell which cluster is meant")
            .next("name a kubeconfig by `--kubeconfig`")
    })?;
    let context = args.cluster.kube_context.as_deref();
    MachineWriter::from_kubeconfig(path, context).await.map_err(|error| {
        Failure::new("no cluster can be asked")
            .why(causes(&error))
            .next("check the kubeconfig: `kubectl --kubeconfig FILE get namespaces`")
    })
}

fn refused(error: MachineError) -> Failure {
    let next = match &error {
        MachineError::Unreachable { .. } => {
            "check that the cluster runs and can be reached: `kubectl version`"
        }
        MachineError::Refused { .. } => {
            "an administrator of the cluster adds machines; apply the manifest of this version, which has the kind `Machine`"
        }
        MachineError::NoIdentities(_) => {
            "apply the manifest of `nullius cluster add NAME --manifest --identity --image IMAGE`"
        }
    };
    Failure::new(NOTHING).why(causes(&error)).next(next)
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        why = format!("{why}: {below}");
        cause = below.source();
    }
    why
}
