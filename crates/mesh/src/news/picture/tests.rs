#![allow(clippy::unwrap_used, reason = "test")]
use nullius_intention::Origin;

use super::*;
use crate::news::Mode;

fn pod(uid: &str, address: &str) -> Workload {
    Workload {
        uid: uid.into(),
        namespace: "shop".parse().unwrap(),
        name: uid.into(),
        service_account: "front".into(),
        node: "a".into(),
        addresses: vec![address.parse().unwrap()],
        spiffe_id: Some("spiffe://shop.example/ns/shop/sa/front".parse().unwrap()),
        mode: Mode::Node,
        local: None,
    }
}

fn intention(uid: &str, generation: i64) -> IntentionObject {
    let json = format!("{{\"generation\":{generation}}}").into_bytes().into();
    IntentionObject { uid: uid.into(), origin: Origin::Cluster, generation, json }
}

fn news(sequence: u64, is_complete: bool, put_workloads: Vec<Workload>) -> News {
    News { stream: "s".into(), sequence, is_complete, put_workloads, ..News::default() }
}

fn uids<const N: usize>(all: [&str; N]) -> BTreeSet<Uid> {
    all.map(Uid::from).into()
}

fn at(picture: &Picture, address: &str) -> Option<Uid> {
    picture.at(address.parse().unwrap()).map(|it| it.uid.clone())
}

#[test]
fn nothing_counts_until_it_is_complete_and_then_all_at_once() {
    let mut picture = Picture::default();
    assert_eq!(picture.hear(news(1, false, vec![pod("one", "10.0.0.1")])), Ok(None));
    assert!(!picture.is_complete() && picture.workloads().is_empty());
    let second = News {
        put_intentions: vec![intention("i", 1)],
        ..news(2, true, vec![pod("two", "10.0.0.2")])
    };
    let changed = picture.hear(second).unwrap().unwrap();
    assert_eq!(changed.workloads, uids(["one", "two"]));
    assert_eq!(changed.intentions, uids(["i"]));
    assert!(picture.is_complete());
    assert_eq!((picture.sequence(), picture.stream()), (2, "s"));
    // What was told before and is the same is no change, and what nobody knows is gone already.
    let third = News {
        put_intentions: vec![intention("i", 2)],
        gone_workloads: vec!["two".into(), "never".into()],
        gone_services: vec!["shop/never".parse().unwrap()],
        ..news(3, true, vec![pod("one", "10.0.0.1")])
    };
    let changed = picture.hear(third).unwrap().unwrap();
    assert_eq!(changed.workloads, uids(["two"]));
    assert!(changed.services.is_empty());
    assert_eq!(picture.intentions()["i"].generation, 2);
    assert_eq!(at(&picture, "10.0.0.2"), None);
    assert_eq!(picture.hear(news(4, true, Vec::new())), Ok(Some(Changed::default())));
}

#[test]
fn an_address_is_of_one_pod_or_of_nobody() {
    let mut picture = Picture::default();
    picture.hear(news(1, true, vec![pod("one", "10.0.0.1")])).unwrap();
    assert_eq!(at(&picture, "10.0.0.1"), Some("one".into()));
    picture.hear(news(2, true, vec![pod("two", "10.0.0.1")])).unwrap();
    assert_eq!(at(&picture, "10.0.0.1"), None, "two say that it is theirs");
    picture.hear(news(3, true, vec![pod("one", "10.0.0.9")])).unwrap();
    assert_eq!(at(&picture, "10.0.0.1"), Some("two".into()));
    assert_eq!(at(&picture, "10.0.0.9"), Some("one".into()));
}

#[test]
fn a_message_that_is_missing_ends_the_stream() {
    let mut picture = Picture::default();
    let found = |found, expected| Err(PictureError::Sequence { expected, found });
    assert_eq!(picture.clone().hear(news(2, true, Vec::new())), found(2, 1));
    picture.hear(news(1, true, Vec::new())).unwrap();
    assert_eq!(picture.clone().hear(news(1, true, Vec::new())), found(1, 2));
    assert_eq!(picture.clone().hear(news(3, true, Vec::new())), found(3, 2));
    let other = News { stream: "t".into(), ..news(2, true, Vec::new()) };
    assert_eq!(picture.hear(other), Err(PictureError::Stream));
}

#[test]
fn a_new_stream_is_compared_with_what_stood() {
    let (mut before, mut after) = (Picture::default(), Picture::default());
    before.hear(news(1, true, vec![pod("one", "10.0.0.1"), pod("two", "10.0.0.2")])).unwrap();
    after.hear(news(1, true, vec![pod("one", "10.0.0.1"), pod("three", "10.0.0.3")])).unwrap();
    assert_eq!(after.changed_since(&before).workloads, uids(["two", "three"]));
    assert!(after.changed_since(&after.clone()).is_empty());
}

#[test]
fn what_is_never_complete_is_not_gathered_for_ever() {
    let mut picture = Picture::default();
    let gone: Vec<Uid> = vec![Uid::from("gone"); 100_000];
    let endless = (1..).map(|sequence| {
        picture.hear(News { gone_workloads: gone.clone(), ..news(sequence, false, Vec::new()) })
    });
    let end = endless.take(100).find_map(Result::err);
    assert_eq!(end, Some(PictureError::Many { what: "changes at once", most: GATHERED_MAX }));
}

#[test]
fn keys_of_before_stay_where_who_tells_has_none_of_the_same_source() {
    let issuer = |source: &str, jwks: &str| IssuerNews {
        issuer: "https://a".into(),
        source: source.into(),
        jwks: jwks.as_bytes().into(),
        until: (!jwks.is_empty()).then_some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    let told = |issuer: IssuerNews| {
        let mut picture = Picture::default();
        let news = News { put_issuers: vec![issuer], ..news(1, true, Vec::new()) };
        let changed = picture.hear(news).unwrap().unwrap();
        assert_eq!(changed.issuers, [Box::from("https://a")].into());
        picture
    };
    let before = told(issuer("https://a/1", "old"));
    for (told_now, kept) in [
        (issuer("https://a/1", ""), "old"),
        (issuer("https://a/1", "new"), "new"),
        // Keys of another address, and those that somebody has taken away, are not those of before.
        (issuer("https://a/2", ""), ""),
        (issuer("", ""), ""),
    ] {
        let mut picture = told(told_now);
        picture.keep_keys(&before);
        let known = &picture.issuers()["https://a"];
        assert_eq!((&*known.jwks, known.until.is_some()), (kept.as_bytes(), !kept.is_empty()));
        picture.keep_keys(&Picture::default());
        assert_eq!(&*picture.issuers()["https://a"].jwks, kept.as_bytes());
    }
    let mut gone = before.clone();
    let news = News { gone_issuers: vec!["https://a".into()], ..news(2, true, Vec::new()) };
    assert!(!gone.hear(news).unwrap().unwrap().is_empty());
    gone.keep_keys(&before);
    assert!(gone.issuers().is_empty());
}
