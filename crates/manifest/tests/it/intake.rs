//! Folders with everything that goes wrong in folders.

use std::{fs, io, os::unix::fs::symlink, path::PathBuf};

use nullius_manifest::{TEXT_MAX, walk};

fn walked(paths: &[PathBuf], mut input: impl io::Read) -> Vec<String> {
    let mut all = Vec::new();
    walk(paths, &mut input, &mut |found| {
        all.push(match found {
            Ok(source) => format!("{}: {} bytes", source.name, source.text.len()),
            Err(error) => format!("{}: error: {}", error.name, error.message),
        });
    });
    all
}

#[test]
fn a_folder_gives_what_can_be_read_and_tells_the_rest() {
    let kept = tempfile::tempdir().unwrap();
    let root = kept.path().join("root");
    fs::create_dir_all(root.join("b/deep")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::write(kept.path().join("secret.yaml"), "s").unwrap();
    fs::write(root.join("a.yaml"), "a: 1\n").unwrap();
    fs::write(root.join("b/deep/c.YML"), "c").unwrap();
    fs::write(root.join("b/notes.txt"), "no").unwrap();
    fs::write(root.join(".git/x.yaml"), "no").unwrap();
    fs::write(root.join("binary.json"), b"{}\0").unwrap();
    fs::write(root.join("latin.yaml"), b"a: 1\nb: \xe9\n").unwrap();
    fs::write(root.join("wide.yaml"), b"\xff\xfea\0").unwrap();
    symlink(&root, root.join("b/loop")).unwrap();
    symlink("a.yaml", root.join("link.yaml")).unwrap();
    symlink("../secret.yaml", root.join("out.yaml")).unwrap();
    symlink("/", root.join("out")).unwrap();
    symlink("nowhere", root.join("gone.yaml")).unwrap();
    symlink("self.yaml", root.join("self.yaml")).unwrap();
    let told: Vec<String> = walked(std::slice::from_ref(&root), io::empty())
        .into_iter()
        .map(|line| line.replace(&format!("{}/", root.display()), ""))
        .collect();
    let not_followed =
        "error: the link leads out of the folder and is not followed; name the file itself";
    assert_eq!(
        told[..9],
        [
            "a.yaml: 5 bytes".to_owned(),
            "b/deep/c.YML: 1 bytes".to_owned(),
            "b/loop: error: the link leads back to a folder around it".to_owned(),
            "binary.json: error: it is binary, not text".to_owned(),
            "gone.yaml: error: cannot follow the link: it does not exist".to_owned(),
            "latin.yaml: error: it is no UTF-8 text: line 2 has other bytes".to_owned(),
            "link.yaml: 5 bytes".to_owned(),
            format!("out: {not_followed}"),
            format!("out.yaml: {not_followed}"),
        ]
    );
    assert!(told[9].starts_with("self.yaml: error: cannot follow the link: "), "{}", told[9]);
    assert_eq!(told[10], "wide.yaml: error: it is UTF-16; save it as UTF-8");
    assert_eq!(told.len(), 11);
}

#[test]
fn what_is_named_is_read_or_told() {
    let kept = tempfile::tempdir().unwrap();
    let named = kept.path().join("notes.txt");
    fs::write(&named, "kind: Pod\n").unwrap();
    let missing = kept.path().join("missing");
    let told = walked(&[named.clone(), missing.clone(), PathBuf::from("-")], &b"a: 1"[..]);
    assert_eq!(
        told,
        [
            format!("{}: 10 bytes", named.display()),
            format!("{}: error: cannot read it: it does not exist", missing.display()),
            "stdin: 4 bytes".to_owned(),
        ]
    );
    let endless = walked(&[PathBuf::from("-")], io::repeat(b'a'));
    assert_eq!(
        endless,
        [format!("stdin: error: it is larger than {} MiB; split it", TEXT_MAX >> 20)]
    );
}

#[test]
fn what_is_named_twice_is_read_once() {
    let kept = tempfile::tempdir().unwrap();
    let root = kept.path();
    fs::create_dir(root.join("b")).unwrap();
    fs::write(root.join("a.yaml"), "a: 1\n").unwrap();
    fs::write(root.join("b/c.yaml"), "c").unwrap();
    let paths = ["a.yaml", "b", "b/../a.yaml", "b/", "missing.yaml"].map(|path| root.join(path));
    let told = walked(&paths, io::empty()).len();
    assert_eq!(told, 3);
}
