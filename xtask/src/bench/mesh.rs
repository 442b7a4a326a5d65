//! `cargo xtask bench mesh`: what two proxies cost between two workloads, in turns with the same without them and with two Envoys.

mod apps;
mod envoy;
mod load;
mod ways;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;

use super::{
    Effort,
    report::{Goal, Row},
    stats::{Figure, percentile},
};
pub(super) use ways::authority;

use apps::Apps;
use load::{Load, Speaks};
use ways::{Way, Ways};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
A client, a proxy of its workload, the destination's proxy and its application, all on loopback of one machine that also runs the load generator. \
Ours is `nullius proxy` twice, mutual TLS 1.3 with X25519MLKEM768 and HTTP/2 CONNECT between them, and an intention that is asked; the peer is Envoy \
twice with mutual TLS, certificates of the same authority, the same checks of the other's SPIFFE ID, one worker for each core. L4 is 1 KiB there and 1 KiB back on \
standing connections; L7 is HTTP/1.1 GETs with an answer of 1 KiB, each decided at the destination by method and path (in Envoy by its RBAC filter, with HTTP/2 between \
the two). Ways take turns in rounds, `ours` is the median of the rounds; processor time is that of both proxies. Access logs are off unless the row says otherwise.";

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;

/// How much is measured.
#[derive(Clone, Copy)]
struct Sizes {
    rounds: usize,
    block: Duration,
    connects: usize,
    tunnels: usize,
    bulk_bytes: u64,
    cuts: usize,
}

impl Sizes {
    fn of(effort: Effort) -> Self {
        match effort {
            Effort::Quick => Self {
                rounds: 1,
                block: Duration::from_millis(300),
                connects: 50,
                tunnels: 20,
                bulk_bytes: 64 << 20,
                cuts: 2,
            },
            Effort::Full => Self {
                rounds: 7,
                block: Duration::from_secs(2),
                connects: 500,
                tunnels: 200,
                bulk_bytes: 4 << 30,
                cuts: 25,
            },
        }
    }
}

/// Measures; `envoy` is its program.
pub(super) fn run(binary: &Path, envoy: &Path, effort: Effort) -> Result<Vec<Row>> {
    let sizes = Sizes::of(effort);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let apps = runtime.block_on(Apps::start())?;
    let ways = Ways::start(&runtime, binary, envoy, &apps, sizes.tunnels)?;
    let mut rows = Vec::new();
    rows.extend(standing(&runtime, &ways, sizes, Speaks::Bytes, &Goals::L4).context("L4")?);
    rows.extend(standing(&runtime, &ways, sizes, Speaks::Http, &Goals::L7).context("L7")?);
    rows.push(logged(&runtime, &ways, sizes)?);
    rows.extend(memory(&ways)?);
    rows.push(connects(&runtime, &ways, sizes)?);
    rows.extend(tunnels(&runtime, &ways, sizes)?);
    rows.extend(bulk(&runtime, &ways, sizes)?);
    rows.push(cuts(&runtime, &ways, sizes)?);
    Ok(rows)
}

/// What standing connections are to reach.
struct Goals {
    name: &'static str,
    microseconds: f64,
    of_direct: f64,
    milliseconds: f64,
}

impl Goals {
    const L4: Self =
        Self { name: "L4 mTLS", microseconds: 30.0, of_direct: 0.42, milliseconds: 0.45 };
    const L7: Self =
        Self { name: "L7 with policy", microseconds: 55.0, of_direct: 0.28, milliseconds: 0.75 };
}

/// What a way gave in the rounds.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    milliseconds: Vec<f64>,
    microseconds: Vec<f64>,
}

impl Measured {
    fn block(
        &mut self,
        runtime: &Runtime,
        way: &Way,
        speaks: Speaks,
        block: Duration,
    ) -> Result<()> {
        let address = way.address(speaks);
        let before = way.cpu_seconds()?;
        let load = runtime.block_on(Load::run(address, speaks, CONNECTIONS, block))?;
        let cpu = way.cpu_seconds()? - before;
        ensure!(load.requests() > 0, "{} answered nothing", way.name());
        self.per_second.push(load.per_second());
        self.milliseconds.push(percentile(load.milliseconds(), 50.0));
        self.microseconds.push(cpu * 1e6 / load.requests() as f64);
        Ok(())
    }
}

/// Requests on standing connections.
fn standing(
    runtime: &Runtime,
    ways: &Ways,
    sizes: Sizes,
    speaks: Speaks,
    goals: &Goals,
) -> Result<Vec<Row>> {
    let mut of = [Measured::default(), Measured::default(), Measured::default()];
    // The first requests warm what is made once.
    for way in ways.all() {
        runtime.block_on(Load::run(way.address(speaks), speaks, CONNECTIONS, sizes.block / 4))?;
    }
    for _ in 0..sizes.rounds {
        for (measured, way) in of.iter_mut().zip(ways.all()) {
            measured.block(runtime, way, speaks, sizes.block)?;
        }
    }
    let [direct, ours, envoy] = of;
    let share = |of: &Measured| -> Vec<f64> {
        of.per_second.iter().zip(&direct.per_second).map(|(way, direct)| way / direct).collect()
    };
    let name = goals.name;
    Ok(vec![
        Row::new(
            format!("{name}, {CONNECTIONS} connections: processor time for a request"),
            "µs",
            Figure::of(&ours.microseconds),
        )
        .peer("Envoy", Figure::of(&envoy.microseconds))
        .goal(Goal::Below(goals.microseconds)),
        Row::new(
            format!("{name}, {CONNECTIONS} connections: requests a second, of direct"),
            "×",
            Figure::of(&share(&ours)),
        )
        .peer("Envoy", Figure::of(&share(&envoy)))
        .goal(Goal::Above(goals.of_direct)),
        Row::new(
            format!("{name}, {CONNECTIONS} connections: p50"),
            "ms",
            Figure::of(&ours.milliseconds),
        )
        .peer("Envoy", Figure::of(&envoy.milliseconds))
        .goal(Goal::Below(goals.milliseconds)),
    ])
}

