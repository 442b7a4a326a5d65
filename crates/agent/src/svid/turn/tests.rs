#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use nullius_model::Ttl;
use nullius_pki::workload::WorkloadRoot;

use super::*;

const DAY: i64 = 86_400;
const START: i64 = 1_800_000_000;
const SETTLE: i64 = super::SETTLE.as_secs().cast_signed();

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

pub(crate) fn domain() -> TrustDomain {
    "dev.example".parse().unwrap()
}

/// A hub that certifies for a week.
pub(crate) struct Hub(WorkloadRoot);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(WorkloadRoot::create(at(0)).unwrap())
    }

    pub(crate) fn certifies(&self, record: &IdentityRecord, second: i64) -> IdentityRecord {
        let request = prepared(record.next.as_ref().unwrap(), &domain()).unwrap().request();
        let (week, now) = (Ttl::from_secs(7 * 86_400), at(second));
        let signed = self.0.certify(&request.unwrap(), &domain(), week, now).unwrap();
        let root = self.0.certificate_der();
        certified(record, &domain(), signed, root, now).unwrap().unwrap()
    }
}

/// What a leader does that has told nodes of what is next as soon as it was certified.
fn next(record: &IdentityRecord, second: i64) -> Turn {
    let told =
        if at(second).as_second() - record.since >= SETTLE { Told::Settled } else { Told::NotYet };
    turn(record, &domain(), told, at(second)).unwrap()
}

pub(crate) fn kept(record: &IdentityRecord, second: i64) -> IdentityRecord {
    match next(record, second) {
        Turn::Keep(record) => *record,
        other => panic!("{other:?}"),
    }
}

fn stays(record: &IdentityRecord, second: i64) -> bool {
    matches!(next(record, second), Turn::Stay)
}

fn waits_for_the_hub(record: &IdentityRecord, second: i64) -> bool {
    matches!(next(record, second), Turn::Certify)
}

fn key(generation: &Option<IdentityGeneration>) -> Vec<u8> {
    generation.as_ref().unwrap().key.expose_secret().to_vec()
}

/// The first authority of a cluster, active.
pub(crate) fn first(hub: &Hub) -> IdentityRecord {
    let prepared = kept(&IdentityRecord::default(), 0);
    kept(&hub.certifies(&prepared, 1), 2)
}

#[test]
fn the_first_authority_is_active_as_soon_as_the_hub_certified_it() {
    let hub = Hub::new();
    let prepared = kept(&IdentityRecord::default(), 0);
    assert!(prepared.current.is_none());
    // A crash here, or a hub that is away: it is the same key that is asked for.
    assert!(waits_for_the_hub(&prepared, 1) && waits_for_the_hub(&prepared, 30 * DAY));
    let signed = hub.certifies(&prepared, 1);
    assert!(signed.sequence > prepared.sequence, "bundles are numbered by it");
    let active = kept(&signed, 2);
    assert_eq!(key(&active.current), key(&prepared.next));
    assert!(active.next.is_none() && active.previous.is_none());
    assert!(active.current.as_ref().unwrap().reissue_before.is_none());
    assert!(stays(&active, 3) && stays(&active, 3 * DAY));
}

#[test]
fn a_successor_is_told_of_at_half_life_signs_in_the_last_sixth_and_retires_the_old_one() {
    let hub = Hub::new();
    let first = first(&hub);
    assert!(stays(&first, 7 * DAY / 2 - 60));
    let half = 7 * DAY / 2 + 60;
    let prepared = kept(&first, half);
    assert_eq!(key(&prepared.current), key(&first.current));
    // Without a hub the first goes on.
    assert!(waits_for_the_hub(&prepared, half + DAY));
    let told = hub.certifies(&prepared, half + DAY);
    assert!(stays(&told, half + DAY + 1_000));
    let sixth = 7 * DAY - 7 * DAY / 6;
    assert!(stays(&told, sixth - 60));
    let active = kept(&told, sixth + 60);
    assert_eq!(key(&active.current), key(&told.next));
    assert_eq!(key(&active.previous), key(&first.current));
    assert!(active.current.as_ref().unwrap().reissue_before.is_none(), "SVIDs renew in time");
    // What the old one signed is believed for as long as it lives.
    assert!(stays(&active, sixth + 60 + RETIRE - 1));
    let retired = kept(&active, sixth + 60 + RETIRE);
    assert!(retired.previous.is_none() && retired.next.is_none());
    assert!(stays(&retired, 7 * DAY));
}

