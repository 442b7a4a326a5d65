//! The corpora of the fuzz targets, replayed and changed at random: a bounded run of what `fuzz/` does without end.

use std::{fs, path::PathBuf};

use proptest::{collection, prelude::*, sample::Index};

#[path = "../../../../fuzz/entries.rs"]
mod entries;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target].iter().collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A change of a text: bytes taken out at a place, others put in, a part said again.
#[derive(Debug, Clone)]
struct Change {
    at: Index,
    out: usize,
    put: Vec<u8>,
    again: usize,
}

fn change() -> impl Strategy<Value = Change> {
    let word = prop_oneof![
        collection::vec(any::<u8>(), 0..4),
        "[-{}\\[\\]():,.'\"?!&|<>=*+%#\\n \\t\\\\]{1,3}".prop_map(String::into_bytes),
        "(null|true|~|yes|0|-1|9223372036854775808|1e999|0x|in|has|all|map|object|\\{\\}|---|<<|&a|\\*a)"
            .prop_map(String::into_bytes),
    ];
    (any::<Index>(), 0_usize..8, word, 0_usize..40).prop_map(|(at, out, put, again)| Change {
        at,
        out,
        put,
        again,
    })
}

fn changed(seeds: &[Vec<u8>], seed: Index, changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.get(seeds).clone();
    for Change { at, out, put, again } in changes {
        let at = at.index(bytes.len() + 1);
        let end = bytes.len().min(at + out);
        let repeated = bytes[at..bytes.len().min(at + again)].to_vec();
        bytes.splice(at..end, put.iter().copied().chain(repeated));
    }
    bytes
}

macro_rules! target {
    ($name:ident, $cases:literal) => {
        mod $name {
            use super::*;

            #[test]
            fn the_corpus_is_taken() {
                let seeds = corpus(stringify!($name));
                assert!(seeds.len() >= 5);
                seeds.iter().for_each(|seed| entries::$name(seed));
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases($cases))]

                #[test]
                fn changed_input_is_taken(
                    seed in any::<Index>(),
                    changes in collection::vec(change(), 1..6),
                ) {
                    entries::$name(&changed(&corpus(stringify!($name)), seed, &changes));
                }
            }
        }
    };
}

target!(cel_source, 400);
target!(admission_review, 200);
target!(yaml_intake, 1000);
target!(scanned_file, 200);
target!(api_server_audit, 200);
target!(cluster_documents, 200);
target!(policies, 200);
target!(policy_tests, 200);
