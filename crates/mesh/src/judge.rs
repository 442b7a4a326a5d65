//! Asks whether a connection may be, and asks again when what decides has changed.

use std::{net::IpAddr, sync::Arc};

use nullius_intention::{Accept, Connection, Protocol};
use nullius_model::{Explanation, PermissionId, Reason, SpiffeId, Timestamp};
use nullius_policy::{
    Accepted, ConnectionPermit, Obligation, Shadow, Verdict, Watched, decide_connection,
};
use nullius_tls::WorkloadPeer;

use crate::World;

/// A connection that somebody asks for, and that may live long.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Who calls, proven; none where nobody has proven anything.
    pub(crate) peer: Option<Arc<WorkloadPeer>>,
    /// The generation of bundles by which that was proven.
    pub(crate) generation: u64,
    /// Where the call comes from.
    pub(crate) address: IpAddr,
    /// The port of the workload.
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// What was decided, for who enforces it and for the access log.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) outcome: Outcome,
    pub(crate) told: Option<Told>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Allow(ConnectionPermit),
    Deny(Refused),
    /// Each request is decided by what is left.
    Requests(Box<Accept>),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Intentions say so.
    Decided(Reason),
    /// Nobody has proven anything, at the address of a pod of the mesh.
    MustProve,
    /// The bundle of the caller's trust domain stands behind it no more.
    NoLongerProven,
    /// The caller's SVID has ended, and this is something new.
    SvidEnded,
}

/// A decision as the access log tells it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) explanation: Explanation,
    pub(crate) permission: Option<PermissionId>,
    pub(crate) shadow: Option<Shadow>,
    /// Whether the intention wants each call known that it allows.
    pub(crate) is_recorded: bool,
}

/// Whether something begins, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Begins,
    GoesOn,
}

impl Call {
    /// Judges it by what decides at this moment.
    pub(crate) fn judge(&self, world: &World, stage: Stage, now: Timestamp) -> Judgement {
        let refused = |why| Judgement { outcome: Outcome::Deny(why), told: None };
        // Who is denied by its identity does not shed it.
        if self.peer.is_none() && world.directory.is_of_mesh(self.address) {
            return refused(Refused::MustProve);
        }
        if let Some(peer) = &self.peer {
            // An SVID may end while a connection lives; nothing new begins with it.
            if stage == Stage::Begins && now >= peer.not_after {
                return refused(Refused::SvidEnded);
            }
            if world.generation != self.generation && world.tls.still_proves(peer).is_err() {
                return refused(Refused::NoLongerProven);
            }
        }
        let connection = Connection {
            source: self.source(),
            address: self.address,
            port: self.port,
            protocol: self.protocol,
        };
        match decide_connection(Some(&world.rules), &connection, now) {
            Accepted::Requests(accept) => {
                Judgement { outcome: Outcome::Requests(accept), told: None }
            }
            Accepted::Decided(watched) => {
                let Watched { decision, shadow } = *watched;
                let told = Told {
                    explanation: decision.explanation,
                    permission: decision.permission,
                    shadow,
                    is_recorded: decision.obligations.contains(&Obligation::Record),
                };
                let outcome = match decision.verdict {
                    // What is counted must be read, though nothing of it decides.
                    Verdict::Allow(_)
                        if self.protocol == Protocol::Http
                            && !world.rules.limits(self.port).is_empty() =>
                    {
                        let accept = Box::new(world.rules.accept(&connection, now));
                        return Judgement { outcome: Outcome::Requests(accept), told: None };
                    }
                    Verdict::Allow(permit) => Outcome::Allow(permit),
                    Verdict::Deny(denial) => Outcome::Deny(Refused::Decided(denial.reason())),
                };
                Judgement { outcome, told: Some(told) }
            }
        }
    }

    /// Who calls, as far as that is proven.
    pub(crate) fn source(&self) -> Option<&SpiffeId> {
        self.peer.as_ref().map(|peer| &peer.id)
    }

    /// Whether a permit is for it.
    pub(crate) fn is_permitted_by(&self, permit: &ConnectionPermit) -> bool {
        permit.is_for(self.source(), self.address, self.port)
    }
}
