//! A timeout that counts only time in which this process could run.
//!
//! Among two hundred kubectl on two cores a process gets its turn every few seconds: that the hub did not answer in
//! between says nothing about the hub.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

/// Pauses are counted, not time: however late the process is woken after one, what came meanwhile is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// The time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over;

/// What the future gives, if it does so within this time.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Result<F::Output, Over> {
    let mut future = pin!(future);
    let mut left = time;
    while !left.is_zero() {
        let pause = left.min(PAUSE);
        if let Ok(output) = timeout(pause, future.as_mut()).await {
            return Ok(output);
        }
        left -= pause;
    }
    Err(Over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_come_is_given_up() {
        let never = std::future::pending::<()>();
        assert_eq!(within(Duration::from_millis(150), never).await, Err(Over));
        assert_eq!(within(Duration::from_secs(1), std::future::ready(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn what_came_while_the_process_did_not_run_counts() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let slow = async {
            tokio::task::yield_now().await;
            // The whole process stands still for longer than the time that is given.
            std::thread::sleep(Duration::from_millis(250));
            let _ = send.send(());
        };
        let waiting = within(Duration::from_millis(200), receive);
        let (came, ()) = tokio::join!(waiting, slow);
        assert_eq!(came, Ok(Ok(())));
    }
}
