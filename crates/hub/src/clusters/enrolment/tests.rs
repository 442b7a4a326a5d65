#![allow(clippy::unwrap_used, reason = "test")]

use nullius_pki::PrivateKey;
use nullius_proto::agent_v1::{AgentRole, AgentShape as Shape};
use tonic::Code;

use super::*;
use crate::clusters::tests::lab::{Issuer, Lab};

const CONTROL: &str = "nullius-system/nullius-provisioner";
const PROXY: &str = "nullius-system/nullius-agent-proxy";
const ADMISSION: &str = "nullius-system/nullius-admission";
const IDENTITY: &str = "nullius-system/nullius-identity";

async fn join(
    lab: &Lab,
    issuer: &Issuer,
    token: &str,
    shape: Shape,
    proof: &str,
) -> Result<(), Status> {
    let request = JoinRequest {
        version: VERSION,
        cluster: lab.cluster.to_string(),
        token: token.to_owned(),
        issuer: issuer.name(),
        jwks: issuer.jwks(),
        shape: shape.into(),
        service_account_token: proof.to_owned(),
    };
    let service = EnrolmentService { hub: Arc::clone(&lab.hub) };
    service.join(Request::new(request)).await.map(|_| ())
}

async fn enrol(lab: &Lab, role: AgentRole, proof: &str) -> Result<(), Status> {
    let request = EnrolRequest {
        version: VERSION,
        cluster: lab.cluster.to_string(),
        role: role.into(),
        instance: format!("{:032x}", nullius_pki::random_bits()),
        service_account_token: proof.to_owned(),
        certificate_request: PrivateKey::generate().unwrap().request().unwrap().to_pem(),
    };
    let service = EnrolmentService { hub: Arc::clone(&lab.hub) };
    service.enrol(Request::new(request)).await.map(|_| ())
}

fn refused(answer: Result<(), Status>, code: Code) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    status.message().to_owned()
}

#[tokio::test]
async fn agents_in_a_cluster_prove_their_pods() {
    let lab = Lab::start().await;
    let issuer = Issuer::new();
    let token = lab.token_for_manifest().await;
    let (of_pod, of_nobody) =
        (issuer.token(CONTROL, Some("control-0")), issuer.token(CONTROL, None));
    for wrong in [
        of_nobody.clone(),
        issuer.token(PROXY, Some("proxy-0")),
        issuer.token("shop/nullius-provisioner", Some("control-0")),
        Issuer::new().token(CONTROL, Some("control-0")),
        String::new(),
    ] {
        let answer = join(&lab, &issuer, &token, Shape::InCluster, &wrong).await;
        refused(answer, Code::InvalidArgument);
    }
    let undeclared = join(&lab, &issuer, &token, Shape::Unspecified, &of_pod).await;
    refused(undeclared, Code::InvalidArgument);
    // What was refused has not used the token up.
    join(&lab, &issuer, &token, Shape::InCluster, &of_pod).await.unwrap();

    enrol(&lab, AgentRole::Control, &of_pod).await.unwrap();
    let of_admission = issuer.token(ADMISSION, Some("admission-0"));
    enrol(&lab, AgentRole::Proxy, &issuer.token(PROXY, Some("proxy-0"))).await.unwrap();
    enrol(&lab, AgentRole::Admission, &of_admission).await.unwrap();
    let of_identity = issuer.token(IDENTITY, Some("identity-0"));
    enrol(&lab, AgentRole::Identity, &of_identity).await.unwrap();
    for (role, wrong) in [
        (AgentRole::Identity, issuer.token(IDENTITY, None)),
        (AgentRole::Identity, issuer.token(ADMISSION, Some("admission-0"))),
        (AgentRole::Admission, of_identity),
        (AgentRole::Admission, issuer.token(ADMISSION, None)),
        (AgentRole::Admission, issuer.token(PROXY, Some("proxy-0"))),
        (AgentRole::Control, of_admission),
        (AgentRole::Control, of_nobody),
        (AgentRole::Proxy, issuer.token(PROXY, None)),
        (AgentRole::Proxy, of_pod),
        (AgentRole::Proxy, issuer.token("shop/nullius-agent-proxy", Some("proxy-0"))),
        (AgentRole::Proxy, issuer.token(PROXY, Some(""))),
    ] {
        refused(enrol(&lab, role, &wrong).await, Code::PermissionDenied);
    }
}

#[tokio::test]
async fn an_agent_beside_a_kubeconfig_has_no_pod_and_is_declared_by_who_made_its_token() {
    let lab = Lab::start().await;
    let issuer = Issuer::new();
    let for_manifest = lab.token_for_manifest().await;
    let answer = join(&lab, &issuer, &for_manifest, Shape::Beside, "").await;
    refused(answer, Code::PermissionDenied);
    let beside = lab.token_beside().await;
    let of_pod = issuer.token(CONTROL, Some("control-0"));
    let answer = join(&lab, &issuer, &beside, Shape::InCluster, &of_pod).await;
    refused(answer, Code::PermissionDenied);

    join(&lab, &issuer, &beside, Shape::Beside, "").await.unwrap();
    enrol(&lab, AgentRole::Control, &issuer.token(CONTROL, None)).await.unwrap();
    enrol(&lab, AgentRole::Proxy, &issuer.token(PROXY, None)).await.unwrap();
}

#[tokio::test]
async fn a_join_token_that_was_read_by_others_takes_no_cluster_over() {
    let lab = Lab::start().await;
    let (issuer, thief) = (Issuer::new(), Issuer::new());
    let first = lab.token_for_manifest().await;
    let of_pod = issuer.token(CONTROL, Some("control-0"));
    join(&lab, &issuer, &first, Shape::InCluster, &of_pod).await.unwrap();

    let second = lab.token_for_manifest().await;
    for proof in [thief.token(CONTROL, Some("control-0")), of_pod.clone()] {
        let answer = join(&lab, &thief, &second, Shape::InCluster, &proof).await;
        assert!(answer.is_err());
    }
    let own = thief.token(CONTROL, Some("control-0"));
    let answer = join(&lab, &thief, &second, Shape::InCluster, &own).await;
    let message = refused(answer, Code::PermissionDenied);
    assert!(message.contains("nullius cluster remove dev"), "{message}");
    refused(enrol(&lab, AgentRole::Control, &own).await, Code::PermissionDenied);
    // The cluster itself joins again.
    join(&lab, &issuer, &second, Shape::InCluster, &of_pod).await.unwrap();
    enrol(&lab, AgentRole::Control, &of_pod).await.unwrap();
}
