//! What is made from Kubernetes' own code is what Kubernetes' code makes.

use std::process::Command;

#[test]
fn the_kinds_are_those_of_the_pinned_kubernetes() {
    // Building it takes minutes the first time, as the clusters do, which need Go as well.
    if std::env::var_os("NULLIUS_TEST_STATE").is_none() {
        crate::skip_without_clusters();
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["generate", "--kinds", "--check"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
