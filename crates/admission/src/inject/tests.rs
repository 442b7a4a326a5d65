#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

fn sidecar() -> Sidecar {
    Sidecar { image: "registry.example.org/nullius:1".to_owned(), pull_policy: None }
}

fn pod() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" }, "annotations": { "of": "others" } },
        "spec": {
            "serviceAccountName": "web",
            "initContainers": [{ "name": "migrate", "image": "m:1" }],
            "containers": [{ "name": "web", "image": "w:1", "ports": [{ "containerPort": 8080 }] }],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    })
}

fn of_kind(api_version: &str, kind: &str, template: Value) -> Value {
    let mut object = json!({ "apiVersion": api_version, "kind": kind });
    let workload =
        Workload::of_kind(api_version.split_once('/').map_or("", |it| it.0), kind).unwrap();
    match workload.template_fields() {
        [] => {
            object["metadata"] = template["metadata"].clone();
            object["spec"] = template["spec"].clone();
        }
        fields => {
            let nested =
                fields.iter().rev().fold(template, |inner, field| json!({ *field: inner }));
            object.as_object_mut().unwrap().extend(nested.as_object().unwrap().clone());
        }
    }
    object
}

#[test]
fn each_kind_that_makes_pods_gets_it_once_and_keeps_everything_else() {
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("v1", "PodTemplate"),
        ("v1", "ReplicationController"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
    ] {
        let before = of_kind(api_version, kind, pod());
        let mut object = before.clone();
        assert_eq!(inject(&mut object, &sidecar()), Ok(Injected::Changed), "{kind}");
        let once = object.clone();
        assert_eq!(inject(&mut object, &sidecar()), Ok(Injected::Already), "{kind}");
        assert_eq!(object, once);
        // What was there stands there as it was, behind what was put there.
        let workload = Workload::of_kind(api_version.split_once('/').map_or("", |it| it.0), kind);
        let fields = workload.unwrap().template_fields();
        let pointer: String = fields.iter().map(|field| format!("/{field}")).collect();
        let template = object.pointer_mut(&pointer).unwrap();
        assert_eq!(template["metadata"]["labels"][MESH], "sidecar");
        let all = template["spec"]["initContainers"].as_array_mut().unwrap();
        assert_eq!(name(&all.remove(0)), PROXY);
        template["spec"]["volumes"].as_array_mut().unwrap().truncate(1);
        template["metadata"]["labels"].as_object_mut().unwrap().remove(MESH);
        assert_eq!(object, before, "{kind}");
    }
    for (api_version, kind) in [("v1", "Service"), ("apps/v1", "Pod"), ("example.org/v1", "Job")] {
        let mut object = json!({ "apiVersion": api_version, "kind": kind, "spec": pod()["spec"] });
        let before = object.clone();
        assert_eq!(inject(&mut object, &sidecar()), Ok(Injected::NoPods));
        assert_eq!(object, before);
    }
}

#[test]
fn the_proxy_needs_nothing_that_the_strictest_level_of_pod_security_forbids() {
    let mut object = of_kind("v1", "Pod", pod());
    inject(&mut object, &sidecar()).unwrap();
    let proxy = &object["spec"]["initContainers"][0];
    assert_eq!(proxy["restartPolicy"], "Always");
    let context = &proxy["securityContext"];
    assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!((&context["runAsNonRoot"], &context["privileged"]), (&json!(true), &Value::Null));
    assert_eq!(proxy["startupProbe"]["httpGet"]["path"], "/readyz");
    for volume in volumes() {
        assert_eq!(volume["csi"]["readOnly"], true);
    }
}

