//! The corpora of the fuzz targets, replayed and changed at random: a bounded run of what `fuzz/` does without end.

use std::{fs, path::PathBuf};

use proptest::{collection, prelude::*, sample::Index};

#[path = "../../../../fuzz/tokens.rs"]
mod tokens;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target].iter().collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Bytes taken out at a place, and others put in.
type Change = (Index, usize, Vec<u8>);

fn change() -> impl Strategy<Value = Change> {
    let put = prop_oneof![
        collection::vec(any::<u8>(), 0..4),
        collection::vec(prop_oneof![Just(b'.'), Just(b'A'), Just(b'_'), Just(b'-')], 1..4),
        Just(b"eyJhbGciOiJub25lIn0.".to_vec()),
        (0_usize..20_000).prop_map(|count| vec![b'A'; count]),
    ];
    (any::<Index>(), 0_usize..6, put)
}

fn changed(seeds: &[Vec<u8>], seed: Index, changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.get(seeds).clone();
    for (at, out, put) in changes {
        let at = at.index(bytes.len() + 1);
        let end = bytes.len().min(at + out);
        bytes.splice(at..end, put.iter().copied());
    }
    bytes
}

fn run(target: &str, entry: fn(&[u8])) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|bytes| entry(bytes));
    let config =
        ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    let input = (any::<Index>(), collection::vec(change(), 0..5));
    proptest!(config, |((seed, changes) in input)| {
        entry(&changed(&seeds, seed, &changes));
    });
}

#[test]
fn issued_token() {
    run("issued_token", tokens::issued_token);
}

#[test]
fn machine_token() {
    run("machine_token", tokens::machine_token);
}
