//! How a command fails: what, why, what to do next, and the exit code.
//!
//! Three lines for people; `--verbose` adds the chain of causes. Text that came from elsewhere is escaped, so that
//! a hostile answer cannot drive the terminal.

use std::{collections::BTreeMap, error::Error as StdError, fmt, io};

use nullius_api::ApiError;

use crate::output::escape;

/// How a process of ours ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It could not be done.
    Failed,
    /// It was denied, or there are findings or differences.
    Denied,
    /// The command line or the configuration is wrong (`EX_USAGE`).
    Usage,
}

impl Exit {
    /// The code for the operating system.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failed command, told to a person.
#[derive(Debug)]
pub struct Failure(Box<Told>);

#[derive(Debug)]
struct Told {
    what: String,
    why: Option<String>,
    next: Option<String>,
    exit: Exit,
    /// The stable word of the hub, where the hub refused.
    code: Option<String>,
    /// The fields that the hub found wrong.
    fields: BTreeMap<String, String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure that says what could not be done.
    pub fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Told {
            what: what.into(),
            why: None,
            next: None,
            exit: Exit::Failed,
            code: None,
            fields: BTreeMap::new(),
            source: None,
        }))
    }

    /// A wrong command line or configuration.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(what).exit_with(Exit::Usage)
    }

    /// The same, saying why.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.0.why = Some(why.into());
        self
    }

    /// The same, saying what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub fn exit_with(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    /// The same with its cause; the cause's text becomes the reason when there is none yet.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        if self.0.why.is_none() {
            self.0.why = Some(source.to_string());
        }
        self.0.source = Some(Box::new(source));
        self
    }

    /// A failure that the hub answered, for what was asked.
    pub(crate) fn refused(what: &str, error: ApiError) -> Self {
        let why = match &error.explanation {
            Some(explanation) => {
                let rule = explanation.rule.as_ref().map(|rule| format!(" (by {rule})"));
                format!("{}{}", explanation.sentence, rule.unwrap_or_default())
            }
            None => error.message.clone(),
        };
        let fields: Vec<String> =
            error.fields.iter().map(|(field, wrong)| format!("{field}: {wrong}")).collect();
        let why = if fields.is_empty() { why } else { format!("{why}: {}", fields.join("; ")) };
        let told = error.next.or_else(|| error.explanation.and_then(|explained| explained.next));
        let next = told.or_else(|| match error.code.as_str() {
            "unauthenticated" => Some(SIGN_IN_AGAIN.to_owned()),
            "step-up" => {
                Some("prove your second factor anew: `nullius login --step-up`".to_owned())
            }
            "conflict" => Some("read the object again, then repeat the change".to_owned()),
            "wait" => error.retry_after.map(|seconds| format!("try again in {seconds} seconds")),
            _ => None,
        });
        let exit = match error.code.as_str() {
            "denied" | "step-up" => Exit::Denied,
            _ => Exit::Failed,
        };
        Self(Box::new(Told {
            what: what.to_owned(),
            why: Some(why),
            next,
            exit,
            code: Some(error.code),
            fields: error.fields,
            source: None,
        }))
    }

    /// Whether the hub refused with this word.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.0.code.as_deref() == Some(code)
    }

    /// The fields that the hub found wrong, and why.
    pub(crate) fn fields(&self) -> &BTreeMap<String, String> {
        &self.0.fields
    }

    /// What to do next, for a list of failures.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.0.next.as_deref()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The reason alone, for a list of failures.
    pub(crate) fn reason(&self) -> &str {
        self.0.why.as_deref().unwrap_or(&self.0.what)
    }

    /// The lines for people; `chain` adds the causes behind the reason.
    pub fn lines(&self, chain: Chain) -> String {
        let mut text = format!("error: {}\n", escape::lines(&self.0.what));
        if let Some(why) = &self.0.why {
            text.push_str(&format!("  why: {}\n", escape::lines(why)));
        }
        if let Some(next) = &self.0.next {
            text.push_str(&format!("  next: {}\n", escape::lines(next)));
        }
        if chain == Chain::Shown {
            let mut cause = self.0.source.as_deref().map(|source| source as &dyn StdError);
            while let Some(error) = cause {
                text.push_str(&format!("  cause: {}\n", escape::lines(&error.to_string())));
                cause = error.source();
            }
        }
        text
    }
}

/// What people do when a session has ended.
pub(crate) const SIGN_IN_AGAIN: &str = "sign in again: `nullius login`";

/// Whether the chain of causes is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// The causes follow, one a line.
    Shown,
    /// Only what, why and next.
    Hidden,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// What could not be done with a file, and why.
pub(crate) fn file_failure(doing: &str, path: &std::path::Path, error: io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    let next = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check who owns it and its mode: `ls -l`",
        _ => "mend that, then run the command again",
    };
    Failure::new(format!("cannot {doing} `{}`", path.display())).why(why).because(error).next(next)
}