#[test]
fn a_later_version_takes_the_place_of_an_earlier_one_and_nothing_that_others_added_stays() {
    let mut object = of_kind("v1", "Pod", pod());
    inject(&mut object, &sidecar()).unwrap();
    let clean = object.clone();
    let token = json!({ "name": "kube-api-access-x", "mountPath": TOKEN_DIR, "readOnly": true });
    {
        // What an API server puts there.
        let proxy = &mut object["spec"]["initContainers"][0];
        proxy["terminationMessagePath"] = json!("/dev/termination-log");
        proxy["imagePullPolicy"] = json!("Always");
        proxy["resources"]["limits"]["cpu"] = json!("1");
        proxy["volumeMounts"].as_array_mut().unwrap().push(token.clone());
    }
    assert_eq!(inject(&mut object, &sidecar()), Ok(Injected::Already));
    // What somebody else does: other settings, rights, files.
    let proxy = &mut object["spec"]["initContainers"][0];
    proxy["env"] = json!([{ "name": "LD_PRELOAD", "value": "/mine/lib.so" }]);
    proxy["envFrom"] = json!([{ "secretRef": { "name": "s" } }]);
    proxy["workingDir"] = json!("/mine");
    proxy["securityContext"]["privileged"] = json!(true);
    proxy["startupProbe"] = json!({ "exec": { "command": ["/mine/run"] } });
    proxy["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "data", "mountPath": "/usr/local/bin" }));
    // It also stands behind another, whose calls would be led to nobody.
    object["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    let later = Sidecar { image: "registry.example.org/nullius:2".to_owned(), ..sidecar() };
    assert_eq!(inject(&mut object, &later), Ok(Injected::Changed));
    let mut expected = clean["spec"]["initContainers"].clone();
    expected[0]["image"] = json!("registry.example.org/nullius:2");
    expected[0]["terminationMessagePath"] = json!("/dev/termination-log");
    expected[0]["imagePullPolicy"] = json!("Always");
    expected[0]["resources"]["limits"]["cpu"] = json!("1");
    expected[0]["volumeMounts"].as_array_mut().unwrap().push(token);
    assert_eq!(object["spec"]["initContainers"], expected);
    assert_eq!(inject(&mut object, &later), Ok(Injected::Already));
}

#[test]
fn a_pod_says_what_its_proxy_may_use_and_whether_it_wants_one() {
    let mut object = of_kind("v1", "Pod", pod());
    object["metadata"]["annotations"] = json!({
        "nullius.dev/proxy-cpu": "0.5", "nullius.dev/proxy-cpu-limit": "2",
        "nullius.dev/proxy-memory": "64Mi", "nullius.dev/proxy-memory-limit": "1Gi",
    });
    inject(&mut object, &sidecar()).unwrap();
    assert_eq!(
        object["spec"]["initContainers"][0]["resources"],
        json!({ "requests": { "cpu": "0.5", "memory": "64Mi" }, "limits": { "cpu": "2", "memory": "1Gi" } })
    );
    for wrong in [json!("much"), json!(""), json!("-1"), json!("1 Mi"), json!(64), json!("1e")] {
        let mut object = of_kind("v1", "Pod", pod());
        object["metadata"]["annotations"]["nullius.dev/proxy-memory"] = wrong;
        let faults = inject(&mut object, &sidecar()).unwrap_err();
        assert_eq!(faults[0].field, "metadata.annotations[nullius.dev/proxy-memory]");
    }
    for (label, value) in [(INJECT, "disabled"), (MESH, "disabled")] {
        let mut object = of_kind("apps/v1", "Deployment", pod());
        object["spec"]["template"]["metadata"]["labels"][label] = json!(value);
        let before = object.clone();
        assert_eq!(inject(&mut object, &sidecar()), Ok(Injected::Unwanted));
        assert_eq!(object, before);
    }
}

#[test]
fn what_would_stand_in_the_proxys_way_or_in_its_place_is_refused_by_name() {
    let template = "spec.template.";
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 14] = [
        ("spec.hostNetwork", |pod| pod["spec"]["hostNetwork"] = json!(true)),
        ("spec.os.name", |pod| pod["spec"]["os"] = json!({ "name": "windows" })),
        ("metadata.labels[nullius.dev/mesh]", |pod| {
            pod["metadata"]["labels"][MESH] = json!("node")
        }),
        // An application that names itself like the proxy.
        ("spec.containers[0].name", |pod| pod["spec"]["containers"][0]["name"] = json!(PROXY)),
        ("spec.initContainers[0].name", |pod| {
            pod["spec"]["initContainers"][0]["name"] = json!(PROXY)
        }),
        ("spec.initContainers[0].name", |pod| {
            pod["spec"]["initContainers"][0] =
                json!({ "name": PROXY, "restartPolicy": "Always", "args": ["sleep", "3600"] });
        }),
        // One that looks like the proxy, and runs something else.
        ("spec.initContainers[0].name", |pod| {
            pod["spec"]["initContainers"][0] = json!({
                "name": PROXY, "restartPolicy": "Always", "args": ["proxy", "--captured"],
                "command": ["/bin/sh", "-c", "steal"],
            });
        }),
        ("spec.initContainers[0].name", |pod| {
            pod["spec"]["initContainers"][0] = json!({
                "name": PROXY, "restartPolicy": "Always", "args": ["proxy", "--captured"],
                "lifecycle": { "postStart": { "exec": { "command": ["/steal"] } } },
            });
        }),
        ("spec.initContainers[1].name", |pod| {
            let ours = json!({ "name": PROXY, "restartPolicy": "Always", "args": ["proxy", "--captured"] });
            pod["spec"]["initContainers"] = json!([ours, ours]);
        }),
        ("spec.containers[0].ports[0].containerPort", |pod| {
            pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(15006);
        }),
        // An application that would be handed what the proxy is handed.
        ("spec.containers[0].volumeMounts[0].name", |pod| {
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{ "name": PROXY_VOLUME, "mountPath": "/x" }]);
        }),
        ("spec.volumes[0].csi.volumeAttributes", |pod| {
            pod["spec"]["volumes"][0] = json!({
                "name": "mine",
                "csi": { "driver": DRIVER, "readOnly": true, "volumeAttributes": { "for": "proxy" } },
            });
        }),
        ("spec.volumes[0].name", |pod| pod["spec"]["volumes"][0]["name"] = json!(IDENTITY_VOLUME)),
        ("spec", |pod| pod["spec"]["volumes"] = json!("none")),
    ];
    for (field, change) in cases {
        let mut template_of = pod();
        change(&mut template_of);
        let mut object = of_kind("apps/v1", "Deployment", template_of);
        let before = object.clone();
        let faults = inject(&mut object, &sidecar()).unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [format!("{template}{field}")], "{faults:?}");
        assert_eq!(object, before);
    }
}
