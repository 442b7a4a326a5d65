//! `cargo xtask bench admission`: what one replica of the webhook adds to a request, and what its policies take of memory.
//!
//! Reviews go to the replica's own port over TLS, as an API server sends them: at a steady rate, whether or not earlier ones were
//! answered, so that a late answer also counts for those that it delays.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_testkit::wait_until;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Effort,
    client::{Line, Server},
    report::{Goal, Row},
    stats::{Blocks, Figure},
    world::World,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
16 policies like those of the Pod Security Standards, as `ValidatingAdmissionPolicy` in a ConfigMap, judge a pod of two containers (7 KB). \
Reviews come at a steady 2,000 a second over one HTTP/2 connection to one replica of `nullius agent admission` in a pod, and the time is \
from when each was due to its answer. Memory is what is resident in that process.";

const SYSTEM: &str = "nullius-system";
const RATE: u32 = 2_000;
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
    bench.enforce(CHECKS.len())?;
    let replica = bench.replica()?;
    let times = world.runtime.block_on(replica.load(seconds, blocks))?;
    let figure = |percent: f64| Figure::of(&times.percentiles(percent));
    let few = bench.memory()?;
    bench.enforce(many)?;
    world.runtime.block_on(replica.load(1, 1))?;
    let full = bench.memory()?;
    bench.enforce(0)?;
    Ok(vec![
        Row::new("16 policies, 2,000 reviews/s: p50", "ms", figure(50.0)),
        Row::new("16 policies, 2,000 reviews/s: p99", "ms", figure(99.0)).goal(Goal::Below(2.0)),
        Row::new("memory with 16 policies", "MiB", Figure::once(few)),
        Row::new(format!("memory with {many} policies"), "MiB", Figure::once(full))
            .goal(Goal::Below(64.0)),
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

    fn replica(&self) -> Result<Replica> {
        let direct = self.world.cluster.kubectl()?;
        let get = |args: &[&str]| -> Result<Value> {
            let text = direct.ok(&[&["-n", SYSTEM, "get"], args, &["-o", "json"]].concat())?;
            serde_json::from_str(&text).context("kubectl's answer")
        };
        let pods = get(&["pods", "-l", "app.kubernetes.io/component=nullius-agent-admission"])?;
        let address = pods.pointer("/items/0/status/podIP").and_then(Value::as_str);
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

    /// The most that one replica has resident, in MiB.
    fn memory(&self) -> Result<f64> {
        let replicas = self.world.agents("admission")?;
        let all: Vec<f64> =
            replicas.into_iter().map(|replica| replica.resident_kib()).collect::<Result<_>>()?;
        all.into_iter().reduce(f64::max).map(|kib| kib / 1024.0).context("no replica runs")
    }
}

struct Replica {
    server: Server,
    path: String,
}

impl Replica {
    /// Times in milliseconds, in blocks of so many seconds.
    async fn load(&self, seconds: u32, blocks: u32) -> Result<Blocks> {
        let line = self.server.connect().await?;
        for number in 0..200 {
            judged(&line, &self.path, &review(number)).await?;
        }
        let mut all = Blocks::default();
        for _ in 0..blocks {
            all.add(self.block(&line, seconds * RATE).await?);
        }
        Ok(all)
    }

    async fn block(&self, line: &Line, count: u32) -> Result<Vec<f64>> {
        let path: Arc<str> = self.path.as_str().into();
        let mut running = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let began = Instant::now();
        let mut sent = 0;
        while sent < count {
            ticks.tick().await;
            // Several are due at each tick; each counts from its own moment.
            while sent < count && began.elapsed() >= Duration::from_secs(1) * sent / RATE {
                let due = began + Duration::from_secs(1) * sent / RATE;
                let (line, path, body) = (line.clone(), Arc::clone(&path), review(sent));
                running.spawn(async move {
                    judged(&line, &path, &body).await?;
                    Ok::<_, anyhow::Error>(due.elapsed().as_secs_f64() * 1_000.0)
                });
                sent += 1;
            }
        }
        let mut times = Vec::new();
        while let Some(time) = running.join_next().await {
            times.push(time??);
        }
        Ok(times)
    }
}

async fn judged(line: &Line, path: &str, review: &Value) -> Result<()> {
    let answer = line.post(path, review).await?;
    if answer["response"]["allowed"] != true {
        bail!("a pod that keeps all policies was refused: {answer}");
    }
    Ok(())
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
fn review(number: u32) -> Value {
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
            "uid": format!("00000000-0000-4000-8000-{number:012}"), "operation": "CREATE",
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
