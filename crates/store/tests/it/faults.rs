//! What goes wrong outside: a full disk, a newer version, a second hub, a damaged file.

use std::{fs, path::Path, process::Command};

use nullius_audit::{Filter, fact};
use nullius_model::{GroupSpec, Kind, Object, ObjectMeta};
use nullius_store::{AuditState, AuditUnavailable, OpenError, Store, StoreError, StoreUrl};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{TestClock, check, event, now, on_file, start};

/// A small file system in memory that is really full when it is full.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on standard error, where mounting is not permitted and nobody insists.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "nullius-test"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                nullius_skip::skip(&format!("mounting a small disk needs root: {other:?}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk to its last byte; the file that does it.
    fn fill(&self) -> std::path::PathBuf {
        use std::io::Write as _;
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let mut block = 1 << 16;
        while block > 0 {
            if file.write_all(&vec![0; block]).is_err() {
                block /= 2;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_must_be_audited_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = on_file(&disk.path().join("state")).await;
    let writer = start(&store).await;
    writer.write(&event(1)).await.unwrap();
    let held = writer.reserve().await.unwrap();
    let filler = disk.fill();

    let mut refused = None;
    for number in 2..2_000 {
        // The journal may still have some room of its own.
        if let Err(error) = writer.write(&event(number)).await {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.expect("the disk is full");
    assert!(
        matches!(&error, AuditUnavailable::Failing { reason } if reason.contains("full")),
        "{error}"
    );
    assert!(matches!(writer.health().state, AuditState::Failing { .. }));
    assert!(matches!(writer.check(), Err(AuditUnavailable::Failing { .. })), "fail closed");
    assert!(writer.reserve().await.is_err());
    assert!(writer.try_reserve().is_err());
    held.enqueue(&event(90_000)).unwrap();

    let mut tx = store.begin().await.unwrap();
    let group = Object::<GroupSpec> {
        metadata: ObjectMeta::named("half".parse().unwrap()),
        spec: GroupSpec { description: Some("x".repeat(100_000)) },
        status: None,
    };
    let outcome = async {
        tx.objects().create(&group.into(), now()).await?;
        tx.audit(&event(90_001))?;
        tx.commit().await
    };
    let error = outcome.await.unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error}");
    let mut reader = store.read().await.unwrap();
    assert_eq!(reader.objects().list(Kind::Group).await.unwrap(), [], "nothing is half applied");
    drop(reader);

    fs::remove_file(filler).unwrap();
    let mut state = writer.watch();
    state.wait_for(|state| *state == AuditState::Writing).await.unwrap();
    let last = writer.write(&event(90_002)).await.unwrap();
    let mut reader = store.read().await.unwrap();
    let filter = |id: &str| Filter { audit_id: Some(id.parse().unwrap()), ..Filter::default() };
    for id in ["event-1", "event-90000", "event-90002"] {
        let page = reader.audit().list(&filter(id), None).await.unwrap();
        assert_eq!(page.entries.len(), 1, "{id}");
        assert!(!page.entries[0].event().unwrap().facts.contains_key(fact::WRITTEN_LATE));
    }
    let late = reader.audit().list(&filter(&format!("event-{number}")), None).await.unwrap();
    let facts = late.entries[0].event().unwrap().facts;
    assert!(facts[fact::WRITTEN_LATE].contains("refused"), "it says that its caller was refused");
    let absent = reader.audit().list(&filter("event-90001"), None).await.unwrap();
    assert_eq!(absent.entries, []);
    assert_eq!(reader.audit().head().await.unwrap(), last);
    drop(reader);
    writer.shutdown().await;
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
}

#[tokio::test]
async fn a_failed_transaction_alone_closes_the_audit_until_a_commit_succeeds() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = on_file(&disk.path().join("state")).await;
    let writer = start(&store).await;
    let filler = disk.fill();
    let mut tx = store.begin().await.unwrap();
    let mut large = event(1);
    large.facts.insert("x".into(), "x".repeat(200_000));
    tx.audit(&large).unwrap();
    tx.commit().await.unwrap_err();
    assert!(matches!(writer.health().state, AuditState::Failing { .. }));
    fs::remove_file(filler).unwrap();
    let mut state = writer.watch();
    state.wait_for(|state| *state == AuditState::Writing).await.unwrap();
    writer.write(&event(2)).await.unwrap();
}

#[tokio::test]
async fn a_second_hub_on_the_same_directory_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(directory.path()).await;
    let url = StoreUrl::Directory(directory.path().to_owned());
    let error = Store::open(&url, TestClock::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "state directory `{}` is in use by process {}; stop it first, or choose another directory",
            directory.path().display(),
            std::process::id()
        )
    );
    let reader = Store::open_read_only(directory.path(), TestClock::new()).await.unwrap();
    assert!(matches!(reader.begin().await, Err(StoreError::ReadOnly)));
    drop(store);
    Store::open(&url, TestClock::new()).await.unwrap();
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    on_file(directory.path()).await.close().await;
    let file = directory.path().join("store.db");
    let options = SqliteConnectOptions::new().filename(&file);
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("INSERT INTO schema_versions (version) VALUES (700)")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let before = fs::read(&file).unwrap();
    let url = StoreUrl::Directory(directory.path().to_owned());
    let error = Store::open(&url, TestClock::new()).await.unwrap_err();
    let OpenError::Newer { found: 700, known } = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        format!(
            "store was written by a newer nullius (schema 700, this binary knows {known}): \
             use that version, or restore a backup made before the upgrade"
        )
    );
    let error = Store::open_read_only(directory.path(), TestClock::new()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }));
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_store_and_a_missing_one_are_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("store.db"),
        "this is not a database, but long enough ".repeat(99),
    )
    .unwrap();
    let url = StoreUrl::Directory(directory.path().to_owned());
    let error = Store::open(&url, TestClock::new()).await.unwrap_err();
    assert!(error.to_string().contains("check that it is a store of nullius"), "{error}");
    let missing = directory.path().join("none");
    let error = Store::open_read_only(&missing, TestClock::new()).await.unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    assert!(!missing.exists());
    let blocked = StoreUrl::Directory(directory.path().join("store.db"));
    let error = Store::open(&blocked, TestClock::new()).await.unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

#[test]
fn a_store_is_named_by_its_url_and_a_password_is_not_repeated() {
    let url: StoreUrl = "sqlite:/var/lib/nullius".parse().unwrap();
    assert_eq!(url, StoreUrl::Directory("/var/lib/nullius".into()));
    assert_eq!("memory:".parse::<StoreUrl>().unwrap(), StoreUrl::Memory);
    let error = "postgres://hub:secret@db/x".parse::<StoreUrl>().unwrap_err();
    assert_eq!(error.to_string(), "`postgres:…` is not a store: write `sqlite:DIRECTORY`");
    assert!("sqlite:".parse::<StoreUrl>().is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let store = on_file(&directory).await;
    start(&store).await.write(&event(1)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["lock", "store.db", "store.db-shm", "store.db-wal"]);
}
