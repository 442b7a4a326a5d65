//! `cargo xtask bench admission`: what one replica of the webhook adds to a request, and what its policies take of memory.
//!
//! Reviews go to the replica's own port over TLS, as an API server sends them: at a steady rate, whether or not earlier ones were
//! answered, so that a late answer also counts for those that it delays. The same reviews go to a stub in turns: what they take there is
//! the load generator and the machine.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use nullius_testkit::wait_until;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::mpsc::unbounded_channel};

use super::{
    Effort,
    client::{Line, Server},
    process::Process,
    report::{Goal, Row},
    stats::{Blocks, Figure, percentile},
    stub::Stub,
    world::World,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
16 policies like those of the Pod Security Standards, as `ValidatingAdmissionPolicy` in a ConfigMap, judge a pod of two containers (7 KB). \
Reviews come at a steady 2,000 a second over one HTTP/2 connection to one replica of `nullius agent admission` in a pod, and the time is \
from when each was due to its answer, whether or not the load generator was late itself. The *stub* is sent the same in turns: a server of \
its own process that reads a review to its end and answers with a small fixed object. Load generator, API server and etcd share the machine. \
Memory is what is resident in the replica after reviews came at that rate; those that are more than 16 have a condition, which all of them \
are asked, and reviews then come at 200 a second, and at last at 2,000, which is more than it can judge: what waits takes a bounded room.";

const SYSTEM: &str = "nullius-system";
const DEPLOYMENT: &str = "nullius-agent-admission";
const RATE: u32 = 2_000;
/// Where each review is held against a thousand policies.
const MANY_RATE: u32 = 200;
/// Reviews before those that count.
const WARM_UP: u32 = 200;
/// The first review is due so long after everything was made ready.
const LEAD: Duration = Duration::from_millis(5);
const ALLOWED: &str = r#""allowed":true"#;
const PORT: u16 = 8445;
const SERVICE: &str = "nullius-agent-admission.nullius-system.svc";
/// The policies of one ConfigMap, which holds a mebibyte at most.
const PER_MAP: usize = 200;

/// What each policy asks of every container or of the pod.
const CHECKS: [(&str, &str); 16] = [
    (
        "privileged",
        "variables.all.all(c, !has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged)",
    ),
    (
        "escalation",
        "variables.all.all(c, has(c.securityContext) && has(c.securityContext.allowPrivilegeEscalation) && !c.securityContext.allowPrivilegeEscalation)",
    ),
    (
        "drop-all",
        "variables.all.all(c, has(c.securityContext.capabilities) && has(c.securityContext.capabilities.drop) && 'ALL' in c.securityContext.capabilities.drop)",
    ),
    (
        "add",
        "variables.all.all(c, !has(c.securityContext.capabilities.add) || c.securityContext.capabilities.add.all(a, a in ['NET_BIND_SERVICE']))",
    ),
    (
        "read-only",
        "variables.all.all(c, has(c.securityContext.readOnlyRootFilesystem) && c.securityContext.readOnlyRootFilesystem)",
    ),
    ("host-network", "!has(object.spec.hostNetwork) || !object.spec.hostNetwork"),
    ("host-pid", "!has(object.spec.hostPID) || !object.spec.hostPID"),
    ("host-ipc", "!has(object.spec.hostIPC) || !object.spec.hostIPC"),
    (
        "host-ports",
        "variables.all.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == 0))",
    ),
    ("host-path", "!has(object.spec.volumes) || object.spec.volumes.all(v, !has(v.hostPath))"),
    (
        "proc-mount",
        "variables.all.all(c, !has(c.securityContext.procMount) || c.securityContext.procMount == 'Default')",
    ),
    (
        "non-root",
        "has(object.spec.securityContext) && has(object.spec.securityContext.runAsNonRoot) && object.spec.securityContext.runAsNonRoot",
    ),
    (
        "user",
        "!has(object.spec.securityContext.runAsUser) || object.spec.securityContext.runAsUser != 0",
    ),
    (
        "seccomp",
        "has(object.spec.securityContext.seccompProfile) && object.spec.securityContext.seccompProfile.type in ['RuntimeDefault', 'Localhost']",
    ),
    (
        "registry",
        "variables.all.all(c, c.image.matches('^registry[.]example[.]com/[a-z/-]+:[0-9.]+$'))",
    ),
    (
        "limits",
        "variables.all.all(c, has(c.resources) && has(c.resources.limits) && 'memory' in c.resources.limits)",
    ),
];

const ALL: &str = "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : []) \
    + (has(object.spec.ephemeralContainers) ? object.spec.ephemeralContainers : [])";

/// Measures.
pub(super) fn run(world: &World, effort: Effort) -> Result<Vec<Row>> {
    let (seconds, blocks, many) = match effort {
        Effort::Quick => (1, 2, 200),
        Effort::Full => (10, 6, 1_000),
    };
    let bench = Bench { world };
    bench.leave_one()?;
    bench.enforce(CHECKS.len())?;
    let (replica, stub) = (bench.replica()?, Stub::start(world)?);
    let line = world.runtime.block_on(replica.server.connect())?;
    let ours =
        Load { runtime: &world.runtime, line, path: replica.path.into(), answer: Some(ALLOWED) };
    let line = world.runtime.block_on(stub.server.connect())?.with_token("stub")?;
    let path = ours.path.clone();
    let peer = Load { runtime: &world.runtime, line, path, answer: None };
    let (process, generator) = (bench.process()?, Process(std::process::id()));
    let (mut times, mut stubs) = (Blocks::default(), Blocks::default());
    let (mut process_micros, mut generator_micros) = (Vec::new(), Vec::new());
    for load in [&ours, &peer] {
        load.block(WARM_UP, RATE)?;
    }
    for _ in 0..blocks {
        let count = seconds * RATE;
        let before = (process.cpu_seconds()?, generator.cpu_seconds()?);
        times.add(ours.block(count, RATE)?);
        let micros = |seconds: f64| seconds * 1e6 / f64::from(count);
        process_micros.push(micros(process.cpu_seconds()? - before.0));
        generator_micros.push(micros(generator.cpu_seconds()? - before.1));
        stubs.add(peer.block(count, RATE)?);
    }
    let few = process.resident_kib()? / 1024.0;
    bench.enforce(many)?;
    let many_times = ours.block(seconds * MANY_RATE, MANY_RATE)?;
    let full = process.resident_kib()? / 1024.0;
    ours.block(RATE, RATE)?;
    let crowded = process.resident_kib()? / 1024.0;
    bench.enforce(0)?;
    let row = |percent: f64| {
        let (ours, stub) = (times.percentiles(percent), stubs.percentiles(percent));
        let added: Vec<f64> = ours.iter().zip(&stub).map(|(ours, stub)| ours - stub).collect();
        let what = format!("16 policies, 2,000 reviews/s: p{percent}");
        let row = Row::new(what, "ms", Figure::of(&ours)).peer("stub", Figure::of(&stub));
        let what = format!("of it added by the replica, p{percent}");
        (row, Row::new(what, "ms", Figure::of(&added)))
    };
    let ((middle, middle_added), (late, late_added)) = (row(50.0), row(99.0));
    Ok(vec![
        middle,
        middle_added,
        late.goal(Goal::Below(2.0)),
        late_added,
        Row::new("processor time of the replica for a review", "µs", Figure::of(&process_micros)),
        Row::new(
            "processor time of the load generator for a review",
            "µs",
            Figure::of(&generator_micros),
        ),
        Row::new("memory with 16 policies", "MiB", Figure::once(few)),
        Row::new(
            format!("{many} policies, {MANY_RATE} reviews/s: p99"),
            "ms",
            Figure::once(percentile(&many_times, 99.0)),
        ),
        Row::new(format!("memory with {many} policies"), "MiB", Figure::once(full))
            .goal(Goal::Below(64.0)),
        Row::new(
            format!("the same, once {RATE} reviews came in a second"),
            "MiB",
            Figure::once(crowded),
        ),
    ])
}

struct Bench<'w> {
    world: &'w World,
}

