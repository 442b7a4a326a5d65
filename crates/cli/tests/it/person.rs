//! A person at a machine of their own: a home, streams that are kept, answers that are prepared.

use std::{
    collections::VecDeque,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use nullius_cli::{Answers, Audience, Environment, Exit, Invocation, Terminal};
use tempfile::TempDir;

use crate::{
    hub::{CODE, Hub, PASSWORD},
    time::StoppedClock,
};

pub struct Person {
    pub home: TempDir,
    pub answers: Vec<&'static str>,
    pub exec_info: Option<String>,
    pub editor: Option<String>,
    pub browser: Option<String>,
    /// The home of somebody else, for another process of theirs.
    pub lives_at: Option<PathBuf>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.exit, Exit::Ok, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub fn failed(self, exit: Exit) -> String {
        assert_eq!(self.exit, exit, "{}{}", self.out, self.err);
        self.err
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Person {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            home,
            answers: Vec::new(),
            exec_info: None,
            editor: None,
            browser: None,
            lives_at: None,
        }
    }

    /// A person who has signed in at a hub.
    pub async fn at(hub: &Hub) -> Self {
        let mut person = Self::new();
        person.answers = vec![PASSWORD, CODE];
        let ca = person.file("ca.pem", &hub.ca);
        let words = ["login", "--hub", &hub.url(), "--ca", &ca, "--terminal", "--user", "ada"];
        person.run(&words).await.ok();
        person.answers.clear();
        person
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn config(&self) -> PathBuf {
        self.lives_at.as_deref().unwrap_or(self.home.path()).join("nullius")
    }

    pub async fn run(&self, words: &[&str]) -> Done {
        let words = std::iter::once("nullius").chain(words.iter().copied());
        let command = match nullius_cli::parse(words) {
            Ok(Invocation::Client(command)) => command,
            Ok(_) => panic!("not a client command"),
            Err(unparsed) => {
                return Done { exit: unparsed.exit, out: String::new(), err: unparsed.text };
            }
        };
        let (out, err) = (Kept::default(), Kept::default());
        let answers = match self.answers.is_empty() {
            true => Answers::Nobody,
            false => {
                let lines: VecDeque<String> =
                    self.answers.iter().map(ToString::to_string).collect();
                Answers::Lines(Arc::new(Mutex::new(lines)))
            }
        };
        let environment = Environment {
            home: Some(self.config()),
            user_home: Some(self.home.path().to_owned()),
            kubeconfig: Some(self.home.path().join(".kube/config")),
            editor: self.editor.clone().map(Into::into),
            exec_info: self.exec_info.clone(),
            program: "/usr/local/bin/nullius".into(),
            browser: self.browser.clone().map(Into::into),
            clock: Arc::new(StoppedClock),
            terminal: Terminal {
                out: Box::new(out.clone()),
                err: Box::new(err.clone()),
                width: None,
                audience: Audience::Program,
            },
            answers,
        };
        let exit = nullius_cli::run(command, environment).await;
        Done { exit, out: out.text(), err: err.text() }
    }
}
