//! Turns at a cluster that several test programs use at the same time: beside others, or alone.
//!
//! A file of the cluster is locked, so that it counts between programs and between tests of one. Who waits keeps those behind from
//! overtaking: neither many who share nor one who comes again and again keeps the others out.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};

use crate::cluster::Cluster;

/// With whom a test uses a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Beside other tests that leave what is everybody's as it is.
    Together,
    /// Nobody else: for what breaks or changes what is everybody's, and for what is timed.
    Alone,
}

/// A turn at a cluster, which ends with the value.
#[derive(Debug)]
pub struct Turn {
    _held: File,
}

impl Cluster {
    /// Waits for a turn at this cluster; those who take none are not kept out.
    pub fn turn(&self, company: Company) -> Result<Turn> {
        let queue = self.lock_file("turns.queue")?;
        queue.lock().context("cannot wait for a turn at the cluster")?;
        let held = self.lock_file("turns")?;
        let locked = match company {
            Company::Together => held.lock_shared(),
            Company::Alone => held.lock(),
        };
        locked.context("cannot take a turn at the cluster")?;
        Ok(Turn { _held: held })
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.file(name)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        file.with_context(|| format!("cannot open `{}`", path.display()))
    }
}
