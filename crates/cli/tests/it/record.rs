//! What is recorded of a cluster decides as the cluster does.
//!
//! The comparison runs where a test run has started clusters (`NULLIUS_TEST_STATE`, set by `cargo xtask test`).

use std::{env, fs, net::TcpListener, path::Path, time::Duration};

use nullius_cli::Exit;
use nullius_testkit::{Cluster, ClusterConfig, Profile, Progress, StateDir, shared, wait_until};
use serde_json::{Value, json};

use crate::person::Person;

/// How long an API server may take to act on policies and rights.
const PATIENCE: Duration = Duration::from_secs(180);

/// Policies that ask for everything that a record holds; `NS` is a namespace of the test, and what selects its objects.
const POLICIES: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: size.NS.example.com}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations:
  - expression: object.data.size() <= int(params.data.most)
    messageExpression: \"'at most ' + params.data.most + ' keys in ' + namespaceObject.metadata.labels['tier']\"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: size.NS.example.com}
spec:
  policyName: size.NS.example.com
  validationActions: [Deny]
  paramRef: {name: limits, parameterNotFoundAction: Deny}
  matchResources: {namespaceSelector: {matchLabels: {test: NS}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: rights.NS.example.com}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations:
  - expression: authorizer.group('').resource('secrets').namespace(request.namespace).check('get').allowed() || !('secret' in object.data)
    message: who may not read secrets may not name them
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: rights.NS.example.com}
spec:
  policyName: rights.NS.example.com
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {test: NS}}}
";

const RIGHTS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editors}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: editors}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writers}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writers}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: ada}]
";

/// A cluster of its own. An API server in which policies with parameters of a kind have come and gone does not see new objects of
/// that kind as parameters any more; on a shared one, other tests have had such policies.
fn cluster() -> Option<Cluster> {
    shared(Profile::ControlPlane)?;
    let state = StateDir::open(Path::new(&env::var_os("NULLIUS_TEST_STATE")?)).unwrap();
    let config = ClusterConfig::new("recorded", Profile::ControlPlane).own();
    Some(Cluster::up(&state, config, Progress::Silent).unwrap())
}

/// A kubeconfig of the cluster, as a path.
fn kubeconfig(cluster: &Cluster) -> String {
    cluster.kubeconfig().display().to_string()
}

fn config_map(keys: &[&str]) -> String {
    let data: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!("x"))).collect();
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "tried" }, "data": data })
        .to_string()
}

/// What is left when the test ends.
struct Policies<'a>(&'a Cluster, String);

