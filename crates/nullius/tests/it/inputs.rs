//! Bad input at the hub, as a person meets it: sign-in, objects, clusters; each says what to do next.

use nullius_testkit::Output;

use crate::{
    trail::{text, wait_event},
    world::{World, ended_with},
};

/// What the command line says when somebody signs in with these answers.
fn sign_in(world: &World, home: &str, user: &str, password: &str, code: &str) -> Output {
    let ca = world.environment.hub_ca.display().to_string();
    let args = ["login", "--hub", &world.environment.hub_url, "--ca", &ca, "--password-stdin"];
    let input = format!("{user}\n{password}\n{code}\n");
    world.environment.nullius_with_input(home, &args, &input).unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32, parts: &[&str]) {
    ended_with(output, code);
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is not in: {}", output.stderr);
    }
}

#[test]
fn a_wrong_password_an_unknown_user_and_a_used_code_look_the_same() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("wrong");
    let home = format!("{}-wrong", worker.name);
    let (name, right) = (worker.name.as_str(), worker.person.password.as_str());
    let fresh = worker.person.next_code().unwrap();
    let wrong = sign_in(&world, &home, name, "a-wrong-password", &fresh);
    says(&wrong, 1, &["user, password or code is wrong", "next:"]);
    let unknown = sign_in(&world, &home, "nobody-of-this-name", "a-wrong-password", &fresh);
    assert_eq!(unknown, wrong);
    // The code stands: it was not proven together with the password.
    let second = sign_in(&world, &home, name, right, &fresh);
    ended_with(&second, 0);
    let replayed = sign_in(&world, &format!("{home}-2"), name, right, &fresh);
    assert_eq!(replayed, wrong);
    let filter = ["--kind", "sign-in", "--outcome", "denied"];
    for reason in ["wrong-password", "code-replayed"] {
        wait_event(&world, reason, &filter, |event| {
            text(event, "/facts/reason") == reason && event.to_string().contains(name)
        });
    }
}

const FAULTY: &str = r#"apiVersion: nullius.dev/v1alpha1
kind: Role
metadata: {name: never-made}
spec:
  rules:
  - {apiGroups: [""], resources: [pods], verbs: [get]}
---
apiVersion: nullius.dev/v1alpha1
kind: Grant
metadata: {name: never-made}
spec:
  subjects: [{kind: User, name: nobody}]
  role: developer
  clusters: {names: [dev]}
  namespace: shop
---
apiVersion: nullius.dev/v1alpha1
kind: Role
metadata: {name: never-made-either}
spec:
  rules:
  - {apiGroups: [""], resources: [pods], verbs: get}
---
apiVersion: nullius.dev/v1alpha1
kind: Intention
metadata: {name: later}
spec: {}
"#;

#[test]
fn faulty_objects_are_told_by_line_and_field_and_nothing_is_sent() {
    let Some(world) = World::together() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.yaml");
    std::fs::write(&file, FAULTY).unwrap();
    let admin = |args: &[&str]| world.environment.nullius("admin", args).unwrap();
    let refused = admin(&["apply", "-f", file.to_str().unwrap()]);
    let parts = [
        "nothing was sent",
        "objects.yaml:15: spec.namespace: unknown field; did you mean `namespaces`?",
        "objects.yaml:22: spec.rules[0].verbs: expected a list",
        "objects.yaml:25: kind: `Intention`",
    ];
    says(&refused, 1, &parts);
    says(&admin(&["get", "role", "never-made"]), 1, &["does not exist"]);

    let unknown = "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {name: never-made}\nspec:\n  \
                   subjects: [{kind: User, name: nobody-at-all}]\n  role: no-such-role\n  clusters: {names: [dev]}\n";
    std::fs::write(&file, unknown).unwrap();
    let refused = admin(&["apply", "-f", file.to_str().unwrap()]);
    let parts = [
        "objects.yaml:6: spec.role: Role `no-such-role` does not exist",
        "`nobody-at-all` does not exist",
    ];
    says(&refused, 1, &parts);
}

#[test]
fn nobody_gives_what_is_not_theirs_to_give() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("greedy");
    let grant = |name: &str, user: &str| {
        format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {name}}}\nspec:\n  \
             subjects: [{{kind: User, name: {user}}}]\n  role: operator\n  clusters: {{names: [{}]}}\n",
            world.cluster_name()
        )
    };
    let apply = |who: &str, objects: &str| {
        world.environment.nullius_with_input(who, &["apply", "-f", "-"], objects).unwrap()
    };
    let name = worker.name.as_str();
    let taken = format!("{name}-takes");
    says(&apply(name, &grant(&taken, name)), 2, &["may not", "ask an admin"]);
    says(&apply("admin", &grant(&taken, "admin")), 2, &["nobody grants to themselves"]);
    says(&worker.nullius(&["lock", "add", "--user", "vic"]), 2, &["may not", "hub role"]);
    says(&worker.nullius(&["session", "end", &"0".repeat(32)]), 2, &["may not"]);
    says(&worker.nullius(&["cluster", "remove", world.cluster_name(), "--yes"]), 2, &["may not"]);
    says(&worker.nullius(&["user", "reset", "admin", "--yes"]), 2, &["may not"]);
    let last = world.environment.nullius("admin", &["delete", "user", "admin", "--yes"]).unwrap();
    says(&last, 1, &["nobody would be admin"]);
    let filter = ["--user", name, "--kind", "object-change", "--outcome", "denied"];
    wait_event(&world, "what was tried", &filter, |event| {
        text(event, "/target") == "Lock/user-vic"
    });
}
