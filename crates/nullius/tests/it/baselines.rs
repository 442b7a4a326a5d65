//! Namespace baselines in a real cluster: what a namespace has before its first pod, what becomes of what others change, and what
//! goes when a baseline does.

use std::{cell::RefCell, time::Duration};

use nullius_kube::{AGENT_ADMISSION, BASELINE_ROLES, SYSTEM_NAMESPACE};
use nullius_testkit::{Output, wait_until};
use serde_json::{Value, json};

use crate::{
    admission_lab::{Court, SOON},
    world::World,
};

/// Baselines, namespaces and other objects of a test, which go with the value.
struct Lab<'w> {
    world: &'w World,
    court: Court<'w>,
    made: RefCell<Vec<(&'static str, String)>>,
}

impl<'w> Lab<'w> {
    fn open(world: &'w World) -> Self {
        Self { world, court: Court::open(world, "base"), made: RefCell::default() }
    }

    /// Makes a baseline of this name for the test's own namespaces, or changes it; waits until it is heard of.
    #[track_caller]
    fn baseline(&self, name: &str, spec: Value) -> String {
        let name = self.court.own(name);
        let mut spec = spec;
        if spec.get("names").is_none() {
            spec["names"] = json!([self.court.name(), format!("{}-*", self.court.name())]);
        }
        let object = json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "NamespaceBaseline",
            "metadata": { "name": name }, "spec": spec,
        });
        self.make("namespacebaseline", &name, &object);
        wait_until(SOON, "the baseline to be heard of", || {
            let object = self.read(&["get", "namespacebaseline", &name])?;
            (object["status"]["observedGeneration"] == object["metadata"]["generation"])
                .then_some(())
        })
        .unwrap();
        name
    }

    #[track_caller]
    fn make(&self, kind: &'static str, name: &str, object: &Value) {
        self.made.borrow_mut().push((kind, name.to_owned()));
        self.world.direct().apply(&object.to_string()).unwrap();
    }

    /// A new namespace, a moment after it was asked for.
    #[track_caller]
    fn namespace(&self, suffix: &str, labels: Value) -> String {
        let name = self.court.own(suffix);
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels },
        });
        self.make("namespace", &name, &object);
        name
    }

    fn read(&self, args: &[&str]) -> Option<Value> {
        let output = self.world.direct().run(&[args, &["-o", "json"]].concat()).unwrap();
        (output.code == 0).then(|| serde_json::from_str(&output.stdout).unwrap())
    }

    /// An object that a baseline made in a namespace.
    fn kept(&self, namespace: &str, kind: &str) -> Option<Value> {
        self.read(&["-n", namespace, "get", kind, "nullius-baseline"])
    }

    #[track_caller]
    fn status(&self, baseline: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_until(SOON, what, || {
            last = self.read(&["get", "namespacebaseline", baseline])?["status"].clone();
            holds(&last).then(|| last.clone())
        })
        .unwrap_or_else(|error| panic!("{error}: {last:#}"))
    }

    #[track_caller]
    fn stands(&self, baseline: &str) -> Value {
        self.status(baseline, "a baseline to stand", |status| {
            status["conditions"][0]["status"] == "True" && status["namespaces"] != 0
        })
    }

    /// Whether the API server asks about pods.
    #[track_caller]
    fn pods_are_held(&self) {
        wait_until(SOON, "the webhook to be asked about pods", || {
            let entries = self.court.registration("validatingwebhookconfigurations");
            entries
                .iter()
                .any(|entry| entry["rules"].to_string().contains("\"pods\""))
                .then_some(())
        })
        .unwrap();
    }

    /// Somebody who is no administrator, with what `admin` of a namespace may do and `may` in the cluster.
    #[track_caller]
    fn somebody(&self, namespace: &str) -> Somebody<'_> {
        let user = self.court.own("somebody");
        let subject =
            json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }]);
        let rbac = |kind: &str, place: Value, role: (&str, &str)| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": place, "subjects": subject,
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.1 },
            })
        };
        let role = self.court.own("namespaces");
        let rules = json!([
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "patch", "update"] },
            { "apiGroups": ["", "networking.k8s.io"], "resources": ["resourcequotas", "limitranges", "networkpolicies"],
              "verbs": ["get", "create", "patch", "update", "delete"] },
        ]);
        self.make("clusterrole", &role, &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": role }, "rules": rules,
        }));
        let place = json!({ "name": role });
        self.make("clusterrolebinding", &role, &rbac("ClusterRoleBinding", place, ("", &role)));
        let place = json!({ "name": "somebody", "namespace": namespace });
        let admin = rbac("RoleBinding", place, ("", "admin"));
        self.world.direct().apply(&admin.to_string()).unwrap();
        Somebody { lab: self, user }
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let control = "app.kubernetes.io/component=nullius-agent-control";
            let logs = ["-n", SYSTEM_NAMESPACE, "logs", "-l", control, "--tail=40", "--prefix"];
            if let Ok(logs) = self.world.direct().run(&logs) {
                eprintln!("--- control said at last:\n{}{}", logs.stdout, logs.stderr);
            }
        }
        for (kind, name) in self.made.borrow().iter().rev() {
            let delete = ["delete", kind, name, "--ignore-not-found", "--wait=false"];
            let _ = self.world.direct().run(&delete);
        }
    }
}

