//! The ends of a call as an agent tells them, read in one way.

use std::net::IpAddr;

use nullius_audit::display_safe;
use nullius_model::{MeshParty, MeshSide, Namespace, PartyKind, SpiffeId, TrustDomain, payer};
use nullius_proto::agent_v1::{self as wire, MeshPartyKind};

use super::super::cut;

/// Characters of names of Kubernetes, and of closed words.
const NAME: usize = 253;
const WORD: usize = 40;
/// The wire that proxies of ours speak with each other.
const OUR_WIRE: &str = "hbone";
/// Characters of what rules and proxies say.
const TEXT: usize = 1_000;

/// Who called and who was called, and whose proxy saw it.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    pub(super) source: MeshParty,
    pub(super) destination: MeshParty,
    pub(super) side: MeshSide,
}

impl Ends {
    /// Reads both; none where a cluster cannot know what it says.
    pub(super) fn read(
        source: Option<&wire::MeshParty>,
        destination: Option<&wire::MeshParty>,
        side: wire::MeshSide,
        domain: &TrustDomain,
    ) -> Option<Self> {
        let side = match side {
            wire::MeshSide::Source => MeshSide::Source,
            wire::MeshSide::Destination => MeshSide::Destination,
            wire::MeshSide::Unspecified => return None,
        };
        let ends = Self { source: party(source?)?, destination: party(destination?)?, side };
        let seer = match side {
            MeshSide::Source => &ends.source,
            MeshSide::Destination => &ends.destination,
        };
        let is_own = match seer.kind {
            PartyKind::Workload => seer.spiffe_id.is_empty() || is_of(&seer.spiffe_id, domain),
            // Agents fold as well.
            PartyKind::Others => true,
            PartyKind::Elsewhere | PartyKind::Outside | PartyKind::Unknown => false,
        };
        is_own.then_some(ends)
    }

    /// Whose part of the audit a call takes.
    pub(super) fn payer(&self) -> String {
        payer(&self.source.namespace, &self.source.spiffe_id, &self.destination.namespace)
    }

    /// Whether the destination's own proxy tells of the call too: it is a pod of the same cluster, and was reached in a tunnel of ours. Who is
    /// refused in it does not always know as whom the destination has proven itself.
    pub(super) fn is_seen_by_destination(&self, wire: &str, domain: &TrustDomain) -> bool {
        let id = &self.destination.spiffe_id;
        self.side == MeshSide::Source
            && wire == OUR_WIRE
            && self.destination.kind == PartyKind::Workload
            && (id.is_empty() || is_of(id, domain))
    }
}

/// Whether an ID is of a trust domain.
fn is_of(id: &str, domain: &TrustDomain) -> bool {
    id.parse::<SpiffeId>().is_ok_and(|id| id.trust_domain() == domain.as_str())
}

fn party(told: &wire::MeshParty) -> Option<MeshParty> {
    let id = match told.spiffe_id.as_str() {
        "" => String::new(),
        id => id.parse::<SpiffeId>().ok()?.to_string(),
    };
    match told.kind() {
        MeshPartyKind::Pod => {
            let namespace: Namespace = told.namespace.parse().ok()?;
            // Who makes pods writes their owner: what cannot be read is not known, and the rest counts.
            let owner = name(&told.owner_kind).zip(name(&told.owner_name));
            let owner = owner.filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
            let (owner_kind, owner_name) = owner.unwrap_or_default();
            Some(MeshParty {
                kind: PartyKind::Workload,
                namespace: namespace.to_string(),
                owner_kind,
                owner_name,
                spiffe_id: id,
            })
        }
        MeshPartyKind::Elsewhere => (!id.is_empty()).then_some(MeshParty {
            kind: PartyKind::Elsewhere,
            spiffe_id: id,
            ..MeshParty::default()
        }),
        MeshPartyKind::Outside => {
            Some(MeshParty { kind: PartyKind::Outside, ..MeshParty::default() })
        }
        MeshPartyKind::Others => {
            let namespace: Option<Namespace> = told.namespace.parse().ok();
            let namespace = namespace.map(|it| it.to_string()).unwrap_or_default();
            Some(MeshParty::others(&namespace))
        }
        MeshPartyKind::Unspecified => Some(MeshParty::default()),
    }
}

/// The address of an end, where one was told.
pub(super) fn address(told: Option<&wire::MeshParty>) -> Option<IpAddr> {
    let text = told?.address.as_str();
    let with_port = |text: &str| text.parse::<std::net::SocketAddr>().map(|it| it.ip());
    text.parse().or_else(|_| with_port(text)).ok()
}

/// A name of Kubernetes: no slash, nothing that a reader would take for more than a name.
pub(super) fn name(text: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    (text.len() <= NAME && text.chars().all(legal)).then(|| text.to_owned())
}

/// `NAMESPACE/NAME` of a Service, or nothing.
pub(super) fn service(text: &str) -> Option<String> {
    match text.split_once('/') {
        None if text.is_empty() => Some(String::new()),
        Some((namespace, of)) if !namespace.is_empty() && !of.is_empty() => {
            Some(format!("{}/{}", name(namespace)?, name(of)?))
        }
        _ => None,
    }
}

/// A closed word: lower-case letters, digits and `-`.
pub(super) fn word(text: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (text.len() <= WORD && text.chars().all(legal)).then(|| text.to_owned())
}

/// Text for people, cut, that drives no terminal.
pub(super) fn text(of: &str) -> String {
    display_safe(&cut(of, TEXT)).into_owned()
}
