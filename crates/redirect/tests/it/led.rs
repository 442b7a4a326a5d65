//! Which packets come to the proxy, which pass, and which go nowhere.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Instant,
};

use nullius_redirect::{INBOUND_PORT, Listeners, Mark, Network, NotAdded, OUTBOUND_PORT, Tag};
use socket2::{Domain, SockRef, Socket, Type};

use crate::wires::{FARTHER, LONG, OUTSIDE, POD, SHORT, Wires, address, mark};

/// Whether a test is about IPv4 or IPv6: the place of its addresses.
const FAMILIES: [usize; 2] = [0, 1];

fn led(wires: &Wires) -> (Network, Listeners) {
    let network = wires.network();
    network.install(mark()).unwrap();
    let listeners = network.listen(mark()).unwrap();
    (network, listeners)
}

/// The next connection of a listener that does not block.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                return (stream, from);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < LONG => {
                std::thread::yield_now();
            }
            Err(error) => panic!("nobody came: {error}"),
        }
    }
}

fn connected(socket: Socket, to: SocketAddr) -> TcpStream {
    socket.set_nonblocking(false).unwrap();
    socket.connect_timeout(&to.into(), LONG).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.into()
}

/// Both ends hear each other, and hear when the other has said all.
fn talk(mut one: TcpStream, mut other: TcpStream) {
    // Not all of it fits into the buffers at once.
    let much = vec![7_u8; 8 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            one.write_all(&much).unwrap();
            one.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            one.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"all of it");
        });
        let mut heard = Vec::new();
        other.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, much);
        other.write_all(b"all of it").unwrap();
        other.shutdown(std::net::Shutdown::Write).unwrap();
    });
}

#[test]
fn what_the_pod_sends_comes_to_the_proxy_which_knows_for_whom() {
    let Some(wires) = Wires::new() else { return };
    let (_network, listeners) = led(&wires);
    for at in FAMILIES {
        for to in [address(OUTSIDE[at], 80), address(FARTHER[at], 8443)] {
            // Nobody listens there.
            let application = wires.pod.connect(to).unwrap();
            let (proxy, from) = accept(&listeners.outbound[at]);
            assert_eq!(from, application.local_addr().unwrap());
            let socket = SockRef::from(&proxy);
            let destination = match to {
                SocketAddr::V4(_) => socket.original_dst_v4(),
                SocketAddr::V6(_) => socket.original_dst_v6(),
            };
            assert_eq!(destination.unwrap().as_socket(), Some(to));
            talk(application, proxy);
        }
    }
}

