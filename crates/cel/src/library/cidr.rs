//! The CIDR library.

use std::{fmt, net::IpAddr};

use super::{
    Library, Run,
    ip::{self, IP, Mapped},
    text,
};
use crate::{
    error::{EvalError, Fallible},
    profile::Profile,
    types::Type,
    value::Value,
};

const CIDR: Type = Type::Opaque("net.CIDR");

/// An address and the length of its network prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address as it was given.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// The octets that the prefix covers: its size to cost.
    pub(crate) fn octets(self) -> u64 {
        u64::from(self.prefix.div_ceil(8))
    }

    fn masked(self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - self.prefix)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Cidr { address, prefix: self.prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Cidr { address, prefix: self.prefix }.masked() == self.masked()
    }

    fn contains_network(self, other: Cidr) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library, profile: &Profile) {
    library.declare_type("net.CIDR", CIDR);
    library.global("cidr", "string_to_cidr", [Type::String], CIDR, |_, args| {
        parse(text(args, 0)?).map(Value::Cidr)
    });
    library.global("isCIDR", "is_cidr", [Type::String], Type::Bool, |_, args| {
        Ok(Value::Bool(parse(text(args, 0)?).is_ok()))
    });
    let contains_text: Run = if profile.mapped_hexadecimal {
        |_, args| {
            let address = ip::parse(text(args, 1)?, Mapped::Hexadecimal)
                .map_err(|_| EvalError::no_overload())?;
            Ok(Value::Bool(cidr(args, 0)?.contains(address)))
        }
    } else {
        |_, args| {
            let address =
                ip::parse(text(args, 1)?, Mapped::Refused).map_err(|_| EvalError::no_overload())?;
            Ok(Value::Bool(cidr(args, 0)?.contains(address)))
        }
    };
    library.member(
        "containsIP",
        "cidr_contains_ip_string",
        [CIDR, Type::String],
        Type::Bool,
        contains_text,
    );
    library.member(
        "containsIP",
        "cidr_contains_ip_ip",
        [CIDR, IP],
        Type::Bool,
        |_, args| match args.get(1) {
            Some(Value::Ip(address)) => Ok(Value::Bool(cidr(args, 0)?.contains(*address))),
            _ => Err(EvalError::no_overload()),
        },
    );
    library.member(
        "containsCIDR",
        "cidr_contains_cidr_string",
        [CIDR, Type::String],
        Type::Bool,
        |_, args| {
            let other = parse(text(args, 1)?)?;
            Ok(Value::Bool(cidr(args, 0)?.contains_network(other)))
        },
    );
    library.member("containsCIDR", "cidr_contains_cidr", [CIDR, CIDR], Type::Bool, |_, args| {
        Ok(Value::Bool(cidr(args, 0)?.contains_network(cidr(args, 1)?)))
    });
    library.member("ip", "cidr_ip", [CIDR], IP, |_, args| Ok(Value::Ip(cidr(args, 0)?.address)));
    library.member("prefixLength", "cidr_prefix_length", [CIDR], Type::Int, |_, args| {
        Ok(Value::Int(i64::from(cidr(args, 0)?.prefix)))
    });
    library.member("masked", "cidr_masked", [CIDR], CIDR, |_, args| {
        Ok(Value::Cidr(cidr(args, 0)?.masked()))
    });
    library.global("string", "cidr_to_string", [CIDR], Type::String, |_, args| {
        Ok(Value::string(cidr(args, 0)?.to_string()))
    });
}

fn cidr(args: &[Value<'_>], at: usize) -> Fallible<Cidr> {
    match args.get(at) {
        Some(Value::Cidr(cidr)) => Ok(*cidr),
        _ => Err(EvalError::no_overload()),
    }
}

fn parse(source: &str) -> Fallible<Cidr> {
    const ERROR: &str = "network address parse error during conversion from string";
    let refused = |reason: String| {
        EvalError::Failed(format!("{ERROR}: {ERROR}: netip.ParsePrefix({source:?}): {reason}"))
    };
    let Some((address, bits)) = source.rsplit_once('/') else {
        return Err(refused("no '/'".to_owned()));
    };
    if address.contains('%') {
        return Err(refused("IPv6 zones cannot be present in a prefix".to_owned()));
    }
    let parsed: IpAddr = address
        .parse()
        .map_err(|_| refused(format!("ParseAddr({address:?}): unable to parse IP")))?;
    let canonical = !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && (bits.len() == 1 || !bits.starts_with('0'));
    let prefix: u8 = bits
        .parse()
        .ok()
        .filter(|_| canonical)
        .ok_or_else(|| refused(format!("bad bits after slash: {bits:?}")))?;
    if prefix > if parsed.is_ipv4() { 32 } else { 128 } {
        return Err(refused("prefix length out of range".to_owned()));
    }
    if let IpAddr::V6(six) = parsed
        && six.to_ipv4_mapped().is_some()
    {
        return Err(EvalError::Failed(format!(
            "{ERROR}: IPv4-mapped IPv6 address {source:?} is not allowed"
        )));
    }
    Ok(Cidr { address: parsed, prefix })
}
