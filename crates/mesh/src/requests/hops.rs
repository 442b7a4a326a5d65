//! Headers that are of one connection, and go no further.

use http::{HeaderMap, HeaderName, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether `Connection` names nothing but what is of the connection anyway.
pub(super) fn names_itself_alone(headers: &HeaderMap) -> bool {
    let known = ["close", "keep-alive", "te", "upgrade"];
    headers.get_all(header::CONNECTION).iter().all(|value| {
        value.to_str().is_ok_and(|value| {
            let mut names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.all(|name| known.iter().any(|known| name.eq_ignore_ascii_case(known)))
        })
    })
}

/// Takes away what is of one connection; hyper says the framing of the next itself.
pub(super) fn take_hop_by_hop(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}