impl Bench<'_> {
    /// Puts so many policies in force, instead of those before.
    fn enforce(&self, count: usize) -> Result<()> {
        let direct = self.world.cluster.kubectl()?;
        let delete =
            ["-n", SYSTEM, "delete", "configmap", "-l", "nullius.dev/admission-policies=true"];
        direct.ok(&delete)?;
        for (number, numbers) in (0..count).collect::<Vec<_>>().chunks(PER_MAP).enumerate() {
            let text: Vec<String> = numbers.iter().map(|number| policy(*number)).collect();
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": format!("bench-{number}"), "namespace": SYSTEM,
                    "labels": { "nullius.dev/admission-policies": "true" },
                },
                "data": { "policies.yaml": text.join("\n---\n") },
            });
            // `kubectl apply` would keep the text once more in an annotation that is too small for it.
            let create = ["create", "-f", "-"];
            let made = direct.run_with_input(&create, &map.to_string())?;
            ensure!(made.code == 0, "kubectl create: {}", made.stderr);
        }
        let status = [
            "-n",
            SYSTEM,
            "get",
            "configmap",
            "nullius-admission-status",
            "-o",
            "jsonpath={.data.in-force}",
        ];
        wait_until(Duration::from_secs(60), "the policies to be in force", || {
            let told = direct.ok(&status).ok()?;
            (told.lines().filter(|line| !line.is_empty()).count() == count).then_some(())
        })
    }

    /// Leaves one replica: it is what the goals are for.
    fn leave_one(&self) -> Result<()> {
        let scale = ["-n", SYSTEM, "scale", "deployment", DEPLOYMENT, "--replicas=1"];
        self.world.cluster.kubectl()?.ok(&scale)?;
        wait_until(Duration::from_secs(60), "one replica of the webhook", || {
            self.world.agents("admission").ok().filter(|all| all.len() == 1)
        })?;
        Ok(())
    }

    fn replica(&self) -> Result<Replica> {
        let direct = self.world.cluster.kubectl()?;
        let get = |args: &[&str]| -> Result<Value> {
            let text = direct.ok(&[&["-n", SYSTEM, "get"], args, &["-o", "json"]].concat())?;
            serde_json::from_str(&text).context("kubectl's answer")
        };
        let pods = get(&["pods", "-l", "app.kubernetes.io/component=nullius-agent-admission"])?;
        let stays = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
        let pod = pods["items"].as_array().into_iter().flatten().find(stays);
        let address = pod.and_then(|pod| pod.pointer("/status/podIP")).and_then(Value::as_str);
        let address = address.context("no replica has an address")?.parse()?;
        let secret = get(&["secret", "nullius-admission-ca"])?;
        let text = |key: &str| -> Result<Vec<u8>> {
            let value = secret["data"][key].as_str().with_context(|| format!("no `{key}`"))?;
            STANDARD.decode(value).with_context(|| format!("`{key}`"))
        };
        let path = String::from_utf8(text("current.path")?)?;
        let directory = self.world.scratch("admission")?;
        let authority = directory.join("ca.crt");
        std::fs::write(&authority, text("current.crt")?)?;
        let server = Server::named(SocketAddr::new(address, PORT), &authority, SERVICE)?;
        Ok(Replica { server, path: format!("/{path}/validate-fail?timeout=10s") })
    }

    /// The one process that is measured.
    fn process(&self) -> Result<Process> {
        match self.world.agents("admission")?.as_slice() {
            [one] => Ok(*one),
            more => bail!("{} replicas run where one is to be measured", more.len()),
        }
    }
}

