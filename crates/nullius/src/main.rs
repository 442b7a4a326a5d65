//! The one binary: a person's command, or a role that runs until it is told to stop.
//!
//! Exit codes: 0 done, 1 failed, 2 denied or differences found, 64 the command line or the configuration is wrong.

#![forbid(unsafe_code)]

mod agent;
mod audit;
mod cni;
mod config;
mod hub;
mod keys;
mod node;
mod proxy;
mod sealing;
mod up;

use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use nullius_cli::{
    AgentCommand, Chain, Environment, Exit, Failure, Invocation, LogFormat, Unparsed,
};
use tokio_util::sync::CancellationToken;

/// It gives back what a sign-in took: the 19 MiB of a password's hash stay with glibc's for good, once for each thread.
/// Its second version, which does so after 10 ms; the third waits a second, and for somebody to allocate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if nullius_cli::complete() {
        return ExitCode::SUCCESS;
    }
    let invocation = match nullius_cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(unparsed) => return told(&unparsed),
    };
    match invocation {
        Invocation::Client(command) => client(command),
        Invocation::Hub(args, form) => {
            let logs = hub_logs(&args.flags);
            role(logs, |shutdown| hub::run(args, form, shutdown))
        }
        Invocation::VerifyAudit(args, form) => {
            role(Ok((LogFormat::Text, Some("warn".to_owned()))), |_| audit::verify(args, form))
        }
        Invocation::Up(args) => {
            let logs = hub_logs(&args.hub);
            role(logs, |shutdown| up::run(args, shutdown))
        }
        Invocation::Proxy(args) => {
            let format = args.log_format;
            let run = |shutdown| async { proxy::run(args, shutdown).await.map(|()| Exit::Ok) };
            role(Ok((format, None)), run)
        }
        Invocation::Node(args) => {
            // Before any thread begins: they all see what this one sees.
            let entered = node::enter();
            let format = args.log_format;
            let run = |shutdown| async {
                entered?;
                node::run(args, shutdown).await.map(|()| Exit::Ok)
            };
            role(Ok((format, None)), run)
        }
        Invocation::Cni(args) => cni::run(args).unwrap_or_else(|error| failed(&error)),
        Invocation::Agent(command) => {
            let format = match &command {
                AgentCommand::Proxy(args) => args.log_format,
                AgentCommand::Control(args) => args.log_format,
                AgentCommand::Admission(args) => args.log_format,
                AgentCommand::Identity(args) => args.log_format,
            };
            let run = |shutdown| async { agent::run(command, shutdown).await.map(|()| Exit::Ok) };
            role(Ok((format, None)), run)
        }
    }
}

type Logs = Result<(LogFormat, Option<String>)>;

fn hub_logs(flags: &nullius_cli::HubFlags) -> Logs {
    let config = config::Config::read(flags.config.as_deref())?;
    let format = flags.log_format.unwrap_or_else(|| config.log_format());
    Ok((format, config.log_level().map(str::to_owned)))
}

/// Runs a role with logs and signals until it ends by itself or is told to stop.
fn role<F>(logs: Logs, run: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = Result<Exit>>,
{
    let started = logs.and_then(|(format, level)| {
        let format = match format {
            LogFormat::Text => nullius_telemetry::LogFormat::Text,
            LogFormat::Json => nullius_telemetry::LogFormat::Json,
        };
        let level =
            std::env::var("NULLIUS_LOG").ok().or(level).unwrap_or_else(|| "info".to_owned());
        nullius_telemetry::init_logs(format, &level)
            .context("the logs cannot be set up")
            .context(config::Misconfigured)
    });
    if let Err(error) = started {
        return failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start")),
    };
    let shutdown = CancellationToken::new();
    runtime.spawn(signals(shutdown.clone()));
    let ended = runtime.block_on(run(shutdown));
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error),
    }
}

/// Tells why a role ended; a wrong configuration has an exit code of its own.
fn failed(error: &anyhow::Error) -> ExitCode {
    use nullius_hub::{InitError, RunError};
    let settings = match (error.downcast_ref::<RunError>(), error.downcast_ref::<InitError>()) {
        (Some(RunError::Init(init)), _) | (None, Some(init)) => {
            matches!(init, InitError::Settings(_))
        }
        (Some(_), _) | (None, None) => false,
    };
    let is_usage = settings || error.downcast_ref::<config::Misconfigured>().is_some();
    let mut chain = error.chain().map(|cause| cause.to_string().trim_end().to_owned());
    let mut failure = Failure::new(chain.next().unwrap_or_default());
    let mut why: Vec<String> = Vec::new();
    for cause in chain {
        // Some libraries repeat their cause in their own text.
        if !why.last().is_some_and(|before| before.ends_with(&cause)) {
            why.push(cause);
        }
    }
    if !why.is_empty() {
        failure = failure.why(why.join(": "));
    }
    if is_usage {
        failure = failure
            .next("mend it and start again; `--help` behind the command names every setting")
            .exit_with(Exit::Usage);
    }
    tell(&mut io::stderr(), &failure.lines(Chain::Hidden));
    failure.exit().into()
}

/// SIGTERM and Ctrl-C ask the role to stop; a second one ends the process at once.
async fn signals(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("cannot listen for signals");
        return;
    };
    for _ in 0..2 {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            std::process::exit(130);
        }
        shutdown.cancel();
    }
}

/// Does what a person asked for; one thread is enough.
fn client(command: nullius_cli::ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start")),
    };
    let exit = runtime.block_on(nullius_cli::run(command, Environment::of_process()));
    // What still waits for a key or a lock does not keep the process.
    runtime.shutdown_background();
    exit.into()
}

fn told(unparsed: &Unparsed) -> ExitCode {
    match unparsed.exit {
        Exit::Ok => tell(&mut io::stdout(), &unparsed.text),
        Exit::Failed | Exit::Denied | Exit::Usage => tell(&mut io::stderr(), &unparsed.text),
    }
    unparsed.exit.into()
}

/// Writes to a stream whose reader may have gone away.
fn tell(stream: &mut dyn Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
