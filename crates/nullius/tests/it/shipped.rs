//! What is shipped for build servers and for commits, run as they run it: the steps of the GitHub action with its inputs put in
//! as its runner does it, the script of the GitLab component, the hooks by pre-commit itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nullius_skip::skip;
use serde_json::{Value, json};
use tempfile::TempDir;

const BROKEN: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: shell, namespace: shop}
spec:
  hostPID: true
  containers: [{name: a, image: 'registry.example/a:1'}]
";

const GOOD: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
";

/// What a shell would do something with, and must not.
const HOSTILE: [&str; 5] = [
    "$(touch PWNED)",
    "`touch PWNED`",
    "'; touch PWNED; '",
    "\"; touch PWNED; \"",
    "x\ny=1\n$(touch PWNED)",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_nullius")
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

/// A checkout with manifests.
fn checkout(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_untouched(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name == "PWNED"), "{names:?}");
}

/// A run of the action.
struct Ran {
    /// How its last step ended.
    code: i32,
    log: String,
    outputs: BTreeMap<String, String>,
    summary: String,
}

/// Runs the steps of the action as the runner does: expressions are put into environments, scripts are files of bash.
fn run_action(folder: &Path, inputs: &[(&str, &str)]) -> Ran {
    let action = yaml(&fs::read_to_string(root().join("action.yml")).unwrap());
    let mut values = BTreeMap::new();
    for (name, input) in action["inputs"].as_object().unwrap() {
        values.insert(format!("inputs.{name}"), input["default"].as_str().unwrap().to_owned());
    }
    for (name, value) in inputs {
        let known = values.insert(format!("inputs.{name}"), (*value).to_owned());
        assert!(known.is_some(), "`{name}` is no input");
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut ran =
        Ran { code: 0, log: String::new(), outputs: BTreeMap::new(), summary: String::new() };
    assert_eq!(action["runs"]["using"], "composite");
    for (index, step) in action["runs"]["steps"].as_array().unwrap().iter().enumerate() {
        let Some(script) = step["run"].as_str() else {
            // The runner fetches other actions; this one is left out where nobody wants it.
            assert!(step["if"].as_str().unwrap().contains("inputs.upload-sarif == 'true'"));
            assert_eq!(step["with"]["sarif_file"], "${{ steps.scan.outputs.sarif }}");
            continue;
        };
        assert!(!script.contains("${{"), "an expression stands in a script: {script}");
        assert_eq!(step["shell"], "bash");
        let file = scratch.path().join(format!("{index}.sh"));
        fs::write(&file, script).unwrap();
        let (output, summary) =
            (scratch.path().join(format!("{index}.out")), scratch.path().join("summary"));
        fs::write(&output, "").unwrap();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&file);
        command.current_dir(folder).env("GITHUB_ACTION_PATH", root());
        command.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, put_in(value.as_str().unwrap(), &values));
        }
        let done = command.output().unwrap();
        ran.log.push_str(&text(&done));
        ran.code = done.status.code().unwrap();
        if let Some(id) = step["id"].as_str() {
            for line in fs::read_to_string(&output).unwrap().lines() {
                let (name, value) = line.split_once('=').unwrap();
                values.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
                ran.outputs.insert(name.to_owned(), value.to_owned());
            }
        }
        ran.summary = fs::read_to_string(&summary).unwrap_or_default();
        if ran.code != 0 {
            break;
        }
    }
    ran
}

/// A value in which `${{ NAME }}` stands.
fn put_in(value: &str, values: &BTreeMap<String, String>) -> String {
    let Some((before, rest)) = value.split_once("${{") else { return value.to_owned() };
    let (name, after) = rest.split_once("}}").unwrap();
    let found = values.get(name.trim()).unwrap_or_else(|| panic!("`{name}` has no value"));
    format!("{before}{found}{}", put_in(after, values))
}

