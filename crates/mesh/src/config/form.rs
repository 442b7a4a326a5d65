//! The file as it is written, and what makes settings of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use nullius_intention::Protocol;
use nullius_model::{Namespace, SpiffeId, TrustDomain};
use nullius_tunnel::is_metadata;
use serde::Deserialize;

use crate::{Exported, Exports, KeySource, Reach, SOURCES_MAX, Via, gateway::GATEWAY};

use super::{
    AccessLogTo, At, Config, GatewayListener, IdentityFiles, KeysFrom, Listener, Port, Ports,
    Reached, Upstream, Wire, WorkloadName,
};

/// The port at which Istio's ambient proxies are reached.
const ISTIO_PORT: u16 = 15008;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    identity: Identity,
    #[serde(default)]
    workload: Option<Workload>,
    #[serde(default)]
    intentions: Vec<PathBuf>,
    #[serde(default)]
    fleet_intentions: Vec<PathBuf>,
    #[serde(default)]
    issuers: Vec<IssuerForm>,
    #[serde(default)]
    listeners: Vec<ListenerForm>,
    #[serde(default)]
    upstreams: Vec<UpstreamForm>,
    #[serde(default)]
    gateway: Option<GatewayForm>,
    #[serde(default)]
    access_log: Option<String>,
    #[serde(default)]
    health: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    bundles: Vec<Bundle>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    trust_domain: String,
    file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Workload {
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerForm {
    issuer: String,
    #[serde(default)]
    jwks_file: Option<PathBuf>,
    #[serde(default)]
    jwks_url: Option<String>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListenerForm {
    name: String,
    listen: String,
    #[serde(default)]
    wire: Vec<WireWord>,
    #[serde(default)]
    forward: Option<String>,
    #[serde(default)]
    protocol: Option<ProtocolWord>,
    #[serde(default)]
    ports: Vec<PortForm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortForm {
    port: u16,
    forward: String,
    protocol: ProtocolWord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpstreamForm {
    name: String,
    listen: String,
    #[serde(default)]
    destination: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    via: Option<ViaForm>,
    #[serde(default)]
    dial: Option<String>,
    #[serde(default)]
    wire: Option<WireWord>,
    expect: Vec<String>,
    #[serde(default)]
    source_address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ViaForm {
    gateways: Vec<String>,
    expect: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GatewayForm {
    listen: String,
    trust_domains: Vec<String>,
    exports: Vec<ExportForm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExportForm {
    service: String,
    endpoints: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireWord {
    Hbone,
    Istio,
    Tls,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolWord {
    Tcp,
    Http,
}

impl From<WireWord> for Wire {
    fn from(word: WireWord) -> Self {
        match word {
            WireWord::Hbone => Self::Hbone,
            WireWord::Istio => Self::Istio,
            WireWord::Tls => Self::Tls,
        }
    }
}

impl From<ProtocolWord> for Protocol {
    fn from(word: ProtocolWord) -> Self {
        match word {
            ProtocolWord::Tcp => Self::Tcp,
            ProtocolWord::Http => Self::Http,
        }
    }
}

/// Faults by field, as they are found.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    fn read<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.add(field, error.to_string())).ok()
    }

    fn address(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        let Ok(address) = text.parse::<SocketAddr>() else {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            let told = format!(
                "`{shown}` is no address with a port: write `10.0.0.5:8080` or `[2001:db8::5]:8080`"
            );
            self.add(field, told);
            return None;
        };
        Some(address)
    }

    /// An address that somebody else listens at.
    fn target(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        let address = self.address(field, text)?;
        if address.port() == 0 || address.ip().is_unspecified() {
            self.add(field, "nobody can be reached there: name an address and a port");
            return None;
        }
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl File {
    pub(super) fn check(self, folder: &Path) -> Result<Config, Vec<(String, String)>> {
        let mut faults = Faults::default();
        let below = |path: &PathBuf| folder.join(path);
        let mut bundles = BTreeMap::new();
        for (index, bundle) in self.identity.bundles.iter().enumerate() {
            let field = format!("identity.bundles[{index}].trustDomain");
            let Some(domain) = faults.read::<TrustDomain>(&field, &bundle.trust_domain) else {
                continue;
            };
            if bundles.insert(domain, below(&bundle.file)).is_some() {
                faults.add(field, "this trust domain has a bundle already: keep one");
            }
        }
        if self.identity.bundles.is_empty() {
            faults.add(
                "identity.bundles",
                "without a bundle nobody can be proven: name that of the own trust domain",
            );
        }
        let identity = IdentityFiles {
            certificate: below(&self.identity.certificate),
            key: below(&self.identity.key),
            bundles,
        };
        let (workload, labels) = check_workload(self.workload, &mut faults);
        let issuers = check_issuers(self.issuers, folder, &mut faults);
        let mut names = BTreeSet::new();
        let listeners: Vec<Listener> = self
            .listeners
            .into_iter()
            .enumerate()
            .filter_map(|(index, form)| {
                check_name(
                    &form.name,
                    &format!("listeners[{index}].name"),
                    &mut names,
                    &mut faults,
                );
                check_listener(form, index, &mut faults)
            })
            .collect();
        let upstreams: Vec<Upstream> = self
            .upstreams
            .into_iter()
            .enumerate()
            .filter_map(|(index, form)| {
                check_name(
                    &form.name,
                    &format!("upstreams[{index}].name"),
                    &mut names,
                    &mut faults,
                );
                check_upstream(form, index, &mut faults)
            })
            .collect();
        if names.is_empty() && self.gateway.is_none() {
            faults.add(
                "listeners",
                "there is nothing to do: name `listeners`, `upstreams` or a `gateway`",
            );
        }
        let gateway = self.gateway.and_then(|form| {
            check_name(GATEWAY, "gateway", &mut names, &mut faults);
            check_gateway(form, &identity.bundles, &mut faults)
        });
        let health = self.health.as_deref().and_then(|it| faults.address("health", it));
        let access_log = match self.access_log.as_deref() {
            None | Some("stdout") => AccessLogTo::Stdout,
            Some("off") => AccessLogTo::Off,
            Some("") => {
                faults.add("accessLog", "say `stdout`, `off` or a file");
                AccessLogTo::Off
            }
            Some(file) => AccessLogTo::File(folder.join(file)),
        };
        let config = Config {
            source: None,
            identity,
            workload,
            labels,
            intentions: self.intentions.iter().map(below).collect(),
            fleet: self.fleet_intentions.iter().map(below).collect(),
            issuers,
            listeners,
            upstreams,
            gateway,
            access_log,
            health,
        };
        if faults.0.is_empty() { Ok(config) } else { Err(faults.0) }
    }
}

fn check_workload(
    workload: Option<Workload>,
    faults: &mut Faults,
) -> (Option<WorkloadName>, BTreeMap<String, String>) {
    let Some(Workload { namespace, service_account, labels }) = workload else {
        return (None, BTreeMap::new());
    };
    let name = match (namespace, service_account) {
        (None, None) => None,
        (Some(namespace), Some(service_account)) if !service_account.is_empty() => faults
            .read::<Namespace>("workload.namespace", &namespace)
            .map(|namespace| WorkloadName { namespace, service_account }),
        (Some(_) | None, Some(_) | None) => {
            faults.add("workload", "say both `namespace` and `serviceAccount`, or neither");
            None
        }
    };
    (name, labels)
}

fn check_issuers(
    forms: Vec<IssuerForm>,
    folder: &Path,
    faults: &mut Faults,
) -> BTreeMap<Box<str>, KeysFrom> {
    if forms.len() > SOURCES_MAX {
        faults.add(
            "issuers",
            format!("these are {}, and at most {SOURCES_MAX} are taken", forms.len()),
        );
    }
    let mut issuers = BTreeMap::new();
    for (index, form) in forms.into_iter().enumerate() {
        let at = |field: &str| format!("issuers[{index}].{field}");
        if form.issuer.is_empty() {
            faults.add(at("issuer"), "say who issues the tokens: their claim `iss`");
        }
        if form.ca_file.is_some() && form.jwks_url.is_none() {
            faults.add(at("caFile"), "it is for `jwksUrl` alone: leave it out");
        }
        let keys = match (form.jwks_file, form.jwks_url) {
            (Some(file), None) => KeysFrom::File(folder.join(file)),
            (None, Some(url)) => {
                let authorities = form.ca_file.map(|file| folder.join(file));
                let url: Box<str> = url.into();
                let source = KeySource { url: url.clone(), authorities: None, reach: Reach::All };
                if let Err(error) = source.check() {
                    faults.add(at("jwksUrl"), error.to_string());
                }
                KeysFrom::Url { url, authorities }
            }
            (Some(_), Some(_)) | (None, None) => {
                faults.add(at("issuer"), "say where its keys are: `jwksFile` or `jwksUrl`");
                continue;
            }
        };
        if issuers.insert(form.issuer.into(), keys).is_some() {
            faults.add(at("issuer"), "this issuer stands already: keep one");
        }
    }
    issuers
}

fn check_name(name: &str, field: &str, names: &mut BTreeSet<String>, faults: &mut Faults) {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 63 || !name.chars().all(legal) {
        faults.add(field, "use lower-case letters, digits, `-` and `.`, 63 at most");
    }
    if !names.insert(name.to_owned()) {
        faults.add(field, "this name is taken: listeners and upstreams have one name each");
    }
}

fn check_listener(form: ListenerForm, index: usize, faults: &mut Faults) -> Option<Listener> {
    let at = |field: &str| format!("listeners[{index}].{field}");
    let listen = faults.address(&at("listen"), &form.listen);
    let mut wires: BTreeSet<Wire> = form.wire.iter().map(|word| Wire::from(*word)).collect();
    if wires.len() != form.wire.len() {
        faults.add(at("wire"), "a word stands twice");
    }
    if wires.is_empty() {
        wires.insert(Wire::Hbone);
    }
    let ports = match wires.contains(&Wire::Istio) {
        true => {
            if wires.len() > 1 {
                faults.add(
                    at("wire"),
                    "`istio` has a port of its own: write another listener for the others",
                );
            }
            if form.forward.is_some() || form.protocol.is_some() {
                faults.add(at("ports"), "with `wire: [istio]` callers name the port: write `forward` and `protocol` there");
            }
            if form.ports.is_empty() {
                faults.add(at("ports"), "name the ports of the workload that callers may name");
            }
            let mut ports = BTreeMap::new();
            for (nth, port) in form.ports.iter().enumerate() {
                let field = |name: &str| at(&format!("ports[{nth}].{name}"));
                if port.port == 0 {
                    faults.add(field("port"), "no port is 0");
                }
                let Some(forward) = faults.target(&field("forward"), &port.forward) else {
                    continue;
                };
                let named = Port { forward, protocol: port.protocol.into() };
                if ports.insert(port.port, named).is_some() {
                    faults.add(field("port"), "this port stands already");
                }
            }
            Ports::Named(ports)
        }
        false => {
            if !form.ports.is_empty() {
                faults.add(at("ports"), "they are for `wire: [istio]` alone: this listener is for the port that it listens at");
            }
            let Some(forward) = &form.forward else {
                faults.add(at("forward"), "it is missing: say where the application listens");
                return None;
            };
            let Some(protocol) = form.protocol else {
                faults.add(at("protocol"), "it is missing: say `tcp` or `http`");
                return None;
            };
            let forward = faults.target(&at("forward"), forward)?;
            Ports::Own(Port { forward, protocol: protocol.into() })
        }
    };
    if let (Some(listen), Ports::Own(port)) = (listen, &ports)
        && listen == port.forward
    {
        faults.add(
            at("forward"),
            "it is where this listener listens: what arrives would go round for ever",
        );
    }
    Some(Listener { name: form.name.into(), listen: listen?, wires, ports })
}

fn check_gateway(
    form: GatewayForm,
    bundles: &BTreeMap<TrustDomain, PathBuf>,
    faults: &mut Faults,
) -> Option<GatewayListener> {
    let listen = faults.address("gateway.listen", &form.listen);
    let mut partners = BTreeSet::new();
    for (nth, domain) in form.trust_domains.iter().enumerate() {
        let field = format!("gateway.trustDomains[{nth}]");
        let Some(domain) = faults.read::<TrustDomain>(&field, domain) else { continue };
        if !bundles.contains_key(&domain) {
            faults.add(field, "`identity.bundles` has none of it: nobody of it could be proven");
        }
        partners.insert(domain);
    }
    if form.trust_domains.is_empty() {
        faults.add("gateway.trustDomains", "name those whose workloads may come in");
    }
    let mut exports = Exports::new(partners.iter().map(TrustDomain::as_str));
    let mut known = BTreeSet::new();
    for (nth, export) in form.exports.iter().enumerate() {
        let at = |field: &str| format!("gateway.exports[{nth}].{field}");
        let service = faults.read::<Exported>(&at("service"), &export.service);
        let target =
            |(nth, text): (usize, &String)| faults.target(&at(&format!("endpoints[{nth}]")), text);
        let endpoints: Vec<SocketAddr> =
            export.endpoints.iter().enumerate().filter_map(target).collect();
        for (nth, endpoint) in endpoints.iter().enumerate() {
            if is_metadata(*endpoint) || Some(*endpoint) == listen {
                let field = at(&format!("endpoints[{nth}]"));
                faults.add(field, "no Service is there: name where its workloads listen");
            }
        }
        let Some(service) = service else { continue };
        if !known.insert(service.clone()) {
            faults.add(at("service"), "this port of a Service stands already: keep one");
        }
        exports.put(service, endpoints);
    }
    Some(GatewayListener { listen: listen?, exports: Arc::new(exports) })
}

fn check_ids(field: &str, texts: &[String], faults: &mut Faults) -> Arc<[SpiffeId]> {
    if texts.is_empty() {
        faults.add(field, "name at least one SPIFFE ID: an address does not say who is there");
    }
    let mut ids = BTreeSet::new();
    for (nth, id) in texts.iter().enumerate() {
        ids.extend(faults.read::<SpiffeId>(&format!("{field}[{nth}]"), id));
    }
    ids.into_iter().collect()
}

fn check_via(form: &UpstreamForm, index: usize, faults: &mut Faults) -> Option<Via> {
    let at = |field: &str| format!("upstreams[{index}].{field}");
    if form.destination.is_some()
        || form.dial.is_some()
        || form.wire.is_some()
        || form.source_address.is_some()
    {
        faults.add(at("service"), "a Service of another cluster is where its gateway leads: leave `destination`, `dial`, `wire` and `sourceAddress` out");
    }
    let service = form.service.as_deref().and_then(|it| faults.read(&at("service"), it));
    let expect = check_ids(&at("expect"), &form.expect, faults);
    let Some(via) = &form.via else {
        faults.add(at("service"), "it is reached through a gateway: write `via` beside it");
        return None;
    };
    if via.gateways.is_empty() {
        faults.add(at("via.gateways"), "name at least one gateway: an address with a port");
    }
    let gateway =
        |(nth, text): (usize, &String)| faults.target(&at(&format!("via.gateways[{nth}]")), text);
    let gateways = via.gateways.iter().enumerate().filter_map(gateway).collect();
    let gateway_ids = check_ids(&at("via.expect"), &via.expect, faults);
    if service.is_none() && form.service.is_none() {
        faults.add(at("via"), "say which `service` is called through it");
    }
    Some(Via { service: service?, gateways, gateway_ids, expect })
}

fn check_upstream(form: UpstreamForm, index: usize, faults: &mut Faults) -> Option<Upstream> {
    let at = |field: &str| format!("upstreams[{index}].{field}");
    let listen = faults.address(&at("listen"), &form.listen);
    if listen.is_some_and(|listen| !listen.ip().to_canonical().is_loopback()) {
        faults.add(
            at("listen"),
            "whoever reaches it speaks as this workload: listen at a loopback address",
        );
    }
    if form.service.is_some() || form.via.is_some() {
        let to = Reached::Service(Arc::new(check_via(&form, index, faults)?));
        return Some(Upstream { name: form.name.into(), listen: listen?, to });
    }
    let wire = form.wire.map_or(Wire::Hbone, Wire::from);
    let Some(destination) = &form.destination else {
        faults.add(
            at("destination"),
            "it is missing: say which workload is called, or which `service`",
        );
        return None;
    };
    let destination = faults.target(&at("destination"), destination);
    let dial = match (&form.dial, destination, wire) {
        (Some(dial), _, _) => faults.target(&at("dial"), dial),
        (None, Some(destination), Wire::Istio) => {
            Some(SocketAddr::new(destination.ip(), ISTIO_PORT))
        }
        (None, destination, Wire::Hbone | Wire::Tls) => destination,
        (None, None, Wire::Istio) => None,
    };
    let expect = check_ids(&at("expect"), &form.expect, faults);
    let source = form
        .source_address
        .as_deref()
        .and_then(|text| faults.read::<IpAddr>(&at("sourceAddress"), text));
    let at = At { destination: destination?, dial: dial?, wire, expect, source };
    Some(Upstream { name: form.name.into(), listen: listen?, to: Reached::Workload(at) })
}