struct Somebody<'l> {
    lab: &'l Lab<'l>,
    user: String,
}

impl Somebody<'_> {
    fn run(&self, args: &[&str], input: &str) -> Output {
        let user = format!("--as={}", self.user);
        self.lab.world.direct().run_with_input(&[&[user.as_str()], args].concat(), input).unwrap()
    }

    #[track_caller]
    fn may_not(&self, args: &[&str], input: &str, words: &str) {
        let output = self.run(args, input);
        assert!(output.code != 0 && output.stderr.contains(words), "{args:?}: {output:?}");
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "first" },
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "localhost/nullius-busybox:1", "imagePullPolicy": "Never",
                "command": ["sleep", "1000"],
            }],
        },
    })
}

fn whole() -> Value {
    json!({
        "labels": { "cost": "42" },
        "environment": "production",
        "podSecurity": { "enforce": "baseline", "warn": "restricted" },
        "networkPolicy": { "deny": ["Ingress", "Egress"], "allowDns": true },
        "resourceQuota": { "hard": { "pods": 5, "requests.cpu": "0.5" } },
        "limitRange": { "limits": [{ "type": "Container", "max": { "memory": "1Gi" }, "defaultRequest": { "cpu": "1m" } }] },
    })
}

/// A policy of the cluster by which nobody makes limit ranges in a namespace.
fn no_limits(name: &str, namespace: &str) -> [Value; 2] {
    let of = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        })
    };
    [
        of(
            "ValidatingAdmissionPolicy",
            json!({
                "matchConstraints": {
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                    "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["limitranges"], "operations": ["CREATE"] }],
                },
                "validations": [{ "expression": "false", "message": "no limits here" }],
            }),
        ),
        of(
            "ValidatingAdmissionPolicyBinding",
            json!({ "policyName": name, "validationActions": ["Deny"] }),
        ),
    ]
}

