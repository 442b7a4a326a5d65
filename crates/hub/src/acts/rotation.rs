//! Keys of a hub that runs: a change is checked, stored with its event, holds, and is told to every agent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nullius_model::{AuditKind, AuditOutcome, Timestamp, Ttl};
use nullius_pki::Signer;
use nullius_store::Sealed;
use tokio_util::sync::CancellationToken;

use crate::{
    ChangeError, Hub, KeysError,
    keys::{
        PASSING, Signing,
        change::{self, KeyChange},
    },
    record::chain,
};

/// A change is looked for this often.
const LOOK: Duration = Duration::from_secs(1);
/// Whether a key needs renewal is looked at this often.
const CARE: Duration = Duration::from_secs(3_600);
/// The end of the signer is told from so long before on.
const WARN_BEFORE: Ttl = Ttl::from_secs(60 * 86_400);

impl Hub {
    /// Takes in changes of keys, lets the next signer sign when its time comes and renews it, until told to stop.
    pub(crate) async fn follow_keys(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        let mut care = tokio::time::interval(CARE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {
                    self.take_in_key_change().await;
                    self.keys.act_on_time(self.now());
                }
                _ = care.tick() => self.care_for_keys().await,
            }
        }
    }

    /// Takes in the change of keys that waits in the state directory, if one does. One that is refused is set aside.
    pub async fn take_in_key_change(&self) {
        let state = &self.settings.state_dir;
        if !change::waits(state) {
            return;
        }
        let ended = match self.make_key_change().await {
            Ok(()) => change::done(state),
            // What the store cannot take now it may take in a while.
            Err(ChangeError::Store(error)) => {
                tracing::warn!(error = %chain(&error), "could not store a change of keys, try again");
                return;
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "refuse a change of keys; it is set aside as `keys.refused`");
                change::refuse(state)
            }
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "could not take a change of keys out of the state directory");
        }
    }

    async fn make_key_change(&self) -> Result<(), ChangeError> {
        let Some(change) = change::find(&self.settings.state_dir, &self.sealer)? else {
            return Ok(());
        };
        let now = self.now();
        let signing = self.keys.signing();
        match &change {
            KeyChange::Rotate { key_set, signer, from } => {
                let signer = hex::decode(signer).map_err(|_| ChangeError::Unreadable)?;
                let signer = zeroize::Zeroizing::new(signer);
                let signer = Signer::from_pkcs8(&signer).map_err(KeysError::from)?;
                let next = signing.rotated(key_set, signer, *from, now)?;
                self.hold(next, "rotate-keys", now).await
            }
            KeyChange::ForgetOfflineKey { public } => {
                if *public != self.keys.offline_public() {
                    return Err(ChangeError::OtherKey);
                }
                let next = signing.without_offline_key()?;
                self.hold(next, "export-offline-key", now).await?;
                // The journal holds pages as they were.
                self.store.fold_journal().await?;
                Ok(())
            }
        }
    }

    /// Renews the signer where the offline key is here, and says when a person has to.
    pub(crate) async fn care_for_keys(&self) {
        let now = self.now();
        match self.keys.signing().renewed(now) {
            Ok(None) => {}
            Ok(Some(next)) => {
                if let Err(error) = self.hold(next, "rotate-keys", now).await {
                    tracing::warn!(error = %chain(&error), "could not renew the signing key, try again");
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot renew the signing key");
            }
        }
        let ends = self.keys.signing_ends();
        if ends <= now {
            tracing::error!(
                since = %ends,
                "the signing key has ended, agents refuse every request: run `nullius hub keys rotate --offline-key FILE`"
            );
        } else if ends <= WARN_BEFORE.after(now) {
            tracing::warn!(
                at = %ends,
                "the signing key ends soon: run `nullius hub keys rotate --offline-key FILE`"
            );
        }
    }

    /// Stores a change with its event, makes it hold and tells every agent.
    async fn hold(&self, next: Signing, what: &str, now: Timestamp) -> Result<(), ChangeError> {
        let sealed = next.seal(&self.sealer)?;
        let mut event = self.own_event(AuditKind::Lifecycle, AuditOutcome::Done);
        let revision = next.facts().key_set.revision;
        let kid = next.newest_kid();
        event.facts = BTreeMap::from([
            ("what".to_owned(), what.to_owned()),
            ("revision".to_owned(), revision.to_string()),
            ("signer".to_owned(), kid.clone()),
        ]);
        let mut tx = self.store.begin().await?;
        for name in PASSING.iter().filter(|name| !sealed.contains_key(**name)) {
            tx.keys().delete(name).await?;
        }
        for (name, blob) in sealed {
            tx.keys().put(&name, &Sealed::new(blob), now).await?;
        }
        tx.audit(&event)?;
        tx.commit().await?;
        self.keys.follow(next, now);
        tracing::info!(what, revision, signer = kid, "follow a change of keys");
        self.clusters.announce_key_set(self.keys.key_set_jws());
        Ok(())
    }
}
