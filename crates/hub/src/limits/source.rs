//! How often each source may call. The table has a fixed number of places: a newcomer takes the place of the source
//! that has asked for least, so that no number of sources keeps another one out, and who is held back stays so.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
};

use nullius_model::Timestamp;

use super::seconds;
use crate::lock::lock;

/// Places of the table: sets that a source is found in by its hash, and the sources of a set at most.
const SETS: usize = 4_096;
const WAYS: usize = 8;
/// What an IPv6 /48 may do at once and per second, in shares of what one of its /64 may.
const SHARES_OF_SITE: f64 = 8.0;

/// How often each source may call.
#[derive(Debug)]
pub(crate) struct SourceLimit {
    burst: f64,
    per_second: f64,
    table: Mutex<Table>,
}

/// Whom a call counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    /// One IPv4 address.
    Address(u32),
    /// An IPv6 /64, which one machine can hold whole.
    Link(u64),
    /// An IPv6 /48, which one site can hold whole.
    Site(u64),
}

impl Network {
    /// The network that one machine can be assumed to hold whole.
    pub(crate) fn of(source: IpAddr) -> Self {
        match source.to_canonical() {
            IpAddr::V4(address) => Self::Address(address.to_bits()),
            IpAddr::V6(address) => Self::Link(upper_half(address)),
        }
    }

    /// The wider network around it that one holder can be assumed to have.
    fn around(self) -> Option<Self> {
        match self {
            Self::Address(_) | Self::Site(_) => None,
            Self::Link(link) => Some(Self::Site(link >> 16)),
        }
    }

    fn shares(self) -> f64 {
        match self {
            Self::Address(_) | Self::Link(_) => 1.0,
            Self::Site(_) => SHARES_OF_SITE,
        }
    }
}

fn upper_half(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d].into_iter().fold(0, |bits, segment| bits << 16 | u64::from(segment))
}

impl SourceLimit {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            per_second: f64::from(per_second.max(1)),
            table: Mutex::new(Table::default()),
        }
    }

    /// Takes one call of a source, or says after how many seconds to come back. A call that is refused costs nobody
    /// else of the wider network anything.
    pub(crate) fn take(&self, source: IpAddr, now: Timestamp) -> Result<(), u32> {
        let near = Network::of(source);
        let mut table = lock(&self.table);
        if let Some(wide) = near.around() {
            self.bucket(&mut table, wide, now).has_one()?;
        }
        let bucket = self.bucket(&mut table, near, now);
        bucket.has_one()?;
        bucket.left -= 1.0;
        if let Some(wide) = near.around() {
            self.bucket(&mut table, wide, now).left -= 1.0;
        }
        Ok(())
    }

    fn bucket<'t>(&self, table: &'t mut Table, network: Network, now: Timestamp) -> &'t mut Bucket {
        let shares = network.shares();
        let full = Bucket { network, left: self.burst * shares, at: now };
        let bucket = table.place(full, |bucket| self.fullness(bucket, now));
        let gained = seconds(bucket.at, now) * self.per_second * shares;
        bucket.left = (bucket.left + gained).min(self.burst * shares);
        bucket.at = now;
        bucket
    }

    /// How much of what it may ask for a source has left, from 0 to 1.
    fn fullness(&self, bucket: &Bucket, now: Timestamp) -> f64 {
        let shares = bucket.network.shares();
        let gained = seconds(bucket.at, now) * self.per_second * shares;
        ((bucket.left + gained) / (self.burst * shares)).min(1.0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    network: Network,
    left: f64,
    at: Timestamp,
}

impl Bucket {
    fn has_one(&self) -> Result<(), u32> {
        if self.left >= 1.0 { Ok(()) } else { Err(1) }
    }
}

/// Buckets in sets; the hash is keyed, so that nobody chooses sources that meet in one set.
#[derive(Debug)]
struct Table {
    sets: Box<[Vec<Bucket>]>,
    hasher: RandomState,
}

impl Default for Table {
    fn default() -> Self {
        let sets = vec![Vec::new(); SETS].into_boxed_slice();
        Self { sets, hasher: RandomState::new() }
    }
}

impl Table {
    /// The bucket of a network; a new one takes the place of the fullest, and of the longest quiet among those.
    #[expect(
        clippy::indexing_slicing,
        reason = "the index is below the number of sets, or just found"
    )]
    fn place(&mut self, new: Bucket, fullness: impl Fn(&Bucket) -> f64) -> &mut Bucket {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let set = &mut self.sets[self.hasher.hash_one(new.network) as usize % SETS];
        let place = match set.iter().position(|bucket| bucket.network == new.network) {
            Some(place) => place,
            None if set.len() < WAYS => {
                set.push(new);
                set.len() - 1
            }
            None => {
                let dullest = set.iter().enumerate().max_by(|(_, one), (_, other)| {
                    fullness(one).total_cmp(&fullness(other)).then(other.at.cmp(&one.at))
                });
                let place = dullest.map_or(0, |(place, _)| place);
                set[place] = new;
                place
            }
        };
        &mut set[place]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::net::Ipv4Addr;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_is_held_back_and_let_in_again_without_hindering_others() {
        let limit = SourceLimit::new(2, 1);
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        assert!(limit.take(one, at(0)).is_ok());
        assert!(limit.take(one, at(0)).is_ok());
        assert_eq!(limit.take(one, at(0)), Err(1));
        assert!(limit.take(other, at(0)).is_ok());
        assert!(limit.take(one, at(1)).is_ok());
        assert_eq!(limit.take(one, at(1)), Err(1));
        assert_eq!(limit.take(source("::ffff:192.0.2.1"), at(1)), Err(1), "the same machine");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let limit = SourceLimit::new(1, 1);
        assert!(limit.take(source("2001:db8::1"), at(0)).is_ok());
        assert!(limit.take(source("2001:db8::2"), at(0)).is_err());
        assert!(limit.take(source("2001:db8:0:1::1"), at(0)).is_ok());
    }

    #[test]
    fn a_whole_site_has_a_few_shares_and_one_network_cannot_use_them_up() {
        let limit = SourceLimit::new(10, 1);
        let from = |link: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, link, 0, 0, 0, 1));
        let taken = (0..u16::MAX).filter(|link| limit.take(from(*link), at(0)).is_ok()).count();
        assert_eq!(taken, 80, "not a bucket for each of 65,536");
        assert!(limit.take(source("2001:db8:2::1"), at(0)).is_ok(), "another site");

        let limit = SourceLimit::new(10, 1);
        let taken = (0..1_000).filter(|_| limit.take(from(1), at(0)).is_ok()).count();
        assert_eq!(taken, 10);
        assert!(limit.take(from(2), at(0)).is_ok(), "neighbours are heard");
    }

    #[test]
    fn any_number_of_sources_leaves_room_for_the_next_and_frees_no_one_who_is_held_back() {
        let limit = SourceLimit::new(3, 1);
        let flooder = source("198.51.100.7");
        while limit.take(flooder, at(0)).is_ok() {}
        for number in 0..200_000 {
            let other = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
            assert!(limit.take(other, at(0)).is_ok(), "{other}");
        }
        assert!(limit.take(flooder, at(0)).is_err(), "a flood of others does not free it");
        let table = lock(&limit.table);
        assert!(table.sets.iter().map(Vec::len).sum::<usize>() <= SETS * WAYS);
    }
}
