#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use nullius_model::TrustDomain;
use nullius_pki::workload::JwtSigner;

use super::*;

fn domain() -> TrustDomain {
    "bank.example".parse().unwrap()
}

fn trust(url: &str) -> ForeignTrust {
    ForeignTrust {
        trust_domain: domain(),
        bundle_endpoint_url: url.to_owned(),
        bundle_endpoint_profile: BundleEndpointProfile::Web { authorities: None },
        trust_domain_bundle: None,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn one_of(trust: &ForeignTrust) -> Wanted<'_> {
    Wanted { name: "bank", uid: "1", source: source_of(trust), trust }
}

fn bundle(sequence: Option<u64>) -> TrustBundle {
    let mut bundle = TrustBundle::new(domain());
    bundle.add_jwt(JwtSigner::create(domain()).unwrap().authority());
    match sequence {
        Some(sequence) => bundle.at(sequence, 60),
        None => bundle,
    }
}

#[test]
fn a_bundle_with_a_lower_number_or_without_one_changes_nothing() {
    let five = bundle(Some(5));
    for next in [5, 6, 5 + LEAP] {
        is_newer(Some(&five), &bundle(Some(next)), now()).unwrap();
    }
    let back = is_newer(Some(&five), &bundle(Some(4)), now());
    assert!(matches!(back, Err(NotTaken::Older { known: 5, told: 4 })), "{back:?}");
    let none = is_newer(Some(&five), &bundle(None), now());
    assert!(matches!(none, Err(NotTaken::Unnumbered(5))), "{none:?}");
    for held in [None, Some(&bundle(None))] {
        is_newer(held, &bundle(None), now()).unwrap();
        is_newer(held, &bundle(Some(0)), now()).unwrap();
    }
}

#[test]
fn no_bundle_makes_every_other_older() {
    let five = bundle(Some(5));
    let clock = u64::try_from(now().as_nanosecond()).unwrap();
    for (held, next) in [(None, clock), (Some(&five), clock), (None, LEAP), (None, 1)] {
        is_newer(held, &bundle(Some(next)), now()).unwrap();
    }
    for held in [None, Some(&five)] {
        for next in [u64::MAX, 2 * clock] {
            let leap = is_newer(held, &bundle(Some(next)), now());
            assert!(matches!(leap, Err(NotTaken::Leap { .. })), "{leap:?}");
        }
    }
}

#[test]
fn what_was_taken_last_counts_wherever_it_is_fetched_until_a_newer_one_is_given() {
    let giving = |sequence| ForeignTrust {
        trust_domain_bundle: Some(bundle(Some(sequence)).to_json().to_string()),
        ..trust("https://bank.example/")
    };
    let number = |trust: &ForeignTrust, known: Option<&ForeignBundle>| {
        held(trust, known, now()).and_then(|it| it.sequence())
    };
    let one = giving(1);
    assert_eq!(held(&trust("https://bank.example/"), None, now()), None);
    assert_eq!(number(&one, None), Some(1));
    let fetched = bundle(Some(9));
    let mut known = one_of(&one).kept(None, Some(&fetched));
    known.fetched_at = Some(now());
    assert_eq!(number(&one, Some(&known)), Some(9));
    // Another address, or no bundle in the object any more: no older one comes back.
    let moved =
        ForeignTrust { bundle_endpoint_url: "https://b.example/".to_owned(), ..one.clone() };
    let bare = ForeignTrust { trust_domain_bundle: None, ..moved.clone() };
    let giving_less = giving(8);
    for edited in [&moved, &bare, &giving_less] {
        assert_eq!(number(edited, Some(&known)), Some(9));
        let kept =
            one_of(edited).kept(Some(known.clone()), held(edited, Some(&known), now()).as_ref());
        assert_eq!(
            (kept.bundle.as_ref(), kept.fetched_at),
            (known.bundle.as_ref(), known.fetched_at)
        );
        assert_eq!(number(edited, Some(&kept)), Some(9));
    }
    // A newer one that is given counts, also when nothing can be fetched since.
    let ten = giving(10);
    assert_eq!(number(&ten, Some(&known)), Some(10));
    let kept = one_of(&ten).kept(Some(known.clone()), held(&ten, Some(&known), now()).as_ref());
    assert_eq!((number(&ten, Some(&kept)), kept.fetched_at), (Some(10), None));
    assert_eq!(number(&bare, Some(&kept)), Some(10));
    // Whose it is does not change by the way.
    assert!(one_of(&one).has(&known));
    let other = ForeignTrust { trust_domain: "shop.example".parse().unwrap(), ..one };
    assert!(!one_of(&other).has(&known));
}

#[test]
fn the_audit_has_the_keys_and_of_many_their_number() {
    let (one, two) = (bundle(Some(1)), bundle(Some(2)));
    assert!(Keys::of(Some(&one)).are(&Keys::of(Some(&one.clone().at(7, 1)))));
    assert!(!Keys::of(Some(&one)).are(&Keys::of(Some(&two))));
    let mut many = one;
    for _ in 0..19 {
        many.add_jwt(JwtSigner::create(domain()).unwrap().authority());
    }
    let mut facts = BTreeMap::new();
    Keys::of(Some(&many)).tell(&mut facts, "-before");
    assert_eq!((&*facts["number-before"], &*facts["anchors-before"]), ("1", ""));
    assert!(facts["token-keys-before"].ends_with(" and 4 more"), "{facts:?}");
}

#[test]
fn what_could_never_be_fetched_is_refused_with_its_field() {
    check(&trust("https://bank.example/bundle")).unwrap();
    for url in
        ["", "http://bank.example/", "https://a@b/", "https://bank.example/\r\nx: y", "file:///etc"]
    {
        assert_eq!(check(&trust(url)).unwrap_err().0, "bundleEndpointURL", "{url}");
    }
    let good = trust("https://bank.example/");
    let pem = BundleEndpointProfile::Web { authorities: Some("no certificate".to_owned()) };
    let odd = ForeignTrust { bundle_endpoint_profile: pem, ..good.clone() };
    assert_eq!(check(&odd).unwrap_err().0, "bundleEndpointProfile.authorities");
    for text in ["", "{}", "[]", &" ".repeat(BUNDLE_MAX + 1)] {
        let odd = ForeignTrust { trust_domain_bundle: Some(text.to_owned()), ..good.clone() };
        assert_eq!(check(&odd).unwrap_err().0, "trustDomainBundle");
    }
}

#[test]
fn each_is_fetched_at_once_then_when_its_bundle_says_and_sooner_when_that_failed() {
    let second = Duration::from_secs;
    let (mut schedule, begun) = (Schedule::default(), Instant::now());
    let one = trust("https://bank.example/");
    let made = |url: &str| Wanted { name: "bank", uid: "1", source: url.to_owned(), trust: &one };
    let all = [made("a")];
    assert_eq!(schedule.due(&all, 0, begun).len(), 1);
    for (hint, wait) in [(Some(0), 30), (Some(60), 60), (None, 300), (Some(u64::MAX), 3_600)] {
        schedule.fetched(&all[0], Ok(hint), begun);
        assert!(schedule.due(&all, 0, begun + second(wait - 1)).is_empty(), "{hint:?}");
        assert_eq!(schedule.due(&all, 0, begun + second(wait)).len(), 1, "{hint:?}");
    }
    let mut now = begun;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        schedule.fetched(&all[0], Err(()), now);
        assert!(schedule.due(&all, 0, now + second(wait - 1)).is_empty(), "{wait}");
        now += second(wait);
        assert_eq!(schedule.due(&all, 0, now).len(), 1, "{wait}");
    }
    // Another address is asked at once, and of many no more than some at a time.
    schedule.fetched(&all[0], Ok(None), now);
    assert_eq!(schedule.due(&[made("b")], 0, now).len(), 1);
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let many: Vec<_> = ids
        .iter()
        .map(|uid| Wanted { name: "x", uid, source: "a".to_owned(), trust: &one })
        .collect();
    assert_eq!(schedule.due(&many, 0, now).len(), AT_ONCE);
    schedule.due(&[], 0, now);
    assert!(schedule.all.is_empty());
}
