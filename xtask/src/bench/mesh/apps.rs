//! The applications that are called: one that gives back as many bytes as it got, one that speaks HTTP, one that only counts.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes of a request and of its answer.
pub(super) const BODY: usize = 1024;

/// Where they listen.
#[derive(Clone, Copy)]
pub(super) struct Apps {
    pub(super) bytes: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) bulk: SocketAddr,
}

impl Apps {
    pub(super) async fn start() -> Result<Self> {
        Ok(Self {
            bytes: serve(|stream| Box::pin(echo(stream))).await?,
            http: serve(|stream| Box::pin(http(stream))).await?,
            bulk: serve(|stream| Box::pin(count(stream))).await?,
        })
    }
}

type Served = std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

async fn serve(with: fn(TcpStream) -> Served) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(with(stream));
        }
    });
    Ok(address)
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; BODY];
    loop {
        stream.read_exact(&mut buffer).await?;
        stream.write_all(&buffer).await?;
    }
}

/// Answers each head with the same: heads of GETs have no body, and none is sent before the answer to the one before.
async fn http(mut stream: TcpStream) -> std::io::Result<()> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + BODY, b'a');
    let mut head = Vec::with_capacity(4096);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(&answer).await?;
    }
}

/// Reads to the end, and says how much it was.
async fn count(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut all = 0_u64;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => all += read as u64,
        }
    }
    stream.write_all(&all.to_be_bytes()).await?;
    stream.shutdown().await
}
