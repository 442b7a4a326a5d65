//! Texts in, findings out: places, fixes, waivers, faults, reports.

use nullius_admission::{Policies, Report, Scan, Waivers, junit, sarif};
use nullius_manifest::{Source, Unreadable};
use nullius_policy::admission_policy::Version;
use serde_json::Value;

const TODAY: &str = "2026-11-21";

fn scan_with(policy: &str, waivers: &str, sources: &[(&str, &str)]) -> Report {
    let today = TODAY.parse().unwrap();
    let file = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let waivers =
        Waivers::read(&file("waivers.yaml", waivers), today, &Policies::new(Version::LATEST))
            .unwrap();
    let mut scan = Scan::new(policy.parse().unwrap(), waivers, today);
    for (name, text) in sources {
        scan.source(Ok(file(name, text)));
    }
    scan.finish()
}

fn scan(policy: &str, text: &str) -> Report {
    scan_with(policy, "", &[("web.yaml", text)])
}

const WEB: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    metadata:
      annotations:
        container.apparmor.security.beta.kubernetes.io/app: unconfined
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: registry.example/web:1
        ports:
        - containerPort: 80
          hostPort: 80
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
";

#[test]
fn every_finding_has_its_place_message_and_fix() {
    let report = scan("restricted:v1.36", WEB);
    let told: Vec<String> = report
        .findings
        .iter()
        .map(|finding| {
            let at = &finding.location;
            format!(
                "{}:{}:{} {} {} {} [{}] {}",
                at.file,
                at.line,
                at.column,
                finding.check,
                finding.object.label(),
                finding.path,
                at.snippet,
                finding.fix
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "web.yaml:14:9 appArmorProfile Deployment shop/web spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/app] [        container.apparmor.security.beta.kubernetes.io/app: unconfined] remove it, or use `runtime/default` or `localhost/PROFILE`",
            "web.yaml:22:11 hostPorts Deployment shop/web spec.template.spec.containers[0].ports[0].hostPort [          hostPort: 80] remove `hostPort: 80`; reach the port by a Service",
        ]
    );
    assert_eq!(
        report.findings[1].message,
        "violates PodSecurity \"restricted:v1.36\": hostPort (container \"app\" uses hostPort 80)"
    );
    assert_eq!(report.objects.len(), 1);
    assert_eq!(report.objects[0].location.line, 5);
    assert_eq!(
        report.objects[0].message,
        "violates PodSecurity \"restricted:v1.36\": forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/app=\"unconfined\"\"), hostPort (container \"app\" uses hostPort 80)"
    );
    assert_eq!((report.counts.files, report.counts.objects, report.counts.checked), (1, 2, 1));
    assert!(scan("privileged", WEB).findings.is_empty());
}

#[test]
fn a_missing_field_is_shown_at_what_is_around_it() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: c\n    image: i\n";
    let report = scan("restricted", text);
    for finding in &report.findings {
        assert_eq!((finding.location.line, finding.location.column), (7, 5), "{}", finding.check);
        assert_eq!(finding.location.snippet, "  - name: c");
    }
    assert_eq!(report.findings.len(), 4);
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_scanned() {
    let bad = "kind: Pod\napiVersion: v1\nspec: {hostPID: true, hostPID: false}\n---\nkind: Pod\napiVersion: v1\nspec:\n  hostPID: true\n---\nkind: Pod\napiVersion: v1\nspec: {containers: [{privileged: x, securityContext: {privileged: 'yes'}}]}\n---\n- {{ .Values }}\n";
    let mut scan =
        Scan::new("baseline".parse().unwrap(), Waivers::default(), TODAY.parse().unwrap());
    scan.source(Err(Unreadable {
        name: "x".to_owned(),
        message: "it is binary, not text".to_owned(),
    }));
    scan.source(Ok(Source { name: "p.yaml".to_owned(), text: bad.to_owned() }));
    let report = scan.finish();
    let told: Vec<String> = report
        .errors
        .iter()
        .map(|fault| {
            format!("{}:{}: {}", fault.file, fault.line.unwrap_or_default(), fault.message)
        })
        .collect();
    assert_eq!(
        told[..4],
        [
            "x:0: it is binary, not text",
            "p.yaml:3: the key `hostPID` stands twice",
            "p.yaml:12: unknown field `spec.containers[0].privileged` in a `Pod` of Kubernetes v1.36",
            "p.yaml:12: `spec.containers[0].securityContext.privileged` must be `true` or `false`, not text",
        ]
    );
    assert_eq!(
        report.errors[2].next.as_deref(),
        Some("did you mean `spec.containers[0].securityContext.privileged`?")
    );
    assert!(told[4].starts_with("p.yaml:14: this is a template, not YAML"), "{}", told[4]);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].location.line, 8);
}

const WAIVERS: &str = "\
apiVersion: nullius.dev/v1alpha1
kind: ScanWaivers
waivers:
- check: hostPorts
  kind: Deployment
  namespace: shop
  name: we*
  owner: web team
  reason: the load balancer needs it until the new one stands
  expires: 2026-12-31
- {check: appArmorProfile, name: web, owner: web team, reason: was needed once, expires: 2026-11-20}
- {check: privileged, name: web, owner: web team, reason: not there, expires: 2026-12-31}
";

