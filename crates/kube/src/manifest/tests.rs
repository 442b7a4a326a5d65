#![allow(clippy::unwrap_used, reason = "test")]
use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    },
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    storage::v1::CSIDriver,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Serialize, de::DeserializeOwned};

use super::*;

fn in_cluster() -> JoinManifest {
    JoinManifest {
        cluster: "dev".parse().unwrap(),
        ceiling: Ceiling::default(),
        shape: Shape::InCluster {
            deployments: Deployments::of_image("localhost/nullius:dev"),
            hub: HubPins {
                address: "10.99.1.1:8443".into(),
                infra_ca_pem: "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n".into(),
                offline_key: "b2ZmbGluZQ".into(),
                hub_id: "hub-1".into(),
            },
            join_token: SecretString::from("njt-1"),
        },
    }
}

fn with_identity() -> JoinManifest {
    let mut manifest = in_cluster();
    if let Shape::InCluster { deployments, .. } = &mut manifest.shape {
        deployments.identity = Some(IdentityParts::of_domain("dev.example".parse().unwrap()));
    }
    manifest
}

fn beside() -> JoinManifest {
    JoinManifest {
        cluster: "dev".parse().unwrap(),
        ceiling: Ceiling::default(),
        shape: Shape::Beside,
    }
}

/// Nothing may be lost on the way through the typed form: a misspelt field would be.
fn survives<K: DeserializeOwned + Serialize>(object: &Value) {
    let typed: K = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), object);
}

#[test]
fn every_object_is_exactly_what_kubernetes_knows() {
    for object in with_identity().objects() {
        match object["kind"].as_str().unwrap() {
            "Namespace" => survives::<Namespace>(&object),
            "ServiceAccount" => survives::<ServiceAccount>(&object),
            "Secret" => survives::<Secret>(&object),
            "ConfigMap" => survives::<ConfigMap>(&object),
            "Service" => survives::<Service>(&object),
            "NetworkPolicy" => survives::<NetworkPolicy>(&object),
            "ValidatingWebhookConfiguration" => survives::<ValidatingWebhookConfiguration>(&object),
            "MutatingWebhookConfiguration" => survives::<MutatingWebhookConfiguration>(&object),
            "CustomResourceDefinition" => survives::<CustomResourceDefinition>(&object),
            "Deployment" => survives::<Deployment>(&object),
            "DaemonSet" => survives::<DaemonSet>(&object),
            "CSIDriver" => survives::<CSIDriver>(&object),
            "ClusterRole" => survives::<ClusterRole>(&object),
            "ClusterRoleBinding" => survives::<ClusterRoleBinding>(&object),
            "Role" => survives::<Role>(&object),
            "RoleBinding" => survives::<RoleBinding>(&object),
            "ValidatingAdmissionPolicy" => survives::<ValidatingAdmissionPolicy>(&object),
            "ValidatingAdmissionPolicyBinding" => {
                survives::<ValidatingAdmissionPolicyBinding>(&object)
            }
            other => assert_eq!(other, "a known kind"),
        }
    }
}

#[test]
fn nobody_gets_escalate_or_a_wildcard() {
    for object in with_identity().objects() {
        let rules = object["rules"].to_string();
        assert!(!rules.contains("escalate") && !rules.contains('*'), "{object}");
        assert!(!rules.contains("impersonate"), "{object}");
    }
}

#[test]
fn who_wants_no_identities_gets_nothing_of_them() {
    let named = |manifest: &JoinManifest| -> std::collections::BTreeSet<String> {
        let objects = manifest.objects();
        let name = |object: &Value| {
            let of = &object["metadata"];
            format!("{} {}/{}", object["kind"], of["namespace"], of["name"]).replace('"', "")
        };
        objects.iter().map(name).collect()
    };
    let (without, with) = (named(&in_cluster()), named(&with_identity()));
    let more: Vec<&String> = with.difference(&without).collect();
    assert_eq!(
        more,
        [
            "CSIDriver null/csi.nullius.dev",
            "ClusterRole null/nullius:identity",
            "ClusterRole null/nullius:intentions:admin",
            "ClusterRole null/nullius:intentions:view",
            "ClusterRole null/nullius:workloadidentities:admin",
            "ClusterRole null/nullius:workloadidentities:view",
            "ClusterRoleBinding null/nullius:identity",
            "ConfigMap nullius-node/nullius-trust",
            "CustomResourceDefinition null/intentions.nullius.dev",
            "CustomResourceDefinition null/machines.nullius.dev",
            "CustomResourceDefinition null/workloadidentities.nullius.dev",
            "DaemonSet nullius-node/nullius-node",
            "Deployment nullius-system/nullius-agent-identity",
            "Namespace null/nullius-node",
            "NetworkPolicy nullius-system/nullius-agent-identity",
            "Role nullius-node/nullius:identity",
            "Role nullius-system/nullius:identity",
            "RoleBinding nullius-node/nullius:identity",
            "RoleBinding nullius-system/nullius:identity",
            "Secret nullius-system/nullius-identity-ca",
            "Service nullius-system/nullius-agent-identity",
            "ServiceAccount nullius-node/nullius-node",
            "ServiceAccount nullius-system/nullius-identity",
            "ValidatingAdmissionPolicy null/nullius-intentions",
            "ValidatingAdmissionPolicy null/nullius-machines",
            "ValidatingAdmissionPolicy null/nullius-node-closed",
            "ValidatingAdmissionPolicy null/nullius-workload-identities",
            "ValidatingAdmissionPolicyBinding null/nullius-intentions",
            "ValidatingAdmissionPolicyBinding null/nullius-machines",
            "ValidatingAdmissionPolicyBinding null/nullius-node-closed",
            "ValidatingAdmissionPolicyBinding null/nullius-workload-identities",
        ]
    );
    assert!(without.is_subset(&with));
}

