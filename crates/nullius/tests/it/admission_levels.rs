//! Exceptions from the Pod Security Standards in a real cluster: a level is lowered when the webhook enforces what the owner of the
//! namespace wants, and raised before it stops.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nullius_kube::{AGENT_ADMISSION, SYSTEM_NAMESPACE};
use nullius_testkit::wait_until;
use serde_json::{Value, json};

use crate::{
    admission_exceptions::{Deaf, Excepted, exception},
    admission_lab::{Court, Ends, SOON},
    trail::events,
    world::World,
};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const MARK: &str = "nullius.dev/pod-security-enforce";
/// What Pod Security says of the pods here.
const WORDS: &str = "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"main\" must set \
    securityContext.allowPrivilegeEscalation=false)";
/// The webhook is asked for ten seconds before a level is lowered.
const LOWERED: Duration = Duration::from_secs(150);

/// A pod that has all that `restricted` asks for, but for what `security` says of its container.
fn pod(name: &str, security: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            // Nobody starts it.
            "schedulerName": "nobody", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [container("main", security)],
        },
    })
}

fn container(name: &str, security: Value) -> Value {
    let mut context =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    for (key, value) in security.as_object().unwrap() {
        context[key] = value.clone();
    }
    json!({ "name": name, "image": "registry.example/a:1", "securityContext": context })
}

fn escalating(name: &str) -> Value {
    pod(name, json!({ "allowPrivilegeEscalation": true }))
}

/// An exception from checks of Pod Security, in the place where exceptions count.
fn from_checks(name: &str, checks: &[&str], scope: Value, seconds: i64) -> Value {
    let mut object = exception(SYSTEM_NAMESPACE, name, "PodSecurity", scope, seconds);
    object["spec"]["rules"][0]["checks"] = json!(checks);
    object
}

/// A restricted namespace.
struct Restricted<'w> {
    world: &'w World,
    court: Court<'w>,
}

impl<'w> Restricted<'w> {
    fn open(world: &'w World) -> Self {
        let this = Self { world, court: Court::open(world, "levels") };
        this.enforce("restricted");
        this
    }

    /// Writes the label as an administrator does.
    #[track_caller]
    fn enforce(&self, level: &str) {
        let label = format!("{ENFORCE}={level}");
        let args = ["label", "namespace", self.court.name(), &label, "--overwrite"];
        self.world.direct().ok(&args).unwrap();
    }

    /// The level that the API server enforces, and the mark.
    fn labels(&self) -> (Option<String>, Option<String>) {
        let path = format!("/api/v1/namespaces/{}", self.court.name());
        let namespace = self.court.api.get(&path).unwrap().json().unwrap();
        let of = |key: &str| namespace["metadata"]["labels"][key].as_str().map(str::to_owned);
        (of(ENFORCE), of(MARK))
    }

    #[track_caller]
    fn has(&self, level: &str, mark: Option<&str>) {
        let wanted = (Some(level.to_owned()), mark.map(str::to_owned));
        let mut last = (None, None);
        wait_until(LOWERED, "the level of the namespace", || {
            last = self.labels();
            (last == wanted).then_some(())
        })
        .unwrap_or_else(|error| {
            panic!("{error} {wanted:?}, it has {last:?}; {:#}", self.court.status())
        });
    }

    /// What an exception says of itself.
    fn status(&self, name: &str) -> Value {
        let path = format!(
            "/apis/nullius.dev/v1alpha1/namespaces/{SYSTEM_NAMESPACE}/policyexceptions/{name}"
        );
        self.court.api.get(&path).unwrap().json().unwrap()["status"].clone()
    }

