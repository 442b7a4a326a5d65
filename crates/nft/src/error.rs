//! What can go wrong between a table and the kernel.

use std::{fmt, io};

/// Why a table is not as it should be. Whatever it is, the kernel holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The kernel cannot be spoken to.
    #[error("cannot speak to the kernel's netfilter")]
    Netlink(#[source] io::Error),
    /// The kernel refused the table.
    #[error("the kernel refused the table `{table}`: {refusals}", refusals = listed(.refusals))]
    Refused {
        /// Which table.
        table: String,
        /// What it did not take, in the order of the table.
        refusals: Vec<Refusal>,
    },
    /// The kernel did not say what became of the table.
    #[error("the kernel did not say what became of the table `{0}`: try again")]
    Unanswered(String),
}

/// One object that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which one, in words.
    pub object: String,
    /// The kernel's reason, as a number of errno.
    pub errno: i32,
    /// The kernel's words, where it has any.
    pub message: Option<String>,
    /// Which byte of the object's message it is about.
    pub offset: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.object, io::Error::from_raw_os_error(self.errno))?;
        if let Some(message) = &self.message {
            write!(to, ", {message}")?;
        }
        match self.offset {
            Some(offset) => write!(to, " (at byte {offset} of its message)"),
            None => Ok(()),
        }
    }
}

fn listed(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
