//! A hub killed in the middle of its work keeps what it acknowledged.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use nullius_audit::Filter;
use nullius_store::{FileSink, Position};

use crate::{check, event, on_file, options};

const DIRECTORY: &str = "NULLIUS_TEST_CRASH_DIRECTORY";

/// The hub that is killed: writes events for ever and prints each one that was acknowledged. Does nothing by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let store = on_file(&directory).await;
    let mut options = options();
    options.checkpoint_entries = 50;
    options.file = Some(FileSink::in_directory(directory.join("audit")));
    let writer = store.start_audit(options).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let event = event(task * 1_000_000 + number);
                    writer.write(&event).await.unwrap();
                    writeln!(std::io::stdout(), "\nacknowledged {}", event.audit_id).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for _life in 1..=2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines {
            if let Some(id) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged.insert(id.to_owned());
                count += 1;
                if count == 300 {
                    // SIGKILL; lines that are still in the pipe were acknowledged too.
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(count >= 300);
    }
    let store = on_file(directory.path()).await;
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert!(report.checkpoints > 4);
    let mut reader = store.read().await.unwrap();
    let (mut found, mut before) = (BTreeSet::new(), None);
    loop {
        let filter = Filter { limit: Some(Filter::MAX_LIMIT), ..Filter::default() };
        let page = reader.audit().list(&filter, before).await.unwrap();
        found.extend(page.entries.iter().map(|entry| entry.event().unwrap().audit_id.to_string()));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
    drop(reader);

    let mut options = options();
    options.file = Some(FileSink::in_directory(directory.path().join("audit")));
    let writer = store.start_audit(options).await.unwrap();
    let last = writer.write(&event(1)).await.unwrap();
    writer.shutdown().await;
    assert_eq!(writer.health().file, Some(last));
    let text = std::fs::read_to_string(directory.path().join("audit/audit.jsonl")).unwrap();
    let positions = text.lines().map(|line| nullius_audit::Record::from_json_line(line).unwrap().0);
    assert!(positions.eq(1..=last.0), "the file goes on where it was torn");
    assert!(last > Position(600));
}
