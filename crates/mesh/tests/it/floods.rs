//! Those who send what costs them nothing and others much: each loses its own connection, and nobody else does.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    attacks::{HBONE, Target, headers_frame},
    requests::{exchange, get, pair},
    world::{PATIENCE, connect, foreign},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// An error code of HTTP/2: who sends this takes the other for an attacker.
const ENHANCE_YOUR_CALM: u8 = 0xb;
/// A connection that takes so much is one that nobody ends.
const MUCH: usize = 16 << 20;

type Field = (&'static [u8], Vec<u8>);

fn numbered(mut frame: Vec<u8>, stream: u32) -> Vec<u8> {
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

fn headers(stream: u32, fields: &[Field]) -> Vec<u8> {
    let fields: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    numbered(headers_frame(1, &fields), stream)
}

/// Streams that are opened and given up at once (CVE-2023-44487).
fn resets(fields: &[Field]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for number in 0..2_000_u32 {
        let stream = 2 * number + 1;
        bytes.extend(headers(stream, fields));
        bytes.extend(numbered(vec![0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 8], stream));
    }
    bytes
}

/// A head that never ends (VU#421644): HEADERS without their end, and then CONTINUATION frames.
fn continuations(fields: &[Field]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let mut first = headers(1, fields);
    first[4] = 0;
    bytes.extend(first);
    let field: (&[u8], Vec<u8>) = (b"x", vec![b'y'; 100]);
    let mut next = headers(1, &[field]);
    (next[3], next[4]) = (9, 0);
    while bytes.len() < MUCH {
        bytes.extend(&next);
    }
    bytes
}

/// Sends bytes until the connection ends, and says how many it took and what came back.
async fn sends(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> (usize, Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let reading = async {
        let (mut back, mut piece) = (Vec::new(), [0; 4_096]);
        while let Ok(count @ 1..) = read.read(&mut piece).await {
            back.extend_from_slice(&piece[..count]);
        }
        back
    };
    let writing = async {
        let mut sent = 0;
        for piece in bytes.chunks(64 << 10) {
            if write.write_all(piece).await.is_err() {
                return sent;
            }
            sent += piece.len();
        }
        sent
    };
    let both = async { tokio::join!(writing, reading) };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection ends")
}

/// Whether a GOAWAY among frames says that it was too much.
fn is_calmed(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { return false };
        if head[3] == 7 && payload.get(7) == Some(&ENHANCE_YOUR_CALM) {
            return true;
        }
        bytes = rest;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_or_of_a_head_without_end_ends_that_tunnel_alone() {
    let target = Target::new().await;
    let authority = target.at().to_string();
    let fields: [Field; 2] =
        [(b":method", b"CONNECT".to_vec()), (b":authority", authority.clone().into_bytes())];
    let good = target.tunnel("front").await;
    for flood in [resets(&fields), continuations(&fields)] {
        let svid = target.domain.svid(&target.domain.id("shop", "front"));
        let stream = connect(&foreign(Some(svid), &[HBONE]), target.at()).await.unwrap();
        let (sent, back) = sends(stream, &flood).await;
        assert!(is_calmed(&back) || sent < flood.len(), "{sent} bytes were taken");
        let (response, _) = good.connect(&authority).await.unwrap();
        assert_eq!(response.status(), 200, "others go on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_that_are_given_up_ends_that_connection_alone() {
    let pair = pair("hbone").await;
    let field = |name: &'static [u8], value: &str| -> Field { (name, value.as_bytes().to_vec()) };
    let fields = [
        field(b":method", "GET"),
        field(b":scheme", "http"),
        field(b":path", "/orders/1"),
        field(b":authority", "orders"),
    ];
    for flood in [resets(&fields), continuations(&fields)] {
        let (sent, back) = sends(pair.dial().await, &flood).await;
        assert!(is_calmed(&back) || sent < flood.len(), "{sent} bytes were taken");
        let answered = exchange(&mut pair.dial().await, &get("/orders/2")).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "others go on: {answered}");
    }
}
