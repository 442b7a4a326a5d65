//! Judges what somebody wants to do with the hub's own objects, audit and sessions.
//!
//! A hub role gives verbs on kinds (the table in `matrix`). On top of it two rules hold for everybody: nobody
//! grants to themselves, and nobody but an admin grants what they lack (`rights`). Changes ask for a fresh factor.

mod matrix;
mod rights;

use std::fmt;

use nullius_model::{
    AnyObject, ClusterName, Explanation, HubRole, Kind, ObjectName, PermissionId, Reason,
    Timestamp, Ttl, UserName,
};

use crate::{
    Caller, Judgement, Snapshot,
    kube::standing,
    nearest::whom_to_ask,
    snapshot::{Change, Person},
};

pub use matrix::matrix_allows;
pub(crate) use matrix::role_word;

/// How old the newest factor may be for a change.
pub(crate) const FRESH_FACTOR: Ttl = Ttl::from_secs(15 * 60);

/// What somebody wants to do at the hub.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HubAction<'a> {
    /// Read one object.
    Get { kind: Kind, name: &'a ObjectName },
    /// Read the objects of a kind; see [`ReadScope`] for those who may read only some.
    List { kind: Kind },
    /// Make an object.
    Create { object: &'a AnyObject },
    /// Change an object.
    Update { before: &'a AnyObject, after: &'a AnyObject },
    /// Delete an object.
    Delete { object: &'a AnyObject },
    /// Read the audit; see [`ReadScope`] for those who may read only what they did.
    ReadAudit,
    /// Read what permissions were used, likewise.
    ReadUsage,
    /// Read what is not as it should be in clusters; see [`ReadScope`] for those who may read only where they have grants.
    ReadFindings,
    /// Read who called whom in clusters; see [`ReadScope`] likewise.
    ReadMesh,
    /// See the live sessions.
    ListSessions { of: Whose<'a> },
    /// End a session of somebody.
    EndSession { of: &'a UserName },
    /// Ask what somebody may do, and why.
    ExplainAccess { of: &'a UserName },
    /// Make a join token for a cluster.
    IssueJoinToken { cluster: &'a ClusterName },
    /// Have the authority of a cluster's workloads replaced at once.
    RotateTrust { cluster: &'a ClusterName },
    /// Make a link by which somebody sets their password and factor anew.
    IssueEnrolment { user: &'a UserName },
}

/// Whose sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Everybody's.
    Everyone,
    /// One person's.
    Person(&'a UserName),
}

/// The verb of a [`HubAction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HubVerb {
    Get,
    List,
    Create,
    Update,
    Delete,
    ReadAudit,
    ReadUsage,
    ReadFindings,
    ReadMesh,
    ListSessions,
    EndSession,
    ExplainAccess,
    IssueJoinToken,
    RotateTrust,
    IssueEnrolment,
}

impl HubVerb {
    /// Every verb.
    pub const ALL: [Self; 15] = [
        Self::Get,
        Self::List,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::ReadAudit,
        Self::ReadUsage,
        Self::ReadFindings,
        Self::ReadMesh,
        Self::ListSessions,
        Self::EndSession,
        Self::ExplainAccess,
        Self::IssueJoinToken,
        Self::RotateTrust,
        Self::IssueEnrolment,
    ];

    /// The verb as the stable kebab-case word of audit and uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::ReadAudit => "read-audit",
            Self::ReadUsage => "read-usage",
            Self::ReadFindings => "read-findings",
            Self::ReadMesh => "read-mesh",
            Self::ListSessions => "list-sessions",
            Self::EndSession => "end-session",
            Self::ExplainAccess => "explain-access",
            Self::IssueJoinToken => "issue-join-token",
            Self::RotateTrust => "rotate-trust",
            Self::IssueEnrolment => "issue-enrolment",
        }
    }

    /// Whether it acts on objects of a kind.
    pub fn is_on_objects(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Create | Self::Update | Self::Delete => true,
            Self::ReadAudit
            | Self::ReadUsage
            | Self::ReadFindings
            | Self::ReadMesh
            | Self::ListSessions
            | Self::EndSession
            | Self::ExplainAccess
            | Self::IssueJoinToken
            | Self::RotateTrust
            | Self::IssueEnrolment => false,
        }
    }

    /// Whether it changes something and so asks for a fresh factor.
    pub fn is_change(self) -> bool {
        match self {
            Self::Create
            | Self::Update
            | Self::Delete
            | Self::EndSession
            | Self::IssueJoinToken
            | Self::RotateTrust
            | Self::IssueEnrolment => true,
            Self::Get
            | Self::List
            | Self::ReadAudit
            | Self::ReadUsage
            | Self::ReadFindings
            | Self::ReadMesh
            | Self::ListSessions
            | Self::ExplainAccess => false,
        }
    }
}

impl fmt::Display for HubVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which objects, events or uses a permitted read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadScope {
    /// All of the kind.
    All,
    /// Objects that a [`HubAction::Get`] of the same caller allows, to be asked one by one; of audit and usage what
    /// the caller did, of findings and calls between workloads what is where the caller has grants.
    Own,
}

impl<'a> HubAction<'a> {
    /// The verb.
    pub fn verb(&self) -> HubVerb {
        match self {
            Self::Get { .. } => HubVerb::Get,
            Self::List { .. } => HubVerb::List,
            Self::Create { .. } => HubVerb::Create,
            Self::Update { .. } => HubVerb::Update,
            Self::Delete { .. } => HubVerb::Delete,
            Self::ReadAudit => HubVerb::ReadAudit,
            Self::ReadUsage => HubVerb::ReadUsage,
            Self::ReadFindings => HubVerb::ReadFindings,
            Self::ReadMesh => HubVerb::ReadMesh,
            Self::ListSessions { .. } => HubVerb::ListSessions,
            Self::EndSession { .. } => HubVerb::EndSession,
            Self::ExplainAccess { .. } => HubVerb::ExplainAccess,
            Self::IssueJoinToken { .. } => HubVerb::IssueJoinToken,
            Self::RotateTrust { .. } => HubVerb::RotateTrust,
            Self::IssueEnrolment { .. } => HubVerb::IssueEnrolment,
        }
    }

    /// The kind, for verbs on objects.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Get { kind, .. } | Self::List { kind } => Some(*kind),
            Self::Create { object } | Self::Delete { object } => Some(object.kind()),
            Self::Update { after, .. } => Some(after.kind()),
            Self::ReadAudit
            | Self::ReadUsage
            | Self::ReadFindings
            | Self::ReadMesh
            | Self::ListSessions { .. }
            | Self::EndSession { .. }
            | Self::ExplainAccess { .. }
            | Self::IssueJoinToken { .. }
            | Self::RotateTrust { .. }
            | Self::IssueEnrolment { .. } => None,
        }
    }

    /// What it acts on by name: an object, a person or a cluster.
    pub fn name(&self) -> Option<&'a str> {
        match *self {
            Self::Get { name, .. } => Some(name.as_str()),
            Self::Create { object } | Self::Delete { object } => Some(object.name().as_str()),
            Self::Update { after, .. } => Some(after.name().as_str()),
            Self::ListSessions { of: Whose::Person(user) }
            | Self::EndSession { of: user }
            | Self::ExplainAccess { of: user }
            | Self::IssueEnrolment { user } => Some(user.as_str()),
            Self::IssueJoinToken { cluster } | Self::RotateTrust { cluster } => {
                Some(cluster.as_str())
            }
            Self::List { .. }
            | Self::ReadAudit
            | Self::ReadUsage
            | Self::ReadFindings
            | Self::ReadMesh
            | Self::ListSessions { of: Whose::Everyone } => None,
        }
    }

    /// Whether it concerns the caller alone: their object, access or sessions.
    fn is_about(&self, user: &UserName) -> bool {
        match *self {
            Self::Get { kind: Kind::User, name } => name.as_str() == user.as_str(),
            Self::ListSessions { of: Whose::Person(whose) }
            | Self::EndSession { of: whose }
            | Self::ExplainAccess { of: whose } => whose == user,
            _ => false,
        }
    }
}

impl fmt::Display for HubAction<'_> {
    /// Writes ``delete Grant `dev-shop` `` or `read-audit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb().as_str())?;
        if let Some(kind) = self.kind() {
            write!(f, " {kind}")?;
        }
        match self.name() {
            Some(name) => write!(f, " `{name}`"),
            None => Ok(()),
        }
    }
}

