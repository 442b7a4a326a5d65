//! The ways in which kubectl can speak: WebSocket or SPDY for streams, HTTP/2 or HTTP/1.1 for the rest.

use nullius_testkit::Kubectl;

/// One way.
pub(crate) struct Transport {
    pub(crate) name: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

/// All ways; the first is kubectl's own choice.
pub(crate) const ALL: [Transport; 4] = [
    Transport { name: "websocket", variables: &[] },
    Transport {
        name: "spdy",
        variables: &[
            ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
            ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
        ],
    },
    Transport {
        name: "websocket, http/1.1",
        variables: &[("DISABLE_HTTP2", "1"), ("GODEBUG", "http2client=0")],
    },
    Transport {
        name: "spdy, http/1.1",
        variables: &[
            ("DISABLE_HTTP2", "1"),
            ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
            ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
        ],
    },
];

/// The ways that are shown with one of several kubectl: all with the first, streams of both kinds with the others.
pub(crate) fn shown_with(number: usize) -> &'static [Transport] {
    if number == 0 { &ALL } else { &ALL[..2] }
}

impl Transport {
    /// The same kubectl, speaking so.
    pub(crate) fn of(&self, kubectl: &Kubectl) -> Kubectl {
        self.variables
            .iter()
            .fold(kubectl.clone(), |kubectl, (name, value)| kubectl.env(name, value))
    }
}
