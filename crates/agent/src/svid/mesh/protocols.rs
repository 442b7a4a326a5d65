//! What is spoken at a port, by what its Service says.

use nullius_mesh::news::PortProtocol;

/// By `appProtocol` where it is said, else by the name of the port, as Kubernetes and its meshes name them: `http`, `grpc-api`.
pub(super) fn of_port(app_protocol: Option<&str>, name: &str) -> PortProtocol {
    match app_protocol {
        Some(word) => named(word).unwrap_or(PortProtocol::Tcp),
        None => named(name.split('-').next().unwrap_or_default()).unwrap_or(PortProtocol::Auto),
    }
}

/// Of what two Services say of one port.
pub(super) fn both(one: PortProtocol, other: PortProtocol) -> PortProtocol {
    match (one, other) {
        (one, other) if one == other => one,
        (PortProtocol::Auto, said) | (said, PortProtocol::Auto) => said,
        (PortProtocol::Http | PortProtocol::Http2, PortProtocol::Http | PortProtocol::Http2) => {
            PortProtocol::Http
        }
        // They contradict each other: nothing is read, and where requests should decide all are denied.
        _ => PortProtocol::Tcp,
    }
}

fn named(word: &str) -> Option<PortProtocol> {
    match word.to_ascii_lowercase().as_str() {
        "http" | "grpc-web" | "kubernetes.io/ws" => Some(PortProtocol::Http),
        "http2" | "h2c" | "grpc" | "kubernetes.io/h2c" => Some(PortProtocol::Http2),
        "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => Some(PortProtocol::Tcp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_before_what_a_name_lets_guess() {
        for (app, name, spoken) in [
            (None, "http", PortProtocol::Http),
            (None, "http-admin", PortProtocol::Http),
            (None, "grpc-api", PortProtocol::Http2),
            (None, "https", PortProtocol::Tcp),
            (None, "web", PortProtocol::Auto),
            (None, "", PortProtocol::Auto),
            (None, "httpx", PortProtocol::Auto),
            (Some("HTTP"), "redis", PortProtocol::Http),
            (Some("kubernetes.io/h2c"), "http", PortProtocol::Http2),
            (Some("kubernetes.io/wss"), "http", PortProtocol::Tcp),
            (Some("example.org/own"), "http", PortProtocol::Tcp),
        ] {
            assert_eq!(of_port(app, name), spoken, "{app:?} {name}");
        }
    }

    #[test]
    fn services_that_contradict_each_other_leave_bytes() {
        use PortProtocol::{Auto, Http, Http2, Tcp};
        for (one, other, spoken) in
            [(Auto, Http2, Http2), (Http, Http2, Http), (Http, Tcp, Tcp), (Auto, Auto, Auto)]
        {
            assert_eq!(both(one, other), spoken);
            assert_eq!(both(other, one), spoken);
        }
    }
}
