#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn open(source: &KeySource) -> Result<KeyOrigin, SealError> {
    Sealer::open(source).map(|(_, origin)| origin)
}

#[test]
fn a_key_file_is_made_once_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    let source = KeySource::File(path.clone());
    let (first, origin) = Sealer::open(&source).unwrap();
    assert_eq!(origin, KeyOrigin::Created);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = first.seal("name", b"secret").unwrap();
    let (second, origin) = Sealer::open(&source).unwrap();
    assert_eq!(origin, KeyOrigin::Existing);
    assert_eq!(*second.open_sealed("name", &sealed).unwrap(), b"secret");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    let source = KeySource::File(path.clone());
    open(&source).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = open(&source).unwrap_err();
        assert!(matches!(error, SealError::Permissions { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(open(&source).unwrap(), KeyOrigin::Existing);
}

#[test]
fn a_damaged_key_file_is_said_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    for content in ["", "abc", &"0".repeat(63), &"g".repeat(64)] {
        let _ = fs::remove_file(&path);
        create_private(&path, content.as_bytes()).unwrap();
        assert!(matches!(open(&KeySource::File(path.clone())), Err(SealError::Damaged(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let error = open(&KeySource::File("/nonexistent/state/kek".into())).unwrap_err();
    assert_eq!(error.to_string(), "`/nonexistent/state/kek` cannot be written");
}

#[test]
fn two_that_start_at_once_get_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kek");
    create_private(&path, b"first").unwrap();
    assert!(create_private(&path, b"second").is_err());
    assert_eq!(fs::read(&path).unwrap(), b"first");
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_another_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let parameters = directory.path().join("kdf.json");
    let source = |text: &str| KeySource::Passphrase {
        passphrase: secret(text),
        parameters: parameters.clone(),
    };
    assert!(matches!(open(&source("too short")), Err(SealError::PassphraseShort)));
    let (first, origin) = Sealer::open(&source("correct horse battery")).unwrap();
    assert_eq!(origin, KeyOrigin::Created);
    let sealed = first.seal("name", b"secret").unwrap();
    let (second, origin) = Sealer::open(&source("correct horse battery")).unwrap();
    assert_eq!(origin, KeyOrigin::Existing);
    assert_eq!(*second.open_sealed("name", &sealed).unwrap(), b"secret");
    assert!(matches!(open(&source("wrong horse battery")), Err(SealError::Passphrase)));

    let stored = fs::read_to_string(&parameters).unwrap();
    assert!(!stored.contains("horse"));
    let greedy = stored.replace("65536", "4294967295");
    fs::write(&parameters, greedy).unwrap();
    assert!(matches!(open(&source("correct horse battery")), Err(SealError::Damaged(_))));
}

/// A stand-in for libsecret's tool that keeps the secret in a file; it shows what travels how.
fn tool(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("secret-tool");
    fs::write(&path, format!("#!/bin/sh\ncd '{}'\n{script}", directory.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn the_os_key_store_keeps_the_key_and_no_argument_does() {
    let directory = tempfile::tempdir().unwrap();
    let tool = tool(
        directory.path(),
        r#"echo "$@" >> arguments
case "$1" in
  lookup) [ -f kept ] && cat kept || exit 1 ;;
  store) cat > kept ;;
esac
"#,
    );
    assert!(find_in_os_key_store(&tool, "hub-1").unwrap().is_none());
    let first = make_in_os_key_store(&tool, "hub-1").unwrap();
    let sealed = first.seal("name", b"secret").unwrap();
    let second = find_in_os_key_store(&tool, "hub-1").unwrap().unwrap();
    assert_eq!(*second.open_sealed("name", &sealed).unwrap(), b"secret");
    let kept = fs::read_to_string(directory.path().join("kept")).unwrap();
    let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
    assert_eq!(kept.len(), 64);
    assert!(!arguments.contains(&kept));
}

#[test]
fn without_an_os_key_store_the_error_says_what_to_use() {
    let error = find_in_os_key_store(Path::new("/nonexistent/secret-tool"), "hub-1").err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("the os key store is not available on this system: "), "{text}");
    assert!(text.ends_with("; use a key file or a passphrase"), "{text}");

    let directory = tempfile::tempdir().unwrap();
    let locked = tool(directory.path(), "echo 'Cannot autolaunch D-Bus' >&2; exit 1");
    let error = find_in_os_key_store(&locked, "hub-1").err().unwrap();
    assert!(error.to_string().contains("Cannot autolaunch D-Bus"), "{error}");
}

#[test]
fn looking_for_a_key_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let passphrase = SecretString::from("correct horse battery");
    let sources = [
        KeySource::File(path.clone()),
        KeySource::Passphrase { passphrase, parameters: path.clone() },
    ];
    for source in &sources {
        assert!(Sealer::find(source).unwrap().is_none());
        assert!(!path.exists());
    }
    Sealer::open(&sources[0]).unwrap();
    assert!(Sealer::find(&sources[0]).unwrap().is_some());
}
