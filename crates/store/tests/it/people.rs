//! Credentials, links, sessions and sign-ins under way: what is single-use is used once, also when two come at once.

use std::collections::BTreeSet;

use nullius_model::{Factor, Proof};
use nullius_store::{
    Approval, DevicePoll, EndReason, EnrolmentLink, JoinToken, LoginCode, LoginKind, NewSession,
    Redemption, Sealed, SessionClient, Store, TokenHash, TokenMatch, TotpStep,
};
use secrecy::ExposeSecret as _;

use crate::{both, later, now, session, user};

fn proof() -> Proof {
    Proof { factors: [Factor::Password, Factor::Totp].into(), factor_at: now() }
}

fn new_session(number: u128, token: &str) -> NewSession {
    NewSession {
        id: session(number),
        user: user("ada"),
        client: SessionClient::Cli,
        proof: proof(),
        signed_in_at: now(),
        expires_at: later(3_600),
        token: TokenHash::of(token),
        source: Some("192.0.2.7".parse().unwrap()),
        user_agent: "nullius/1".into(),
        client_mark: "mark".into(),
    }
}

#[tokio::test]
async fn a_totp_step_counts_once_and_failures_lock_out() {
    for (store, _directory) in both().await {
        let ada = user("ada");
        let mut tx = store.begin().await.unwrap();
        assert!(tx.credentials().find(&ada).await.unwrap().is_none());
        assert_eq!(tx.credentials().count_failure(&ada, now()).await.unwrap(), None);
        let sealed = Sealed::new(vec![0, 159, 146, 150]);
        tx.credentials().enrol(&ada, &"$argon2id$one".into(), Some(&sealed), now()).await.unwrap();
        for (step, expected) in [
            (100, TotpStep::Accepted),
            (100, TotpStep::Replayed),
            (99, TotpStep::Replayed),
            (101, TotpStep::Accepted),
        ] {
            assert_eq!(tx.credentials().use_totp_step(&ada, step).await.unwrap(), expected);
        }
        let nobody = tx.credentials().use_totp_step(&user("eve"), 1).await.unwrap();
        assert_eq!(nobody, TotpStep::Replayed, "nobody's code is never accepted");
        assert_eq!(tx.credentials().count_failure(&ada, now()).await.unwrap(), Some(1));
        assert_eq!(tx.credentials().count_failure(&ada, later(1)).await.unwrap(), Some(2));
        tx.credentials().lock_until(&ada, later(60)).await.unwrap();
        let found = tx.credentials().find(&ada).await.unwrap().unwrap();
        assert_eq!(found.totp, Some(sealed));
        assert_eq!((found.failures, found.totp_step), (2, Some(101)));
        assert_eq!((found.last_failure_at, found.locked_until), (Some(later(1)), Some(later(60))));
        assert!(!format!("{found:?}").contains("argon2id"), "{found:?}");

        tx.credentials().clear_failures(&ada).await.unwrap();
        tx.credentials().set_password(&ada, &"$argon2id$two".into(), later(2)).await.unwrap();
        let found = tx.credentials().find(&ada).await.unwrap().unwrap();
        assert_eq!((found.failures, found.locked_until), (0, None));
        assert_eq!(found.password.expose_secret(), "$argon2id$two");
        assert_eq!((found.enrolled_at, found.changed_at), (now(), later(2)));
        tx.credentials().delete(&ada).await.unwrap();
        assert!(tx.credentials().find(&ada).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_enrolment_link_is_good_once_and_the_newest_counts() {
    for (store, _directory) in both().await {
        let link = |secret: &str| EnrolmentLink {
            hash: TokenHash::of(secret),
            user: user("ada"),
            created_at: now(),
            expires_at: later(600),
            used_at: None,
        };
        let mut tx = store.begin().await.unwrap();
        tx.tokens().create_enrolment(&link("old")).await.unwrap();
        tx.tokens().create_enrolment(&link("new")).await.unwrap();
        let old = tx.tokens().redeem_enrolment(&TokenHash::of("old"), now()).await.unwrap();
        assert_eq!(old, Redemption::Unknown);
        let new = TokenHash::of("new");
        assert_eq!(tx.tokens().find_enrolment(&new).await.unwrap(), Some(link("new")));
        let late = tx.tokens().redeem_enrolment(&new, later(600)).await.unwrap();
        assert!(matches!(late, Redemption::Expired(_)), "{late:?}");
        let first = tx.tokens().redeem_enrolment(&new, now()).await.unwrap();
        assert!(matches!(first, Redemption::Accepted(link) if link.user == user("ada")));
        let second = tx.tokens().redeem_enrolment(&new, now()).await.unwrap();
        assert!(matches!(second, Redemption::Reused(_)), "{second:?}");
        assert_eq!(tx.tokens().prune(later(601)).await.unwrap(), 1);
        assert_eq!(tx.tokens().find_enrolment(&new).await.unwrap(), None);
    }
}

async fn redeem(store: Store, hash: TokenHash) -> bool {
    let mut tx = store.begin().await.unwrap();
    let cluster = "dev".parse().unwrap();
    let answer = tx.tokens().redeem_join(&hash, &cluster, now()).await.unwrap();
    tx.commit().await.unwrap();
    match answer {
        Redemption::Accepted(token) => token.created_by == "person:ada",
        Redemption::Reused(_) => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_many_who_bring_a_join_token_one_joins() {
    for (store, _directory) in both().await {
        let hash = TokenHash::of("join");
        let mut tx = store.begin().await.unwrap();
        let token = JoinToken {
            hash,
            cluster: "dev".parse().unwrap(),
            created_by: "person:ada".into(),
            created_at: now(),
            expires_at: later(600),
            used_at: None,
        };
        tx.tokens().create_join(&token).await.unwrap();
        let other = "prod".parse().unwrap();
        let wrong = tx.tokens().redeem_join(&hash, &other, now()).await.unwrap();
        assert!(matches!(wrong, Redemption::ForOther(token) if token.cluster.as_str() == "dev"));
        tx.commit().await.unwrap();
        let tries: Vec<_> = (0..16).map(|_| tokio::spawn(redeem(store.clone(), hash))).collect();
        let mut joined = 0;
        for attempt in tries {
            joined += usize::from(attempt.await.unwrap());
        }
        assert_eq!(joined, 1);
        let mut tx = store.begin().await.unwrap();
        let other = tx.tokens().redeem_join(&TokenHash::of("x"), &other, now()).await.unwrap();
        assert_eq!(other, Redemption::Unknown);
        tx.tokens().delete_joins(&"dev".parse().unwrap()).await.unwrap();
        assert_eq!(tx.tokens().find_join(&hash).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_shows_itself() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        let created = tx.sessions().create(&new_session(1, "t1")).await.unwrap();
        assert_eq!(created.generation, 1);
        assert!(created.is_live(now()) && !created.is_live(later(3_600)));
        let (t1, t2, t3) = (TokenHash::of("t1"), TokenHash::of("t2"), TokenHash::of("t3"));
        let current = tx.sessions().match_token(&t1).await.unwrap();
        assert_eq!(current, TokenMatch::Current(created));
        let rotated = tx.sessions().rotate(&session(1), 1, &t2, None, later(5)).await.unwrap();
        let rotated = rotated.unwrap();
        assert_eq!((rotated.generation, rotated.refreshed_at), (2, later(5)));
        let slower = tx.sessions().rotate(&session(1), 1, &t3, None, later(5)).await.unwrap();
        assert_eq!(slower, None, "of two refreshes of one generation one wins");
        let spent = tx.sessions().match_token(&t1).await.unwrap();
        assert!(
            matches!(&spent, TokenMatch::Spent { spent_at, generation: 1, .. } if *spent_at == later(5)),
            "{spent:?}"
        );
        assert_eq!(tx.sessions().match_token(&t3).await.unwrap(), TokenMatch::Unknown);
        let ended = tx.sessions().end(&session(1), EndReason::TokenReused, later(6)).await.unwrap();
        assert_eq!(ended.unwrap().ended, Some((later(6), EndReason::TokenReused)));
        let again = tx.sessions().end(&session(1), EndReason::Logout, later(7)).await.unwrap();
        assert_eq!(again, None, "the first end counts");
        let dead = tx.sessions().rotate(&session(1), 2, &t3, None, later(7)).await.unwrap();
        assert_eq!(dead, None);
        assert_eq!(tx.sessions().prune(later(7)).await.unwrap(), 1);
        assert_eq!(tx.sessions().match_token(&t2).await.unwrap(), TokenMatch::Unknown);
    }
}

#[tokio::test]
async fn sessions_run_out_step_up_and_end_with_their_person() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        for number in 1..=3 {
            let mut new = new_session(number, &format!("token {number}"));
            new.expires_at = later(100 * i64::try_from(number).unwrap());
            tx.sessions().create(&new).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut reader = store.read().await.unwrap();
        assert_eq!(reader.sessions().live(later(100)).await.unwrap().len(), 2);
        assert_eq!(reader.sessions().live_of(&user("eve"), now()).await.unwrap(), []);
        drop(reader);
        let mut tx = store.begin().await.unwrap();
        let expired = tx.sessions().end_expired(later(100)).await.unwrap();
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].ended, Some((later(100), EndReason::Expired)));
        let factors = BTreeSet::from([Factor::Totp]);
        let fresh = tx.sessions().step_up(&session(2), &factors, later(50)).await.unwrap().unwrap();
        assert_eq!(fresh.proof, Proof { factors: factors.clone(), factor_at: later(50) });
        assert_eq!(tx.sessions().step_up(&session(1), &factors, later(50)).await.unwrap(), None);
        let ada = user("ada");
        let gone = tx.sessions().end_all_of(&ada, EndReason::UserGone, later(60)).await.unwrap();
        assert_eq!(gone.len(), 2);
        assert_eq!(tx.sessions().live_of(&ada, now()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_device_code_waits_for_a_person_and_is_redeemed_once() {
    for (store, _directory) in both().await {
        let code = |secret: &str, short: &str| LoginCode {
            hash: TokenHash::of(secret),
            kind: LoginKind::Device,
            user_code: Some(TokenHash::of(short)),
            challenge: "s256".into(),
            redirect_uri: None,
            source: Some("2001:db8::1".parse().unwrap()),
            user_agent: "nullius".into(),
            created_at: now(),
            expires_at: later(600),
            polled_at: None,
            approval: None,
            denied_at: None,
            used_at: None,
        };
        let approval =
            Approval { user: user("ada"), proof: proof(), signed_in_at: now(), session: None };
        let mut tx = store.begin().await.unwrap();
        tx.logins().create(&code("d1", "ABCD")).await.unwrap();
        tx.logins().create(&code("d2", "EFGH")).await.unwrap();
        assert_eq!(tx.logins().count_open(LoginKind::Device, now()).await.unwrap(), 2);
        let (d1, d2) = (TokenHash::of("d1"), TokenHash::of("d2"));
        let pending = tx.logins().poll(&d1, later(1)).await.unwrap();
        assert!(matches!(pending, DevicePoll::Pending(code) if code.polled_at.is_none()));
        let pending = tx.logins().poll(&d1, later(2)).await.unwrap();
        assert!(matches!(pending, DevicePoll::Pending(code) if code.polled_at == Some(later(1))));

        let abcd = TokenHash::of("ABCD");
        assert!(tx.logins().find_pending(&abcd, now()).await.unwrap().is_some());
        assert!(tx.logins().approve(&abcd, &approval, later(600)).await.unwrap().is_none());
        let approved = tx.logins().approve(&abcd, &approval, later(3)).await.unwrap().unwrap();
        assert_eq!(approved.approval, Some(approval.clone()));
        assert!(tx.logins().approve(&abcd, &approval, later(3)).await.unwrap().is_none());
        assert!(tx.logins().deny(&abcd, later(3)).await.unwrap().is_none());
        let redeemed = tx.logins().poll(&d1, later(4)).await.unwrap();
        assert!(matches!(redeemed, DevicePoll::Approved(code) if code.approval == Some(approval)));
        let again = tx.logins().poll(&d1, later(4)).await.unwrap();
        assert!(matches!(again, DevicePoll::Reused(_)), "{again:?}");

        tx.logins().deny(&TokenHash::of("EFGH"), later(3)).await.unwrap().unwrap();
        assert!(matches!(tx.logins().poll(&d2, later(4)).await.unwrap(), DevicePoll::Denied(_)));
        assert!(matches!(tx.logins().poll(&d2, later(600)).await.unwrap(), DevicePoll::Expired(_)));
        let unknown = tx.logins().poll(&TokenHash::of("d3"), now()).await.unwrap();
        assert_eq!(unknown, DevicePoll::Unknown);
        assert_eq!(tx.logins().prune(later(601)).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_browser_code_comes_approved_and_is_redeemed_once() {
    for (store, _directory) in both().await {
        let code = LoginCode {
            hash: TokenHash::of("browser"),
            kind: LoginKind::Browser,
            user_code: None,
            challenge: "s256".into(),
            redirect_uri: Some("http://127.0.0.1:4000/".into()),
            source: None,
            user_agent: String::new(),
            created_at: now(),
            expires_at: later(60),
            polled_at: None,
            approval: Some(Approval {
                user: user("ada"),
                proof: proof(),
                signed_in_at: now(),
                session: Some(session(9)),
            }),
            denied_at: None,
            used_at: None,
        };
        let mut tx = store.begin().await.unwrap();
        tx.logins().create(&code).await.unwrap();
        assert_eq!(tx.logins().find(&code.hash).await.unwrap(), Some(code.clone()));
        let redeemed = tx.logins().redeem(&code.hash, later(1)).await.unwrap();
        let expected = LoginCode { used_at: Some(later(1)), ..code.clone() };
        assert_eq!(redeemed, Redemption::Accepted(expected.clone()));
        let again = tx.logins().redeem(&code.hash, later(2)).await.unwrap();
        assert_eq!(again, Redemption::Reused(expected));
    }
}
