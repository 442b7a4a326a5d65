#![allow(clippy::unwrap_used, reason = "test")]
use std::path::Path;

use nullius_intention::Protocol;

use super::*;
use crate::SOURCES_MAX;

const GOOD: &str = "\
apiVersion: nullius.dev/v1alpha1
kind: ProxyConfiguration
identity:
  certificate: svid.pem
  key: /run/key.pem
  bundles:
  - {trustDomain: dev.example, file: bundle.json}
intentions: [intentions]
listeners:
- name: orders
  listen: 10.0.0.5:8080
  forward: 127.0.0.1:8080
  protocol: http
- name: istio
  listen: 10.0.0.5:15008
  wire: [istio]
  ports:
  - {port: 8080, forward: '127.0.0.1:8080', protocol: tcp}
upstreams:
- name: bank
  listen: 127.0.0.1:9000
  destination: 10.0.0.7:80
  expect: [spiffe://dev.example/ns/bank/sa/front]
- name: far
  listen: '[::1]:9001'
  destination: '[2001:db8::7]:80'
  wire: istio
  expect: [spiffe://dev.example/ns/far/sa/away]
health: 127.0.0.1:9090
";

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::parse("proxy.yaml", Path::new("/etc/nullius"), text)
}

#[test]
fn a_file_becomes_settings() {
    let config = read(GOOD).unwrap();
    assert_eq!(config.identity.certificate, Path::new("/etc/nullius/svid.pem"));
    assert_eq!(config.identity.key, Path::new("/run/key.pem"));
    assert_eq!(config.access_log, AccessLogTo::Stdout);
    assert_eq!(config.health, Some(([127, 0, 0, 1], 9090).into()));
    let [orders, istio] = config.listeners.as_slice() else { unreachable!() };
    assert_eq!(orders.wires, BTreeSet::from([Wire::Hbone]));
    assert!(matches!(orders.ports, Ports::Own(Port { protocol: Protocol::Http, .. })));
    assert!(matches!(&istio.ports, Ports::Named(ports) if ports.len() == 1));
    let [bank, far] = config.upstreams.as_slice() else { unreachable!() };
    let (Reached::Workload(bank), Reached::Workload(far)) = (&bank.to, &far.to) else {
        unreachable!()
    };
    assert_eq!((bank.wire, bank.dial), (Wire::Hbone, "10.0.0.7:80".parse().unwrap()));
    assert_eq!(far.dial, "[2001:db8::7]:15008".parse().unwrap());
}

/// What is told of the good file with one text in it replaced.
fn told(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_fault_says_where_it_stands_and_what_to_do() {
    for (from, to, place, words) in [
        (
            "kind: ProxyConfiguration",
            "kind: Proxy",
            "1:1",
            "expected `apiVersion: nullius.dev/v1alpha1` and `kind: ProxyConfiguration`",
        ),
        (
            "  protocol: http",
            "  protokoll: http",
            "13:3",
            "unknown field `protokoll`; these are known here: `name`",
        ),
        ("protocol: http", "protocol: udp", "13:3", "`udp` is unknown here; use `tcp`, `http`"),
        ("  forward: 127.0.0.1:8080\n", "", "10:3", "listeners[0].forward: it is missing"),
        (
            "listen: 10.0.0.5:8080",
            "listen: 10.0.0.5:70000",
            "11:3",
            "`10.0.0.5:70000` is no address with a port",
        ),
        ("forward: 127.0.0.1:8080", "forward: 0.0.0.0:8080", "12:3", "nobody can be reached there"),
        ("forward: 127.0.0.1:8080", "forward: 10.0.0.5:8080", "12:3", "would go round for ever"),
        ("wire: [istio]", "wire: [istio, tls]", "16:3", "`istio` has a port of its own"),
        (
            "listen: 127.0.0.1:9000",
            "listen: 0.0.0.0:9000",
            "21:3",
            "whoever reaches it speaks as this workload",
        ),
        (
            "expect: [spiffe://dev.example/ns/bank/sa/front]",
            "expect: []",
            "23:3",
            "an address does not say who is there",
        ),
        (
            "spiffe://dev.example/ns/bank/sa/front",
            "spiffe://Dev.example/ns/bank/sa/front",
            "23:12",
            "lower case",
        ),
        ("name: bank", "name: orders", "20:3", "this name is taken"),
        ("trustDomain: dev.example", "trustDomain: Dev.example", "7:6", "lower case"),
        ("intentions: [intentions]", "intentions: {a: b}", "8:1", "expected a list"),
    ] {
        let told = told(from, to);
        assert!(told.contains(words), "{to}: {told}");
        assert!(told.starts_with(&format!("proxy.yaml:{place}: ")), "{to}: {told}");
    }
    let empty = read(GOOD.split("listeners:").next().unwrap()).unwrap_err().to_string();
    assert!(empty.contains("there is nothing to do"), "{empty}");
    assert!(read("a: [").unwrap_err().to_string().starts_with("proxy.yaml:1:"));
}

const FAR: &str = "\
- name: ledger
  listen: 127.0.0.1:9002
  service: ledger.bank.svc.clusterset.local:80
  via:
    gateways: [10.1.0.5:15443, 10.1.0.6:15443]
    expect: [spiffe://bank.example/ns/nullius-system/sa/nullius-gateway]
  expect: [spiffe://bank.example/ns/bank/sa/ledger]
gateway:
  listen: 10.0.0.5:15443
  trustDomains: [dev.example]
  exports:
  - {service: orders.shop.svc.clusterset.local:80, endpoints: [10.0.0.7:8080]}
";

#[test]
fn a_service_of_another_cluster_is_reached_through_a_gateway_and_what_is_exported_is_named() {
    let whole = GOOD.replace("health: 127.0.0.1:9090\n", FAR);
    let config = read(&whole).unwrap();
    let Reached::Service(via) = &config.upstreams[2].to else { unreachable!() };
    assert_eq!(via.service.to_string(), "ledger.bank.svc.clusterset.local:80");
    assert_eq!((via.gateways.len(), via.gateway_ids.len(), via.expect.len()), (2, 1, 1));
    let exports = &config.gateway.as_ref().unwrap().exports;
    let orders = "orders.shop.svc.clusterset.local:80".parse().unwrap();
    assert_eq!(exports.endpoints(&orders).map(|it| it.len()), Some(1));
    assert!(exports.is_partner("dev.example") && !exports.is_partner("bank.example"));
    for (from, to, words) in [
        (
            "service: ledger.bank.svc.clusterset.local:80",
            "service: 10.0.0.7:80",
            "upstreams[2].service: write `NAME.NAMESPACE.svc.clusterset.local:PORT`",
        ),
        (
            "  service: ledger.bank.svc.clusterset.local:80\n",
            "",
            "upstreams[2].via: say which `service`",
        ),
        (
            "  via:\n    gateways: [10.1.0.5:15443, 10.1.0.6:15443]\n    expect: [spiffe://bank.example/ns/nullius-system/sa/nullius-gateway]\n",
            "",
            "write `via` beside it",
        ),
        (
            "gateways: [10.1.0.5:15443, 10.1.0.6:15443]",
            "gateways: []",
            "upstreams[2].via.gateways: name at least one",
        ),
        (
            "expect: [spiffe://bank.example/ns/nullius-system/sa/nullius-gateway]",
            "expect: []",
            "upstreams[2].via.expect: name at least one SPIFFE ID",
        ),
        (
            "expect: [spiffe://bank.example/ns/bank/sa/ledger]",
            "expect: []",
            "upstreams[2].expect: name at least one SPIFFE ID",
        ),
        ("  via:", "  wire: tls\n  via:", "leave `destination`, `dial`, `wire`"),
        ("trustDomains: [dev.example]", "trustDomains: []", "gateway.trustDomains: name those"),
        (
            "trustDomains: [dev.example]",
            "trustDomains: [far.example]",
            "gateway.trustDomains[0]: `identity.bundles` has none of it",
        ),
        (
            "service: orders.shop.svc.clusterset.local:80",
            "service: orders.shop:80",
            "gateway.exports[0].service: write",
        ),
        (
            "endpoints: [10.0.0.7:8080]",
            "endpoints: [here]",
            "gateway.exports[0].endpoints[0]: `here` is no address",
        ),
        (
            "endpoints: [10.0.0.7:8080]",
            "endpoints: ['169.254.169.254:80']",
            "gateway.exports[0].endpoints[0]: no Service is there",
        ),
        (
            "endpoints: [10.0.0.7:8080]",
            "endpoints: [10.0.0.5:15443]",
            "gateway.exports[0].endpoints[0]: no Service is there",
        ),
        ("name: ledger", "name: gateway", "gateway: this name is taken"),
        ("  destination: 10.0.0.7:80\n", "", "upstreams[0].destination: it is missing"),
    ] {
        assert!(whole.contains(from), "{from}");
        let told = read(&whole.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(told.contains(words), "{to}: {told}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let text =
        GOOD.replace("listen: 10.0.0.5:8080", "listen: here").replace("name: far", "name: F");
    assert_eq!(read(&text).unwrap_err().0.len(), 2);
}

#[test]
fn an_issuer_has_its_keys_in_one_place() {
    let with = |issuers: &str| read(&format!("{GOOD}issuers: [{issuers}]\n"));
    let good = "{issuer: 'https://a', jwksFile: a.json}, {issuer: b, jwksUrl: 'https://b/keys', caFile: ca.pem}";
    let config = with(good).unwrap();
    let KeysFrom::File(file) = &config.issuers["https://a"] else { unreachable!() };
    assert_eq!(file, Path::new("/etc/nullius/a.json"));
    let KeysFrom::Url { authorities, .. } = &config.issuers["b"] else { unreachable!() };
    assert_eq!(authorities.as_deref(), Some(Path::new("/etc/nullius/ca.pem")));
    for (issuers, words) in [
        ("{issuer: a}", "issuers[0].issuer: say where its keys are"),
        ("{issuer: a, jwksFile: f, jwksUrl: 'https://b/'}", "say where its keys are"),
        ("{issuer: '', jwksFile: f}", "say who issues the tokens"),
        ("{issuer: a, jwksFile: f, caFile: c}", "it is for `jwksUrl` alone"),
        (
            "{issuer: a, jwksUrl: 'http://b/'}",
            "issuers[0].jwksUrl: `http://b/` is no address to fetch from",
        ),
        ("{issuer: a, jwksFile: f}, {issuer: a, jwksFile: g}", "this issuer stands already"),
        ("{issuer: a, jwks: f}", "unknown field"),
    ] {
        let told = with(issuers).unwrap_err().to_string();
        assert!(told.contains(words), "{issuers}: {told}");
    }
    let many: Vec<_> =
        (0..=SOURCES_MAX).map(|number| format!("{{issuer: i{number}, jwksFile: f}}")).collect();
    assert!(with(&many.join(", ")).unwrap_err().to_string().contains("at most 64 are taken"));
}
