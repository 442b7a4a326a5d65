//! Tables of nftables: written down as values, put into the kernel as a whole, shown as `nft` shows them.
//!
//! A [`Table`] is one table of the family `inet`: sets, chains, rules. [`replace`] and [`remove`] tell the kernel in one transaction,
//! over netlink and without the program `nft`; [`Table`]'s `Display` is the text of `nft list table` (1.0.6), for people and tests.
//! All of it acts in the network namespace of the calling thread.

mod apply;
mod encode;
mod error;
pub mod netlink;
mod table;
mod text;

pub use apply::{remove, replace};
pub use error::{NftError, Refusal};
pub use table::{
    Base, Carrier, Chain, Elements, Hook, Interface, Is, Kind, Match, Policy, Protocol, Rule, Set,
    State, Statement, Table, To, Verdict,
};
