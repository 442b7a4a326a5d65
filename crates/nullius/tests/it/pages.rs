//! Sign-in on the hub's pages: the real command line, a real browser, the keyboard alone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use nullius_testkit::{Person, earlier_code, wait_until};
use serde_json::Value;

use crate::{
    browser::Browser,
    faults_lab::PATIENCE,
    people::{Worker, name_for},
    running::Running,
    world::{World, ended_with},
};

/// From the approval to the end of `nullius login`; a device asks every few seconds.
const SIGNED_IN_WITHIN: Duration = Duration::from_secs(120);
const PASSWORD: &str = "four quite ordinary words";

/// Enrols somebody by the link that `nullius user add` prints, as they would themselves.
fn enrol(world: &World, browser: &Browser, purpose: &str) -> Person {
    let name = name_for(purpose);
    let added = world.admin_json(&["user", "add", &name]);
    let link = added["url"].as_str().unwrap();
    browser.open(link);
    browser.wait_text(&format!("Step 1 of 2 for {name}"));
    browser.fill("Password", PASSWORD);
    browser.fill("The same once more", "four quite other words");
    browser.push("Go on");
    browser.wait_text("The two passwords are not the same.");
    browser.fill("Password", PASSWORD);
    browser.fill("The same once more", PASSWORD);
    browser.push("Go on");
    browser.wait_text(&format!("Step 2 of 2 for {name}"));
    let totp_secret = browser.text_of("code.secret");
    // A code counts once, and the present one is wanted to sign in.
    browser.fill("Code of your authenticator", &earlier_code(&totp_secret).unwrap());
    browser.push("Finish");
    browser.wait_text(&format!("The sign-in of {name} is set up."));
    browser.no_complaints(&[&world.environment.hub_url]);
    // The link is used up.
    browser.open(link);
    browser.wait_text("This link cannot be used");
    Person { name, password: PASSWORD.to_owned(), totp_secret, groups: Vec::new() }
}

fn sign_in(browser: &Browser, user: &str, password: &str, code: &str) {
    browser.fill("Name", user);
    browser.fill("Password", password);
    browser.fill("Code of your authenticator", code);
    browser.push("Sign in");
}

/// `nullius login` of a person at a machine whose browser is this program.
fn login(world: &World, person: &Person, more: &[&str], browser: Option<&Path>) -> Running {
    let ca = world.environment.hub_ca.display().to_string();
    let args = [&["login", "--hub", &world.environment.hub_url, "--ca", &ca], more].concat();
    let mut command = world.environment.command(&person.name, &args).unwrap();
    match browser {
        Some(program) => command.env("BROWSER", program),
        None => command.env_remove("BROWSER"),
    };
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    Running::start("nullius login", command)
}

/// A program that notes which page it was asked to open.
fn noting_browser(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (program, note) = (folder.join("browser"), folder.join("opened"));
    let script = format!("#!/bin/sh\necho \"$1\" > {0}.new && mv {0}.new {0}\n", note.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, note)
}

