#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use super::*;

fn plan() -> SessionPlan {
    SessionPlan {
        session: SessionId::from_bits(5),
        user: "ada".parse().unwrap(),
        generation: 3,
        expires_at: "2030-01-01T00:00:00Z".parse().unwrap(),
        bindings: [view(Some("dev"))].into(),
    }
}

fn view(namespace: Option<&str>) -> Binding {
    Binding {
        namespace: namespace.map(|name| name.parse().unwrap()),
        role: "view".parse().unwrap(),
        rules: vec![PolicyRule {
            verbs: vec!["get".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..PolicyRule::default()
        }],
    }
}

fn made(plan: &SessionPlan) -> (ServiceAccount, Secret) {
    let mut marker = marker(&plan.session);
    marker.metadata.uid = Some("m-1".into());
    let mut account = account(plan, "m-1");
    account.metadata.uid = Some("a-1".into());
    (account, marker)
}

#[test]
fn account_and_marker_are_ours_only_as_the_pair_that_we_made() {
    let plan = plan();
    let (account, marker) = made(&plan);
    check_pair(&plan.session, &account, &marker).unwrap();

    let mut forged = account.clone();
    forged.metadata.annotations = None;
    assert!(check_pair(&plan.session, &forged, &marker).is_err(), "no record");
    let mut other = marker.clone();
    other.metadata.uid = Some("m-2".into());
    assert!(check_pair(&plan.session, &account, &other).is_err(), "another marker");
    let mut loaded = marker.clone();
    loaded.type_ = Some("kubernetes.io/service-account-token".into());
    assert!(check_pair(&plan.session, &account, &loaded).is_err(), "another type");
    let mut relabelled = account;
    relabelled.metadata.labels = None;
    assert!(check_pair(&plan.session, &relabelled, &marker).is_err(), "no labels");
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let plan = plan();
    let (mut account, marker) = made(&plan);
    let mut standing = read_record(&plan.session, &account, Some(&marker));
    assert!(!standing.is_complete(), "nothing was completed yet");
    standing.generation = 3;
    standing.awaits.insert("later".parse().unwrap());
    standing.objects.insert(binding_ref(&plan.session, &view(Some("dev"))), "b-1".into());
    account.metadata.annotations.as_mut().unwrap().extend(record_of(&standing));
    assert_eq!(read_record(&plan.session, &account, Some(&marker)), standing);
    assert!(!standing.is_complete(), "a namespace is awaited");
}

#[test]
fn a_record_cannot_make_us_delete_what_no_session_has() {
    let plan = plan();
    let (mut account, marker) = made(&plan);
    let evil = r#"{"ServiceAccount/kube-system/default":"x","ClusterRole/admin":"y","Pod/a/b":"z",
            "ClusterRoleBinding/cluster-admin":"c","RoleBinding/shop/nullius:session:1:2":"d"}"#;
    account.metadata.annotations.as_mut().unwrap().insert(OBJECTS_ANNOTATION.into(), evil.into());
    let standing = read_record(&plan.session, &account, Some(&marker));
    let objects: Vec<String> = standing.objects.keys().map(ToString::to_string).collect();
    let name = account_name(&plan.session);
    assert_eq!(
        objects,
        [
            format!("Secret/nullius-sessions/{name}"),
            format!("ServiceAccount/nullius-sessions/{name}")
        ]
    );
}

#[test]
fn a_binding_is_ours_only_for_its_own_session_and_a_role_of_ours() {
    let session = SessionId::from_bits(5);
    let AnyBinding::Namespaced(good) = binding(&session, "a-1", &view(Some("dev"))) else {
        panic!("a namespaced binding")
    };
    let check = |b: &RoleBinding| check_binding(&b.metadata, &b.role_ref, b.subjects.as_ref());
    assert_eq!(check(&good), Ok(session));

    let mut other_role = good.clone();
    other_role.role_ref.name = "cluster-admin".into();
    assert!(check(&other_role).is_err());
    let mut two = good.clone();
    two.subjects.as_mut().unwrap().push(Subject { name: "someone".into(), ..Subject::default() });
    assert!(check(&two).is_err());
    let mut renamed = good.clone();
    renamed.metadata.name = Some("mine".into());
    assert!(check(&renamed).is_err());
    let mut relabelled = good;
    relabelled.metadata.labels.as_mut().unwrap().remove(SESSION_LABEL);
    assert!(check(&relabelled).is_err());
}

#[test]
fn a_role_that_holds_more_than_its_name_says_is_not_ours() {
    let binding = view(None);
    let name = role_object_name(&binding.role, &binding.rules);
    let mut role = cluster_role(&name, &binding.rules);
    check_role(&role).unwrap();
    role.rules.as_mut().unwrap()[0].verbs.push("delete".into());
    assert!(check_role(&role).is_err());
}
