//! Whatever a client sends, the parser reads it in one way or refuses it.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_rbac::{Method, RequestInfo};
use proptest::{collection::vec, prelude::*, sample::select};

fn any_segment() -> impl Strategy<Value = &'static str> {
    select(vec![
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        "watch",
        "proxy",
        "pods",
        "exec",
        "shop",
        "web",
        "status",
        "%2f",
        "%41",
        "%3A",
        "..",
        ".",
        "",
        "%",
        "a b",
        "\\",
        "é",
        "%C3%A4",
        "x;y",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_by_refusing(text in ".{0,80}", method in ".{0,8}") {
        let _ = RequestInfo::parse(&method, &text);
        let _ = RequestInfo::parse("GET", &format!("/{text}"));
        let _ = RequestInfo::parse("GET", &format!("/api/v1/pods?{text}"));
    }

    #[test]
    fn a_request_that_is_read_has_one_reading(
        segments in vec(any_segment(), 0..8),
        method in select(Method::ALL.to_vec()),
    ) {
        let target = format!("/{}", segments.join("/"));
        let Ok(info) = RequestInfo::parse(method.as_str(), &target) else { return Ok(()) };
        prop_assert_eq!(info.path_and_query(), target.as_str());
        prop_assert!(target.is_ascii() && !target.contains("//") && !target.contains("/../"));
        if !target.contains("/proxy/") {
            let again = RequestInfo::parse(method.as_str(), &target).unwrap();
            prop_assert_eq!(&info, &again);
            prop_assert!(info.path().is_ascii());
        }
        for part in [info.namespace(), info.resource(), info.subresource(), info.name()] {
            prop_assert!(!part.contains('/') && part != ".." && part.is_ascii());
        }
        prop_assert_eq!(info.is_resource(), !info.resource().is_empty());
    }
}
