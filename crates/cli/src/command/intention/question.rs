//! A call between workloads, and what intentions say of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use nullius_intention::{
    Accept, Connection, Head, Held, Home, Protocol, Rule, Token, Version, Workload,
};
use nullius_model::{Explanation, Namespace, PermissionId, Reason, SpiffeId, Timestamp};
use nullius_policy::{
    Accepted, Decision, Obligation, RequestPermit, Shadow, Verdict, Watched, decide_body,
    decide_connection, decide_request, refuse_request,
};
use serde_json::{Map, Value as Json};

use super::intake::Gathered;

/// A call.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) source: Option<SpiffeId>,
    pub(super) address: IpAddr,
    pub(super) destination: Workload,
    pub(super) port: u16,
    pub(super) spoken: Spoken,
}

/// What is spoken at the port.
#[derive(Debug)]
pub(super) enum Spoken {
    /// Nothing that could be read.
    Tcp,
    /// HTTP, of which no request is known.
    Http,
    /// HTTP, and this request.
    Request(Asked),
}

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) token: Option<Token>,
    pub(super) body: Option<Vec<u8>>,
}

/// What comes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Allowed,
    Denied,
    /// Requests decide, and none is known.
    Requests,
}

impl Word {
    pub(super) const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Requests];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Requests => "requests",
        }
    }
}

/// What intentions say of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) word: Word,
    pub(super) explanation: Option<Explanation>,
    /// What decided, or was the nearest to.
    pub(super) permission: Option<PermissionId>,
    /// Whether the audit is told.
    pub(super) recorded: bool,
    pub(super) ends_at: Option<Timestamp>,
    pub(super) shadow: Option<Shadow>,
    /// The rules that requests are judged by.
    pub(super) left: Vec<Arc<Rule>>,
    /// The schemas that requests are judged by too.
    pub(super) schemas: Vec<String>,
}

impl Answer {
    /// The rule that decided; none where nothing did.
    pub(super) fn decided_by(&self) -> Option<&PermissionId> {
        let decides = |reason| {
            matches!(
                reason,
                Reason::IntentionMatched
                    | Reason::IntentionRefused
                    | Reason::UnknownReference
                    | Reason::ConditionFailed
            )
        };
        let explanation = self.explanation.as_ref()?;
        self.permission.as_ref().filter(|_| decides(explanation.reason))
    }
}

impl Question {
    /// Asks all intentions that are for the destination.
    pub(super) fn ask(&self, gathered: &Gathered, now: Timestamp) -> Answer {
        let rules = gathered.intentions.rules_for(self.destination.clone());
        let protocol = match self.spoken {
            Spoken::Tcp => Protocol::Tcp,
            Spoken::Http | Spoken::Request(_) => Protocol::Http,
        };
        let connection = Connection {
            source: self.source.as_ref(),
            address: self.address,
            port: self.port,
            protocol,
        };
        let accept = match decide_connection(Some(&rules), &connection, now) {
            Accepted::Decided(watched) => return answer(*watched),
            Accepted::Requests(accept) => accept,
        };
        match &self.spoken {
            Spoken::Request(asked) => Answer {
                left: left(&accept),
                schemas: accept.schemas(),
                ..answer(asked.on(&accept))
            },
            Spoken::Tcp | Spoken::Http => Answer {
                word: Word::Requests,
                explanation: None,
                permission: None,
                recorded: false,
                ends_at: None,
                shadow: None,
                left: left(&accept),
                schemas: accept.schemas(),
            },
        }
    }
}

