//! `cargo xtask bench cel`: what evaluating an expression costs, beside cel-go in the API server's own environment.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nullius_cel::{Activation, Budget, Env, Type, Value, Version};
use serde::Deserialize;

use super::{
    Effort,
    report::{Goal, Row},
    stats::Figure,
};

/// What the rows stand for, as BENCHMARKS.md says it.
pub(crate) const WORDS: &str = "\
Expressions over a pod of 7 KB that the process holds as JSON, with cost counted, as a policy's expressions are. The peer \
is cel-go in the environment of Kubernetes' admission plugins, over the same object as Go holds it; value and cost are the \
same on both sides, or there are no figures. Figures are processor time, so that others on the machine count little (for \
cel-go with its garbage collection); both sides run in turns, and `ours` is the median of the rounds.";

/// The expressions of `dev/bench/cel.json`, what they stand for, and what evaluating them may cost, in µs.
const EXPRESSIONS: [(&str, &str, f64); 3] = [
    ("field", "a field", 0.3),
    ("containers", "all containers", 2.0),
    ("regexes", "3 regular expressions", 1.5),
];

#[derive(Deserialize)]
struct Cases {
    object: serde_json::Value,
    expressions: BTreeMap<String, String>,
}

/// Measures.
pub(super) fn run(root: &Path, effort: Effort) -> Result<Vec<Row>> {
    let (rounds, block) = match effort {
        Effort::Quick => (2, Duration::from_millis(20)),
        Effort::Full => (11, Duration::from_millis(400)),
    };
    let file = root.join("dev/bench/cel.json");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let cases: Cases = serde_json::from_str(&text)?;
    let mut peer = Peer::start(root, &file)?;
    let env = Env::kubernetes(Version::minor(36)).with_variable("object", Type::Dyn);
    let activation = Activation::new().with("object", Value::from_json(&cases.object));
    let mut rows = Vec::new();
    for (name, words, most) in EXPRESSIONS {
        let source =
            cases.expressions.get(name).with_context(|| format!("no expression `{name}`"))?;
        let program = env
            .compile(source)
            .map_err(|errors| anyhow::anyhow!("`{name}` does not compile: {errors:?}"))?;
        let outcome = program.evaluate(&activation, Budget::default());
        let holds = matches!(outcome.result, Ok(Value::Bool(true)));
        ensure!(holds, "`{name}` is not true: {:?}", outcome.result);
        let evaluate = || drop(black_box(program.evaluate(&activation, Budget::default())));
        let compile = || drop(black_box(env.compile(source)));
        let (ours, theirs) =
            in_turns(&mut peer, "evaluate", name, rounds, block, outcome.cost, evaluate)?;
        let row = Row::new(format!("evaluate {words}"), "µs", ours);
        rows.push(row.peer("cel-go", theirs).goal(Goal::Below(most)));
        let (ours, theirs) =
            in_turns(&mut peer, "compile", name, rounds, block, outcome.cost, compile)?;
        rows.push(Row::new(format!("compile {words}"), "µs", ours).peer("cel-go", theirs));
    }
    Ok(rows)
}

fn in_turns(
    peer: &mut Peer,
    what: &str,
    name: &str,
    rounds: usize,
    block: Duration,
    cost: u64,
    work: impl Fn(),
) -> Result<(Figure, Figure)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(microseconds(block, &work)?);
        let answer = peer.ask(what, name, block)?;
        ensure!(
            answer.value && answer.cost == cost,
            "cel-go says `{name}` is {} and costs {}, not {cost}",
            answer.value,
            answer.cost
        );
        theirs.push(answer.nanoseconds / 1000.0);
    }
    Ok((Figure::of(&ours), Figure::of(&theirs)))
}

/// How much processor time the work takes once, when it is done for a while.
#[expect(clippy::cast_precision_loss, reason = "rounds are far below 2^52")]
pub(super) fn microseconds(limit: Duration, mut work: impl FnMut()) -> Result<f64> {
    let (began, used) = (Instant::now(), processor_nanoseconds()?);
    let mut rounds: u64 = 0;
    while began.elapsed() < limit {
        (0..20).for_each(|_| work());
        rounds += 20;
    }
    Ok((processor_nanoseconds()? - used) / 1e3 / rounds as f64)
}

/// Processor time of this thread so far, which is the only one.
fn processor_nanoseconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .context("the kernel does not tell processor times")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("`{first}` is no processor time"))
}

/// cel-go in a process of its own, which waits while we measure.
struct Peer {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answer {
    nanoseconds: f64,
    cost: u64,
    value: bool,
}

impl Peer {
    fn start(root: &Path, cases: &Path) -> Result<Self> {
        let program = root.join("target/celpeer");
        let built = Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg("./cmd/celpeer")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false")
            .current_dir(root.join("dev/cluster"))
            .output()
            .context("the peer is built by Go 1.26, and `go` cannot be run: install it from https://go.dev/dl")?;
        if !built.status.success() {
            bail!("building the peer failed: {}", String::from_utf8_lossy(&built.stderr).trim());
        }
        let mut child = Command::new(&program)
            .arg(cases)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the peer")?;
        let questions = child.stdin.take().context("the peer has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the peer has no output")?);
        Ok(Self { child, questions, answers })
    }

    fn ask(&mut self, what: &str, name: &str, block: Duration) -> Result<Answer> {
        writeln!(self.questions, "{what} {name} {}", block.as_millis())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the peer answered `{}`", line.trim()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn cel_go_says_the_same_of_every_expression() {
        // The peer is built by Go, as the clusters of a test run are.
        if std::env::var_os("NULLIUS_TEST_STATE").is_none() {
            nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
            return;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let rows = run(root, Effort::Quick).unwrap();
        assert_eq!(rows.len(), 2 * EXPRESSIONS.len());
        assert!(rows.iter().all(|row| row.ours > 0.0 && row.peer.is_some_and(|peer| peer > 0.0)));
    }

    #[test]
    fn work_takes_processor_time() {
        let once = microseconds(Duration::from_millis(20), || {
            black_box((0..1000_u64).map(black_box).sum::<u64>());
        });
        assert!(once.unwrap() > 0.0);
    }
}
