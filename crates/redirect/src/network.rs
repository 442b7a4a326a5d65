//! A network namespace, entered for as long as something is done there.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    process::abort,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Mark, RedirectError, plan, route};

/// Somebody's network namespace, which this descriptor keeps.
#[derive(Debug)]
pub struct Network {
    theirs: File,
    ours: File,
    id: NetworkId,
}

/// Which network it is, among those of a machine at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId {
    device: u64,
    inode: u64,
}

impl Network {
    /// The network at a path like `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self, RedirectError> {
        Self::new(File::open(path).map_err(RedirectError::Enter)?)
    }

    /// The network that somebody handed over. What is no network namespace is refused.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self, RedirectError> {
        Self::new(File::from(descriptor))
    }

    fn new(theirs: File) -> Result<Self, RedirectError> {
        let ours = File::open("/proc/thread-self/ns/net").map_err(RedirectError::Enter)?;
        let metadata = theirs.metadata().map_err(RedirectError::Enter)?;
        let id = NetworkId { device: metadata.dev(), inode: metadata.ino() };
        let network = Self { theirs, ours, id };
        network.inside(|| Ok(())).map_err(RedirectError::Enter)?;
        Ok(network)
    }

    /// Which network it is.
    #[must_use]
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// Whether it is the network of the process that asks: whose traffic is never led.
    pub fn is_own(&self) -> io::Result<bool> {
        let ours = self.ours.metadata()?;
        Ok((self.id.device, self.id.inode) == (ours.dev(), ours.ino()))
    }

    /// Leads all traffic to the ports of [`crate::Listeners`]; while nobody listens there, there is none. Doing it again mends what is
    /// half made or was changed. It blocks.
    pub fn install(&self, mark: Mark) -> Result<(), RedirectError> {
        self.on_a_thread(|| {
            // First the rules: without them the routes would lead nothing, without the routes the rules let nothing pass.
            nullius_nft::replace(&plan::table(mark)).map_err(RedirectError::Rules)?;
            route::install()
        })
    }

    /// Leads traffic no more, also where only a part was installed. It blocks.
    pub fn remove(&self) -> Result<(), RedirectError> {
        self.on_a_thread(|| {
            route::remove()?;
            nullius_nft::remove(plan::TABLE).map_err(RedirectError::Rules)
        })
    }

    /// Does something short in the network, on this thread: it is back before anything else can run on it.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        enter(self.theirs.as_fd())?;
        let _back = Back(self.ours.as_fd());
        work()
    }

    /// Does something long in the network, on a thread that ends with it.
    pub(crate) fn on_a_thread<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, RedirectError> + Send,
    ) -> Result<T, RedirectError> {
        let enter_and_work = || {
            enter(self.theirs.as_fd()).map_err(RedirectError::Enter)?;
            work()
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("network".to_owned())
                .spawn_scoped(scope, enter_and_work)
                .map_err(RedirectError::Thread)?;
            thread.join().map_err(|_| {
                RedirectError::Thread(io::Error::other("the thread has ended before its work"))
            })?
        })
    }
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// The way back, also out of a panic.
struct Back<'a>(BorrowedFd<'a>);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if enter(self.0).is_err() {
            // Whatever ran on this thread next would speak from within a pod.
            abort();
        }
    }
}
