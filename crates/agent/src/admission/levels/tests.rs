#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use nullius_model::{API_VERSION, KEPT_LEVEL_LABEL};
use nullius_policy::{exception::KIND, pod_security::ENFORCE_LABEL};

use super::*;

mod conditions;
mod kept;

const NOW: &str = "2026-06-01T00:00:00Z";

fn exception(name: &str, checks: &[&str], namespaces: &[&str], ends: &str) -> Arc<Value> {
    Arc::new(json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": name, "namespace": "n" },
        "spec": { "owner": "a", "reason": "b", "expires": ends,
                  "rules": [{ "policy": "PodSecurity", "checks": checks }],
                  "scope": { "namespaces": namespaces } },
    }))
}

fn namespace(name: &str, level: &str, mark: Option<&str>) -> Arc<Value> {
    let mut labels = json!({ ENFORCE_LABEL: level });
    if let Some(mark) = mark {
        labels[KEPT_LEVEL_LABEL] = mark.into();
    }
    Arc::new(json!({ "metadata": { "name": name, "uid": format!("{name}-1"), "labels": labels } }))
}

fn wishes(
    exceptions: &[Arc<Value>],
    are_known: bool,
    namespaces: &[Arc<Value>],
    of_baseline: Option<&str>,
) -> (Vec<(String, Wish)>, Vec<Coming>) {
    let level = |_: &Value| of_baseline.map(str::to_owned);
    let lowered = LoweredHere::new();
    let known = Known {
        exceptions,
        unreadable: &[],
        are_all: are_known,
        namespaces,
        lowered: &lowered,
        server: Some(36),
    };
    let (places, coming) = look(&known, level, NOW.parse().unwrap());
    (places.into_iter().map(|(name, place)| (name, place.wish)).collect(), coming)
}

#[test]
fn only_restricted_namespaces_of_exceptions_that_hold_are_lowered() {
    let holds = exception(
        "a",
        &["runAsNonRoot"],
        &["sh*", "kube-system", "low", "named"],
        "2026-06-02T00:00:00Z",
    );
    let ended = exception("b", &["runAsNonRoot"], &["other"], "2026-05-31T00:00:00Z");
    let of_baseline = exception("c", &["hostPorts"], &["other"], "2026-06-02T00:00:00Z");
    let all = [
        namespace("kube-system", "restricted", None),
        namespace("low", "baseline", None),
        namespace("named", "privileged", None),
        namespace("other", "restricted", None),
        namespace("shop", "restricted", None),
        namespace("shut", "privileged", None),
    ];
    let (wishes, coming) = wishes(&[holds, ended, of_baseline], true, &all, None);
    assert_eq!(wishes, [("shop".to_owned(), Wish::Lower)]);
    let told = |at: usize, name: &str| coming[at].places.get(name).cloned();
    assert_eq!(told(0, "shop"), Some(None));
    assert!(told(0, "low").unwrap().unwrap().contains("its label says `baseline`"));
    assert!(told(0, "kube-system").unwrap().unwrap().contains("not asked"));
    assert!(told(0, "named").unwrap().unwrap().contains("enforces no level"));
    assert_eq!(told(0, "shut"), None, "a pattern may well be for more than that");
    assert_eq!(coming[1].nowhere.as_deref(), Some("it has ended"));
    assert!(coming[2].nowhere.as_ref().unwrap().contains("`hostPorts`"));
    assert!(coming[2].places.is_empty());
}

#[test]
fn what_was_lowered_is_restored_without_an_exception_and_stays_while_nobody_knows_of_them() {
    let lowered = [namespace("shop", "baseline", Some("restricted"))];
    let name = || "shop".to_owned();
    let holds = exception("a", &[], &["shop"], "2026-06-02T00:00:00Z");
    assert_eq!(
        wishes(std::slice::from_ref(&holds), true, &lowered, None).0,
        [(name(), Wish::Lower)]
    );
    assert_eq!(wishes(&[], true, &lowered, None).0, [(name(), Wish::Restore)]);
    assert_eq!(wishes(&[], false, &lowered, None).0, [(name(), Wish::Stay)]);
    // What anybody could write is no mark, and nothing comes of it.
    for forged in ["", "baseline", "privileged"] {
        let forged = [namespace("shop", "baseline", Some(forged))];
        assert_eq!(wishes(&[], true, &forged, None).0, []);
    }
    // A baseline that wants less is the owner of the label.
    let (lower, coming) = wishes(&[holds], true, &lowered, Some("baseline"));
    assert_eq!(lower, [(name(), Wish::Restore)]);
    assert!(coming[0].places["shop"].as_ref().unwrap().contains("NamespaceBaseline"));
}

#[test]
fn another_namespace_of_the_same_name_is_another() {
    let place = |uid: &str| {
        let namespace = json!({ "metadata": { "name": "shop", "uid": uid } });
        Place { namespace: Arc::new(namespace), wish: Wish::Lower, is_marked: false }
    };
    let seen = Seen {
        places: BTreeMap::from([("shop".to_owned(), place("1"))]),
        lingering: BTreeSet::from(["old".to_owned()]),
        coming: Vec::new(),
    };
    assert_eq!(seen.asked_about(), ["old", "shop"]);
    assert!(seen.asked().asks(POD_SECURITY, &place("1").key()));
    assert!(!seen.asked().asks(POD_SECURITY, &place("2").key()));
}

