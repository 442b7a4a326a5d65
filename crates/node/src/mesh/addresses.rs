//! Addresses of this node, by one of which the kubelet calls. They come and go with interfaces; the kernel says when.

use std::{collections::BTreeSet, io, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
    socket_with,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

/// The groups that hear of addresses of either family (`RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`).
const GROUPS: u32 = 0x10 | 0x100;
/// What comes within so long is looked at together: each pod that begins brings an interface.
const GATHER: Duration = Duration::from_millis(100);
/// Where the kernel does not say, it is looked at so often.
const LOOK: Duration = Duration::from_secs(2);

pub(crate) type Addresses = Arc<BTreeSet<IpAddr>>;

/// Keeps them, without end.
pub(crate) async fn follow(tell: watch::Sender<Addresses>) {
    let kernel = Kernel::open();
    if let Err(error) = &kernel {
        tracing::warn!(%error, "cannot hear of the node's addresses: look at them every other second");
    }
    loop {
        look(&tell);
        match &kernel {
            Ok(kernel) => {
                if let Err(error) = kernel.changed().await {
                    tracing::warn!(%error, "fail to hear of the node's addresses");
                    tokio::time::sleep(LOOK).await;
                }
                tokio::time::sleep(GATHER).await;
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Those at this moment.
pub(crate) fn now() -> Addresses {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    };
    Arc::new(interfaces.filter_map(address).filter(|address| !address.is_loopback()).collect())
}

fn look(tell: &watch::Sender<Addresses>) {
    let now = now();
    tell.send_if_modified(|before| {
        let is_new = *before != now;
        if is_new {
            *before = now;
        }
        is_new
    });
}

/// Hears of the network of the thread that opened it.
struct Kernel(AsyncFd<OwnedFd>);

impl Kernel {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 is that of routes and addresses.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        #[expect(
            deprecated,
            reason = "its successor is `unsafe` for descriptors that others could close; this one is owned"
        )]
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// Waits until there may be others than before.
    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            let ended = loop {
                match recv(self.0.get_ref(), &mut [0; 8192], RecvFlags::empty()) {
                    // What was too much to be kept is news as well.
                    Ok(_) | Err(rustix::io::Errno::NOBUFS) => heard = true,
                    Err(error) => break error,
                }
            };
            ready.clear_ready();
            match (ended, heard) {
                (rustix::io::Errno::AGAIN, true) => return Ok(()),
                (rustix::io::Errno::AGAIN, false) | (rustix::io::Errno::INTR, _) => {}
                (error, _) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]

    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn an_address_that_comes_or_goes_is_known() {
        if !rustix::process::geteuid().is_root() || Command::new("ip").arg("-V").output().is_err() {
            nullius_skip::skip("network namespaces take root and `ip`");
            return;
        }
        // A runtime of one thread, all of which is in a network of its own.
        let in_own = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (tell, mut told) = watch::channel(Addresses::default());
                let following = tokio::spawn(follow(tell));
                let ip = |line: &'static str| {
                    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
                    assert!(output.status.success(), "{line}");
                };
                let wanted: IpAddr = "10.9.8.7".parse().unwrap();
                for (line, is_there) in
                    [("addr add 10.9.8.7/24 dev lo", true), ("addr del 10.9.8.7/24 dev lo", false)]
                {
                    // The one who follows has looked, and waits.
                    tokio::time::sleep(GATHER * 3).await;
                    ip(line);
                    let known = told.wait_for(|it| it.contains(&wanted) == is_there);
                    tokio::time::timeout(Duration::from_secs(20), known).await.unwrap().unwrap();
                }
                following.abort();
            });
        };
        std::thread::spawn(in_own).join().unwrap();
    }
}
