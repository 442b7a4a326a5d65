//! What somebody sends so that a policy does not see it, or does not come to an end: refused on the command line as by the webhook.

use std::time::{Duration, Instant};

use nullius_cli::Exit;
use serde_json::{Value, json};

use crate::{
    person::{Done, Person},
    time,
};

/// How long a refusal may take; what is refused here would go on for hours.
const SOON: Duration = Duration::from_secs(30);

/// Somebody with one policy.
struct Judge {
    person: Person,
    policies: String,
    state: String,
}

impl Judge {
    /// For the objects that these rules name.
    fn new(resources: Value, spec: Value) -> Self {
        let mut policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": "guard.example.com" },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": resources,
                }] },
            },
        });
        let more = spec.as_object().unwrap().clone();
        policy["spec"].as_object_mut().unwrap().extend(more);
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "guard.example.com" },
            "spec": { "policyName": "guard.example.com", "validationActions": ["Deny"] },
        });
        let person = Person::new();
        let policies = person.file("policies/guard.yaml", &format!("{policy}\n---\n{binding}\n"));
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
        let state = person.file("state.yaml", &namespace.to_string());
        Self { person, policies, state }
    }

    async fn eval(&self, flag: &str, content: &Value) -> Done {
        let file = self.person.file("asked.json", &content.to_string());
        self.person
            .run(&[
                "policy",
                "eval",
                "--policies",
                &self.policies,
                "--state",
                &self.state,
                flag,
                &file,
            ])
            .await
    }

    async fn refuses(&self, flag: &str, content: &Value, told: &str) {
        let began = Instant::now();
        let done = self.eval(flag, content).await;
        assert_eq!(done.exit, Exit::Denied, "{}{}", done.out, done.err);
        assert!(done.out.contains(told), "{}", done.out);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
}

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "shop" } })
}

/// What an API server sends.
fn request(operation: &str, resource: &str, object: Value, old: Value) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = object["kind"].as_str().unwrap();
    json!({
        "uid": "1", "operation": operation, "name": "web", "namespace": "shop", "subResource": subresource,
        "kind": { "group": "", "version": "v1", "kind": kind },
        "resource": { "group": "", "version": "v1", "resource": resource },
        "userInfo": { "username": "somebody" }, "object": object, "oldObject": old,
    })
}

#[tokio::test]
async fn ephemeral_and_sidecar_containers_and_a_resize_are_judged() {
    let all = "(object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([]))";
    let judge = Judge::new(
        json!(["pods", "pods/ephemeralcontainers", "pods/resize"]),
        json!({ "validations": [
            { "expression": format!("{all}.all(c, !c.image.startsWith('evil/'))"), "message": "no evil images" },
            { "expression": format!("{all}.all(c, c.?resources.limits.cpu.orValue('1') == '1')"), "message": "one processor" },
        ] }),
    );
    let good = json!({ "name": "a", "image": "good/a" });
    let evil = json!({ "name": "b", "image": "evil/b" });
    let sound = pod(json!({ "containers": [good] }));
    assert_eq!(judge.eval("--object", &sound).await.exit, Exit::Ok);
    let debugged = pod(json!({ "containers": [good], "ephemeralContainers": [evil] }));
    let asked = request("UPDATE", "pods/ephemeralcontainers", debugged.clone(), sound.clone());
    judge.refuses("--request", &asked, "no evil images").await;
    let mut sidecar = evil.clone();
    sidecar["restartPolicy"] = json!("Always");
    let beside = pod(json!({ "containers": [good], "initContainers": [sidecar] }));
    judge.refuses("--object", &beside, "no evil images").await;
    let mut grown = good.clone();
    grown["resources"] = json!({ "limits": { "cpu": "64" } });
    let resized = pod(json!({ "containers": [grown] }));
    judge
        .refuses("--request", &request("UPDATE", "pods/resize", resized, sound), "one processor")
        .await;

    // Pod Security sees all three lists too.
    let privileged =
        json!({ "name": "b", "image": "b", "securityContext": { "privileged": true } });
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let mut spec = json!({ "containers": [good] });
        spec[list] = json!([privileged]);
        let file = judge.person.file("pod.json", &pod(spec).to_string());
        let done = judge.person.run(&["scan", "--pod-security", "baseline", &file]).await;
        assert_eq!(done.exit, Exit::Denied, "{list}: {}", done.out);
        assert!(done.out.contains("privileged"), "{list}: {}", done.out);
    }
}

