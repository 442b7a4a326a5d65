//! Intentions: who may call which workload, and with what requests, decided at the destination.
//!
//! [`Intention::read`] takes an object strictly, [`RuleSet`] holds all that is for one destination, [`RuleSet::accept`] judges a
//! connection and leaves, where requests decide, the rules of that one source. [`Head::read`] reads a request in exactly one
//! way, or says why it cannot be. Nothing here makes a permit: `nullius-policy` seals what comes out.

#![forbid(unsafe_code)]

mod accept;
mod api;
mod condition;
mod consul;
mod declared;
mod destination;
mod explain;
mod imported;
mod intention;
mod istio;
mod labels;
mod later;
mod limits;
mod local;
mod matchers;
mod origin;
mod path;
mod permission;
mod read;
mod request;
mod requests;
mod set;
mod source;
mod weight;

pub use nullius_fields::{Fault, nearest};

pub use accept::{Accept, By, Connection, Protocol, Ruling, Stand, Verdict, View};
pub use api::{Api, ApiSchema, BodyChecks, BodyJudged, Held, Undeclared};
pub use consul::{Services, import_consul};
pub use declared::{DeclaredIssuer, DeclaredKeys};
pub use destination::{Destination, Workload};
pub use explain::{explain_body, explain_connection, explain_request};
pub use imported::{Imported, ImportedIntention, Remark};
pub use intention::{Intention, Reach, Rule, Tier};
pub use istio::{Istio, import_istio};
pub use labels::{Labels, Rest, Selection};
pub use limits::{Limit, Per};
pub use local::Destinations;
pub use matchers::Token;
pub use origin::{Home, Origin, SYSTEM_NAMESPACE};
pub use path::{Malformed, Reads};
pub use permission::Permission;
pub use request::{Head, Request, Version};
pub use requests::Judged;
pub use set::{Intentions, RuleSet};
pub use source::Subject;
pub use weight::weight_of_expressions;
