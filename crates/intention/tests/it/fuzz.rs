//! The corpora of the fuzz targets, replayed and changed at random: a bounded run of what `fuzz/` does without end.

use std::{fs, path::PathBuf};

use proptest::{collection, prelude::*, sample::Index};

#[path = "../../../../fuzz/intentions.rs"]
mod intentions;

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
    let word = prop_oneof![
        collection::vec(any::<u8>(), 0..4),
        "[-{}\\[\\]:,.'\"?!&*+%#/ \\n\\t\\\\;]{1,4}".prop_map(String::into_bytes),
        "(null|true|-1|70000|\\$ref|#/paths|type|not|allOf|limit=|content-type: |\\.\\./|%2e|%2f|%25|/admin|admin|host: b\n|x-role: admin\n|spiffe://|any|deny|allow)"
            .prop_map(String::into_bytes),
    ];
    (any::<Index>(), 0_usize..6, word)
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

macro_rules! target {
    ($name:ident) => {
        #[test]
        fn $name() {
            let seeds = corpus(stringify!($name));
            assert!(!seeds.is_empty());
            seeds.iter().for_each(|bytes| intentions::$name(bytes));
            let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
            let input = (any::<Index>(), collection::vec(change(), 0..5));
            proptest!(config, |((seed, changes) in input)| {
                intentions::$name(&changed(&seeds, seed, &changes));
            });
        }
    };
}

target!(intention_object);
target!(request_head);
target!(api_document);
target!(api_request);
