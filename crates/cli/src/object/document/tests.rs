#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use super::*;

fn read_text(text: &str) -> Result<Vec<Document>, Failure> {
    read(vec![Source { name: "roles.yaml".to_owned(), text: text.to_owned() }])
}

fn fault(text: &str) -> String {
    match read_text(text) {
        Err(failure) => failure.reason().to_owned(),
        Ok(documents) => panic!("read {documents:?}"),
    }
}

const HEAD: &str = "apiVersion: nullius.dev/v1alpha1\n";

#[test]
fn objects_of_every_kind_are_read_from_yaml_and_json() {
    let text = r#"
apiVersion: nullius.dev/v1alpha1
kind: Role
metadata: {name: developer}
spec:
  rules:
  - {verbs: [get, list], apiGroups: [""], resources: [pods]}
---
{"apiVersion": "nullius.dev/v1alpha1", "kind": "Grant", "metadata": {"name": "dev-shop"},
 "spec": {"subjects": [{"kind": "Group", "name": "devs"}], "role": "developer",
          "clusters": {"names": ["dev"]}, "namespaces": ["shop"], "duration": "8h"}}
---
apiVersion: nullius.dev/v1alpha1
kind: List
items:
- {apiVersion: nullius.dev/v1alpha1, kind: User, metadata: {name: ada, generation: 3}, spec: {groups: [devs]}, status: {enrolled: true}}
- {apiVersion: nullius.dev/v1alpha1, kind: Lock, metadata: {name: l}, spec: {target: {kind: User, name: eve}}}
"#;
    let documents = read_text(text).unwrap();
    let labels: Vec<_> = documents.iter().map(Document::label).collect();
    assert_eq!(labels, ["Role/developer", "Grant/dev-shop", "User/ada", "Lock/l"]);
    assert!(matches!(&documents[2].object, AnyObject::User(user) if user.status.is_none()));
    assert_eq!(documents[1].fault("spec.role", "unknown"), "roles.yaml:10: spec.role: unknown");
}

#[test]
fn a_fault_names_file_line_and_field() {
    let role = |rest: &str| format!("{HEAD}kind: Role\nmetadata:\n  name: r\nspec:\n{rest}");
    assert_eq!(
        fault(&role("  rules:\n  - verbs: get\n")),
        "roles.yaml:7: spec.rules[0].verbs: expected a list, found the text `get`"
    );
    assert_eq!(
        fault(&role("  rules:\n  - verbs: [get, 1]\n")),
        "roles.yaml:7: spec.rules[0].verbs[1]: expected text, found the number `1`"
    );
    assert_eq!(
        fault(&role("  rulez: []\n")),
        "roles.yaml:6: spec.rulez: unknown field; did you mean `rules`?"
    );
    assert_eq!(
        fault(&role("  description: x\n")),
        "roles.yaml:6: spec: the field `rules` is missing"
    );
    assert_eq!(
        fault(&role("  rules: 5\n")),
        "roles.yaml:6: spec.rules: expected a list, found the number `5`"
    );
    let named = format!(
        "{HEAD}kind: Grant\nmetadata:\n  name: g\nspec:\n  role: Not_A_Name\n  subjects: []\n"
    );
    assert!(
        fault(&named).starts_with("roles.yaml:6: spec.role: `Not_A_Name` is not a valid role name")
    );
    let word = format!(
        "{HEAD}kind: Grant\nmetadata:\n  name: g\nspec:\n  subjects: []\n  hubRole: root\n"
    );
    assert_eq!(
        fault(&word),
        "roles.yaml:7: spec.hubRole: `root` is unknown here; use `admin`, `operator`, `approver`, `auditor`"
    );
}

#[test]
fn what_belongs_to_a_later_plane_is_refused_by_name() {
    let grant = format!(
        "{HEAD}kind: Grant\nmetadata: {{name: g}}\nspec:\n  subjects: []\n  condition: user.groups.exists(g, true)\n"
    );
    assert_eq!(
        fault(&grant),
        "roles.yaml:6: `spec.condition` belongs to conditions on grants (CEL), which this version does not have"
    );
    assert_eq!(
        fault(&format!("{HEAD}kind: Intention\nmetadata: {{name: i}}\nspec: {{}}\n")),
        "roles.yaml:2: kind: `Intention` belongs to the mesh, which this version does not have"
    );
    assert_eq!(
        fault(&format!("{HEAD}kind: PolicyException\nmetadata: {{name: i}}\nspec: {{}}\n")),
        "roles.yaml:2: kind: a `PolicyException` stands in a cluster, not at the hub; apply it there with kubectl"
    );
    let user = format!("{HEAD}kind: User\nmetadata: {{name: u}}\nspec:\n  password: hunter2\n");
    assert!(fault(&user).contains("secrets never stand in an object"));
    assert!(!fault(&user).contains("hunter2"));
}

#[test]
fn a_document_that_is_no_object_is_refused() {
    assert_eq!(fault("a: 1\n"), "roles.yaml:1: apiVersion: the field `apiVersion` is missing");
    assert_eq!(
        fault("apiVersion: v1\nkind: Pod\n"),
        "roles.yaml:1: apiVersion: `v1` is not of Nullius (`nullius.dev/v1alpha1`); apply Kubernetes objects with kubectl"
    );
    assert_eq!(
        fault(&format!("{HEAD}kind: Rolle\n")),
        "roles.yaml:2: kind: `Rolle` is unknown; did you mean `Role`?"
    );
    assert_eq!(fault("a: 1\na: 2\n"), "roles.yaml:2: the key `a` stands twice");
    assert!(read_text("# nothing\n").is_err());
}

#[test]
fn every_fault_of_every_document_is_told_at_once() {
    let group = format!("{HEAD}kind: Group\nmetadata: {{name: g}}\nspec: {{}}\n");
    let bad = format!("{HEAD}kind: Group\nmetadata: {{name: h}}\nspec: {{colour: red}}\n");
    let faults = fault(&format!("{group}---\n{bad}---\n{group}"));
    assert_eq!(
        faults,
        "roles.yaml:9: spec.colour: unknown field; known here are `description`\n       \
         roles.yaml:11: metadata.name: `Group/g` stands already at roles.yaml:1"
    );
}

#[test]
fn folders_are_read_in_order_without_what_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "a: 1\n").unwrap();
    };
    for name in ["b.yaml", "a/c.yml", "a/d.json", ".hidden.yaml", "readme.md"] {
        write(name);
    }
    let found = sources(&[folder.path().to_owned(), "-".into()], &mut "b: 2".as_bytes()).unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|source| source.name.trim_start_matches(folder.path().to_str().unwrap()).to_owned())
        .collect();
    assert_eq!(names, ["/a/c.yml", "/a/d.json", "/b.yaml", "stdin"]);
    assert!(sources(&[folder.path().join("none.yaml")], &mut io::empty()).is_err());
}

#[test]
fn typos_find_the_near_word_and_nothing_far() {
    assert_eq!(nearest("grnat", ["Grant", "Group"]), Some("Grant"));
    assert_eq!(nearest("xyz", ["Grant", "Group"]), None);
}
