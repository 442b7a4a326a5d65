//! The IP library. Zones are refused; an IPv6 address that maps an IPv4 one is refused too, in the specification only
//! when it is written with dots.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Library, Run, text};
use crate::{
    error::{EvalError, Fallible},
    profile::Profile,
    types::Type,
    value::Value,
};

pub(crate) const IP: Type = Type::Opaque("net.IP");

/// What becomes of an IPv6 address that maps an IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// It is refused.
    Refused,
    /// Written in hexadecimal it is the IPv4 address.
    Hexadecimal,
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library, profile: &Profile) {
    library.declare_type("net.IP", IP);
    let (to_ip, is_ip, is_canonical): (Run, Run, Run) = if profile.mapped_hexadecimal {
        (
            |_, args| parse(text(args, 0)?, Mapped::Hexadecimal).map(Value::Ip),
            |_, args| Ok(Value::Bool(parse(text(args, 0)?, Mapped::Hexadecimal).is_ok())),
            |_, args| canonical(text(args, 0)?, Mapped::Hexadecimal),
        )
    } else {
        (
            |_, args| parse(text(args, 0)?, Mapped::Refused).map(Value::Ip),
            |_, args| Ok(Value::Bool(parse(text(args, 0)?, Mapped::Refused).is_ok())),
            |_, args| canonical(text(args, 0)?, Mapped::Refused),
        )
    };
    library.global("ip", "string_to_ip", [Type::String], IP, to_ip);
    library.global("isIP", "is_ip", [Type::String], Type::Bool, is_ip);
    library.global("ip.isCanonical", "ip_is_canonical", [Type::String], Type::Bool, is_canonical);
    library.member("family", "ip_family", [IP], Type::Int, |_, args| {
        Ok(Value::Int(if ip(args)?.is_ipv4() { 4 } else { 6 }))
    });
    let tests: [(&str, &str, Run); 5] = [
        ("isUnspecified", "ip_is_unspecified", |_, args| {
            Ok(Value::Bool(ip(args)?.is_unspecified()))
        }),
        ("isLoopback", "ip_is_loopback", |_, args| Ok(Value::Bool(ip(args)?.is_loopback()))),
        ("isLinkLocalMulticast", "ip_is_link_local_multicast", |_, args| {
            Ok(Value::Bool(is_link_local_multicast(ip(args)?)))
        }),
        ("isLinkLocalUnicast", "ip_is_link_local_unicast", |_, args| {
            Ok(Value::Bool(is_link_local_unicast(ip(args)?)))
        }),
        ("isGlobalUnicast", "ip_is_global_unicast", |_, args| {
            let address = ip(args)?;
            let elsewhere = address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || is_link_local_unicast(address)
                || address == IpAddr::V4(Ipv4Addr::BROADCAST);
            Ok(Value::Bool(!elsewhere))
        }),
    ];
    for (name, id, run) in tests {
        library.member(name, id, [IP], Type::Bool, run);
    }
    library.global("string", "ip_to_string", [IP], Type::String, |_, args| {
        Ok(Value::string(shown(ip(args)?)))
    });
}

fn canonical<'a>(source: &str, mapped: Mapped) -> Fallible<Value<'a>> {
    let address = parse(source, mapped)?;
    Ok(Value::Bool(shown(address) == source))
}

fn ip(args: &[Value<'_>]) -> Fallible<IpAddr> {
    match args.first() {
        Some(Value::Ip(address)) => Ok(*address),
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn shown(address: IpAddr) -> String {
    address.to_string()
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => {
            let [first, second, ..] = address.octets();
            first == 0xff && second & 0x0f == 2
        }
    }
}

fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The address that text names.
pub(crate) fn parse(source: &str, mapped: Mapped) -> Fallible<IpAddr> {
    if let Some((address, zone)) = source.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
        && !zone.is_empty()
    {
        return Err(EvalError::Failed(format!(
            "IP address {source:?} with zone value is not allowed"
        )));
    }
    let address: IpAddr = source.parse().map_err(|_| {
        EvalError::Failed(format!(
            "IP Address {source:?} parse error during conversion from string: ParseAddr({source:?}): {}",
            reason(source)
        ))
    })?;
    match address {
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) if mapped == Mapped::Hexadecimal && !source.contains('.') => {
                Ok(IpAddr::V4(four))
            }
            Some(_) => Err(EvalError::Failed(format!(
                "IPv4-mapped IPv6 address {source:?} is not allowed"
            ))),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// Why text is no address, as far as a look tells.
fn reason(source: &str) -> &'static str {
    if !source.contains(['.', ':']) {
        return "unable to parse IP";
    }
    if source.contains(':') {
        return "IPv6 address is not well-formed";
    }
    let fields: Vec<&str> = source.split('.').collect();
    if fields.iter().any(|field| field.len() > 1 && field.starts_with('0')) {
        "IPv4 field has octet with leading zero"
    } else if fields.len() < 4 {
        "IPv4 address too short"
    } else if fields.len() > 4 {
        "IPv4 address too long"
    } else if fields.iter().any(|field| field.bytes().any(|byte| !byte.is_ascii_digit())) {
        "unexpected character"
    } else {
        "IPv4 field has value >255"
    }
}
