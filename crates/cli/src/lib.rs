//! The command line of Nullius: arguments, the client of a hub, objects from files, kubectl's exec plugin.
//!
//! [`parse`] reads the command line into an [`Invocation`]: either a role that the binary runs (hub, agent, up), or
//! something that this crate does itself by [`run`]. Results go to standard output, everything else to standard
//! error, failures as what, why and next.

mod args;
mod client;
mod command;
mod completion;
mod credential;
mod environment;
mod failure;
mod home;
mod kubeconfig;
mod login;
mod object;
mod output;
mod reference;
mod stage;

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, FromArgMatches};

pub use args::{
    AgentAdmissionArgs, AgentCommand, AgentControlArgs, AgentIdentityArgs, AgentProxyArgs,
    AuditVerify, CniArgs, CniCommand, HubArgs, HubCommand, HubFlags, HubInit, HubKeysCommand,
    HubKeysExport, HubKeysRotate, LogFormat, NodeArgs, OfflinePassphrase, ProxyArgs, UpArgs,
};
pub use command::audit::{read_anchors, tell_verdict};
pub use completion::complete;
pub use environment::{Answers, Audience, Environment, Terminal};
pub use failure::{Chain, Exit, Failure};
pub use login::pin::Fingerprint;
pub use reference::{man_pages, reference_markdown};

use args::{Cli, Command, Global};
use stage::Stage;

/// Asks the person at the terminal for a secret; none where nobody can be asked.
pub async fn ask_secret(question: &str) -> Result<Option<String>, Failure> {
    let answers = Environment::of_process().answers;
    if !answers.can_ask() {
        return Ok(None);
    }
    answers.ask_secret(question).await.map(Some)
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the hub, or make its state and tell about it in this form.
    Hub(HubArgs, ResultForm),
    /// Run an agent.
    Agent(AgentCommand),
    /// Run the part on a node.
    Node(NodeArgs),
    /// The plugin of a pod's network.
    Cni(CniArgs),
    /// Run a workload's proxy.
    Proxy(ProxyArgs),
    /// Run both beside a kubeconfig.
    Up(UpArgs),
    /// Verify the audit of a state directory without a hub, and tell about it in this form.
    VerifyAudit(AuditVerify, ResultForm),
    /// Something that [`run`] does.
    Client(ClientCommand),
}

/// How a role that ends with a result tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultForm {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}

/// A command of a person, and the flags around it.
#[derive(Debug)]
pub struct ClientCommand {
    global: Global,
    command: Command,
}

/// Help, or a command line that cannot be understood.
#[derive(Debug)]
pub struct Unparsed {
    /// The text, with colours.
    pub text: String,
    /// Whether it is what was asked for.
    pub exit: Exit,
}

/// The name under which a container runtime starts the plugin of a pod's network.
const PLUGIN: &str = "nullius-cni";

/// The whole command line, with the front page of its help.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let page = front_page(&command);
    command.help_template(page)
}

