//! What `agent identity` does in the cluster: the Secret of its authority, objects as they change, questions whose a token is, the
//! ConfigMap from which nodes learn whom to believe, and how intentions stand.

mod authority;
mod follow;
mod intentions;
mod mesh;
mod review;
mod trust;

pub use authority::{Certified, IdentityGeneration, IdentityRecord, IdentityStore};
pub use follow::{Fleet, Follower, NamespaceNews, News, NodeNews, PodNews};
pub use intentions::{IntentionNews, IntentionStore};
pub use mesh::{PodParts, ServiceNews, ServicePortNews, SliceEndpoint, SliceNews, SlicePort};
pub use review::{Reviewed, Reviewer};
pub use trust::{TrustMap, TrustText};
