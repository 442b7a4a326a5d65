//! Policies written for an API server, and what a real one makes of them.
//!
//! The comparison runs where a test run has started clusters (`NULLIUS_TEST_STATE`, set by `cargo xtask test`).

use std::{env, fs, path::Path, time::Duration};

use nullius_cli::Exit;
use nullius_testkit::{
    Api, Cluster, ClusterConfig, Profile, Progress, StateDir, shared, wait_until,
};
use serde_json::{Value, json};

use crate::{
    person::{Done, Person},
    time,
};

/// How long an API server may take to act on policies; it looks at its files once a minute at least.
const PATIENCE: Duration = Duration::from_secs(300);

const POLICIES: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: size.example.com, labels: {team: shop}}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
  matchConditions: [{name: not-the-system, expression: \"!request.userInfo.username.startsWith('system:')\"}]
  validations:
  - expression: object.data.size() <= 2
    messageExpression: \"'at most 2 keys, not ' + string(object.data.size())\"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: size.example.com}
spec: {policyName: size.example.com, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: marks.example.com}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: 'Object{metadata: Object.metadata{labels: {\"seen\": \"yes\"}}}'
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: marks.example.com}
spec: {policyName: marks.example.com}
";

const EXCEPTION: &str = "\
apiVersion: nullius.dev/v1alpha1
kind: PolicyException
metadata: {name: open, namespace: policy-exceptions}
spec:
  owner: shop
  reason: many keys until the next release
  expires: ENDS
  rules: [{policy: size.example.com}]
  scope: {namespaces: [open, 'open-*']}
";

/// The exception, with an end in so many days.
fn exception(days: i64) -> String {
    EXCEPTION.replace("ENDS", &time::after(days * 86_400).to_string())
}

struct Desk {
    person: Person,
    policies: String,
    exceptions: String,
}

impl Desk {
    fn new() -> Self {
        let person = Person::new();
        let policies = person.file("policies/all.yaml", POLICIES);
        let exceptions = person.file("exceptions.yaml", &exception(30));
        Self { person, policies, exceptions }
    }

    fn path(&self, name: &str) -> String {
        self.person.home.path().join(name).display().to_string()
    }

    async fn export(&self, policies: &str, more: &[&str]) -> Done {
        let mut words = vec!["policy", "export", "--policies", policies];
        words.extend(more);
        self.person.run(&words).await
    }

    fn told(&self, text: &str) -> String {
        let text = text.replace(&format!("{}/", self.person.home.path().display()), "");
        text.replace(&time::after(30 * 86_400).to_string(), "ENDS")
    }
}

fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path.to_str().unwrap()));
        } else {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_export_is_a_stream_for_kubectl_or_files_and_again_the_same() {
    let desk = Desk::new();
    let with = ["--exceptions", &desk.exceptions];
    let done = desk.export(&desk.policies, &with).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    insta::assert_snapshot!("export_native", desk.told(&done.out));
    assert_eq!(
        desk.told(&done.err),
        "warning: `size.example.com` leaves out the objects of `policy-exceptions/open`, which ends at ENDS: export again by then, nothing else ends it\n"
    );
    let stream = desk.person.file("exported.yaml", &done.out);
    assert_eq!(desk.export(&stream, &with).await.ok(), done.out);
    let list = desk.export(&stream, &[&with[..], &["-o", "json"]].concat()).await.ok();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 4));
    // Each form, from its own files and into the same folder again.
    for form in ["native", "manifest"] {
        let out = desk.path(form);
        let into = [&with[..], &["-o", form, "--out", &out]].concat();
        let first = desk.export(&desk.policies, &into).await.ok();
        let written = files(&out);
        assert_eq!(written.len(), 2, "{written:?}");
        assert_eq!(desk.export(&out, &into).await.ok(), first);
        assert_eq!(files(&out), written);
    }
    let written = files(&desk.path("manifest"));
    insta::assert_snapshot!(
        "export_manifest",
        desk.told(&format!("{}\n{}", written[1].0, written[1].1))
    );
    let out = desk.path("manifest");
    let installed = ["--installed-at", "/etc/kubernetes/admission"];
    let into = [&["-o", "manifest", "--out", &out][..], &installed].concat();
    insta::assert_snapshot!("export_configuration", desk.export(&desk.policies, &into).await.ok());
}

#[tokio::test]
async fn what_cannot_be_exported_is_named_and_nothing_is_half_written() {
    let desk = Desk::new();
    let out = desk.path("out");
    // An exception that a condition cannot say: the policies are there, and refuse what it accepts.
    let narrow = exception(30)
        .replace("[{policy: size.example.com}]", "[{policy: size.example.com, checks: [x]}]");
    let narrow = desk.person.file("narrow.yaml", &narrow);
    let done = desk.export(&desk.policies, &["--exceptions", &narrow]).await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(
        done.err.starts_with("error: the exception `policy-exceptions/open` is not for all"),
        "{}",
        done.err
    );
    assert!(
        done.out.contains("size.example.com") && !done.out.contains("nullius.dev"),
        "{}",
        done.out
    );
    // Parameters in files of an API server.
    let params =
        POLICIES.replacen("spec:\n", "spec:\n  paramKind: {apiVersion: v1, kind: ConfigMap}\n", 1);
    let params = desk.person.file("params.yaml", &params);
    let err = desk.export(&params, &["-o", "manifest", "--out", &out]).await.failed(Exit::Failed);
    assert!(
        err.contains("nothing was written")
            && err.contains("policy `size.example.com` takes parameters"),
        "{err}"
    );
    assert!(!Path::new(&out).exists());
    // What stands in the folder and is not of the export would be read as part of it.
    desk.person.file("out/validating/older.yaml", "{}");
    let err =
        desk.export(&desk.policies, &["-o", "manifest", "--out", &out]).await.failed(Exit::Failed);
    assert!(err.contains("validating/older.yaml`"), "{err}");
    assert_eq!(files(&out).len(), 1);
    // Wrong policies and exceptions, as the API server and we say it.
    let long = desk.person.file("long.yaml", &exception(100));
    let err = desk.export(&desk.policies, &["--exceptions", &long]).await.failed(Exit::Failed);
    assert!(err.contains("long.yaml:7: PolicyException `open`: spec.expires"), "{err}");
    let err = desk.export(&desk.exceptions, &[]).await.failed(Exit::Failed);
    assert!(err.contains("no policy stands in"), "{err}");
    for words in [
        &["-o", "manifest"][..],
        &["-o", "manifest", "--out", "-"],
        &["-o", "manifest", "--out", &out, "--env", "k8s-1.35"],
        &["-o", "native", "--out", &out, "--installed-at", "/a"],
        &["-o", "json", "--out", &out],
        &["-o", "sarif"],
    ] {
        desk.export(&desk.policies, words).await.failed(Exit::Usage);
    }
    let err =
        desk.person.run(&["scan", &desk.policies, "-o", "manifest"]).await.failed(Exit::Usage);
    assert!(err.contains("`nullius policy export`"), "{err}");
}