/// Where the reviews go.
struct Replica {
    server: Server,
    path: String,
}

/// Reviews at a steady rate over one connection.
struct Load<'w> {
    runtime: &'w Runtime,
    line: Line,
    path: Arc<str>,
    /// What stands in a right answer.
    answer: Option<&'static str>,
}

impl Load<'_> {
    /// The times of so many reviews in milliseconds, each from when it was due.
    fn block(&self, count: u32, rate: u32) -> Result<Vec<f64>> {
        let (review, handle) = (Written::new(), self.runtime.handle());
        let (told, mut answers) = unbounded_channel();
        let began = Instant::now() + LEAD;
        for number in 0..count {
            let due = began + Duration::from_secs(1) * number / rate;
            // A thread of its own wakes in time; the timers of the runtime count in whole milliseconds.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (line, path, body) =
                (self.line.clone(), Arc::clone(&self.path), review.with(number));
            let (told, answer) = (told.clone(), self.answer);
            handle.spawn(async move {
                let time = judged(&line, &path, body, answer).await;
                // Who waits for answers has left with the first error.
                let _ = told.send(time.map(|()| due.elapsed().as_secs_f64() * 1_000.0));
            });
        }
        drop(told);
        let mut times = Vec::new();
        while let Some(time) = answers.blocking_recv() {
            times.push(time?);
        }
        Ok(times)
    }
}

