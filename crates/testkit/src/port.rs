//! Ports for programs that go and come back: below those that the system gives to whoever connects, so that nobody takes one in the
//! meantime.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result};

/// Between the well-known ports and those of clusters ([`crate::slot`]); connections begin at 32768.
const FIRST: u16 = 12_000;
const COUNT: u16 = 14_000;

/// An address on which nobody listens at this moment, and which this process has not given out before.
pub fn free_address(host: IpAddr) -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run beside one another begin at different places.
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();
    let free = |_: u16| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::new(host, FIRST + (begin + next) % COUNT);
        TcpListener::bind(address).is_ok().then_some(address)
    };
    (0..COUNT).find_map(free).with_context(|| format!("no port is free on {host}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_are_free_and_each_is_another() {
        let host = Ipv4Addr::LOCALHOST.into();
        let first = free_address(host).unwrap();
        let second = free_address(host).unwrap();
        assert_ne!(first, second);
        for address in [first, second] {
            assert!((FIRST..FIRST + COUNT).contains(&address.port()));
        }
    }
}
