//! The client: requests on standing connections, on new ones, and one long stream.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::apps::BODY;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// 1 KiB.
    Bytes,
    /// A GET over HTTP/1.1.
    Http,
}

/// What came of a run.
pub(super) struct Load {
    milliseconds: Vec<f64>,
    seconds: f64,
}

impl Load {
    /// As many requests as come back in this time, one after the other on each connection.
    pub(super) async fn run(
        to: SocketAddr,
        speaks: Speaks,
        connections: usize,
        time: Duration,
    ) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::connect(to, speaks).await?);
        }
        let began = Instant::now();
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while began.elapsed() < time {
                        times.push(client.ask().await?);
                    }
                    Ok::<_, anyhow::Error>(times)
                })
            })
            .collect();
        let mut milliseconds = Vec::new();
        for task in tasks {
            milliseconds.extend(task.await??);
        }
        Ok(Self { milliseconds, seconds: began.elapsed().as_secs_f64() })
    }

    pub(super) fn requests(&self) -> usize {
        self.milliseconds.len()
    }

    pub(super) fn per_second(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    pub(super) fn milliseconds(&self) -> &[f64] {
        &self.milliseconds
    }
}

/// Milliseconds of connections with one request each.
pub(super) async fn connects(to: SocketAddr, speaks: Speaks, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        Client::connect(to, speaks).await?.ask().await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Seconds until the other end has counted so many bytes.
pub(super) async fn bulk(to: SocketAddr, bytes: u64) -> Result<f64> {
    let chunk = vec![b'a'; 256 * 1024];
    let mut stream = TcpStream::connect(to).await?;
    let began = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        stream.write_all(&chunk[..some]).await?;
        left -= some as u64;
    }
    stream.shutdown().await?;
    let counted = stream.read_u64().await?;
    ensure!(counted == bytes, "{counted} bytes of {bytes} came through");
    Ok(began.elapsed().as_secs_f64())
}

/// A connection that asks.
pub(super) struct Client {
    stream: TcpStream,
    speaks: Speaks,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(to: SocketAddr, speaks: Speaks) -> Result<Self> {
        let stream = TcpStream::connect(to).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let request = match speaks {
            Speaks::Bytes => vec![b'q'; BODY],
            Speaks::Http => b"GET /orders/7 HTTP/1.1\r\nhost: orders.shop\r\n\r\n".to_vec(),
        };
        Ok(Self { stream, speaks, request, answer: Vec::with_capacity(4096) })
    }

    /// Milliseconds from the request to the end of its answer.
    pub(super) async fn ask(&mut self) -> Result<f64> {
        let began = Instant::now();
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the connection ended after {} bytes of an answer", self.answer.len());
            }
            if self.is_whole()? {
                return Ok(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }

    /// Until the other end goes.
    pub(super) async fn ended(&mut self) {
        let mut byte = [0];
        while matches!(self.stream.read(&mut byte).await, Ok(1..)) {}
    }

    fn is_whole(&self) -> Result<bool> {
        match self.speaks {
            Speaks::Bytes => Ok(self.answer.len() >= BODY),
            Speaks::Http => {
                let end = self.answer.windows(4).position(|window| window == b"\r\n\r\n");
                let Some(end) = end else { return Ok(false) };
                if !self.answer.starts_with(b"HTTP/1.1 200") {
                    bail!("{}", String::from_utf8_lossy(&self.answer));
                }
                Ok(self.answer.len() >= end + 4 + BODY)
            }
        }
    }
}
