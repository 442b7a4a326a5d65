//! `nullius apply`: each object is created or changed as a whole, and only as it was read: when somebody was faster it
//! is read again.
//!
//! What has to be done with an object is planned from what the hub holds; then it is done, or rehearsed: a dry run is
//! judged by the hub as a whole, so that an object may name another of the same file.

use nullius_api::ObjectChange;
use nullius_model::{AnyObject, Kind};

use super::{document::Document, remote};
use crate::{client::Hub, failure::Failure};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An object as it is afterwards, and what became of it.
pub(crate) type Applied = Result<(AnyObject, Outcome), Failure>;

/// What has to be done with an object.
enum Plan {
    Create(AnyObject),
    Update { live: Box<AnyObject>, wanted: Box<AnyObject> },
    Nothing(AnyObject),
}

/// How often an object is tried before somebody who is always faster is told of.
const ATTEMPTS: u32 = 5;

/// Creates or changes one object.
///
/// A file says how the object shall be, whoever changed it before; one that names a `resourceVersion` says which change
/// it comes after, and is not tried again.
pub(crate) async fn apply(hub: &Hub, document: &Document) -> Applied {
    let insists = document.object.metadata().resource_version.is_some();
    for _ in 1..ATTEMPTS {
        match attempt(hub, document).await {
            Err(failure) if failure.is("conflict") && !insists => {}
            done => return done,
        }
    }
    attempt(hub, document).await
}

async fn attempt(hub: &Hub, document: &Document) -> Applied {
    match plan(hub, document).await? {
        Plan::Nothing(live) => Ok((live, Outcome::Unchanged)),
        Plan::Create(wanted) => Ok((remote::create(hub, &wanted).await?, Outcome::Created)),
        Plan::Update { live, wanted } => updated(&live, remote::update(hub, &wanted).await?),
    }
}

/// What would become of the objects if they were applied in this order.
pub(crate) async fn rehearse(hub: &Hub, documents: &[Document]) -> Result<Vec<Applied>, Failure> {
    let mut plans = Vec::with_capacity(documents.len());
    for document in documents {
        plans.push(plan(hub, document).await);
    }
    let changes = plans.iter().flatten().filter_map(|plan| match plan {
        Plan::Create(object) => Some(ObjectChange::Create { object: object.clone() }),
        Plan::Update { wanted, .. } => {
            Some(ObjectChange::Update { object: AnyObject::clone(wanted) })
        }
        Plan::Nothing(_) => None,
    });
    let mut outcomes = remote::rehearse(hub, changes.collect()).await?.into_iter();
    let mut next = || match outcomes.next() {
        Some(outcome) => outcome.map(|tried| tried.object),
        None => Err(remote::too_few_outcomes()),
    };
    let applied = plans.into_iter().map(|plan| match plan? {
        Plan::Nothing(live) => Ok((live, Outcome::Unchanged)),
        Plan::Create(_) => Ok((next()?, Outcome::Created)),
        Plan::Update { live, .. } => updated(&live, next()?),
    });
    Ok(applied.collect())
}

async fn plan(hub: &Hub, document: &Document) -> Result<Plan, Failure> {
    let mut wanted = document.object.clone();
    let live = match remote::find(hub, wanted.kind(), wanted.name()).await {
        Ok(live) => live,
        // Who may not even read it is told by the hub what they would need to write it.
        Err(failure) if failure.is("denied") => None,
        Err(failure) => return Err(failure),
    };
    let Some(live) = live else {
        forget_what_the_hub_sets(&mut wanted);
        return Ok(Plan::Create(wanted));
    };
    let version = wanted.metadata().resource_version.clone();
    if version.is_none() && remote::written_part(&live)? == remote::written_part(&wanted)? {
        return Ok(Plan::Nothing(live));
    }
    forget_what_the_hub_sets(&mut wanted);
    wanted.metadata_mut().resource_version =
        version.or_else(|| live.metadata().resource_version.clone());
    Ok(Plan::Update { live: Box::new(live), wanted: Box::new(wanted) })
}

fn updated(live: &AnyObject, changed: AnyObject) -> Applied {
    let same = remote::written_part(live)? == remote::written_part(&changed)?;
    Ok((changed, if same { Outcome::Unchanged } else { Outcome::Configured }))
}

/// A file may hold what `get -o yaml` printed.
pub(crate) fn forget_what_the_hub_sets(object: &mut AnyObject) {
    let metadata = object.metadata_mut();
    metadata.uid = None;
    metadata.generation = None;
    metadata.resource_version = None;
    metadata.creation_timestamp = None;
}

/// The order in which objects are created: what others name comes first.
pub(crate) fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Group => 0,
        Kind::User => 1,
        Kind::Cluster => 2,
        Kind::Role => 3,
        Kind::Grant => 4,
        Kind::Lock => 5,
        Kind::Federation => 6,
    }
}
