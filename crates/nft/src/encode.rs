//! A table as messages of one transaction. The numbers are those of `linux/netfilter/nf_tables.h`.

use crate::{
    netlink::{ACK, APPEND, CREATE, Messages, REQUEST},
    table::{
        Base, Carrier, Chain, Elements, Hook, Is, Kind, Match, Policy, Protocol, Rule, Set, State,
        Statement, Table, To, Verdict,
    },
};

/// Family of every table: IPv4 and IPv6.
const INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
/// So that the attribute that holds them stays under 64 KiB, the most that its length can say.
const ELEMENTS_PER_MESSAGE: usize = 1024;

const VERDICT: u32 = 0;
const REGISTER: u32 = 1;

/// The sequence of a transaction's first message.
pub(crate) const FIRST: u32 = 1;

/// A transaction: what is sent, and what each message is about.
pub(crate) struct Transaction {
    pub(crate) messages: Messages,
    /// Of the messages from [`FIRST`] on.
    pub(crate) objects: Vec<String>,
}

impl Transaction {
    /// Takes a table away, also one that is not there.
    pub(crate) fn remove(name: &str) -> Self {
        let mut all = Self::begin();
        all.delete_table(name);
        all.end()
    }

    /// Puts a table in the place of what is there by its name.
    pub(crate) fn replace(table: &Table) -> Self {
        let mut all = Self::begin();
        all.delete_table(&table.name);
        all.new_table(&table.name);
        for set in &table.sets {
            all.new_set(&table.name, set);
        }
        // Rules may jump to any of the chains.
        for chain in &table.chains {
            all.new_chain(&table.name, chain);
        }
        for chain in &table.chains {
            for (at, rule) in chain.rules.iter().enumerate() {
                all.new_rule(&table.name, &chain.name, at, rule);
            }
        }
        all.end()
    }

    fn begin() -> Self {
        let mut all = Self { messages: Messages::default(), objects: Vec::new() };
        all.objects.push("the transaction".to_owned());
        all.messages.begin(BATCH_BEGIN, REQUEST, FIRST, &[0, 0, 0, SUBSYSTEM as u8]);
        all
    }

    fn end(mut self) -> Self {
        let sequence = self.next();
        self.messages.begin(BATCH_END, REQUEST, sequence, &[0, 0, 0, SUBSYSTEM as u8]);
        self
    }

    fn next(&self) -> u32 {
        FIRST + u32::try_from(self.objects.len()).unwrap_or(u32::MAX - FIRST)
    }

    fn message(&mut self, kind: u16, flags: u16, object: String) -> &mut Messages {
        let sequence = self.next();
        self.objects.push(object);
        let kind = (SUBSYSTEM << 8) | kind;
        self.messages.begin(kind, REQUEST | ACK | flags, sequence, &[INET, 0, 0, 0])
    }

    fn new_table(&mut self, name: &str) {
        self.message(NEW_TABLE, CREATE, format!("table `{name}`")).text(1, name).number(2, 0);
    }

    /// Only what is there can be deleted; what is made in the same transaction is there.
    fn delete_table(&mut self, name: &str) {
        self.new_table(name);
        self.message(DELETE_TABLE, 0, format!("the old table `{name}`")).text(1, name);
    }

