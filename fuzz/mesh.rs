//! Where bytes of strangers meet the proxy of a pod before anybody is proven: what the fuzz target and the tests of `nullius-mesh` call.
//! None may panic, and what is told must be about the input.

use nullius_mesh::{Beginning, HELLO_MAX};

/// How a connection begins: told as soon as it can be, and never otherwise when more has come.
pub(super) fn client_hello(bytes: &[u8]) {
    let told = Beginning::of(bytes);
    match &told {
        Beginning::More => assert!(bytes.len() < HELLO_MAX, "it is waited for without an end"),
        Beginning::Hello(protocols) => {
            let named: usize = protocols.iter().map(|name| name.len() + 1).sum();
            assert!(named < bytes.len().min(HELLO_MAX), "{named} of {}", bytes.len());
        }
        Beginning::Other => {}
    }
    let halves = (1..=16).map(|part| bytes.len() * part / 17);
    for end in halves.chain([bytes.len().saturating_sub(1)]) {
        let before = Beginning::of(bytes.get(..end).unwrap_or(bytes));
        assert!(before == Beginning::More || before == told, "{before:?} became {told:?}");
    }
}