impl Drop for Policies<'_> {
    fn drop(&mut self) {
        if let Ok(kubectl) = self.0.kubectl() {
            let words = ["delete", "--ignore-not-found", "-f", "-"];
            let _ = kubectl.run_with_input(&words, &self.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_decides_offline_as_its_cluster_does() {
    let Some(cluster) = cluster() else { return };
    let (with, without) = (cluster.namespace("rec").unwrap(), cluster.namespace("rec").unwrap());
    let kubectl = cluster.kubectl().unwrap();
    let label = with.name();
    for (namespace, tier) in [(&with, "gold"), (&without, "tin")] {
        let words = [
            "label",
            "namespace",
            namespace.name(),
            &format!("test={label}"),
            &format!("tier={tier}"),
        ];
        kubectl.ok(&words).unwrap();
        namespace.apply(RIGHTS).unwrap();
    }
    with.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits}\ndata: {most: '2'}\n")
        .unwrap();
    with.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {hidden: words}\n")
        .unwrap();
    with.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: limits}\nstringData: {most: hidden-too}\n",
    )
    .unwrap();
    let text = POLICIES.replace("NS", label);
    kubectl.apply(&text).unwrap();
    let _policies = Policies(&cluster, text.clone());
    // A file for the command, and the same object for the API server.
    let person = Person::new();
    let policies = person.file("policies.yaml", &text);
    let try_as = |namespace: &str, user: &str, groups: &[&str], object: &str| {
        let mut words = vec![
            "-n",
            namespace,
            "create",
            "--dry-run=server",
            "-o",
            "name",
            "-f",
            "-",
            "--as",
            user,
        ];
        for group in groups {
            words.extend(["--as-group", group]);
        }
        let output = kubectl.run_with_input(&words, object).unwrap();
        (output.code, output.stderr)
    };
    let wide = config_map(&["a", "b", "c"]);
    let named = config_map(&["secret"]);
    let secretive = |told: &str| told.contains("may not name them");
    let mut last = (String::new(), String::new());
    let stand = wait_until(PATIENCE, "the policies", || {
        let (_, size) = try_as(label, "ada", &[], &wide);
        let (_, rights) = try_as(label, "ada", &[], &named);
        let both = size.contains("at most 2 keys") && secretive(&rights);
        last = (size, rights);
        both.then_some(())
    });
    stand.unwrap_or_else(|error| panic!("{error}: {last:?}"));
    let folder = person.home.path().join("state");
    let config = kubeconfig(&cluster);
    let words = ["record", "--kubeconfig", &config, "--policies", &policies];
    let folder_text = format!("{}/", folder.display());
    let done = person.run(&[&words[..], &["--to", &folder_text]].concat()).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    assert!(done.err.contains("1 ConfigMap,"), "{}", done.err);
    let recorded = |folder: &Path| -> String {
        let mut files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    };
    let record = recorded(&folder);
    for hidden in ["hidden", "managedFields", "resourceVersion", "kind: Secret\n"] {
        assert!(!record.contains(hidden), "`{hidden}` was recorded");
    }
    // People with and without rights, in the namespace that has the parameter and the one that does not.
    let objects = [config_map(&["a"]), wide, named, config_map(&["a", "b", "secret"])];
    let people: [(&str, &[&str]); 3] =
        [("ada", &[]), ("bob", &["editors"]), ("root", &["system:masters"])];
    let mut refused = 0;
    for namespace in [with.name(), without.name()] {
        for (user, groups) in people {
            for object in &objects {
                let (code, told) = try_as(namespace, user, groups, object);
                let file = person.file("object.json", object);
                let folder = folder.display().to_string();
                let mut words = vec![
                    "policy",
                    "eval",
                    "--policies",
                    &policies,
                    "--state",
                    &folder,
                    "--object",
                    &file,
                    "-n",
                    namespace,
                    "--as",
                    user,
                    "-o",
                    "json",
                ];
                for group in groups {
                    words.extend(["--as-group", group]);
                }
                let done = person.run(&words).await;
                let ours: Value =
                    serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err));
                assert_eq!(
                    ours["allowed"] == json!(true),
                    code == 0,
                    "{user} {namespace} {object}: {told}"
                );
                // Which of two refusals an API server tells first is open, and kubectl says by itself what is invalid.
                let is_told = |message: &Value| {
                    let message = message.as_str().unwrap_or_default();
                    told.contains(message.trim_start_matches("configmaps \"tried\" is forbidden: "))
                };
                let messages = ours["messages"].as_array().unwrap();
                assert!(code == 0 || messages.iter().any(is_told), "{messages:?}\n{told}");
                refused += usize::from(code != 0);
            }
        }
    }
    assert!(refused > 8 && refused < 24, "{refused} refused");
    // Tests read the same record.
    let test = format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: PolicyTest\npolicies: [policies.yaml]\nstate: [state]\ndefaults: {{namespace: {label}}}\n\
         cases:\n- {{name: a, object: {wide}, user: {{name: ada}}, expect: {{verdict: denied, by: size.{label}.example.com, message: at most 2 keys in gold}}}}\n",
        wide = objects[1]
    );
    let test = person.file("a.test.yaml", &test);
    person.run(&["test", &test]).await.ok();
    // Again it is the same, byte for byte.
    let again = person.home.path().join("again");
    let again_text = format!("{}/", again.display());
    person.run(&[&words[..], &["--to", &again_text]].concat()).await.ok();
    let of_test = |text: String| -> Vec<String> {
        let parts = text.split("---\n").filter(|part| part.contains(label)).map(str::to_owned);
        parts.collect()
    };
    assert_eq!(of_test(recorded(&again)), of_test(record));
    let done = person.run(&["record", "--kubeconfig", &config, "-o", "name"]).await;
    assert!(!done.out.contains("ConfigMap/"), "nobody asked for parameters");
    done.ok();
    let secret = text.replace("kind: ConfigMap", "kind: Secret");
    let secret = person.file("secret.yaml", &secret);
    let done = person.run(&["record", "--kubeconfig", &config, "--policies", &secret]).await;
    assert!(done.err.contains(&format!("the policy `size.{label}.example.com` takes Secrets as parameters, and a Secret is never recorded")), "{}", done.err);
    assert!(!done.out.contains("hidden-too") && done.exit == Exit::Failed);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_one_clear_error() {
    let person = Person::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = person.file(
        "config",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:{port}'}}}}]\n\
             users: [{{name: a, user: {{token: t}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
        ),
    );
    let err = person.run(&["record", "--kubeconfig", &config]).await.failed(Exit::Failed);
    assert!(err.starts_with(&format!("error: nothing was recorded: the API server `https://127.0.0.1:{port}/` does not answer\n")), "{err}");
    assert_eq!(err.matches("error:").count(), 1);
    let err = person.run(&["record", "--kubeconfig", "/nowhere"]).await.failed(Exit::Failed);
    assert!(err.starts_with("error: no cluster can be asked\n"), "{err}");
    let wrong = ["record", "--kubeconfig", &config, "--kube-context", "b"];
    let err = person.run(&wrong).await.failed(Exit::Failed);
    assert!(err.contains("no cluster can be asked"), "{err}");
    person.run(&["record", "-o", "junit"]).await.failed(Exit::Usage);
}
