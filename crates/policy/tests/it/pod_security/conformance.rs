//! Kubernetes' own cases: pods that pass and pods that fail by a named check, for every version.
//!
//! They are data beside the workspace (`../shared/conformance`) or in `$NULLIUS_CONFORMANCE`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use nullius_policy::pod_security::{
    Level, LevelVersion, Operation, Pod, PodRequest, PodTemplate, Settings, all_checks, evaluate,
    review,
};
use serde_json::{Value, json};

struct Case {
    policy: LevelVersion,
    /// The check that must fail, in lower case; `None` for a pod that passes.
    fails: Option<String>,
    pod: Value,
    place: String,
}

fn archives() -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = env::var_os("NULLIUS_CONFORMANCE").map_or_else(beside, PathBuf::from);
    let mut found: Vec<PathBuf> = fs::read_dir(folder.join("pod-security"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".tar.gz"))
        .collect();
    found.sort();
    if found.is_empty() {
        nullius_skip::skip_without_data(&format!(
            "no archives of Kubernetes' cases in {}/pod-security: set NULLIUS_CONFORMANCE to their folder",
            folder.display()
        ));
    }
    found
}

/// `LEVEL/vVERSION/pass|fail/CHECKn.yaml` in each archive.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for archive in archives() {
        let folder = tempfile::tempdir().unwrap();
        let unpacked =
            Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()).status();
        assert!(unpacked.is_ok_and(|status| status.success()), "cannot unpack {archive:?}");
        let mut open = vec![folder.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|end| end == "yaml") {
                cases.push(case(path.strip_prefix(folder.path()).unwrap(), &path));
            }
        }
    }
    cases
}

fn case(place: &Path, file: &Path) -> Case {
    let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy()).collect();
    let [level, version, verdict, name] = &parts[..] else { panic!("{place:?} is no case") };
    let name = name.trim_end_matches(".yaml").trim_end_matches(|c: char| c.is_ascii_digit());
    Case {
        policy: format!("{level}:{version}").parse().unwrap(),
        fails: (verdict == "fail").then(|| name.to_owned()),
        pod: serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap(),
        place: place.display().to_string(),
    }
}

/// Checks that a restricted one reports in their place.
const REPLACED: [(&str, &str); 4] = [
    ("capabilities_baseline", "capabilities_restricted"),
    ("hostpathvolumes", "restrictedvolumes"),
    ("procmount", "procmount_restricted"),
    ("seccompprofile_baseline", "seccompprofile_restricted"),
];

#[test]
fn every_case_of_kubernetes_is_judged_as_kubernetes_judges_it() {
    let cases = cases();
    let mut counts: BTreeMap<(Level, bool), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let evaluation = evaluate(case.policy, &Pod::read(&case.pod).unwrap());
        let found: Vec<_> = evaluation
            .violations
            .iter()
            .map(|violation| violation.check.as_str().to_ascii_lowercase())
            .collect();
        let is_right = match &case.fails {
            None => found.is_empty(),
            Some(check) => {
                let instead = REPLACED.iter().find(|(replaced, _)| replaced == check);
                let replaced = |(_, by): &(&str, &str)| found.iter().any(|check| check == by);
                found.contains(check)
                    || (case.policy.level == Level::Restricted && instead.is_some_and(replaced))
            }
        };
        if !is_right {
            wrong.push(format!("{}: found {found:?}", case.place));
        }
        *counts.entry((case.policy.level, case.fails.is_some())).or_default() += 1;
    }
    assert_eq!(wrong, [""; 0]);
    if !cases.is_empty() {
        assert_eq!(counts.get(&(Level::Baseline, false)), Some(&433));
        assert_eq!(counts.get(&(Level::Baseline, true)), Some(&1122));
    }
}

#[test]
fn the_same_pods_in_deployments_are_warned_of_with_the_same_words() {
    for case in &cases() {
        let mut template = case.pod.clone();
        template.as_object_mut().unwrap().retain(|field, _| field == "metadata" || field == "spec");
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "d", "namespace": "n" }, "spec": { "template": template },
        });
        let (level, version) = (case.policy.level.to_string(), case.policy.version.to_string());
        let labels = BTreeMap::from([
            ("pod-security.kubernetes.io/enforce", level.as_str()),
            ("pod-security.kubernetes.io/enforce-version", version.as_str()),
        ]);
        let request = PodRequest {
            operation: Operation::Create,
            group: "apps",
            resource: "deployments",
            subresource: "",
            namespace: "n",
            name: "d",
            user: "ada",
            object: &deployment,
            old_object: None,
        };
        let review = review(&Settings::default(), &request, Ok(&labels));
        assert_eq!(review.refusal, None, "{}", case.place);
        let template = PodTemplate::of(&deployment).unwrap().unwrap();
        let expected = evaluate(case.policy, &template.pod);
        let warnings = if case.fails.is_some() { vec![expected.warning()] } else { Vec::new() };
        assert_eq!(review.warnings, warnings, "{}", case.place);
        for violation in &expected.violations {
            assert!(!violation.spots.is_empty(), "{}: {}", case.place, violation.check);
        }
    }
}

#[test]
fn every_check_fails_in_some_case_of_its_level() {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    for check in all_checks().filter(|check| check.level == Level::Baseline) {
        let name = check.id.as_str().to_ascii_lowercase();
        let fails = cases.iter().any(|case| case.fails.as_deref() == Some(name.as_str()));
        assert!(fails, "no case fails by `{}`", check.id);
    }
}
