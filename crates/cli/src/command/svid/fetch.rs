//! What the node gives this process, once and as it changes.

use std::{path::Path, time::Duration};

use nullius_model::Timestamp;
use nullius_workload::{Client, ClientError, Identities, JwtIdentity, WorkloadIdentities};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::folder::write;
use crate::{
    args::{SvidFetch, SvidWatch, WorkloadSocket},
    failure::{Exit, Failure},
    output::{Format, Listing, Printed, Table, relative},
    stage::Stage,
};

/// Waits before the node is asked again, from the first to the longest, in seconds.
const WAITS_SECS: [u64; 5] = [1, 2, 5, 10, 30];

/// Fetches once.
pub(super) async fn fetch(stage: &mut Stage, args: &SvidFetch) -> Result<Exit, Failure> {
    let patience = Duration::from_secs(args.timeout.as_secs().into());
    let asked = tokio::time::timeout(patience, ask(args));
    let given = match asked.await {
        Ok(given) => given.map_err(|error| failure(&args.at, error))?,
        Err(_) => {
            let socket = args.at.socket.path().display();
            return Err(Failure::new(format!("no answer from `{socket}` within {}", args.timeout))
                .why("the identity is registered, and no SVID was issued yet")
                .next("look at the node's log, or give it more time: `--timeout 2m`"));
        }
    };
    match given {
        Given::Tokens(tokens) => print_tokens(stage, &tokens),
        Given::Identities(identities) => {
            if let Some(folder) = &args.write {
                write(folder, &identities)?;
            }
            show(stage, &identities)
        }
    }
}

/// Stays.
pub(super) async fn watch(stage: &mut Stage, args: &SvidWatch) -> Result<Exit, Failure> {
    let mut failures = 0;
    loop {
        let error = match open(&args.at).await {
            Ok(mut sets) => loop {
                match sets.next().await {
                    Ok(identities) => {
                        failures = 0;
                        tell(stage, args.write.as_deref(), &identities)?;
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        if matches!(error, ClientError::Refused(_)) {
            return Err(failure(&args.at, error));
        }
        let wait = WAITS_SECS.get(failures).or(WAITS_SECS.last()).copied().unwrap_or_default();
        failures += 1;
        let told = failure(&args.at, error);
        stage.tell(&format!("{told}: {}; asking again in {wait} s\n", told.reason()));
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
}

/// What was asked for.
enum Given {
    Identities(WorkloadIdentities),
    Tokens(Vec<JwtIdentity>),
}

async fn ask(args: &SvidFetch) -> Result<Given, ClientError> {
    if args.audience.is_empty() {
        return Ok(Given::Identities(open(&args.at).await?.next().await?));
    }
    let mut client = Client::connect(&args.at.socket).await?;
    client.tokens(args.audience.clone(), args.id.as_ref()).await.map(Given::Tokens)
}

async fn open(at: &WorkloadSocket) -> Result<Identities, ClientError> {
    Client::connect(&at.socket).await?.identities().await
}

fn tell(
    stage: &mut Stage,
    folder: Option<&Path>,
    identities: &WorkloadIdentities,
) -> Result<Exit, Failure> {
    if let Some(folder) = folder {
        write(folder, identities)?;
    }
    show(stage, identities)
}

fn show(stage: &mut Stage, identities: &WorkloadIdentities) -> Result<Exit, Failure> {
    let listing = listing(identities, stage.now());
    stage.list(listing)
}

fn listing(identities: &WorkloadIdentities, now: Timestamp) -> Listing {
    let mut table = Table::new(["ID", "HINT", "ENDS", "FEDERATES WITH"]);
    let foreign: Vec<_> = identities.foreign.keys().map(ToString::to_string).collect();
    let (mut items, mut names) = (Vec::new(), Vec::new());
    for identity in &identities.identities {
        let hint = identity.hint.clone().unwrap_or_default();
        items.push(json!({
            "id": identity.id(),
            "hint": hint,
            "expires": identity.not_after().to_string(),
            "certificates": identity.svid.to_pem(),
            "federatesWith": foreign,
        }));
        let ends = relative(identity.not_after(), now);
        table.row([identity.id().to_string(), hint, ends, foreign.join(", ")]);
        names.push(identity.id().to_string());
    }
    let empty = "this process has no identity".to_owned();
    Listing { kind: "SvidList", items, table, names, empty }
}

fn print_tokens(stage: &mut Stage, tokens: &[JwtIdentity]) -> Result<Exit, Failure> {
    let lines = |text: fn(&JwtIdentity) -> String| -> String {
        tokens.iter().map(|token| text(token) + "\n").collect()
    };
    // For people it is what they paste: a token alone.
    if matches!(stage.global.output, Format::Table | Format::Wide) {
        let out = lines(|token| token.token.expose_secret().to_owned());
        return stage.print(&Printed { out, err: String::new() });
    }
    let item = |token: &JwtIdentity| {
        json!({
            "id": token.id,
            "hint": token.hint.clone().unwrap_or_default(),
            "token": token.token.expose_secret(),
        })
    };
    stage.list(Listing {
        kind: "JwtSvidList",
        items: tokens.iter().map(item).collect(),
        table: Table::new([]),
        names: tokens.iter().map(|token| token.id.to_string()).collect(),
        empty: String::new(),
    })
}

fn failure(at: &WorkloadSocket, error: ClientError) -> Failure {
    let socket = at.socket.path().display();
    let (what, next, exit) = match &error {
        ClientError::Connect { .. } => (
            format!("cannot reach the Workload API at `{socket}`"),
            "check that a node runs here, or name its socket: `--socket PATH`",
            Exit::Failed,
        ),
        ClientError::Denied(_) => (
            "this process has no identity".to_owned(),
            "in a pod: `kubectl label namespace NAME nullius.dev/identity=enabled`; else compare what the node says of the process with what is registered",
            Exit::Denied,
        ),
        _ => (
            format!("the Workload API at `{socket}` gave no SVID"),
            "look at the node's log, then run the command again",
            Exit::Failed,
        ),
    };
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let why = match (&error, cause) {
        (ClientError::Denied(why), _) => why.clone(),
        (error, Some(cause)) => format!("{error}: {cause}"),
        (error, None) => error.to_string(),
    };
    Failure::new(what).why(why).because(error).next(next).exit_with(exit)
}
