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
/// The webhook is asked for ten seconds before a level is lowered, and a replica that is silent has longer to speak up.
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
        let this = Self::bare(world);
        this.enforce("restricted");
        this
    }

    /// One of which nobody says a level.
    fn bare(world: &'w World) -> Self {
        Self { world, court: Court::open(world, "levels") }
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.court.name())
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

    #[track_caller]
    fn has_none(&self) {
        let mut last = (None, None);
        wait_until(LOWERED, "the level to go", || {
            last = self.labels();
            (last == (None, None)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}, it has {last:?}"));
    }

    /// Tries in every way to get what is not excepted past whoever measures; gives what was answered otherwise than it should.
    fn slip(&self, stop: &AtomicBool, stale: &Value, plain: &Value) -> (usize, Vec<String>) {
        let (api, pods) = (&self.court.api, self.pods());
        let other = escalating("other");
        let mut updated = stale.clone();
        updated["spec"]["containers"][0]["image"] = json!("registry.example/a:2");
        let mut debugged = plain.clone();
        debugged["spec"]["ephemeralContainers"] =
            json!([container("debug", json!({ "allowPrivilegeEscalation": true }))]);
        let debug = WORDS.replace("\"main\"", "\"debug\"");
        let (mut sent, mut wrong) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let answers = [
                ("create", WORDS, api.post(&pods, &other)),
                ("update", WORDS, api.put(&format!("{pods}/stale"), &updated)),
                ("debug", &debug, api.put(&format!("{pods}/plain/ephemeralcontainers"), &debugged)),
            ];
            for (what, words, answer) in answers {
                let answer = answer.unwrap();
                sent += 1;
                let told = answer.text();
                if answer.status != 403 || !told.contains(&words.replace('"', "\\\"")) {
                    wrong.push(format!("{what}: {}: {told}", answer.status));
                }
            }
        }
        (sent, wrong)
    }

    /// A pod that stands, without the version that it has now: whoever writes it wants it so whatever else is written.
    #[track_caller]
    fn standing(&self, object: &Value) -> Value {
        let created = self.court.api.post(&self.pods(), object).unwrap();
        assert!(created.is_success(), "{}", created.text());
        let mut standing: Value = created.json().unwrap();
        standing["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        standing
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
    let here = Restricted::bare(&world);
    let court = &here.court;
    // What ran before the namespace was restricted.
    let stale = here.standing(&escalating("stale"));
    let plain = here.standing(&pod("plain", json!({})));
    here.enforce("restricted");
    let edge = escalating("edge");
    assert!(here.is_refused_by_api_server(&edge, WORDS));

    // Whatever happens to the label: who is not excepted is refused, in Kubernetes' own words.
    let other = escalating("other");
    let stop = AtomicBool::new(false);
    let wrong = std::thread::scope(|scope| {
        let ends = Ends(&stop);
        let slipping = scope.spawn(|| here.slip(&stop, &stale, &plain));
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

        // What is excepted may change as any other pod.
        let mut sized = edge.clone();
        sized["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "10m" } });
        let mut edge_pod = here.standing(&sized);
        edge_pod["spec"]["containers"][0]["image"] = json!("registry.example/a:2");
        let answer = court.api.put(&format!("{}/edge", here.pods()), &edge_pod).unwrap();
        assert!(answer.is_success(), "{}", answer.text());
        edge_pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("20m");
        let answer = court.api.put(&format!("{}/edge/resize", here.pods()), &edge_pod).unwrap();
        assert!(answer.is_success(), "{}", answer.text());
        world.direct().ok(&["-n", court.name(), "delete", "pod", "edge", "--now"]).unwrap();

        // While a replica is ready that would not enforce it, the API server does: it may be of a version that knows nothing of it.
        let deaf = Deaf::new(&world, &court.own("older"));
        here.has("restricted", None);
        here.says(
            &name,
            &format!("it counts when `{}` enforces Pod Security, or is gone", court.own("older")),
        );
        drop(deaf);
        here.has("baseline", Some("restricted"));

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
fn a_level_that_a_baseline_said_goes_with_it_whatever_was_lowered() {
    let Some(world) = World::together() else { return };
    let here = Restricted::bare(&world);
    let court = &here.court;
    let baseline = court.own("kept");
    let keep = |level: Option<&str>| {
        let mut spec = json!({ "names": [court.name()], "labels": { "kept": "yes" } });
        if let Some(level) = level {
            spec["podSecurity"] = json!({ "enforce": level });
        }
        let kept = json!({ "apiVersion": "nullius.dev/v1alpha1", "kind": "NamespaceBaseline",
                           "metadata": { "name": baseline }, "spec": spec });
        world.direct().apply(&kept.to_string()).unwrap();
    };
    let scope = json!({ "namespaces": [court.name()], "names": ["edge"] });
    let accept = || {
        let accepted =
            from_checks(&court.own("edge"), &["allowPrivilegeEscalation"], scope.clone(), 3_600);
        Excepted::new(&world, &accepted)
    };
    keep(Some("restricted"));
    let accepted = accept();
    here.has("baseline", Some("restricted"));
    // It says no level any more.
    keep(None);
    here.has_none();
    court.passes("pods", &escalating("other"));
    keep(Some("restricted"));
    here.has("baseline", Some("restricted"));
    drop(accepted);
    here.has("restricted", None);
    world.direct().ok(&["delete", "namespacebaseline", &baseline]).unwrap();
    here.has_none();
    // What somebody had said before stays theirs.
    here.enforce("restricted");
    keep(Some("restricted"));
    let accepted = accept();
    here.has("baseline", Some("restricted"));
    world.direct().ok(&["delete", "namespacebaseline", &baseline]).unwrap();
    wait_until(SOON, "the other label to go", || {
        let path = format!("/api/v1/namespaces/{}", court.name());
        let namespace = court.api.get(&path).unwrap().json().unwrap();
        namespace["metadata"]["labels"].get("kept").is_none().then_some(())
    })
    .unwrap();
    assert_eq!(here.labels(), (Some("baseline".to_owned()), Some("restricted".to_owned())));
    drop(accepted);
    here.has("restricted", None);
}

#[test]
fn a_namespace_that_is_made_again_is_another() {
    let Some(world) = World::together() else { return };
    let here = Restricted::bare(&world);
    let court = &here.court;
    let name = court.own("again");
    let make = |level: &str| {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                                "metadata": { "name": name, "labels": { ENFORCE: level } } });
        wait_until(LOWERED, "the namespace to be made", || {
            court.api.post("/api/v1/namespaces", &namespace).unwrap().is_success().then_some(())
        })
        .unwrap();
    };
    let lowered = || {
        wait_until(LOWERED, "the level to be lowered", || {
            let found = court.api.get(&format!("/api/v1/namespaces/{name}")).ok()?.json().ok()?;
            (found["metadata"]["labels"][MARK] == "restricted").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:#}", court.status()));
    };
    make("restricted");
    let scope = json!({ "namespaces": [name], "names": ["edge"] });
    let accepted = from_checks(&court.own("edge"), &["allowPrivilegeEscalation"], scope, 3_600);
    let _accepted = Excepted::new(&world, &accepted);
    lowered();
    let stop = AtomicBool::new(false);
    let (sent, passed) = std::thread::scope(|scope| {
        let ends = Ends(&stop);
        let traffic = scope.spawn(|| {
            let (mut sent, mut passed) = (0, Vec::new());
            let other = escalating("other");
            while !stop.load(Ordering::Relaxed) {
                let answer = court.send_to(&name, "pods", &other);
                sent += 1;
                if answer.is_success() {
                    passed.push(answer.text());
                }
            }
            (sent, passed)
        });
        for _ in 0..2 {
            world.direct().ok(&["delete", "namespace", &name, "--wait=false"]).unwrap();
            make("restricted");
            lowered();
        }
        drop(ends);
        traffic.join().unwrap()
    });
    assert!(sent > 20, "only {sent} were sent");
    assert_eq!(passed, Vec::<String>::new());
    // What the new one is to enforce is what it says, though API servers still ask about the old one.
    world.direct().ok(&["delete", "namespace", &name, "--wait=false"]).unwrap();
    make("privileged");
    wait_until(SOON, "a pod of the new namespace to pass", || {
        court.send_to(&name, "pods", &escalating("other")).is_success().then_some(())
    })
    .unwrap();
    world.direct().ok(&["delete", "namespace", &name, "--wait=false"]).unwrap();
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
    let mut held = pod("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    here.standing(&held);
    court.system(&["scale", "deployment", AGENT_ADMISSION, "--replicas=0"]);
    here.has("restricted", None);
    // Whoever goes still answers what was begun.
    let pods = format!("app.kubernetes.io/component={AGENT_ADMISSION}");
    court.system(&["wait", "--for=delete", "pod", "-l", &pods, "--timeout=90s"]);
    let asked = court.asked_of_pods();
    assert!(asked.to_string().contains(court.name()), "API servers still ask: {asked:#}");
    // A running pod goes on: what changes nothing that is measured waits for nobody.
    let patch = |patch: &str| {
        world
            .direct()
            .run(&["-n", court.name(), "patch", "pod", "held", "--type=merge", "-p", patch])
            .unwrap()
    };
    let let_go = patch(r#"{"metadata":{"finalizers":[],"labels":{"a":"b"}}}"#);
    assert_eq!(let_go.code, 0, "{let_go:?}");
    let image =
        r#"[{"op":"replace","path":"/spec/containers/0/image","value":"registry.example/a:2"}]"#;
    let images = world.direct().run(&[
        "-n",
        court.name(),
        "patch",
        "pod",
        "held",
        "--type=json",
        "-p",
        image,
    ]);
    assert!(images.unwrap().code != 0, "nobody measures the image");
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
    court.system(&["delete", "pod", "-l", &pods, "--grace-period=0", "--force"]);
    let answer = court.send("pods", &escalating("other"));
    assert!(!answer.is_success(), "{}", answer.text());
    court.wait_for_replicas(2);
    court.passes("pods", &escalating("edge"));
    drop(accepted);
    here.has("restricted", None);
}
