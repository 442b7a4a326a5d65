//! What `cargo xtask test` says of tests that do not run.

use std::process::{Command, Output};

/// The tests of `nullius-skip`, some of which skip when they are asked to.
fn test(ci: Option<&str>) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["test", "--without-clusters", "--package", "nullius-skip"]);
    command.env("NULLIUS_SKIP_TESTS_ASKED", "1").env_remove("CI");
    command.envs(ci.map(|ci| ("CI", ci)));
    let Output { status, stdout, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap())
}

#[test]
fn tests_that_skip_are_counted_and_listed_with_their_reasons() {
    let (code, said) = test(None);
    assert_eq!(code, 0, "{said}");
    for part in [
        "skipped 1 test: it was asked to\n    nullius-skip one_that_skips\n",
        "skipped 1 test: no data\n    nullius-skip one_without_its_data\n",
        "left out of 1 test: no second kubectl\n    nullius-skip one_with_a_part_left_out\n",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(said.lines().last().unwrap().ends_with(" passed, 0 failed, 2 skipped"), "{said}");

    // In CI what could run must.
    let (code, said) = test(Some("1"));
    assert_eq!(code, 1, "{said}");
    assert!(said.lines().last().unwrap().ends_with(" passed, 1 failed, 1 skipped"), "{said}");
}
