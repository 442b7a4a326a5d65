//! Reading the audit and the uses of permissions, for those who may: all of it, or what they did themselves. That
//! somebody reads the audit is written into it first.

use std::{sync::Arc, time::Duration};

use nullius_access::{Caller, HubAction, ReadScope};
use nullius_api::{AuditQuery, AuditRow, AuditVerdict, List, UsageQuery, UsageRow};
use nullius_audit::{Filter, SignedCheckpoint};
use nullius_model::{
    AuditKind, AuditOutcome, Explanation, Identity, Principal, Reason, SessionId, UserName,
};
use nullius_policy::decide_hub;
use nullius_store::{Position, StoreError, StoredEntry, Tail, UseFilter};

use crate::{
    Hub,
    decide::Refusal,
    proof::prove_audit,
    record::{Occasion, chain},
};

/// Rows of one answer at most, and without a limit.
const ROWS_MAX: u32 = 1_000;
const ROWS: u32 = 100;
/// Whoever follows the audit hears at least so often that somebody is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("it must be `next` of the answer before")]
    After,
}

impl From<StoreError> for ReadRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl Hub {
    /// Events of the audit, newest first.
    pub(crate) async fn list_audit(
        &self,
        identity: &Identity,
        query: &AuditQuery,
        occasion: &Occasion,
    ) -> Result<List<AuditRow>, ReadRefusal> {
        let before = position(query.after.as_deref())?;
        let scope = self.may_read_audit(identity, "list", occasion).await?;
        let user = shown(scope, identity, query.user.as_ref())?;
        let filter = filter(query, user.as_ref());
        let page = self.store.read().await?.audit().list(&filter, before).await?;
        let items = page.entries.iter().map(row).collect::<Result<_, _>>();
        let items = items.map_err(Refusal::fault)?;
        Ok(List { items, next: page.next.map(|next| next.to_string()) })
    }

    /// Events as they come.
    pub(crate) async fn follow_audit(
        self: &Arc<Self>,
        identity: &Identity,
        query: &AuditQuery,
        occasion: &Occasion,
    ) -> Result<Following, ReadRefusal> {
        let from = position(query.after.as_deref())?;
        let scope = self.may_read_audit(identity, "tail", occasion).await?;
        let user = shown(scope, identity, query.user.as_ref())?;
        Ok(Following {
            hub: Arc::clone(self),
            tail: self.store.tail_audit(from),
            filter: filter(query, user.as_ref()),
            session: identity.session.clone(),
            scope,
        })
    }

    /// Whether the whole trail is intact, also against checkpoints that were kept elsewhere.
    pub(crate) async fn verify_audit(
        &self,
        identity: &Identity,
        anchors: Option<&[SignedCheckpoint]>,
        occasion: &Occasion,
    ) -> Result<AuditVerdict, Refusal> {
        if self.may_read_audit(identity, "verify", occasion).await? == ReadScope::Own {
            return Err(only_own(identity));
        }
        let key = self.keys.audit().public();
        prove_audit(&self.store, key, anchors).await.map_err(Refusal::fault)
    }

    /// What permissions were used for.
    pub(crate) async fn list_usage(
        &self,
        identity: &Identity,
        query: UsageQuery,
        occasion: &Occasion,
    ) -> Result<List<UsageRow>, ReadRefusal> {
        let permit = self.allow(identity, &HubAction::ReadUsage, occasion).await?;
        let user = shown(permit.scope(), identity, query.user.as_ref())?;
        // What was counted since the last flush belongs to the answer.
        self.flush_uses().await;
        let skip: usize = match &query.after {
            None => 0,
            Some(after) => after.parse().map_err(|_| ReadRefusal::After)?,
        };
        let limit = query.limit.unwrap_or(ROWS).clamp(1, ROWS_MAX);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let through = skip.saturating_add(wanted).saturating_add(1);
        let filter = UseFilter {
            principal: user.map(|user| Principal::Person { user }.label()),
            cluster: query.cluster.map(String::from),
            since: query.since,
            limit: Some(u32::try_from(through).unwrap_or(u32::MAX)),
            ..UseFilter::default()
        };
        let uses = self.store.read().await?.usage().list(&filter).await?;
        let more = uses.len() > skip.saturating_add(wanted);
        let items = uses.into_iter().skip(skip).take(wanted).collect();
        let next = more.then(|| (skip + wanted).to_string());
        Ok(List { items, next })
    }