#[test]
fn a_new_person_enrols_and_signs_in_the_command_line_in_a_browser() {
    let Some(world) = World::together() else { return };
    let Some(browser) = Browser::start(&world.environment.hub_ca) else { return };
    let namespace = world.cluster.namespace("browser").unwrap();
    let person = enrol(&world, &browser, "nora");
    let mut worker = Worker::appoint(&world, person, namespace.name());
    let person = worker.person.clone();

    // The command line opens the page that it prints.
    let files = tempfile::tempdir().unwrap();
    let (program, note) = noting_browser(files.path());
    let mut cli = login(&world, &person, &[], Some(&program));
    let printed = cli.wait_line("https://").trim().to_owned();
    let opened =
        wait_until(PATIENCE, "the browser to be opened", || fs::read_to_string(&note).ok());
    assert_eq!(opened.unwrap().trim(), printed);

    // What is wrong stands on the page, and nothing of it is lost but the secrets.
    browser.open(&printed);
    browser.wait_text("The command line asks to be signed in.");
    let code = person.code().unwrap();
    sign_in(&browser, &person.name, "not the password at all", &code);
    browser.wait_text("User, password or code is wrong.");
    assert_eq!(browser.text_of("[role=alert]"), "User, password or code is wrong.");
    sign_in(&browser, &person.name, &person.password, &code);
    let page = browser.wait_text("Sign in the command line?");
    for part in [person.name.as_str(), "Asked from", "Goes back to", "127.0.0.1:"] {
        assert!(page.contains(part), "`{part}` is not in: {page}");
    }
    assert!(cli.is_running());
    browser.push("Sign it in");
    browser.wait_text("You are signed in.");
    let returned = browser.address();
    let loopback = &returned[..returned.find("/?").unwrap()];
    assert!(loopback.starts_with("http://127.0.0.1:"), "{returned}");
    let (ended, said) = cli.wait_end(SIGNED_IN_WITHIN);
    assert_eq!(ended, 0, "{said}");
    assert!(said.contains(&format!("as {}", person.name)), "{said}");
    let hub = world.environment.hub_url.as_str();
    browser.no_complaints(&[hub, loopback]);
    worker.arrive();
    worker.works_again(&["get", "pods"]);

    // The page of the account knows both sessions, and signs out of the browser's alone.
    browser.open(&format!("{hub}/account"));
    let account = browser.wait_text("Your sessions");
    assert!(
        account.contains("Command line, by browser") && account.contains("Browser (this one)"),
        "{account}"
    );
    browser.push("Sign out of this browser");
    browser.wait_text("This browser is signed out.");
    worker.works_again(&["get", "pods"]);

    // A code counts once.
    browser.push("Sign in again");
    browser.wait_text("Each code works once.");
    sign_in(&browser, &person.name, &person.password, &code);
    browser.wait_text("User, password or code is wrong.");
    browser.open(&format!("{hub}/account"));
    browser.wait_text("Each code works once.");
    browser.no_complaints(&[hub]);
}

#[test]
fn a_device_is_signed_in_by_its_code_in_a_browser() {
    let Some(world) = World::together() else { return };
    let Some(browser) = Browser::start(&world.environment.hub_ca) else { return };
    let namespace = world.cluster.namespace("device").unwrap();
    let person = enrol(&world, &browser, "nils");
    let mut worker = Worker::appoint(&world, person, namespace.name());
    let person = worker.person.clone();
    let shown = |device: &mut Running| {
        let page = device.wait_line("page  ").split_whitespace().last().unwrap().to_owned();
        (page, device.wait_line("code  ").split_whitespace().last().unwrap().to_owned())
    };

    let mut device = login(&world, &person, &["--device"], None);
    let (page, code) = shown(&mut device);
    browser.open(&page);
    sign_in(&browser, &person.name, &person.password, &person.code().unwrap());
    browser.wait_text("Type the code that nullius login --device shows");
    browser.fill("Code", "BCDF-GHJK");
    browser.push("Go on");
    browser.wait_text("No device waits under this code");
    browser.fill("Code", &code.to_lowercase());
    browser.push("Go on");
    let asked = browser.wait_text("Sign in this device?");
    assert!(asked.contains(&code) && asked.contains(&person.name), "{asked}");
    browser.push("Sign it in");
    browser.wait_text("The device is signed in.");
    let (ended, said) = device.wait_end(SIGNED_IN_WITHIN);
    assert_eq!(ended, 0, "{said}");
    worker.arrive();
    worker.works_again(&["get", "pods"]);

    // One that was not asked for is refused, and told so.
    let mut other = login(&world, &person, &["--device"], None);
    let (page, code) = shown(&mut other);
    browser.open(&page);
    browser.fill("Code", &code);
    browser.push("Go on");
    browser.wait_text("Sign in this device?");
    browser.push("No, refuse it");
    browser.wait_text("The device was refused.");
    let (ended, said) = other.wait_end(SIGNED_IN_WITHIN);
    assert_eq!(ended, 2, "{said}");
    assert!(said.contains("refused"), "{said}");
    browser.no_complaints(&[&world.environment.hub_url]);
    // The session from before is still there.
    let whoami = worker.nullius(&["whoami", "-o", "json"]);
    ended_with(&whoami, 0);
    let me: Value = serde_json::from_str(&whoami.stdout).unwrap();
    assert_eq!(me["session"], worker.session.as_str());
}
