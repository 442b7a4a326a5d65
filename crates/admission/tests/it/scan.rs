//! Texts in, findings out: places, fixes, waivers, faults, reports.

use nullius_admission::{Report, Scan, Waivers, junit, sarif};
use nullius_manifest::{Source, Unreadable};

const TODAY: &str = "2026-11-21";

fn scan_with(policy: &str, waivers: &str, sources: &[(&str, &str)]) -> Report {
    let today = TODAY.parse().unwrap();
    let file = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let waivers = Waivers::read(&file("waivers.yaml", waivers), today).unwrap();
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
  reason: the load balancer needs it until the new one stands
  expires: 2026-12-31
- {check: appArmorProfile, name: web, reason: was needed once, expires: 2026-11-20}
- {check: privileged, name: web, reason: not there, expires: 2026-12-31}
";

#[test]
fn waivers_cover_one_check_of_one_object_until_their_day() {
    let report = scan_with("restricted", WAIVERS, &[("web.yaml", WEB)]);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].check.as_str(), "appArmorProfile");
    assert_eq!(report.waived.len(), 1);
    assert_eq!(report.waived[0].expires, "2026-12-31");
    assert!(!report.objects[0].message.contains("hostPort"));
    assert_eq!(
        report.notes,
        [
            "waivers.yaml:10: the waiver of `appArmorProfile` for `web` ended on 2026-11-20",
            "waivers.yaml:11: the waiver of `privileged` for `web` covers nothing; take it out",
        ]
    );
    let elsewhere = WEB.replace("namespace: shop", "namespace: other");
    assert_eq!(scan_with("restricted", WAIVERS, &[("web.yaml", &elsewhere)]).findings.len(), 2);
}

#[test]
fn reports_are_as_they_were() {
    let sources = [("charts/a b.yaml", WEB), ("broken.yaml", "kind: Pod\napiVersion: [\n")];
    let report = scan_with("restricted:v1.36", WAIVERS, &sources);
    insta::assert_snapshot!("junit", junit(&report));
    let mut document = sarif(&report, "1.2.3");
    assert_eq!(document["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), 19);
    document["runs"][0]["tool"]["driver"]["rules"].as_array_mut().unwrap().truncate(1);
    insta::assert_snapshot!("sarif", serde_json::to_string_pretty(&document).unwrap());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report).unwrap());
}
