//! One set that names, cancels and joins all tasks of an agent.

use std::{future::Future, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::AgentError;

/// The agent's tasks; each runs until it is told to stop, and an end before that ends the agent.
pub(crate) struct Tasks {
    set: JoinSet<(&'static str, Result<(), AgentError>)>,
    stop: CancellationToken,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { set: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// What tasks look at to know that they should stop.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A task that ends by itself when told to stop.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), AgentError>> + Send + 'static,
    ) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// A task that never ends and may be dropped at any point.
    pub(crate) fn spawn_loop(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => (name, Ok(())),
                () = task => (name, Err(AgentError::Ended(name))),
            }
        });
    }

    /// Resolves with the first task that ends though nobody told it to.
    pub(crate) async fn failed(&mut self) -> AgentError {
        match self.set.join_next().await {
            Some(Ok((_, Err(error)))) => error,
            Some(Ok((name, Ok(())))) => AgentError::Ended(name),
            Some(Err(_)) => AgentError::Ended("one that panicked"),
            None => std::future::pending().await,
        }
    }

    /// Tells all tasks to stop and waits for them; who is late is dropped.
    pub(crate) async fn finish(mut self, patience: Duration) {
        self.stop.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(tasks = self.set.len(), "drop tasks that did not stop in time");
        }
        self.set.shutdown().await;
    }
}

/// Runs until the caller asks for the end or a task fails; then stops all tasks.
pub(crate) async fn run_until(
    mut tasks: Tasks,
    shutdown: &CancellationToken,
    patience: Duration,
) -> Result<(), AgentError> {
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = tasks.failed() => Err(error),
    };
    tasks.finish(patience).await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_ends_the_agent_by_name() {
        let mut tasks = Tasks::new();
        tasks.spawn_loop("steady", std::future::pending());
        tasks.spawn_loop("fickle", async {});
        let ended = run_until(tasks, &CancellationToken::new(), Duration::from_secs(1)).await;
        assert!(matches!(ended, Err(AgentError::Ended("fickle"))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_who_finishes_and_drops_who_does_not() {
        let mut tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("stubborn", async move {
            stop.cancelled().await;
            std::future::pending().await
        });
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        assert!(run_until(tasks, &shutdown, Duration::from_secs(30)).await.is_ok());
    }
}
