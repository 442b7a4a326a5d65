//! Changes of fleet objects: decided against the newest state, stored in one transaction with their audit event, and
//! felt by live sessions at once.

use std::{collections::BTreeMap, sync::Arc};

use nullius_access::{Change, HubAction, Snapshot, left_without, validate};
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, ClusterName, Identity, Kind, ObjectName, UserName,
};
use nullius_policy::HubPermit;
use nullius_store::{Precondition, StoreError, Tx};

use crate::{
    Hub, acts::federation::facts_of, clusters::foreign, decide::Refusal, record::Occasion,
};

/// A change that somebody asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    Create(AnyObject),
    Update(AnyObject),
    Delete { kind: Kind, name: ObjectName, precondition: Precondition },
}

/// What a change did, or would do.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The object as it is stored, or was.
    pub(crate) object: AnyObject,
    /// What comes of it that nobody may have thought of.
    pub(crate) warnings: Vec<String>,
}

impl Wanted {
    fn kind(&self) -> Kind {
        match self {
            Self::Create(object) | Self::Update(object) => object.kind(),
            Self::Delete { kind, .. } => *kind,
        }
    }

    fn name(&self) -> &ObjectName {
        match self {
            Self::Create(object) | Self::Update(object) => object.name(),
            Self::Delete { name, .. } => name,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update(_) => "update",
            Self::Delete { .. } => "delete",
        }
    }

    /// What comes of it once a snapshot holds it: grants that name what is gone.
    fn warnings(&self, after: &Snapshot) -> Vec<String> {
        match self {
            Self::Create(_) | Self::Update(_) => Vec::new(),
            Self::Delete { kind, name, .. } => left_without(after, *kind, name),
        }
    }

    /// What it does to a snapshot.
    fn change(&self) -> Change<'_> {
        match self {
            Self::Create(object) | Self::Update(object) => Change::Put(object),
            Self::Delete { kind, name, .. } => Change::Remove(*kind, name),
        }
    }
}

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Fields of the object are wrong: which, and how.
    #[error("{kind} `{name}`: {}", first(.fields))]
    Invalid { kind: Kind, name: ObjectName, fields: BTreeMap<String, String> },
    #[error("after this change nobody would be admin of the hub")]
    NobodyInCharge,
}

impl From<StoreError> for ChangeRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

fn first(fields: &BTreeMap<String, String>) -> String {
    let first = fields.iter().next();
    first.map(|(field, message)| format!("{field}: {message}")).unwrap_or_default()
}

/// Refuses to make another one of a cluster that a federation names: whom workloads believe is for those to say who may change that.
fn is_in_no_federation(
    snapshot: &Snapshot,
    kind: Kind,
    name: &ObjectName,
    field: &str,
    next: &str,
) -> Result<(), ChangeRefusal> {
    let federation = (kind == Kind::Cluster).then(|| snapshot.federation_of(name.as_str()));
    let Some(federation) = federation.flatten() else { return Ok(()) };
    let told = format!("Federation `{federation}` names it: take it out there, then {next}");
    let fields = BTreeMap::from([(field.to_owned(), told)]);
    Err(ChangeRefusal::Invalid { kind, name: name.clone(), fields })
}

/// Refuses an object with errors.
pub(crate) fn is_valid(object: &AnyObject, snapshot: &Snapshot) -> Result<(), ChangeRefusal> {
    validate(object, snapshot).map_err(|errors| {
        let fields: BTreeMap<String, String> =
            errors.into_iter().map(|error| (error.field, error.message)).collect();
        ChangeRefusal::Invalid { kind: object.kind(), name: object.name().clone(), fields }
    })
}

