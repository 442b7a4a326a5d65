//! Keys, certificates and tokens of our own parts.
//!
//! The infrastructure root and its certificates, authorities of single services, what workloads prove themselves with, the Ed25519 JWS that hub and agents exchange, access tokens of
//! people, tokens that machines sign themselves, the check of Kubernetes service account tokens and of those that others issue to callers, keys sealed at rest, and randomness. AWS-LC is the only
//! cryptographic provider. Nothing here reads a clock: each function that needs the time takes it.

mod access_token;
mod assertion;
mod certificate;
mod command;
mod detached;
mod issued;
mod jwk;
mod jws;
mod keyset;
mod machine;
mod offline;
mod random;
mod replay;
mod root;
mod seal;
mod service_account;
mod serving;
pub mod workload;

pub use access_token::{
    ACCESS_TOKEN_MAX, AccessClaims, AccessSigner, AccessTokenError, AccessVerifier, Audience,
};
pub use assertion::{
    ASSERTION_MAX, AssertionError, AssertionVerifier, RequestFacts, connection_id, path_hash,
};
pub use certificate::{
    CertificateError, CertificateIdentity, Csr, IssuedCertificate, PrivateKey, certificate_pem,
    check_root, identity_of, private_key_pem,
};
pub use command::{COMMAND_MAX, CommandError, CommandVerifier};
pub use detached::DetachedSigner;
pub use issued::{
    ISSUED_TOKEN_MAX, IssuedToken, IssuedTokenError, JWKS_MAX, TokenIssuer, TokenTimes,
};
pub use jws::{CLOCK_SKEW, KeyError, PublicKey, VerifyError};
pub use keyset::{Installed, KeySetError, KeySetSigner, Signer, Verifier};
pub use machine::{
    MACHINE_TOKEN_MAX, MachineAuthority, MachineKey, MachinePublicKey, MachineToken,
    MachineTokenError,
};
pub use offline::{OfflineKeyError, OfflineKeyFile};
pub use random::{constant_time_eq, random_bits, random_bytes, random_token, sha256, token_hash};
pub use root::{AGENT_CERTIFICATE_TTL, HUB_CERTIFICATE_TTL, InfraRoot, RootError};
pub use seal::{KeyOrigin, KeySource, SealError, Sealer};
pub use service_account::{
    IssuerKeys, JwksError, PodIdentity, ServiceAccountClaim, ServiceAccountIdentity,
    ServiceAccountTokenError,
};
pub use serving::{
    CallerCertificate, SERVING_AUTHORITY_TTL, SERVING_CERTIFICATE_TTL, ServingAuthority,
    ServingCertificate,
};
