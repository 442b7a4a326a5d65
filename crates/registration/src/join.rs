//! What a machine is given to join with: whom to believe, where to ask, and a token.

use std::fmt;

use nullius_fields::{Fault, Faults, Fields};
use nullius_model::{API_VERSION, ClusterName, ObjectName, TrustDomain};
use serde_json::{Value as Json, json};

const KIND: &str = "MachineJoin";

/// What a machine is given. It holds a token: no `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct MachineJoin {
    /// The name of its object `Machine`.
    pub machine: ObjectName,
    /// The cluster.
    pub cluster: ClusterName,
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// The SPIFFE bundle of that; later ones are heard.
    pub bundle: Json,
    /// Where `agent identity` is: `HOST:PORT`.
    pub agent: String,
    /// The token that counts once; none where certificates prove the machine.
    pub token: Option<String>,
}

impl MachineJoin {
    /// Reads it strictly.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json) -> Result<Self, Vec<Fault>> {
        let faults = Faults::new(|_| None);
        match read(object, &faults) {
            Some(join) if faults.count() == 0 => Ok(join),
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// Writes it.
    pub fn write(&self) -> Json {
        let mut object = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "machine": self.machine.as_str(), "cluster": self.cluster.as_str(),
            "trustDomain": self.trust_domain.as_str(), "agent": self.agent, "bundle": self.bundle,
        });
        if let Some(token) = &self.token {
            object["token"] = token.as_str().into();
        }
        object
    }
}

impl fmt::Debug for MachineJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineJoin").field("machine", &self.machine).finish_non_exhaustive()
    }
}

fn read(object: &Json, faults: &Faults) -> Option<MachineJoin> {
    let mut fields = Fields::of(object, "", faults)?;
    let (version, kind) = (fields.text("apiVersion"), fields.text("kind"));
    if version != Some(API_VERSION) || kind != Some(KIND) {
        faults.add("", format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`, as `nullius node join-token` writes it"));
        return None;
    }
    let (machine, cluster) = (fields.text("machine"), fields.text("cluster"));
    let (domain, agent) = (fields.text("trustDomain"), fields.text("agent"));
    let (bundle, token) = (fields.value("bundle"), fields.text("token"));
    for missing in ["machine", "cluster", "trustDomain", "agent", "bundle"]
        .into_iter()
        .filter(|name| !fields.has(name))
    {
        fields.wrong(missing, "it is missing: `nullius node join-token` writes it");
    }
    let machine = machine?.parse::<ObjectName>();
    let machine = machine.map_err(|error| fields.wrong("machine", error.to_string())).ok();
    let cluster = cluster?.parse::<ClusterName>();
    let cluster = cluster.map_err(|error| fields.wrong("cluster", error.to_string())).ok();
    let domain = domain?.parse::<TrustDomain>();
    let domain = domain.map_err(|error| fields.wrong("trustDomain", error.rule)).ok();
    if agent.is_some_and(|agent| !is_address(agent)) {
        fields.wrong("agent", "write `HOST:PORT`");
    }
    fields.finish();
    Some(MachineJoin {
        machine: machine?,
        cluster: cluster?,
        trust_domain: domain?,
        bundle: bundle?.clone(),
        agent: agent?.to_owned(),
        token: token.map(str::to_owned),
    })
}

/// Whether a text is a host and a port.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(legal),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}
