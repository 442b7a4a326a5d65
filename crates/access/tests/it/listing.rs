//! What a person may do where, for people and as the bound of a session.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_access::{access_list, explain, hub_roles, plan, reachable_clusters};
use nullius_model::HubRole;
use nullius_rbac::{Attributes, ResourceAttributes};
use serde_json::json;

use crate::fleet::{cluster, fleet, fleet_with, grant, lock, now, signed_in, to_user};

#[test]
fn a_plan_holds_every_live_grant_and_nothing_else() {
    let fleet = fleet();
    let of = |user: &str, at: &str| plan(&fleet, &signed_in(user), &cluster(at), now());
    insta::assert_json_snapshot!(of("dana", "dev"));
    assert!(of("dana", "prod").is_empty(), "expired");
    assert!(of("viktor", "prod").is_empty());
    assert!(of("gone", "dev").is_empty());
    assert!(of("dana", "none").is_empty());
    let wide = of("op", "dev");
    assert_eq!(wide.len(), 1);
    assert_eq!(wide.first().unwrap().namespace, None);
    assert!(wide.first().unwrap().rules.iter().any(|rule| !rule.non_resource_urls.is_empty()));
}

#[test]
fn a_lock_or_the_end_of_a_session_empties_the_plan() {
    for (kind, target) in [("User", "dana"), ("Group", "devs"), ("Cluster", "dev")] {
        let fleet = fleet_with(&[lock("l", kind, target)]);
        assert!(plan(&fleet, &signed_in("dana"), &cluster("dev"), now()).is_empty(), "{kind}");
    }
    let mut ended = signed_in("dana");
    ended.expires_at = now();
    assert!(plan(&fleet(), &ended, &cluster("dev"), now()).is_empty());
}

#[test]
fn the_access_list_tells_where_as_what_and_until_when() {
    let fleet = fleet_with(&[lock("l", "Cluster", "prod")]);
    insta::assert_json_snapshot!(
        "access_list_dana",
        access_list(&fleet, &signed_in("dana"), now())
    );
    insta::assert_json_snapshot!(
        "access_list_root",
        access_list(&fleet, &signed_in("root"), now())
    );
    let reach = |user: &str| {
        let clusters = reachable_clusters(&fleet, &signed_in(user), now());
        clusters.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reach("dana"), ["dev"]);
    assert_eq!(reach("root"), Vec::<String>::new());
    assert_eq!(reach("nobody"), Vec::<String>::new());
}

#[test]
fn hub_roles_are_told_with_their_grants() {
    let roles = hub_roles(&fleet(), &signed_in("root"), now());
    assert_eq!(roles.get(&HubRole::Admin).map(|grant| grant.as_str()), Some("hub-admins"));
    assert!(hub_roles(&fleet(), &signed_in("dana"), now()).is_empty());
}

#[test]
fn an_explanation_goes_through_all_grants() {
    let fleet = fleet_with(&[
        grant(
            "broken",
            json!({ "subjects": to_user("dana"), "role": "missing", "clusters": { "names": ["dev"] } }),
        ),
        grant("auditing", json!({ "subjects": to_user("dana"), "hubRole": "auditor" })),
        grant(
            "short",
            json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": { "names": ["dev"] }, "duration": "1s" }),
        ),
        grant(
            "view",
            json!({ "subjects": to_user("dana"), "role": "viewer", "clusters": { "names": ["dev"] } }),
        ),
    ]);
    let pods = |namespace, name| ResourceAttributes {
        resource: "pods",
        namespace,
        name,
        ..Default::default()
    };
    let ask = |verb, resource| {
        let asked = Attributes::resource(verb, resource);
        let signed_in_at = Some(signed_in("dana").signed_in_at);
        explain(&fleet, &"dana".parse().unwrap(), &cluster("dev"), &asked, signed_in_at, now())
    };
    insta::assert_json_snapshot!("explain_allowed", ask("get", pods("shop", "web")));
    insta::assert_json_snapshot!("explain_denied", ask("delete", pods("ops", "web")));
}
