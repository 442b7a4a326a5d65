#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use super::*;

fn refused(words: &[&str]) -> Unparsed {
    let words: Vec<&str> = std::iter::once("nullius").chain(words.iter().copied()).collect();
    parse(words).err().unwrap()
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_command_stands_on_the_front_page_once() {
    let mut listed: Vec<&str> =
        FRONT_PAGE.iter().flat_map(|(_, nouns)| nouns.iter().copied()).collect();
    let command = command();
    let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn every_help_text_is_as_it_was() {
    let mut text = String::new();
    help(&mut command().term_width(100), "nullius", &mut text);
    insta::assert_snapshot!(text);
}

fn help(command: &mut clap::Command, name: &str, text: &mut String) {
    command.build();
    text.push_str(&format!("===== {name} --help\n{}\n", command.clone().render_long_help()));
    let subs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    for mut sub in subs.into_iter().filter(|sub| sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        sub = sub.bin_name(name.clone()).term_width(100);
        help(&mut sub, &name, text);
    }
}

#[test]
fn the_reference_and_the_man_pages_hold_every_command() {
    fn count(command: &clap::Command) -> usize {
        let shown = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
        1 + command.get_subcommands().filter(shown).map(count).sum::<usize>()
    }
    let commands = count(&command());
    assert_eq!(man_pages().unwrap().len(), commands);
    assert_eq!(reference_markdown().matches("\n```text\n").count(), commands - 1);
}

#[test]
fn a_typo_is_answered_with_the_near_word_and_exit_code_64() {
    let typo = refused(&["lgoin"]);
    assert_eq!(typo.exit, Exit::Usage);
    assert!(typo.text.contains("'login'"), "{}", typo.text);
    assert!(refused(&["login", "--devise"]).text.contains("'--device'"));
    assert!(refused(&["get", "grnats"]).text.contains("did you mean `grants`?"));
    assert!(refused(&["audit", "list", "--kind", "sign-inn"]).text.contains("'sign-in'"));
    assert_eq!(refused(&[]).exit, Exit::Usage);
    assert_eq!(refused(&["--help"]).exit, Exit::Ok);
    assert_eq!(refused(&["--version"]).exit, Exit::Ok);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for words in [
        vec!["login", "--device", "--terminal"],
        vec!["login", "--ca", "f", "--ca-fingerprint", "sha256:00"],
        vec!["lock", "add"],
        vec!["lock", "add", "--user", "a", "--group", "b"],
        vec!["delete", "grant"],
        vec!["delete", "grant", "x", "-f", "y"],
        vec!["access", "explain", "ada", "get", "pods"],
        vec!["up"],
    ] {
        assert_eq!(refused(&words).exit, Exit::Usage, "{words:?}");
    }
}

#[test]
fn roles_are_for_the_binary() {
    let parsed = |words: &[&str]| parse(words.iter().copied()).unwrap();
    assert!(matches!(
        parsed(&["nullius", "hub", "--state", "/s"]),
        Invocation::Hub(HubArgs { command: None, .. }, ResultForm::Text)
    ));
    assert!(matches!(
        parsed(&["nullius", "hub", "init", "--state", "/s", "-o", "json"]),
        Invocation::Hub(
            HubArgs { command: Some(HubCommand::Init(_)), flags: HubFlags { state: Some(_), .. } },
            ResultForm::Json
        )
    ));
    assert!(matches!(
        parsed(&["nullius", "agent", "proxy", "--cluster", "dev"]),
        Invocation::Agent(AgentCommand::Proxy(_))
    ));
    assert!(matches!(parsed(&["nullius", "node"]), Invocation::Node(_)));
    // As container runtimes start it.
    assert!(matches!(parsed(&["/opt/cni/bin/nullius-cni"]), Invocation::Cni(_)));
    assert!(matches!(parsed(&["nullius", "proxy", "--config", "f"]), Invocation::Proxy(_)));
    assert!(matches!(parsed(&["nullius", "up", "--kubeconfig", "k"]), Invocation::Up(_)));
}

#[test]
fn the_reference_in_docs_is_what_the_program_says() {
    let committed = include_str!("../../../docs/reference/cli.md");
    let made = reference_markdown();
    assert!(committed == made, "run `cargo xtask generate` and commit docs/reference/cli.md");
}
