//! The tasks as a newcomer meets them, on a machine that lacks something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod generated;
mod image;
mod newcomer;
mod skips;
mod up;

/// For tests that need the programs or clusters of a test run where there is none.
fn skip_without_clusters() {
    let told = std::env::var(nullius_testkit::WITHOUT_CLUSTERS).ok();
    nullius_skip::skip(
        &told.unwrap_or_else(|| "it needs Go: run the test with `cargo xtask test`".to_owned()),
    );
}
