//! `kubectl cp` of one large file, both ways, with the same bytes at the end.

use std::{
    fs::File,
    io::{BufReader, Read, Write as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};
use nullius_testkit::Kubectl;
use sha2::{Digest as _, Sha256};

use crate::bench::{
    report::{Goal, Row},
    stats::Figure,
    world::World,
};

const CHUNK: usize = 1 << 20;

pub(super) fn run(world: &World) -> Result<Vec<Row>> {
    let mib = world.sizes.megabytes;
    let directory = world.scratch("copy")?;
    let (file, back) = (directory.join("file"), directory.join("back"));
    let digest = write_file(&file, mib)?;
    let (ours, direct) = (world.kubectl()?, world.cluster.kubectl()?);
    let direct_up = copy(&direct, &file.display().to_string(), "shop/bench:/data/direct")?;
    let direct_down = copy(&direct, "shop/bench:/data/direct", &back.display().to_string())?;
    direct.ok(&["-n", "shop", "exec", "bench", "--", "rm", "/data/direct"])?;
    std::fs::remove_file(&back)?;
    let up = copy(&ours, &file.display().to_string(), "shop/bench:/data/ours")?;
    let there = direct.ok(&["-n", "shop", "exec", "bench", "--", "sha256sum", "/data/ours"])?;
    let arrived = there.split_whitespace().next() == Some(digest.as_str());
    let down = copy(&ours, "shop/bench:/data/ours", &back.display().to_string())?;
    let came_back = digest_of(&back)? == digest;
    std::fs::remove_dir_all(&directory)?;
    direct.ok(&["-n", "shop", "exec", "bench", "--", "rm", "/data/ours"])?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand MiB")]
    let rate = |seconds: f64| Figure::once(mib as f64 / seconds);
    let row = |way: &str, ours, direct, equal| {
        Row::new(format!("`kubectl cp` of {mib} MiB {way} a pod"), "MiB/s", rate(ours))
            .peer("direct", rate(direct))
            .goal(Goal::Holds("sha256 equal", equal))
    };
    Ok(vec![row("into", up, direct_up, arrived), row("out of", down, direct_down, came_back)])
}

/// Seconds that it takes.
fn copy(kubectl: &Kubectl, from: &str, to: &str) -> Result<f64> {
    let began = Instant::now();
    kubectl.ok(&["cp", from, to])?;
    Ok(began.elapsed().as_secs_f64())
}

/// Writes bytes that do not repeat; gives their digest.
fn write_file(path: &Path, mib: usize) -> Result<String> {
    let mut file = File::create(path).with_context(|| format!("`{}`", path.display()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mib {
        for word in chunk.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hash.update(&chunk);
        file.write_all(&chunk)?;
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn digest_of(path: &Path) -> Result<String> {
    let mut file = BufReader::with_capacity(CHUNK, File::open(path)?);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&chunk[..read]);
    }
}
