//! Objects that are wrong: each is told by file, line and field, and nothing of a file with a fault is applied.

use std::fs;

use crate::faults_lab::Lab;

/// What is wrong, the file, and what the error must name.
const FAULTS: &[(&str, &str, &[&str])] = &[
    (
        "no YAML",
        "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {name: r\nspec: {}\n",
        &["fault.yaml:"],
    ),
    (
        "an unknown kind",
        "apiVersion: nullius.dev/v1alpha1\nkind: Rolle\nmetadata: {name: r}\nspec: {}\n",
        &["fault.yaml:2", "`Rolle`", "Role"],
    ),
    (
        "another API version",
        "apiVersion: nullius.dev/v9\nkind: Role\nmetadata: {name: r}\nspec: {}\n",
        &["fault.yaml:1", "nullius.dev/v9"],
    ),
    (
        "an unknown field",
        "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {name: g}\nspec:\n  subjects: [{kind: Group, name: ops}]\n  \
         rolle: viewer\n  clusters: {names: [dev]}\n",
        &["fault.yaml:6", "rolle", "role"],
    ),
    (
        "a field given twice",
        "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {name: g}\nspec:\n  description: one\n  description: two\n",
        &["fault.yaml:6", "description"],
    ),
    (
        "a wrong type",
        "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {name: r}\nspec:\n  rules:\n  - apiGroups: [\"\"]\n    \
         resources: pods\n    verbs: [get]\n",
        &["fault.yaml:7", "spec.rules[0].resources"],
    ),
    (
        "a name that is none",
        "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {name: \"system:masters\"}\nspec: {}\n",
        &["fault.yaml:3", "system:masters"],
    ),
    (
        "a duration without a unit",
        "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {name: g}\nspec:\n  subjects: [{kind: Group, name: ops}]\n  \
         role: viewer\n  clusters: {names: [dev]}\n  duration: 8\n",
        &["fault.yaml:8", "spec.duration"],
    ),
    (
        "a rule that only the hub finds wrong",
        "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {name: r}\nspec:\n  rules:\n  - apiGroups: [\"\"]\n    \
         resources: [pods]\n    verbs: []\n",
        &["fault.yaml:", "spec.rules[0]", "verbs"],
    ),
    (
        "a fault in the second document",
        "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {name: good}\nspec: {}\n---\n\
         apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {name: bad}\nspec: {descripton: x}\n",
        &["fault.yaml:9", "descripton"],
    ),
];

#[test]
fn malformed_objects_are_told_by_file_line_and_field() {
    let lab = Lab::new("");
    for (what, yaml, wanted) in FAULTS {
        let file = lab.files.path().join("fault.yaml");
        fs::write(&file, yaml).unwrap();
        let args = ["apply", "-f", &file.display().to_string()];
        let refused = lab.environment.nullius("admin", &args).unwrap();
        assert!(matches!(refused.code, 1 | 64), "{what}: {refused:?}");
        for part in *wanted {
            assert!(
                refused.stderr.contains(part),
                "{what}: `{part}` is not in: {}",
                refused.stderr
            );
        }
        let panicked = refused.stderr.contains("panicked") || refused.stderr.contains("RUST_");
        assert!(!panicked, "{what}: {}", refused.stderr);
    }
    for kind in ["groups", "roles"] {
        let stands = lab.admin(&["get", kind, "-o", "name"]);
        assert!(stands.trim().is_empty(), "{stands}");
    }
    // A file that is not there, and one that holds nothing.
    let missing = lab.environment.nullius("admin", &["apply", "-f", "nowhere.yaml"]).unwrap();
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("`nowhere.yaml`"), "{}", missing.stderr);
    let empty = lab.environment.nullius_with_input("admin", &["apply", "-f", "-"], "\n").unwrap();
    assert_ne!(empty.code, 0, "{empty:?}");
}
