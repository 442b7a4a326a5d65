//! Upgraded connections as kubectl opens them: exec over WebSocket, and a plain echo for counting sessions.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::client::Way;

/// The stream of `v5.channel.k8s.io` that carries how the command ended.
const ERROR_CHANNEL: u8 = 3;
const MOST_HEAD: usize = 16 * 1024;

/// An exec that runs.
pub(crate) struct Exec {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// A WebSocket frame of a server.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

impl Exec {
    /// Runs a command in a pod, on a connection of its own.
    pub(crate) async fn start(way: &Way, pod: &str, command: &[&str]) -> Result<Self> {
        let command: String = command.iter().map(|word| format!("&command={word}")).collect();
        let path = format!("{pod}/exec?stdout=true&stderr=true{command}");
        let headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                       Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
        let (stream, buffer) = upgrade(way, &path, headers).await?;
        Ok(Self { stream, buffer })
    }

    /// Waits until the command has ended well.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        while let Some(frame) = self.next().await? {
            let Some((&ERROR_CHANNEL, status)) = frame.payload.split_first() else { continue };
            let status: Value = serde_json::from_slice(status).context("the exec's status")?;
            if status["status"] != "Success" {
                bail!("the exec failed: {status}");
            }
            return Ok(());
        }
        bail!("the exec ended without a status")
    }

    /// Waits until the other side has ended it, in whatever way.
    pub(crate) async fn ended(mut self) {
        while let Ok(Some(frame)) = self.next().await {
            if frame.opcode == 8 {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Upgrades to SPDY/3.1 at something that echoes, sends a few bytes and gets them back.
pub(crate) async fn echo(way: &Way, pod: &str) -> Result<()> {
    const HELLO: &[u8] = b"sixty-four bytes, about as many as a keystroke in a shell costs.";
    let path = format!("{pod}/exec?stdin=true&stdout=true&command=sh");
    let headers = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    let (mut stream, mut buffer) = upgrade(way, &path, headers).await?;
    stream.write_all(HELLO).await?;
    while buffer.len() < HELLO.len() {
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("the echo ended early");
        }
    }
    if buffer != HELLO {
        bail!("the echo is another");
    }
    Ok(())
}

/// Asks for an upgrade; gives the stream behind the `101` and what has come of it already.
async fn upgrade(way: &Way, path: &str, headers: &str) -> Result<(TlsStream<TcpStream>, Vec<u8>)> {
    let mut stream = way.server.connect_http1().await?;
    let head = format!(
        "GET {}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nConnection: Upgrade\r\n{headers}\r\n",
        way.prefix,
        way.server.authority(),
        way.authorization()?,
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                let head = String::from_utf8_lossy(&answer);
                bail!("the upgrade was answered: {head}{}", String::from_utf8_lossy(&rest));
            }
            return Ok((stream, rest));
        }
        if answer.len() > MOST_HEAD || stream.read_buf(&mut answer).await? == 0 {
            bail!("the upgrade was not answered: {}", String::from_utf8_lossy(&answer));
        }
    }
}

/// The first whole frame (RFC 6455, section 5.2) and its length; a server's frames are not masked.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, _) = rest.split_first()?;
    let (head, length) = match short & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = head + usize::try_from(length).ok()?;
    let payload = bytes.get(head..end)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn frames_are_read_whole_or_not_at_all() {
        let bytes = [0x82, 3, 1, b'h', b'i', 0x88, 0];
        assert_eq!(parse(&bytes[..4]), None);
        let (frame, length) = parse(&bytes).unwrap();
        assert_eq!(frame, Frame { opcode: 2, payload: vec![1, b'h', b'i'] });
        let (frame, rest) = parse(&bytes[length..]).unwrap();
        assert_eq!((frame.opcode, length + rest), (8, bytes.len()));
        let mut long = vec![0x82, 126, 1, 0];
        long.extend([7; 256]);
        assert_eq!(parse(&long).unwrap().0.payload.len(), 256);
    }
}
