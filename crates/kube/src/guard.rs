//! Proof that the admission policies of the join manifest are in force.
//!
//! The agent's own rights are wider than what it may do with them; policies narrow them. Each is tried, as a dry run,
//! with something that it and no other of ours must refuse: that an object of its name exists proves nothing. While
//! one does not answer, no session is made.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::Secret,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{Api, Client, api::PostParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    ApiServer, BINDER, ConnectError, Credential, KubeError, SESSIONS_NAMESPACE, SYSTEM_NAMESPACE,
    Step,
    names::{GUARD_PROBE, POLICIES},
};

const ATTEMPTS: u32 = 60;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The admission policies of the join manifest, as the agent's own accounts meet them.
#[derive(Clone)]
pub struct Guards {
    provisioner: Client,
    role_writer: Client,
}

impl Guards {
    /// With both credentials, since each is narrowed by policies of its own.
    pub fn new(
        server: &ApiServer,
        provisioner: Credential,
        role_writer: Credential,
    ) -> Result<Self, ConnectError> {
        let (provisioner, role_writer) = (server.client(provisioner)?, server.client(role_writer)?);
        Ok(Self { provisioner, role_writer })
    }

    /// Tries every policy once; [`KubeError::Unguarded`] names those that do not refuse what they must.
    pub async fn prove(&self) -> Result<(), KubeError> {
        let probes = join_all(POLICIES.map(|policy| async move {
            let probe = tokio::time::timeout(PROBE_TIMEOUT, self.probe(policy)).await;
            (policy, probe.unwrap_or_else(|_| Err(late())))
        }));
        let mut silent = BTreeSet::new();
        for (policy, answer) in probes.await {
            match answer? {
                Guard::Answers => {}
                Guard::Silent => {
                    silent.insert(format!("`{policy}`"));
                }
            }
        }
        if silent.is_empty() {
            return Ok(());
        }
        let names = silent.into_iter().collect::<Vec<_>>().join(", ");
        Err(KubeError::Unguarded(format!("admission by {names} does not refuse what it must")))
    }

    /// Tries until all policies answer, at most 15 s: after they were applied an API server takes a moment.
    pub async fn prove_soon(&self) -> Result<(), KubeError> {
        for _ in 1..ATTEMPTS {
            match self.prove().await {
                Err(KubeError::Unguarded(_)) => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
                proven => return proven,
            }
        }
        self.prove().await
    }

    /// What this policy alone must refuse, of what RBAC allows whoever tries it.
    async fn probe(&self, policy: &'static str) -> Result<Guard, KubeError> {
        let (provisioner, role_writer) = (&self.provisioner, &self.role_writer);
        let name = || json!({ "metadata": { "name": GUARD_PROBE } });
        match policy {
            "nullius-sessions-closed" => {
                let mut secret = name();
                secret["type"] = "Opaque".into();
                let secrets = Api::<Secret>::namespaced(provisioner.clone(), SESSIONS_NAMESPACE);
                try_create(policy, &secrets, secret).await
            }
            "nullius-system-closed" => {
                let mut lease = name();
                // One name is open to this policy, for the probe of role-writer's own.
                lease["metadata"]["name"] = "nullius-not-ours".into();
                try_create(policy, &in_system::<Lease>(provisioner), lease).await
            }
            "nullius-roles" => {
                try_create(policy, &Api::<ClusterRole>::all(role_writer.clone()), name()).await
            }
            "nullius-bindings" => {
                let mut binding = name();
                binding["roleRef"] = json!({
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": BINDER,
                });
                let bindings = Api::<ClusterRoleBinding>::all(provisioner.clone());
                try_create(policy, &bindings, binding).await
            }
            "nullius-role-writer" => {
                try_create(policy, &in_system::<Lease>(role_writer), name()).await
            }
            // A policy without a probe proves nothing.
            _ => Ok(Guard::Silent),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Answers,
    Silent,
}

fn in_system<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

async fn try_create<K>(
    policy: &'static str,
    api: &Api<K>,
    object: Value,
) -> Result<Guard, KubeError>
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)
        .map_err(|_| KubeError::Incomplete { step: Step::ProveGuards, what: "a name" })?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    judge(policy, api.create(&dry_run, &object).await.map(|_| ()))
}

/// Only a refusal in the policy's own name counts.
fn judge(policy: &str, answer: Result<(), kube::Error>) -> Result<Guard, KubeError> {
    match answer {
        Ok(()) => Ok(Guard::Silent),
        Err(kube::Error::Api(status))
            if status.message.contains(&format!("ValidatingAdmissionPolicy '{policy}'")) =>
        {
            Ok(Guard::Answers)
        }
        // Another refused it, or the account lacks the right to try: either way this one did not answer.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => Ok(Guard::Silent),
        Err(error) => Err(KubeError::from_kube(Step::ProveGuards, error)),
    }
}

fn late() -> KubeError {
    KubeError::Incomplete { step: Step::ProveGuards, what: "an answer in time" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn answer(code: u16, message: &str) -> Result<(), kube::Error> {
        let status = kube::core::Status::failure(message, "Forbidden").with_code(code);
        Err(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn only_the_policy_itself_proves_that_it_is_in_force() {
        let refusal = |policy: &str| {
            answer(
                403,
                &format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding 'b' denied request: no"
                ),
            )
        };
        let judged = |answer| judge("nullius-roles", answer).unwrap();
        assert_eq!(judged(refusal("nullius-roles")), Guard::Answers);
        assert_eq!(judged(refusal("nullius-role-writer")), Guard::Silent);
        assert_eq!(judged(Ok(())), Guard::Silent);
        let rbac = "leases is forbidden: User \"x\" cannot create resource";
        assert_eq!(judged(answer(403, rbac)), Guard::Silent);
        assert!(judge("nullius-roles", answer(500, "etcd is away")).is_err(), "not known");
    }
}