/// L7 with a line of the access log for each request.
fn logged(runtime: &Runtime, ways: &Ways, sizes: Sizes) -> Result<Row> {
    let mut measured = Measured::default();
    for _ in 0..sizes.rounds.min(3) {
        measured.block(runtime, ways.logged(), Speaks::Http, sizes.block)?;
    }
    Ok(Row::new(
        format!(
            "L7 with policy and access log, {CONNECTIONS} connections: processor time for a request"
        ),
        "µs",
        Figure::of(&measured.microseconds),
    ))
}

fn memory(ways: &Ways) -> Result<Vec<Row>> {
    let of = |way: &Way| Ok::<_, anyhow::Error>(Figure::once(way.resident_kib()? / 1024.0));
    Ok(vec![
        Row::new("memory of both proxies after that load", "MiB", of(ways.ours())?)
            .peer("Envoy", of(ways.envoy())?)
            .goal(Goal::Below(20.0)),
    ])
}

/// A new connection of the application, one request and its answer, where the proxies know each other already.
fn connects(runtime: &Runtime, ways: &Ways, sizes: Sizes) -> Result<Row> {
    let mut ours = Vec::new();
    let mut envoy = Vec::new();
    for _ in 0..sizes.rounds {
        let block = |way: &Way, speaks, of: &mut Vec<f64>| -> Result<()> {
            let times =
                runtime.block_on(load::connects(way.address(speaks), speaks, sizes.connects))?;
            of.push(percentile(&times, 50.0) * 1e3);
            Ok(())
        };
        block(ways.ours(), Speaks::Bytes, &mut ours)?;
        block(ways.envoy(), Speaks::Http, &mut envoy)?;
    }
    Ok(Row::new("new connection in a warm tunnel, request, answer: p50", "µs", Figure::of(&ours))
        .peer("Envoy (L7, HTTP/2 between)", Figure::of(&envoy))
        .goal(Goal::Below(150.0)))
}

/// A tunnel that is dialled for the first connection, and what an idle one takes.
fn tunnels(runtime: &Runtime, ways: &Ways, sizes: Sizes) -> Result<Vec<Row>> {
    let before = ways.ours().resident_kib()?;
    let mut times = Vec::new();
    for address in ways.tunnels() {
        times.extend(runtime.block_on(load::connects(*address, Speaks::Bytes, 1))?);
    }
    let each = (ways.ours().resident_kib()? - before) / ways.tunnels().len().max(1) as f64;
    let microseconds: Vec<f64> = times.iter().map(|millis| millis * 1e3).collect();
    // Envoy's TCP proxy dials for each connection.
    let address = ways.envoy().address(Speaks::Bytes);
    let peer = runtime.block_on(load::connects(address, Speaks::Bytes, sizes.tunnels))?;
    let peer: Vec<f64> = peer.iter().map(|millis| millis * 1e3).collect();
    Ok(vec![
        Row::new(
            "new tunnel (TLS with ML-KEM), request, answer: p50",
            "µs",
            Figure::with_quartiles(&microseconds, 50.0),
        )
        .peer("Envoy", Figure::with_quartiles(&peer, 50.0))
        .goal(Goal::Below(500.0)),
        Row::new(
            format!("memory of an idle tunnel at both ends, of {}", ways.tunnels().len()),
            "KiB",
            Figure::once(each),
        )
        .goal(Goal::Below(7.0)),
    ])
}

fn bulk(runtime: &Runtime, ways: &Ways, sizes: Sizes) -> Result<Vec<Row>> {
    let mut of = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..sizes.rounds.min(3) {
        for (speeds, way) in of.iter_mut().zip(ways.all()) {
            let seconds = runtime.block_on(load::bulk(way.bulk(), sizes.bulk_bytes))?;
            speeds.push(sizes.bulk_bytes as f64 * 8.0 / seconds / 1e9);
        }
    }
    let [direct, ours, envoy] = of.map(|speeds| Figure::of(&speeds));
    Ok(vec![
        Row::new("one bulk stream, mTLS", "Gbit/s", ours)
            .peer("Envoy", envoy)
            .goal(Goal::Above(10.0)),
        Row::new("one bulk stream, direct", "Gbit/s", direct),
    ])
}

/// From the writing of the policy until a live connection is cut.
fn cuts(runtime: &Runtime, ways: &Ways, sizes: Sizes) -> Result<Row> {
    let mut times = Vec::new();
    for _ in 0..sizes.cuts {
        times.push(runtime.block_on(ways.cut())?);
    }
    Ok(Row::new(
        format!("policy file written → live connection cut, p99 of {}", sizes.cuts),
        "ms",
        Figure { median: percentile(&times, 99.0), ..Figure::of(&times) },
    )
    .goal(Goal::Below(1_000.0)))
}
