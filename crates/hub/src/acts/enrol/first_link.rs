//! The first admin's one-time link, kept in a file of the state directory until it is used or has ended: whatever
//! collects the output of services is no place for it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nullius_api::EnrolmentLink;

use crate::{Hub, record::chain};

const FILE: &str = "first-admin-link";

impl Hub {
    /// Writes the link to its file, which only its owner may read.
    pub(crate) fn keep_first_link(&self, link: &EnrolmentLink) -> io::Result<PathBuf> {
        let path = self.first_link_file();
        // One of before may have other rights.
        remove(&path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", link.url)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Removes the file when its link is good no more.
    pub(crate) async fn tidy_first_link(&self) {
        let path = self.first_link_file();
        let Ok(text) = fs::read_to_string(&path) else { return };
        let good = match text.trim().split_once("token=") {
            Some((_, token)) => self.good_link(token).await.map(|link| link.is_some()),
            None => Ok(false),
        };
        match good {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = remove(&path) {
                    tracing::warn!(%error, file = %path.display(), "could not remove a link that is used");
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not look up the first link")
            }
        }
    }

    fn first_link_file(&self) -> PathBuf {
        self.settings.state_dir.join(FILE)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