impl Asked {
    fn on(&self, accept: &Accept) -> Watched<RequestPermit> {
        let mut headers: Vec<(&[u8], &[u8])> = vec![(b"host", self.host.as_bytes())];
        let says_kind = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
        if self.body.is_some() && !self.headers.iter().any(says_kind) {
            headers.push((b"content-type", b"application/json"));
        }
        let more = self.headers.iter();
        headers.extend(more.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let head = Head {
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            authority: None,
            headers: &headers,
            version: Version::Http1,
        };
        match head.read(accept.reads()) {
            Ok(request) => self.with_body(decide_request(accept, &request, self.token.as_slice())),
            Err(why) => refuse_request(why),
        }
    }

    /// What comes of it once schemas have seen the body; without one it has none.
    fn with_body(&self, watched: Watched<RequestPermit>) -> Watched<RequestPermit> {
        let Watched { decision, shadow } = watched;
        let Decision { verdict, permission, explanation, obligations } = decision;
        let permit = match verdict {
            Verdict::Allow(permit) => permit,
            verdict @ Verdict::Deny(_) => {
                let decision = Decision { verdict, permission, explanation, obligations };
                return Watched { decision, shadow };
            }
        };
        let bytes = self.body.as_deref().unwrap_or_default();
        let (outcome, shadow) = decide_body(permit, Held { bytes, is_whole: true }, shadow);
        let decision = match outcome {
            Ok(permit) => {
                Decision { verdict: Verdict::Allow(permit), permission, explanation, obligations }
            }
            Err(denial) => Decision {
                permission: denial.permission().cloned(),
                explanation: denial.explanation().clone(),
                verdict: Verdict::Deny(denial),
                obligations: vec![Obligation::Record],
            },
        };
        Watched { decision, shadow }
    }
}

fn left(accept: &Accept) -> Vec<Arc<Rule>> {
    accept.residual().into_iter().map(Arc::clone).collect()
}

fn answer<P>(watched: Watched<P>) -> Answer {
    let Watched { decision, shadow } = watched;
    let word = if decision.is_allowed() { Word::Allowed } else { Word::Denied };
    let Decision { permission, explanation, obligations, .. } = decision;
    let ends_at = obligations.iter().find_map(|obligation| match obligation {
        Obligation::Expire(end) => Some(*end),
        Obligation::Record | Obligation::StepUp => None,
    });
    Answer {
        word,
        explanation: Some(explanation),
        permission,
        recorded: obligations.contains(&Obligation::Record),
        ends_at,
        shadow,
        left: Vec::new(),
        schemas: Vec::new(),
    }
}

/// Who calls, as somebody writes it: an ID, an address, a service account with or without its namespace.
pub(super) fn caller(
    text: &str,
    address: Option<IpAddr>,
    namespace: &Namespace,
    home: &Home,
) -> Result<(Option<SpiffeId>, IpAddr), String> {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Ok(bare) = text.parse::<IpAddr>() {
        return match address.filter(|other| *other != bare) {
            Some(other) => Err(format!("the caller cannot be at `{bare}` and at `{other}`")),
            None => Ok((None, bare)),
        };
    }
    let id = match text.starts_with("spiffe://") {
        true => text.parse().map_err(|error: nullius_model::ParseSpiffeError| error.to_string())?,
        false => {
            let (namespace, account) = account(text, namespace)?;
            SpiffeId::of_service_account(&home.trust_domain, &namespace, &account)
                .to_string()
                .parse()
                .map_err(|error: nullius_model::ParseSpiffeError| error.to_string())?
        }
    };
    Ok((Some(id), address.unwrap_or(nowhere)))
}

/// Who is called: `shop/orders:8080`.
pub(super) fn called(
    text: &str,
    labels: &[(String, String)],
    namespace: &Namespace,
) -> Result<(Workload, u16), String> {
    let (who, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{}` has no port: write `ACCOUNT:PORT`", text.escape_debug()))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| format!("`{}` has no port from 1 to 65535", text.escape_debug()))?;
    let (namespace, service_account) = account(who, namespace)?;
    let labels: BTreeMap<String, String> = labels.iter().cloned().collect();
    Ok((Workload { namespace, service_account, labels: labels.into() }, port))
}

fn account(text: &str, namespace: &Namespace) -> Result<(Namespace, String), String> {
    let (namespace, account) = match text.split_once('/') {
        Some((namespace, account)) => {
            (namespace.parse::<Namespace>().map_err(|error| error.to_string())?, account)
        }
        None => (namespace.clone(), text),
    };
    if account.is_empty() || account.contains('/') {
        return Err(format!("`{}` is no `NAMESPACE/ACCOUNT`", text.escape_debug()));
    }
    Ok((namespace, account.to_owned()))
}

/// A token with these claims, as if somebody had verified it.
pub(super) fn token(claims: Map<String, Json>) -> Token {
    let issuer = claims.get("iss").and_then(Json::as_str).unwrap_or_default().to_owned();
    let audiences = match claims.get("aud") {
        Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        Some(Json::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    Token { issuer, audiences, claims }
}
