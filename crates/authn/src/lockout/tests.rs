#![allow(clippy::unwrap_used, reason = "test")]

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn net(text: &str) -> SourceNetwork {
    text.parse::<IpAddr>().unwrap().into()
}

/// Tries as fast as it is let, from one network, and gives how often it got through until `end`.
fn guess(mut state: Lockout, source: SourceNetwork, start: i64, end: i64) -> (Lockout, u32) {
    let (mut now, mut guesses) = (at(start), 0);
    while now < at(end) {
        let (next, verdict) = state.on(SignInEvent::Attempt, source, now);
        state = next;
        match verdict {
            Verdict::Allow => guesses += 1,
            Verdict::Wait(until) => now = until,
        }
    }
    (state, guesses)
}

fn signed_in(source: SourceNetwork, second: i64) -> Lockout {
    let (state, verdict) = Lockout::default().on(SignInEvent::Attempt, source, at(second));
    assert_eq!(verdict, Verdict::Allow);
    state.on(SignInEvent::Success, source, at(second)).0
}

#[test]
fn a_guesser_from_one_network_gets_few_guesses_a_day() {
    let (_, guesses) = guess(Lockout::default(), net("203.0.113.7"), 0, 86_400);
    assert!(guesses < 120, "{guesses}");
}

#[test]
fn a_guesser_from_many_networks_gets_hardly_more() {
    let mut state = Lockout::default();
    let mut guesses = 0;
    for second in 0..86_400_i64 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(second).unwrap() * 256);
        let (next, verdict) =
            state.on(SignInEvent::Attempt, IpAddr::from(address).into(), at(second));
        state = next;
        guesses += u32::from(verdict == Verdict::Allow);
    }
    assert!(guesses < 320, "{guesses}");
}

#[test]
fn a_guesser_elsewhere_does_not_lock_out_the_owner() {
    let home = net("198.51.100.20");
    let (state, _) = guess(signed_in(home, 0), net("203.0.113.7"), 10, 7_200);
    let (_, verdict) = state.on(SignInEvent::Attempt, home, at(7_200));
    assert_eq!(verdict, Verdict::Allow);
}

#[test]
fn a_stranger_does_not_lock_out_an_owner_who_comes_from_a_new_place() {
    let mut state = signed_in(net("198.51.100.20"), 0);
    // Somebody with a few networks tries as often as they are let, for hours.
    for (number, start) in (0..5).zip((10..).step_by(7)) {
        let source = net(&format!("203.0.{number}.7"));
        state = guess(state, source, start, 7_200).0;
    }
    for source in ["192.0.2.1", "2001:db8:77::1"] {
        assert_eq!(state.held_until(net(source), at(7_200)), None, "{source}");
        assert_eq!(
            state.clone().on(SignInEvent::Attempt, net(source), at(7_200)).1,
            Verdict::Allow
        );
    }
}

#[test]
fn looking_at_the_delay_counts_nothing_and_tells_the_same() {
    let source = net("203.0.113.7");
    let (state, _) = guess(Lockout::default(), source, 0, 60);
    let before = state.clone();
    let held = state.held_until(source, at(60));
    assert_eq!(state, before);
    assert_eq!(state.on(SignInEvent::Attempt, source, at(60)).1, Verdict::Wait(held.unwrap()));
}

#[test]
fn what_holds_somebody_back_survives_being_stored() {
    let source = net("203.0.113.7");
    let (state, _) = guess(signed_in(net("2001:db8::1"), 0), source, 0, 60);
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Lockout>(&text).unwrap(), state);
    assert!(state.knows(net("2001:db8::2"), at(60)) && !state.knows(source, at(60)));
    assert!(state.kept_until() > Some(at(60)));
    let (once, _) = Lockout::default().on(SignInEvent::Attempt, source, at(0));
    assert_eq!(once.kept_until(), None, "a typing error is not worth a write");
}

#[test]
fn a_guesser_in_the_owners_network_delays_them_briefly_at_most() {
    let home = net("198.51.100.20");
    let (state, guesses) = guess(signed_in(home, 0), net("198.51.100.99"), 10, 3_600);
    assert!(guesses < 150, "{guesses}");
    let (state, verdict) = state.on(SignInEvent::Attempt, home, at(3_600));
    let Verdict::Wait(until) = verdict else { return };
    assert!(until <= at(3_600 + 30));
    assert_eq!(state.on(SignInEvent::Attempt, home, until).1, Verdict::Allow);
}

