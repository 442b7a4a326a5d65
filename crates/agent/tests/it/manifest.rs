//! The join manifest as an administrator applies it.

use nullius_kube::{Deployments, HubPins, JoinManifest, Shape};
use nullius_model::Ceiling;
use secrecy::SecretString;

use crate::plane::{CEILING, plane};

#[tokio::test]
async fn kubectl_applies_the_manifest_and_applying_it_again_changes_nothing() {
    let Some(plane) = plane().await else { return };
    let manifest = JoinManifest {
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
    };
    let text = manifest.to_yaml();
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
async fn another_ceiling_replaces_the_old_one() {
    let Some(plane) = plane().await else { return };
    let role = ["get", "clusterrolebinding", "nullius:ceiling", "-o", "jsonpath={.roleRef.name}"];
    let mut manifest = crate::plane::beside();
    manifest.ceiling = Ceiling::try_from("view".to_owned()).unwrap();
    plane.administrator.apply(&manifest).await.unwrap();
    assert_eq!(plane.admin.ok(&role).unwrap(), "view");
    plane.administrator.apply(&crate::plane::beside()).await.unwrap();
    assert_eq!(plane.admin.ok(&role).unwrap(), CEILING);
}
