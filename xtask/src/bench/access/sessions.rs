//! The first request of a session, and what its end does to requests and live streams.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use hyper::{StatusCode, body::Incoming};
use nullius_api::route;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use super::latency::timed;
use crate::bench::{
    client::{Line, Way},
    report::{Goal, Row},
    stats::Figure,
    upgrade::Exec,
    world::{POD, SMALL, Session, World},
};

const WARM: usize = 5;
const WATCHES: usize = 5;
const EXECS: usize = 2;
/// What has not ended by then is an error, not a slow end.
const PATIENCE: Duration = Duration::from_secs(30);
const WATCH: &str = "/api/v1/namespaces/shop/configmaps?watch=true&timeoutSeconds=900";

/// Milliseconds of all rounds.
#[derive(Default)]
struct Samples {
    cold: Vec<f64>,
    warm: Vec<f64>,
    direct: Vec<f64>,
    refused: Vec<f64>,
    cut: Vec<f64>,
    served_late: usize,
}

pub(super) fn run(world: &World) -> Result<Vec<Row>> {
    let mut samples = Samples::default();
    for round in 0..world.sizes.rounds {
        let person = world.person(&format!("bench-{round}"))?;
        world.runtime.block_on(async {
            let session = world.sign_in(&person).await?;
            access(world, &session.way, &mut samples).await?;
            end(session, &mut samples).await
        })?;
    }
    let Samples { cold, warm, direct, refused, cut, served_late } = samples;
    let direct = Figure::with_quartiles(&direct, 50.0);
    #[expect(clippy::cast_precision_loss, reason = "a few requests")]
    let late = Figure::once(served_late as f64);
    Ok(vec![
        Row::new(
            "first request of a session (TLS, credentials made in the cluster), p50",
            "ms",
            Figure::with_quartiles(&cold, 50.0),
        )
        .peer("direct", direct)
        .goal(Goal::Below(150.0)),
        Row::new(
            "first request of a process in a session that stands (TLS), p50",
            "ms",
            Figure::with_quartiles(&warm, 50.0),
        )
        .peer("direct", direct)
        .goal(Goal::Below(20.0)),
        Row::new(
            "logout sent → first refusal received, p50",
            "ms",
            Figure::with_quartiles(&refused, 50.0),
        )
        .goal(Goal::Below(10.0)),
        Row::new(
            "requests served that were sent after the logout was answered",
            "of all rounds",
            late,
        )
        .goal(Goal::Holds("0", served_late == 0)),
        Row::new(
            format!("logout sent → live watches and execs cut, p99 of {}", cut.len()),
            "ms",
            Figure::with_quartiles(&cut, 99.0),
        )
        .goal(Goal::Below(1000.0)),
    ])
}

async fn access(world: &World, way: &Way, samples: &mut Samples) -> Result<()> {
    let mut ours = async || way.connect().await?.get(SMALL).await.map(drop);
    samples.cold.push(timed(&mut ours).await?);
    let mut past = async || world.direct.connect().await?.get(SMALL).await.map(drop);
    for _ in 0..WARM {
        samples.warm.push(timed(&mut ours).await?);
        samples.direct.push(timed(&mut past).await?);
    }
    Ok(())
}

/// Opens streams, logs out while requests go on, and takes the times.
async fn end(session: Session, samples: &mut Samples) -> Result<()> {
    let line = session.way.connect().await?;
    let poller = session.way.connect().await?;
    let mut streams = JoinSet::new();
    for _ in 0..WATCHES {
        let watch = line.open(WATCH).await?;
        streams.spawn(async move {
            drain(watch).await;
            Instant::now()
        });
    }
    for _ in 0..EXECS {
        let exec = Exec::start(&session.way, POD, &["sleep", "600"]).await?;
        streams.spawn(async move {
            exec.ended().await;
            Instant::now()
        });
    }
    let goes_on = Arc::new(Barrier::new(2));
    let polled = tokio::spawn(poll(poller, Arc::clone(&goes_on)));
    goes_on.wait().await;
    let sent = Instant::now();
    session.hub.post(route::LOGOUT, &json!({})).await?;
    let answered = Instant::now();
    let polled = tokio::time::timeout(PATIENCE, polled).await.context("still served")???;
    samples.refused.push(polled.refused.duration_since(sent).as_secs_f64() * 1000.0);
    samples.served_late += polled.served.iter().filter(|began| **began > answered).count();
    while let Some(ended) = tokio::time::timeout(PATIENCE, streams.join_next())
        .await
        .context("streams go on after the logout")?
    {
        let ended = ended?;
        if ended < sent {
            bail!("a stream ended before the logout");
        }
        samples.cut.push(ended.duration_since(sent).as_secs_f64() * 1000.0);
    }
    Ok(())
}

/// When requests began that were served, and when the first refusal came.
struct Polled {
    served: Vec<Instant>,
    refused: Instant,
}

/// One request after the other until one is refused; meets the other side after the first.
async fn poll(line: Line, goes_on: Arc<Barrier>) -> Result<Polled> {
    let mut served = Vec::new();
    loop {
        let began = Instant::now();
        match line.try_get(SMALL).await? {
            (StatusCode::OK, _) => served.push(began),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                return Ok(Polled { served, refused: Instant::now() });
            }
            (status, body) => bail!("answered {status}: {}", String::from_utf8_lossy(&body)),
        }
        if served.len() == 1 {
            goes_on.wait().await;
        }
    }
}

async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
