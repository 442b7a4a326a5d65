//! Changes of fleet objects: decided against the newest state, stored in one transaction with their audit event, and
//! felt by live sessions at once.

use std::{collections::BTreeMap, sync::Arc};

use nullius_access::{Caller, Change, HubAction, Snapshot, left_without, validate};
use nullius_model::{
    AnyObject, AuditKind, AuditOutcome, ClusterName, Explanation, Identity, Kind, ObjectName,
    PermissionId, Plane, Principal, UserName,
};
use nullius_policy::{HubDecision, HubPermit, decide_hub};
use nullius_store::{Precondition, StoreError, Tx};

use crate::{
    Hub, UseRef,
    web::{Call, Problem},
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

impl Hub {
    /// Decides on an action at the hub, counts the use, and records a denial.
    pub(crate) async fn allow(
        &self,
        identity: &Identity,
        action: &HubAction<'_>,
        call: &Call,
    ) -> Result<HubPermit, Problem> {
        self.allow_in(&self.snapshot(), identity, action, call).await
    }

    async fn allow_in(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        action: &HubAction<'_>,
        call: &Call,
    ) -> Result<HubPermit, Problem> {
        if action.verb().is_change() {
            self.not_for_looking(identity)?;
        }
        let decided = self.decide(snapshot, identity, action, call);
        let HubDecision { explanation, permission, .. } = &decided;
        let (explanation, permission) = (explanation.clone(), permission.clone());
        match decided.into_result() {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                self.note_denial(identity, action, call, &explanation, permission.as_ref()).await;
                Err(Problem::denied(denial.explanation().clone()))
            }
        }
    }

    fn decide(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        action: &HubAction<'_>,
        call: &Call,
    ) -> HubDecision {
        let caller = Caller { identity, source: Some(call.source) };
        let now = self.now();
        let decided = decide_hub(snapshot, &caller, action, now);
        let principal = caller.principal().label();
        let resource = action.kind().map_or("hub", Kind::plural);
        let used = UseRef {
            plane: Plane::Hub,
            principal: &principal,
            cluster: "hub",
            action: action.verb().as_str(),
            resource,
            allowed: decided.is_allowed(),
            permission: decided.permission.as_ref(),
        };
        self.usage.record(used, now, &call.id);
        decided
    }

    async fn note_denial(
        &self,
        identity: &Identity,
        action: &HubAction<'_>,
        call: &Call,
        explanation: &Explanation,
        permission: Option<&PermissionId>,
    ) {
        let kind =
            if action.verb().is_change() { AuditKind::ObjectChange } else { AuditKind::Read };
        let mut event = self.event_of(call, kind, AuditOutcome::Denied);
        event.principal = Principal::Person { user: identity.user.clone() };
        event.session = Some(identity.session.clone());
        event.permission = permission.cloned();
        event.explanation = Some(explanation.clone());
        event.target = target_of(action);
        event.facts.insert("verb".to_owned(), action.verb().to_string());
        self.note(event).await;
    }

    /// Carries out a change for somebody, if they may; gives the object as it is stored, or was.
    pub(crate) async fn change(
        self: &Arc<Self>,
        identity: &Identity,
        wanted: Wanted,
        call: &Call,
    ) -> Result<Changed, Problem> {
        self.audit_works()?;
        let _turn = self.changing.lock().await;
        let (kind, name) = (wanted.kind(), wanted.name().clone());
        let before = self.store.read().await?.objects().find(kind, name.as_str()).await?;
        let snapshot = self.snapshot();
        let permit = self.judge(&snapshot, identity, &wanted, before.as_ref(), call).await?;

        let mut event = self.event_of(call, AuditKind::ObjectChange, AuditOutcome::Done);
        event.principal = permit.by().clone();
        event.session = Some(identity.session.clone());
        event.permission = permit.permission().cloned();
        event.target = Some(format!("{kind}/{name}"));
        event.facts.insert("verb".to_owned(), wanted.word().to_owned());

        let mut tx = self.store.begin().await?;
        let stored = self.store_change(&mut tx, &wanted).await?;
        let metadata = stored.metadata();
        if let Some(generation) = metadata.generation {
            event.facts.insert("generation".to_owned(), generation.to_string());
        }
        event.facts.insert("uid".to_owned(), metadata.uid.clone().unwrap_or_default());
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
        call: &Call,
    ) -> Result<Vec<Result<Changed, Problem>>, Problem> {
        self.audit_works()?;
        let _turn = self.changing.lock().await;
        let mut snapshot = self.snapshot();
        let mut judged = Vec::with_capacity(changes.len());
        for wanted in changes {
            // A change may give or take what the next one needs, also by a group.
            let groups = snapshot.groups_of(&identity.user);
            let identity = Identity { groups, ..identity.clone() };
            let before = snapshot.object(wanted.kind(), wanted.name());
            let outcome = self.judge(&snapshot, &identity, wanted, before, call).await;
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
                Err(problem) => Err(problem),
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
        call: &Call,
    ) -> Result<HubPermit, Problem> {
        let (kind, name) = (wanted.kind(), wanted.name());
        let permit = match wanted {
            Wanted::Create(object) => {
                // Who may not make it does not learn whether there is one.
                let action = HubAction::Create { object };
                let permit = self.allow_in(snapshot, identity, &action, call).await?;
                if before.is_some() {
                    return Err(StoreError::Exists { kind, name: name.to_string() }.into());
                }
                permit
            }
            Wanted::Update(object) => {
                let before = self.seen_before(snapshot, identity, kind, name, before, call).await?;
                let action = HubAction::Update { before, after: object };
                self.allow_in(snapshot, identity, &action, call).await?
            }
            Wanted::Delete { .. } => {
                let object = self.seen_before(snapshot, identity, kind, name, before, call).await?;
                self.allow_in(snapshot, identity, &HubAction::Delete { object }, call).await?
            }
        };
        self.check(snapshot, wanted)?;
        Ok(permit)
    }

    /// The object as it is, for somebody who may change it; somebody who may not even see it is told no more.
    async fn seen_before<'o>(
        &self,
        snapshot: &Snapshot,
        identity: &Identity,
        kind: Kind,
        name: &ObjectName,
        before: Option<&'o AnyObject>,
        call: &Call,
    ) -> Result<&'o AnyObject, Problem> {
        if let Some(before) = before {
            return Ok(before);
        }
        self.allow_in(snapshot, identity, &HubAction::Get { kind, name }, call).await?;
        Err(StoreError::NotFound { kind, name: name.to_string() }.into())
    }

    /// Refuses an object with errors, and a change that would leave nobody in charge.
    fn check(&self, snapshot: &Snapshot, wanted: &Wanted) -> Result<(), Problem> {
        if let Wanted::Create(object) | Wanted::Update(object) = wanted
            && let Err(errors) = validate(object, snapshot)
        {
            let fields: BTreeMap<String, String> =
                errors.into_iter().map(|error| (error.field, error.message)).collect();
            let first = fields.iter().next();
            let said = first.map(|(field, message)| format!("{field}: {message}"));
            let kind = object.kind();
            let message = format!("{kind} `{}`: {}", object.name(), said.unwrap_or_default());
            return Err(Problem::fields(message, fields));
        }
        let after = snapshot.with(wanted.change());
        let now = self.now();
        if after.admins(now).is_empty() && !snapshot.admins(now).is_empty() {
            let message = "after this change nobody would be admin of the hub";
            return Err(Problem::conflict(message)
                .next("grant the hub role `admin` to somebody else first"));
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
                    Kind::Group | Kind::Role | Kind::Grant | Kind::Lock => {}
                }
                Ok(gone)
            }
        }
    }

    /// Compiles the objects as they are stored now.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let (revision, objects) = self.store.read().await?.objects().load_all().await?;
        self.snapshot.store(Arc::new(Snapshot::compile(&objects, revision)));
        self.time_changed.notify_one();
        Ok(())
    }

    async fn follow_up(self: &Arc<Self>, wanted: &Wanted) {
        if let Wanted::Delete { kind, name, .. } = wanted {
            match kind {
                Kind::User => {
                    if let Ok(user) = name.as_str().parse::<UserName>() {
                        self.enrolments.forget(&user);
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
                Kind::Group | Kind::Role | Kind::Grant | Kind::Lock => {}
            }
        }
        let hub = Arc::clone(self);
        let settled = tokio::spawn(async move { hub.settle_sessions().await });
        if let Err(error) = settled.await {
            tracing::error!(%error, "could not settle sessions after a change");
        }
    }

    /// Refuses what must be recorded while nothing can be.
    pub(crate) fn audit_works(&self) -> Result<(), Problem> {
        if self.audit.check().is_ok() {
            return Ok(());
        }
        self.metrics.audit_refusal();
        let message = "the audit cannot be written, so nothing is changed";
        Err(Problem::unavailable(message, 10)
            .next("ask whoever runs the hub to look at its disk and log"))
    }
}

fn target_of(action: &HubAction<'_>) -> Option<String> {
    match (action.kind(), action.name()) {
        (Some(kind), Some(name)) => Some(format!("{kind}/{name}")),
        (Some(kind), None) => Some(kind.to_string()),
        (None, Some(name)) => match action {
            HubAction::IssueJoinToken { .. } => Some(format!("Cluster/{name}")),
            _ => Some(format!("User/{name}")),
        },
        (None, None) => None,
    }
}