#[test]
fn no_pod_runs_in_a_new_namespace_before_all_that_bounds_it_stands() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world);
    let policy = lab.court.own("no-limits");
    let [no_limits, binding] = no_limits(&policy, &lab.court.own("new"));
    lab.make("validatingadmissionpolicy", &policy, &no_limits);
    lab.make("validatingadmissionpolicybinding", &policy, &binding);
    let baseline = lab.baseline("all", whole());
    lab.pods_are_held();
    lab.stands(&baseline);

    // Without anything in the way the first pod waits for a moment, and kubectl by itself.
    let quick = lab.namespace("quick", json!({}));
    let output = wait_until(SOON, "the account of pods", || {
        let output = world
            .direct()
            .run_with_input(&["-n", &quick, "create", "-f", "-"], &pod().to_string())
            .unwrap();
        (!output.stderr.contains("serviceaccount")).then_some(output)
    });
    assert_eq!(output.unwrap().code, 0);
    for kind in ["networkpolicy", "resourcequota", "limitrange"] {
        assert!(lab.kept(&quick, kind).is_some(), "{kind} stood before the pod");
    }
    world
        .direct()
        .ok(&["-n", &quick, "wait", "pod/first", "--for=condition=Ready", "--timeout=180s"])
        .unwrap();

    let new = lab.namespace("new", json!({}));
    let path = format!("/api/v1/namespaces/{new}/pods");
    let refused = wait_until(SOON, "a pod to wait for what cannot be made", || {
        let answer = lab.court.api.post(&path, &pod()).unwrap();
        assert!(!answer.is_success(), "{}", answer.text());
        (answer.status == 429
            && answer.text().contains("missing yet: LimitRange/nullius-baseline;"))
        .then_some(answer)
    })
    .unwrap();
    assert_eq!(refused.header("retry-after").next(), Some("1"), "{refused:?}");
    assert!(refused.text().contains(&baseline), "{}", refused.text());
    let told = lab.status(&baseline, "the trouble to be told", |status| {
        status["troubles"].to_string().contains("no limits here")
    });
    assert_eq!(told["troubles"][0]["namespace"], new.as_str());
    assert_eq!((&told["namespaces"], &told["standing"]), (&json!(3), &json!(2)), "{told:#}");

    world.direct().ok(&["delete", "validatingadmissionpolicybinding", &policy]).unwrap();
    wait_until(Duration::from_secs(180), "the pod to be let in", || {
        lab.court.api.post(&path, &pod()).unwrap().is_success().then_some(())
    })
    .unwrap();
    assert!(lab.kept(&new, "limitrange").is_some());
    world
        .direct()
        .ok(&["-n", &new, "wait", "pod/first", "--for=condition=Ready", "--timeout=180s"])
        .unwrap();
    let namespace = lab.read(&["get", "namespace", &new]).unwrap();
    let label = |key: &str| namespace["metadata"]["labels"][key].clone();
    assert_eq!(label("nullius.dev/environment"), "production");
    assert_eq!(label("pod-security.kubernetes.io/enforce"), "baseline");
    lab.stands(&baseline);
}

