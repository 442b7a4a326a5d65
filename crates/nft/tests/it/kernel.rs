//! Every form of rule, replaced, removed and refused.

use std::{collections::BTreeSet, net::Ipv4Addr};

use nullius_nft::{
    Base, Carrier, Chain, Elements, Hook, Interface, Is, Kind, Match, NftError, Policy, Protocol,
    Rule, Set, State, Statement, Table, To, Verdict, remove, replace,
};

use crate::namespace::{enter, nft};

fn base(kind: Kind, hook: Hook, priority: i32, policy: Policy) -> Option<Base> {
    Some(Base { kind, hook, priority, policy })
}

fn chain(name: &str, base: Option<Base>, rules: Vec<Vec<Statement>>) -> Chain {
    Chain { name: name.to_owned(), base, rules: rules.into_iter().map(Rule).collect() }
}

/// A table with every form that there is.
fn everything() -> Table {
    use Is::{Different, Equal};
    use Statement::{Counter, Notrack, Redirect, Reset, SetCtMark, SetMark, Tproxy};
    let set = |name: &str, elements| Set { name: name.to_owned(), elements };
    let lo = Interface::LOOPBACK;
    let sets = vec![
        set("none", Elements::Ipv4(BTreeSet::new())),
        set("own4", Elements::Ipv4([1, 2, 3].map(|n| Ipv4Addr::new(10, 0, 0, n)).into())),
        set(
            "own6",
            Elements::Ipv6(["fd00::1", "fd00::2", "::3"].map(|a| a.parse().unwrap()).into()),
        ),
        set("ports", Elements::Ports((80..100).collect())),
    ];
    let raw_in = vec![vec![
        Match::Iif(Different, lo).into(),
        Match::L4Proto(Equal, Protocol::Tcp).into(),
        Notrack,
    ]];
    let raw_out = vec![vec![
        Match::Oif(Different, lo).into(),
        Match::Mark(Equal, 0x1234_5678).into(),
        Match::Mark(Different, 7).into(),
        Notrack,
    ]];
    let out = vec![
        vec![Match::Oif(Equal, lo).into(), Verdict::Return.into()],
        vec![Match::FibDaddrLocal(Equal).into(), Verdict::Return.into()],
        vec![Match::Ip4Daddr(Equal, To::Set("own4".into())).into(), Verdict::Return.into()],
        vec![Match::Ip6Daddr(Different, To::Set("own6".into())).into(), Counter],
        vec![
            Match::Ip4Daddr(Different, To::Value([9, 9, 9, 9].into())).into(),
            Verdict::Jump("aside".into()).into(),
        ],
        vec![
            Match::Ip6Daddr(Equal, To::Value("fd00::9".parse().unwrap())).into(),
            Verdict::Goto("aside".into()).into(),
        ],
        vec![Match::Dport(Carrier::Any, Equal, To::Set("ports".into())).into(), Counter],
        vec![Match::Dport(Carrier::Udp, Equal, To::Value(53)).into(), Verdict::Return.into()],
        vec![
            Match::Dport(Carrier::Tcp, Different, To::Set("ports".into())).into(),
            Redirect(15001),
        ],
        vec![Match::L4Proto(Equal, Protocol::Tcp).into(), Redirect(15001)],
    ];
    let inward = vec![
        vec![Match::Iif(Equal, lo).into(), Match::Mark(Equal, 0x6e6c).into(), SetCtMark(0x6e6c)],
        vec![Match::L4Proto(Equal, Protocol::Icmp).into(), Verdict::Accept.into()],
        vec![Match::L4Proto(Equal, Protocol::Icmpv6).into(), Verdict::Accept.into()],
        vec![
            Match::L4Proto(Different, Protocol::Tcp).into(),
            Match::CtState([State::Established, State::Related].into()).into(),
            Verdict::Accept.into(),
        ],
        vec![Match::CtState([State::New].into()).into(), Counter],
        vec![
            Match::CtState([State::Invalid, State::Untracked].into()).into(),
            Counter,
            Verdict::Drop.into(),
        ],
        vec![Match::FibDaddrLocal(Different).into(), Counter, Verdict::Drop.into()],
        vec![Match::L4Proto(Equal, Protocol::Tcp).into(), Tproxy(15006), Verdict::Accept.into()],
        vec![
            Match::SocketMark(Equal, 0x1234_5678).into(),
            Match::SocketWildcard(Different).into(),
            Verdict::Accept.into(),
        ],
        vec![Match::SocketTransparent(Equal).into(), Verdict::Accept.into()],
        vec![Match::L4Proto(Equal, Protocol::Tcp).into(), Counter, Reset],
    ];
    let route = vec![vec![Match::CtMark(Equal, 0x6e6c).into(), SetMark(0x6e6c)]];
    let chains = vec![
        chain("aside", None, vec![]),
        chain("raw_in", base(Kind::Filter, Hook::Prerouting, -300, Policy::Accept), raw_in),
        chain("raw_out", base(Kind::Filter, Hook::Output, -300, Policy::Accept), raw_out),
        chain("out", base(Kind::Nat, Hook::Output, -100, Policy::Accept), out),
        chain("inward", base(Kind::Filter, Hook::Prerouting, -150, Policy::Drop), inward),
        chain("route", base(Kind::Route, Hook::Output, -150, Policy::Accept), route),
        chain("forward", base(Kind::Filter, Hook::Forward, 10, Policy::Drop), vec![]),
        chain("input", base(Kind::Filter, Hook::Input, 11, Policy::Accept), vec![]),
        chain("after", base(Kind::Nat, Hook::Postrouting, 95, Policy::Accept), vec![]),
        chain("before", base(Kind::Nat, Hook::Prerouting, -101, Policy::Accept), vec![]),
    ];
    Table { name: "nullius_test".to_owned(), sets, chains }
}