    fn new_set(&mut self, table: &str, set: &Set) {
        let (kind, elements): (u32, Vec<Vec<u8>>) = match &set.elements {
            Elements::Ipv4(all) => (7, all.iter().map(|one| one.octets().to_vec()).collect()),
            Elements::Ipv6(all) => (8, all.iter().map(|one| one.octets().to_vec()).collect()),
            Elements::Ports(all) => {
                (13, all.iter().map(|one| one.to_be_bytes().to_vec()).collect())
            }
        };
        let length = match &set.elements {
            Elements::Ipv4(_) => 4,
            Elements::Ipv6(_) => 16,
            Elements::Ports(_) => 2,
        };
        let id = self.next();
        self.message(NEW_SET, CREATE, format!("set `{}`", set.name))
            .text(1, table)
            .text(2, &set.name)
            .number(3, 0)
            .number(4, kind)
            .number(5, length)
            .number(10, id);
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(NEW_ELEMENTS, CREATE, format!("elements of set `{}`", set.name))
                .text(1, table)
                .text(2, &set.name)
                .nested(3, |list| {
                    for element in some {
                        list.nested(1, |one| {
                            one.nested(1, |key| {
                                key.attribute(1, element);
                            });
                        });
                    }
                });
        }
    }

    fn new_chain(&mut self, table: &str, chain: &Chain) {
        let message = self.message(NEW_CHAIN, CREATE, format!("chain `{}`", chain.name));
        message.text(1, table).text(3, &chain.name);
        if let Some(Base { kind, hook, priority, policy }) = chain.base {
            message
                .nested(4, |place| {
                    place.number(1, hook_number(hook)).attribute(2, &priority.to_be_bytes());
                })
                .number(
                    5,
                    match policy {
                        Policy::Drop => 0,
                        Policy::Accept => 1,
                    },
                )
                .text(
                    7,
                    match kind {
                        Kind::Filter => "filter",
                        Kind::Nat => "nat",
                        Kind::Route => "route",
                    },
                );
        }
    }

    fn new_rule(&mut self, table: &str, chain: &str, at: usize, rule: &Rule) {
        let object = format!("rule {} of chain `{chain}` (`{rule}`)", at + 1);
        self.message(NEW_RULE, CREATE | APPEND, object).text(1, table).text(2, chain).nested(
            4,
            |list| {
                for statement in &rule.0 {
                    encode(list, statement);
                }
            },
        );
    }
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn encode(list: &mut Messages, statement: &Statement) {
    match statement {
        Statement::Match(part) => encode_match(list, part),
        Statement::Counter => expression(list, "counter", |_| {}),
        Statement::Notrack => expression(list, "notrack", |_| {}),
        Statement::SetMark(mark) => {
            immediate(list, &mark.to_ne_bytes());
            expression(list, "meta", |data| {
                data.number(2, META_MARK).number(3, REGISTER);
            });
        }
        Statement::SetCtMark(mark) => {
            immediate(list, &mark.to_ne_bytes());
            expression(list, "ct", |data| {
                data.number(2, CT_MARK).number(4, REGISTER);
            });
        }
        Statement::Redirect(port) => {
            immediate(list, &port.to_be_bytes());
            // The port is given (NF_NAT_RANGE_PROTO_SPECIFIED).
            expression(list, "redir", |data| {
                data.number(1, REGISTER).number(3, 2);
            });
        }
        Statement::Tproxy(port) => {
            immediate(list, &port.to_be_bytes());
            expression(list, "tproxy", |data| {
                data.number(1, 0).number(3, REGISTER);
            });
        }
        Statement::Reset => expression(list, "reject", |data| {
            data.number(1, 1).attribute(2, &[0]);
        }),
        Statement::Verdict(verdict) => encode_verdict(list, verdict),
    }
}

