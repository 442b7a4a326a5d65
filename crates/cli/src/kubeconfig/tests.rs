#![allow(clippy::unwrap_used, reason = "test")]
use super::*;

fn entries<'a>(context: &'a ObjectName, hub: &str, clusters: &[&str]) -> Entries<'a> {
    Entries {
        hub: hub.to_owned(),
        ca: "-----BEGIN CERTIFICATE-----\n",
        context,
        home: Path::new("/home/ada/.config/nullius"),
        program: Path::new("/usr/local/bin/nullius"),
        clusters: clusters.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn fields(text: &str) -> Map<String, Value> {
    parse(text, Dialect::Strict).unwrap()[0].to_json().as_object().unwrap().clone()
}

const OTHERS: &str = "
apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
clusters:
- name: nullius-dev
  cluster: {server: 'https://elsewhere.example', insecure-skip-tls-verify: true}
- name: work
  cluster: {server: 'https://work.example:6443'}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: mine}
users:
- name: me
  user: {token: abc}
";

fn names(document: &Value, section: &str) -> Vec<String> {
    document[section].as_array().unwrap().iter().map(|item| name_of(item).to_owned()).collect()
}

#[test]
fn a_fresh_kubeconfig_holds_no_secret() {
    let context = "hub.example".parse().unwrap();
    let entries = entries(&context, "https://hub.example", &["dev", "prod"]);
    insta::assert_snapshot!(
        yaml_text(&merged(Map::new(), &entries, Keep::Nothing).document).unwrap()
    );
}

#[test]
fn merging_leaves_what_is_of_others_as_it_is() {
    let context = "hub.example".parse().unwrap();
    let before = fields(OTHERS);
    let after = merged(
        before.clone(),
        &entries(&context, "https://hub.example", &["dev", "prod"]),
        Keep::Nothing,
    );
    let document = after.document;
    // Another hub has taken the short name.
    assert_eq!(after.names, ["nullius-hub.example-dev", "nullius-prod"]);
    assert_eq!(document["current-context"], "work");
    assert_eq!(document["preferences"], before["preferences"]);
    for section in ["clusters", "contexts", "users"] {
        let kept = before[section].as_array().unwrap();
        assert_eq!(&document[section].as_array().unwrap()[..kept.len()], kept, "{section}");
    }
    let again = merged(
        document.as_object().unwrap().clone(),
        &entries(&context, "https://hub.example", &["dev", "prod"]),
        Keep::Nothing,
    );
    assert_eq!(again.document, document, "a second merge changes nothing");
}

#[test]
fn what_can_no_longer_be_reached_goes_unless_one_cluster_was_asked_for() {
    let context = "hub.example".parse().unwrap();
    let hub = "https://hub.example";
    let both =
        merged(Map::new(), &entries(&context, hub, &["dev", "prod"]), Keep::Nothing).document;
    let both = both.as_object().unwrap();
    let one = merged(both.clone(), &entries(&context, hub, &["prod"]), Keep::Nothing).document;
    assert_eq!(names(&one, "contexts"), ["nullius-prod"]);
    assert_eq!(names(&one, "clusters"), ["nullius-prod"]);
    assert_eq!(one["current-context"], "nullius-prod");
    let kept =
        merged(both.clone(), &entries(&context, hub, &["prod"]), Keep::OtherClusters).document;
    assert_eq!(names(&kept, "contexts"), ["nullius-dev", "nullius-prod"]);
    assert_eq!(names(&kept, "users"), ["nullius-hub.example"]);
}