    /// Writes the uses that were counted; what cannot be written is kept for the next time.
    pub(crate) async fn flush_uses(&self) {
        let uses = self.usage.drain();
        if uses.is_empty() {
            return;
        }
        let written = async {
            let mut tx = self.store.begin().await?;
            tx.usage().merge(&uses).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            tracing::warn!(error = %chain(&error), uses = uses.len(), "could not write uses, try again later");
            self.usage.put_back(uses);
        }
    }

    /// Decides whether somebody may read the audit, and writes down that they do.
    async fn may_read_audit(
        &self,
        identity: &Identity,
        what: &str,
        occasion: &Occasion,
    ) -> Result<ReadScope, Refusal> {
        let permit = self.allow(identity, &HubAction::ReadAudit, occasion).await?;
        let (kind, done) = (AuditKind::Read, AuditOutcome::Done);
        let mut event = self.event_under(&permit, identity, occasion, kind, done);
        event.target = Some("Audit".to_owned());
        event.facts.insert("what".to_owned(), what.to_owned());
        self.record_read(&event, identity).await?;
        Ok(permit.scope())
    }
}

/// Somebody who follows the audit; ends when their session or right does.
pub(crate) struct Following {
    hub: Arc<Hub>,
    tail: Tail,
    filter: Filter,
    session: SessionId,
    /// How much they may see.
    scope: ReadScope,
}

impl Following {
    /// The next events. None of them says that there is nothing new, and `None` that it is over.
    pub(crate) async fn next(&mut self) -> Option<Vec<AuditRow>> {
        loop {
            let waited = tokio::time::timeout(HEARTBEAT, self.tail.next()).await;
            if !self.still_reads() || self.hub.is_draining() {
                return None;
            }
            let entries = match waited {
                Ok(Ok(entries)) if entries.is_empty() => return None,
                Ok(Ok(entries)) => entries,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "could not follow the audit");
                    return None;
                }
                Err(_) => return Some(Vec::new()),
            };
            let rows = entries.iter().filter_map(|entry| row(entry).ok());
            let rows: Vec<_> = rows.filter(|row| self.filter.matches(&row.event)).collect();
            if !rows.is_empty() {
                return Some(rows);
            }
        }
    }

    /// Whether the session lives and still has the right that it began with.
    fn still_reads(&self) -> bool {
        let now = self.hub.now();
        let live = self.hub.sessions.find(&self.session).filter(|session| session.is_live(now));
        let Some(session) = live else { return false };
        let snapshot = self.hub.snapshot();
        let identity = session.identity(&snapshot);
        let decision = decide_hub(&snapshot, &Caller::new(&identity), &HubAction::ReadAudit, now);
        decision.into_result().is_ok_and(|permit| permit.scope() == self.scope)
    }
}

/// The person whose events or uses are shown: with a right to their own alone it is nobody else.
fn shown(
    scope: ReadScope,
    identity: &Identity,
    asked: Option<&UserName>,
) -> Result<Option<UserName>, Refusal> {
    match (scope, asked) {
        (ReadScope::All, asked) => Ok(asked.cloned()),
        (ReadScope::Own, Some(other)) if *other != identity.user => Err(only_own(identity)),
        (ReadScope::Own, _) => Ok(Some(identity.user.clone())),
    }
}

fn only_own(identity: &Identity) -> Refusal {
    let sentence = format!("`{}` may read only what they did themselves", identity.user);
    let explanation = Explanation::new(Reason::NoHubRole, sentence);
    Refusal::Denied(explanation.with_next("ask an admin for a grant of the hub role `auditor`"))
}

fn filter(query: &AuditQuery, user: Option<&UserName>) -> Filter {
    Filter {
        user: user.map(ToString::to_string),
        kind: query.kind,
        outcome: query.outcome,
        cluster: query.cluster.as_ref().map(ToString::to_string),
        session: query.session.as_ref().map(ToString::to_string),
        namespace: query.namespace.clone(),
        resource: query.resource.clone(),
        verb: query.verb.clone(),
        since: query.since,
        until: query.until,
        audit_id: query.audit_id.clone(),
        limit: Some(query.limit.unwrap_or(ROWS).clamp(1, ROWS_MAX)),
        ..Filter::default()
    }
}

fn position(text: Option<&str>) -> Result<Option<Position>, ReadRefusal> {
    text.map(str::parse).transpose().map_err(|_| ReadRefusal::After)
}

fn row(entry: &StoredEntry) -> Result<AuditRow, serde_json::Error> {
    let event = entry.event()?;
    let record = &entry.record;
    Ok(AuditRow {
        position: entry.position.0,
        writer: record.chain.writer.to_string(),
        epoch: record.chain.epoch.to_string(),
        seq: i64::try_from(record.seq).unwrap_or(i64::MAX),
        hash: record.hash.to_string(),
        event,
    })
}
