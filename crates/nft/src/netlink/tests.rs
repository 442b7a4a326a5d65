#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

#[test]
fn a_message_says_its_length_and_is_padded() {
    let mut messages = Messages::default();
    messages.begin(7, REQUEST, 9, &[1, 0, 0, 0]).nested(2, |inner| {
        inner.text(1, "ab");
    });
    messages.begin(8, ACK, 10, &[]);
    let bytes = messages.into_bytes();
    assert_eq!(bytes.len(), 16 + 4 + 4 + 8 + 16);
    assert_eq!(u32_at(&bytes, 0), Some(32));
    assert_eq!((u16_at(&bytes, 4), u32_at(&bytes, 8)), (Some(7), Some(9)));
    assert_eq!(u16_at(&bytes, 20), Some(12), "the outer attribute holds the padded inner one");
    assert_eq!(u16_at(&bytes, 24), Some(7), "the inner one says its own length, without padding");
    assert_eq!(u32_at(&bytes, 32), Some(16));
    let outer = attributes(&bytes[20..32]);
    assert_eq!(outer.len(), 1);
    assert_eq!(attributes(outer[0].1), [(1, b"ab\0".as_slice())]);
}

#[test]
fn an_error_is_read_with_its_reason_and_place() {
    let mut error = Messages::default();
    // An answer repeats the header of the request, then says more in attributes.
    let mut fixed = (-2_i32).to_ne_bytes().to_vec();
    fixed.extend([16, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    error.begin(ERROR, FLAG_CAPPED | FLAG_ACK_ATTRIBUTES, 5, &fixed);
    error.text(ACK_MESSAGE, "no such thing").attribute(ACK_OFFSET, &24_u32.to_ne_bytes());
    assert_eq!(
        parse(&error.into_bytes()).unwrap(),
        [Answer::Refused {
            sequence: 5,
            errno: 2,
            message: Some("no such thing".to_owned()),
            offset: Some(24),
        }]
    );
}

#[test]
fn what_is_cut_is_no_answer() {
    let mut whole = Messages::default();
    whole.begin(ERROR, 0, 5, &[0; 20]);
    let whole = whole.into_bytes();
    assert_eq!(parse(&whole), Some(vec![Answer::Done { sequence: 5 }]));
    for length in 1..whole.len() {
        assert_eq!(parse(&whole[..length]), None, "{length}");
    }
    let mut endless = whole;
    endless[..4].copy_from_slice(&0_u32.to_ne_bytes());
    assert_eq!(parse(&endless), None);
}