#[test]
fn the_github_action_tells_findings_and_fails_the_job() {
    let folder = checkout(&[("m/pod.yaml", BROKEN), ("m/good.yaml", GOOD)]);
    let own = [("binary", program()), ("paths", "m"), ("pod-security", "baseline:v1.36")];
    let ran = run_action(folder.path(), &own);
    assert_eq!(ran.code, 2, "{}", ran.log);
    assert_eq!(ran.outputs["exit-code"], "2");
    assert_eq!(ran.outputs["objects"], "1");
    let sarif = fs::read_to_string(folder.path().join(&ran.outputs["sarif"])).unwrap();
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "hostNamespaces");
    assert!(ran.summary.contains("    m/pod.yaml:1:1: Pod shop/shell\n"), "{}", ran.summary);
    assert!(ran.log.contains("high: hostNamespaces"), "{}", ran.log);
    let ran = run_action(folder.path(), &[&own[..], &[("fail", "false")]].concat());
    assert_eq!((ran.code, ran.outputs["exit-code"].as_str()), (0, "2"), "{}", ran.log);
    let ran = run_action(
        folder.path(),
        &[&own[..], &[("exclude", "hostNamespaces\nprivileged")]].concat(),
    );
    assert_eq!((ran.code, ran.outputs["objects"].as_str()), (0, "0"), "{}", ran.log);
}

#[test]
fn the_github_action_compares_and_tests() {
    let test = "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npodSecurity: baseline:v1.36\ncases:\n- {name: a, object: head/pod.yaml, expect: allowed}\n";
    let folder = checkout(&[
        ("base/pod.yaml", &BROKEN.replace("  hostPID: true\n", "")),
        ("head/pod.yaml", BROKEN),
        ("a.test.yaml", test),
    ]);
    let own = [
        ("binary", program()),
        ("paths", "head"),
        ("pod-security", "baseline"),
        ("base", "base"),
        ("tests", "a.test.yaml"),
    ];
    let ran = run_action(folder.path(), &own);
    assert_eq!(ran.code, 2, "{}", ran.log);
    assert!(ran.summary.starts_with("### Nullius: 1 finding more\n"), "{}", ran.summary);
    assert!(ran.log.contains("a.test.yaml:5:4: failed: a"), "{}", ran.log);
    let clean = checkout(&[("good.yaml", GOOD)]);
    let ran = run_action(clean.path(), &[("binary", program())]);
    assert_eq!((ran.code, ran.outputs["exit-code"].as_str()), (0, "0"), "{}", ran.log);
}

#[test]
fn no_input_of_the_github_action_reaches_a_shell() {
    let action = yaml(&fs::read_to_string(root().join("action.yml")).unwrap());
    let names: Vec<&String> = action["inputs"].as_object().unwrap().keys().collect();
    for name in names {
        for hostile in HOSTILE {
            // Without the program it would be built, which nobody waits for here.
            if name == "binary" {
                continue;
            }
            let folder = checkout(&[("good.yaml", GOOD)]);
            let ran = run_action(folder.path(), &[("binary", program()), (name, hostile)]);
            assert_untouched(folder.path());
            let known = ["program", "objects", "exit-code", "sarif"];
            assert!(
                ran.outputs.keys().all(|name| known.contains(&name.as_str())),
                "{:?}",
                ran.outputs
            );
        }
    }
    // So is what stands in them, which is shown: GitHub looks for commands in it.
    let command = "hostPID: true ##[error file=README.md;line=1;]all good here ::warning::x";
    let folder = checkout(&[("pod.yaml", &BROKEN.replace("hostPID: true", command))]);
    let ran = run_action(folder.path(), &[("binary", program()), ("pod-security", "baseline")]);
    let (before, rest) = ran.log.split_once("::stop-commands::").unwrap();
    let (token, rest) = rest.split_once('\n').unwrap();
    assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let (shown, after) = rest.split_once(&format!("\n::{token}::\n")).unwrap();
    assert!(shown.contains(command) && shown.contains("1 finding by"), "{shown}");
    assert!(!before.contains("##[") && !after.contains("##["), "{}", ran.log);
    // Names of files are input too.
    for hostile in &HOSTILE[..2] {
        let folder = checkout(&[(&format!("{hostile}.yaml"), BROKEN)]);
        run_action(folder.path(), &[("binary", program())]);
        assert_untouched(folder.path());
    }
}

/// The job of the component with these inputs, made as GitLab makes it: inputs are checked, then put into the text, a text as it is
/// and everything else as JSON, and what comes out is read.
fn job(inputs: &[(&str, Value)]) -> Value {
    let file = fs::read_to_string(root().join("templates/scan.yml")).unwrap();
    let (head, body) = file.split_once("\n---\n").unwrap();
    let known = yaml(head)["spec"]["inputs"].clone();
    let mut body = body.to_owned();
    for (name, input) in known.as_object().unwrap() {
        let given = inputs.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        let value = given.unwrap_or(&input["default"]);
        assert!(is_taken(input, value), "GitLab refuses {value} for `{name}`");
        let text = match value {
            Value::String(text) => text.clone(),
            // As Ruby on Rails writes it.
            other => other
                .to_string()
                .replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026"),
        };
        body = body.replace(&format!("$[[ inputs.{name} ]]"), &text);
    }
    for (name, _) in inputs {
        assert!(known.get(name).is_some(), "`{name}` is no input");
    }
    let jobs = yaml(&body);
    let jobs = jobs.as_object().unwrap();
    assert_eq!(jobs.len(), 1);
    let (_, job) = jobs.iter().next().unwrap();
    job.clone()
}

