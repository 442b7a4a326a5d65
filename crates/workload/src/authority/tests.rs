#![allow(clippy::unwrap_used, reason = "test")]
use proptest::{collection, prelude::*};

use super::*;

fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    AuthorityMender::default().mend(&mut bytes);
    bytes
}

fn number(first: u8, prefix: u32, mut value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![first | u8::try_from(most).unwrap()];
    value -= most;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn text(text: &[u8]) -> Vec<u8> {
    [number(0, 7, text.len()), text.to_vec()].concat()
}

/// A field, in one of the ways in which a client may write it.
#[derive(Debug, Clone)]
enum Field {
    Indexed(usize),
    Resize(usize),
    /// With its index in the static table.
    Known(u8, usize, Vec<u8>),
    Named(u8, Vec<u8>, Vec<u8>),
    /// A name in Huffman's code; which bytes does not matter here.
    Coded(Vec<u8>, Vec<u8>),
}

impl Field {
    fn bytes(&self) -> Vec<u8> {
        let first = |form: &u8| match form % 3 {
            0 => (0x40, 6),
            1 => (0x00, 4),
            _ => (0x10, 4),
        };
        match self {
            Self::Indexed(index) => number(0x80, 7, *index),
            Self::Resize(size) => number(0x20, 5, *size),
            Self::Known(form, index, value) => {
                let (first, prefix) = first(form);
                [number(first, prefix, *index), text(value)].concat()
            }
            Self::Named(form, name, value) => {
                [vec![first(form).0], text(name), text(value)].concat()
            }
            Self::Coded(name, value) => {
                let coded = |bytes: &[u8]| [number(0x80, 7, bytes.len()), bytes.to_vec()].concat();
                [vec![0x40], coded(name), coded(value)].concat()
            }
        }
    }

    /// What must come out: authorities are host names, and nothing else changes.
    fn mended(&self) -> Self {
        let mend = |value: &[u8]| {
            let legal = |c: &u8| c.is_ascii_alphanumeric() || *c == b'.';
            value.iter().map(|c| if legal(c) { *c } else { b'-' }).collect()
        };
        match self {
            Self::Known(form, 1, value) => Self::Known(*form, 1, mend(value)),
            Self::Named(form, name, value) if name == b":authority" => {
                Self::Named(*form, name.clone(), mend(value))
            }
            other => other.clone(),
        }
    }
}

fn field() -> impl Strategy<Value = Field> {
    let bytes = |most: usize| collection::vec(any::<u8>(), 0..most);
    let name = prop_oneof![
        Just(b":authority".to_vec()),
        Just(b":authoritative".to_vec()),
        Just(b":auth".to_vec()),
        bytes(12),
    ];
    prop_oneof![
        (1..200_usize).prop_map(Field::Indexed),
        (0..9000_usize).prop_map(Field::Resize),
        (any::<u8>(), 1..90_usize, bytes(200))
            .prop_map(|(form, index, value)| Field::Known(form, index, value)),
        (any::<u8>(), name, bytes(40))
            .prop_map(|(form, name, value)| Field::Named(form, name, value)),
        (bytes(12), bytes(40)).prop_map(|(name, value)| Field::Coded(name, value)),
    ]
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A connection with one block of fields, cut into frames.
fn connection(fields: &[Field], cut: usize, padding: Option<u8>, has_priority: bool) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(Field::bytes).collect();
    let (first, rest) = block.split_at(cut.min(block.len()));
    let mut payload = Vec::new();
    payload.extend(padding);
    payload.extend_from_slice(if has_priority { b":auth" } else { b"" });
    payload.extend_from_slice(first);
    payload.extend(std::iter::repeat_n(b'/', padding.unwrap_or_default().into()));
    let flags =
        if padding.is_some() { PADDED } else { 0 } | if has_priority { PRIORITY } else { 0 };
    let data = frame(0, 0, b"A\x05/a%2F @\x0a:authority\x02//");
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, &[]),
        frame(HEADERS, flags, &payload),
        frame(CONTINUATION, 4, rest),
        data.clone(),
        frame(HEADERS, 4, &Field::Known(0, 1, b"/run/a.sock".to_vec()).bytes()),
        data,
    ]
    .concat()
}

#[test]
fn the_path_of_a_socket_becomes_a_host_name() {
    // As gRPC's C library sends it: a name that is no index, and a path with `%2F`.
    let sent = [b"@\x0a:authority".to_vec(), text(b"tmp%2Fa.sock"), b"\x83\x86".to_vec()].concat();
    let told = [b"@\x0a:authority".to_vec(), text(b"tmp-2Fa.sock"), b"\x83\x86".to_vec()].concat();
    let connection = |block: &[u8]| {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(HEADERS, 4, block)].concat()
    };
    assert_eq!(mended(&connection(&sent)), connection(&told));
    // As the kubelet sends it: its index, and Huffman's code; another field after it is left alone.
    let coded =
        |value: &[u8]| [&[0x41, 0x80 | 3][..], value, &[0x44, 0x80 | 3], b"\x60\x6c\x0f"].concat();
    let (path, host) = (coded(b"\x60\x6c\x0f"), coded(b"\x64\x6c\x8f"));
    assert_eq!(mended(&connection(&path)), connection(&host));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_authorities_change(
        fields in collection::vec(field(), 0..8),
        cut in 0..600_usize,
        padding in proptest::option::of(any::<u8>()),
        has_priority in any::<bool>(),
        chunk in 1..40_usize,
    ) {
        let sent = connection(&fields, cut, padding, has_priority);
        let expected: Vec<Field> = fields.iter().map(Field::mended).collect();
        let mut expected = connection(&expected, cut, padding, has_priority);
        let at = expected.windows(11).rposition(|bytes| bytes == b"/run/a.sock").unwrap();
        expected[at..at + 11].copy_from_slice(b"-run-a.sock");
        prop_assert_eq!(&mended(&sent), &expected);
        // However it arrives.
        let mut by_chunks = sent;
        let mut mender = AuthorityMender::default();
        by_chunks.chunks_mut(chunk).for_each(|chunk| mender.mend(chunk));
        prop_assert_eq!(by_chunks, expected);
    }

    #[test]
    fn nothing_panics(bytes in collection::vec(any::<u8>(), 0..300), kind in prop_oneof![Just(1_u8), Just(9), Just(0)], flags in any::<u8>()) {
        let sent = [vec![0; PREFACE], frame(kind, flags, &bytes), bytes.clone()].concat();
        prop_assert_eq!(mended(&sent).len(), sent.len());
        prop_assert_eq!(mended(&bytes).len(), bytes.len());
    }
}
