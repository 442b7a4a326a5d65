//! What comes through a pipe: a renderer that failed passes for nothing.

use nullius_admission::{FaultKind, Report, Scan, Waivers};
use nullius_manifest::{STDIN, Source};

const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

fn scanned(text: &str) -> Report {
    let level = "baseline:latest".parse().unwrap();
    let mut scan = Scan::new(level, Waivers::default(), "2026-11-22".parse().unwrap());
    scan.source(Ok(Source { name: STDIN.to_owned(), text: text.to_owned() }));
    scan.finish()
}

#[test]
fn text_without_an_object_is_a_fault() {
    for text in ["error\n", "{\"error\": \"x\"}\n", "Error: release failed\n", "a: b\n---\nc: d\n"]
    {
        let errors = scanned(text).errors;
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert_eq!((errors[0].kind, errors[0].line), (FaultKind::Unreadable, Some(1)), "{text}");
        assert!(errors[0].message.contains("no object of Kubernetes"), "{}", errors[0].message);
    }
    let among = scanned(&format!("values: 3\n---\n{OBJECT}"));
    assert_eq!((among.errors.len(), among.counts.other, among.counts.objects), (0, 1, 1));
    assert_eq!(scanned("# nothing\n").errors.len(), 0);
}
