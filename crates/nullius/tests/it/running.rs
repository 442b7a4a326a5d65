//! Programs that run beside a test: what they print is read as it comes, and they end with the test.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nullius_testkit::wait_until;
use rustix::process::{Pid, Signal, kill_process};

/// How long something that should come may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running program.
pub(crate) struct Running {
    what: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts a program; `what` names it when a test fails.
    pub(crate) fn start(what: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        let stdin = child.stdin.take().unwrap();
        Self { what: what.to_owned(), child, stdin, lines, seen: Vec::new() }
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        // One that has ended says so by what it printed.
        let _ = self.stdin.write_all(format!("{line}\n").as_bytes());
        let _ = self.stdin.flush();
    }

    /// Waits for a new line that contains a text.
    pub(crate) fn wait_line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{}: `{part}` did not come; it printed {:?}", self.what, self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended without `{part}`; it printed {:?}", self.what, self.seen)
                }
            }
        }
    }

    /// Whether a line with this text has come by now.
    pub(crate) fn has_line(&mut self, part: &str) -> bool {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().any(|line| line.contains(part))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end and gives the exit code and everything that it printed.
    pub(crate) fn wait_end(&mut self, within: Duration) -> (i32, String) {
        let status = wait_until(within, &format!("the end of {}", self.what), || {
            self.child.try_wait().unwrap()
        });
        let status = status.unwrap_or_else(|error| panic!("{error}; it printed {:?}", self.seen));
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push(line);
        }
        (status.code().unwrap_or(-1), self.seen.join("\n"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// What names it.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
#[track_caller]
pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// Gets a page over plain HTTP from this machine.
pub(crate) fn get_page(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The port in `Forwarding from 127.0.0.1:4711 -> 8080` or `Starting to serve on 127.0.0.1:4711`.
pub(crate) fn port_of(line: &str) -> u16 {
    let after = line.split("127.0.0.1:").nth(1).unwrap();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
