//! Scans as people and build servers run them: what is printed, and how it ends.

use nullius_cli::Exit;
use serde_json::Value;

use crate::person::Person;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: shell
spec:
  hostPID: true
  containers:
  - name: a
    image: registry.example/shell:1
    securityContext:
      privileged: true
  - name: b
    image: registry.example/shell:1
    securityContext: {privileged: true}
";

const GOOD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: good}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: a
    image: registry.example/shell:1
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

fn told(person: &Person, text: &str) -> String {
    text.replace(&format!("{}/", person.home.path().display()), "")
}

#[tokio::test]
async fn findings_are_shown_at_their_lines_and_end_with_code_2() {
    let person = Person::new();
    let file = person.file("m/pod.yaml", POD);
    let done = person.run(&["scan", "--pod-security", "baseline:1.36", &file]).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("scan_table", told(&person, &done.out));
    assert_eq!(
        told(&person, &done.err),
        "2 findings by baseline:v1.36 in 1 of 1 object that is or makes pods, 1 file\n"
    );
    let done = person.run(&["scan", "--pod-security", "baseline", "--explain", &file]).await;
    insta::assert_snapshot!("scan_explained", told(&person, &done.out));
    let done = person.run(&["scan", &file, "-o", "name"]).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Denied, "Pod/shell\n"));
}

#[tokio::test]
async fn machines_get_one_document() {
    let person = Person::new();
    let file = person.file("pod.yaml", POD);
    let done = person.run(&["scan", &file, "--pod-security", "baseline", "-o", "json"]).await;
    assert_eq!(done.exit, Exit::Denied);
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(document["apiVersion"], "nullius.dev/v1alpha1");
    assert_eq!(document["kind"], "ScanReport");
    let finding = &document["findings"][1];
    assert_eq!(finding["check"], "privileged");
    assert_eq!((&finding["level"], &finding["version"]), (&"baseline".into(), &"latest".into()));
    assert_eq!(finding["object"]["kind"], "Pod");
    assert_eq!(finding["object"]["apiVersion"], "v1");
    assert_eq!(finding["object"]["name"], "shell");
    assert_eq!(finding["object"]["namespace"], "");
    assert_eq!(
        finding["message"],
        "violates PodSecurity \"baseline:latest\": privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)"
    );
    assert_eq!(finding["path"], "spec.containers[0].securityContext.privileged");
    assert_eq!(finding["fix"], "remove `privileged: true`");
    assert_eq!((&finding["line"], &finding["column"]), (&11.into(), &7.into()));
    let done = person.run(&["scan", &file, "-o", "sarif"]).await;
    let sarif: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == "waiver-expired"), "{rules:?}");
    let err = person.run(&["scan", &file, "-o", "csv"]).await.failed(Exit::Usage);
    assert!(err.contains("`name`, `sarif`, `junit`, `codequality`"), "{err}");
    let err = person.run(&["test", &file, "-o", "sarif"]).await.failed(Exit::Usage);
    assert!(err.trim_end().ends_with("`name`, `junit`"), "{err}");
    let done = person.run(&["scan", &file, "-o", "junit"]).await;
    assert!(done.out.contains("<failure type=\"privileged\""), "{}", done.out);
    let err = person.run(&["version", "-o", "sarif"]).await.failed(Exit::Usage);
    assert!(err.contains("no result in that form"), "{err}");
}

