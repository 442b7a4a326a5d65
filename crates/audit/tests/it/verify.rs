//! Trails are made, harmed in every way, and verified.

use std::collections::BTreeMap;

use nullius_audit::{
    Chain, ChainId, Checkpoint, Digest, Epoch, Location, Record, Report, SignedCheckpoint,
    Verifier, Why, verify,
};
use proptest::prelude::*;

use crate::event;

struct Trail {
    records: Vec<Record>,
    checkpoints: Vec<SignedCheckpoint>,
}

fn sign(bytes: &[u8]) -> Vec<u8> {
    // A signature of the test: nobody else knows how to turn bytes around.
    bytes.iter().rev().copied().collect()
}

fn check(bytes: &[u8], signature: &[u8]) -> bool {
    sign(bytes) == signature
}

fn id(epoch: u64) -> ChainId {
    ChainId { writer: "hub".parse().unwrap(), epoch: Epoch(epoch) }
}

/// `epochs` lives of one hub with `each` entries, a checkpoint after each fourth entry.
fn trail(epochs: u64, each: u64) -> Trail {
    trail_of(epochs, each, 0)
}

/// The same with other events.
fn trail_of(epochs: u64, each: u64, first: u64) -> Trail {
    let mut trail = Trail { records: Vec::new(), checkpoints: Vec::new() };
    let mut previous = Digest::ZERO;
    let mut chain = Chain::genesis(id(1));
    for epoch in 1..=epochs {
        if epoch > 1 {
            chain = Chain::following(id(epoch), chain.head());
        }
        for number in first..first + each {
            trail.records.push(chain.append(&event(number)).unwrap());
            if trail.records.len().is_multiple_of(4) {
                let checkpoint = Checkpoint {
                    seq: trail.checkpoints.len() as u64 + 1,
                    at: "2026-01-02T03:04:05Z".parse().unwrap(),
                    previous,
                    heads: BTreeMap::from([(chain.id().clone(), chain.head())]),
                };
                let signed = SignedCheckpoint::sign(&checkpoint, |bytes| {
                    Ok::<_, serde_json::Error>(sign(bytes))
                });
                let signed = signed.unwrap();
                previous = signed.hash();
                trail.checkpoints.push(signed);
            }
        }
    }
    trail
}

fn why(trail: Trail) -> Option<(Location, Why)> {
    let report = verify(trail.records, trail.checkpoints, &check);
    report.fault.map(|fault| (fault.at, fault.why))
}

fn at(epoch: u64, seq: u64) -> Location {
    Location::Record { chain: id(epoch), seq }
}

#[test]
fn a_whole_trail_is_intact_and_counted() {
    let Trail { records, checkpoints } = trail(3, 6);
    let report = verify(records.clone(), checkpoints, &check);
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.records, report.checkpoints, report.uncovered), (18, 4, 2));
    assert_eq!(report.heads[&id(3)].hash, records[17].hash);
    assert!(verify([], [], &check).is_intact());
}

#[test]
fn an_edited_body_is_found_also_with_its_hash_made_anew() {
    let mut harmed = trail(1, 10);
    harmed.records[4].body = harmed.records[4].body.replace("ada", "eve");
    assert_eq!(why(harmed), Some((at(1, 5), Why::Edited)));

    let mut rehashed = trail(1, 10);
    rehashed.records[4].body = rehashed.records[4].body.replace("ada", "eve");
    rehashed.records[4].hash = rehashed.records[4].expected_hash();
    assert_eq!(why(rehashed), Some((at(1, 6), Why::Unlinked)));
}

#[test]
fn a_chain_written_anew_differs_from_the_signed_checkpoint() {
    let Trail { checkpoints, .. } = trail(1, 10);
    let mut chain = Chain::genesis(id(1));
    let records = (0..10).map(|number| chain.append(&event(number + 100)).unwrap()).collect();
    let found = why(Trail { records, checkpoints });
    assert_eq!(found, Some((at(1, 4), Why::Replaced { checkpoint: 1 })));
}

