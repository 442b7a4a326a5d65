//! A server that costs next to nothing, as a process of its own: what is measured against it is the load generator and the machine.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use nullius_testkit::stub_certificate;

use super::{client::Server, world::World};

/// The stub, until it is dropped.
pub(crate) struct Stub {
    process: Child,
    /// With a certificate of the cluster's authority.
    pub(crate) server: Server,
    /// Where pods reach it too.
    pub(crate) address: SocketAddr,
}

impl Stub {
    /// Starts it on this machine.
    pub(crate) fn start(world: &World) -> Result<Self> {
        let record = world.cluster.record();
        let host = record.host_address.context("pods cannot reach this machine")?;
        let (certificate, key) = stub_certificate(&world.cluster, host)?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("stub-api")
            .args(["--listen", &SocketAddr::new(host, 0).to_string()])
            .arg("--certificate")
            .arg(certificate)
            .arg("--key")
            .arg(key)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the stub")?;
        let mut line = String::new();
        let output = process.stdout.take().context("the stub has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("the stub said `{line}`"))?;
        let server = Server::new(address, &record.certificate_authority)?;
        Ok(Self { process, server, address })
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
