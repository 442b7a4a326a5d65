//! What a command finds around it, read once at the edge: places, variables, streams, whether people look on.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt,
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nullius_model::{Clock, SystemClock};

use crate::{failure::Failure, login::prompt};

/// Everything outside the process that a command may touch.
pub struct Environment {
    /// Where contexts and sessions are kept; absent when neither `NULLIUS_HOME` nor a home directory is known.
    pub home: Option<PathBuf>,
    /// The person's home directory.
    pub user_home: Option<PathBuf>,
    /// The kubeconfig that kubectl would use first.
    pub kubeconfig: Option<PathBuf>,
    /// `VISUAL` or `EDITOR`.
    pub editor: Option<OsString>,
    /// `KUBERNETES_EXEC_INFO`, as kubectl hands it to an exec plugin.
    pub exec_info: Option<String>,
    /// This program, for the exec plugin's entry in a kubeconfig.
    pub program: PathBuf,
    /// What opens a URL in a browser; absent where none can be.
    pub browser: Option<OsString>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where output goes.
    pub terminal: Terminal,
    /// Where answers to questions come from.
    pub answers: Answers,
}

/// Where output goes.
pub struct Terminal {
    /// The result.
    pub out: Box<dyn Write + Send>,
    /// Everything else.
    pub err: Box<dyn Write + Send>,
    /// Columns, when the result goes to a terminal.
    pub width: Option<usize>,
    /// Whether the result goes to people or to a pipe.
    pub audience: Audience,
}

/// Who reads the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// People at a terminal.
    People,
    /// A file or another program.
    Program,
}

/// Where answers to questions come from.
#[derive(Clone)]
pub enum Answers {
    /// People at the terminal of the process.
    Terminal,
    /// These lines, in order.
    Lines(Arc<Mutex<VecDeque<String>>>),
    /// Nowhere: a question is a failure.
    Nobody,
}

impl Environment {
    /// The environment of the process.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let user_home = variable("HOME").map(PathBuf::from);
        let configured =
            variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let configured = configured.or_else(|| user_home.as_ref().map(|home| home.join(".config")));
        let home = variable("NULLIUS_HOME").map(PathBuf::from);
        let kubeconfig = variable("KUBECONFIG").and_then(|list| {
            std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty())
        });
        let out = io::stdout();
        let audience = if out.is_terminal() { Audience::People } else { Audience::Program };
        let width = (audience == Audience::People).then(prompt::terminal_width).flatten();
        let questions =
            io::stderr().is_terminal() && OpenOptions::new().read(true).open("/dev/tty").is_ok();
        Self {
            home: home.or_else(|| configured.map(|config| config.join("nullius"))),
            kubeconfig: kubeconfig
                .or_else(|| user_home.as_ref().map(|home| home.join(".kube").join("config"))),
            user_home,
            editor: variable("VISUAL").or_else(|| variable("EDITOR")),
            exec_info: std::env::var("KUBERNETES_EXEC_INFO").ok(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("nullius")),
            browser: browser(&variable),
            clock: Arc::new(SystemClock),
            terminal: Terminal { out: Box::new(out), err: Box::new(io::stderr()), width, audience },
            answers: if questions { Answers::Terminal } else { Answers::Nobody },
        }
    }

    /// The directory of contexts and sessions.
    pub(crate) fn home(&self) -> Result<&Path, Failure> {
        self.home.as_deref().ok_or_else(|| {
            Failure::usage("cannot tell where to keep contexts and sessions")
                .why("neither `NULLIUS_HOME` nor `HOME` is set")
                .next("set `NULLIUS_HOME` to a directory of yours")
        })
    }
}

/// The program that opens URLs: `BROWSER`, else the one of the desktop, where there is a desktop.
fn browser(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<OsString> {
    if let Some(chosen) = variable("BROWSER") {
        return Some(chosen);
    }
    if cfg!(target_os = "macos") {
        return Some("open".into());
    }
    let desktop = variable("DISPLAY").or_else(|| variable("WAYLAND_DISPLAY"));
    desktop.map(|_| "xdg-open".into())
}

impl Terminal {
    /// Writes to standard output; a reader that went away ends the output quietly.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::new("cannot write the result").because(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Writes to standard error, where nobody may be.
    pub fn tell(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }
}

impl Answers {
    /// Whether somebody can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Answers read from so many lines of a stream, for scripts.
    pub(crate) fn of_lines(input: impl BufRead, count: usize) -> Result<Self, Failure> {
        let lines: Result<VecDeque<String>, io::Error> = input.lines().take(count).collect();
        let lines =
            lines.map_err(|error| Failure::new("cannot read standard input").because(error))?;
        Ok(Self::Lines(Arc::new(Mutex::new(lines))))
    }

    /// Asks a question whose answer may be seen.
    pub(crate) async fn ask(&self, question: &str) -> Result<String, Failure> {
        self.answer(question, prompt::Echo::Shown).await
    }

    /// Asks for a secret: nothing of the answer is shown.
    pub(crate) async fn ask_secret(&self, question: &str) -> Result<String, Failure> {
        self.answer(question, prompt::Echo::Hidden).await
    }

    /// Asks for a yes; anything else is a no.
    pub(crate) async fn confirm(&self, question: &str) -> Result<Confirmed, Failure> {
        let answer = self.ask(&format!("{question} [y/N]: ")).await?;
        let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        Ok(if yes { Confirmed::Yes } else { Confirmed::No })
    }

    async fn answer(&self, question: &str, echo: prompt::Echo) -> Result<String, Failure> {
        match self {
            Self::Terminal => prompt::ask(question.to_owned(), echo).await,
            Self::Lines(lines) => {
                let line = lines.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                line.ok_or_else(|| {
                    Failure::usage("standard input ended too early")
                        .why(format!("no line is left to answer `{}`", question.trim()))
                        .next("write one answer a line: user, password, code")
                })
            }
            Self::Nobody => Err(Failure::usage(format!("cannot ask `{}`", question.trim()))
                .why("no terminal is here to answer")
                .next("run it at a terminal, or answer by a flag: see `--help`")),
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal => "Terminal",
            Self::Lines(_) => "Lines(…)",
            Self::Nobody => "Nobody",
        })
    }
}

/// An answer to a yes-or-no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// Go on.
    Yes,
    /// Leave it.
    No,
}
