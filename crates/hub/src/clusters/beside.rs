//! The cluster that `nullius up` brings: made known by the hub process itself, for the agent that runs beside it.

use nullius_access::{HubAction, HubProcess, HubTask};
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, Ceiling, ClusterName, ClusterSpec, Kind, Object,
    ObjectMeta, ParseNameError, Principal,
};
use nullius_pki::random_token;
use nullius_policy::{Denial, decide_hub_process};
use nullius_store::{JoinToken, StoreError, TokenHash};
use secrecy::{ExposeSecret as _, SecretString};

use crate::Hub;

/// The cluster cannot be made known.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// The name is none of an object.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// The hub's own task does not allow it; a defect.
    #[error("the cluster was refused: {0}")]
    Refused(#[from] Denial),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// Makes the cluster of an agent beside this hub known, where it is not yet, and gives a join token for it.
    pub async fn bring_cluster(
        &self,
        cluster: &ClusterName,
        ceiling: Ceiling,
    ) -> Result<SecretString, BesideError> {
        let _turn = self.changing.lock().await;
        let now = self.now();
        let token = random_token();
        let mut tx = self.store().begin().await?;
        if tx.objects().find(Kind::Cluster, cluster.as_str()).await?.is_none() {
            let metadata = ObjectMeta::named(cluster.as_str().parse()?);
            let spec = ClusterSpec { ceiling };
            let object = AnyObject::Cluster(Object { metadata, spec, status: None });
            let task = HubProcess::doing(HubTask::FirstStart);
            decide_hub_process(&task, &HubAction::Create { object: &object }).into_result()?;
            tx.objects().create(&object, now).await?;
            let mut event = self.own_event(AuditKind::ObjectChange, AuditOutcome::Done);
            event.target = Some(format!("Cluster/{cluster}"));
            event.facts.insert("verb".to_owned(), "create".to_owned());
            tx.audit(&event)?;
        }
        let stored = JoinToken {
            hash: TokenHash::of(token.expose_secret()),
            cluster: cluster.clone(),
            created_by: Principal::Hub.label(),
            created_at: now,
            expires_at: self.settings().lifetimes.join_token.after(now),
            used_at: None,
        };
        tx.tokens().create_join(&stored).await?;
        tx.commit().await?;
        self.reload().await?;
        Ok(token)
    }
}
