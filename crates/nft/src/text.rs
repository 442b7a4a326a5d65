//! A table as `nft list table` prints it.

use std::fmt::{self, Display, Formatter};

use crate::table::{
    Base, Carrier, Chain, Elements, Hook, Interface, Is, Kind, Match, Policy, Protocol, Rule, Set,
    State, Statement, Table, To, Verdict,
};

/// `nft` breaks the elements of a set after so many.
const IPV4_PER_LINE: usize = 2;
const IPV6_PER_LINE: usize = 1;
const PORTS_PER_LINE: usize = 5;

impl Display for Table {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        writeln!(to, "table inet {} {{", self.name)?;
        for (at, set) in self.sets.iter().enumerate() {
            blank_line_between(to, at)?;
            write_set(to, set)?;
        }
        for (at, chain) in self.chains.iter().enumerate() {
            blank_line_between(to, at + self.sets.len())?;
            write_chain(to, chain)?;
        }
        writeln!(to, "}}")
    }
}

fn blank_line_between(to: &mut Formatter<'_>, before: usize) -> fmt::Result {
    match before {
        0 => Ok(()),
        _ => writeln!(to),
    }
}

fn write_set(to: &mut Formatter<'_>, set: &Set) -> fmt::Result {
    let (of, elements, per_line): (_, Vec<String>, _) = match &set.elements {
        Elements::Ipv4(all) => ("ipv4_addr", shown(all), IPV4_PER_LINE),
        Elements::Ipv6(all) => ("ipv6_addr", shown(all), IPV6_PER_LINE),
        Elements::Ports(all) => ("inet_service", shown(all), PORTS_PER_LINE),
    };
    writeln!(to, "\tset {} {{\n\t\ttype {of}", set.name)?;
    if !elements.is_empty() {
        let lines: Vec<_> = elements.chunks(per_line).map(|line| line.join(", ")).collect();
        writeln!(to, "\t\telements = {{ {} }}", lines.join(",\n\t\t\t     "))?;
    }
    writeln!(to, "\t}}")
}

fn shown<'a, T: Display + 'a>(all: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    all.into_iter().map(T::to_string).collect()
}

fn write_chain(to: &mut Formatter<'_>, chain: &Chain) -> fmt::Result {
    writeln!(to, "\tchain {} {{", chain.name)?;
    if let Some(base) = &chain.base {
        writeln!(to, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(to, "\t\t{rule}")?;
    }
    writeln!(to, "\t}}")
}

impl Display for Base {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
            Kind::Route => "route",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(to, "type {kind} hook {hook} priority ")?;
        match named_priority(self.hook, self.priority) {
            Some(name) => write!(to, "{name}")?,
            None => write!(to, "{}", self.priority)?,
        }
        write!(to, "; policy {policy};")
    }
}

/// Priorities that `nft` shows by name, alone or with a distance of at most ten.
fn named_priority(hook: Hook, priority: i32) -> Option<String> {
    let names = [
        ("raw", -300, true),
        ("mangle", -150, true),
        ("dstnat", -100, hook == Hook::Prerouting),
        ("filter", 0, true),
        ("security", 50, true),
        ("srcnat", 100, hook == Hook::Postrouting),
    ];
    let (name, base, _) = names
        .into_iter()
        .find(|(_, base, there)| *there && (base - 10..=base + 10).contains(&priority))?;
    Some(match priority - base {
        0 => name.to_owned(),
        over @ 1.. => format!("{name} + {over}"),
        under => format!("{name} - {}", -under),
    })
}

impl Display for Rule {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        for (at, statement) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(to, "{space}{statement}")?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(part) => write!(to, "{part}"),
            Self::Counter => write!(to, "counter packets 0 bytes 0"),
            Self::Notrack => write!(to, "notrack"),
            Self::SetMark(mark) => write!(to, "meta mark set {mark:#010x}"),
            Self::SetCtMark(mark) => write!(to, "ct mark set {mark:#010x}"),
            Self::Redirect(port) => write!(to, "redirect to :{port}"),
            Self::Tproxy(port) => write!(to, "tproxy to :{port}"),
            Self::Reset => write!(to, "reject with tcp reset"),
            Self::Verdict(verdict) => write!(to, "{verdict}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => write!(to, "accept"),
            Self::Drop => write!(to, "drop"),
            Self::Return => write!(to, "return"),
            Self::Jump(chain) => write!(to, "jump {chain}"),
            Self::Goto(chain) => write!(to, "goto {chain}"),
        }
    }
}

impl Display for Match {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(is, mark) => write!(to, "meta mark {is}{mark:#010x}"),
            Self::CtMark(is, mark) => write!(to, "ct mark {is}{mark:#010x}"),
            Self::CtState(states) => {
                let states: Vec<_> = states.iter().map(|state| state_name(*state)).collect();
                write!(to, "ct state {}", states.join(","))
            }
            Self::L4Proto(is, protocol) => write!(to, "meta l4proto {is}{protocol}"),
            Self::Iif(is, interface) => write!(to, "iif {is}{interface}"),
            Self::Oif(is, interface) => write!(to, "oif {is}{interface}"),
            Self::Ip4Daddr(is, address) => write!(to, "ip daddr {is}{address}"),
            Self::Ip6Daddr(is, address) => write!(to, "ip6 daddr {is}{address}"),
            Self::Dport(Carrier::Any, is, port) => write!(to, "th dport {is}{port}"),
            Self::Dport(Carrier::Tcp, is, port) => write!(to, "tcp dport {is}{port}"),
            Self::Dport(Carrier::Udp, is, port) => write!(to, "udp dport {is}{port}"),
            Self::FibDaddrLocal(is) => write!(to, "fib daddr type {is}local"),
            Self::SocketTransparent(is) => write!(to, "socket transparent {}", yes(*is)),
            Self::SocketMark(is, mark) => write!(to, "socket mark {is}{mark:#010x}"),
            Self::SocketWildcard(is) => write!(to, "socket wildcard {}", yes(*is)),
        }
    }
}

fn yes(is: Is) -> u8 {
    match is {
        Is::Equal => 1,
        Is::Different => 0,
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Invalid => "invalid",
        State::Established => "established",
        State::Related => "related",
        State::New => "new",
        State::Untracked => "untracked",
    }
}

impl Display for Is {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => Ok(()),
            Self::Different => write!(to, "!= "),
        }
    }
}

impl<T: Display> Display for To<T> {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(to, "{value}"),
            Self::Set(name) => write!(to, "@{name}"),
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmpv6 => "ipv6-icmp",
        })
    }
}

impl Display for Interface {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "\"{}\"", self.name)
    }
}
