//! The last words to a client whose exec or attach is cut: why, on the error channel of Kubernetes' remote command
//! protocol over WebSocket (`v4.channel.k8s.io` and later, `k8s.io/apimachinery/pkg/util/remotecommand`), which kubectl
//! prints as its error.
//!
//! They fit between two messages only (RFC 6455, section 5.4), so the frames that go by are followed by their heads.
//! SPDY has no such place that could be found without inflating its headers: there the stream ends, and no more.

use http::{HeaderMap, header};
use nullius_model::KubeStatus;

use crate::upgrade::Upgrade;

/// Opcodes and flags of RFC 6455, section 5.2.
const FIN: u8 = 0x80;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
/// Status code 1000: kubectl takes any other for an error of its own and does not read what was said.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
const ERROR_CHANNEL: u8 = 3;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD: usize = 14;

/// Why a client's stream was cut, asked when it is.
pub type OnCut = Box<dyn FnOnce() -> String + Send>;

/// Follows what a client of the remote command protocol is sent.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    head: [u8; HEAD],
    filled: usize,
    payload: u64,
    /// A message of several frames has begun and has not ended.
    in_message: bool,
    /// The next byte names the channel of a message.
    at_channel: bool,
    /// The other side has said how it ended.
    closed: bool,
    /// Bytes are being sent: perhaps a part of them only.
    sending: bool,
}

impl Farewell {
    /// For an answer that switches to a protocol with a place for last words.
    pub(crate) fn to(upgrade: Upgrade, answer: &HeaderMap) -> Option<Self> {
        let chosen = answer.get(header::SEC_WEBSOCKET_PROTOCOL)?.as_bytes();
        let speaks = [&b"v4.channel.k8s.io"[..], b"v5.channel.k8s.io"].contains(&chosen);
        (upgrade == Upgrade::WebSocket && speaks).then(Self::default)
    }

    /// Bytes are about to go to the client.
    pub(crate) fn sends(&mut self) {
        self.sending = true;
    }

    /// These bytes went to the client, all of them.
    pub(crate) fn sent(&mut self, mut bytes: &[u8]) {
        self.sending = false;
        while !bytes.is_empty() {
            if self.payload > 0 {
                if std::mem::take(&mut self.at_channel) && bytes.first() == Some(&ERROR_CHANNEL) {
                    self.closed = true;
                }
                let skipped = self.payload.min(bytes.len() as u64);
                self.payload -= skipped;
                bytes = bytes.get(skipped as usize..).unwrap_or_default();
                continue;
            }
            let (Some(place), Some((byte, rest))) =
                (self.head.get_mut(self.filled), bytes.split_first())
            else {
                return;
            };
            *place = *byte;
            self.filled += 1;
            bytes = rest;
            self.read_head();
        }
    }

    fn read_head(&mut self) {
        let [first, second, ..] = self.head;
        let length = usize::from(second & 0x7f);
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.filled < 2 + extended + mask {
            return;
        }
        let bytes = self.head.iter().skip(2).take(extended);
        let long = bytes.fold(0, |length, byte| length << 8 | u64::from(*byte));
        self.payload = if extended == 0 { length as u64 } else { long };
        self.filled = 0;
        match first & 0x0f {
            CLOSE => self.closed = true,
            // Continuation, text and binary; control frames may stand in the middle of a message.
            opcode @ 0..=2 => {
                self.at_channel = opcode != 0;
                self.in_message = first & FIN == 0;
            }
            _ => {}
        }
    }

    /// Nothing more goes to the client.
    pub(crate) fn ends(&mut self) {
        self.closed = true;
    }

    /// What tells the client, where there is a place for it now.
    pub(crate) fn words(&self, why: String) -> Option<Vec<u8>> {
        let between = self.filled == 0 && self.payload == 0 && !self.in_message;
        if self.sending || self.closed || !between {
            return None;
        }
        let mut message = vec![ERROR_CHANNEL];
        serde_json::to_writer(&mut message, &KubeStatus::failure(403, why)).ok()?;
        let mut words = frame(BINARY, &message)?;
        words.extend(frame(CLOSE, &NORMAL)?);
        Some(words)
    }
}

/// A whole message, unmasked as servers send it.
fn frame(opcode: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = vec![FIN | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        long => {
            frame.push(126);
            frame.extend(u16::try_from(long).ok()?.to_be_bytes());
        }
    }
    frame.extend(payload);
    Some(frame)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    fn speaks_after(sent: &[&[u8]]) -> bool {
        let mut farewell = Farewell::default();
        for bytes in sent {
            farewell.sent(bytes);
        }
        farewell.words("why".to_owned()).is_some()
    }

    #[test]
    fn words_stand_between_messages_only() {
        assert!(speaks_after(&[]));
        assert!(speaks_after(&[&[0x82, 3, 1, b'h', b'i']]));
        assert!(!speaks_after(&[&[0x82]]));
        assert!(!speaks_after(&[&[0x82, 3, 1, b'h']]));
        // A message in two frames, with a pong between them.
        assert!(!speaks_after(&[&[0x02, 1, 1], &[0x8a, 0]]));
        assert!(speaks_after(&[&[0x02, 1, 1], &[0x8a, 0], &[0x80, 1, 2]]));
        // It has its status already, or was closed.
        assert!(!speaks_after(&[&[0x82, 3, 3, b'{', b'}']]));
        assert!(!speaks_after(&[&[0x88, 2, 3, 232]]));
    }

    #[test]
    fn only_remote_commands_over_websocket_have_a_place_for_words() {
        let answer = |protocol: &str| {
            HeaderMap::from_iter([(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap())])
        };
        assert!(Farewell::to(Upgrade::WebSocket, &answer("v5.channel.k8s.io")).is_some());
        for other in ["channel.k8s.io", "SPDY/3.1+portforward.k8s.io", "base64.channel.k8s.io"] {
            assert!(Farewell::to(Upgrade::WebSocket, &answer(other)).is_none(), "{other}");
        }
        assert!(Farewell::to(Upgrade::WebSocket, &HeaderMap::new()).is_none());
        assert!(Farewell::to(Upgrade::Spdy, &answer("v5.channel.k8s.io")).is_none());
    }

    proptest! {
        #[test]
        fn frames_of_any_length_in_any_pieces_are_followed(
            messages in prop::collection::vec((0_usize..70_000, any::<bool>()), 1..4),
            cut in 1_usize..3_000,
        ) {
            let mut wire = Vec::new();
            for (length, masked) in &messages {
                let mask = if *masked { 0x80 } else { 0 };
                wire.push(FIN | BINARY);
                match *length {
                    short @ 0..126 => wire.push(mask | short as u8),
                    mid @ 126..65_536 => {
                        wire.push(mask | 126);
                        wire.extend((mid as u16).to_be_bytes());
                    }
                    long => {
                        wire.push(mask | 127);
                        wire.extend((long as u64).to_be_bytes());
                    }
                }
                wire.extend(vec![1; *length + if *masked { 4 } else { 0 }]);
            }
            let pieces: Vec<&[u8]> = wire.chunks(cut).collect();
            prop_assert!(speaks_after(&pieces));
            let (_, short) = wire.split_last().unwrap();
            prop_assert!(!speaks_after(&[short]));
        }
    }
}
