//! Federations with somebody else: what the audit says of them, and the way out where nothing that is fetched is new enough.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use nullius_access::HubAction;
use nullius_api::AcceptOlderRequest;
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, BundleEndpointProfile, Identity, Kind, ObjectName,
    Timestamp,
};
use nullius_pki::token_hash;
use nullius_store::{ForeignBundle, StoreError};

use crate::{Hub, clusters::foreign::tell_keys, decide::Refusal, record::Occasion};

/// Characters of a reason.
const REASON: usize = 500;

/// Why no older bundle is accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("1 to {REASON} printable characters")]
    Reason,
    /// The bundles of clusters of the hub are not fetched.
    #[error("federation `{0}` is with nobody else: no bundle is fetched for it")]
    NotForeign(ObjectName),
}

impl From<StoreError> for AcceptRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl Hub {
    /// Forgets what was fetched for a federation, so that the next bundle counts though its number is lower: that of the object until one
    /// is fetched, which is at once. Who may change the federation may do it.
    pub(crate) async fn accept_older(
        &self,
        identity: &Identity,
        name: &ObjectName,
        request: AcceptOlderRequest,
        occasion: &Occasion,
    ) -> Result<(), AcceptRefusal> {
        self.audit_works()?;
        let object = self.read_object(identity, Kind::Federation, name, occasion).await?;
        let action = HubAction::Update { before: &object, after: &object };
        let permit = self.allow(identity, &action, occasion).await?;
        let reason = request.reason.trim();
        let length = reason.chars().count();
        if length == 0 || length > REASON || nullius_audit::display_safe(reason) != reason {
            return Err(AcceptRefusal::Reason);
        }
        let AnyObject::Federation(federation) = &object else {
            return Err(AcceptRefusal::NotForeign(name.clone()));
        };
        let Some(trust) = &federation.spec.federates_with else {
            return Err(AcceptRefusal::NotForeign(name.clone()));
        };
        let _turn = self.changing.lock().await;
        let mut tx = self.store.begin().await?;
        // It is still the one that was judged.
        let now = tx.objects().get(Kind::Federation, name.as_str()).await?;
        let uid = federation.metadata.uid.clone().unwrap_or_default();
        if now.metadata().uid.as_ref() != Some(&uid) {
            return Err(
                StoreError::NotFound { kind: Kind::Federation, name: name.to_string() }.into()
            );
        }
        let known = tx.trust().foreign(name.as_str()).await?.filter(|it| it.uid == uid);
        let (kind, done) = (AuditKind::Certify, AuditOutcome::Done);
        let mut event = self.event_under(&permit, identity, occasion, kind, done);
        event.target = Some(format!("{}/{name}", Kind::Federation));
        event.facts = facts_of(&object);
        event.facts.insert("what".to_owned(), "accept an older bundle".to_owned());
        event.facts.insert("reason".to_owned(), reason.to_owned());
        event.facts.insert("uid".to_owned(), uid.clone());
        tell_keys(trust, known.as_ref(), self.now(), &mut event.facts, "-before");
        tx.trust()
            .put_foreign(&ForeignBundle {
                federation: name.to_string(),
                uid,
                trust_domain: trust.trust_domain.clone(),
                given: String::new(),
                bundle: None,
                refused: String::new(),
                fetched_at: None,
                failure: None,
                failing_since: None,
            })
            .await?;
        tx.audit(&event)?;
        tx.commit().await?;
        self.foreign_anew.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// What the audit says of a federation that is made, changed or deleted.
pub(crate) fn facts_of(object: &AnyObject) -> BTreeMap<String, String> {
    let AnyObject::Federation(federation) = object else { return BTreeMap::new() };
    let spec = &federation.spec;
    let clusters: Vec<&str> = spec.clusters.iter().map(|it| it.as_str()).collect();
    let mut facts = BTreeMap::from([("clusters".to_owned(), clusters.join(" "))]);
    let Some(trust) = &spec.federates_with else { return facts };
    facts.insert("trust-domain".to_owned(), trust.trust_domain.to_string());
    facts.insert("url".to_owned(), trust.bundle_endpoint_url.clone());
    let (profile, proof) = match &trust.bundle_endpoint_profile {
        BundleEndpointProfile::Web { authorities } => {
            ("https_web", authorities.as_deref().map(|pem| format!("sha256:{}", token_hash(pem))))
        }
        BundleEndpointProfile::Spiffe { endpoint_spiffe_id } => {
            ("https_spiffe", Some(endpoint_spiffe_id.to_string()))
        }
    };
    facts.insert("profile".to_owned(), profile.to_owned());
    facts.extend(proof.map(|proof| ("server".to_owned(), proof)));
    let given = trust.trust_domain_bundle.as_deref();
    facts.extend(given.map(|text| ("bundle-sha256".to_owned(), token_hash(text))));
    if given.is_some() {
        tell_keys(trust, None, Timestamp::UNIX_EPOCH, &mut facts, "-given");
    }
    facts
}
