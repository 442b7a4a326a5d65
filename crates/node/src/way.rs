//! The way to the agent: one connection, which is left for a new one when whoever answers on it cannot help.
//!
//! A replica that hears nothing itself answers pings as before. Behind the Service's address there are others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};

/// So long it may be that nobody is helped.
const PATIENCE: Duration = Duration::from_secs(10);

/// A channel; clones share it.
#[derive(Clone)]
pub(crate) struct Way(Arc<Shared>);

struct Shared {
    dial: Box<dyn Fn() -> Channel + Send + Sync>,
    state: Mutex<State>,
    left: watch::Sender<()>,
}

struct State {
    channel: Channel,
    failing_since: Option<Instant>,
}

impl Way {
    /// With what makes a channel, which connects when it is needed.
    pub(crate) fn new(dial: impl Fn() -> Channel + Send + Sync + 'static) -> Self {
        let state = State { channel: dial(), failing_since: None };
        let left = watch::Sender::new(());
        Self(Arc::new(Shared { dial: Box::new(dial), state: Mutex::new(state), left }))
    }

    pub(crate) fn channel(&self) -> Channel {
        self.state().channel.clone()
    }

    /// Changes when a connection is left: streams on it have to come along.
    pub(crate) fn left(&self) -> watch::Receiver<()> {
        self.0.left.subscribe()
    }

    /// What came of asking.
    pub(crate) fn note<T>(&self, answer: &Result<T, Status>) {
        let mut state = self.state();
        match answer {
            Err(status) if status.code() == Code::Unavailable => {
                let since = *state.failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    drop(state);
                    self.leave();
                }
            }
            Ok(_) | Err(_) => state.failing_since = None,
        }
    }

    /// Dials anew for whatever is asked next.
    pub(crate) fn leave(&self) {
        tracing::info!("dial the agent anew: who answers there cannot help");
        *self.state() = State { channel: (self.0.dial)(), failing_since: None };
        self.0.left.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
