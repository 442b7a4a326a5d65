//! What decides, from files: read at the start, and again whenever one changes.
//!
//! What cannot be read leaves what was read before in force, and is told once.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nullius_model::Timestamp;
use tokio::sync::watch;

use crate::{Config, ConfigError, Exports, Here, KeyAsks, KeyRing, KeysFrom, World, load};

/// Between two looks at the files. Kubernetes swaps links, which no watch of a file sees.
const LOOK: Duration = Duration::from_millis(250);
/// How deep folders are looked at.
const DEPTH: usize = 8;

/// Reads the files, and reads them again.
pub(crate) struct Reader {
    config: Arc<Config>,
    seen: Stamps,
    /// Keys that are fetched.
    ring: watch::Receiver<KeyRing>,
    asks: Arc<KeyAsks>,
    /// What was told last of files that cannot be used.
    told: String,
}

/// What the system says of the files; other contents have another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Stamps {
    identity: Vec<Stamp>,
    issuers: Vec<Stamp>,
    intentions: Vec<Stamp>,
    /// Of the configuration itself, which says what a gateway leads to.
    exports: Vec<Stamp>,
}

/// What of it is another than before.
#[derive(Clone, Copy)]
struct Changed {
    identity: bool,
    issuers: bool,
    exports: bool,
}

type Stamp = (PathBuf, Option<[i128; 5]>);

impl Reader {
    /// Reads everything for the first time.
    pub(crate) fn first(
        config: &Arc<Config>,
        ring: watch::Receiver<KeyRing>,
        asks: Arc<KeyAsks>,
    ) -> Result<(Self, World), ConfigError> {
        let seen = Stamps::take(config);
        let tls = Arc::new(load::identity(config, Timestamp::now())?);
        let rules = Arc::new(load::rules(config, tls.id())?);
        let issuers = Arc::new(load::issuers(config, &ring.borrow(), &asks)?);
        let reader = Self { config: Arc::clone(config), seen, ring, asks, told: String::new() };
        let (here, directory) = (Arc::<Here>::default(), Arc::default());
        let exports = exports(config);
        Ok((reader, World { generation: 0, tls, rules, here, directory, issuers, exports }))
    }

    /// Looks again and again, for as long as anybody cares for what it finds.
    pub(crate) async fn run(mut self, world: watch::Sender<Option<Arc<World>>>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(before) = world.borrow().clone() else { return };
            let looked = tokio::task::spawn_blocking(move || {
                let after = self.look(&before);
                (self, after)
            });
            let Ok((reader, after)) = looked.await else {
                tracing::error!("stop looking at files: it panicked");
                return;
            };
            self = reader;
            if let Some(after) = after {
                world.send_replace(Some(Arc::new(after)));
            }
        }
    }

    /// What decides from now on, where that is another.
    fn look(&mut self, before: &World) -> Option<World> {
        let stamps = Stamps::take(&self.config);
        let is_retry = !self.told.is_empty();
        let identity = stamps.identity != self.seen.identity || is_retry;
        let is_fetched = self.ring.has_changed().unwrap_or(false);
        let issuers = stamps.issuers != self.seen.issuers || is_fetched || is_retry;
        let exports = stamps.exports != self.seen.exports || is_retry;
        if !identity && !issuers && !exports && stamps.intentions == self.seen.intentions {
            return None;
        }
        self.seen = stamps;
        match self.read(before, Changed { identity, issuers, exports }) {
            Ok(after) => {
                self.told.clear();
                tracing::info!(
                    id = %after.tls.id(),
                    until = %after.tls.not_after(),
                    intentions = after.rules.len(),
                    "put changed files in force"
                );
                Some(after)
            }
            Err(error) => {
                let told = error.to_string();
                if told != self.told {
                    tracing::warn!(error = %told, "keep what was read before: changed files cannot be used");
                    self.told = told;
                }
                None
            }
        }
    }

    fn read(&mut self, before: &World, changed: Changed) -> Result<World, ConfigError> {
        let (tls, generation) = match changed.identity {
            true => {
                (Arc::new(load::identity(&self.config, Timestamp::now())?), before.generation + 1)
            }
            false => (Arc::clone(&before.tls), before.generation),
        };
        let rules = Arc::new(load::rules(&self.config, tls.id())?);
        let issuers = match changed.issuers {
            true => {
                let ring = self.ring.borrow_and_update().clone();
                Arc::new(load::issuers(&self.config, &ring, &self.asks)?)
            }
            false => Arc::clone(&before.issuers),
        };
        let exports = match &self.config.source {
            Some(file) if changed.exports => exports(&Config::read(file)?),
            Some(_) | None => Arc::clone(&before.exports),
        };
        Ok(World { generation, tls, rules, issuers, exports, ..before.clone() })
    }
}

impl Stamps {
    fn take(config: &Config) -> Self {
        let mut stamps = Self::default();
        let files = &config.identity;
        for file in [&files.certificate, &files.key].into_iter().chain(files.bundles.values()) {
            add(&mut stamps.identity, file, 0);
        }
        for keys in config.issuers.values() {
            if let KeysFrom::File(file) = keys {
                add(&mut stamps.issuers, file, 0);
            }
        }
        if let (Some(file), Some(_)) = (&config.source, &config.gateway) {
            add(&mut stamps.exports, file, 0);
        }
        for path in config.intentions.iter().chain(&config.fleet) {
            add(&mut stamps.intentions, path, DEPTH);
        }
        stamps
    }
}

/// What a gateway leads to; nothing where nobody says so any more.
fn exports(config: &Config) -> Arc<Exports> {
    config.gateway.as_ref().map(|it| Arc::clone(&it.exports)).unwrap_or_default()
}

fn add(stamps: &mut Vec<Stamp>, path: &Path, depth: usize) {
    let metadata = fs::metadata(path).ok();
    let stamp = metadata.as_ref().map(|it| {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        [
            i128::from(it.dev()),
            i128::from(it.ino()),
            i128::from(it.size()),
            nanos(it.mtime(), it.mtime_nsec()),
            nanos(it.ctime(), it.ctime_nsec()),
        ]
    });
    stamps.push((path.to_owned(), stamp));
    if depth == 0 || !metadata.is_some_and(|it| it.is_dir()) {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    let mut below: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .collect();
    below.sort();
    below.iter().for_each(|path| add(stamps, path, depth - 1));
}

#[cfg(test)]
mod tests;
