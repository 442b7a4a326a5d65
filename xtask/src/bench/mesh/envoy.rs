//! Two Envoys as proxies of the same workloads: one beside the client, one beside the applications.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

/// Where an Envoy listens, and where that goes.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) bytes: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) bulk: SocketAddr,
}

/// What stands in a TLS context.
struct Identity<'a> {
    folder: &'a Path,
    peer: &'a str,
}

/// The one beside the client: plain in, mutual TLS out.
pub(super) fn client(folder: &Path, peer: &str, listen: Ports, to: Ports) -> Value {
    let identity = Identity { folder, peer };
    let tls = |alpn: &[&str]| Some(identity.tls("UpstreamTlsContext", alpn));
    let mut http = cluster("http", to.http, tls(&["h2"]));
    http["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    json!({ "static_resources": {
        "listeners": [
            listener("bytes", listen.bytes, tcp("bytes"), None),
            listener("bulk", listen.bulk, tcp("bulk"), None),
            listener("http", listen.http, requests("http", None), None),
        ],
        "clusters": [
            cluster("bytes", to.bytes, tls(&[])), cluster("bulk", to.bulk, tls(&[])), http,
        ],
    } })
}

/// The one beside the applications: mutual TLS in, plain out, and who may send what.
pub(super) fn server(folder: &Path, peer: &str, listen: Ports, to: Ports) -> Value {
    let identity = Identity { folder, peer };
    let tls = |alpn: &[&str]| {
        let mut tls = identity.tls("DownstreamTlsContext", alpn);
        tls["typed_config"]["require_client_certificate"] = json!(true);
        Some(tls)
    };
    let rbac = json!({ "name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": { "action": "ALLOW", "policies": { "orders": {
            "permissions": [{ "and_rules": { "rules": [
                { "header": { "name": ":method", "string_match": { "exact": "GET" } } },
                { "url_path": { "path": { "prefix": "/orders" } } },
            ] } }],
            "principals": [{ "authenticated": { "principal_name": { "exact": peer } } }],
        } } },
    } });
    json!({ "static_resources": {
        "listeners": [
            listener("bytes", listen.bytes, tcp("bytes"), tls(&[])),
            listener("bulk", listen.bulk, tcp("bulk"), tls(&[])),
            listener("http", listen.http, requests("http", Some(rbac)), tls(&["h2"])),
        ],
        "clusters": [
            cluster("bytes", to.bytes, None), cluster("bulk", to.bulk, None), cluster("http", to.http, None),
        ],
    } })
}

impl Identity<'_> {
    fn tls(&self, kind: &str, alpn: &[&str]) -> Value {
        let file = |name: &str| json!({ "filename": self.folder.join(name) });
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{TLS}.{kind}"),
            "common_tls_context": {
                "alpn_protocols": alpn,
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificates": [{ "certificate_chain": file("svid.pem"), "private_key": file("key.pem") }],
                "validation_context": {
                    "trusted_ca": file("bundle.pem"),
                    "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": self.peer } }],
                },
            },
        } })
    }
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn listener(name: &str, listen: SocketAddr, filter: Value, tls: Option<Value>) -> Value {
    let mut chain = json!({ "filters": [filter] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({ "name": name, "address": address(listen), "filter_chains": [chain] })
}

fn tcp(cluster: &str) -> Value {
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{NETWORK}.tcp_proxy.v3.TcpProxy"), "stat_prefix": cluster, "cluster": cluster,
    } })
}

fn requests(cluster: &str, decides: Option<Value>) -> Value {
    let router = json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    } });
    let filters: Vec<Value> = decides.into_iter().chain([router]).collect();
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("{NETWORK}.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": cluster, "http_filters": filters,
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster } }],
        }] },
    } })
}

fn cluster(name: &str, to: SocketAddr, tls: Option<Value>) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(to) } });
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}
