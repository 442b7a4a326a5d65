//! `nullius hub`: settings from flags, environment and file, then the hub until it is told to stop.

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::Result;
use nullius_cli::{Exit, Fingerprint, HubArgs, HubCommand, HubInit};
use nullius_hub::{FirstAdmin, HubSettings, RunningHub};
use nullius_model::SystemClock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config},
    keys,
};

/// Runs the hub, or only makes its state.
pub(crate) async fn run(
    args: HubArgs,
    form: nullius_cli::ResultForm,
    shutdown: CancellationToken,
) -> Result<Exit> {
    let settings = config::hub_settings(&args.flags, Config::read(args.flags.config.as_deref())?)?;
    match args.command {
        Some(HubCommand::Init(init)) => make(settings, init, form).await,
        Some(HubCommand::Keys(command)) => keys::run(&settings, command, form).await,
        None => serve(settings, shutdown).await,
    }
}

async fn make(settings: HubSettings, args: HubInit, form: nullius_cli::ResultForm) -> Result<Exit> {
    let state = settings.state_dir.clone();
    let first = match args.offline_key {
        None => nullius_hub::init(settings, Arc::new(SystemClock)).await?,
        Some(path) => {
            let file = keys::offline_file(path, &args.passphrase, keys::Asks::ToSeal).await?;
            let first =
                nullius_hub::init_with_offline_key(settings, &file, Arc::new(SystemClock)).await?;
            eprintln!(
                "the offline key is in `{}` and not in the state: keep the file, and a copy, elsewhere; \
                 `nullius hub keys rotate` needs it",
                file.path.display()
            );
            first
        }
    };
    let Some(made) = first else {
        eprintln!(
            "the first admin of the hub in `{}` has enrolled; nothing to do",
            state.display()
        );
        return Ok(Exit::Ok);
    };
    if form == nullius_cli::ResultForm::Json {
        let FirstAdmin { link, user, root } = &made;
        let text = json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": "HubInit",
            "admin": user,
            "url": link.url,
            "token": link.token,
            "expiresAt": link.expires_at,
            "ca": root,
        });
        println!("{text}");
    } else {
        println!("{}", first_steps(&made));
    }
    Ok(Exit::Ok)
}

async fn serve(settings: HubSettings, shutdown: CancellationToken) -> Result<Exit> {
    let running = nullius_hub::run(settings, Arc::new(SystemClock), shutdown).await?;
    tell_first_steps(&running);
    running.stopped().await;
    Ok(Exit::Ok)
}

/// Tells the operator of a new hub what to do first.
pub(crate) fn tell_first_steps(running: &RunningHub) {
    let Some(first) = running.first_admin() else { return };
    // A link in the output of a service stays in its log: there only the file is named.
    match running.first_link_file() {
        _ if std::io::stderr().is_terminal() => eprintln!("{}", first_steps(first)),
        Some(file) => {
            eprintln!("{}", steps(first, &format!("the link in `{}`", file.display())));
        }
        None => eprintln!(
            "the first admin `{}` has a link that could not be written to the state directory: \
             stop the hub and print a new one with `nullius hub init`",
            first.user
        ),
    }
}

/// What the operator does first; told once, never logged.
fn first_steps(first: &FirstAdmin) -> String {
    steps(first, &first.link.url)
}

fn steps(first: &FirstAdmin, link: &str) -> String {
    let FirstAdmin { link: made, user, root } = first;
    let hub = made.url.split("/enrol").next().unwrap_or_default();
    let pinned = match Fingerprint::of_pem(root) {
        Ok(fingerprint) => format!(" --ca-fingerprint {fingerprint}"),
        Err(_) => String::new(),
    };
    format!(
        "the first admin `{user}` sets password and second factor at\n  {link}\n  (once, until {})\n\
         then, on any machine:\n  nullius login --hub {hub}{pinned}",
        made.expires_at
    )
}
