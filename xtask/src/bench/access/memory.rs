//! Memory of hub and agents: idle, and for each idle watch.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{
    process::Process,
    report::{Goal, Row},
    stats::Figure,
    world::{World, settle},
};

/// Watches that stand before counting begins, so that what is made once is not counted.
const BEFOREHAND: usize = 50;
/// Watches on one connection: fewer than a server allows.
const ON_ONE_CONNECTION: usize = 100;
const WATCH: &str = "/api/v1/namespaces/shop/configmaps?watch=true&timeoutSeconds=900&fieldSelector=metadata.name%3Dnone";

pub(super) fn idle(world: &World) -> Result<Vec<Row>> {
    settle(Duration::from_secs(5));
    let row = |what: &str, processes: &[Process], goal: f64| -> Result<Row> {
        let mib: Result<Vec<f64>> =
            processes.iter().map(|process| Ok(process.resident_kib()? / 1024.0)).collect();
        Ok(Row::new(format!("{what}, idle: resident memory"), "MiB", Figure::of(&mib?))
            .goal(Goal::Below(goal)))
    };
    Ok(vec![
        row("hub", &[world.hub_process()?], 40.0)?,
        row("agent proxy", &world.agents("proxy")?, 20.0)?,
        row("agent control", &world.agents("control")?, 20.0)?,
    ])
}

pub(super) fn watches(world: &World) -> Result<Vec<Row>> {
    let session = world.session("bench-watches")?;
    let hub = [world.hub_process()?];
    let proxies = world.agents("proxy")?;
    let open = async |count: usize| -> Result<Vec<_>> {
        let mut watches = Vec::with_capacity(count);
        let mut line = session.way.connect().await?;
        for number in 0..count {
            if number % ON_ONE_CONNECTION == 0 {
                line = session.way.connect().await?;
            }
            watches.push(line.open(WATCH).await?);
        }
        Ok(watches)
    };
    let count = world.sizes.watches;
    let standing = world.runtime.block_on(open(BEFOREHAND))?;
    settle(Duration::from_secs(2));
    let before = (resident(&hub)?, resident(&proxies)?);
    let watched = world.runtime.block_on(open(count))?;
    settle(Duration::from_secs(3));
    let after = (resident(&hub)?, resident(&proxies)?);
    drop((standing, watched));
    #[expect(clippy::cast_precision_loss, reason = "a few hundred watches")]
    let each = |before: f64, after: f64| Figure::once(((after - before) / count as f64).max(0.0));
    let row = |what: &str, figure| {
        let what = format!("{what}: memory for an idle watch, of {count} (with its share of TLS)");
        Row::new(what, "KiB", figure).goal(Goal::Below(40.0))
    };
    Ok(vec![row("hub", each(before.0, after.0)), row("agent proxy", each(before.1, after.1))])
}

fn resident(processes: &[Process]) -> Result<f64> {
    processes.iter().map(|process| process.resident_kib()).sum()
}
