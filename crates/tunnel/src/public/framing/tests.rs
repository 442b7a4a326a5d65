//! Framing on plain bytes, whole and byte by byte.
#![allow(clippy::unwrap_used, reason = "test")]

use proptest::prelude::*;

use super::*;

fn judge(pieces: &[&[u8]]) -> Result<Scan, &'static str> {
    let mut scan = Scan::Head(Vec::new());
    for piece in pieces {
        let mut bytes = *piece;
        while !bytes.is_empty() {
            let taken = scan.step(bytes, 32 * 1024)?;
            bytes = &bytes[taken..];
        }
    }
    Ok(scan)
}

fn between(text: &str) -> bool {
    let whole = judge(&[text.as_bytes()]);
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    let single = judge(&bytes);
    assert_eq!(whole.is_ok(), single.is_ok(), "{text:?}");
    matches!(whole, Ok(Scan::Head(head)) if head.is_empty())
}

#[test]
fn messages_are_followed_to_their_end() {
    for good in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-t: 1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert!(between(good), "{good:?}");
    }
    let upgrade =
        "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\0\n\nanything";
    assert!(matches!(judge(&[upgrade.as_bytes()]), Ok(Scan::Opaque)));
}

#[test]
fn framing_that_two_readers_could_read_differently_is_found() {
    for bad in [
        "POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 3,3\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:\x0bchunked\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length : 3\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n x: a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nnonsense\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ] {
        assert!(judge(&[bad.as_bytes()]).is_err(), "{bad:?}");
        let bytes: Vec<&[u8]> = bad.as_bytes().chunks(1).collect();
        assert!(judge(&bytes).is_err(), "{bad:?} byte by byte");
    }
}

proptest! {
    #[test]
    fn cutting_the_bytes_differently_changes_nothing(
        bytes in prop::collection::vec(prop::sample::select(b"GET / HTP1.\r\n\r\n:content-length transfer-encoding: chunked 0123".to_vec()), 0..200),
        at in 1usize..7,
    ) {
        let whole = judge(&[&bytes]).map(|scan| format!("{scan:?}"));
        let pieces: Vec<&[u8]> = bytes.chunks(at).collect();
        prop_assert_eq!(whole, judge(&pieces).map(|scan| format!("{scan:?}")));
    }
}
