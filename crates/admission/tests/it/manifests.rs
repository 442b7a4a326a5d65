//! Manifests of real applications, which are data beside the workspace or in `$NULLIUS_CONFORMANCE`.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use nullius_admission::{Scan, Waivers};
use nullius_manifest::walk;

#[test]
fn manifests_of_real_applications_are_scanned_without_a_panic() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder =
        env::var_os("NULLIUS_CONFORMANCE").map_or_else(beside, PathBuf::from).join("manifests");
    if !folder.is_dir() {
        eprintln!("skipped: no manifests in {}", folder.display());
        return;
    }
    let mut scan =
        Scan::new("restricted".parse().unwrap(), Waivers::default(), "2026-11-21".parse().unwrap());
    walk(&[folder], &mut io::empty(), &mut |source| scan.source(source));
    let report = scan.finish();
    // Templates of charts cannot be read, and one manifest has a key twice, which strict servers refuse too.
    let explained =
        |message: &str| message.contains("template") || message.ends_with("stands twice");
    let unread: Vec<_> = report.errors.iter().filter(|error| !explained(&error.message)).collect();
    assert!(unread.is_empty(), "{unread:#?}");
    assert!(report.counts.objects > 300 && report.counts.checked > 100, "{:?}", report.counts);
    assert!(report.findings.iter().any(|finding| finding.check.as_str() == "privileged"));
    for finding in &report.findings {
        assert!(!finding.path.is_empty() && !finding.fix.is_empty(), "{finding:?}");
    }
}
