//! `cargo xtask bench access`: what hub and agent cost between a person and an API server.

mod copy;
mod latency;
mod memory;
mod sessions;
mod throughput;

use anyhow::{Context as _, Result};

use super::{report::Row, world::World};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
Hub and agents are the release build: the hub a process, `agent proxy` and `agent control` pods on the cluster's node. \
One client speaks HTTP/2 (WebSocket for exec) with a bearer token to the hub, and with the token of a ServiceAccount \
that may do the same to the API server, in turns and without resuming TLS sessions. All of it, etcd and the load \
generator too, share the machine. `ours` is the median of the runs and `spread` their least and most, except for what \
ends with a session, where it is the first and third quartile. For requests against the *stub*, the agent's pod is \
pointed at a server with a certificate of the same cluster that answers a fixed small object and costs next to \
nothing; sessions, tokens, decisions, assertions and audit are the real ones.";

/// A group of rows that can be had alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Memory of idle processes.
    Idle,
    /// Memory of idle watches.
    Watches,
    /// Added latency of a small request.
    Latency,
    /// Exec, from dialling to the command's status.
    Exec,
    /// First access of a session, and what a logout does.
    Sessions,
    /// `kubectl cp`.
    Copy,
    /// Requests a second of the API server.
    Load,
    /// Requests and upgrades a second of a stub.
    Stub,
}

/// All parts in the order that disturbs least: memory before load, and last what takes the agent off the cluster.
const PARTS: [Part; 8] = [
    Part::Idle,
    Part::Watches,
    Part::Latency,
    Part::Exec,
    Part::Sessions,
    Part::Copy,
    Part::Load,
    Part::Stub,
];

/// Runs the parts, or only these.
pub(crate) fn run(world: &World, only: &[Part]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for part in PARTS.into_iter().filter(|part| only.is_empty() || only.contains(part)) {
        eprintln!("bench: {part:?}");
        let measured = match part {
            Part::Idle => memory::idle(world),
            Part::Watches => memory::watches(world),
            Part::Latency => latency::small_get(world),
            Part::Exec => latency::exec(world),
            Part::Sessions => sessions::run(world),
            Part::Copy => copy::run(world),
            Part::Load => throughput::of_api_server(world),
            Part::Stub => throughput::of_stub(world),
        };
        rows.extend(measured.with_context(|| format!("the part {part:?}"))?);
    }
    Ok(rows)
}
