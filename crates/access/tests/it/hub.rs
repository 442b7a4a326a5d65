//! Actions on the hub's own objects: the table of roles, and the bounds that hold whatever the role.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_access::{
    Caller, HubAction, HubVerb, Judgement, Obligation, ReadScope, Snapshot, Whose, judge_hub,
    matrix_allows,
};
use nullius_model::{AnyObject, HubRole, Identity, Kind, Reason, UserName};
use serde_json::{Value, json};

use crate::fleet::{
    cluster, fleet, fleet_with, grant, labelled, lock, name, now, object, objects, signed_in,
    to_group, to_user, told, user,
};

fn judge(snapshot: &Snapshot, identity: &Identity, action: HubAction<'_>) -> Judgement {
    judge_hub(snapshot, &Caller::new(identity), &action, now()).0
}

fn by(who: &str, action: HubAction<'_>) -> Judgement {
    judge(&fleet(), &signed_in(who), action)
}

fn stored(kind: Kind, wanted: &str) -> AnyObject {
    objects().into_iter().find(|o| o.kind() == kind && o.name().as_str() == wanted).unwrap()
}

/// Creates the object, or updates the one that the fleet has under its name.
fn put(snapshot: &Snapshot, who: &str, after: &AnyObject) -> Judgement {
    let identity = signed_in(who);
    match snapshot.object(after.kind(), after.name()) {
        Some(before) => judge(snapshot, &identity, HubAction::Update { before, after }),
        None => judge(snapshot, &identity, HubAction::Create { object: after }),
    }
}

fn person(name: &str) -> UserName {
    name.parse().unwrap()
}

