//! What nodes are told of the mesh: pods, Services, intentions; and what is said of intentions in their status.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use nullius_kube::identity::{News as Heard, ObjectNews};
use nullius_mesh::KeyAsks;
use nullius_model::TrustDomain;
use tokio::sync::watch;

mod book;
mod issuers;
mod ledger;
mod protocols;
mod service;
mod status;
mod streams;

pub(super) use issuers::keep_issuers;
pub(super) use service::{MeshService, REPORT_MAX};
pub(super) use status::Telling;

use book::{Book, Touched};
use issuers::Declared;
use streams::Streams;

/// What all connections share.
pub(crate) struct Mesh {
    book: RwLock<Book>,
    streams: Streams,
    /// Whether intentions may stand otherwise than was said last.
    restless: AtomicBool,
    /// Issuers that intentions declare.
    declared: watch::Sender<Declared>,
    /// Nodes want keys of issuers.
    asks: Arc<KeyAsks>,
    /// Whether what is known is true.
    hears: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Mesh {
    pub(crate) fn new(
        domain: TrustDomain,
        hears: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            book: RwLock::new(Book::new(domain)),
            streams: Streams::default(),
            restless: AtomicBool::new(true),
            declared: watch::Sender::default(),
            asks: Arc::default(),
            hears: Box::new(hears),
        }
    }

    /// Takes what is heard of the cluster, and tells nodes what of it is for them.
    pub(crate) fn hear(&self, change: impl FnOnce(&mut Book) -> Touched) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        let touched = change(&mut book);
        drop(book);
        if touched.standing {
            self.note_standing();
        }
        self.streams.tell(&touched);
    }

    /// Takes what is heard of intentions, and the issuers that they declare.
    pub(crate) fn hear_intentions(&self, news: Heard<ObjectNews>) {
        self.hear(|book| book.hear_intentions(news));
        let declared = issuers::declared(&self.book());
        self.declared.send_if_modified(|before| {
            let is_other = *before != declared;
            *before = declared;
            is_other
        });
    }

    /// Tokens name keys of these issuers that a node does not know.
    fn want_keys<'n>(&self, issuers: impl Iterator<Item = &'n String>) {
        let book = self.book();
        issuers.filter(|name| book.has_issuer(name)).for_each(|name| self.asks.ask(name));
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        if !self.book().is_complete() {
            return Err("pods, Services and intentions are still being read");
        }
        if (self.hears)() { Ok(()) } else { Err("the API server has not been heard for a while") }
    }

    fn book(&self) -> std::sync::RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_standing(&self) {
        self.restless.store(true, Ordering::Release);
    }
}
