//! What can go wrong: an expression that does not compile, with its position; one that errs when it runs, in cel-go's
//! words; and why an evaluation ended before it had an answer.

use std::fmt;

use crate::library::authz::AccessCheck;

/// One mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// The line of the source.
    pub snippet: String,
}

impl CompileError {
    pub(crate) fn at(source: &str, offset: u32, message: impl Into<String>) -> CompileError {
        let mut start = (offset as usize).min(source.len());
        while !source.is_char_boundary(start) {
            start -= 1;
        }
        let before = &source[..start];
        let line = before.matches('\n').count();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = source[line_start..start].chars().count();
        CompileError {
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            message: message.into(),
            snippet: source.lines().nth(line).unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for CompileError {
    /// The form in which the API server reports a mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR: <input>:{}:{}: {}", self.line, self.column, self.message)?;
        if !self.snippet.is_empty() && self.snippet.len() <= 1024 {
            let dots = ".".repeat(self.column.saturating_sub(1) as usize);
            write!(f, "\n | {}\n | {dots}^", self.snippet)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression errs; another operand of `&&` or `||` may absorb it.
    #[error("{0}")]
    Failed(String),
    /// It errs in a way that no other operand absorbs, since there the API server's evaluation ends.
    #[error("internal error: {0}")]
    Broken(String),
    /// It would cost more than the budget.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// It took longer than the shell allows.
    #[error("operation interrupted")]
    Interrupted,
    /// It made a value larger than the limit.
    #[error("operation cancelled: a value is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It looked at more values than any expression has reason to: what shares its parts is endless to whoever compares it.
    #[error("operation cancelled: more than {limit} values were compared")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// It asks for an authorization check whose answer is not known yet: fetch it and evaluate again.
    #[error("the answer of an authorization check is not known: {0}")]
    Needs(Box<AccessCheck>),
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> EvalError {
        EvalError::Failed(message.into())
    }

    pub(crate) fn no_overload() -> EvalError {
        EvalError::Failed("no such overload".to_owned())
    }

    pub(crate) fn no_overload_for(name: &str) -> EvalError {
        EvalError::Failed(format!("no such overload: {name}"))
    }

    /// Whether the expression itself erred, so that `&&`, `||`, `all` and `exists` may absorb it.
    #[must_use]
    pub fn is_absorbed(&self) -> bool {
        matches!(self, EvalError::Failed(_))
    }
}

/// A value or why there is none.
pub(crate) type Fallible<T> = Result<T, EvalError>;