/// Reads a command line; the first word is the program.
pub fn parse(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Invocation, Unparsed> {
    let mut words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let program = words.first().and_then(|word| Path::new(word).file_name());
    if words.len() == 1 && program.is_some_and(|name| name == PLUGIN) {
        // A container runtime gives a plugin no words.
        words.push("cni".into());
    }
    let matches = command().try_get_matches_from(words).map_err(unparsed)?;
    let Cli { global, command } = Cli::from_arg_matches(&matches).map_err(unparsed)?;
    let json = global.output == output::Format::Json;
    let form = if json { ResultForm::Json } else { ResultForm::Text };
    Ok(match command {
        Command::Hub(args) => Invocation::Hub(args, form),
        Command::Audit(args::AuditCommand::Verify(args)) if args.state.is_some() => {
            Invocation::VerifyAudit(args, form)
        }
        Command::Agent(command) => Invocation::Agent(command),
        Command::Node(args) if args.command.is_none() => Invocation::Node(args),
        Command::Cni(args) => Invocation::Cni(args),
        Command::Proxy(args) => Invocation::Proxy(args),
        Command::Up(args) => Invocation::Up(args),
        command => Invocation::Client(ClientCommand { global, command }),
    })
}

fn unparsed(error: clap::Error) -> Unparsed {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    let styled = error.render();
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && {
        use std::io::IsTerminal;
        if exit == Exit::Ok {
            std::io::stdout().is_terminal()
        } else {
            std::io::stderr().is_terminal()
        }
    };
    let text = if colour { styled.ansi().to_string() } else { styled.to_string() };
    Unparsed { text, exit }
}

/// Does what a person asked for; a failure is told and becomes the exit code.
pub async fn run(client: ClientCommand, environment: Environment) -> Exit {
    let ClientCommand { global, command } = client;
    let chain = if global.verbose { Chain::Shown } else { Chain::Hidden };
    let colour = Colour::of(&global);
    let mut stage = Stage { environment, global };
    match Box::pin(dispatch(&mut stage, command)).await {
        Ok(exit) => exit,
        Err(failure) => {
            let text = failure.lines(chain);
            stage.tell(&colour.error(&text));
            failure.exit()
        }
    }
}

/// Refuses what a command with forms of its own does not have among them, and names those.
fn refuse_form(form: output::Format, wanted: &Command) -> Result<(), Failure> {
    use output::Format;
    let own: &[(Format, &str)] = match wanted {
        Command::Scan(_) => &[
            (Format::Sarif, "sarif"),
            (Format::Junit, "junit"),
            (Format::Codequality, "codequality"),
        ],
        Command::Test(_) => &[(Format::Junit, "junit")],
        _ => return Ok(()),
    };
    let common = [Format::Table, Format::Wide, Format::Json, Format::Yaml, Format::Name];
    if common.contains(&form) || own.iter().any(|(known, _)| *known == form) {
        return Ok(());
    }
    let names: Vec<&str> = own.iter().map(|(_, name)| *name).collect();
    Err(output::no_form(form, &names))
}

async fn dispatch(stage: &mut Stage, wanted: Command) -> Result<Exit, Failure> {
    if stage.global.output == output::Format::Kubernetes && !matches!(wanted, Command::Audit(_)) {
        return Err(Failure::usage("`-o kubernetes` is a form of audit events")
            .next("use `-o json`, or list events: `nullius audit list -o kubernetes`"));
    }
    refuse_form(stage.global.output, &wanted)?;
    let of_findings =
        [output::Format::Csv, output::Format::Policyreport, output::Format::Openreports];
    if of_findings.contains(&stage.global.output) && !matches!(wanted, Command::Findings(_)) {
        return Err(output::only_findings());
    }
    let is_export = matches!(wanted, Command::Policy(args::PolicyCommand::Export(_)));
    let of_exports = [output::Format::Native, output::Format::Manifest];
    if of_exports.contains(&stage.global.output) && !is_export {
        return Err(output::only_exports());
    }
    let is_graph = matches!(wanted, Command::Mesh(args::MeshCommand::Graph(_)));
    let of_graphs = [output::Format::Dot, output::Format::Svg];
    if of_graphs.contains(&stage.global.output) && !is_graph {
        return Err(output::only_graphs());
    }
    match wanted {
        Command::Login(args) => command::sign::login(stage, args).await,
        Command::Logout(args) => command::sign::logout(stage, args).await,
        Command::Whoami => command::sign::whoami(stage).await,
        Command::Kubeconfig(args) => kubeconfig::run(stage, args).await,
        Command::Version => command::sign::version(stage).await,
        Command::Completion { shell } => {
            let program = stage.environment.program.to_string_lossy().into_owned();
            let script = completion::script(shell, &program)?;
            stage.print(&script)
        }
        Command::Cluster(command) => command::cluster::run(stage, command).await,
        Command::Access(command) => command::access::run(stage, command).await,
        Command::Session(command) => command::access::run_session(stage, command).await,
        Command::Lock(command) => command::people::run_lock(stage, command).await,
        Command::User(command) => command::people::run(stage, command).await,
        Command::Apply(args) => command::objects::apply(stage, args).await,
        Command::Get(args) => command::objects::get(stage, args).await,
        Command::Describe(args) => command::objects::show(stage, args.kind, &args.names).await,
        Command::Delete(args) => command::objects::delete(stage, args).await,
        Command::Diff(args) => command::objects::diff(stage, args).await,
        Command::Edit(args) => command::objects::edit(stage, args).await,
        Command::Scan(args) => command::scan::run(stage, args).await,
        Command::Record(args) => command::record::run(stage, args).await,
        Command::Test(args) => command::test::run(stage, &args),
        Command::Policy(command) => command::policy::run(stage, &command),
        Command::Intention(command) => command::intention::run(stage, &command),
        Command::Import(command) => command::import::run(stage, &command),
        Command::Inject(args) => command::inject::run(stage, &args),
        Command::Cel(command) => command::cel::run(stage, &command),
        Command::Svid(command) => command::svid::run(stage, &command).await,
        Command::Identity(command) => command::identity::run(stage, command).await,
        Command::Trust(command) => command::trust::run(stage, command).await,
        Command::Exception(command) => command::exception::run(stage, command).await,
        Command::Findings(command) => command::findings::run(stage, command).await,
        Command::Mesh(command) => command::mesh::run(stage, command).await,
        Command::Usage(command) => command::audit::run_usage(stage, command).await,
        Command::Audit(command) => command::audit::run(stage, command).await,
        Command::Node(NodeArgs { command: Some(command), .. }) => {
            command::node::run(stage, command).await
        }
        Command::Hub(_)
        | Command::Agent(_)
        | Command::Node(_)
        | Command::Cni(_)
        | Command::Proxy(_)
        | Command::Up(_) => Err(Failure::usage("this command is run by the program itself")),
    }
}

/// Whether the word `error` is red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Red,
    Plain,
}

