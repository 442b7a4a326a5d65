//! The anchor: every checkpoint once, only ever appended, and a store that does not continue it is told.

use std::{fs, io::Write as _, path::Path, sync::Arc};

use nullius_audit::{AnchorReader, Anchors, Why};
use nullius_model::SystemClock;
use nullius_store::{AuditWriter, StartError, Store};

use crate::{check, event, on_file, options};

async fn start(store: &Store, anchor: &Path) -> AuditWriter {
    let mut options = options();
    options.anchor = Some(anchor.to_owned());
    options.checkpoint_entries = 4;
    store.start_audit(options).await.unwrap()
}

/// One life of a hub with ten entries; how it was with the anchor at its end.
async fn live(state: &Path, anchor: &Path) -> Option<String> {
    live_from(state, anchor, 0).await
}

async fn live_from(state: &Path, anchor: &Path, first: u64) -> Option<String> {
    let store = on_file(state).await;
    let writer = start(&store, anchor).await;
    for number in first..first + 10 {
        writer.write(&event(number)).await.unwrap();
    }
    writer.shutdown().await;
    let fault = writer.health().anchor_error;
    drop(writer);
    store.close().await;
    fault
}

fn read(file: &Path) -> Anchors {
    let mut reader = AnchorReader::default();
    for line in fs::read_to_string(file).unwrap().lines() {
        reader.line(line).unwrap();
    }
    reader.finish().unwrap()
}

async fn fault(state: &Path, anchors: &Anchors) -> Option<Why> {
    let store = Store::open_read_only(state, Arc::new(SystemClock)).await.unwrap();
    let report = store.verify_audit(&check, &anchors.checkpoints).await.unwrap();
    report.fault.map(|fault| fault.why)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::copy(from.join("store.db"), to.join("store.db")).unwrap();
}

#[tokio::test]
async fn every_checkpoint_is_appended_once_over_restarts_and_torn_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (state, outside) = (directory.path().join("state"), directory.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    let file = outside.join("checkpoints.jsonl");
    for life in 1..4_u64 {
        assert_eq!(live(&state, &outside).await, None);
        let anchors = read(&file);
        // Two on the way and one at the stop.
        assert_eq!((anchors.count, anchors.newest), (3 * life, 3 * life));
        let before = fs::read(&file).unwrap();
        let mut torn = fs::OpenOptions::new().append(true).open(&file).unwrap();
        let line = String::from_utf8(before).unwrap();
        torn.write_all(&line.lines().next().unwrap().as_bytes()[..9]).unwrap();
    }
    assert_eq!(live(&state, &outside).await, None);
    assert_eq!(fault(&state, &read(&file)).await, None);
}

#[tokio::test]
async fn a_store_that_was_rolled_back_replaced_or_cut_is_told_and_found() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let anchor = directory.path().join("anchor.jsonl");
    assert_eq!(live(&state, &anchor).await, None);
    let yesterday = directory.path().join("yesterday");
    copy(&state, &yesterday);
    assert_eq!(live(&state, &anchor).await, None);
    let kept = fs::read_to_string(&anchor).unwrap();
    let anchors = read(&anchor);
    assert_eq!(fault(&state, &anchors).await, None);

    // Rolled back: what was there yesterday is whole, and is not all.
    assert!(matches!(fault(&yesterday, &anchors).await, Some(Why::Truncated { .. })));
    // It goes on to live: other entries in the place of those that are gone.
    let told = live_from(&yesterday, &anchor, 100).await.unwrap();
    assert!(told.contains("is not the store's: the store was replaced or written anew"), "{told}");
    assert!(told.contains("nullius audit verify --anchor"), "{told}");
    assert!(fault(&yesterday, &anchors).await.is_some());

    let replaced = directory.path().join("replaced");
    let told = {
        let store = on_file(&replaced).await;
        let writer = start(&store, &anchor).await;
        writer.write(&event(1)).await.unwrap();
        writer.shutdown().await;
        writer.health().anchor_error.unwrap()
    };
    assert!(told.contains("is at checkpoint 6 but the store ends at 1"), "{told}");
    assert!(fault(&replaced, &anchors).await.is_some());
    assert_eq!(fs::read_to_string(&anchor).unwrap(), kept, "nothing of theirs was appended");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_told_at_the_start_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(&directory.path().join("state")).await;
    let mut options = options();
    let missing = directory.path().join("not-mounted");
    options.anchor = Some(missing.join("checkpoints.jsonl"));
    let error = store.start_audit(options).await.err().unwrap();
    assert!(matches!(error, StartError::Anchor { .. }));
    assert!(error.to_string().contains("mounted"), "{error}");
    assert!(!missing.exists());
}
