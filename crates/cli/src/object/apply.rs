//! `nullius apply`: each object is created or changed as a whole, and only when nobody else was faster.

use nullius_model::{AnyObject, Kind};

use super::{
    document::Document,
    remote::{self, Writing},
};
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

/// Creates or changes one object.
pub(crate) async fn apply(
    hub: &Hub,
    document: &Document,
    writing: Writing,
) -> Result<(AnyObject, Outcome), Failure> {
    let mut wanted = document.object.clone();
    let Some(live) = remote::find(hub, wanted.kind(), wanted.name()).await? else {
        forget_what_the_hub_sets(&mut wanted);
        return Ok((remote::create(hub, &wanted, writing).await?, Outcome::Created));
    };
    let version = wanted.metadata().resource_version.clone();
    if version.is_none() && remote::written_part(&live)? == remote::written_part(&wanted)? {
        return Ok((live, Outcome::Unchanged));
    }
    forget_what_the_hub_sets(&mut wanted);
    wanted.metadata_mut().resource_version =
        version.or_else(|| live.metadata().resource_version.clone());
    let changed = remote::update(hub, &wanted, writing).await?;
    let same = remote::written_part(&live)? == remote::written_part(&changed)?;
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
    }
}
