//! Addresses of a cluster, and the bridge, network namespaces and routes that make its nodes reachable.
//!
//! Each cluster has a bridge on the host; each node is a network namespace with one leg on it. Pods get addresses from
//! a range of their node, and host and nodes route to it: real packets between real pods, no overlay.

use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{config::AddressFamilies, slot::Slot};

/// How many nodes a cluster can have (a slot's pod range holds sixteen /24).
pub(crate) const MOST_NODES: u8 = 15;

/// The addresses of one cluster, derived from its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) slot: Slot,
    pub(crate) families: AddressFamilies,
}

impl Plan {
    /// The host's addresses on the cluster's bridge, IPv4 first.
    pub(crate) fn host(self) -> Vec<IpAddr> {
        self.each(Ipv4Addr::new(10, 99, self.slot.0, 1), self.v6(0, 0, 1))
    }

    pub(crate) fn node(self, number: u8) -> Vec<IpAddr> {
        let last = 10 + number;
        self.each(Ipv4Addr::new(10, 99, self.slot.0, last), self.v6(0, 0, u16::from(last)))
    }

    /// The ranges of one node's pods.
    pub(crate) fn pod_ranges(self, number: u8) -> Vec<String> {
        let v4 = format!("10.244.{}.0/24", self.block() + number);
        let v6 = format!("{}/64", self.v6(1, u16::from(number), 0));
        self.each(v4, v6)
    }

    /// The ranges of all pods of the cluster.
    pub(crate) fn cluster_ranges(self) -> Vec<String> {
        self.each(format!("10.244.{}.0/20", self.block()), format!("{}/56", self.v6(1, 0, 0)))
    }

    pub(crate) fn service_ranges(self) -> Vec<String> {
        self.each(format!("10.96.{}.0/20", self.block()), format!("{}/112", self.v6(2, 0, 0)))
    }

    /// The addresses of the Service `kubernetes`: the first of each range.
    pub(crate) fn api_service(self) -> Vec<IpAddr> {
        self.each(Ipv4Addr::new(10, 96, self.block(), 1), self.v6(2, 0, 1))
    }

    pub(crate) fn dns_service(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, self.block(), 10))
    }

    fn block(self) -> u8 {
        (self.slot.0 - 1) * 16
    }

    fn v6(self, kind: u16, node: u16, last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd6e, 0x756c, (kind << 8) | u16::from(self.slot.0), node, 0, 0, 0, last)
    }

    fn each<T>(self, v4: impl Into<T>, v6: impl Into<T>) -> Vec<T> {
        match self.families {
            AddressFamilies::Ipv4 => vec![v4.into()],
            AddressFamilies::DualStack => vec![v4.into(), v6.into()],
        }
    }
}

/// Makes the cluster's bridge on the host.
pub(crate) fn create_bridge(plan: Plan) -> Result<()> {
    let bridge = plan.slot.prefix();
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    raise_inotify_limit()?;
    if plan.families == AddressFamilies::DualStack {
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
            .context("this host has no IPv6, which a dual-stack cluster needs")?;
    }
    let mut batch = format!("link add {bridge} type bridge\n");
    for address in plan.host() {
        batch += &format!("addr add {} dev {bridge}{}\n", prefixed(address), no_detection(address));
    }
    batch += &format!("link set {bridge} up\n");
    ip(None, &batch)
}

/// Each kubelet, kube-proxy and containerd watches files; the usual limit of 128 watchers a user ends `too many open files`
/// with a few clusters.
fn raise_inotify_limit() -> Result<()> {
    const WATCHERS: u32 = 8_192;
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let present = fs::read_to_string(file)?.trim().parse::<u32>().unwrap_or(WATCHERS);
    if present < WATCHERS {
        fs::write(file, WATCHERS.to_string()).context("cannot raise the limit of file watchers")?;
    }
    Ok(())
}