#[test]
fn waivers_cover_one_check_of_one_object_until_their_day() {
    let report = scan_with("restricted", WAIVERS, &[("web.yaml", WEB)]);
    assert_eq!(report.findings.len(), 2);
    assert_eq!(report.findings[0].check, "appArmorProfile");
    let ended = &report.findings[1];
    assert_eq!(
        (ended.check.as_str(), ended.location.line, ended.location.column),
        ("waiver-expired", 11, 4)
    );
    assert_eq!(
        ended.message,
        "the waiver of `appArmorProfile` for `web` ended on 2026-11-20; `web team` answers for it"
    );
    assert_eq!(report.waived.len(), 1);
    assert_eq!(report.waived[0].expires, "2026-12-31");
    assert!(!report.objects[0].message.contains("hostPort"));
    assert_eq!(
        report.notes,
        ["waivers.yaml:12: the waiver of `privileged` for `web` covers nothing; take it out",]
    );
    let elsewhere = WEB.replace("namespace: shop", "namespace: other");
    assert_eq!(scan_with("restricted", WAIVERS, &[("web.yaml", &elsewhere)]).findings.len(), 3);
}

/// What the schema of SARIF 2.1.0 demands of what is written here.
#[test]
fn sarif_is_as_its_schema_says() {
    let sources = [("a b.yaml", WEB), ("broken.yaml", "kind: Pod\napiVersion: [\n")];
    let report = scan_with("restricted:v1.36", WAIVERS, &sources);
    let document = sarif(&report, "1.2.3");
    assert_eq!(document["version"], "2.1.0");
    let [run] = document["runs"].as_array().unwrap().as_slice() else { panic!("{document}") };
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let counted = |value: &Value| value.as_u64().is_some_and(|number| number >= 1);
    let levels = ["none", "note", "warning", "error"];
    let level = |value: &Value| levels.contains(&value.as_str().unwrap_or_default());
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(text(&run["tool"]["driver"]["name"]));
    for rule in rules {
        assert!(text(&rule["id"]) && text(&rule["shortDescription"]["text"]), "{rule}");
        assert!(level(&rule["defaultConfiguration"]["level"]), "{rule}");
    }
    let location = |location: &Value| {
        let at = &location["physicalLocation"];
        let uri = at["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.contains(' '), "{uri}");
        assert!(counted(&at["region"]["startLine"]), "{location}");
        assert!(counted(&at["region"]["startColumn"]), "{location}");
    };
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        assert!(text(&result["message"]["text"]) && level(&result["level"]), "{result}");
        assert_eq!(result["locations"].as_array().map(Vec::len), Some(1));
        result["locations"].as_array().into_iter().flatten().for_each(location);
        result["relatedLocations"].as_array().into_iter().flatten().for_each(location);
        // A rule that has an index is the one at it.
        match result.get("ruleIndex") {
            Some(index) => {
                let index = usize::try_from(index.as_u64().unwrap()).unwrap();
                assert_eq!(rules[index]["id"], result["ruleId"]);
            }
            None => assert_eq!(result["ruleId"], "waiver-expired"),
        }
        for suppression in result["suppressions"].as_array().into_iter().flatten() {
            assert_eq!(suppression["kind"], "external");
        }
        assert!(result["partialFingerprints"].as_object().unwrap().values().all(text), "{result}");
    }
    let [invocation] = run["invocations"].as_array().unwrap().as_slice() else { panic!("{run}") };
    assert_eq!(invocation["executionSuccessful"], false);
    for told in invocation["toolExecutionNotifications"].as_array().unwrap() {
        assert!(text(&told["message"]["text"]) && level(&told["level"]), "{told}");
    }
}

#[test]
fn reports_are_as_they_were() {
    let sources = [("charts/a b.yaml", WEB), ("broken.yaml", "kind: Pod\napiVersion: [\n")];
    let report = scan_with("restricted:v1.36", WAIVERS, &sources);
    insta::assert_snapshot!("junit", junit(&report));
    let mut document = sarif(&report, "1.2.3");
    assert_eq!(document["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), 20);
    document["runs"][0]["tool"]["driver"]["rules"].as_array_mut().unwrap().truncate(1);
    insta::assert_snapshot!("sarif", serde_json::to_string_pretty(&document).unwrap());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn a_namespace_baseline_is_read_strictly_wherever_it_stands() {
    let text = "apiVersion: nullius.dev/v1alpha1
kind: NamespaceBaseline
metadata: {name: teams}
spec:
  namespaceSelector: {matchLabels: {team: shop}}
  podSecurity: {enforce: strict}
  resourceQuota: {hard: {pods: 10, requests.cpu: lots}}
";
    let told = |report: &Report| -> Vec<String> {
        let of = report.errors.iter();
        of.map(|fault| format!("{}: {}", fault.line.unwrap_or_default(), fault.message)).collect()
    };
    let wrong = told(&scan("baseline", text));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(
        wrong[0]
            .starts_with("6: NamespaceBaseline `teams`: spec.podSecurity.enforce: must be one of"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].starts_with(
            "7: NamespaceBaseline `teams`: spec.resourceQuota.hard[requests.cpu]: `lots`"
        ),
        "{wrong:?}"
    );
    let good = text.replace("strict", "restricted").replace("lots", "500m");
    assert_eq!(told(&scan("baseline", &good)), Vec::<String>::new());
}