#[test]
fn an_authority_is_replaced_at_once_where_somebody_wishes_it_but_not_before_everybody_knows() {
    let hub = Hub::new();
    let mut wished = first(&hub);
    wished.wish = "now".to_owned();
    let prepared = kept(&wished, 100);
    assert!(prepared.next.as_ref().unwrap().is_forced && prepared.rotated == "now");
    let told = hub.certifies(&prepared, 101);
    assert!(stays(&told, 101 + SETTLE - 1));
    let active = kept(&told, 101 + SETTLE);
    let current = active.current.as_ref().unwrap();
    assert_eq!(current.reissue_before, Some(START + 101 + SETTLE));
    assert!(stays(&active, 101 + SETTLE + 60), "one wish is one rotation");
    // Another wish waits until the first rotation is done.
    let mut again = active.clone();
    again.wish = "again".to_owned();
    assert!(stays(&again, 101 + SETTLE + 60));
    let retired = kept(&again, 101 + SETTLE + RETIRE);
    assert!(retired.previous.is_none() && retired.next.is_none());
    assert!(kept(&retired, 101 + 2 * SETTLE + RETIRE).next.is_some());
}

#[test]
fn who_wishes_another_authority_gets_one_whose_key_did_not_stand_beside_the_old_one() {
    let hub = Hub::new();
    // A successor stands in bundles from half life on.
    let prepared = kept(&first(&hub), 4 * DAY);
    let standing = hub.certifies(&prepared, 4 * DAY + 1);
    for mut leaked in [prepared, standing] {
        assert!(!leaked.next.as_ref().unwrap().is_forced);
        leaked.wish = "leaked".to_owned();
        let wished = kept(&leaked, 4 * DAY + 600);
        assert!(wished.next.as_ref().unwrap().is_forced && wished.rotated == "leaked");
        assert_ne!(key(&wished.next), key(&leaked.next));
        let told = hub.certifies(&wished, 4 * DAY + 601);
        assert!(stays(&told, 4 * DAY + 601 + SETTLE - 1), "not before everybody knows it");
        let active = kept(&told, 4 * DAY + 601 + SETTLE);
        assert_eq!(key(&active.current), key(&wished.next));
        assert!(active.current.unwrap().reissue_before.is_some());
    }
}

#[test]
fn one_that_has_ended_serves_nobody_and_waits_for_nobody() {
    let hub = Hub::new();
    let first = first(&hub);
    // The hub was away for the whole life.
    let late = kept(&first, 8 * DAY);
    assert!(waits_for_the_hub(&late, 8 * DAY + 1));
    let told = hub.certifies(&late, 8 * DAY + 2);
    let active = kept(&told, 8 * DAY + 3);
    assert_eq!(key(&active.current), key(&late.next));
    // What ended is no reason to wait either.
    assert!(kept(&active, 8 * DAY + 4).previous.is_none());
    // A successor that ended before it signed is certified again, with the same key.
    assert!(waits_for_the_hub(&told, 16 * DAY));
    // Who writes into the Secret what cannot be read gets another authority, not a dead one.
    let mut damaged = first;
    damaged.current.as_mut().unwrap().certified.as_mut().unwrap().certificate_pem.clear();
    assert!(kept(&damaged, 10).next.is_some());
}

#[test]
fn nothing_signs_that_nodes_were_not_told_of() {
    let hub = Hub::new();
    let mut wished = first(&hub);
    wished.wish = "now".to_owned();
    let certified = hub.certifies(&kept(&wished, 100), 101);
    let turns = |told| turn(&certified, &domain(), told, at(DAY)).unwrap();
    assert!(matches!(turns(Told::NotYet), Turn::Stay), "for as long as it takes");
    assert!(matches!(turns(Told::Settled), Turn::Keep(_)));
}

