//! What a CONNECT asks for, read in exactly one way.

use std::net::SocketAddr;

use http::{Method, Request, header};

use crate::Exported;

/// Why a CONNECT cannot be read; each is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadConnect {
    #[error("the request is no CONNECT")]
    NotConnect,
    #[error("the CONNECT is for another protocol")]
    Extended,
    #[error(
        "`:authority` is no address with a port in its one form, as `10.0.0.5:8080` or `[2001:db8::5]:8080`"
    )]
    Authority,
    #[error(
        "`:authority` is no port of an exported Service in its one form, as `orders.shop.svc.clusterset.local:8080`"
    )]
    Exported,
    #[error("`Host` is another one than `:authority`")]
    Host,
    #[error("a CONNECT has no body, and so no length of one")]
    Length,
}

/// Reads which address a CONNECT is for.
pub(crate) fn read<B>(request: &Request<B>) -> Result<SocketAddr, BadConnect> {
    read_address(text(request)?).ok_or(BadConnect::Authority)
}

/// Reads which Service of a cluster a CONNECT is for, at its gateway: no address is the name of one.
pub(crate) fn read_exported<B>(request: &Request<B>) -> Result<Exported, BadConnect> {
    text(request)?.parse().map_err(|_| BadConnect::Exported)
}

/// The one text that says what a CONNECT is for.
fn text<B>(request: &Request<B>) -> Result<&str, BadConnect> {
    if request.method() != Method::CONNECT {
        return Err(BadConnect::NotConnect);
    }
    if request.extensions().get::<h2::ext::Protocol>().is_some() {
        return Err(BadConnect::Extended);
    }
    let authority = request.uri().authority().ok_or(BadConnect::Authority)?.as_str();
    let headers = request.headers();
    if headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING)
    {
        return Err(BadConnect::Length);
    }
    if headers.get_all(header::HOST).iter().any(|host| host.as_bytes() != authority.as_bytes()) {
        return Err(BadConnect::Host);
    }
    Ok(authority)
}

/// An address in the form in which it is printed: no name, no other spelling, no zone.
fn read_address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let has_zone = matches!(address, SocketAddr::V6(six) if six.scope_id() != 0);
    let is_plain = address.ip().to_canonical() == address.ip() && address.port() != 0 && !has_zone;
    (is_plain && address.to_string() == text).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for good in ["10.0.0.5:8080", "[2001:db8::5]:1", "127.0.0.1:65535", "[::1]:80"] {
            assert_eq!(read_address(good).map(|it| it.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "",
            "10.0.0.5",
            "10.0.0.5:",
            "10.0.0.5:0",
            "10.0.0.5:70000",
            "10.0.0.5:080",
            "10.0.0.5:+80",
            "010.0.0.5:80",
            "10.5:80",
            "orders:80",
            "user@10.0.0.5:80",
            "10.0.0.5:80 ",
            "10.0.0.5:80\r\n",
            "[::ffff:10.0.0.5]:80",
            "[fe80::1%1]:80",
            "[2001:DB8::5]:80",
            "[2001:db8:0::5]:80",
            "::1:80",
            "10.0.0.5:8080:8080",
            "10.0.0.5:80/",
        ] {
            assert_eq!(read_address(bad), None, "{bad:?}");
        }
    }

    fn connect(
        change: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Result<SocketAddr, BadConnect> {
        let builder = Request::builder().method(Method::CONNECT).uri("10.0.0.5:8080");
        change(builder).body(()).map_or(Err(BadConnect::NotConnect), |request| read(&request))
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_refused() {
        assert_eq!(connect(|it| it), Ok(SocketAddr::from(([10, 0, 0, 5], 8080))));
        assert!(connect(|it| it.header("host", "10.0.0.5:8080")).is_ok());
        assert_eq!(connect(|it| it.method("GET")), Err(BadConnect::NotConnect));
        assert_eq!(connect(|it| it.header("host", "10.0.0.6:8080")), Err(BadConnect::Host));
        assert_eq!(connect(|it| it.header("content-length", "3")), Err(BadConnect::Length));
        assert_eq!(
            connect(|it| it.header("transfer-encoding", "chunked")),
            Err(BadConnect::Length)
        );
        assert_eq!(connect(|it| it.uri("10.0.0.5:70000")), Err(BadConnect::Authority));
        let websocket = h2::ext::Protocol::from_static("websocket");
        assert_eq!(connect(|it| it.extension(websocket)), Err(BadConnect::Extended));
    }
}
