//! The JSON-lines file: whole, rotated, resumed after a crash, and never in the way of the store.

use std::{fs, io::Write as _, path::Path};

use nullius_audit::{Record, SignedCheckpoint, display_safe, position_of_k8s_line, verify};
use nullius_model::{KubeCall, Principal};
use nullius_store::{AuditState, AuditWriter, FileForm, FileSink, Position, StartError, Store};

use crate::{check, event, on_file, options};

async fn start(store: &Store, sink: &FileSink) -> AuditWriter {
    let mut options = options();
    options.file = Some(sink.clone());
    options.checkpoint_entries = 4;
    store.start_audit(options).await.unwrap()
}

/// All lines of all files, oldest first.
fn lines(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("audit"))
        .collect();
    // `audit-…` sorts before `audit.jsonl`.
    names.sort();
    names
        .iter()
        .flat_map(|path| {
            fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn positions(directory: &Path) -> Vec<i64> {
    lines(directory).iter().map(|line| Record::from_json_line(line).unwrap().0).collect()
}

#[tokio::test]
async fn the_file_has_every_entry_once_and_proves_itself() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let sink = FileSink { max_bytes: 4_000, ..FileSink::in_directory(&out) };
    for life in 0..3 {
        let store = on_file(state.path()).await;
        let writer = start(&store, &sink).await;
        for number in 0..10 {
            writer.write(&event(life * 10 + number)).await.unwrap();
        }
        writer.shutdown().await;
        assert_eq!(writer.health().file, Some(writer.health().head));
        assert_eq!(writer.health().file_error, None);
        if life == 0 {
            // A crash in the middle of a line.
            let mut file =
                fs::OpenOptions::new().append(true).open(out.join("audit.jsonl")).unwrap();
            file.write_all(b"{\"position\":11,\"wri").unwrap();
        }
        drop(writer);
        store.close().await;
    }
    assert!(positions(&out).into_iter().eq(1..=30));
    assert!(fs::read_dir(&out).unwrap().count() > 3, "it was rotated");
    let records = lines(&out).into_iter().map(|line| Record::from_json_line(&line).unwrap().1);
    let checkpoints = fs::read_to_string(out.join("checkpoints.jsonl")).unwrap();
    let checkpoints: Vec<SignedCheckpoint> =
        checkpoints.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = verify(records, checkpoints, &check);
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.records, report.uncovered), (30, 0));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out), 0o700);
        assert_eq!(mode(&out.join("audit.jsonl")), 0o600);
    }
}

#[tokio::test]
async fn old_files_go_when_only_some_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let sink = FileSink { max_bytes: 1, keep: Some(2), ..FileSink::in_directory(&out) };
    let store = on_file(state.path()).await;
    let writer = start(&store, &sink).await;
    for number in 0..6 {
        writer.write(&event(number)).await.unwrap();
    }
    writer.shutdown().await;
    assert_eq!(positions(&out), [5, 6]);
    drop(writer);
    store.close().await;
    drop(store);
    let store = on_file(state.path()).await;
    let writer = start(&store, &sink).await;
    writer.write(&event(7)).await.unwrap();
    writer.shutdown().await;
    assert_eq!(positions(&out), [6, 7], "the name of a file set aside says how far it went");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_reported_and_caught_up_later() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let sink = FileSink { max_bytes: 1, ..FileSink::in_directory(&out) };
    let store = on_file(state.path()).await;
    let writer = start(&store, &sink).await;
    // The name of the first file set aside is taken by a directory that is not empty.
    let obstacle = out.join(format!("audit-{:020}.jsonl", 1));
    fs::create_dir_all(obstacle.join("x")).unwrap();
    writer.write(&event(1)).await.unwrap();
    let told = loop {
        match writer.health().file_error {
            Some(told) => break told,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(!told.is_empty());
    assert_eq!(writer.health().state, AuditState::Writing, "the store does not wait for the file");
    assert_eq!(writer.write(&event(2)).await.unwrap(), Position(2));
    fs::remove_dir_all(&obstacle).unwrap();
    writer.shutdown().await;
    assert_eq!(writer.health().file_error, None);
    assert_eq!(positions(&out), [1, 2]);
}

#[tokio::test]
async fn a_file_ahead_of_the_store_and_an_unusable_directory_are_told() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let sink = FileSink::in_directory(&out);
    let store = on_file(&state.path().join("one")).await;
    let writer = start(&store, &sink).await;
    for number in 0..3 {
        writer.write(&event(number)).await.unwrap();
    }
    writer.shutdown().await;
    let cut = on_file(&state.path().join("two")).await;
    let writer = start(&cut, &sink).await;
    writer.write(&event(1)).await.unwrap();
    writer.shutdown().await;
    let told = writer.health().file_error.unwrap();
    assert!(told.contains("at entry 3 but the store ends at 1"), "{told}");
    assert_eq!(positions(&out), [1, 2, 3], "nothing is mixed into it");

    let store = on_file(&state.path().join("three")).await;
    let mut options = options();
    options.file = Some(FileSink::in_directory(out.join("audit.jsonl")));
    assert!(matches!(store.start_audit(options).await, Err(StartError::File { .. })));
}

#[tokio::test]
async fn a_hostile_name_forges_no_line() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let store = on_file(state.path()).await;
    let writer = start(&store, &FileSink::in_directory(&out)).await;
    let hostile = "x\n{\"position\":9}\r\u{1b}[2K\u{2028}\u{202e}\u{7f}";
    let mut forged = event(1);
    forged.principal = Principal::Unproven { claimed: hostile.into() };
    writer.write(&forged).await.unwrap();
    writer.shutdown().await;
    let text = fs::read_to_string(out.join("audit.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(display_safe(text.trim_end()), text.trim_end(), "nothing in it moves a cursor");
    let (_, record) = Record::from_json_line(text.trim_end()).unwrap();
    assert_eq!(record.entry().unwrap().event, forged);
}

#[tokio::test]
async fn the_form_of_kubernetes_has_a_file_of_its_own_and_requests_alone() {
    let state = tempfile::tempdir().unwrap();
    let out = state.path().join("audit");
    let mut sink = FileSink { max_bytes: 2_000, ..FileSink::in_directory(&out) };
    sink.form = FileForm::Kubernetes;
    for life in 0..3 {
        let store = on_file(state.path()).await;
        let writer = start(&store, &sink).await;
        for number in 0..4 {
            let mut event = event(life * 4 + number);
            if number % 2 == 0 {
                event.kube = Some(KubeCall { verb: "get".into(), ..KubeCall::default() });
            } else {
                event.kube = None;
            }
            writer.write(&event).await.unwrap();
        }
        writer.shutdown().await;
        assert_eq!(writer.health().file_error, None);
        assert_eq!(writer.health().file, Some(writer.health().head));
        drop(writer);
        store.close().await;
    }
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("kubernetes"));
    names.sort();
    assert!(names.len() > 1, "it was rotated");
    assert!(!out.join("audit.jsonl").exists());
    let text: String = names.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let places: Vec<i64> = text.lines().map(|line| position_of_k8s_line(line).unwrap()).collect();
    assert_eq!(places, [1, 3, 5, 7, 9, 11]);
}