#[test]
fn only_in_the_mesh_does_a_node_touch_the_networks_of_its_host() {
    let node = |manifest: &JoinManifest| {
        let mut objects = manifest.objects();
        objects.retain(|object| object["kind"] == "DaemonSet");
        survives::<DaemonSet>(&objects[0]);
        objects.remove(0).to_string()
    };
    let mut manifest = with_identity();
    let without = node(&manifest);
    if let Shape::InCluster { deployments, .. } = &mut manifest.shape {
        deployments.host.mesh = Some(MeshHost::default());
    }
    let with = node(&manifest);
    for only in ["NET_ADMIN", "/opt/cni/bin", "/etc/cni/net.d", "/run/nullius/node/cni.sock"] {
        assert!(with.contains(only) && !without.contains(only), "{only}");
    }
}

#[test]
fn only_in_the_mesh_do_pods_get_proxies_and_those_are_of_the_same_image() {
    let admission = |manifest: &JoinManifest| {
        let mut objects = manifest.objects();
        let is_it = |object: &&mut Value| {
            object["kind"] == "Deployment"
                && object["metadata"]["name"] == "nullius-agent-admission"
        };
        objects.iter_mut().find(is_it).unwrap().to_string()
    };
    let mut manifest = with_identity();
    assert!(!admission(&manifest).contains("NULLIUS_PROXY_IMAGE"));
    if let Shape::InCluster { deployments, .. } = &mut manifest.shape {
        deployments.host.mesh = Some(MeshHost::default());
        deployments.pull_policy = PullPolicy::Never;
    }
    let told = admission(&manifest);
    assert!(told.contains(r#"{"name":"NULLIUS_PROXY_IMAGE","value":"localhost/nullius:dev"}"#));
    assert!(told.contains(r#"{"name":"NULLIUS_PROXY_PULL","value":"Never"}"#));
    if let Shape::InCluster { deployments, .. } = &mut manifest.shape {
        deployments.identity = None;
    }
    assert!(!admission(&manifest).contains("NULLIUS_PROXY_IMAGE"));
}

#[test]
fn the_key_of_the_authority_is_read_by_one_account_alone() {
    for object in with_identity().objects() {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        let about = object["rules"].to_string();
        if about.contains("nullius-identity-ca") {
            assert_eq!((kind.as_str(), name.as_str()), (Some("Role"), Some("nullius:identity")));
        }
        // Nobody reads all Secrets of the namespace.
        let rules = object["rules"].as_array().cloned().unwrap_or_default();
        let secrets =
            rules.iter().filter(|rule| rule["resources"].to_string().contains("\"secrets\""));
        let unnamed = secrets.filter(|rule| rule["resourceNames"].is_null()).count();
        assert!(unnamed == 0 || object["metadata"]["namespace"] == "nullius-sessions", "{object}");
    }
}

#[test]
fn only_beside_a_kubeconfig_does_the_provisioner_renew_its_own_token() {
    let names = |manifest: &JoinManifest| {
        let roles = manifest.objects();
        let role = roles
            .iter()
            .find(|o| {
                let named = &o["metadata"];
                o["kind"] == "Role"
                    && named["namespace"] == "nullius-system"
                    && named["name"] == "nullius:provisioner"
            })
            .unwrap();
        role["rules"][0]["resourceNames"].to_string()
    };
    assert_eq!(names(&in_cluster()), r#"["nullius-role-writer","nullius-baseline"]"#);
    assert!(names(&beside()).contains("nullius-provisioner"));
}

#[test]
fn the_proxy_has_no_token_for_the_api_server() {
    let objects = in_cluster().objects();
    let proxy = objects
        .iter()
        .find(|o| o["kind"] == "Deployment" && o["metadata"]["name"] == "nullius-agent-proxy")
        .unwrap();
    let pod = &proxy["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let tokens: Vec<String> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|volume| volume.to_string().contains("serviceAccountToken"))
        .map(ToString::to_string)
        .collect();
    assert_eq!(tokens.len(), 1);
    assert!(tokens[0].contains("nullius-hub"), "{tokens:?}");
}

#[test]
fn the_account_of_nodes_has_no_right() {
    for object in with_identity().objects() {
        let subjects = object["subjects"].to_string();
        assert!(!subjects.contains(r#""nullius-node""#), "{object}");
    }
}

#[test]
fn the_manifest_reads_as_reviewed() {
    insta::assert_snapshot!("in_cluster", in_cluster().to_yaml());
    insta::assert_snapshot!("beside", beside().to_yaml());
}
