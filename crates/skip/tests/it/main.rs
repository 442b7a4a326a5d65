//! Tests that skip when they are told to, run by themselves: what a test run hears of them.

#![allow(clippy::unwrap_used, reason = "test")]

use std::{
    env,
    path::Path,
    process::{Command, Output},
};

use nullius_skip::{Extent, FILE, leave_out, read, skip, skip_without_data};

/// Set for a run in which these tests do skip.
const ASKED: &str = "NULLIUS_SKIP_TESTS_ASKED";

fn asked() -> bool {
    env::var_os(ASKED).is_some()
}

#[test]
fn one_that_skips() {
    if asked() {
        skip("it was asked\nto");
    }
}

#[test]
fn one_without_its_data() {
    if asked() {
        skip_without_data("no data");
    }
}

#[test]
fn one_with_a_part_left_out() {
    if asked() {
        leave_out("no second kubectl");
        leave_out("no second kubectl");
    }
}

fn run(file: &Path, ci: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--skip", "what_was"]).args(args).env(ASKED, "1").env(FILE, file);
    match ci {
        Some(ci) => command.env("CI", ci),
        None => command.env_remove("CI"),
    };
    command.output().unwrap()
}

#[test]
fn what_was_skipped_is_in_the_file_once_with_reason_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("skips");
    let output = run(&file, None, &[]);
    assert!(output.status.success(), "{output:?}");
    let told: Vec<_> = read(&file)
        .unwrap()
        .into_iter()
        .map(|skip| (skip.extent, skip.reason, skip.test))
        .collect();
    let line = |extent, reason: &str, test: &str| {
        (extent, reason.to_owned(), format!("nullius-skip {test}"))
    };
    assert_eq!(
        told,
        [
            line(Extent::Whole, "it was asked to", "one_that_skips"),
            line(Extent::Whole, "no data", "one_without_its_data"),
            line(Extent::Part, "no second kubectl", "one_with_a_part_left_out"),
        ]
    );

    // One thread for all tests has no test's name.
    let file = folder.path().join("one");
    assert!(run(&file, None, &["--test-threads=1"]).status.success());
    assert_eq!(read(&file).unwrap().len(), 3);
}

#[test]
fn what_was_skipped_in_ci_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    for ci in ["true", "1"] {
        let output = run(&folder.path().join("skips"), Some(ci), &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("this test must run in CI: it was asked"), "{said}");
        assert!(said.contains("2 passed; 1 failed"), "{said}");
    }
}