#[test]
fn the_table_of_hub_roles() {
    let roles = [HubRole::Admin, HubRole::Operator, HubRole::Approver, HubRole::Auditor];
    let mut table = format!("{:<24} admin operator approver auditor\n", "");
    let mut row = |label: String, verb: HubVerb, kind: Option<Kind>| {
        let marks = roles.map(|role| if matrix_allows(role, verb, kind) { "yes" } else { "-" });
        let [admin, operator, approver, auditor] = marks;
        let line = format!("{label:<24} {admin:<5} {operator:<8} {approver:<8} {auditor}");
        table.push_str(line.trim_end());
        table.push('\n');
    };
    for verb in HubVerb::ALL {
        if verb.is_on_objects() {
            for kind in Kind::ALL {
                row(format!("{verb} {kind}"), verb, Some(kind));
            }
        } else {
            row(verb.to_string(), verb, None);
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_table_is_what_is_judged() {
    let fleet = fleet();
    let people = [
        ("root", HubRole::Admin),
        ("op", HubRole::Operator),
        ("app", HubRole::Approver),
        ("aud", HubRole::Auditor),
    ];
    let harmless = [
        user("new", &[]),
        object("Group", "new", json!({})),
        object("Cluster", "new", json!({})),
        object("Role", "new", json!({ "rules": [] })),
        grant(
            "new",
            json!({ "subjects": to_user("viktor"), "role": "developer", "clusters": { "names": ["dev"] } }),
        ),
        lock("new", "User", "dana"),
    ];
    for (who, role) in people {
        for object in &harmless {
            let kind = object.kind();
            let identity = signed_in(who);
            let allowed = |action| judge(&fleet, &identity, action).is_allowed();
            let expected = |verb| matrix_allows(role, verb, Some(kind));
            assert_eq!(
                allowed(HubAction::Create { object }),
                expected(HubVerb::Create),
                "{who} {kind}"
            );
            assert_eq!(
                allowed(HubAction::Delete { object }),
                expected(HubVerb::Delete),
                "{who} {kind}"
            );
            let update = HubAction::Update { before: object, after: object };
            assert_eq!(allowed(update), expected(HubVerb::Update), "{who} {kind}");
            assert!(allowed(HubAction::Get { kind, name: object.name() }), "{who} {kind}");
        }
        let other = person("dana");
        let dev = cluster("dev");
        for action in READS {
            let all = matrix_allows(role, action.verb(), None);
            let scope = if all { ReadScope::All } else { ReadScope::Own };
            let seen = judge_hub(&fleet, &Caller::new(&signed_in(who)), &action, now());
            assert_eq!(seen.1, scope, "{who} {action}");
        }
        for action in [
            HubAction::ListSessions { of: Whose::Everyone },
            HubAction::EndSession { of: &other },
            HubAction::ExplainAccess { of: &other },
            HubAction::IssueJoinToken { cluster: &dev },
            HubAction::RotateTrust { cluster: &dev },
            HubAction::IssueEnrolment { user: &other },
        ] {
            let expected = matrix_allows(role, action.verb(), None);
            assert_eq!(by(who, action).is_allowed(), expected, "{who} {action}");
        }
    }
}

const READS: [HubAction<'static>; 4] =
    [HubAction::ReadAudit, HubAction::ReadUsage, HubAction::ReadFindings, HubAction::ReadMesh];

#[test]
fn everyone_reads_and_ends_what_is_their_own() {
    let fleet = fleet();
    let dana = signed_in("dana");
    let me = person("dana");
    let get = |kind, wanted: &str| {
        judge(&fleet, &dana, HubAction::Get { kind, name: &name(wanted) }).is_allowed()
    };
    for (kind, own, foreign) in [
        (Kind::User, "dana", "root"),
        (Kind::Group, "devs", "admins"),
        (Kind::Cluster, "dev", "none"),
        (Kind::Role, "developer", "everything"),
        (Kind::Grant, "dev-shop", "op-dev"),
    ] {
        assert!(get(kind, own), "{kind}");
        assert!(!get(kind, foreign), "{kind}");
    }
    assert!(judge(&fleet, &dana, HubAction::ListSessions { of: Whose::Person(&me) }).is_allowed());
    assert!(judge(&fleet, &dana, HubAction::EndSession { of: &me }).is_allowed());
    assert!(judge(&fleet, &dana, HubAction::ExplainAccess { of: &me }).is_allowed());
    let root = person("root");
    for action in [
        HubAction::ListSessions { of: Whose::Everyone },
        HubAction::ListSessions { of: Whose::Person(&root) },
        HubAction::EndSession { of: &root },
        HubAction::ExplainAccess { of: &root },
        HubAction::IssueEnrolment { user: &me },
    ] {
        assert_eq!(judge(&fleet, &dana, action).reason(), Reason::NoHubRole, "{action}");
    }
    for action in READS {
        let seen = |who: &str| judge_hub(&fleet, &Caller::new(&signed_in(who)), &action, now());
        assert_eq!(seen("dana").1, ReadScope::Own, "{action}");
        assert!(seen("dana").0.is_allowed(), "{action}");
        assert_eq!(seen("aud").1, ReadScope::All, "{action}");
    }
    let list = HubAction::List { kind: Kind::Grant };
    let scope = |who: &str| judge_hub(&fleet, &Caller::new(&signed_in(who)), &list, now());
    assert_eq!(scope("dana").1, ReadScope::Own);
    assert!(scope("dana").0.is_allowed());
    assert_eq!(scope("aud").1, ReadScope::All);
}

#[test]
fn locks_and_ended_sessions_stop_hub_actions_too() {
    let fleet = fleet_with(&[lock("l", "Group", "admins")]);
    let judgement = judge(&fleet, &signed_in("root"), HubAction::ReadAudit);
    assert_eq!(judgement.reason(), Reason::Locked);
    let list = HubAction::List { kind: Kind::User };
    assert_eq!(judge(&fleet, &signed_in("gone"), list).reason(), Reason::UserGone);
}

/// Changes by which an admin would get more than they have.
fn selfish_changes() -> Vec<(Snapshot, AnyObject)> {
    let everywhere = |subjects: Value| {
        grant(
            "mine",
            json!({ "subjects": subjects, "role": "viewer", "clusters": { "names": ["dev"] } }),
        )
    };
    let base = fleet;
    let by_label = |names: Value| {
        grant(
            "labelled",
            json!({ "subjects": to_group("admins"), "role": "viewer", "clusters": { "matchLabels": names } }),
        )
    };
    let labelled_grant = fleet_with(&[
        by_label(json!({ "env": "dev" })),
        labelled("Cluster", "dev", json!({}), json!({})),
    ]);
    let roleless = fleet_with(&[grant(
        "waits",
        json!({ "subjects": to_user("root"), "role": "later", "clusters": { "names": ["dev"] } }),
    )]);
    let groupless = fleet_with(&[
        user("root", &["admins", "later"]),
        grant(
            "waits",
            json!({ "subjects": to_group("later"), "role": "viewer", "clusters": { "names": ["dev"] } }),
        ),
    ]);
    let used = fleet_with(&[grant(
        "used",
        json!({ "subjects": to_user("root"), "role": "viewer", "clusters": { "names": ["dev"] }, "namespaces": ["shop"], "duration": "1h" }),
    )]);
    let changed_use = |change: Value| {
        let mut spec = json!({ "subjects": to_user("root"), "role": "viewer", "clusters": { "names": ["dev"] }, "namespaces": ["shop"], "duration": "1h" });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        grant("used", spec)
    };
    let wider =
        json!({ "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }] });
    let mut changes = vec![
        (base(), everywhere(to_user("root"))),
        (base(), everywhere(to_group("admins"))),
        (base(), grant("mine", json!({ "subjects": to_user("root"), "hubRole": "auditor" }))),
        (base(), user("root", &["admins", "devs"])),
        (base(), user("root", &["admins", "idle"])),
        (labelled_grant, labelled("Cluster", "dev", json!({ "env": "dev" }), json!({}))),
        (roleless, object("Role", "later", wider.clone())),
        (groupless, object("Group", "later", json!({}))),
    ];
    for change in [
        json!({ "namespaces": ["shop", "ops"] }),
        json!({ "namespaces": null }),
        json!({ "duration": "2h" }),
        json!({ "duration": null }),
        json!({ "role": "everything" }),
        json!({ "clusters": { "names": ["dev", "prod"] } }),
        json!({ "clusters": { "names": ["dev"], "matchLabels": { "env": "prod" } } }),
    ] {
        changes.push((fleet_with(&[changed_use(json!({}))]), changed_use(change)));
    }
    changes.push((used, object("Role", "viewer", wider)));
    changes
}

#[test]
fn nobody_grants_to_themselves_by_any_road() {
    for (fleet, change) in selfish_changes() {
        let judgement = put(&fleet, "root", &change);
        assert_eq!(judgement.reason(), Reason::SelfGrant, "{change:?}: {}", told(&judgement));
        assert!(judgement.explanation.next.as_deref().unwrap().contains("another admin (`eve`)"));
    }
}

#[test]
fn another_admin_may_do_what_would_be_selfish() {
    for (fleet, change) in selfish_changes() {
        let about_all_admins = serde_json::to_string(&change).unwrap().contains("admins")
            || fleet.object(Kind::Grant, &name("labelled")).is_some();
        if change.kind() == Kind::User || !about_all_admins {
            let judgement = put(&fleet, "eve", &change);
            assert!(judgement.is_allowed(), "{change:?}: {}", told(&judgement));
        }
    }
}

#[test]
fn one_may_narrow_what_one_has() {
    let fleet = fleet_with(&[grant(
        "used",
        json!({ "subjects": to_user("root"), "role": "viewer", "clusters": { "names": ["dev", "prod"] }, "namespaces": ["shop", "ops"] }),
    )]);
    let narrower = grant(
        "used",
        json!({ "subjects": [{ "kind": "User", "name": "root" }, { "kind": "User", "name": "viktor" }], "role": "viewer", "clusters": { "names": ["dev"] }, "namespaces": ["shop"], "duration": "1h", "reason": "less" }),
    );
    assert!(put(&fleet, "root", &narrower).is_allowed());
    let less = object(
        "Role",
        "viewer",
        json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
    );
    assert!(put(&fleet, "root", &less).is_allowed());
    assert!(put(&fleet, "root", &user("root", &[])).is_allowed());
    let used = stored(Kind::Grant, "root-prod");
    assert!(by("root", HubAction::Delete { object: &used }).is_allowed());
}

#[test]
fn an_operator_gives_and_takes_only_what_they_hold() {
    let dev = json!({ "names": ["dev"] });
    let to = |role: &str, clusters: &Value| {
        grant("g", json!({ "subjects": to_user("viktor"), "role": role, "clusters": clusters }))
    };
    let mut in_shop = json!({ "subjects": to_user("viktor"), "role": "developer", "clusters": dev, "namespaces": ["shop"] });
    let held = [
        to("developer", &dev),
        to("developer", &json!({ "matchLabels": { "env": "dev", "team": "x" } })),
        grant("g", in_shop.clone()),
        user("nobody", &["idle", "devs"]),
        user("new", &["devs"]),
        object("Cluster", "new", json!({})),
        object(
            "Role",
            "smaller",
            json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
        ),
    ];
    for change in &held {
        let judgement = put(&fleet(), "op", change);
        assert!(judgement.is_allowed(), "{change:?}: {}", told(&judgement));
    }
    in_shop["role"] = json!("everything");
    let beyond = [
        to("developer", &json!({ "names": ["dev", "prod"] })),
        to("developer", &json!({ "names": ["future"] })),
        to("developer", &json!({ "matchLabels": { "team": "x" } })),
        to("everything", &dev),
        to("viewer", &dev),
        grant("g", in_shop),
        grant("g", json!({ "subjects": to_user("viktor"), "hubRole": "auditor" })),
        grant("g", json!({ "subjects": to_group("idle"), "hubRole": "operator" })),
        grant(
            "root-prod",
            json!({ "subjects": to_user("root"), "role": "developer", "clusters": dev }),
        ),
        user("dana", &["devs", "admins"]),
        user("new", &["admins"]),
        labelled("Cluster", "prod", json!({ "env": "dev" }), json!({})),
        object(
            "Role",
            "bigger",
            json!({ "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }] }),
        ),
        object("Role", "everything", json!({ "rules": [] })),
    ];
    for change in &beyond {
        let judgement = put(&fleet(), "op", change);
        let refused = matches!(judgement.reason(), Reason::Escalation | Reason::SelfGrant);
        assert!(refused, "{change:?}: {}", told(&judgement));
    }
    for taken in ["hub-admins", "root-prod"] {
        let object = stored(Kind::Grant, taken);
        assert_eq!(by("op", HubAction::Delete { object: &object }).reason(), Reason::Escalation);
    }
}

#[test]
fn an_operator_cannot_relabel_a_cluster_into_others_hands() {
    let fleet = fleet_with(&[grant(
        "x-dev",
        json!({ "subjects": to_user("viktor"), "role": "viewer", "clusters": { "matchLabels": { "tier": "x" } } }),
    )]);
    let relabelled = labelled("Cluster", "prod", json!({ "env": "prod", "tier": "x" }), json!({}));
    let judgement = put(&fleet, "op", &relabelled);
    assert_eq!(judgement.reason(), Reason::Escalation, "{}", told(&judgement));
    assert!(put(&fleet, "root", &relabelled).is_allowed());
}

#[test]
fn an_operator_cannot_make_for_longer_what_they_have_for_a_time() {
    let mut own = json!({ "subjects": to_user("op"), "role": "developer", "clusters": { "matchLabels": { "env": "dev" } }, "expires": "2026-04-01T00:00:00Z" });
    let fleet = fleet_with(&[grant("op-dev", own.clone())]);
    own["subjects"] = to_user("viktor");
    assert!(put(&fleet, "op", &grant("g", own.clone())).is_allowed());
    own["expires"] = json!("2026-04-01T00:00:01Z");
    assert_eq!(put(&fleet, "op", &grant("g", own)).reason(), Reason::Escalation);
}

#[test]
fn an_operator_cannot_become_an_admin_by_an_enrolment_link() {
    let fleet = fleet();
    let op = signed_in("op");
    let link = |user: &str| judge(&fleet, &op, HubAction::IssueEnrolment { user: &person(user) });
    assert_eq!(link("root").reason(), Reason::Escalation);
    assert_eq!(link("aud").reason(), Reason::Escalation);
    assert!(link("dana").is_allowed(), "{}", told(&link("dana")));
    assert!(link("nobody").is_allowed());
    assert!(link("op").is_allowed());
}

#[test]
fn changes_ask_for_a_fresh_factor_and_reads_do_not() {
    let mut root = signed_in("root");
    let change = user("new", &[]);
    let create = HubAction::Create { object: &change };
    for (factor_at, fresh) in [
        ("2026-03-01T11:45:01Z", true),
        ("2026-03-01T11:45:00Z", false),
        ("2026-03-01T12:00:00Z", true),
        ("2026-03-01T12:00:01Z", false),
    ] {
        root.proof.factor_at = factor_at.parse().unwrap();
        let judgement = judge(&fleet(), &root, create);
        assert_eq!(judgement.is_allowed(), fresh, "{factor_at}");
        if !fresh {
            assert_eq!(judgement.reason(), Reason::FactorTooOld);
            assert!(judgement.obligations.contains(&Obligation::StepUp));
            assert!(
                judgement.explanation.next.as_deref().unwrap().contains("nullius login --step-up")
            );
        }
        assert!(judge(&fleet(), &root, HubAction::ReadAudit).is_allowed());
        assert!(judge(&fleet(), &root, HubAction::EndSession { of: &person("root") }).is_allowed());
    }
    let mut dana = signed_in("dana");
    dana.proof.factor_at = "2026-03-01T01:00:00Z".parse().unwrap();
    assert_eq!(judge(&fleet(), &dana, create).reason(), Reason::NoHubRole);
    assert!(judge(&fleet(), &dana, HubAction::EndSession { of: &person("dana") }).is_allowed());
}

#[test]
fn an_update_keeps_the_name_and_a_stale_snapshot_hides_nothing() {
    let (before, after) = (stored(Kind::User, "dana"), user("new", &[]));
    let renamed = by("root", HubAction::Update { before: &before, after: &after });
    assert_eq!(renamed.reason(), Reason::StaleState);
    let unseen = grant("made-since", json!({ "subjects": to_user("eve"), "hubRole": "admin" }));
    assert_eq!(by("op", HubAction::Delete { object: &unseen }).reason(), Reason::Escalation);
}

#[test]
fn explanations_of_hub_actions() {
    let new = user("new", &[]);
    let to_self = grant("mine", json!({ "subjects": to_user("root"), "hubRole": "auditor" }));
    let bigger = grant(
        "g",
        json!({ "subjects": to_user("viktor"), "role": "everything", "clusters": { "names": ["dev"] } }),
    );
    let join_admins = user("dana", &["admins"]);
    let dana = stored(Kind::User, "dana");
    let wider_role = object(
        "Role",
        "viewer",
        json!({ "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }] }),
    );
    let viewer = stored(Kind::Role, "viewer");
    let mut all = String::new();
    for (who, action) in [
        ("root", HubAction::Create { object: &new }),
        ("root", HubAction::Create { object: &to_self }),
        ("op", HubAction::Create { object: &bigger }),
        ("op", HubAction::Update { before: &dana, after: &join_admins }),
        ("op", HubAction::Update { before: &viewer, after: &wider_role }),
        ("dana", HubAction::Create { object: &new }),
        ("app", HubAction::ListSessions { of: Whose::Everyone }),
        ("dana", HubAction::List { kind: Kind::Cluster }),
    ] {
        all.push_str(&format!("{who}: {action}\n{}\n\n", told(&by(who, action))));
    }
    insta::assert_snapshot!(all);
}
