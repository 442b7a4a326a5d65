//! What processes take of the machine, read from /proc.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

/// Units of processor time a second; the kernel shows all programs the same on every machine.
const TICKS: f64 = 100.0;

/// The process of one role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Resident memory in KiB.
    pub(crate) fn resident_kib(self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .with_context(|| format!("process {} has ended", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.with_context(|| format!("process {} has no memory", self.0))
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu_seconds(self) -> Result<f64> {
        let [user, system, _] = self.ticks()?;
        Ok((user + system) / TICKS)
    }

    /// When it began, to a hundredth of a second.
    pub(crate) fn started(self) -> Result<SystemTime> {
        let [.., started] = self.ticks()?;
        let uptime = fs::read_to_string("/proc/uptime").context("the kernel tells no uptime")?;
        let now = SystemTime::now();
        let up: Option<f64> = uptime.split_whitespace().next().and_then(|text| text.parse().ok());
        let age = up.context("the kernel tells no uptime")? - started / TICKS;
        Ok(now - Duration::from_secs_f64(age.max(0.0)))
    }

    /// Of processor time, its own and the kernel's, and of the machine's life when it began.
    fn ticks(self) -> Result<[f64; 3]> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))
            .with_context(|| format!("process {} has ended", self.0))?;
        // The name may hold spaces and brackets; fields are counted from behind it, where the state is the first.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let fields: Vec<f64> =
            fields.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        let field = |at: usize| fields.get(at).copied();
        let ticks = field(11).zip(field(12)).zip(field(19));
        let ((user, system), started) = ticks.context("the kernel tells no times")?;
        Ok([user, system, started])
    }
}

/// The processes that run `nullius agent ROLE` for the hub at this address, in pods or beside.
pub(crate) fn agents(hub_address: &str, role: &str) -> Vec<Process> {
    let hub = format!("NULLIUS_HUB={hub_address}");
    let has = |pid: u32, file: &str, wanted: &[&str]| {
        fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| {
            let words: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
            wanted.iter().all(|wanted| words.contains(&wanted.as_bytes()))
        })
    };
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| has(*pid, "cmdline", &["agent", role]) && has(*pid, "environ", &[&hub]))
        .map(Process)
        .collect()
}

/// The machine, in words.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let model = value(&read("/proc/cpuinfo"), "model name").unwrap_or("processor".to_owned());
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.and_then(|kib| kib.trim_end_matches(" kB").parse::<f64>().ok());
    let gib = memory.unwrap_or_default() / 1024.0 / 1024.0;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, {gib:.0} GiB, Linux {}", kernel.trim())
}

/// How much of the processors others use, in per cent, over a second.
pub(crate) fn busy_percent() -> f64 {
    let sample = || {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let fields: Vec<f64> =
            first.split_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
        let idle =
            fields.get(3).copied().unwrap_or_default() + fields.get(4).copied().unwrap_or_default();
        (fields.iter().sum::<f64>(), idle)
    };
    let (all, idle) = sample();
    thread::sleep(Duration::from_secs(1));
    let (all_later, idle_later) = sample();
    let passed = (all_later - all).max(1.0);
    100.0 * (1.0 - (idle_later - idle) / passed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn this_process_has_memory_and_used_time() {
        let this = Process(std::process::id());
        assert!(this.resident_kib().unwrap() > 500.0);
        assert!(this.cpu_seconds().unwrap() >= 0.0);
        let age = this.started().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(3_600), "{age:?}");
        assert!(machine().contains("cores"));
    }
}