#[test]
fn removed_reordered_and_repeated_entries_are_told_apart() {
    let mut removed = trail(1, 10);
    removed.records.drain(4..6);
    assert_eq!(why(removed), Some((at(1, 7), Why::Removed { first: 5, last: 6 })));

    let mut head = trail(1, 10);
    head.records.drain(..2);
    assert_eq!(why(head), Some((at(1, 3), Why::Removed { first: 1, last: 2 })));

    let mut swapped = trail(1, 10);
    swapped.records.swap(4, 5);
    assert_eq!(why(swapped), Some((at(1, 6), Why::Reordered)));

    let mut repeated = trail(1, 10);
    let again = repeated.records[4].clone();
    repeated.records.insert(7, again);
    assert_eq!(why(repeated), Some((at(1, 5), Why::Reordered)));
}

#[test]
fn a_lost_epoch_or_the_lost_end_of_one_breaks_the_link_to_the_next() {
    let mut epoch = trail(3, 3);
    epoch.records.drain(3..6);
    epoch.checkpoints.clear();
    assert_eq!(why(epoch), Some((at(3, 1), Why::EpochRemoved)));

    let mut end = trail(2, 3);
    end.records.remove(2);
    end.checkpoints.clear();
    assert_eq!(why(end), Some((at(2, 1), Why::EpochRemoved)));
}

#[test]
fn a_trail_cut_below_a_checkpoint_is_truncated() {
    let mut cut = trail(1, 10);
    cut.records.truncate(6);
    assert_eq!(why(cut), Some((at(1, 8), Why::Truncated { checkpoint: 2 })));
    let mut empty = trail(1, 10);
    empty.records.clear();
    assert_eq!(why(empty), Some((at(1, 4), Why::Truncated { checkpoint: 1 })));
}

#[test]
fn an_anchor_kept_elsewhere_shows_what_the_store_alone_cannot() {
    let whole = trail(1, 12);
    let anchor = whole.checkpoints[2].clone();
    let mut verifier = Verifier::new(&check, std::slice::from_ref(&anchor));
    whole.records[..8].iter().for_each(|record| verifier.record(record));
    let report = verifier.finish();
    assert_eq!(report.fault.unwrap().why, Why::Truncated { checkpoint: 3 });

    let report = anchored(trail(1, 12), std::slice::from_ref(&anchor));
    assert!(report.is_intact(), "{report:?}");
}

/// Verifies a trail against anchors.
fn anchored(trail: Trail, anchors: &[SignedCheckpoint]) -> Report {
    let mut verifier = Verifier::new(&check, anchors);
    let mut checkpoints = trail.checkpoints.iter();
    for record in &trail.records {
        while verifier.wants_checkpoint() {
            let Some(checkpoint) = checkpoints.next() else { break };
            verifier.checkpoint(checkpoint);
        }
        verifier.record(record);
    }
    verifier.finish()
}

fn anchored_fault(trail: Trail, anchors: &[SignedCheckpoint]) -> Why {
    anchored(trail, anchors).fault.unwrap().why
}

#[test]
fn an_anchor_tells_cut_replaced_and_foreign_trails_apart() {
    let anchors = trail(1, 12).checkpoints;
    assert!(anchored(trail(1, 12), &anchors).is_intact());

    // The whole database of an earlier day.
    assert_eq!(anchored_fault(trail(1, 8), &anchors), Why::Truncated { checkpoint: 3 });
    let mut empty = trail(1, 12);
    empty.records.clear();
    empty.checkpoints.clear();
    assert_eq!(anchored_fault(empty, &anchors), Why::Truncated { checkpoint: 1 });

    // Only the newest checkpoints are gone.
    let mut cut = trail(1, 12);
    cut.checkpoints.truncate(1);
    assert_eq!(anchored_fault(cut, &anchors), Why::AnchorMissing { newest: 1 });

    // Written anew with the hub's own key.
    assert_eq!(anchored_fault(trail_of(1, 12, 100), &anchors), Why::AnchorReplaced);

    // Another hub's.
    let report = Verifier::new(&|_, _| false, &anchors).finish();
    let fault = report.fault.unwrap();
    assert_eq!(fault.why, Why::AnchorForeign);
    assert!(fault.to_string().starts_with("checkpoint 1 of the anchor"), "{fault}");
}

