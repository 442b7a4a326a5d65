//! A pod and the outside: two network namespaces with a cable between them, both families.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::{Command, Output},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns, unshare};
use nullius_redirect::{Mark, Network};

/// Whatever takes longer has failed.
pub(crate) const LONG: Duration = Duration::from_secs(10);
/// How long nothing must come, where nothing may.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) const POD: [&str; 2] = ["10.9.0.2", "fd09::2"];
pub(crate) const OUTSIDE: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const FARTHER: [&str; 2] = ["10.8.0.1", "fd08::1"];

/// A network namespace of a test's own.
pub(crate) struct Place(File);

pub(crate) struct Wires {
    pub(crate) pod: Place,
    pub(crate) outside: Place,
}

impl Wires {
    /// `None`, and said, where this machine cannot have them.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            nullius_skip::skip("network namespaces take root");
            return None;
        }
        if Command::new("ip").arg("-V").output().is_err() {
            nullius_skip::skip("the program `ip` is not here");
            return None;
        }
        let wires = Self { pod: Place::new(), outside: Place::new() };
        let pod = format!("/proc/{}/fd/{}", std::process::id(), wires.pod.0.as_raw_fd());
        wires.outside.ip(&format!("link add veth0 type veth peer name eth0 netns {pod}"));
        for place in [&wires.pod, &wires.outside] {
            place.ip("link set lo up");
        }
        let [pod4, pod6] = POD;
        let [outside4, outside6] = OUTSIDE;
        let [farther4, farther6] = FARTHER;
        for (place, line) in [
            (&wires.outside, format!("addr add {outside4}/24 dev veth0")),
            (&wires.outside, format!("addr add {outside6}/64 dev veth0 nodad")),
            (&wires.outside, format!("addr add {farther4}/32 dev lo")),
            (&wires.outside, format!("addr add {farther6}/128 dev lo nodad")),
            (&wires.outside, "link set veth0 addrgenmode none".to_owned()),
            (&wires.outside, "link set veth0 up".to_owned()),
            (&wires.pod, format!("addr add {pod4}/24 dev eth0")),
            (&wires.pod, format!("addr add {pod6}/64 dev eth0 nodad")),
            (&wires.pod, "link set eth0 addrgenmode none".to_owned()),
            (&wires.pod, "link set eth0 up".to_owned()),
            (&wires.pod, format!("route add default via {outside4}")),
            (&wires.pod, format!("-6 route add default via {outside6}")),
        ] {
            place.ip(&line);
        }
        wires.pod.settle(pod6);
        wires.outside.settle(outside6);
        // The strictest that distributions set.
        wires.pod.inside(|| {
            for interface in ["all", "eth0", "lo"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "1")
                    .unwrap();
            }
        });
        Some(wires)
    }

    pub(crate) fn network(&self) -> Network {
        Network::from_descriptor(OwnedFd::from(self.pod.0.try_clone().unwrap())).unwrap()
    }
}

impl Place {
    fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes a network namespace");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }

    pub(crate) fn run(&self, program: &str, line: &str) -> Output {
        self.inside(|| Command::new(program).args(line.split(' ')).output().unwrap())
    }

    pub(crate) fn ip(&self, line: &str) -> String {
        let output = self.run("ip", line);
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What there is of rules and routes.
    pub(crate) fn everything(&self) -> String {
        ["rule show", "-6 rule show", "route show table all", "-6 route show table all"]
            .map(|line| self.ip(line))
            .join("\n")
    }

    /// The kernel takes its time with the addresses of IPv6.
    fn settle(&self, address: &str) {
        let begun = Instant::now();
        while !self.ip("-6 route show table local").contains(&format!("local {address} ")) {
            assert!(begun.elapsed() < LONG, "{address} is still not there");
            std::thread::yield_now();
        }
    }

    pub(crate) fn listen(&self, at: &str, port: u16) -> TcpListener {
        let at = address(at, port);
        self.inside(|| TcpListener::bind(at).unwrap())
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.inside(|| TcpStream::connect_timeout(&to, LONG))?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(stream)
    }

    pub(crate) fn udp(&self, at: &str, port: u16) -> UdpSocket {
        let at = address(at, port);
        let socket = self.inside(|| UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }
}

pub(crate) fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

pub(crate) fn mark() -> Mark {
    Mark::new(0x5eed_0001).unwrap()
}