/// Judges an action on the hub's own objects; the second value says which objects a permitted read shows.
pub fn judge_hub(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    action: &HubAction<'_>,
    now: Timestamp,
) -> (Judgement, ReadScope) {
    let person = match standing(snapshot, caller, now) {
        Ok(person) => person,
        Err(refusal) => return (Judgement::deny(refusal), ReadScope::Own),
    };
    if let HubAction::Update { before, after } = action
        && (before.kind() != after.kind() || before.name() != after.name())
    {
        let sentence =
            "an update keeps kind and name; create the new object and delete the old one";
        let refusal = Explanation::new(Reason::StaleState, sentence);
        return (Judgement::deny(refusal), ReadScope::Own);
    }
    if let Some(role) = widest_role(snapshot, caller, person, action, now) {
        return (by_role(snapshot, caller, person, action, &role, now), ReadScope::All);
    }
    (for_oneself(snapshot, caller, person, action, now), ReadScope::Own)
}

/// A hub role that somebody has, and by which grant.
struct HeldRole {
    role: HubRole,
    grant: ObjectName,
    permission: PermissionId,
}

/// The caller's hub role that allows the action with the fewest conditions.
fn widest_role(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    action: &HubAction<'_>,
    now: Timestamp,
) -> Option<HeldRole> {
    let held = snapshot.grants_of(person).filter_map(|grant| {
        let (role, permission) = grant.hub()?;
        let live = grant.is_live(Some(caller.identity.signed_in_at), now);
        let allows = matrix_allows(role, action.verb(), action.kind());
        (live && allows).then(|| HeldRole { role, grant: grant.name.clone(), permission })
    });
    held.min_by_key(|held| held.role)
}