#[tokio::test]
async fn cve_2023_34091_an_object_on_its_way_out_is_judged() {
    let judge = Judge::new(
        json!(["configmaps"]),
        json!({ "validations": [{ "expression": "has(object.data)", "message": "data is missing" }] }),
    );
    let mut leaving = config_map("web");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    leaving["metadata"]["finalizers"] = json!(["example.com/wait"]);
    judge.refuses("--object", &leaving, "data is missing").await;
    let asked = request("UPDATE", "configmaps", leaving.clone(), leaving);
    judge.refuses("--request", &asked, "data is missing").await;
}

#[tokio::test]
async fn cve_2025_46342_a_namespace_that_is_not_known_excludes_nothing() {
    let judge = Judge::new(
        json!(["configmaps"]),
        json!({
            "validations": [{ "expression": "namespaceObject.metadata.name != 'elsewhere'" }],
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "checked": "yes" } },
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"],
                }],
            },
        }),
    );
    let mut elsewhere = config_map("web");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let told = judge.eval("--object", &elsewhere).await.failed(Exit::Failed);
    assert!(told.contains("`elsewhere`"), "{told}");
    let file = judge.person.file("objects/map.json", &elsewhere.to_string());
    let done = judge.person.run(&["scan", "--policies", &judge.policies, &file]).await;
    assert_eq!(done.exit, Exit::Failed, "{}{}", done.out, done.err);
}

#[tokio::test]
async fn an_old_object_that_somebody_makes_up_is_no_request() {
    let judge = Judge::new(
        json!(["configmaps"]),
        json!({ "validations": [{
            "expression": "oldObject == null ? false : oldObject.data == object.data", "message": "data has changed",
        }] }),
    );
    let mut made = config_map("web");
    made["data"] = json!({ "a": "b" });
    // A creation has no object of before, whatever is sent.
    let asked = request("CREATE", "configmaps", made.clone(), made.clone());
    let told = judge.eval("--request", &asked).await.failed(Exit::Failed);
    assert!(told.contains("oldObject: there is none before a creation"), "{told}");
    // What is an update is judged by both.
    let asked = request("UPDATE", "configmaps", made.clone(), config_map("web"));
    judge.refuses("--request", &asked, "data").await;
}

#[tokio::test]
async fn exceptions_from_elsewhere_doubled_or_ended_cover_nothing() {
    let judge = Judge::new(
        json!(["pods"]),
        json!({ "validations": [{
            "expression": "object.spec.containers.all(c, !has(c.ports))", "message": "no ports",
        }] }),
    );
    let ports =
        |name: &str| json!({ "name": name, "image": "a", "ports": [{ "containerPort": 80 }] });
    let two = pod(json!({ "containers": [ports("a"), ports("b")] }));
    let file = judge.person.file("objects/pod.json", &two.to_string());
    let exception = |name: &str, expires: i64, scope: Value| {
        json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "PolicyException",
            "metadata": { "name": name, "namespace": "exceptions" },
            "spec": {
                "owner": "shop", "reason": "until the next release", "expires": time::after(expires).to_string(),
                "rules": [{ "policy": "guard.example.com" }], "scope": scope,
            },
        })
    };
    let day = 86_400;
    let scan = async |exceptions: &[Value]| {
        let text: Vec<String> = exceptions.iter().map(Value::to_string).collect();
        let beside = judge.person.file("exceptions.yaml", &text.join("\n---\n"));
        let mut words = vec!["scan", "--policies", &judge.policies, "--state", &judge.state];
        if !exceptions.is_empty() {
            words.extend(["--policies", &beside]);
        }
        words.push(&file);
        judge.person.run(&words).await
    };
    let shop = json!({ "namespaces": ["shop"] });
    assert_eq!(scan(&[]).await.exit, Exit::Denied);
    let whole = exception("whole", day, shop.clone());
    let done = scan(std::slice::from_ref(&whole)).await;
    assert_eq!(done.exit, Exit::Ok, "{}{}", done.out, done.err);
    let of = |container: &str| json!({ "namespaces": ["shop"], "containers": [container] });
    for (what, exceptions) in [
        ("ended", vec![exception("ended", -day, shop)]),
        ("elsewhere", vec![exception("elsewhere", day, json!({ "namespaces": ["store"] }))]),
        ("doubled", vec![exception("a", day, of("a")), exception("b", day, of("b"))]),
    ] {
        let done = scan(&exceptions).await;
        assert_eq!(done.exit, Exit::Denied, "{what}: {}{}", done.out, done.err);
        assert!(done.out.contains("no ports"), "{what}: {}", done.out);
    }
    // One that comes with the objects accepts nothing.
    let both = format!("{whole}\n---\n{two}\n");
    let objects = judge.person.file("objects/both.yaml", &both);
    let words = ["scan", "--policies", &judge.policies, "--state", &judge.state, &objects];
    assert_eq!(judge.person.run(&words).await.exit, Exit::Denied);
}