#[tokio::test]
async fn what_passes_ends_with_code_0_and_what_cannot_be_read_with_1() {
    let person = Person::new();
    let good = person.file("good.yaml", GOOD);
    let done = person.run(&["scan", &good]).await;
    assert_eq!(
        done.err,
        "no findings by restricted:latest: 1 object that is or makes pods, 1 file\n"
    );
    assert_eq!(done.ok(), "");
    let bad = person
        .file("chart/templates/pod.yaml", "kind: Pod\nmetadata:\n  name: {{ .Values.name }}\n");
    let done = person.run(&["scan", &good, &bad, "missing.yaml"]).await;
    assert_eq!(done.out, "");
    assert_eq!(
        told(&person, &done.failed(Exit::Failed)),
        "error: chart/templates/pod.yaml:3:10: this is a template, not YAML: a key must be text\n  \
         next: render it and scan what comes out: `helm template CHART | nullius scan -`\n\
         error: missing.yaml: cannot read it: it does not exist\n\
         no findings by restricted:latest: 1 object that is or makes pods, 2 files; 2 not readable\n"
    );
    // A finding counts more than something that cannot be read.
    let pod = person.file("pod.yaml", POD);
    assert_eq!(person.run(&["scan", &bad, &pod]).await.exit, Exit::Denied);
    let empty = person.file("empty.yaml", "# nothing\n");
    let err = person.run(&["scan", &empty]).await.failed(Exit::Failed);
    assert!(err.contains("no object stands in"), "{err}");
    let values = person.file("values.yaml", "replicas: 3\n");
    let done = person.run(&["scan", &values]).await;
    assert_eq!(
        told(&person, &done.failed(Exit::Failed)),
        "error: values.yaml: no object of Kubernetes stands in it\n  next: name other paths, or say `--allow-empty` where that is no fault\n\
         nothing to judge in 1 file; 1 that is no object; 1 not readable\n"
    );
    let done = person.run(&["scan", &values, "--allow-empty"]).await;
    assert_eq!(done.err, "nothing to judge in 1 file; 1 that is no object\n");
    done.ok();
    person.run(&["scan", &empty, "--allow-empty"]).await.ok();
    let done = person.run(&["scan", &values, &good]).await;
    assert!(done.err.ends_with(", 2 files; 1 that is no object\n"), "{}", done.err);
    done.ok();
    let list = person.file("list.yaml", "- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n");
    let err = person.run(&["scan", &list]).await.failed(Exit::Failed);
    assert!(err.contains("list.yaml:1:1: objects stand in a list without a kind"), "{err}");
    let err =
        person.run(&["scan", &good, "--pod-security", "baseline:2.0"]).await.failed(Exit::Usage);
    assert!(err.contains("the version must be \"latest\" or \"v1.x\""), "{err}");
}

#[tokio::test]
async fn waivers_need_a_reason_and_a_day() {
    let person = Person::new();
    let pod = person.file("pod.yaml", POD);
    let tomorrow = jiff::Zoned::now().date().tomorrow().unwrap();
    let head = "apiVersion: nullius.dev/v1alpha1\nkind: ScanWaivers\nwaivers:\n";
    let waiver = |check: &str, name: &str| {
        format!(
            "- {{check: {check}, name: {name}, owner: team, reason: being replaced, expires: '{tomorrow}'}}\n"
        )
    };
    let both = waiver("privileged", "shell") + &waiver("hostNamespaces", "sh*");
    let file = person.file("w.yaml", &format!("{head}{both}{}", waiver("hostPorts", "x")));
    let words = ["scan", &pod, "--pod-security", "baseline", "--waivers", &file];
    let done = person.run(&words).await;
    assert_eq!(
        told(&person, &done.err),
        "note: w.yaml:6: the waiver of `hostPorts` for `x` covers nothing; take it out\n\
         no findings by baseline:latest: 1 object that is or makes pods, 1 file; 2 waived\n"
    );
    done.ok();
    person.file(
        "w.yaml",
        &format!("{head}- {{check: privileged, name: shell, owner: o, expires: 2026-01-01}}\n"),
    );
    let err = person.run(&words).await.failed(Exit::Failed);
    assert!(err.contains("w.yaml:4: waivers[0]: the field `reason` is missing"), "{err}");
}

