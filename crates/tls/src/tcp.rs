//! The TCP connection under TLS: small writes go at once, and a peer that vanished is noticed.
//!
//! A laptop that sleeps or a NAT that forgets sends no FIN. Exec, attach and watches may be idle for hours, so the
//! kernel asks the peer (RFC 9293, section 3.8.4), which also keeps the path through NAT and load balancers open.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the peer is asked.
const IDLE: Duration = Duration::from_secs(30);
/// Between questions that nobody answers.
const INTERVAL: Duration = Duration::from_secs(10);
/// Questions without an answer, after which the connection is dead.
const QUESTIONS: u32 = 3;
/// Prepares a new connection, dialled or accepted, for streams that live long; what the system does not offer is left.
///
/// There is no limit to unacknowledged data (`TCP_USER_TIMEOUT`): it would also end a live peer that does not read.
pub fn prepare(stream: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(QUESTIONS);
    let asked = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    // Without it small writes are slower and a dead peer is noticed later, no more.
    let _ = stream.set_nodelay(true).and(asked);
}

/// Lets a connection end with a reset when it is dropped: what was cut off must not look like a whole.
pub fn reset_on_close(stream: &TcpStream) {
    // Where the system refuses, the peer sees an end instead.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn both_ends_ask_for_a_silent_peer_within_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [&dialled, &accepted] {
            prepare(stream);
            let socket = SockRef::from(stream);
            assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
            let dead_after = socket.tcp_keepalive_time().unwrap()
                + socket.tcp_keepalive_interval().unwrap()
                    * socket.tcp_keepalive_retries().unwrap();
            assert!(dead_after <= Duration::from_secs(60), "{dead_after:?}");
        }
    }
}
