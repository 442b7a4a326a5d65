//! `cargo xtask bench identity`: how soon a pod has its identity, and what an SVID costs who issues it.

use std::{
    fs,
    hint::black_box,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail, ensure};
use nullius_model::{SpiffeId, Timestamp, Ttl};
use nullius_pki::{
    Csr, PrivateKey,
    workload::{JwtSigner, JwtVerifier, SvidRequest, TrustBundle, verify_x509_svid},
};
use nullius_testkit::{Kubectl, wait_until};
use serde_json::{Value, json};

use super::{
    Effort,
    cel::microseconds,
    mesh::authority,
    process::Process,
    report::{Goal, Row},
    stats::{Blocks, Figure},
    world::World,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
Pods of the development cluster's one node run `nullius svid watch --write` as their only container, a round of them at a time: each asks the socket of the node, which recognises it, and \
writes its SVID. The time is from the start of that process, as the kernel tells it to a hundredth of a second, until its files are there; before it the kubelet has mounted the socket. From *applied* it is what \
somebody sees who waits for a pod; the same pods without a volume start the same program, which finds no socket, and take turns with them. API server, etcd, kubelet, hub and agents share the machine. What issuing costs is \
processor time of one thread, without the wire: a request is read, the proof of its key verified, and the certificate signed (ECDSA P-256).";

const NAMESPACE: &str = "bench-identity";
const IMAGE: &str = "localhost/nullius:dev";
const PATIENCE: Duration = Duration::from_secs(60);
/// Below the root of the pod's container.
const WRITTEN: &str = "own/svid/svid.pem";
const LIFE: Ttl = Ttl::from_secs(3_600);

/// Measures.
pub(super) fn run(world: &World, effort: Effort) -> Result<Vec<Row>> {
    let (rounds, pods, block) = match effort {
        Effort::Quick => (1, 3, Duration::from_millis(50)),
        Effort::Full => (10, 10, Duration::from_millis(500)),
    };
    let mut rows = starts(&world.cluster.kubectl()?, rounds, pods)?;
    rows.extend(costs(rounds, block)?);
    Ok(rows)
}

/// How long pods take.
fn starts(kubectl: &Kubectl, rounds: usize, pods: usize) -> Result<Vec<Row>> {
    let enrolled = json!({ "name": NAMESPACE, "labels": { "nullius.dev/identity": "enabled" } });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": enrolled });
    kubectl.apply(&namespace.to_string())?;
    let (mut from_start, mut from_apply, mut without) =
        (Blocks::default(), Blocks::default(), Blocks::default());
    for round in 0..rounds {
        let names: Vec<String> = (0..pods).map(|number| format!("own-{round}-{number}")).collect();
        let times = Pods::make(kubectl, &names, Kind::WithIdentity)?.times()?;
        from_start.add(times.iter().map(|it| it.from_start).collect());
        from_apply.add(times.iter().map(|it| it.from_apply).collect());
        let names: Vec<String> = (0..pods).map(|number| format!("bare-{round}-{number}")).collect();
        let times = Pods::make(kubectl, &names, Kind::Bare)?.times()?;
        without.add(times.iter().map(|it| it.from_apply).collect());
    }
    kubectl.ok(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    let start = |percent| Figure::of(&from_start.percentiles(percent));
    let all = from_start.all();
    Ok(vec![
        Row::new(
            format!("a pod's process starts → its SVID is written, {pods} pods at once: p50"),
            "ms",
            start(50.0),
        ),
        Row::new(
            format!("the same: p99 of all {}", all.len()),
            "ms",
            Figure::with_quartiles(&all, 99.0),
        )
        .goal(Goal::Below(500.0)),
        Row::new(
            format!("{pods} pods applied → SVID written: p50"),
            "ms",
            Figure::of(&from_apply.percentiles(50.0)),
        )
        .peer("process runs, without identity", Figure::of(&without.percentiles(50.0))),
    ])
}

/// What a pod has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    WithIdentity,
    Bare,
}

/// Pods that were made together; they go with this.
struct Pods<'k> {
    kubectl: &'k Kubectl,
    names: Vec<String>,
    kind: Kind,
    applied: SystemTime,
}

/// Of one pod, in milliseconds.
struct Times {
    from_start: f64,
    from_apply: f64,
}