#[test]
fn who_revokes_leaves_nothing_of_what_was_signed_before() {
    let hub = Hub::new();
    let revokes = |mut record: IdentityRecord, second: i64, wish: &str| {
        record.wish = wish.to_owned();
        let prepared = kept(&record, second);
        assert!(prepared.next.as_ref().unwrap().is_forced && prepared.rotated == wish);
        let told = hub.certifies(&prepared, second + 1);
        assert!(stays(&told, second + SETTLE), "everybody hears of the next one first");
        let active = kept(&told, second + 1 + SETTLE);
        assert_eq!(key(&active.current), key(&prepared.next));
        assert!(active.previous.is_none() && active.current.as_ref().unwrap().is_forced);
        assert_eq!(
            active.current.as_ref().unwrap().reissue_before,
            Some(START + second + 1 + SETTLE)
        );
        active
    };
    let first = first(&hub);
    let second = revokes(first.clone(), 100, "revoke");
    let third = revokes(second, 1_000, "revoke-2");
    assert!(stays(&third, 2_000));
    // While another rotation is under way: before it is activated, and after.
    let mut wished = first;
    wished.wish = "now".to_owned();
    let told = hub.certifies(&kept(&wished, 100), 101);
    revokes(told.clone(), 110, "revoke-3");
    let active = kept(&told, 101 + SETTLE);
    assert!(active.previous.is_some());
    revokes(active, 400, "revoke-4");
}

#[test]
fn a_clock_that_was_ahead_or_goes_back_delays_nothing_and_turns_no_number_back() {
    let hub = Hub::new();
    let mut wished = first(&hub);
    wished.wish = "now".to_owned();
    let certified = hub.certifies(&kept(&wished, 100), 101);
    // The leader that activates is a day ahead; the next one is not.
    let ahead = kept(&certified, DAY);
    let back = kept(&ahead, 300);
    assert_eq!((back.since, back.sequence), (START + 300, ahead.sequence));
    assert_eq!(key(&back.previous), key(&ahead.previous));
    assert!(stays(&back, 300 + LONGEST_SVID), "what was signed before is still believed");
    let retired = kept(&back, 300 + RETIRE);
    assert!(retired.previous.is_none());
    let numbers = [&wished, &certified, &ahead, &retired].map(|record| record.sequence);
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
}

#[test]
fn an_order_of_the_hub_is_a_wish_that_is_taken_once_and_never_again() {
    let hub = Hub::new();
    let order = |id, revision, second, mode| Ordered {
        id: CommandId::from_bits(id),
        revision,
        issued_at: at(second),
        mode,
    };
    let first = first(&hub);
    let taint = order(1, 7, 100, RotationMode::Taint);
    let wished = ordered(&first, &taint, at(101)).unwrap();
    assert!(wished.wish.starts_with("taint-hub-") && wished.ordered == 7);
    assert_eq!(wished.sequence, first.sequence, "nothing is another bundle yet");
    assert!(ordered(&wished, &taint, at(102)).is_none());
    // Given again, since the hub did not hear that it was taken: while it waits, and when it is carried out.
    let again = order(1, 8, 105, RotationMode::Taint);
    assert!(ordered(&wished, &again, at(106)).is_none());
    let prepared = kept(&wished, 110);
    assert!(prepared.next.as_ref().unwrap().is_forced && prepared.rotated == wished.wish);
    let mut cleared = prepared.clone();
    cleared.wish.clear();
    assert!(ordered(&cleared, &again, at(111)).is_none());
    // Replayed after a later one: older than what was taken.
    let revoke = ordered(&prepared, &order(2, 9, 120, RotationMode::Revoke), at(121)).unwrap();
    assert!(ordered(&revoke, &order(3, 9, 122, RotationMode::Taint), at(123)).is_none());
    assert!(ordered(&revoke, &taint, at(124)).is_none());
    assert!(kept(&revoke, 125).rotated.starts_with("revoke-hub-"), "it waits for nothing");
    // Heard by a replica that did not lead for a while.
    let late = order(4, 10, 130, RotationMode::Taint);
    assert!(ordered(&revoke, &late, at(130 + ORDER_AGE + 1)).is_none());
    assert!(ordered(&revoke, &late, at(130 + ORDER_AGE)).is_some());
}
