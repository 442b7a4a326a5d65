//! The reference in docs/ and the man pages, made of the command line itself.

use clap::{Arg, Command};

use crate::failure::Failure;

/// The reference of every command, as Markdown.
pub fn reference_markdown() -> String {
    let mut root = crate::command();
    root.build();
    let mut text = String::from(
        "# Command line\n\nGenerated from the program by `cargo xtask generate`; change the program, not this page.\n\n\
         Exit codes: 0 done, 1 failed, 2 denied or differences found, 64 the command line or configuration is wrong.\n\
         The result goes to standard output, everything else to standard error.\n",
    );
    let globals: Vec<&Arg> = root.get_arguments().filter(|arg| arg.is_global_set()).collect();
    text.push_str("\n## Global options\n\n");
    for arg in &globals {
        text.push_str(&argument(arg));
    }
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(command, "nullius", &mut text);
    }
    text
}

fn section(command: &Command, parent: &str, text: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let depth = "#".repeat(name.split(' ').count().clamp(2, 4));
    text.push_str(&format!("\n{depth} {name}\n\n"));
    let about = command.get_long_about().or(command.get_about());
    if let Some(about) = about {
        text.push_str(&format!("{about}\n"));
    }
    let shown: Vec<&Command> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    let usage = command.clone().bin_name(name.clone()).render_usage().to_string();
    text.push_str(&format!("\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim()));
    let own = |arg: &&Arg| !arg.is_hide_set() && !arg.is_global_set() && arg.get_id() != "help";
    let is_shared = |arg: &Arg| arg.is_global_set() && !is_root_global(arg);
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| own(arg) || (is_shared(arg) && !arg.is_hide_set()))
        .collect();
    if !arguments.is_empty() {
        text.push('\n');
        for arg in arguments {
            text.push_str(&argument(arg));
        }
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        let lines: Vec<&str> = after.lines().skip(1).map(str::trim).collect();
        text.push_str(&format!("\n```sh\n{}\n```\n", lines.join("\n")));
    }
    for sub in shown {
        section(sub, &name, text);
    }
}

/// Whether the flag is one that every command takes.
fn is_root_global(arg: &Arg) -> bool {
    ["hub", "context", "output", "no_headers", "verbose", "color", "help", "version"]
        .contains(&arg.get_id().as_str())
}

fn argument(arg: &Arg) -> String {
    let value =
        arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let mut spelled = Vec::new();
    if let Some(short) = arg.get_short() {
        spelled.push(format!("-{short}"));
    }
    if let Some(long) = arg.get_long() {
        spelled.push(format!("--{long}"));
    }
    let name = match (spelled.is_empty(), takes) {
        (true, _) => value,
        (false, true) => format!("{} {value}", spelled.join(", ")),
        (false, false) => spelled.join(", "),
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help =
        help.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join(". ");
    let mut notes = Vec::new();
    let possible: Vec<String> = if takes {
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect()
    } else {
        Vec::new()
    };
    if !possible.is_empty() {
        notes.push(format!("one of {}", possible.join(", ")));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if takes && !defaults.is_empty() {
        notes.push(format!("default {}", defaults.join(", ")));
    }
    if let Some(variable) = arg.get_env() {
        notes.push(format!("environment `{}`", variable.to_string_lossy()));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    format!("- `{name}`: {help}{notes}\n")
}

/// A man page for each command: file name and roff.
pub fn man_pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut pages = Vec::new();
    let mut root = crate::command();
    root.build();
    collect(&root, "nullius", &mut pages)?;
    Ok(pages)
}

fn collect(
    command: &Command,
    name: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(|error| {
        Failure::new(format!("cannot write the man page of `{name}`")).because(error)
    })?;
    pages.push((format!("{name}.1"), page));
    for sub in
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        collect(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}
