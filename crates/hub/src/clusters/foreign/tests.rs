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
    for next in [5, 6, u64::MAX] {
        is_newer(Some(&five), &bundle(Some(next))).unwrap();
    }
    let back = is_newer(Some(&five), &bundle(Some(4)));
    assert!(matches!(back, Err(NotTaken::Older { known: 5, told: 4 })), "{back:?}");
    let none = is_newer(Some(&five), &bundle(None));
    assert!(matches!(none, Err(NotTaken::Unnumbered(5))), "{none:?}");
    for held in [None, Some(&bundle(None))] {
        is_newer(held, &bundle(None)).unwrap();
        is_newer(held, &bundle(Some(0))).unwrap();
    }
}

#[test]
fn what_was_fetched_last_counts_before_what_the_object_gives_and_for_its_source_alone() {
    let own = trust("https://bank.example/");
    let given = ForeignTrust {
        trust_domain_bundle: Some(bundle(Some(1)).to_json().to_string()),
        ..own.clone()
    };
    assert_eq!(held(&own, None), None);
    assert_eq!(held(&given, None).unwrap().sequence(), Some(1));
    let mut known = ForeignBundle {
        federation: "bank".to_owned(),
        uid: "1".to_owned(),
        source: source_of(&given),
        bundle: Some(bundle(Some(7)).to_json().to_string()),
        fetched_at: None,
        failure: None,
        failing_since: None,
    };
    assert_eq!(held(&given, Some(&known)).unwrap().sequence(), Some(7));
    known.bundle = None;
    assert_eq!(held(&given, Some(&known)).unwrap().sequence(), Some(1));
    let mut sources = vec![source_of(&own), source_of(&given)];
    sources.push(source_of(&trust("https://bank.example/other")));
    sources.push(source_of(&ForeignTrust { trust_domain: "shop.example".parse().unwrap(), ..own }));
    let count = sources.len();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), count);
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
    assert_eq!(schedule.due(&all, begun).len(), 1);
    for (hint, wait) in [(Some(0), 30), (Some(60), 60), (None, 300), (Some(u64::MAX), 3_600)] {
        schedule.fetched(&all[0], Ok(hint), begun);
        assert!(schedule.due(&all, begun + second(wait - 1)).is_empty(), "{hint:?}");
        assert_eq!(schedule.due(&all, begun + second(wait)).len(), 1, "{hint:?}");
    }
    let mut now = begun;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        schedule.fetched(&all[0], Err(()), now);
        assert!(schedule.due(&all, now + second(wait - 1)).is_empty(), "{wait}");
        now += second(wait);
        assert_eq!(schedule.due(&all, now).len(), 1, "{wait}");
    }
    // Another address is asked at once, and of many no more than some at a time.
    schedule.fetched(&all[0], Ok(None), now);
    assert_eq!(schedule.due(&[made("b")], now).len(), 1);
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let many: Vec<_> = ids
        .iter()
        .map(|uid| Wanted { name: "x", uid, source: "a".to_owned(), trust: &one })
        .collect();
    assert_eq!(schedule.due(&many, now).len(), AT_ONCE);
    schedule.due(&[], now);
    assert!(schedule.0.is_empty());
}
