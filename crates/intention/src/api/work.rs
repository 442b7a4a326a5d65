//! How much may be done for one request. A step is what a processor does in ten nanoseconds, and at worst in a hundred: whatever takes
//! longer counts for more, so that no schema and no text keeps others from being answered.

/// For all of one request together: its path, its query, its headers, its body, by all schemas.
const ALL: u32 = 1_000_000;
/// Of these, what is done at once, where others wait meanwhile. Heads take no more.
const AT_ONCE: u32 = 100_000;

/// Steps that are left.
#[derive(Debug)]
pub(crate) struct Work {
    left: u32,
}

/// All of them are used up: whoever has asked has not been found right.
#[derive(Debug)]
pub(super) struct Spent;

/// What a head has left for its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    used: u32,
}

impl Default for Rest {
    fn default() -> Self {
        Work::of_head().rest()
    }
}

impl Work {
    /// For a head.
    pub(crate) fn of_head() -> Self {
        Self { left: AT_ONCE }
    }

    /// What is left when a head was looked into.
    pub(crate) fn rest(&self) -> Rest {
        Rest { used: AT_ONCE - self.left }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.left.checked_sub(steps));
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or(Spent)
    }

    /// Spends what it takes to look at so many bytes.
    pub(super) fn look_at(&mut self, bytes: usize) -> Result<(), Spent> {
        self.spend(1 + bytes / 16)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }
}

impl Rest {
    /// For a body that is looked into at once, if that is enough.
    pub(super) fn at_once(self) -> Work {
        Work { left: AT_ONCE - self.used }
    }

    /// For a body that is looked into where nobody waits.
    pub(super) fn all(self) -> Work {
        Work { left: ALL - self.used }
    }
}
