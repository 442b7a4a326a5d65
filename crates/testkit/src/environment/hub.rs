//! The hub of an environment as a process: made, started, killed and started again as it was.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{AgentPlace, Environment, PATIENCE, directory, run};
use crate::{
    api::Api,
    process::{Daemon, kill, log_tail, wait_gone},
    record::ProcessRecord,
    wait::wait_until,
};

impl Environment {
    /// Makes the hub's state; gives the first admin's enrolment token.
    pub(super) fn init_hub(&self) -> Result<String> {
        let state = self.hub_state.display().to_string();
        let args = ["hub", "init", "--state", &state, "--public-url", &self.hub_url, "-o", "json"];
        let output = run(&self.nullius, &self.homes.join("none"), &args, "")?;
        if output.code != 0 {
            bail!("`nullius hub init` failed: {}", output.stderr.trim());
        }
        let made: serde_json::Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("`nullius hub init` printed no JSON: {}", output.stdout))?;
        let ca = made["ca"].as_str().context("`nullius hub init` names no root")?;
        fs::write(&self.hub_ca, ca)?;
        let token =
            made["token"].as_str().context("`nullius hub init` gives no enrolment token")?;
        Ok(token.to_owned())
    }

    /// Starts the hub on its state and waits until it serves.
    pub(super) fn start_hub(&self, directory: &Path) -> Result<ProcessRecord> {
        let address: SocketAddr = self.hub_url.trim_start_matches("https://").parse()?;
        let log = directory.join("hub.log");
        let process = Daemon {
            name: "hub",
            program: self.nullius.clone(),
            args: self.hub_args(address),
            directory,
            log: log.clone(),
            namespace: None,
            path: Vec::new(),
        }
        .spawn()?;
        let hub = Api::anonymous(address, &self.hub_ca)?;
        wait_until(PATIENCE, "the hub", || {
            if !process.is_alive() {
                let said = log_tail(&log);
                return Some(Err(anyhow::anyhow!("the hub ended by itself:\n{said}")));
            }
            hub.get("/readyz").ok().filter(|answer| answer.status == 200).map(|_| Ok(()))
        })??;
        Ok(process)
    }

    /// A hub alone, or one with the agent of the cluster beside it.
    fn hub_args(&self, address: SocketAddr) -> Vec<String> {
        let beside = self.clusters.iter().find(|cluster| cluster.agent == AgentPlace::Beside);
        let kubeconfig = beside.map(|cluster| cluster.direct_kubeconfig.display().to_string());
        let mut args = match (beside, &kubeconfig) {
            (Some(cluster), Some(kubeconfig)) => vec![
                "up",
                "--kubeconfig",
                kubeconfig,
                "--cluster",
                &cluster.name,
                "--ceiling",
                "cluster-admin",
            ],
            _ => vec!["hub"],
        };
        let state = self.hub_state.display().to_string();
        let listen = address.to_string();
        args.extend(["--state", &state, "--listen", &listen, "--public-url", &self.hub_url]);
        args.into_iter().map(str::to_owned).collect()
    }

    /// Ends the hub with SIGKILL, as a crash would; [`Self::start_hub_again`] brings it back.
    pub fn kill_hub(&self) -> Result<()> {
        let hub = self.hub_process()?;
        if hub.is_alive() {
            kill(hub.pid);
            wait_gone(&[hub.pid], Duration::from_secs(60));
        }
        Ok(())
    }

    /// Starts the hub on its state as it was started first, in the environment of this state directory.
    pub fn start_hub_again(&mut self, state: &Path) -> Result<()> {
        let directory = directory(state);
        let hub = self.start_hub(&directory)?;
        self.processes.retain(|process| process.name != hub.name);
        self.processes.push(hub);
        self.write(&directory)
    }

    /// The hub as a process of this machine.
    pub fn hub_process(&self) -> Result<&ProcessRecord> {
        let hub = self.processes.iter().find(|process| process.name == "hub");
        hub.context("this environment has no hub of its own")
    }
}