#[tokio::test]
async fn sums_count_what_was_judged_and_no_file_twice() {
    let person = Person::new();
    let pod = person.file("pod.yaml", POD);
    let waivers = person.file(
        "w.yaml",
        "apiVersion: nullius.dev/v1alpha1\nkind: ScanWaivers\nwaivers:\n- {check: hostNamespaces, name: shell, owner: o, reason: r, expires: 2020-01-01}\n",
    );
    let words = ["scan", &pod, &pod, "--pod-security", "baseline", "--waivers", &waivers];
    let done = person.run(&words).await;
    assert_eq!(
        told(&person, &done.err),
        "3 findings by baseline:latest in 1 of 1 object that is or makes pods, 1 file; 1 of a waiver that has ended\n"
    );
    assert_eq!(done.exit, Exit::Denied);
    person.file(
        "w.yaml",
        "apiVersion: nullius.dev/v1alpha1\nkind: ScanWaivers\nwaivers:\n- {check: privilegd, name: shell, owner: o, reason: r, expires: 2020-01-01}\n",
    );
    let err = person.run(&words).await.failed(Exit::Failed);
    assert!(
        err.contains("w.yaml:4: `check` is none that is known; did you mean `privileged`?"),
        "{err}"
    );
    let empty = person.file("empty.yaml", "# nothing\n");
    let err = person.run(&["scan", &empty]).await.failed(Exit::Failed);
    assert!(!err.contains("folders give only"), "{err}");
}

const REPLICAS: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas, annotations: {nullius.dev/about: more are not paid for}}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}
  validations: [{expression: object.spec.replicas <= 3, message: at most 3 replicas}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas}
spec: {policyName: replicas, validationActions: [Deny]}
";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.example/web
";

#[tokio::test]
async fn policies_of_files_are_asked_as_a_cluster_asks_them() {
    let person = Person::new();
    let policies = person.file("policies/replicas.yaml", REPLICAS);
    let web = person.file("m/web.yaml", WEB);
    let done = person.run(&["scan", "--policies", &policies, &web]).await;
    assert_eq!(done.exit, Exit::Denied);
    insta::assert_snapshot!("scan_policies", told(&person, &done.out));
    assert_eq!(told(&person, &done.err), "1 finding by 1 policy in 1 of 1 object, 1 file\n");
    let done = person.run(&["scan", "--policies", &policies, &web, "--explain"]).await;
    insta::assert_snapshot!("scan_policies_explained", told(&person, &done.out));
    // Beside the Pod Security Standards where they are asked for.
    let both = ["scan", "--policies", &policies, "--pod-security", "restricted", &web];
    let done = person.run(&both).await;
    assert!(
        done.err.contains("by restricted:latest and 1 policy in 1 of 1 object"),
        "{}",
        done.err
    );
    // Warnings are told and fail nothing.
    let warning = person.file("policies/replicas.yaml", &REPLICAS.replace("[Deny]", "[Warn]"));
    let done = person.run(&["scan", "--policies", &warning, &web]).await;
    assert!(done.out.contains("medium: replicas (only warns) at "), "{}", done.out);
    done.ok();
    // What cannot be used denies, and is named.
    let wrong = person.file("policies/replicas.yaml", &REPLICAS.replace("<= 3", "<= three"));
    let done = person.run(&["scan", "--policies", &wrong, &web]).await;
    let out = told(&person, &done.out);
    assert!(out.contains("the policy cannot be used (policies/replicas.yaml:6: "), "{out}");
    assert!(
        told(&person, &done.err).starts_with(
            "error: policies/replicas.yaml:6:18: ValidatingAdmissionPolicy `replicas`: spec.validations[0].expression: "
        ),
        "{}",
        done.err
    );
    assert_eq!(done.exit, Exit::Denied);
    let done = person.run(&["scan", "--policies", "/nowhere", &web]).await;
    assert!(
        done.err.contains("nothing was asked of ") && !done.err.contains("privileged"),
        "{}",
        done.err
    );
    done.failed(Exit::Failed);
    let err = person.run(&["scan", "--policies", &web, &web]).await.failed(Exit::Failed);
    assert!(err.contains("no policy stands in"), "{err}");
    let err = person.run(&["scan", "--builtin", "none", &web]).await.failed(Exit::Usage);
    assert!(err.contains("nothing is asked of the objects"), "{err}");
}