#[test]
fn what_others_change_is_undone_and_who_is_no_administrator_changes_nothing() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world);
    let home = lab.court.name();
    let baseline = lab.baseline("all", whole());
    lab.stands(&baseline);
    let admin = |args: &[&str]| world.direct().ok(&[&["-n", home], args].concat()).unwrap();
    let again = |what: &str, holds: &dyn Fn() -> bool| {
        wait_until(SOON, what, || holds().then_some(())).unwrap();
    };

    let before = lab.kept(home, "resourcequota").unwrap();
    admin(&["delete", "resourcequota", "nullius-baseline"]);
    again("the quota", &|| {
        lab.kept(home, "resourcequota").is_some_and(|now| {
            now["spec"] == before["spec"] && now["metadata"]["uid"] != before["metadata"]["uid"]
        })
    });
    // What is added to it would allow what it denies.
    let open = r#"{"spec":{"ingress":[{}]}}"#;
    admin(&["patch", "networkpolicy", "nullius-baseline", "--type=merge", "-p", open]);
    again("the network policy", &|| {
        lab.kept(home, "networkpolicy").is_some_and(|now| now["spec"].get("ingress").is_none())
    });
    let more = r#"{"spec":{"hard":{"pods":"500","services":"9"}}}"#;
    admin(&["patch", "resourcequota", "nullius-baseline", "--type=merge", "-p", more]);
    again("the quota as it was", &|| {
        lab.kept(home, "resourcequota").is_some_and(|now| now["spec"] == before["spec"])
    });
    admin(&[
        "label",
        "namespace",
        home,
        "nullius.dev/environment-",
        "pod-security.kubernetes.io/enforce=privileged",
        "--overwrite",
    ]);
    again("the labels", &|| {
        let labels = lab.read(&["get", "namespace", home]).unwrap()["metadata"]["labels"].clone();
        labels["nullius.dev/environment"] == "production"
            && labels["pod-security.kubernetes.io/enforce"] == "baseline"
    });
    admin(&["label", "limitrange", "nullius-baseline", "nullius.dev/baseline-"]);
    again("the label of an object", &|| {
        lab.kept(home, "limitrange")
            .is_some_and(|now| now["metadata"]["labels"]["nullius.dev/baseline"] == "true")
    });

    // Attacks: generated objects edited, marks forged.
    let somebody = lab.somebody(home);
    let kept = "a NamespaceBaseline keeps this object as it is";
    let patch = |kind: &'static str, patch: &'static str| {
        ["-n", home, "patch", kind, "nullius-baseline", "--type=merge", "-p", patch]
    };
    wait_until(SOON, "somebody's rights", || {
        (somebody.run(&["-n", home, "get", "resourcequota"], "").code == 0).then_some(())
    })
    .unwrap();
    somebody.may_not(&patch("networkpolicy", open), "", kept);
    somebody.may_not(&patch("resourcequota", more), "", kept);
    somebody.may_not(&patch("limitrange", r#"{"metadata":{"labels":null}}"#), "", kept);
    for kind in ["networkpolicy", "resourcequota", "limitrange"] {
        somebody.may_not(&["-n", home, "delete", kind, "nullius-baseline"], "", kept);
    }
    let labels = "a NamespaceBaseline keeps these labels as they are";
    for change in [
        "nullius.dev/environment=development",
        "nullius.dev/environment-",
        "pod-security.kubernetes.io/enforce=privileged",
        "cost-",
    ] {
        somebody.may_not(&["label", "namespace", home, change, "--overwrite"], "", labels);
    }
    for change in
        ["nullius.dev/baseline-labels=", "nullius.dev/baselines-", "nullius.dev/baselines=other"]
    {
        somebody.may_not(&["annotate", "namespace", home, change, "--overwrite"], "", labels);
    }
    assert_eq!(somebody.run(&["label", "namespace", home, "own=label"], "").code, 0);
    // An object under the name or the mark of baselines, and a namespace that says it has all of them.
    let quota = |name: &str, labels: Value| {
        json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": name, "namespace": home, "labels": labels },
                "spec": { "hard": { "pods": "500" } } }).to_string()
    };
    somebody.may_not(&["create", "-f", "-"], &quota("nullius-baseline-2", json!({})), kept);
    somebody.may_not(
        &["create", "-f", "-"],
        &quota("own", json!({ "nullius.dev/baseline": "true" })),
        kept,
    );
    assert_eq!(somebody.run(&["create", "-f", "-"], &quota("own", json!({}))).code, 0);
    let forged = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": lab.court.own("forged"),
            "annotations": { "nullius.dev/baselines": baseline, "nullius.dev/baseline-labels": "cost" },
        },
    });
    somebody.may_not(&["create", "-f", "-"], &forged.to_string(), labels);
    // Who borrows the account's name has none of its rights.
    let account = format!("--as=system:serviceaccount:{SYSTEM_NAMESPACE}:nullius-baseline");
    let borrowed = world
        .direct()
        .run(&[&account, "-n", home, "delete", "resourcequota", "nullius-baseline"])
        .unwrap();
    assert!(borrowed.code != 0 && borrowed.stderr.contains(kept), "{borrowed:?}");
    lab.stands(&baseline);
}

