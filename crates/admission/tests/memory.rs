//! What policies in force take of memory, under the allocator of the `nullius` binary.
//!
//! A test binary of its own: what is resident is a figure of the whole process.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_admission::webhook::{InForce, PolicyFile};
use nullius_policy::admission_policy::Version;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const POLICIES: usize = 1_000;

/// What is resident of this process, in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Policies with a variable, two validations and a condition each, of which no two are alike.
fn policy(number: usize) -> String {
    let containers = "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": format!("policy-{number}") },
        "spec": {
            "matchConstraints": {
                "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"] }],
            },
            "matchConditions": [{ "name": "own", "expression": format!("object.metadata.name != 'system-{number}'") }],
            "variables": [{ "name": "all", "expression": containers }],
            "validations": [
                {
                    "expression": format!("variables.all.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == {number}))"),
                    "messageExpression": format!("'ports of ' + object.metadata.name + ' must be {number}'"),
                },
                { "expression": format!("variables.all.all(c, c.image.matches('^registry-{number}[.]example[.]com/[a-z/-]+:[0-9.]+$'))") },
            ],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": format!("binding-{number}") },
        "spec": { "policyName": format!("policy-{number}"), "validationActions": ["Deny"] },
    });
    format!("{policy}\n---\n{binding}")
}

fn files() -> Vec<PolicyFile> {
    let numbers: Vec<usize> = (0..POLICIES).collect();
    let file = |(at, numbers): (usize, &[usize])| PolicyFile {
        name: format!("file-{at}"),
        text: numbers.iter().copied().map(policy).collect::<Vec<_>>().join("\n---\n"),
    };
    numbers.chunks(200).enumerate().map(file).collect()
}

/// Each policy has five expressions, one with a regular expression of its own; four differ from those of all others. What comes in the
/// place of policies that still hold has them twice for a moment.
#[test]
fn a_thousand_policies_fit_beside_the_rest_of_an_agent() {
    let files = files();
    let before = resident_kib();
    let mut in_force = InForce::compile(&files, Version::LATEST).unwrap();
    assert_eq!(in_force.programs().len(), 4 * POLICIES + 1);
    // What an allocator is given back it keeps for a while, now more and now less: the least is what policies take, and the most does
    // not grow with each change.
    let looks: Vec<usize> = (0..12)
        .map(|_| {
            in_force = in_force.replaced(&files, Version::LATEST).unwrap();
            resident_kib() - before
        })
        .collect();
    assert_eq!(in_force.counts(), (POLICIES, 0, 0));
    let taken = looks.iter().copied().min().unwrap();
    assert!(taken < 36 * 1024, "{POLICIES} policies took {taken} KiB");
    assert!(looks.iter().all(|look| *look < 44 * 1024), "{looks:?}");
    println!("{POLICIES} policies took {taken} KiB");
}
