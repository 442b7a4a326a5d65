//! Anchor files: what follows is taken, everything else is named with its line.

use std::collections::BTreeMap;

use nullius_audit::{
    AnchorError, AnchorReader, Anchors, ChainId, Checkpoint, Digest, Epoch, Head, SignedCheckpoint,
};

/// Checkpoints that follow from each other.
fn checkpoints(count: u64) -> Vec<SignedCheckpoint> {
    let mut previous = Digest::ZERO;
    let chain = ChainId { writer: "hub".parse().unwrap(), epoch: Epoch(1) };
    let make = |seq: u64| {
        let heads = BTreeMap::from([(chain.clone(), Head { seq, hash: Digest::ZERO })]);
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let checkpoint = Checkpoint { seq, at, previous, heads };
        let signed =
            SignedCheckpoint::sign(&checkpoint, |_| Ok::<_, serde_json::Error>(vec![7])).unwrap();
        previous = signed.hash();
        signed
    };
    (1..=count).map(make).collect()
}

fn lines(count: u64) -> Vec<String> {
    checkpoints(count).iter().map(|signed| serde_json::to_string(signed).unwrap()).collect()
}

fn read(lines: &[String]) -> Result<Anchors, AnchorError> {
    let mut reader = AnchorReader::default();
    for line in lines {
        reader.line(line)?;
    }
    reader.finish()
}

#[test]
fn what_follows_is_taken_also_after_a_gap_a_repeat_and_a_torn_line() {
    let whole = read(&lines(5)).unwrap();
    assert_eq!((whole.count, whole.newest, whole.checkpoints.len()), (5, 5, 5));

    let mut gap = lines(6);
    gap.drain(2..4);
    gap.insert(1, gap[0].clone());
    gap.insert(0, String::new());
    assert_eq!(read(&gap).unwrap().count, 4);

    let mut torn = lines(3);
    torn.insert(1, torn[1][..40].to_owned());
    assert_eq!(read(&torn).unwrap().count, 3);
    torn.push("{\"body\":".to_owned());
    assert_eq!(read(&torn).unwrap().count, 3, "being written");
}

#[test]
fn what_was_changed_is_named_with_its_line() {
    let mut changed = lines(4);
    changed[1] = changed[1].replace("\"body\"", "\"bodx\"");
    assert_eq!(read(&changed), Err(AnchorError::Unreadable { line: 2 }));

    let mut edited = lines(4);
    edited[1] = edited[1].replace("2026", "2025");
    assert_eq!(read(&edited), Err(AnchorError::Unlinked { line: 2 + 1, seq: 3 }));

    let mut again = lines(4);
    again.extend(lines(2));
    assert_eq!(read(&again), Err(AnchorError::Unlinked { line: 5, seq: 1 }));
    assert_eq!(read(&[]), Err(AnchorError::Empty));
    assert_eq!(read(&["x".to_owned()]), Err(AnchorError::Unreadable { line: 1 }));
}

#[test]
fn a_long_anchor_is_thinned_to_lines_that_vouch_for_the_rest() {
    let mut all = lines(5_000);
    all.remove(1_000);
    let read = read(&all).unwrap();
    assert_eq!((read.count, read.newest), (4_999, 5_000));
    assert!(read.checkpoints.len() < 1_000, "{}", read.checkpoints.len());
    let kept: Vec<u64> =
        read.checkpoints.iter().map(|signed| signed.checkpoint().unwrap().seq).collect();
    assert!(kept.contains(&1_000) && kept.last() == Some(&5_000));
    assert!(kept.is_sorted());
}
