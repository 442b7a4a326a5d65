//! Addresses at which somebody else may be: none of the machine itself, and none at which clouds tell it secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where clouds give credentials of the machine to whoever asks, beside link-local addresses.
const METADATA: [IpAddr; 4] = [
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Oracle Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];
/// Resolvers at such addresses: that of Kubernetes on each node, and those of clouds.
const RESOLVERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 20, 10),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(168, 63, 129, 16),
];
const DNS: u16 = 53;

/// Whether credentials of the machine may be to be had there.
pub fn is_metadata(at: SocketAddr) -> bool {
    forms(at.ip()).into_iter().any(|address| {
        let is_resolver = RESOLVERS.iter().any(|it| IpAddr::V4(*it) == address);
        let is_amazon =
            matches!(address, IpAddr::V6(six) if six.segments()[..2] == [0xfd00, 0xec2]);
        let is_there = is_link_local(address) || is_amazon || METADATA.contains(&address);
        is_there && !(is_resolver && at.port() == DNS)
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

/// An address as it is, and where it is one of IPv4 written in IPv6 as that: for sockets, for translation (RFC 6052; of a network's own
/// by RFC 8215, in each of its forms) and for tunnels (6to4). Of another prefix of translation nobody says here.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(six) = address else { return vec![address] };
    let bytes = six.octets();
    let four = |at: [usize; 4]| IpAddr::from(at.map(|at| bytes[at]));
    let mut forms = vec![address];
    match six.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, ..] => {
            forms.push(four([12, 13, 14, 15]));
        }
        [0x64, 0xff9b, 1, ..] => forms.extend(OWN_TRANSLATION.map(four)),
        [0x2002, ..] => forms.push(four([2, 3, 4, 5])),
        _ => {}
    }
    forms
}

/// Where an address stands behind a prefix of 48, 56, 64 and 96 bits.
const OWN_TRANSLATION: [[usize; 4]; 4] =
    [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];

/// Whether somebody else may be at an address.
pub fn is_elsewhere(address: IpAddr) -> bool {
    let is_odd = match address {
        IpAddr::V4(four) => four.is_broadcast(),
        IpAddr::V6(six) => six.to_ipv4_mapped().is_some(),
    };
    let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_own && !is_odd && !is_metadata(SocketAddr::new(address, 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_clouds_tell_machines_is_reached_in_no_form_and_resolvers_are() {
        for refused in [
            "169.254.169.254:80",
            "169.254.170.2:80",
            "169.254.170.23:80",
            "169.254.1.1:443",
            "168.63.129.16:80",
            "168.63.129.16:32526",
            "100.100.100.200:80",
            "[fd00:ec2::254]:80",
            "[fd00:ec2::23]:80",
            "[fd20:ce::254]:80",
            "[fd00:c1::a9fe:a9fe]:80",
            "[fe80::a9fe:a9fe]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[64:ff9b::169.254.170.2]:80",
            "[64:ff9b:1::169.254.169.254]:80",
            "[64:ff9b:1:abcd::168.63.129.16]:80",
            "[64:ff9b:1:a9fe:a9:fe00::]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[2002:6464:64c8::]:80",
            "[::169.254.169.254]:80",
            "169.254.20.10:80",
            "169.254.169.254:53",
        ] {
            assert!(is_metadata(refused.parse().unwrap()), "{refused}");
        }
        for reached in [
            "169.254.20.10:53",
            "169.254.169.253:53",
            "168.63.129.16:53",
            "168.63.129.17:80",
            "100.100.100.201:80",
            "169.253.255.255:80",
            "[fd00:ec3::254]:80",
            "[64:ff9b::10.0.0.1]:80",
            "[64:ff9b:1::10.0.0.1]:80",
            "[2002:a00:1::1]:80",
            "[::10.0.0.1]:80",
            "[::1]:80",
            "[fd77::5]:80",
        ] {
            assert!(!is_metadata(reached.parse().unwrap()), "{reached}");
        }
    }
}