/// Makes a node's network namespace, puts it on the bridge, and routes its pods' range to it.
pub(crate) fn create_node(plan: Plan, number: u8, nodes: u8) -> Result<()> {
    let bridge = plan.slot.prefix();
    let name = plan.slot.node(number);
    let mut host = format!(
        "netns add {name}\nlink add {name} type veth peer name eth0 netns {name}\n\
         link set {name} master {bridge} up\n"
    );
    let mut inside = "link set lo up\n".to_owned();
    for (address, gateway) in plan.node(number).into_iter().zip(plan.host()) {
        inside += &format!("addr add {} dev eth0{}\n", prefixed(address), no_detection(address));
        if inside.contains("link set eth0 up") {
            inside += &format!("route add default via {gateway}\n");
        } else {
            inside += &format!("link set eth0 up\nroute add default via {gateway}\n");
        }
    }
    for (range, via) in plan.pod_ranges(number).into_iter().zip(plan.node(number)) {
        host += &format!("route add {range} via {via} dev {bridge}\n");
    }
    for other in (1..=nodes).filter(|other| *other != number) {
        for (range, via) in plan.pod_ranges(other).into_iter().zip(plan.node(other)) {
            inside += &format!("route add {range} via {via} dev eth0\n");
        }
    }
    ip(None, &host)?;
    ip(Some(&name), &inside)?;
    let mut forward = "echo 1 > /proc/sys/net/ipv4/ip_forward".to_owned();
    if plan.families == AddressFamilies::DualStack {
        forward += "; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    }
    let status = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{name}"))
        .args(["sh", "-c", &forward])
        .status()?;
    if !status.success() {
        bail!("cannot turn on forwarding in the network namespace `{name}`");
    }
    Ok(())
}

/// Removes every network namespace and link of a slot; what is not there is fine.
pub(crate) fn remove(slot: Slot) {
    for name in node_namespaces(slot) {
        quiet_ip(&["link", "del", &name]);
        quiet_ip(&["netns", "del", &name]);
    }
    // Links whose namespace is gone go with it; a bridge takes its routes along.
    let start = slot.node(0).trim_end_matches('0').to_owned();
    for link in names("/sys/class/net").into_iter().filter(|name| name.starts_with(&start)) {
        quiet_ip(&["link", "del", &link]);
    }
    if Path::new("/sys/class/net").join(slot.prefix()).exists() {
        quiet_ip(&["link", "del", &slot.prefix()]);
    }
}

/// The network namespaces of a slot's nodes that exist.
pub(crate) fn node_namespaces(slot: Slot) -> Vec<String> {
    let start = slot.node(0).trim_end_matches('0').to_owned();
    names("/run/netns").into_iter().filter(|name| name.starts_with(&start)).collect()
}

fn names(directory: &str) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn prefixed(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 })
}

/// IPv6 addresses are usable at once only without the search for duplicates.
fn no_detection(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn ip(namespace: Option<&str>, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("`ip` refused to set up the network: {error}\n{batch}");
    }
    Ok(())
}

fn quiet_ip(args: &[&str]) {
    let _ = Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn clusters_and_nodes_share_no_address_and_no_range() {
        let mut seen = HashSet::new();
        for slot in 1..=16 {
            let plan = Plan { slot: Slot(slot), families: AddressFamilies::DualStack };
            for address in plan.host() {
                assert!(seen.insert(address.to_string()));
            }
            for range in plan.service_ranges().into_iter().chain(plan.cluster_ranges()) {
                assert!(seen.insert(range));
            }
            for node in 1..=MOST_NODES {
                for address in plan.node(node) {
                    assert!(seen.insert(address.to_string()));
                }
                for range in plan.pod_ranges(node) {
                    assert!(seen.insert(range));
                }
            }
        }
    }

    #[test]
    fn the_first_cluster_has_the_usual_ranges() {
        let plan = Plan { slot: Slot(1), families: AddressFamilies::Ipv4 };
        assert_eq!(plan.host(), ["10.99.1.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(plan.pod_ranges(2), ["10.244.2.0/24"]);
        assert_eq!(plan.cluster_ranges(), ["10.244.0.0/20"]);
        assert_eq!(plan.api_service(), ["10.96.0.1".parse::<IpAddr>().unwrap()]);
    }
}