#[tokio::test]
async fn good_practice_is_asked_for_by_its_name() {
    let person = Person::new();
    let web = person.file("web.yaml", WEB);
    let done = person.run(&["scan", &web, "--builtin", "practice", "-o", "json"]).await;
    assert_eq!(done.exit, Exit::Denied);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["policies"].as_array().map(Vec::len), Some(16));
    let findings = report["findings"].as_array().unwrap();
    let image =
        findings.iter().find(|finding| finding["check"] == "image-tag.nullius.dev").unwrap();
    assert_eq!(image["path"], "spec.template.spec.containers[0].image");
    assert_eq!((&image["line"], &image["column"]), (&12.into(), &9.into()));
    assert_eq!((&image["severity"], &image["enforcement"]), (&"medium".into(), &"deny".into()));
    assert!(findings.iter().all(|finding| finding.get("level").is_none()));
    // By itself a scan asks for the Pod Security Standards alone.
    let done = person.run(&["scan", &web, "-o", "json"]).await;
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["podSecurity"], "restricted:latest");
    assert_eq!(report["policies"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn what_no_api_server_takes_is_not_called_unreadable() {
    let person = Person::new();
    let odd = person.file("odd.yaml", &GOOD.replace("spec:\n", "spec:\n  hostNetwrok: true\n"));
    let done = person.run(&["scan", &odd]).await;
    assert!(
        done.err.ends_with("1 object that is or makes pods, 1 file; 1 that no API server takes\n"),
        "{}",
        done.err
    );
    done.failed(Exit::Failed);
    let folder = person.file("k/kustomization.yaml", "resources: [pod.yaml]\n");
    person.file("k/pod.yaml", GOOD);
    let folder = folder.trim_end_matches("/kustomization.yaml");
    let done = person.run(&["scan", folder]).await;
    assert_eq!(
        told(&person, &done.err),
        "note: k/kustomization.yaml: what it builds was not scanned, only the files themselves: `kustomize build k | nullius scan -`\n\
         no findings by restricted:latest: 1 object that is or makes pods, 2 files; 1 that is no object\n"
    );
    done.ok();
}

#[tokio::test]
async fn an_object_that_does_not_say_its_kind_hides_nothing() {
    let person = Person::new();
    let file =
        person.file("m.yaml", &format!("{GOOD}---\n{}", POD.replace("kind: Pod", "Kind: Pod")));
    let done = person.run(&["scan", &file]).await;
    assert!(
        told(&person, &done.err).starts_with(
            "error: m.yaml:12:1: an object has no `kind`, but `Kind`\n  next: write `kind`"
        ),
        "{}",
        done.err
    );
    done.failed(Exit::Failed);
    // A broken value among others as JSON.
    let pod = |name: &str, more: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"hostPID\":true,{more}\"containers\":[]}}}}\n"
        )
    };
    let stream =
        person.file("s.json", &(pod("a", "") + &pod("b", "\"hostPID\":true,") + &pod("c", "")));
    let done = person.run(&["scan", &stream, "-o", "name", "--pod-security", "baseline"]).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Denied, "Pod/a\nPod/c\n"));
    assert!(told(&person, &done.err).contains("s.json:2:"), "{}", done.err);
    assert!(done.err.contains("the key `hostPID` stands twice"), "{}", done.err);
}

/// Objects of Nullius with a fault each, and how it is told.
const OWN: [(&str, &str); 7] = [
    (
        "kind: ImagePolicy\nmetadata: {name: a}\n",
        "2:1: `ImagePolicy` belongs to images, which this version does not have",
    ),
    (
        "kind: PolicyExcepton\nmetadata: {name: a}\n",
        "2:1: `nullius.dev` has no kind `PolicyExcepton`",
    ),
    (
        "kind: PolicyException\nmetadata: {name: a, namespace: b}\nspec: {owner: a, reason: b,\n  expires: tomorrow,\n  rules: [{policy: x}], scope: {namespaces: [a]}}\n",
        "5:3: PolicyException `a`: spec.expires: `tomorrow` is no time; write one like `2026-12-31T00:00:00Z`",
    ),
    (
        "kind: NamespaceBaseline\nmetadata: {name: a}\nspec:\n  lables: {}\n",
        "5:3: NamespaceBaseline `a`: spec.lables: unknown field `lables`",
    ),
    (
        "kind: Intention\nmetadata: {name: a, namespace: b}\nspec:\n  destination: {serviceAccount: a}\n  sources: [{ipBlock: x, action: deny}]\n",
        "6:",
    ),
    (
        "kind: Role\nmetadata: {name: a}\nspec:\n  rulez: []\n",
        "5:3: Role `a`: spec.rulez: unknown field `rulez`",
    ),
    ("kind: ScanWaivers\nmetadata: {name: a}\n", ""),
];