async fn judged(line: &Line, path: &str, body: Bytes, answer: Option<&str>) -> Result<()> {
    let told = line.post_bytes(path, body).await?;
    let told = String::from_utf8_lossy(&told);
    if answer.is_some_and(|answer| !told.contains(answer)) {
        bail!("a pod that keeps all policies was refused: {told}");
    }
    Ok(())
}

/// A review as it is sent, but for its uid.
struct Written {
    before: String,
    after: String,
}

impl Written {
    fn new() -> Self {
        const UID: &str = "the uid of this review";
        let text = review(UID).to_string();
        let (before, after) = text.split_once(UID).unwrap_or_default();
        Self { before: before.to_owned(), after: after.to_owned() }
    }

    fn with(&self, number: u32) -> Bytes {
        let Self { before, after } = self;
        format!("{before}00000000-0000-4000-8000-{number:012}{after}").into()
    }
}

/// A policy with its binding; those past the first sixteen are for other names.
fn policy(number: usize) -> String {
    let (check, expression) = CHECKS[number % CHECKS.len()];
    let name = format!("bench-{check}-{number}");
    let mut spec = json!({
        "matchConstraints": {
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "shop" } },
            "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"] }],
        },
        "variables": [{ "name": "all", "expression": ALL }],
        "validations": [{ "expression": expression, "message": format!("pods must keep {check}") }],
    });
    if number >= CHECKS.len() {
        spec["matchConditions"] = json!([{ "name": "own", "expression": format!("object.metadata.name == 'other-{number}'") }]);
    }
    let of = |kind: &str, spec: Value| json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let binding = json!({ "policyName": name, "validationActions": ["Deny"] });
    format!(
        "{}\n---\n{}",
        of("ValidatingAdmissionPolicy", spec),
        of("ValidatingAdmissionPolicyBinding", binding)
    )
}

/// A pod that keeps them all, about as long as those of a cluster.
fn review(uid: &str) -> Value {
    let environment: Vec<Value> = (0..30)
        .map(|key| json!({ "name": format!("SETTING_{key}"), "value": format!("what the setting number {key} of this shop says") }))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/shop/{name}:1.2.3"), "env": environment,
            "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/app" }],
        })
    };
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid, "operation": "CREATE",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop", "name": "web",
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"] },
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
                "spec": {
                    "containers": [container("web"), container("cache")],
                    "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                    "volumes": [{ "name": "config", "configMap": { "name": "web" } }],
                },
            },
        },
    })
}