fn encode_verdict(list: &mut Messages, verdict: &Verdict) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    expression(list, "immediate", |data| {
        data.number(1, VERDICT).nested(2, |value| {
            value.nested(2, |verdict| {
                verdict.attribute(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    });
}

const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
const SOCKET_TRANSPARENT: u32 = 0;
const SOCKET_MARK: u32 = 1;
const SOCKET_WILDCARD: u32 = 2;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// RTN_LOCAL.
const LOCAL: u32 = 2;

fn encode_match(list: &mut Messages, part: &Match) {
    match part {
        Match::Mark(is, mark) => {
            load_meta(list, META_MARK);
            compare(list, *is, &mark.to_ne_bytes());
        }
        Match::L4Proto(is, protocol) => {
            load_meta(list, META_L4PROTO);
            compare(list, *is, &[protocol_number(*protocol)]);
        }
        Match::Iif(is, interface) => {
            load_meta(list, META_IIF);
            compare(list, *is, &interface.index.to_ne_bytes());
        }
        Match::Oif(is, interface) => {
            load_meta(list, META_OIF);
            compare(list, *is, &interface.index.to_ne_bytes());
        }
        Match::CtMark(is, mark) => {
            load_ct(list, CT_MARK);
            compare(list, *is, &mark.to_ne_bytes());
        }
        Match::CtState(states) => {
            let mask = states.iter().fold(0, |mask, state| mask | state_bit(*state));
            load_ct(list, CT_STATE);
            mask_with(list, mask);
            compare(list, Is::Different, &0_u32.to_ne_bytes());
        }
        Match::Ip4Daddr(is, address) => {
            load_meta(list, META_NFPROTO);
            compare(list, Is::Equal, &[IPV4]);
            load_payload(list, NETWORK_HEADER, 16, 4);
            compare_to(list, *is, address, |address| address.octets().to_vec());
        }
        Match::Ip6Daddr(is, address) => {
            load_meta(list, META_NFPROTO);
            compare(list, Is::Equal, &[IPV6]);
            load_payload(list, NETWORK_HEADER, 24, 16);
            compare_to(list, *is, address, |address| address.octets().to_vec());
        }
        Match::Dport(carrier, is, port) => {
            let of = match carrier {
                Carrier::Any => None,
                Carrier::Tcp => Some(Protocol::Tcp),
                Carrier::Udp => Some(Protocol::Udp),
            };
            if let Some(of) = of {
                load_meta(list, META_L4PROTO);
                compare(list, Is::Equal, &[protocol_number(of)]);
            }
            load_payload(list, TRANSPORT_HEADER, 2, 2);
            compare_to(list, *is, port, |port| port.to_be_bytes().to_vec());
        }
        Match::FibDaddrLocal(is) => {
            // The type of the address (NFT_FIB_RESULT_ADDRTYPE) of the destination (NFTA_FIB_F_DADDR).
            expression(list, "fib", |data| {
                data.number(1, REGISTER).number(2, 3).number(3, 2);
            });
            compare(list, *is, &LOCAL.to_ne_bytes());
        }
        Match::SocketTransparent(is) => load_socket_flag(list, SOCKET_TRANSPARENT, *is),
        Match::SocketWildcard(is) => load_socket_flag(list, SOCKET_WILDCARD, *is),
        Match::SocketMark(is, mark) => {
            load_socket(list, SOCKET_MARK);
            compare(list, *is, &mark.to_ne_bytes());
        }
    }
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Icmp => 1,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmpv6 => 58,
    }
}

fn state_bit(state: State) -> u32 {
    match state {
        State::Invalid => 1,
        State::Established => 2,
        State::Related => 4,
        State::New => 8,
        State::Untracked => 64,
    }
}

fn load_meta(list: &mut Messages, key: u32) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER).number(2, key);
    });
}

fn load_ct(list: &mut Messages, key: u32) {
    expression(list, "ct", |data| {
        data.number(1, REGISTER).number(2, key);
    });
}

fn load_socket(list: &mut Messages, key: u32) {
    expression(list, "socket", |data| {
        data.number(1, key).number(2, REGISTER);
    });
}

fn load_socket_flag(list: &mut Messages, key: u32, is: Is) {
    load_socket(list, key);
    compare(list, Is::Equal, &[u8::from(is == Is::Equal)]);
}

fn load_payload(list: &mut Messages, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.number(1, REGISTER).number(2, base).number(3, offset).number(4, length);
    });
}

fn mask_with(list: &mut Messages, mask: u32) {
    expression(list, "bitwise", |data| {
        data.number(1, REGISTER)
            .number(2, REGISTER)
            .number(3, 4)
            .nested(4, |value| {
                value.attribute(1, &mask.to_ne_bytes());
            })
            .nested(5, |value| {
                value.attribute(1, &[0; 4]);
            });
    });
}

fn compare_to<T>(list: &mut Messages, is: Is, to: &To<T>, bytes: impl FnOnce(&T) -> Vec<u8>) {
    match to {
        To::Value(value) => compare(list, is, &bytes(value)),
        To::Set(name) => expression(list, "lookup", |data| {
            data.text(1, name).number(2, REGISTER).number(5, u32::from(is == Is::Different));
        }),
    }
}

fn compare(list: &mut Messages, is: Is, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER)
            .number(
                2,
                match is {
                    Is::Equal => 0,
                    Is::Different => 1,
                },
            )
            .nested(3, |data| {
                data.attribute(1, value);
            });
    });
}

fn immediate(list: &mut Messages, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.number(1, REGISTER).nested(2, |data| {
            data.attribute(1, value);
        });
    });
}

fn expression(list: &mut Messages, name: &str, data: impl FnOnce(&mut Messages)) {
    list.nested(1, |element| {
        element.text(1, name).nested(2, data);
    });
}
