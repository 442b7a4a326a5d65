//! Wire types of the hub's HTTP API, version 1: what CLI, pages and tests say to the hub and hear from it.
//!
//! JSON bodies, camelCase, unknown fields refused in requests and ignored in answers (answers only grow).
//! Every route is listed in [`route`]; errors are [`ApiError`] with the status code of HTTP.

mod identity;
mod mesh;
pub mod route;
mod trust;

use std::collections::BTreeMap;

use nullius_model::{
    AnyObject, AuditEvent, AuditId, AuditKind, AuditOutcome, ClusterName, Explanation, Factor,
    Finding, FindingSource, FindingState, GrantName, GroupName, Kind, Namespace, ObjectName,
    PolicyRule, RoleName, SessionId, Severity, Timestamp, Use, UserName,
};
use serde::{Deserialize, Serialize};

pub use identity::{IdentityList, IdentityQuery, IssuedIdentity};
pub use mesh::{MeshEdge, MeshGraph, MeshGraphQuery, MeshNode, MeshTelling};
pub use trust::{
    AcceptOlderRequest, ClusterTrust, FederatedTrust, RotateRequest, RotationInfo, TrustAuthority,
    TrustList, TrustQuery, TrustRoot,
};

/// What every failed call answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// Stable word: `denied`, `invalid`, `conflict`, `not-found`, `unauthenticated`, `step-up`, `wait`, `pending`,
    /// `unavailable`, `internal`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The fields that are wrong, `spec.rules[0].verbs` → what is wrong.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Why a decision denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// `POST /v1/sign-in`: from a terminal, with both factors.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignInRequest {
    pub user: String,
    pub password: String,
    pub code: String,
    /// BASE64URL(SHA256(secret)) of a secret that the client keeps, and proves at each refresh.
    pub client: String,
}

/// `POST /v1/browser-login`: the CLI begins a sign-in that a browser completes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrowserLoginRequest {
    /// BASE64URL(SHA256(verifier)) (RFC 7636, S256).
    pub challenge: String,
    /// `http://127.0.0.1:<port>/` or `http://[::1]:<port>/` (RFC 8252 section 7.3); nothing else is accepted.
    pub redirect_uri: String,
    /// Sent back with the code.
    pub state: String,
}

/// Where the browser goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrowserLogin {
    pub url: String,
    pub expires_in: u32,
}

/// `POST /v1/device`: a sign-in for a machine without a browser (RFC 8628).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceLogin {
    pub device_code: String,
    pub user_code: String,
    pub verification_uri: String,
    /// Seconds between polls.
    pub interval: u32,
    pub expires_in: u32,
}

/// `POST /v1/token`: a code, a device code or a refresh token for tokens. `client` is as in [`SignInRequest`]; a refresh
/// token is worth nothing without the secret behind it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "grantType", deny_unknown_fields)]
pub enum TokenRequest {
    AuthorizationCode { code: String, verifier: String, redirect_uri: String, client: String },
    DeviceCode { device_code: String, client: String },
    RefreshToken { refresh_token: String, client_secret: String },
}

/// Tokens of a session. The access token is for the hub's own API; it never opens a Kubernetes path.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    pub user: UserName,
    pub session: SessionId,
    pub access_token: String,
    pub access_expires_at: Timestamp,
    pub refresh_token: String,
    /// The session ends then whatever happens.
    pub session_expires_at: Timestamp,
}

/// `POST /v1/kube-credential`: a bearer token for kubectl, audience `kubernetes`, at most 10 minutes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeCredential {
    pub token: String,
    pub expires_at: Timestamp,
}

/// `POST /v1/step-up`: proves the factor anew.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepUpRequest {
    pub code: String,
}

/// `GET /v1/whoami`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    pub user: UserName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub groups: Vec<GroupName>,
    pub session: SessionId,
    pub signed_in_at: Timestamp,
    pub expires_at: Timestamp,
    pub factors: Vec<Factor>,
    pub factor_at: Timestamp,
    pub hub_roles: Vec<nullius_model::HubRole>,
}

/// A session as lists show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    pub session: SessionId,
    pub user: UserName,
    pub signed_in_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used: Timestamp,
    /// Live streams and requests.
    pub live: u32,
    /// Clusters in which credentials stand.
    pub clusters: Vec<ClusterName>,
    pub current: bool,
}

/// A list answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub items: Vec<T>,
    /// Pass as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Changes in one [`RehearsalRequest`] at most.
pub const MOST_REHEARSED: usize = 1_000;

/// `POST /v1/rehearsal`: each change is judged as if those before it had been made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RehearsalRequest {
    pub changes: Vec<ObjectChange>,
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum ObjectChange {
    /// The object is made.
    Create { object: AnyObject },
    /// The object is changed; `metadata.resourceVersion` must still hold when it is given.
    Update { object: AnyObject },
    /// The object goes.
    Delete { kind: Kind, name: ObjectName },
}

/// What would come of the changes, in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RehearsalAnswer {
    pub outcomes: Vec<Rehearsed>,
}

/// `DELETE` of an object: what went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedObject {
    /// The object as it was.
    pub object: AnyObject,
    /// What comes of it that nobody may have thought of, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What would come of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Rehearsed {
    /// The object as it would be, or as it was before it went.
    Done {
        object: AnyObject,
        /// What comes of it that nobody may have thought of, a sentence each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// It would be refused.
    Refused { error: ApiError },
}

