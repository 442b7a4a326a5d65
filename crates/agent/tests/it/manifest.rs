//! The join manifest as an administrator applies it.

use std::time::Duration;

use nullius_kube::{CLEAN_UP, CeilingReader, Deployments, HubPins, JoinManifest, Shape};
use nullius_model::Ceiling;
use secrecy::SecretString;

use crate::plane::{CEILING, plane};

fn in_cluster() -> JoinManifest {
    JoinManifest {
        cluster: "plane".parse().unwrap(),
        ceiling: Ceiling::try_from(CEILING.to_owned()).unwrap(),
        shape: Shape::InCluster {
            deployments: Deployments::of_image("localhost/nullius:dev"),
            hub: HubPins {
                address: "10.99.1.1:8443".into(),
                infra_ca_pem: "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n".into(),
                offline_key: "b2ZmbGluZQ".into(),
                hub_id: "hub-1".into(),
            },
            join_token: SecretString::from("token"),
        },
    }
}

#[tokio::test]
async fn kubectl_applies_the_manifest_and_applying_it_again_changes_nothing() {
    let Some(plane) = plane().await else { return };
    let text = in_cluster().to_yaml();
    plane.admin.apply(&text).unwrap();
    let again = plane.admin.apply(&text).unwrap();
    let changed: Vec<&str> = again.lines().filter(|line| !line.ends_with("unchanged")).collect();
    assert!(changed.is_empty(), "{changed:?}");

    let deployments = ["-n", "nullius-system", "delete", "deployments", "--all", "--wait=false"];
    plane.admin.ok(&deployments).unwrap();
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
}

#[tokio::test]
async fn applying_again_keeps_what_the_agent_wrote() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    let plan = crate::plane::plan([crate::plane::pods_reader(Some(namespace.name()))]);
    let sessions = plane.sessions().await;
    let mut standing = sessions.begin(&plan.session);
    sessions.ensure(&plan, &mut standing).await.unwrap();
    let list = ["get", "clusterrole", "nullius:binder", "-o", "jsonpath={.rules}"];
    let before = plane.admin.ok(&list).unwrap();
    assert!(before.contains("nullius:role:reader-"), "{before}");
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    assert_eq!(plane.admin.ok(&list).unwrap(), before);
    sessions.flush(&mut standing).await.unwrap();
}

#[tokio::test]
async fn the_ceiling_that_is_told_is_the_one_that_stands_whichever_way_it_was_to_change() {
    let Some(plane) = plane().await else { return };
    let provisioner = plane.own(nullius_kube::OwnAccount::Provisioner).await;
    let reader = CeilingReader::new(&plane.api, provisioner).unwrap();
    let told = async || reader.read().await.unwrap();
    let at = |ceiling: &str| JoinManifest {
        ceiling: Ceiling::try_from(ceiling.to_owned()).unwrap(),
        ..crate::plane::beside()
    };
    for other in ["view", "cluster-admin"] {
        // kubectl cannot change a binding's role: the old ceiling stands, and is told.
        let failed = plane.admin.apply(&at(other).to_yaml()).unwrap_err().to_string();
        assert!(failed.contains("roleRef"), "{failed}");
        assert_eq!(told().await.as_deref(), Some(CEILING));
        // As the documentation says.
        plane.admin.ok(&["delete", "clusterrolebinding", "nullius:ceiling"]).unwrap();
        assert_eq!(told().await, None);
        plane.admin.apply(&at(other).to_yaml()).unwrap();
        assert_eq!(told().await.as_deref(), Some(other));
        // An agent beside a kubeconfig replaces it by itself.
        plane.administrator.apply(&crate::plane::beside()).await.unwrap();
        assert_eq!(told().await.as_deref(), Some(CEILING));
    }
}

#[tokio::test]
async fn each_policy_is_missed_by_its_name_and_found_again() {
    let Some(plane) = plane().await else { return };
    let guards = plane.guards().await;
    for policy in [
        "nullius-sessions-closed",
        "nullius-system-closed",
        "nullius-roles",
        "nullius-bindings",
        "nullius-role-writer",
    ] {
        plane.admin.ok(&["delete", "validatingadmissionpolicybinding", policy]).unwrap();
        let missed = async {
            loop {
                match guards.prove().await {
                    Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => return error.to_string(),
                }
            }
        };
        let missed = tokio::time::timeout(Duration::from_secs(120), missed).await.unwrap();
        assert!(missed.contains(&format!("admission by `{policy}` does not refuse")), "{missed}");
        assert!(missed.contains("kubectl apply -f -"), "{missed}");
        plane.administrator.apply(&crate::plane::beside()).await.unwrap();
        guards.prove_soon().await.unwrap();
    }
    // It is there in name only.
    let audit = r#"{"spec":{"validationActions":["Audit"]}}"#;
    let patch =
        ["patch", "validatingadmissionpolicybinding", "nullius-roles", "--type=merge", "-p"];
    plane.admin.ok(&[&patch[..], &[audit]].concat()).unwrap();
    let missed = async {
        while guards.prove().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), missed).await.unwrap();
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    guards.prove_soon().await.unwrap();
}

#[tokio::test]
async fn the_advice_at_the_end_takes_everything_out_of_the_cluster() {
    let Some(plane) = plane().await else { return };
    let namespace = plane.namespace();
    plane.admin.apply(&in_cluster().to_yaml()).unwrap();
    // As an agent that was killed leaves it.
    let sessions = plane.sessions().await;
    let everywhere = crate::plane::pods_reader(None);
    let plan = crate::plane::plan([crate::plane::pods_reader(Some(namespace.name())), everywhere]);
    let mut standing = sessions.begin(&plan.session);
    sessions.ensure(&plan, &mut standing).await.unwrap();

    for command in CLEAN_UP {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "kubectl");
        plane.admin.ok(&words[1..]).unwrap();
    }
    let mut left = crate::plane::left_of(&plane, &plan.session);
    for object in in_cluster().objects() {
        let text = |pointer: &str| object.pointer(pointer).unwrap().as_str().unwrap();
        let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = format!("{}.{group}", text("/kind"));
        let mut get = vec!["get", kind.trim_end_matches('.'), text("/metadata/name")];
        get.extend(["--ignore-not-found", "-o", "name"]);
        if object.pointer("/metadata/namespace").is_some() {
            get.extend(["-n", text("/metadata/namespace")]);
        }
        left.push_str(&plane.admin.ok(&get).unwrap());
    }
    for kind in ["clusterroles", "clusterrolebindings", "validatingadmissionpolicies"] {
        let names = plane.admin.ok(&["get", kind, "-o", "name"]).unwrap();
        left.extend(names.lines().filter(|name| name.contains("nullius")).map(str::to_owned));
    }
    assert_eq!(left, "");
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    plane.wait_for_guards().await;
}
