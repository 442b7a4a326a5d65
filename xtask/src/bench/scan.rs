//! `cargo xtask bench scan`: what a scan of many objects in files costs.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    Effort,
    report::{Goal, Row},
    stats::Figure,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
5,000 objects in 500 files: Deployments, CronJobs, Services, ConfigMaps and others, of which two in five make pods. \
`nullius scan --pod-security restricted` reads each strictly, gives it Kubernetes' defaults and judges it; the report goes to \
JSON. Time is of the process from start to end, memory the most that was resident; the files are in the page cache.";

/// One object in each document, ten documents in each file.
const PER_FILE: usize = 10;

/// Measures.
pub(super) fn run(nullius: &Path, effort: Effort) -> Result<Vec<Row>> {
    let (objects, rounds) = match effort {
        Effort::Quick => (500, 2),
        Effort::Full => (5_000, 9),
    };
    // Checkov passes over folders whose names begin with a dot, as those of temporary folders do.
    let folder = tempfile::Builder::new().prefix("manifests-").tempdir();
    let folder = folder.context("cannot make a folder")?;
    write(folder.path(), objects)?;
    let ours = |asked: [&str; 2]| -> Result<(Figure, Figure)> {
        let once = |_: usize| {
            let mut command = Command::new(nullius);
            command.arg("scan").args(asked).args(["-o", "json"]).arg(folder.path());
            measured(&mut command)
        };
        let runs: Vec<Run> = (0..rounds).map(once).collect::<Result<_>>()?;
        for run in &runs {
            let report: Value = serde_json::from_str(&run.output).context("the scan's report")?;
            let counts = &report["counts"];
            ensure!(counts["objects"] == objects, "the scan found {}", counts["objects"]);
            ensure!(report["errors"].as_array().is_some_and(Vec::is_empty), "{}", report["errors"]);
        }
        let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let mebibytes: Vec<f64> = runs.iter().map(|run| run.mebibytes).collect();
        Ok((Figure::of(&seconds), Figure::of(&mebibytes)))
    };
    let (seconds, mebibytes) = ours(["--pod-security", "restricted"])?;
    let time = format!("scan of {objects} objects: time");
    let memory = format!("scan of {objects} objects: memory");
    let mut time = Row::new(time, "s", seconds).goal(Goal::Below(1.0));
    let mut memory = Row::new(memory, "MiB", mebibytes).goal(Goal::Below(150.0));
    if let Some(peer) = checkov(folder.path(), objects)? {
        time = time.peer("checkov", Figure::once(peer.seconds));
        memory = memory.peer("checkov", Figure::once(peer.mebibytes));
    }
    let (seconds, mebibytes) = ours(["--builtin", "all"])?;
    let practice = format!("scan of {objects} objects, good practice too");
    Ok(vec![
        time,
        memory,
        Row::new(format!("{practice}: time"), "s", seconds),
        Row::new(format!("{practice}: memory"), "MiB", mebibytes),
    ])
}

/// What a program took.
struct Run {
    seconds: f64,
    mebibytes: f64,
    output: String,
}

/// The peer, where it is on PATH.
fn checkov(folder: &Path, objects: usize) -> Result<Option<Run>> {
    let mut command = Command::new("checkov");
    if Command::new("checkov").arg("--version").output().is_err() {
        eprintln!("bench: `checkov` is not on PATH: no peer is measured");
        return Ok(None);
    }
    command
        .args(["--framework", "kubernetes", "--compact", "--quiet", "-o", "json", "-d"])
        .arg(folder);
    let run = measured(&mut command)?;
    let report: Value = serde_json::from_str(&run.output).context("what checkov printed")?;
    // It counts the pods of a controller too, and leaves out kinds for which it has no check.
    let judged = report["summary"]["resource_count"].as_u64().unwrap_or(0);
    ensure!(judged >= objects as u64 / 2, "checkov judged {judged} of {objects} objects");
    Ok(Some(run))
}

