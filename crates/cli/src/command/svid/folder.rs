//! Identities as files: key, certificate and bundle that belong together change together.
//!
//! `DIR/svid.pem` is a link into `DIR/..data`, which is a link to the folder of one set: it is exchanged in one step, as the kubelet
//! does with Secrets.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use nullius_pki::workload::{TrustBundle, X509Svid};
use nullius_workload::{Identity, WorkloadIdentities};
use rustls_pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    failure::{Failure, file_failure},
    home::private_file::private_directory,
};

const CURRENT: &str = "..data";
/// What the folder of a set begins with.
const SET: &str = "..set-";

/// Writes all of a set, in place of the one before.
pub(super) fn write(folder: &Path, identities: &WorkloadIdentities) -> Result<(), Failure> {
    private_directory(folder)?;
    let files = files(identities);
    for name in files.keys() {
        check_link(&folder.join(name))?;
    }
    let failed = |error| file_failure("write", folder, error);
    let set = tempfile::Builder::new().prefix(SET).tempdir_in(folder).map_err(failed)?;
    for (name, text) in &files {
        let path = set.path().join(name);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        written
            .and_then(|mut file| {
                file.write_all(text.expose_secret().as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| file_failure("write", &path, error))?;
    }
    let current = folder.join(CURRENT);
    let target = set.path().file_name().map(PathBuf::from).unwrap_or_default();
    link(&target, &current).map_err(failed)?;
    // It is in use from here on.
    let _ = set.keep();
    for name in files.keys() {
        link(&Path::new(CURRENT).join(name), &folder.join(name)).map_err(failed)?;
    }
    remove_others(folder, &files, &target).map_err(failed)
}

/// The files of a set. The first identity has the plain names, others have their number.
fn files(identities: &WorkloadIdentities) -> BTreeMap<String, SecretString> {
    let mut files = BTreeMap::new();
    for (at, identity) in identities.identities.iter().enumerate() {
        let Identity { svid, key, anchors, .. } = identity;
        let number = if at == 0 { String::new() } else { format!(".{at}") };
        files.insert(format!("svid{number}.pem"), svid.to_pem().into());
        files.insert(format!("svid_key{number}.pem"), key.to_pem());
        files.insert(format!("bundle{number}.pem"), pem(anchors, svid).into());
    }
    for (domain, anchors) in &identities.foreign {
        let mut bundle = TrustBundle::new(domain.clone());
        for anchor in anchors {
            // One that can be no anchor would verify nobody.
            let _ = bundle.add_x509(anchor.clone());
        }
        files.insert(format!("bundle.{domain}.pem"), bundle.to_pem().into());
    }
    files
}

fn pem(anchors: &[CertificateDer<'static>], svid: &X509Svid) -> String {
    X509Svid { chain: anchors.to_vec(), ..svid.clone() }.to_pem()
}

/// A file that somebody else put there is not replaced.
fn check_link(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_symlink() => {
            Err(Failure::new(format!("refused to replace `{}`", path.display()))
                .why("it was not made by this command")
                .next("name another folder, or delete the file"))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_failure("read", path, error)),
    }
}

/// Makes a link, in place of one that leads elsewhere.
fn link(target: &Path, path: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(target, &beside)?;
    fs::rename(&beside, path)
}

/// Removes other sets, what a run left behind that was ended too, and links to what is in no set any more.
fn remove_others(
    folder: &Path,
    files: &BTreeMap<String, SecretString>,
    current: &Path,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let text = name.to_string_lossy();
        if text.starts_with(SET) && name != current.as_os_str() {
            fs::remove_dir_all(path)?;
        } else if !files.contains_key(&*text)
            && fs::read_link(&path).is_ok_and(|to| to.starts_with(CURRENT))
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
