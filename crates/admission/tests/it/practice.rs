//! Good practice: every policy finds what it is for, where it stands, and nothing else; a cluster would take it as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use nullius_admission::{Depth, PRACTICE, Policies, Scan, Sender, Waivers, junit, sarif};
use nullius_manifest::{Found, Manifest, Source, objects};
use nullius_policy::admission_policy::Version;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "policies"].iter().collect()
}

/// What each object of a text is expected to be found at, by name.
fn expected(text: &str) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    objects(text, |found| match found {
        Found::Object(manifest) => {
            let annotation = |manifest: &Manifest| {
                let annotations = manifest.node().child("metadata")?.child("annotations")?;
                Some(annotations.child("expected")?.text()?.to_owned())
            };
            let twice = all.insert(manifest.name().to_owned(), annotation(&manifest));
            assert!(twice.is_none(), "{}", manifest.name());
        }
        other => panic!("{other:?}"),
    });
    all
}

#[test]
fn every_policy_is_shipped_and_says_why_it_is_there() {
    let mut files: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    assert_eq!(files, PRACTICE.map(|(name, _)| name.to_owned()));
    let policies = Policies::new(Version::LATEST).with_practice(&Default::default());
    assert!(!policies.is_faulty());
    let names: Vec<String> = policies.abouts().map(|(name, _)| name.to_owned()).collect();
    let wanted: Vec<String> =
        files.iter().map(|file| file.replace(".yaml", ".nullius.dev")).collect();
    assert_eq!(names, wanted);
    for (name, about) in policies.abouts() {
        assert!(about.severity.is_some(), "{name}");
        assert!(!about.about.is_empty() && !about.fix.is_empty(), "{name}");
        assert!(!about.about.ends_with('.') && !about.fix.ends_with('.'), "{name}");
    }
}

#[test]
fn every_policy_finds_what_it_is_for_and_nothing_else() {
    for (file, policy) in PRACTICE {
        let text = fs::read_to_string(folder().join("tests").join(file)).unwrap();
        let expected = expected(&text);
        assert!(expected.values().any(Option::is_none), "{file}: nothing passes");
        assert!(expected.values().any(Option::is_some), "{file}: nothing fails");
        // The versions in which clusters still run.
        for version in [Version::minor(34), Version::LATEST] {
            let mut policies = Policies::new(version);
            policies.policies(Ok(Source { name: file.to_owned(), text: policy.to_owned() }));
            let today = "2026-11-21".parse().unwrap();
            let none = "privileged".parse().unwrap();
            let mut scan = Scan::new(none, Waivers::default(), today)
                .with_policies(policies, Sender::default());
            scan.source(Ok(Source { name: "tests.yaml".to_owned(), text: text.clone() }));
            let report = scan.finish();
            assert!(report.errors.is_empty(), "{file}: {:?}", report.errors);
            let found: BTreeMap<String, String> = report
                .findings
                .iter()
                .map(|finding| {
                    let paths: Vec<_> = finding.spots.iter().map(|spot| &*spot.path).collect();
                    assert!(!finding.message.contains("resulted in error"), "{}", finding.message);
                    (finding.object.name.clone(), paths.join(", "))
                })
                .collect();
            let wanted: BTreeMap<String, String> = expected
                .iter()
                .filter_map(|(name, at)| Some((name.clone(), at.clone()?)))
                .collect();
            assert_eq!(found, wanted, "{file}");
            assert_eq!(report.findings.len(), wanted.len(), "{file}");
        }
    }
}

#[test]
fn what_is_found_because_it_is_secret_is_in_no_report() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: c, image: i, env: [{name: API_TOKEN, value: 'tok-123456'}]}
  - name: d
    image: i
    args: ['--token', 'x hunter2secret']
    env:
    - name: DB_PASSWORD
      value: hunter2secret
    - name: DB_SECRET
      value:
        'four: five'
    - {name: SHOWN, value: plain-value}
";
    for depth in [Depth::Findings, Depth::Traces] {
        let asked = Policies::new(Version::LATEST).with_practice(&BTreeSet::new());
        let mut scan = Scan::new(
            "restricted".parse().unwrap(),
            Waivers::default(),
            "2026-11-21".parse().unwrap(),
        )
        .with_policies(asked, Sender::default())
        .with_depth(depth);
        scan.source(Ok(Source { name: "p.yaml".to_owned(), text: text.to_owned() }));
        let report = scan.finish();
        let found = report.findings.iter().find(|found| found.check == "plain-secret.nullius.dev");
        let found = found.unwrap();
        assert_eq!(
            (found.spots.len(), found.location.line, found.location.snippet.as_str()),
            (3, 6, "")
        );
        let whole = serde_json::to_string(&report).unwrap();
        for told in [whole.clone(), sarif(&report, "1").to_string(), junit(&report)] {
            for secret in ["tok-123456", "hunter2secret", "four: five"] {
                assert!(!told.contains(secret), "{secret}");
            }
        }
        // What is no secret is shown where values are.
        assert_eq!(whole.contains("plain-value"), depth == Depth::Traces);
        assert!(whole.contains("\"snippet\":\"apiVersion: v1\""), "other lines are shown");
    }
}