impl Hub {
    /// Carries out a change for somebody, if they may; gives the object as it is stored, or was.
    pub(crate) async fn change(
        self: &Arc<Self>,
        identity: &Identity,
        wanted: Wanted,
        occasion: &Occasion,
    ) -> Result<Changed, ChangeRefusal> {
        self.audit_works()?;
        let _turn = self.changing.lock().await;
        let (kind, name) = (wanted.kind(), wanted.name().clone());
        let before = self.store.read().await?.objects().find(kind, name.as_str()).await?;
        let snapshot = self.snapshot();
        let permit = self.judge(&snapshot, identity, &wanted, before.as_ref(), occasion).await?;

        let (event_kind, done) = (AuditKind::ObjectChange, AuditOutcome::Done);
        let mut event = self.event_under(&permit, identity, occasion, event_kind, done);
        event.target = Some(format!("{kind}/{name}"));
        event.facts.insert("verb".to_owned(), wanted.word().to_owned());

        let mut tx = self.store.begin().await?;
        let stored = self.store_change(&mut tx, &wanted).await?;
        let metadata = stored.metadata();
        if let Some(generation) = metadata.generation {
            event.facts.insert("generation".to_owned(), generation.to_string());
        }
        event.facts.insert("uid".to_owned(), metadata.uid.clone().unwrap_or_default());
        event.facts.extend(facts_of(&stored));
        tx.audit(&event)?;
        tx.commit().await?;
        self.reload().await?;
        drop(_turn);
        self.follow_up(&wanted).await;
        let warnings = wanted.warnings(&self.snapshot());
        Ok(Changed { object: stored, warnings })
    }

    /// Judges changes one after the other, each as if those before it had been made; nothing is changed.
    pub(crate) async fn rehearse(
        &self,
        identity: &Identity,
        changes: &[Wanted],
        occasion: &Occasion,
    ) -> Result<Vec<Result<Changed, ChangeRefusal>>, ChangeRefusal> {
        self.audit_works()?;
        let _turn = self.changing.lock().await;
        let mut snapshot = self.snapshot();
        let mut judged = Vec::with_capacity(changes.len());
        for wanted in changes {
            // A change may give or take what the next one needs, also by a group.
            let groups = snapshot.groups_of(&identity.user);
            let identity = Identity { groups, ..identity.clone() };
            let before = snapshot.object(wanted.kind(), wanted.name());
            let outcome = self.judge(&snapshot, &identity, wanted, before, occasion).await;
            if outcome.is_ok() {
                snapshot = Arc::new(snapshot.with(wanted.change()));
            }
            judged.push(outcome.map(|_| wanted.warnings(&snapshot)));
        }
        // Denials are in the audit by now: it could not be written while this transaction stands.
        let mut tx = self.store.begin().await?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for (wanted, judged) in changes.iter().zip(judged) {
            outcomes.push(match judged {
                Ok(warnings) => match self.store_change(&mut tx, wanted).await {
                    Ok(object) => Ok(Changed { object, warnings }),
                    Err(error) => Err(error.into()),
                },
                Err(refusal) => Err(refusal),
            });
        }
        tx.rollback().await?;
        Ok(outcomes)
    }

    /// Decides on a change against a state, and checks it.
    async fn judge(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        wanted: &Wanted,
        before: Option<&AnyObject>,
        occasion: &Occasion,
    ) -> Result<HubPermit, ChangeRefusal> {
        let (kind, name) = (wanted.kind(), wanted.name());
        let permit = match wanted {
            Wanted::Create(object) => {
                // Who may not make it does not learn whether there is one.
                let action = HubAction::Create { object };
                let permit = self.allow_in(snapshot, identity, &action, occasion).await?;
                if before.is_some() {
                    return Err(StoreError::Exists { kind, name: name.to_string() }.into());
                }
                self.trust_domain_is_free(object).await?;
                self.federation_is_usable(object).await?;
                permit
            }
            Wanted::Update(object) => {
                let before =
                    self.seen_before(snapshot, identity, kind, name, before, occasion).await?;
                let action = HubAction::Update { before, after: object };
                let permit = self.allow_in(snapshot, identity, &action, occasion).await?;
                self.keeps_its_trust_domain(snapshot, before, object).await?;
                self.trust_domain_is_free(object).await?;
                self.federation_is_usable(object).await?;
                permit
            }
            Wanted::Delete { .. } => {
                let object =
                    self.seen_before(snapshot, identity, kind, name, before, occasion).await?;
                let action = HubAction::Delete { object };
                let permit = self.allow_in(snapshot, identity, &action, occasion).await?;
                is_in_no_federation(snapshot, kind, name, "metadata.name", "delete the cluster")?;
                permit
            }
        };
        self.check(snapshot, wanted)?;
        Ok(permit)
    }

