//! What happens because time passes: sessions end, grants and locks run out, uses are written, certificates renewed.
//! One task sleeps until the next of these instants; whoever brings one forward wakes it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nullius_access::session::{Event, Phase, advance, ends_at};
use nullius_model::{AnyObject, Kind, Timestamp, Ttl};
use tokio_util::sync::CancellationToken;

use crate::{Hub, SessionEndCause, acts::logins::LOGIN_MEMORY, record::chain};

/// Uses are written this often.
const FLUSH_USES: Duration = Duration::from_secs(30);
/// The hub's certificate is renewed at half its life.
const RENEW_CERTIFICATE: Duration = Duration::from_secs(12 * 3600);
/// Old rows are removed this often.
const PRUNE: Duration = Duration::from_secs(6 * 3600);
/// The task looks again after so long at most: the clock of the machine may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// What could not be ended is tried again after so long.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);
/// Ended sessions are kept so long, to tell a used token from an unknown one.
const KEEP_ENDED: Ttl = Ttl::from_secs(30 * 86_400);

impl Hub {
    /// Ends what has run out, and makes live sessions be as grants and locks are at this instant.
    pub async fn act_on_time(self: &Arc<Self>) {
        let now = self.now();
        let mut ended = Vec::new();
        for session in self.sessions.all() {
            let settings = session.client().settings(&self.settings.lifetimes);
            if self.clusters.live_streams(session.id()) > 0 {
                // A stream that runs is use.
                session.touch(now);
            }
            let (after, _) = advance(session.state(), &Event::Tick, now, &settings);
            if let Phase::Ended { why, .. } = after.phase {
                ended.push((session.id().clone(), SessionEndCause::of(why)));
            }
        }
        self.end_all(ended).await;
        self.settle_sessions().await;
    }

    /// The next instant after `acted` at which something runs out.
    fn next_instant(&self, acted: Timestamp) -> Option<Timestamp> {
        let sessions = self.sessions.all().into_iter().filter_map(|session| {
            let settings = session.client().settings(&self.settings.lifetimes);
            ends_at(&session.state(), &settings)
        });
        let snapshot = self.snapshot();
        let grants: Vec<_> = snapshot
            .objects(Kind::Grant)
            .filter_map(|object| match object {
                AnyObject::Grant(grant) => Some(&grant.spec),
                _ => None,
            })
            .collect();
        let locks = snapshot.objects(Kind::Lock).filter_map(|object| match object {
            AnyObject::Lock(lock) => lock.spec.expires,
            _ => None,
        });
        let grant_ends = grants.iter().filter_map(|grant| grant.expires);
        let durations: BTreeSet<Ttl> = grants.iter().filter_map(|grant| grant.duration).collect();
        let by_duration = self.sessions.all().into_iter().flat_map(|session| {
            let signed_in_at = session.signed_in_at();
            durations.iter().map(|ttl| ttl.after(signed_in_at)).collect::<Vec<_>>()
        });
        sessions
            .chain(locks.filter(|end| *end > acted))
            .chain(grant_ends.filter(|end| *end > acted))
            .chain(by_duration.filter(|end| *end > acted))
            .chain(self.clusters.next_end())
            .min()
    }

    /// Acts whenever an instant comes, until told to stop.
    pub(crate) async fn follow_time(self: Arc<Self>, stop: CancellationToken) {
        // What ran out after this instant has not been acted on: not while acting, nor while being woken.
        let mut acted = self.now();
        loop {
            let next = self.next_instant(acted);
            let sleep = match next {
                Some(at) => {
                    let left = at.duration_since(self.now());
                    Duration::try_from(left).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
                }
                None => LONGEST_SLEEP,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.time_changed.notified() => {}
                () = tokio::time::sleep(sleep.max(SHORTEST_SLEEP)) => {}
            }
            let now = self.now();
            if next.is_some_and(|at| at <= now) {
                acted = now;
                self.act_on_time().await;
            }
            // The clock may have been set back.
            acted = acted.min(now);
        }
    }

    /// Writes uses, renews the certificate and removes old rows, each at its interval, until told to stop.
    pub(crate) async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        let mut uses = interval(FLUSH_USES);
        let mut certificate = interval(RENEW_CERTIFICATE);
        let mut prune = interval(PRUNE);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = uses.tick() => {
                    self.flush_uses().await;
                    self.retry_ends().await;
                    self.clusters.retry_flushes(&self).await;
                    self.settle_repairs().await;
                    self.tidy_first_link().await;
                }
                _ = certificate.tick() => {
                    if let Err(error) = self.renew_certificate() {
                        tracing::error!(error = %chain(&error), "could not renew the hub's certificate");
                    }
                }
                _ = prune.tick() => {
                    if let Err(error) = self.prune().await {
                        tracing::warn!(error = %chain(&error), "could not remove old rows");
                    }
                }
            }
        }
        self.flush_uses().await;
        self.retry_ends().await;
        self.settle_repairs().await;
    }

    async fn prune(&self) -> Result<(), nullius_store::StoreError> {
        let now = self.now();
        let keep_uses = Ttl::from_secs(nullius_store::Usage::RETENTION_DAYS * 86_400);
        let keep_resolved = Ttl::from_secs(nullius_store::Findings::RETENTION_DAYS * 86_400);
        let keep_agents = Ttl::from_secs(nullius_store::Reports::RETENTION_DAYS * 86_400);
        let mut tx = self.store.begin().await?;
        tx.sessions().end_expired(now).await?;
        tx.sessions().prune(KEEP_ENDED.before(now)).await?;
        tx.tokens().prune(KEEP_ENDED.before(now)).await?;
        tx.logins().prune(LOGIN_MEMORY.before(now)).await?;
        tx.attempts().prune(now).await?;
        tx.usage().prune(keep_uses.before(now)).await?;
        tx.findings().prune(keep_resolved.before(now)).await?;
        tx.reports().prune(keep_agents.before(now)).await?;
        tx.mesh().prune(now).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
