//! The rules that lead a pod's traffic: which packets go to the proxy, which belong to it, and which go nowhere.

use nullius_nft::{
    Base, Chain, Hook, Interface, Is, Kind, Match, Policy, Protocol, Rule, State, Statement, Table,
    Verdict,
};

/// The name of the table in the pod's network namespace.
pub const TABLE: &str = "nullius_mesh";
/// Where the proxy takes what the pod sends.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where the proxy takes what comes to the pod.
pub const INBOUND_PORT: u16 = 15006;

/// The mark of connections that the proxy makes to the application in the name of a client, and of what is answered on them: packets
/// with it stay in the pod. It is no secret: who sets it reaches nobody.
pub(crate) const BORROWED: u32 = 0x6e75_6c01;

const RAW: i32 = -300;
const MANGLE: i32 = -150;
const NAT: i32 = -100;

/// The mark of the proxy's own sockets in one pod, which are not led to the proxy again.
///
/// A process with `CAP_NET_RAW` or `CAP_NET_ADMIN` can mark its own packets: draw a number for each pod that its processes cannot know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub(crate) u32);

impl Mark {
    /// A mark of this number; zero is no mark, and one number has another meaning.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number != 0 && number != BORROWED).then_some(Self(number))
    }
}

/// The rules for a pod in which the proxy's sockets have this mark.
#[must_use]
pub fn table(mark: Mark) -> Table {
    let chain = |name: &str, kind, hook, priority, policy, rules: Vec<Rule>| Chain {
        name: name.to_owned(),
        base: Some(Base { kind, hook, priority, policy }),
        rules,
    };
    Table {
        name: TABLE.to_owned(),
        sets: Vec::new(),
        chains: vec![
            chain(
                "untracked_in",
                Kind::Filter,
                Hook::Prerouting,
                RAW,
                Policy::Accept,
                untracked_in(),
            ),
            chain(
                "untracked_out",
                Kind::Filter,
                Hook::Output,
                RAW,
                Policy::Accept,
                untracked_out(mark),
            ),
            chain("inbound", Kind::Filter, Hook::Prerouting, MANGLE, Policy::Drop, inbound(mark)),
            chain("answers", Kind::Route, Hook::Output, MANGLE, Policy::Accept, answers()),
            chain("outbound", Kind::Nat, Hook::Output, NAT, Policy::Accept, outbound()),
        ],
    }
}

const LOOPBACK: Interface = Interface::LOOPBACK;

/// Connections between the proxy and the outside are not tracked: nobody outside can fill the table of connections.
fn untracked_in() -> Vec<Rule> {
    vec![rule([Match::Iif(Is::Different, LOOPBACK).into(), tcp(), Statement::Notrack])]
}

/// What is not tracked is not translated either: this is also why the proxy's own sockets are not led to it again.
fn untracked_out(mark: Mark) -> Vec<Rule> {
    vec![rule([
        Match::Oif(Is::Different, LOOPBACK).into(),
        tcp(),
        Match::Mark(Is::Equal, mark.0).into(),
        Statement::Notrack,
    ])]
}

fn inbound(mark: Mark) -> Vec<Rule> {
    let accept = || Verdict::Accept.into();
    let own_question = Match::CtState([State::Established, State::Related].into());
    vec![
        rule([
            Match::Iif(Is::Equal, LOOPBACK).into(),
            Match::Mark(Is::Equal, BORROWED).into(),
            Statement::SetCtMark(BORROWED),
        ]),
        rule([Match::Iif(Is::Equal, LOOPBACK).into(), accept()]),
        rule([Match::L4Proto(Is::Equal, Protocol::Icmp).into(), accept()]),
        rule([Match::L4Proto(Is::Equal, Protocol::Icmpv6).into(), accept()]),
        // Nobody can prove over UDP who they are; answers to the pod's own questions (DNS) come in.
        rule([not_tcp(), own_question.into(), accept()]),
        rule([not_tcp(), Statement::Counter, Verdict::Drop.into()]),
        rule([
            Match::FibDaddrLocal(Is::Different).into(),
            Statement::Counter,
            Verdict::Drop.into(),
        ]),
        rule([tcp(), Statement::Tproxy(INBOUND_PORT), accept()]),
        // Answers to the proxy's own calls. A listener is bound to no address: it gets nothing by this rule.
        rule([
            Match::SocketMark(Is::Equal, mark.0).into(),
            Match::SocketWildcard(Is::Different).into(),
            accept(),
        ]),
        rule([tcp(), Statement::Counter, Statement::Reset]),
    ]
}

/// What the application answers to a client whose address the proxy has borrowed must come to the proxy, not to the client.
fn answers() -> Vec<Rule> {
    vec![rule([Match::CtMark(Is::Equal, BORROWED).into(), Statement::SetMark(BORROWED)])]
}

fn outbound() -> Vec<Rule> {
    vec![
        rule([Match::Oif(Is::Equal, LOOPBACK).into(), Verdict::Return.into()]),
        rule([Match::FibDaddrLocal(Is::Equal).into(), Verdict::Return.into()]),
        rule([tcp(), Statement::Redirect(OUTBOUND_PORT)]),
    ]
}

fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule(statements.into())
}

fn tcp() -> Statement {
    Match::L4Proto(Is::Equal, Protocol::Tcp).into()
}

fn not_tcp() -> Statement {
    Match::L4Proto(Is::Different, Protocol::Tcp).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_means_something_else_is_none() {
        assert!(Mark::new(0).is_none());
        assert!(Mark::new(BORROWED).is_none());
        assert!(Mark::new(1).is_some());
    }
}