#[test]
fn checkpoints_are_signed_linked_and_counted() {
    let mut forged = trail(1, 10);
    forged.checkpoints[1].signature[0] ^= 1;
    assert_eq!(why(forged), Some((Location::Checkpoint { seq: 2 }, Why::BadSignature)));

    let mut edited = trail(1, 10);
    edited.checkpoints[1].body = edited.checkpoints[1].body.replace("2026", "2025");
    assert_eq!(why(edited), Some((Location::Checkpoint { seq: 2 }, Why::BadSignature)));

    let mut unreadable = trail(1, 10);
    unreadable.checkpoints[1].body.push('}');
    assert_eq!(why(unreadable), Some((Location::Checkpoint { seq: 2 }, Why::Unreadable)));

    let mut removed = trail(1, 14);
    removed.checkpoints.remove(1);
    assert_eq!(why(removed), Some((Location::Checkpoint { seq: 3 }, Why::CheckpointUnlinked)));

    let mut first = trail(1, 10);
    first.checkpoints.remove(0);
    assert_eq!(why(first), Some((Location::Checkpoint { seq: 2 }, Why::CheckpointUnlinked)));
}

#[test]
fn a_json_line_keeps_the_hashed_bytes() {
    for (number, record) in trail(2, 3).records.into_iter().enumerate() {
        let line = record.to_json_line(number as i64).unwrap();
        assert!(!line.contains('\n'));
        let (position, read) = Record::from_json_line(&line).unwrap();
        assert_eq!((position, &read), (number as i64, &record));
        assert_eq!(read.expected_hash(), read.hash);
        assert_eq!(read.entry().unwrap().event.principal.label(), "person:ada");
    }
    assert!(Record::from_json_line("{}").is_err());
}

#[test]
fn a_fault_is_told_in_a_sentence() {
    let mut harmed = trail(1, 10);
    harmed.records.drain(4..6);
    let fault = verify(harmed.records, harmed.checkpoints, &check).fault.unwrap();
    assert_eq!(
        fault.to_string(),
        "entries 5 to 6 are missing before entry 7 of chain hub/1: they were removed"
    );
}

proptest! {
    /// Whatever single field of whatever single record changes, something is wrong.
    #[test]
    fn any_change_of_one_field_is_found(index in 0_usize..12, field in 0_u8..6, bit in 0_u8..8) {
        let mut harmed = trail(3, 4);
        let record = &mut harmed.records[index];
        let flip = |digest: Digest| -> Digest {
            let mut text = digest.to_string().into_bytes();
            text[usize::from(bit)] = if text[usize::from(bit)] == b'0' { b'1' } else { b'0' };
            String::from_utf8(text).unwrap().parse().unwrap()
        };
        match field {
            0 => record.seq += 1 << bit,
            1 => record.chain.epoch.0 += 1 << bit,
            2 => record.chain.writer = "hub-2".parse().unwrap(),
            3 => record.prev_hash = flip(record.prev_hash),
            4 => record.hash = flip(record.hash),
            _ => record.body.insert(usize::from(bit), ' '),
        }
        prop_assert!(why(harmed).is_some());
    }

    /// Whatever records are left out (but a tail that no checkpoint covers), something is wrong.
    #[test]
    fn any_removal_is_found(start in 0_usize..12, length in 1_usize..12) {
        let mut harmed = trail(3, 4);
        harmed.records.drain(start..(start + length).min(12));
        prop_assert!(why(harmed).is_some());
    }

    /// Whatever two records change places, something is wrong.
    #[test]
    fn any_exchange_is_found(one in 0_usize..12, other in 0_usize..12) {
        prop_assume!(one != other);
        let mut harmed = trail(3, 4);
        harmed.records.swap(one, other);
        prop_assert!(why(harmed).is_some());
    }
}
