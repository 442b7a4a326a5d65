//! What every command has at hand: the environment, the global flags, the way to the hub and to print.

use crate::{
    args::Global,
    client::Hub,
    environment::{Audience, Confirmed, Environment},
    failure::{Exit, Failure},
    home::contexts::{Contexts, Named},
    output::{Format, Layout, Listing, Printed, Shown, Single, Titles},
};

/// The environment with the global flags.
pub(crate) struct Stage {
    pub(crate) environment: Environment,
    pub(crate) global: Global,
}

impl Stage {
    /// The context that the flags name.
    pub(crate) fn context(&self) -> Result<Named, Failure> {
        let contexts = Contexts::load(self.environment.home()?)?;
        contexts.choose(self.global.hub()?.as_ref(), self.global.context.as_ref())
    }

    /// The hub of that context.
    pub(crate) fn hub(&self) -> Result<Hub, Failure> {
        Hub::open(self.context()?, &self.environment)
    }

    /// The present instant.
    pub(crate) fn now(&self) -> nullius_model::Timestamp {
        self.environment.clock.now()
    }

    /// The layout of tables.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            widest: if self.global.output == Format::Wide { Shown::Wide } else { Shown::Always },
            titles: if self.global.no_headers { Titles::Hidden } else { Titles::Shown },
            width: self.environment.terminal.width,
        }
    }

    /// Prints several things.
    pub(crate) fn list(&mut self, listing: Listing) -> Result<Exit, Failure> {
        let printed = listing.print(self.global.output, self.layout())?;
        self.print(&printed)
    }

    /// Prints one thing.
    pub(crate) fn single(&mut self, single: Single) -> Result<Exit, Failure> {
        let printed = single.print(self.global.output)?;
        self.print(&printed)
    }

    /// Prints a result and what stands beside it.
    pub(crate) fn print(&mut self, printed: &Printed) -> Result<Exit, Failure> {
        self.environment.terminal.tell(&printed.err);
        self.environment.terminal.print(&printed.out)?;
        Ok(Exit::Ok)
    }

    /// Says something to people, beside the result.
    pub(crate) fn tell(&mut self, text: &str) {
        self.environment.terminal.tell(text);
    }

    /// Whether the result is for people.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.global.output, Format::Table | Format::Wide)
    }

    /// Whether people read the result at a terminal.
    pub(crate) fn is_at_terminal(&self) -> bool {
        self.environment.terminal.audience == Audience::People
    }

    /// Asks before something is destroyed, unless `--yes` was given; without a terminal it is a failure.
    pub(crate) async fn confirm(&self, yes: Asked, question: &str) -> Result<Confirmed, Failure> {
        if yes == Asked::Already {
            return Ok(Confirmed::Yes);
        }
        if !self.environment.answers.can_ask() {
            return Err(Failure::usage(format!("refused without a yes: {question}"))
                .why("no terminal is here to ask")
                .next("repeat the command with `--yes`"));
        }
        self.environment.answers.confirm(question).await
    }
}

/// Whether a person has said yes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By `--yes`.
    Already,
    /// Not yet.
    NotYet,
}

impl Asked {
    /// From the flag.
    pub(crate) fn of_flag(yes: bool) -> Self {
        if yes { Self::Already } else { Self::NotYet }
    }
}

/// The failure of somebody who said no.
pub(crate) fn declined() -> Failure {
    Failure::new("nothing was done").why("the answer was not yes")
}
