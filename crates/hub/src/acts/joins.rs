//! Ways for a cluster to come in: a join token for somebody who adds one, and the cluster that `nullius up` brings,
//! made known by the hub process itself for the agent that runs beside it.

use nullius_access::{HubAction, HubProcess, HubTask};
use nullius_api::JoinToken;
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, Ceiling, ClusterName, ClusterSpec, Identity, Kind, Object,
    ObjectMeta, ParseNameError, Principal, Timestamp,
};
use nullius_pki::random_token;
use nullius_policy::{Denial, decide_hub_process};
use nullius_store::{JoinToken as StoredToken, StoreError, TokenHash, Tx};
use secrecy::{ExposeSecret as _, SecretString};

use super::objects::{ChangeRefusal, is_valid};
use crate::{Hub, decide::Refusal, record::Occasion};

/// The cluster cannot be made known.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// The name is none of an object.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// The hub's own task does not allow it; a defect.
    #[error("the cluster was refused: {0}")]
    Refused(#[from] Denial),
    /// The cluster cannot be as it would have to be.
    #[error("the cluster cannot be made: {0}; add it by hand, with a trust domain of its own")]
    Invalid(String),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// A single-use token with which a cluster's agents join, for somebody who may add clusters.
    pub(crate) async fn issue_join_token(
        &self,
        identity: &Identity,
        cluster: &ClusterName,
        occasion: &Occasion,
    ) -> Result<JoinToken, Refusal> {
        self.audit_works()?;
        let permit = self.allow(identity, &HubAction::IssueJoinToken { cluster }, occasion).await?;
        let name = cluster.as_str();
        let object = self.store.read().await?.objects().get(Kind::Cluster, name).await?;
        let AnyObject::Cluster(object) = object else {
            return Err(StoreError::NotFound { kind: Kind::Cluster, name: name.to_owned() }.into());
        };
        let mut event =
            self.event_under(&permit, identity, occasion, AuditKind::Join, AuditOutcome::Begun);
        event.cluster = Some(cluster.clone());
        event.target = Some(format!("Cluster/{cluster}"));
        let now = self.this_second();
        let mut tx = self.store.begin().await?;
        let (token, expires_at) = self.create_join(&mut tx, cluster, permit.by(), now).await?;
        event.facts.insert("expires".to_owned(), expires_at.to_string());
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(JoinToken {
            cluster: cluster.clone(),
            token: token.expose_secret().to_owned(),
            expires_at,
            hub_address: self.address().to_owned(),
            hub_ca: self.keys.root().certificate_pem().to_owned(),
            ceiling: object.spec.ceiling.cluster_role().to_owned(),
            hub_id: self.keys.hub_id().to_owned(),
            offline_key: self.keys.offline_public(),
        })
    }

    /// Makes the cluster of an agent beside this hub known, where it is not yet, and gives a join token for it.
    pub async fn bring_cluster(
        &self,
        cluster: &ClusterName,
        ceiling: Ceiling,
    ) -> Result<SecretString, BesideError> {
        let _turn = self.changing.lock().await;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if tx.objects().find(Kind::Cluster, cluster.as_str()).await?.is_none() {
            let metadata = ObjectMeta::named(cluster.as_str().parse()?);
            let spec = ClusterSpec { ceiling, ..ClusterSpec::default() };
            let object = AnyObject::Cluster(Object { metadata, spec, status: None });
            let task = HubProcess::doing(HubTask::FirstStart);
            decide_hub_process(&task, &HubAction::Create { object: &object }).into_result()?;
            let invalid = |refusal: ChangeRefusal| BesideError::Invalid(refusal.to_string());
            is_valid(&object, &self.snapshot()).map_err(invalid)?;
            self.trust_domain_is_free(&object).await.map_err(invalid)?;
            tx.objects().create(&object, now).await?;
            let mut event = self.own_event(AuditKind::ObjectChange, AuditOutcome::Done);
            event.target = Some(format!("Cluster/{cluster}"));
            event.facts.insert("verb".to_owned(), "create".to_owned());
            tx.audit(&event)?;
        }
        let (token, _) = self.create_join(&mut tx, cluster, &Principal::Hub, now).await?;
        tx.commit().await?;
        self.reload().await?;
        Ok(token)
    }

    /// Makes a join token within a transaction, and says when it ends.
    async fn create_join(
        &self,
        tx: &mut Tx,
        cluster: &ClusterName,
        by: &Principal,
        now: Timestamp,
    ) -> Result<(SecretString, Timestamp), StoreError> {
        let token = random_token();
        let expires_at = self.settings.lifetimes.join_token.after(now);
        let stored = StoredToken {
            hash: TokenHash::of(token.expose_secret()),
            cluster: cluster.clone(),
            created_by: by.label(),
            created_at: now,
            expires_at,
            used_at: None,
        };
        tx.tokens().create_join(&stored).await?;
        Ok((token, expires_at))
    }
}
