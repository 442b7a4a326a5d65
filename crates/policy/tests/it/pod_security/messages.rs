//! The words of the refusals, as the API server prints them.

use nullius_policy::pod_security::{Pod, PodTemplate, evaluate};
use serde_json::{Value, json};

fn refusal(policy: &str, pod: &Value) -> String {
    evaluate(policy.parse().unwrap(), &Pod::read(pod).unwrap()).refusal()
}

fn of_spec(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec })
}

#[test]
fn an_ordinary_pod_is_refused_by_restricted_with_four_reasons() {
    let pod = of_spec(json!({ "containers": [{ "name": "a", "image": "i" }] }));
    assert_eq!(
        refusal("restricted:v1.36", &pod),
        "violates PodSecurity \"restricted:v1.36\": allowPrivilegeEscalation != false (container \"a\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert!(evaluate("baseline".parse().unwrap(), &Pod::read(&pod).unwrap()).is_clean());
}

#[test]
fn every_way_to_a_node_is_named() {
    let pod = json!({
        "metadata": { "annotations": {
            "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
            "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/b": "x\n",
        } },
        "spec": {
            "hostNetwork": true, "hostIPC": true,
            "securityContext": {
                "sysctls": [{ "name": "kernel.msgmax" }, { "name": "net.ipv4.tcp_rmem" }],
                "seLinuxOptions": { "type": "spc_t", "user": "u" },
                "seccompProfile": { "type": "Unconfined" },
                "windowsOptions": { "hostProcess": true },
            },
            "volumes": [{ "name": "v", "hostPath": { "path": "/" } }, { "name": "w", "nfs": {} }, { "name": "n", "x": {} }],
            "initContainers": [{ "name": "b", "ports": [{ "containerPort": 80 }, { "containerPort": 9, "hostPort": 9 }] }],
            "containers": [{
                "name": "a",
                "securityContext": {
                    "privileged": true, "procMount": "Unmasked", "runAsUser": 0,
                    "capabilities": { "add": ["SYS_ADMIN", "NET_BIND_SERVICE", "BPF"], "drop": ["all"] },
                    "appArmorProfile": { "type": "Unconfined" },
                },
                "livenessProbe": { "httpGet": { "host": "10.0.0.1" } },
                "lifecycle": { "preStop": { "tcpSocket": { "host": "node" } } },
            }],
        },
    });
    insta::assert_snapshot!("baseline_1_18", refusal("baseline:v1.18", &pod));
    insta::assert_snapshot!("baseline", refusal("baseline", &pod));
    insta::assert_snapshot!("restricted", refusal("restricted", &pod));
    let spots = evaluate("restricted".parse().unwrap(), &Pod::read(&pod).unwrap()).violations;
    let spots = spots.iter().flat_map(|violation| {
        violation
            .spots
            .iter()
            .map(|spot| format!("{}: {}: {}", violation.check, spot.path, spot.fix))
    });
    insta::assert_snapshot!("spots", spots.collect::<Vec<_>>().join("\n"));
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let clean = |spec: Value| refusal("restricted", &of_spec(spec));
    let volumes = json!([{ "name": "a" }, { "name": "b", "hostPath": null }, { "name": "c", "emptyDir": null }]);
    assert!(!clean(json!({ "volumes": volumes })).contains("volume"));
    assert!(clean(json!({ "containers": [null] })).contains("container \"\" must set"));
    assert!(
        clean(json!({ "hostUsers": false, "containers": [{ "name": "a" }] }))
            .contains("seccompProfile")
    );
    assert!(
        !clean(json!({ "hostUsers": false, "containers": [{ "name": "a" }] }))
            .contains("runAsNonRoot")
    );
    assert!(
        !clean(json!({ "os": { "name": "windows" }, "containers": [{ "name": "a" }] }))
            .contains("seccompProfile")
    );
    // The type of a profile is case-sensitive, and empty is none of them.
    for kind in ["runtimeDefault", ""] {
        let spec = json!({ "securityContext": { "seccompProfile": { "type": kind } } });
        assert!(clean(spec).contains(&format!(
            "pod must not set securityContext.seccompProfile.type to \"{kind}\""
        )));
    }
}

#[test]
fn an_app_armor_annotation_of_a_pod_counts_as_its_field() {
    let annotated = |spec: Value| {
        let key = "container.apparmor.security.beta.kubernetes.io/a";
        json!({ "metadata": { "annotations": { key: "unconfined" } }, "spec": spec })
    };
    let told = "must not set AppArmor profile type to";
    let plain = annotated(json!({ "containers": [{ "name": "a" }, { "name": "b" }] }));
    let refused = refusal("baseline", &plain);
    assert!(
        refused.contains(&format!("(container \"a\" and annotation {told} \"Unconfined\", ")),
        "{refused}"
    );
    let spots = evaluate("baseline".parse().unwrap(), &Pod::read(&plain).unwrap()).violations;
    assert_eq!(spots[0].spots.len(), 1);
    assert_eq!(
        spots[0].spots[0].path.to_string(),
        "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]"
    );
    let kept = json!({ "containers": [{ "name": "a", "securityContext": { "appArmorProfile": { "type": "RuntimeDefault" } } }] });
    assert!(refusal("baseline", &annotated(kept)).contains(&format!("(annotation {told}")));
    // In a template it stays what it is.
    let deployment =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": { "template": plain } });
    let template = PodTemplate::of(&deployment).unwrap().unwrap();
    assert!(
        evaluate("baseline".parse().unwrap(), &template.pod)
            .refusal()
            .contains(&format!("(annotation {told}"))
    );
}

#[test]
fn json_of_another_form_names_the_place() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": { "template": { "spec": { "containers": [{ "securityContext": { "privileged": "true" } }] } } },
    });
    assert_eq!(
        PodTemplate::of(&deployment).unwrap_err().to_string(),
        "spec.template.spec.containers[0].securityContext.privileged: expected a boolean, found text"
    );
    let error = Pod::read(&json!({ "metadata": { "annotations": { "a.b/c": 1 } } })).unwrap_err();
    assert_eq!(error.to_string(), "metadata.annotations[a.b/c]: expected text, found a number");
}