/// One row of `nullius access list`: what somebody may do where, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRow {
    pub cluster: ClusterName,
    /// Absent means cluster-wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Namespace>>,
    pub role: RoleName,
    pub grant: GrantName,
    /// `you` or the group through which it is held.
    pub through: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub rules: Vec<PolicyRule>,
    /// Whether an agent of the cluster is connected.
    pub reachable: bool,
}

/// `POST /v1/access/explain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    pub user: UserName,
    pub cluster: ClusterName,
    pub verb: String,
    /// `pods`, `deployments.apps/scale`, or a path that begins with `/`.
    pub resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The decision as it would fall now, and every grant that was considered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainAnswer {
    pub allowed: bool,
    pub explanation: Explanation,
    pub considered: Vec<Considered>,
}

/// A grant that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    pub grant: GrantName,
    pub role: Option<RoleName>,
    pub matched: bool,
    /// Why it did or did not match, one sentence.
    pub why: String,
}

/// `POST /v1/clusters/{name}/join-token`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    pub cluster: ClusterName,
    pub token: String,
    pub expires_at: Timestamp,
    /// `host:port` that agents dial.
    pub hub_address: String,
    /// Infrastructure root in PEM, pinned by the agent.
    pub hub_ca: String,
    /// Public half of the offline key that signs key sets, base64url, pinned by the agent.
    pub offline_key: String,
    /// Identity of the hub fleet, pinned by the agent.
    pub hub_id: String,
    pub ceiling: String,
}

/// `POST /v1/users/{name}/enrolment`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolmentLink {
    pub url: String,
    pub token: String,
    pub expires_at: Timestamp,
}

/// `POST /v1/enrol`: first step; the answer is shown once.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolRequest {
    pub token: String,
    pub password: String,
}

/// The second factor to set up.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolAnswer {
    pub user: UserName,
    /// Base32, for authenticators without a camera.
    pub totp_secret: String,
    pub totp_uri: String,
}

/// `POST /v1/enrol/confirm`: second step; only now is the link used up.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolConfirm {
    pub token: String,
    pub code: String,
}

/// Query of `GET /v1/audit` and `GET /v1/audit/tail`: each parameter narrows; without any, everything, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditQuery {
    /// Events of this person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// Events of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Events of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Events of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuditKind>,
    /// Events that ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuditOutcome>,
    /// Everything about one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<AuditId>,
    /// Kubernetes requests with this verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// Kubernetes requests on this resource, `pods` or `pods/exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Kubernetes requests in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// At most so many rows in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// [`List::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Query of `GET /v1/usage`: each parameter narrows; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageQuery {
    /// Uses of this person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// Uses in this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Uses whose last time is not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// At most so many rows in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// [`List::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Query of `GET /v1/findings`: each parameter narrows; the worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FindingsQuery {
    /// In this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Of objects in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// At least so bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Of this policy, `PodSecurity/restricted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// That stand so; without it what is resolved is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<FindingState>,
    /// Of objects of this kind, `Deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Seen, or resolved, not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// At most so many in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// [`FindingList::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// `GET /v1/findings`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingList {
    pub items: Vec<Finding>,
    /// Pass as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How the scans stand of the clusters that were asked about and may be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scans: Vec<FindingScan>,
}

/// How the background scan of a cluster stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingScan {
    pub cluster: ClusterName,
    pub source: FindingSource,
    /// When the newest scan began.
    pub began_at: Timestamp,
    /// When the last one ended; none did where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Objects that it looked at.
    pub objects: u64,
    /// Policies that it asked.
    pub policies: u64,
    /// What could not be judged, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Findings that are not kept, since the cluster has too many.
    #[serde(default)]
    pub folded: u64,
}

/// Query of `GET /v1/access` and `GET /v1/sessions`: of whom, instead of the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhoseQuery {
    /// This person; absent means the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// Everybody, where the caller may; `user` is then absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// `GET /v1/audit`: one event with its place in the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// Position in the store; larger is later.
    pub position: i64,
    pub writer: String,
    pub epoch: String,
    pub seq: i64,
    pub hash: String,
    pub event: AuditEvent,
}

/// `GET /v1/audit/verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerdict {
    pub intact: bool,
    pub entries: u64,
    pub checkpoints: u64,
    /// How many checkpoints that were kept elsewhere are in it; absent where none were brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchored: Option<u64>,
    /// The first thing that is wrong, where, and what it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// `POST /v1/audit/verify`: checkpoints that were kept elsewhere, which the trail must meet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditAnchors {
    pub checkpoints: Vec<AnchoredCheckpoint>,
}

/// A checkpoint as it was signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnchoredCheckpoint {
    /// Its canonical JSON, byte for byte.
    pub body: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

/// `GET /v1/usage`: a merged use.
pub type UsageRow = Use;

/// `GET /v1/hub`: what anybody may know about the hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubInfo {
    pub version: String,
    pub hub_id: String,
    /// Infrastructure root in PEM; trust it only when its fingerprint came another way.
    pub ca: String,
    /// SHA-256 of the root's DER in hexadecimal.
    pub ca_fingerprint: String,
}

/// Audit-ID that the hub gave a call, in the `audit-id` header of its answer.
pub type CallId = AuditId;
