//! No text makes a scan fail, and places are in the text.

use nullius_admission::{Scan, Waivers, junit, sarif};
use nullius_manifest::Source;
use proptest::{prelude::*, sample::select};

fn text() -> impl Strategy<Value = String> {
    let line = select(vec![
        "---",
        "apiVersion: v1",
        "kind: Pod",
        "kind: List",
        "items:",
        "- kind: Pod",
        "metadata: {name: a}",
        "spec:",
        "  hostPID: true",
        "  hostNetwork: yes",
        "  containers:",
        "  - name: a",
        "    ports: [{containerPort: 80}]",
        "    securityContext: {privileged: true}",
        "  volumes: [{name: v, hostPath: {}}]",
        "  containers: 7",
        "\t",
        "{{ x }}",
        "  <<: {hostIPC: true}",
        "&a {}",
        "é: \u{1}",
    ]);
    proptest::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_scanned(text in prop_oneof![text(), any::<String>()]) {
        let lines = text.lines().count() + 1;
        let mut scan = Scan::new("restricted".parse().unwrap(), Waivers::default(), "2026-11-21".parse().unwrap());
        scan.source(Ok(Source { name: "x".to_owned(), text }));
        let report = scan.finish();
        for finding in &report.findings {
            prop_assert!((1..=lines).contains(&finding.location.line));
            prop_assert!(finding.message.starts_with("violates PodSecurity \"restricted:latest\": "));
        }
        prop_assert_eq!(report.findings.is_empty(), report.objects.is_empty());
        prop_assert!(junit(&report).ends_with("</testsuites>\n"));
        prop_assert_eq!(sarif(&report, "0")["runs"][0]["results"].as_array().map(Vec::len), Some(report.findings.len()));
    }
}
