//! Objects from files to the hub and back.

use nullius_cli::Exit;
use serde_json::json;

use crate::{hub::Hub, person::Person, time::after};

const OBJECTS: &str = "\
apiVersion: nullius.dev/v1alpha1
kind: User
metadata: {name: ada}
spec: {groups: [devs]}
---
apiVersion: nullius.dev/v1alpha1
kind: Group
metadata:
  name: devs
  labels: {team: shop}
spec: {description: people who write the shop}
";

#[tokio::test]
async fn apply_creates_then_changes_then_leaves_alone() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    let apply = ["apply", "-f", &file];
    let dry = person.run(&["apply", "-f", &file, "--dry-run"]).await.ok();
    assert_eq!(dry, "Group/devs created (dry run)\nUser/ada created (dry run)\n");
    assert!(hub.state().objects.is_empty());
    assert_eq!(person.run(&apply).await.ok(), "Group/devs created\nUser/ada created\n");
    assert_eq!(person.run(&apply).await.ok(), "Group/devs unchanged\nUser/ada unchanged\n");
    person.file("people.yaml", &OBJECTS.replace("write", "run"));
    let done = person.run(&["diff", "-f", &file]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains(
        "-  description: people who write the shop\n+  description: people who run the shop"
    ));
    assert_eq!(person.run(&apply).await.ok(), "Group/devs configured\nUser/ada unchanged\n");
    assert_eq!(person.run(&["diff", "-f", &file]).await.ok(), "");
}

#[tokio::test]
async fn a_dry_run_tells_what_each_object_of_a_file_would_become() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    person.run(&["apply", "-f", &file]).await.ok();
    let more = OBJECTS.replace("write", "run").replace("name: ada", "name: eve")
        + "---\napiVersion: nullius.dev/v1alpha1\nkind: User\nmetadata: {name: ada}\nspec: {groups: [devs]}\n";
    let file = person.file("people.yaml", &more);
    let dry = person.run(&["apply", "-f", &file, "--dry-run"]).await.ok();
    let told = "Group/devs configured (dry run)\nUser/eve created (dry run)\nUser/ada unchanged (dry run)\n";
    assert_eq!(dry, told);
    assert_eq!(hub.state().objects.len(), 2);
    // What is refused is told where it stands; the others are judged as well.
    let stale = more.replace("  name: devs", "  name: devs\n  resourceVersion: \"1\"");
    let file = person.file("stale.yaml", &stale);
    let done = person.run(&["apply", "-f", &file, "--dry-run"]).await;
    assert!(done.out.contains("User/eve created (dry run)"), "{}", done.out);
    let err = done.failed(Exit::Failed);
    assert!(err.contains("stale.yaml:6: cannot change `Group/devs`"), "{err}");
}

#[tokio::test]
async fn what_is_got_can_be_applied_again() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    person.run(&["apply", "-f", &file]).await.ok();
    let got = person.run(&["get", "groups", "-o", "yaml"]).await.ok();
    let again = person.file(
        "again.yaml",
        &got.replace("resourceVersion", "generation").replace("generation: \"", "generation: 1 #"),
    );
    assert_eq!(person.run(&["apply", "-f", &again]).await.ok(), "Group/devs unchanged\n");
    assert_eq!(person.run(&["get", "group", "devs", "-o", "name"]).await.ok(), "group/devs\n");
    assert_eq!(person.run(&["get", "groups", "-l", "team!=shop"]).await.ok(), "");
    let done = person.run(&["get", "roles"]).await;
    assert!(done.err.contains("no roles yet"), "{}", done.err);
    assert_eq!(done.ok(), "");
    let err = person.run(&["get", "role", "none"]).await.failed(Exit::Failed);
    assert!(err.contains("cannot read `Role/none`"), "{err}");
}

#[tokio::test]
async fn a_fault_anywhere_sends_nothing_at_all() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", &format!("{OBJECTS}---\nkind: Role\n"));
    let before = hub.state().calls.len();
    let err = person.run(&["apply", "-f", &file]).await.failed(Exit::Failed);
    assert!(err.contains("people.yaml:13: apiVersion: the field `apiVersion` is missing"), "{err}");
    assert_eq!(hub.state().calls.len(), before);
}

#[tokio::test]
async fn a_field_that_the_hub_refuses_is_named_by_its_line() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    let fields = json!({ "spec.groups[0]": "group `devs` does not exist" });
    let answer = json!({ "code": "invalid", "message": "the object is wrong", "fields": fields });
    hub.script("POST /v1/objects/users", 422, answer);
    let done = person.run(&["apply", "-f", &file]).await;
    assert_eq!(done.out, "Group/devs created\n");
    let err = done.failed(Exit::Failed);
    assert!(err.contains("people.yaml:4: spec.groups[0]: group `devs` does not exist"), "{err}");
}

#[tokio::test]
async fn who_was_faster_wins() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    person.run(&["apply", "-f", &file]).await.ok();
    let stale = OBJECTS.replace("  name: devs", "  name: devs\n  resourceVersion: \"1\"");
    let file = person.file("stale.yaml", &stale);
    let err = person.run(&["apply", "-f", &file]).await.failed(Exit::Failed);
    assert!(err.contains("somebody else changed it"), "{err}");

    // A file without a version says how the object shall be: it is read again, but not for ever.
    let changed = OBJECTS.replace("{team: shop}", "{team: till}");
    let file = person.file("changed.yaml", &changed);
    hub.state().others_are_faster = 3;
    let out = person.run(&["apply", "-f", &file]).await.ok();
    assert!(out.contains("Group/devs configured"), "{out}");
    assert_eq!(hub.state().objects["groups/devs"]["metadata"]["labels"], json!({ "team": "till" }));
    hub.state().others_are_faster = 1_000;
    let file = person.file("again.yaml", OBJECTS);
    let err = person.run(&["apply", "-f", &file]).await.failed(Exit::Failed);
    assert!(err.contains("somebody else changed it"), "{err}");
}

