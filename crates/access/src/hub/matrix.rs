//! Which hub role allows which verb on which kind, before anybody looks at what the object says.

use nullius_model::{HubRole, Kind};

use super::HubVerb;

/// Hub roles from the least to the most.
const BY_WEIGHT: [HubRole; 4] =
    [HubRole::Auditor, HubRole::Approver, HubRole::Operator, HubRole::Admin];

/// Whether a hub role allows a verb, on objects of a kind where the verb acts on objects.
///
/// What an operator may write is bounded further by what they hold themselves.
pub fn matrix_allows(role: HubRole, verb: HubVerb, kind: Option<Kind>) -> bool {
    if verb.is_on_objects() != kind.is_some() {
        return false;
    }
    let is_lock = kind == Some(Kind::Lock);
    match (role, verb) {
        (HubRole::Admin, _) => true,

        (_, HubVerb::Get | HubVerb::List | HubVerb::ExplainAccess) => true,

        // It changes whom workloads believe.
        (HubRole::Operator, HubVerb::Create | HubVerb::Update | HubVerb::Delete)
            if kind == Some(Kind::Federation) =>
        {
            false
        }
        (HubRole::Operator, HubVerb::ReadAudit | HubVerb::ReadUsage) => false,
        (
            HubRole::Operator,
            HubVerb::Create
            | HubVerb::Update
            | HubVerb::Delete
            | HubVerb::ReadFindings
            | HubVerb::ReadMesh
            | HubVerb::ListSessions
            | HubVerb::EndSession
            | HubVerb::IssueJoinToken
            | HubVerb::RotateTrust
            | HubVerb::IssueEnrolment,
        ) => true,

        (HubRole::Approver, HubVerb::Create | HubVerb::Delete) => is_lock,
        (
            HubRole::Approver,
            HubVerb::Update
            | HubVerb::ReadAudit
            | HubVerb::ReadUsage
            | HubVerb::ReadFindings
            | HubVerb::ReadMesh
            | HubVerb::ListSessions
            | HubVerb::EndSession
            | HubVerb::IssueJoinToken
            | HubVerb::RotateTrust
            | HubVerb::IssueEnrolment,
        ) => false,

        (
            HubRole::Auditor,
            HubVerb::ReadAudit
            | HubVerb::ReadUsage
            | HubVerb::ReadFindings
            | HubVerb::ReadMesh
            | HubVerb::ListSessions,
        ) => true,
        (
            HubRole::Auditor,
            HubVerb::Create
            | HubVerb::Update
            | HubVerb::Delete
            | HubVerb::EndSession
            | HubVerb::IssueJoinToken
            | HubVerb::RotateTrust
            | HubVerb::IssueEnrolment,
        ) => false,
    }
}

/// The hub role with the fewest rights that allows a verb.
pub(super) fn least_role(verb: HubVerb, kind: Option<Kind>) -> Option<HubRole> {
    BY_WEIGHT.into_iter().find(|role| matrix_allows(*role, verb, kind))
}

/// The role as it stands in `hubRole:`.
pub(crate) fn role_word(role: HubRole) -> &'static str {
    match role {
        HubRole::Admin => "admin",
        HubRole::Operator => "operator",
        HubRole::Approver => "approver",
        HubRole::Auditor => "auditor",
    }
}
