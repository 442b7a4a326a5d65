//! What `agent identity` does in the cluster: the Secret of its authority, objects as they change, questions whose a token is, the
//! ConfigMap from which nodes learn whom to believe, and how objects of our kinds stand.

mod authority;
mod declared;
mod follow;
mod machines;
mod mesh;
mod review;
mod trust;

pub use authority::{Certified, IdentityGeneration, IdentityRecord, IdentityStore};
pub use declared::{ObjectNews, StatusStore};
pub use follow::{Fleet, Follower, NamespaceNews, News, NodeNews, PodNews};
pub use machines::{Joined, MachineNow, MachineStore};
pub use mesh::{
    PodParts, RunningContainer, ServiceNews, ServicePortNews, SliceEndpoint, SliceNews, SlicePort,
};
pub use review::{Reviewed, Reviewer};
pub use trust::{TrustMap, TrustText};
