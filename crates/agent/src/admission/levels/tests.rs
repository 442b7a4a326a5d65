#![allow(clippy::unwrap_used, reason = "test")]
use nullius_model::{API_VERSION, KEPT_LEVEL_LABEL};
use nullius_policy::{exception::KIND, pod_security::ENFORCE_LABEL};

use super::*;

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
    let (places, coming) = look(exceptions, are_known, namespaces, level, NOW.parse().unwrap());
    (places.into_iter().map(|(name, place)| (name, place.wish)).collect(), coming)
}

#[test]
fn only_restricted_namespaces_of_exceptions_that_hold_are_lowered() {
    let holds =
        exception("a", &["runAsNonRoot"], &["sh*", "kube-system", "low"], "2026-06-02T00:00:00Z");
    let ended = exception("b", &["runAsNonRoot"], &["other"], "2026-05-31T00:00:00Z");
    let of_baseline = exception("c", &["hostPorts"], &["other"], "2026-06-02T00:00:00Z");
    let all = [
        namespace("kube-system", "restricted", None),
        namespace("low", "baseline", None),
        namespace("other", "restricted", None),
        namespace("shop", "restricted", None),
    ];
    let (wishes, coming) = wishes(&[holds, ended, of_baseline], true, &all, None);
    assert_eq!(wishes, [("shop".to_owned(), Wish::Lower)]);
    let told = |at: usize, name: &str| coming[at].places.get(name).cloned();
    assert_eq!(told(0, "shop"), Some(None));
    assert!(told(0, "low").unwrap().unwrap().contains("its label says `baseline`"));
    assert!(told(0, "kube-system").unwrap().unwrap().contains("not asked"));
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
        Place { namespace: Arc::new(namespace), wish: Wish::Lower }
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
