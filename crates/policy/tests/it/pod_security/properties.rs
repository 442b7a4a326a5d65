//! What holds for any JSON, and for any pod.

use std::collections::BTreeMap;

use nullius_policy::pod_security::{
    Level, LevelVersion, Pod, PodRequest, PodTemplate, Settings, Version, Workload, evaluate,
    review, review_namespace,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

const NAMES: [&str; 48] = [
    "metadata",
    "annotations",
    "labels",
    "spec",
    "template",
    "jobTemplate",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "securityContext",
    "volumes",
    "ports",
    "hostPort",
    "containerPort",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "os",
    "name",
    "image",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "capabilities",
    "add",
    "drop",
    "seccompProfile",
    "appArmorProfile",
    "seLinuxOptions",
    "type",
    "user",
    "role",
    "windowsOptions",
    "hostProcess",
    "runAsNonRoot",
    "runAsUser",
    "sysctls",
    "hostPath",
    "emptyDir",
    "livenessProbe",
    "lifecycle",
    "postStart",
    "httpGet",
    "host",
    "runtimeClassName",
    "pod-security.kubernetes.io/enforce",
    "container.apparmor.security.beta.kubernetes.io/a",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![json!(0), json!(80), json!(-1), json!(1.5), json!(u64::MAX), json!(i64::MIN)]),
        select(vec![
            "",
            "a",
            "ALL",
            "RuntimeDefault",
            "Localhost",
            "Unconfined",
            "windows",
            "\u{0}\"é"
        ])
        .prop_map(Value::from),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(7, 120, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((select(NAMES.to_vec()), inner), 0..6).prop_map(|fields| {
                Value::Object(
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}

fn policy() -> impl Strategy<Value = LevelVersion> {
    let version = prop_oneof![(0u64..42).prop_map(Version::Minor), Just(Version::Latest)];
    (select(vec![Level::Privileged, Level::Baseline, Level::Restricted]), version)
        .prop_map(|(level, version)| LevelVersion { level, version })
}

fn security() -> impl Strategy<Value = Value> {
    let flag = || select(vec![Value::Null, json!(true), json!(false)]);
    let profile = || {
        select(vec![
            Value::Null,
            json!({ "type": "Localhost" }),
            json!({ "type": "Unconfined" }),
            json!({}),
        ])
    };
    let capabilities = || vec(select(vec!["ALL", "NET_BIND_SERVICE", "CHOWN", "SYS_ADMIN"]), 0..3);
    (flag(), flag(), flag(), profile(), profile(), capabilities(), capabilities(), select(vec![json!(null), json!(0), json!(7)]))
        .prop_map(|(privileged, escalation, root, seccomp, app_armor, add, drop, user)| {
            json!({
                "privileged": privileged, "allowPrivilegeEscalation": escalation, "runAsNonRoot": root,
                "seccompProfile": seccomp, "appArmorProfile": app_armor, "runAsUser": user,
                "capabilities": { "add": add, "drop": drop },
            })
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let container = || {
        (select(vec!["a", "b"]), security(), select(vec![0, 0, 80])).prop_map(
        |(name, security, port)| {
            json!({ "name": name, "securityContext": security, "ports": [{ "containerPort": 80, "hostPort": port }] })
        },
    )
    };
    let volume = select(vec![
        json!({}),
        json!({ "emptyDir": {} }),
        json!({ "hostPath": {} }),
        json!({ "nfs": {} }),
    ]);
    (vec(container(), 0..3), vec(container(), 0..2), vec(volume, 0..2), security(), any::<[bool; 3]>())
        .prop_map(|(containers, init, volumes, security, [network, pid, users])| {
            json!({ "metadata": { "name": "p" }, "spec": {
                "containers": containers, "initContainers": init, "volumes": volumes, "securityContext": security,
                "hostNetwork": network, "hostPID": pid, "hostUsers": users,
            } })
        })
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty()).try_fold(value, |value, step| {
        match step.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(step),
        }
    })
}

proptest! {
    #[test]
    fn any_json_is_judged_without_a_panic_and_always_the_same(value in any_json(), policy in policy()) {
        for workload in Workload::ALL {
            let judge = || workload.read(&value).map(|read| read.map(|read| evaluate(policy, &read.pod)));
            let first = judge();
            prop_assert_eq!(&first, &judge());
            if let Ok(Some(evaluation)) = first {
                prop_assert_eq!(evaluation.is_clean(), evaluation.reasons().is_empty());
            }
        }
        let labels = BTreeMap::from([("pod-security.kubernetes.io/enforce", "restricted")]);
        for (resource, subresource) in [("pods", ""), ("pods", "resize"), ("namespaces", "")] {
            let request = PodRequest {
                operation: nullius_policy::pod_security::Operation::Update,
                group: "", resource, subresource, namespace: "n", name: "p", user: "u",
                object: &value, old_object: Some(&Value::Null),
            };
            let _ = review(&Settings::default(), &request, Ok(&labels));
            let _ = review_namespace(&Settings::default(), &request);
        }
    }

    #[test]
    fn what_passes_restricted_passes_baseline(pod in pod(), policy in policy()) {
        let read = Pod::read(&pod).unwrap();
        let judge = |level| evaluate(LevelVersion { level, ..policy }, &read);
        prop_assert!(judge(Level::Privileged).is_clean());
        prop_assert!(!judge(Level::Restricted).is_clean() || judge(Level::Baseline).is_clean());
    }

    #[test]
    fn every_spot_stands_in_the_pod_or_can_be_put_there(pod in pod(), policy in policy()) {
        for violation in evaluate(policy, &Pod::read(&pod).unwrap()).violations {
            prop_assert!(!violation.spots.is_empty());
            for spot in violation.spots {
                let path = spot.path.to_string();
                let container = path.split(".securityContext").next().unwrap_or_default();
                prop_assert!(at(&pod, container).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn a_workload_is_judged_by_its_template(pod in pod(), policy in policy()) {
        let direct = evaluate(policy, &Pod::read(&pod).unwrap());
        for workload in Workload::ALL {
            let template = json!({ "spec": pod["spec"] });
            let object = match workload {
                Workload::Pod => template.clone(),
                Workload::PodTemplate => json!({ "template": template }),
                Workload::CronJob => json!({ "spec": { "jobTemplate": { "spec": { "template": template } } } }),
                _ => json!({ "spec": { "template": template } }),
            };
            let read = workload.read(&object).unwrap().unwrap();
            let judged = evaluate(policy, &read.pod);
            // Only pods get host ports by being in the host's network.
            if workload == Workload::Pod || pod["spec"]["hostNetwork"] == json!(false) {
                prop_assert_eq!(&judged, &direct);
            }
        }
    }
}

#[test]
fn kinds_are_known_in_every_version_of_their_group() {
    let find = |version: &str, kind: &str| {
        let object = json!({ "apiVersion": version, "kind": kind, "spec": { "template": {} } });
        PodTemplate::of(&object).unwrap().map(|read| read.workload)
    };
    assert_eq!(find("v1", "Pod"), Some(Workload::Pod));
    assert_eq!(find("batch/v1beta1", "CronJob"), Some(Workload::CronJob));
    assert_eq!(find("extensions/v1beta1", "Deployment"), Some(Workload::Deployment));
    assert_eq!(find("example.com/v1", "Deployment"), None);
    assert_eq!(find("v1", "Deployment"), None);
    assert_eq!(find("v1", "Service"), None);
}
