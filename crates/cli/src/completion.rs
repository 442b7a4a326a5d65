//! Completion in the shell: words from the command line's own types, names live from the hub.
//!
//! The shell runs this program with `NULLIUS_COMPLETE` set; it answers and ends. Names are asked for within a second
//! and only where a session stands: completion never signs anybody in and never tells an error.

use std::{ffi::OsStr, time::Duration};

use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate},
};
use nullius_api::{FindingList, List, SessionInfo, WhoseQuery, route};
use nullius_model::Kind;

use crate::{
    args::Shell,
    client::{Call, Hub},
    environment::{Answers, Environment},
    failure::Failure,
    home::contexts::Contexts,
    object::remote,
    output::Printed,
};

const VARIABLE: &str = "NULLIUS_COMPLETE";
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers the shell when it asks for completion; true when it did.
pub fn complete() -> bool {
    let env = CompleteEnv::with_factory(crate::command).var(VARIABLE).bin("nullius");
    let folder = std::env::current_dir().ok();
    // A shell in the middle of a line is no place for an error.
    env.try_complete(std::env::args_os(), folder.as_deref()).unwrap_or(true)
}

/// The script that makes a shell ask.
pub(crate) fn script(shell: Shell, program: &str) -> Result<Printed, Failure> {
    use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
    let mut script = Vec::new();
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    completer.write_registration(VARIABLE, "nullius", "nullius", program, &mut script).map_err(
        |error| {
            Failure::new(format!("cannot write completion for {}", shell.as_str())).because(error)
        },
    )?;
    Ok(Printed { out: String::from_utf8_lossy(&script).into_owned(), err: String::new() })
}

/// Completes contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let environment = Environment::of_process();
        let known = environment.home().and_then(Contexts::load).unwrap_or_default();
        matching(current, known.contexts.keys().map(ToString::to_string))
    })
}

/// Completes names of a kind.
pub(crate) fn names(kind: Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| matching(current, ask(Wanted::Names(kind))))
}

/// Completes kinds.
pub(crate) fn kinds() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        matching(current, Kind::ALL.map(|kind| kind.plural().to_owned()))
    })
}

/// Completes names of the kind that stands before them on the line.
pub(crate) fn names_of_named_kind() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        // The engine does not say what was typed before: the line itself does.
        let words = std::env::args().skip_while(|word| word != "--").skip(1);
        let kind =
            words.filter(|word| !word.starts_with('-')).find_map(|word| word.parse::<Kind>().ok());
        kind.map(|kind| matching(current, ask(Wanted::Names(kind)))).unwrap_or_default()
    })
}

/// Completes sessions.
pub(crate) fn sessions() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, ask(Wanted::Sessions)))
}

/// Completes findings.
pub(crate) fn findings() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, ask(Wanted::Findings)))
}

fn matching(current: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    names
        .into_iter()
        .filter(|name| name.starts_with(current))
        .map(CompletionCandidate::new)
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Names(Kind),
    Sessions,
    Findings,
}

/// Names from the hub of the current context; none when it does not answer at once.
fn ask(wanted: Wanted) -> Vec<String> {
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let names = async { tokio::time::timeout(PATIENCE, names_at_hub(wanted)).await.ok()?.ok() };
        runtime.block_on(Box::pin(names))
    });
    asked.join().ok().flatten().unwrap_or_default()
}

async fn names_at_hub(wanted: Wanted) -> Result<Vec<String>, Failure> {
    let mut environment = Environment::of_process();
    environment.answers = Answers::Nobody;
    let context = std::env::var("NULLIUS_CONTEXT").ok().and_then(|name| name.parse().ok());
    let named = Contexts::load(environment.home()?)?.choose(None, context.as_ref())?;
    let hub = Hub::open(named, &environment)?;
    if hub.files.session()?.is_none() {
        return Ok(Vec::new());
    }
    match wanted {
        Wanted::Names(kind) => {
            let objects = remote::fetch_all(&hub, kind).await?;
            Ok(objects.iter().map(|object| object.name().to_string()).collect())
        }
        Wanted::Sessions => {
            let call =
                Call::get("cannot list sessions", route::SESSIONS).query(&WhoseQuery::default())?;
            let sessions: List<SessionInfo> = hub.read(&call).await?;
            Ok(sessions.items.iter().map(|session| session.session.to_string()).collect())
        }
        Wanted::Findings => {
            let list: FindingList =
                hub.read(&Call::get("cannot list findings", route::FINDINGS)).await?;
            Ok(list.items.iter().map(|finding| finding.id.to_string()).collect())
        }
    }
}
