//! What is put into a network, mended there and taken away.

use std::{fs::File, process::Command};

use nullius_redirect::{Mark, Network, RedirectError, table};

use crate::wires::{POD, Wires, mark};

#[test]
fn what_is_installed_is_what_is_written_down() {
    let Some(wires) = Wires::new() else { return };
    wires.network().install(mark()).unwrap();
    if Command::new("nft").arg("-v").output().is_err() {
        return nullius_skip::skip("the program `nft` is not here");
    }
    let listed = wires.pod.run("nft", "list ruleset");
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), table(mark()).to_string());
    for family in ["-4", "-6"] {
        let rules = wires.pod.ip(&format!("{family} rule show"));
        assert!(rules.contains("15006:\tfrom all fwmark 0x6e756c01 lookup 15006"), "{rules}");
        let routes = wires.pod.ip(&format!("{family} route show table 15006"));
        assert!(routes.starts_with("local default dev lo"), "{routes}");
    }
}

#[test]
fn installing_twice_leaves_one_and_removing_leaves_nothing() {
    let Some(wires) = Wires::new() else { return };
    let before = wires.pod.everything();
    let network = wires.network();
    network.install(mark()).unwrap();
    let once = wires.pod.everything();
    assert_ne!(once, before);
    network.install(mark()).unwrap();
    wires.network().install(Mark::new(77).unwrap()).unwrap();
    assert_eq!(wires.pod.everything(), once);
    network.remove().unwrap();
    assert_eq!(wires.pod.everything(), before);
    network.remove().unwrap();
    if Command::new("nft").arg("-v").output().is_ok() {
        assert_eq!(wires.pod.run("nft", "list ruleset").stdout, b"");
    }
}

#[test]
fn what_is_half_made_is_mended_and_taken_away() {
    let Some(wires) = Wires::new() else { return };
    let before = wires.pod.everything();
    let network = wires.network();
    network.install(mark()).unwrap();
    let whole = wires.pod.everything();
    for harm in [
        "rule del priority 15006",
        "-6 rule del priority 15006",
        "route flush table 15006",
        "-6 route flush table 15006",
    ] {
        wires.pod.ip(harm);
        assert_ne!(wires.pod.everything(), whole, "{harm}");
        network.install(mark()).unwrap();
        assert_eq!(wires.pod.everything(), whole, "{harm}");
        wires.pod.ip(harm);
        network.remove().unwrap();
        assert_eq!(wires.pod.everything(), before, "{harm}");
        network.install(mark()).unwrap();
    }
}

#[test]
fn a_pod_without_ipv6_is_led_in_ipv4() {
    let Some(wires) = Wires::new() else { return };
    wires.pod.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    let network = wires.network();
    network.install(mark()).unwrap();
    let listeners = network.listen(mark()).unwrap();
    assert_eq!(listeners.outbound.len(), 1, "there is no ::1 to listen on");
    network.remove().unwrap();
}

#[test]
fn loopback_is_brought_up_where_it_is_down() {
    let Some(wires) = Wires::new() else { return };
    wires.pod.ip("link set lo down");
    wires.network().install(mark()).unwrap();
    let shown = wires.pod.ip("link show lo");
    assert!(shown.contains("<LOOPBACK,UP"), "{shown}");
}

#[test]
fn only_a_network_namespace_is_one() {
    let Some(wires) = Wires::new() else { return };
    for path in ["/dev/null", "/proc/self/ns/mnt"] {
        let other = File::open(path).unwrap();
        let refused = Network::from_descriptor(other.into());
        assert!(matches!(refused, Err(RedirectError::Enter(_))), "{path}");
    }
    assert!(!wires.network().is_own().unwrap());
    let own = Network::open("/proc/self/ns/net".as_ref()).unwrap();
    assert!(own.is_own().unwrap());
    assert_ne!(own.id(), wires.network().id());
    assert_eq!(wires.network().id(), wires.network().id());
}

#[test]
fn a_port_that_is_in_use_is_named() {
    let Some(wires) = Wires::new() else { return };
    let network = wires.network();
    network.install(mark()).unwrap();
    let _taken = wires.pod.listen(POD[0], 15006);
    let error = network.listen(mark()).unwrap_err().to_string();
    assert!(error.contains("port 15006"), "{error}");
}