    #[track_caller]
    fn says(&self, name: &str, words: &str) {
        let mut last = Value::Null;
        wait_until(LOWERED, "an exception to say where it counts", || {
            last = self.status(name);
            last.to_string().contains(words).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}; `{words}` is not in {last:#}"));
    }

    /// Whether the API server by itself refuses a pod.
    #[track_caller]
    fn is_refused_by_api_server(&self, object: &Value, words: &str) -> bool {
        let refused = self.court.refuses("pods", object, words);
        refused["message"].as_str().unwrap().starts_with("pods ")
    }
}

#[test]
fn a_level_is_lowered_for_what_is_excepted_and_nobody_else_slips_through() {
    // A replica that has not heard of it holds up what other tests wait for.
    let Some(world) = World::alone() else { return };
    let here = Restricted::open(&world);
    let court = &here.court;
    let edge = escalating("edge");
    assert!(here.is_refused_by_api_server(&edge, WORDS));
    let ephemeral = |base: &Value| {
        let mut changed = base.clone();
        changed["spec"]["ephemeralContainers"] =
            json!([container("debug", json!({ "allowPrivilegeEscalation": true }))]);
        changed
    };

    // Whatever happens to the label: who is not excepted is refused, in Kubernetes' own words.
    let other = escalating("other");
    let stop = AtomicBool::new(false);
    let wrong = std::thread::scope(|scope| {
        let ends = Ends(&stop);
        let slipping = scope.spawn(|| {
            let (mut sent, mut wrong) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let answer = court.send("pods", &other);
                sent += 1;
                let told = answer.text();
                if answer.status != 403 || !told.contains(&WORDS.replace('"', "\\\"")) {
                    wrong.push(format!("{}: {told}", answer.status));
                }
            }
            (sent, wrong)
        });
        let name = court.own("edge");
        let scope = json!({ "namespaces": [court.name()], "names": ["edge"] });
        // Somebody who may write in a namespace of their own is not who may except.
        let own = exception(
            court.name(),
            "own",
            "PodSecurity",
            json!({ "namespaces": [court.name()] }),
            3_600,
        );
        let _own = Excepted::new(&world, &own);
        let deaf = Deaf::new(&world, &court.own("deaf"));
        let accepted = from_checks(&name, &["allowPrivilegeEscalation"], scope.clone(), 3_600);
        let accepted = Excepted::new(&world, &accepted);
        here.says(&name, &format!("it counts when `{}` has heard of it", court.own("deaf")));
        assert_eq!(here.labels(), (Some("restricted".to_owned()), None));
        assert!(here.is_refused_by_api_server(&edge, WORDS), "a replica does not ask yet");
        drop(deaf);
        here.has("baseline", Some("restricted"));
        court.passes("pods", &edge);
        here.says(&name, "inForceSince");
        wait_until(SOON, "the audit to know of it", || {
            let told = format!("must be for now (PolicyException/{SYSTEM_NAMESPACE}/{name})");
            let events = events(&world, &["--kind", "admission"]);
            let mut events = events.iter().map(Value::to_string);
            let mut of_it = events.find(|event| event.contains(&told))?;
            of_it.retain(|letter| letter != '\\');
            (of_it.contains("waived") && of_it.contains("PodSecurity/restricted")).then_some(())
        })
        .unwrap();

        // Never below `baseline`, whatever is excepted.
        let low = court.own("low");
        let everything = from_checks(
            &low,
            &[],
            json!({ "namespaces": [court.name()], "names": ["low"] }),
            3_600,
        );
        let everything = Excepted::new(&world, &everything);
        court.passes("pods", &escalating("low"));
        let mut host = escalating("low");
        host["spec"]["hostNetwork"] = json!(true);
        let refused = court.refuses("pods", &host, "violates PodSecurity \"baseline:latest\"");
        assert!(refused["message"].as_str().unwrap().starts_with("pods "));
        drop(everything);
        let ports = court.own("ports");
        let of_baseline =
            from_checks(&ports, &["hostPorts"], json!({ "namespaces": [court.name()] }), 3_600);
        let of_baseline = Excepted::new(&world, &of_baseline);
        here.says(&ports, "the level `baseline` is never lowered");
        drop(of_baseline);

        // An ephemeral container is a container.
        let path = format!("/api/v1/namespaces/{}/pods", court.name());
        court.api.create(&path, &pod("plain", json!({}))).unwrap();
        let plain = court.api.get(&format!("{path}/plain")).unwrap().json().unwrap();
        let answer = court
            .api
            .put(&format!("{path}/plain/ephemeralcontainers"), &ephemeral(&plain))
            .unwrap();
        assert!(
            !answer.is_success() && answer.text().contains("container \\\"debug\\\""),
            "{}",
            answer.text()
        );

        // Nobody but the agent writes the mark.
        let user = court.own("labeller");
        let may = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": user },
            "rules": [{ "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch"] }] });
        let has = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
        let direct = world.direct();
        direct.apply(&format!("{may}\n---\n{has}")).unwrap();
        let label = |label: &str| {
            let as_user = format!("--as={user}");
            direct
                .run(&["label", "namespace", court.name(), label, "--overwrite", &as_user])
                .unwrap()
        };
        wait_until(SOON, "what somebody may do", || {
            let ask = ["auth", "can-i", "patch", "namespaces", &format!("--as={user}")];
            (direct.run(&ask).ok()?.code == 0).then_some(())
        })
        .unwrap();
        for forged in [format!("{MARK}=privileged"), format!("{MARK}="), format!("{MARK}-")] {
            let refused = label(&forged);
            assert!(
                refused.code != 0 && refused.stderr.contains("nullius-pod-security"),
                "{refused:?}"
            );
        }
        // Nor does the agent's account write anything else, whoever impersonates it.
        let as_agent = format!("--as=system:serviceaccount:{SYSTEM_NAMESPACE}:nullius-admission");
        let refused = direct.run(&["label", "namespace", court.name(), "a=b", &as_agent]).unwrap();
        assert!(
            refused.code != 0 && refused.stderr.contains("nullius-pod-security"),
            "{refused:?}"
        );

