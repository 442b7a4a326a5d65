//! Filters match what they say, and read from a query string's words.

use nullius_audit::Filter;
use nullius_model::{AuditKind, AuditOutcome, Principal};

use crate::event;

#[test]
fn each_field_of_a_filter_narrows() {
    let event = event(1);
    let all = Filter {
        user: Some("ada".into()),
        kind: Some(AuditKind::KubeRequest),
        outcome: Some(AuditOutcome::Done),
        cluster: Some("dev".into()),
        session: Some("0123456789abcdef0123456789abcdef".into()),
        namespace: Some("shop".into()),
        resource: Some("pods/exec".into()),
        verb: Some("create".into()),
        target: None,
        since: Some("2026-01-02T03:04:05.123456Z".parse().unwrap()),
        until: Some("2026-01-02T03:04:05.123457Z".parse().unwrap()),
        audit_id: Some(event.audit_id.clone()),
        limit: None,
    };
    assert!(all.matches(&event));
    assert!(Filter { resource: Some("pods".into()), ..all.clone() }.matches(&event));
    let misses = [
        Filter { user: Some("eve".into()), ..all.clone() },
        Filter { kind: Some(AuditKind::Read), ..all.clone() },
        Filter { outcome: Some(AuditOutcome::Denied), ..all.clone() },
        Filter { cluster: Some("prod".into()), ..all.clone() },
        Filter { session: Some("x".into()), ..all.clone() },
        Filter { namespace: Some(String::new()), ..all.clone() },
        Filter { resource: Some("pods/log".into()), ..all.clone() },
        Filter { resource: Some("exec".into()), ..all.clone() },
        Filter { verb: Some("get".into()), ..all.clone() },
        Filter { target: Some("Grant/x".into()), ..all.clone() },
        Filter { since: all.until, ..all.clone() },
        Filter { until: all.since, ..all.clone() },
        Filter { audit_id: Some("other".parse().unwrap()), ..all },
    ];
    for miss in misses {
        assert!(!miss.matches(&event), "{miss:?}");
    }
}

#[test]
fn a_claimed_name_is_found_by_its_user() {
    let mut failed = event(1);
    failed.principal = Principal::Unproven { claimed: "ada".into() };
    assert!(Filter { user: Some("ada".into()), ..Filter::default() }.matches(&failed));
    failed.principal = Principal::Hub;
    assert!(!Filter { user: Some("hub".into()), ..Filter::default() }.matches(&failed));
}

#[test]
fn a_filter_reads_words_and_refuses_what_it_does_not_know() {
    let filter: Filter =
        serde_json::from_str(r#"{"kind":"kube-request","outcome":"denied","limit":5000}"#).unwrap();
    assert_eq!(filter.kind, Some(AuditKind::KubeRequest));
    assert_eq!(filter.limit(), Filter::MAX_LIMIT);
    assert_eq!(Filter::default().limit(), Filter::DEFAULT_LIMIT);
    assert!(serde_json::from_str::<Filter>(r#"{"users":"ada"}"#).is_err());
    assert_eq!(Filter::parse_word::<AuditOutcome>("failed").unwrap(), AuditOutcome::Failed);
    let unknown = Filter::parse_word::<AuditKind>("kubes").unwrap_err().to_string();
    assert!(unknown.contains("kube-request"), "{unknown}");
}
