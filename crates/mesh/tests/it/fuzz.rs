//! The corpus of the fuzz target, replayed and changed at random: a bounded run of what `fuzz/` does without end.

use std::{fs, path::PathBuf};

use proptest::{collection, prelude::*, sample::Index};

#[path = "../../../../fuzz/mesh.rs"]
mod mesh;

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
        Just(b"\x16\x03\x01".to_vec()),
        Just(b"\0\x10\0\x0a\0\x08\x07nullius".to_vec()),
        (0_usize..20_000).prop_map(|count| vec![0; count]),
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

#[test]
fn client_hello() {
    let seeds = corpus("client_hello");
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|bytes| mesh::client_hello(bytes));
    let config =
        ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    let input = (any::<Index>(), collection::vec(change(), 0..5));
    proptest!(config, |((seed, changes) in input)| {
        mesh::client_hello(&changed(&seeds, seed, &changes));
    });
}