#[test]
fn what_was_lowered_here_stays_asked_about_until_the_watch_has_come_so_far() {
    let version = |level: &str, mark: Option<&str>, version: &str| {
        let mut object = Value::clone(&namespace("shop", level, mark));
        object["metadata"]["resourceVersion"] = version.into();
        Arc::new(object)
    };
    let mut lowered = LoweredHere::from([("shop".to_owned(), ("shop-1".to_owned(), 17))]);
    let wish = |lowered: &LoweredHere, exceptions: &[Arc<Value>], seen: &Arc<Value>| {
        let namespaces = std::slice::from_ref(seen);
        let known = Known {
            exceptions,
            unreadable: &[],
            are_all: true,
            namespaces,
            lowered,
            server: Some(36),
        };
        let (places, _) = look(&known, |_| None, NOW.parse().unwrap());
        places.get("shop").map(|place| (place.wish, place.is_marked))
    };
    // The watch is late: the exception has gone, and the namespace is not seen to be lowered yet.
    let before = version("restricted", None, "12");
    assert!(!forget_seen(&mut lowered, std::slice::from_ref(&before)));
    assert_eq!(wish(&lowered, &[], &before), Some((Wish::Restore, true)));
    let holds = exception("a", &[], &["shop"], "2026-06-02T00:00:00Z");
    assert_eq!(wish(&lowered, &[holds], &before), Some((Wish::Lower, true)));
    // What it sees now is what counts.
    let raised = version("restricted", None, "18");
    assert!(forget_seen(&mut lowered, std::slice::from_ref(&raised)));
    assert_eq!(wish(&lowered, &[], &raised), None);
    // Another namespace of the name was never lowered.
    let mut another = Value::clone(&before);
    another["metadata"]["uid"] = "shop-2".into();
    let mut lowered = LoweredHere::from([("shop".to_owned(), ("shop-1".to_owned(), 17))]);
    assert!(forget_seen(&mut lowered, &[Arc::new(another)]));
}

#[test]
fn who_writes_something_else_of_a_namespace_wakes_nobody() {
    let place = |change: &dyn Fn(&mut Value)| {
        let mut namespace = Value::clone(&namespace("shop", "restricted", None));
        change(&mut namespace);
        Place { namespace: Arc::new(namespace), wish: Wish::Lower, is_marked: false }
    };
    let plain = place(&|_| {});
    let noted = place(&|namespace| namespace["metadata"]["annotations"] = json!({ "a": "b" }));
    let labelled = place(&|namespace| namespace["metadata"]["labels"]["a"] = "b".into());
    let another = place(&|namespace| namespace["metadata"]["uid"] = "2".into());
    assert!(plain == noted && plain != labelled && plain != another);
}

#[test]
fn checks_that_only_the_api_server_knows_are_left_to_it() {
    let newest = u16::try_from(Version::NEWEST_KNOWN).unwrap();
    let holds = exception("a", &[], &["shop"], "2026-06-02T00:00:00Z");
    let lowered = LoweredHere::new();
    let look = |version: Option<&str>, level: &str, mark: Option<&str>, server: Option<u16>| {
        let mut object = Value::clone(&namespace("shop", level, mark));
        if let Some(version) = version {
            object["metadata"]["labels"]["pod-security.kubernetes.io/enforce-version"] =
                version.into();
        }
        let (exceptions, namespaces) = ([Arc::clone(&holds)], [Arc::new(object)]);
        let known = Known {
            exceptions: &exceptions,
            unreadable: &[],
            are_all: true,
            namespaces: &namespaces,
            lowered: &lowered,
            server,
        };
        let (places, coming) = look(&known, |_| None, NOW.parse().unwrap());
        (places.get("shop").map(|place| place.wish), coming[0].places["shop"].clone())
    };
    let (known, pinned) = (format!("v1.{newest}"), Some("v1.30"));
    for (version, server) in [(None, newest), (Some(known.as_str()), newest + 1), (pinned, 99)] {
        assert_eq!(look(version, "restricted", None, Some(server)), (Some(Wish::Lower), None));
    }
    for (version, server) in [
        (None, Some(newest + 1)),
        (Some("latest"), Some(99)),
        (Some("v1.99"), Some(99)),
        (None, None),
    ] {
        let (wish, why) = look(version, "restricted", None, server);
        assert!(wish.is_none() && why.unwrap().contains(&format!("up to v1.{newest}")));
        // The cluster was updated meanwhile.
        let (wish, _) = look(version, "baseline", Some("restricted"), server);
        assert_eq!(wish, Some(Wish::Restore));
    }
}

#[test]
fn what_cannot_be_read_any_more_says_so() {
    let broken = exception("a", &["no such check"], &["shop"], "2026-06-02T00:00:00Z");
    let mut other = Value::clone(&broken);
    other["spec"]["rules"][0]["policy"] = "p".into();
    let unreadable =
        [(broken, "no check".to_owned()), (Arc::new(other), "of another policy".to_owned())];
    let known = Known {
        exceptions: &[],
        unreadable: &unreadable,
        are_all: true,
        namespaces: &[namespace("shop", "restricted", None)],
        lowered: &LoweredHere::new(),
        server: Some(36),
    };
    let (places, coming) = look(&known, |_| None, NOW.parse().unwrap());
    assert!(places.is_empty());
    assert_eq!(coming.len(), 1);
    assert_eq!(coming[0].exception, "n/a");
    assert!(coming[0].nowhere.as_ref().unwrap().contains("cannot be read: no check"));
}
