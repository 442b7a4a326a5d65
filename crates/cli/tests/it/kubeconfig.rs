//! The kubeconfig as it is written to a file, merged, and refused.

use std::{fs, os::unix::fs::PermissionsExt};

use nullius_cli::Exit;

use crate::{hub::Hub, person::Person};

#[tokio::test]
async fn a_kubeconfig_names_every_cluster_and_holds_no_token() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let out = person.run(&["kubeconfig"]).await.ok();
    for cluster in ["dev", "prod"] {
        assert!(out.contains(&format!("server: {}/clusters/{cluster}/", hub.url())), "{out}");
    }
    assert!(!out.contains("refresh-") && !out.contains("access-") && !out.contains("token"));
    let file = person.home.path().join("new/dev.kubeconfig");
    let done = person.run(&["kubeconfig", "-c", "dev", "-f", file.to_str().unwrap()]).await;
    assert!(done.err.contains("nullius-dev"), "{}", done.err);
    done.ok();
    assert!(!fs::read_to_string(&file).unwrap().contains("prod"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let err = person.run(&["kubeconfig", "-c", "none"]).await.failed(Exit::Denied);
    assert!(err.contains("no grant lets you reach"), "{err}");
}

#[tokio::test]
async fn contexts_of_others_are_never_overwritten() {
    let hub = Hub::start().await;
    let person = Person::at(&hub).await;
    let theirs = "apiVersion: v1\nkind: Config\ncontexts:\n- name: work\n  context: {cluster: w, user: me}\n";
    let file = person.file(".kube/config", theirs);
    let err = person.run(&["kubeconfig", "-f", &file]).await.failed(Exit::Failed);
    assert!(err.contains("--merge"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    person.run(&["kubeconfig", "--merge"]).await.ok();
    let merged = fs::read_to_string(&file).unwrap();
    assert!(merged.contains("name: work") && merged.contains("name: nullius-dev"), "{merged}");
    let broken = person.file(".kube/config", "a: [1\n");
    let err = person.run(&["kubeconfig", "--merge"]).await.failed(Exit::Failed);
    assert!(err.contains("cannot read the kubeconfig"), "{err}");
    assert_eq!(fs::read_to_string(broken).unwrap(), "a: [1\n");
}

#[tokio::test]
async fn without_a_grant_there_is_nothing_to_write() {
    let hub = Hub::start().await;
    hub.state().clusters.clear();
    let person = Person::at(&hub).await;
    let err = person.run(&["kubeconfig"]).await.failed(Exit::Denied);
    assert!(err.contains("ask an admin for a grant"), "{err}");
}