#[test]
fn the_kernel_holds_what_is_written_here() {
    if !enter() {
        return;
    }
    let table = everything();
    replace(&table).unwrap();
    let Some(listed) = nft(&["list", "table", "inet", "nullius_test"]) else { return };
    assert_eq!(listed, table.to_string());
}

#[test]
fn a_table_is_replaced_as_a_whole_and_removed_without_a_rest() {
    if !enter() {
        return;
    }
    let mut table = everything();
    replace(&table).unwrap();
    table.sets.remove(0);
    table.chains.truncate(5);
    replace(&table).unwrap();
    replace(&table).unwrap();
    let Some(listed) = nft(&["list", "ruleset"]) else { return };
    assert_eq!(listed, table.to_string());
    remove(&table.name).unwrap();
    remove(&table.name).unwrap();
    assert_eq!(nft(&["list", "ruleset"]).unwrap(), "");
}

#[test]
fn a_refusal_names_the_rule_and_leaves_what_was_there() {
    if !enter() {
        return;
    }
    let good = everything();
    replace(&good).unwrap();
    let mut bad = good.clone();
    // A redirection is for chains of the kind `nat` alone.
    bad.chains[4].rules.push(Rule(vec![Statement::Redirect(1)]));
    let place = bad.chains[4].rules.len();
    let NftError::Refused { table, refusals } = replace(&bad).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(table, "nullius_test");
    // The kernel may find fault with rules behind it too: it looks at the table as a whole each time.
    assert_eq!(refusals[0].object, format!("rule {place} of chain `inward` (`redirect to :1`)"));
    let Some(listed) = nft(&["list", "ruleset"]) else { return };
    assert_eq!(listed, good.to_string());
}

#[test]
fn a_refusal_says_which_part_of_the_message_is_wrong() {
    if !enter() {
        return;
    }
    let mut bad = everything();
    let unknown = Match::Ip4Daddr(Is::Equal, To::Set("unknown".into()));
    bad.chains[0].rules.push(Rule(vec![unknown.into()]));
    let error = replace(&bad).unwrap_err();
    let NftError::Refused { refusals, .. } = &error else { panic!("another error") };
    assert!(refusals[0].offset.is_some(), "{refusals:?}");
    let text = error.to_string();
    assert!(text.contains("rule 1 of chain `aside` (`ip daddr @unknown`): No such file"), "{text}");
}

#[test]
fn a_set_may_be_larger_than_an_attribute() {
    if !enter() {
        return;
    }
    let many: BTreeSet<Ipv4Addr> = (0..10_000_u32).map(|n| (0x0a00_0000 + n).into()).collect();
    let set = Set { name: "many".to_owned(), elements: Elements::Ipv4(many) };
    let table = Table { name: "nullius_test".to_owned(), sets: vec![set], chains: vec![] };
    replace(&table).unwrap();
    let Some(listed) = nft(&["list", "ruleset"]) else { return };
    assert_eq!(listed, table.to_string());
}

#[test]
fn without_the_right_to_it_nothing_is_changed_and_it_is_said() {
    if !enter() {
        return;
    }
    let nobody = std::thread::spawn(|| {
        rustix::thread::set_thread_res_uid(
            rustix::thread::Uid::from_raw(65534),
            rustix::thread::Uid::from_raw(65534),
            rustix::thread::Uid::from_raw(65534),
        )
        .unwrap();
        replace(&everything()).unwrap_err().to_string()
    });
    let text = nobody.join().unwrap();
    assert!(text.contains("the transaction: Operation not permitted"), "{text}");
}
