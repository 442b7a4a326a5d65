//! Matching, escalation check and validation of rules.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_model::PolicyRule;
use nullius_rbac::{
    Attributes, ResourceAttributes, Scope, Target, allows, covers, first_match, rule_errors,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::reference;

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

fn on(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: list(verbs),
        api_groups: list(groups),
        resources: list(resources),
        ..PolicyRule::default()
    }
}

fn named(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
    rule.resource_names = list(names);
    rule
}

fn urls(verbs: &[&str], urls: &[&str]) -> PolicyRule {
    PolicyRule { verbs: list(verbs), non_resource_urls: list(urls), ..PolicyRule::default() }
}

/// `get apps deployments/scale name`, `-` for empty.
fn ask(text: &'static str) -> Attributes<'static> {
    let part = |index: usize| match text.split(' ').nth(index) {
        None | Some("-") => "",
        Some(part) => part,
    };
    let (resource, subresource) = part(2).split_once('/').unwrap_or((part(2), ""));
    Attributes::resource(
        part(0),
        ResourceAttributes {
            group: part(1),
            resource,
            subresource,
            namespace: part(4),
            name: part(3),
        },
    )
}

#[test]
fn stars_cover_what_kubernetes_lets_them_cover() {
    let all = on(&["*"], &["*"], &["*"]);
    assert!(allows(&all, &ask("get - pods/log web")));
    assert!(allows(&all, &ask("deletecollection apps deployments")));
    let scale = on(&["update"], &["apps"], &["*/scale"]);
    assert!(allows(&scale, &ask("update apps deployments/scale web")));
    assert!(!allows(&scale, &ask("update apps scale web")));
    for inert in ["pods/*", "*/*"] {
        assert!(!allows(&on(&["get"], &[""], &[inert]), &ask("get - pods/log web")), "{inert}");
        assert!(!allows(&on(&["get"], &[""], &[inert]), &ask("get - pods web")), "{inert}");
    }
    assert!(!allows(&on(&["get"], &[""], &["pods"]), &ask("get - pods/log web")));
    assert!(!allows(&on(&["get"], &[""], &["pods"]), &ask("get apps pods web")));
    assert!(!allows(&on(&["g*"], &[""], &["pods"]), &ask("get - pods web")));
    assert!(allows(&all, &ask("- - pods")));
    assert!(!allows(&on(&["get"], &[""], &["pods"]), &ask("- - pods")));
}

#[test]
fn names_never_match_what_has_none() {
    let rule = named(on(&["*"], &[""], &["pods", "pods/exec", "serviceaccounts/token"]), &["web"]);
    assert!(allows(&rule, &ask("get - pods web")));
    assert!(allows(&rule, &ask("list - pods web")));
    assert!(allows(&rule, &ask("create - pods/exec web")));
    assert!(allows(&rule, &ask("create - serviceaccounts/token web")));
    for nameless in ["list - pods", "watch - pods", "deletecollection - pods", "create - pods"] {
        assert!(!allows(&rule, &ask(nameless)), "{nameless}");
    }
    assert!(!allows(&rule, &ask("get - pods other")));
}

#[test]
fn urls_end_in_a_star_or_are_meant_as_they_stand() {
    let rule = urls(&["get"], &["/logs/*", "/a*b", "/health"]);
    assert!(allows(&rule, &Attributes::url("get", "/logs/x/y")));
    assert!(allows(&rule, &Attributes::url("get", "/logs/")));
    assert!(allows(&rule, &Attributes::url("get", "/a*b")));
    for not in ["/logs", "/axb", "/health/", "/healthz"] {
        assert!(!allows(&rule, &Attributes::url("get", not)), "{not}");
    }
    assert!(!allows(&rule, &Attributes::url("post", "/health")));
    assert!(allows(&urls(&["*"], &["*"]), &Attributes::url("post", "/anything")));
    assert!(!allows(&on(&["*"], &["*"], &["*"]), &Attributes::url("get", "/metrics")));
    assert!(!allows(&urls(&["*"], &["*"]), &ask("get - pods")));
}

#[test]
fn a_namespace_holds_only_what_is_in_it() {
    let rules = [on(&["*"], &["*"], &["*"]), urls(&["*"], &["*"])];
    let shop = Scope::Namespace("shop");
    assert_eq!(first_match(&rules, shop, &ask("get - pods web shop")), Some(0));
    assert_eq!(first_match(&rules, shop, &ask("get - namespaces shop shop")), Some(0));
    for outside in ["get - pods web ops", "list - pods", "get - nodes n1", "list - namespaces"] {
        assert_eq!(first_match(&rules, shop, &ask(outside)), None, "{outside}");
        assert_eq!(first_match(&rules, Scope::Cluster, &ask(outside)), Some(0), "{outside}");
    }
    let url = Attributes::url("get", "/metrics");
    assert_eq!(first_match(&rules, shop, &url), None);
    assert_eq!(first_match(&rules, Scope::Cluster, &url), Some(1));
    assert_eq!(first_match(&rules, Scope::Namespace(""), &ask("list - pods")), None);
}

#[test]
fn what_is_missing_is_told_right_by_right() {
    let held = [on(&["get", "list"], &[""], &["pods"]), urls(&["get"], &["/logs/*"])];
    assert_eq!(covers(&held, &[on(&["list"], &[""], &["pods"])]), Ok(()));
    assert_eq!(covers(&held, &[urls(&["get"], &["/logs/a", "/logs/b/*"])]), Ok(()));
    assert_eq!(covers(&held, &[]), Ok(()));
    let wanted = [
        named(on(&["get", "delete"], &["", "apps"], &["pods"]), &["web"]),
        urls(&["get"], &["/logs"]),
    ];
    let missing: Vec<String> =
        covers(&held, &wanted).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "get `pods` in group `apps` named `web`",
            "delete `pods` named `web`",
            "delete `pods` in group `apps` named `web`",
            "get `/logs`"
        ]
    );
}