fn measured(command: &mut Command) -> Result<Run> {
    let output = tempfile::NamedTempFile::new().context("cannot make a file")?;
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut most = 0.0_f64;
    let status = loop {
        // The kernel keeps the most that was resident; what grows in the last millisecond is not seen.
        most = most.max(peak_mebibytes(child.id()).unwrap_or_default());
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let seconds = began.elapsed().as_secs_f64();
    // 1 and 2 tell of findings.
    if !matches!(status.code(), Some(0..=2)) {
        bail!("{command:?} failed ({status})");
    }
    Ok(Run { seconds, mebibytes: most, output: fs::read_to_string(output.path())? })
}

fn peak_mebibytes(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

fn write(folder: &Path, objects: usize) -> Result<()> {
    for file in 0..objects.div_ceil(PER_FILE) {
        let numbers = file * PER_FILE..objects.min((file + 1) * PER_FILE);
        let text: String = numbers.map(object).collect();
        fs::write(folder.join(format!("app-{file:04}.yaml")), text)?;
    }
    Ok(())
}

/// An object of a shop with many teams; some of them harden their pods.
fn object(number: usize) -> String {
    let name = format!("app-{number}");
    let head = |api_version: &str, kind: &str| {
        format!(
            "---\napiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: team-{}\n  labels:\n    \
             app.kubernetes.io/name: {name}\n    app.kubernetes.io/part-of: shop\n",
            number % 40
        )
    };
    match number % PER_FILE {
        0..3 => format!(
            "{}spec:\n  replicas: 3\n  selector: {{matchLabels: {{app.kubernetes.io/name: {name}}}}}\n  template:\n    metadata: {{labels: {{app.kubernetes.io/name: {name}}}}}\n{}",
            head("apps/v1", "Deployment"),
            pod(&name, number, 4)
        ),
        3 => format!(
            "{}spec:\n  schedule: \"*/5 * * * *\"\n  jobTemplate:\n    spec:\n      template:\n{}",
            head("batch/v1", "CronJob"),
            pod(&name, number, 8)
        ),
        4 | 5 => format!(
            "{}spec:\n  selector: {{app.kubernetes.io/name: {name}}}\n  ports:\n  - {{name: http, port: 80, targetPort: http}}\n",
            head("v1", "Service")
        ),
        6 => format!(
            "{}data:\n{}",
            head("v1", "ConfigMap"),
            (0..20).fold(String::new(), |mut text, key| {
                let _ = writeln!(text, "  key-{key}: value of {name} number {key}");
                text
            })
        ),
        7 => format!(
            "{}spec:\n  podSelector: {{matchLabels: {{app.kubernetes.io/name: {name}}}}}\n  ingress:\n  - from: [{{podSelector: {{}}}}]\n",
            head("networking.k8s.io/v1", "NetworkPolicy")
        ),
        8 => head("v1", "ServiceAccount"),
        _ => format!(
            "{}rules:\n- apiGroups: [\"\"]\n  resources: [configmaps]\n  verbs: [get, list, watch]\n",
            head("rbac.authorization.k8s.io/v1", "Role")
        ),
    }
}

fn pod(name: &str, number: usize, indent: usize) -> String {
    let hardened = number.is_multiple_of(4);
    let security = if hardened {
        "{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}"
    } else {
        "{readOnlyRootFilesystem: true}"
    };
    let whole = if hardened {
        "{runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}"
    } else {
        "{fsGroup: 2000}"
    };
    let mut text = String::new();
    let mut line = |depth: usize, words: String| {
        let _ = writeln!(text, "{:depth$}{words}", "");
    };
    line(indent, "spec:".to_owned());
    line(indent + 2, format!("serviceAccountName: {name}"));
    line(indent + 2, format!("securityContext: {whole}"));
    if indent > 4 {
        line(indent + 2, "restartPolicy: OnFailure".to_owned());
    }
    line(indent + 2, "containers:".to_owned());
    for container in ["web", "cache"] {
        line(indent + 2, format!("- name: {container}"));
        line(indent + 4, format!("image: registry.example.com/shop/{container}:1.{number}"));
        line(indent + 4, "ports: [{name: http, containerPort: 8080}]".to_owned());
        line(indent + 4, "env:".to_owned());
        line(
            indent + 4,
            "- {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}".to_owned(),
        );
        line(indent + 4, "- {name: LOG, value: info}".to_owned());
        line(
            indent + 4,
            "resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}}".to_owned(),
        );
        line(indent + 4, "readinessProbe: {httpGet: {path: /ready, port: http}}".to_owned());
        line(indent + 4, format!("securityContext: {security}"));
        line(indent + 4, "volumeMounts: [{name: config, mountPath: /etc/app}]".to_owned());
    }
    line(indent + 2, format!("volumes: [{{name: config, configMap: {{name: {name}}}}}]"));
    text
}
