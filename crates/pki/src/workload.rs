//! What workloads prove who they are with (SPIFFE): the workload root, the authority of each cluster under it, X.509- and JWT-SVIDs, and
//! the bundles by which others verify them.
//!
//! A cluster's authority has one key and two certificates. The workload root signs the one, with a critical name constraint to the
//! cluster's trust domain: a stolen cluster speaks for itself alone. Many verifiers refuse whatever chains through such a constraint, so
//! that bundles hold the other: the same name and key, signed by itself. It is admitted into a bundle only beside the first.

mod authority;
mod bundle;
mod jwt;
mod root;
mod x509;

pub use authority::{
    AuthorityFacts, ClusterAuthority, NotAdmitted, PreparedAuthority, SvidRequest, verify_authority,
};
pub use bundle::{BUNDLE_MAX, BundleError, TrustBundle};
pub use jwt::{JWT_SVID_MAX, JwtAuthority, JwtError, JwtSigner, JwtSvid, JwtVerifier};
pub(crate) use jwt::{missing, read_claims, second};
pub use root::WorkloadRoot;
pub(crate) use x509::is_valid_anchor;
pub use x509::{SvidError, X509Svid, read_x509_svid, split_certificates, verify_x509_svid};

#[cfg(test)]
mod tests;
