//! The one binary: a person's command, or a role that runs until it is told to stop.
//!
//! Exit codes: 0 done, 1 failed, 2 denied or differences found, 64 the command line or the configuration is wrong.

use std::process::ExitCode;

use nullius_cli::{Environment, Invocation, Unparsed};

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
        _ => ExitCode::FAILURE,
    }
}

/// Does what a person asked for; one thread is enough.
fn client(command: nullius_cli::ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start\n  why: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(nullius_cli::run(command, Environment::of_process()));
    // What still waits for a key or a lock does not keep the process.
    runtime.shutdown_background();
    exit.into()
}

fn told(unparsed: &Unparsed) -> ExitCode {
    match unparsed.exit {
        nullius_cli::Exit::Ok => print!("{}", unparsed.text),
        _ => eprint!("{}", unparsed.text),
    }
    unparsed.exit.into()
}
