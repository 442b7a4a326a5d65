//! How sessions live and end.

#![allow(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeSet;

use nullius_access::session::{
    ClientMark, Effect, EndReason, Event, Phase, Refusal, SessionSettings, SessionState, advance,
    ends_at, sign_in,
};
use nullius_model::{AuditKind, AuditOutcome, Factor, Proof, Timestamp, Ttl};
use proptest::{collection::vec, prelude::*};

use crate::fleet::now;

const SETTINGS: SessionSettings = SessionSettings {
    life: Ttl::from_secs(12 * 3_600),
    idle: Ttl::from_secs(3_600),
    reuse_grace: Ttl::from_secs(10),
};

fn after(secs: u32) -> Timestamp {
    if secs == 0 { now() } else { Ttl::from_secs(secs).after(now()) }
}

fn mark(text: &str) -> ClientMark {
    ClientMark(text.to_owned())
}

fn fresh() -> SessionState {
    let factors = BTreeSet::from([Factor::Password, Factor::Totp]);
    sign_in(Proof { factors, factor_at: now() }, mark("laptop"), now(), &SETTINGS).0
}

fn refresh(generation: u64, client: &str) -> Event {
    Event::Refresh { generation, client: mark(client) }
}

fn step(state: SessionState, event: &Event, secs: u32) -> (SessionState, Vec<Effect>) {
    advance(state, event, after(secs), &SETTINGS)
}