/// The judgement once a hub role covers verb and kind.
fn by_role(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    action: &HubAction<'_>,
    held: &HeldRole,
    now: Timestamp,
) -> Judgement {
    let rule = format!("Grant/{} → hub role {}", held.grant, role_word(held.role));
    let change = match *action {
        HubAction::Create { object } | HubAction::Update { after: object, .. } => {
            Some(Change::Put(object))
        }
        HubAction::Delete { object } => Some(Change::Remove(object.kind(), object.name())),
        _ => None,
    };
    let bounds = rights::Bounds { snapshot, caller, person, now };
    let crossed = change.and_then(|change| bounds.crossed(action, change, held.role)).or_else(
        || match *action {
            HubAction::IssueEnrolment { user } => bounds.beyond_as(user, held.role),
            _ => None,
        },
    );
    if let Some(refusal) = crossed {
        return Judgement::deny(refusal.with_rule(rule)).nearest(Some(held.permission.clone()));
    }
    if let Some(refusal) = stale_factor(caller, action, now) {
        let denial = Judgement::deny(refusal.with_rule(rule)).with_step_up();
        return denial.nearest(Some(held.permission.clone()));
    }
    let sentence =
        format!("`{}` has the hub role `{}`", caller.identity.user, role_word(held.role));
    let explanation = Explanation::new(Reason::HubRoleMatched, sentence).with_rule(rule);
    Judgement::allow(Some(held.permission.clone()), explanation)
}

/// What everyone who is signed in may do: read and end what is theirs, and see what gives them rights.
fn for_oneself(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    action: &HubAction<'_>,
    now: Timestamp,
) -> Judgement {
    let user = &caller.identity.user;
    let own = match *action {
        // Shown is what is their own: `ReadScope::Own`.
        HubAction::List { .. }
        | HubAction::ReadAudit
        | HubAction::ReadUsage
        | HubAction::ReadFindings
        | HubAction::ReadMesh => true,
        HubAction::Get { kind, name } => {
            action.is_about(user) || concerns(snapshot, user, person, kind, name)
        }
        _ => action.is_about(user),
    };
    if own {
        let sentence = format!("everyone may see and end what is their own, and so may `{user}`");
        return Judgement::allow(None, Explanation::new(Reason::SignedIn, sentence));
    }
    let sentence = format!("`{user}` may not {action}");
    let next = match matrix::least_role(action.verb(), action.kind()) {
        Some(role) => {
            let ask = whom_to_ask(snapshot, now);
            format!("{ask} for a grant of the hub role `{}`", role_word(role))
        }
        None => whom_to_ask(snapshot, now),
    };
    Judgement::deny(Explanation::new(Reason::NoHubRole, sentence).with_next(next))
}

/// Whether an object gives a person rights or stops them, so that they may read it.
fn concerns(
    snapshot: &Snapshot,
    user: &UserName,
    person: &Person,
    kind: Kind,
    name: &ObjectName,
) -> bool {
    let name = name.as_str();
    match kind {
        Kind::User => name == user.as_str(),
        Kind::Group => person.groups.iter().any(|group| group.as_str() == name),
        Kind::Grant => snapshot.grants_of(person).any(|grant| grant.name.as_str() == name),
        Kind::Role => snapshot
            .grants_of(person)
            .any(|grant| grant.kube().is_some_and(|rights| rights.role.name.as_str() == name)),
        Kind::Cluster => name.parse::<ClusterName>().is_ok_and(|cluster| {
            snapshot.cluster(&cluster).is_some_and(|index| {
                snapshot.grants_of(person).any(|grant| grant.kube_in(index).is_some())
            })
        }),
        Kind::Lock | Kind::Federation => false,
    }
}

/// Why a change has to wait for a fresh factor. One's own sessions can always be ended.
fn stale_factor(
    caller: &Caller<'_>,
    action: &HubAction<'_>,
    now: Timestamp,
) -> Option<Explanation> {
    let identity = caller.identity;
    if !action.verb().is_change() || action.is_about(&identity.user) {
        return None;
    }
    let proven = identity.proof.factor_at;
    if proven <= now && now < FRESH_FACTOR.after(proven) {
        return None;
    }
    let sentence = format!(
        "to {action} asks for a factor proven within {FRESH_FACTOR}; yours was proven at {proven}"
    );
    Some(
        Explanation::new(Reason::FactorTooOld, sentence)
            .with_next("run `nullius login --step-up` and try again"),
    )
}
