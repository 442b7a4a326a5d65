//! Where the conformance data lies, and the exceptions from it, which may only become fewer.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;

const EXCEPTIONS: &str = include_str!("exceptions.txt");

/// The cases of a file; `None`, said aloud, where the data is not there.
pub(crate) fn cases(file: &str) -> Option<Vec<Json>> {
    let path = folder().join("cel").join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("the conformance file is JSON")),
        Err(error) => {
            nullius_skip::skip_without_data(&format!(
                "{} cannot be read ({error}): set NULLIUS_CONFORMANCE to the folder of the conformance data",
                path.display()
            ));
            None
        }
    }
}

fn folder() -> PathBuf {
    env::var_os("NULLIUS_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    )
}

/// The cases of a suite that are known not to pass.
pub(crate) fn exceptions(suite: &str) -> BTreeSet<String> {
    EXCEPTIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix(suite)?.strip_prefix(' '))
        .map(str::to_owned)
        .collect()
}

/// Compares what failed with the exceptions: neither a new failure nor an exception that passes may stand.
pub(crate) fn settle(suite: &str, failed: &[(String, String)]) {
    let excepted = exceptions(suite);
    let failing: BTreeSet<String> = failed.iter().map(|(name, _)| name.clone()).collect();
    let new: Vec<String> = failed
        .iter()
        .filter(|(name, _)| !excepted.contains(name))
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    let passing: Vec<&String> = excepted.iter().filter(|name| !failing.contains(*name)).collect();
    assert!(new.is_empty(), "{} new failures:\n{}", new.len(), new.join("\n"));
    assert!(passing.is_empty(), "these pass now, take them out of exceptions.txt: {passing:#?}");
}