    /// Refuses another trust domain for a cluster whose authority was certified: SVIDs of the first are in use.
    async fn keeps_its_trust_domain(
        &self,
        snapshot: &Snapshot,
        before: &AnyObject,
        after: &AnyObject,
    ) -> Result<(), ChangeRefusal> {
        let (AnyObject::Cluster(before), AnyObject::Cluster(after)) = (before, after) else {
            return Ok(());
        };
        let name = &after.metadata.name;
        let wanted = after.spec.trust_domain_of(name.as_str());
        if before.spec.trust_domain_of(name.as_str()) == wanted {
            return Ok(());
        }
        let next = "give it another trust domain";
        is_in_no_federation(snapshot, Kind::Cluster, name, "spec.trustDomain", next)?;
        let Ok(cluster) = name.as_str().parse::<ClusterName>() else { return Ok(()) };
        let mut certified = self.store.read().await?.clusters().authorities(&cluster).await?;
        // Those of an earlier cluster of this name are not this one's.
        let created = before.metadata.creation_timestamp;
        certified.retain(|it| created.is_none_or(|created| created <= it.certified_at));
        match certified.into_iter().find(|it| wanted.as_ref() != Ok(&it.trust_domain)) {
            None => Ok(()),
            Some(authority) => {
                let told = format!(
                    "it is `{}` since an authority of the cluster was certified for it; to have another one, remove the \
                     cluster and add it again",
                    authority.trust_domain
                );
                let fields = BTreeMap::from([("spec.trustDomain".to_owned(), told)]);
                Err(ChangeRefusal::Invalid { kind: Kind::Cluster, name: name.clone(), fields })
            }
        }
    }

    /// Refuses a trust domain for which another cluster's authority is still valid: one that was removed, or had the name before.
    pub(crate) async fn trust_domain_is_free(
        &self,
        object: &AnyObject,
    ) -> Result<(), ChangeRefusal> {
        let AnyObject::Cluster(cluster) = object else { return Ok(()) };
        let name = &cluster.metadata.name;
        // What is no trust domain is refused with its field.
        let Ok(domain) = cluster.spec.trust_domain_of(name.as_str()) else { return Ok(()) };
        let mut read = self.store.read().await?;
        let valid = read.clusters().authorities_for(&domain, self.now()).await?;
        let Some(other) = valid.into_iter().find(|it| it.cluster.as_str() != name.as_str()) else {
            return Ok(());
        };
        let told = format!(
            "an authority of cluster `{}` speaks for `{domain}` until {}; name another, or wait for its end",
            other.cluster, other.not_after
        );
        let fields = BTreeMap::from([("spec.trustDomain".to_owned(), told)]);
        Err(ChangeRefusal::Invalid { kind: Kind::Cluster, name: name.clone(), fields })
    }