#[tokio::test]
async fn cve_2026_23881_loops_doubling_texts_and_variables_end_in_a_refusal_and_not_in_memory() {
    let list = format!("[{}]", (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let loops = format!(
        "{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, {list}.all(e, a + b + c + d + e < 100000)))))"
    );
    let chain = |count: usize, first: &str, next: &dyn Fn(&str) -> String| {
        let variable = |n: usize| {
            let before = if n == 0 { first.to_owned() } else { format!("variables.v{}", n - 1) };
            json!({ "name": format!("v{n}"), "expression": next(&before) })
        };
        Value::from_iter((0..count).map(variable))
    };
    let doubled = chain(40, "object.metadata.name", &|before| format!("{before} + {before}"));
    let shared = chain(14, "1", &|before| format!("[{}]", [before; 9].join(", ")));
    let nested = (0..12).fold("[1]".to_owned(), |inner, level| {
        format!("{inner}.map(v{level}, [{}])", vec![format!("v{level}"); 9].join(", "))
    });
    for (variables, expression) in [
        (json!([]), loops),
        (doubled, "size(variables.v39) > 0".to_owned()),
        (shared, "variables.v13 == variables.v13".to_owned()),
        (json!([]), format!("[{nested}].all(x, x == x)")),
        (json!([]), format!("'%s'.format([{nested}]) != ''")),
    ] {
        let spec = json!({ "variables": variables, "validations": [{ "expression": expression }] });
        let judge = Judge::new(json!(["configmaps"]), spec);
        judge.refuses("--object", &config_map("web"), "denied request").await;
        let file = judge.person.file("objects/map.json", &config_map("web").to_string());
        let done = judge.person.run(&["scan", "--policies", &judge.policies, &file]).await;
        assert_eq!(done.exit, Exit::Denied, "{expression}: {}{}", done.out, done.err);
    }
    let person = Person::new();
    let told = person.run(&["cel", "eval", "--expr", &nested]).await.failed(Exit::Failed);
    assert!(told.contains("a value is larger than"), "{told}");
}

#[tokio::test]
async fn deep_and_ambiguous_documents_are_refused_with_their_place() {
    let judge = Judge::new(
        json!(["configmaps"]),
        json!({ "validations": [{ "expression": "has(object.data)", "message": "data is missing" }] }),
    );
    let deep = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"a\"}},\"data\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\ndata: {}\n";
    for (what, text) in [("deep", deep.as_str()), ("twice", twice)] {
        let file = judge.person.file("objects/odd.yaml", text);
        let began = Instant::now();
        let eval = ["policy", "eval", "--policies", &judge.policies, "--object", &file];
        let told = judge.person.run(&eval).await.failed(Exit::Failed);
        assert!(told.contains("odd.yaml") && told.contains("line "), "{what}: {told}");
        let done = judge.person.run(&["scan", "--policies", &judge.policies, &file]).await;
        assert_eq!(done.exit, Exit::Failed, "{what}: {}{}", done.out, done.err);
        assert!(began.elapsed() < SOON, "{what}");
    }
}
