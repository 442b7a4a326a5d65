//! Proof that the admission policies of the join manifest are in force.
//!
//! The agent's own rights are wider than what it may do with them; policies narrow them. Before it makes its
//! first session it tries, as a dry run, what they must refuse, and goes no further while they do not.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Secret, rbac::v1::ClusterRole};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::{ApiServer, Credential, KubeError, SESSIONS_NAMESPACE, Step};

const ATTEMPTS: u32 = 60;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);

enum Guard {
    Answers,
    Silent,
}

/// Waits until the policies refuse what they must, at most 15 s.
pub async fn prove_guards(
    server: &ApiServer,
    provisioner: Credential,
    role_writer: Credential,
) -> Result<(), KubeError> {
    let provisioner = server.client(provisioner)?;
    let role_writer = server.client(role_writer)?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (sessions, roles) =
            futures::try_join!(sessions_guard(&provisioner), roles_guard(&role_writer))?;
        match (sessions, roles) {
            (Guard::Answers, Guard::Answers) => return Ok(()),
            (Guard::Silent, _) => last = Some("nullius-sessions-closed"),
            (_, Guard::Silent) => last = Some("nullius-roles"),
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
    let policy = last.unwrap_or("nullius-sessions-closed");
    Err(KubeError::Unguarded(format!(
        "the admission policy `{policy}` does not refuse what it must"
    )))
}

async fn sessions_guard(provisioner: &Client) -> Result<Guard, KubeError> {
    let secrets: Api<Secret> = Api::namespaced(provisioner.clone(), SESSIONS_NAMESPACE);
    let forbidden = Secret { type_: Some("Opaque".into()), ..named("guard-probe")? };
    judge(secrets.create(&dry_run(), &forbidden).await)
}

async fn roles_guard(role_writer: &Client) -> Result<Guard, KubeError> {
    let roles: Api<ClusterRole> = Api::all(role_writer.clone());
    judge(roles.create(&dry_run(), &named("guard-probe")?).await)
}

fn judge<K>(answer: Result<K, kube::Error>) -> Result<Guard, KubeError> {
    match answer {
        Ok(_) => Ok(Guard::Silent),
        Err(error) => match KubeError::from_kube(Step::ProveGuards, error) {
            KubeError::Refused { .. } => Ok(Guard::Answers),
            other => Err(other),
        },
    }
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn named<K: serde::de::DeserializeOwned>(name: &str) -> Result<K, KubeError> {
    serde_json::from_value(json!({ "metadata": { "name": name } }))
        .map_err(|_| KubeError::Incomplete { step: Step::ProveGuards, what: "a name" })
}