impl Colour {
    fn of(global: &Global) -> Self {
        use std::io::IsTerminal;
        let wanted = match global.color {
            args::Color::Always => true,
            args::Color::Never => false,
            args::Color::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::io::stderr().is_terminal()
            }
        };
        if wanted { Self::Red } else { Self::Plain }
    }

    fn error(self, text: &str) -> String {
        match (self, text.strip_prefix("error:")) {
            (Self::Red, Some(rest)) => format!("\u{1b}[1;31merror:\u{1b}[0m{rest}"),
            (Self::Red, None) | (Self::Plain, _) => text.to_owned(),
        }
    }
}

/// Nouns by what they are for, in the order in which people meet them.
const FRONT_PAGE: &[(&str, &[&str])] = &[
    ("Daily", &["login", "logout", "whoami", "kubeconfig", "up", "version", "completion"]),
    ("Access", &["cluster", "access", "session", "lock", "user"]),
    ("Objects", &["apply", "get", "describe", "delete", "diff", "edit"]),
    ("Identity", &["svid", "identity", "trust"]),
    ("Mesh", &["intention", "mesh", "inject", "import"]),
    ("Policy", &["scan", "test", "record", "policy", "exception", "cel", "findings"]),
    ("The loop", &["usage"]),
    ("Audit", &["audit"]),
    ("Roles", &["hub", "agent", "node", "cni", "proxy"]),
];

/// The front page: commands by what they are for, each noun with its verbs.
fn front_page(command: &clap::Command) -> String {
    let mut page = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (title, nouns) in FRONT_PAGE {
        page.push_str(&format!("\n{title}:\n"));
        for noun in *nouns {
            let Some(found) = command.find_subcommand(noun) else { continue };
            let verbs: Vec<&str> = found
                .get_subcommands()
                .filter(|verb| !verb.is_hide_set())
                .map(clap::Command::get_name)
                .collect();
            let verbs =
                if verbs.is_empty() { String::new() } else { format!(" ({})", verbs.join(", ")) };
            let about = found.get_about().map(ToString::to_string).unwrap_or_default();
            page.push_str(&format!("  {noun:<12} {about}{verbs}\n"));
        }
    }
    page.push_str("\nOptions:\n{options}\n\nMore about a command: nullius COMMAND --help");
    page
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