#[test]
fn a_star_is_covered_by_a_star_alone() {
    let held = [on(&["get", "list", "watch"], &["", "apps"], &["pods", "*/scale"])];
    assert!(covers(&held, &[on(&["*"], &[""], &["pods"])]).is_err());
    assert!(covers(&held, &[on(&["get"], &["*"], &["pods"])]).is_err());
    assert!(covers(&held, &[on(&["get"], &[""], &["*"])]).is_err());
    assert!(covers(&held, &[on(&["get"], &["apps"], &["deployments/scale"])]).is_ok());
    assert!(covers(&held, &[on(&["get"], &["apps"], &["deployments/status"])]).is_err());
    let one = [named(on(&["get"], &[""], &["pods"]), &["web"])];
    assert!(covers(&one, &[on(&["get"], &[""], &["pods"])]).is_err());
    assert!(covers(&one, &one).is_ok());
}

#[test]
fn rules_are_valid_where_kubernetes_stores_them() {
    let fields = |rules: &[PolicyRule]| -> Vec<String> {
        rule_errors(rules).into_iter().map(|error| error.field).collect()
    };
    let good = [on(&["get"], &[""], &["pods"]), urls(&["get"], &["/metrics"])];
    assert_eq!(fields(&good), Vec::<String>::new());
    assert_eq!(
        fields(&[good[0].clone(), on(&[], &[], &[])]),
        ["rules[1].verbs", "rules[1].apiGroups", "rules[1].resources"]
    );
    let mixed = PolicyRule { non_resource_urls: list(&["/x"]), ..good[0].clone() };
    assert_eq!(fields(&[mixed]), ["rules[0].nonResourceURLs"]);
    assert_eq!(fields(&[on(&["get\n"], &[""], &["pods"])]), ["rules[0].verbs[0]"]);
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let huge = PolicyRule {
        verbs: names.clone(),
        api_groups: list(&[""]),
        resources: names,
        ..PolicyRule::default()
    };
    assert_eq!(fields(&[huge]), ["rules[0]"]);
    assert_eq!(fields(&vec![good[0].clone(); 513]), ["rules"]);
}

const VERBS: [&str; 5] = ["get", "list", "create", "deletecollection", "*"];
const GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 9] = [
    "pods",
    "pods/log",
    "scale",
    "deployments",
    "deployments/scale",
    "*",
    "*/scale",
    "pods/*",
    "*/*",
];
const NAMES: [&str; 2] = ["web", "db"];
const URLS: [&str; 7] = ["/", "/logs", "/logs/*", "/logs/x", "*", "/a*b", "/logs/**"];

prop_compose! {
    fn any_rule()(
        verbs in vec(select(&VERBS[..]), 0..3),
        groups in vec(select(&GROUPS[..]), 0..3),
        resources in vec(select(&RESOURCES[..]), 0..3),
        names in vec(select(&NAMES[..]), 0..2),
        urls in vec(select(&URLS[..]), 0..2),
    ) -> PolicyRule {
        PolicyRule {
            verbs: list(&verbs),
            api_groups: list(&groups),
            resources: list(&resources),
            resource_names: list(&names),
            non_resource_urls: list(&urls),
        }
    }
}

fn any_request() -> impl Strategy<Value = Attributes<'static>> {
    let verb = select(vec!["get", "list", "create", "deletecollection", "", "*"]);
    let resource = (
        select(vec!["", "apps", "batch"]),
        select(vec!["pods", "scale", "deployments", "*"]),
        select(vec!["", "log", "scale", "*"]),
        select(vec!["", "web", "db", "x"]),
        select(vec!["", "shop"]),
    )
        .prop_map(|(group, resource, subresource, name, namespace)| {
            Target::Resource(ResourceAttributes { group, resource, subresource, namespace, name })
        });
    let url = select(vec!["/", "/logs", "/logs/", "/logs/x", "/a*b", "/axb"]).prop_map(Target::Url);
    (verb, prop_oneof![3 => resource, 1 => url])
        .prop_map(|(verb, target)| Attributes { verb, target })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matching_equals_the_reference(rule in any_rule(), request in any_request()) {
        prop_assert_eq!(allows(&rule, &request), reference::allows(&rule, &request));
    }

    #[test]
    fn covered_rules_allow_nothing_more(
        held in vec(any_rule(), 0..3),
        given in vec(any_rule(), 0..3),
        request in any_request(),
    ) {
        if covers(&held, &given).is_ok() && given.iter().any(|rule| allows(rule, &request)) {
            prop_assert!(held.iter().any(|rule| allows(rule, &request)));
        }
    }

    #[test]
    fn everybody_covers_themselves_and_less(rules in vec(any_rule(), 0..4), keep in 0_usize..4) {
        prop_assume!(rule_errors(&rules).is_empty());
        prop_assert_eq!(covers(&rules, &rules), Ok(()));
        let fewer = &rules[..keep.min(rules.len())];
        prop_assert_eq!(covers(&rules, fewer), Ok(()));
        prop_assert_eq!(covers(&[on(&["*"], &["*"], &["*"]), urls(&["*"], &["*"])], &rules), Ok(()));
    }

    #[test]
    fn the_smallest_rule_allows_its_request(request in any_request()) {
        prop_assert!(allows(&request.smallest_rule(), &request));
    }
}