/// One that keeps to the policies, and those of the exception.
const NAMESPACES: [&str; 3] = ["shop", "open", "open-2"];

fn of_namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A ConfigMap with so many keys.
fn config_map(keys: usize) -> Value {
    let data: serde_json::Map<String, Value> =
        (0..keys).map(|key| (format!("k{key}"), json!("x"))).collect();
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "tried" }, "data": data })
}

/// What an API server says of an object, and the label that it gets.
fn theirs(api: &Api, namespace: &str, object: &Value) -> (bool, String, bool) {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All");
    let answer = api.post(&path, object).unwrap();
    let body = answer.json().unwrap();
    let told = body["message"].as_str().unwrap_or_default().to_owned();
    (answer.is_success(), told, body["metadata"]["labels"]["seen"] == "yes")
}

impl Desk {
    /// What we say of an object by these policies, in the same words.
    async fn ours(&self, policies: &str, namespace: &str, object: &Value) -> (bool, String, bool) {
        let file = self.person.file("object.json", &object.to_string());
        let state =
            NAMESPACES.map(of_namespace).map(|namespace| namespace.to_string()).join("\n---\n");
        let state = self.person.file("state.yaml", &state);
        let words = [
            "policy",
            "eval",
            "--policies",
            policies,
            "--state",
            &state,
            "--object",
            &file,
            "-n",
            namespace,
            "-o",
            "json",
        ];
        let done = self.person.run(&words).await;
        let said: Value =
            serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err));
        let allowed = said["allowed"] == json!(true);
        let told = said["messages"][0].as_str().unwrap_or_default().to_owned();
        (allowed, told, allowed && said["patch"].to_string().contains("seen"))
    }

    async fn compare(&self, api: &Api, policies: &str) {
        for namespace in NAMESPACES {
            for keys in [1, 3] {
                let object = config_map(keys);
                let theirs = theirs(api, namespace, &object);
                assert_eq!(self.ours(policies, namespace, &object).await, theirs);
                assert_eq!(theirs.0, keys == 1 || namespace != "shop", "{namespace} {keys}");
            }
        }
    }
}

/// Waits until an API server denies or lets through what is too large.
fn until(api: &Api, namespace: &str, passes: &str) {
    let mut last = None;
    let done = wait_until(PATIENCE, passes, || {
        let said = theirs(api, namespace, &config_map(3));
        let reached = said.0 == (passes == "passes") && (!said.0 || said.2);
        last = Some(said);
        reached.then_some(())
    });
    done.unwrap_or_else(|error| panic!("{error}: {last:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_decides_by_an_export_as_we_do() {
    if shared(Profile::ControlPlane).is_none() {
        return;
    }
    let desk = Desk::new();
    let folder = desk.path("admission");
    let out = ["-o", "manifest", "--out", &folder];
    let with = ["--exceptions", &desk.exceptions];
    let configuration = desk.export(&desk.policies, &[&out[..], &with].concat()).await.ok();
    let state = StateDir::open(Path::new(&env::var_os("NULLIUS_TEST_STATE").unwrap())).unwrap();
    let mut config = ClusterConfig::new("exported", Profile::ControlPlane).own();
    config.api_server.admission = Some(configuration);
    let gate = "--feature-gates=ManifestBasedAdmissionControlConfig=true";
    config.api_server.args.push(gate.to_owned());
    let cluster = Cluster::up(&state, config, Progress::Silent).unwrap();
    let api = cluster.api().unwrap();
    for name in NAMESPACES {
        api.create("/api/v1/namespaces", &of_namespace(name)).unwrap();
    }
    // From files, which nobody can change by the API.
    until(&api, "shop", "is denied");
    until(&api, "open", "passes");
    desk.compare(&api, &folder).await;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let listed = api.get(path).unwrap().text();
    assert!(!listed.contains("size.example.com"), "{listed}");
    // What changes in the files counts without a restart.
    desk.export(&desk.policies, &out).await.ok();
    until(&api, "open", "is denied");
    // The same as objects; the files let everything pass by now.
    let none = POLICIES.replace("<= 2", "<= 200");
    let none = desk.person.file("none.yaml", &none);
    desk.export(&none, &out).await.ok();
    until(&api, "shop", "passes");
    let native = desk.export(&desk.policies, &with).await.ok();
    cluster.kubectl().unwrap().apply(&native).unwrap();
    until(&api, "shop", "is denied");
    let native = desk.person.file("native.yaml", &native);
    desk.compare(&api, &native).await;
}