#[test]
fn what_a_baseline_no_longer_says_goes_and_what_others_made_stays() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world);
    let home = lab.court.name();
    let admin = |args: &[&str]| world.direct().ok(&[&["-n", home], args].concat()).unwrap();
    let own = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "own", "namespace": home },
        "spec": { "hard": { "pods": "500" } },
    });
    world.direct().apply(&own.to_string()).unwrap();
    admin(&["label", "namespace", home, "own=label"]);
    lab.stands(&lab.baseline("all", whole()));

    let mut less = whole();
    less["resourceQuota"] = Value::Null;
    less["environment"] = json!("development");
    less["podSecurity"] = json!({ "enforce": "restricted" });
    let baseline = lab.baseline("all", less);
    lab.stands(&baseline);
    let labels = || lab.read(&["get", "namespace", home]).unwrap()["metadata"]["labels"].clone();
    wait_until(SOON, "the change", || {
        let labels = labels();
        (lab.kept(home, "resourcequota").is_none()
            && labels["nullius.dev/environment"] == "development"
            && labels["pod-security.kubernetes.io/enforce"] == "restricted"
            && labels.get("pod-security.kubernetes.io/warn").is_none())
        .then_some(())
    })
    .unwrap();
    assert!(lab.kept(home, "limitrange").is_some());

    admin(&["delete", "namespacebaseline", &baseline]);
    wait_until(SOON, "all of it to go", || {
        let gone =
            ["networkpolicy", "limitrange"].iter().all(|kind| lab.kept(home, kind).is_none());
        let namespace = lab.read(&["get", "namespace", home]).unwrap();
        let labels = &namespace["metadata"]["labels"];
        (gone
            && labels.get("nullius.dev/environment").is_none()
            && labels.get("cost").is_none()
            && !namespace["metadata"]["annotations"].to_string().contains("nullius.dev/baseline"))
        .then_some(())
    })
    .unwrap();
    assert_eq!(labels()["own"], "label");
    assert!(lab.read(&["-n", home, "get", "resourcequota", "own"]).is_some());
    lab.court.passes("pods", &pod());
}

#[test]
fn of_two_that_say_otherwise_the_older_counts_and_of_the_younger_nothing_is_done() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world);
    let home = lab.court.name();
    let older = lab.baseline(
        "z-older",
        json!({ "environment": "production", "resourceQuota": { "hard": { "pods": 5 } } }),
    );
    lab.stands(&older);
    // Times are told in seconds: the younger is one of another second.
    wait_until(SOON, "another second", || {
        let made = lab.read(&["get", "namespacebaseline", &older]).unwrap()["metadata"]["creationTimestamp"].clone();
        let made: jiff::Timestamp = made.as_str()?.parse().ok()?;
        (jiff::Timestamp::now().duration_since(made).as_secs() >= 2).then_some(())
    })
    .unwrap();
    let more = lab.baseline("more", json!({ "resourceQuota": { "hard": { "services": 3 } } }));
    let younger = lab.baseline(
        "a-younger",
        json!({ "environment": "development", "labels": { "cost": "1" }, "networkPolicy": { "deny": ["Ingress"] } }),
    );
    let told =
        lab.status(&younger, "the conflict to be told", |status| status["troubles"] != json!([]));
    let message = told["troubles"][0]["message"].as_str().unwrap();
    assert_eq!(
        message,
        format!(
            "says otherwise of the label `nullius.dev/environment` than the older baseline `{older}`, so nothing of it is done here"
        )
    );
    assert_eq!(told["conditions"][0]["status"], "False");
    lab.stands(&more);
    let hard = wait_until(SOON, "both quotas in one", || {
        let hard = lab.kept(home, "resourcequota")?["spec"]["hard"].clone();
        hard.get("services").is_some().then_some(hard)
    });
    assert_eq!(hard.unwrap(), json!({ "pods": "5", "services": "3" }));
    let labels = lab.read(&["get", "namespace", home]).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["nullius.dev/environment"], "production");
    assert!(labels.get("cost").is_none() && lab.kept(home, "networkpolicy").is_none());
    lab.court.passes("pods", &pod());

    world.direct().ok(&["delete", "namespacebaseline", &older]).unwrap();
    lab.stands(&younger);
    assert!(lab.kept(home, "networkpolicy").is_some());
}