/// Whether GitLab takes a value for an input.
fn is_taken(input: &Value, value: &Value) -> bool {
    let is_of_type = match input["type"].as_str().unwrap_or("string") {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        _ => value.is_string(),
    };
    let options = input["options"].as_array();
    let fits =
        |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(value.as_str().unwrap());
    is_of_type
        && options.is_none_or(|options| options.contains(value))
        && input["regex"].as_str().is_none_or(fits)
}

fn run_job(folder: &Path, inputs: &[(&str, Value)]) -> Output {
    let own = [("image", json!("registry.example/nullius")), ("binary", json!(program()))];
    let job = job(&[inputs, &own[..]].concat());
    let mut command = Command::new("sh");
    let script: Vec<&str> =
        job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    command.args(["-e", "-c", &script.join("\n")]).current_dir(folder);
    for (name, value) in job["variables"].as_object().unwrap() {
        let given = value.as_str().map(str::to_owned).unwrap_or_else(|| {
            assert_eq!(value["expand"], false, "GitLab would expand `{name}`");
            value["value"].as_str().unwrap().to_owned()
        });
        command.env(name, given);
    }
    command.output().unwrap()
}

#[test]
fn the_gitlab_component_writes_its_reports_and_ends_as_the_scan() {
    let shipped = fs::read_to_string(root().join("ci/scan.sh")).unwrap();
    let job = job(&[("image", json!("i"))]);
    assert_eq!(
        job["variables"]["NULLIUS_SCAN"]["value"],
        shipped.as_str(),
        "copy ci/scan.sh into templates/scan.yml"
    );
    let folder = checkout(&[("m/pod.yaml", BROKEN)]);
    let own = [("paths", json!(["m"])), ("pod-security", json!("baseline"))];
    let done = run_job(folder.path(), &own);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("nullius-junit.xml").contains("failures=\"1\""));
    let quality: Value = serde_json::from_str(&read("gl-code-quality-report.json")).unwrap();
    let entry = &quality[0];
    assert_eq!(
        (
            &entry["check_name"],
            &entry["severity"],
            &entry["location"]["path"],
            &entry["location"]["lines"]["begin"]
        ),
        (&"hostNamespaces".into(), &"critical".into(), &"m/pod.yaml".into(), &5.into())
    );
    assert_eq!(entry["fingerprint"].as_str().unwrap().len(), 64);
    let reports = &job["artifacts"]["reports"];
    assert_eq!(reports["codequality"], "gl-code-quality-report.json");
    assert_eq!(reports["junit"][0], "nullius-junit.xml");
    let done = run_job(folder.path(), &[&own[..], &[("fail", json!(false))]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
}

#[test]
fn inputs_of_the_gitlab_component_mean_what_they_say() {
    let odd = ["a b", "c'd", "e\"f", "g$HOME", "h\\i", "j#k", "l: m", "[n]", "<o>", "p\nq"];
    let files: Vec<(String, &str)> =
        odd.iter().map(|name| (format!("{name}/pod.yaml"), BROKEN)).collect();
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let folder = checkout(&files);
    let excluded = json!(["hostNamespaces", "privileged"]);
    let own = [("paths", json!(odd)), ("pod-security", json!("baseline"))];
    let done = run_job(folder.path(), &own);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    assert!(
        text(&done).contains("10 findings by baseline:latest in 10 of 10 objects"),
        "{}",
        text(&done)
    );
    let done = run_job(folder.path(), &[&own[..], &[("exclude", excluded)]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let done = run_job(folder.path(), &[("paths", json!([1]))]);
    assert_eq!(done.status.code(), Some(64), "{}", text(&done));
    for name in ["paths", "policies", "state", "exclude", "tests"] {
        for hostile in HOSTILE {
            run_job(folder.path(), &[(name, json!([hostile]))]);
            assert_untouched(folder.path());
        }
    }
    let file = fs::read_to_string(root().join("templates/scan.yml")).unwrap();
    let known = yaml(file.split_once("\n---\n").unwrap().0)["spec"]["inputs"].clone();
    for name in ["waivers", "pod-security", "stage", "job-name", "image", "binary"] {
        for hostile in HOSTILE.into_iter().chain(["a\n  script: [touch PWNED]", "a\": {}\nb: \"c"])
        {
            // What cannot be one text in the file is refused.
            if is_taken(&known[name], &json!(hostile)) {
                run_job(folder.path(), &[(name, json!(hostile))]);
                assert_untouched(folder.path());
            } else {
                assert!(hostile.contains('\n') || name == "job-name", "{name} {hostile}");
            }
        }
    }
}

/// The program of pre-commit: the one on the path, else one that pip installs into a folder of its own.
fn pre_commit() -> Result<PathBuf, String> {
    let runs = |program: &Path| {
        let done = Command::new(program).arg("--version").output();
        done.is_ok_and(|done| done.status.success())
    };
    let on_path = PathBuf::from("pre-commit");
    if runs(&on_path) {
        return Ok(on_path);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pre-commit");
    let own = folder.join("bin/pre-commit");
    if runs(&own) {
        return Ok(own);
    }
    let step = |program: &Path, words: &[&str]| {
        let done = Command::new(program).args(words).output();
        let done = done.map_err(|error| format!("{}: {error}", program.display()))?;
        if done.status.success() {
            Ok(())
        } else {
            Err(text(&done).lines().last().unwrap_or_default().to_owned())
        }
    };
    let venv = folder.display().to_string();
    step(Path::new("python3"), &["-m", "venv", &venv])?;
    step(&folder.join("bin/pip"), &["install", "--quiet", "pre-commit==4.7.0"])?;
    Ok(own)
}

#[test]
fn pre_commit_runs_the_hooks() {
    let pre_commit = match pre_commit() {
        Ok(program) => program,
        Err(why) => return skip(&format!("it needs pre-commit, or python3 and PyPI: {why}")),
    };
    let home = tempfile::tempdir().unwrap();
    let git = |folder: &Path, words: &[&str]| {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ]);
        let done =
            command.args(words).current_dir(folder).env("HOME", home.path()).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let commit = |folder: &Path| {
        git(folder, &["init", "--quiet"]);
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "--quiet", "-m", "x"]);
        git(folder, &["rev-parse", "HEAD"])
    };
    let hooks = fs::read_to_string(root().join(".pre-commit-hooks.yaml")).unwrap();
    let source = checkout(&[(".pre-commit-hooks.yaml", &hooks)]);
    let revision = commit(source.path());
    let config = format!(
        "repos:\n- repo: {}\n  rev: {revision}\n  hooks:\n  - {{id: nullius-scan, args: [--pod-security, baseline]}}\n  - id: nullius-test\n",
        source.path().display()
    );
    let test = "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npodSecurity: baseline:v1.36\ncases:\n- {name: a, object: pod.yaml, expect: denied}\n";
    let folder = checkout(&[
        (".pre-commit-config.yaml", &config),
        ("pod.yaml", BROKEN),
        ("a.test.yaml", test),
    ]);
    commit(folder.path());
    // Parameters stand in other files than what asks for them: one process sees all of them.
    let parsed = yaml(&hooks);
    assert!(parsed.as_array().unwrap().iter().all(|hook| hook["require_serial"] == true));
    let path = format!(
        "{}:{}",
        Path::new(program()).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let run = || {
        let mut command = Command::new(&pre_commit);
        command.args(["run", "--all-files", "--verbose"]).current_dir(folder.path());
        command
            .env("PATH", &path)
            .env("HOME", home.path())
            .env("PRE_COMMIT_HOME", home.path().join("cache"));
        command.output().unwrap()
    };
    let done = run();
    let told = text(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("high: hostNamespaces") && told.contains("exit code: 2"), "{told}");
    assert!(told.contains("1 case in 1 file: 1 passed"), "{told}");
    fs::write(folder.path().join("pod.yaml"), BROKEN.replace("  hostPID: true\n", "")).unwrap();
    fs::write(folder.path().join("a.test.yaml"), test.replace("denied", "allowed")).unwrap();
    git(folder.path(), &["add", "-A"]);
    let done = run();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    // A repository without tests and objects passes.
    fs::remove_file(folder.path().join("a.test.yaml")).unwrap();
    fs::write(folder.path().join("pod.yaml"), "replicas: 3\n").unwrap();
    git(folder.path(), &["add", "-A"]);
    let done = run();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
}
