//! Questions at the terminal of the process: answers are read from `/dev/tty`, secrets without echo.
//!
//! Secrets are read in raw mode, key by key, so that an interrupt puts the terminal back before the process ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Whether what is typed is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// As usual.
    Shown,
    /// For secrets.
    Hidden,
}

/// Columns of the terminal, where there is one.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Asks at the terminal; the thread that waits does not keep the process alive.
pub(crate) async fn ask(question: String, echo: Echo) -> Result<String, Failure> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || answer.send(ask_now(&question, echo)));
    let read = answered.await.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::new("interrupted"),
        _ => Failure::new("cannot read an answer from the terminal")
            .because(error)
            .next("for scripts: `--password-stdin` reads the answers, `--yes` confirms"),
    })
}

fn ask_now(question: &str, echo: Echo) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    match echo {
        Echo::Shown => {
            let mut line = String::new();
            if BufReader::new(terminal).take(4096).read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(line.trim_end_matches(['\n', '\r']).to_owned())
        }
        Echo::Hidden => {
            let quiet = Quiet::begin(&terminal)?;
            let answer = read_keys(&mut &terminal);
            drop(quiet);
            terminal.write_all(b"\n")?;
            answer
        }
    }
}

/// A terminal without echo, line editing and signals; put back when dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const KILL_LINE: u8 = 21;
const BACKSPACES: [u8; 2] = [8, 127];

/// Reads one line key by key, with backspace and kill.
fn read_keys(input: &mut impl Read) -> io::Result<String> {
    let mut line: Vec<u8> = Vec::new();
    let mut key = [0];
    loop {
        if input.read(&mut key)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match key[0] {
            b'\n' | b'\r' => break,
            INTERRUPT => return Err(io::ErrorKind::Interrupted.into()),
            END if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            END => break,
            KILL_LINE => line.clear(),
            erase if BACKSPACES.contains(&erase) => {
                // A whole UTF-8 character goes, not one of its bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() < 4096 => line.push(byte),
            _ => {}
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn keys_become_a_line() {
        let read = |keys: &[u8]| read_keys(&mut &*keys);
        assert_eq!(read(b"hunter2\n").unwrap(), "hunter2");
        assert_eq!(read("aé\u{7f}b\r".as_bytes()).unwrap(), "ab");
        assert_eq!(read(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(read(b"half\x04").unwrap(), "half");
        assert_eq!(read(b"\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(read(b"").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
