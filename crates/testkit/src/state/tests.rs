#![allow(clippy::unwrap_used, reason = "test")]

use std::os::unix::fs::symlink;

use super::*;
use crate::{environment::Environment, record::Entry};

/// A directory below a temporary one, which goes with the value.
fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join(name);
    (parent, path)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// All files below a directory.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut open = vec![path.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

fn refused(path: &Path) -> String {
    let before = files(path);
    let error = StateDir::open(path).unwrap_err().to_string();
    assert_eq!(files(path), before);
    assert!(error.contains("name a new or an empty directory"), "{error}");
    error
}

/// What a cluster leaves that was killed after its first steps.
fn leave_cluster(state: &Path, name: &str) {
    fs::create_dir_all(state.join(name)).unwrap();
    let process = ProcessRecord {
        name: "etcd".to_owned(),
        pid: 1,
        started: "another boot/1".to_owned(),
        log: PathBuf::new(),
    };
    let journal = Journal::create(&state.join(name)).unwrap();
    journal.add(&Entry::Process(process)).unwrap();
    write(&state.join(name).join("etcd/member/wal"), "data");
}

fn end(state: &StateDir) {
    Environment::stop(state.path(), Progress::Silent).unwrap();
    state.down_all(Progress::Silent).unwrap();
}

#[test]
fn a_new_directory_and_an_empty_one_are_taken_and_say_so() {
    let (_parent, path) = place("new");
    let state = StateDir::open(&path).unwrap();
    let said = fs::read_to_string(path.join(owned::MARK)).unwrap();
    assert!(said.contains("Nullius") && said.contains("keep nothing of yours"), "{said}");
    end(&state);
    assert!(!path.exists());

    fs::create_dir(&path).unwrap();
    end(&StateDir::open(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn a_directory_with_somebodys_files_is_refused_with_their_names() {
    for file in ["notes", "nullius/src/main.rs", "Cargo.lock", "dev/data", "x.failed/notes"] {
        let (_parent, path) = place("theirs");
        write(&path.join(file), "mine");
        let error = refused(&path);
        let named = file.split('/').next().unwrap();
        assert!(error.contains(&format!("`{named}`")), "{error}");
    }
    // Alone these say nothing: other programs make such files too.
    for file in ["x.lock", "x.failed/x.log", "nullius/kubeconfig"] {
        let (_parent, path) = place("theirs");
        write(&path.join(file), "");
        refused(&path);
    }
}

#[test]
fn the_clusters_of_an_older_version_are_ended_also_without_a_mark() {
    let (_parent, path) = place("older");
    leave_cluster(&path, "dev");
    write(&path.join("dev.lock"), "");
    write(&path.join("dev2.failed/etcd.log"), "it failed");
    write(&path.join("nullius/hub.log"), "it runs");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.names().unwrap(), ["dev"]);
    end(&state);
    assert!(!path.exists(), "{:?}", files(&path));

    // Beside files of somebody else it is said which of them are in the way.
    leave_cluster(&path, "dev");
    write(&path.join("notes"), "mine");
    let error = refused(&path);
    assert!(error.contains("`notes`") && !error.contains("`dev`"), "{error}");
}

#[test]
fn files_that_somebody_puts_into_a_state_directory_stay() {
    let (_parent, path) = place("both");
    let state = StateDir::open(&path).unwrap();
    let theirs =
        ["notes", "Cargo.lock", "x.lock", "x.failed/notes", "mine/journal.jsonl", "nullius2/a"];
    for file in theirs {
        write(&path.join(file), "mine");
    }
    state.down("dev", Progress::Silent).unwrap();
    end(&state);
    let mut expected: Vec<_> = theirs.iter().map(|file| path.join(file)).collect();
    expected.push(path.join(owned::MARK));
    expected.sort();
    assert_eq!(files(&path), expected);

    for (name, part) in [("mine", "move it away"), ("../both", "no name for a cluster")] {
        let error = format!("{:#}", state.down(name, Progress::Silent).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    write(&path.join("nullius/src"), "mine");
    let error = Environment::stop(&path, Progress::Silent).unwrap_err();
    assert!(format!("{error:#}").contains("move it away"), "{error:#}");
    assert!(path.join("nullius/src").exists());
    write(&path.join("dev.lock"), "my own lock");
    assert!(state.lock("dev", Progress::Silent).is_err());
    assert_eq!(fs::read_to_string(path.join("dev.lock")).unwrap(), "my own lock");
}

#[test]
fn no_link_is_followed_out_of_it() {
    let (parent, path) = place("links");
    let outside = parent.path().join("outside");
    leave_cluster(&outside, "dev");
    owned::mark(&outside.join("dev")).unwrap();
    write(&outside.join("lock"), "mine");
    let state = StateDir::open(&path).unwrap();
    for name in ["dev", "nullius", "dev.failed"] {
        symlink(outside.join("dev"), path.join(name)).unwrap();
    }
    symlink(outside.join("lock"), path.join("dev2.lock")).unwrap();
    symlink(outside.join("dev"), path.join("dev2")).unwrap();
    let before = files(&outside);

    assert_eq!(state.names().unwrap(), [""; 0]);
    for name in ["dev", "dev2"] {
        assert!(state.down(name, Progress::Silent).is_err(), "{name}");
    }
    assert!(Environment::stop(&path, Progress::Silent).is_err());
    state.down_all(Progress::Silent).unwrap();
    assert_eq!(files(&outside), before);
    assert_eq!(fs::read_to_string(outside.join("lock")).unwrap(), "mine");

    // A link in the place of the state directory itself.
    let link = parent.path().join("link");
    symlink(&outside, &link).unwrap();
    assert!(StateDir::open(&link).is_err());

    // A link inside of what is removed.
    let (_parent, path) = place("inside");
    let state = StateDir::open(&path).unwrap();
    leave_cluster(&path, "dev");
    let state = StateDir::open(state.path()).unwrap();
    symlink(&outside, path.join("dev/out")).unwrap();
    end(&state);
    assert!(!path.exists());
    assert_eq!(files(&outside), before);
}