    /// Refuses a federation with what could never be fetched, or with a trust domain for which a cluster that was removed can still speak.
    async fn federation_is_usable(&self, object: &AnyObject) -> Result<(), ChangeRefusal> {
        let AnyObject::Federation(federation) = object else { return Ok(()) };
        let Some(trust) = &federation.spec.federates_with else { return Ok(()) };
        let invalid = |field: &str, told: String| {
            let fields = BTreeMap::from([(format!("spec.federatesWith.{field}"), told)]);
            let name = federation.metadata.name.clone();
            ChangeRefusal::Invalid { kind: Kind::Federation, name, fields }
        };
        foreign::check(trust).map_err(|(field, told)| invalid(field, told))?;
        let domain = &trust.trust_domain;
        let mut read = self.store.read().await?;
        let valid = read.clusters().authorities_for(domain, self.now()).await?;
        let Some(own) = valid.first() else { return Ok(()) };
        let told = format!(
            "an authority of cluster `{}` speaks for `{domain}` until {}",
            own.cluster, own.not_after
        );
        Err(invalid("trustDomain", told))
    }

    /// The object as it is, for somebody who may change it; somebody who may not even see it is told no more.
    async fn seen_before<'o>(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        kind: Kind,
        name: &ObjectName,
        before: Option<&'o AnyObject>,
        occasion: &Occasion,
    ) -> Result<&'o AnyObject, ChangeRefusal> {
        if let Some(before) = before {
            return Ok(before);
        }
        self.allow_in(snapshot, identity, &HubAction::Get { kind, name }, occasion).await?;
        Err(StoreError::NotFound { kind, name: name.to_string() }.into())
    }

    /// Refuses an object with errors, and a change that would leave nobody in charge.
    fn check(&self, snapshot: &Snapshot, wanted: &Wanted) -> Result<(), ChangeRefusal> {
        if let Wanted::Create(object) | Wanted::Update(object) = wanted {
            is_valid(object, snapshot)?;
        }
        let after = snapshot.with(wanted.change());
        let now = self.now();
        if after.admins(now).is_empty() && !snapshot.admins(now).is_empty() {
            return Err(ChangeRefusal::NobodyInCharge);
        }
        Ok(())
    }

    async fn store_change(&self, tx: &mut Tx, wanted: &Wanted) -> Result<AnyObject, StoreError> {
        let now = self.now();
        match wanted {
            Wanted::Create(object) => tx.objects().create(object, now).await,
            Wanted::Update(object) => tx.objects().update(object).await,
            Wanted::Delete { kind, name, precondition } => {
                let gone = tx.objects().delete(*kind, name.as_str(), precondition, now).await?;
                match kind {
                    Kind::User => {
                        if let Ok(user) = name.as_str().parse::<UserName>() {
                            tx.credentials().delete(&user).await?;
                            tx.tokens().delete_enrolments(&user).await?;
                        }
                    }
                    Kind::Cluster => {
                        if let Ok(cluster) = name.as_str().parse::<ClusterName>() {
                            tx.tokens().delete_joins(&cluster).await?;
                            tx.clusters().delete_trust(&cluster).await?;
                        }
                    }
                    Kind::Federation => tx.trust().forget_foreign(name.as_str()).await?,
                    Kind::Group | Kind::Role | Kind::Grant | Kind::Lock => {}
                }
                Ok(gone)
            }
        }
    }

    async fn follow_up(self: &Arc<Self>, wanted: &Wanted) {
        if let Wanted::Delete { kind, name, .. } = wanted {
            match kind {
                Kind::User => {
                    if let Ok(user) = name.as_str().parse::<UserName>() {
                        self.memory.enrolments.forget(&user);
                        self.forgive(&user).await;
                    }
                }
                Kind::Cluster => {
                    if let Ok(cluster) = name.as_str().parse::<ClusterName>() {
                        let hub = Arc::clone(self);
                        // It waits for the cluster's agent, and nobody has to wait for that.
                        tokio::spawn(
                            async move { hub.clusters.flush_cluster(&hub, &cluster).await },
                        );
                    }
                }
                Kind::Group | Kind::Role | Kind::Grant | Kind::Lock | Kind::Federation => {}
            }
        }
        let hub = Arc::clone(self);
        let settled = tokio::spawn(async move { hub.settle_sessions().await });
        if let Err(error) = settled.await {
            tracing::error!(%error, "could not settle sessions after a change");
        }
    }
}