#[tokio::test]
async fn delete_asks_and_takes_what_names_others_first() {
    let hub = Hub::start().await;
    let mut person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    person.run(&["apply", "-f", &file]).await.ok();
    let err = person.run(&["delete", "group", "devs"]).await.failed(Exit::Usage);
    assert!(err.contains("--yes"), "{err}");
    person.answers = vec!["n"];
    person.run(&["delete", "group", "devs"]).await.failed(Exit::Failed);
    assert_eq!(hub.state().objects.len(), 2);
    let dry = person.run(&["delete", "-f", &file, "--dry-run"]).await.ok();
    assert_eq!(dry, "User/ada deleted (dry run)\nGroup/devs deleted (dry run)\n");
    person.answers = vec!["y"];
    let gone = person.run(&["delete", "group", "devs", "-o", "json"]).await;
    assert_eq!(gone.err, "warning: Grant `g` names it, and gives nothing\n");
    assert_eq!(gone.ok(), "Group/devs deleted\n");
    assert_eq!(person.run(&["delete", "user", "ada", "--yes"]).await.ok(), "User/ada deleted\n");
}

#[tokio::test]
async fn edit_opens_the_editor_until_the_object_can_be_read() {
    let hub = Hub::start().await;
    let mut person = Person::at(&hub).await;
    let file = person.file("people.yaml", OBJECTS);
    person.run(&["apply", "-f", &file]).await.ok();
    person.editor = Some("true".to_owned());
    assert!(person.run(&["edit", "group", "devs"]).await.err.contains("nothing was changed"));
    // The first time the editor leaves a fault, the second time it mends it.
    let script = "#!/bin/sh\nif grep -q colour \"$1\"; then sed -i s/colour/description/ \"$1\"; else sed -i s/description/colour/ \"$1\"; sed -i s/write/mend/ \"$1\"; fi\n";
    let editor = person.file("editor.sh", script);
    person.editor = Some(format!("sh {editor}"));
    person.answers = vec!["y"];
    let done = person.run(&["edit", "group", "devs"]).await;
    assert!(done.err.contains("spec.colour: unknown field"), "{}", done.err);
    assert_eq!(done.ok(), "Group/devs configured\n");
    assert_eq!(
        hub.state().objects["groups/devs"]["spec"]["description"],
        "people who mend the shop"
    );
}

#[tokio::test]
async fn people_clusters_and_locks_have_words_of_their_own() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let ends = after(605);
    let link = json!({ "url": "https://hub.example/enrol#t", "token": "t", "expiresAt": ends });
    hub.script("POST /v1/users/eve/enrolment", 200, link);
    let out = person.run(&["user", "add", "eve", "--group", "devs"]).await.ok();
    assert!(out.contains("https://hub.example/enrol#t") && out.contains("in 10m"), "{out}");
    assert_eq!(hub.state().objects["users/eve"]["spec"]["groups"], json!(["devs"]));

    let out = person
        .run(&["lock", "add", "--user", "eve", "--message", "call us", "--for", "8h"])
        .await
        .ok();
    assert_eq!(out, "locked user eve; to unlock: `nullius lock remove user-eve`\n");
    let spec = hub.state().objects["locks/user-eve"]["spec"].clone();
    assert_eq!(spec["target"], json!({ "kind": "User", "name": "eve" }));
    assert!(spec["expires"].is_string());
    assert_eq!(person.run(&["lock", "remove", "user-eve"]).await.ok(), "Lock/user-eve removed\n");

    let join = json!({ "cluster": "dev", "token": "join-me", "expiresAt": ends, "hubAddress": "hub.example:8443",
                       "hubCa": hub.ca, "ceiling": "view", "offlineKey": "k", "hubId": "h" });
    hub.script("POST /v1/clusters/dev/join-token", 200, join);
    let out = person
        .run(&["cluster", "add", "dev", "--label", "env=dev", "--ceiling", "view"])
        .await
        .ok();
    assert!(out.contains("join-me") && out.contains("kubectl apply -f -"), "{out}");
    let made = hub.state().objects["clusters/dev"].clone();
    assert_eq!(made["metadata"]["labels"], json!({ "env": "dev" }));
    assert_eq!(made["spec"]["ceiling"], "view");
    // What is printed is what joins it.
    let printed = out.lines().find_map(|line| line.trim().strip_prefix("nullius ")).unwrap();
    let command =
        printed.split_once(" | ").unwrap().0.replace("IMAGE", "registry.example/nullius:1");
    let out = person.run(&command.split(' ').collect::<Vec<_>>()).await.ok();
    let in_base64 = "am9pbi1tZQ==";
    assert!(out.contains(in_base64) && out.contains("registry.example/nullius:1"), "{out}");
    let err =
        person.run(&["cluster", "add", "dev", "--ceiling", "edit"]).await.failed(Exit::Failed);
    assert!(err.contains("known with other settings"), "{err}");
    assert_eq!(
        person.run(&["cluster", "remove", "dev", "--yes"]).await.ok(),
        "Cluster/dev removed\n"
    );
}
