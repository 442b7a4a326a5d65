//! What a table is made of. Only forms that `nft` 1.0.6 reads back and prints.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

/// A table of the family `inet`: IPv4 and IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, by which it is replaced and removed.
    pub name: String,
    /// The sets that its rules name.
    pub sets: Vec<Set>,
    /// Its chains; those without a base are reached by jumps.
    pub chains: Vec<Chain>,
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name in the table.
    pub name: String,
    /// What is in it.
    pub elements: Elements,
}

/// The elements of a set, all of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// `ipv4_addr`.
    Ipv4(BTreeSet<Ipv4Addr>),
    /// `ipv6_addr`.
    Ipv6(BTreeSet<Ipv6Addr>),
    /// `inet_service`.
    Ports(BTreeSet<u16>),
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// Where packets come into it, if not by a jump.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What its rules may do.
    pub kind: Kind,
    /// On which way of the packets.
    pub hook: Hook,
    /// In which order with the other chains there: lower ones first.
    pub priority: i32,
    /// What becomes of a packet that no rule decides.
    pub policy: Policy,
}

/// What the rules of a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Let pass or not.
    Filter,
    /// Change addresses; sees the first packet of each connection.
    Nat,
    /// Change what the route is looked up by.
    Route,
}

/// The way of packets on which a chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What comes in, before its route is looked up.
    Prerouting,
    /// What comes in for this machine.
    Input,
    /// What passes through.
    Forward,
    /// What this machine sends.
    Output,
    /// What goes out.
    Postrouting,
}

/// What becomes of a packet that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It passes.
    Accept,
    /// It does not.
    Drop,
}

/// A rule: its statements in order; the first that does not hold ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(pub Vec<Statement>);

/// One part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Goes on only for packets that match.
    Match(Match),
    /// Counts packets and bytes.
    Counter,
    /// The packet is not tracked as part of a connection.
    Notrack,
    /// Marks the packet.
    SetMark(u32),
    /// Marks the packet's connection.
    SetCtMark(u32),
    /// Leads the connection to a port of this machine.
    Redirect(u16),
    /// Hands the packet to the transparent socket that listens on a port; the rule ends here where there is none.
    Tproxy(u16),
    /// Answers with a TCP reset.
    Reset,
    /// Decides.
    Verdict(Verdict),
}

/// What a packet must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet's mark.
    Mark(Is, u32),
    /// Its connection's mark.
    CtMark(Is, u32),
    /// Its connection's state is one of these.
    CtState(BTreeSet<State>),
    /// What IP carries.
    L4Proto(Is, Protocol),
    /// The interface that it came by.
    Iif(Is, Interface),
    /// The interface that it goes out by.
    Oif(Is, Interface),
    /// Its IPv4 destination.
    Ip4Daddr(Is, To<Ipv4Addr>),
    /// Its IPv6 destination.
    Ip6Daddr(Is, To<Ipv6Addr>),
    /// Its destination's port.
    Dport(Carrier, Is, To<u16>),
    /// Whether its destination is an address of this machine.
    FibDaddrLocal(Is),
    /// Whether the socket that it belongs to is transparent; never matches where there is no socket.
    SocketTransparent(Is),
    /// The mark of the socket that it belongs to.
    SocketMark(Is, u32),
    /// Whether the socket that it belongs to is bound to no address.
    SocketWildcard(Is),
}

/// Whether what is compared must be so, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It must.
    Equal,
    /// It must not.
    Different,
}

/// What a part of a packet is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To<T> {
    /// A value.
    Value(T),
    /// The elements of a set of the table, by name.
    Set(String),
}

/// States of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Cannot be part of one.
    Invalid,
    /// Answered, or an answer.
    Established,
    /// Begun by another one, or an error of it.
    Related,
    /// Its first packet.
    New,
    /// Not tracked.
    Untracked,
}

/// What IP carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP of IPv4.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv6.
    Icmpv6,
}

/// Whose ports are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Of any protocol that has its ports where TCP has them.
    Any,
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
}

/// An interface by its number, with the name that it is shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name there.
    pub name: &'static str,
}

impl Interface {
    /// The loopback interface, which is the first of every network namespace.
    pub const LOOPBACK: Self = Self { index: 1, name: "lo" };
}

/// What is decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This chain lets it pass.
    Accept,
    /// It goes nowhere.
    Drop,
    /// Back to the chain that jumped here, or to the policy.
    Return,
    /// On to another chain, and back.
    Jump(String),
    /// On to another chain.
    Goto(String),
}

impl From<Match> for Statement {
    fn from(part: Match) -> Self {
        Self::Match(part)
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
