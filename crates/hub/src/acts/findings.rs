//! Reading findings, for those who may: all of them, or those where they have grants.

use nullius_access::{HubAction, ReadScope, access_list};
use nullius_api::{FindingList, FindingScan, FindingsQuery};
use nullius_model::{Finding, Identity};
use nullius_store::{FindingFilter, FindingPlace, ScanState};

use super::trail::ReadRefusal;
use crate::{Hub, decide::Refusal, record::Occasion};

/// Findings of one answer at most, and without a limit.
const ROWS_MAX: u32 = 1_000;
const ROWS: u32 = 100;
/// Places that are looked into for one person.
const PLACES: usize = 1_000;

impl Hub {
    /// Findings, the worst first, and how the scans stand that find them.
    pub(crate) async fn list_findings(
        &self,
        identity: &Identity,
        query: FindingsQuery,
        occasion: &Occasion,
    ) -> Result<FindingList, ReadRefusal> {
        let places = self.places_of(identity, &HubAction::ReadFindings, occasion).await?;
        let skip: u32 = match &query.after {
            None => 0,
            Some(after) => after.parse().map_err(|_| ReadRefusal::After)?,
        };
        let limit = query.limit.unwrap_or(ROWS).clamp(1, ROWS_MAX);
        let cluster = query.cluster.map(String::from);
        let filter = FindingFilter {
            cluster: cluster.clone(),
            namespace: query.namespace,
            severity: query.severity,
            policy: query.policy,
            state: query.state,
            kind: query.kind,
            since: query.since,
            places: places.clone(),
            skip,
            limit: Some(limit + 1),
        };
        let mut reader = self.store.read().await?;
        let mut items = reader.findings().list(&filter).await?;
        let scans = reader.findings().scans().await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = (items.len() > wanted).then(|| skip.saturating_add(limit).to_string());
        items.truncate(wanted);
        let seen = |scan: &ScanState| {
            let name = scan.cluster.as_str();
            cluster.as_deref().is_none_or(|asked| asked == name)
                && places
                    .as_ref()
                    .is_none_or(|places| places.iter().any(|place| place.cluster == name))
        };
        let scans = scans.into_iter().filter(seen).map(told).collect();
        Ok(FindingList { items, next, scans })
    }

    /// The findings whose ids begin so: two at most, which says that it is not enough.
    pub(crate) async fn find_findings(
        &self,
        identity: &Identity,
        beginning: &str,
        occasion: &Occasion,
    ) -> Result<Vec<Finding>, Refusal> {
        let places = self.places_of(identity, &HubAction::ReadFindings, occasion).await?;
        let mut reader = self.store.read().await?;
        let mut found = reader.findings().find(beginning).await?;
        found.retain(|finding| places.as_ref().is_none_or(|places| covers(places, finding)));
        Ok(found)
    }

    /// Where somebody may see what an action reads; everywhere when absent.
    pub(super) async fn places_of(
        &self,
        identity: &Identity,
        action: &HubAction<'_>,
        occasion: &Occasion,
    ) -> Result<Option<Vec<FindingPlace>>, Refusal> {
        let permit = self.allow(identity, action, occasion).await?;
        if permit.scope() == ReadScope::All {
            return Ok(None);
        }
        let rows = access_list(&self.snapshot(), identity, self.now()).into_iter();
        let rows = rows.filter(|row| row.inactive.is_none());
        let place = |row: nullius_access::AccessRow| FindingPlace {
            cluster: row.cluster.to_string(),
            namespaces: row
                .namespaces
                .map(|all| all.iter().take(PLACES).map(ToString::to_string).collect()),
        };
        Ok(Some(rows.map(place).take(PLACES).collect()))
    }
}

fn covers(places: &[FindingPlace], finding: &Finding) -> bool {
    let namespace = &finding.object.namespace;
    places.iter().any(|place| {
        let here = place.namespaces.as_ref();
        place.cluster == finding.cluster.as_str()
            && here.is_none_or(|all| !namespace.is_empty() && all.contains(namespace))
    })
}

fn told(scan: ScanState) -> FindingScan {
    FindingScan {
        cluster: scan.cluster,
        source: scan.source,
        began_at: scan.began_at,
        finished_at: scan.finished_at,
        objects: scan.end.objects,
        policies: scan.end.policies,
        faults: scan.end.faults,
        folded: scan.folded,
    }
}
