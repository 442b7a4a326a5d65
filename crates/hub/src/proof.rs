//! The proof of the audit: of the store that a hub has open, and of a state directory that no hub has to be asked about.

use std::sync::Arc;

use nullius_api::AuditVerdict;
use nullius_audit::SignedCheckpoint;
use nullius_model::Clock;
use nullius_pki::PublicKey;
use nullius_store::{Store, VerifyError};

use crate::{
    keys::{self, OperatorError},
    settings::HubSettings,
};

/// Verifies the trail of a store against the audit signer, and against checkpoints that were kept elsewhere.
pub(crate) async fn prove_audit(
    store: &Store,
    key: PublicKey,
    anchors: Option<&[SignedCheckpoint]>,
) -> Result<AuditVerdict, VerifyError> {
    let check = move |bytes: &[u8], signature: &[u8]| key.verifies(bytes, signature);
    let report = store.verify_audit(&check, anchors.unwrap_or_default()).await?;
    Ok(AuditVerdict {
        intact: report.is_intact(),
        entries: report.records,
        checkpoints: report.checkpoints,
        anchored: anchors.map(|anchors| anchors.len().try_into().unwrap_or(u64::MAX)),
        broken: report.fault.map(|fault| fault.to_string()),
    })
}

/// Verifies the trail of a state directory, also while a hub runs on it. Without the public half of its audit signer
/// the directory's keys are opened to learn it.
pub async fn verify_state(
    settings: &HubSettings,
    key: Option<PublicKey>,
    anchors: Option<&[SignedCheckpoint]>,
    clock: Arc<dyn Clock>,
) -> Result<AuditVerdict, OperatorError> {
    let key = match key {
        Some(key) => key,
        None => keys::audit_key(settings, Arc::clone(&clock)).await?,
    };
    let store = Store::open_read_only(&settings.state_dir, clock).await?;
    let verdict = prove_audit(&store, key, anchors).await;
    store.close().await;
    Ok(verdict?)
}
