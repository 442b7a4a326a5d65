//! Why a decision fell as it did, in words that a person can act on; the same text in CLI, pages and audit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The named reason of a decision; stable, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A grant's role has a rule that covers the request.
    GrantMatched,
    /// A hub role covers the action on the hub object.
    HubRoleMatched,
    /// Everyone who is signed in may do this (discovery, reviews of oneself).
    SignedIn,
    /// No grant covers the request.
    NoGrant,
    /// No hub role of the caller covers the action.
    NoHubRole,
    /// A `Lock` covers the user, a group, the session or the cluster.
    Locked,
    /// The session has ended: logged out, revoked or expired.
    SessionEnded,
    /// The user is disabled or deleted.
    UserGone,
    /// The cluster is not known, or the caller has no grant that names it.
    UnknownCluster,
    /// The request names what only Nullius itself may touch (`nullius-sessions`).
    ProtectedNamespace,
    /// Path, query or headers cannot be read in exactly one way.
    Unreadable,
    /// A header claims another identity.
    ForgedIdentity,
    /// The action asks for a factor newer than the session's.
    FactorTooOld,
    /// Somebody tried to grant to themselves.
    SelfGrant,
    /// Somebody tried to grant what they lack.
    Escalation,
    /// What the decision needs is missing or stale, so it is denied.
    StaleState,
    /// The API server's own authorizers do not allow the request.
    ApiServerRefused,
    /// No admission policy refuses the request.
    PolicyPassed,
    /// An admission policy refuses the request.
    PolicyRefused,
    /// An intention allows the connection or request.
    IntentionMatched,
    /// An intention denies the connection or request.
    IntentionRefused,
    /// No intention is for this source.
    NoIntention,
    /// The intention for this source has permissions, and none is for the request.
    NoPermission,
    /// The intention for this source has permissions on requests, or the destination a schema for them, and the port speaks no HTTP.
    NotHttp,
    /// The schema of the destination's API has no such path.
    UndeclaredPath,
    /// The path has no such method there.
    UndeclaredMethod,
    /// A parameter of the request is not as the schema says.
    BadParameter,
    /// The body of the request is not as the schema says.
    BadBody,
    /// The body of the request is longer than what is looked into.
    BodyTooLarge,
    /// The caller has proven no identity, and no intention is for its address.
    Unauthenticated,
    /// No rule decides, and the destination still lets such calls pass.
    Permissive,
    /// A rule names something that is not known: a trust domain, an issuer.
    UnknownReference,
    /// The condition of a rule could not be evaluated.
    ConditionFailed,
    /// The mesh refuses the connection by itself, whatever intentions say.
    MeshRefused,
}

impl Reason {
    /// The reason as the stable kebab-case word of the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GrantMatched => "grant-matched",
            Self::HubRoleMatched => "hub-role-matched",
            Self::SignedIn => "signed-in",
            Self::NoGrant => "no-grant",
            Self::NoHubRole => "no-hub-role",
            Self::Locked => "locked",
            Self::SessionEnded => "session-ended",
            Self::UserGone => "user-gone",
            Self::UnknownCluster => "unknown-cluster",
            Self::ProtectedNamespace => "protected-namespace",
            Self::Unreadable => "unreadable",
            Self::ForgedIdentity => "forged-identity",
            Self::FactorTooOld => "factor-too-old",
            Self::SelfGrant => "self-grant",
            Self::Escalation => "escalation",
            Self::StaleState => "stale-state",
            Self::ApiServerRefused => "api-server-refused",
            Self::PolicyPassed => "policy-passed",
            Self::PolicyRefused => "policy-refused",
            Self::IntentionMatched => "intention-matched",
            Self::IntentionRefused => "intention-refused",
            Self::NoIntention => "no-intention",
            Self::NoPermission => "no-permission",
            Self::NotHttp => "not-http",
            Self::UndeclaredPath => "undeclared-path",
            Self::UndeclaredMethod => "undeclared-method",
            Self::BadParameter => "bad-parameter",
            Self::BadBody => "bad-body",
            Self::BodyTooLarge => "body-too-large",
            Self::Unauthenticated => "unauthenticated",
            Self::Permissive => "permissive",
            Self::UnknownReference => "unknown-reference",
            Self::ConditionFailed => "condition-failed",
            Self::MeshRefused => "mesh-refused",
        }
    }
}

/// A decision told to a person: the reason, the rule that decided, one sentence, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The named reason.
    pub reason: Reason,
    /// The object and rule that decided, for example `Grant/dev-shop → Role/developer rule 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// One sentence, lower case, no final stop.
    pub sentence: String,
    /// What the reader can do next, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Explanation {
    /// An explanation with a reason and a sentence.
    pub fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        Self { reason, rule: None, sentence: sentence.into(), next: None }
    }

    /// The same, naming the rule that decided.
    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The same, saying what to do next.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        if let Some(rule) = &self.rule {
            write!(f, " (by {rule})")?;
        }
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}