#[test]
fn a_role_is_bound_only_when_an_administrator_named_it() {
    let Some(world) = World::alone() else { return };
    let lab = Lab::open(&world);
    let home = lab.court.name();
    let role = lab.court.own("reader");
    lab.make("clusterrole", &role, &json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": role },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }],
    }));
    let user = lab.court.own("reader");
    let baseline = lab.baseline("roles", json!({
        "environment": "production", "roleBindings": [{ "roleRef": { "name": role }, "users": [user] }],
    }));
    let told =
        lab.status(&baseline, "the role to be told", |status| status["troubles"] != json!([]));
    let message = told["troubles"][0]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!(
            "to let `{role}` be bound, name it in the ClusterRole `{BASELINE_ROLES}`"
        )),
        "{message}"
    );
    // Nobody's safety is in a role: pods do not wait for it.
    lab.court.passes("pods", &pod());
    let may = || {
        let ask = ["auth", "can-i", "list", "configmaps", "-n", home, &format!("--as={user}")];
        world.direct().run(&ask).unwrap().code == 0
    };
    assert!(!may());
    let rules = |rules: Value| {
        let patch = json!({ "rules": rules }).to_string();
        world
            .direct()
            .ok(&["patch", "clusterrole", BASELINE_ROLES, "--type=merge", "-p", &patch])
            .unwrap();
    };
    rules(json!([{
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": [role], "verbs": ["bind"],
    }]));
    lab.stands(&baseline);
    wait_until(SOON, "the API server to know of the binding", || may().then_some(())).unwrap();
    rules(json!([]));
}

#[test]
fn while_nobody_keeps_baselines_pods_of_new_namespaces_wait_and_a_start_makes_all_of_it() {
    let Some(world) = World::alone() else { return };
    let lab = Lab::open(&world);
    let home = lab.court.name();
    let baseline = lab.baseline("all", whole());
    lab.pods_are_held();
    lab.stands(&baseline);
    let control = |replicas: &str| {
        lab.court.system(&["scale", "deployment", "nullius-agent-control", replicas]);
    };
    control("--replicas=0");
    lab.court.system(&[
        "wait",
        "pod",
        "-l",
        "app.kubernetes.io/component=nullius-agent-control",
        "--for=delete",
        "--timeout=180s",
    ]);
    world.direct().ok(&["-n", home, "delete", "resourcequota", "nullius-baseline"]).unwrap();
    let new = lab.namespace("new", json!({}));
    for namespace in [home, &new] {
        wait_until(SOON, "a pod to wait", || {
            let answer = lab.court.send_to(namespace, "pods", &pod());
            (answer.status == 429).then_some(())
        })
        .unwrap();
    }
    control("--replicas=1");
    lab.court.system(&["rollout", "status", "deployment/nullius-agent-control", "--timeout=180s"]);
    for namespace in [home, &new] {
        wait_until(Duration::from_secs(180), "a pod to be let in", || {
            lab.court.send_to(namespace, "pods", &pod()).is_success().then_some(())
        })
        .unwrap();
    }
    assert!(lab.kept(home, "resourcequota").is_some());

    // Without the webhook nobody says that a namespace is as it should be.
    lab.court.system(&["scale", "deployment", AGENT_ADMISSION, "--replicas=0"]);
    let refused = wait_until(Duration::from_secs(180), "nobody to answer", || {
        let answer = lab.court.send_to(&new, "pods", &pod());
        answer.text().contains("failed calling webhook").then_some(answer)
    });
    lab.court.system(&["scale", "deployment", AGENT_ADMISSION, "--replicas=2"]);
    lab.court.wait_for_replicas(2);
    assert!(!refused.unwrap().is_success());
}
