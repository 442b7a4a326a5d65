//! How often a line is logged that others cause: who knocks without end fills no log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// So many lines a minute.
pub struct Words {
    most: u32,
    minute: Mutex<Option<Minute>>,
}

struct Minute {
    began: Instant,
    said: u32,
    left_out: u64,
}

impl Words {
    /// None was said yet.
    pub const fn new(most: u32) -> Self {
        Self { most, minute: Mutex::new(None) }
    }

    /// Takes one; says how many were left out before it.
    pub fn take(&self) -> Option<u64> {
        let now = Instant::now();
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Minute { began: now, said: 0, left_out: 0 };
        let current = minute.get_or_insert(fresh);
        if now.saturating_duration_since(current.began) >= MINUTE {
            (current.began, current.said) = (now, 0);
        }
        if current.said >= self.most {
            current.left_out += 1;
            return None;
        }
        current.said += 1;
        Some(std::mem::take(&mut current.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_are_few_and_the_next_one_counts_the_others() {
        let words = Words::new(2);
        let said: Vec<Option<u64>> = (0..100).map(|_| words.take()).collect();
        assert_eq!(said.iter().flatten().count(), 2);
        tokio::time::advance(MINUTE).await;
        assert_eq!((words.take(), words.take(), words.take()), (Some(98), Some(0), None));
    }
}