impl<'k> Pods<'k> {
    fn make(kubectl: &'k Kubectl, names: &[String], kind: Kind) -> Result<Self> {
        let items: Vec<Value> = names.iter().map(|name| pod(name, kind)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let applied = SystemTime::now();
        kubectl.apply(&list.to_string())?;
        Ok(Self { kubectl, names: names.to_vec(), kind, applied })
    }

    fn times(&self) -> Result<Vec<Times>> {
        let marks: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut times: Vec<Option<Times>> = marks.iter().map(|_| None).collect();
        let waited = wait_until(PATIENCE, "all pods to have what they start for", || {
            for pid in processes() {
                let Some(at) = marks.iter().position(|name| runs_for(pid, name)) else { continue };
                if times[at].is_none() {
                    times[at] = self.time(pid);
                }
            }
            times.iter().all(Option::is_some).then_some(())
        });
        if let Err(error) = waited {
            let told = self.kubectl.run(&["-n", NAMESPACE, "describe", "pods"])?.stdout;
            let pod = self.names.first().map_or("", String::as_str);
            let log = self.kubectl.run(&["-n", NAMESPACE, "logs", pod])?;
            bail!("{error}\n{told}\n{}{}", log.stdout, log.stderr);
        }
        Ok(times.into_iter().flatten().collect())
    }

    /// None as long as it is not there yet.
    fn time(&self, pid: u32) -> Option<Times> {
        let started = Process(pid).started().ok()?;
        let done = match self.kind {
            Kind::Bare => started,
            Kind::WithIdentity => {
                let file = Path::new("/proc").join(pid.to_string()).join("root").join(WRITTEN);
                fs::metadata(file).ok()?.modified().ok()?
            }
        };
        let millis = |from: SystemTime| {
            // The start is told in hundredths of a second, so that it may seem to be after what follows.
            done.duration_since(from).unwrap_or_default().as_secs_f64() * 1e3
        };
        Some(Times { from_start: millis(started), from_apply: millis(self.applied) })
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        let mut args = vec!["-n", NAMESPACE, "delete", "pod", "--wait"];
        args.extend(self.names.iter().map(String::as_str));
        if let Err(error) = self.kubectl.ok(&args) {
            eprintln!("error: {error:#}");
        }
    }
}

/// Whether a process is the one of a pod's container.
fn runs_for(pid: u32, pod: &str) -> bool {
    let file = PathBuf::from(format!("/proc/{pid}/environ"));
    let wanted = format!("BENCH_POD={pod}");
    fs::read(file)
        .is_ok_and(|text| text.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes()))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok())
}

fn pod(name: &str, kind: Kind) -> Value {
    let container = json!({
        "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
        "env": [{ "name": "BENCH_POD", "value": name }],
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534, "fsGroup": 65534,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
        },
    });
    let container = &mut pod["spec"]["containers"][0];
    match kind {
        Kind::WithIdentity => {
            container["args"] = json!([
                "svid",
                "watch",
                "--socket",
                "unix:///identity/api.sock",
                "--write",
                "/own/svid"
            ]);
            container["volumeMounts"] = json!([
                { "name": "identity", "mountPath": "/identity", "readOnly": true },
                { "name": "own", "mountPath": "/own" },
            ]);
            pod["spec"]["volumes"] = json!([
                { "name": "identity", "csi": { "driver": "csi.nullius.dev", "readOnly": true } },
                { "name": "own", "emptyDir": {} },
            ]);
        }
        // It waits for a socket that never comes.
        Kind::Bare => {
            container["args"] = json!(["svid", "watch", "--socket", "unix:///identity/api.sock"])
        }
    }
    pod
}

/// What an SVID costs who issues it, and who verifies it.
fn costs(rounds: usize, block: Duration) -> Result<Vec<Row>> {
    let authority = authority()?;
    let domain = authority.trust_domain().clone();
    let id: SpiffeId = format!("spiffe://{domain}/ns/shop/sa/web").parse()?;
    let request = PrivateKey::generate()?.request()?;
    let now = Timestamp::now();
    let issue = || {
        let csr = Csr::from_der(request.as_der());
        authority.issue(&SvidRequest { id: &id, dns_names: &[], csr: &csr, life: LIFE }, now)
    };
    let svid = issue()?;
    let issued = measured(rounds, block, || _ = black_box(issue()))?;
    let signer = JwtSigner::create(domain.clone())?;
    let sign = || signer.sign(&id, &["orders"], Ttl::from_secs(300), now);
    let token = sign()?;
    let signed = measured(rounds, block, || _ = black_box(sign()))?;
    let mut bundle = TrustBundle::new(domain.clone());
    bundle.add_x509(authority.anchor_der().clone()).map_err(anyhow::Error::msg)?;
    bundle.add_jwt(signer.authority());
    let verify =
        || verify_x509_svid(&svid.chain, |name| (name == domain.as_str()).then_some(&bundle), now);
    ensure!(verify().is_ok(), "the SVID is not valid");
    let verified = measured(rounds, block, || _ = black_box(verify()))?;
    let verifier = JwtVerifier::new(&bundle);
    let text = secrecy::ExposeSecret::expose_secret(&token);
    verifier.verify(text, "orders", now)?;
    let read = measured(rounds, block, || _ = black_box(verifier.verify(text, "orders", now)))?;
    let per_second =
        Figure { median: 1e6 / issued.median, least: 1e6 / issued.most, most: 1e6 / issued.least };
    Ok(vec![
        Row::new("X.509-SVIDs issued by a core", "a second", per_second).goal(Goal::Above(5_000.0)),
        Row::new("issue an X.509-SVID", "µs", issued),
        Row::new("sign a JWT-SVID", "µs", signed),
        Row::new("verify an X.509-SVID", "µs", verified),
        Row::new("verify a JWT-SVID", "µs", read),
    ])
}

fn measured(rounds: usize, block: Duration, mut work: impl FnMut()) -> Result<Figure> {
    let figures =
        (0..rounds).map(|_| microseconds(block, &mut work)).collect::<Result<Vec<_>>>()?;
    Ok(Figure::of(&figures))
}
