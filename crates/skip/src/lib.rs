//! How a test says that it does not run here, in one form, so that a test run can count and list it.
//!
//! libtest knows no skipped test: one that returns early has passed. So the test says it to a file that `cargo xtask test`
//! names in the environment ([`FILE`]); without one, to standard error alone. In CI a test that could run does.

use std::{env, fs::OpenOptions, io::Write as _, panic::Location, path::Path, thread};

/// The environment variable that names the file in which a test run collects what was skipped.
pub const FILE: &str = "NULLIUS_TEST_SKIPS";

/// What was said about a test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    /// How much of the test did not run.
    pub extent: Extent,
    /// What it needs and lacks.
    pub reason: String,
    /// The test: its program and its name in it.
    pub test: String,
}

/// How much of a test did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// All of it.
    Whole,
    /// A part that this machine lacks something for.
    Part,
}

/// Says that the calling test does not run on this machine, for this reason; the caller returns.
///
/// # Panics
/// In CI, where it must run.
#[track_caller]
#[expect(clippy::panic, reason = "the contract with a test that must not pass by not running")]
pub fn skip(reason: &str) {
    assert!(!reason.is_empty(), "a skip has a reason");
    if in_ci() {
        panic!("this test must run in CI: {reason}");
    }
    tell(Extent::Whole, reason);
}

/// As [`skip`], also in CI: what the test needs is not part of the repository.
#[track_caller]
pub fn skip_without_data(reason: &str) {
    tell(Extent::Whole, reason);
}

/// Says that a part of the calling test does not run on this machine; the test goes on.
#[track_caller]
pub fn leave_out(reason: &str) {
    tell(Extent::Part, reason);
}

/// Whether this is continuous integration: `CI` is set to anything but nothing, `0` or `false`.
pub fn in_ci() -> bool {
    means_ci(env::var_os("CI").map(|value| value.to_string_lossy().into_owned()).as_deref())
}

fn means_ci(value: Option<&str>) -> bool {
    !matches!(value, None | Some("" | "0" | "false"))
}

/// What was said to a file, each test once.
pub fn read(file: &Path) -> std::io::Result<Vec<Skip>> {
    let text = std::fs::read_to_string(file)?;
    let mut found: Vec<Skip> = text.lines().filter_map(parse).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

#[track_caller]
#[expect(clippy::panic, reason = "a skip that nobody hears of would count as a test that passed")]
fn tell(extent: Extent, reason: &str) {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = match extent {
        Extent::Whole => "skipped",
        Extent::Part => "left out",
    };
    eprintln!("{what}: {reason}");
    let Some(file) = env::var_os(FILE) else { return };
    let line = format!("{what}\t{reason}\t{}\n", current_test(Location::caller()));
    // One write of a short line: tests of several programs append to the same file.
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("cannot say to `{}` that a test is skipped: {error}", Path::new(&file).display());
    }
}

fn parse(line: &str) -> Option<Skip> {
    let mut parts = line.split('\t');
    let (what, reason, test) = (parts.next()?, parts.next()?, parts.next()?);
    let extent = match what {
        "skipped" => Extent::Whole,
        "left out" => Extent::Part,
        _ => return None,
    };
    Some(Skip { extent, reason: reason.to_owned(), test: test.to_owned() })
}

/// libtest names each test's thread after it; with one thread for all of them the place in the source has to do.
fn current_test(place: &Location<'_>) -> String {
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    match thread::current().name() {
        Some(name) if name != "main" => format!("{package} {name}"),
        _ => format!("{package} {}:{}", place.file(), place.line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_is_said_in_more_than_one_way() {
        for value in ["true", "1", "yes", "woodpecker"] {
            assert!(means_ci(Some(value)), "{value}");
        }
        for value in [None, Some(""), Some("0"), Some("false")] {
            assert!(!means_ci(value), "{value:?}");
        }
    }

    #[test]
    fn a_line_that_says_nothing_known_is_left_out() {
        let skip = parse("skipped\tno root\tnullius-x a::b").map(|skip| (skip.extent, skip.reason));
        assert_eq!(skip, Some((Extent::Whole, "no root".to_owned())));
        assert_eq!(parse("left out\tno kubectl").map(|skip| skip.reason), None);
        assert_eq!(parse("passed\ta\tb").map(|skip| skip.reason), None);
    }
}
