//! What `agent identity` does in the cluster: the Secret of its authority, pods, namespaces and nodes as they change, questions whose a
//! token is, and the ConfigMap from which nodes learn whom to believe.

mod authority;
mod follow;
mod review;
mod trust;

pub use authority::{Certified, IdentityGeneration, IdentityRecord, IdentityStore};
pub use follow::{Fleet, Follower, NamespaceNews, News, NodeNews, PodNews};
pub use review::{Reviewed, Reviewer};
pub use trust::{TrustMap, TrustText};