#[test]
fn an_owner_who_mistypes_a_few_times_never_waits() {
    let home = net("198.51.100.20");
    let mut state = Lockout::default();
    for second in 0..5 {
        let (next, verdict) = state.on(SignInEvent::Attempt, home, at(second));
        assert_eq!(verdict, Verdict::Allow);
        state = next;
    }
    let (state, verdict) = state.on(SignInEvent::Attempt, home, at(4));
    assert_eq!(verdict, Verdict::Wait(at(5)));
    let (state, verdict) = state.on(SignInEvent::Attempt, home, at(5));
    assert_eq!(verdict, Verdict::Allow);
    let (state, _) = state.on(SignInEvent::Success, home, at(6));
    assert_eq!(state.on(SignInEvent::Attempt, home, at(7)).1, Verdict::Allow);
}

#[test]
fn many_attempts_at_the_same_moment_gain_nothing() {
    let mut state = Lockout::default();
    let mut allowed = 0;
    for _ in 0..100 {
        let (next, verdict) = state.on(SignInEvent::Attempt, net("203.0.113.7"), at(0));
        state = next;
        allowed += u32::from(verdict == Verdict::Allow);
    }
    assert_eq!(allowed, FREE_FROM_ONE);
}

#[test]
fn an_attempt_that_waits_does_not_make_the_wait_longer() {
    let source = net("203.0.113.7");
    let (state, _) = guess(Lockout::default(), source, 0, 60);
    let (state, first) = state.on(SignInEvent::Attempt, source, at(60));
    assert_eq!(state.on(SignInEvent::Attempt, source, at(61)).1, first);
}

#[test]
fn the_owners_success_gives_an_attacker_no_fresh_start() {
    let attacker = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n * 256)).into();
    let mut state = Lockout::default();
    for n in 0..20 {
        state = state.on(SignInEvent::Attempt, attacker(n), at(0)).0;
    }
    let home = net("198.51.100.20");
    let state = state.on(SignInEvent::Success, home, at(1)).0;
    assert!(matches!(state.on(SignInEvent::Attempt, attacker(30), at(0)).1, Verdict::Wait(_)));
}

#[test]
fn everything_is_forgotten_in_time() {
    let (state, _) = guess(Lockout::default(), net("203.0.113.7"), 0, 600);
    let state = state.on(SignInEvent::Attempt, net("203.0.113.7"), at(600)).0;
    let mut later = state;
    later.forget(at(600 + 3_600));
    assert!(later.is_empty());
    let mut owner = signed_in(net("198.51.100.20"), 0);
    owner.forget(at(31 * 86_400));
    assert!(owner.is_empty());
}

#[test]
fn networks_are_as_wide_as_one_attacker() {
    assert_eq!(net("198.51.100.1"), net("198.51.100.254"));
    assert_ne!(net("198.51.100.1"), net("198.51.101.1"));
    assert_eq!(net("::ffff:198.51.100.1"), net("198.51.100.2"));
    assert_eq!(net("2001:db8:1::1"), net("2001:db8:1:ffff::2"));
    assert_ne!(net("2001:db8:1::1"), net("2001:db8:2::1"));
}

proptest! {
    #[test]
    fn memory_is_bounded_and_no_wait_is_longer_than_promised(
        steps in prop::collection::vec((any::<u32>(), 0_i64..600, any::<bool>()), 0..400)
    ) {
        let (mut state, mut second) = (Lockout::default(), 0);
        for (address, pause, succeeds) in steps {
            second += pause;
            let source = IpAddr::from(Ipv4Addr::from_bits(address)).into();
            let (next, verdict) = state.on(SignInEvent::Attempt, source, at(second));
            state = next;
            match verdict {
                Verdict::Wait(until) => {
                    prop_assert!(until > at(second));
                    prop_assert!(until <= at(second + i64::from(DELAY_ONE)));
                }
                Verdict::Allow if succeeds => {
                    state = state.on(SignInEvent::Success, source, at(second)).0;
                }
                Verdict::Allow => {}
            }
            prop_assert!(state.strange.len() <= NETWORKS_MAX && state.known.len() <= NETWORKS_MAX);
        }
    }
}