#[tokio::test]
async fn objects_of_nullius_are_read_strictly_wherever_they_stand() {
    let person = Person::new();
    let pod = person.file("pod.yaml", GOOD);
    let policies = person.file("policies.yaml", REPLICAS);
    let head = "apiVersion: nullius.dev/v1alpha1\n";
    let test = person.file(
        "a.test.yaml",
        &format!("{head}kind: PolicyTest\npolicies: [policies.yaml]\nstate: [own.yaml]\ncases: [{{name: a, object: pod.yaml, expect: allowed}}]\n"),
    );
    for (text, wanted) in OWN {
        let own = person.file("own.yaml", &format!("{head}{text}"));
        let wanted = match wanted {
            "" => String::new(),
            wanted => format!("own.yaml:{wanted}"),
        };
        let line = wanted.split_once(": ").map_or("", |(_, told)| told);
        let place = wanted.splitn(3, ':').take(2).collect::<Vec<_>>().join(":");
        let folder = person.home.path().display().to_string();
        let ways: [&[&str]; 7] = [
            &["scan", &pod, &own],
            &["scan", "--policies", &policies, "--state", &own, &pod],
            &["scan", "--policies", &policies, "--policies", &own, &pod],
            &["policy", "eval", "--policies", &policies, "--policies", &own, "--object", &pod],
            &["policy", "eval", "--policies", &policies, "--state", &own, "--object", &pod],
            &["policy", "export", "--policies", &policies, "--policies", &own],
            &["test", &test],
        ];
        for way in ways {
            let done = person.run(way).await;
            let all = told(&person, &(done.out + &done.err)).replace(&folder, "");
            if wanted.is_empty() {
                assert_eq!(done.exit, Exit::Ok, "{way:?}: {all}");
                continue;
            }
            assert_eq!(done.exit, Exit::Failed, "{way:?}: {all}");
            assert!(all.contains(&place) && all.contains(line), "{way:?}: {all}");
        }
    }
}

#[tokio::test]
async fn what_comes_with_nullius_is_left_out_by_name() {
    let person = Person::new();
    let file = person.file("m/pod.yaml", POD);
    let done = person
        .run(&[
            "scan",
            "--pod-security",
            "baseline",
            "--exclude",
            "privileged",
            "--exclude",
            "hostNamespaces",
            &file,
        ])
        .await;
    assert!(done.err.contains("note: left out: `hostNamespaces`, `privileged`\n"), "{}", done.err);
    assert_eq!(done.ok(), "");
    let practice = ["scan", "--builtin", "practice", "-o", "json", &file];
    let found = async |more: &[&str]| -> Vec<String> {
        let done = person.run(&[&practice[..], more].concat()).await;
        let report: Value = serde_json::from_str(&done.out).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
    };
    let all = found(&[]).await;
    assert!(all.contains(&"memory-limit.nullius.dev".to_owned()), "{all:?}");
    let left = found(&["--exclude", "memory-limit"]).await;
    let without = all.into_iter().filter(|check| check != "memory-limit.nullius.dev");
    assert_eq!(left, without.collect::<Vec<_>>());
    let err = person
        .run(&["scan", "--exclude", "memory-limit.nullius.de", &file])
        .await
        .failed(Exit::Usage);
    assert!(err.contains("did you mean `memory-limit.nullius.dev`?"), "{err}");
}

#[tokio::test]
async fn a_policy_whose_binding_is_broken_is_still_enforced() {
    let person = Person::new();
    let policy = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: none.example.com}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: 'false', message: no pods}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: none.example.com}
spec: {policyName: none.example.com, validationActions: [Deni]}
";
    let policies = person.file("policies.yaml", policy);
    let file = person.file("m/pod.yaml", GOOD);
    let done = person.run(&["scan", "--policies", &policies, &file]).await;
    assert_eq!(done.exit, Exit::Denied);
    assert!(done.out.contains("no pods"), "{}", done.out);
    assert!(done.err.contains("policies.yaml:11:"), "{}", done.err);
    assert!(!done.err.contains("no binding names"), "{}", done.err);
}
