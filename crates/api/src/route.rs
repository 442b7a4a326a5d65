//! The routes, each named once; `{…}` is a path parameter.

/// What anybody may know about the hub.
pub const HUB: &str = "/v1/hub";
/// Sign-in from a terminal.
pub const SIGN_IN: &str = "/v1/sign-in";
/// Sign-in that a browser completes.
pub const BROWSER_LOGIN: &str = "/v1/browser-login";
/// Sign-in for a machine without a browser.
pub const DEVICE: &str = "/v1/device";
/// Codes and refresh tokens for tokens.
pub const TOKEN: &str = "/v1/token";
/// A bearer token for kubectl.
pub const KUBE_CREDENTIAL: &str = "/v1/kube-credential";
/// Proves the factor anew.
pub const STEP_UP: &str = "/v1/step-up";
/// Ends the session.
pub const LOGOUT: &str = "/v1/logout";
/// Who I am.
pub const WHOAMI: &str = "/v1/whoami";
/// What I may do where.
pub const ACCESS: &str = "/v1/access";
/// Why somebody may or may not.
pub const ACCESS_EXPLAIN: &str = "/v1/access/explain";
/// Sessions: one's own, or all for those who may.
pub const SESSIONS: &str = "/v1/sessions";
/// One session; `DELETE` ends it.
pub const SESSION: &str = "/v1/sessions/{session}";
/// Objects of a kind: `GET` list, `POST` create; `?dryRun=true`.
pub const OBJECTS: &str = "/v1/objects/{plural}";
/// One object: `GET`, `PUT` (checks `metadata.resourceVersion` when given), `DELETE`.
pub const OBJECT: &str = "/v1/objects/{plural}/{name}";
/// Changes of objects judged one after the other; nothing is changed.
pub const REHEARSAL: &str = "/v1/rehearsal";
/// A single-use join token.
pub const JOIN_TOKEN: &str = "/v1/clusters/{name}/join-token";
/// How the authorities of clusters' workloads stand.
pub const TRUST: &str = "/v1/trust";
/// Another authority at once.
pub const TRUST_ROTATION: &str = "/v1/clusters/{name}/rotation";
/// An older bundle of another trust domain may be taken.
pub const FEDERATION_ACCEPT_OLDER: &str = "/v1/federations/{name}/accept-older";
/// The SPIFFE bundle of a trust domain, for whoever wants to verify its workloads (profile `https_web`).
pub const TRUST_BUNDLE: &str = "/v1/trust/{domain}/bundle";
/// Where the keys of a trust domain's tokens are (OpenID Connect Discovery); what stands before `/.well-known` is the issuer.
pub const TRUST_DISCOVERY: &str = "/v1/trust/{domain}/.well-known/openid-configuration";
/// The keys of a trust domain's tokens.
pub const TRUST_JWKS: &str = "/v1/trust/{domain}/jwks";
/// A single-use enrolment link; also resets a person's factors.
pub const ENROLMENT: &str = "/v1/users/{name}/enrolment";
/// First step of enrolment.
pub const ENROL: &str = "/v1/enrol";
/// Second step of enrolment.
pub const ENROL_CONFIRM: &str = "/v1/enrol/confirm";
/// The audit, newest first; parameters as the flags of `nullius audit list`.
pub const AUDIT: &str = "/v1/audit";
/// Events as they come, JSON lines.
pub const AUDIT_TAIL: &str = "/v1/audit/tail";
/// Checks the chain.
pub const AUDIT_VERIFY: &str = "/v1/audit/verify";
/// Merged uses.
pub const USAGE: &str = "/v1/usage";
/// What is not as it should be in clusters.
pub const FINDINGS: &str = "/v1/findings";
/// One finding.
pub const FINDING: &str = "/v1/findings/{id}";
/// Who called whom in a cluster's mesh.
pub const MESH_GRAPH: &str = "/v1/clusters/{name}/mesh/graph";
/// Who has which workload identity in a cluster.
pub const IDENTITIES: &str = "/v1/clusters/{name}/identities";
/// Alive.
pub const HEALTHZ: &str = "/healthz";
/// Able to serve.
pub const READYZ: &str = "/readyz";
/// Prometheus metrics.
pub const METRICS: &str = "/metrics";
/// Kubernetes API of a cluster; everything behind it goes to the API server.
pub const KUBERNETES: &str = "/clusters/{cluster}/";