#[test]
fn the_proxy_itself_is_not_led_but_who_guesses_its_mark_is() {
    let Some(wires) = Wires::new() else { return };
    let (network, listeners) = led(&wires);
    for at in FAMILIES {
        let server = wires.outside.listen(OUTSIDE[at], 80);
        let to = server.local_addr().unwrap();
        let proxy = connected(network.connect_out(mark(), to).unwrap(), to);
        let (outside, from) = accept(&server);
        assert_eq!(from, proxy.local_addr().unwrap());
        assert_eq!(from.ip(), address(POD[at], 0).ip());
        talk(proxy, outside);

        let guessed = network.connect_out(Mark::new(0x5eed_0002).unwrap(), to).unwrap();
        let guessed = connected(guessed, to);
        let (_, from) = accept(&listeners.outbound[at]);
        assert_eq!(from, guessed.local_addr().unwrap());
        server.set_nonblocking(true).unwrap();
        assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn what_comes_to_the_pod_comes_to_the_proxy_and_the_application_sees_the_client() {
    let Some(wires) = Wires::new() else { return };
    let (network, listeners) = led(&wires);
    for at in FAMILIES {
        let application = wires.pod.listen(POD[at], 8080);
        let to = application.local_addr().unwrap();
        let client = wires.outside.connect(to).unwrap();
        let (proxy, from) = accept(&listeners.inbound[at]);
        assert_eq!(proxy.local_addr().unwrap(), to);
        assert_eq!(from, client.local_addr().unwrap());

        // The client, and one that is no neighbour.
        for borrowed in [address(OUTSIDE[at], 20_000), address(FARTHER[at], 20_000)] {
            let inner = connected(network.connect_in(borrowed).unwrap(), to);
            let (served, seen) = accept(&application);
            assert_eq!(seen, borrowed);
            talk(inner, served);
        }
        talk(client, proxy);
    }
}

#[test]
fn ports_of_the_proxy_are_ports_like_others_for_who_is_outside() {
    let Some(wires) = Wires::new() else { return };
    let (_network, listeners) = led(&wires);
    for at in FAMILIES {
        for port in [OUTBOUND_PORT, INBOUND_PORT] {
            let to = address(POD[at], port);
            let _client = wires.outside.connect(to).unwrap();
            assert_eq!(accept(&listeners.inbound[at]).0.local_addr().unwrap(), to);
        }
    }
}

#[test]
fn without_listeners_nothing_passes() {
    let Some(wires) = Wires::new() else { return };
    let (network, listeners) = led(&wires);
    let mut before = Vec::new();
    for at in FAMILIES {
        let application = wires.pod.listen(POD[at], 8080);
        let outside = wires.outside.listen(OUTSIDE[at], 80);
        let client = wires.outside.connect(application.local_addr().unwrap()).unwrap();
        before.push((client, accept(&listeners.inbound[at]), application, outside));
    }
    // Of the two only one is gone.
    drop(listeners.inbound);
    for at in FAMILIES {
        for port in [8080, OUTBOUND_PORT, 9999] {
            let refused = wires.outside.connect(address(POD[at], port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{port}");
        }
    }
    drop(listeners.outbound);
    for at in FAMILIES {
        let refused = wires.pod.connect(address(OUTSIDE[at], 80)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    // What was accepted lives on, and a new process finds its place free.
    for (client, (proxy, _), ..) in before {
        talk(client, proxy);
    }
    let again = network.listen(mark()).unwrap();
    let _client = wires.outside.connect(address(POD[0], 8080)).unwrap();
    accept(&again.inbound[0]);
}

#[test]
fn what_stays_inside_of_the_pod_is_not_led() {
    let Some(wires) = Wires::new() else { return };
    let _led = led(&wires);
    for at in FAMILIES {
        for ip in [["127.0.0.1", "::1"][at], POD[at]] {
            let server = wires.pod.listen(ip, 8080);
            let one = wires.pod.connect(server.local_addr().unwrap()).unwrap();
            let (other, from) = accept(&server);
            assert_eq!(from, one.local_addr().unwrap());
            talk(one, other);
        }
    }
}

#[test]
fn connections_from_before_are_cut() {
    let Some(wires) = Wires::new() else { return };
    for at in FAMILIES {
        let inside = wires.pod.listen(POD[at], 8080);
        let outside = wires.outside.listen(OUTSIDE[at], 80);
        let inbound = wires.outside.connect(inside.local_addr().unwrap()).unwrap();
        let (served, _) = accept(&inside);
        let outbound = wires.pod.connect(outside.local_addr().unwrap()).unwrap();
        let (serving, _) = accept(&outside);
        wires.network().install(mark()).unwrap();
        for (mut client, mut server) in [(inbound, served), (outbound, serving)] {
            let _ = client.write_all(b"is anybody there");
            let cut = client.read(&mut [0]).unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
            server.set_read_timeout(Some(SHORT)).unwrap();
            let nothing = server.read(&mut [0]);
            assert!(!matches!(nothing, Ok(1..)), "{nothing:?}");
        }
        wires.network().remove().unwrap();
    }
}

#[test]
fn datagrams_come_in_as_answers_only() {
    let Some(wires) = Wires::new() else { return };
    static PORT: AtomicU16 = AtomicU16::new(5300);
    let _led = led(&wires);
    let mut bytes = [0; 16];
    for at in FAMILIES {
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let inside = wires.pod.udp(POD[at], port);
        let outside = wires.outside.udp(OUTSIDE[at], port);
        inside.send_to(b"question", outside.local_addr().unwrap()).unwrap();
        let (length, from) = outside.recv_from(&mut bytes).unwrap();
        assert_eq!(
            (&bytes[..length], from),
            (b"question".as_slice(), inside.local_addr().unwrap())
        );
        outside.send_to(b"answer", from).unwrap();
        inside.set_read_timeout(Some(LONG)).unwrap();
        let (length, _) = inside.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"answer");

        let other = wires.outside.udp(OUTSIDE[at], port + 100);
        other.send_to(b"unasked", from).unwrap();
        inside.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(inside.recv_from(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn echoes_pass() {
    let Some(wires) = Wires::new() else { return };
    if Command::new("busybox").arg("ping").output().is_err() {
        return nullius_skip::skip("the program `busybox` is not here");
    }
    let _led = led(&wires);
    for at in FAMILIES {
        for (place, to) in [(&wires.outside, POD[at]), (&wires.pod, OUTSIDE[at])] {
            let output = place.run("busybox", &format!("ping -c 1 -W 5 {to}"));
            assert!(output.status.success(), "{to}: {output:?}");
        }
    }
}

#[test]
fn nothing_is_led_through_the_pod() {
    let Some(wires) = Wires::new() else { return };
    let (_network, listeners) = led(&wires);
    let [pod4, pod6] = POD;
    wires.outside.ip(&format!("route add 10.7.0.0/24 via {pod4}"));
    wires.outside.ip(&format!("-6 route add fd07::/64 via {pod6}"));
    for (at, beyond) in [(0, "10.7.0.7"), (1, "fd07::7")] {
        let to = address(beyond, 80);
        let refused = wires.outside.inside(|| TcpStream::connect_timeout(&to, SHORT));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(listeners.inbound[at].accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_port_of_a_client_is_free_again_soon_after_its_call_has_ended() {
    let Some(wires) = Wires::new() else { return };
    let (network, _listeners) = led(&wires);
    for at in FAMILIES {
        let application = wires.pod.listen(POD[at], 8080);
        let to = application.local_addr().unwrap();
        let from = address(FARTHER[at], 2_000);
        let begun = Instant::now();
        let mut calls = 0;
        // Who closes first waits for a minute, in case something of the call is still on its way.
        while calls < 3 {
            let dialled = network.connect_in(from).and_then(|socket| {
                socket.set_nonblocking(false)?;
                socket.connect_timeout(&to.into(), LONG)?;
                Ok(TcpStream::from(socket))
            });
            match dialled {
                Ok(mut proxy) => {
                    let (mut served, client) = application.accept().unwrap();
                    assert_eq!(client, from);
                    proxy.shutdown(std::net::Shutdown::Write).unwrap();
                    assert_eq!(served.read(&mut [0]).unwrap(), 0);
                    drop(served);
                    assert_eq!(proxy.read(&mut [0]).unwrap(), 0);
                    calls += 1;
                }
                Err(error) => {
                    let taken = [ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable];
                    assert!(taken.contains(&error.kind()), "{error}");
                    assert!(begun.elapsed() < LONG, "{calls} calls, and no more: {error}");
                    std::thread::yield_now();
                }
            }
        }
    }
}

#[test]
fn a_socket_that_the_pod_made_itself_gets_its_rights_and_no_other_does() {
    let Some(wires) = Wires::new() else { return };
    let (network, listeners) = led(&wires);
    let tag = Tag::new([1, 2, 3, 4, 5, 6]);
    let made = |place: &crate::wires::Place, at: usize, kind: Type| {
        let domain = if at == 0 { Domain::IPV4 } else { Domain::IPV6 };
        place.inside(|| Socket::new(domain, kind, None).unwrap())
    };
    let early = made(&wires.pod, 0, Type::STREAM);
    let early = tag.let_out(early.as_fd(), false, mark()).unwrap_err();
    assert!(matches!(early, NotAdded::Network), "before the network has its name: {early}");
    for _ in 0..2 {
        network.tag(&tag).unwrap();
    }
    for at in FAMILIES {
        let is_ipv6 = at == 1;
        // To the outside, and not to the proxy again.
        let server = wires.outside.listen(FARTHER[at], 8443);
        let out = made(&wires.pod, at, Type::STREAM);
        tag.let_out(out.as_fd(), is_ipv6, mark()).unwrap();
        let out = connected(out, address(FARTHER[at], 8443));
        let (far, from) = server.accept().unwrap();
        assert_eq!(from.ip(), address(POD[at], 0).ip());
        talk(out, far);
        let error = listeners.outbound[at].accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        // To the application, in the name of whoever called.
        let application = wires.pod.listen(POD[at], 8080);
        let client = address(OUTSIDE[at], 23_000);
        let borrowed = made(&wires.pod, at, Type::STREAM);
        borrowed.bind(&client.into()).unwrap_err();
        tag.let_in(borrowed.as_fd(), is_ipv6).unwrap();
        borrowed.bind(&client.into()).unwrap();
        let inner = connected(borrowed, address(POD[at], 8080));
        let (heard, from) = application.accept().unwrap();
        assert_eq!(from, client);
        talk(inner, heard);

        // Of another network, of another kind, or no socket at all.
        let foreign = made(&wires.outside, at, Type::STREAM);
        let refused = [
            tag.let_out(foreign.as_fd(), is_ipv6, mark()),
            tag.let_in(foreign.as_fd(), is_ipv6),
            Tag::new([6; 6]).let_in(made(&wires.pod, at, Type::STREAM).as_fd(), is_ipv6),
        ];
        assert!(refused.iter().all(|it| matches!(it, Err(NotAdded::Network))), "{refused:?}");
        assert_eq!(SockRef::from(&foreign).mark().unwrap(), 0);
        let mine = made(&wires.pod, at, Type::STREAM);
        let refused = [
            tag.let_in(made(&wires.pod, at, Type::DGRAM).as_fd(), is_ipv6),
            tag.let_in(mine.as_fd(), !is_ipv6),
            tag.let_out(std::io::stdin().as_fd(), is_ipv6, mark()),
        ];
        assert!(refused.iter().all(|it| matches!(it, Err(NotAdded::Kind))), "{refused:?}");
        assert_eq!(SockRef::from(&mine).mark().unwrap(), 0);
    }
}
