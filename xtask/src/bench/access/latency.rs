//! How long one thing takes through hub and agent and directly, in turns.

use std::time::Instant;

use anyhow::Result;

use crate::bench::{
    report::{Goal, Row},
    stats::{Blocks, Figure},
    upgrade::Exec,
    world::{POD, SMALL, World},
};

const BLOCKS: usize = 5;
const WARM_UP: usize = 100;

pub(super) fn small_get(world: &World) -> Result<Vec<Row>> {
    let session = world.session("bench-latency")?;
    let each = (world.sizes.requests / BLOCKS).max(1);
    let (ours, direct) = world.runtime.block_on(async {
        let ours = session.way.connect().await?;
        let direct = world.direct.connect().await?;
        for _ in 0..WARM_UP {
            ours.get(SMALL).await?;
            direct.get(SMALL).await?;
        }
        in_turns(
            each,
            async || ours.get(SMALL).await.map(drop),
            async || direct.get(SMALL).await.map(drop),
        )
        .await
    })?;
    let mut rows = Vec::new();
    for (percent, name, goal) in [(50.0, "p50", 1.0), (99.0, "p99", 5.0)] {
        let (ours, direct) = (ours.percentiles(percent), direct.percentiles(percent));
        let added: Vec<f64> =
            ours.iter().zip(&direct).map(|(ours, direct)| ours - direct).collect();
        let what = format!("small GET on a standing connection, {name}");
        rows.push(Row::new(what, "ms", Figure::of(&ours)).peer("direct", Figure::of(&direct)));
        let what = format!("of it added by hub and agent, {name}");
        rows.push(Row::new(what, "ms", Figure::of(&added)).goal(Goal::Below(goal)));
    }
    Ok(rows)
}

pub(super) fn exec(world: &World) -> Result<Vec<Row>> {
    let session = world.session("bench-exec")?;
    let each = world.sizes.execs.div_ceil(BLOCKS);
    let (ours, direct) = world.runtime.block_on(async {
        Exec::start(&session.way, POD, &["true"]).await?.finish().await?;
        in_turns(
            each,
            async || Exec::start(&session.way, POD, &["true"]).await?.finish().await,
            async || Exec::start(&world.direct, POD, &["true"]).await?.finish().await,
        )
        .await
    })?;
    let figure = |blocks: &Blocks| Figure::of(&blocks.percentiles(50.0));
    let what = "exec of `true` over WebSocket, from dialling to its status, p50";
    Ok(vec![Row::new(what, "ms", figure(&ours)).peer("direct", figure(&direct))])
}

/// Milliseconds of each, in blocks; one after the other in turns, so that what disturbs the machine disturbs both.
async fn in_turns(
    each: usize,
    mut ours: impl AsyncFnMut() -> Result<()>,
    mut direct: impl AsyncFnMut() -> Result<()>,
) -> Result<(Blocks, Blocks)> {
    let (mut all_ours, mut all_direct) = (Blocks::default(), Blocks::default());
    for _ in 0..BLOCKS {
        let mut block = (Vec::with_capacity(each), Vec::with_capacity(each));
        for _ in 0..each {
            block.0.push(timed(&mut ours).await?);
            block.1.push(timed(&mut direct).await?);
        }
        all_ours.add(block.0);
        all_direct.add(block.1);
    }
    Ok((all_ours, all_direct))
}

/// Milliseconds that it takes.
pub(super) async fn timed(work: &mut impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work().await?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