fn ended(state: &SessionState) -> Option<EndReason> {
    match state.phase {
        Phase::Ended { why, .. } => Some(why),
        Phase::Live | Phase::Locked { .. } => None,
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    assert_eq!(SessionSettings::default(), SETTINGS);
}

#[test]
fn a_refresh_token_is_good_once() {
    let (state, effects) = step(fresh(), &refresh(1, "laptop"), 100);
    assert_eq!(state.generation, 2);
    assert!(effects.contains(&Effect::IssueRefreshToken { generation: 2 }));
    let (state, effects) = step(state, &refresh(1, "laptop"), 111);
    assert_eq!(ended(&state), Some(EndReason::TokenReused));
    let alarm = Effect::Record { kind: AuditKind::Alarm, outcome: AuditOutcome::Denied };
    assert_eq!(effects[0], alarm);
    assert!(effects.contains(&Effect::CutStreams) && effects.contains(&Effect::FlushCredentials));
}

#[test]
fn the_same_client_may_repeat_itself_for_some_seconds_and_no_other_may() {
    let (state, _) = step(fresh(), &refresh(1, "laptop"), 100);
    let (same, effects) = step(state.clone(), &refresh(1, "laptop"), 109);
    assert_eq!(same, state);
    assert_eq!(effects, [Effect::IssueRefreshToken { generation: 2 }]);
    for (event, secs) in [
        (refresh(1, "thief"), 101),
        (refresh(2, "thief"), 101),
        (refresh(1, "laptop"), 110),
        (refresh(0, "laptop"), 101),
        (refresh(3, "laptop"), 101),
        (refresh(u64::MAX, "laptop"), 101),
    ] {
        let (state, _) = step(state.clone(), &event, secs);
        assert_eq!(ended(&state), Some(EndReason::TokenReused), "{event:?}");
    }
}

#[test]
fn sessions_end_by_age_and_by_idleness() {
    assert_eq!(ends_at(&fresh(), &SETTINGS), Some(after(3_600)));
    assert_eq!(ended(&step(fresh(), &Event::Tick, 3_599).0), None);
    let (state, effects) = step(fresh(), &Event::Tick, 3_600);
    assert_eq!(ended(&state), Some(EndReason::Idle));
    assert!(effects.contains(&Effect::FlushCredentials));

    let mut state = fresh();
    for hour in 1..24 {
        state = step(state, &refresh(hour, "laptop"), u32::try_from(hour).unwrap() * 1_800).0;
    }
    assert_eq!(ended(&state), None);
    assert_eq!(ends_at(&state, &SETTINGS), Some(after(12 * 3_600)));
    let (state, effects) = step(state, &refresh(24, "laptop"), 12 * 3_600);
    assert_eq!(ended(&state), Some(EndReason::Expired));
    assert!(effects.contains(&Effect::Refuse { why: Refusal::Ended(EndReason::Expired) }));
}

#[test]
fn an_ended_session_stays_ended_and_says_so_only_to_clients() {
    let (state, effects) = step(fresh(), &Event::Logout, 1);
    assert_eq!(ended(&state), Some(EndReason::LoggedOut));
    assert_eq!(effects.len(), 3);
    for event in [Event::Logout, Event::Revoke, Event::Lock, Event::Unlock, Event::Tick] {
        assert_eq!(step(state.clone(), &event, 2), (state.clone(), Vec::new()), "{event:?}");
    }
    let (_, effects) = step(state, &refresh(1, "laptop"), 2);
    assert!(effects.contains(&Effect::Refuse { why: Refusal::Ended(EndReason::LoggedOut) }));
}

#[test]
fn a_locked_session_is_cut_refuses_and_lives_on() {
    let (state, effects) = step(fresh(), &Event::Lock, 1);
    assert_eq!(effects, [Effect::CutStreams, Effect::FlushCredentials]);
    assert_eq!(step(state.clone(), &Event::Lock, 2), (state.clone(), Vec::new()));
    let (still, effects) = step(state.clone(), &refresh(1, "laptop"), 3);
    assert_eq!(still, state);
    assert!(effects.contains(&Effect::Refuse { why: Refusal::Locked }));
    let (state, _) = step(state, &Event::Unlock, 4);
    let (state, _) = step(state, &refresh(1, "laptop"), 5);
    assert_eq!((state.generation, &state.phase), (2, &Phase::Live));
    let (state, _) = step(state, &Event::Lock, 6);
    let (state, _) = step(state, &refresh(9, "thief"), 7);
    assert_eq!(ended(&state), Some(EndReason::TokenReused), "a copy counts under a lock too");
}

#[test]
fn use_keeps_a_session_from_idling_and_from_nothing_else() {
    let used = |at| Event::Use { at: after(at) };
    let (state, effects) = step(fresh(), &used(3_000), 3_100);
    assert!(effects.is_empty());
    assert_eq!(ends_at(&state, &SETTINGS), Some(after(6_600)));
    let (state, _) = step(state, &used(100), 3_200);
    assert_eq!(ends_at(&state, &SETTINGS), Some(after(6_600)), "an older use takes nothing back");
    let (ahead, _) = step(state.clone(), &used(90_000), 3_300);
    assert_eq!(ends_at(&ahead, &SETTINGS), Some(after(6_900)), "a use to come counts as now");
    let (late, _) = step(state, &used(6_600), 6_600);
    assert_eq!(ended(&late), Some(EndReason::Idle));
}

#[test]
fn a_step_up_renews_the_factor_and_not_the_session() {
    let event = Event::StepUp { factors: BTreeSet::from([Factor::Totp]) };
    let (state, effects) = step(fresh(), &event, 1_000);
    assert_eq!(state.proof.factor_at, after(1_000));
    assert_eq!(state.expires_at, fresh().expires_at);
    assert_eq!(ends_at(&state, &SETTINGS), ends_at(&fresh(), &SETTINGS));
    let done = Effect::Record { kind: AuditKind::StepUp, outcome: AuditOutcome::Done };
    assert_eq!(effects, [done]);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u64..6, prop_oneof![Just("laptop"), Just("thief")])
            .prop_map(|(generation, client)| refresh(generation, client)),
        1 => Just(Event::StepUp { factors: BTreeSet::from([Factor::Totp]) }),
        1 => Just(Event::Logout),
        1 => Just(Event::Revoke),
        1 => Just(Event::Lock),
        1 => Just(Event::Unlock),
        2 => Just(Event::Tick),
        2 => (0_u32..60_000).prop_map(|at| Event::Use { at: after(at) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn whatever_happens_a_session_ends_once_and_for_good(
        events in vec((any_event(), 1_u32..1_500), 1..40),
    ) {
        let mut state = fresh();
        let (mut secs, mut flushes) = (0, 0);
        for (event, wait) in events {
            secs += wait;
            let before = state.clone();
            let (next, effects) = step(state, &event, secs);
            let issued = effects.iter().any(|effect| matches!(effect, Effect::IssueRefreshToken { .. }));
            let ends = effects.contains(&Effect::FlushCredentials);
            prop_assert!(next.generation >= before.generation);
            prop_assert_eq!(next.expires_at, before.expires_at);
            if ended(&before).is_some() {
                prop_assert_eq!(&next, &before);
                prop_assert!(!issued && !ends);
            }
            if ended(&next).is_some() {
                prop_assert!(!issued);
                flushes += u32::from(ended(&before).is_none());
                prop_assert_eq!(ended(&before).is_none(), ends);
            } else {
                prop_assert!(after(secs) < next.expires_at);
            }
            if issued {
                let refreshed = matches!(event, Event::Refresh { .. });
                prop_assert!(refreshed);
                prop_assert_eq!(&next.phase, &Phase::Live);
            }
            state = next;
        }
        prop_assert!(flushes <= 1);
    }
}