        // Who may label raises it, which is their right; the exception counts again, and that is all.
        let raised = label(&format!("{ENFORCE}=restricted"));
        assert_eq!(raised.code, 0, "{raised:?}");
        here.has("baseline", Some("restricted"));
        court.passes("pods", &edge);

        drop(accepted);
        here.has("restricted", None);
        assert!(here.is_refused_by_api_server(&edge, WORDS));

        // One that was made ends by itself.
        let short = from_checks(&name, &["allowPrivilegeEscalation"], scope, 45);
        let _short = Excepted::new(&world, &short);
        court.passes("pods", &edge);
        here.has("restricted", None);
        assert!(here.is_refused_by_api_server(&edge, WORDS));
        drop(ends);
        for kind in ["clusterrolebinding", "clusterrole"] {
            direct.ok(&["delete", kind, &user]).unwrap();
        }
        slipping.join().unwrap()
    });
    assert!(wrong.0 > 100, "only {} were sent", wrong.0);
    assert_eq!(wrong.1, Vec::<String>::new());

    // What its owner wants meanwhile is what counts.
    let name = court.own("owner");
    let scope = json!({ "namespaces": [court.name()], "names": ["edge"] });
    let accepted = from_checks(&name, &["allowPrivilegeEscalation"], scope, 3_600);
    let _accepted = Excepted::new(&world, &accepted);
    here.has("baseline", Some("restricted"));
    here.enforce("privileged");
    here.has("privileged", None);
    court.passes("pods", &other);
}

#[test]
fn who_keeps_labels_agrees_with_a_lowered_level() {
    let Some(world) = World::together() else { return };
    let here = Restricted::open(&world);
    let court = &here.court;
    let baseline = court.own("kept");
    let kept = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "NamespaceBaseline", "metadata": { "name": baseline },
        "spec": { "names": [court.name()], "podSecurity": { "enforce": "restricted" }, "labels": { "kept": "yes" } },
    });
    world.direct().apply(&kept.to_string()).unwrap();
    let scope = json!({ "namespaces": [court.name()], "names": ["edge"] });
    let name = court.own("edge");
    let accepted = from_checks(&name, &["allowPrivilegeEscalation"], scope, 3_600);
    let accepted = Excepted::new(&world, &accepted);
    here.has("baseline", Some("restricted"));
    court.passes("pods", &escalating("edge"));
    assert!(!court.send("pods", &escalating("other")).is_success());
    // Another label that is put back leaves the level as it is.
    world.direct().ok(&["label", "namespace", court.name(), "kept=no", "--overwrite"]).unwrap();
    wait_until(SOON, "the label to be put back", || {
        let path = format!("/api/v1/namespaces/{}", court.name());
        let namespace = court.api.get(&path).unwrap().json().unwrap();
        (namespace["metadata"]["labels"]["kept"] == "yes").then_some(())
    })
    .unwrap();
    assert_eq!(here.labels(), (Some("baseline".to_owned()), Some("restricted".to_owned())));
    let standing = ["get", "namespacebaseline", &baseline, "-o", "jsonpath={.status.standing}"];
    assert_eq!(world.direct().ok(&standing).unwrap().trim(), "1");
    drop(accepted);
    here.has("restricted", None);
    world.direct().ok(&["delete", "namespacebaseline", &baseline]).unwrap();
}

#[test]
fn levels_are_raised_when_the_agent_goes_and_its_absence_lets_nobody_through() {
    let Some(world) = World::alone() else { return };
    let here = Restricted::open(&world);
    let court = &here.court;
    let scope = json!({ "namespaces": [court.name()], "names": ["edge"] });
    let name = court.own("edge");
    let accepted = from_checks(&name, &["allowPrivilegeEscalation"], scope, 3_600);
    let accepted = Excepted::new(&world, &accepted);
    here.has("baseline", Some("restricted"));
    court.system(&["scale", "deployment", AGENT_ADMISSION, "--replicas=0"]);
    here.has("restricted", None);
    for name in ["edge", "other"] {
        let answer = court.send("pods", &escalating(name));
        assert!(!answer.is_success(), "{}", answer.text());
    }
    court.system(&["scale", "deployment", AGENT_ADMISSION, "--replicas=2"]);
    court.wait_for_replicas(2);
    here.has("baseline", Some("restricted"));
    court.passes("pods", &escalating("edge"));
    assert!(!court.send("pods", &escalating("other")).is_success());

    // Killed, it raises nothing, and nobody passes whom nobody measures.
    let pods = format!("app.kubernetes.io/component={AGENT_ADMISSION}");
    court.system(&["delete", "pod", "-l", &pods, "--grace-period=0", "--force"]);
    let answer = court.send("pods", &escalating("other"));
    assert!(!answer.is_success(), "{}", answer.text());
    court.wait_for_replicas(2);
    court.passes("pods", &escalating("edge"));
    drop(accepted);
    here.has("restricted", None);
}
