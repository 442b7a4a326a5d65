//! A control plane without nodes, with an API server that is configured by files.

use std::collections::BTreeMap;

use nullius_testkit::{Api, Cluster, ClusterConfig, Profile};

use crate::Turn;

const AUTHENTICATION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions: [{path: /livez}, {path: /readyz}]
";

const ADMISSION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  path: ${CONFIG}/pod-security.yaml
";

const POD_SECURITY: &str = "apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: restricted, enforce-version: latest}
";

const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: RequestResponse}]
";

#[test]
fn the_api_server_is_configured_by_files_and_arguments() {
    let Some(turn) = Turn::wait() else {
        return;
    };
    let mut config = ClusterConfig::new("plane", Profile::ControlPlane);
    config.api_server.authentication = Some(AUTHENTICATION.to_owned());
    config.api_server.admission = Some(ADMISSION.to_owned());
    config.api_server.audit_policy = Some(AUDIT.to_owned());
    config.api_server.args = vec!["--goaway-chance=0.001".to_owned()];
    config.api_server.files =
        BTreeMap::from([("pod-security.yaml".to_owned(), POD_SECURITY.to_owned())]);
    config.feature_gates = BTreeMap::from([("CBORServingAndStorage".to_owned(), true)]);
    let cluster = turn.up(config);
    assert!(cluster.record().nodes.is_empty());

    let namespace = cluster.namespace("files").unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: rooted}\n\
               spec: {containers: [{name: c, image: x, securityContext: {privileged: true}}]}\n";
    let refused = namespace.apply(pod).unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity"), "{refused}");

    let entry = cluster
        .audit_log()
        .unwrap()
        .wait_for("the refused pod, with its body", |entry| {
            entry.text("/objectRef/resource") == "pods"
                && entry.text("/requestObject/metadata/name") == "rooted"
        })
        .unwrap();
    assert_eq!(entry.text("/stage"), "ResponseComplete");

    nobody_gets_in_without_a_name(&cluster);
    tokens_are_signed_by_the_published_key(&cluster);
}

fn nobody_gets_in_without_a_name(cluster: &Cluster) {
    let record = cluster.record();
    let address = record.server.trim_start_matches("https://").parse().unwrap();
    let anonymous = Api::anonymous(address, &record.certificate_authority).unwrap();
    assert_eq!(anonymous.get("/readyz").unwrap().text(), "ok");
    assert_eq!(anonymous.get("/version").unwrap().status, 401);
}

fn tokens_are_signed_by_the_published_key(cluster: &Cluster) {
    let kubectl = cluster.kubectl().unwrap();
    let token = kubectl.ok(&["create", "token", "default", "-n", "default"]).unwrap();
    assert_eq!(token.trim().split('.').count(), 3);
    let keys = cluster.api().unwrap().get("/openid/v1/jwks").unwrap().json().unwrap();
    assert_eq!(keys["keys"][0]["alg"], "RS256");
    let issuer = cluster.api().unwrap().get("/.well-known/openid-configuration").unwrap();
    assert_eq!(issuer.json().unwrap()["issuer"], "https://kubernetes.default.svc.cluster.local");
}
