//! Requests and upgrades a second: against the real API server, and against a stub that costs next to nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nullius_testkit::wait_until;
use tokio::task::JoinSet;

use crate::bench::{
    client::{Line, Way},
    process::Process,
    report::{Goal, Row},
    stats::Figure,
    stub::Stub,
    upgrade,
    world::{POD, SMALL, Session, World},
};

const RUNS: usize = 3;
/// Requests at a time where it is not a question of how many.
const MOST: usize = 64;
const UPGRADES: usize = 16;
const WARM_UP: Duration = Duration::from_millis(300);
const PROXY: &str = "deployment/nullius-agent-proxy";

pub(super) fn of_api_server(world: &World) -> Result<Vec<Row>> {
    let session = world.session("bench-load")?;
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(load(world, &session.way, MOST)?.per_second);
        direct.push(load(world, &world.direct, MOST)?.per_second);
    }
    let what = format!("small GETs, {MOST} at a time, of the API server");
    Ok(vec![Row::new(what, "requests/s", Figure::of(&ours)).peer("direct", Figure::of(&direct))])
}

pub(super) fn of_stub(world: &World) -> Result<Vec<Row>> {
    let session = world.session("bench-stub")?;
    let stub = Stub::start(world)?;
    let direct = Way::new(&stub.server, "", "stub")?;
    put_behind(&stub, world, &session)?;
    let mut rows = against_stub(world, &session, &direct)?;
    rows.push(upgrades(world, &session, &direct)?);
    Ok(rows)
}

fn against_stub(world: &World, session: &Session, stub: &Way) -> Result<Vec<Row>> {
    let hub = [world.hub_process()?];
    let proxies = world.agents("proxy")?;
    let mut rows = Vec::new();
    for &streams in &world.sizes.streams {
        let (mut ours, mut direct) = (Vec::new(), Vec::new());
        let (mut by_hub, mut by_agent) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let before = (cpu(&hub)?, cpu(&proxies)?);
            let load_of_ours = load(world, &session.way, streams)?;
            let micros = |seconds: f64| seconds * 1e6 / load_of_ours.requests;
            by_hub.push(micros(cpu(&hub)? - before.0));
            by_agent.push(micros(cpu(&proxies)? - before.1));
            ours.push(load_of_ours.per_second);
            direct.push(load(world, stub, streams)?.per_second);
        }
        let what = format!("small GETs, {streams} at a time, of the stub");
        let row = Row::new(what, "requests/s", Figure::of(&ours))
            .peer("stub directly", Figure::of(&direct));
        if streams < MOST {
            rows.push(row);
            continue;
        }
        rows.push(row.goal(Goal::Above(5_000.0)));
        for (who, micros) in [("hub", by_hub), ("agent", by_agent)] {
            let what = format!("processor time of the {who} for one of them");
            rows.push(Row::new(what, "µs", Figure::of(&micros)).goal(Goal::Below(100.0)));
        }
    }
    Ok(rows)
}

fn upgrades(world: &World, session: &Session, stub: &Way) -> Result<Row> {
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(upgrade_load(world, &session.way)?);
        direct.push(upgrade_load(world, stub)?);
    }
    let what =
        format!("exec sessions (TLS, SPDY upgrade, an echo), {UPGRADES} at a time, of the stub");
    Ok(Row::new(what, "sessions/s", Figure::of(&ours))
        .peer("stub directly", Figure::of(&direct))
        .goal(Goal::Above(500.0)))
}

/// What a run of load gave.
struct Load {
    per_second: f64,
    /// All requests, with those of the warm-up.
    requests: f64,
}

fn load(world: &World, way: &Way, streams: usize) -> Result<Load> {
    let lines = streams.div_ceil(16);
    world.runtime.block_on(async {
        let mut connected = Vec::with_capacity(lines);
        for _ in 0..lines {
            connected.push(way.connect().await?);
        }
        let mut run = Run::new();
        for stream in 0..streams {
            let line = connected[stream % lines].clone();
            run.spawn(Work::Get(line));
        }
        run.measure(world.sizes.seconds).await
    })
}

fn upgrade_load(world: &World, way: &Way) -> Result<f64> {
    world.runtime.block_on(async {
        let mut run = Run::new();
        for _ in 0..UPGRADES {
            run.spawn(Work::Echo(way.clone()));
        }
        Ok(run.measure(world.sizes.seconds).await?.per_second)
    })
}

/// What is repeated.
enum Work {
    Get(Line),
    Echo(Way),
}

impl Work {
    async fn once(&self) -> Result<()> {
        match self {
            Self::Get(line) => line.get(SMALL).await.map(drop),
            Self::Echo(way) => upgrade::echo(way, POD).await,
        }
    }
}

/// Tasks that repeat something and count it.
struct Run {
    tasks: JoinSet<Result<()>>,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Run {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), count: Arc::default(), stop: Arc::default() }
    }

    fn spawn(&mut self, work: Work) {
        let (count, stop) = (Arc::clone(&self.count), Arc::clone(&self.stop));
        self.tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                work.once().await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    async fn measure(mut self, seconds: f64) -> Result<Load> {
        tokio::time::sleep(WARM_UP).await;
        let (before, began) = (self.count.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let done = self.count.load(Ordering::Relaxed) - before;
        let per_second = done as f64 / began.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        Ok(Load { per_second, requests: self.count.load(Ordering::Relaxed) as f64 })
    }
}

fn cpu(processes: &[Process]) -> Result<f64> {
    processes.iter().map(|process| process.cpu_seconds()).sum()
}

/// Points the agent at the stub, and waits until only that one serves.
fn put_behind(stub: &Stub, world: &World, session: &Session) -> Result<()> {
    let before = world.agents("proxy")?.len();
    let kubectl = world.cluster.kubectl()?;
    let host = format!("KUBERNETES_SERVICE_HOST={}", stub.address.ip());
    let port = format!("KUBERNETES_SERVICE_PORT={}", stub.address.port());
    kubectl.ok(&["-n", "nullius-system", "set", "env", PROXY, &host, &port])?;
    kubectl.ok(&["-n", "nullius-system", "rollout", "status", PROXY, "--timeout=90s"])?;
    wait_until(Duration::from_secs(60), "the agents before to end", || {
        (world.agents("proxy").ok()?.len() == before).then_some(())
    })?;
    world.runtime.block_on(async {
        let line = session.way.connect().await?;
        for _ in 0..50 {
            let body = line.get(SMALL).await?;
            if !String::from_utf8_lossy(&body).contains("served-by") {
                bail!("the API server answered where the stub should");
            }
        }
        Ok(())
    })
}
