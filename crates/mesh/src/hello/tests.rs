#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use super::*;

/// A client hello without extensions but ALPN, and one more that is long.
fn hello(protocols: &[&[u8]], padding: usize) -> Vec<u8> {
    let short = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    let wide =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let names: Vec<u8> = protocols.iter().flat_map(|name| short(name)).collect();
    let extensions =
        [&[0xfe, 0x0d][..], &wide(&vec![7; padding]), &ALPN.to_be_bytes(), &wide(&wide(&names))]
            .concat();
    [&[3, 3][..], &[9; 32], &short(&[1; 32]), &wide(&[0x13, 1]), &short(&[0]), &wide(&extensions)]
        .concat()
}

/// In records of a length.
fn records(body: &[u8], length: usize) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[CLIENT_HELLO][..], &size[1..], body].concat();
    let head = |part: &[u8]| {
        [&[HANDSHAKE, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
    };
    message.chunks(length).flat_map(head).collect()
}

#[test]
fn each_beginning_of_a_hello_is_told_when_it_is_whole_and_not_before() {
    for (padding, length) in [(0, 16_384), (1_300, 16_384), (900, 7), (12_000, 16_384)] {
        let bytes = records(&hello(&[b"nullius-hbone", b"h2"], padding), length);
        for end in 0..bytes.len() {
            assert_eq!(Beginning::of(&bytes[..end]), Beginning::More, "{end} of {}", bytes.len());
        }
        let told = Beginning::Hello(vec![b"nullius-hbone"[..].into(), b"h2"[..].into()]);
        assert_eq!(Beginning::of(&bytes), told);
        assert_eq!(Beginning::of(&[&bytes[..], b"more"].concat()), told);
    }
}

#[test]
fn what_is_no_hello_is_told_at_its_first_byte_that_says_so() {
    for (bytes, tells) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 1),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 1),
        (b"\x16\x02\x01\x02\0", 2),
        (b"\x16\x03\x05\x02\0", 3),
        (b"\x16\x03\x01\0\0", 5),
        (b"\x16\x03\x01\x40\x01", 5),
        (b"\x16\x03\x01\0\x04\x02\0\0\0", 6),
        (b"\x16\x03\x01\0\x04\x01\xff\0\0", 9),
        (b"\x16\x03\x01\0\x04\x01\0\0\0", 9),
    ] {
        assert_eq!(Beginning::of(&bytes[..tells - 1]), Beginning::More, "{bytes:?}");
        assert_eq!(Beginning::of(&bytes[..tells]), Beginning::Other, "{bytes:?}");
    }
}

#[test]
fn a_hello_that_is_not_sound_asks_for_nothing() {
    let good = hello(&[b"nullius-hbone"], 3);
    // Each length in it is one too long, or one too short.
    let mut unsound = 0;
    for at in 34..good.len() {
        for change in [1_u8, 0xff] {
            let mut bad = good.clone();
            bad[at] = bad[at].wrapping_add(change);
            match Beginning::of(&records(&bad, 16_384)) {
                Beginning::Other => unsound += 1,
                Beginning::Hello(_) => {}
                Beginning::More => panic!("it is whole"),
            }
        }
    }
    assert!(unsound >= 14, "{unsound}");
    let extension = [&ALPN.to_be_bytes()[..], &[0, 5, 0, 3, 2, b'h', b'2']].concat();
    let mut twice = hello(&[], 0);
    twice.truncate(twice.len() - 6);
    let at = twice.len() - 4 - 2;
    let both = [&[0xfe, 0x0d, 0, 0][..], &extension, &extension].concat();
    twice.truncate(at);
    twice.extend_from_slice(&u16::try_from(both.len()).unwrap().to_be_bytes());
    twice.extend_from_slice(&both);
    assert_eq!(Beginning::of(&records(&twice, 16_384)), Beginning::Other);
}

#[test]
fn nobody_is_asked_for_more_than_is_kept() {
    let endless: Vec<u8> = records(&vec![0; HELLO_MAX], 1);
    assert_eq!(Beginning::of(&endless[..HELLO_MAX - 1]), Beginning::More);
    assert_eq!(Beginning::of(&endless[..HELLO_MAX]), Beginning::Other);
    assert_eq!(Beginning::of(&endless), Beginning::Other);
}
